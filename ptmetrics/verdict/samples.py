"""The samples of evaluations, held against each other: are they the same, which of them count."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.record.samples import NOT_STORED, Rows, StoredSamples, is_of_classes
from ptmetrics.verdict.finding import Estimate, recorded_estimate

Floats = npt.NDArray[np.float64]
ReadSamples = Callable[[], StoredSamples]
_SAME_LOSS = 1e-3  # the criterion may have worked in half precision


class CannotPairError(Exception):
    """Two evaluations cannot be paired; the message says why."""


def no_samples() -> StoredSamples:
    """What is read where no samples were kept."""
    return NOT_STORED


@dataclass(frozen=True)
class Sampled(Estimate):
    """A recorded score that knows the samples it stands on.

    Args:
        score: Its name without the split.
        label: The class whose score it is; None for a score of all.
        samples: Reads the samples, when they are asked for.
        error_bound: Certified bound of the recorded value's error.
    """

    score: str = ""
    label: int | None = None
    samples: ReadSamples = no_samples
    error_bound: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The estimate alone."""
        everything = super().to_dict()
        return {field.name: everything[field.name] for field in fields(Estimate)}


def samples_of(run: Any, epoch: Mapping[str, Any]) -> ReadSamples:
    """What reads the validation samples of an epoch once; a run that cannot be asked holds none."""
    read = getattr(run, "kept", None)
    if read is None:
        return no_samples
    return cache(lambda: read(epoch))


def sampled(score: Mapping[str, Any], name: str, samples: ReadSamples) -> Estimate:
    """A recorded score by its full name; one of validation knows its samples."""
    bare = recorded_estimate(score)
    if not name.startswith("val/"):
        return bare
    bound = score.get("error_bound") or 0.0
    bare_name = name.removeprefix("val/")
    return Sampled(**vars(bare), score=bare_name, samples=samples, error_bound=bound)


def same_targets(first: StoredSamples, second: StoredSamples) -> bool | None:
    """Whether two evaluations saw the same targets in the same order; None where it cannot be told.

    The same targets in another order are no proof of the same samples, and no proof against it.
    """
    if first.rows is None or second.rows is None:
        return None
    targets, others = first.rows["target"], second.rows["target"]
    if _alike(targets, others):
        return True
    if _alike(np.sort(targets), np.sort(others)):
        return None
    return False


def rows_of(samples: StoredSamples, name: str) -> Rows:
    """The rows of an evaluation, which `name` names.

    Raises:
        CannotPairError: If there are none.
    """
    if samples.rows is None:
        raise CannotPairError(f"in the {name}, {samples.reason}")
    return samples.rows


def _alike(first: Any, second: Any) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))


def aligned(first: Rows, second: Rows) -> tuple[Rows, Rows]:
    """The rows that count, of both.

    Raises:
        CannotPairError: If the targets differ or stand in another order, or other rows count.
    """
    if is_of_classes(first) != is_of_classes(second):
        raise CannotPairError("one predicts classes and the other numbers")
    if not _alike(first["target"], second["target"]):
        if _alike(np.sort(first["target"]), np.sort(second["target"])):
            raise CannotPairError(
                "their samples came in another order, so validate without shuffling"
            )
        raise CannotPairError("their samples have other targets")
    counts = rows_that_count(first)
    if not _alike(counts, rows_that_count(second)):
        raise CannotPairError("some samples were refused in one of them only")
    if not counts.any():
        raise CannotPairError("no sample counts")
    return first[counts], second[counts]


def checksum(targets: npt.NDArray[Any]) -> str:
    """Tells targets in their order from others: CRC-32 of 32-bit classes, or of 64-bit numbers."""
    stored = "<f8"
    if targets.dtype.kind != "f":
        stored = "<i4"
    return f"{zlib.crc32(targets.astype(stored).tobytes()):08x}"


def rows_that_count(rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows were neither refused nor ignored, and have a weight."""
    counts = rows["predicted"] >= 0 if is_of_classes(rows) else ~np.isnan(rows["error"])
    return np.asarray(counts & (weights_of(rows) > 0))


def weights_of(rows: Rows) -> Floats:
    """The weight of each row, 1 where none was given."""
    if "weight" in (rows.dtype.names or ()):
        return np.asarray(rows["weight"], dtype=np.float64)
    return np.ones(len(rows))


def row_losses(rows: Rows, mean: float) -> Floats:
    """The loss of each row whose mean is the recorded one.

    It is that of the likelihood; where numbers are predicted, the squared error or the absolute
    one.

    Raises:
        CannotPairError: If it is none of them, as with smoothed labels or weighted classes.
    """
    if is_of_classes(rows):
        candidates = [rows["loss"].astype(np.float64)]
    else:
        candidates = [np.square(rows["error"]), np.abs(rows["error"])]
    weight = weights_of(rows)
    for losses in candidates:
        # False for NaN and infinity.
        if abs(float(np.average(losses, weights=weight)) - mean) <= _SAME_LOSS * abs(mean):
            return losses
    raise CannotPairError("the recorded loss is not the mean of the kept ones")
