"""What is measured beside the scores: rates, gradient norms, throughput, memory, and where it stands."""

import csv
import math
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loops import CLASSES, fit, quiet
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

import ptmetrics as pm
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.monitor.watching import StepCallback
from ptmetrics.record.reader import read_run
from ptmetrics.testing import assert_no_sync, fake_cuda

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % CLASSES


class Twigs(nn.Module):
    """A sparse embedding, a layer that is frozen, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 6, sparse=True)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.unused = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        places = (x[:, 0].abs() * 4).long().clamp(0, 4)
        out: Tensor = self.head(self.frozen(x + self.embedding(places)))
        return out


def told_norms(norms: list[float]) -> dict[str, float]:
    """What stands in the record of these norms."""
    finite = [norm for norm in norms if math.isfinite(norm)]
    return {
        "grad_norm": sum(finite) / len(finite) if finite else math.nan,
        "grad_norm_max": max(finite, default=math.nan),
        "grad_norm_nonfinite": len(norms) - len(finite),
    }


def trained(
    callback: pm.Callback,
    model: nn.Module,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scale: float | None = None,
    accumulate: int = 1,
    clip: float | None = None,
    closure: bool = False,
    poison: int | None = None,
) -> tuple[pm.EpochScores, list[float]]:
    """One epoch of six batches; its scores, and the norm that torch finds at each step."""
    torch.manual_seed(0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.SGD(parameters, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    criterion = nn.CrossEntropyLoss()
    norms: list[float] = []

    def backward(step: int, x: Tensor, y: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=scale is not None):
            loss = criterion(model(x), y)
        if step == poison:
            loss = loss * math.nan
        scaler.scale(loss / accumulate).backward()

    def measure(factor: float) -> None:
        if clip is not None:
            clip_grad_norm_(parameters, clip)
        norms.append(float(clip_grad_norm_(parameters, math.inf)) / factor)

    with quiet(callback) as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        for step, (x, y) in enumerate(zip(X.split(4), Y.split(4), strict=True), 1):

            def whole(step: int = step, x: Tensor = x, y: Tensor = y) -> float:
                optimizer.zero_grad()
                backward(step, x, y)
                measure(1.0)
                return 0.0

            if closure:
                optimizer.step(whole)
                continue
            backward(step, x, y)
            if step % accumulate:
                continue
            if clip is not None:
                scaler.unscale_(optimizer)
            measure(scaler.get_scale() if clip is None else 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        scores = monitor.end_epoch()
    return scores, norms


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 3},
        {"scale": 1024.0},
        {"scale": 1024.0, "accumulate": 2, "clip": 0.5},
        {"clip": 0.5},
        {"closure": True},
        {"closure": True, "clip": 0.5},
        {"poison": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Twigs, nn.Linear])
def test_the_norm_is_what_torch_finds_right_before_the_step(
    kind: Any, options: dict[str, Any]
) -> None:
    model = Twigs() if kind is Twigs else nn.Linear(6, CLASSES)
    if kind is Twigs and "scale" in options:
        model.embedding = nn.Embedding(5, 6)  # a scaler on the CPU unscales no sparse gradient
    scores, norms = trained(pm.GradNorm(), model, **options)
    assert norms
    if "poison" in options:
        assert scores.numbers["grad_norm_nonfinite"] > 0
    assert scores.numbers == pytest.approx(told_norms(norms), rel=1e-6, nan_ok=True)


def test_an_optimizer_that_unscales_in_its_step_shows_the_unscaled_norm() -> None:
    model = nn.Linear(6, CLASSES)
    fused = torch.optim.AdamW(model.parameters(), fused=True)
    scores, norms = trained(pm.GradNorm(), model, optimizer=fused, scale=4096.0)
    assert scores.numbers == pytest.approx(told_norms(norms), rel=1e-5)


def test_without_a_gradient_there_is_no_norm() -> None:
    model = nn.Linear(6, CLASSES)
    optimizer = torch.optim.SGD(model.parameters())
    with quiet(pm.GradNorm()) as monitor:
        monitor.attach(model, optimizer=optimizer)
        optimizer.step()
        monitor.update(torch.eye(CLASSES), torch.arange(CLASSES), split="train")
        assert monitor.end_epoch().numbers == {}


def test_nothing_of_a_norm_waits_for_the_device() -> None:
    with fake_cuda(), torch.device("cuda"):
        half = {"dtype": torch.float16}
        model = nn.Sequential(nn.Linear(6, 4, **half), nn.LayerNorm(4))
        optimizer = torch.optim.SGD(model.parameters())
        for parameter in list(model.parameters())[:-1]:
            parameter.grad = torch.ones_like(parameter)
        callback = pm.GradNorm(optimizer)
        guard = assert_no_sync(lambda: [callback.on_step(optimizer) for _ in range(2)])
    assert any("norm" in name for name in guard.names)


def test_the_rate_is_that_of_the_last_step_and_each_group_has_its_own() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, CLASSES))
    groups = [{"params": model[0].parameters(), "lr": 0.25}, {"params": model[1].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    criterion = nn.CrossEntropyLoss()
    with quiet(pm.LearningRate()) as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        for _ in range(3):
            for x, y in zip(X.split(8), Y.split(8), strict=True):
                criterion(model(x), y).backward()
                optimizer.step()
                schedule.step()
            monitor.end_epoch()
    # Steps 3, 6 and 9; the rate is halved behind each second one.
    assert monitor.history["lr"] == [0.25 * 0.5**halved for halved in (1, 2, 4)]
    assert monitor.history["lr_group2"] == [0.5**halved for halved in (1, 2, 4)]


def test_a_rate_that_is_a_tensor_is_that_of_the_step_and_not_what_it_became() -> None:
    model = nn.Linear(6, CLASSES)
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, foreach=False)
    with quiet(pm.LearningRate()) as monitor:
        monitor.attach(model, optimizer=optimizer)
        optimizer.step()
        optimizer.param_groups[0]["lr"].fill_(0.125)
        monitor.update(torch.eye(CLASSES), torch.arange(CLASSES), split="train")
        assert monitor.end_epoch().numbers == {"lr": 0.5}


@pytest.mark.parametrize("kind", [pm.LearningRate, pm.GradNorm])
def test_an_optimizer_that_nobody_attached_is_passed_or_missed_in_words(kind: Any) -> None:
    model = nn.Linear(6, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with quiet(kind(optimizer)) as monitor:
        monitor.update(torch.eye(CLASSES), torch.arange(CLASSES), split="train")
        model(X).sum().backward()
        optimizer.step()
        assert monitor.end_epoch().numbers
    with quiet(kind(), on_fault="contain") as monitor:
        monitor.update(torch.eye(CLASSES), torch.arange(CLASSES), split="train")
        assert monitor.end_epoch().numbers == {}
        (fault,) = monitor.faults.all()
    assert fault.where == f"callback {kind.__name__}"
    assert "expected one whose steps are seen, got none. Call monitor.attach" in fault.message


def test_another_optimizer_that_is_attached_is_watched_and_the_first_let_go() -> None:
    model = nn.Linear(6, CLASSES)
    first, second = (torch.optim.SGD(model.parameters(), lr=lr) for lr in (0.5, 0.25))
    with quiet(pm.LearningRate()) as monitor:
        for optimizer in (first, second):
            with monitor.attach(
                model, criterion=(criterion := nn.CrossEntropyLoss()), optimizer=optimizer
            ):
                criterion(model(X), Y).backward()
                optimizer.step()
                monitor.end_epoch()
            assert not optimizer._optimizer_step_pre_hooks
            assert not optimizer._optimizer_step_post_hooks
    assert monitor.history["lr"] == [0.5, 0.25]


def test_a_monitor_that_nobody_holds_leaves_hooks_that_do_nothing() -> None:
    model = nn.Linear(6, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    callback = pm.GradNorm(optimizer)
    callback.on_run_begin(quiet())
    gone = weakref.ref(callback)
    del callback
    assert gone() is None
    optimizer.step()


class Breaks(StepCallback):
    """Fails in each step."""

    def on_step(self, optimizer: torch.optim.Optimizer) -> None:
        raise OSError("in the step")

    def numbers(self, monitor: Any, scores: pm.EpochScores) -> dict[str, float]:
        self.check_steps()
        return {}


def test_what_fails_in_a_step_does_not_reach_the_loop_and_is_told_with_the_epoch() -> None:
    with quiet(Breaks(), on_fault="contain") as monitor:
        left = fit("hooks", monitor)
        (fault,) = monitor.faults.all()
    assert (fault.where, fault.count) == ("callback Breaks", 2)
    assert "in the step" in fault.message
    assert left.traces() == fit(None).traces()
    with pytest.raises(OSError, match="in the step"), quiet(Breaks()) as monitor:
        fit("hooks", monitor)


class Event:
    """Each span on the device takes 250 ms."""

    def record(self) -> None:
        """Mark a point."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event: Any, /) -> float:
        return 250.0


def test_throughput_is_rows_over_the_seconds_of_training_by_the_devices_clock_if_there_is_one() -> (
    None
):
    for event in (None, Event):
        now = iter(range(0, 10**14, 10**8))
        with quiet(pm.Throughput(), clock=lambda now=now: next(now), device_event=event) as monitor:
            fit("loaders", monitor, epochs=1)
        history = monitor.history
        seconds = 0.25 if event else history[-1, "time/train_s"]
        assert history["rows_per_s"] == [50 / seconds]
        assert "targets_per_s" not in history


def test_where_rows_have_several_targets_those_that_count_are_told_too() -> None:
    metric = pm.MulticlassMetrics(CLASSES, class_dim=-1, ignore_index=-100)
    target = torch.zeros(4, 10, dtype=torch.int64)
    target[:, 7:] = -100
    with quiet(pm.Throughput(), metrics=metric) as monitor:
        for _ in monitor.train([0]):
            monitor.update(torch.randn(4, 10, CLASSES), target)
        numbers = monitor.end_epoch().numbers
        monitor.update(torch.randn(4, 10, CLASSES), target, split="val")
        assert monitor.end_epoch().numbers == {}
    assert numbers["targets_per_s"] == pytest.approx(7 * numbers["rows_per_s"])


def test_memory_is_the_peak_of_the_fullest_device_from_the_beginning_of_the_epoch() -> None:
    reset: list[torch.device] = []
    memory = SimpleNamespace(
        reset_peak_memory_stats=reset.append,
        max_memory_allocated=lambda device: 100 + 10 * len(reset) + device.index,
        max_memory_reserved=lambda device: 1000 + device.index,
    )
    with fake_cuda():
        model = nn.ModuleList([nn.Linear(2, 2, device=f"cuda:{index}") for index in (0, 1)])
    callback = pm.DeviceMemory(memory=memory)
    seen: Any = SimpleNamespace(model=model)
    for epochs in (1, 2):
        callback.on_epoch_begin(seen)
        assert len(set(reset)) == 2
        assert callback.numbers(seen, pm.EpochScores(0, {}, {})) == {
            "peak_memory_bytes": 101 + 20 * epochs,
            "peak_memory_reserved_bytes": 1001,
        }


def test_without_a_device_the_reason_is_noted_once(tmp_path: Path) -> None:
    with quiet(pm.DeviceMemory(), run=tmp_path / "run") as monitor:
        fit("hooks", monitor)
    assert "peak_memory_bytes" not in monitor.history
    notes = [note for note in read_run(tmp_path / "run").notes if note["code"] == "device-memory"]
    assert [note["message"] for note in notes] == [
        "DeviceMemory: no peak is measured, as no model on CUDA is attached."
    ]


class Counted(pm.Callback):
    """A number of one's own."""

    def numbers(self, monitor: Any, scores: pm.EpochScores) -> dict[str, float]:
        return {"answer": 42 + scores.epoch, "none": math.nan}


def test_numbers_stand_in_record_history_scores_and_trackers(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    with quiet(Counted(), pm.CSVLogger(table), run=tmp_path / "run") as monitor:
        fit("hooks", monitor)
        assert monitor.scores.numbers["answer"] == 43
    for history in (monitor.history, pm.read_history(tmp_path / "run")):
        assert history["answer"] == [42, 43]
        assert history[-1, "answer"] == 43
        assert math.isnan(history[0, "none"])
    assert read_run(tmp_path / "run").epochs[1]["numbers"]["answer"] == 43
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["answer"] for row in rows] == ["42.0", "43.0"]
    assert pm.judge(tmp_path / "run").findings == pm.judge(monitor).findings


def test_numbers_of_a_run_in_memory_are_none_of_its_scores() -> None:
    with quiet(Counted()) as monitor:
        fit("hooks", monitor, epochs=3)
    for epoch in monitor.history.run().epochs:
        assert "answer" not in epoch["scores"]
        assert epoch["numbers"]["answer"] == 42 + epoch["epoch"]


def test_a_number_that_would_be_taken_for_a_score_is_refused() -> None:
    class Wrong(pm.Callback):
        def numbers(self, monitor: Any, scores: pm.EpochScores) -> dict[str, float]:
            return {"val/mine": 1.0}

    with quiet(Wrong(), on_fault="contain") as monitor:
        fit("hooks", monitor, epochs=1)
        assert 'numbers: expected a name without "/"' in monitor.faults.all()[0].message
        assert "val/mine" not in monitor.history
    with pytest.raises(ConfigError), quiet(Wrong()) as monitor:
        fit("hooks", monitor, epochs=1)


def test_an_optimizer_is_missed_as_a_state() -> None:
    with pytest.raises(StateError, match="optimizer: expected one whose steps are seen, got none"):
        pm.GradNorm().check_steps()
