"""`RegressionMetrics`: what is kept of errors, predictions and targets; its scores stand in `regression_scores`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.batch import At, Batch, Counted
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.moments import JOINT_SIZE, joint_sums
from ptmetrics.counts.moments_launch import MOST_KERNEL_OUTPUTS, MomentsKernel
from ptmetrics.counts.ranks import RANK_ROWS, rank_row, spread_, store_pairs_
from ptmetrics.counts.regression import (
    MAGNITUDE_BINS,
    NO_RATIO,
    NO_RATIO_WORDS,
    POINT_FAULT_KINDS,
    ROW_ERRORS,
    check_points,
    is_dense,
    magnitude_bin,
    read_points,
    row_errors,
)
from ptmetrics.counts.stored_sums import WEIGHT_ROUNDING, StoredSums
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import options
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.rank_correlation import (
    exact_correlations,
    rank_correlations,
)
from ptmetrics.metrics.regression_scores import (
    CELLS,
    CUMULATIVE,
    LEFT_OUT,
    MAGNITUDE_SCORES,
    MAX_ERROR,
    MOMENT_SCORES,
    MOMENT_SPECS,
    MOST_OUTPUTS,
    MOST_PAIRS,
    OPTIONAL_SCORES,
    QUANTILES,
    RANKS,
    by_output,
    quantile_specs,
)
from ptmetrics.metrics.samples import POINT_FIELDS
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable


class RegressionMetrics(Metrics):
    """MSE, RMSE, MAE, R², explained variance, Pearson, bias, largest error and quantiles of |error| in one pass.

    `update(preds, target)` takes floating point or whole numbers of shape (N, D), or (N,) where D
    is 1, and weights of shape (N,). Where D is 1, images and sequences of one shape (N, d1, d2, …)
    count element by element, with weights of that shape; each sample is a group then, see
    `groups`. Sums are kept in float64 about the running mean, so that R² is
    right for values near 1e6 or in half precision. A row with a NaN or infinite value in any output
    is refused, counted and reported in `scores.faults`; a row of weight 0 is as if it were not
    there.

    With several outputs `scores.per_class` holds one value an output, and the named scores are
    uniform means over the outputs, as in scikit-learn (`max_error`: the largest). Errors are
    prediction − target, in the target's unit. The largest error and the quantiles are of all rows:
    slices have none.

    Args:
        num_outputs: D, the number of values a row, 1 to 16,384.
        quantiles: Which quantiles of |error| to report, as `absolute_error/p90`; the median is
            always there as `median_absolute_error`.
        names: One name an output.
        scores: Names of scores that are computed when they are asked for, such as "mape" or
            "spearman", see docs/scores.md; and scores of your own, each a `pm.ScoreSpec` over the
            cells.
        output_weights: What each output weighs in a mean over them; the same by default.
        num_features: Number of the model's features, for "r2/adjusted".
        capacity: Room for so many rows, 16 bytes an output each, of which "spearman" and "kendall"
            are exact where no row has a weight. With more rows they come from a histogram of 1,024 ×
            1,024 pairs, 8 MiB an output, within their `error_bound`: its rows are 6 % wide, which
            suits values around 0 or over several octaves.
        slices: As for `pm.Metrics`.
        groups: As for `pm.Metrics`; None by default.
        device: As for `pm.Metrics`.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.RegressionMetrics()
        >>> metrics.update(torch.tensor([1.0, 2.5, 4.0]), torch.tensor([1.5, 2.0, 4.5]))
        >>> scores = metrics.compute()
        >>> scores["mae"].value
        0.5
        >>> round(scores["r2"].value, 3)
        0.855
    """

    task = "regression"
    headline = "mae"
    fault_kinds = POINT_FAULT_KINDS
    score_tables: tuple[ScoreTable, ...] = (MOMENT_SCORES, MAGNITUDE_SCORES)
    optional_tables = OPTIONAL_SCORES
    note_kinds = frozenset((NO_RATIO,))
    waits = True

    def __init__(
        self,
        *,
        num_outputs: int = 1,
        quantiles: Sequence[float] = QUANTILES,
        names: Sequence[str] | None = None,
        scores: Sequence[ScoreSpec | str] = (),
        output_weights: Sequence[float] | None = None,
        num_features: int = 0,
        capacity: int = 100_000,
        slices: Sequence[str] | int = (),
        groups: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not options.is_whole(num_outputs, 1, MOST_OUTPUTS):
            cure = "Pass the number of values that the model predicts for a row."
            rule = f"a whole number from 1 to {MOST_OUTPUTS}, each of which takes half a MiB"
            raise ConfigError("num_outputs", rule, repr(num_outputs), cure)
        fits = options.is_sequence(quantiles)
        if not fits or not all(options.is_number(q) and 0 < q < 1 for q in quantiles):
            fact = repr(quantiles)
            cure = "Pass quantiles=(0.5, 0.9)."
            raise ConfigError("quantiles", "numbers between 0 and 1", fact, cure)
        self.num_outputs = num_outputs
        self.quantiles = tuple(map(float, quantiles))
        if names is not None or num_outputs > 1:
            self.class_names = options.names("names", names, num_outputs, "output")
        self._own_scores, self.asked = options.own_specs(scores, self.optional_tables)
        kept = {cell for name in self.asked for cell in CELLS.get(name, ())}
        self._errors = [name for name in ROW_ERRORS if name in kept]
        self.shares = _shares(num_outputs, output_weights)
        for name, number in (("num_features", num_features), ("capacity", capacity)):
            if not options.is_whole(number, 0, MOST_PAIRS):
                rule = f"a whole number from 0 to {MOST_PAIRS}"
                raise ConfigError(name, rule, repr(number), f"Leave {name} out for 0.")
        self.num_features = num_features
        self.capacity = capacity
        self._ranks = "grid" in kept
        if self._errors:
            self.fault_kinds = {**POINT_FAULT_KINDS, NO_RATIO: NO_RATIO_WORDS}
        super().__init__(slices=slices, groups=groups, device=device)
        if self._is_ordinary:
            self._kernel = MomentsKernel(num_outputs)

    @property
    def _is_ordinary(self) -> bool:
        """Whether all that is counted of a row is what a kernel counts."""
        if type(self).count is not RegressionMetrics.count:
            return False
        further = self._errors or self._ranks or "nrmse/range" in self.asked
        return not further and self.num_outputs <= MOST_KERNEL_OUTPUTS

    def counted_arguments(self) -> dict[str, Any]:
        """The plain values that fix what is counted."""
        return {"num_outputs": self.num_outputs}

    def tables(self) -> tuple[ScoreTable | ScoreSpec, ...]:
        """Those of the class, with the quantiles that are wanted, and the scores of each output."""
        magnitudes: tuple[ScoreSpec, ...] = (MAX_ERROR, *quantile_specs(self.quantiles))
        moments = MOMENT_SPECS
        if self.class_names:
            moments = (*moments, *by_output(moments))
            magnitudes = (*magnitudes, *by_output(magnitudes))
        return (
            replace(MOMENT_SCORES, specs=moments),
            replace(MAGNITUDE_SCORES, specs=magnitudes),
            *self._own_scores,
        )

    def cells(self) -> list[Cell]:
        """Moments; of all rows also the largest |error| and a histogram of it, half a MiB an output."""
        outputs = self.num_outputs
        real = torch.float64
        cells = [
            Cell("moments", (outputs, JOINT_SIZE), real, merge="joint"),
            Cell("absolute", (outputs,), real, merge="mean"),
            Cell("largest", (outputs,), real, merge="max", scope="whole"),
            Cell("magnitude", (outputs, MAGNITUDE_BINS), scope="whole"),
        ]
        for name in self._errors:
            cells.append(Cell(name, (outputs,), real, merge="mean"))
        if "nrmse/range" in self.asked:  # the largest target, and the largest of −target
            cells.append(Cell("target_ends", (outputs, 2), real, "max", "whole"))
        if self._ranks:
            cells.append(Cell("grid", (outputs, RANK_ROWS, RANK_ROWS), scope="whole"))
            cells.append(Cell("ends", (2, outputs, 2, RANK_ROWS), real, "min", "whole"))
            size = (self.capacity + 1, outputs, 2)
            cells.append(Cell("pairs", size, real, "smallest-rows", "whole"))
        return cells

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what shapes, types and devices tell."""
        return check_points(self.num_outputs, self.device, preds, target, sample_weight)

    @property
    def sample_fields(self) -> tuple[str, ...]:
        """Error and target, where there is one output."""
        if self.num_outputs > 1:
            return ()
        return POINT_FIELDS

    def stored_relations(self, sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
        """Each row has one error an output, which stands in all cells."""
        rows = sums["rows"].unsqueeze(-1)
        absolute = sums["absolute"]
        if "magnitude" in sums:
            total = sums["magnitude"].sum(-1)
            yield "as many magnitudes as rows", sums.same(total, rows.expand(total.shape))
            largest = sums["largest"]
            empty = largest == -torch.inf
            yield "a largest error of 0 or more", empty | ((largest >= 0) & largest.isfinite())
            yield "a largest error where there are rows", empty == (absolute[0] == 0)
            mean = absolute[3] / absolute[1]
            yield (
                "no mean error above the largest",
                (mean <= largest * (1 + WEIGHT_ROUNDING)) | mean.isnan(),
            )
        if "grid" in sums:
            total = sums["grid"].sum((-1, -2))
            yield "a grid of as many pairs as rows", sums.same(total, rows.expand(total.shape))
        yield "errors of 0 or more that are finite", (absolute >= 0) & absolute.isfinite()
        errors = sums.of_mean(absolute)
        yield "as many errors as rows", sums.same(errors, rows.expand(errors.shape))
        weight, square = joint_sums(sums["moments"])[..., 0, 0, 0].unbind(-1)
        if sums.are("weight"):
            yield "moments of as many errors as rows", sums.same(weight, errors)
        if sums.are("square"):
            yield "moments of as many errors as rows", sums.same(square, errors)

    def row_shape(self, target: Tensor) -> tuple[int, ...]:
        """One row a sample; in images one an element."""
        if is_dense(target, self.num_outputs):
            return tuple(target.shape)
        return (target.shape[0],)

    def summarize(self, state: State) -> State:
        """Of the histogram its running sum goes to the host."""
        weight = state.get("magnitude.weight", state["magnitude"])
        kept = {name: t for name, t in state.items() if name.partition(".")[0] not in LEFT_OUT}
        kept[CUMULATIVE] = weight.double().cumsum(1)
        if self._ranks:
            kept[RANKS] = self._correlations(state)
        return kept

    def _correlations(self, state: State) -> Tensor:
        """What `rank_correlations` says of each output; exact where all pairs are kept and weigh 1."""
        grids = state.get("grid.weight", state["grid"])
        alone = state["absolute"][2] / state["absolute"][1] ** 2
        each = zip(grids, state["ends"].unbind(1), alone, strict=True)
        found = torch.stack([rank_correlations(*one) for one in each])
        pairs = state["pairs"]
        if len(pairs) > 1 and "grid.weight" not in state:
            rows = int(state["rows"])
            if 1 < rows < len(pairs):
                kept = pairs[pairs[:, 0, 0] < torch.inf]
                exact = torch.stack([exact_correlations(one) for one in kept.unbind(1)])
                found[..., :2] = torch.stack((exact, torch.zeros_like(exact)), -1)
        return found

    def count(self, batch: Batch) -> dict[str, Counted]:
        """Read errors, predictions and targets once."""
        points = read_points(batch, self.num_outputs)
        error = points[:, :, 0]
        magnitude = error.abs()
        place = magnitude_bin(magnitude)
        if self.num_outputs > 1:
            output = torch.arange(self.num_outputs, device=place.device)
            place = place.add_(output.mul_(MAGNITUDE_BINS))
        counts: dict[str, Counted] = {
            "moments": points,
            "absolute": magnitude,
            "largest": magnitude,
            "magnitude": At(place, within=True),
        }
        if self._errors:
            counts.update(row_errors(batch, self._errors, points))
        if "nrmse/range" in self.asked:
            target = points[:, :, 2]
            counts["target_ends"] = torch.stack((target, -target), -1)
        if self._ranks:
            counts.update(self._count_ranks(batch, points[:, :, 1:]))
        if self.keeps_samples and self.num_outputs == 1:
            known = error[:, 0]
            if batch.counted is not None:
                known = torch.where(batch.counted, known, torch.nan)
            counts["samples"] = torch.stack((known, points[:, 0, 2]))
        return counts

    def _count_ranks(self, batch: Batch, pairs: Tensor) -> dict[str, Counted]:
        row = rank_row(pairs)
        output = torch.arange(self.num_outputs, device=row.device)
        place = (output * RANK_ROWS + row[:, :, 0]) * RANK_ROWS + row[:, :, 1]
        taken = self._accumulator.state["rows"]  # the last cell: not changed yet when it is read
        return {
            "grid": At(place, within=True),
            "ends": lambda cell: spread_(cell, row, pairs, batch),
            "pairs": lambda cell: store_pairs_(cell, taken, pairs, batch),
        }


def _shares(outputs: int, weights: Any) -> Array:
    """What each output weighs in a mean over them."""
    if weights is None:
        return np.full(outputs, 1 / outputs)
    shares = np.array(weights, dtype=np.float64)
    if shares.shape != (outputs,) or not (shares >= 0).all() or not 0 < shares.sum() < math.inf:
        cure = "Pass one weight an output, such as output_weights=(0.3, 0.7)."
        raise ConfigError("output_weights", f"{outputs} numbers of 0 or more", repr(weights), cure)
    return shares / shares.sum()
