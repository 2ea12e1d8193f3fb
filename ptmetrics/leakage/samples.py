"""What is kept of the samples of a set: a hash, a few numbers, label and ids of each."""

import math
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Subset

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.leakage.hashes import RowStore, hash_rows, hash_texts, normalised
from ptmetrics.monitor.console import length_of

Kind = Literal["pictures", "numbers", "text"]
KIND_WORDS: Mapping[Kind, str] = {
    "pictures": "pictures",
    "numbers": "rows of numbers",
    "text": "texts, or rows of a table that hold some",
}
Features = Callable[[Any], Tensor]
INPUT_KEYS = ("image", "img", "pixel_values", "x", "input", "inputs", "features", "text", "sentence",
          "input_ids", "data")  # fmt: skip
TARGET_KEYS = ("label", "labels", "target", "targets", "y", "class")
MOST_COLUMNS = 2048
"""Rows of more numbers are searched for near twins by features alone."""
SIDE = 8  # of a thumbnail
PIECE_LENGTH = 5  # characters of a text
PERMUTATIONS = 128
_READ_AT_ONCE = 256
_READ_AGAIN = 16  # samples by which an augmented set is known
_MOST_LABEL = 64  # numbers in a label
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_READING_ERRORS = (*_PILLOW_ERRORS, EOFError, RuntimeError)  # of NumPy and torchvision too


def parts_of(item: Any) -> tuple[Any, Any]:
    """Input and label of what a set or a loader yields; None for a label that there is not.

    Example:
        >>> parts_of({"label": 3, "image": "a picture"})
        ('a picture', 3)
        >>> parts_of(("a picture", 3))
        ('a picture', 3)
    """
    if isinstance(item, Mapping):
        label = next((item[key] for key in TARGET_KEYS if key in item), None)
        known = [key for key in INPUT_KEYS if key in item]
        others = [key for key in item if key not in TARGET_KEYS]
        return next((item[key] for key in (*known, *others)), None), label
    if isinstance(item, tuple) or (isinstance(item, list) and not _is_row(item)):
        label = None
        if len(item) > 1:
            label = item[1]
        return next(iter(item), None), label
    return item, None


def _is_row(item: Any) -> bool:
    return all(isinstance(value, int | float) for value in item)


def kind_of(shape: Sequence[int]) -> Kind:
    """Whether samples of this shape are taken for pictures or for rows of numbers."""
    if len(shape) == 2 and min(shape) >= SIDE:
        return "pictures"
    if len(shape) == 3 and (shape[0] in (1, 3, 4) or shape[2] in (1, 3, 4)):
        return "pictures"
    return "numbers"


class Fingerprints:
    """What is kept of the samples of one set, batch by batch.

    Args:
        name: What the set is called in errors.
        near: Whether to keep what near twins are found by.
        features: From a batch to one row of numbers for each sample, in place of thumbnails.

    Attributes:
        kind: What the samples are; None before the first.
        form: Shape and type of a sample, as text; empty where they may differ, as of files.
        rows: Number of samples so far.
        labels: One for each; None where there is none.
        refused: Numbers of the samples that could not be read, and why.
        near: As given; False once the samples have shown that it cannot be.
        why_not: Why near twins cannot be looked for.

    Example:
        >>> import torch
        >>> kept = Fingerprints("val")
        >>> kept.add(torch.rand(4, 3, 32, 32))
        >>> kept.kind, kept.rows, kept.hashes().shape, kept.features().shape
        ('pictures', 4, (4, 2), (4, 192))
    """

    def __init__(self, name: str, *, near: bool = True, features: Features | None = None) -> None:
        self.name = name
        self.near = near
        self.why_not = ""
        self.kind: Kind | None = None
        self.form = ""
        self.rows = 0
        self.labels: list[Any] = []
        self.refused: dict[int, str] = {}
        self._of_batch = features
        self._hashes = RowStore()
        self._features = RowStore()

    @property
    def own_features(self) -> bool:
        """Whether a function of the user's makes the features."""
        return self._of_batch is not None

    @property
    def pictures(self) -> bool:
        """Whether the features are thumbnails."""
        return self.kind == "pictures" and not self.own_features

    def hashes(self) -> npt.NDArray[np.int64]:
        """Of shape (rows, 2)."""
        return self._hashes.array()

    def features(self) -> npt.NDArray[np.float32]:
        """Of shape (read samples, numbers), in their order."""
        return self._features.array()

    def read(self) -> npt.NDArray[np.int64]:
        """Numbers of the samples that could be read."""
        return np.delete(np.arange(self.rows), list(self.refused))

    def add(self, batch: Any, labels: Sequence[Any] | None = None, *, alike: bool = True) -> None:
        """Add samples.

        Args:
            batch: A tensor of shape (samples, …), or a list of texts.
            labels: One for each.
            alike: Whether all samples of the set must have one shape.

        Raises:
            DataError: If they are of another kind or shape than those before.
        """
        kind: Kind = "text"
        form = ""
        if isinstance(batch, Tensor):
            kind = kind_of(batch.shape[1:])
            if alike:
                form = f"{batch.dtype} of shape {tuple(batch.shape[1:])}"
        self._check(kind, form)
        number = len(batch)
        if kind == "text":
            self._hashes.add(hash_texts(batch))
        else:
            self._hashes.add(hash_rows(batch))
        self._add_features(batch)
        self.rows += number
        self.labels += labels or [None] * number

    def part(self, first: int, behind: int) -> "Fingerprints":
        """The samples from one to that before another alone, of a set in which all were read."""
        features = None
        if self.near:
            features = self.features()[first:behind]
        hashes = self.hashes()[first:behind]
        part = Fingerprints.of_arrays(self.name, hashes, features, self.labels[first:behind])
        part.kind, part.form, part.why_not = self.kind, self.form, self.why_not
        return part

    @classmethod
    def of_arrays(
        cls,
        name: str,
        hashes: npt.NDArray[np.int64],
        features: npt.NDArray[np.float32] | None,
        labels: list[Any],
    ) -> "Fingerprints":
        """Samples that were read before; what kind they are of is to be set."""
        made = cls(name, near=features is not None)
        made.labels = labels
        made.rows = len(labels)
        made._hashes.add(torch.from_numpy(hashes))
        if features is not None:
            made._features.add(torch.from_numpy(features))
        return made

    @property
    def words(self) -> str:
        """What the samples are, in words."""
        if self.kind is None:
            return "no samples"
        return self.form or KIND_WORDS[self.kind]

    def _check(self, kind: Kind, form: str) -> None:
        if self.kind is None:
            self.kind = kind
            self.form = form
        if (kind, form) != (self.kind, self.form):
            rule = f"samples of one kind and shape, {self.words}"
            cure = "Pass a view of the set in which all samples are alike."
            raise DataError(f"{self.name}[{self.rows}]", rule, form or KIND_WORDS[kind], cure)

    def _add_features(self, batch: Any) -> None:
        if not self.near:
            return
        if self._of_batch is not None:
            made = self._of_batch(batch)
            if not isinstance(made, Tensor) or made.shape[:1] != (len(batch),):
                rule = f"a tensor of {len(batch)} rows, one for each sample"
                got = f"one of shape {tuple(getattr(made, 'shape', ()))}"
                raise ConfigError("features", rule, got, "Mend the function.")
            self._features.add(made.detach().float().flatten(1))
        elif self.kind == "pictures":
            self._features.add(thumbnails(batch))
        elif self.kind == "text" and find_spec("datasketch") is None:
            self.near = False
            self.why_not = "datasketch is not installed; run pip install 'ptmetrics[leakage]'"
        elif self.kind == "text":
            self._features.add(text_features(batch))
        elif batch[0:1].numel() <= MOST_COLUMNS:
            self._features.add(batch.detach().float().reshape(len(batch), -1))
        else:
            self.near = False
            self.why_not = f"rows of more than {MOST_COLUMNS} numbers; pass features="

    def refuse(self, why: str) -> None:
        """The next sample cannot be read; it keeps its number and equals no other."""
        nothing = f"{self.name} {self.rows} cannot be read"
        self.refused[self.rows] = why
        self._hashes.add(hash_texts([nothing]))
        self.rows += 1
        self.labels.append(None)


def thumbnails(pictures: Tensor) -> Tensor:
    """Pictures of 8 × 8 in all their colours, one row of numbers each.

    Args:
        pictures: Of shape (N, C, H, W), (N, H, W, C) or (N, H, W).
    """
    pictures = as_channels(pictures.detach())[:, :3].float()
    if any(length % SIDE for length in pictures.shape[2:]):
        return functional.adaptive_avg_pool2d(pictures, SIDE).flatten(1)
    height, width = (length // SIDE for length in pictures.shape[2:])
    rows = pictures.reshape(*pictures.shape[:2], SIDE, height, -1).mean(3)  # which is quicker
    return rows.reshape(*rows.shape[:3], SIDE, width).mean(4).flatten(1)


def as_channels(pictures: Tensor) -> Tensor:
    """Pictures as (N, C, H, W), from that, (N, H, W, C) or (N, H, W)."""
    if pictures.ndim == 3:
        return pictures.unsqueeze(1)
    if pictures.shape[1] not in (1, 3, 4):
        return pictures.movedim(-1, 1)
    return pictures


def text_features(texts: list[str]) -> Tensor:
    """MinHashes of the pieces of 5 characters of each text, as random numbers around 0.

    The product of two rows estimates the share of pieces that both texts have (Jaccard).

    Source: Broder 1997; datasketch.
    """
    from datasketch import MinHash

    rows = []
    for text in texts:
        data = normalised(text).encode(errors="surrogatepass")
        pieces = {
            data[at : at + PIECE_LENGTH] for at in range(max(1, len(data) - PIECE_LENGTH + 1))
        }
        sketch = MinHash(num_perm=PERMUTATIONS, hashfunc=zlib.crc32)
        sketch.update_batch(pieces)
        rows.append(sketch.hashvalues)
    values = np.array(rows, dtype=np.uint64) * np.uint64(0x9E3779B1) % np.uint64(2**32)
    return torch.from_numpy((values / 2**32 - 0.5).astype(np.float32))


# A whole set, item by item.


class Reader:
    """Reads a set from its first item to its last.

    Args:
        name: What the set is called in errors.
        sample: From an item to what is compared; None takes the input of a pair or mapping.
        ids: From an item to the id of its sample; None for none.
        groups: From an item to its group, such as a patient.
        kept: What the samples are added to.

    Attributes:
        ids: Those of the items.
        groups: Likewise.
    """

    def __init__(
        self,
        kept: Fingerprints,
        *,
        sample: Callable[[Any], Any] | None = None,
        ids: Callable[[Any], Hashable] | None = None,
        groups: Callable[[Any], Hashable] | None = None,
    ) -> None:
        self.kept = kept
        self.ids: list[Hashable] = []
        self.groups: list[Hashable] = []
        self._sample = sample
        self._id_of = ids
        self._group_of = groups
        self._batch: list[Any] = []
        self._labels: list[Any] = []
        self._alike = True

    def read(self, items: Iterable[Any]) -> None:
        """Take all items; one that is an exception could not be read.

        Raises:
            DataError: If an item is nothing that can be compared, or unlike those before it; or
                none could be read.
        """
        for item in items:
            if not isinstance(item, Exception):
                item = self._take(item)
            if isinstance(item, Exception):
                self._flush()
                self.kept.refuse(str(item) or type(item).__name__)
                if self._id_of is not None:
                    self.ids.append(None)
                if self._group_of is not None:
                    self.groups.append(None)
        self._flush()
        kept = self.kept
        if len(kept.refused) == kept.rows:
            got = "none"
            if kept.refused:
                got = f"none of {kept.rows}: {kept.refused[0]}"
            raise DataError(
                kept.name, "samples that can be read", got, "Pass a set that holds some."
            )

    def _take(self, item: Any) -> Exception | None:
        value, label = parts_of(item)
        if self._sample is not None:
            value = self._sample(item)
        alike = not _is_picture_of_pil(value)
        try:
            made = as_sample(value)
        except _READING_ERRORS as error:
            return error
        if made is None:
            index = self.kept.rows + len(self._batch)
            rule = "a tensor, an array, a picture, numbers or a text"
            cure = "Pass sample=, from an item to what is to be compared."
            raise DataError(f"{self.kept.name}[{index}]", rule, type(value).__name__, cure)
        if self._batch and not _go_together(self._batch[-1], made, alike == self._alike):
            self._flush()
        self._alike = alike
        self._batch.append(made)
        self._labels.append(plain_label(label))
        if self._id_of is not None:
            self.ids.append(plain_label(self._id_of(item)))
        if self._group_of is not None:
            self.groups.append(plain_label(self._group_of(item)))
        if len(self._batch) == _READ_AT_ONCE:
            self._flush()
        return None

    def _flush(self) -> None:
        batch: Any = self._batch
        if not batch:
            return
        if isinstance(batch[0], Tensor):
            batch = torch.stack(batch)
        self.kept.add(batch, self._labels, alike=self._alike)
        self._batch = []
        self._labels = []


def _is_picture_of_pil(value: Any) -> bool:
    return type(value).__module__.startswith("PIL.")


def as_sample(value: Any) -> Tensor | str | None:
    """What is compared of an input: a tensor or a text; None where it is neither."""
    if isinstance(value, Tensor):
        return value.to_dense()
    if isinstance(value, str):
        return value
    if _is_picture_of_pil(value):
        value = np.array(value.convert("RGB"))
    elif isinstance(value, int | float) or (isinstance(value, list | tuple) and value):
        if not isinstance(value, int | float) and not _is_row(value):
            return None
        value = np.array(value, dtype=np.float64)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(value))
    return None


def _go_together(first: Any, second: Any, alike: bool) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return alike and first.shape == second.shape and first.dtype == second.dtype
    return alike and isinstance(first, str) and isinstance(second, str)


def plain_label(label: Any) -> Any:
    """A label or id as something to compare: a number, a text, a tuple of numbers, a hash of many.

    Not a number is none at all.
    """
    if isinstance(label, np.ndarray | np.generic) and label.dtype.kind in "biuf":
        label = torch.from_numpy(np.array(label))
    if isinstance(label, Tensor) and label.numel() == 1:
        label = label.item()
    if not isinstance(label, Tensor):
        if isinstance(label, float) and math.isnan(label):
            return None
        try:
            hash(label)
        except TypeError:
            return repr(label)
        return label
    if label.numel() <= _MOST_LABEL:
        return tuple(label.flatten().tolist())
    return tuple(hash_rows(label.unsqueeze(0))[0].tolist())


def items_of(data: Any, name: str) -> Iterator[Any]:
    """The items of a set in order; an exception in the place of one that cannot be read.

    What has a length and can be indexed is; everything else is streamed.

    Raises:
        ConfigError: If it can be neither.
    """
    if isinstance(data, DataLoader):
        data = data.dataset
    if isinstance(data, Mapping) or not (hasattr(data, "__getitem__") or hasattr(data, "__iter__")):
        cure = "Pass a dataset, a tensor, an array or a list of samples."
        raise ConfigError(name, "a set of samples", type(data).__name__, cure)
    length = length_of(data)
    if length is None or not hasattr(data, "__getitem__"):
        yield from data
        return
    for index in range(length):
        try:
            item = data[index]
        except _READING_ERRORS as error:
            item = error
        yield item


def is_augmented(data: Any, kept: Fingerprints, sample: Callable[[Any], Any] | None = None) -> bool:
    """Whether samples of a set are other ones when they are read again; False for a stream."""
    if isinstance(data, DataLoader):
        data = data.dataset
    if length_of(data) is None or not hasattr(data, "__getitem__"):
        return False
    read = kept.read()
    rows = read[:: max(1, len(read) // _READ_AGAIN)].tolist()
    again = Fingerprints(kept.name, near=False)
    Reader(again, sample=sample).read(data[row] for row in rows)
    return not np.array_equal(again.hashes(), kept.hashes()[rows])


def ids_of_set(data: Any) -> list[Hashable] | None:
    """What tells the samples of a set from others without reading them: files, or rows of a set.

    Example:
        >>> from torch.utils.data import Subset
        >>> numbers = list(range(10))
        >>> first, second = Subset(numbers, [0, 1, 2]), Subset(numbers, [2, 3])
        >>> set(ids_of_set(first)) & set(ids_of_set(second)) == {("row", id(numbers), 2)}
        True
    """
    if isinstance(data, DataLoader):
        data = data.dataset
    if isinstance(data, Subset):
        inner = ids_of_set(data.dataset)
        if inner is not None:
            return [inner[index] for index in data.indices]
        return [("row", id(data.dataset), int(index)) for index in data.indices]
    listed = getattr(data, "samples", None)
    if not isinstance(listed, list) or len(listed) != length_of(data):
        return None
    paths = [item[0] if isinstance(item, tuple) else item for item in listed]
    if not all(isinstance(path, str | Path) for path in paths):
        return None
    return [str(Path(path).resolve()) for path in paths]
