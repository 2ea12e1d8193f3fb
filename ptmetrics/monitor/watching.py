"""Callbacks that measure: learning rate, gradient norm, throughput, memory of the device.

What they measure of an epoch stands beside its scores, by plain names such as "lr": in the record,
in `history["lr"]`, in `scores.numbers`, and in trackers.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ptmetrics.errors import StateError
from ptmetrics.monitor.callbacks import Callback, MonitoredRun
from ptmetrics.monitor.epoch import EpochScores


class StepCallback(Callback):
    """Base of what looks at each step of an optimizer: override `on_step`, and give `numbers`.

    The gradients are there as the step takes them: added up over all batches of an accumulation,
    unscaled by a `GradScaler` unless the optimizer does that itself, and clipped if the loop clips.
    Nothing in `on_step` may wait for the device. An exception in it is told with the epoch.

    Args:
        optimizer: Whose steps; None for the attached one.
    """

    def __init__(self, optimizer: Optimizer | None = None) -> None:
        self._given = optimizer
        self._watched: Optimizer | None = None
        self._handles: list[Any] = []
        self._error: Exception | None = None

    def on_step(self, optimizer: Optimizer) -> None:
        """Before a step; behind it where a closure makes the gradients in it."""

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Watch the optimizer from the first step on."""
        self._watch(self._given or monitor.optimizer)

    def on_epoch_begin(self, monitor: MonitoredRun) -> None:
        """Another one may be attached now."""
        self._watch(self._given or monitor.optimizer)

    def on_train_end(self, monitor: MonitoredRun) -> None:
        """Let go of the optimizer."""
        self._watch(None)

    def check_steps(self) -> None:
        """Tell what went wrong.

        Raises:
            StateError: If there is no optimizer.
            Exception: What was raised in a step.
        """
        error = self._error
        self._error = None
        if error is not None:
            raise error
        if self._watched is None:
            cure = "Call monitor.attach(model, optimizer=optimizer), or pass it to the callback."
            raise StateError("optimizer", "one whose steps are seen", "none", cure)

    def _watch(self, optimizer: Optimizer | None) -> None:
        if optimizer is self._watched:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._watched = optimizer
        if optimizer is not None:
            before = _hook(self, with_closure=False)
            after = _hook(self, with_closure=True)
            self._handles.append(optimizer.register_step_pre_hook(before))
            self._handles.append(optimizer.register_step_post_hook(after))

    def _step(self, optimizer: Optimizer) -> None:
        try:
            with torch.no_grad():
                self.on_step(optimizer)
        except Exception as error:
            self._error = error


def _hook(callback: StepCallback, *, with_closure: bool) -> Callable[..., None]:
    """A hook of steps with a closure, or of those without; it does not hold the callback."""
    reference = weakref.ref(callback)

    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        closure = kwargs.get("closure")
        if len(args) > 1:
            closure = args[1]
        listener = reference()
        if listener is not None and (closure is not None) == with_closure:
            listener._step(optimizer)

    return hook


class LearningRate(StepCallback):
    """Records the learning rate of the last step of each epoch, as `history["lr"]`.

    An optimizer of several groups of parameters has that of the first there, and those of the
    others in "lr_group2" and so on.

    Args:
        optimizer: Whose rate; None for the attached one.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[pm.LearningRate()])
        >>> with monitor.attach(model, optimizer=optimizer):
        ...     for epoch in monitor.epochs(3):
        ...         for x, y in monitor.train([(torch.eye(2), torch.tensor([0, 1]))]):
        ...             torch.nn.functional.cross_entropy(model(x), y).backward()
        ...             optimizer.step()
        ...         schedule.step()
        >>> monitor.history["lr"]
        [0.1, 0.05, 0.025]
    """

    def __init__(self, optimizer: Optimizer | None = None) -> None:
        super().__init__(optimizer)
        self._rates: list[Any] = []

    def on_step(self, optimizer: Optimizer) -> None:
        """Note the rates; one that is a tensor may change in its place."""
        self._rates = [group["lr"] for group in optimizer.param_groups]
        if any(isinstance(rate, Tensor) for rate in self._rates):
            self._rates = [torch.as_tensor(rate).clone() for rate in self._rates]

    def numbers(self, monitor: MonitoredRun, scores: EpochScores) -> Mapping[str, float]:
        """The rate of each group; none where no step was seen."""
        rates = self._rates
        self._rates = []
        self.check_steps()
        numbers: dict[str, float] = {}
        for group, rate in enumerate(rates, 1):
            name = "lr"
            if group > 1:
                name = f"lr_group{group}"
            numbers[name] = float(rate)
        return numbers


class GradNorm(StepCallback):
    """Records the L2 norm of the gradients: `history["grad_norm"]`, the mean over the steps.

    It is that of all gradients of the optimizer together, as each step takes them: what
    `torch.nn.utils.clip_grad_norm_` would return right before the step. So it is behind clipping;
    a loop that clips shows its limit there. "grad_norm_max" is the largest of the epoch, and
    "grad_norm_nonfinite" tells how many steps had a NaN or an infinity in it, which count in
    neither. Nothing waits for the device: the sums stay there and are read at the end of an epoch.
    Sparse gradients are made dense for it, one at a time. Of a model that `fully_shard` has spread
    over the ranks it is that of the whole model, by one sum over the ranks a step.

    Args:
        optimizer: Whose gradients; None for the attached one.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[pm.GradNorm()])
        >>> norms = []
        >>> with monitor.attach(model, optimizer=optimizer):
        ...     for x, y in monitor.train([(torch.eye(2), torch.tensor([0, 1]))] * 3):
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.cross_entropy(model(x), y).backward()
        ...         norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        ...         norms.append(norm.item())
        ...         optimizer.step()
        ...     scores = monitor.end_epoch()
        >>> abs(scores.numbers["grad_norm"] - sum(norms) / 3) < 1e-6
        True
        >>> monitor.history["grad_norm_nonfinite"]
        [0.0]
    """

    def __init__(self, optimizer: Optimizer | None = None) -> None:
        super().__init__(optimizer)
        self._steps = 0
        self._sums: Tensor | None = None  # of finite norms: their sum, and their number
        self._largest: Tensor | None = None

    def on_step(self, optimizer: Optimizer) -> None:
        """Add the norm of this step, on its device."""
        grads = []
        sharded = []  # over the ranks by `fully_shard`: DTensor's own norm is that of all shards
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if hasattr(parameter.grad, "full_tensor"):
                    sharded.append(parameter.grad)
                elif parameter.grad is not None:
                    grads.append(_norm(parameter.grad))
        if sharded:
            whole: Any = torch.nn.utils.get_total_norm(sharded)
            grads.append(whole.full_tensor())
        if not grads:
            return
        norm = torch.nn.utils.get_total_norm(grads).double()
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer unscales in its step
        if scale is not None:
            norm = norm / scale.to(norm.device, non_blocking=True)
        if self._sums is None or self._largest is None:
            self._sums = norm.new_zeros(2)
            self._largest = norm.new_zeros(())
        finite = norm.isfinite()
        norm = norm.where(finite, 0.0)
        self._steps += 1
        self._sums += torch.stack([norm, finite.double()])
        self._largest = self._largest.maximum(norm)

    def numbers(self, monitor: MonitoredRun, scores: EpochScores) -> Mapping[str, float]:
        """Mean and largest norm, and the steps that had none; nothing where no step had a gradient."""
        steps = self._steps
        sums = self._sums
        largest = self._largest
        self._steps = 0
        self._sums = None
        self._largest = None
        self.check_steps()
        if sums is None or largest is None:
            return {}
        total, finite, most = torch.cat([sums, largest.view(1)]).tolist()
        if not finite:
            total = most = torch.nan
        return {
            "grad_norm": total / max(finite, 1),
            "grad_norm_max": most,
            "grad_norm_nonfinite": steps - finite,
        }


def _norm(grad: Tensor) -> Tensor:
    """A gradient, or of a sparse one its norm: to add up what it holds twice would need a wait."""
    if grad.is_sparse:
        grad = torch.linalg.vector_norm(grad.to_dense())
    return grad


class Throughput(Callback):
    """Records how fast training went: `history["rows_per_s"]`.

    Time of training is that in which batches were loaded and trained, by the device's clock where
    there is one; validation, callbacks and checkpoints are left out. Where a row has several targets
    that count, such as tokens or pixels, "targets_per_s" is their number. Rows and targets are those
    of all ranks that were merged.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> ticks = iter(range(0, 10**12, 10**9))  # each look at the clock is a second later
        >>> monitor = pm.Monitor(
        ...     pm.MulticlassMetrics(2), callbacks=[pm.Throughput()], clock=lambda: next(ticks)
        ... )
        >>> for x, y in monitor.train([(torch.eye(2), torch.tensor([0, 1]))] * 5):
        ...     monitor.update(x, y)
        >>> scores = monitor.end_epoch()
        >>> scores.numbers["rows_per_s"] == 10 / scores.time["train_s"]
        True
    """

    def numbers(self, monitor: MonitoredRun, scores: EpochScores) -> Mapping[str, float]:
        """Rows and targets a second; nothing where nothing was trained."""
        rows = scores.counts.get("train_samples", 0)
        seconds = scores.time.get("train_device_s") or scores.time.get("train_s", 0.0)
        if not rows or not seconds > 0:
            return {}
        numbers = {"rows_per_s": rows / seconds}
        if "train" in scores.splits and scores.splits["train"].n > rows:
            numbers["targets_per_s"] = scores.splits["train"].n / seconds
        return numbers


class DeviceMemory(Callback):
    """Records the most memory that was in use on the device: `history["peak_memory_bytes"]`.

    It is what tensors took at once in the epoch, validation included, and
    "peak_memory_reserved_bytes" what PyTorch held for them; of several devices that of the fullest.
    PyTorch's own peak is reset at the beginning of each epoch, so what a script reads of it is of
    the epoch too. For a model that is not on CUDA there is no such number, and a note in the record
    says so.

    Args:
        memory: What tells, with the functions of `torch.cuda`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[pm.DeviceMemory()])
        >>> with monitor.attach(torch.nn.Linear(2, 2)):
        ...     monitor.update(torch.eye(2), torch.tensor([0, 1]), split="val")
        ...     _ = monitor.end_epoch()
        >>> "peak_memory_bytes" in monitor.history  # on a CPU
        False
    """

    def __init__(self, *, memory: Any = torch.cuda) -> None:
        self._memory = memory
        self._devices: set[torch.device] = set()
        self._told = False

    def on_epoch_begin(self, monitor: MonitoredRun) -> None:
        """The peak of this epoch begins."""
        self._devices = set()
        if monitor.model is not None:
            self._devices = {p.device for p in monitor.model.parameters() if p.is_cuda}
        for device in self._devices:
            self._memory.reset_peak_memory_stats(device)

    def numbers(self, monitor: MonitoredRun, scores: EpochScores) -> Mapping[str, float]:
        """The peak, which the host knows."""
        memory = self._memory
        if self._devices:
            return {
                "peak_memory_bytes": max(map(memory.max_memory_allocated, self._devices)),
                "peak_memory_reserved_bytes": max(map(memory.max_memory_reserved, self._devices)),
            }
        if not self._told:
            self._told = True
            message = "DeviceMemory: no peak is measured, as no model on CUDA is attached."
            monitor.record("note", {"code": "device-memory", "message": message})
        return {}
