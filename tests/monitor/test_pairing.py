"""What went through the model is what was counted: each kind of loop, and its healthy twin.

Each kind is a loop with a fault, or with something that is easily counted wrong, and the same loop
without it, on which nothing is said.
"""

import gc
import logging
import re
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loops import quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.record.reader import read_run

F = nn.functional
FEATURES, CLASSES = 6, 3
TRAIN, VAL = (6, 6, 6, 3), (5, 5, 2)
TRAIN_ROWS, VAL_ROWS = sum(TRAIN), sum(VAL)
Batches = list[tuple[Tensor, Tensor]]


def rows(sizes: Iterable[int]) -> Batches:
    return [(torch.randn(n, FEATURES), torch.randint(CLASSES, (n,))) for n in sizes]


class Loop:
    """A model with all that trains it, and what the loop knows of its validation.

    Args:
        caplog: Hears what is said.
        model: What is trained.
        attach: What `attach` is told, beside model and optimizer.
    """

    def __init__(
        self, caplog: pytest.LogCaptureFixture, model: nn.Module | None = None, **attach: Any
    ) -> None:
        caplog.set_level(logging.INFO, "ptmetrics")
        torch.manual_seed(3)
        self.caplog = caplog
        self.model = model
        if model is None:
            self.model = nn.Linear(FEATURES, CLASSES)
        self.other = nn.Linear(FEATURES, CLASSES)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.train_data = rows(TRAIN)
        self.val_data = rows(VAL)
        self.monitor = quiet(
            metrics=attach.pop("metrics", pm.MulticlassMetrics(CLASSES, curves=False)),
            on_fault="contain",
        )
        attach.setdefault("criterion", self.criterion)
        self.watched = attach["criterion"]
        self.monitor.attach(self.model, optimizer=self.optimizer, **attach)

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def train(self) -> None:
        self.model.train()
        for x, y in self.train_data:
            self.step(self.criterion(self.model(x), y))

    @torch.no_grad()
    def validate(self) -> None:
        self.model.eval()
        for x, y in self.val_data:
            self.criterion(self.model(x), y)

    def end(self) -> pm.EpochScores:
        return self.monitor.end_epoch()

    @property
    def said(self) -> list[str]:
        self.monitor.close()
        return list(self.caplog.messages)

    @torch.no_grad()
    def right(self, data: Batches | None = None) -> float:
        """The accuracy of the model as it is now."""
        self.model.eval()
        hits = [(self.model(x).argmax(1) == y) for x, y in data or self.val_data]
        return float(torch.cat(hits).float().mean())

    def is_quiet(self, scores: pm.EpochScores) -> bool:
        """Whether nothing was said, no fault counted, and every row that was answered is counted."""
        assert self.said == []
        assert [fault.message for fault in self.monitor.faults.all()] == []
        assert all(seen["unpaired_rows"] == 0 for seen in scores.seen.values()), scores.seen
        return True


@pytest.fixture
def loop(caplog: pytest.LogCaptureFixture) -> Callable[..., Loop]:
    return lambda *args, **options: Loop(caplog, *args, **options)


Make = Callable[..., Loop]
twins = pytest.mark.parametrize("faulty", [True, False], ids=["faulty", "healthy"])


def names(said: list[str], *parts: Any) -> bool:
    """Whether one line names all of these, numbers as numbers of their own."""
    for line in said:
        if all(re.search(rf"(?<!\d){re.escape(str(part))}(?!\d)", line) for part in parts):
            return True
    raise AssertionError(f"no line names {parts}: {said}")


# What no criterion of ours was called for.


@twins
def test_a_validation_without_a_criterion(loop: Make, faulty: bool) -> None:
    one = loop()
    one.train()
    one.model.eval()
    with torch.no_grad():
        for x, y in one.val_data:
            output = one.model(x)
            if not faulty:
                one.criterion(output, y)
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    if faulty:
        assert "val/accuracy" not in scores
        assert names(one.said, "val:", VAL_ROWS, 0, "monitor.validate(loader)")
    else:
        assert scores["val/accuracy"].n == VAL_ROWS
        assert one.is_quiet(scores)


@twins
def test_a_function_of_torch_that_was_not_attached(loop: Make, faulty: bool) -> None:
    one = loop(criterion=None if faulty else F.cross_entropy)
    one.criterion = lambda preds, target: F.cross_entropy(preds, target)
    one.train()
    one.validate()
    scores = one.end()
    if faulty:
        assert names(one.said, "train:", TRAIN_ROWS, 0, "monitor.train(loader)")
        assert names(one.said, "val:", VAL_ROWS, 0)
    else:
        assert scores.counts["train_samples"] == TRAIN_ROWS
        assert scores["val/accuracy"].value == pytest.approx(one.right())
        assert one.is_quiet(scores)


@twins
def test_a_second_criterion_for_the_validation(loop: Make, faulty: bool) -> None:
    first, second = nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss()
    one = loop(criterion=first if faulty else (first, second))
    one.criterion = first
    one.train()
    one.criterion = second
    one.validate()
    scores = one.end()
    if faulty:
        assert names(one.said, "val:", VAL_ROWS, 0)
    else:
        assert scores["val/accuracy"].n == VAL_ROWS
        assert one.is_quiet(scores)


# The criterion is called more than once for one answer, or the model answers more than once.


@pytest.mark.parametrize("cast", [False, True])
@twins
def test_mixup_counts_rows_once_and_the_loss_that_is_minimised(
    loop: Make, faulty: bool, cast: bool
) -> None:
    one = loop()
    total = 0.0
    for x, y in one.train_data:
        preds = one.model(x)
        if cast:
            preds = preds.double()
        loss = one.criterion(preds, y)
        if faulty:
            loss = 0.3 * loss + 0.7 * one.criterion(preds, y.flip(0))
        one.step(loss)
        total += float(loss.detach()) * len(x)
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores["train/loss"].value == pytest.approx(total / TRAIN_ROWS)
    if faulty:
        assert len(one.said) == 1
        assert names(one.said, "called 2 times", "counted once")
    else:
        assert one.is_quiet(scores)


@twins
def test_a_closure_that_is_called_again_and_again(loop: Make, faulty: bool) -> None:
    one = loop()
    if faulty:
        optimizer: Any = torch.optim.LBFGS(one.model.parameters(), max_iter=3)
        one.monitor.close()
        one.monitor = quiet(metrics=pm.MulticlassMetrics(CLASSES), on_fault="contain")
        one.monitor.attach(one.model, criterion=one.criterion, optimizer=optimizer)
        one.optimizer = optimizer
    firsts = []
    for x, y in one.train_data:
        evaluations = []

        def closure(x: Tensor = x, y: Tensor = y, seen: list[float] = evaluations) -> Tensor:
            one.optimizer.zero_grad()
            loss: Tensor = one.criterion(one.model(x), y)
            loss.backward()
            seen.append(float(loss.detach()) * len(x))
            return loss

        one.optimizer.step(closure)
        firsts.append(evaluations[0])
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores.counts["train_steps"] == len(TRAIN)
    assert scores["train/loss"].value == pytest.approx(sum(firsts) / TRAIN_ROWS)
    if faulty:
        assert len(one.said) == 1
        assert names(one.said, "closure", "once a step")
    else:
        assert one.is_quiet(scores)


def attacked(one: Loop, x: Tensor, y: Tensor, times: int) -> Tensor:
    """Inputs that were moved along the gradient of the loss so many times."""
    for _ in range(times):
        moved = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(one.criterion(one.model(moved), y), moved)
        x = moved.detach() + 0.05 * gradient.sign()
    return x


@pytest.mark.parametrize("times", [0, 1, 3])
def test_adversarial_steps_count_each_row_once_and_the_loss_that_is_minimised(
    loop: Make, times: int
) -> None:
    one = loop()
    total = 0.0
    for x, y in one.train_data:
        loss = one.criterion(one.model(attacked(one, x, y, times)), y)
        one.step(loss)
        total += float(loss.detach()) * len(x)
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores["train/loss"].value == pytest.approx(total / TRAIN_ROWS)
    if times:
        assert len(one.said) == 1
        assert names(one.said, "train", "same targets", "counted once")
    else:
        assert one.is_quiet(scores)


@twins
def test_sharpness_aware_steps_of_two_forwards(loop: Make, faulty: bool) -> None:
    one = loop()
    for x, y in one.train_data:
        if faulty:
            one.criterion(one.model(x), y).backward()
            with torch.no_grad():
                for parameter in one.model.parameters():
                    parameter += 0.01 * parameter.grad
        one.step(one.criterion(one.model(x), y))
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores.counts["train_steps"] == len(TRAIN)
    if faulty:
        assert len(one.said) == 1
        assert names(one.said, "same targets", "counted once")
    else:
        assert one.is_quiet(scores)


@twins
def test_two_answers_to_one_batch_as_of_r_drop(loop: Make, faulty: bool) -> None:
    one = loop()
    for x, y in one.train_data:
        first = one.model(x)
        loss = one.criterion(first, y)
        if faulty:
            second = one.model(x + 0.1)
            apart = F.kl_div(first.log_softmax(1), second.softmax(1), reduction="batchmean")
            loss = 0.5 * (loss + one.criterion(second, y)) + apart
        one.step(loss)
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    if faulty:
        assert len(one.said) == 1
        assert names(one.said, "counted once")
    else:
        assert one.is_quiet(scores)


WAYS = ["hooks", "loaders"]


def seen_by(one: Loop, way: str, split: str, data: Any) -> Any:
    if way == "hooks":
        return data
    if split == "train":
        return one.monitor.train(data)
    return one.monitor.validate(data)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("mean", ["logits", "probabilities"])
@pytest.mark.parametrize("answers", [1, 2, 5])
def test_test_time_augmentation_counts_the_mean_of_the_answers(
    loop: Make, answers: int, mean: str, gradient: bool, way: str
) -> None:
    one = loop(criterion=nn.NLLLoss())
    one.model.eval()
    hits = 0
    with torch.set_grad_enabled(gradient):
        for x, y in seen_by(one, way, "val", one.val_data):
            each = [one.model(x + 0.5 * k) for k in range(answers)]
            if mean == "probabilities":
                each = [answer.softmax(1) for answer in each]
            preds = torch.stack(each).mean(0)
            if mean == "probabilities":
                preds = preds.log()
            one.watched(preds, y)
            hits += int((preds.argmax(1) == y).sum())
    scores = one.end()
    assert scores["val/accuracy"].n == VAL_ROWS
    assert scores["val/accuracy"].value == pytest.approx(hits / VAL_ROWS)
    assert one.is_quiet(scores)


# Batches of other kinds.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["labelled", "unlabelled", "together", None])
def test_an_unlabelled_pass_does_not_count(loop: Make, way: str, first: str | None) -> None:
    one = loop()
    for x, y in seen_by(one, way, "train", one.train_data):
        beside = torch.randn(4, FEATURES)
        free = torch.zeros(1)
        if first == "unlabelled":
            free = one.model(beside)
        if first == "together":
            preds, free = one.model(torch.cat([x, beside])).split([len(x), 4])
        else:
            preds = one.model(x)
        if first == "labelled":
            free = one.model(beside)
        one.step(one.criterion(preds, y) + free.softmax(-1).square().mean())
    one.validate()
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores["val/accuracy"].n == VAL_ROWS
    assert one.said == []
    assert len(one.monitor.faults) == 0


@pytest.mark.parametrize("way", WAYS)
def test_batches_that_the_loop_concatenates_are_counted_whole(loop: Make, way: str) -> None:
    one = loop()
    more = rows(TRAIN)
    for (x, y), (x2, y2) in zip(seen_by(one, way, "train", one.train_data), more, strict=True):
        preds = one.model(torch.cat([x, x2]))
        one.step(one.criterion(preds, torch.cat([y, y2])))
    scores = one.end()
    assert scores.counts["train_samples"] == 2 * TRAIN_ROWS
    assert one.is_quiet(scores)


@pytest.mark.parametrize("criterion", [True, False])
@pytest.mark.parametrize("key", ["labels", "label"])
def test_dictionaries_as_batches_and_as_outputs(loop: Make, key: str, criterion: bool) -> None:
    class Named(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return {"loss": None, "logits": super().forward(x)}

    one = loop(
        model=Named(FEATURES, CLASSES), criterion=nn.CrossEntropyLoss() if criterion else None
    )
    data = [{"pixel_values": x, key: y} for x, y in one.val_data]
    one.model.eval()
    hits = 0
    for batch in one.monitor.validate(data):
        output = one.model(batch["pixel_values"])["logits"]
        if criterion:
            one.watched(output, batch[key])
        hits += int((output.argmax(1) == batch[key]).sum())
    scores = one.end()
    assert scores["val/accuracy"].n == VAL_ROWS
    assert scores["val/accuracy"].value == pytest.approx(hits / VAL_ROWS)
    assert one.is_quiet(scores)


@pytest.mark.parametrize("gradient", [True, False])
@twins
def test_two_heads_in_one_tensor_of_which_nobody_says_which_counts(
    loop: Make, faulty: bool, gradient: bool
) -> None:
    def first_half(output: Tensor) -> Tensor:
        return output[:, :CLASSES]

    one = loop(model=nn.Linear(FEATURES, 2 * CLASSES), preds=None if faulty else first_half)
    one.model.eval()
    total = 0.0
    with torch.set_grad_enabled(gradient):
        for x, y in one.val_data:
            output = one.model(x)
            one.criterion(output[:, CLASSES:], y.flip(0))
            loss = one.criterion(output[:, :CLASSES], y)
            total += float(loss.detach()) * len(x)
    scores = one.end()
    if faulty:
        assert "val/accuracy" not in scores
        assert "val/loss" not in scores
        assert names(one.said, "val:", VAL_ROWS, 0, "2 calls of the criterion")
    else:
        assert scores["val/accuracy"].n == VAL_ROWS
        assert scores["val/loss"].value == pytest.approx(total / VAL_ROWS)
        assert one.is_quiet(scores)


# Other models.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["before", "between", "after", "before the answer"])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_second_models_calls_of_the_criterion_do_not_count(
    loop: Make, place: str, way: str, gradient: bool
) -> None:
    one = loop()

    def teach(x: Tensor, y: Tensor, here: str) -> None:
        if here == place:
            with torch.set_grad_enabled(gradient):
                one.criterion(one.other(x), y)

    total = {"train": 0.0, "val": 0.0}
    for split, data in (("train", one.train_data), ("val", one.val_data)):
        one.model.train(split == "train")
        for x, y in seen_by(one, way, split, data):
            with torch.set_grad_enabled(split == "train"):
                teach(x, y, "before the answer")
                preds = one.model(x)
                teach(x, y, "between")
                teach(x, y, "before")
                loss = one.criterion(preds, y)
                teach(x, y, "after")
            total[split] += float(loss.detach()) * len(x)
            if split == "train":
                one.step(loss)
    scores = one.end()
    assert scores["train/loss"].value == pytest.approx(total["train"] / TRAIN_ROWS)
    assert scores["val/loss"].value == pytest.approx(total["val"] / VAL_ROWS)
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores["val/accuracy"].value == pytest.approx(one.right())
    assert one.is_quiet(scores)


# Batches that are pulled ahead, skipped, left out.


@pytest.mark.parametrize("criterion", [True, False])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("ahead", [0, 1, 2, 100])
def test_batches_that_are_pulled_ahead_wait(
    loop: Make, ahead: int, copied: bool, criterion: bool
) -> None:
    one = loop(criterion=nn.CrossEntropyLoss() if criterion else None)

    def prefetched(loader: Iterable[Any]) -> Iterable[Any]:
        waiting = []
        for x, y in loader:
            waiting.append((x.clone(), y.clone()) if copied else (x, y))
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting

    one.model.eval()
    with torch.no_grad():
        for x, y in prefetched(one.monitor.validate(one.val_data)):
            preds = one.model(x)
            if criterion:
                one.watched(preds, y)
    scores = one.end()
    if ahead and copied and not criterion:
        counted = scores.counts.get("val_samples", 0)
        assert names(one.said, "val:", VAL_ROWS, counted, "pulled ahead")
        return
    assert scores["val/accuracy"].n == VAL_ROWS
    assert scores["val/accuracy"].value == pytest.approx(one.right())
    assert one.is_quiet(scores)


@pytest.mark.parametrize("criterion", [True, False])
def test_a_batch_that_is_skipped_takes_no_other_batchs_place(loop: Make, criterion: bool) -> None:
    one = loop(criterion=nn.CrossEntropyLoss() if criterion else None)
    one.model.eval()
    kept = []
    with torch.no_grad():
        for number, (x, y) in enumerate(one.monitor.validate(one.val_data)):
            if number == 1:
                continue
            preds = one.model(x)
            kept.append((x, y))
            if criterion:
                one.watched(preds, y)
    scores = one.end()
    assert scores["val/accuracy"].n == 7
    assert scores["val/accuracy"].value == pytest.approx(one.right(kept))
    messages = [fault.message for fault in one.monitor.faults.all()]
    assert all("a batch without one" in message for message in messages)


@pytest.mark.parametrize("criterion", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_a_pass_that_is_left_counts_what_was_answered(
    loop: Make, before: bool, criterion: bool
) -> None:
    one = loop(criterion=nn.CrossEntropyLoss() if criterion else None)
    one.model.eval()
    with torch.no_grad():
        for number, (x, y) in enumerate(one.monitor.validate(one.val_data)):
            if number == 1 and before:
                break
            preds = one.model(x)
            if criterion:
                one.watched(preds, y)
            if number == 1:
                break
    scores = one.end()
    assert scores["val/accuracy"].n == (5 if before else 10)
    assert one.is_quiet(scores)


# Which rows are "val".


@pytest.mark.parametrize("how", ["unnamed", "split", "pause", "validate"])
def test_a_pass_over_the_training_data_in_evaluation_mode(loop: Make, how: str) -> None:
    one = loop()
    one.train()
    one.model.eval()
    with torch.no_grad():
        if how == "split":
            with one.monitor.split("train_eval"):
                for x, y in one.train_data:
                    one.criterion(one.model(x), y)
        elif how == "pause":
            with one.monitor.pause():
                for x, y in one.train_data:
                    one.criterion(one.model(x), y)
        elif how == "validate":
            for x, y in one.monitor.validate(one.train_data, split="train_eval"):
                one.criterion(one.model(x), y)
        else:
            for x, y in one.train_data:
                one.criterion(one.model(x), y)
    one.validate()
    scores = one.end()
    if how == "unnamed":
        assert names(one.said, "val:", VAL_ROWS + TRAIN_ROWS, TRAIN_ROWS, VAL_ROWS)
        return
    assert scores["val/accuracy"].n == VAL_ROWS
    assert scores["val/accuracy"].value == pytest.approx(one.right())
    if how != "pause":
        assert scores["train_eval/accuracy"].n == TRAIN_ROWS
    assert one.is_quiet(scores)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_validation_before_training_is_one_of_its_own(loop: Make, way: str, batches: int) -> None:
    one = loop()
    one.model.eval()
    with torch.no_grad():
        for x, y in seen_by(one, way, "val", one.val_data[:batches]):
            one.criterion(one.model(x), y)
    one.train()
    one.model.eval()
    with torch.no_grad():
        for x, y in seen_by(one, way, "val", one.val_data):
            one.criterion(one.model(x), y)
    scores = one.end()
    assert scores["val/accuracy"].n == VAL_ROWS
    assert scores["val/accuracy"].value == pytest.approx(one.right())
    assert one.is_quiet(scores)


@pytest.mark.parametrize("how", ["split", "validate"])
def test_the_average_of_the_weights_is_a_split_of_its_own(loop: Make, how: str) -> None:
    one = loop()
    ema = torch.optim.swa_utils.AveragedModel(one.model)
    for x, y in one.train_data:
        one.step(one.criterion(one.model(x), y))
        ema.update_parameters(one.model)
    one.validate()
    hits = 0
    ema.eval()
    with torch.no_grad():
        if how == "split":
            with one.monitor.split("ema"):
                for x, y in one.val_data:
                    preds = ema(x)
                    one.criterion(preds, y)
                    hits += int((preds.argmax(1) == y).sum())
        else:
            for x, y in one.monitor.validate(one.val_data, split="ema"):
                preds = ema(x)
                one.criterion(preds, y)
                hits += int((preds.argmax(1) == y).sum())
    scores = one.end()
    assert scores["val/accuracy"].value == pytest.approx(one.right())
    assert scores["ema/accuracy"].n == VAL_ROWS
    assert scores["ema/accuracy"].value == pytest.approx(hits / VAL_ROWS)
    assert one.is_quiet(scores)


@pytest.mark.parametrize("where", ["in", "behind", "too late"])
def test_a_test_pass_is_a_split_of_its_own(loop: Make, where: str, tmp_path: Path) -> None:
    one = loop()
    one.monitor.close()
    metrics = pm.MulticlassMetrics(CLASSES, curves=False)
    one.monitor = quiet(run=tmp_path / "run", metrics=metrics, on_fault="contain")
    held = rows((4, 4))

    def tested(when: str) -> None:
        if when == where:
            one.model.eval()
            with torch.no_grad():
                for x, y in one.monitor.test(held):
                    one.criterion(one.model(x), y)

    with one.monitor.attach(one.model, criterion=one.criterion, optimizer=one.optimizer):
        for epoch in one.monitor.epochs(2):
            one.train()
            one.validate()
            if epoch == 1:
                tested("in")
        tested("behind")
    tested("too late")
    record = read_run(tmp_path / "run")
    assert len(one.monitor.history["val/accuracy"]) == 2
    if where == "too late":
        assert names(one.said, "closed", 'inside of "with monitor:"')
        return
    tests = [epoch["scores"] for epoch in record.epochs if "test/accuracy" in epoch["scores"]]
    tests += [each["scores"] for each in record.evaluations if each["split"] == "test"]
    assert [scores["test/accuracy"]["n"] for scores in tests] == [8]
    assert record.end is not None
    assert record.end["reason"] == "completed"
    assert one.said == []
    assert len(one.monitor.faults) == 0


# Loops without epochs.


@pytest.mark.parametrize("usage", ["once", "asked"])
def test_evaluations_by_step(loop: Make, usage: str) -> None:
    one = loop()
    if usage == "once":
        one.monitor.every(steps=2)
    for x, y in one.train_data:
        one.model.train()
        one.step(one.criterion(one.model(x), y))
        due = one.monitor._recorder.steps >= 2
        if usage == "asked":
            due = one.monitor.every(steps=2)
        if due:
            one.validate()
            if usage == "asked":
                one.monitor.end_epoch()
    one.monitor.close()
    assert one.monitor.history.step == [2, 4]
    assert len(one.monitor.history["val/accuracy"]) == 2
    assert one.said == []
    assert len(one.monitor.faults) == 0


# Losses.

CRITERIA: dict[str, Callable[[], nn.Module]] = {
    "plain": nn.CrossEntropyLoss,
    "weights": lambda: nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 5.0])),
    "ignored": lambda: nn.CrossEntropyLoss(ignore_index=1),
    "weights, ignored": lambda: nn.CrossEntropyLoss(torch.tensor([0.2, 1.0, 5.0]), ignore_index=1),
    "smoothing": lambda: nn.CrossEntropyLoss(label_smoothing=0.2),
    "weights, smoothing": lambda: nn.CrossEntropyLoss(
        weight=torch.tensor([0.2, 1.0, 5.0]), label_smoothing=0.2
    ),
    "sum": lambda: nn.CrossEntropyLoss(reduction="sum"),
    "none": lambda: nn.CrossEntropyLoss(reduction="none"),
    "none, weights": lambda: nn.CrossEntropyLoss(torch.tensor([0.2, 1.0, 5.0]), reduction="none"),
    "none, ignored": lambda: nn.CrossEntropyLoss(ignore_index=1, reduction="none"),
    "sum, ignored": lambda: nn.CrossEntropyLoss(ignore_index=1, reduction="sum"),
}


@pytest.mark.parametrize("size", [1, 7, 12])
@pytest.mark.parametrize("name", CRITERIA)
def test_a_mean_loss_is_that_of_one_pass_over_all_data(loop: Make, name: str, size: int) -> None:
    criterion = CRITERIA[name]()
    ignored = getattr(criterion, "ignore_index", -100)
    metrics = pm.MulticlassMetrics(
        CLASSES, curves=False, ignore_index=ignored if "ignored" in name else None
    )
    one = loop(criterion=criterion, metrics=metrics)
    x, y = torch.cat([x for x, _ in one.val_data]), torch.cat([y for _, y in one.val_data])
    one.model.eval()
    with torch.no_grad():
        for a, b in zip(x.split(size), y.split(size), strict=True):
            criterion(one.model(a), b)
        scores = one.end()
        with one.monitor.pause():
            values = criterion(one.model(x), y)
    kept = (y != ignored) if "ignored" in name else torch.ones_like(y, dtype=torch.bool)
    wanted = values
    if criterion.reduction == "sum":
        wanted = values / int(kept.sum())
    elif criterion.reduction == "none":
        wanted = values.sum() / int(kept.sum())
    assert scores["val/loss"].value == pytest.approx(float(wanted), rel=1e-5)
    assert one.said == []


@pytest.mark.parametrize("size", [1, 7, 12])
def test_a_batchmean_is_that_of_one_pass_over_all_data(loop: Make, size: int) -> None:
    criterion = nn.KLDivLoss(reduction="batchmean")
    metrics = pm.RegressionMetrics(num_outputs=CLASSES)
    one = loop(criterion=criterion, metrics=metrics)
    x, y = torch.randn(12, FEATURES), torch.rand(12, CLASSES)
    one.model.eval()
    with torch.no_grad():
        for a, b in zip(x.split(size), y.split(size), strict=True):
            criterion(one.model(a), b)
        scores = one.end()
        with one.monitor.pause():
            wanted = criterion(one.model(x), y)
    assert scores["val/loss"].value == pytest.approx(float(wanted), rel=1e-5)
    assert one.said == []


@pytest.mark.parametrize("size", [1, 7, 12])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_that_is_handed_over_in_each_reduction(
    loop: Make, reduction: str, size: int
) -> None:
    one = loop(criterion=None)
    x, y = torch.randn(12, FEATURES), torch.randint(CLASSES, (12,))
    with torch.no_grad():
        preds = one.model(x)
        for number, (a, b) in enumerate(zip(preds.split(size), y.split(size), strict=True)):
            loss = F.cross_entropy(a, b, reduction=reduction)
            if number % 2:
                one.monitor.update(a, b, loss=loss, reduction=reduction)
            else:
                one.monitor.update(a, b)
                one.monitor.update_loss(loss, reduction=reduction)
    scores = one.end()
    wanted = float(F.cross_entropy(preds, y))
    assert scores["val/loss"].value == pytest.approx(wanted, rel=1e-5)
    assert one.is_quiet(scores)


@pytest.mark.parametrize("way", WAYS)
@twins
def test_soft_targets_of_cutmix(loop: Make, faulty: bool, way: str) -> None:
    one = loop()
    total, hits = 0.0, 0
    for x, y in seen_by(one, way, "train", one.train_data):
        target = F.one_hot(y, CLASSES).float()
        if faulty:
            target = 0.7 * target + 0.3 * target.flip(0)
        preds = one.model(x)
        loss = one.criterion(preds, target)
        one.step(loss)
        total += float(loss.detach()) * len(x)
        hits += int((preds.argmax(1) == target.argmax(1)).sum())
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores["train/loss"].value == pytest.approx(total / TRAIN_ROWS)
    assert scores["train/accuracy"].value == pytest.approx(hits / TRAIN_ROWS)
    assert len(one.monitor.faults) == 0


# Models that compute their loss.


def test_a_detector_returns_losses_in_training_and_answers_in_evaluation(loop: Make) -> None:
    class Detector(nn.Linear):
        def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
            scores = super().forward(x)
            if self.training:
                return {"box": scores.square().mean(), "class": F.cross_entropy(scores, targets)}
            return scores

    one = loop(
        model=Detector(FEATURES, CLASSES),
        criterion=None,
        loss=lambda output: sum(output.values()) if isinstance(output, dict) else None,
    )
    total = 0.0
    for x, y in one.monitor.train(one.train_data):
        loss = sum(one.model(x, y).values())
        one.step(loss)
        total += float(loss.detach()) * len(x)
    one.model.eval()
    with torch.no_grad():
        for x, _ in one.monitor.validate(one.val_data):
            one.model(x)
    scores = one.end()
    assert scores["train/loss"].value == pytest.approx(total / TRAIN_ROWS)
    assert scores["val/accuracy"].value == pytest.approx(one.right())
    assert one.is_quiet(scores)


class Language(nn.Module):
    """A causal language model; its vocabulary is as large as its rows are long."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 4)
        self.head = nn.Linear(4, vocabulary)

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.head(self.embed(ids))
        loss = None
        if labels is not None:
            flat = logits[:, :-1].reshape(-1, logits.shape[-1])
            loss = F.cross_entropy(flat, labels[:, 1:].reshape(-1))
        return SimpleNamespace(logits=logits, loss=loss)


@pytest.mark.parametrize("how", ["position", "keyword", "criterion"])
@pytest.mark.parametrize("vocabulary", [5, 9])
def test_answers_about_the_next_token(loop: Make, vocabulary: int, how: str) -> None:
    attach: dict[str, Any] = {"labels": "labels", "shift": True, "criterion": None}
    if how == "criterion":
        attach = {"criterion": F.cross_entropy}
    metrics = pm.MulticlassMetrics(vocabulary, ignore_index=-100, curves=False)
    one = loop(model=Language(vocabulary), metrics=metrics, **attach)
    hits, tokens, total = 0, 0, 0.0
    for split in ("train", "val"):
        one.model.train(split == "train")
        for _ in range(3):
            ids = torch.randint(vocabulary, (4, 5))
            labels = ids.masked_fill(torch.rand(4, 5) < 0.2, -100)
            with torch.set_grad_enabled(split == "train"):
                if how == "position":
                    output = one.model(ids, labels)
                elif how == "keyword":
                    output = one.model(ids, labels=labels)
                else:
                    output = one.model(ids)
                    flat = output.logits[:, :-1].reshape(-1, vocabulary)
                    output.loss = F.cross_entropy(flat, labels[:, 1:].reshape(-1))
            if split == "train":
                one.step(output.loss)
                continue
            kept = labels[:, 1:] != -100
            right = output.logits[:, :-1].argmax(-1) == labels[:, 1:]
            hits += int(right[kept].sum())
            tokens += int(kept.sum())
            total += float(output.loss) * int(kept.sum())
    scores = one.end()
    assert scores["val/accuracy"].n == tokens
    assert scores["val/accuracy"].value == pytest.approx(hits / tokens)
    assert scores["val/loss"].value == pytest.approx(total / tokens, rel=1e-5)
    assert scores["val/nll"].value == pytest.approx(total / tokens, rel=1e-4)
    assert scores.counts["val_samples"] == 12
    assert one.is_quiet(scores)


# Models in wrappers, models in another mode.


@pytest.mark.parametrize("wrapper", ["none", "DataParallel", "compiled"])
def test_a_wrapped_model_is_watched_by_its_wrapper(loop: Make, wrapper: str) -> None:
    model: Any = nn.Linear(FEATURES, CLASSES)
    if wrapper == "DataParallel":
        model = nn.DataParallel(model)
    elif wrapper == "compiled":
        gc.collect()  # a monitor of another test that is thrown away meanwhile changes the class
        model = torch.compile(model, backend="eager")
    one = loop(model=model)
    one.train()
    one.validate()
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores["val/accuracy"].n == VAL_ROWS
    assert one.is_quiet(scores)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrappers", [1, 2])
def test_a_validation_past_the_wrapper_counts_as_one_by_it(
    loop: Make, wrappers: int, way: str
) -> None:
    """As where rank 0 validates alone, by `model.module(x)`."""
    bare = nn.Sequential(nn.Linear(FEATURES, CLASSES))
    model: Any = bare
    for _ in range(wrappers):
        model = nn.DataParallel(model)
    one = loop(model=model)
    one.train()
    model.eval()
    with pytest.raises(RuntimeError):  # a call that fails leaves nothing behind
        model(torch.zeros(2, FEATURES + 1))
    with torch.no_grad():
        for x, y in seen_by(one, way, "val", one.val_data):
            one.criterion(bare(x), y)
    scores = one.end()
    assert scores.counts["train_samples"] == TRAIN_ROWS
    assert scores["val/accuracy"].n == VAL_ROWS
    assert one.is_quiet(scores)


def test_a_part_of_the_model_is_no_wrapped_model(loop: Make) -> None:
    model = nn.Sequential(nn.Linear(FEATURES, CLASSES))
    one = loop(model=model)
    one.train()
    model.eval()
    for x, _ in one.val_data:
        model[0](x)
    scores = one.end()
    assert "val/accuracy" not in scores


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_model_in_training_mode_is_told_where_the_mode_matters(
    loop: Make, training: bool, dropout: bool, way: str
) -> None:
    model = nn.Sequential(nn.Linear(FEATURES, CLASSES))
    if dropout:
        model.append(nn.Dropout(0.1))
    one = loop(model=model)
    one.model.train(training)
    with torch.no_grad():
        for x, y in seen_by(one, way, "val", one.val_data):
            one.criterion(one.model(x), y)
    scores = one.end()
    messages = [fault.message for fault in one.monitor.faults.all()]
    if training and (dropout or way == "hooks"):
        assert len(messages) == 1
        assert "training mode" in messages[0]
    else:
        assert scores["val/accuracy"].n == VAL_ROWS
        assert one.is_quiet(scores)


@pytest.mark.parametrize(
    ("layer", "holds"), [(nn.BatchNorm1d(CLASSES), True), (nn.LayerNorm(CLASSES), False)]
)
def test_whether_the_model_holds_batch_norm_is_recorded(
    loop: Make, layer: nn.Module, holds: bool
) -> None:
    one = loop(model=nn.Sequential(nn.Linear(FEATURES, CLASSES), layer))
    one.train()
    one.model.eval()
    one.validate()
    seen = one.end().seen
    assert {split: told["batch_norm"] for split, told in seen.items()} == {
        "train": holds,
        "val": holds,
    }


@pytest.mark.parametrize("watched", ["loader", "hooks"])
def test_what_a_call_was_given_is_let_go_as_the_loop_goes_on(watched: str) -> None:
    model, criterion = nn.Linear(FEATURES, CLASSES), nn.CrossEntropyLoss()
    held: list[weakref.ref[Tensor]] = []
    with quiet(metrics=pm.MulticlassMetrics(CLASSES)) as monitor:
        monitor.attach(model, criterion=criterion)
        batches = (rows([n])[0] for n in TRAIN)
        for x, y in monitor.train(batches) if watched == "loader" else batches:
            scaled = model(x) * 2  # not the very answer
            criterion(scaled, y).backward()
            held += [weakref.ref(scaled), weakref.ref(x)]
            assert not any(ref() is not None for ref in held[:-4])
            del x, y, scaled
        assert held[0]() is None


class TargetsFirst(nn.Module):
    """A loss of one's own, with its arguments the other way round."""

    def forward(self, truth: Tensor, answer: Tensor) -> Tensor:
        return F.cross_entropy(answer, truth)


@pytest.mark.parametrize("turned", [True, False])
def test_a_loss_that_is_called_with_its_targets_first(loop: Make, turned: bool) -> None:
    criterion = TargetsFirst() if turned else nn.CrossEntropyLoss()
    one = loop(criterion=criterion)
    losses = []

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        answer = one.model(x)
        loss: Tensor = criterion(y, answer) if turned else criterion(answer, y)
        losses.append(loss.item() * len(y))
        return loss

    for x, y in one.train_data:
        one.step(loss_of(x, y))
    one.model.eval()
    with torch.no_grad():
        for x, y in one.val_data:
            loss_of(x, y)
    scores = one.end()
    assert (scores["train/accuracy"].n, scores["val/accuracy"].n) == (TRAIN_ROWS, VAL_ROWS)
    assert scores["train/loss"].value == pytest.approx(sum(losses[: len(TRAIN)]) / TRAIN_ROWS)
    assert scores["val/loss"].value == pytest.approx(sum(losses[len(TRAIN) :]) / VAL_ROWS)
    with one.monitor.pause():
        assert scores["val/accuracy"].value == pytest.approx(one.right())
    assert one.is_quiet(scores)


def test_numbers_beside_their_targets_the_other_way_round(loop: Make) -> None:
    criterion = nn.MSELoss()
    model = nn.Linear(FEATURES, 1)
    one = loop(model, metrics=pm.RegressionMetrics(), criterion=criterion)
    targets, answers = [], []
    for x, _ in one.train_data:
        target, answer = x[:, :1], model(x)
        targets.append(target)
        answers.append(answer.detach())
        one.step(criterion(target, answer))
    scores = one.end()
    errors = (torch.cat(answers) - torch.cat(targets)).double()
    assert scores["train/bias"].value == pytest.approx(errors.mean().item(), rel=1e-5)
    assert scores["train/r2"].value == pytest.approx(
        1 - (errors.square().mean() / torch.cat(targets).double().var(unbiased=False)).item(),
        rel=1e-5,
    )
    assert one.is_quiet(scores)


@pytest.mark.parametrize("teacher_first", [True, False])
def test_a_teachers_answer_in_front_of_the_models_is_no_target(
    loop: Make, teacher_first: bool
) -> None:
    criterion = nn.MSELoss()
    model, teacher = nn.Linear(FEATURES, 1), nn.Linear(FEATURES, 1)
    one = loop(model, metrics=pm.RegressionMetrics(), criterion=criterion)
    errors = []
    for x, _ in one.train_data:
        answer = model(x)
        with torch.no_grad():
            other = teacher(x)
        losses = [
            lambda a=answer, b=other: criterion(b, a),
            lambda a=answer, x=x: criterion(a, x[:, :1]),
        ]
        if not teacher_first:
            losses.reverse()
        errors.append((answer - x[:, :1]).detach())
        one.step(sum(loss() for loss in losses))
    scores = one.end()
    assert scores["train/bias"].value == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)
    assert scores["train/bias"].n == TRAIN_ROWS


class LossAndMore(nn.Module):
    def __init__(self, kind: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, answer: Tensor, truth: Tensor) -> Any:
        return self.kind(F.cross_entropy(answer, truth))


KINDS: dict[str, Callable[[Tensor], Any]] = {
    "mapping": lambda loss: {"loss": loss, "right": torch.zeros(())},
    "object": lambda loss: SimpleNamespace(loss=loss, parts=[loss]),
    "tuple": lambda loss: (loss, "of classes"),
    "several": lambda loss: (loss, loss.detach()),
    "number": lambda loss: loss.item(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_criterion_returns_beside_its_loss(loop: Make, kind: str) -> None:
    criterion = LossAndMore(KINDS[kind])
    one = loop(criterion=criterion)
    one.model.eval()
    with torch.no_grad():
        for x, y in one.val_data:
            criterion(one.model(x), y)
        with one.monitor.pause():
            whole = [F.cross_entropy(one.model(x), y).item() * len(y) for x, y in one.val_data]
    scores = one.end()
    assert scores["val/accuracy"].n == VAL_ROWS
    if kind in ("several", "number"):  # which of them cannot be told, or it is no tensor
        assert "val/loss" not in scores
        assert names(one.said, "val: for a loss", "monitor.update_loss(loss)")
    else:
        assert scores["val/loss"].value == pytest.approx(sum(whole) / VAL_ROWS)
        assert one.is_quiet(scores)


class CriterionInside(nn.Module):
    def __init__(self, criterion: nn.Module | None, returned: Callable[..., Any]) -> None:
        super().__init__()
        self.criterion = criterion
        self.returned = returned
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        answer = self.head(x)
        if self.criterion is None:
            self.loss = F.cross_entropy(answer, y)
        else:
            self.loss = self.criterion(answer, y)
        return self.returned(self.loss, answer)


RETURNED: dict[str, Callable[..., Any]] = {
    "loss first": lambda loss, answer: (loss, answer),
    "answer first": lambda loss, answer: (answer, loss),
    "mapping": lambda loss, answer: {"loss": loss, "logits": answer},
    "loss alone": lambda loss, answer: loss,
    "probabilities": lambda loss, answer: (answer.softmax(1), loss),
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("criterion", [None, nn.CrossEntropyLoss()])
@pytest.mark.parametrize("returned", RETURNED)
def test_a_criterion_that_the_model_calls_itself(
    loop: Make, returned: str, criterion: nn.Module | None, wrapped: bool
) -> None:
    model = CriterionInside(criterion, RETURNED[returned])
    one = loop(model=model, criterion=criterion or F.cross_entropy)
    hits, total = {"train": 0, "val": 0}, {"train": 0.0, "val": 0.0}
    for split, data in (("train", one.train_data), ("val", one.val_data)):
        one.model.train(split == "train")
        batches: Any = data
        if wrapped:
            batches = one.monitor.train(data) if split == "train" else one.monitor.validate(data)
        with torch.set_grad_enabled(split == "train"):
            for x, y in batches:
                answer = model.head(x)
                hits[split] += int((answer.argmax(1) == y).sum())
                with one.monitor.pause():
                    loss = F.cross_entropy(answer, y)
                total[split] += loss.item() * len(y)
                model(x, y)
                if split == "train":
                    one.step(model.loss)
    scores = one.end()
    for split, number in (("train", TRAIN_ROWS), ("val", VAL_ROWS)):
        assert scores[f"{split}/accuracy"].n == number
        assert scores[f"{split}/accuracy"].value == pytest.approx(hits[split] / number)
        assert scores[f"{split}/loss"].value == pytest.approx(total[split] / number, rel=1e-5)
    assert one.is_quiet(scores)


class Quantised(nn.Module):
    """Returns what it is called for, and computes a loss of its own on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(FEATURES, 2 * FEATURES)
        self.head = nn.Linear(2 * FEATURES, FEATURES)
        self.fails = False

    def forward(self, x: Tensor) -> Any:
        code = self.code(x)
        self.own_loss = F.mse_loss(code, code.round().detach())
        if self.fails:
            raise MemoryError
        return self.head(code)


@pytest.mark.parametrize("fails", [False, True])
def test_a_loss_that_the_model_computes_on_the_way_is_not_the_loops(
    loop: Make, fails: bool
) -> None:
    one = loop(
        model=Quantised(), criterion=F.mse_loss, metrics=pm.RegressionMetrics(num_outputs=FEATURES)
    )
    one.model.train()
    for x, _ in one.train_data:
        one.step(F.mse_loss(one.model(x), x) + one.model.own_loss)
    one.model.eval()
    errors = []
    with torch.no_grad():
        for x, _ in one.val_data:
            if fails:
                one.model.fails = True
                with pytest.raises(MemoryError):
                    one.model(x)
                one.model.fails = False
            answer = one.model(x)
            errors.append((answer - x).double().square().mean(1))
            F.mse_loss(answer, x)
    scores = one.end()
    assert scores["train/mae"].n == TRAIN_ROWS
    assert scores["val/mae"].n == VAL_ROWS
    assert scores["val/loss"].value == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)
    assert one.is_quiet(scores)


def test_behind_a_call_that_raised_what_another_model_answers_counts_where_it_is_named(
    loop: Make,
) -> None:
    one = loop(
        model=Quantised(), criterion=F.mse_loss, metrics=pm.RegressionMetrics(num_outputs=FEATURES)
    )
    one.model.fails = True
    with pytest.raises(MemoryError):
        one.model(one.val_data[0][0])
    with torch.no_grad(), one.monitor.split("ema"):
        for x, _ in one.val_data:
            F.mse_loss(x + 1, x)
    scores = one.end()
    assert scores["ema/loss"].value == pytest.approx(1.0)
    assert scores["ema/loss"].n == VAL_ROWS * FEATURES


@pytest.mark.parametrize("labels", ["y", None])
@pytest.mark.parametrize("returned", ["answer first", "mapping", "no loss"])
def test_a_model_that_returns_its_loss_is_told_to_name_its_targets(
    loop: Make, returned: str, labels: str | None
) -> None:
    kind = RETURNED.get(returned, lambda loss, answer: answer)
    model = CriterionInside(None, kind)
    one = loop(model=model, criterion=None, labels=labels)
    model.eval()
    with torch.no_grad():
        for x, y in one.val_data:
            model(x, y)
    scores = one.end()
    if labels is not None:
        assert scores["val/accuracy"].n == VAL_ROWS
        assert one.is_quiet(scores)
        return
    assert len(one.said) == 1
    assert f"the model answered {VAL_ROWS} rows, 0 were counted" in one.said[0]
    assert ("attach(model, labels=" in one.said[0]) is (returned != "no loss")
    assert ("monitor.validate(loader)" in one.said[0]) is (returned == "no loss")


@pytest.mark.parametrize("faulty", [True, False])
def test_an_extractor_that_fails_in_training_is_told_and_no_batch_is_missed(
    loop: Make, faulty: bool
) -> None:
    def scores_of(output: dict[str, Tensor]) -> Tensor:
        return output["scores"] if faulty else next(iter(output.values()))

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(FEATURES, CLASSES)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"classes" if self.training else "scores": self.head(x)}

    one = loop(model=Detector(), criterion=None, preds=scores_of)
    for x, _ in one.monitor.train(one.train_data):
        one.step(one.model(x)["classes"].square().mean())
    one.model.eval()
    with torch.no_grad():
        for x, _ in one.monitor.validate(one.val_data):
            one.model(x)
    scores = one.end()
    assert scores["val/accuracy"].n == VAL_ROWS
    if not faulty:
        assert scores["train/accuracy"].n == TRAIN_ROWS
        assert one.is_quiet(scores)
        return
    faults = one.monitor.faults.all()
    assert [fault.message for fault in faults] == ["KeyError: 'scores'"]
    assert [fault.count for fault in faults] == [len(TRAIN)]
    lines = [line for line in one.said if line.startswith("train:")]
    assert len(lines) == 1
    assert "0 were counted: predictions or targets were not found" in lines[0]
    assert "preds=lambda output" in lines[0]
