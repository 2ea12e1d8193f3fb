"""`ScoreBins`: what a histogram of scores says of AUROC and average precision, on its device.

Rows of a histogram are in the order of the scores, so only samples that share a row can be out of
order. What they could do at worst is the bound; nothing is assumed about the scores.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ptmetrics.counts.batch import Counted
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.score_histogram import ScoreHistogram
from ptmetrics.counts.stored_scores import StoredScores, unpack_scores
from ptmetrics.counts.stored_sums import StoredSums
from ptmetrics.metrics.fixed_points import FixedPoint, numbers_at

SUMMARY = ".summary"
"""What the name of a histogram ends with where it was summed up on the device."""
ONE_VS_ONE = ".ovo"
"""What the name of a histogram ends with where each two classes were compared on the device."""
MOST_OVO = 100  # classes whose pairs are compared, where scores are stored
BASE = 10  # numbers of a summary before those of the points that were asked for
BINS_AT_ONCE = 1 << 18  # bounds the memory that a summary takes for a moment


@dataclass(frozen=True)
class ScoreBins:
    """A histogram of scores, lowest first: counts, Σw and Σw² of negatives and positives.

    Attributes:
        count: Int64 of shape (…, rows, 2).
        weight: Float64 of the same shape.
        square: Float64 of the same shape.
        tied: Bool of shape (…, rows): whether all scores of the row are equal.
        exact: Bool of shape (…, rows): whether they are the row's own value.
    """

    count: Tensor
    weight: Tensor
    square: Tensor
    tied: Tensor
    exact: Tensor

    @classmethod
    def of_histogram(
        cls, state: State, histogram: ScoreHistogram, heads: slice = slice(None)
    ) -> "ScoreBins":
        """Read a histogram in the order of its scores; of several, those of some heads."""
        name = histogram.name
        order = histogram.keys.order(state[name].device)

        def ordered(key: str) -> Tensor:
            cell = state[key]
            if histogram.heads:
                cell = cell[heads]
            return cell[..., order, :]

        count = ordered(name)
        weight = count.double()
        square = weight
        if f"{name}.weight" in state:
            weight = ordered(f"{name}.weight")
            square = ordered(f"{name}.square")
        tied, exact = histogram.ties_of_rows(state, heads)
        return cls(count, weight, square, tied[..., order], exact[..., order])

    @classmethod
    def of_stored(cls, stored: Tensor) -> tuple["ScoreBins", Tensor]:
        """One row for each value of the stored scores, so that nothing is inexact; and the values."""
        return cls.of_sorted(*unpack_scores(stored))

    @classmethod
    def of_sorted(cls, score: Tensor, target: Tensor, real: Tensor) -> tuple["ScoreBins", Tensor]:
        """The same of sorted scores of shape (…, places), their targets 0 and 1, and whether they are taken."""
        first = torch.cat((real[..., :1], score[..., 1:] != score[..., :-1]), -1).long()
        row = first.cumsum(-1) - first[..., :1]
        count = torch.zeros_like(row).repeat_interleave(2, -1)
        count = count.scatter_add_(-1, 2 * row + target, real.long())
        count = count.view(*row.shape, 2)
        values = torch.full_like(score, torch.inf).scatter_(-1, row, score)
        weight = count.double()
        tied = torch.ones_like(real)
        return cls(count, weight, weight, tied, tied), values

    def without_gaps(self) -> "ScoreBins":
        """Without rows that are empty, which change no score; as it is where the host cannot look."""
        if not in_memory(self.count):
            return self
        taken = self.count.reshape(-1, *self.count.shape[-2:]).any(-1).any(0)
        taken[0] = True  # one row at least
        weight = self.weight[..., taken, :]
        square = weight
        if self.square is not self.weight:
            square = self.square[..., taken, :]
        count = self.count[..., taken, :]
        return ScoreBins(count, weight, square, self.tied[..., taken], self.exact[..., taken])

    def summary(self, at: tuple[FixedPoint, ...] = ()) -> Tensor:
        """All that scores of a curve need on the host, float64 of shape (10 + 5 · points, …).

        The number of samples, effective numbers of negatives and positives, value, variance and
        bound of AUROC and of average precision, Σw of the positives; then those of each point.
        """
        negatives, positives = (self.weight.sum(-2).square() / self.square.sum(-2)).unbind(-1)
        n = self.count.sum((-1, -2)).double()
        base = (n, negatives, positives, *_auroc(self), *_average_precision(self))
        numbers = [*base, self.weight[..., 1].sum(-1)]
        for point in at:
            numbers.extend(numbers_at(point, self.weight, self.square, self.tied))
        return torch.stack(numbers)


@dataclass(frozen=True)
class KeptScores:
    """What a metric keeps of scores, a histogram and perhaps the scores themselves, and its summary.

    Attributes:
        histogram: The histogram, one or one for each label or class.
        store: Room for the scores themselves; None for none.
        at: Points of the curves that are asked for.
    """

    histogram: ScoreHistogram
    store: StoredScores | None = None
    at: tuple[FixedPoint, ...] = ()

    def cells(self) -> list[Cell]:
        """Those of both."""
        cells = self.histogram.cells()
        if self.store is not None:
            cells.extend(self.store.cells())
        return cells

    def store_scores(
        self, state: State, score: Tensor, target: Tensor, counted: Tensor | None
    ) -> dict[str, Counted]:
        """What `StoredScores.count` says, if scores are stored."""
        if self.store is None:
            return {}
        return self.store.count(state["scores_seen"], score, target, counted)

    def stored_relations(self, sums: StoredSums, counted: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What must hold of stored cells, given how many scores there are."""
        yield from self.histogram.stored_relations(sums, counted)
        if self.store is not None:
            yield from self.store.stored_relations(sums, counted)

    def stores(self, state: State) -> bool:
        """Whether stored scores may be used: those that carry weights are read off the histogram."""
        return self.store is not None and f"{self.histogram.name}.weight" not in state

    def summarize(self, state: State) -> State:
        """The state with a summary in the place of the cells, which are large."""
        small = without_histogram(state, self.histogram)
        small.pop("scores", None)
        small[self.histogram.name + SUMMARY] = self.summary(state)
        if self.store is not None and 0 < self.store.classes <= MOST_OVO:
            small[self.histogram.name + ONE_VS_ONE] = self._one_vs_one(state)
        return small

    def summary(self, state: State) -> Tensor:
        """The summary, of shape (10 + 5 · points,), or (…, heads + 1) with all heads together at the end."""
        histogram = self.histogram

        def of_histogram(heads: slice) -> ScoreBins:
            return ScoreBins.of_histogram(state, histogram, heads)

        found = self._summary_of(of_histogram, histogram.keys.rows, lambda: self._pooled(state))
        if not self.stores(state):
            return found
        places = state["scores"].shape[-1]
        exact = self._summary_of(
            lambda heads: self._of_store(state, heads), places, lambda: self._pooled_store(state)
        )
        fits = state["scores_seen"] < places
        if histogram.heads:
            fits = torch.cat((fits, fits.all(0, keepdim=True)))
        return torch.where(fits, exact, found)

    def _summary_of(
        self,
        bins_of: Callable[[slice], ScoreBins],
        rows: int,
        pooled: Callable[[], ScoreBins],
    ) -> Tensor:
        if not self.histogram.heads:
            return bins_of(slice(None)).without_gaps().summary(self.at)
        size = max(1, BINS_AT_ONCE // rows)
        some = [
            bins_of(slice(first, first + size)).without_gaps().summary(self.at)
            for first in range(0, self.histogram.heads[0], size)
        ]
        some.append(pooled().without_gaps().summary(self.at).unsqueeze(1))
        return torch.cat(some, 1)

    def _pooled(self, state: State) -> ScoreBins:
        alone = replace(self.histogram, heads=())
        sums = {
            name: cell.sum(0)
            for name, cell in state.items()
            if name.partition(".")[0] in (alone.name, alone.ties)
        }
        return ScoreBins.of_histogram(sums, alone)

    def _unpacked(self, state: State, heads: slice) -> tuple[Tensor, Tensor, Tensor]:
        assert self.store is not None  # it stores
        stored = state["scores"]
        if self.store.heads:
            stored = stored[heads]
        score, target, real = unpack_scores(stored, self.store.bits)
        if self.store.classes:
            head = torch.arange(self.store.classes, device=stored.device)[heads]
            target = (target == head.unsqueeze(1)).long()
        return score, target, real

    def _of_store(self, state: State, heads: slice) -> ScoreBins:
        return ScoreBins.of_sorted(*self._unpacked(state, heads))[0]

    def _pooled_store(self, state: State) -> ScoreBins:
        score, target, real = (x.reshape(-1) for x in self._unpacked(state, slice(None)))
        score, order = torch.where(real, score, torch.inf).sort()
        return ScoreBins.of_sorted(score, target[order], real[order])[0]

    def _one_vs_one(self, state: State) -> Tensor:
        """Chance that a row of class a has a higher score for a than one of class b, and rows of each.

        Float64 of shape (C + 1, C), the rows last; NaN where scores are not all stored.
        """
        assert self.store is not None  # it stores
        classes = self.store.classes
        stored = state["scores"]
        areas = []
        n = torch.zeros(classes, dtype=torch.float64, device=stored.device)
        for a in range(classes):
            score, label, real = unpack_scores(stored[a], self.store.bits)
            row = torch.cat((real[:1], score[1:] != score[:-1])).cumsum(0) - 1
            count = torch.zeros(len(row), classes, dtype=torch.float64, device=stored.device)
            place = row.clamp(min=0) * classes + label
            count.view(-1).scatter_add_(0, place.clamp(max=count.numel() - 1), real.double())
            n = count.sum(0)
            below = count.cumsum(0) - count / 2
            areas.append((count[:, a : a + 1] * below).sum(0) / (n[a] * n))
        found = torch.cat((torch.stack(areas), n.unsqueeze(0)))
        known = (state["scores_seen"] < stored.shape[-1]).all()
        if f"{self.histogram.name}.weight" in state:
            known = torch.zeros_like(known)
        return torch.where(known, found, torch.nan)


def without_histogram(state: State, histogram: ScoreHistogram) -> State:
    """The state without the histogram's cells, which are large."""
    names = (histogram.name, histogram.ties)
    return {name: cell for name, cell in state.items() if name.partition(".")[0] not in names}


def _auroc(bins: ScoreBins) -> tuple[Tensor, Tensor, Tensor]:
    """Area, its variance, and the bound of its numerical error."""
    n, p = bins.weight.unbind(-1)
    n_square, p_square = bins.square.unbind(-1)
    negatives = n.sum(-1)
    positives = p.sum(-1)
    below = (n.cumsum(-1) - n / 2) / negatives.unsqueeze(
        -1
    )  # share of the negatives below a positive
    above = (positives.unsqueeze(-1) - p.cumsum(-1) + p / 2) / positives.unsqueeze(-1)
    area = (p * below).sum(-1) / positives
    off = area.unsqueeze(-1)
    of_positives = (p_square * (below - off).square()).sum(-1) / _degrees(positives, p_square)
    of_negatives = (n_square * (above - off).square()).sum(-1) / _degrees(negatives, n_square)
    pairs = (p * n).masked_fill(bins.tied, 0.0).sum(-1)
    return area, of_positives + of_negatives, pairs / (2 * positives * negatives)


def _average_precision(bins: ScoreBins) -> tuple[Tensor, Tensor, Tensor]:
    """Value, its variance, and the bound of its numerical error."""
    d = Descent.of_bins(bins)
    positives = d.tp[..., -1]
    lowest, middle, highest = _certain(bins, d)
    block = d.sum(d.p * d.tp / (d.tp + d.fp))
    half = torch.maximum(highest - middle, middle - lowest)
    return middle / positives, _variance(bins, d, block / positives), half / positives


@dataclass(frozen=True)
class Descent:
    """Rows from the highest score to the lowest, and what is predicted positive down to each; float64 (…, rows).

    Attributes:
        p: Σw of positives of the row.
        n: Σw of negatives of the row.
        tp: Σw of positives down to the end of the row.
        fp: Σw of negatives down to the end of the row.
    """

    p: Tensor
    n: Tensor
    tp: Tensor
    fp: Tensor

    @classmethod
    def of_bins(cls, bins: ScoreBins) -> "Descent":
        """Turn the rows round."""
        n, p = (w.flip(-1) for w in bins.weight.unbind(-1))
        return cls(p, n, p.cumsum(-1), n.cumsum(-1))

    def sum(self, at_positives: Tensor) -> Tensor:
        """Sum over the rows that hold positives; elsewhere the terms may be NaN."""
        return torch.where(self.p > 0, at_positives, 0.0).sum(-1)


def _degrees(total: Tensor, squares: Tensor) -> Tensor:
    return total.square() - squares.sum(-1)  # n · (n − 1) without weights


def _certain(bins: ScoreBins, d: Descent) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the precision at each positive: the least that it can be, a likely value, and the most."""
    tp, fp = (d.tp - d.p).clamp(min=0), (d.fp - d.n).clamp(min=0)  # before the row
    count, square = bins.count[..., 1].flip(-1), bins.square[..., 1].flip(-1)
    unit = d.p / count
    last = d.p - d.fp * _digamma_step(
        (tp + d.fp) / unit + 1, d.p / unit
    )  # positives one by one, behind …
    first = d.p - fp * _digamma_step(
        (tp + fp) / unit + 1, d.p / unit
    )  # … or before the negatives of the row
    # Unequal weights in one row: the integral lies below every order that they can come in.
    smooth = torch.where(d.fp > 0, d.p - d.fp * torch.log1p(d.p / (tp + d.fp)), d.p)
    lowest = torch.where(count * square <= d.p.square(), last, smooth)
    tie = d.p * d.tp / (d.tp + d.fp)
    known = bins.tied.flip(-1)
    each = (lowest, (last + first) / 2, d.p * d.tp / (d.tp + fp))
    least, middle, most = (d.sum(torch.where(known, tie, x)) for x in each)
    return least, middle, most


def _digamma_step(x: Tensor, step: Tensor) -> Tensor:
    """ψ(x + step) − ψ(x) for x ≥ 1: by its series where x is large, for a difference would lose all digits."""
    y = x + step
    a, b = 1 / x, 1 / y
    squares = (a + b) * (a - b)
    series = torch.log1p(step * a) + (a - b) / 2 + squares * (1 / 12 - (a * a + b * b) / 120)
    return torch.where(x > 100, series, torch.digamma(y) - torch.digamma(x))


def _variance(bins: ScoreBins, d: Descent, mean: Tensor) -> Tensor:
    """Variance by the gradient in the counts: one more sample moves the precision of all rows below it."""
    positives = d.tp[..., -1:]
    total = d.tp + d.fp
    share = torch.where(d.p > 0, d.p / total.square(), 0.0)
    precision = torch.where(d.p > 0, d.tp / total, 0.0)
    of_p = precision - mean.unsqueeze(-1) + _from_here(share * d.fp)
    of_n = _from_here(share * d.tp)
    n_square, p_square = (s.flip(-1) for s in bins.square.unbind(-1))
    spread = p_square * of_p.square() + n_square * of_n.square()
    return (spread / positives.square()).sum(-1)


def _from_here(x: Tensor) -> Tensor:
    return x.flip(-1).cumsum(-1).flip(-1)
