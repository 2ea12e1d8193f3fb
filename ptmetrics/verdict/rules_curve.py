"""Gate 4: what the learning curves say: overfitting, over-confidence, underfitting, divergence."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ptmetrics.verdict.evidence import Curves, Evidence
from ptmetrics.verdict.finding import Estimate, Finding, Severity
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rising_loss import Rise, rising_loss
from ptmetrics.verdict.rule import Outcome, Rule, Skipped, facts, percent, points
from ptmetrics.verdict.trends import Curve, rising_p, smoothed, theil_sen
from ptmetrics.verdict.two_samples import hybrid_difference

NO_CURVES = "a lone evaluation has no learning curves"
NO_GAP = "training and validation {} with their intervals are needed"


def loss_overfits(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """The validation loss rises while the training loss falls."""
    curves = evidence.curves
    rows = curves.rows("train/loss", "val/loss") if curves else []
    if curves is None or len(rows) < 3:
        yield Skipped(
            "training and validation loss of 3 epochs are needed" if curves else NO_CURVES
        )
        return
    val, train = (curves.values(name, rows) for name in ("val/loss", "train/loss"))
    if val.min() <= 0:
        yield Skipped(
            "the validation loss is not above 0 throughout, so a relative rise has no meaning"
        )
        return
    rise = rising_loss(val, train, limits, change := evidence.loss_change)
    if rise is None:
        return
    best = rows[rise.best]
    held = metric_held(curves, best, limits)
    numbers = _rise_facts(curves, rise, best, limits)
    if change.bounded:
        numbers |= {"paired": {"value": change.value, "low": change.low, "n": change.n}}
    yield _rise_finding(curves, rise, best, held, numbers)
    if held and rise.size >= limits.rise_moderate:
        yield Finding(
            "over-confident",
            "warning",
            "The loss rises but the accuracy does not fall: the model gets too sure of itself, not worse.",
            numbers,
            "Scale the logits by a temperature fitted on validation data, or smooth the labels.",
        )


def _rise_finding(
    curves: Curves, rise: Rise, best: int, held: bool | None, numbers: dict[str, Any]
) -> Finding:
    """Small rises are named for what they are; a checkpoint from before the rise is not touched by it."""
    small = rise.size < numbers["threshold"]
    severity: Severity = "warning" if small or held else "fail"
    advice = (
        f"Restore the checkpoint of epoch {curves.numbers[best] + 1}, and stop early next time."
    )
    if curves.judged <= best + 1:
        severity, advice = (
            "info",
            "The judged epoch is from before the rise; stopping there was right.",
        )
    test = f"trend p {rise.p:.2g}" if rise.tested else "too few epochs for a trend test"
    if "paired" in numbers:
        test += "; on the same {n} samples it grew by {value:.3g}, at least {low:.3g}".format(
            **numbers["paired"]
        )
    message = (
        f"Validation loss is {percent(rise.size)} above its minimum at epoch {curves.numbers[best] + 1} "
        f"while training loss falls ({test})."
    )
    code = "val-loss-rising" if small else "overfitting"
    return Finding(code, severity, message, numbers, advice)


def _rise_facts(curves: Curves, rise: Rise, best: int, limits: Thresholds) -> dict[str, Any]:
    return {
        "sign": "loss",
        "rise": rise.size,
        "threshold": limits.rise_moderate,
        "p": rise.p,
        "jitter": rise.noise,
        "best_epoch": curves.numbers[best],
        "epochs": len(curves.epochs),
    }


def metric_held(curves: Curves, best: int, limits: Thresholds) -> bool | None:
    """Whether validation accuracy is still what it was at the row `best`; None where it is not recorded.

    It fell when the difference is shown by its interval, or by a falling trend since then. The interval takes
    the two epochs as independent, though they saw the same samples, so it errs towards "held".
    """
    rows = [row for row in curves.rows("val/accuracy") if row >= best]
    if not rows or rows[0] != best:
        return None
    before, now = curves.at("val/accuracy", best), curves.at("val/accuracy", rows[-1])
    shown = (
        hybrid_difference(before.triple, now.triple)[0] > 0
    )  # False where an interval is missing
    falling = (
        now.value < before.value and rising_p(-curves.values("val/accuracy", rows)) < limits.trend_p
    )
    return not (shown or falling)


def gap_overfits(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Validation accuracy, or R² where numbers are predicted, lies far below that of training."""
    gap, name = score_gap(evidence), evidence.fitted
    if not gap.bounded:
        yield Skipped(NO_GAP.format(name) if evidence.curves else NO_CURVES)
        return
    if gap.low > limits.train_gap:
        fails = gap.low > limits.train_gap_fail
        threshold = limits.train_gap_fail if fails else limits.train_gap
        yield Finding(
            "overfitting",
            "fail" if fails else "warning",
            f"Validation {name} is {points(gap)} below training {name} (n={gap.n}), "
            f"tolerated are {100 * threshold:.1f}. "
            f"A training {name} taken during the epoch lags, so the true gap is rather larger.",
            facts(gap, threshold=threshold, sign="gap"),
            "Augment, regularise, freeze more layers, or get more training data.",
        )


def score_gap(evidence: Evidence) -> Estimate:
    """Training minus validation accuracy, or R², of the judged epoch; Newcombe's hybrid interval, n of validation."""
    train, val = evidence.train.get(evidence.fitted, Estimate()), evidence.score(evidence.fitted)
    low, high = hybrid_difference(train.triple, val.triple)
    return Estimate(train.value - val.value, low, high, val.n, "newcombe")


def underfits(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Training accuracy, or R², itself stays below the target: not trained enough, or not able to learn it."""
    name, wanted = evidence.fitted, limits.r2 if evidence.regression else limits.accuracy
    train, gap, curves = evidence.train.get(name, Estimate()), score_gap(evidence), evidence.curves
    if wanted is None:
        return
    if curves is None or not gap.bounded:
        yield Skipped(NO_GAP.format(name) if curves else NO_CURVES)
        return
    if not (train.high < wanted and gap.high < limits.train_gap):
        return
    loss = curves.values("train/loss", curves.rows("train/loss"))
    head = f"Training {name} is only {percent(train.value)} (n={train.n}), wanted {percent(wanted)}"
    slope = relative_slope(loss)
    numbers = facts(train, threshold=wanted, slope=slope, slope_threshold=-limits.slope)
    # Three epochs cannot show a trend, so there a falling loss is taken at its word.
    if slope < -limits.slope and (loss.size < 4 or rising_p(-loss) < limits.trend_p):
        message = f"{head}, and the training loss still falls by {percent(-slope)} per epoch."
        yield Finding("undertrained", "warning", message, numbers, "Train for more epochs.")
    else:
        advice = "Unfreeze more layers, use a larger model, or change the learning rate."
        yield Finding(
            "underfitting", "warning", f"{head}, and it no longer improves.", numbers, advice
        )


def relative_slope(loss: Curve) -> float:
    """Change of the loss per epoch over its last third (at least 3 epochs), relative to its level there.

    NaN for fewer than two epochs.
    """
    tail = loss[-max(3, loss.size // 3) :]
    return (
        theil_sen(tail) / abs(float(np.median(tail)))
        if tail.size > 1 and np.median(tail)
        else float("nan")
    )


def diverged(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """The training loss went up: above twice its minimum and above its start, three epochs in a row."""
    curves = evidence.curves
    rows = curves.rows("train/loss") if curves else []
    if curves is None or len(rows) < 4:
        yield Skipped("the training loss of 4 epochs is needed" if curves else NO_CURVES)
        return
    if curves.values("train/loss", rows).min() < 0:
        yield Skipped("the training loss is below 0 somewhere, so a multiple of it has no meaning")
        return
    smooth = smoothed(curves.values("train/loss", rows))
    lost = (smooth > limits.diverged * np.minimum.accumulate(smooth)) & (smooth > smooth[0])
    thrice = lost[2:] & lost[1:-1] & lost[:-2]
    if thrice.any():
        first = rows[int(np.argmax(thrice))]
        epoch = curves.numbers[first]
        yield Finding(
            "diverged",
            "fail" if curves.judged >= first else "warning",
            f"Training loss diverged from epoch {epoch + 1} on, after a minimum of "
            f"{smooth.min():.4g} and a start of {smooth[0]:.4g}.",
            {
                "epoch": epoch,
                "start": smooth[0],
                "minimum": smooth.min(),
                "threshold": limits.diverged,
            },
            "Lower the learning rate, warm it up, clip gradients.",
        )


RULES = (
    Rule(("diverged",), diverged),
    Rule(("overfitting", "val-loss-rising", "over-confident"), loss_overfits),
    Rule(("overfitting",), gap_overfits),
    Rule(("underfitting", "undertrained"), underfits),
)
