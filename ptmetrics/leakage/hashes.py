"""Hashes that tell equal samples: 128 bits, the same for any batch size, device and run."""

import hashlib
import tempfile
import unicodedata
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Hashes = npt.NDArray[np.int64]  # of shape (rows, 2)
Indices = npt.NDArray[np.int64]
SEED = 20240229
MOST_TWINS = 1_000_000
"""Above so many pairs each row is told with one of its twins alone."""
PART_ROWS = 2**25
"""So many rows are joined at once, which takes a gibibyte; more are joined part by part."""
_WORDS_AT_ONCE = 2**21


def hash_rows(batch: Tensor) -> Tensor:
    """Two 64-bit sums for each row of a batch, on its device, without a wait for it.

    A row is read as 32-bit words w; each sum is Σ wᵢ aᵢ modulo 2⁶⁴, with fixed random odd aᵢ, plus
    a constant of shape and type. Integers add up to the same in any order. Two rows that differ
    have equal hashes with a probability of at most 2⁻⁶⁴ over the aᵢ. −0.0 counts as 0.0.

    Args:
        batch: Of shape (rows, …), of any type.

    Returns:
        int64 of shape (rows, 2).

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
        >>> hashes = hash_rows(x)
        >>> (hashes == hashes[0]).all(1).tolist()
        [True, False, True]

    Source: Lemire and Kaser, Strongly universal string hashing is fast, 2014.
    """
    rows = batch.shape[0]
    salt = _salt(tuple(batch.shape[1:]), str(batch.dtype), batch.device)
    if not batch[0:1].numel():
        return salt.expand(rows, 2)
    if batch.is_floating_point():
        batch = batch + 0.0
    words = _words(batch.detach().reshape(rows, -1))
    factors = _factors(words.shape[1], batch.device)
    at_once = max(1, _WORDS_AT_ONCE // words.shape[1])
    return torch.cat([_word_sums(part, factors) for part in torch.split(words, at_once)]) + salt


def _words(rows: Tensor) -> Tensor:
    """The bytes of each row as 32-bit words; missing ones are 0."""
    octets = rows.contiguous().view(torch.uint8)
    missing = -octets.shape[1] % 4
    if missing:
        octets = functional.pad(octets, (0, missing))
    if octets.storage_offset() % 4:
        octets = octets.clone()
    return octets.view(torch.int32)


def _word_sums(words: Tensor, factors: Tensor) -> Tensor:
    if words.device.type == "cpu":  # where NumPy is quicker, and widens words a few at a time
        return torch.from_numpy(np.einsum("ij,kj->ik", words.numpy(), factors.numpy()))
    return torch.stack([(words * each).sum(1) for each in factors], 1)


@lru_cache(8)
def _factors(words: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randint(-(2**63), 2**63 - 1, (words, 2), generator=generator, device="cpu")
    return (drawn | 1).T.contiguous().to(device, non_blocking=True)


@lru_cache(256)
def _salt(shape: tuple[int, ...], dtype: str, device: torch.device) -> Tensor:
    salt = torch.from_numpy(_digest(f"{dtype} {shape}".encode()))
    return salt.to(device, non_blocking=True)


def hash_texts(texts: list[str]) -> Tensor:
    """The hash of each text as `normalised`, int64 of shape (texts, 2)."""
    digests = [_digest(normalised(text).encode(errors="surrogatepass")) for text in texts]
    return torch.from_numpy(np.array(digests).reshape(-1, 2))


def normalised(text: str) -> str:
    r"""The text in one spelling: compatible characters, no capitals, single spaces.

    Example:
        >>> normalised("  The  ﬁrst\nCat ")
        'the first cat'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _digest(data: bytes) -> Hashes:
    return np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), dtype="<i8").astype("i8")


def equal_pairs(first: Hashes, second: Hashes) -> Indices:
    """Rows of the first and of the second set that have the same hash, by the second's rows.

    Sets that do not fit into memory are joined part by part, by the last bits of the hashes.

    Args:
        first: Of shape (rows, 2), in memory or in a file.
        second: Likewise.

    Returns:
        Pairs (row of the first, row of the second) in the order of the second, of shape (pairs, 2);
        of more than a million pairs the first one of each row of the second.

    Example:
        >>> import numpy as np
        >>> a = np.array([[1, 1], [2, 2], [1, 1]])
        >>> equal_pairs(a, np.array([[2, 2], [1, 7], [1, 1]])).tolist()
        [[1, 0], [0, 2], [2, 2]]
    """
    parts = 1
    while (len(first) + len(second)) // parts > PART_ROWS:
        parts *= 2
    found = []
    for part in range(parts):
        rows = [np.flatnonzero((one[:, 0] & (parts - 1)) == part) for one in (first, second)]
        pairs = _twins_of(first[rows[0]], second[rows[1]])
        found.append(np.stack([rows[0][pairs[:, 0]], rows[1][pairs[:, 1]]], 1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]


def _twins_of(first: Hashes, second: Hashes) -> Indices:
    order = np.argsort(first[:, 0], kind="stable")
    halves = first[order, 0]
    begin = np.searchsorted(halves, second[:, 0], "left")
    number = np.searchsorted(halves, second[:, 0], "right") - begin
    if number.sum() > MOST_TWINS:
        number = np.minimum(number, 1)
    row = np.repeat(np.arange(len(second)), number)
    step = np.arange(len(row)) - np.repeat(number.cumsum() - number, number)
    twin = order[begin[row] + step]
    same = first[twin, 1] == second[row, 1]
    return np.stack([twin[same], row[same]], 1)


def repeated(hashes: Hashes) -> Indices:
    """Pairs (first row, later row) of rows that have the same hash, one for each later row.

    Example:
        >>> import numpy as np
        >>> repeated(np.array([[1, 1], [2, 2], [1, 1], [1, 1]])).tolist()
        [[0, 2], [0, 3]]
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = np.asarray(hashes)[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(1)
    first = order[np.flatnonzero(fresh)][fresh.cumsum() - 1]  # lexsort is stable: the lowest row
    pairs = np.stack([first, order], 1)[~fresh]
    return pairs[np.argsort(pairs[:, 1])]


class RowStore:
    """Rows of numbers that come batch by batch: in memory or, above a size, in a file.

    Args:
        most_bytes: What is kept in memory.

    Example:
        >>> import torch
        >>> rows = RowStore()
        >>> rows.add(torch.tensor([[1, 2]]))
        >>> rows.add(torch.tensor([[3, 4]]))
        >>> rows.array().tolist()
        [[1, 2], [3, 4]]
    """

    def __init__(self, most_bytes: int = 2**30) -> None:
        self._most_bytes = most_bytes
        self._waiting: list[Tensor] = []
        self._bytes = 0
        self._file: Path | None = None
        self._first = np.zeros((0, 2), dtype=np.int64)  # tells the form of what is in the file

    def add(self, rows: Tensor) -> None:
        """Keep a batch as it is, on its device."""
        self._waiting.append(rows)
        self._bytes += rows.numel() * rows.element_size()
        if self._bytes > self._most_bytes:
            self._spill()

    def _spill(self) -> None:
        rows = self._on_host()
        if self._file is None:
            folder = tempfile.TemporaryDirectory(prefix="ptmetrics-")
            weakref.finalize(self, folder.cleanup)
            self._file = Path(folder.name) / "rows"
            self._first = rows[:1].copy()
        with self._file.open("ab") as file:
            file.write(rows.tobytes())
        self._waiting = []
        self._bytes = 0

    def array(self) -> npt.NDArray[Any]:
        """All rows, of shape (rows, columns); of those in a file what is looked at is read."""
        if self._file is None:
            return self._on_host()
        if self._waiting:
            self._spill()
        number = self._file.stat().st_size // self._first.nbytes
        shape = (number, self._first.shape[1])
        return np.memmap(self._file, self._first.dtype, "r", shape=shape)

    def _on_host(self) -> npt.NDArray[Any]:
        if not self._waiting:
            return self._first[:0]
        rows = torch.cat([batch.cpu() for batch in self._waiting])
        self._waiting = [rows]
        return rows.numpy()
