"""A batch of real-valued predictions, read once: errors, predictions, targets, and what is left out."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.faults import BAD_WEIGHT, FaultKind
from ptmetrics.counts.joint_moments import SIZE, add_points_
from ptmetrics.counts.row_parts import RowParts, RowsInParts
from ptmetrics.counts.waiting import Given
from ptmetrics.errors import ShapeError

LIMIT = 1e70  # so that no sum of fourth powers overflows
BAD_PREDICTION = FaultKind(
    "prediction-not-finite", "row with a prediction that is NaN, infinite or beyond 1e70, refused"
)
BAD_VALUE = FaultKind(
    "target-not-finite", "row with a target that is NaN, infinite or beyond 1e70, refused"
)
KINDS = (BAD_PREDICTION, BAD_VALUE, BAD_WEIGHT)
ROWS_AT_ONCE = 1 << 16  # bounds the memory that an update takes for a moment


@dataclass
class PointBatch:
    """A checked batch of `rows` rows and D outputs; device tensors."""

    points: Tensor  # float64 (D, 3, rows): error (prediction − target), prediction, target; 0 if not counted
    magnitude: Tensor  # float64 (D, rows): |error|
    counted: Tensor  # bool (rows,): not refused, and of a weight above 0
    weight: Tensor  # float64 (rows,), 0 where not counted
    square: Tensor  # its square; the same tensor where no weights were given
    fault_masks: tuple[Tensor, ...]
    step: int | Tensor  # of the update, or int64 of each row
    parts: RowsInParts | None = None


def flat(outputs: int, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
    """A checked batch with preds and target of shape (rows, D)."""
    return Given(preds.reshape(-1, outputs), target.reshape(-1, outputs), weight)


def points(parts: RowParts, given: Given) -> tuple[PointBatch]:
    """`read_points` in one piece."""
    return (read_points(given, parts),)


def read_points(given: Given, parts: RowParts) -> PointBatch:
    """Read what values tell, on the device; no host sync."""
    preds, target, weight = given.preds.mT, given.target.mT, given.weight
    points = torch.stack((_error(preds, target), preds.double(), target.double()), 1)
    fits = (points[:, 1:].abs() <= LIMIT).all(0)  # NaN fits nothing
    usable = fits.all(0)
    bad_weight = torch.zeros_like(usable)
    counted = usable
    if weight is not None:
        weight = weight.double()
        bad_weight = usable & ~((weight >= 0) & (weight < torch.inf))
        counted = usable & ~bad_weight & (weight > 0)
        weight = torch.where(counted, weight, 0.0)
    points = torch.where(counted, points, 0.0)
    ones = counted.double() if weight is None else weight
    masks = (*(~fits).unbind(), bad_weight)
    square = ones if weight is None else weight * weight
    belongs = parts.judged(given.ids, counted, given.step)
    return PointBatch(points, points[:, 0].abs(), counted, ones, square, masks, given.step, belongs)


def _error(preds: Tensor, target: Tensor) -> Tensor:
    """Prediction minus target in float64; whole numbers are subtracted as such, exact beyond 2⁵³ too."""
    if not preds.dtype.is_floating_point and not target.dtype.is_floating_point:
        return (preds.long() - target.long()).double()
    return preds.double() - target.double()


def check_batch(
    outputs: int, home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None
) -> None:
    """Check on the host what shapes, types and devices tell.

    Args:
        outputs: D, the number of values a row.
        home: Any state tensor, for its device.
        preds: Real numbers of shape (N, D), or (N,) where D is 1.
        target: Likewise.
        weight: Non-negative weights of shape (N,), or None.

    Raises:
        ShapeError, DtypeError, DeviceError: Before anything is counted.
    """
    for name, value in (("preds", preds), ("target", target)):
        checks.is_tensor(name, value)
        checks.real_numbers(name, value)
    rows = preds.shape[0] if preds.ndim else 0
    allowed = [(rows, outputs)] + ([(rows,)] if outputs == 1 else [])
    if tuple(preds.shape) not in allowed or tuple(target.shape) not in allowed:
        rule = " or ".join(["(N,)"] * (outputs == 1) + [f"(N, {outputs})"])
        raise ShapeError(
            "preds, target",
            f"both of shape {rule}, with the same N",
            f"preds of shape {tuple(preds.shape)}, target of shape {tuple(target.shape)}",
            "Pass one row a sample, or build the metric with the right num_outputs.",
        )
    checks.together(home, preds=preds, target=target)
    if weight is not None:
        checks.is_tensor("sample_weight", weight)
        checks.row_weights(weight, (rows,), "one a row, of shape")
        checks.together(home, sample_weight=weight)


@dataclass(frozen=True)
class Residuals:
    """Joint moments of error, prediction and target of each output, Σ|error|, and the largest |error|."""

    outputs: int

    def layout(self) -> Mapping[str, Cell]:
        """`SIZE` + 2 sums and a maximum an output, in float64."""
        return {
            "moments": Cell((self.outputs, SIZE), torch.float64, merge="moments"),
            "absolute": Cell((self.outputs, 2), torch.float64),
            "largest": Cell((self.outputs,), torch.float64, merge="max"),
        }

    def add_(self, state: State, batch: PointBatch) -> None:
        """Add one batch, a large one in pieces."""
        if not len(batch.counted):
            return
        size = max(1, ROWS_AT_ONCE // self.outputs)
        weights = torch.split(batch.weight, size)
        squares = weights if batch.square is batch.weight else torch.split(batch.square, size)
        for points, weight, square in zip(
            torch.split(batch.points, size, -1), weights, squares, strict=True
        ):
            add_points_(state["moments"], points, weight, square)
        weigh = torch.stack((batch.weight, batch.square), 1)
        state["absolute"].add_(batch.magnitude @ weigh)
        largest = torch.where(batch.counted, batch.magnitude, -torch.inf).amax(1)
        state["largest"].copy_(torch.maximum(state["largest"], largest))
