"""On a real GPU a watched loop trains as an unwatched one, waits for nothing and counts each row once."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from on_device import DEVICE, assert_same_counts, deterministic, needs_gpu, no_wait
from torch import Tensor, nn

import ptmetrics as pm

CLASSES, FEATURES = 10, 24
TRAIN, VAL = 1000, 300
Pairs = Iterable[tuple[Tensor, Tensor]]
ways = pytest.mark.parametrize("way", ["hooks", "loaders", "update"])


def net() -> nn.Module:
    """Dropout draws random numbers, batch normalisation has buffers."""
    return nn.Sequential(
        nn.Linear(FEATURES, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, CLASSES),
    ).to(DEVICE)


def on_host(rows: int, size: int = 64) -> list[tuple[Tensor, Tensor]]:
    """Batches in memory that copies need not wait for; the last one is smaller."""
    g = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, FEATURES, generator=g)
    y = torch.randint(CLASSES, (rows,), generator=g)
    pairs = list(zip(x.split(size), y.split(size), strict=True))
    if DEVICE != "cuda":
        return pairs
    return [(a.pin_memory(), b.pin_memory()) for a, b in pairs]


def moved(loader: Pairs) -> Pairs:
    """Each batch as it comes, without waiting."""
    for x, y in loader:
        yield x.to(DEVICE, non_blocking=True), y.to(DEVICE, non_blocking=True)


class Prefetcher:
    """Moves the next batch on a stream of its own while the loop is at work on this one."""

    def __init__(self, loader: Pairs) -> None:
        self.loader = loader
        self.stream = torch.cuda.Stream() if DEVICE == "cuda" else None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        ahead = None
        for pair in self.loader:
            copied = self.copy(*pair)
            if ahead is not None:
                yield self.ready(*ahead)
            ahead = copied
        if ahead is not None:
            yield self.ready(*ahead)

    def copy(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.stream is None:
            return x.clone(), y.clone()
        with torch.cuda.stream(self.stream):
            return x.to(DEVICE, non_blocking=True), y.to(DEVICE, non_blocking=True)

    def ready(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.stream is not None:
            torch.cuda.current_stream().wait_stream(self.stream)
            for tensor in (x, y):
                tensor.record_stream(torch.cuda.current_stream())
        return x, y


@dataclass
class Fit:
    """What a training left behind."""

    model: nn.Module
    losses: list[Tensor] = field(default_factory=list)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    scores: list[Any] = field(default_factory=list)

    def traces(self) -> list[Any]:
        """Parameters, buffers, losses and the state of the device's random generator, exactly."""
        state = [(name, value.tolist()) for name, value in self.model.state_dict().items()]
        generator = torch.get_rng_state()
        if DEVICE == "cuda":
            generator = torch.cuda.get_rng_state()
        return [*state, *(loss.tolist() for loss in self.losses), generator.tolist()]

    def counted(self, split: str) -> pm.MulticlassMetrics:
        """A metric fed by hand with what the model answered in the last epoch."""
        metrics = pm.MulticlassMetrics(CLASSES, device=DEVICE)
        for output, target in self.seen[split]:
            metrics.update(output, target)
        return metrics


def fit(
    monitor: pm.Monitor | None = None,
    way: str = "hooks",
    *,
    over: Callable[[Pairs], Pairs] = moved,
    amp: torch.dtype | None = None,
    scaled: bool = False,
    epochs: int = 2,
    ahead_of_us: bool = False,
    guard: bool = True,
) -> Fit:
    """Train; with no monitor nobody looks on. `ahead_of_us` puts `over` outside of the loader that is watched."""
    torch.manual_seed(0)
    model, criterion = net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler(DEVICE, enabled=scaled)
    left = Fit(model)
    data = {"train": on_host(TRAIN), "val": on_host(VAL)}
    attach(monitor, way, model, criterion, optimizer)

    def batches(split: str) -> Pairs:
        return watched_batches(monitor, way, data[split], split, over, ahead_of_us=ahead_of_us)

    def one(x: Tensor, y: Tensor, split: str) -> Tensor:
        with torch.autocast(DEVICE, amp, enabled=amp is not None):
            output = model(x)
            loss = criterion(output, y)
        if way == "update" and monitor is not None:
            monitor.update(output, y, loss=loss, split=split)
        left.losses.append(loss.detach().clone())
        left.seen[split].append((output.detach(), y))
        return loss

    def epoch() -> None:
        left.seen = {"train": [], "val": []}
        model.train()
        for x, y in batches("train"):
            optimizer.zero_grad()
            scaler.scale(one(x, y, "train")).backward()
            scaler.step(optimizer)  # waits, where it scales
            scaler.update()
        model.eval()
        with torch.no_grad():
            for x, y in batches("val"):
                one(x, y, "val")

    for number in range(epochs):
        # In the first epoch torch's own libraries set themselves up; a scaler waits.
        with ExitStack() as guards:
            if guard and number and not scaled:
                guards.enter_context(no_wait())
            epoch()
        if monitor is not None:
            left.scores.append(monitor.end_epoch())
    return left


def attach(
    monitor: pm.Monitor | None,
    way: str,
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Hooks, which the way "update" has none of on the criterion."""
    if monitor is None:
        return
    if way == "update":
        monitor.attach(model, optimizer=optimizer)
    else:
        monitor.attach(model, optimizer=optimizer, criterion=criterion)


def watched_batches(
    monitor: pm.Monitor | None,
    way: str,
    loader: Pairs,
    split: str,
    over: Callable[[Pairs], Pairs],
    *,
    ahead_of_us: bool,
) -> Pairs:
    """The batches of a split on the device, and with the way "loaders" in the monitor's wrapper."""
    if monitor is None or way != "loaders":
        return over(loader)
    watch_loader = monitor.train if split == "train" else monitor.validate
    if ahead_of_us:
        return over(watch_loader(loader))
    return watch_loader(over(loader))


def watch(**options: Any) -> pm.Monitor:
    return pm.Monitor(
        pm.MulticlassMetrics(CLASSES), **({"progress": False, "on_fault": "raise"} | options)
    )


def assert_counted_once(left: Fit) -> None:
    """Every row, in each epoch, and each with the class that the model gave it."""
    for scores in left.scores:
        assert scores.counts["train_samples"] == TRAIN
        assert scores.counts["val_samples"] == VAL
    for split in ("train", "val"):
        expected = left.counted(split).compute()
        for name, score in expected.items():  # float sums are of other batches on the device
            found = left.scores[-1][f"{split}/{name}"].value
            assert found == pytest.approx(score.value, rel=1e-12, nan_ok=True), name


@pytest.mark.fault(34)
@ways
def test_training_is_bit_equal_with_and_without_us(way: str, tmp_path: Any) -> None:
    with deterministic():
        without = fit().traces()
        with watch(run=tmp_path / "run") as monitor:
            left = fit(monitor, way)
        assert left.traces() == without
    assert_counted_once(left)


@pytest.mark.fault(28)
@ways
def test_a_watched_loop_waits_for_nothing_and_counts_every_row(way: str) -> None:
    with watch() as monitor:
        assert_counted_once(fit(monitor, way, epochs=3))


@pytest.mark.fault(28)
@needs_gpu
@ways
def test_the_very_first_step_of_a_run_waits_for_nothing(way: str) -> None:
    fit()  # what torch's libraries set up is set up
    x, y = next(iter(moved(on_host(64))))
    model, criterion = net(), nn.CrossEntropyLoss()
    with watch() as monitor:
        with no_wait():
            monitor.attach(model, criterion=None if way == "update" else criterion)
            loader = [(x, y)]
            for a, b in monitor.train(loader) if way == "loaders" else loader:
                output = model(a)
                loss = criterion(output, b)
                if way == "update":
                    monitor.update(output, b, loss=loss, split="train")
                loss.backward()
        assert monitor.end_epoch().counts["train_samples"] == 64


@pytest.mark.parametrize("ahead_of_us", [False, True])
@ways
def test_batches_that_are_moved_ahead_on_a_stream_are_counted_once(
    way: str, ahead_of_us: bool
) -> None:
    with watch() as monitor:
        assert_counted_once(fit(monitor, way, over=Prefetcher, ahead_of_us=ahead_of_us))


@ways
@pytest.mark.parametrize(
    ("amp", "scaled"), [(torch.float16, True), (torch.bfloat16, False)], ids=str
)
def test_mixed_precision_is_counted_and_trains_as_without_us(
    way: str, amp: torch.dtype, scaled: bool
) -> None:
    with deterministic():
        without = fit(amp=amp, scaled=scaled).traces()
        with watch() as monitor:
            left = fit(monitor, way, amp=amp, scaled=scaled)
        assert left.traces() == without
    assert_counted_once(left)


@pytest.mark.fault(35)
@needs_gpu
@ways
def test_memory_is_flat_from_epoch_to_epoch(way: str) -> None:
    held = []

    class Look(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            torch.cuda.synchronize()
            held.append(torch.cuda.memory_allocated())

    with watch(callbacks=[Look()]) as monitor:
        fit(monitor, way, epochs=6, guard=False)
    # Losses are kept by this test: 21 of 512 bytes each epoch.
    assert len(held) == 6
    assert held[5] - held[2] <= 3 * 21 * 512


@pytest.mark.fault(47)
@needs_gpu
def test_the_devices_clock_tells_the_time_of_training() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(2048, 2048) for _ in range(6)]
    model = nn.Sequential(*layers, nn.Linear(2048, CLASSES)).to(DEVICE)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    x, y = torch.randn(4096, 2048, device=DEVICE), torch.arange(4096, device=DEVICE) % CLASSES
    walls = []
    monitor = watch()
    records = []
    with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        for _ in range(3):
            torch.cuda.synchronize()
            started = time.perf_counter()
            model.train()
            for _ in range(30):
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
            torch.cuda.synchronize()
            walls.append(time.perf_counter() - started)
            records.append(monitor.end_epoch().to_record()["time"])
    for wall, told in list(zip(walls, records, strict=True))[1:]:
        assert told["train_device_s"] is not None
        assert 0.7 * wall <= told["train_device_s"] <= 1.1 * wall, (wall, told)
        assert told["train_s"] + told["other_s"] >= 0.9 * wall, (wall, told)


def test_a_metric_that_was_watched_is_where_the_model_is() -> None:
    metrics = pm.MulticlassMetrics(CLASSES)
    with pm.Monitor(metrics, progress=False, on_fault="raise") as monitor:
        left = fit(monitor, epochs=1)
        assert left.counted("val").device.type == DEVICE
        mine = pm.MulticlassMetrics(CLASSES)
        for output, target in left.seen["val"]:
            mine.update(output.cpu(), target.cpu())
        assert_same_counts(left.counted("val"), mine)
