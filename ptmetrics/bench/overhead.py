"""What a watched training loop costs: the time inside the hooks, and whole blocks with and without them in turn.

On a machine where two equal blocks differ by more than 1 %, a difference of blocks cannot tell whether hooks cost
1 %. So the hooks themselves are timed, in the running loop with its cold caches; the blocks are the second opinion.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.bench.loops import Loop
from ptmetrics.bench.peers import sides
from ptmetrics.bench.timing import Call, Clock, Quartiles, host_clock, paired, quartiles, race
from ptmetrics.bench.updates import full_set

PHASES = ("train", "val")
EPOCH = {
    "train": 782,
    "val": 157,
}  # batches of 64 in an epoch of CIFAR-10: 50,000 images, and 10,000
Key = tuple[str, str]  # side and phase


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
        end_us: Median microseconds of the end of an epoch: all scores computed; 0 where there is none.
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
    """Adds up the time inside the calls that it wraps."""

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self._now, self.spent_ns = now, 0

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
        spent, self.spent_ns = self.spent_ns, 0
        return spent / 1e3


class Bare:
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


class Hooked(Bare):
    """A monitor by hooks, with a record on the disk; each hook is timed."""

    name = "ptmetrics"

    def __init__(self, loop: Loop, folder: str) -> None:
        super().__init__()
        metrics = pm.MulticlassMetrics(loop.classes, topk=(1, 5))
        self._monitor = pm.Monitor(metrics, run=f"{folder}/run", progress=False, on_fault="raise")

    def block(self, loop: Loop, phase: str, batches: int) -> None:
        """The loop with hooks on."""
        with self._monitor.attach(
            loop.model, criterion=loop.criterion, optimizer=loop.optimizer
        ) as hooks:
            for table in loop.hooks():
                for key, hook in table.items():
                    table[key] = self.watch.wrap(hook)
            loop.run(phase, batches)
            hooks.detach()

    def end(self) -> object:
        """Scores of both phases, and a line of the record."""
        return self._monitor.end_epoch()


class Collection(Bare):
    """torchmetrics in the loop: for each phase the same scores, as far as it has them, and the mean loss."""

    name = "torchmetrics"

    def __init__(self, loop: Loop, module: Any) -> None:
        super().__init__()
        device = loop.batch[0].device.type
        peer = {"torchmetrics": module}
        self._metrics = {
            p: sides(peer, "multiclass", loop.classes, full_set(), device)[0] for p in PHASES
        }
        self._losses = {p: module.MeanMetric().to(device) for p in PHASES}
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


def watched(
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
        entrants = [Bare(), Hooked(loop, folder)]
        entrants += [Collection(loop, modules["torchmetrics"])] if "torchmetrics" in modules else []
        calls = {
            (e.name, p): partial(e.block, loop, p, batches[p]) for p in PHASES for e in entrants
        }  # by phase: the sides of a phase are neighbours
        for call in calls.values():
            call()
        for e in entrants:
            e.end()
        times, spent, ends = _rounds(entrants, calls, rounds, clock)
    frame = frames_us()
    for phase in PHASES:
        bare = times["bare loop", phase]
        usual = quartiles(bare)[0] / batches[phase]
        for e in entrants:
            took, size = times[e.name, phase], batches[phase]
            added = sum(spent[e.name, phase]) / (rounds * size) + frame * isinstance(e, Hooked)
            median, low, high = quartiles(took)
            per_batch = median / size, low / size, high / size
            yield LoopRow(loop.name, phase, e.name, per_batch, added, added / usual, paired(took, bare),
                          quartiles(ends[e.name])[0])  # fmt: skip


def _rounds(
    entrants: Sequence[Bare], calls: Mapping[Key, Call], rounds: int, clock: Clock
) -> tuple[dict[Key, list[float]], dict[Key, list[float]], dict[str, list[float]]]:
    """Microseconds of each block, those inside the side's calls, and those of each end of an epoch."""
    times: dict[Key, list[float]] = {key: [] for key in calls}
    spent: dict[Key, list[float]] = {key: [] for key in calls}
    ends: dict[str, list[float]] = {e.name: [] for e in entrants}
    watches = {e.name: e.watch for e in entrants}
    for watch in watches.values():
        watch.take_us()
    for number in range(rounds):
        for key in list(calls) if number % 2 == 0 else list(calls)[::-1]:
            times[key].append(1e6 * clock(calls[key], 1))
            spent[key].append(watches[key[0]].take_us())
        for e in entrants:
            ends[e.name].append(1e6 * clock(e.end, 1))
    return times, spent, ends


def frames_us() -> float:
    """What torch takes to call three hooks that do nothing, microseconds: what is around ours and not in them."""
    bare, hooked = (_Through(), _Through()), (_Through(), _Through())
    hooked[0].register_forward_pre_hook(lambda *_: None)
    hooked[0].register_forward_hook(lambda *_: None)
    hooked[1].register_forward_hook(lambda *_, **__: None, with_kwargs=True)
    x = torch.zeros(1)
    calls = {
        name: partial(_answer, *pair, x) for name, pair in (("bare", bare), ("hooked", hooked))
    }
    times = race(calls, rounds=15, least_s=2e-3, count=False)
    return max(0.0, times["hooked"].microseconds[0] - times["bare"].microseconds[0])


def _answer(model: nn.Module, criterion: nn.Module, x: Tensor) -> object:
    return criterion(model(x), x)


class _Through(nn.Module):
    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return x
