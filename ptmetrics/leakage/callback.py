"""`LeakageCheck`: the audit of a run from the inside, on what its loaders serve."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from torch import Tensor

from ptmetrics.errors import ConfigError, DataError, RanksError
from ptmetrics.leakage.audit import Audit, compared
from ptmetrics.leakage.hashes import Hashes, equal_pairs, repeated
from ptmetrics.leakage.ranks import of_all_ranks
from ptmetrics.leakage.samples import Fingerprints, Reader, is_augmented, items_of, parts_of
from ptmetrics.monitor.callbacks import Callback, MonitoredRun
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import say
from ptmetrics.record.events import AUDIT_NOTE

AS_BEFORE = 0.95
"""Share of the second epoch's first rows that the first must have had, if nothing is augmented."""
_LOOKED_AT = 512  # of those rows
_AUGMENTED = "augmented: training serves other rows in its second epoch; pass train_view="
_ONE_EPOCH = (
    "training served no rows twice, so it may be augmented: pass train_view= or train two epochs"
)
_BY_STEPS = "epochs are steps, on several ranks: pass train_view=, or call pm.audit before training"
_NO_INPUTS = "the loop shows no inputs: wrap its loaders or attach its model"
_TOLD: WeakValueDictionary[int, Audit] = WeakValueDictionary()
"""Audits that were told of, by their id."""


class LeakageCheck(Callback):
    """Looks for rows of validation in training, in the first epoch, and notes what it finds.

    Equal rows are told by hashes of what the loaders serve, or of the inputs of the model where no
    loader is monitored; near duplicates as by `audit`. A training set that is augmented shows other
    rows in its second epoch: then nothing is claimed, unless it is given without augmentation.

    Where several ranks train together, rank 0 gathers the hashes of all of them, once.

    Args:
        audit: What `pm.audit` found before: it is put into the record, and nothing is looked for.
        train_view: The training set without augmentation, as the validation set is seen.
        near: Whether to look for near duplicates as well.
        splits: Those that are held against training.

    Attributes:
        found: Split to its audit, once it is known.
        seconds: What it took from the run.

    Raises:
        ConfigError: If both `audit` and `train_view` are given.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> _ = torch.manual_seed(0)
        >>> x, y = torch.randn(60, 8), torch.arange(60) % 2
        >>> train, val = (x[:40], y[:40]), (x[30:], y[30:])
        >>> check = pm.LeakageCheck()
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[check])
        >>> model = torch.nn.Linear(8, 2)
        >>> with monitor.attach(model):
        ...     for epoch in monitor.epochs(2):
        ...         for inputs, target in monitor.train([train]):
        ...             _ = model.train()(inputs)
        ...         for inputs, target in monitor.validate([val]):
        ...             _ = model.eval()(inputs)
        >>> check.found["val"].exact[:2]
        [(30, 0), (31, 1)]
    """

    def __init__(
        self,
        audit: Audit | None = None,
        *,
        train_view: Any = None,
        near: bool = True,
        splits: tuple[str, ...] = ("val", "test"),
    ) -> None:
        if audit is not None and train_view is not None:
            cure = "Pass one of them."
            raise ConfigError("audit, train_view", "one of them", "both", cure)
        self.found: dict[str, Audit] = {}
        self.seconds = 0.0
        self._audit = audit
        self._train_view = train_view
        self._near = near
        self._splits = splits
        self._kept: dict[str, Fingerprints] = {}
        self._first_epoch: int | None = None
        self._scores: EpochScores | None = None  # of the validation that is looked at
        self._closed = False  # training was compared with it
        self._train: Fingerprints | None = None
        self._again = Fingerprints("train", near=False)  # the second epoch's first rows
        self._unsaid: dict[str, Audit] = {}  # audits that stand on unaugmented training
        self._why: dict[str, str] = {}  # split to why its rows cannot be compared

    def on_epoch_begin(self, monitor: MonitoredRun) -> None:
        """The first epoch that is seen is looked at."""
        if self._first_epoch is None:
            self._first_epoch = monitor.epoch

    def on_batch_begin(self, monitor: MonitoredRun, split: str, inputs: Any) -> None:
        """Hash what is served."""
        alone = monitor.sync_timeout_s is None
        if self._audit is not None or (alone and monitor.rank and not monitor.records):
            return
        began = time.perf_counter()
        if not self._closed:
            self._add(monitor, split, inputs)
        elif split == "train" and self._unsaid:
            self._look_again(monitor, inputs)
        self.seconds += time.perf_counter() - began

    def _add(self, monitor: MonitoredRun, split: str, inputs: Any) -> None:
        wanted = split in self._splits and self._scores is None
        if split == "train" and self._train_view is None:
            wanted = monitor.by_steps or monitor.epoch == self._first_epoch
        if not wanted or split in self._why:
            return
        kept = self._kept.setdefault(split, Fingerprints(split, near=self._near))
        try:
            _add_batch(kept, inputs)
        except DataError as error:
            self._why[split] = str(error)

    def _look_again(self, monitor: MonitoredRun, inputs: Any) -> None:
        """Whether the second epoch serves the rows of the first."""
        _add_batch(self._again, inputs)
        if self._again.rows >= _LOOKED_AT:
            self._tell_unsaid(monitor)

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Behind the first epoch: compare."""
        if self._audit is not None:
            self._tell(monitor, self._audit)
            self._audit = None
            self._closed = True
        if self._unsaid and self._again.rows:
            self._tell_unsaid(monitor)
        if self._closed or not (set(self._splits) & {name.split("/")[0] for name in scores}):
            return
        self._scores = self._scores or scores
        passes = not monitor.by_steps or self._train_view is not None
        if passes or monitor.sync_timeout_s is not None or self._comes_again():
            self._compare_all(monitor, self._scores)

    def _comes_again(self) -> bool:
        """Whether training, whose epochs are so many steps, serves the rows that it has served."""
        train = self._kept.get("train")
        if train is None:
            return True
        hashes = train.hashes()
        last = min(_LOOKED_AT, len(hashes) // 4)
        return _share_seen(hashes[: len(hashes) - last], hashes[len(hashes) - last :]) >= AS_BEFORE

    def _compare_all(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        self._closed = True
        began = time.perf_counter()
        timeout_s = monitor.sync_timeout_s
        if timeout_s is not None:
            self._gather(monitor, scores, timeout_s)
        if timeout_s is None or not monitor.rank:
            self._train = self._read_training(monitor)
            for split in self._splits:
                if f"{split}_samples" in scores.counts:
                    self._compare(monitor, split, scores)
        self._kept = {}
        self.seconds += time.perf_counter() - began

    def _gather(self, monitor: MonitoredRun, scores: EpochScores, timeout_s: float) -> None:
        """Put the rows of all ranks, on rank 0, in the place of its own."""
        if monitor.by_steps and self._train_view is None:
            self._why["train"] = _BY_STEPS
            return
        sets: dict[str, Fingerprints | str] = {**self._kept}
        for split in sets.keys() & set(self._splits):
            kept = self._kept[split]
            seen = scores.seen.get(split, {})  # of the last pass on this rank
            last = kept.rows - seen.get("padding_of_rank", 0)
            sets[split] = kept.part(max(0, last - seen.get("counted_rows", 0)), last)
        sets.update(self._why)
        try:
            found = of_all_ranks(sets, timeout_s)
        except RanksError as error:
            self._why["train"] = str(error)
            return
        for name, of_all in found.items():
            if isinstance(of_all, str):
                self._why[name] = of_all
            else:
                self._kept[name] = of_all

    def _read_training(self, monitor: MonitoredRun) -> Fingerprints | None:
        if self._train_view is None:
            train = self._kept.get("train")
            if train is not None and monitor.by_steps:
                again = repeated(train.hashes())[:, 1]
                fresh = np.delete(np.arange(train.rows), again)
                train = train.part(0, int(fresh[-1]) + 1)  # its first pass
            return train
        kept = Fingerprints("train", near=self._near)
        Reader(kept).read(items_of(self._train_view, "train_view"))
        if is_augmented(self._train_view, kept):
            self._why["train"] = "augmented: train_view changes each time it is read"
        return kept

    def _compare(self, monitor: MonitoredRun, split: str, scores: EpochScores) -> None:
        rows = scores.counts[f"{split}_samples"]
        train = self._train
        val = self._kept.get(split)
        why = self._why.get("train") or self._why.get(split) or ""
        if train is None or val is None or val.rows < rows:
            why = why or _NO_INPUTS
        found: dict[str, Any] = {}
        if train is not None and val is not None and not why:
            val = val.part(val.rows - rows, val.rows)
            try:
                found = compared(train, val)
            except DataError as error:
                why = str(error)
        if why or train is None or val is None:
            unseen = {"exact": why, "near": why}
            self._tell(monitor, Audit(0, rows, split=split, not_checked=unseen))
            return
        targets: Any = val.labels
        stored = scores.samples  # where ranks have shares, those of this one alone
        if split == "val" and stored is not None and stored.rows is not None and not stored.shares:
            targets = stored.rows["target"]
        places = "of the training set"
        if self._train_view is None:
            places = "of training, as served in its first epoch"
        audit = Audit(train.rows, rows, labels=targets, split=split, places=places, **found)
        if self._train_view is not None or audit.leaked:
            self._tell(monitor, audit)
        else:
            self._unsaid[split] = audit

    def _tell_unsaid(self, monitor: MonitoredRun) -> None:
        """What was found stands, if training is not augmented."""
        why = _ONE_EPOCH
        if self._again.rows and self._train is not None:
            why = ""
            if _share_seen(self._train.hashes(), self._again.hashes()) < AS_BEFORE:
                why = _AUGMENTED
        for audit in self._unsaid.values():
            if why:
                audit = replace(audit, not_checked={**audit.not_checked, "exact": why, "near": why})
            self._tell(monitor, audit)
        self._unsaid = {}
        self._train = None

    def _tell(self, monitor: MonitoredRun, audit: Audit) -> None:
        self.found[audit.split] = audit
        line = audit.headline()
        note = audit.to_record()
        if not audit.seconds:
            note["seconds"] = self.seconds
        monitor.record("note", {"code": AUDIT_NOTE, "message": line, **note})
        if audit.leaked or {"exact", "near"} & audit.not_checked.keys():
            tell_once(audit, say)

    def on_run_end(self, monitor: MonitoredRun) -> None:
        """A run of one epoch does not show whether it is augmented."""
        if self._scores is not None and not self._closed:
            self._compare_all(monitor, self._scores)
        if self._unsaid:
            self._tell_unsaid(monitor)


def tell_once(audit: Audit, tell: Callable[[str], object], more: str = "") -> None:
    """Tell what an audit found, the first time in this process: several runs may share it."""
    if id(audit) not in _TOLD:
        _TOLD[id(audit)] = audit
        tell(f"leakage: {audit.headline()}{more}")


def _share_seen(first: Hashes, again: Hashes) -> float:
    """Share of some rows that stand among the first ones."""
    return len(np.unique(equal_pairs(first, again)[:, 1])) / max(1, len(again))


def _add_batch(kept: Fingerprints, inputs: Any) -> None:
    """Add what a loader yields, or the arguments of a call of the model.

    Raises:
        DataError: If it holds neither a tensor nor texts, or rows unlike those before.
    """
    value, label = parts_of(inputs)
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        value = list(value)
    elif not isinstance(value, Tensor) or not value.ndim:
        rule = "a tensor or texts as the batch's inputs"
        cure = "Pass train_view=, or call pm.audit before training."
        raise DataError(kept.name, rule, type(value).__name__, cure)
    labels = None
    if isinstance(label, Tensor) and label.shape == (len(value),) and not label.is_cuda:
        labels = label.tolist()
    kept.add(value, labels)
