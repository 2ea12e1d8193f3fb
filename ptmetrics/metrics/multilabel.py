"""Scores of multilabel classification from counts a label and sums a row: pure functions on the device."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import mover, wilson

NO_SAMPLES = "no samples were counted"
NO_WHOLE_ROW = "no row with a label counted and none refused"
NO_LABEL = "no label is defined"
NO_ROW = "no row is defined"


@dataclass(frozen=True)
class Ratio:
    """A score that is one sum over another, of labels counted, predicted, actual and both ("hits").

    Attributes:
        name: For messages and columns.
        part: Weights of (counted, predicted, actual, hits) in the numerator.
        whole: Weights in the denominator.
        reason: Why it is undefined where the denominator is 0.
        doubled: Whether the score is 2r / (1 + r) of this ratio r, as F1 is of the Jaccard index.
        higher_is_better: Direction.
    """

    name: str
    part: tuple[int, ...]
    whole: tuple[int, ...]
    reason: str
    doubled: bool = False
    higher_is_better: bool = True

    def of(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator from sums of shape (…, 4, L); exact for counts."""
        return _weigh(self.part, sums), _weigh(self.whole, sums)

    def gain(self, r: Tensor) -> tuple[Tensor, ...]:
        """What the sums are multiplied with in numerator − r · denominator."""
        return tuple(part - r * whole for part, whole in zip(self.part, self.whole, strict=True))

    def through(self, r: Tensor) -> Tensor:
        """From the ratio, a proportion, to the score."""
        return 2 * r / (1 + r) if self.doubled else r


PRECISION = Ratio("precision", (0, 0, 0, 1), (0, 1, 0, 0), "the label was never predicted")
RECALL = Ratio("recall", (0, 0, 0, 1), (0, 0, 1, 0), "the label is absent from the targets")
JACCARD = Ratio(
    "jaccard", (0, 0, 0, 1), (0, 1, 1, -1), "the label is neither in the targets nor predicted"
)
F1 = Ratio("f1", JACCARD.part, JACCARD.whole, JACCARD.reason, doubled=True)
WRONG = Ratio("hamming_loss", (0, 1, 1, -2), (1, 0, 0, 0), NO_SAMPLES, higher_is_better=False)
RATIOS = (PRECISION, RECALL, F1, JACCARD)


@dataclass(frozen=True)
class Labels:
    """What was counted, of one evaluation or of many; Σw and Σw² equal the counts where no weights were given.

    Attributes:
        count: Int64 numbers of rows by label, (counted, predicted, actual, hits), shape (…, 4, L).
        weight: Σw of the same, float64.
        square: Σw² of the same, float64.
        together: Σw² of products of a row's numbers of labels, in the same order; shape (…, 4, 4).
        rows: Int64 numbers of rows with a label counted, intact ones, exact matches, and intact ones with a
            precision, recall, F1 and Jaccard index of their own; shape (…, 7).
        rows_weight: Σw of the same, float64.
        rows_square: Σw² of the same, float64.
        row_scores: Sums of these four scores, then of their squares, by w and by w²; shape (…, 8, 2).
        absent: Value of an undefined score; NaN leaves it out of averages.
    """

    count: Tensor
    weight: Tensor
    square: Tensor
    together: Tensor
    rows: Tensor
    rows_weight: Tensor
    rows_square: Tensor
    row_scores: Tensor
    absent: float = math.nan

    @property
    def n_rows(self) -> Tensor:
        """Kish's effective number of rows with a label counted."""
        return self.rows_weight[..., 0].square() / self.rows_square[..., 0]


def each(t: Labels, ratio: Ratio) -> Estimate:
    """The ratio of each label, shape (…, L). Wilson intervals, for F1 those of the Jaccard index mapped."""
    part, whole = ratio.of(t.weight)
    p, n = part / whole, whole.square() / ratio.of(t.square)[1]
    ends = wilson(p, n)
    values = (ratio.through(p), *map(ratio.through, ends))
    method = "wilson-jaccard" if ratio.doubled else "wilson"
    return _filled(t, ratio, values, ratio.of(t.count)[1], method)


def support(t: Labels) -> Estimate:
    """Weight of the rows that have each label, shape (L,); a count, with no interval."""
    actual = t.weight[..., 2, :]
    return Estimate(actual, actual, actual, t.count[..., 2, :], "count", RECALL.reason)


def micro(t: Labels, ratio: Ratio) -> Estimate:
    """The ratio over all labels at once; [0, 1], NaN where nothing can be counted.

    Labels of a row err together, so the variance is that of a ratio of sums over rows; the interval is Wilson's
    for the number of samples that this variance is worth (Korn and Graubard 1998), and for the number of rows
    where it is 0.
    """
    part, whole = (cells.sum(-1) for cells in ratio.of(t.weight))
    p = part / whole
    rows = t.n_rows
    variance = _row_variance(t, ratio, p) * rows / (rows - 1) / whole.square()
    worth = p * (1 - p) / variance
    ends = wilson(p, torch.where((variance > 0) & (worth > 0), worth, torch.minimum(rows, whole)))
    values = (ratio.through(p), *map(ratio.through, ends))
    return _filled(t, ratio, values, t.rows[..., 0], "wilson-clustered")


def macro(t: Labels, ratio: Ratio) -> Estimate:
    """Unweighted mean over the labels where the ratio is defined. MOVER interval, see `_mean`."""
    return _mean(t, ratio, torch.ones_like(t.weight[..., 0, :]))


def weighted(t: Labels, ratio: Ratio) -> Estimate:
    """Mean over the defined labels, weighted by how often each is in the targets. MOVER interval, see `_mean`."""
    return _mean(t, ratio, t.weight[..., 2, :])


def samples(t: Labels, index: int, ratio: Ratio) -> Estimate:
    """Mean over the intact rows of the ratio within each row; rows where it is undefined are left out.

    Args:
        t: What was counted.
        index: Which of the row scores.
        ratio: The ratio that it is.
    """
    rows = [x[..., 3 + index] for x in (t.rows, t.rows_weight, t.rows_square)]
    (wx, w2x), (_, w2x2) = (t.row_scores[..., i, :].unbind(-1) for i in (index, 4 + index))
    if not math.isnan(t.absent):
        intact = [x[..., 1] for x in (t.rows, t.rows_weight, t.rows_square)]
        gap, gap2 = intact[1] - rows[1], intact[2] - rows[2]
        wx, w2x, w2x2 = wx + t.absent * gap, w2x + t.absent * gap2, w2x2 + t.absent**2 * gap2
        rows = intact
    n, w, w2 = rows
    mean = (wx / w).clamp(0, 1)
    spread = (w2x2 - 2 * mean * w2x + mean * mean * w2).clamp(min=0)
    effective = w.square() / w2
    variance = spread * effective / (effective - 1) / w.square()
    worth = mean * (1 - mean) / variance
    ends = wilson(mean, torch.where((variance > 0) & (worth > 0), worth, effective))
    return Estimate(mean, *ends, n, "wilson-effective", NO_ROW, ratio.higher_is_better)


def exact_match(t: Labels) -> Estimate:
    """Share of intact rows with every counted label right; rises, [0, 1], NaN for none. Wilson interval.

    Ignored labels have no say. A row with a refused label is left out: nobody knows whether it matches.
    """
    intact = t.rows_weight[..., 1]
    p = t.rows_weight[..., 2] / intact
    ends = wilson(p, intact.square() / t.rows_square[..., 1])
    return Estimate(p, *ends, t.rows[..., 1], "wilson", NO_WHOLE_ROW)


def _mean(t: Labels, ratio: Ratio, share: Tensor) -> Estimate:
    """Mean over labels. Its interval takes the labels' ends as those of independent samples of a smaller size.

    How much smaller is the design effect: the variance of a row's total error against the sum of its labels'.
    It is 1 for labels that err on their own, and up to the number of labels where one is wrong as all are.

    Source: Zou and Donner 2008; Kish 1965 for the design effect.
    """
    part, whole = ratio.of(t.weight)
    p = part / whole
    n = whole.square() / ratio.of(t.square)[1] / _design_effect(t, ratio, p).unsqueeze(-1)
    if not math.isnan(t.absent):  # a constant has no doubt
        filled = torch.full_like(p, t.absent / (2 - t.absent) if ratio.doubled else t.absent)
        p, n = torch.where(p.isnan(), filled, p), torch.where(p.isnan(), 0.0, n)
    values = mover(p, n, share, ratio.through)
    return Estimate(*values, t.rows[..., 0], "mover-clustered", NO_LABEL, ratio.higher_is_better)


def _design_effect(t: Labels, ratio: Ratio, p: Tensor) -> Tensor:
    part, whole = ratio.of(t.weight)
    counted, predicted, actual, hits = t.square.unbind(-2)
    kinds = torch.stack(
        (counted - predicted - actual + hits, predicted - hits, actual - hits, hits), -2
    )  # TN FP FN TP
    one, said, true, hit = ratio.gain(p.nan_to_num(0.0))
    gain = torch.stack((one, one + said, one + true, one + said + true + hit), -2)
    alone = (kinds.clamp(min=0) * gain.square()).sum((-2, -1))
    labels = t.weight[..., 0, :].sum(-1) / t.rows_weight[..., 0]  # a row: the most that it can be
    effect = _row_variance(t, ratio, part.sum(-1) / whole.sum(-1)) / alone
    return torch.where(alone > 0, torch.minimum(effect.clamp(min=1), labels.clamp(min=1)), labels)


def _row_variance(t: Labels, ratio: Ratio, p: Tensor) -> Tensor:
    """Σw² of a row's numerator − p · denominator, squared."""
    gain = torch.stack(ratio.gain(p), -1)
    return (gain.unsqueeze(-2) @ t.together @ gain.unsqueeze(-1)).clamp(min=0)[..., 0, 0]


def _weigh(weights: tuple[int, ...], sums: Tensor) -> Tensor:
    rows = [weight * row for weight, row in zip(weights, sums.unbind(-2), strict=True) if weight]
    return torch.stack(rows).sum(0)


def _filled(
    t: Labels, ratio: Ratio, values: tuple[Tensor, ...], n: Tensor, method: str
) -> Estimate:
    """Put `absent` where the value is undefined; its interval is the value itself, as for any constant."""
    undefined = torch.isnan(values[0])
    value, low, high = (torch.where(undefined, t.absent, v) for v in values)
    return Estimate(value, low, high, n, method, ratio.reason, ratio.higher_is_better)
