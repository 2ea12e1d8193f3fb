"""The rows of the validation samples of one epoch: from columns on the device to what the record keeps."""

import numpy as np
import torch
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.samples import SampleBuffer
from ptmetrics.record.samples import CLASS_ROW, MAX_ROWS, POINT_ROW, Rows, StoredSamples

DEFAULT_ROWS = 100_000
"""Samples for which there is room by default: 1.2 MB of classes, 1.6 MB of real values."""
_ROW_TYPES = {torch.int32: CLASS_ROW, torch.float64: POINT_ROW}


def kept_samples(stored: SampleBuffer) -> StoredSamples:
    """The rows on the host, one copy, or why there are none."""
    columns, reason = stored.columns()
    if columns is None:
        return StoredSamples(reason=reason)
    return StoredSamples(rows_of_columns(columns))


def look_at_targets(stored: SampleBuffer, target: Tensor) -> None:
    """Look at a batch as the loop hands it over: several targets a sample are no samples of their own."""
    samples = target.shape[0] if target.ndim else 1
    if target.numel() != samples:
        shape = tuple(target.shape[1:])
        stored.refuse(f"its targets hold several values a sample, {shape}")


def rows_of_columns(columns: Tensor) -> Rows:
    """Columns as rows on the host; this waits for the device."""
    host = np.ascontiguousarray(columns.cpu().numpy().T)
    return host.view(_ROW_TYPES[columns.dtype]).reshape(-1)


def check_keep_samples(rows: object) -> None:
    """Refuse what is no number of samples.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows <= MAX_ROWS:
        cure = "Pass the size of the validation set, or 0 to keep none."
        raise ConfigError("keep_samples", f"a whole number from 0 to {MAX_ROWS}", repr(rows), cure)
