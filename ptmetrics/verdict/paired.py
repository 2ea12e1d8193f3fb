"""Two evaluations on the same samples: tests in which what makes a sample easy or hard cancels."""

from dataclasses import dataclass
from math import erfc, isnan, nan, sqrt

import numpy as np

from ptmetrics.record.samples import CLASS_ROW, Rows
from ptmetrics.verdict.distributions import student_t_quantile, student_t_upper
from ptmetrics.verdict.finding import Z95, Estimate
from ptmetrics.verdict.influence import SCORES, Floats, Margins, Score, class_score
from ptmetrics.verdict.samples import CannotPairError, Sampled, aligned, known, losses_of
from ptmetrics.verdict.two_samples import bonett_price, mid_p_better

MCNEMAR, INFLUENCE, STUDENT = (
    "bonett-price, paired",
    "influence function, paired",
    "student t, paired",
)
MOST_CLASSES = 200_000
_IS_ACCURACY = ("accuracy", "precision/micro", "recall/micro", "f1/micro", "recall/weighted")
_BINARY = {"precision": ("precision", 1), "recall": ("recall", 1), "f1": ("f1", 1), "jaccard": ("jaccard", 1),
           "specificity": ("recall", 0), "npv": ("precision", 0)}  # fmt: skip
_SAME = 1e-6  # a recorded score and that of the kept rows


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two scores with its interval.

    Args:
        p: Two-sided p-value of no difference; NaN where nothing was tested.
        paired: Whether the two were held against each other sample by sample.
        unpaired: Why they were not, as the end of a sentence; None where they were, or where seeds are compared.
    """

    p: float = nan
    paired: bool = False
    unpaired: str | None = None


def paired_difference(first: Estimate, second: Estimate) -> Difference | str:
    """First minus second on the same samples, or why it cannot be told.

    Accuracy, and what is one of some rows: McNemar's mid-p test and Bonett and Price's interval. Other scores of the
    confusion matrix: by each sample's influence. Mean losses and errors: Student's t on the differences.

    Source: Fagerland et al. 2013; Bonett and Price 2012; the delta method on paired influence functions.
    """
    if not isinstance(first, Sampled) or not isinstance(second, Sampled):
        return "the record holds no samples of one of them"
    try:
        rows = known(first.kept(), "first run"), known(second.kept(), "second run")
        return _compared((first, second), *aligned(*rows))
    except CannotPairError as why:
        return str(why)


def _compared(sides: tuple[Sampled, Sampled], first: Rows, second: Rows) -> Difference:
    name, label = sides[0].score, sides[0].label
    if (sides[1].score, sides[1].label) != (name, label):
        raise CannotPairError("they are different scores")
    if name in ("loss", "nll") or first.dtype != CLASS_ROW:
        return _means(name, sides, first, second)
    if (
        max(
            int(side[column].max())
            for side in (first, second)
            for column in ("predicted", "target")
        )
        >= MOST_CLASSES
    ):
        raise CannotPairError(f"there are more than {MOST_CLASSES} classes")
    if name in _BINARY:
        name, label = _BINARY[name] if label is None else (name, label)
    if name == "recall" and label is not None:
        inside = first["target"] == label
        return _hits(sides, first[inside], second[inside])
    if name in _IS_ACCURACY or name == "hamming_loss":
        return _hits(sides, first, second, lower=name == "hamming_loss")
    score = class_score(name, label) if label is not None else SCORES.get(name)
    if score is None:
        raise CannotPairError(f"there is no paired test for {sides[0].score}")
    return _influence(score, sides, first, second)


def _hits(
    sides: tuple[Sampled, Sampled], first: Rows, second: Rows, *, lower: bool = False
) -> Difference:
    """A share of right rows; of wrong ones where `lower`."""
    right, other = ((side["predicted"] == side["target"]) != lower for side in (first, second))
    n = right.size
    if not n:
        raise CannotPairError("no sample counts")
    _same_as_recorded(sides, float(right.mean()), float(other.mean()))
    wins, losses = int((right & ~other).sum()), int((other & ~right).sum())
    p = min(1.0, 2 * min(mid_p_better(wins, losses), mid_p_better(losses, wins)))
    return Difference(
        (wins - losses) / n, *bonett_price(wins, losses, n, Z95), n, MCNEMAR, p=p, paired=True
    )


def _influence(
    score: Score, sides: tuple[Sampled, Sampled], first: Rows, second: Rows
) -> Difference:
    columns = [
        (side["target"].astype(np.int64), side["predicted"].astype(np.int64))
        for side in (first, second)
    ]
    classes = 1 + max(int(column.max()) for pair in columns for column in pair)
    margins = [Margins.of(*pair, classes) for pair in columns]
    gradients = [score(m) for m in margins]
    _same_as_recorded(sides, *(gradient.value for gradient in gradients))
    gaps = gradients[0].at(*columns[0]) - gradients[1].at(*columns[1])
    # As in Bonett and Price: one row more on which only the first is right, and one on which only the second is.
    more = sum(gradient.discordant(m) for gradient, m in zip(gradients, margins, strict=True))
    error = sqrt(float(gaps @ gaps) + more)
    value = gradients[0].value - gradients[1].value
    p = erfc(abs(value) / error / sqrt(2.0)) if error else nan
    return Difference(
        value, value - Z95 * error, value + Z95 * error, gaps.size, INFLUENCE, p=p, paired=True
    )


def _means(name: str, sides: tuple[Sampled, Sampled], first: Rows, second: Rows) -> Difference:
    """Differences of a mean over the samples, or of the root of one."""
    if name in ("loss", "nll"):
        parts = [
            losses_of(rows, side.value) for rows, side in zip((first, second), sides, strict=True)
        ]
    else:
        if name not in ("mse", "rmse", "mae", "bias"):
            raise CannotPairError(f"there is no paired test for {name}")
        errors = first["error"], second["error"]
        parts = [
            error if name == "bias" else np.abs(error) if name == "mae" else error**2
            for error in errors
        ]
    means = [float(part.mean()) for part in parts]
    if name == "rmse":
        means = [sqrt(mean) for mean in means]
        if not min(means) > 0:
            raise CannotPairError("one of them makes no error at all")
        parts = [part / (2 * mean) for part, mean in zip(parts, means, strict=True)]
    if name not in ("loss", "nll"):
        _same_as_recorded(sides, *means)
    return _student(means[0] - means[1], parts[0] - parts[1])


def _student(value: float, gaps: Floats) -> Difference:
    n = gaps.size
    if n < 2:
        raise CannotPairError("one sample has no spread")
    error = float(gaps.std(ddof=1)) / sqrt(n)
    half = student_t_quantile(0.975, n - 1) * error
    p = min(1.0, 2 * student_t_upper(abs(value) / error, n - 1)) if error else float(value == 0)
    return Difference(value, value - half, value + half, n, STUDENT, p=p, paired=True)


def _same_as_recorded(sides: tuple[Sampled, Sampled], *values: float) -> None:
    for side, value in zip(sides, values, strict=True):
        if isnan(value) or not abs(value - side.value) <= _SAME * max(1.0, abs(side.value)):
            raise CannotPairError(f"the kept samples do not give the recorded {side.score}")
