"""Gate 5: what a comparison of two arms has to say."""

from collections.abc import Iterator, Mapping
from math import inf, isnan

from ptmetrics.verdict.arms import NEWCOMBE
from ptmetrics.verdict.finding import Bound, Criterion, Estimate, Finding, decide
from ptmetrics.verdict.paired import Difference
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.ratio import Ratio
from ptmetrics.verdict.rule import facts

NOT_COUNTED = "The time of pre-training itself is not counted: the first arm was given its result."


def not_worse(final: Estimate, limits: Thresholds, *, higher_is_better: bool) -> Criterion:
    """Is the first arm's final score no worse than the second's, up to a margin?"""
    threshold = -limits.margin if higher_is_better else limits.margin
    rule: Bound = ">=" if higher_is_better else "<="
    return decide("final difference", final, threshold, rule=rule, code="scratch-is-better")


def compare_findings(
    ratio: Ratio,
    ratios: Mapping[str, Ratio],
    quality: Criterion,
    same: bool | None,
    limits: Thresholds,
) -> Iterator[Finding]:
    """Every finding of a comparison, validity first."""
    if same is False:
        yield Finding(
            "different-validation",
            "invalid",
            "The runs were validated on different data.",
            {"same_validation": False},
            "Validate both arms on the same data set; nothing here can be compared.",
        )
    if ratio.low > limits.speedup_none:
        yield _no_speedup(ratio, limits)
    if quality.state == "failed":
        yield Finding(
            "scratch-is-better",
            "fail",
            f"The first arm ends worse than the second: {quality.value:+.4f} "
            f"[{quality.low:+.4f}, {quality.high:+.4f}] (n={quality.n}), tolerated is {quality.threshold:+.4f}.",
            facts(quality),
            "Tune the learning rate of the fine-tune, unfreeze more layers, or take a closer source task.",
        )
    samples = ratios.get("samples")
    if samples is not None and abs(_over(ratio.value, samples.value) - 1.0) > limits.ratio_gap:
        yield Finding(
            "time-samples-disagree",
            "warning",
            f"The ratio is {ratio.value:.3g} in time but {samples.value:.3g} in samples.",
            {"time": ratio.value, "samples": samples.value, "threshold": limits.ratio_gap},
            "One arm's steps are slower: frozen layers, data loading, or another job on the machine.",
        )


def _no_speedup(ratio: Ratio, limits: Thresholds) -> Finding:
    numbers = {
        "value": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "threshold": limits.speedup_none,
    }
    return Finding(
        "no-speedup",
        "fail",
        f"Training takes about as long as from scratch: the time ratio is {ratio}, {ratio.method}.",
        numbers,
        "Check that the pre-trained weights were loaded, and lower the learning rate of the fine-tune.",
    )


def _over(a: float, b: float) -> float:
    """The quotient; 1.0, which flags nothing, where it is not defined."""
    return 1.0 if isnan(a) or isnan(b) or b == 0.0 else a / b


def compare_notes(ratio: Ratio, final: Difference, same: bool | None) -> Iterator[str]:
    """What limits a comparison, in words."""
    if ratio.censored == "second" and 0 < ratio.high < inf:
        bound = (
            f"at least {100 * (1 - ratio.high):.0f} % less"
            if ratio.high < 1
            else "not shown to be less"
        )
        yield f"The first arm's training time is {bound}: {ratio.reason}."
    elif ratio.reason:
        yield f"Time ratio: {ratio.reason}."
    if same is None:
        yield "Whether both arms saw the same validation data is not recorded."
    if final.paired:
        yield "The final difference is that of the same samples, one by one; it does not cover other training seeds."
    elif final.method == NEWCOMBE and same is False:
        yield "The final difference is one of different data as well as of different models."
    elif final.method == NEWCOMBE:
        yield f"The final difference takes the arms as independent, which is too wide: {final.unpaired}."
    else:
        yield "The final difference covers the spread of seeds, not the sampling of the validation data."
    yield NOT_COUNTED
