"""Loops of every shape through every way in: the numbers of an independent count, or a line.

A shape is a task, where its loss is computed, and what the loop does besides. The loop keeps all
that it computed; the scores are compared to those of one pass over what it kept.
"""

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loops import quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.leakage.rules_hygiene import HYGIENE_RULES

F = nn.functional
HYGIENE = [code for rule in HYGIENE_RULES for code in rule.codes]
FEATURES, CLASSES, AUX = 6, 3, 2
TRAIN_SIZES, VAL_SIZES = (6, 6, 6, 3), (5, 5, 2)
IGNORED = -100
LAM = 0.7

LOOPS = (
    "plain", "accumulation", "amp", "mixup", "auxiliary first", "features first", "slices",
    "several validations",
)  # fmt: skip
FEW_LOOPS = ("plain", "accumulation", "amp", "several validations")
LOSSES = ("module", "function", "function untold", "mapping", "tuple")
IN_MODEL = ("mapping", "tuple")
WAYS = ("hooks", "loaders and criterion", "loaders", "update")


@dataclass
class Task:
    """A kind of target.

    Attributes:
        metrics: Counts it.
        layer: Makes the model's layer for a number of outputs.
        inputs: Shape of a row's input.
        targets: Makes the targets of rows.
        module: Computes the loss.
        function: Likewise.
        flat: From answers and targets to what the criterion is called with.
        score: Name of the score that is compared.
        oracle: That score of all answers and targets of a split, with n.
        axis: Where the classes stand in an answer.
    """

    metrics: Callable[[], pm.Metrics]
    layer: Callable[[int], nn.Module]
    inputs: tuple[int, ...]
    targets: Callable[[int], Tensor]
    module: nn.Module
    function: Callable[..., Tensor]
    flat: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    score: str
    oracle: Callable[[Tensor, Tensor], tuple[float, int]]
    axis: int = 1


def as_they_are(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return preds, target


def tokens_in_a_row(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return preds.reshape(-1, preds.shape[-1]), target.reshape(-1)


def accuracy(axis: int) -> Callable[[Tensor, Tensor], tuple[float, int]]:
    def count(preds: Tensor, target: Tensor) -> tuple[float, int]:
        kept = target != IGNORED
        hits = int((preds.argmax(axis) == target)[kept].sum())
        return hits / int(kept.sum()), int(kept.sum())

    return count


def mean_error(preds: Tensor, target: Tensor) -> tuple[float, int]:
    return float((preds.double() - target.double()).abs().mean()), len(target)


def classes(*shape: int, ignored: bool = False) -> Callable[[int], Tensor]:
    def make(rows: int) -> Tensor:
        target = torch.randint(CLASSES, (rows, *shape))
        if ignored:
            target[torch.rand(target.shape) < 0.3] = IGNORED
        return target

    return make


TASKS = {
    "classes": Task(
        lambda: pm.MulticlassMetrics(CLASSES, curves=False), lambda out: nn.Linear(FEATURES, out),
        (FEATURES,), classes(), nn.CrossEntropyLoss(), F.cross_entropy, as_they_are,
        "accuracy", accuracy(1),
    ),
    "tokens": Task(
        lambda: pm.MulticlassMetrics(CLASSES, ignore_index=IGNORED, curves=False),
        lambda out: nn.Linear(FEATURES, out), (5, FEATURES), classes(5, ignored=True),
        nn.CrossEntropyLoss(), F.cross_entropy, tokens_in_a_row, "accuracy", accuracy(-1), -1,
    ),
    "pixels": Task(
        lambda: pm.MulticlassMetrics(CLASSES, curves=False), lambda out: nn.Conv2d(FEATURES, out, 1),
        (FEATURES, 2, 4), classes(2, 4), nn.CrossEntropyLoss(), F.cross_entropy, as_they_are,
        "accuracy", accuracy(1),
    ),
    "numbers": Task(
        lambda: pm.RegressionMetrics(num_outputs=CLASSES),
        lambda out: nn.Linear(FEATURES, out), (FEATURES,), lambda rows: torch.randn(rows, CLASSES),
        nn.MSELoss(), F.mse_loss, as_they_are, "mae", mean_error,
    ),
}  # fmt: skip


class Model(nn.Module):
    """One layer, whose answer the loop finds in a structure of its own."""

    def __init__(self, task: Task, loop: str, place: str) -> None:
        super().__init__()
        self.loop = loop
        self.place = place
        self.task = task
        self.head = task.layer(CLASSES)
        self.auxiliary = task.layer(AUX)
        if loop == "auxiliary first":
            self.auxiliary = task.layer(CLASSES)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        main = self.head(x)
        if labels is not None:
            loss = self.task.function(*self.task.flat(main, labels))
            if self.place == "tuple":
                return main, loss
            return SimpleNamespace(logits=main, loss=loss)
        if self.loop == "auxiliary first":
            return {"aux": self.auxiliary(x), "out": main}
        if self.loop == "features first":
            return x, main
        if self.loop == "slices":
            return torch.cat([main, self.auxiliary(x)], self.task.axis)
        return main


@dataclass
class Count:
    """What the loop itself knows of a split."""

    preds: list[Tensor] = field(default_factory=list)
    target: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)  # of mixup, each with its weight
    weight: int = 0
    rows: int = 0


class Shape:
    """One loop, which trains and validates an epoch.

    Args:
        task: Name of the task.
        loop: What it does besides.
        place: Where the loss is computed.
        way: The way in.
        monitor: What watches it.
    """

    def __init__(self, task: str, loop: str, place: str, way: str, monitor: pm.Monitor) -> None:
        self.task = TASKS[task]
        self.loop = loop
        self.place = place
        self.way = way
        self.monitor = monitor
        self.model = Model(self.task, loop, place)
        self.criterion = self.task.module
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.counted = {"train": Count(), "val": Count()}
        self.answered = {"train": 0, "val": 0}
        if way != "update":
            monitor.attach(self.model, optimizer=self.optimizer, **self.told())

    def told(self) -> dict[str, Any]:
        """What `attach` is told."""
        told: dict[str, Any] = {}
        if self.way != "loaders":
            if self.place == "module":
                told["criterion"] = self.criterion
            elif self.place == "function":
                told["criterion"] = self.task.function
        if self.place == "tuple":
            told["labels"] = "labels"
        if self.loop == "features first":
            told["preds"] = lambda output: output[1]
        elif self.loop == "slices":
            told["preds"] = lambda output: output.narrow(self.task.axis, 0, CLASSES)
        return told

    def loss(self, preds: Tensor, target: Tensor) -> Tensor:
        called = self.task.flat(preds, target)
        if self.place == "module":
            loss: Tensor = self.criterion(*called)
        else:
            # Looked up at each call, as a loop does that writes F.cross_entropy(…).
            loss = getattr(F, self.task.function.__name__)(*called)
        return loss

    def answers(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Main answer, auxiliary one, and the model's own loss."""
        if self.place == "tuple":
            main, loss = self.model(x, y)
            return main, None, loss
        if self.place == "mapping":
            output = self.model(x, labels=y)
            return output.logits, None, output.loss
        output = self.model(x)
        if self.loop == "auxiliary first":
            return output["out"], output["aux"], None
        if self.loop == "features first":
            return output[1], None, None
        if self.loop == "slices":
            parts = output.split([CLASSES, AUX], self.task.axis)
            return parts[0], parts[1], None
        return output, None, None

    def batches(self, split: str, sizes: Iterable[int]) -> Iterator[tuple[Tensor, Tensor]]:
        loader = [(torch.randn(n, *self.task.inputs), self.task.targets(n)) for n in sizes]
        if self.way.startswith("loaders"):
            if split == "train":
                return iter(self.monitor.train(loader))
            return iter(self.monitor.validate(loader))
        return iter(loader)

    def step(self, split: str, x: Tensor, y: Tensor) -> Tensor:
        """Answers, losses, and what an independent count keeps of them."""
        count = self.counted[split]
        target = y
        mixed = self.loop == "mixup" and split == "train"
        if mixed:
            x = LAM * x + (1 - LAM) * x.flip(0)
        main, auxiliary, loss = self.answers(x, y)
        if auxiliary is not None and split == "train":
            beside = y
            if self.loop == "slices":
                beside = self.task.targets(len(x))
                if beside.is_floating_point():
                    beside = beside[:, :AUX]
                else:
                    beside = beside.clamp(max=AUX - 1)
            side = self.loss(auxiliary, beside)
        if loss is None:
            loss = self.loss(main, target)
        own = loss
        if mixed:
            own = LAM * loss + (1 - LAM) * self.loss(main, y.flip(0))
        count.preds.append(main.detach().float())
        count.target.append(target)
        count.rows += len(x)
        self.answered[split] += len(x)
        total = own
        if auxiliary is not None and split == "train":
            total = own + 0.4 * side
        if self.way == "update":
            self.monitor.update(main.detach(), y, loss=own.detach(), split=split)
        weight = int((target != IGNORED).sum())
        count.losses.append(own.detach().double() * weight)
        count.weight += weight
        return total

    def validate(self) -> None:
        self.model.eval()
        self.counted["val"] = Count()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.loop == "amp"):
            for x, y in self.batches("val", VAL_SIZES):
                self.step("val", x, y)

    def train(self) -> None:
        scale = 1024.0 if self.loop == "amp" else 1.0
        every = 2 if self.loop == "accumulation" else 1
        for number, (x, y) in enumerate(self.batches("train", TRAIN_SIZES), 1):
            self.model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.loop == "amp"):
                loss = self.step("train", x, y)
            (loss / every * scale).backward()
            if number % every == 0:
                for parameter in self.model.parameters():
                    if parameter.grad is not None:
                        parameter.grad /= scale
                self.optimizer.step()
                self.optimizer.zero_grad()
            if number == 2 and self.loop == "several validations":
                self.validate()

    def run(self) -> pm.EpochScores:
        self.train()
        self.validate()
        return self.monitor.end_epoch()


SHAPES = [
    (task, place, loop)
    for task in TASKS
    for place in LOSSES
    for loop in LOOPS
    if place in ("module", "function") or loop in FEW_LOOPS
]


def sees_loss(place: str, way: str) -> bool:
    """Whether a way in is shown the loss."""
    if way == "update" or place in IN_MODEL:
        return True
    return way != "loaders" and place != "function untold"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("task", "place", "loop"), SHAPES, ids=map(", ".join, SHAPES))
def test_a_loop_of_any_shape_is_counted_as_it_is_or_says_what_is_missing(
    task: str, place: str, loop: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(random.Random(f"{task} {place} {loop}").randrange(2**31))
    monitor = quiet(metrics=TASKS[task].metrics(), on_fault="contain")
    with caplog.at_level(logging.INFO, "ptmetrics"):
        shape = Shape(task, loop, place, way, monitor)
        scores = shape.run()
        monitor.close()
    assert pm.judge(monitor, select=HYGIENE).findings == ()
    said = list(caplog.messages)
    assert [fault.message for fault in monitor.faults.all()] == []
    if way == "hooks" and place == "function untold":
        for split, rows in shape.answered.items():
            line = f"{split}: the model answered {rows} rows, 0 were counted"
            assert any(line in each and "monitor.update(" in each for each in said), said
        assert all("0 were counted" in line for line in said)
        assert not list(scores)
        return
    for split, count in shape.counted.items():
        value, n = shape.task.oracle(torch.cat(count.preds), torch.cat(count.target))
        score = scores[f"{split}/{shape.task.score}"]
        assert scores.counts[f"{split}_samples"] == count.rows
        assert score.value == pytest.approx(value, rel=1e-6)
        assert score.n == n
        if not sees_loss(place, way):
            assert f"{split}/loss" not in scores
            continue
        called = shape.task.flat(torch.cat(count.preds), torch.cat(count.target))
        wanted = float(shape.task.module(called[0].double(), _as_wide(called[1])))
        if loop == "mixup" and split == "train":
            wanted = float(sum(count.losses)) / count.weight
        assert scores[f"{split}/loss"].value == pytest.approx(wanted, rel=1e-5)
    if loop == "mixup" and sees_loss(place, way) and way != "update":
        assert len(said) == 1
        assert "called 2 times for one batch" in said[0]
    else:
        assert said == []


def _as_wide(target: Tensor) -> Tensor:
    if target.is_floating_point():
        return target.double()
    return target
