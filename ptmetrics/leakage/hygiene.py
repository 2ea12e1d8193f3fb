"""Faults of the loop itself, found by watching it: what moves, in which mode, on what it is validated."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.leakage.rules_hygiene import LOOP_NOTE
from ptmetrics.monitor.callbacks import MonitoredRun
from ptmetrics.monitor.extract import tensors_in
from ptmetrics.monitor.faults import say
from ptmetrics.monitor.passes import acts_otherwise_in_training
from ptmetrics.record.printable import agreeing, quantity

RowHashes = npt.NDArray[np.int64]
LOOKED_AT_ROWS, LOOKED_AT_VALUES = 128, 64
"""Rows of a batch, and values of a row, that are looked at."""
PARAMETER_VALUES = 4096
LEAST_INPUTS = 64  # whose spread is compared
MOST_RATIO, MOST_SHIFT = 1.8, 0.9  # of the spread of validation rows to that of training rows
WELL_MIXED, NEARLY = 50, 0.8  # as many rows, and which share of them, show another order
COMMON_BY_CHANCE = 10  # rows that are common by chance, so that none is no chance
IN_PLACE = 0.05  # share of rows at their places by which an order was kept
_FAULT_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ODD = -7046029254386353131  # 2^64 / golden ratio, as int64


class Fact(NamedTuple):
    """A fault of one epoch, as it is noted.

    Attributes:
        finding: Code of the finding.
        severity: Its severity.
        message: What was seen.
        evidence: Numbers.
        sign: Tells several facts of one code apart.
    """

    finding: str
    severity: str
    message: str
    evidence: Mapping[str, Any] = {}
    sign: str = ""


class Look(NamedTuple):
    """What is kept of the inputs of a batch, on their device.

    Attributes:
        hashes: Of each row.
        moments: Mean and standard deviation of each row, of shape (2, rows); None of integers.
    """

    hashes: Tensor
    moments: Tensor | None


class LoopHygiene(pm.Callback):
    """Watches the loop for faults of its own; a monitor has one unless `hygiene=False`.

    It looks at the first 8 batches of each pass, and at a sample of each parameter at the first
    batch of training and at the end of the epoch, which alone waits for the device. What it finds
    is noted in the record and told by `judge`; docs/hygiene.md lists the findings. It draws no
    random numbers and changes nothing.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> model, criterion = torch.nn.Linear(4, 2), torch.nn.CrossEntropyLoss()
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[pm.LoopHygiene()])
        >>> with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        ...     criterion(model(torch.randn(8, 4)), torch.zeros(8).long()).backward()
        ...     optimizer.step()
        ...     _ = monitor.end_epoch()
        >>> [finding.code for finding in pm.judge(monitor, select=["lr-zero"]).findings]
        ['lr-zero']
    """

    def __init__(self) -> None:
        self._looks: dict[str, list[Look]] = {}  # of the last pass of a split in this epoch
        self._facts: list[Fact] = []  # of this epoch
        self._weights: WatchedWeights | None = None  # as its training began
        self._first: tuple[Tensor, int] | None = None  # rows of validation, and its samples
        self._compared = False  # the inputs of training and validation
        self._told: set[str] = set()

    def on_answer(
        self, monitor: MonitoredRun, split: str, number: int, given: Any, output: Any
    ) -> None:
        """Look at a batch, and at the model before the first one."""
        model = monitor.model
        if model is None or split not in ("train", "val"):
            return
        with torch.no_grad():
            if number == 0:
                self._looks[split] = []
                if split == "val":
                    self._facts += validation_facts(model, output)
                else:
                    self._weights = WatchedWeights(model, monitor.optimizer)
                    self._facts += statistics_facts(model)
            if split == "val" or not self._compared:
                inputs = next(iter(tensors_in(given, 3)), None)
                if inputs is not None and inputs.ndim > 1 and is_plain(inputs):
                    look = look_at(inputs, moments=not self._compared)
                    self._looks.setdefault(split, []).append(look)

    def on_epoch_end(self, monitor: MonitoredRun, scores: pm.EpochScores) -> None:
        """Hold the end of an epoch against its beginning, and against the first one."""
        loss = float(scores.get("train/loss", 0.0))
        self._close(monitor, scores.epoch, scores.counts, lost=not isfinite(loss))

    def on_run_end(self, monitor: MonitoredRun) -> None:
        """Look at an epoch that nobody closed."""
        if self._looks:
            self._close(monitor, monitor.epoch, {})

    def _close(
        self, monitor: MonitoredRun, epoch: int, counts: Mapping[str, Any], *, lost: bool = False
    ) -> None:
        """Note what was seen; `lost`: the training loss was no number in any batch."""
        facts = self._facts
        weights = self._weights
        looks = self._looks
        self._facts = []
        self._weights = None
        self._looks = {}
        if weights is not None:
            steps = counts.get("train_steps", 0)
            before = counts.get("train_steps_cumulative", steps) > steps
            found = weights.facts(steps, before)
            facts += [fact for fact in found if not (lost and fact.finding == "nothing-trains")]
        val = looks.get("val")
        if val:
            facts += self._other_rows(val, int(counts.get("val_samples", 0)))
            if not self._compared and looks.get("train"):
                self._compared = True
                facts += input_facts(looks["train"], val)
        for fact in {fact.message: fact for fact in facts}.values():
            monitor.record("note", {"code": LOOP_NOTE, "epoch": epoch, **fact._asdict()})
            if fact.severity != "info" and fact.finding not in self._told:
                self._told.add(fact.finding)
                say("%s: %s", fact.finding, fact.message)

    def _other_rows(self, looks: list[Look], samples: int) -> Sequence[Fact]:
        """Hold the rows of validation against the first ones."""
        rows = torch.cat([look.hashes for look in looks])
        if self._first is None:
            self._first = rows, samples
        first, size = self._first
        others = samples != size or len(first) != len(rows) or len(rows) > size
        if others or torch.equal(first, rows):
            return ()
        return (order_fact(first.cpu().numpy(), rows.cpu().numpy(), size),)


# In which mode


def validation_facts(model: nn.Module, output: Any) -> Iterator[Fact]:
    """What the mode of the model shows at the first answer of a validation."""
    if model.training and acts_otherwise_in_training(model):
        yield Fact(
            "eval-in-train-mode",
            "undetermined",
            "val: the model answered in training mode (model.training is True).",
        )
    updated = [name for name, layer in _followers(model) if layer.momentum != 0]
    if updated:
        yield Fact(
            "batchnorm-updated",
            "warning",
            f"val: {quantity(len(updated), 'layer')} took validation data into their running statistics, "
            f"first {updated[0] or 'the model'!r}.",
            {"layers": len(updated), "first": updated[0]},
        )
    if any(tensor.requires_grad for tensor in tensors_in(output)):
        yield Fact("grad-in-eval", "info", "val: the model's answer holds on to a graph.")


def statistics_facts(model: nn.Module) -> Iterator[Fact]:
    """Frozen layers whose statistics follow the training data."""
    frozen = []
    for name, layer in _followers(model):
        if layer.weight is not None and not layer.weight.requires_grad:
            frozen.append(name)
    if frozen and any(parameter.requires_grad for parameter in model.parameters()):
        yield Fact(
            "frozen-not-frozen",
            "info",
            f"The running statistics of {quantity(len(frozen), 'frozen layer')} follow the training data, first "
            f"{frozen[0] or 'the model'!r}.",
            {"layers": len(frozen), "first": frozen[0]},
            "statistics",
        )


def _followers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Layers in training mode whose running statistics follow what they are given."""
    for name, layer in model.named_modules():
        follows = isinstance(layer, nn.modules.batchnorm._NormBase) and layer.training
        if follows and layer.running_mean is not None:
            yield name, layer


# On what


def look_at(inputs: Tensor, *, moments: bool) -> Look:
    """Fingerprints of the first rows of a batch, by some values of each; no host sync.

    Args:
        inputs: The batch.
        moments: Whether mean and spread of the rows are wanted as well.
    """
    rows = inputs.detach()[:LOOKED_AT_ROWS]
    # By their strides, so that flattening copies nothing.
    behind = sorted(range(1, rows.ndim), key=rows.stride, reverse=True)
    rows = rows.permute(0, *behind).flatten(1)
    rows = rows[:, :: step_of(rows.shape[1], LOOKED_AT_VALUES)]
    found = None
    if moments and rows.is_floating_point():
        values = rows.float()
        mean = values.mean(1)
        found = torch.stack([mean, (values - mean.unsqueeze(1)).square().mean(1).sqrt()])
    key = torch.arange(1, rows.shape[1] + 1, dtype=torch.int64, device=rows.device) * _ODD
    key = (key ^ (key >> 29)) * _ODD | 1  # another odd number for each place; it wraps
    return Look((words_of(rows) * key).sum(1), found)


def order_fact(first: RowHashes, rows: RowHashes, size: int) -> Fact:
    """What became of the first rows: they come in another order, or with other values.

    Args:
        first: Of the first validation.
        rows: Of another one.
        size: Samples of the whole set.
    """
    looked = len(rows)
    in_place = float(np.mean(rows == first))
    common = len(np.intersect1d(rows, first))
    chance = looked * looked / max(size, 1)  # rows that another order would have in common
    severity = "warning"
    what = "the rows come in another order, or their values change"
    by_chance = chance >= WELL_MIXED and common >= NEARLY * chance and in_place <= IN_PLACE
    if by_chance or np.array_equal(np.sort(rows), np.sort(first)):
        severity = "info"
        what = "the same rows come in another order"
    elif in_place > IN_PLACE or looked >= size or (chance >= COMMON_BY_CHANCE and not common):
        what = "the values of the rows change, as by a random transform or another padding"
    return Fact(
        "val-shuffled-or-augmented",
        severity,
        f"val: of the first {looked:,} of {quantity(size, 'row')} {common} "
        f"{agreeing(common, 'are as in the first epoch')}, {in_place:.0%} at their places: {what}.",
        {"rows": looked, "common": common, "in_place": in_place},
    )


def input_facts(train: Sequence[Look], val: Sequence[Look]) -> Iterator[Fact]:
    """Whether the inputs of training and validation are of another scale; this waits for the device."""
    quartiles = []
    for looks in (train, val):
        moments = [look.moments for look in looks if look.moments is not None]
        if sum(each.shape[1] for each in moments) < LEAST_INPUTS:
            return
        rows = torch.cat(moments, 1).cpu().numpy()
        quartiles.append(np.percentile(rows, (25, 50, 75), axis=1))
    centers, spreads = np.stack(quartiles)[:, 1].T.tolist()
    lower, _, upper = np.stack(quartiles, 1)
    apart = lower.max(0) > upper.min(0)  # the middle halves of the means, and of the deviations
    shifted = apart[0] and abs(centers[0] - centers[1]) >= MOST_SHIFT * max(spreads)
    if shifted or (apart[1] and max(spreads) >= MOST_RATIO * min(spreads)):
        yield Fact(
            "inputs-not-normalised-alike",
            "warning",
            f"The values of a training row have mean {centers[0]:.3g} and deviation "
            f"{spreads[0]:.3g}, those of a validation row {centers[1]:.3g} and {spreads[1]:.3g}.",
            {"train": [centers[0], spreads[0]], "val": [centers[1], spreads[1]]},
        )


# What moves


class WatchedWeights:
    """The parameters of a model as an epoch of training begins.

    Args:
        model: The model.
        optimizer: Its optimizer, if it is known.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        self._groups: list[dict[str, Any]] = []
        if optimizer is not None:
            self._groups = optimizer.param_groups
        self._at_zero = [group for group in self._groups if is_at_zero(group)]
        self._named: dict[str, nn.Parameter] = {}
        self._places: dict[str, int] = {}  # in memory
        self._versions: dict[str, int] = {}  # how often they were written to
        self._frozen: set[str] = set()
        self._probes: dict[torch.device, dict[str, Tensor]] = {}
        self._whole = True  # whether all of them can be looked at
        for name, parameter in model.named_parameters():
            probe = probe_of(parameter)
            if probe is None:
                self._whole = False
                continue
            self._named[name] = parameter
            self._places[name] = parameter.data_ptr()
            if not parameter.is_inference():
                self._versions[name] = parameter._version
            self._probes.setdefault(probe.device, {})[name] = probe
            if not parameter.requires_grad:
                self._frozen.add(name)
        self._sums = {device: sums_of(probes) for device, probes in self._probes.items()}

    def facts(self, steps: int, stepped: bool) -> Sequence[Fact]:
        """What moved since; this waits for the device.

        Args:
            steps: Of the optimizer in the epoch.
            stepped: Whether there were some before: then gradients of several epochs may be one step.
        """
        moved: set[str] = set()
        for device, probes in self._probes.items():
            if not all(probe.untyped_storage().nbytes() for probe in probes.values()):
                return ()  # FSDP frees the memory of whole parameters, which it shards again
            different = sums_of(probes) != self._sums[device]
            moved.update(compress(probes, different.tolist()))
        if len(moved) == len(self._named) and not self._frozen:
            return ()
        held = {id(each) for group in self._groups for each in group["params"]}
        found = [*self._frozen_facts(moved, held)]
        waits = stepped or all(each.grad is None for each in self._named.values())
        trained = steps > 0 or not waits
        if self._groups and self._whole and trained:
            for name, place in self._places.items():
                if self._named[name].data_ptr() != place:  # it is elsewhere, and nobody knows
                    moved.add(name)
            for name, version in self._versions.items():
                if not steps and self._named[name]._version != version:  # weights were put back
                    moved.add(name)
            found += self._still_facts(moved, held, steps)
        return found

    def _frozen_facts(self, moved: set[str], held: set[int]) -> Iterator[Fact]:
        """Parameters that moved, though they require no gradient at both ends of the epoch."""
        frozen = [name for name in self._names(trains=False) if name in moved]
        if frozen:
            severity = "info"
            what = "does not hold them"
            if any(id(self._named[name]) in held for name in frozen):
                severity = "warning"
                what = "holds them"
            yield Fact(
                "frozen-not-frozen",
                severity,
                f"{quantity(len(frozen), 'parameter')} with requires_grad=False moved, first {frozen[0]!r}; the "
                f"optimizer {what}.",
                {"parameters": len(frozen), "first": frozen[0]},
            )

    def _still_facts(self, moved: set[str], held: set[int], steps: int) -> Iterator[Fact]:
        """Parameters that should have moved and did not, by their cause."""
        trains = self._names(trains=True) or list(self._named)
        missing = [name for name in trains if id(self._named[name]) not in held]
        if not moved.isdisjoint(missing):  # another optimizer holds them
            missing = []
        at_zero: list[str] = []
        for group in filter(is_at_zero, self._at_zero):
            of_group = set(map(id, group["params"]))
            names = [name for name in trains if id(self._named[name]) in of_group]
            # A bias in front of BatchNorm has no gradient and never moves: the group must not.
            if moved.isdisjoint(names):
                at_zero += names
        still = []
        if moved.isdisjoint(trains) and not at_zero and not missing:
            still = trains
            if not all(self._named[name].detach().float().isfinite().all() for name in trains):
                still = []  # what is NaN stays so, and that is told elsewhere
        for code, names, what in (
            ("lr-zero", at_zero, "have a learning rate of 0 and did not move"),
            ("optimizer-misses-parameters", missing, "are not in the optimizer and did not move"),
            (
                "nothing-trains",
                still,
                f"did not move in {quantity(steps, 'step')} of the optimizer",
            ),
        ):
            if names:
                severity = "warning"
                if len(names) == len(trains):
                    severity = "fail"
                told = agreeing(len(names), what)
                yield Fact(
                    code,
                    severity,
                    f"{len(names):,} of {quantity(len(trains), 'parameter')} {told}, first {names[0]!r}.",
                    {"parameters": len(names), "of": len(trains), "first": names[0]},
                )

    def _names(self, *, trains: bool) -> list[str]:
        """Parameters that require a gradient, or none, at both ends of the epoch."""
        return [
            name
            for name, parameter in self._named.items()
            if parameter.requires_grad is trains is (name not in self._frozen)
        ]


# Numbers of tensors


def is_at_zero(group: Mapping[str, Any]) -> bool:
    """Whether the learning rate of a group is 0, as far as that needs no wait."""
    rate = group.get("lr")
    return isinstance(rate, int | float) and rate == 0


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers of its own: not one that is sharded, sparse or quantised."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and not (tensor.is_meta or tensor.is_complex() or tensor.is_quantized)
        and tensor.numel() > 0
    )


def probe_of(parameter: Tensor) -> Tensor | None:
    """At most 4,096 values of a parameter as whole numbers, in its own memory; None if there is no such."""
    if not is_plain(parameter):
        return None
    flat = parameter.detach()
    by_stride = sorted(range(flat.ndim), key=flat.stride, reverse=True)
    flat = flat.permute(by_stride).flatten()
    if flat.data_ptr() != parameter.data_ptr():  # a copy
        return None
    return words_of(flat[:: step_of(len(flat), PARAMETER_VALUES)])


def step_of(size: int, most: int) -> int:
    """An odd step by which at most so many of the values are taken, from different columns."""
    if size <= most:
        return 1
    return -(-size // most) | 1


def words_of(values: Tensor) -> Tensor:
    """The bits of values as whole numbers, in the same memory."""
    if values.is_floating_point():
        return values.view(_FAULT_WORDS[values.element_size()])
    return values


def sums_of(probes: Mapping[str, Tensor]) -> Tensor:
    """A whole number of each probe, all of one device; no host sync."""
    return torch.stack([probe.sum() for probe in probes.values()])


DEFAULT_CALLBACKS = (LoopHygiene,)
