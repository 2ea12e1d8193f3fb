"""Fine-tuning loops that commit one fault of hygiene each, and those that are as they should be."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm

CLASSES, FEATURES, EPOCHS = 3, 6, 3
TRAIN, VAL = 1, 2  # which rows
BATCH, STEPS = 64, 2
Loader = DataLoader[Any]


class Noisy(TensorDataset):
    """Draws noise for each row that is asked for."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(x.shape), y


class Healthy:
    """A fine-tuning loop as it should be; a fault overrides one part of it.

    Args:
        way: "hooks" or "loaders".
        seed: Of its data and all else that it draws.
    """

    def __init__(self, way: str, seed: int = 0) -> None:
        self.way = way
        self.seed = seed
        torch.manual_seed(seed)
        self.model: Any = nn.Sequential(
            nn.Linear(FEATURES, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(16, 3),
        )
        self.criterion = nn.CrossEntropyLoss()
        self.freeze()
        self.optimizer: torch.optim.Optimizer = self.make_optimizer()
        self.train_set = self.rows(STEPS * BATCH, TRAIN)
        self.val_set = self.rows(102, VAL)

    def freeze(self) -> None:
        """Nothing is frozen."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)

    def rows(self, count: int, part: int) -> TensorDataset:
        drawn = np.random.default_rng((self.seed, part)).normal(size=(count, FEATURES))
        x = torch.from_numpy(drawn).float()
        return TensorDataset(x, x[:, :CLASSES].argmax(1))

    def train_loader(self) -> Loader:
        return DataLoader(self.train_set, BATCH, shuffle=True)

    def val_loader(self) -> Loader:
        return DataLoader(self.val_set, BATCH)

    def train_mode(self) -> None:
        self.model.train()

    def val_mode(self) -> None:
        self.model.eval()

    def with_grad(self) -> bool:
        return False

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def epoch(self, train: Iterable[Any], val: Iterable[Any]) -> None:
        self.train_mode()
        for x, y in train:
            self.step(self.criterion(self.model(x), y))
        self.val_mode()
        with torch.set_grad_enabled(self.with_grad()):
            for x, y in val:
                self.criterion(self.model(x), y)

    def run(self, monitor: pm.Monitor, epochs: int = EPOCHS) -> None:
        train: Any = self.train_loader()
        val: Any = self.val_loader()
        if self.way == "loaders":
            train = monitor.train(train)
            val = monitor.validate(val)
        with monitor.attach(self.model, criterion=self.criterion, optimizer=self.optimizer):
            for _ in range(epochs):
                self.epoch(train, val)
                monitor.end_epoch()
        monitor.close()


class InTrainMode(Healthy):
    def val_mode(self) -> None:
        """model.eval() is forgotten."""


class BatchNormInTrainMode(Healthy):
    def val_mode(self) -> None:
        self.model.eval()
        self.model[1].train()


class WithGrad(Healthy):
    def with_grad(self) -> bool:
        return True


class AugmentedValidation(Healthy):
    def val_loader(self) -> Loader:
        return DataLoader(Noisy(*self.val_set.tensors), BATCH)


class ShuffledValidation(Healthy):
    def val_loader(self) -> Loader:
        return DataLoader(self.val_set, BATCH, shuffle=True)


class LargeAugmentedValidation(AugmentedValidation):
    def __init__(self, way: str, seed: int = 0) -> None:
        super().__init__(way, seed)
        self.val_set = self.rows(1000, VAL)


class LargeShuffledValidation(ShuffledValidation):
    def __init__(self, way: str, seed: int = 0) -> None:
        super().__init__(way, seed)
        self.val_set = self.rows(1000, VAL)


class DroppedLastBatch(Healthy):
    def val_loader(self) -> Loader:
        return DataLoader(self.val_set, BATCH, drop_last=True)


class UnseenLabel(Healthy):
    def __init__(self, way: str, seed: int = 0) -> None:
        super().__init__(way, seed)
        x, y = self.train_set.tensors
        self.train_set = TensorDataset(x, y.clamp(max=1))


class Frozen(Healthy):
    """Frozen before the optimizer is made, with its statistics as they were."""

    def freeze(self) -> None:
        self.model[0].requires_grad_(False)
        self.model[1].requires_grad_(False)

    def make_optimizer(self) -> torch.optim.Optimizer:
        trained = [each for each in self.model.parameters() if each.requires_grad]
        return torch.optim.SGD(trained, lr=0.05, momentum=0.9, weight_decay=0.01)

    def train_mode(self) -> None:
        self.model.train()
        self.model[1].eval()


class FrozenTooLate(Healthy):
    """Momentum and decay go on where a gradient was left behind."""

    def epoch(self, train: Iterable[Any], val: Iterable[Any]) -> None:
        if self.model[0].weight.requires_grad:
            self.criterion(
                self.model(self.train_set.tensors[0]), self.train_set.tensors[1]
            ).backward()
            self.optimizer.step()
            self.model[0].requires_grad_(False)
        super().epoch(train, val)

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()


class FrozenStatisticsFollow(Frozen):
    def train_mode(self) -> None:
        self.model.train()


class LongAccumulation(Healthy):
    """Gradients of more batches than an epoch has are added up for a step."""

    batches = 0

    def step(self, loss: Tensor) -> None:
        loss.backward()
        if self.batches % 1000 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.batches += 1


class NeverSteps(Healthy):
    def step(self, loss: Tensor) -> None:
        loss.backward()


class StepsInBfloat16(Healthy):
    """A step is less than the last digit of each weight."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        self.model = nn.Linear(FEATURES, CLASSES, dtype=torch.bfloat16)
        nn.init.ones_(self.model.weight)
        nn.init.ones_(self.model.bias)
        return torch.optim.SGD(self.model.parameters(), lr=1e-6)

    def rows(self, count: int, part: int) -> TensorDataset:
        x, y = super().rows(count, part).tensors
        return TensorDataset(x.bfloat16(), y)


class AllFrozen(Healthy):
    def freeze(self) -> None:
        self.model.requires_grad_(False)

    def step(self, loss: Tensor) -> None:
        self.optimizer.step()


class OptimizerOfTheHead(Healthy):
    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model[4].parameters(), lr=0.05)


class OptimizerOfACopy(Healthy):
    def make_optimizer(self) -> torch.optim.Optimizer:
        copy = nn.Sequential(nn.Linear(FEATURES, 16))
        return torch.optim.SGD(copy.parameters(), lr=0.05)


class RateOfZero(Healthy):
    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=0.0)


class RateOfZeroForSome(Healthy):
    def make_optimizer(self) -> torch.optim.Optimizer:
        body = {"params": self.model[0].parameters(), "lr": 0.0}
        rest = [*self.model[1].parameters(), *self.model[4].parameters()]
        return torch.optim.SGD([body, {"params": rest}], lr=0.05)


class RawTraining(Healthy):
    """Pictures from 0 to 255 in training, and from 0 to 1 in validation."""

    def rows(self, count: int, part: int) -> TensorDataset:
        x, y = super().rows(count, part).tensors
        if part == TRAIN:
            x = 255 * x
        return TensorDataset(x, y)


class NotCentered(Healthy):
    """Normalized in training alone: x to (x − 5) / 2."""

    def rows(self, count: int, part: int) -> TensorDataset:
        x, y = super().rows(count, part).tensors
        if part == VAL:
            x = 2 * x + 5
        return TensorDataset(x, y)


class WarmUp(Healthy):
    """The learning rate is 0 at the first step of an epoch and behind the last one."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: (step % STEPS) / STEPS
        )
        return optimizer

    def step(self, loss: Tensor) -> None:
        super().step(loss)
        self.schedule.step()


class UnusedHead(Healthy):
    """A layer without gradients, in the optimizer, as of another task."""

    def __init__(self, way: str, seed: int = 0) -> None:
        super().__init__(way, seed)
        self.model.add_module("other", nn.Identity())
        self.model.other.unused = nn.Linear(2, 2)
        self.optimizer.add_param_group({"params": self.model.other.parameters()})


class TwoOptimizers(OptimizerOfTheHead):
    """Another optimizer, that is not attached, trains the rest."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        rest = [*self.model[0].parameters(), *self.model[1].parameters()]
        self.other = torch.optim.SGD(rest, lr=0.05)
        return super().make_optimizer()

    def step(self, loss: Tensor) -> None:
        super().step(loss)
        self.other.step()


class GradualUnfreezing(Healthy):
    """A layer is frozen in the first epoch and trains from the second on."""

    def freeze(self) -> None:
        self.model[0].requires_grad_(False)

    def epoch(self, train: Iterable[Any], val: Iterable[Any]) -> None:
        super().epoch(train, val)
        self.model[0].requires_grad_(True)


class SeveralValidations(Healthy):
    """From the second epoch on validation stands in the middle of training as well."""

    begun = False

    def val_loader(self) -> Loader:
        return DataLoader(self.val_set, 8)

    def epoch(self, train: Iterable[Any], val: Iterable[Any]) -> None:
        if self.begun:
            super().epoch(train, val)
        self.begun = True
        super().epoch(train, val)


class RareLabel(Healthy):
    """Two rows of validation are of a class that 128 rows of training do not hold."""

    def __init__(self, way: str, seed: int = 0) -> None:
        super().__init__(way, seed)
        for data, rows in ((self.train_set, 0), (self.val_set, 2)):
            _, y = data.tensors
            y.clamp_(max=1)
            y[:rows] = 2


class AugmentedTraining(Healthy):
    """Noise, scale and zeros, in training alone."""

    def epoch(self, train: Iterable[Any], val: Iterable[Any]) -> None:
        def augmented() -> Iterator[Any]:
            for x, y in train:
                keep = torch.rand_like(x) < 0.9
                yield keep * x * (0.8 + 0.4 * torch.rand(len(x), 1)) + 0.2 * torch.randn_like(x), y

        super().epoch(augmented(), val)


class WiderValidation(Healthy):
    """Validation of another kind, whose values spread 1.6 times as much."""

    def rows(self, count: int, part: int) -> TensorDataset:
        x, y = super().rows(count, part).tensors
        if part == VAL:
            x = 1.6 * x
        return TensorDataset(x, y)


class HalfNormalized(Healthy):
    """Pictures from 0 to 1, in training after Normalize(0.5, 0.5)."""

    def rows(self, count: int, part: int) -> TensorDataset:
        x, y = super().rows(count, part).tensors
        x = (0.5 + 0.25 * x).clamp(0, 1)
        if part == TRAIN:
            x = (x - 0.5) / 0.5
        return TensorDataset(x, y)


class RarelyDrawn(Healthy):
    """A class of 1 in 11 rows, which training may lack by chance."""

    def rows(self, count: int, part: int) -> TensorDataset:
        x, y = super().rows(count, part).tensors
        drawn = np.random.default_rng((self.seed, part, 1)).random(count)
        y = torch.where(torch.from_numpy(drawn < 0.09), 2, y.clamp(max=1))
        return TensorDataset(x, y)
