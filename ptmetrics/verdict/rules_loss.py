"""Gate 1, continued: is the loss that was seen the one of the rows that were counted?"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np

from ptmetrics.digits import numbers as numbers_of
from ptmetrics.verdict.evidence import Evidence, LearningCurves
from ptmetrics.verdict.finding import Finding, Severity
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule
from ptmetrics.verdict.samples import Floats

SPLITS = ("val", "train")
OWN_SCORES: Mapping[str, str] = {
    "CrossEntropyLoss": "nll",
    "cross_entropy": "nll",
    "NLLLoss": "nll",
    "nll_loss": "nll",
    "BCEWithLogitsLoss": "nll",
    "binary_cross_entropy_with_logits": "nll",
    "BCELoss": "nll",
    "binary_cross_entropy": "nll",
    "MSELoss": "mse",
    "mse_loss": "mse",
    "L1Loss": "mae",
    "l1_loss": "mae",
}
"""Criteria of torch, and the score that is the same number of the same rows."""
TAKES: Mapping[str, str] = {
    "BCELoss": "probabilities",
    "binary_cross_entropy": "probabilities",
    "NLLLoss": "log-probabilities",
    "nll_loss": "log-probabilities",
}
"""Criteria that do not take logits, and what they take."""
CLOSE = 0.02  # relative; losses in bfloat16 are off by up to 0.4 % a batch
SMALL_NLL = 2e-3  # absolute, where a likelihood is nearly perfect
SURE = 0.002  # a coincidence is rare within this
SUM_RANGE = (0.93, 1.35)  # of a sum over the mean batch, as batches of unlike size weigh unlike
SUM_SPREAD = 1.1  # largest over smallest ratio of a sum from epoch to epoch
LEAST_SUMMED = 4.0  # targets a batch
MOST_SHARES = 1024
PROBABLE_SHARES = 100
BROADCAST_CLOSE = 0.05
SAME_SHAPE = "Give both the same shape: preds.squeeze(1)."


@dataclass(frozen=True)
class Losses:
    """The loss of a split and the metric's own number of the same rows, by epoch.

    Args:
        split: The split.
        score: Name of the metric's own number.
        loss: The loss of each epoch in which both are known.
        own: The metric's own number of these epochs.
        judged: The judged epoch among them.
        criterion: Name of the criterion; empty where the loss was given.
        inputs: What the metric takes the predictions for.
        batch_rows: Mean number of targets that a loss stands for; NaN if unknown.
        batches_a_step: Batches for each step of the optimizer; NaN if unknown.
        columns: Further scores of these epochs, by name.
    """

    split: str
    score: str
    loss: Floats
    own: Floats
    judged: int
    criterion: str
    inputs: str
    batch_rows: float
    batches_a_step: float
    columns: Mapping[str, Floats]

    @property
    def ratios(self) -> Floats:
        """Loss over the metric's own number."""
        with np.errstate(all="ignore"):
            return np.asarray(self.loss / self.own)

    @property
    def ratio(self) -> float:
        """That of the judged epoch."""
        return float(self.ratios[self.judged])

    def shown(self) -> list[str]:
        """Loss and the metric's own number of the judged epoch, as text."""
        return numbers_of(self.loss[self.judged], self.own[self.judged])

    def agree_with(self, other: Floats) -> bool:
        """Whether the loss of the judged epoch is another number but for rounding."""
        return self._close(self.loss[self.judged], other[self.judged])

    def _close(self, loss: float, own: float) -> bool:
        slack = CLOSE * max(abs(loss), abs(own))
        if self.score == "nll":
            slack = max(slack, SMALL_NLL)
        return bool(abs(loss - own) <= slack)


@dataclass(frozen=True)
class Cause:
    """What fits the numbers.

    Args:
        name: One word, for the evidence.
        words: The cause.
        cure: What to do.
        severity: How grave.
    """

    name: str
    words: str
    cure: str
    severity: Severity = "warning"


@rule(codes="loss-disagrees")
def loss_disagrees(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The loss is another number than the metric's own of the same rows, or both are wrong."""
    each = [_finding_of(evidence, split) or _seen_by_shapes(evidence, split) for split in SPLITS]
    found = [finding for finding in each if finding is not None]
    # One is enough: what is wrong with the one loss is wrong with the other.
    yield from sorted(found, key=lambda finding: finding.severity == "info")[:1]


def _finding_of(evidence: Evidence, split: str) -> Finding | None:
    losses = _losses(evidence, split)
    if _probabilities_as_logits(evidence, split):
        return _probabilities(evidence, split, losses)
    if losses is None or losses.agree_with(losses.own):
        return None
    if _rows_differ(evidence, split, losses.score):
        return None
    for find in CAUSES:
        cause = find(losses)
        if cause is not None:
            return _disagreement(losses, cause)
    return None


def _seen_by_shapes(evidence: Evidence, split: str) -> Finding | None:
    """The shapes of a call of the criterion told of it, where the numbers do not."""
    for note in evidence.noted(f"broadcast {split}"):
        words = str(note["message"]).partition(". ")[0]
        numbers = {"split": split, "cause": "broadcast"}
        return make_finding("loss-disagrees", "warning", f"{words}.", numbers, SAME_SHAPE)
    return None


# What is compared


def _losses(evidence: Evidence, split: str) -> Losses | None:
    """None where the two are not known, or need not be the same number."""
    seen = evidence.curves.seen_in_judged(split)
    criterion = seen.get("criterion") or {}
    name = criterion.get("name") or ""
    if criterion.get("weighted") or criterion.get("label_smoothing"):
        return None
    default = "nll"
    if evidence.regression:
        default = "mse"
    score = OWN_SCORES.get(name, default)
    if name and name not in OWN_SCORES:
        return None
    columns, judged = _loss_columns(evidence, split, score)
    if judged is None or _has_further_outputs(evidence, split):
        return None
    batch_rows, batches_a_step = _sizes(evidence, split)
    return Losses(
        split,
        score,
        columns["loss"],
        columns[score],
        judged,
        name,
        seen.get("inputs") or "logits",
        batch_rows,
        batches_a_step,
        columns,
    )


_FURTHER = ("mae", "rmse", "r2", "explained_variance", "pearson")


def _loss_columns(
    evidence: Evidence, split: str, score: str
) -> tuple[dict[str, Floats], int | None]:
    """Scores of the epochs that have a loss and the metric's own; and which of them is judged."""
    names = ("loss", score, *_FURTHER)
    curves = evidence.curves
    if not curves:
        scores = evidence.val
        if split == "train":
            scores = evidence.train
        alone = {name: np.array([_value(scores, name)]) for name in names}
        known = isfinite(alone["loss"][0]) and isfinite(alone[score][0])
        return alone, (0 if known else None)
    rows = curves.rows(f"{split}/loss", f"{split}/{score}")
    columns = {name: curves.values(f"{split}/{name}", rows) for name in names}
    if curves.judged not in rows:
        return columns, None
    return columns, rows.index(curves.judged)


def _value(scores: Mapping[str, Any], name: str) -> float:
    if name not in scores:
        return nan
    return float(scores[name].value)


def _has_further_outputs(evidence: Evidence, split: str) -> bool:
    """Whether the model has several outputs: their loss is not that of one of them."""
    names: list[str] = [f"{split}/{name}" for name in evidence.val]
    if evidence.curves:
        names = list(evidence.curves.epochs[evidence.curves.judged])
    return any(
        name.startswith(f"{split}/") and name.count("/") > 1 and name.endswith(("/nll", "/mse"))
        for name in names
    )


def _sizes(evidence: Evidence, split: str) -> tuple[float, float]:
    """Targets that a loss stands for, and batches for each step; NaN where they are not known."""
    curves = evidence.curves
    seen = curves.seen_in_judged(split)
    targets = float(seen.get("batch_rows") or nan)
    batches = seen.get("losses") or seen.get("answers") or 0
    steps = seen.get("optimizer_steps") or 0
    if split == "val" and not isfinite(targets):  # of a record that does not hold what was seen
        targets = _judged_count(curves, "val_samples") / _judged_count(curves, "val_steps")
    if not steps:
        return targets, nan
    return targets, batches / steps


def _judged_count(curves: LearningCurves, name: str) -> float:
    """A count of the judged epoch; NaN where it is not known."""
    if not curves:
        return nan
    return curves.counts_of(name)[curves.judged] or nan


def _rows_differ(evidence: Evidence, split: str, score: str) -> bool:
    """Whether the metric refused rows that the loss holds, or the loss lacks rows."""
    if any(fault.split in ("", split) for fault in evidence.faults):
        return True
    curves = evidence.curves
    if not curves:
        return False
    counted = curves.at(f"{split}/{score}", curves.judged).n
    return curves.at(f"{split}/loss", curves.judged).n < (1 - CLOSE) * counted


# Scores that are probabilities, though logits were announced


def _probabilities_as_logits(evidence: Evidence, split: str) -> bool:
    """Whether every score that was looked at is one, in every epoch."""
    curves = evidence.curves
    seen = curves.seen_in_judged(split)
    announced = seen.get("inputs") or "logits"
    if evidence.regression or announced != "logits" or not seen.get("like_probabilities"):
        return False
    return all(each.get("like_probabilities", True) for each in curves.seen_of(split))


def _probabilities(evidence: Evidence, split: str, losses: Losses | None) -> Finding:
    criterion = evidence.curves.seen_in_judged(split).get("criterion") or {}
    name = criterion.get("name") or ""
    ending = "softmax"
    if evidence.task in ("binary", "multilabel"):
        ending = "sigmoid"
    taken = TAKES.get(name, "logits")
    if taken == "probabilities":
        words = f"{name} takes probabilities, but they are counted as logits"
        cure = 'Build the metrics with inputs="probs".'
    elif taken == "log-probabilities":
        words = f"the model ends in {ending}, but {name} takes log-probabilities"
        cure = "End the model in log_softmax, or leave it out and use CrossEntropyLoss."
    elif name or (losses is not None and losses.agree_with(losses.own)):
        words = f"the model ends in {ending}, and the loss takes them for logits once more"
        cure = f"Leave the {ending} out of the model."
    else:
        words = f"they come out of a {ending}"
        cure = 'Hand over the logits, or build the metrics with inputs="probs".'
    numbers: dict[str, Any] = {"split": split, "cause": "probabilities", "criterion": name}
    measured = ""
    if losses is not None:
        numbers |= _loss_numbers(losses)
        loss, own = losses.shown()
        measured = f" ({split}/loss {loss}, {losses.score} {own})"
    message = (
        f'{split}: the scores are probabilities, all in [0, 1], though inputs="logits" was '
        f"announced: {words}{measured}."
    )
    return make_finding("loss-disagrees", "warning", message, numbers, cure)


# Causes, in the order in which they are asked for


def a_sum(losses: Losses) -> Cause | None:
    """The ratio is the number of targets in a batch."""
    if not losses.batch_rows >= LEAST_SUMMED:
        return None
    shares = losses.ratios / losses.batch_rows
    least, most = SUM_RANGE
    if not (shares.min() >= least and shares.max() <= most):
        return None
    if shares.max() > SUM_SPREAD * shares.min():
        return None
    words = f"a sum in place of a mean, at {losses.batch_rows:.4g} targets a batch"
    return Cause("sum", words, 'Hand over the mean, or say update(…, reduction="sum").')


def a_share(losses: Losses) -> Cause | None:
    """The ratio is 1/2, 1/4, …, as where a loss was divided by the steps of an accumulation."""
    if not 0 < losses.ratio < 1:
        return None
    parts = round(1 / losses.ratio)
    if not 2 <= parts <= MOST_SHARES:
        return None
    off = float(np.abs(losses.ratios * parts - 1).max())
    expected = round(losses.batches_a_step) if isfinite(losses.batches_a_step) else 0
    likely = parts == expected or parts & (parts - 1) == 0 or losses.ratios.size > 1
    close = CLOSE / 2
    if not likely:
        close = SURE
    if off > close or (not likely and parts > PROBABLE_SHARES):
        return None
    if losses.score == "mse" and parts == 2 and not losses.criterion:
        return None  # Huber's loss of small errors, or half of the squared error by definition
    words = f"1/{parts} of it, as where it is divided by the steps of an accumulation"
    if parts == expected:
        words += f", of which there are {expected} batches a step"
    return Cause("share", words, "Hand over the loss before it is divided.")


def another_input(losses: Losses) -> Cause | None:
    """A criterion that does not take logits."""
    taken = TAKES.get(losses.criterion)
    if taken is None or losses.inputs != "logits":
        return None
    words = f'{losses.criterion} takes {taken}, but inputs="logits" are counted'
    cure = f'Build the metrics with inputs="probs", or let the model end in what takes {taken}.'
    if taken == "log-probabilities":
        cure = "End the model in log_softmax, or use CrossEntropyLoss."
    return Cause("inputs", words, cure)


def a_broadcast(losses: Losses) -> Cause | None:
    """Predictions (N, 1) against targets (N,): every prediction with every target.

    The mean of (p_i − y_j)² is the mean squared error plus twice the covariance of predictions and
    targets in a batch, which follows from R², explained variance and Pearson's correlation.
    """
    if losses.score != "mse":
        return None
    variance = losses.own / (1 - losses.columns["r2"])
    of_bias = losses.own - (1 - losses.columns["explained_variance"]) * variance
    pearson = losses.columns["pearson"]
    with np.errstate(invalid="ignore"):
        root = np.sqrt(np.maximum(pearson**2 * variance - variance - of_bias + losses.own, 0))
        spread = np.sqrt(variance)
    fits = np.zeros(losses.loss.shape, dtype=bool)
    within = 1.0
    if losses.batch_rows >= 1:
        within = 1 - 1 / losses.batch_rows
    for deviation in (pearson * spread + root, pearson * spread - root):
        expected = losses.own + 2 * within * pearson * deviation * spread
        fits |= np.abs(losses.loss - expected) <= BROADCAST_CLOSE * expected
    if not fits.all():
        return None
    words = "every prediction against every target, as MSELoss does with (N, 1) against (N)"
    return Cause("broadcast", words, SAME_SHAPE)


def another_head(losses: Losses) -> Cause | None:
    """The criterion is known, and of the rows that were counted its loss would be the same."""
    if not losses.criterion or losses.split == "train":
        return None
    words = (
        f"{losses.criterion} was called with other predictions or targets than those counted, such "
        "as another head's or soft targets"
    )
    if losses.score in ("mse", "mae"):
        words += ", or with shapes that broadcast"
    return Cause("another head", words, "Say which output counts: attach(…, preds=…, target=…).")


def not_known(losses: Losses) -> Cause | None:
    """The loss was given, and nothing fits: it may be another one on purpose."""
    if losses.criterion or losses.split == "train":
        return None
    if losses.score == "mse":
        named = (losses.columns["mae"], losses.columns["rmse"], losses.own / 2)
        if any(losses.agree_with(other) for other in named):
            return None
    words = "another loss, such as one with weights, smooth labels or regularisation"
    cure = "If it was meant to be the same, look at what is handed over."
    return Cause("unknown", words, cure, "info")


CAUSES: tuple[Callable[[Losses], Cause | None], ...] = (
    a_sum,
    a_share,
    another_input,
    a_broadcast,
    another_head,
    not_known,
)


def _disagreement(losses: Losses, cause: Cause) -> Finding:
    loss, own = losses.shown()
    message = (
        f"{losses.split}/loss is {loss}, but the metric's own {losses.score} of the same rows is "
        f"{own}: {cause.words}."
    )
    numbers = {"cause": cause.name, "criterion": losses.criterion, **_loss_numbers(losses)}
    return make_finding("loss-disagrees", cause.severity, message, numbers, cause.cure)


def _loss_numbers(losses: Losses) -> dict[str, Any]:
    return {
        "split": losses.split,
        "loss": float(losses.loss[losses.judged]),
        losses.score: float(losses.own[losses.judged]),
        "ratio": losses.ratio,
        "batch_rows": losses.batch_rows,
    }


LOSS_RULES: tuple[Rule, ...] = (loss_disagrees,)
