"""Single-label scores of slices, and their intervals by groups, from margins of each part."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ptmetrics.counts.cells import State
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.jackknife import proportion_by_groups, without_each
from ptmetrics.metrics.margins import actual
from ptmetrics.metrics.parts import Parting
from ptmetrics.metrics.tally import Tally

SIGNED = ("mcc", "kappa")  # from −1 to 1


@dataclass(frozen=True)
class ClassTables:
    """Reads the cells of `ClassParts`.

    Attributes:
        state: Where they are.
        absent: Value of an undefined class score.
        two: Whether there are two classes, so that the matrix follows from its margins.
    """

    state: State
    absent: float = math.nan
    two: bool = False

    def sums(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Counts, Σw and Σw² of all parts, without the spare column."""
        count = self.state[f"{name}_counts"][..., :-1]
        weight, square = (
            self.state[key][..., :-1] if key in self.state else count.double()
            for key in (f"{name}_weight", f"{name}_square")
        )
        return count, weight, square

    def each(self, name: str) -> Tally:
        """The tally of every part but the spare one."""
        count, weight, square = (x[:-1] for x in self.sums(name))
        make = Tally.of_two_classes if self.two else Tally
        return make(count, weight, square, self.absent)

    def without(self, name: str) -> Tally:
        """The tally of all rows of parts but those of each part, for values alone."""
        count, weight, square = (without_each(x[:-1]) for x in self.sums(name))
        return Tally(count, weight, square, self.absent, ends=False)

    def rows(self, name: str) -> Tensor:
        """Number of rows of each part, the spare one last."""
        return actual(self.state[f"{name}_counts"][..., :-1]).sum(-1)

    def parting(self, scores: Callable[[Tally], Mapping[str, Estimate]]) -> Parting[Tally]:
        """How parts are scored."""
        return Parting(self.each, self.without, self.rows, scores, ends)


def ends(name: str, whole: Estimate, without: Tensor, filled: Tensor) -> Estimate:
    """The interval by groups of a score with a range."""
    return proportion_by_groups(whole, without, filled, (-1, 1) if name in SIGNED else (0, 1))
