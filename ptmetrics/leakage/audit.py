"""`audit`: which samples of a validation set stand in the training set, before anything is trained."""

import random
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.leakage.hashes import Indices, equal_pairs, repeated
from ptmetrics.leakage.near import NearTwins, near_twins
from ptmetrics.leakage.samples import (
    Features,
    Fingerprints,
    Reader,
    as_channels,
    as_sample,
    ids_of_set,
    is_augmented,
    items_of,
    parts_of,
    plain_label,
)
from ptmetrics.monitor.console import length_of
from ptmetrics.record.events import AUDIT_PARTS
from ptmetrics.record.printable import printable, quantity
from ptmetrics.verdict.finding import percent
from ptmetrics.verdict.samples import checksum
from ptmetrics.verdict.stats import clopper_pearson

Pair = tuple[int, int]
Ids = str | Callable[[Any], Hashable] | tuple[Sequence[Hashable], Sequence[Hashable]]
_SHOWN_SIDE = 64  # pixels of a thumbnail in a notebook
SHOWN = 5
"""Pairs that are named in a record and in a summary."""
CANNOT_FIND = (
    "Not searched for: shifts of more than a pixel in 32, mirrored pictures, strong crops; targets "
    "that are hidden in the inputs; statistics fitted on all data; what a pre-trained model has seen."
)


@dataclass(frozen=True)
class Audit:
    """What an audit of two sets found; pairs are (row of training, row of validation), from 0.

    Attributes:
        train_rows: Samples of the training set.
        val_rows: Samples of the validation set.
        ids: Pairs with the same id, file or row of one set.
        groups: Pairs of one group, such as a patient: the first of each row of validation.
        exact: Pairs of equal samples.
        near: Pairs of near duplicates that are not equal.
        duplicates: Pairs (earlier, later) of equal rows of validation.
        conflicts: Equal samples with other labels: set of the first, its row, row of validation.
        not_checked: What was not looked for, of "ids", "exact", "near" and so on, and why.
        refused: Set to the rows that could not be read, and why.
        near_of: Rows of validation that were searched for near twins.
        labels: Labels of validation.
        split: What the validation set is called in a record.
        places: What the rows of training count.
        seconds: What it cost.
        thumbnails: Where they were asked for, both pictures of the first pairs, by their rows of
            validation: 8 bits a channel, of shape (3, height, width).
        files: Set to the files of its rows, where they are known.

    Example:
        >>> import ptmetrics as pm
        >>> found = pm.audit(["one text", "another"], ["One  TEXT", "a third"], near=False)
        >>> found.exact
        [(0, 0)]
        >>> print(found.headline())
        val, 2 rows: 1 equal to a training sample; near NOT CHECKED (not asked for)
    """

    train_rows: int
    val_rows: int
    ids: list[Pair] = field(default_factory=list)
    groups: list[Pair] = field(default_factory=list)
    exact: list[Pair] = field(default_factory=list)
    near: list[Pair] = field(default_factory=list)
    duplicates: list[Pair] = field(default_factory=list)
    conflicts: list[tuple[str, int, int]] = field(default_factory=list)
    not_checked: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    near_of: int = 0
    labels: Sequence[Any] = field(default=(), repr=False)
    split: str = "val"
    places: str = "of the training set"
    seconds: float = 0.0
    thumbnails: Mapping[int, Any] = field(default_factory=dict, repr=False)
    files: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)

    @property
    def leaked(self) -> list[int]:
        """Rows of validation that training has seen, by any of the ways."""
        found = {
            row for pairs in (self.ids, self.groups, self.exact, self.near) for _, row in pairs
        }
        return sorted(found)

    def rows(self, part: str) -> int:
        """Rows of validation that stand in pairs of a part, such as "exact"."""
        return len({pair[-1] for pair in getattr(self, part)})

    def summary(self) -> str:
        """What was found, with intervals, five pairs of each kind, and what was not looked for."""
        return "\n".join(map(printable, self._lines()))

    def headline(self) -> str:
        """What was found, in one line."""
        told = []
        for part in AUDIT_PARTS:
            if part in self.not_checked and part in ("exact", "near"):
                told.append(f"{part} NOT CHECKED ({self.not_checked[part]})")
            elif self.rows(part):
                told.append(f"{self.rows(part)} {AUDIT_PARTS[part]}")
        return (
            f"{self.split}, {quantity(self.val_rows, 'row')}: {'; '.join(told) or 'nothing found'}"
        )

    def _lines(self) -> Iterator[str]:
        yield f"{self.train_rows:,} training rows, {self.val_rows:,} of {self.split}"
        for part, words in AUDIT_PARTS.items():
            if part in self.not_checked:
                yield f"  {part:<10} NOT CHECKED ({self.not_checked[part]})"
                continue
            pairs = getattr(self, part)
            line = f"  {part:<10} {self.rows(part):,} {words}"
            if part == "conflicts":
                line = f"  {part:<10} {len(pairs):,} {words}"
            if pairs and part != "conflicts":
                line += f": {self._share(part)}"
            yield line
            if pairs:
                yield f"             {self._named(part, pairs)}"
        for name, refused in self.refused.items():
            first = "; ".join(f"{row}: {why}" for row, why in list(refused.items())[:SHOWN])
            yield f"  {quantity(len(refused), 'row')} of {name} could not be read ({first})"
        yield f"  {CANNOT_FIND}"
        yield f"  took {self.seconds:.1f} s"

    def _of(self, part: str) -> int:
        if part == "near":
            return self.near_of
        return self.val_rows

    def _share(self, part: str) -> str:
        of = self._of(part)
        rows = self.rows(part)
        low, high = clopper_pearson(rows, of)
        return f"{percent(rows / of)} [{percent(low)}, {percent(high)}] of {of:,} rows"

    def _named(self, part: str, pairs: Sequence[Any]) -> str:
        shown = "; ".join(self._words_of(part, pair) for pair in pairs[:SHOWN])
        if len(pairs) > SHOWN:
            shown += "; …"
        return shown

    def _words_of(self, part: str, pair: Sequence[Any]) -> str:
        first = "train"
        if part == "duplicates":
            first = self.split
        if part == "conflicts":
            first, *pair = pair
        sign = "="
        if part == "near":
            sign = "≈"
        return f"{self._row(first, pair[0])} {sign} {self._row(self.split, pair[1])}"

    def _row(self, name: str, row: int) -> str:
        if name in self.files:
            return f"{name} {row} ({self.files[name][row]})"
        return f"{name} {row}"

    def to_dict(self) -> dict[str, Any]:
        """Everything but labels and thumbnails, as JSON takes it."""
        pairs = [*self.ids, *self.groups, *self.exact, *self.near]
        files = self.files
        if len(files) < 2:
            pairs = []
        return {
            "train_rows": self.train_rows,
            "val_rows": self.val_rows,
            **{part: [list(pair) for pair in getattr(self, part)] for part in AUDIT_PARTS},
            "leaked": self.leaked,
            "not_checked": dict(self.not_checked),
            "refused": {name: dict(rows) for name, rows in self.refused.items()},
            "near_of": self.near_of,
            "seconds": self.seconds,
            "files": {
                "train": {row: files["train"][row] for row, _ in pairs},
                self.split: {row: files[self.split][row] for _, row in pairs},
            },
            "cannot_find": CANNOT_FIND,
        }

    def to_record(self) -> dict[str, Any]:
        """The line of a run's record: numbers, five pairs of each kind, rows that training has seen."""
        parts: dict[str, Any] = {}
        for part in AUDIT_PARTS:
            if part in self.not_checked:
                parts[part] = {"why": self.not_checked[part]}
                continue
            pairs = getattr(self, part)
            parts[part] = {
                "rows": self.rows(part),
                "of": self._of(part),
                "pairs": [list(pair[-2:]) for pair in pairs[:SHOWN]],
                "named": [self._words_of(part, pair) for pair in pairs[:SHOWN]],
            }
        return {
            "split": self.split,
            "train_rows": self.train_rows,
            "val_rows": self.val_rows,
            "places": self.places,
            "parts": parts,
            "leaked": self.leaked,
            "targets": crc_of(self.labels),
            "cannot_find": CANNOT_FIND,
            "refused": {name: len(rows) for name, rows in self.refused.items()},
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import audit_html

        return audit_html(self.to_record(), self.thumbnails, self.labels)


def crc_of(labels: Any) -> str | None:
    """Checksum of targets as a run's samples store them; None where they are no single numbers."""
    try:
        values = np.asarray(labels)
    except ValueError:
        return None
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "biuf":
        return None
    return checksum(values)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """What an augmentation draws in here leaves the random numbers of torch and Python as they were."""
    before = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(before)


@_random_state_kept()
def audit(
    train: Any,
    val: Any,
    *,
    sample: Callable[[Any], Any] | None = None,
    ids: Ids | None = None,
    groups: Ids | None = None,
    near: bool = True,
    features: Features | None = None,
    most_near: int = 20_000,
    split: str = "val",
    thumbnails: bool = False,
    progress: bool | None = None,
) -> Audit:
    """Look for samples of a validation or test set that stand in the training set.

    Both sets must be seen without augmentation: equal samples are told by all their bits. What has
    a length and can be indexed is read by index, everything else once from its beginning to its
    end; nothing but hashes and small features is kept.

    Args:
        train: A dataset, or the loader around one, a tensor, an array or a list. Its items are
            inputs, pairs (input, label) or mappings; inputs are tensors, arrays, pictures of PIL,
            numbers or texts.
        val: What is held against it.
        sample: From an item to what is compared, where that is not its input.
        ids: Id of each sample: a key of items that are mappings, a function of an item, or two
            sequences. None takes the files of an image folder and the rows of a `Subset`.
        groups: Likewise what samples belong to that are not independent: patient, video, user.
        near: Whether to look for near duplicates.
        features: From a batch of inputs to a row of numbers each, in place of thumbnails, such as
            pooled features of the model before it is fine-tuned.
        most_near: Of more rows of validation a sample is searched for near duplicates.
        split: What the validation set is called in a record.
        thumbnails: Whether the result shows pictures of the first pairs. They are in no record.
        progress: Show a bar; None shows it on a terminal only.

    Raises:
        DataError: If an item holds nothing that can be compared, items of a set differ in shape, no
            item can be read, or the sets are of unlike kinds.
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> _ = torch.manual_seed(0)
        >>> train, val = torch.randn(200, 8), torch.randn(50, 8)
        >>> val[7] = train[3]
        >>> val[9] = train[5] + 0.001
        >>> found = pm.audit(train, val)
        >>> found.exact, found.near, found.leaked
        ([(3, 7)], [(5, 9)], [7, 9])
    """
    if most_near < 1:
        raise ConfigError("most_near", "1 or more", str(most_near), "Pass near=False for none.")
    began = time.perf_counter()
    kept = []
    augmented = []
    files: dict[str, list[str]] = {}
    of_sets: dict[str, list[list[Hashable]]] = {"ids": [], "groups": []}
    for place, (name, data) in enumerate((("train", train), (split, val))):
        reader = Reader(
            Fingerprints(name, near=near, features=features),
            sample=sample,
            ids=_of_items(ids),
            groups=_of_items(groups),
        )
        reader.read(_with_bar(items_of(data, name), name, length_of(data), progress))
        kept.append(reader.kept)
        if is_augmented(data, reader.kept, sample):
            augmented.append(name)
        own = ids_of_set(data) or []
        if own and isinstance(own[0], str):
            files[name] = list(map(str, own))
        of_sets["ids"].append(_given(ids, place, reader.ids) or own)
        of_sets["groups"].append(_given(groups, place, reader.groups))
    for part, (first, second) in of_sets.items():
        _check_lengths(part, kept, (first, second))
    found = compared(*kept, most_near=most_near)
    for part, (first, second) in of_sets.items():
        if first and second:
            del found["not_checked"][part]
    for part in ("exact", "near"):
        if augmented and not found[part]:
            why = f"augmented: {' and '.join(augmented)} changes each time it is read"
            found["not_checked"].setdefault(part, why)
    shown = int(thumbnails and kept[0].kind == "pictures") * SHOWN
    return Audit(
        train_rows=kept[0].rows,
        val_rows=kept[1].rows,
        ids=_shared(*of_sets["ids"]),
        groups=_shared(*of_sets["groups"]),
        refused={one.name: one.refused for one in kept if one.refused},
        labels=kept[1].labels,
        split=split,
        seconds=time.perf_counter() - began,
        thumbnails=_pictures_of((train, val), sample, found, shown),
        files=files,
        **found,
    )


def compared(train: Fingerprints, val: Fingerprints, *, most_near: int = 20_000) -> dict[str, Any]:
    """What two sets share by their samples: arguments of an `Audit`.

    Raises:
        DataError: If they are of unlike kinds.
    """
    if (train.kind, train.form) != (val.kind, val.form):
        rule = f"samples as in {train.name}, {train.words}"
        cure = "Give both sets the same view, without augmentation."
        raise DataError(val.name, rule, val.words, cure)
    exact = equal_pairs(train.hashes(), val.hashes())
    duplicates = repeated(val.hashes())
    not_checked = {"ids": "none are known", "groups": "none are known"}
    twins = NearTwins()
    why = train.why_not or val.why_not
    if train.near and val.near:
        known = np.unique(exact[:, 1])
        twins = near_twins(train, val, known, most=most_near)
        why = twins.why_not
    if why or not (train.near and val.near):
        not_checked["near"] = why or "not asked for"
    return {
        "exact": _pairs(exact),
        "near": twins.pairs,
        "near_of": twins.searched,
        "duplicates": _pairs(duplicates),
        "conflicts": [
            *_conflicts(train, val, exact),
            *_conflicts(val, val, duplicates),
        ],
        "not_checked": not_checked,
    }


def _pairs(rows: Indices) -> list[Pair]:
    return [(first, second) for first, second in rows.tolist()]


def _conflicts(
    first: Fingerprints, second: Fingerprints, pairs: Indices
) -> Iterator[tuple[str, int, int]]:
    for one, other in pairs.tolist():
        labels = first.labels[one], second.labels[other]
        if None not in labels and labels[0] != labels[1]:
            yield first.name, one, other


def _shared(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[Pair]:
    """For each of the second the first row of the first set that has it."""
    rows: dict[Hashable, int] = {}
    for row, item in enumerate(first):
        if item is not None:
            rows.setdefault(item, row)
    return [(rows[item], row) for row, item in enumerate(second) if item in rows]


def _of_items(ids: Ids | None) -> Callable[[Any], Hashable] | None:
    """From an item to its id, where ids are found in the items."""
    if not isinstance(ids, str):
        return ids if callable(ids) else None

    def column(item: Any) -> Any:
        if isinstance(item, Mapping) and ids in item:
            return item[ids]
        got = type(item).__name__
        if isinstance(item, Mapping):
            got = f"one with {', '.join(map(str, item))}"
        raise ConfigError(ids, "a key of each item, which is a mapping", got, "Name one it has.")

    return column


def _given(ids: Ids | None, place: int, found: list[Hashable]) -> list[Hashable]:
    """The ids of one set: those found in its items, or the sequence that was given."""
    if isinstance(ids, tuple):
        return [plain_label(each) for each in ids[place]]
    return found


def _check_lengths(part: str, kept: Sequence[Fingerprints], given: Sequence[Any]) -> None:
    for one, ids in zip(kept, given, strict=True):
        if ids and len(ids) != one.rows:
            cure = f"Pass {part}=(of training, of validation), one for each sample."
            rule = f"one for each of {one.rows} samples of {one.name}"
            raise ConfigError(part, rule, str(len(ids)), cure)


def _pictures_of(
    sets: tuple[Any, Any],
    sample: Callable[[Any], Any] | None,
    found: Mapping[str, list[Pair]],
    shown: int,
) -> dict[int, Any]:
    """Both pictures of so many pairs of each kind, by their row of validation."""
    pairs = [*found["exact"][:shown], *found["near"][:shown]]
    return {
        pair[1]: tuple(_picture(*each, sample) for each in zip(sets, pair, strict=True))
        for pair in pairs
    }


def _picture(data: Any, row: int, sample: Callable[[Any], Any] | None) -> Any:
    """A picture of a set as it is shown in a notebook, its values stretched from black to white; None of others."""
    if isinstance(data, DataLoader):
        data = data.dataset
    if length_of(data) is None:
        return None
    value = as_sample((sample or _input_of)(data[row]))
    if not isinstance(value, Tensor):
        return None
    pixels = as_channels(value.unsqueeze(0))[0, :3].float()
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp_min(1e-12)
    pixels = functional.interpolate(pixels.unsqueeze(0), size=(_SHOWN_SIDE, _SHOWN_SIDE))[0]
    if len(pixels) != 3:
        pixels = pixels[:1].expand(3, -1, -1)
    return (255 * pixels).byte().numpy()


def _input_of(item: Any) -> Any:
    return parts_of(item)[0]


def _with_bar(
    items: Iterable[Any], name: str, length: int | None, progress: bool | None
) -> Iterable[Any]:
    if progress is False or sys.stderr is None:
        return items
    from tqdm.auto import tqdm

    disable = None
    if progress:
        disable = False
    bar: Iterable[Any] = tqdm(
        items, f"audit {name}", length, disable=disable, leave=False, unit="row", dynamic_ncols=True
    )
    return bar
