"""Single-label predictions, row by row: what is refused and why, and the cell of the confusion matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.class_rows import ClassRows
from ptmetrics.counts.class_scores import Columns
from ptmetrics.counts.faults import (
    BAD_LABEL,
    BAD_TARGET,
    BAD_WEIGHT,
    INFINITE_SCORE,
    NAN_SCORE,
    NOT_PROBABILITIES,
    FaultKind,
)
from ptmetrics.counts.row_parts import NO_PARTS, RowParts, RowsInParts
from ptmetrics.counts.waiting import Given

Inputs = Literal["logits", "probs", "labels"]
KINDS: Mapping[Inputs, tuple[FaultKind, ...]] = {
    "logits": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE, INFINITE_SCORE),
    "probs": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE, NOT_PROBABILITIES),
    "labels": (BAD_TARGET, BAD_WEIGHT, BAD_LABEL),
}


@dataclass(frozen=True)
class ClassSpec:
    """How to read a batch: number of classes, kind of scores, class to ignore, parts to tell apart."""

    num_classes: int
    inputs: Inputs = "logits"
    ignore_index: int | None = None
    parts: RowParts = NO_PARTS


@dataclass
class ClassBatch:
    """Judged rows; every field is a device tensor of shape (rows,) unless said otherwise."""

    counted: Tensor  # bool: neither ignored nor refused
    target: Tensor  # int64, some class where not counted
    label: Tensor  # int64, anything where not counted
    cell: Tensor  # int64: row-major cell of the confusion matrix; one spare cell behind it for the rest
    weight: Tensor | None  # float64, 1 where not counted
    finite: Tensor  # bool: counted, and its likelihood is defined; for labels, counted
    fault_masks: tuple[Tensor, ...]
    step: Tensor  # int64
    columns: Columns
    parts: RowsInParts | None = None

    def row_weight(self) -> Tensor:
        """Float64 weights; 1 a row where no weights were given, and for each row of the spare cell."""
        return (
            torch.ones_like(self.cell, dtype=torch.float64) if self.weight is None else self.weight
        )


def check_batch(
    spec: ClassSpec, home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None
) -> None:
    """Check on the host what shapes, types and devices tell.

    Args:
        spec: How to read the batch.
        home: Any state tensor, for its device.
        preds: (N, C) or (N, C, d1, …) scores, or (N, …) classes for `inputs="labels"`.
        target: (N, …) signed integer classes.
        weight: (N, …) non-negative weights, or None.

    Raises:
        ShapeError, DtypeError, DeviceError: Before anything is counted.
    """
    checks.is_tensor("preds", preds)
    checks.is_tensor("target", target)
    if spec.inputs == "labels":
        like = min(
            tuple(preds.shape), tuple(target.shape), key=len
        )  # the longer one has scores or one-hot rows
        checks.class_indices("preds", preds, like, 'for inputs="labels"')
    else:
        checks.class_scores(preds, spec.num_classes)
        like = (preds.shape[0], *preds.shape[2:])
    checks.beside_preds(home, preds, target, weight, like)


def flat(spec: ClassSpec, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
    """A checked batch, one row a target."""
    if preds.ndim > 2 and spec.inputs != "labels":
        preds = preds.movedim(1, -1).reshape(-1, spec.num_classes)
    elif preds.ndim > 1 and spec.inputs == "labels":
        preds = preds.reshape(-1)
    return Given(preds, checks.flat(target), None if weight is None else checks.flat(weight))


def judged(spec: ClassSpec, rows: ClassRows) -> tuple[ClassBatch]:
    """`read_rows` in one piece."""
    return (read_rows(spec, rows),)


def read_rows(spec: ClassSpec, rows: ClassRows) -> ClassBatch:
    """Judge values on the device; no host sync."""
    target, columns = rows.target, rows.columns
    inside = target.clamp(0, spec.num_classes - 1)
    usable = inside == target
    if spec.ignore_index is None:
        bad_target = ~usable
    else:
        kept = target != spec.ignore_index
        usable = usable & kept
        bad_target = kept ^ usable
    weighed = usable
    if rows.weight is not None:
        weighed = usable & (rows.weight >= 0) & (rows.weight < float("inf"))
    masks = [bad_target, usable ^ weighed]
    label = columns.label
    if spec.inputs == "labels":
        finite = counted = weighed & (label.clamp(0, spec.num_classes - 1) == label)
        masks += [weighed ^ counted]
    else:
        known = weighed & ~columns.peak.isnan()
        finite = known & _likely(spec, columns)
        masks += [weighed ^ known, known ^ finite]
        counted = known if spec.inputs == "logits" else finite
    cell = torch.where(
        counted, torch.add(label, inside, alpha=spec.num_classes), spec.num_classes**2
    )
    weight = None if rows.weight is None else torch.where(counted, rows.weight, 1.0)
    parts = spec.parts.judged(rows.ids, counted, rows.step)
    return ClassBatch(
        counted, inside, label, cell, weight, finite, tuple(masks), rows.step, columns, parts
    )


def _likely(spec: ClassSpec, columns: Columns) -> Tensor:
    """Whether a row without NaN has a likelihood at all."""
    if spec.inputs == "logits":
        return ~columns.peak.isinf()
    return ((columns.mass - 1).abs() <= 0.01) & (columns.least >= 0)


@dataclass(frozen=True)
class Confusion:
    """Counts of (actual, predicted): int64 of shape (C² + 1,), the last cell for rows not counted.

    Once sample weights were seen, `weight` and `weight_square` hold Σw and Σw² a cell in float64.
    """

    num_classes: int

    def layout(self) -> Mapping[str, Cell]:
        """C² + 1 cells each."""
        size = (self.num_classes**2 + 1,)
        weight = Cell(size, torch.float64, weights_of="confusion")
        return {"confusion": Cell(size), "weight": weight, "weight_square": weight}

    def add_(self, state: State, batch: ClassBatch) -> None:
        """One scatter for each matrix; a batch without weights weighs 1 a row."""
        state["confusion"].scatter_add_(0, batch.cell, torch.ones_like(batch.cell))
        if "weight" in state:
            weight = batch.row_weight()
            state["weight"].scatter_add_(0, batch.cell, weight)
            state["weight_square"].scatter_add_(0, batch.cell, weight * weight)


@dataclass(frozen=True)
class TopK:
    """Hits of the target among the k highest scores, k > 1, ties by lowest class: int64 of shape (ks,)."""

    ks: tuple[int, ...]

    def layout(self) -> Mapping[str, Cell]:
        """One count for each k."""
        size = (len(self.ks),)
        return {"topk": Cell(size), "topk_weight": Cell(size, torch.float64, weights_of="topk")}

    def add_(self, state: State, batch: ClassBatch) -> None:
        """A row is a hit where fewer than k classes come before its target."""
        hits = torch.stack([batch.counted & (batch.columns.rank < k) for k in self.ks])
        state["topk"].add_(hits.sum(1))
        if "topk_weight" in state:
            state["topk_weight"].add_((hits * batch.row_weight()).sum(1))
