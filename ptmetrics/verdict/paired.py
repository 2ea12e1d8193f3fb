"""Two evaluations on the same samples: tests in which what makes a sample hard cancels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erfc, isnan, nan, sqrt

import numpy as np
import numpy.typing as npt

from ptmetrics.record.samples import CLASS_ROW, Rows
from ptmetrics.verdict.finding import Z95, Estimate
from ptmetrics.verdict.samples import CannotPairError, Floats, Sampled, aligned, row_losses, rows_of
from ptmetrics.verdict.stats import (
    bonett_price,
    mid_p_better,
    student_t_quantile,
    student_t_upper,
)

Ints = npt.NDArray[np.int64]
MCNEMAR = "bonett-price, paired"
INFLUENCE = "influence function, paired"
STUDENT = "student t, paired"
MOST_PAIRED_CLASSES = 200_000
# Scores that are a share of right rows, or of wrong ones.
_IS_ACCURACY = ("accuracy", "precision/micro", "recall/micro", "f1/micro", "recall/weighted")
_IS_ERROR = ("hamming_loss",)
# Scores of a binary task, as scores of one of its two classes.
_BINARY = {
    "precision": ("precision", 1),
    "recall": ("recall", 1),
    "f1": ("f1", 1),
    "jaccard": ("jaccard", 1),
    "specificity": ("recall", 0),
    "npv": ("precision", 0),
}
_SAME = 1e-6  # a recorded score and that of the kept rows


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two scores with its interval.

    Args:
        p: Two-sided p-value of no difference; NaN where nothing was tested.
        paired: Whether the two were held against each other sample by sample.
        unpaired: Why they were not, as the end of a sentence; None where they were, or where seeds
            are compared.
    """

    p: float = nan
    paired: bool = False
    unpaired: str | None = None


def paired_difference(first: Estimate, second: Estimate) -> Difference | str:
    """First minus second on the same samples, or why it cannot be told.

    Accuracy, and what is one of some rows: McNemar's mid-p test and Bonett and Price's interval.
    Other scores of the confusion matrix: by each sample's influence. Mean losses and errors:
    Student's t on the differences.

    Source: Fagerland et al. 2013; Bonett and Price 2012; the delta method on paired influence
        functions.
    """
    if not isinstance(first, Sampled) or not isinstance(second, Sampled):
        return "the record holds no samples of one of them"
    try:
        rows = rows_of(first.samples(), "first run")
        others = rows_of(second.samples(), "second run")
        return _compared((first, second), *aligned(rows, others))
    except CannotPairError as why:
        return str(why)


def _compared(sides: tuple[Sampled, Sampled], first: Rows, second: Rows) -> Difference:
    name = sides[0].score
    label = sides[0].label
    if (sides[1].score, sides[1].label) != (name, label):
        raise CannotPairError("they are different scores")
    if name in ("loss", "nll"):
        gaps = row_losses(first, sides[0].value) - row_losses(second, sides[1].value)
        return _student_difference(float(gaps.mean()), gaps)
    if first.dtype != CLASS_ROW:
        return _errors(name, sides, first["error"], second["error"])
    columns = [side[column] for side in (first, second) for column in ("predicted", "target")]
    classes = 1 + max(int(column.max()) for column in columns)
    if classes > MOST_PAIRED_CLASSES:
        raise CannotPairError(f"there are more than {MOST_PAIRED_CLASSES} classes")
    if name in _BINARY and label is None:
        name, label = _BINARY[name]
    if name == "recall" and label is not None:
        inside = first["target"] == label
        return _hits(sides, first[inside], second[inside])
    if name in _IS_ACCURACY or name in _IS_ERROR:
        return _hits(sides, first, second, wrong=name in _IS_ERROR)
    score = score_formula(name, label)
    if score is None:
        raise CannotPairError(f"there is no paired test for {sides[0].score}")
    return _influences(score, classes, sides, first, second)


def _hits(
    sides: tuple[Sampled, Sampled], first: Rows, second: Rows, *, wrong: bool = False
) -> Difference:
    """A share of right rows; of wrong ones where asked for."""
    right = (first["predicted"] == first["target"]) != wrong
    other = (second["predicted"] == second["target"]) != wrong
    n = right.size
    if not n:
        raise CannotPairError("no sample counts")
    _same_as_recorded(sides, float(right.mean()), float(other.mean()))
    wins = int((right & ~other).sum())
    losses = int((other & ~right).sum())
    low, high = bonett_price(wins, losses, n, Z95)
    p = min(1.0, 2 * min(mid_p_better(wins, losses), mid_p_better(losses, wins)))
    return Difference((wins - losses) / n, low, high, n, MCNEMAR, p=p, paired=True)


def _influences(
    score: "ScoreFormula", classes: int, sides: tuple[Sampled, Sampled], first: Rows, second: Rows
) -> Difference:
    """A score of the confusion matrix, by how much each sample moves it."""
    influences = []
    values = []
    more = 0.0
    for side in (first, second):
        target = side["target"].astype(np.int64)
        predicted = side["predicted"].astype(np.int64)
        margins = Margins.counted(target, predicted, classes)
        gradient = score(margins)
        values.append(gradient.value)
        influences.append(gradient.at(target, predicted))
        # As in Bonett and Price: one row more on which only this one is right.
        more += gradient.discordant(margins)
    _same_as_recorded(sides, *values)
    gaps = influences[0] - influences[1]
    value = values[0] - values[1]
    error = sqrt(float(gaps @ gaps) + more)
    p = nan
    if error:
        p = erfc(abs(value) / error / sqrt(2.0))
    low, high = value - Z95 * error, value + Z95 * error
    return Difference(value, low, high, gaps.size, INFLUENCE, p=p, paired=True)


def _errors(name: str, sides: tuple[Sampled, Sampled], first: Floats, second: Floats) -> Difference:
    """A mean over errors, or the root of one."""
    if name == "bias":
        parts = [first, second]
    elif name == "mae":
        parts = [np.abs(first), np.abs(second)]
    elif name in ("mse", "rmse"):
        parts = [first**2, second**2]
    else:
        raise CannotPairError(f"there is no paired test for {name}")
    means = [float(part.mean()) for part in parts]
    if name == "rmse":
        means = [sqrt(mean) for mean in means]
        if not min(means) > 0:
            raise CannotPairError("one of them makes no error at all")
        parts = [part / (2 * mean) for part, mean in zip(parts, means, strict=True)]
    _same_as_recorded(sides, *means)
    return _student_difference(means[0] - means[1], parts[0] - parts[1])


def _student_difference(value: float, gaps: Floats) -> Difference:
    n = gaps.size
    if n < 2:
        raise CannotPairError("one sample has no spread")
    error = float(gaps.std(ddof=1)) / sqrt(n)
    half = student_t_quantile(0.975, n - 1) * error
    p = float(value == 0)  # without any spread
    if error:
        p = min(1.0, 2 * student_t_upper(abs(value) / error, n - 1))
    return Difference(value, value - half, value + half, n, STUDENT, p=p, paired=True)


def _same_as_recorded(sides: tuple[Sampled, Sampled], *values: float) -> None:
    for side, value in zip(sides, values, strict=True):
        if isnan(value) or not abs(value - side.value) <= _SAME * max(1.0, abs(side.value)):
            raise CannotPairError(f"the kept samples do not give the recorded {side.score}")


# Influence functions: how much each sample moves a score of the confusion matrix. The same scores
# as in `metrics/`, which needs torch; a law holds the two together.


@dataclass(frozen=True)
class Margins:
    """Counts of each class, float64 of shape (classes,).

    Args:
        hits: Right predictions.
        actual: Targets.
        predicted: Predictions.
    """

    hits: Floats
    actual: Floats
    predicted: Floats

    @classmethod
    def counted(cls, target: Ints, predicted: Ints, classes: int) -> "Margins":
        """Count rows, each one class from 0 to `classes` − 1."""

        def count(column: Ints) -> Floats:
            return np.bincount(column, minlength=classes).astype(np.float64)

        return cls(count(target[target == predicted]), count(target), count(predicted))

    @property
    def total(self) -> float:
        """All rows."""
        return float(self.actual.sum())


@dataclass(frozen=True)
class Gradient:
    """A score, and how it changes with one more row.

    Args:
        value: The score; NaN where undefined.
        hits: Change for a hit of each class, over that of its actual and predicted class.
        actual: Change for a row of each class.
        predicted: Change for a prediction of each class.
        row: Change for any row.
    """

    value: float
    hits: Floats
    actual: Floats
    predicted: Floats
    row: float = 0.0

    def at(self, target: Ints, predicted: Ints) -> Floats:
        """The change for each of these rows; its mean over the rows that were counted is 0."""
        hit = np.where(target == predicted, self.hits[target], 0.0)
        return np.asarray(hit + self.actual[target] + self.predicted[predicted] + self.row)

    def discordant(self, m: Margins) -> float:
        """Mean square of what a row changes as it turns from right to wrong, as classes are drawn."""
        share = m.actual / m.total
        guess = m.predicted / m.total
        gap = self.hits + self.predicted  # a wrong row has another predicted class, so drawn
        first = float(guess @ self.predicted)
        second = float(guess @ self.predicted**2)
        return float(share @ (gap**2 - 2 * gap * first + second))


ScoreFormula = Callable[[Margins], Gradient]
Coefficients = tuple[int, int, int, int]  # of hits, actual, predicted and all rows
# A class score is part over whole, both linear in the margins.
_PARTS: Mapping[str, tuple[Coefficients, Coefficients]] = {
    "precision": ((1, 0, 0, 0), (0, 0, 1, 0)),
    "recall": ((1, 0, 0, 0), (0, 1, 0, 0)),
    "f1": ((2, 0, 0, 0), (0, 1, 1, 0)),
    "jaccard": ((1, 0, 0, 0), (-1, 1, 1, 0)),
    "specificity": ((1, -1, -1, 1), (0, -1, 0, 1)),
}
_MACRO = {
    "balanced_accuracy": "recall",
    "recall/macro": "recall",
    "precision/macro": "precision",
    "f1/macro": "f1",
    "specificity/macro": "specificity",
    "jaccard/macro": "jaccard",
    "mean_iou": "jaccard",
    "dice": "f1",
}
_WEIGHTED = {"precision/weighted": "precision", "f1/weighted": "f1", "jaccard/weighted": "jaccard"}
PAIRED_SCORES = (*_MACRO, *_WEIGHTED, "mcc", "kappa")


def score_formula(name: str, label: int | None = None) -> ScoreFormula | None:
    """The score of this name, or that of one class; None where there is no such formula."""
    if label is not None:
        if name not in _PARTS:
            return None
        return lambda m: _class_mean(m, name, np.eye(1, len(m.actual), label)[0])
    if name in _MACRO:
        if name == "balanced_accuracy":  # over the classes of the targets
            return lambda m: _class_mean(m, "recall", np.where(m.actual > 0, 1.0, 0.0))
        return lambda m: _class_mean(m, _MACRO[name], np.ones_like(m.actual))
    if name in _WEIGHTED:
        return lambda m: _weighted_mean(m, _WEIGHTED[name])
    return {"mcc": mcc_gradient, "kappa": kappa_gradient}.get(name)


def _combined(m: Margins, by: Coefficients) -> Floats:
    """A linear combination of the margins, one number a class."""
    return by[0] * m.hits + by[1] * m.actual + by[2] * m.predicted + by[3] * m.total


def _class_ratio(part: Floats, whole: Floats) -> Floats:
    """A quotient for each class; 0 where the whole is."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _undefined(m: Margins) -> Gradient:
    nothing = np.zeros_like(m.hits)
    return Gradient(nan, nothing, nothing, nothing)


def _class_mean(m: Margins, name: str, weight: Floats) -> Gradient:
    """Mean over the classes on either side, with fixed weights; 0 where there is nothing to divide by."""
    part, whole = _PARTS[name]
    below = _combined(m, whole)
    each = _class_ratio(_combined(m, part), below)
    weight = np.where(m.actual + m.predicted > 0, weight, 0.0)
    if not weight.sum() > 0:
        return _undefined(m)
    weight = weight / weight.sum()
    unit = _class_ratio(weight, below)
    slopes = [unit * (p - each * w) for p, w in zip(part, whole, strict=True)]
    row = float(slopes[3].sum())
    return Gradient(float(weight @ each), slopes[0], slopes[1], slopes[2], row)


def _weighted_mean(m: Margins, name: str) -> Gradient:
    """Mean with the classes' own frequencies as weights, which a row changes as well."""
    part, whole = _PARTS[name]
    below = _combined(m, whole)
    total = m.actual.sum()
    mean = _class_mean(m, name, m.actual)
    each = _class_ratio(_combined(m, part), below)
    share = (each - mean.value) / total
    return Gradient(mean.value, mean.hits, mean.actual + share, mean.predicted, mean.row)


def kappa_gradient(m: Margins) -> Gradient:
    """Cohen's kappa, 1 − (1 − agreement) / (1 − chance)."""
    n = m.total
    right = m.hits.sum() / n
    chance = float(m.actual @ m.predicted) / n**2
    rest = 1.0 - chance
    if not rest > 0:
        return _undefined(m)
    by_chance = -(1.0 - right) / rest**2
    return Gradient(
        float((right - chance) / rest),
        np.full_like(m.hits, 1 / n / rest),
        by_chance * m.predicted / n**2,
        by_chance * m.actual / n**2,
        float(-right / n / rest - 2 * by_chance * chance / n),
    )


def mcc_gradient(m: Margins) -> Gradient:
    """Matthews correlation coefficient of many classes."""
    n = m.total
    hits = float(m.hits.sum())
    covariance = n * hits - float(m.actual @ m.predicted)
    spread_a = n**2 - float(m.actual @ m.actual)
    spread_p = n**2 - float(m.predicted @ m.predicted)
    if not spread_a * spread_p > 0:
        return _undefined(m)
    root = float(np.sqrt(spread_a * spread_p))
    value = covariance / root
    return Gradient(
        value,
        np.full_like(m.hits, n / root),
        -m.predicted / root + value * m.actual / spread_a,
        -m.actual / root + value * m.predicted / spread_p,
        hits / root - value * n * (1 / spread_a + 1 / spread_p),
    )
