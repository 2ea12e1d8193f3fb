"""What single-label classification counts, as the scores see it: margins, and the matrix where it is kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.metrics.delta import delta, delta_of_margins
from ptmetrics.metrics.intervals import wilson
from ptmetrics.metrics.margins import actual, margins, two_by_two


@dataclass(frozen=True)
class Tally:
    """Margins of confusion matrices: counts, Σw and Σw²; all the same without weights.

    Attributes:
        count: Int64 of shape (…, 3, C): hits, actual and predicted of each class.
        weight: Float64 of the same shape.
        square: Float64 of the same shape.
        absent: Value of an undefined class score; NaN leaves the class out of averages.
        cells: Counts, Σw and Σw² a cell, shape (…, C, C), rows actual; None where they are not kept.
        ends: Whether intervals are wanted; without, their ends are the value itself, which takes far less.
    """

    count: Tensor
    weight: Tensor
    square: Tensor
    absent: float = math.nan
    cells: tuple[Tensor, Tensor, Tensor] | None = None
    ends: bool = True

    @classmethod
    def of_matrix(
        cls, count: Tensor, weight: Tensor, square: Tensor, absent: float = math.nan
    ) -> "Tally":
        """The tally of matrices of shape (…, C, C), rows actual."""
        return cls(
            margins(count), margins(weight), margins(square), absent, (count, weight, square)
        )

    @classmethod
    def of_two_classes(
        cls, count: Tensor, weight: Tensor, square: Tensor, absent: float
    ) -> "Tally":
        """The tally of margins of shape (…, 3, 2), from which the cells follow."""
        return cls.of_matrix(two_by_two(count), two_by_two(weight), two_by_two(square), absent)

    @property
    def matrix(self) -> Tensor:
        """Counts a cell, int64 of shape (…, C, C); empty where they are not kept."""
        return self.count.new_zeros(0) if self.cells is None else self.cells[0]

    @property
    def n(self) -> Tensor:
        """Number of rows, int64 of shape (…)."""
        return actual(self.count).sum(-1)

    @property
    def total(self) -> Tensor:
        """Weight of all rows, float64 of shape (…)."""
        return actual(self.weight).sum(-1)

    @property
    def total_square(self) -> Tensor:
        """Sum of the squared weights of all rows, float64 of shape (…)."""
        return actual(self.square).sum(-1)

    def proportion(
        self, part: Tensor, whole: Tensor, whole_square: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Proportions part / whole with Wilson ends at Kish's effective n; NaN for an empty whole."""
        p = (part / whole).clamp(
            0, 1
        )  # sums of weights in another order may differ in the last digit
        if not self.ends:
            return p, p, p
        low, high = wilson(p, whole.square() / whole_square)
        return p, low, high

    def delta(
        self, metric: Callable[[Tensor], Tensor], bounds: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A smooth function of the margins with its interval, a wider one where the cells are not kept."""
        if not self.ends:
            value = metric(self.weight).clamp(*bounds)
            return value, value, value
        if self.cells is None:
            return delta_of_margins(metric, self.weight, self.square, bounds)
        return delta(metric, *self.cells[1:], bounds)

    def filled(self, values: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Put `absent` where the value is undefined; its interval is the value itself, as for any constant."""
        value, low, high = values
        undefined = torch.isnan(value)
        return (
            torch.where(undefined, self.absent, value),
            torch.where(undefined, self.absent, low),
            torch.where(undefined, self.absent, high),
        )
