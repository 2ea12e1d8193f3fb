"""Two evaluations on the same samples: tests in which what makes a sample hard cancels."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.class_formulas import (
    JACCARD,
    PRECISION,
    RECALL,
    SPECIFICITY,
    ClassSums,
    MeanRatio,
    Ratio,
    fbeta_ratio,
    kappa_and_slopes,
    mcc_and_slopes,
)
from ptmetrics.record.samples import Rows, is_of_classes
from ptmetrics.verdict.finding import Z95, Estimate, Plain
from ptmetrics.verdict.samples import (
    CannotPairError,
    Floats,
    Sampled,
    aligned,
    checksum,
    row_losses,
    rows_of,
    rows_that_count,
    weights_of,
)
from ptmetrics.verdict.stats import (
    bonett_price,
    clopper_pearson,
    mid_p_better,
    student_t_quantile,
    student_t_upper,
)

Ints = npt.NDArray[np.int64]
MCNEMAR = "bonett-price, paired"
INFLUENCE = "influence function, paired"
STUDENT = "student t, paired"
BY_BUCKETS = "jackknife of samples, paired"
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
_TOP_K = re.compile(r"top(\d+)_accuracy")
_SAME = 1e-6  # a recorded score and that of the kept rows
_SAME_CURVE = 1e-4  # scores are kept in float32


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


@dataclass(frozen=True)
class Moves:
    """A score, and how far each sample moves it: enough for any difference of scores of the same samples.

    Args:
        value: The score.
        each: The move of each sample, or of each bucket of samples; they sum to 0.
        more: Variance for what a finite sample does not show, such as a row on which one is right.
        method: What the interval of a difference is called.
    """

    value: float
    each: Floats
    more: float = 0.0
    method: str = INFLUENCE


def paired_difference(
    first: Estimate | Sequence[Estimate], second: Estimate | Sequence[Estimate]
) -> Difference | str:
    """First minus second on the same samples, or why it cannot be told.

    Accuracy, and what is one of some unweighted rows: McNemar's mid-p test and Bonett and Price's
    interval. Every other score by how far each sample moves it, which is its influence function;
    where samples hold several rows or labels, by how far each bucket of samples does. Of several
    seeds the mean is compared: the spread of the seeds of each side adds to the doubt from the
    samples.

    Source: Fagerland et al. 2013; Bonett and Price 2012; DeLong, DeLong and Clarke-Pearson 1988 for
        the AUROC; the delta method on paired influence functions; Efron and Tibshirani 1993,
        chapter 11.
    """
    sides = [[one] if isinstance(one, Estimate) else list(one) for one in (first, second)]
    runs = [run for side in sides for run in side if isinstance(run, Sampled)]
    if len(runs) < sum(map(len, sides)):
        return "the record holds no samples of one of them"
    try:
        if len({(run.score, run.label) for run in runs}) > 1:
            raise CannotPairError("they are different scores")
        moves = _moves_by_buckets(runs)
        if moves is None:
            rows = _aligned_rows(runs)
            if len(runs) == 2 and (found := _hits(runs, rows)) is not None:
                return found
            moves = [_moves_of(run, some) for run, some in zip(runs, rows, strict=True)]
        seeds = len(sides[0])
        return _difference(moves[:seeds], moves[seeds:], min(run.n for run in runs))
    except CannotPairError as why:
        return str(why)


@dataclass(frozen=True)
class Without(Plain):
    """A score, and what it is without some of its samples.

    Args:
        value: Of all samples.
        clean: Without them.
        difference: The first less the second, paired.
    """

    value: float
    clean: Estimate
    difference: Difference


def without_rows(score: Estimate, left_out: Sequence[int], targets: str | None) -> Without:
    """A score with and without some of its samples, by how far each sample moves both.

    Args:
        score: As recorded.
        left_out: Rows in the order of validation, from 0.
        targets: Checksum of the targets in the order in which these rows were counted.

    Raises:
        CannotPairError: If the samples were not kept, came in another order, or are too few.
    """
    if not isinstance(score, Sampled):
        raise CannotPairError("no samples of it were kept")
    rows = rows_of(score.samples(), "run")
    if checksum(rows["target"]) != targets:
        raise CannotPairError("the validation that is judged came in another order, or is another")
    if left_out and not 0 <= min(left_out) <= max(left_out) < len(rows):
        raise CannotPairError("the rows are those of another set")
    left = np.ones(len(rows), dtype=bool)
    left[list(left_out)] = False
    counts = rows_that_count(rows)
    rows = rows[counts]
    left = left[counts]
    number = int(left.sum())
    if number < 2:
        raise CannotPairError("fewer than two samples are left")
    everything = _moves_of(score, rows)
    clean = _moves_of(score, rows, np.where(left, weights_of(rows), 0.0))
    nothing = Moves(0.0, np.zeros_like(clean.each), method=clean.method)
    alone = _difference([clean], [nothing], number)
    bounds = alone.low, alone.high
    right = _right_rows(score.score, score.label, rows)
    if right is not None and len(right) == len(left) and not np.ptp(weights_of(rows)):
        bounds = clopper_pearson(int(right[left].sum()), number)
    value = Estimate(clean.value, *bounds, number, clean.method)
    return Without(everything.value, value, _difference([everything], [clean], score.n))


def _aligned_rows(runs: Sequence[Sampled]) -> list[Rows]:
    words = ["first run", *["second run"] * (len(runs) - 1)]
    rows = [rows_of(run.samples(), word) for run, word in zip(runs, words, strict=True)]
    found = [aligned(rows[0], other) for other in rows[1:]]
    return [found[0][0], *[other for _, other in found]]


def _difference(first: Sequence[Moves], second: Sequence[Moves], n: int) -> Difference:
    """Mean of the first less that of the second.

    The variance from the samples is that of the mean moves, which what is common to both leaves.
    Where both sides have seeds, the variance of their means is added (Satterthwaite's freedom).
    """
    each = np.mean([m.each for m in first], 0) - np.mean([m.each for m in second], 0)
    units = each.size
    if units < 2:
        raise CannotPairError("one sample has no spread")
    parts = [(float(each @ each) * units / (units - 1), units - 1)]
    for side in (first, second):
        parts[0] = (parts[0][0] + sum(m.more for m in side) / len(side) ** 2, units - 1)
        if min(len(first), len(second)) > 1:
            spread = float(np.var([m.value for m in side], ddof=1)) / len(side)
            parts.append((spread, len(side) - 1))
    value = float(np.mean([m.value for m in first]) - np.mean([m.value for m in second]))
    variance = sum(part for part, _ in parts)
    method = first[0].method
    if len(parts) > 1:
        method = f"{method} and seeds"
    if not variance > 0:  # without any spread
        return Difference(value, value, value, n, method, p=float(value == 0), paired=True)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = sqrt(variance)
    half = student_t_quantile(0.975, freedom) * error
    p = min(1.0, 2 * student_t_upper(abs(value) / error, freedom))
    return Difference(value, value - half, value + half, n, method, p=p, paired=True)


def _moves_by_buckets(runs: Sequence[Sampled]) -> list[Moves] | None:
    """Moves of buckets of samples, where every run kept them and no rows; else None.

    Buckets that hold other samples, after shuffling, move independently: the interval is then as
    wide as that of independent samples, and no narrower than it should be.
    """
    stored = [run.samples() for run in runs]
    if any(one.moves is None or one.rows is not None for one in stored):
        return None
    name = runs[0].score
    if runs[0].label is not None:
        name = f"{name}[{runs[0].label}]"
    found: list[Moves] = []
    for run, one in zip(runs, stored, strict=True):
        if one.moves is None or name not in (one.moves.dtype.names or ()):
            raise CannotPairError(f"there is no paired test for {run.score}")
        without = np.asarray(one.moves[name], dtype=np.float64)
        number = without.size
        if found and number != found[0].each.size:
            raise CannotPairError("their samples came in other groups")
        if number < 2 or not np.isfinite(without).all():
            raise CannotPairError("the score is undefined without some of its samples")
        each = (without.mean() - without) * (number - 1) / number
        found.append(Moves(run.value, each, method=BY_BUCKETS))
    return found


def _hits(runs: Sequence[Sampled], rows: Sequence[Rows]) -> Difference | None:
    """A share of right rows, each of the same weight, by the exact test; None for anything else."""
    right, other = [
        _right_rows(run.score, run.label, some) for run, some in zip(runs, rows, strict=True)
    ]
    if right is None or other is None:
        return None
    if any(np.ptp(weights_of(some)) > 0 for some in rows):
        return None
    n = right.size
    if not n:
        raise CannotPairError("no sample counts")
    _same_as_recorded(runs[0], float(right.mean()))
    _same_as_recorded(runs[1], float(other.mean()))
    wins = int((right & ~other).sum())
    losses = int((other & ~right).sum())
    low, high = bonett_price(wins, losses, n, Z95)
    p = min(1.0, 2 * min(mid_p_better(wins, losses), mid_p_better(losses, wins)))
    return Difference((wins - losses) / n, low, high, n, MCNEMAR, p=p, paired=True)


def _right_rows(name: str, label: int | None, rows: Rows) -> npt.NDArray[np.bool_] | None:
    """Which rows count as 1 for a score that is a share of rows; None for other scores."""
    if not is_of_classes(rows):
        return None
    if name in _BINARY and label is None:
        name, label = _BINARY[name]
    right = rows["predicted"] == rows["target"]
    if name == "recall" and label is not None:
        return np.asarray(right[rows["target"] == label])
    top = _TOP_K.fullmatch(name)
    if top and "rank" in (rows.dtype.names or ()):
        return np.asarray(rows["rank"] < int(top[1]))
    if name in _IS_ACCURACY or name in _IS_ERROR:
        return np.asarray(right != (name in _IS_ERROR))
    return None


def _moves_of(run: Sampled, rows: Rows, other: Floats | None = None) -> Moves:
    """How far each row moves a score; with other weights that of those, which is not recorded."""
    name = run.score
    weight = weights_of(rows)
    if other is not None:
        weight = other
    tolerance = _SAME
    if name in ("loss", "nll"):
        found = _smooth(lambda m: m[0], [row_losses(rows, run.value)], weight)
    elif not is_of_classes(rows):
        found = _of_errors(name, rows["error"], rows["target"], weight)
    elif name.partition("/")[0] in _RANKINGS and _keeps_scores(rows):
        found = Moves(*_of_curves(run, rows, weight))
        tolerance = _SAME_CURVE
    else:
        found = _of_classes(run, rows, weight)
    if name != "loss" and other is None:
        _same_as_recorded(run, found.value, tolerance)
    return found


def _of_classes(run: Sampled, rows: Rows, weight: Floats) -> Moves:
    """A score of the confusion matrix, or a share of rows that all weigh differently."""
    name = run.score
    label = run.label
    if name in _BINARY and label is None:
        name, label = _BINARY[name]
    right = _right_rows(name, None, rows)
    if right is not None and label is None:
        return _smooth(lambda m: m[0], [right.astype(np.float64)], weight)
    target = rows["target"].astype(np.int64)
    predicted = rows["predicted"].astype(np.int64)
    classes = 1 + max(int(target.max()), int(predicted.max()))
    if classes > MOST_PAIRED_CLASSES:
        raise CannotPairError(f"there are more than {MOST_PAIRED_CLASSES} classes")
    score = score_formula(name, label, run.samples().beta)
    if score is None:
        raise CannotPairError(f"there is no paired test for {run.score}")
    margins = margins_of(target, predicted, max(2, classes), weight)
    gradient = score(margins)
    # As in Bonett and Price: one row more on which only this one is right.
    unit = float(weight @ weight / weight.sum())
    more = gradient.discordant(margins) * unit**2
    return Moves(gradient.value, weight * gradient.at(target, predicted), more)


def _of_errors(name: str, error: Floats, target: Floats, weight: Floats) -> Moves:
    """A score of numbers: a smooth function of means."""
    away = target - np.average(target, weights=weight)  # R² and correlations do not change
    guess = error + away
    with np.errstate(all="ignore"):
        columns = {
            "e": error,
            "e2": error**2,
            "a": np.abs(error),
            "t": away,
            "t2": away**2,
            "p": guess,
            "p2": guess**2,
            "pt": guess * away,
        }
    if name not in _POINT_SCORES:
        raise CannotPairError(f"there is no paired test for {name}")
    wanted, function = _POINT_SCORES[name]
    if name == "rmse" and not error.any():
        raise CannotPairError("one of them makes no error at all")
    return _smooth(function, [columns[column] for column in wanted], weight)


def _smooth(function: Callable[[Any], Any], columns: Sequence[Floats], weight: Floats) -> Moves:
    """A smooth function of weighted means; its gradient by a step into the imaginary numbers."""
    total = weight.sum()
    means = np.array([weight @ column / total for column in columns])
    each = np.zeros(weight.size)
    for place, column in enumerate(columns):
        step = np.zeros(len(columns), dtype=np.complex128)
        step[place] = 1e-100j
        slope = function(means + step).imag / 1e-100
        each += slope * weight * (column - means[place]) / total
    return Moves(float(np.real(function(means))), each, method=STUDENT)


_PointScore = tuple[tuple[str, ...], Callable[[Any], Any]]
_POINT_SCORES: Mapping[str, _PointScore] = {
    "bias": (("e",), lambda m: m[0]),
    "mae": (("a",), lambda m: m[0]),
    "mse": (("e2",), lambda m: m[0]),
    "rmse": (("e2",), lambda m: np.sqrt(m[0])),
    "r2": (("e2", "t", "t2"), lambda m: 1 - m[0] / (m[2] - m[1] ** 2)),
    "explained_variance": (
        ("e2", "e", "t2", "t"),
        lambda m: 1 - (m[0] - m[1] ** 2) / (m[2] - m[3] ** 2),
    ),
    "pearson": (
        ("pt", "p", "t", "p2", "t2"),
        lambda m: (m[0] - m[1] * m[2]) / np.sqrt((m[3] - m[1] ** 2) * (m[4] - m[2] ** 2)),
    ),
}


def _moves_of_auroc(
    score: Floats, positive: npt.NDArray[np.bool_], weight: Floats
) -> tuple[float, Floats]:
    """Area under the ROC curve and its moves: DeLong's components, weighted."""
    if positive.all() or not positive.any():
        raise CannotPairError("its targets are all of one class")
    _, place = np.unique(score, return_inverse=True)
    sums = [np.bincount(place, np.where(side, weight, 0.0)) for side in (positive, ~positive)]
    yes, no = (side / side.sum() for side in sums)
    below = no.cumsum() - no / 2  # negatives that a score of this place beats
    above = 1 - (yes.cumsum() - yes / 2)
    area = float(yes @ below)
    component = np.where(positive, below[place] / sums[0].sum(), above[place] / sums[1].sum())
    average = np.where(positive, area / sums[0].sum(), area / sums[1].sum())
    return area, weight * (component - average)


def _moves_of_precision(
    score: Floats, positive: npt.NDArray[np.bool_], weight: Floats
) -> tuple[float, Floats]:
    """Average precision and its moves: a row adds a step of its own, and changes the precision at all lower ones."""
    if not positive.any():
        raise CannotPairError("no target is positive")
    _, place = np.unique(score, return_inverse=True)
    yes = np.bincount(place, np.where(positive, weight, 0.0))
    chosen = np.bincount(place, weight)[::-1].cumsum()[::-1]
    precision = yes[::-1].cumsum()[::-1] / chosen
    value = float(yes @ precision / yes.sum())
    as_hit = (yes / chosen).cumsum()
    as_any = (yes * precision / chosen).cumsum()
    move = np.where(positive, precision[place] - value + as_hit[place], 0.0) - as_any[place]
    return value, weight * move / yes.sum()


_RANKINGS = {"auroc": _moves_of_auroc, "average_precision": _moves_of_precision}


def _keeps_scores(rows: Rows) -> bool:
    return any(field.startswith(("score", "margin_")) for field in rows.dtype.names or ())


def _of_curves(run: Sampled, rows: Rows, weight: Floats) -> tuple[float, Floats]:
    """The area under a curve and its moves: of yes or no, of a class, or averaged over classes."""
    name, _, average = run.score.partition("/")
    area = _RANKINGS[name]
    fields = [field for field in rows.dtype.names or () if field.startswith("margin_")]
    if not average:
        own = ("score", f"margin_{run.label}")
        fields = [field for field in rows.dtype.names or () if field in own]
    if not fields or average not in ("", "macro", "micro", "weighted"):
        raise CannotPairError(f"there is no paired test for {run.score}")
    target = rows["target"]
    heads = np.array([int(field.partition("_")[2] or 1) for field in fields])
    scores = np.array([rows[field] for field in fields], dtype=np.float64)
    positive = target == heads[:, None]
    if np.isnan(scores).any():
        raise CannotPairError("some of its scores are NaN")
    if not average:
        return area(scores[0], positive[0], weight)
    if average == "micro":  # a row moves the curve by all of its scores
        repeated = np.tile(weight, len(heads))
        value, each = area(scores.reshape(-1), positive.reshape(-1), repeated)
        return value, each.reshape(positive.shape).sum(0)
    there = positive.any(1)
    if name == "auroc":
        there = there & ~positive.all(1)
    if not there.any():
        raise CannotPairError("its targets are all of one class")
    found = [area(*one, weight) for one in zip(scores[there], positive[there], strict=True)]
    values = np.array([value for value, _ in found])
    moves = np.array([each for _, each in found])
    if average == "macro":
        return float(values.mean()), moves.mean(0)
    mine = weight * positive[there]  # a row moves the weight of its own class, too
    share = mine.sum(1) / mine.sum()
    value = float(share @ values)
    return value, share @ moves + (values - value) @ mine / mine.sum()


def _same_as_recorded(run: Sampled, value: float, tolerance: float = _SAME) -> None:
    close = tolerance * max(1.0, abs(run.value)) + run.error_bound
    if isnan(value) or not abs(value - run.value) <= close:
        raise CannotPairError(f"the kept samples do not give the recorded {run.score}")


# Influence functions: how much each sample moves a score of the confusion matrix.


@dataclass(frozen=True)
class Gradient:
    """A score, and how it changes with one more row.

    Args:
        value: The score; NaN where undefined.
        hits: Change for a hit of each class, over that of its actual and predicted class.
        actual: Change for a row of each class.
        predicted: Change for a prediction of each class.
    """

    value: float
    hits: Floats
    actual: Floats
    predicted: Floats

    def at(self, target: Ints, predicted: Ints) -> Floats:
        """The change for each of these rows; its mean over the rows that were counted is 0."""
        hit = np.where(target == predicted, self.hits[target], 0.0)
        return np.asarray(hit + self.actual[target] + self.predicted[predicted])

    def discordant(self, m: ClassSums) -> float:
        """Mean square of what a row changes as it turns from right to wrong, as classes are drawn."""
        total = m.actual.sum()
        share = m.actual / total
        guess = m.predicted / total
        gap = self.hits + self.predicted  # a wrong row has another predicted class, so drawn
        first = float(guess @ self.predicted)
        second = float(guess @ self.predicted**2)
        return float(share @ (gap**2 - 2 * gap * first + second))


ScoreFormula = Callable[[ClassSums], Gradient]
_RATIOS: Mapping[str, Ratio] = {
    "precision": PRECISION,
    "recall": RECALL,
    "f1": fbeta_ratio(1),
    "jaccard": JACCARD,
    "specificity": SPECIFICITY,
}
_MEANS = {f"{name}/macro": MeanRatio(ratio) for name, ratio in _RATIOS.items()}
for _name in ("precision", "f1", "jaccard"):
    _MEANS[f"{_name}/weighted"] = MeanRatio(_RATIOS[_name], by_targets=True)
_MEANS["mean_iou"] = _MEANS["jaccard/macro"]
_MEANS["dice"] = _MEANS["f1/macro"]
_OTHERS: Mapping[str, Callable[[ClassSums], tuple[Any, ...]]] = {
    "balanced_accuracy": lambda m: MeanRatio(
        RECALL, among=tuple(np.flatnonzero(m.actual).tolist())
    ).gradient(m),
    "mcc": mcc_and_slopes,
    "kappa": kappa_and_slopes,
}
PAIRED_SCORES = (*_MEANS, *_OTHERS)


def margins_of(
    target: Ints, predicted: Ints, classes: int, weight: Floats | None = None
) -> ClassSums:
    """Count rows, each one class from 0 to `classes` − 1; Σw where there are weights."""
    if weight is None:
        weight = np.ones(target.size)
    hit = target == predicted
    columns = ((target[hit], weight[hit]), (target, weight), (predicted, weight))
    hits, actual, guessed = (np.bincount(column, w, minlength=classes) for column, w in columns)
    return ClassSums.of_margins(hits, actual, guessed)


def score_formula(
    name: str, label: int | None = None, beta: float | None = None
) -> ScoreFormula | None:
    """The score of this name, or that of one class; None where there is no such formula."""
    slopes = _slopes_of(name, label, beta)
    if slopes is None:
        return None

    def formula(sums: ClassSums) -> Gradient:
        with np.errstate(all="ignore"):
            value, *moved = slopes(sums)
        hits, actual, predicted = map(np.nan_to_num, moved)
        return Gradient(float(value), hits, actual, predicted)

    return formula


def _slopes_of(
    name: str, label: int | None, beta: float | None
) -> Callable[[ClassSums], tuple[Any, ...]] | None:
    if beta is not None and name.startswith("fbeta"):
        ratio: Ratio | None = fbeta_ratio(beta)
        if label is None and name == "fbeta":  # of a yes-or-no metric
            label = 1
    else:
        ratio = _RATIOS.get(name)
        if label is None and name in _MEANS:
            return _MEANS[name].gradient
        if label is None:
            return _OTHERS.get(name)
    if ratio is None:
        return None
    among = None
    if label is not None:
        among = (label,)
    return MeanRatio(ratio, by_targets=name == "fbeta/weighted", among=among).gradient
