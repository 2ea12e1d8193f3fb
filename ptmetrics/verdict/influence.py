"""How much each sample moves a score of the confusion matrix: values and gradients from its margins, in NumPy.

The same scores as in `metrics/`, which needs torch; a law holds the two together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Coefficients = tuple[int, int, int, int]  # of hits, actual, predicted and all rows


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
    def of(cls, target: Ints, predicted: Ints, classes: int) -> "Margins":
        """Count rows, each one class from 0 to `classes` − 1."""
        columns = (target[target == predicted], target, predicted)
        return cls(
            *(np.bincount(column, minlength=classes).astype(np.float64) for column in columns)
        )

    @property
    def total(self) -> float:
        """All rows."""
        return float(self.actual.sum())

    def combined(self, by: Coefficients) -> Floats:
        """A linear combination, one number a class."""
        return by[0] * self.hits + by[1] * self.actual + by[2] * self.predicted + by[3] * self.total


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
        """Mean square of what one row changes when it turns from right to wrong, as classes are drawn."""
        share, guess = m.actual / m.total, m.predicted / m.total
        gap = (
            self.hits + self.predicted
        )  # a wrong row has another predicted class, drawn as these are
        first, second = float(guess @ self.predicted), float(guess @ self.predicted**2)
        return float(share @ (gap**2 - 2 * gap * first + second))


Score = Callable[[Margins], Gradient]
# A class score is part over whole, both linear in the margins.
_PARTS: Mapping[str, tuple[Coefficients, Coefficients]] = {
    "precision": ((1, 0, 0, 0), (0, 0, 1, 0)),
    "recall": ((1, 0, 0, 0), (0, 1, 0, 0)),
    "f1": ((2, 0, 0, 0), (0, 1, 1, 0)),
    "jaccard": ((1, 0, 0, 0), (-1, 1, 1, 0)),
    "specificity": ((1, -1, -1, 1), (0, -1, 0, 1)),
}


def class_score(name: str, label: int) -> Score | None:
    """The score of one class; None for a name that is none of precision, recall, f1, jaccard, specificity."""
    return (
        None if name not in _PARTS else lambda m: _mean(m, name, np.eye(1, len(m.actual), label)[0])
    )


def _equal(name: str) -> Score:
    return lambda m: _mean(m, name, np.ones_like(m.actual))


def _weighted(name: str) -> Score:
    def score(m: Margins) -> Gradient:
        plain = _mean(m, name, m.actual)
        each, defined = _each(m, name)
        if not m.actual[defined].sum() > 0:  # as the metrics have it: nothing to weigh by
            return _mean(m, name, np.ones_like(m.actual))
        share = np.where(defined, (each - plain.value) / m.actual[defined].sum(), 0.0)
        return Gradient(plain.value, plain.hits, plain.actual + share, plain.predicted, plain.row)

    return score


def _each(m: Margins, name: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    part, whole = (m.combined(by) for by in _PARTS[name])
    defined = whole > 0
    return np.divide(part, whole, out=np.zeros_like(part), where=defined), defined


def _mean(m: Margins, name: str, weight: Floats) -> Gradient:
    """Mean over the classes where the score is defined, with fixed weights."""
    (part, whole), (each, defined) = _PARTS[name], _each(m, name)
    weight = np.where(defined, weight, 0.0)
    if not weight.sum() > 0:
        weight = np.zeros_like(weight)
        return Gradient(float("nan"), weight, weight, weight)
    weight = weight / weight.sum()
    unit = np.divide(weight, m.combined(whole), out=np.zeros_like(weight), where=defined)
    hits, actual, predicted, row = (unit * (p - each * w) for p, w in zip(part, whole, strict=True))
    return Gradient(float(weight @ each), hits, actual, predicted, float(row.sum()))


def kappa(m: Margins) -> Gradient:
    """Cohen's kappa, 1 − (1 − agreement) / (1 − chance)."""
    n = m.total
    right, chance = m.hits.sum() / n, float(m.actual @ m.predicted) / n**2
    rest = 1.0 - chance
    if not rest > 0:
        return Gradient(float("nan"), 0 * m.hits, 0 * m.hits, 0 * m.hits)
    by_chance = -(1.0 - right) / rest**2
    row = -right / n / rest - 2 * by_chance * chance / n
    actual, predicted = by_chance * m.predicted / n**2, by_chance * m.actual / n**2
    return Gradient(
        float((right - chance) / rest),
        np.full_like(m.hits, 1 / n / rest),
        actual,
        predicted,
        float(row),
    )


def mcc(m: Margins) -> Gradient:
    """Matthews correlation coefficient of many classes."""
    n, hits = m.total, float(m.hits.sum())
    covariance = n * hits - float(m.actual @ m.predicted)
    spread_a, spread_p = n**2 - float(m.actual @ m.actual), n**2 - float(m.predicted @ m.predicted)
    if not spread_a * spread_p > 0:
        return Gradient(float("nan"), 0 * m.hits, 0 * m.hits, 0 * m.hits)
    root = float(np.sqrt(spread_a * spread_p))
    value = covariance / root
    actual = -m.predicted / root + value * m.actual / spread_a
    predicted = -m.actual / root + value * m.predicted / spread_p
    row = hits / root - value * n * (1 / spread_a + 1 / spread_p)
    return Gradient(value, np.full_like(m.hits, n / root), actual, predicted, row)


SCORES: Mapping[str, Score] = {
    "balanced_accuracy": _equal("recall"),
    "recall/macro": _equal("recall"),
    "precision/macro": _equal("precision"),
    "f1/macro": _equal("f1"),
    "specificity/macro": _equal("specificity"),
    "jaccard/macro": _equal("jaccard"),
    "precision/weighted": _weighted("precision"),
    "f1/weighted": _weighted("f1"),
    "jaccard/weighted": _weighted("jaccard"),
    "mcc": mcc,
    "kappa": kappa,
}
