"""Where a newcomer's scripts stopped: each is told now, and its healthy twin says nothing."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 — the name by which it is watched
from loops import quiet
from torch import Tensor, nn

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
        assert not said


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
