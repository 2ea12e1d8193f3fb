"""ROC curve, precision-recall curve and threshold table: what a histogram of scores says at every threshold."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts.keys import CurveKeys, FloatKeys

DOUBLE_BITS = 64


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

    A score counts as positive when it is `threshold` or more, in the unit of the predictions; `probability` is the
    same threshold as a probability. Counts are Σw where weights were given.
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


@dataclass(frozen=True)
class ScoreCurve:
    """A copy of the counts by score, from which curves are drawn when they are asked for.

    Attributes:
        weight: Σw of negatives and positives, lowest score first, float64 of shape (rows, 2), on any device.
        rows: What the rows are: their keys, or their values of shape (rows,).
        probs: Whether predictions are probabilities, and not logits.
        weighted: Whether Σw is not the number of samples.
    """

    weight: Tensor
    rows: CurveKeys | Tensor
    probs: bool
    weighted: bool = False

    def roc(self) -> RocCurve:
        """Points as `sklearn.metrics.roc_curve(..., drop_intermediate=False)`: one for each non-empty row.

        Rates of an absent class are NaN. Thresholds are lower edges of rows, infinite for the first point.
        """
        t = self.table()
        ends = torch.zeros(1, dtype=torch.float64)
        fpr, tpr = (t.fp / (t.fp + t.tn)).flip(0), (t.tp / (t.tp + t.fn)).flip(0)
        start_n, start_p = ends / (t.fp + t.tn)[:1].sum(), ends / (t.tp + t.fn)[:1].sum()
        thresholds = torch.cat((ends + torch.inf, t.threshold.flip(0)))
        return RocCurve(torch.cat((start_n, fpr)), torch.cat((start_p, tpr)), thresholds)

    def precision_recall(self) -> PrecisionRecallCurve:
        """Points as `sklearn.metrics.precision_recall_curve`; recall is NaN without positives."""
        t = self.table()
        one = torch.ones(1, dtype=torch.float64)
        return PrecisionRecallCurve(
            torch.cat((t.precision, one)), torch.cat((t.recall, 0 * one)), t.threshold
        )

    def table(self) -> ThresholdTable:
        """Everything that follows from the four counts, for each non-empty row."""
        weight = self.weight.cpu()
        rows = weight.sum(1).nonzero().squeeze(1)
        fp, tp = weight[rows].flip(0).cumsum(0).flip(0).unbind(1)
        negatives, positives = weight.sum(0)
        tn, fn = negatives - fp, positives - tp
        threshold = self._thresholds(rows)
        return ThresholdTable(
            threshold, threshold if self.probs else threshold.sigmoid(), tp, fp, tn, fn,
            precision=tp / (tp + fp), recall=tp / positives, specificity=tn / negatives,
            npv=tn / (tn + fn), f1=2 * tp / (2 * tp + fp + fn),
        )  # fmt: skip

    def _thresholds(self, rows: Tensor) -> Tensor:
        if isinstance(self.rows, Tensor):
            return self.rows.cpu()[rows]
        return lower_edges(self.rows, rows, probs=self.probs)


def lower_edges(keys: CurveKeys, rows: Tensor, *, probs: bool) -> Tensor:
    """Smallest prediction of each row, by bisection over all doubles; a float32 where one is in the row.

    Args:
        keys: What a row means.
        rows: Numbers of rows, lowest score first, int64 on the CPU.
        probs: Whether predictions are probabilities, and not logits.
    """

    def row(prediction: Tensor) -> Tensor:
        return keys.position(
            prediction.logit() if probs and isinstance(keys, FloatKeys) else prediction
        )

    low = torch.full_like(rows, _ordered(0.0 if probs else -torch.inf))
    high = torch.full_like(rows, _ordered(1.0 if probs else torch.inf))
    for _ in range(DOUBLE_BITS):
        middle = (low & high) + ((low ^ high) >> 1)
        enough = row(_double(middle)) >= rows
        low, high = (
            torch.where(enough, low, middle + 1).minimum(high),
            torch.where(enough, middle, high),
        )
    edge = _double(high)
    single = edge.float()
    above = torch.nextafter(single, torch.full_like(single, torch.inf))
    single = torch.where(single.double() < edge, above, single).double()
    return torch.where(row(single) == rows, single, edge)


def _ordered(x: float) -> int:
    """Doubles as integers in the same order."""
    bits = int(torch.tensor(x, dtype=torch.float64).view(torch.int64))
    return bits if bits >= 0 else -(2**63) - bits


def _double(ordered: Tensor) -> Tensor:
    smallest = torch.iinfo(torch.int64).min
    return torch.where(ordered >= 0, ordered, smallest - ordered).view(torch.float64)
