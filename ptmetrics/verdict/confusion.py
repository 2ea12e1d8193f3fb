"""A confusion matrix as it was recorded, checked before anything is concluded from it."""

from typing import Any

import numpy as np

from ptmetrics.errors import DataError
from ptmetrics.verdict.evidence import Counts


def matrix(counts: Any) -> Counts | None:
    """Check and convert a confusion matrix; None stays None.

    Raises:
        DataError: If it is not square, or a cell is negative or no whole number.
    """
    if counts is None:
        return None
    cure = "Pass counts with one row for each actual class and one column for each predicted class."
    try:
        cells = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "confusion", "rows of equal length, all numbers", "ragged rows or text", cure
        ) from None
    if cells.ndim != 2 or cells.shape[0] != cells.shape[1]:
        raise DataError("confusion", "a square matrix", f"shape {cells.shape}", cure)
    bad = ~np.isfinite(cells) | (cells < 0) | (cells != np.floor(cells))
    if bad.any():
        i, j = (int(axis) for axis in np.argwhere(bad)[0])
        raise DataError(
            "confusion", "whole counts >= 0", f"{cells[i, j]:g} in row {i}, column {j}", cure
        )
    return cells.astype(np.int64)
