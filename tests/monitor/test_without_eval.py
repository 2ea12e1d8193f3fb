"""A validation by hooks alone whose script forgot `model.eval()`: what tells it from training."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import ptmetrics as pm

CLASSES, FEATURES, BATCH = 3, 4, 8
TRAIN_ROWS, VAL_ROWS = 32, 20
Batches = list[tuple[Tensor, Tensor]]


def rows(count: int, seed: int) -> Batches:
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=drawn)
    y = torch.randint(0, CLASSES, (count,), generator=drawn)
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


class Script:
    """A loop that never calls `model.eval()`; a subclass is another one.

    Args:
        dropout: Whether the model's mode matters.
        optimizer: Whether the monitor is given the optimizer.
    """

    validates = torch.no_grad

    def __init__(self, *, dropout: bool = True, optimizer: bool = True) -> None:
        torch.manual_seed(0)
        self.model: Any = nn.Sequential(nn.Linear(FEATURES, CLASSES))
        if dropout:
            self.model.append(nn.Dropout(0.1))
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.monitor = pm.Monitor(pm.MulticlassMetrics(CLASSES), progress=False)
        self.attachment = self.monitor.attach(
            self.model, criterion=self.criterion, optimizer=self.optimizer if optimizer else None
        )
        self.train_data = rows(TRAIN_ROWS, 1)
        self.val_data = rows(VAL_ROWS, 2)

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        self.criterion(self.model(x), y).backward()
        self.optimizer.step()

    def train(self) -> None:
        for x, y in self.train_data:
            self.learn(x, y)

    def validate(self) -> None:
        with self.validates():
            for x, y in self.val_data:
                self.criterion(self.model(x), y)

    def epoch(self) -> pm.EpochScores:
        self.train()
        self.validate()
        return self.monitor.end_epoch()

    def loss_of(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.model(x), y)
        return loss

    def counted(self, epochs: int = 2) -> list[tuple[int, int]]:
        """Rows of training and validation in each epoch."""
        found = []
        for _ in range(epochs):
            counts = self.epoch().counts
            found.append((counts.get("train_samples", 0), counts.get("val_samples", 0)))
        self.monitor.close()
        return found


class InInferenceMode(Script):
    validates = torch.inference_mode


class OneBatch(Script):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.val_data = [(x := torch.randn(VAL_ROWS, FEATURES), x[:, :CLASSES].argmax(1))]


class OneLoop(Script):
    """Training and validation in the same lines, told apart by `set_grad_enabled`."""

    def train(self) -> None:
        self.phase(True)

    def validate(self) -> None:
        self.phase(False)

    def phase(self, train: bool) -> None:
        for x, y in self.train_data if train else self.val_data:
            with torch.set_grad_enabled(train):
                loss = self.criterion(self.model(x), y)
            if train:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()


@pytest.mark.parametrize("kind", [Script, InInferenceMode, OneBatch, OneLoop])
@pytest.mark.parametrize("optimizer", [True, False])
def test_what_comes_without_gradients_behind_training_is_validation(
    kind: Callable[..., Script], optimizer: bool
) -> None:
    script = kind(optimizer=optimizer)
    assert script.counted() == [(TRAIN_ROWS, VAL_ROWS)] * 2
    scores = script.monitor.scores
    assert scores is not None
    assert (scores["train/loss"].n, scores["val/loss"].n) == (TRAIN_ROWS, VAL_ROWS)
    assert scores.counts["train_steps"] == len(script.train_data)
    assert script.monitor.history.epoch == [0, 1]
    found = {finding.code: finding for finding in pm.judge(script.monitor).findings}
    assert found["eval-in-train-mode"].severity == "undetermined"
    assert "model.eval()" in found["eval-in-train-mode"].advice
    assert "not-validated" not in found


def test_scores_are_those_of_the_validation_rows() -> None:
    script = Script(dropout=False)
    script.train()
    script.validate()
    with torch.no_grad(), script.monitor.pause():
        hits = [(script.model(x).argmax(1) == y).sum() for x, y in script.val_data]
    assert script.monitor.end_epoch()["val/accuracy"].value == sum(hits).item() / VAL_ROWS


def test_where_the_mode_does_not_matter_it_is_validation_and_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script(dropout=False)
    assert script.counted() == [(TRAIN_ROWS, VAL_ROWS)] * 2
    assert script.monitor.faults.all() == []
    assert "eval-in-train-mode" not in {f.code for f in pm.judge(script.monitor).findings}
    assert len([line for line in caplog.messages if "counted as validation" in line]) == 1


def test_a_validation_every_few_steps_is_several() -> None:
    class Often(Script):
        def train(self) -> None:
            for number, (x, y) in enumerate(self.train_data):
                self.learn(x, y)
                if number % 2:
                    self.validate()

        def epoch(self) -> pm.EpochScores:
            self.train()
            return self.monitor.end_epoch()

    script = Often()
    assert script.counted(1) == [(TRAIN_ROWS, VAL_ROWS)]
    assert script.monitor.history.epoch == [0, 0]


# What is no validation.


class ModelAgain(Script):
    """The training batch is scored again behind its step."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        super().learn(x, y)
        with torch.no_grad():
            self.criterion(self.model(x), y)


class HardOnes(Script):
    """The hardest rows are looked for without gradients, and learned."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            hard = (self.model(x).softmax(1).gather(1, y[:, None])[:, 0]).argsort()[:4]
            self.criterion(self.model(x), y)
        super().learn(x[hard], y[hard])


class Pseudo(Script):
    """Labels are made of the model's own answers."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            self.model(x).argmax(1)
        super().learn(x, y)


class Checkpointed(Script):
    def learn(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        x.requires_grad_(True)
        self.criterion(checkpoint(self.model, x, use_reentrant=True), y).backward()
        self.optimizer.step()


@pytest.mark.parametrize("kind", [ModelAgain, HardOnes, Pseudo, Checkpointed])
def test_what_is_learned_from_is_no_validation(kind: Callable[..., Script]) -> None:
    class Evaluates(kind):  # type: ignore[misc, valid-type]
        def validate(self) -> None:
            self.model.eval()
            super().validate()
            self.model.train()

    script = Evaluates()
    for trained, validated in script.counted():
        assert trained >= TRAIN_ROWS / 2
        assert validated == VAL_ROWS
    assert script.monitor.history.epoch == [0, 1]


def test_a_pass_over_training_data_beside_a_validation_in_eval_mode_does_not_join_it() -> None:
    class Both(Script):
        def validate(self) -> None:
            with torch.no_grad():
                for x, y in self.train_data:
                    self.criterion(self.model(x), y)
            self.model.eval()
            super().validate()
            self.model.train()

    validated = [val for _, val in Both().counted()]
    assert validated == [VAL_ROWS] * 2


def test_training_without_any_gradient_stays_training() -> None:
    class Forward(Script):
        def learn(self, x: Tensor, y: Tensor) -> None:
            with torch.no_grad():
                self.criterion(self.model(x), y)

        def validate(self) -> None:
            pass

    assert Forward().counted() == [(TRAIN_ROWS, 0)] * 2


def test_without_a_sign_the_verdict_says_what_to_do_first() -> None:
    class WithGradients(Script):
        validates = torch.enable_grad

    script = WithGradients()
    assert script.counted() == [(TRAIN_ROWS + VAL_ROWS, 0)] * 2
    first = pm.judge(script.monitor).findings[0]
    assert first.code == "not-validated"
    assert "model.eval()" in first.advice
    assert "monitor.validate(loader)" in first.advice


# Neither `model.eval()` nor `torch.no_grad()`: what the optimizer tells.


class Forgets(Script):
    """A validation that looks like training; a subclass trains otherwise, or validates as it should."""

    forgets = True
    validates = torch.enable_grad

    def validate(self) -> None:
        if self.forgets:
            super().validate()


class Accumulates(Forgets):
    """Gradients of so many batches; a rest at the end of an epoch is dropped."""

    batches = 3

    def train(self) -> None:
        for number, (x, y) in enumerate(self.train_data, 1):
            self.criterion(self.model(x), y).backward()
            if number % self.batches == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.train_data = rows(TRAIN_ROWS + BATCH, 1)
        self.val_data = rows(TRAIN_ROWS, 2)


class GoesOn(Accumulates):
    """The rest of an epoch waits for the next one's first step."""

    batches = 4
    waiting = 0

    def train(self) -> None:
        for x, y in self.train_data:
            self.criterion(self.model(x), y).backward()
            self.waiting += 1
            if self.waiting == self.batches:
                self.waiting = 0
                self.optimizer.step()
                self.optimizer.zero_grad()


class WithClosure(Forgets):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attachment.detach()
        self.optimizer = torch.optim.LBFGS(self.model.parameters(), max_iter=4)
        self.monitor.attach(self.model, criterion=self.criterion, optimizer=self.optimizer)

    def learn(self, x: Tensor, y: Tensor) -> None:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss: Tensor = self.criterion(self.model(x), y)
            loss.backward()
            return loss

        self.optimizer.step(closure)


class Skips(Forgets):
    """A scaler leaves out the first steps of the run, and the very last one."""

    batch = 0

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.batch += 1
        self.optimizer.zero_grad()
        self.criterion(self.model(x), y).backward()
        if 2 < self.batch < 3 * len(self.train_data):
            self.optimizer.step()


class Adversarial(Forgets):
    """Each batch trains the attached model, and then another one through it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.other = nn.Linear(FEATURES, FEATURES)
        self.other_optimizer = torch.optim.SGD(self.other.parameters(), lr=0.1)
        self.val_data = rows(TRAIN_ROWS, 2)

    def learn(self, x: Tensor, y: Tensor) -> None:
        super().learn(x, y)
        super().learn(self.other(x).detach(), 0 * y)
        self.other_optimizer.zero_grad()
        self.criterion(self.model(self.other(x)), 0 * y + 1).backward()
        self.other_optimizer.step()


class Mixes(Forgets):
    def learn(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        out = self.model(x + x.flip(0))
        (self.criterion(out, y) + self.criterion(out, y.flip(0))).backward()
        self.optimizer.step()


class InOneBatch(Forgets):
    """One batch and one step an epoch, and one batch of validation."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.train_data = [rows(BATCH, 1)[0]]
        self.val_data = [rows(BATCH, 2)[0]]


TRAINS = [Forgets, Accumulates, GoesOn, WithClosure, Skips, Adversarial, Mixes, InOneBatch]


def told_behind(script: Script, epochs: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    script.counted(epochs)
    return [line for line in caplog.messages if "after the last step" in line]


@pytest.mark.parametrize("kind", TRAINS)
def test_what_comes_behind_the_last_step_is_told(
    kind: Callable[..., Script], caplog: pytest.LogCaptureFixture
) -> None:
    script = kind(dropout=False)
    [line] = told_behind(script, 2, caplog)
    rows_of = sum(len(y) for _, y in script.val_data)
    # A rest of accumulated gradients cannot be told from it.
    behind = rows_of + {Accumulates: 2, GoesOn: 1, Adversarial: 1}.get(kind, 0) * BATCH
    assert f"{behind} rows of " in line
    assert "monitor.validate(loader)" in line
    assert "model.eval() and torch.no_grad()" in line
    assert script.monitor.scores is not None
    seen = script.monitor.scores.seen["train"]
    assert seen["behind_last_step"] >= rows_of
    assert "after the last step" in seen["message"]
    found = [f for f in pm.judge(script.monitor).findings if f.code == "not-counted"]
    assert [finding.evidence["behind"] for finding in found] == [seen["behind_last_step"]]
    assert str(seen["behind_last_step"]) in found[0].message


@pytest.mark.parametrize("kind", TRAINS)
@pytest.mark.parametrize("optimizer", [True, False])
def test_of_training_nothing_is_behind_the_last_step(
    kind: Callable[..., Script], optimizer: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Validates(kind):  # type: ignore[misc, valid-type]
        validates = torch.no_grad

        def validate(self) -> None:
            self.model.eval()
            super().validate()
            self.model.train()

    if kind is WithClosure and not optimizer:
        pytest.skip("it attaches its optimizer")
    script = Validates(optimizer=optimizer, dropout=False)
    assert told_behind(script, 6, caplog) == []
    assert script.monitor.scores is not None
    assert "behind_last_step" not in script.monitor.scores.seen["train"]


def test_without_an_optimizer_nothing_is_known_of_steps(caplog: pytest.LogCaptureFixture) -> None:
    assert told_behind(Forgets(optimizer=False), 2, caplog) == []


def test_a_loader_that_was_named_is_what_it_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Named(Forgets):
        def validate(self) -> None:
            for x, y in self.monitor.validate(self.val_data):
                self.criterion(self.model(x), y)

    assert told_behind(Named(), 2, caplog) == []


# Neither a criterion nor `model.eval()`: what the model answered when training was over.


class Scores(Script):
    """Its validation only asks what is right."""

    def validate(self) -> None:
        with self.validates():
            for x, y in self.val_data:
                (self.model(x).argmax(1) == y).sum()


class ScoresWithGradients(Scores):
    validates = torch.enable_grad


class OfALoader(ScoresWithGradients):
    """Training is a loop over a wrapped loader."""

    def train(self) -> None:
        for x, y in self.monitor.train(self.train_data):
            self.learn(x, y)


class OfALoaderWithLoss(OfALoader):
    def validate(self) -> None:
        for x, y in self.val_data:
            self.criterion(self.model(x), y)


def told_unseen(script: Script, caplog: pytest.LogCaptureFixture) -> list[str]:
    script.counted(2)
    return [line for line in caplog.messages if "no validation was seen" in line]


SCORES = [Scores, ScoresWithGradients, OfALoader, OfALoaderWithLoss]


@pytest.mark.parametrize("kind", SCORES)
def test_answers_behind_training_that_nothing_names_are_told(
    kind: Callable[..., Script], caplog: pytest.LogCaptureFixture
) -> None:
    script = kind()
    [line] = told_unseen(script, caplog)
    assert f"{TRAIN_ROWS} rows were counted, {VAL_ROWS} that" in line
    assert "monitor.validate(loader)" in line
    assert script.monitor.scores is not None
    assert script.monitor.scores.seen["train"]["message"] == line


class Scored(Scores):
    """Each batch is answered once more before it is learned."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            self.model(x).argmax(1)
        super().learn(x, y)

    def validate(self) -> None:
        pass


class Discriminates(Scored):
    """Behind each step another model learns from the answer."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        Script.learn(self, x, y)
        self.model(x).sum().backward()


class Warms(OfALoader):
    """The model is called before training, and never validated."""

    def train(self) -> None:
        self.model(self.train_data[0][0])
        super().train()

    def validate(self) -> None:
        pass


class StatisticsOfBatches(OfALoader):
    """Statistics of batches are taken anew behind training, and then there is a validation."""

    def validate(self) -> None:
        super().validate()
        for x, y in self.monitor.validate(self.val_data):
            self.criterion(self.model(x), y)


class HandsOver(Scores):
    def validate(self) -> None:
        for x, y in self.val_data:
            self.monitor.update(self.model(x).detach(), y, split="val")


@pytest.mark.parametrize("kind", [Scored, Discriminates, Warms, StatisticsOfBatches, HandsOver])
def test_of_answers_that_belong_to_training_nothing_is_told(
    kind: Callable[..., Script], caplog: pytest.LogCaptureFixture
) -> None:
    assert told_unseen(kind(), caplog) == []


class HandsOverAll(Script):
    """The loop hands over what it counts, and the mode of the model says nothing."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        super().learn(x, y)
        self.monitor.update(self.model(x).detach(), y, split="train")

    def validate(self) -> None:
        with self.validates():
            for x, y in self.val_data:
                self.monitor.update(self.model(x).detach(), y, split="val")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attachment.detach()
        self.monitor.attach(self.model, optimizer=self.optimizer)


class HandsOverWithGradients(HandsOverAll):
    validates = torch.enable_grad


@pytest.mark.parametrize("kind", [HandsOverAll, HandsOverWithGradients])
def test_what_is_handed_over_is_one_validation_whatever_the_mode(
    kind: Callable[..., Script],
) -> None:
    script = kind()
    assert script.counted() == [(TRAIN_ROWS, VAL_ROWS)] * 2
    assert script.monitor.history.epoch == [0, 1]
    assert script.monitor.scores is not None
    seen = script.monitor.scores.seen
    assert seen["val"]["answered_rows"] == VAL_ROWS


# The same in the middle of an epoch: training goes on behind it.


class InTheMiddle(Forgets):
    """It validates behind every second step, the last one left out."""

    batches_behind = (1,)

    def train(self) -> None:
        for number, (x, y) in enumerate(self.train_data):
            self.learn(x, y)
            if number in self.batches_behind:
                Script.validate(self)

    def validate(self) -> None:
        pass


class OneBatchInTheMiddle(InTheMiddle):
    batches_behind = (0, 2)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.val_data = [rows(BATCH, 2)[0]]


class Accumulating(InTheMiddle):
    """A step for two batches, and a validation between the two."""

    batches_behind = (0,)
    waiting = 0

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.criterion(self.model(x), y).backward()
        self.waiting += 1
        if self.waiting % 2 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()


class OverALoader(InTheMiddle):
    def train(self) -> None:
        for number, (x, y) in enumerate(self.monitor.train(self.train_data)):
            self.learn(x, y)
            if number in self.batches_behind:
                Script.validate(self)


class OneBatchOverALoader(OneBatchInTheMiddle, OverALoader):
    pass


class LossByHand(InTheMiddle):
    """A loss whose own node of the graph keeps no tensor."""

    class Own(nn.Module):
        """Cross entropy in operations of its own."""

        def forward(self, preds: Tensor, target: Tensor) -> Tensor:
            return -preds.log_softmax(1)[torch.arange(len(target)), target].mean()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attachment.detach()
        self.criterion = self.Own()
        self.monitor.attach(self.model, criterion=self.criterion, optimizer=self.optimizer)


class OfAPart(InTheMiddle):
    """What its criterion is given is computed of the answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attachment.detach()
        criterion = self.criterion
        self.monitor.attach(self.model, criterion=criterion, optimizer=self.optimizer)
        self.criterion = lambda preds, y: criterion(2 * preds, y)  # type: ignore[assignment]


class LabelsOfTheModel(InTheMiddle):
    """The model takes the labels and returns its loss."""

    class WithLoss(nn.Module):
        """Logits and loss in one dictionary."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(FEATURES, CLASSES)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.head(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attachment.detach()
        self.model = self.WithLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.monitor.attach(self.model, optimizer=self.optimizer)

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        self.model(x, labels=y)["loss"].backward()
        self.optimizer.step()

    def train(self) -> None:
        for number, (x, y) in enumerate(self.train_data):
            self.learn(x, y)
            if number in self.batches_behind:
                with self.validates():
                    for each, labels in self.val_data:
                        self.model(each, labels=labels)


MIDDLES = [
    InTheMiddle,
    OneBatchInTheMiddle,
    Accumulating,
    OverALoader,
    OneBatchOverALoader,
    LossByHand,
    OfAPart,
    LabelsOfTheModel,
]


def told_unlearned(script: Script, epochs: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    script.counted(epochs)
    return [line for line in caplog.messages if "no backward pass" in line]


@pytest.mark.parametrize("kind", MIDDLES)
def test_what_training_goes_on_behind_without_learning_from_it_is_told(
    kind: type[InTheMiddle], caplog: pytest.LogCaptureFixture
) -> None:
    script = kind(dropout=False)
    [line] = told_unlearned(script, 2, caplog)
    of_one = sum(len(y) for _, y in script.val_data)
    unlearned = of_one * len(kind.batches_behind)
    assert f"{unlearned} rows of " in line
    assert f"({TRAIN_ROWS + unlearned} in all)" in line
    assert "monitor.validate(loader)" in line
    assert "model.eval() and torch.no_grad()" in line
    assert script.monitor.scores is not None
    seen = script.monitor.scores.seen["train"]
    assert seen["unlearned_rows"] == unlearned
    assert "no backward pass" in seen["message"]
    found = [f for f in pm.judge(script.monitor).findings if f.code == "not-counted"]
    assert [finding.evidence["unlearned"] for finding in found] == [unlearned]
    assert str(unlearned) in found[0].message


def test_behind_the_last_step_and_before_it_both_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Both(InTheMiddle):
        batches_behind = (0, 3)

    script = Both(dropout=False)
    script.counted(1)
    assert script.monitor.scores is not None
    seen = script.monitor.scores.seen["train"]
    assert (seen["unlearned_rows"], seen["behind_last_step"]) == (VAL_ROWS, VAL_ROWS)
    assert len(caplog.messages) == 2
    assert all(f"({TRAIN_ROWS + 2 * VAL_ROWS} in all)" in line for line in caplog.messages)


def in_eval_mode(kind: type[InTheMiddle]) -> type[InTheMiddle]:
    """The same loop without the fault."""

    class Validates(kind):  # type: ignore[misc, valid-type]
        def validates(self) -> Any:
            self.model.eval()
            return torch.no_grad()

        def learn(self, x: Tensor, y: Tensor) -> None:
            self.model.train()
            super().learn(x, y)

    return Validates


class SumOfTwo(Forgets):
    """Two answers, one loss: the first one's graph waits for the second's."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss = loss + self.criterion(self.model(-x), y.flip(0))
        loss.backward()
        self.optimizer.step()


class KeepsGraphs(Skips):
    """Whoever keeps its graphs shows nothing."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        self.batch += 1
        self.optimizer.zero_grad()
        self.criterion(self.model(x), y).backward(retain_graph=True)
        if self.batch % 2:
            self.optimizer.step()


@pytest.mark.parametrize(
    "kind",
    [*map(in_eval_mode, MIDDLES), *TRAINS, SumOfTwo, KeepsGraphs],
    ids=lambda k: k.__mro__[1].__name__,
)
@pytest.mark.parametrize("optimizer", [True, False])
def test_of_what_is_learned_from_nothing_is_told(
    kind: Callable[..., Script], optimizer: bool, caplog: pytest.LogCaptureFixture
) -> None:
    script = kind(dropout=False, optimizer=optimizer)
    assert told_unlearned(script, 3, caplog) == []
    assert script.monitor.scores is not None
    assert "unlearned_rows" not in script.monitor.scores.seen["train"]


def test_graphs_of_what_is_not_learned_from_are_not_held() -> None:
    script = InTheMiddle(dropout=False)
    script.train_data = script.train_data[:1]
    script.train()
    loss = script.criterion(script.model(script.val_data[0][0]), script.val_data[0][1])
    kept = weakref.ref(script.val_data[0][0])
    graph = weakref.ref(loss)
    script.model(script.val_data[1][0])
    del loss, script.val_data
    assert graph() is None
    assert kept() is None


# A training batch whose loss is logged behind its step.


class LogsBehind(Script):
    """Each batch is answered again without gradients, for the loss that the step has left."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        super().learn(x, y)
        with torch.no_grad():
            self.criterion(self.model(x), y)

    def validate(self) -> None:
        self.model.eval()
        super().validate()
        self.model.train()


class LogsBehindOverALoader(LogsBehind):
    def train(self) -> None:
        for x, y in self.monitor.train(self.train_data):
            self.learn(x, y)


class LogsOfTheModel(LabelsOfTheModel):
    batches_behind = ()

    def loss_of(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.model(x, labels=y)["loss"]
        return loss

    def learn(self, x: Tensor, y: Tensor) -> None:
        super().learn(x, y)
        with torch.no_grad():
            self.model(x, labels=y)


class LogsReshaped(LogsBehind):
    """What its criterion is given is computed of the answer."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        Script.learn(self, x, y)
        with torch.no_grad():
            self.criterion(self.model(x) * 1, y)


class LogsEachOther(LogsBehind):
    """Only every second batch is logged, twice."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        Script.learn(self, x, y)
        if x is self.train_data[0][0] or x is self.train_data[2][0]:
            for _ in range(2):
                with torch.no_grad():
                    self.criterion(self.model(x), y)


LOGS = [LogsBehind, LogsBehindOverALoader, LogsOfTheModel, LogsReshaped, LogsEachOther]


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("evaluated", [True, False])
def test_a_batch_that_is_logged_behind_its_step_counts_once(
    kind: Callable[..., Script], evaluated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Logs(kind):  # type: ignore[misc, valid-type]
        own = 0.0

        def learn(self, x: Tensor, y: Tensor) -> None:
            with torch.no_grad(), self.monitor.pause():
                self.own += len(y) * self.loss_of(x, y).item()
            super().learn(x, y)

        def validate(self) -> None:
            if evaluated:
                super().validate()

    script = Logs(dropout=False)
    losses = []
    for _ in range(2):
        script.own = 0.0
        scores = script.epoch()
        assert scores.counts["train_samples"] == TRAIN_ROWS
        assert scores.counts["train_steps"] == len(script.train_data)
        losses.append(scores["train/loss"].value - script.own / TRAIN_ROWS)
    assert losses == pytest.approx([0, 0], abs=1e-6)
    assert script.monitor.history.epoch == [0, 1]
    told = [line for line in caplog.messages if "answered again without gradients" in line]
    assert len(told) == 1
    assert "counted once" in told[0]
    assert script.monitor.faults.all() == []
    assert caplog.messages == told
