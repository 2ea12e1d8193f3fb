"""Gate 4: what the learning curves say: overfitting, over-confidence, gaps, underfitting, divergence."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, isfinite, nan
from typing import Any

import numpy as np

from ptmetrics.digits import numbers as numbers_of
from ptmetrics.record.printable import quantity
from ptmetrics.verdict.evidence import NOT_KNOWN, Evidence, LearningCurves
from ptmetrics.verdict.finding import Estimate, Finding, Severity, Skipped, percent
from ptmetrics.verdict.followed import LEAST_TREND, Change, FollowedScore, followed_score
from ptmetrics.verdict.loss_rise import Rise, loss_rise
from ptmetrics.verdict.pages import PAGES, make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule
from ptmetrics.verdict.samples import Floats
from ptmetrics.verdict.stats import hybrid_difference, rising_p, smoothed, theil_sen

NO_CURVES = "a lone evaluation has no learning curves"
NO_GAP = "training and validation {} with their intervals are needed"
NO_TREND = "the training loss of 2 epochs is needed"
NO_LOSSES = "training and validation loss of 3 epochs are needed"
NOT_ABOVE_0 = "the validation loss is not above 0 throughout, so a relative rise has no meaning"
LOSSES = ("loss", "nll")  # the second is the metric's own, where no loss was recorded
NEVER_LEFT = 0.1  # of the start: so little of the training loss is gone
TRENDS = 5  # times as sure as of the loss: what a trend of the score says sinks the verdict
ROSE = 1.05  # times the start
GAP_CAUSES = (
    "Look for wrong validation labels, validation data of another kind, samples of training data "
    "that are alike, and augmentation that only one side has."
)


# The validation loss rises.


@dataclass(frozen=True)
class RisenLoss:
    """A rise of the validation loss, as it stands at the judged epoch.

    Args:
        name: "loss", or "nll" where no loss was recorded.
        rise: The rise of the curve.
        lowest: Row of the lowest value.
        above: How far the judged epoch lies above that, relative to it.
        score: The followed score; None where there is none.
        change: What became of the score since the lowest value.
    """

    name: str
    rise: Rise
    lowest: int
    above: float
    score: FollowedScore | None
    change: Change

    @property
    def size(self) -> float:
        """What is held against the thresholds: the judged epoch may stand on a spike."""
        return min(self.above, self.rise.size)


def risen_loss(evidence: Evidence) -> RisenLoss | str | None:
    """The rise; None where there is none, and a reason where it cannot be looked for."""
    curves = evidence.curves
    if not curves:
        return NO_CURVES
    for name in LOSSES:
        rows = curves.comparable(curves.rows(f"train/{name}", f"val/{name}"))
        if len(rows) >= 3:
            break
    else:
        return NO_LOSSES
    limits = evidence.thresholds
    val = curves.values(f"val/{name}", rows)
    if val.min() <= 0:
        return NOT_ABOVE_0
    lowest = rows[int(np.argmin(val))]
    score = followed_score(evidence)
    change: Change = "not known"
    if score is not None:
        change = score.since(lowest, limits.trend_p / TRENDS, limits.margin)
    worse = change == "worse" or score_gap(evidence).value > limits.train_gap_fail
    train = curves.values(f"train/{name}", rows)
    grown = evidence.loss_change
    if name != "loss":
        grown = NOT_KNOWN
    rise = loss_rise(val, train, limits, grown, worse=worse)
    if rise is None:
        return None
    at_judged = curves.at(f"val/{name}", curves.judged).value
    above = 0.0
    if isfinite(at_judged) and curves.judged >= rows[rise.best]:
        above = at_judged / float(val.min()) - 1.0
    return RisenLoss(name, rise, lowest, above, score, change)


@rule(codes=("overfitting", "val-loss-rising", "over-confident"))
def loss_overfits(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The validation loss rises while the training loss falls."""
    risen = risen_loss(evidence)
    if isinstance(risen, str):
        yield Skipped(risen)
    elif risen is not None:
        yield _rise_finding(evidence, risen)


def _rise_finding(evidence: Evidence, risen: RisenLoss) -> Finding:
    """A small rise is named for what it is; a checkpoint from before the rise is not touched."""
    curves = evidence.curves
    limits = evidence.thresholds
    epoch = curves.named(risen.lowest)
    test = "too few epochs for a trend test"
    if risen.rise.tested:
        test = f"trend p {risen.rise.p:.2g}"
    numbers: dict[str, Any] = {
        "sign": "loss",
        "loss": risen.name,
        "rise": risen.above,
        "threshold": limits.rise_moderate,
        "p": risen.rise.p,
        "jitter": risen.rise.noise,
        "best_epoch": curves.numbers[risen.lowest],
        "epochs": len(curves.epochs),
    }
    paired = evidence.loss_change
    if paired.bounded and risen.name == "loss":
        numbers["paired"] = {"value": paired.value, "low": paired.low, "n": paired.n}
        grew, least = numbers_of(paired.value, paired.low)
        test += f"; on the same {quantity(paired.n, 'sample')} it grew by {grew}, at least {least}"
    if risen.above <= limits.rise or curves.judged <= risen.lowest + 1:
        message = (
            f"Validation {risen.name} has its minimum at {epoch} and rises later, while "
            f"training {risen.name} falls ({test})."
        )
        advice = "The judged epoch is from before the rise; stopping there was right."
        return make_finding("overfitting", "info", message, numbers, advice)
    message = (
        f"Validation {risen.name} is {percent(risen.above)} above its minimum at {epoch} "
        f"while training {risen.name} falls ({test})"
    )
    code, severity = _grade(risen, limits.rise_moderate, evidence)
    told = _what_the_score_did(risen, curves, numbers)
    advised = _advice(risen, curves, numbers)
    if code == "over-confident":
        advised = f"{PAGES[code].advice} {advised}".rstrip()
    return make_finding(code, severity, f"{message}{told}", numbers, advised or None)


def _grade(risen: RisenLoss, moderate: float, evidence: Evidence) -> tuple[str, Severity]:
    fine = risen.change in ("held", "better")
    if risen.size < moderate or (fine and evidence.regression):
        return "val-loss-rising", "warning"
    if risen.change == "worse":
        return "overfitting", "fail"
    if risen.change == "not known":
        return "overfitting", "warning"
    return "over-confident", "warning"


def _what_the_score_did(risen: RisenLoss, curves: LearningCurves, numbers: dict[str, Any]) -> str:
    """The followed score then and now, as the end of a sentence."""
    if risen.score is None or risen.change == "not known":
        return "; whether the model got worse was not recorded."
    name = risen.score.name
    then, now = (risen.score.value(row) for row in (risen.lowest, curves.judged))
    numbers |= {"score": name, "then": then, "now": now, "change": risen.change}
    at_first, at_last = numbers_of(then, now)
    moved = f"from {at_first} to {at_last}"
    held = f"({at_first}, now {at_last})"
    words = {
        "worse": f"; {name} got worse, {moved}.",
        "held": f". {name} has held {held}: the loss tells how sure the model is.",
        "better": f". {name} got better, {moved}: the model is surer, not worse.",
    }
    return words[risen.change]


def _advice(risen: RisenLoss, curves: LearningCurves, numbers: dict[str, Any]) -> str:
    """To go back only where the score there is shown to be better; else what earlier would have cost."""
    if risen.score is None:
        return "Record a validation score: by the loss alone nobody can say which epoch is best."
    restore = _restore(risen.score, risen.lowest, numbers)
    if restore:
        return restore
    if risen.score.best() >= curves.judged:
        return ""
    if risen.change == "worse":
        return (
            "Stop early next time, by the score that matters; which epoch is better than the judged "
            "one is not shown."
        )
    spared = (curves.judged - risen.lowest) / (curves.judged + 1)
    return (
        f"Stopping at {curves.named(risen.lowest)} would have spared {percent(spared)} of the epochs"
        f"{_cost(risen, curves)}"
    )


def _restore(score: FollowedScore, lowest: int | None, numbers: dict[str, Any]) -> str:
    """The epoch to go back to, of the best score or the lowest loss; empty where none is shown better."""
    curves = score.curves
    rows = {score.best(), score.best() if lowest is None else lowest}
    gains = {row: score.gain(row, curves.judged) for row in rows if row < curves.judged}
    shown = {row: gain for row, gain in gains.items() if gain.low > 0}
    if not shown:
        return ""
    row = max(shown, key=lambda each: shown[each].value)
    gain = shown[row]
    numbers["restore"] = {"epoch": curves.numbers[row], "score": score.name, **gain.facts()}
    value, low, high = numbers_of(*gain.triple)
    better = f"its {score.name} is better by {value} [{low}, {high}]"
    if curves.numbers[row] in curves.checkpoints:
        return f"Restore the checkpoint of {curves.named(row)}: {better}."
    return (
        f"Go back to {curves.named(row)} if you have its weights: {better}. None are recorded; "
        f'pm.Checkpoint("val/{score.name}") keeps the best.'
    )


def _cost(risen: RisenLoss, curves: LearningCurves) -> str:
    score = risen.score
    if score is None or risen.change == "better":
        return ", at the cost of what the score gained since."
    return f"; {score.name} was no worse there."


# Training against validation.


@rule(codes=("overfitting", "generalization-gap"))
def generalization_gap(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Validation accuracy, or R² where numbers are predicted, lies far below that of training.

    That is overfitting where it widens or the validation loss rises; else it has other causes too.
    """
    limits = evidence.thresholds
    name = evidence.fitted
    gap = score_gap(evidence)
    size = gap.low
    tolerated = limits.train_gap
    if not gap.bounded:
        size = gap.value  # of a log: how many samples stand behind it is not known
        tolerated = limits.train_gap_fail
    if not size > tolerated:
        if not gap.bounded:
            yield _no_gap(evidence)
        return
    split = _training_split(evidence)
    widened, since = _widening(evidence, split)
    numbers = gap.facts(threshold=limits.train_gap, sign="gap", split=split, widened=widened)
    head = f"Validation {name} is {_points(gap)} below training {name}"
    lags = ""
    if split == "train":
        lags = f" A training {name} taken during the epoch lags, so the true gap is rather larger."
    why = ""
    if widened > limits.train_gap / 2:
        why = (
            f"and widened by {100 * widened:.1f} points since epoch {since}, from which on "
            f"validation {name} no longer improved"
        )
    elif _loss_has_risen(evidence):
        why = "and the validation loss rises"
    if why:
        severity: Severity = "warning"
        if gap.bounded and size > limits.train_gap_fail:
            severity = "fail"
        advice = _against_a_gap(evidence, numbers)
        yield make_finding("overfitting", severity, f"{head}, {why}.{lags}", numbers, advice)
        return
    message = f"{head}; it does not widen and the validation loss does not rise.{lags}"
    if len(evidence.curves.epochs) < 2:
        message = f"{head}; whether it widens one epoch cannot tell.{lags}"
    yield make_finding("generalization-gap", "warning", message, numbers, GAP_CAUSES)


def _loss_has_risen(evidence: Evidence) -> bool:
    risen = risen_loss(evidence)
    return isinstance(risen, RisenLoss) and risen.above > evidence.thresholds.rise


def _points(gap: Estimate) -> str:
    if gap.bounded:
        return f"{gap.in_points()} (n={gap.n:,})"
    return f"{100 * gap.value:.1f} points (of an unknown number of samples)"


def _against_a_gap(evidence: Evidence, numbers: dict[str, Any]) -> str:
    score = followed_score(evidence)
    restore = ""
    if score is not None:
        restore = _restore(score, None, numbers)
    return f"{restore} Augment, regularise, freeze more layers, or get more training data.".lstrip()


def _no_gap(evidence: Evidence) -> Skipped:
    if not evidence.curves:
        return Skipped(NO_CURVES)
    return Skipped(NO_GAP.format(evidence.fitted))


def _training_split(evidence: Evidence) -> str:
    """The split "train_eval", training data evaluated as validation data are, where that was recorded."""
    curves = evidence.curves
    name = f"train_eval/{evidence.fitted}"
    if curves and isfinite(curves.at(name, curves.judged).value):
        return "train_eval"
    return "train"


def score_gap(evidence: Evidence) -> Estimate:
    """Training minus validation accuracy, or R², of the judged epoch, by Newcombe's interval.

    Its n is that of validation.
    """
    train = evidence.train.get(evidence.fitted, Estimate())
    if _training_split(evidence) == "train_eval":
        train = evidence.curves.at(f"train_eval/{evidence.fitted}", evidence.curves.judged)
    val = evidence.score(evidence.fitted)
    low, high = hybrid_difference(train.triple, val.triple)
    return Estimate(train.value - val.value, low, high, val.n, "newcombe")


def _widening(evidence: Evidence, split: str) -> tuple[float, int]:
    """What the gap grew by since validation no longer improved, and the number of that epoch.

    It is the first epoch whose validation score is within an interval of what the last third has.
    From four epochs on the gap must have a trend since then.
    """
    curves = evidence.curves
    val_name, train_name = f"val/{evidence.fitted}", f"{split}/{evidence.fitted}"
    rows = [
        row for row in curves.comparable(curves.rows(val_name, train_name)) if row <= curves.judged
    ]
    if len(rows) < 2 or rows[-1] != curves.judged:
        return 0.0, 0
    val = curves.values(val_name, rows)
    train = curves.values(train_name, rows)
    judged = evidence.score(evidence.fitted)
    slack = evidence.thresholds.margin
    if judged.bounded:
        slack = (judged.high - judged.low) / 2
    level = float(np.median(val[-max(3, val.size // 3) :])) - slack
    # That epoch's score was chosen for being high, so the gap is followed from the next one on.
    first = min(int(np.argmax(val >= level)) + 1, val.size - 1)
    gap = (train - val)[first:]
    grown = float(gap[-1] - gap[0])
    if gap.size >= LEAST_TREND:
        grown = theil_sen(gap) * (gap.size - 1)
        if rising_p(gap) >= evidence.thresholds.trend_p:
            grown = 0.0
    elif grown <= evidence.thresholds.train_gap:  # which so few epochs must show
        grown = 0.0
    return grown, curves.numbers[rows[first]] + 1


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
    loss = _training_loss(evidence.curves)
    if loss.size < 2:
        yield Skipped(NO_TREND)
        return
    slope = relative_slope(loss)
    head = (
        f"Training {name} is only {percent(train.value)} (n={train.n:,}), wanted {percent(wanted)}"
    )
    numbers = train.facts(threshold=wanted, slope=slope, slope_threshold=-limits.slope)
    start, last = float(loss[0]), float(np.median(loss[-3:]))
    # Three epochs cannot show a trend, so there a falling loss is taken at its word.
    falls = slope < -limits.slope and (loss.size < 4 or rising_p(-loss) < limits.trend_p)
    left = start > 0 and 1 - min(last, float(loss[-1])) / start >= NEVER_LEFT
    if falls and left:
        message = f"{head}, and the training loss still falls by {percent(-slope)} per epoch."
        yield make_finding("undertrained", "warning", message, numbers | {"cause": "time"})
        return
    cause, words, advice = _why_it_does_not_fit(start, last, left=left)
    numbers |= {"cause": cause, "start": start, "end": last}
    yield make_finding("underfitting", "warning", f"{head}, and {words}.", numbers, advice)


def _training_loss(curves: LearningCurves) -> Floats:
    for name in LOSSES:
        rows = curves.rows(f"train/{name}")
        if len(rows) >= 2:
            return curves.values(f"train/{name}", rows)
    return np.zeros(0)


def _why_it_does_not_fit(start: float, last: float, *, left: bool) -> tuple[str, str, str]:
    """Cause, words and cure of a training loss that no longer falls enough."""
    at_first, at_last = numbers_of(start, last)
    moved = f"{at_first} at the start, {at_last} at the end"
    if last > ROSE * start > 0:
        words = f"the training loss rose above its start ({moved})"
        return "diverged", words, "Lower the learning rate, warm it up, clip gradients."
    if not left:
        words = f"the training loss has hardly left its start ({moved})"
        cure = (
            "Raise the learning rate, and check that the layers are not frozen, that the optimizer "
            "has their parameters and that labels belong to their inputs."
        )
        return "not learning", words, cure
    words = f"the training loss no longer falls, well below its start ({moved})"
    return "capacity", words, "Unfreeze more layers, use a larger model, or better inputs."


def relative_slope(loss: Floats) -> float:
    """Change of the loss per epoch over its last third (at least 3 epochs), relative to its level.

    Of a loss above 0 by its logarithm, so that a fall is less than 1. NaN for fewer than two
    epochs.
    """
    tail = loss[-max(3, loss.size // 3) :]
    if tail.size < 2 or not np.median(tail):
        return nan
    if tail.min() > 0:
        return exp(theil_sen(np.log(tail))) - 1.0
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
    lowest, start = numbers_of(smooth.min(), smooth[0])
    message = (
        f"Training loss diverged from epoch {epoch + 1} on, after a minimum of {lowest} and a start "
        f"of {start}."
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


CURVE_RULES: tuple[Rule, ...] = (diverged, loss_overfits, generalization_gap, underfits)
