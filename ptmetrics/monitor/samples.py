"""The rows of the validation samples of one epoch: from columns on the device to what the record keeps."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.samples import SampleBuffer
from ptmetrics.metrics.score import Scores
from ptmetrics.metrics.score_curve import ScoreCurve, thinned
from ptmetrics.monitor.pictures import PictureBuffer
from ptmetrics.record.samples import (
    CLASS_ROW,
    CURVE_FIELDS,
    CURVE_ROW,
    FURTHER,
    MAX_MOVES,
    MAX_ROWS,
    POINT_ROW,
    RELIABILITY_ROW,
    Rows,
    StoredSamples,
    file_of,
    stem_of,
)

DEFAULT_ROWS = 100_000
"""Samples for which there is room by default: 1.2 MB of classes, 1.6 MB of real values."""
KEPT_HEADS = 20
"""Classes or labels of which curves are kept."""
_ROW_TYPES = {torch.int32: CLASS_ROW, torch.float64: POINT_ROW}


def kept_samples(
    stored: SampleBuffer, scores: Scores, pictures: PictureBuffer | None = None
) -> StoredSamples:
    """The rows on the host, one copy, or why there are none; what scores are without some of them."""
    columns, reason = stored.columns()
    rows = None
    moves = None
    inputs, no_inputs = None, None
    if scores.without_buckets:
        moves = _moves(scores)
    if columns is not None:
        rows = rows_of_columns(columns, stored.fields)
    if pictures is not None:
        inputs, no_inputs = pictures.rows()
    return StoredSamples(rows, reason, moves, inputs=inputs, no_inputs=no_inputs)


NONE_KEPT = (-1, 0)


def kept_share(stored: SampleBuffer | None, samples: int) -> tuple[int, int]:
    """How many samples this rank has kept, and the checksum of their file; `NONE_KEPT` if it has none."""
    if not samples:
        return 0, 0
    columns = None
    if stored is not None:
        columns, _ = stored.columns()
    if stored is None or columns is None:
        return NONE_KEPT
    rows = rows_of_columns(columns, stored.fields)
    return len(rows), zlib.crc32(file_of(rows))


def with_shares(
    samples: StoredSamples, shares: Sequence[Sequence[int]], copies: int
) -> StoredSamples:
    """The samples of this rank, with what each of several has kept; or why they are no whole.

    Args:
        samples: Those of this rank.
        shares: What `kept_share` gave on each.
        copies: How many ranks validated the same rows.
    """
    lacking = [rank for rank, share in enumerate(shares) if tuple(share) == NONE_KEPT]
    if copies > 1:
        reason = f"{copies} ranks validated the same samples"
    elif lacking:
        reason = f"rank {lacking[0]} of {len(shares)} kept none of its share"
        if samples.rows is None and samples.reason:
            reason = samples.reason
    else:
        told: Any = [{"rows": rows, "crc": f"{crc:08x}"} for rows, crc in shares]
        return replace(samples, reason=None, shares=told)
    return replace(samples, rows=None, reason=reason)


def _moves(scores: Scores) -> Rows | None:
    """Every score without each bucket of samples, one field a score."""
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for name, values in scores.without_buckets.items():
        if values.ndim == 1:
            columns[name] = values
        else:
            for index, value in enumerate(values.T):
                columns[f"{name}[{index}]"] = value
    fields = [name for name in columns if name.isascii()][:MAX_MOVES]
    if not fields:
        return None
    rows = np.zeros(len(columns[fields[0]]), [(name, "<f8") for name in fields])
    for name in fields:
        rows[name] = columns[name]
    return rows


def table_rows(scores: Scores) -> dict[str, Rows]:
    """What plots of an evaluation are drawn from, by the stem of its file."""
    found: dict[str, Rows] = {}
    if scores._curve is not None:
        found["curves"] = _curve_rows(scores._curve)
    reliability = scores.reliability
    if reliability is not None:
        found["reliability"] = reliability.astype(RELIABILITY_ROW)
    return found


def _curve_rows(curve: ScoreCurve) -> Rows:
    heads = [(1, curve)]  # the positive class
    if curve.heads:
        heads = [(head, curve.of_head(head)) for head in range(min(curve.heads, KEPT_HEADS))]
    found = []
    for head, drawn in heads:
        table = thinned(drawn.table())
        rows = np.zeros(len(table.threshold), CURVE_ROW)
        rows["head"] = head
        for name in CURVE_FIELDS:
            rows[name] = getattr(table, name).numpy()
        found.append(rows)
    return np.concatenate(found)


def look_at_targets(stored: SampleBuffer, target: Tensor) -> None:
    """Look at a batch as the loop hands it over: several targets a sample are no samples of their own."""
    samples = target.shape[0] if target.ndim else 1
    if target.numel() != samples:
        shape = tuple(target.shape[1:])
        stored.refuse(f"its targets hold several values a sample, {shape}")


def rows_of_columns(columns: Tensor, fields: tuple[str, ...] = ()) -> Rows:
    """Columns as rows on the host; this waits for the device.

    Args:
        columns: Of shape (fields, samples), bits of float32 where they are int32.
        fields: Their names, where there are more than the first ones.
    """
    kind = _ROW_TYPES[columns.dtype]
    size = columns.dtype.itemsize
    described = list(kind.descr)
    for name in fields[len(described) :]:
        described.append((name, f"{FURTHER[stem_of(name)][:2]}{size}"))
    host = np.ascontiguousarray(columns.cpu().numpy().T)
    return host.view(np.dtype(described)).reshape(-1)


def check_keep_samples(rows: object) -> None:
    """Refuse what is no number of samples.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows <= MAX_ROWS:
        cure = "Pass the size of the validation set, or 0 to keep none."
        raise ConfigError("keep_samples", f"a whole number from 0 to {MAX_ROWS}", repr(rows), cure)
