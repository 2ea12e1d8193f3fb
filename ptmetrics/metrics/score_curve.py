"""ROC curve, precision-recall curve and threshold table: what a histogram of scores says at every threshold."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.cell import State
from ptmetrics.counts.keys import CurveKeys, FloatKeys
from ptmetrics.counts.stored_scores import target_bits, unpack_scores
from ptmetrics.metrics.score_bins import KeptScores, ScoreBins

DOUBLE_BITS = 64
MOST_INT32 = 2**31


class RocCurve(NamedTuple):
    """One point a threshold, from none predicted positive to all; float64 on the CPU."""

    fpr: Tensor
    tpr: Tensor
    thresholds: Tensor


class PrecisionRecallCurve(NamedTuple):
    """One point a threshold, lowest first, and (1, 0) at the end, which has no threshold; float64 on the CPU."""

    precision: Tensor
    recall: Tensor
    thresholds: Tensor


class ThresholdTable(NamedTuple):
    """One row a threshold, lowest first; float64 on the CPU, NaN where undefined.

    A score counts as positive when it is `threshold` or more, in the unit of the predictions;
    `probability` is the same threshold as a probability. Counts are Σw where weights were given.
    """

    threshold: Tensor
    probability: Tensor
    tp: Tensor
    fp: Tensor
    tn: Tensor
    fn: Tensor
    precision: Tensor
    recall: Tensor
    specificity: Tensor
    npv: Tensor
    f1: Tensor


Points = TypeVar("Points", bound=tuple[Tensor, ...])


def thinned(points: Points, most: int = 200) -> Points:
    """At most so many points of a curve or a table, spread along the way it goes; the ends are kept.

    Each point is one of the given ones. A column that moves takes its share of the points, so that
    steep parts keep more of them than flat ones.

    Args:
        points: Columns of one number a point, such as a `RocCurve`; a last point may have no number
            in some of them, as in a `PrecisionRecallCurve`.
        most: Number of points, 2 or more.

    Example:
        >>> import torch
        >>> rate = torch.linspace(0, 1, 10_001, dtype=torch.float64)
        >>> curve = thinned(RocCurve(rate, rate.sqrt(), rate))
        >>> len(curve.fpr), float(curve.fpr[0]), float(curve.tpr[-1])
        (200, 0.0, 1.0)
    """
    size = max(map(len, points))
    if size <= most:
        return points
    travelled = torch.zeros(size, dtype=torch.float64)
    for column in points:
        steps = column.double().diff().abs().nan_to_num(0.0, 0.0)
        travelled[1 : len(column)] += steps / steps.sum().clamp(min=1e-300)
    travelled = travelled.cumsum(0)
    stops = torch.linspace(0, float(travelled[-1]), most, dtype=torch.float64)
    kept = torch.searchsorted(travelled, stops).clamp(max=size - 1)
    kept[-1] = size - 1
    kept = kept[kept.diff(prepend=kept[:1] - 1) > 0]
    columns = [column[kept[kept < len(column)]] for column in points]
    kind: Any = type(points)
    thinner: Points = kind(*columns)
    return thinner


@dataclass(frozen=True)
class ScoreCurve:
    """A copy of what was kept of the scores, from which curves are drawn when they are asked for.

    Attributes:
        kept: Counts or Σw of negatives and positives, of shape (rows, 2), as a histogram keeps
            them, or stored scores of shape (places,); one for each label or class in front where
            there are several; on any device.
        keys: What the rows of the histogram mean; None for stored scores.
        probs: Whether thresholds are probabilities, and not logits.
        weighted: Whether the counts are sums of weights, and not of samples.
        shift: What is added to the logit of a probability before it is looked up: for classes.
        classes: Of how many classes a stored target is one; 0 where it is 0 or 1.
        head: The class that targets are held against.
        margins: Whether stored scores are logits, to which `shift` was added, of probabilities.
    """

    kept: Tensor
    keys: CurveKeys | None
    probs: bool
    weighted: bool = False
    shift: float = 0.0
    classes: int = 0
    head: int = 0
    margins: bool = False

    @classmethod
    def of_kept(
        cls,
        scores: KeptScores,
        state: State,
        rows: int,
        *,
        probs: bool,
        shift: float = 0.0,
        margins: bool = False,
    ) -> "ScoreCurve":
        """A copy of what a metric keeps: of the scores themselves where they are all there.

        Args:
            scores: What is kept.
            state: The cells.
            rows: Number of rows that were counted.
            probs: Whether thresholds are probabilities.
            shift: As the attribute.
            margins: As the attribute.
        """
        name = scores.histogram.name
        stored = scores.stored(state)
        if stored is not None and bool(stored.all()):
            classes = scores.histogram.classes
            return cls(
                state["scores"].clone(), None, probs, shift=shift, classes=classes, margins=margins
            )
        weighted = f"{name}.weight" in state
        if weighted:
            kept = state[f"{name}.weight"].clone()
        elif rows < MOST_INT32:  # half the memory
            kept = state[name].int()
        else:
            kept = state[name].clone()
        return cls(kept, scores.histogram.keys, probs, weighted, shift)

    @property
    def heads(self) -> int:
        """How many labels or classes there is a curve of; 0 for one curve alone."""
        if self.kept.ndim > 1 + (self.keys is not None):
            return len(self.kept)
        return 0

    def of_head(self, place: int) -> "ScoreCurve":
        """The curve of one label or class."""
        return replace(self, kept=self.kept[place], head=place)

    def roc(self) -> RocCurve:
        """Points as `sklearn.metrics.roc_curve(..., drop_intermediate=False)`.

        One for each row that is not empty. Rates of an absent class are NaN. Thresholds are lower
        edges of rows, infinite for the first point.
        """
        t = self.table()
        negatives = t.fp + t.tn
        positives = t.tp + t.fn
        nothing = torch.zeros(1, dtype=torch.float64)
        fpr = torch.cat((nothing / negatives[:1].sum(), (t.fp / negatives).flip(0)))
        tpr = torch.cat((nothing / positives[:1].sum(), (t.tp / positives).flip(0)))
        return RocCurve(fpr, tpr, torch.cat((nothing + torch.inf, t.threshold.flip(0))))

    def macro_roc(self) -> RocCurve:
        """Mean of all curves' true positive rates at every false positive rate; without thresholds.

        Between its points each curve is a straight line. A curve without targets of both kinds is
        left out.
        """
        curves = [self.of_head(place).roc() for place in range(self.heads)]
        known = [curve for curve in curves if not (curve.fpr + curve.tpr).isnan().any()]
        nothing = torch.zeros(1, dtype=torch.float64)
        if not known:
            return RocCurve(nothing * torch.nan, nothing * torch.nan, nothing * torch.nan)
        fpr = torch.from_numpy(np.unique(torch.cat([curve.fpr for curve in known]).numpy()))
        tpr = np.mean([np.interp(fpr, curve.fpr, curve.tpr) for curve in known], 0)
        fpr = torch.cat((nothing, fpr))
        tpr = torch.cat((nothing, torch.from_numpy(tpr)))
        return RocCurve(fpr, tpr, torch.full_like(fpr, torch.nan))

    def precision_recall(self) -> PrecisionRecallCurve:
        """Points as `sklearn.metrics.precision_recall_curve`; recall is NaN without positives."""
        t = self.table()
        one = torch.ones(1, dtype=torch.float64)
        precision = torch.cat((t.precision, one))
        recall = torch.cat((t.recall, 0 * one))
        return PrecisionRecallCurve(precision, recall, t.threshold)

    def table(self) -> ThresholdTable:
        """Everything that follows from the four counts, for each row that is not empty."""
        kept = self.kept.cpu()
        if self.keys is None:
            score, target, real = unpack_scores(kept, target_bits(self.classes))
            if self.classes:
                target = (target == self.head).long()
            bins, values = ScoreBins.of_sorted(score, target, real)
            weight = bins.weight
            rows = weight.sum(1).nonzero().squeeze(1)
            threshold = values[rows]
            if self.margins:
                threshold = (threshold - self.shift).sigmoid()
        else:
            weight = kept[self.keys.order(kept.device)].double()
            rows = weight.sum(1).nonzero().squeeze(1)
            threshold = lower_edges(self.keys, rows, probs=self.probs, shift=self.shift)
        probability = threshold
        if not self.probs:
            probability = threshold.sigmoid()
        fp, tp = weight[rows].flip(0).cumsum(0).flip(0).unbind(1)
        negatives, positives = weight.sum(0)
        tn = negatives - fp
        fn = positives - tp
        return ThresholdTable(
            threshold,
            probability,
            tp,
            fp,
            tn,
            fn,
            precision=tp / (tp + fp),
            recall=tp / positives,
            specificity=tn / negatives,
            npv=tn / (tn + fn),
            f1=2 * tp / (2 * tp + fp + fn),
        )


def lower_edges(keys: CurveKeys, rows: Tensor, *, probs: bool, shift: float = 0.0) -> Tensor:
    """Smallest prediction of each row, by bisection over all doubles; a float32 where one is in the row.

    Args:
        keys: What a row means.
        rows: Numbers of rows, lowest score first, int64 on the CPU.
        probs: Whether predictions are probabilities, and not logits.
        shift: What is added to the logit of a probability.
    """
    low = torch.full_like(rows, _ordered(0.0 if probs else -torch.inf))
    high = torch.full_like(rows, _ordered(1.0 if probs else torch.inf))
    for _ in range(DOUBLE_BITS):
        middle = (low & high) + ((low ^ high) >> 1)
        enough = _row_of(keys, _double(middle), probs, shift) >= rows
        low = torch.where(enough, low, middle + 1).minimum(high)
        high = torch.where(enough, middle, high)
    edge = _double(high)
    single = edge.float()
    above = torch.nextafter(single, torch.full_like(single, torch.inf))
    single = torch.where(single.double() < edge, above, single).double()
    return torch.where(_row_of(keys, single, probs, shift) == rows, single, edge)


def _row_of(keys: CurveKeys, prediction: Tensor, probs: bool, shift: float) -> Tensor:
    if probs and isinstance(keys, FloatKeys):
        prediction = prediction.logit() + shift
    return keys.position(prediction)


def _ordered(x: float) -> int:
    """Doubles as integers in the same order."""
    bits = int(torch.tensor(x, dtype=torch.float64).view(torch.int64))
    if bits >= 0:
        return bits
    return -(2**63) - bits


def _double(ordered: Tensor) -> Tensor:
    smallest = torch.iinfo(torch.int64).min
    return torch.where(ordered >= 0, ordered, smallest - ordered).view(torch.float64)
