"""`ScoreBins`: what a histogram of scores says of AUROC and average precision, on its device.

Rows of a histogram are in the order of the scores, so only samples that share a row can be out of
order. What they could do at worst is the bound; nothing is assumed about the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.score_histogram import ScoreHistogram, tied_rows
from ptmetrics.counts.stored_scores import StoredScores, unpack_scores
from ptmetrics.counts.stored_sums import StoredSums

SUMMARY = ".summary"
"""What the name of a histogram ends with where it was summed up on the device."""
ONE_VS_ONE = ".ovo"
"""What the name of a histogram ends with where each two classes were compared on the device."""
MOST_OVO = 32  # classes whose pairs are compared, where scores are stored
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
    ) -> ScoreBins:
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
        tied, exact = tied_rows(count.sum(-1), ordered(histogram.ties))
        return cls(count, weight, square, tied, exact)

    @classmethod
    def of_sorted(cls, score: Tensor, target: Tensor, real: Tensor) -> tuple[ScoreBins, Tensor]:
        """One row for each value, so that nothing is inexact; and the values.

        Args:
            score: Sorted scores, float64 of shape (…, places).
            target: Their targets 0 and 1, int64.
            real: Which places are taken, bool.
        """
        first = torch.cat((real[..., :1], score[..., 1:] != score[..., :-1]), -1).long()
        row = first.cumsum(-1) - first[..., :1]
        count = torch.zeros_like(row).repeat_interleave(2, -1)
        count = count.scatter_add_(-1, 2 * row + target, real.long())
        count = count.view(*row.shape, 2)
        values = torch.full_like(score, torch.inf).scatter_(-1, row, score)
        weight = count.double()
        tied = torch.ones_like(real)
        return cls(count, weight, weight, tied, tied), values

    def without_gaps(self) -> ScoreBins:
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

    def sizes(self) -> Tensor:
        """Effective numbers of negatives and positives, of shape (2, …)."""
        return (self.weight.sum(-2).square() / self.square.sum(-2)).movedim(-1, 0)

    def summary(self, at: tuple[Any, ...] = ()) -> Tensor:
        """All that scores of a curve need on the host, float64 of shape (10 + 5 · points, …).

        The number of samples, effective numbers of negatives and positives, value, variance and
        bound of AUROC and of average precision, Σw of the positives; then those of each point.
        """
        bins = self.without_gaps()
        n = bins.count.sum((-1, -2)).double()
        numbers = [n, *bins.sizes(), *area_up_to(bins), *_average_precision(bins)]
        numbers.append(bins.weight[..., 1].sum(-1))
        for point in at:
            numbers.extend(point.numbers(bins))
        return torch.stack(numbers)


@dataclass(frozen=True)
class KeptScores:
    """What a metric keeps of scores, a histogram and perhaps the scores themselves, and its summary.

    Attributes:
        histogram: The histogram, one or one for each label or class.
        store: Room for the scores themselves; None for none.
        at: Points of the curves that are asked for, each a `FixedPoint`.
        among: The labels or classes that averages are over; None for all.
    """

    histogram: ScoreHistogram
    store: StoredScores | None = None
    at: tuple[Any, ...] = ()
    among: tuple[int, ...] | None = None

    def cells(self) -> list[Cell]:
        """Those of both."""
        cells = self.histogram.cells()
        if self.store is not None:
            cells.extend(self.store.cells())
        return cells

    def count(
        self,
        state: State,
        batch: Batch,
        in_order: Tensor,
        target: Tensor,
        there: Tensor | None,
        score: Tensor,
    ) -> dict[str, Counted]:
        """Where each row counts.

        Args:
            state: The cells before this batch.
            batch: The rows.
            in_order: As `ScoreHistogram.count` takes scores.
            target: 0 and 1, or the class of each row, of shape (rows, 1).
            there: Which values count; None for all.
            score: What is stored.
        """
        actual = target
        counts: dict[str, Counted] = {}
        if self.store is not None:
            counts = self.store.count(state["scores_seen"], score, target.long(), there)
        if self.histogram.classes:
            actual = target == torch.arange(self.histogram.classes, device=target.device)
        counts.update(self.histogram.count(batch, in_order, actual, there))
        return counts

    def stored_relations(self, sums: StoredSums, counted: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What must hold of stored cells, given how many scores there are."""
        yield from self.histogram.stored_relations(sums, counted)
        if self.store is not None:
            yield from self.store.stored_relations(sums, counted)

    def stored(self, state: State) -> Tensor | None:
        """Whether all scores are stored, bool of shape (*heads); None for none, or where they carry weights."""
        if self.store is None or f"{self.histogram.name}.weight" in state:
            return None
        return state["scores_seen"] < state["scores"].shape[-1]

    def parts(self) -> list[slice]:
        """Labels or classes, some at a time, so that what is made of them fits into memory."""
        if not self.histogram.heads:
            return [slice(None)]
        size = max(1, BINS_AT_ONCE // self.histogram.keys.rows)
        return [slice(i, i + size) for i in range(0, self.histogram.heads[0], size)]

    def averaged(self, device: torch.device) -> Tensor:
        """Which labels or classes averages are over, bool of shape (heads,)."""
        place = torch.arange(self.histogram.heads[0], device=device)
        if self.among is None:
            return place >= 0
        return torch.isin(place, torch.tensor(self.among, device=device))

    def summarize(self, state: State) -> State:
        """The state with a summary in the place of the cells, which are large.

        Where there are several labels or classes, those that averages are over stand together behind
        them, and a last row says which they are.
        """
        histogram = self.histogram
        small = without_histogram(state, histogram)
        small.pop("scores", None)
        parts = self.parts()
        found = [ScoreBins.of_histogram(state, histogram, some).summary(self.at) for some in parts]
        fits = self.stored(state)
        if fits is not None:
            for place, some in enumerate(parts):
                exact = ScoreBins.of_sorted(*self._unpacked(state, some))[0].summary(self.at)
                here = fits[some] if histogram.heads else fits
                found[place] = torch.where(here, exact, found[place])
            if 0 < histogram.classes <= MOST_OVO:
                small[histogram.name + ONE_VS_ONE] = self._one_vs_one(state, fits.all())
        if not histogram.heads:
            small[histogram.name + SUMMARY] = found[0]
            return small
        averaged: Any = slice(None)
        if self.among is not None:
            averaged = list(self.among)
        sums = {
            name: cell[averaged].sum(0)
            for name, cell in state.items()
            if name.partition(".")[0] in (histogram.name, histogram.ties)
        }
        together = ScoreBins.of_histogram(sums, replace(histogram, heads=())).summary(self.at)
        each = torch.cat((*found, together.unsqueeze(1)), 1)
        counts = torch.nn.functional.pad(self.averaged(each.device).double(), (0, 1)).unsqueeze(0)
        small[histogram.name + SUMMARY] = torch.cat((each, counts))
        return small

    def _unpacked(self, state: State, heads: slice) -> tuple[Tensor, Tensor, Tensor]:
        stored = state["scores"]
        if not self.histogram.heads:
            return unpack_scores(stored)
        score, target, real = unpack_scores(stored[heads], self.histogram.bits)
        if self.histogram.classes:
            head = torch.arange(self.histogram.classes, device=stored.device)[heads]
            target = (target == head.unsqueeze(1)).long()
        return score, target, real

    def _one_vs_one(self, state: State, known: Tensor) -> Tensor:
        """Summaries of each class against each, by the scores of the first; of shape (10, C²)."""
        score, label, real = unpack_scores(state["scores"], self.histogram.bits)
        classes = torch.arange(self.histogram.classes, device=score.device).unsqueeze(1)
        found = []
        for mine, its, taken, here in zip(classes, score, label, real, strict=True):
            both = here & ((taken == mine) | (taken == classes))
            target = (taken == mine).long().expand(both.shape)
            found.append(ScoreBins.of_sorted(its.expand(both.shape), target, both)[0].summary())
        return torch.where(known, torch.cat(found, 1), torch.nan)


def without_histogram(state: State, histogram: ScoreHistogram) -> State:
    """The state without the histogram's cells, which are large."""
    names = (histogram.name, histogram.ties)
    return {name: cell for name, cell in state.items() if name.partition(".")[0] not in names}


def area_up_to(bins: ScoreBins, share: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """AUROC up to a false positive rate, standardised; its variance, and the bound of its error.

    Source: McClish, Medical Decision Making 1989; Dodd and Pepe, Biometrics 2003, whose variance is
    DeLong's for the whole area.
    """
    d = Descent.of_bins(bins)
    positives = d.tp[..., -1:]
    negatives = d.fp[..., -1:]
    first = (d.fp - d.n) / negatives  # share of the negatives above the row
    width = d.n / negatives
    inside = torch.where(width > 0, (share - first) / width, (first < share).double()).clamp(0, 1)
    # The share of the negatives that a positive of the row is above, up to the limit, on average.
    below = inside * (share - first - inside * width / 2)
    area = (d.p * below).sum(-1, keepdim=True) / positives
    reached = (d.p * inside).sum(-1, keepdim=True)
    above = inside * (reached - d.tp + d.p / 2).clamp(min=0) / positives
    mean = (d.n * above).sum(-1, keepdim=True) / negatives
    n_square, p_square = bins.square.flip(-2).unbind(-1)
    of_p = (p_square * (below - area).square()).sum(-1) / _degrees(positives, p_square)
    of_n = (n_square * (above - mean).square()).sum(-1) / _degrees(negatives, n_square)
    off = d.p * inside * width * (1 - inside / 2)
    off = off.masked_fill(bins.tied.flip(-1), 0.0).sum(-1, keepdim=True) / positives
    chance = share * share / 2
    scale = 0.5 / (share - chance)
    value = 0.5 + scale * (area - chance)
    return value.squeeze(-1), scale**2 * (of_p + of_n), scale * off.squeeze(-1)


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
    def of_bins(cls, bins: ScoreBins) -> Descent:
        """Turn the rows round."""
        n, p = (w.flip(-1) for w in bins.weight.unbind(-1))
        return cls(p, n, p.cumsum(-1), n.cumsum(-1))

    def sum(self, at_positives: Tensor) -> Tensor:
        """Sum over the rows that hold positives; elsewhere the terms may be NaN."""
        return torch.where(self.p > 0, at_positives, 0.0).sum(-1)


def _degrees(total: Tensor, squares: Tensor) -> Tensor:
    return total.squeeze(-1).square() - squares.sum(-1)  # n · (n − 1) without weights


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
