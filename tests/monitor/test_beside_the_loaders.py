"""Loops of which a part goes past what was wrapped or attached: counted right, or told."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from loops import quiet
from torch import Tensor, nn

import ptmetrics as pm

CLASSES, FEATURES = 3, 5
TRAIN_SIZES, VAL_SIZES = (6, 6, 6, 4), (5, 5, 3)
TRAIN_ROWS, VAL_ROWS = sum(TRAIN_SIZES), sum(VAL_SIZES)
Batches = list[tuple[Tensor, Tensor]]


def batches(sizes: tuple[int, ...], seed: int) -> Batches:
    drawn = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, FEATURES, generator=drawn),
            torch.randint(0, CLASSES, (size,), generator=drawn),
        )
        for size in sizes
    ]


class Loop:
    """Model, criterion, optimizer and data, and what the loop itself counts of its validation."""

    def __init__(self, monitor: pm.Monitor, val_sizes: tuple[int, ...] = VAL_SIZES) -> None:
        torch.manual_seed(0)
        self.monitor = monitor
        self.model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.train = batches(TRAIN_SIZES, 1)
        self.val = batches(val_sizes, 2)
        self.hits = 0
        self.loss = 0.0
        monitor.attach(self.model, criterion=self.criterion, optimizer=self.optimizer)

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        self.criterion(self.model(x), y).backward()
        self.optimizer.step()

    def validate(self, data: Any = None, *, loss: bool = True) -> None:
        """In evaluation mode, over bare data or what is given."""
        self.hits = 0
        self.loss = 0.0
        self.model.eval()
        with torch.no_grad():
            for x, y in self.val if data is None else data:
                out = self.model(x)
                self.hits += int((out.argmax(1) == y).sum())
                if loss:
                    self.loss += len(y) * self.criterion(out, y).item()
        self.model.train()


# A validation that nobody has wrapped, inside of a pass over training data that somebody has.


def behind_a_batch(own: Loop, number: int, x: Tensor, y: Tensor) -> None:
    own.learn(x, y)
    if number in (1, 3):
        own.validate()


def before_a_batch(own: Loop, number: int, x: Tensor, y: Tensor) -> None:
    if number in (1, 3):
        own.validate()
    own.learn(x, y)


@pytest.mark.parametrize("val_sizes", [VAL_SIZES, (6, 6, 1), (13,)])
@pytest.mark.parametrize("step", [behind_a_batch, before_a_batch])
def test_a_bare_validation_in_a_pass_over_training_data_is_one(
    step: Callable[..., None], val_sizes: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Loop(monitor, val_sizes)
        for _ in range(2):
            for number, (x, y) in enumerate(monitor.train(own.train)):
                step(own, number, x, y)
            scores = monitor.end_epoch()
            assert scores.counts["train_samples"] == TRAIN_ROWS
            assert scores.counts["val_samples"] == VAL_ROWS
            assert scores["val/accuracy"].value == pytest.approx(own.hits / VAL_ROWS)
            assert scores["val/loss"].value == pytest.approx(own.loss / VAL_ROWS)
    assert not caplog.messages


def test_where_it_belongs_to_an_evaluation_by_steps_it_counts_there() -> None:
    with quiet() as monitor:
        own = Loop(monitor)
        for x, y in monitor.train(own.train):
            own.learn(x, y)
            if monitor.every(steps=2):
                own.validate()
    assert monitor.history.step == [2, 4]
    assert len(monitor.history["val/accuracy"]) == 2


def labels_of_its_own(own: Loop, x: Tensor, y: Tensor) -> None:
    own.model.eval()
    with torch.no_grad():
        own.model(x.clone()).argmax(1)
    own.model.train()
    own.learn(x, y)


def scored_behind(own: Loop, x: Tensor, y: Tensor) -> None:
    own.learn(x, y)
    own.model.eval()
    with torch.no_grad():
        (own.model(x).argmax(1) == y).sum()
    own.model.train()


def looked_at_before(own: Loop, x: Tensor, y: Tensor) -> None:
    """The batch's own loss, of a copy of its targets, before it is learned."""
    own.model.eval()
    with torch.no_grad():
        own.criterion(own.model(x), y.clone())
    own.model.train()
    own.learn(x, y)


@pytest.mark.parametrize("step", [labels_of_its_own, scored_behind])
def test_a_look_at_the_training_batch_itself_is_no_validation(
    step: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Loop(monitor)
        for _ in range(2):
            for x, y in monitor.train(own.train):
                step(own, x, y)
            own.validate(monitor.validate(own.val))
            counts = monitor.end_epoch().counts
            assert (counts["train_samples"], counts["val_samples"]) == (TRAIN_ROWS, VAL_ROWS)
    assert not caplog.messages


@pytest.mark.parametrize("learned", [True, False])
def test_a_pass_without_gradients_behind_one_that_was_learned_from_is_told(
    learned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Loop(monitor)
        for x, y in monitor.train(own.train):
            if learned:
                own.learn(x, y)
            else:
                with torch.no_grad():
                    own.criterion(own.model(x), y)
        with torch.no_grad():
            for x, y in monitor.train(own.train):
                own.criterion(own.model(x), y)
        monitor.end_epoch()
    assert len(caplog.messages) == learned
    if learned:
        assert f"both are counted ({2 * TRAIN_ROWS} rows)" in caplog.messages[0]
        assert "split='train_eval'" in caplog.messages[0]


# What is learned goes past the attached model.


def by_forward(own: Loop, x: Tensor) -> Tensor:
    out: Tensor = own.model.forward(x)
    return out


def by_its_parts(own: Loop, x: Tensor) -> Tensor:
    out: Tensor = own.model[2](own.model[1](own.model[0](x)))
    return out


def by_a_copy(own: Loop, x: Tensor) -> Tensor:
    out: Tensor = nn.Sequential(*own.model)(x)
    return out


def by_itself(own: Loop, x: Tensor) -> Tensor:
    out: Tensor = own.model(x)
    return out


def by_a_wrapper(own: Loop, x: Tensor) -> Tensor:
    out: Tensor = nn.Sequential(nn.Identity(), own.model)(x)
    return out


@pytest.mark.parametrize("answer", [by_forward, by_its_parts, by_a_copy, by_itself, by_a_wrapper])
def test_training_that_goes_past_the_attached_model_is_told(
    answer: Callable[..., Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    past = answer in (by_forward, by_its_parts, by_a_copy)
    with quiet() as monitor:
        own = Loop(monitor)
        for _ in range(2):
            for x, y in own.train:
                own.optimizer.zero_grad()
                own.criterion(answer(own, x), y).backward()
                own.optimizer.step()
            own.validate()
            scores = monitor.end_epoch()
    assert scores.counts["val_samples"] == VAL_ROWS
    assert scores.counts.get("train_samples", 0) == TRAIN_ROWS * (not past)
    assert len(caplog.messages) == past
    if past:
        assert (
            f"4 steps of the optimizer the criterion was called 4 times for {TRAIN_ROWS} rows"
            in (caplog.messages[0])
        )
        assert "0 were counted" in caplog.messages[0]
        assert "model(inputs)" in caplog.messages[0]


@pytest.mark.parametrize("answer", [by_forward, by_a_copy, by_itself])
def test_validation_that_goes_past_the_attached_model_too_is_told_with_the_same_cure(
    answer: Callable[..., Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    past = answer is not by_itself
    with quiet() as monitor:
        own = Loop(monitor)
        for x, y in own.train:
            own.optimizer.zero_grad()
            own.criterion(answer(own, x), y).backward()
            own.optimizer.step()
        own.model.eval()
        with torch.no_grad():
            for x, y in own.val:
                own.criterion(answer(own, x), y)
        monitor.end_epoch()
        findings = pm.judge(monitor, select=["not-validated", "not-counted"]).findings
    assert [line.partition(":")[0] for line in caplog.messages] == ["train", "val"] * past
    assert len(findings) == 3 * past  # none was measured; nothing of val counted, or of train
    for text in [*caplog.messages, *(finding.advice for finding in findings)]:
        assert "model(inputs)" in text
        assert "eval()" not in text
    for split, rows in (("train", TRAIN_ROWS), ("val", VAL_ROWS)):
        line = f"{split}: .*for {rows} rows, and none of them .* 0 were counted[.]$"
        assert sum(bool(re.match(line, finding.message)) for finding in findings) == past


@pytest.mark.parametrize("of_two", [True, False])
def test_a_loss_of_two_answers_is_told_once(of_two: bool, caplog: pytest.LogCaptureFixture) -> None:
    with quiet() as monitor:
        own = Loop(monitor)
        for x, y in own.train:
            pairs = x.repeat(3, 1)
            answer = own.model(pairs)
            target = y.repeat(3)
            if of_two:
                answer = answer @ own.model(pairs.flip(1)).T
                target = torch.arange(len(pairs))
            own.optimizer.zero_grad()
            own.criterion(answer, target).backward()
            own.optimizer.step()
        scores = monitor.end_epoch()
    assert all("could not be tied" in line for line in caplog.messages)
    assert len(caplog.messages) == 2 * of_two  # behind the first step, and at the epoch's end
    assert ("could not be tied" in scores.seen["train"]["message"]) is of_two


# A wrapped validation without a loss, under an attached criterion: what is written over.


def through_buffers(data: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    inputs = torch.empty(max(VAL_SIZES), FEATURES)
    labels = torch.empty(max(VAL_SIZES), dtype=torch.int64)
    for x, y in data:
        inputs[: len(x)].copy_(x)
        labels[: len(y)].copy_(y)
        yield inputs[: len(x)], labels[: len(y)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("sizes", [VAL_SIZES, (4,) * 8 + (1,)])
@pytest.mark.parametrize("fault", ["answers", "targets", "buffers", ""])
def test_what_is_written_over_before_it_counts_is_told_or_counted_right(
    fault: str, sizes: tuple[int, ...], mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Loop(monitor, sizes)
        for epoch in range(2):
            for x, y in own.train:
                own.learn(x, y)
            hits = 0
            own.model.eval()
            data = own.val
            with mode():
                data = [(x.clone(), y.clone()) for x, y in own.val]
                loader: Any = through_buffers(data) if fault == "buffers" else data
                for x, y in monitor.validate(loader):
                    out = own.model(x)
                    hits += int((out.argmax(1) == y).sum())
                    if fault == "answers":
                        out.fill_(0.5)
                    elif fault == "targets":
                        y.fill_(1)
            own.model.train()
            scores = monitor.end_epoch()
            if epoch or not fault:  # by now it is known that no criterion is called here
                assert scores["val/accuracy"].n == sum(sizes)
                assert scores["val/accuracy"].value == pytest.approx(hits / sum(sizes))
    assert len(caplog.messages) == bool(fault)
    if fault:
        assert f"val: the model answered {sum(sizes)} rows" in caplog.messages[0]
        assert "written over" in caplog.messages[0]
        assert "Use monitor.update(…), or write to a copy." in caplog.messages[0]


@pytest.mark.parametrize("at_once", [True, False])
def test_one_loss_for_all_batches_of_a_wrapped_validation_is_told(
    at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Loop(monitor, (4,) * 7)
        for x, y in own.train:
            own.learn(x, y)
        own.model.eval()
        answers = []
        with torch.no_grad():
            for x, _ in monitor.validate(own.val):
                answers.append(own.model(x))
            loss = own.criterion(torch.cat(answers), torch.cat([y for _, y in own.val]))
            if at_once:
                monitor.update_loss(loss, split="val")
        scores = monitor.end_epoch()
    assert scores["val/accuracy"].n == 28
    if at_once:
        assert scores["val/loss"].value == pytest.approx(loss.item())
        assert not caplog.messages
    else:
        assert "val/loss" not in scores
        assert "once for all 28 rows" in caplog.messages[0]
        assert "monitor.update_loss(loss, split='val')" in caplog.messages[0]


# Places of a validation that is not the epoch's first.


@pytest.mark.parametrize("logs", [True, False])
def test_a_batch_scored_in_evaluation_mode_before_the_validation_is_told(
    logs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Loop(monitor)
        for x, y in own.train:
            own.learn(x, y)
            if logs:
                own.model.eval()
                with torch.no_grad():
                    own.criterion(own.model(x), y)
                own.model.train()
        own.validate()
        monitor.end_epoch()
    assert len(caplog.messages) == logs
    if logs:
        assert f"{VAL_ROWS + 4} rows of 2 passes were counted as one" in caplog.messages[0]
        assert f"{VAL_ROWS} from line" in caplog.messages[0]
        assert "4 from line" in caplog.messages[0]


@pytest.mark.parametrize("kept", [slice(0, 2), slice(None)])
def test_a_criterion_of_a_part_of_the_rows_is_no_criterion_that_was_not_called(
    kept: slice, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Loop(monitor)
        for x, y in own.train:
            own.learn(x, y)
        own.model.eval()
        with torch.no_grad():
            for x, y in own.val:
                rows = torch.arange(len(y))[kept]
                own.criterion(own.model(x)[rows], y[rows])
        scores = monitor.end_epoch()
    whole = kept == slice(None)
    assert scores.counts.get("val_samples", 0) == VAL_ROWS * whole
    assert len(caplog.messages) == (not whole)
    if not whole:
        assert (
            "0 were counted: what the criterion was called with could not be tied"
            in (caplog.messages[0])
        )
