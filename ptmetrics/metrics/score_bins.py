"""`ScoreBins`: what a histogram of scores says of AUROC and average precision, on its device.

Rows of a histogram are in the order of the scores, so only samples that share a row can be out of
order. What they could do at worst is the bound; nothing is assumed about the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.keys import CurveKeys
from ptmetrics.counts.moments import TINY
from ptmetrics.counts.score_histogram import ScoreHistogram, tied_rows
from ptmetrics.counts.stored_scores import StoredScores, unpack_scores
from ptmetrics.counts.stored_sums import StoredSums

SUMMARY = ".summary"
"""What the name of a histogram ends with where it was summed up on the device."""
ONE_VS_ONE = ".ovo"
"""What the name of a histogram ends with where each two classes were compared on the device."""
MOST_OVO = 32  # classes whose pairs are compared, where scores are stored
BASE = 10  # numbers of a summary before those of the points that were asked for
CACHED_BINS = 1 << 16  # rows that are summed up at once, so that the arrays stay in a CPU's cache
SIDE_BY_SIDE = 1 << 14  # rows that hold scores, of several in memory: for more, torch wakes threads
BINS_AT_ONCE = 1 << 21  # on other devices, where each operation is a launch: 700 MiB for a moment


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
        cls,
        state: State,
        histogram: ScoreHistogram,
        heads: slice = slice(None),
        *,
        rows: Any = None,
    ) -> ScoreBins:
        """Read a histogram in the order of its scores; of several, those of some heads.

        Args:
            state: The cells.
            histogram: Which of them.
            heads: Which heads, if there are several.
            rows: Which rows of cells in memory, those that are not empty among them, lowest scores
                first; a NumPy array of shape (heads, places). None for all.
        """
        name = histogram.name
        places: Any = None
        if rows is None:
            order = histogram.keys.order(state[name].device)
        else:
            places = rows + np.arange(len(rows))[:, np.newaxis] * histogram.keys.rows

        def ordered(key: str) -> Tensor:
            cell = state[key]
            if histogram.heads:
                cell = cell[heads]
            if places is None:
                return cell.index_select(-2, order)
            found = cell.numpy().reshape(-1, 2).take(places, 0)  # wakes no threads
            return torch.from_numpy(found.reshape(*cell.shape[:-2], -1, 2))

        count = ordered(name)
        weight = count.double()
        square = weight
        if f"{name}.weight" in state:
            weight = ordered(f"{name}.weight")
            square = ordered(f"{name}.square")
        tied, exact = tied_rows(torch.add(*count.unbind(-1)), ordered(histogram.ties))
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
        taken = torch.from_numpy(np.flatnonzero(_taken(self.count)))
        weight = self.weight.index_select(-2, taken)
        square = weight
        if self.square is not self.weight:
            square = self.square.index_select(-2, taken)
        count = self.count.index_select(-2, taken)
        tied, exact = (rows.index_select(-1, taken) for rows in (self.tied, self.exact))
        return ScoreBins(count, weight, square, tied, exact)

    @cached_property
    def descent(self) -> Descent:
        """The rows from the highest score to the lowest."""
        return Descent.of_bins(self)

    def sizes(self) -> Tensor:
        """Effective numbers of negatives and positives, of shape (2, …)."""
        d = self.descent
        total = torch.cat((d.negatives, d.positives), -1).movedim(-1, 0)
        if d.count is None:
            return total
        squares = torch.cat((d.n_squares, d.p_squares), -1).movedim(-1, 0)
        return total.square() / squares

    def summary(self, at: tuple[Any, ...] = ()) -> Tensor:
        """All that scores of a curve need on the host, float64 of shape (10 + 5 · points, …).

        The number of samples, effective numbers of negatives and positives, value, variance and
        bound of AUROC and of average precision, Σw of the positives; then those of each point.
        """
        n = self.count.sum((-1, -2)).double()
        numbers = [n, *self.sizes(), *area_up_to(self), *_average_precision(self)]
        numbers.append(self.descent.positives.squeeze(-1))
        for point in at:
            numbers.extend(point.numbers(self))
        return torch.stack(numbers)


@lru_cache(maxsize=1)
def _order_on_host(keys: CurveKeys) -> Any:
    """Kept for the next histogram: to make it wakes threads."""
    return keys.order(torch.device("cpu")).numpy()


def _taken(count: Tensor) -> Any:
    """Which rows are not empty of a histogram on the host, of shape (rows, 2); one at least."""
    numbers = count.numpy()  # whose operations wake no threads
    taken = (numbers[:, 0] | numbers[:, 1]) != 0
    taken[-1] = True
    return taken


def _filled(count: Tensor, keys: CurveKeys) -> Iterator[tuple[slice, Any]]:
    """Some histograms at a time on the host, and their rows that are not empty, lowest scores first.

    Where one has fewer of them than another, it is told one that is empty over and over, which
    changes no score.

    Args:
        count: Int64 of shape (heads, rows, 2).
        keys: What a row means.
    """
    order = _order_on_host(keys)
    some: list[Any] = []
    spare: list[int] = []
    longest = 0
    for head, numbers in enumerate(count):
        taken = _taken(numbers)
        rows = order[taken[order]]
        if some and max(longest, len(rows)) * (len(some) + 1) > SIDE_BY_SIDE:
            yield slice(head - len(some), head), _side_by_side(some, spare, longest)
            some, spare, longest = [], [], 0
        some.append(rows)
        spare.append(int(taken.argmin()))
        longest = max(longest, len(rows))
    yield slice(len(count) - len(some), len(count)), _side_by_side(some, spare, longest)


def _side_by_side(some: Sequence[Any], spare: Sequence[int], longest: int) -> Any:
    rows = np.empty((len(some), longest), np.int64)
    for place, filled in enumerate(some):
        rows[place, : len(filled)] = filled
        rows[place, len(filled) :] = spare[place]
    return rows


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

    def parts(self, device: torch.device) -> list[slice]:
        """Labels or classes, some at a time, so that what is made of them fits into memory."""
        if not self.histogram.heads:
            return [slice(None)]
        most = CACHED_BINS if device.type == "cpu" else BINS_AT_ONCE
        size = max(1, most // self.histogram.keys.rows)
        return [slice(i, i + size) for i in range(0, self.histogram.heads[0], size)]

    def averaged(self, device: torch.device) -> Tensor:
        """Which labels or classes averages are over, bool of shape (heads,)."""
        place = torch.arange(self.histogram.heads[0], device=device)
        if self.among is None:
            return place >= 0
        return torch.isin(place, torch.tensor(self.among, device=device))

    def summarize(self, state: State, bins: ScoreBins | None = None) -> State:
        """The state with a summary in the place of the cells, which are large.

        Where there are several labels or classes, those that averages are over stand together behind
        them, and a last row says which they are.

        Args:
            state: The cells.
            bins: The one histogram, where it was read already.
        """
        histogram = self.histogram
        small = without_histogram(state, histogram)
        small.pop("scores", None)
        if bins is None:
            found = [read.summary(self.at) for read in self._read(state, histogram)]
        else:
            found = [bins.without_gaps().summary(self.at)]
        each = _all_heads(found)
        fits = self.stored(state)
        if fits is not None:
            exact = []
            for some in self.parts(each.device):
                read = ScoreBins.of_sorted(*self._unpacked(state, some))[0]
                exact.append(read.summary(self.at))
            each = torch.where(fits, _all_heads(exact), each)
            if 0 < histogram.classes <= MOST_OVO:
                small[histogram.name + ONE_VS_ONE] = self._one_vs_one(state, fits.all())
        if not histogram.heads:
            small[histogram.name + SUMMARY] = each
            return small
        averaged: Any = slice(None)
        if self.among is not None:
            averaged = list(self.among)
        sums = {
            name: cell[averaged].sum(0)
            for name, cell in state.items()
            if name.partition(".")[0] in (histogram.name, histogram.ties)
        }
        pooled = replace(histogram, heads=())
        [together] = self._read(sums, pooled)
        each = torch.cat((each, together.summary(self.at).unsqueeze(1)), 1)
        counts = torch.nn.functional.pad(self.averaged(each.device).double(), (0, 1)).unsqueeze(0)
        small[histogram.name + SUMMARY] = torch.cat((each, counts))
        return small

    def _read(self, state: State, histogram: ScoreHistogram) -> Iterator[ScoreBins]:
        """The histograms, some at a time; where the host can look, without rows that are empty."""
        count = state[histogram.name]
        if not in_memory(count):
            for some in self.parts(count.device) if histogram.heads else [slice(None)]:
                yield ScoreBins.of_histogram(state, histogram, some)
            return
        if not histogram.heads:
            count = count.unsqueeze(0)
        for some, rows in _filled(count, histogram.keys):
            yield ScoreBins.of_histogram(state, histogram, some, rows=rows)

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


def _all_heads(found: Sequence[Tensor]) -> Tensor:
    if len(found) == 1:
        return found[0]
    return torch.cat(list(found), 1)


def without_histogram(state: State, histogram: ScoreHistogram) -> State:
    """The state without the histogram's cells, which are large."""
    names = (histogram.name, histogram.ties)
    return {name: cell for name, cell in state.items() if name.partition(".")[0] not in names}


def area_up_to(bins: ScoreBins, share: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """AUROC up to a false positive rate, standardised; its variance, and the bound of its error.

    Source: McClish, Medical Decision Making 1989; Dodd and Pepe, Biometrics 2003, whose variance is
    DeLong's for the whole area.
    """
    d = bins.descent
    width = d.n / d.negatives
    # Of the negatives the share from the row on, up to the limit.
    room = share - (d.fp - d.n) / d.negatives
    half: Tensor | float = 0.5
    # `below` is the share of negatives that a positive of the row is above, up to the limit, on average.
    if share < 1:
        inside = torch.where(width > 0, room / width, room.gt(0).double()).clamp(0, 1)
        width = width * inside
        half = 1 - inside / 2
        below = inside * (room - width / 2)
        reached = (d.p * inside).sum(-1, keepdim=True)
        above = inside * (reached - d.tp + d.p / 2).clamp(min=0)
    else:
        below = room - width / 2
        above = (d.positives - d.tp + d.p / 2).clamp(min=0)
    above = above / d.positives
    area = (d.p * below).sum(-1, keepdim=True) / d.positives
    mean = (d.n * above).sum(-1, keepdim=True) / d.negatives
    of_p = (d.p_square * (below - area).square()).sum(-1) / _degrees(d.positives, d.p_squares)
    of_n = (d.n_square * (above - mean).square()).sum(-1) / _degrees(d.negatives, d.n_squares)
    off = (d.p * width * half).masked_fill(d.tied, 0.0).sum(-1) / d.positives.squeeze(-1)
    chance = share * share / 2
    scale = 0.5 / (share - chance)
    value = 0.5 + scale * (area - chance)
    return value.squeeze(-1), scale**2 * (of_p + of_n), scale * off


def _average_precision(bins: ScoreBins) -> tuple[Tensor, Tensor, Tensor]:
    """Value, its variance, and the bound of its numerical error."""
    d = bins.descent
    positives = d.positives.squeeze(-1)
    total = (d.tp + d.fp).clamp(min=TINY)
    precision = d.tp / total
    tie = d.p * precision
    loose = d.p.gt(0).logical_and_(d.tied.logical_not())
    if in_memory(tie):  # few rows hold scores that are not equal
        places = loose.reshape(-1).nonzero().squeeze(1)
        ends = np.repeat(tie.numpy()[np.newaxis], 3, 0)
        ends.reshape(3, -1)[:, places.numpy()] = _certain(d.at(places)).numpy()
        sums = torch.from_numpy(ends.sum(-1))
    else:
        sums = torch.where(loose, _certain(d), tie).sum(-1)
    lowest, middle, highest = sums / positives
    mean = tie.sum(-1, keepdim=True) / d.positives
    # By the gradient in the counts: one more sample moves the precision of all rows below it.
    share = d.p / total / total
    of_p = precision - mean + _from_here(share * d.fp)
    of_n = _from_here(share * d.tp)
    spread = d.p_square * of_p.square() + d.n_square * of_n.square()
    variance = spread.sum(-1) / positives.square()
    return middle, variance, torch.maximum(highest - middle, middle - lowest)


@dataclass(frozen=True)
class Descent:
    """Rows from the highest score to the lowest, and what is predicted positive down to each; float64 (…, rows).

    Attributes:
        p: Σw of positives of the row.
        n: Σw of negatives of the row.
        tp: Σw of positives down to the end of the row.
        fp: Σw of negatives down to the end of the row.
        p_square: Σw² of positives of the row.
        n_square: Σw² of negatives of the row.
        tied: Whether all scores of the row are equal.
        count: Number of positives of the row; None without weights.
    """

    p: Tensor
    n: Tensor
    tp: Tensor
    fp: Tensor
    p_square: Tensor
    n_square: Tensor
    tied: Tensor
    count: Tensor | None = None

    @classmethod
    def of_bins(cls, bins: ScoreBins) -> Descent:
        """Turn the rows round."""
        n, p = (w.flip(-1) for w in bins.weight.unbind(-1))
        tp, fp, tied = p.cumsum(-1), n.cumsum(-1), bins.tied.flip(-1)
        if bins.square is bins.weight:
            return cls(p, n, tp, fp, p, n, tied)
        n_square, p_square = (w.flip(-1) for w in bins.square.unbind(-1))
        count = bins.count[..., 1].flip(-1)
        return cls(p, n, tp, fp, p_square, n_square, tied, count)

    @property
    def positives(self) -> Tensor:
        """Σw of all positives, of shape (…, 1)."""
        return self.tp[..., -1:]

    @property
    def negatives(self) -> Tensor:
        """Σw of all negatives, of shape (…, 1)."""
        return self.fp[..., -1:]

    @cached_property
    def p_squares(self) -> Tensor:
        """Σw² of all positives, of shape (…, 1)."""
        if self.count is None:
            return self.positives
        return self.p_square.sum(-1, keepdim=True)

    @cached_property
    def n_squares(self) -> Tensor:
        """Σw² of all negatives, of shape (…, 1)."""
        if self.count is None:
            return self.negatives
        return self.n_square.sum(-1, keepdim=True)

    def at(self, places: Tensor) -> Descent:
        """Some of the rows in one dimension, by their places in all histograms."""

        def some(column: Tensor) -> Tensor:
            return column.reshape(-1).index_select(0, places)

        p, n, tp, fp, tied = map(some, (self.p, self.n, self.tp, self.fp, self.tied))
        if self.count is None:
            return Descent(p, n, tp, fp, p, n, tied)
        squares = some(self.p_square), some(self.n_square)
        return Descent(p, n, tp, fp, *squares, tied, some(self.count))


def _degrees(total: Tensor, squares: Tensor) -> Tensor:
    return (total.square() - squares).squeeze(-1)  # n · (n − 1) without weights


def _certain(d: Descent) -> Tensor:
    """Sum of the precision at the positives of each row: the least, a likely value, and the most; (3, …).

    The positives come one by one, behind or before the negatives of their row.
    """
    tp, fp = (d.tp - d.p).clamp(min=0), (d.fp - d.n).clamp(min=0)  # before the row
    both = torch.stack((d.fp, fp))
    above = tp + both
    if d.count is None:
        behind, before = d.p - both * _digamma_step(above + 1, d.p)
        lowest = behind
    else:
        unit = d.p / d.count  # mean weight
        behind, before = d.p - both * _digamma_step(above / unit + 1, d.p / unit)
        # Unequal weights in one row: the integral lies below every order that they can come in.
        smooth = torch.where(d.fp > 0, d.p - d.fp * torch.log1p(d.p / above[0]), d.p)
        lowest = torch.where(d.count * d.p_square <= d.p.square(), behind, smooth)
    return torch.stack((lowest, (behind + before) / 2, d.p * d.tp / (d.tp + fp)))


def _digamma_step(x: Tensor, step: Tensor) -> Tensor:
    """ψ(x + step) − ψ(x) for x ≥ 1: by its series where x is large, for a difference would lose all digits."""
    y = x + step
    a, b = 1 / x, 1 / y
    squares = (a + b) * (a - b)
    series = _log1p(step * a) + (a - b) / 2 + squares * (1 / 12 - (a * a + b * b) / 120)
    small = x <= 100
    if in_memory(x):  # few of them
        series[small] = torch.digamma(y[small]) - torch.digamma(x[small])
        return series
    return torch.where(small, torch.digamma(y) - torch.digamma(x), series)


def _log1p(x: Tensor) -> Tensor:
    if in_memory(x):  # torch wakes threads for it where it wakes none for other operations
        return torch.from_numpy(np.log1p(x.numpy()))
    return torch.log1p(x)


def _from_here(x: Tensor) -> Tensor:
    return x.flip(-1).cumsum(-1).flip(-1)
