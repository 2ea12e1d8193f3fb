"""What an evaluation leaves beside the journal: small `.npy` files of rows, which NumPy reads.

`numpy.load(folder / "samples-12.npy")` gives what became of each validation sample of epoch 12,
with the fields of `CLASS_ROW` or `POINT_ROW` and those of `FURTHER`; "moves" what every score is
without each of some buckets of samples; "curves" and "reliability" what plots are drawn from;
"inputs" small pictures of the samples with the highest loss, where they were asked for. The
epoch's line in the journal holds the checksum of each file, so that a torn, stale or foreign one is
told from it.
"""

import dataclasses
import io
import os
import re
import stat
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.errors import DataError
from ptmetrics.record.atomic import replace
from ptmetrics.record.events import EpochData, SamplesData

Rows = npt.NDArray[Any]  # of one of the two types below, shape (samples,)
CLASS_ROW = np.dtype([("predicted", "<i4"), ("target", "<i4"), ("loss", "<f4")])
"""Predicted class, −1 where the row is ignored or refused; target; negative log-likelihood or NaN."""
POINT_ROW = np.dtype([("error", "<f8"), ("target", "<f8")])
"""Prediction − target, NaN where the row is refused; target as given."""
FURTHER = {
    "score": "<f4",  # of a yes, in the unit of the predictions
    "rank": "<i4",  # classes whose score is higher than the target's
    "weight": "<f4",  # 0 where the row does not count
    "margin_": "<f4",  # of each class, by its number: what its curve ranks the rows by
}
"""Fields that rows may have behind those, and their types."""
CURVE_FIELDS = ("threshold", "probability", "tp", "fp", "tn", "fn")
CURVE_ROW = np.dtype([("head", "<i4"), *((name, "<f8") for name in CURVE_FIELDS)])
"""One row a threshold, lowest first, of each head: the positive class, a class or a label."""
RELIABILITY_ROW = np.dtype(
    [("weight", "<f8"), ("confidence", "<f8"), ("accuracy", "<f8")],
)
"""One row a bin of equal width: its samples, their mean confidence and the share that is right."""
STEMS = ("samples", "moves", "curves", "reliability", "inputs")
PICTURE_CHANNELS = (1, 3)
MAX_SIDE = 32
"""Height and width of a picture, at most."""
MAX_PICTURES = 256
MAX_MOVES = 512
"""Scores of which the moves are kept."""
MAX_ROWS = 10_000_000
_MOST_ROWS = {"inputs": MAX_PICTURES}
_HEADER = 60_000  # more than the header of such a file ever takes
_MAX_BYTES = _HEADER + MAX_ROWS * (CLASS_ROW.itemsize + 12)
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ_FLAGS |= getattr(os, "O_BINARY", 0)
_READ_FLAGS |= getattr(os, "O_NONBLOCK", 0)  # a pipe in its place must not hang the reader
_NAME = re.compile(rf"(?:{'|'.join(STEMS)})-(\d+)(?:-rank\d+)?\.npy")


@dataclass(frozen=True)
class StoredSamples:
    """The samples of one evaluation.

    Attributes:
        rows: One row a sample, in the order in which they were validated; None without any.
        reason: Why there are none, as the end of a sentence; else None.
        moves: Where samples hold several rows, as pixels, come in groups or have several labels:
            every score without each of some buckets of samples, one row a bucket and one field a
            score; else None.
        beta: That of the F-beta, where it is known.
        inputs: Small pictures of the samples with the highest loss, the highest first, where
            `Monitor(keep_inputs=…)` asked for them: rows of `place`, the sample's place in the
            order of validation, and `picture`, 8 bits a channel, of shape (channels, height,
            width); else None.
        no_inputs: Why there are none, as the end of a sentence; else None.
        shares: What each rank has kept, where several validated: `rows` are those of this one
            alone until the record joins them.
    """

    rows: Rows | None = None
    reason: str | None = None
    moves: Rows | None = None
    beta: float | None = None
    inputs: Rows | None = None
    no_inputs: str | None = None
    shares: Sequence[SamplesData] = ()

    def worst(self, most: int = 20) -> tuple[npt.NDArray[np.int64], Rows]:
        """Samples with the highest loss, the highest first; where numbers are predicted, with the largest error.

        Args:
            most: How many.

        Returns:
            Their places in the order of validation, from 0, and their rows.

        Raises:
            DataError: If no samples were kept.
        """
        rows = self._some_rows()
        badness = np.abs(rows["loss"] if is_of_classes(rows) else rows["error"])
        known = np.flatnonzero(~np.isnan(badness))
        places = known[np.argsort(-badness[known], kind="stable")][:most]
        return places, rows[places]

    def misclassified(self) -> tuple[npt.NDArray[np.int64], Rows]:
        """All samples whose predicted class is wrong: their places in the order of validation, and their rows.

        Raises:
            DataError: If no samples of classes were kept.
        """
        rows = self._some_rows()
        if not is_of_classes(rows):
            cure = "Look at worst(): numbers have errors."
            raise DataError("samples", "samples of classes", "of numbers", cure)
        wrong = (rows["predicted"] >= 0) & (rows["predicted"] != rows["target"])
        places = np.flatnonzero(wrong)
        return places, rows[places]

    def _some_rows(self) -> Rows:
        if self.rows is None:
            cure = "Monitor(keep_samples=...) keeps them where each sample is one row."
            raise DataError("samples", "samples that were kept", f"none: {self.reason}", cure)
        return self.rows


def stem_of(field: str) -> str:
    """The name of a field in `FURTHER`: that without the number of a class."""
    return field.rstrip("0123456789")


def picture_row(shape: tuple[int, ...]) -> np.dtype[Any]:
    """What a row of pictures of (channels, height, width) is."""
    return np.dtype([("place", "<i8"), ("picture", "|u1", shape)])


def is_of_classes(rows: Rows) -> bool:
    """Whether rows are those of classes, and not of numbers."""
    return "predicted" in (rows.dtype.names or ())


NOT_STORED = StoredSamples(reason="no samples of it were kept")


class _RefusedError(Exception):
    """A file is not what the journal tells of it; the message says why."""


def samples_path(folder: Path, epoch: int, stem: str = "samples", rank: int = 0) -> Path:
    """Name the file of an epoch. No name comes from a record."""
    if rank:
        return folder / f"{stem}-{epoch}-rank{rank}.npy"
    return folder / f"{stem}-{epoch}.npy"


def write_samples(
    folder: Path, epoch: int, rows: Rows, stem: str = "samples", rank: int = 0
) -> SamplesData:
    """Put rows of an epoch into a run folder, whole or not at all.

    Returns:
        What the epoch's line must hold.

    Raises:
        OSError: If it cannot be written; an older file of that name is kept then.
    """
    data = file_of(rows)
    replace(samples_path(folder, epoch, stem, rank), lambda file: file.write(data))
    return {"rows": len(rows), "crc": f"{zlib.crc32(data):08x}"}


def file_of(rows: Rows) -> bytes:
    """What the file of some rows holds."""
    content = io.BytesIO()
    np.save(content, rows, allow_pickle=False)
    return content.getvalue()


def order_of_ranks(rows: Sequence[int]) -> npt.NDArray[np.int64]:
    """The places of all rows in the data, of so many of each rank, those of rank 0 first.

    Samplers deal rows out in turn. Where the numbers show that they did not, those of a rank stay
    together.

    Example:
        >>> order_of_ranks([3, 2]).tolist()
        [0, 2, 4, 1, 3]
        >>> order_of_ranks([1, 3]).tolist()
        [0, 1, 2, 3]
    """
    total = sum(rows)
    places = [np.arange(rank, total, len(rows)) for rank in range(len(rows))]
    if [len(each) for each in places] != list(rows):
        return np.arange(total)
    return np.concatenate(places)


def read_samples(folder: Path, epoch: EpochData) -> StoredSamples:
    """Read the samples of an epoch, as its line tells of them; what is wrong is a reason."""
    told = epoch.get("samples")
    if told is None:
        return NOT_STORED
    moves = None
    if "moves" in epoch.get("files", {}):
        moves = read_file(folder, epoch, "moves").rows
    if "reason" in told:
        found = StoredSamples(reason=told["reason"])
    elif "shares" in told:
        found = _read_shares(folder, epoch["epoch"], told["shares"])
    else:
        found = _read(samples_path(folder, epoch["epoch"]), "samples", told)
    inputs = read_file(folder, epoch, "inputs")
    if found.rows is not None and inputs.rows is not None:
        places = inputs.rows["place"]
        if not ((places >= 0) & (places < len(found.rows))).all():
            inputs = StoredSamples(reason="its pictures are of no sample of the epoch")
    return dataclasses.replace(found, moves=moves, inputs=inputs.rows, no_inputs=inputs.reason)


def _read_shares(folder: Path, epoch: int, shares: Sequence[SamplesData]) -> StoredSamples:
    """The samples of all ranks, each in a file of its own, in the order of the data."""
    each = []
    for rank, told in enumerate(shares):
        if not told.get("rows"):
            continue
        share = _read(samples_path(folder, epoch, rank=rank), "samples", told)
        if share.rows is None:
            return StoredSamples(reason=f"the share of rank {rank} is missing: {share.reason}")
        each.append(share.rows)
    rows = [share.get("rows", 0) for share in shares]
    if len({share.dtype for share in each}) != 1 or sum(rows) > MAX_ROWS:
        return StoredSamples(reason="the shares of its ranks cannot be joined")
    together = np.concatenate(each)
    joined = np.empty_like(together)
    joined[order_of_ranks(rows)] = together
    return StoredSamples(joined)


def read_file(folder: Path, epoch: EpochData, stem: str) -> StoredSamples:
    """Read another file of an epoch's rows; what is wrong is a reason."""
    told = epoch.get("files", {}).get(stem)
    if told is None:
        return StoredSamples(reason="none of it were kept")
    if "reason" in told:
        return StoredSamples(reason=told["reason"])
    return _read(samples_path(folder, epoch["epoch"], stem), stem, told)


def _read(path: Path, stem: str, told: SamplesData) -> StoredSamples:
    try:
        data = _content(path)
        if f"{zlib.crc32(data):08x}" != told.get("crc"):
            raise _RefusedError("is torn, altered or of another run: its checksum does not fit")
        return StoredSamples(_parsed_rows(data, stem))
    except FileNotFoundError:
        kept = "samples of the best and the last evaluation alone are kept"
        return StoredSamples(reason=f"{path.name} is gone: {kept}")
    except OSError as error:
        return StoredSamples(reason=f"{path.name} was refused: {error.strerror or error}")
    except _RefusedError as error:
        return StoredSamples(reason=f"{path.name} was refused: {error}")


def drop_samples(folder: Path, keep: Collection[int]) -> None:
    """Remove the files of all epochs but those to keep.

    Raises:
        OSError: If a file cannot be removed.
    """
    for path in folder.iterdir():
        found = _NAME.fullmatch(path.name)
        if found and int(found[1]) not in keep:
            path.unlink()


def _content(path: Path) -> bytes:
    with os.fdopen(os.open(path, _READ_FLAGS), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise _RefusedError("is no regular file")
        if state.st_size > _MAX_BYTES:
            raise _RefusedError(f"is larger than the {_MAX_BYTES // 2**20} MiB that are read")
        return file.read(state.st_size)


def _parsed_rows(data: bytes, stem: str) -> Rows:
    """The rows in the bytes of a file; nothing in them is ever run or unpickled."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=_HEADER)
    except Exception as error:  # NumPy raises what its parser happens to stumble on
        raise _RefusedError(f"is no NumPy file ({type(error).__name__})") from None
    if version != (1, 0):
        raise _RefusedError("is of a later format")
    if not _may_be(dtype, stem) or len(shape) != 1:
        raise _RefusedError("holds something else than rows of samples")
    if (
        shape[0] > _MOST_ROWS.get(stem, MAX_ROWS)
        or len(data) != file.tell() + shape[0] * dtype.itemsize
    ):
        raise _RefusedError(f"does not hold the {shape[0]} rows that it promises")
    return np.frombuffer(data, dtype, offset=file.tell())


def _may_be(dtype: np.dtype[Any], stem: str) -> bool:
    """Whether rows of a file may be of this type."""
    if stem == "curves":
        return dtype == CURVE_ROW
    if stem == "reliability":
        return dtype == RELIABILITY_ROW
    if stem == "inputs":
        return _are_pictures(dtype)
    fields = [(name, dtype[name].str) for name in dtype.names or ()]
    if stem == "moves":
        return 0 < len(fields) <= MAX_MOVES and {kind for _, kind in fields} == {"<f8"}
    first = CLASS_ROW if fields and fields[0][0] == "predicted" else POINT_ROW
    further = fields[len(first.descr) :]
    whole = dtype == np.dtype(fields)  # and no gaps between them
    return whole and fields == first.descr + further and _are_further(further)


def _are_pictures(dtype: np.dtype[Any]) -> bool:
    if dtype.names != ("place", "picture"):
        return False
    shape = dtype["picture"].shape
    if len(shape) != 3 or shape[0] not in PICTURE_CHANNELS:
        return False
    return dtype == picture_row(shape) and all(1 <= side <= MAX_SIDE for side in shape[1:])


def _are_further(fields: list[tuple[str, str]]) -> bool:
    names = [name for name, _ in fields]
    if len(set(names)) != len(names):
        return False
    return all(kind in (FURTHER.get(stem_of(name)), "<f8") for name, kind in fields)
