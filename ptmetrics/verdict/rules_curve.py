"""Gate 4: what the learning curves say: overfitting, over-confidence, underfitting, divergence."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from ptmetrics.verdict.evidence import NOT_KNOWN, Evidence, LearningCurves
from ptmetrics.verdict.finding import Estimate, Finding, Severity, Skipped, percent
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule
from ptmetrics.verdict.samples import Floats
from ptmetrics.verdict.stats import (
    hybrid_difference,
    jitter,
    rising_p,
    running_median,
    smoothed,
    theil_sen,
)

NO_CURVES = "a lone evaluation has no learning curves"
NO_GAP = "training and validation {} with their intervals are needed"
NO_TREND = "the training loss of 2 epochs is needed"
LONG, VERY_LONG = 10, 30  # epochs
FEW_NOISE = 3.0  # times the jitter, which so few epochs tell badly


# The validation loss rises.


@dataclass(frozen=True)
class Rise:
    """A rise of the validation loss after its minimum.

    Args:
        best: Row of the minimum.
        size: Rise over the minimum, relative to it.
        p: Mann–Kendall p-value of the rise since the minimum.
        noise: Jitter from epoch to epoch, relative to the minimum.
        tested: False where the run is too short for a trend test and the size alone speaks.
    """

    best: int
    size: float
    p: float
    noise: float
    tested: bool = True


def loss_rise(
    val: Floats, train: Floats, limits: Thresholds, change: Estimate = NOT_KNOWN
) -> Rise | None:
    """Find a rise of the validation loss while the training loss falls; None when there is none.

    From 10 epochs on: at least 3 epochs after the smoothed minimum, a rise above 2 % and above
    twice the jitter, a Mann–Kendall trend since the minimum, and a training loss lower than then.
    From 30 epochs on the second half must rise too: it is fixed beforehand, whereas the minimum is
    chosen by looking, and correlated noise around a minimum looks like a trend.
    Below 10 epochs: four epochs after the minimum with an exact trend, or twice a severe rise at
    the end.

    Where the losses of the samples were kept, the rise must be one of the samples at large as well,
    and not of a few by chance. Below 10 epochs, too few for a trend, that decides: with it, twice a
    rise of half `rise_moderate` and of three times the jitter is enough.

    Args:
        val: Validation loss, one value per epoch, finite.
        train: Training loss at the same epochs.
        limits: Named thresholds.
        change: What the mean loss grew by from its minimum to the end, sample by sample, with a
            one-sided 95 % bound as `low`; without bounds where the samples were not kept.

    Source: Prechelt 1998 for the generalisation loss; the combination is this project's, its false
        alarms and power are measured by `make bench-rules`.
    """
    if val.size < 3 or not val.min() > 0:
        return None  # a relative rise over zero or less has no meaning
    if change.bounded and not change.low > 0:
        return None
    if val.size >= LONG:
        return _long_rise(val, train, limits)
    return _short_rise(val, train, limits, shown=change.bounded)


def _long_rise(val: Floats, train: Floats, limits: Thresholds) -> Rise | None:
    smooth = running_median(val)
    best = int(np.argmin(smooth))
    after = val.size - 1 - best
    if after < 3:
        return None
    window = min(max(after // 2 + 1, 2), 5)
    size = float(np.median(val[-window:])) / smooth[best] - 1.0
    noise = jitter(val) / smooth[best]
    p = rising_p(val[best:])
    if size <= max(limits.rise, limits.rise_noise * noise) or p >= limits.trend_p:
        return None
    if val.size >= VERY_LONG and rising_p(val[val.size // 2 :]) >= limits.trend_p:
        return None
    if not np.median(train[-window:]) < running_median(train)[best]:
        return None
    return Rise(best, float(size), p, noise)


def _short_rise(val: Floats, train: Floats, limits: Thresholds, *, shown: bool) -> Rise | None:
    best = int(np.argmin(val))
    rises = val[best + 1 :] / val[best] - 1.0
    if rises.size < 2 or not train[-1] < train[best]:
        return None
    # The minimum was chosen by looking, so the trend is tested on what came after it.
    p = rising_p(val[best + 1 :])
    half = limits.rise_moderate / 2
    tested = bool(rises.size >= 4 and p < limits.trend_p and rises[-1] > half)
    severe = rises[-1] >= limits.rise_severe and rises[-2] >= limits.rise_moderate
    noise = jitter(val) / float(val[best])
    clear = shown and rises[-2:].min() > max(half, FEW_NOISE * noise)
    if not (tested or severe or clear):
        return None
    return Rise(best, float(rises[-1]), p, noise, tested)


@rule(codes=("overfitting", "val-loss-rising", "over-confident"))
def loss_overfits(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The validation loss rises while the training loss falls."""
    limits = evidence.thresholds
    curves = evidence.curves
    if not curves:
        yield Skipped(NO_CURVES)
        return
    rows = curves.rows("train/loss", "val/loss")
    if len(rows) < 3:
        yield Skipped("training and validation loss of 3 epochs are needed")
        return
    val = curves.values("val/loss", rows)
    if val.min() <= 0:
        yield Skipped(
            "the validation loss is not above 0 throughout, so a relative rise has no meaning"
        )
        return
    rise = loss_rise(val, curves.values("train/loss", rows), limits, evidence.loss_change)
    if rise is None:
        return
    best = rows[rise.best]
    held = accuracy_held(curves, best, limits)
    numbers: dict[str, Any] = {
        "sign": "loss",
        "rise": rise.size,
        "threshold": limits.rise_moderate,
        "p": rise.p,
        "jitter": rise.noise,
        "best_epoch": curves.numbers[best],
        "epochs": len(curves.epochs),
    }
    change = evidence.loss_change
    if change.bounded:
        numbers["paired"] = {"value": change.value, "low": change.low, "n": change.n}
    yield _rise_finding(curves, rise, best, held, numbers)
    if held and rise.size >= limits.rise_moderate:
        message = (
            "The loss rises but the accuracy does not fall: the model gets too sure of itself, "
            "not worse."
        )
        yield make_finding("over-confident", "warning", message, numbers)


def _rise_finding(
    curves: LearningCurves, rise: Rise, best: int, held: bool | None, numbers: dict[str, Any]
) -> Finding:
    """A small rise is named for what it is; a checkpoint from before the rise is not touched."""
    epoch = curves.numbers[best] + 1
    test = "too few epochs for a trend test"
    if rise.tested:
        test = f"trend p {rise.p:.2g}"
    if "paired" in numbers:
        words = "; on the same {n} samples it grew by {value:.3g}, at least {low:.3g}"
        test += words.format(**numbers["paired"])
    message = (
        f"Validation loss is {percent(rise.size)} above its minimum at epoch {epoch} "
        f"while training loss falls ({test})."
    )
    code = "overfitting"
    severity: Severity = "fail"
    advice = f"Restore the checkpoint of epoch {epoch}, and stop early next time."
    if held:
        severity = "warning"
    if rise.size < numbers["threshold"]:
        code = "val-loss-rising"
        severity = "warning"
    if curves.judged <= best + 1:
        severity = "info"
        advice = "The judged epoch is from before the rise; stopping there was right."
    return make_finding(code, severity, message, numbers, advice)


def accuracy_held(curves: LearningCurves, best: int, limits: Thresholds) -> bool | None:
    """Whether validation accuracy is still what it was at the row `best`; None if not recorded.

    It fell when the difference is shown by its interval, or by a falling trend since then. The
    interval takes the two epochs as independent, though they saw the same samples, so it errs
    towards "held".
    """
    rows = [row for row in curves.rows("val/accuracy") if row >= best]
    if not rows or rows[0] != best:
        return None
    before = curves.at("val/accuracy", best)
    now = curves.at("val/accuracy", rows[-1])
    fell_by, _ = hybrid_difference(before.triple, now.triple)
    if fell_by > 0:  # False where an interval is missing
        return False
    trend = rising_p(-curves.values("val/accuracy", rows))
    return not (now.value < before.value and trend < limits.trend_p)


# Training against validation.


@rule(codes="overfitting")
def gap_overfits(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Validation accuracy, or R² where numbers are predicted, lies far below that of training."""
    limits = evidence.thresholds
    name = evidence.fitted
    gap = score_gap(evidence)
    if not gap.bounded:
        yield _no_gap(evidence)
        return
    if gap.low <= limits.train_gap:
        return
    severity: Severity = "warning"
    threshold = limits.train_gap
    if gap.low > limits.train_gap_fail:
        severity = "fail"
        threshold = limits.train_gap_fail
    message = (
        f"Validation {name} is {gap.in_points()} below training {name} (n={gap.n}), "
        f"tolerated are {100 * threshold:.1f}. "
        f"A training {name} taken during the epoch lags, so the true gap is rather larger."
    )
    numbers = gap.facts(threshold=threshold, sign="gap")
    advice = "Augment, regularise, freeze more layers, or get more training data."
    yield make_finding("overfitting", severity, message, numbers, advice)


def _no_gap(evidence: Evidence) -> Skipped:
    if not evidence.curves:
        return Skipped(NO_CURVES)
    return Skipped(NO_GAP.format(evidence.fitted))


def score_gap(evidence: Evidence) -> Estimate:
    """Training minus validation accuracy, or R², of the judged epoch, by Newcombe's interval.

    Its n is that of validation.
    """
    train = evidence.train.get(evidence.fitted, Estimate())
    val = evidence.score(evidence.fitted)
    low, high = hybrid_difference(train.triple, val.triple)
    return Estimate(train.value - val.value, low, high, val.n, "newcombe")


@rule(codes=("underfitting", "undertrained"))
def underfits(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Training accuracy, or R², stays below the target: too little training, or no ability.

    Where validation is shown to meet the target, training may stay below it, as with augmentation.
    """
    limits = evidence.thresholds
    name = evidence.fitted
    wanted = limits.accuracy
    if evidence.regression:
        wanted = limits.r2
    if wanted is None:
        return
    train = evidence.train.get(name, Estimate())
    gap = score_gap(evidence)
    if not evidence.curves or not gap.bounded:
        yield _no_gap(evidence)
        return
    met = evidence.score(name).low >= wanted
    if met or train.high >= wanted or gap.high >= limits.train_gap:
        return
    loss = evidence.curves.values("train/loss", evidence.curves.rows("train/loss"))
    if loss.size < 2:
        yield Skipped(NO_TREND)
        return
    slope = relative_slope(loss)
    head = f"Training {name} is only {percent(train.value)} (n={train.n}), wanted {percent(wanted)}"
    numbers = train.facts(threshold=wanted, slope=slope, slope_threshold=-limits.slope)
    # Three epochs cannot show a trend, so there a falling loss is taken at its word.
    if slope < -limits.slope and (loss.size < 4 or rising_p(-loss) < limits.trend_p):
        message = f"{head}, and the training loss still falls by {percent(-slope)} per epoch."
        yield make_finding("undertrained", "warning", message, numbers)
    else:
        message = f"{head}, and it no longer improves."
        yield make_finding("underfitting", "warning", message, numbers)


def relative_slope(loss: Floats) -> float:
    """Change of the loss per epoch over its last third (at least 3 epochs), relative to its level.

    NaN for fewer than two epochs.
    """
    tail = loss[-max(3, loss.size // 3) :]
    if tail.size < 2 or not np.median(tail):
        return nan
    return theil_sen(tail) / abs(float(np.median(tail)))


@rule(codes="diverged")
def diverged(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The smoothed training loss stood above twice its minimum and its start, three times."""
    curves = evidence.curves
    if not curves:
        yield Skipped(NO_CURVES)
        return
    rows = curves.rows("train/loss")
    if len(rows) < 4:
        yield Skipped("the training loss of 4 epochs is needed")
        return
    loss = curves.values("train/loss", rows)
    if loss.min() < 0:
        yield Skipped("the training loss is below 0 somewhere, so a multiple of it has no meaning")
        return
    limit = evidence.thresholds.diverged
    smooth = smoothed(loss)
    lost = (smooth > limit * np.minimum.accumulate(smooth)) & (smooth > smooth[0])
    thrice = lost[2:] & lost[1:-1] & lost[:-2]
    if not thrice.any():
        return
    first = rows[int(np.argmax(thrice))]
    epoch = curves.numbers[first]
    message = (
        f"Training loss diverged from epoch {epoch + 1} on, after a minimum of "
        f"{smooth.min():.4g} and a start of {smooth[0]:.4g}."
    )
    numbers = {
        "epoch": epoch,
        "start": smooth[0],
        "minimum": smooth.min(),
        "threshold": limit,
    }
    severity: Severity = "warning"
    if curves.judged >= first:
        severity = "fail"
    yield make_finding("diverged", severity, message, numbers)


CURVE_RULES: tuple[Rule, ...] = (diverged, loss_overfits, gap_overfits, underfits)
