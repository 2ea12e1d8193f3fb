"""Where a newcomer's scripts stopped: each is told now, and its healthy twin says nothing."""

import copy
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 — the name by which it is watched
from loops import quiet
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    TensorDataset,
    default_collate,
)

import ptmetrics as pm

WORDS = 7
TEXT = torch.randint(0, WORDS, (6, 8), generator=torch.Generator().manual_seed(4))


class Writer(nn.Module):
    """A language model whose name tells nothing; its loss is about the next word, or about this."""

    def __init__(self, *, shifts: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed, self.head = nn.Embedding(WORDS, 8), nn.Linear(8, WORDS)
        self.shifts = shifts

    def forward(self, words: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.embed(words))
        answers, truth = logits, labels
        if self.shifts:
            answers, truth = logits[:, :-1], labels[:, 1:]
        loss = F.cross_entropy(answers.flatten(0, 1), truth.flatten())
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("told", [None, True, False])
def test_a_shift_that_the_models_own_loss_contradicts_is_told(
    shifts: bool, told: bool | None
) -> None:
    model = Writer(shifts=shifts).eval()
    with quiet(metrics=pm.MulticlassMetrics(WORDS), on_fault="contain") as monitor:
        monitor.attach(model, shift=told)
        with torch.no_grad():
            for _ in range(2):
                model(TEXT, labels=TEXT.flip(0))
                monitor.end_epoch()
        faults = monitor.faults.all()
    assert bool(faults) is (bool(told) is not shifts)
    for fault in faults:
        assert (fault.where, fault.split, fault.count) == ("shift", "val", 1)
        assert f"attach(model, shift={shifts})" in fault.message


def imported_before(model: nn.Module, x: Tensor, y: Tensor) -> None:
    EARLY(model(x), y)


def by_its_name(model: nn.Module, x: Tensor, y: Tensor) -> None:
    F.cross_entropy(model(x), y)


EARLY = F.cross_entropy
X, Y = torch.randn(12, 4), torch.arange(12) % 3


@pytest.mark.parametrize("loss", [imported_before, by_its_name])
@pytest.mark.parametrize("way", ["hooks", "loaders"])
def test_a_criterion_that_nobody_calls_by_its_name_is_told(
    loss: Callable[..., None], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Linear(4, 3).eval()
    stopping = pm.EarlyStopping("val/loss", patience=1)
    with caplog.at_level(logging.WARNING), quiet(stopping) as monitor:
        monitor.attach(model, criterion=F.cross_entropy)
        for _ in range(3):
            batches: Any = [(X, Y)]
            if way == "loaders":
                batches = monitor.validate(batches)
            for x, y in batches:
                loss(model, x, y)
            monitor.end_epoch()
    said = "\n".join(caplog.messages)
    unseen = "was not called as torch.nn.functional.cross_entropy; a name imported before"
    assert (unseen in said) is (loss is imported_before)
    waits = loss is imported_before and way == "loaders"
    assert ("waiting for val/loss" in said) is waits
    if loss is by_its_name:
        assert [
            line for line in caplog.messages if "goes on" not in line and "went on" not in line
        ] == []


@pytest.mark.parametrize("broken_off", [True, False])
def test_a_training_pass_that_was_left_and_begun_again_is_told(
    broken_off: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss()
    with caplog.at_level(logging.WARNING), quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        for last in (1, 3):
            for step, (x, y) in enumerate(monitor.train([(X, Y.clone())] * 3)):
                criterion(model(x), y)
                if broken_off and step == last:
                    break
            if not broken_off:
                monitor.end_epoch()
        monitor.update(X[:, :3], Y, split="val")
        scores = monitor.end_epoch()
    assert any("left after 24 rows" in line for line in caplog.messages) is broken_off
    if broken_off:
        assert scores["train/accuracy"].n == 60


def test_a_closure_that_was_interrupted_leaves_nothing_uncounted() -> None:
    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=9, tolerance_change=0)
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        optimizer.zero_grad()
        loss: Tensor = criterion(model(X), Y)
        loss.backward()
        return loss

    with quiet() as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        with torch.no_grad():
            criterion(model.eval()(X), Y)
        scores = monitor.end_epoch()
    assert scores["val/accuracy"].n == 12


class Setup:
    """A model, another one, their criterion, and data of 26 rows for training and 19 beside it."""

    def __init__(self, **options: Any) -> None:
        self.model = nn.Linear(4, 3)
        self.other = copy.deepcopy(self.model)
        self.criterion = nn.CrossEntropyLoss(**options)
        x, y = torch.randn(45, 4), torch.arange(45) % 3
        self.train = list(zip(x[:26].split(6), y[:26].split(6), strict=True))
        self.val = list(zip(x[26:].split(5), y[26:].split(5), strict=True))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.model(x), y)
        return loss

    def others_loss(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.other(x), y)
        return loss


def without_a_word(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    for x, y in val:
        own.loss(x, y)


def average_behind(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    without_a_word(own, monitor, val)
    for x, y in own.val:
        own.others_loss(x, y)


def average_alone(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    for x, y in own.val:
        own.others_loss(x, y)


def average_named(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    without_a_word(own, monitor, val)
    with monitor.split("ema"):
        for x, y in own.val:
            own.others_loss(x, y)


def average_left_out(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    without_a_word(own, monitor, val)
    with monitor.pause():
        for x, y in own.val:
            own.others_loss(x, y)


def teacher_beside(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    for x, y in val:
        own.loss(x, y)
        own.others_loss(x, y)


def teacher_before(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    for x, y in val:
        own.others_loss(x, y)
        own.loss(x, y)


def two_teachers(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    for x, y in val:
        own.loss(x, y)
        own.others_loss(x, y)
        own.others_loss(-x, y)


def loss_of_each_class(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    for x, y in val:
        answer = own.model(x)
        own.criterion(answer, y)
        for label in range(3):
            own.criterion(answer[y == label], y[y == label])


def temperatures(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    answers = []
    for x, y in val:
        answers.append(own.model(x))
        own.criterion(answers[-1], y)
    scores, truth = torch.cat(answers), torch.cat([y for _, y in own.val])
    for temperature in (0.5, 1.0, 2.0, 4.0):
        own.criterion(scores / temperature, truth)


def discriminator(own: Setup, monitor: pm.Monitor, val: Any) -> None:
    without_a_word(own, monitor, val)
    with torch.enable_grad():
        for x, y in own.train:
            own.others_loss(x, y).backward()


LOUD = (average_behind, average_alone)
HEALTHY = (
    without_a_word, average_named, average_left_out, teacher_beside, teacher_before, two_teachers,
    loss_of_each_class, temperatures, discriminator,
)  # fmt: skip


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("validate", [*LOUD, *HEALTHY])
def test_a_pass_of_an_average_that_counts_nowhere_is_told(
    validate: Callable[..., None], wrapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    own = Setup()
    optimizer = torch.optim.SGD(own.model.parameters(), lr=0.1)
    with caplog.at_level(logging.WARNING), quiet() as monitor:
        monitor.attach(own.model, criterion=own.criterion, optimizer=optimizer)
        for _ in range(2):
            train, val = own.train, own.val
            if wrapped:
                train, val = monitor.train(train), monitor.validate(val)
            for x, y in train:
                own.loss(x, y).backward()
                optimizer.step()
            own.model.eval()
            with torch.no_grad():
                validate(own, monitor, val)
            own.model.train()
            scores = monitor.end_epoch()
    counted = 19 * (validate is not average_alone)
    assert scores.counts.get("val_samples", 0) == counted
    if validate not in LOUD:
        assert not caplog.messages
        return
    (line,) = caplog.messages
    assert "called 4 times for 19 rows that the attached model did not answer" in line
    assert f"beside {counted} rows of val" in line
    assert "monitor.split('ema')" in line
    assert "monitor.pause()" in line


def test_what_another_monitor_counts_is_no_pass_that_counts_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Setup()
    own.model.eval()
    own.other.eval()
    with caplog.at_level(logging.WARNING), quiet() as one, quiet() as two, torch.no_grad():
        one.attach(own.model, criterion=own.criterion)
        two.attach(own.other, criterion=own.criterion)
        without_a_word(own, one, own.val)
        average_alone(own, two, own.val)
        assert [each.end_epoch()["val/accuracy"].n for each in (one, two)] == [19, 19]
    assert not caplog.messages


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("train", "26 are those of training: with monitor.split('train_eval'): …"),
        ("val", "with monitor.split('again'): …, or leave them out, with monitor.pause(): …"),
        ("more", "Name all but the validation after their data: with monitor.split('test'): …"),
        ("", ""),
    ],
)
def test_of_merged_passes_the_cure_that_fits_is_told(
    second: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = Setup()
    data = {"train": own.train, "val": own.val, "more": own.val[:2], "": []}[second]
    with caplog.at_level(logging.WARNING), quiet() as monitor:
        monitor.attach(own.model, criterion=own.criterion)
        for x, y in own.train:
            own.loss(x, y)
        own.model.eval()
        with torch.no_grad():
            for x, y in own.val:
                own.loss(x, y)
            for x, y in data:
                own.loss(x, y)
        monitor.end_epoch()
    assert len(caplog.messages) == bool(said)
    assert said in "".join(caplog.messages)
    assert ("train_eval" in "".join(caplog.messages)) is (second == "train")


class Stream(IterableDataset[Any]):
    """Rows whose number nobody knows beforehand."""

    def __iter__(self) -> Any:
        return iter(ROWS)


ROWS = TensorDataset(torch.randn(19, 4), torch.arange(19) % 3)
FEW = list(zip(torch.randn(7, 4).split(4), torch.zeros(7).long().split(4), strict=True))


def by_batch(own: Setup, x: Tensor, y: Tensor) -> None:
    own.loss(x, y)


def by_row(own: Setup, x: Tensor, y: Tensor) -> None:
    for row, truth in zip(x, y, strict=True):
        own.loss(row[None], truth[None])


def with_copies(own: Setup, x: Tensor, y: Tensor) -> None:
    own.criterion((own.model(x) + own.model(-x)) / 2, y)


def by_parts_of_samples(own: Setup, x: Tensor, y: Tensor) -> None:
    parts = torch.arange(2 * len(y)) % 3 > 0
    own.loss(x.repeat(2, 1)[parts], y.repeat(2)[parts])


def with_other_data(own: Setup, x: Tensor, y: Tensor) -> None:
    own.loss(x, y)
    if len(y) < 8:
        for few, truth in FEW:
            own.loss(few, truth)


def loader_rows(step: Callable[..., None], loader: Any, run: Path | None = None) -> Any:
    own = Setup()
    own.model.eval()
    with quiet(run=run) as monitor, torch.no_grad():
        monitor.attach(own.model, criterion=own.criterion)
        for x, y in monitor.validate(loader):
            step(own, x, y)
        return monitor.end_epoch().to_record()["seen"]["val"]


def test_rows_beyond_the_loaders_length_are_told_by_the_verdict(tmp_path: Path) -> None:
    seen = loader_rows(with_other_data, DataLoader(ROWS, 8), tmp_path / "run")
    assert (seen["loader_rows"], seen["counted_rows"]) == (19, 26)
    found = [f for f in pm.judge(tmp_path / "run").findings if f.code == "split-changed"]
    assert [f.message for f in found] == ["val: 26 rows were counted, but the loader holds 19."]


@pytest.mark.parametrize("step", [by_batch, by_row, with_copies, by_parts_of_samples])
def test_a_loader_that_is_walked_once_exceeds_nothing(
    step: Callable[..., None], tmp_path: Path
) -> None:
    loader_rows(step, DataLoader(ROWS, 8), tmp_path / "run")
    assert "split-changed" not in {f.code for f in pm.judge(tmp_path / "run").findings}


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(ROWS, 8, drop_last=True),
        DataLoader(ROWS, batch_sampler=[[0, 1, 2], [3, 4]]),
        DataLoader(ROWS, batch_sampler=BatchSampler(range(19), 8, drop_last=False)),
        DataLoader(ROWS, 8, collate_fn=lambda rows: default_collate(rows)),
        DataLoader(Stream(), 8),
        list(DataLoader(ROWS, 8)),
    ],
)
def test_a_length_that_is_not_known_for_sure_is_not_recorded(loader: Any) -> None:
    assert "loader_rows" not in loader_rows(by_row, loader)
    assert loader_rows(by_row, DataLoader(ROWS, 8))["loader_rows"] == 19


def test_a_closed_monitor_says_so_in_each_cell_that_is_run_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = SimpleNamespace(execution_count=6)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with caplog.at_level(logging.WARNING):
        monitor = quiet(on_fault="contain")
        assert run_cell(monitor)["val/accuracy"].n == 12
        monitor.close()
        assert not caplog.messages
        for time in (1, 2, 3):
            shell.execution_count += 1
            assert not dict(run_cell(monitor))
            assert not dict(run_cell(monitor))  # as a loop over epochs goes on
            assert len(caplog.messages) == time
    for line in caplog.messages:
        assert "got one that was closed" in line
        assert "make a new Monitor" in line


def run_cell(monitor: pm.Monitor) -> Any:
    for _ in monitor.validate([(X, Y)]):
        monitor.update(X[:, :3], Y, split="val")
    return monitor.end_epoch()


# Predictions (N, 1) against targets (N,): each against every other.


def fitted(
    criterion: Any, shape: Callable[[Tensor], Tensor], rows: int = 16, way: str = "hooks"
) -> pm.Monitor:
    """A loop that learns next to nothing, so that the losses alone tell nothing."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    inputs = torch.randn(3 * rows, 4)
    batches = list(zip(inputs.split(rows), inputs[:, 0].split(rows), strict=True))
    monitor = quiet(metrics=pm.RegressionMetrics(), on_fault="contain")
    monitor.attach(model, criterion=criterion)
    called = getattr(criterion, "__name__", "")
    for _ in range(2):
        for training in (True, False):
            model.train(training)
            served: Any = batches
            if way == "loaders":
                served = monitor.train(batches) if training else monitor.validate(batches)
            with torch.set_grad_enabled(training):
                for x, y in served:
                    loss = getattr(F, called) if called else criterion
                    loss(shape(model(x)), y)
        monitor.end_epoch()
    monitor.close()
    return monitor


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("way", ["hooks", "loaders"])
@pytest.mark.parametrize("criterion", [nn.MSELoss(), nn.L1Loss(), F.smooth_l1_loss, nn.HuberLoss()])
def test_predictions_that_broadcast_against_the_targets_are_told(
    criterion: Any, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        monitor = fitted(criterion, lambda preds: preds, way=way)
    said = [line for line in caplog.messages if "broadcast" in line]
    assert len(said) == 2, "once for each split"
    assert "(16, 1)" in said[0]
    assert "(16,)" in said[0]
    found = [f for f in pm.judge(monitor).findings if f.code == "loss-disagrees"]
    assert [finding.severity for finding in found] == ["warning"]
    assert found[0].evidence["cause"] == "broadcast"
    assert "preds.squeeze(1)" in found[0].advice


class Own(nn.Module):
    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(preds.squeeze(1), target)


@pytest.mark.parametrize(
    ("criterion", "shape", "rows"),
    [
        (nn.MSELoss(), lambda preds: preds.squeeze(1), 16),
        (Own(), lambda preds: preds, 16),
        (nn.MSELoss(), lambda preds: preds, 1),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_predictions_of_the_shape_of_the_targets_are_not(
    criterion: Any, shape: Callable[[Tensor], Tensor], rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        monitor = fitted(criterion, shape, rows)
    assert not [line for line in caplog.messages if "broadcast" in line]
    assert "loss-disagrees" not in {finding.code for finding in pm.judge(monitor).findings}
