"""What became of each sample, a column a sample: for two models held against each other on the same data.

Made of the rows that the statistics count, when they are counted: no score is read a second time. No host sync.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.counts import binary, multiclass, regression
from ptmetrics.counts.class_losses import losses_of
from ptmetrics.counts.class_rows import ClassRows
from ptmetrics.counts.row_parts import RowParts
from ptmetrics.counts.waiting import Given

INT32 = torch.iinfo(torch.int32)


def class_columns(spec: multiclass.ClassSpec, rows: ClassRows, *, losses: bool) -> Tensor:
    """Single-label predictions.

    Args:
        spec: How to read them.
        rows: N rows.
        losses: Whether the passes over the scores left what a loss needs.

    Returns:
        Int32 of shape (3, N): the predicted class, −1 where the row is ignored or refused; the target as it was
        given; the bits of the negative log-likelihood in float32, NaN where there is none.
    """
    batch = multiclass.read_rows(spec, rows)
    loss = losses_of(spec.inputs, batch)[0].where(batch.finite, torch.nan) if losses else None
    return _columns(batch.counted, batch.label, rows.target, loss)


def binary_columns(spec: binary.BinarySpec, given: Given) -> Tensor:
    """Yes-or-no predictions; returns as `class_columns`, with classes 0 and 1."""
    rows, loss = binary.read_rows(spec, given), None
    if spec.inputs != "labels":
        loss = functional.softplus(rows.score * torch.rsub(rows.target, 1, alpha=2)).where(
            rows.kept, torch.nan
        )
    return _columns(rows.kept, rows.scored("confusion"), rows.target, loss)


def point_columns(given: Given) -> Tensor:
    """Real-valued predictions of one output.

    Returns:
        Float64 of shape (2, N): prediction − target, NaN where the row is refused; the target as it was given.
    """
    batch = regression.read_points(given, RowParts())
    return torch.stack(
        (batch.points[0, 0].where(batch.counted, torch.nan), given.target[:, 0].double())
    )


def _columns(counted: Tensor, label: Tensor, target: Tensor, loss: Tensor | None) -> Tensor:
    predicted = torch.where(counted, label.int(), -1)
    loss = torch.full_like(target, torch.nan, dtype=torch.float32) if loss is None else loss.float()
    return torch.stack(
        (predicted, target.clamp(INT32.min, INT32.max).int(), loss.view(torch.int32))
    )
