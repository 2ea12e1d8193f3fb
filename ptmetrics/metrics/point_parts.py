"""Regression scores of slices, and their intervals by groups, from joint moments of each part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ptmetrics.counts.cells import State
from ptmetrics.counts.joint_moments import CENTRE, TINY, centre_of, moved, sums_of
from ptmetrics.metrics import regression as r
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.jackknife import transformed_by_groups, without_each
from ptmetrics.metrics.outputs import average
from ptmetrics.metrics.parts import Parting

SCORES = {
    "mse": r.mse,
    "rmse": r.rmse,
    "mae": r.mae,
    "r2": r.r2,
    "explained_variance": r.explained_variance,
    "pearson": r.pearson,
    "bias": r.bias,
}
Scale = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
LOGARITHM: Scale = (torch.log, torch.exp)
FROM_ONE: Scale = (lambda x: (1 - x).log(), lambda x: 1 - x.exp())
SCALES: Mapping[str, Scale] = {
    "r2": FROM_ONE,
    "explained_variance": FROM_ONE,
    "pearson": (torch.atanh, torch.tanh),
    "bias": (torch.clone, torch.clone),
}


@dataclass(frozen=True)
class PointTables:
    """Reads the cells of `PointParts`.

    Attributes:
        state: Where they are.
        outputs: D.
    """

    state: State
    outputs: int

    def each(self, name: str) -> r.Residue:
        """Parts and outputs in one dimension, without the spare part."""
        moments, absolute, count = (
            self.state[f"{name}_{x}"][:-1] for x in ("moments", "absolute", "counts")
        )
        return self._residue(moments, absolute, count)

    def without(self, name: str) -> r.Residue:
        """The same of all rows but those of each part; moments are added about their common mean."""
        moments, absolute, count = (
            self.state[f"{name}_{x}"][:-1] for x in ("moments", "absolute", "counts")
        )
        centre, total = centre_of(moments), moments[..., CENTRE : CENTRE + 1]
        common = (total * centre).sum(0) / total.sum(0).clamp(min=TINY)
        sums = without_each(moved(sums_of(moments), centre - common))
        moments = torch.cat((common.expand_as(centre), sums.flatten(2)), 2)
        return self._residue(moments, without_each(absolute), without_each(count))

    def rows(self, name: str) -> Tensor:
        """Number of rows of each part, the spare one last."""
        return self.state[f"{name}_counts"]

    def _residue(self, moments: Tensor, absolute: Tensor, count: Tensor) -> r.Residue:
        count, none = (
            count.repeat_interleave(self.outputs, output_size=absolute[..., 0].numel()),
            moments[:0],
        )
        return r.Residue.of_moments(
            moments.flatten(0, 1), absolute.flatten(0, 1), count, none, none
        )

    def scores(self, residue: r.Residue) -> dict[str, Estimate]:
        """Named scores of all parts, and those of each output where there are several."""
        each = {name: self._by_part(score(residue)) for name, score in SCORES.items()}
        columns = {f"output:{name}": e for name, e in each.items()} if self.outputs > 1 else {}
        return {name: average(e) for name, e in each.items()} | columns

    def _by_part(self, e: Estimate) -> Estimate:
        value, low, high, n = (x.view(-1, self.outputs) for x in (e.value, e.low, e.high, e.n))
        return replace(e, value=value, low=low, high=high, n=n)

    def parting(self) -> Parting[r.Residue]:
        """How parts are scored."""
        return Parting(self.each, self.without, self.rows, self.scores, ends)


def ends(name: str, whole: Estimate, without: Tensor, filled: Tensor) -> Estimate:
    """The interval by groups on the scale on which the score is most like a normal one."""
    to, back = SCALES.get(name.removeprefix("output:"), LOGARITHM)
    return transformed_by_groups(whole, without, filled, to, back)
