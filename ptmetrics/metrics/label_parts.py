"""Multilabel scores of slices, and their intervals by groups, from what was counted of each part."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ptmetrics.counts.cells import State
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.jackknife import proportion_by_groups, without_each
from ptmetrics.metrics.multilabel import Labels
from ptmetrics.metrics.parts import Parting


@dataclass(frozen=True)
class LabelTables:
    """Reads the cells of `LabelParts`.

    Attributes:
        state: Where they are.
        absent: Value of an undefined score.
    """

    state: State
    absent: float = math.nan

    def each(self, name: str) -> Labels:
        """What was counted of every part but the spare one."""
        return self._labels(name, lambda x: x[:-1])

    def without(self, name: str) -> Labels:
        """What was counted of all rows of parts but those of each part."""
        return self._labels(name, lambda x: without_each(x[:-1]))

    def rows(self, name: str) -> Tensor:
        """Number of rows of each part, the spare one last."""
        return self.state[f"{name}_rows"][:, 0]

    def _labels(self, name: str, of: Callable[[Tensor], Tensor]) -> Labels:
        labels, rows = (of(self.state[f"{name}_{cell}"]) for cell in ("labels", "rows"))
        heavy = {
            f"{cell}_{power}": of(self.state[key])
            if (key := f"{name}_{cell}_{power}") in self.state
            else once.double()
            for cell, once in (("labels", labels), ("rows", rows))
            for power in ("weight", "square")
        }
        return Labels(
            count=labels, weight=heavy["labels_weight"], square=heavy["labels_square"],
            rows=rows, rows_weight=heavy["rows_weight"], rows_square=heavy["rows_square"],
            together=of(self.state[f"{name}_together"]), row_scores=of(self.state[f"{name}_row_scores"]),
            absent=self.absent,
        )  # fmt: skip

    def parting(self, scores: Callable[[Labels], Mapping[str, Estimate]]) -> Parting[Labels]:
        """How parts are scored."""
        return Parting(self.each, self.without, self.rows, scores, ends)


def ends(_: str, whole: Estimate, without: Tensor, filled: Tensor) -> Estimate:
    """The interval by groups of a share."""
    return proportion_by_groups(whole, without, filled)
