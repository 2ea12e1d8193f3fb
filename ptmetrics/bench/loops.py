"""What a watched training loop costs.

The time inside the hooks, and whole blocks with and without them in turn.

On a machine where two equal blocks differ by more than 1 %, a difference of blocks cannot tell
whether hooks cost 1 %. So the hooks themselves are timed, in the running loop with its cold caches;
the blocks are the second opinion.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.bench.peers import peer_sides
from ptmetrics.bench.timing import Clock, Quartiles, host_clock, paired, quartiles, race, turns
from ptmetrics.bench.updates import full_set
from ptmetrics.finetune.config import ModelConfig
from ptmetrics.finetune.models import build_model
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.monitor.hooks import Listener, listen

PHASES = ("train", "val")
# Batches of 64 in an epoch of CIFAR-10: 50,000 images, and 10,000.
EPOCH = {"train": 782, "val": 157}
AfterBatch = Callable[[Tensor, Tensor, Tensor, str], None]  # predictions, targets, loss, phase


class Loop:
    """A loop as users write it: training steps, and a pass without gradients.

    Args:
        name: For the table.
        model: On its device.
        batch: Inputs and targets, on the same device.
        classes: Number of the model's outputs.
        amp: Type of mixed precision; None for float32.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        batch: tuple[Tensor, Tensor],
        classes: int,
        amp: torch.dtype | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.batch = batch
        self.classes = classes
        self.amp = amp
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self._device = batch[0].device.type
        self._scaler = torch.amp.GradScaler(self._device, enabled=amp == torch.float16)

    def run(self, phase: str, batches: int, after: AfterBatch | None = None) -> None:
        """Go through so many batches; `after` gets predictions, targets, loss and phase of each."""
        x, y = self.batch
        training = phase == "train"
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for _ in range(batches):
                if training:
                    self.optimizer.zero_grad()
                with torch.autocast(self._device, dtype=self.amp, enabled=self.amp is not None):
                    output = self.model(x)
                    loss = self.criterion(output, y)
                if training:
                    torch.autograd.backward(self._scaler.scale(loss))
                    self._scaler.step(self.optimizer)
                    self._scaler.update()
                if after is not None:
                    after(output.detach(), y, loss.detach(), phase)


def resnet_loop(
    layers: int, pixels: int, rows: int, device: str = "cpu", amp: torch.dtype | None = None
) -> Loop:
    """A ResNet of torchvision with 10 classes on random images."""
    with torch.device(device):
        model = build_model(ModelConfig(f"resnet{layers}"), 10)
        batch = torch.randn(rows, 3, pixels, pixels), torch.arange(rows) % 10
    return Loop(f"ResNet-{layers}, {rows} images of {pixels} x {pixels}", model, batch, 10, amp)


def mlp_loop(
    rows: int = 64, widths: tuple[int, int, int] = (784, 256, 10), device: str = "cpu"
) -> Loop:
    """Two layers on vectors as long as an image of MNIST: about the smallest loop there is."""
    features, hidden, classes = widths
    with torch.device(device):
        model = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        batch = torch.randn(rows, features), torch.arange(rows) % classes
    return Loop(f"two-layer MLP, {rows} x {features}", model, batch, classes)


def fsync_us(rounds: int = 9) -> float:
    """Median microseconds that the disk of temporary files takes to make a written page durable."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(rounds):
            file.write(b"." * 4096)
            file.flush()
            took.append(1e6 * host_clock(partial(os.fsync, file.fileno()), 1))
    return quartiles(took)[0]


@dataclass(frozen=True)
class LoopRow:
    """One side in one phase of a loop.

    Attributes:
        loop: What is trained.
        phase: "train" or "val".
        side: Who watches.
        batch_us: Microseconds of a batch, all included.
        added_us: Mean microseconds a batch inside the side's own calls, by the host's clock.
        share: `added_us` over the median batch of the bare loop.
        blocks: Time of a block over that of the bare block in the same round.
        end_us: Median microseconds of the end of an epoch, with all scores; 0 where there is none.
    """

    loop: str
    phase: str
    side: str
    batch_us: Quartiles
    added_us: float
    share: float
    blocks: Quartiles
    end_us: float


class Stopwatch:
    """Adds up the time inside the calls that it wraps.

    Args:
        now: Nanoseconds of a clock.
    """

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self._now = now
        self.spent_ns = 0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = self._now()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent_ns += self._now() - started

        return timed

    def take_us(self) -> float:
        """Microseconds since the last call."""
        spent = self.spent_ns
        self.spent_ns = 0
        return spent / 1e3


class BareLoop:
    """Nobody looks on."""

    name = "bare loop"

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def block(self, loop: Loop, phase: str, batches: int) -> None:
        """Go through some batches."""
        loop.run(phase, batches)

    def end(self) -> object:
        """The end of an epoch."""
        return None


class MonitoredLoop(BareLoop):
    """A monitor by hooks, with a record on the disk; each hook is timed."""

    name = "ptmetrics"

    def __init__(self, loop: Loop, folder: str) -> None:
        super().__init__()
        metrics = pm.MulticlassMetrics(loop.classes, topk=(1, 5))
        self._monitor = pm.Monitor(metrics, run=f"{folder}/run", progress=False, on_fault="raise")

    def block(self, loop: Loop, phase: str, batches: int) -> None:
        """The loop with hooks on."""
        attachment = self._monitor.attach(
            loop.model, criterion=loop.criterion, optimizer=loop.optimizer
        )
        with attachment:
            for listener in attachment.listeners:
                if listener.begin is not None:
                    listener.begin = self.watch.wrap(listener.begin)
                listener.end = self.watch.wrap(listener.end)
            loop.run(phase, batches)
            attachment.detach()

    def end(self) -> object:
        """Scores of both phases, and a line of the record."""
        return self._monitor.end_epoch()


class TorchmetricsLoop(BareLoop):
    """torchmetrics in the loop.

    For each phase the same scores, as far as it has them, and the mean loss.
    """

    name = "torchmetrics"

    def __init__(self, loop: Loop, module: Any) -> None:
        super().__init__()
        device = loop.batch[0].device.type
        self._metrics = {}
        self._losses = {}
        for phase in PHASES:
            sides = peer_sides({self.name: module}, "multiclass", loop.classes, full_set(), device)
            self._metrics[phase] = sides[0]
            self._losses[phase] = module.MeanMetric().to(device)
        self._update = self.watch.wrap(self._add)

    def _add(self, preds: Tensor, target: Tensor, loss: Tensor, phase: str) -> None:
        self._metrics[phase].update(preds, target)
        self._losses[phase].update(loss)

    def block(self, loop: Loop, phase: str, batches: int) -> None:
        """The loop with an update behind each batch."""
        loop.run(phase, batches, self._update)

    def end(self) -> object:
        """Scores of both phases."""
        return [[self._metrics[phase].scores(), self._losses[phase].compute()] for phase in PHASES]


def loop_rows(
    loop: Loop,
    modules: Mapping[str, Any],
    *,
    rounds: int,
    batches: Mapping[str, int],
    clock: Clock = host_clock,
) -> Iterator[LoopRow]:
    """The bare loop, a monitor by hooks, and torchmetrics if it is there, in turn.

    Args:
        loop: What is trained.
        modules: Peers that are installed.
        rounds: Number of blocks of each side in each phase.
        batches: Batches of a block, by phase.
        clock: What times a block.
    """
    with tempfile.TemporaryDirectory() as folder:
        sides = [BareLoop(), MonitoredLoop(loop, folder)]
        if "torchmetrics" in modules:
            sides.append(TorchmetricsLoop(loop, modules["torchmetrics"]))
        measured = {side.name: _Blocks(side, loop, batches, clock) for side in sides}
        for block in measured.values():
            block.warm_up()
        order = [(name, phase) for phase in PHASES for name in measured]
        for number, (name, phase) in enumerate(turns(order, rounds), 1):
            measured[name].time_block(phase)
            if number % len(order) == 0:  # all have had their turn
                for block in measured.values():
                    block.time_end()
    frame_us = hook_frame_us()
    for phase in PHASES:
        bare_us = measured["bare loop"].batch_us[phase]
        for name, block in measured.items():
            added_us = sum(block.inside_us[phase]) / (rounds * batches[phase])
            if name == "ptmetrics":
                added_us += frame_us
            yield LoopRow(
                loop.name,
                phase,
                name,
                batch_us=quartiles(block.batch_us[phase]),
                added_us=added_us,
                share=added_us / quartiles(bare_us)[0],
                blocks=paired(block.batch_us[phase], bare_us),
                end_us=quartiles(block.end_us)[0],
            )


class _Blocks:
    """What one side took: batches of a block, time inside its own calls, ends of epochs."""

    def __init__(
        self, side: BareLoop, loop: Loop, batches: Mapping[str, int], clock: Clock
    ) -> None:
        self._side = side
        self._loop = loop
        self._batches = batches
        self._clock = clock
        self.batch_us: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self.inside_us: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self.end_us: list[float] = []

    def warm_up(self) -> None:
        for phase in PHASES:
            self._side.block(self._loop, phase, self._batches[phase])
        self._side.end()
        self._side.watch.take_us()

    def time_block(self, phase: str) -> None:
        size = self._batches[phase]
        seconds = self._clock(partial(self._side.block, self._loop, phase, size), 1)
        self.batch_us[phase].append(1e6 * seconds / size)
        self.inside_us[phase].append(self._side.watch.take_us())

    def time_end(self) -> None:
        self.end_us.append(1e6 * self._clock(self._side.end, 1))


def hook_frame_us(clock: Clock = host_clock) -> float:
    """Microseconds that it takes to call hooks on a model and a criterion that do nothing.

    This is spent around our hooks and not in them.

    Args:
        clock: What measures the time.
    """
    x = torch.zeros(1)
    bare = _PassThrough(), _PassThrough()
    hooked = _Hooked(), _Hooked()

    def call(model: nn.Module, criterion: nn.Module) -> object:
        return criterion(model(x), x)

    calls = {"bare": partial(call, *bare), "hooked": partial(call, *hooked)}
    faults = FaultLog("raise", _nothing)
    told = [
        Listener(hooked[0], _nothing, _nothing, faults, real=False),
        Listener(hooked[1], None, _nothing, faults, real=False),
    ]
    stand_ins = [listen(listener) for listener in told]
    try:
        times = race(calls, rounds=15, least_s=2e-3, clock=clock)
    finally:
        for stand_in, listener in zip(stand_ins, told, strict=True):
            stand_in.remove(listener)
    return max(0.0, times["hooked"].microseconds[0] - times["bare"].microseconds[0])


class _PassThrough(nn.Module):
    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return x


class _Hooked(_PassThrough):
    """A class of its own: calls are watched by class."""


def _nothing(*_: object) -> None:
    return
