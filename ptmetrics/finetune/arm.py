"""One arm of the experiment with one seed: a model in training, watched by a monitor, ready to take turns."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ptmetrics.errors import ShapeError
from ptmetrics.finetune.data import Data
from ptmetrics.finetune.models import freeze_backbone
from ptmetrics.finetune.optimize import make_optimizer, make_schedule
from ptmetrics.finetune.settings import ArmConfig, TrainConfig
from ptmetrics.metrics.multiclass_metrics import MulticlassMetrics
from ptmetrics.monitor.callbacks import Callback, EarlyStopping
from ptmetrics.monitor.checkpoint import Checkpoint
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.monitor import Monitor

Batch = tuple[Tensor, Tensor]


class Arm:
    """Trains in intervals between two evaluations, so that several arms can take turns on one machine.

    Each arm has random numbers of its own: taking turns changes nothing in what it learns.

    Args:
        config: Name, model and training of the arm.
        seed: Seed of its order of samples, its head and its augmentation.
        model: The network, on the CPU.
        data: Training and validation set.
        run: Folder of its record, which must not exist.
        header: Plain values for the record's header.
        device: Where to train.

    Raises:
        ShapeError: If the model does not return one score for each class.
    """

    def __init__(
        self,
        config: ArmConfig,
        seed: int,
        model: nn.Module,
        data: Data,
        *,
        run: Path,
        header: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.name, self.seed, self.run, self.done = config.name, seed, run, False
        self._train_config, self._device = config.train, device
        self._random: tuple[Tensor, Tensor | None] | None = None
        with self._turn():
            self._model = model.to(device)
            self._loader = _loader(data.train, config.train, shuffle=True)
            self._val_loader = _loader(data.val, config.train, shuffle=False)
            self._batches = _endless(self._loader)
        _check_output(self._model, data, device)
        self._amp = config.train.amp and device.type == "cuda"
        self._steps = len(self._loader) * config.train.epochs
        self._intervals = config.train.epochs * config.train.validations_per_epoch
        self._optimizer = make_optimizer(self._model, config.train)
        self._schedule = make_schedule(self._optimizer, config.train, self._steps)
        self._criterion = nn.CrossEntropyLoss(label_smoothing=config.train.label_smoothing)
        metrics = MulticlassMetrics(data.num_classes, class_names=data.class_names, device=device)
        self.monitor = Monitor(
            metrics, run, _callbacks(config.train), on_fault="raise", progress=False, config=header
        )
        self.monitor.attach(self._model, criterion=self._criterion, optimizer=self._optimizer)

    def advance(self) -> EpochScores:
        """Train to the next evaluation and evaluate; `done` tells when the arm has finished."""
        number = self.monitor.epoch
        begin, end = (self._steps * (number + i) // self._intervals for i in (0, 1))
        with self._turn():
            self._train(islice(self._batches, end - begin), begin // len(self._loader))
            self._validate()
            scores = self.monitor.end_epoch()
        self.done = self.monitor.should_stop or number + 1 == self._intervals
        if self.done:
            self.monitor.close("early stopping" if self.monitor.should_stop else "completed")
        return scores

    def _train(self, batches: Iterable[Batch], epoch: int) -> None:
        self._model.train()
        freeze_backbone(self._model, frozen=self._train_config.freezes(epoch))
        for x, y in self.monitor.train(batches):
            self._optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                loss = self._criterion(
                    self._model(x.to(self._device, non_blocking=True)), self._there(y)
                )
            loss.backward()
            self._optimizer.step()
            self._schedule.step()

    def _validate(self) -> None:
        self._model.eval()
        with torch.no_grad():
            for x, y in self.monitor.validate(self._val_loader):
                with self._autocast():
                    self._criterion(
                        self._model(x.to(self._device, non_blocking=True)), self._there(y)
                    )

    def _there(self, target: Tensor) -> Tensor:
        return target.to(self._device, non_blocking=True)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", dtype=torch.bfloat16) if self._amp else nullcontext()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """This arm's random numbers, from where its last turn left them."""
        on_cuda = self._device.type == "cuda"
        with torch.random.fork_rng(devices=[self._device] if on_cuda else []):
            if self._random is None:
                torch.manual_seed(self.seed)
            else:
                torch.set_rng_state(self._random[0])
                if self._random[1] is not None:
                    torch.cuda.set_rng_state(self._random[1], self._device)
            yield
            there = torch.cuda.get_rng_state(self._device) if on_cuda else None
            self._random = torch.get_rng_state(), there


def _loader(dataset: Any, config: TrainConfig, *, shuffle: bool) -> DataLoader[Batch]:
    size = config.batch_size if shuffle else max(config.batch_size, 128)
    # A last batch of one sample would break batch normalisation in training mode.
    drop_last = shuffle and len(dataset) % size == 1
    return DataLoader(
        dataset,
        size,
        shuffle=shuffle,
        num_workers=config.workers,
        drop_last=drop_last,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _endless(loader: DataLoader[Batch]) -> Iterator[Batch]:
    while True:
        yield from loader


def _callbacks(config: TrainConfig) -> list[Callback]:
    callbacks: list[Callback] = [Checkpoint("val/accuracy", last=False)]
    if config.patience is not None:
        callbacks.append(EarlyStopping("val/accuracy", config.patience))
    return callbacks


@torch.no_grad()
def _check_output(model: nn.Module, data: Data, device: torch.device) -> None:
    inputs = torch.stack([data.val[i][0] for i in range(min(2, len(data.val)))]).to(device)
    was_training = model.training
    output = model.eval()(inputs)
    model.train(was_training)
    expected = (len(inputs), data.num_classes)
    if not isinstance(output, Tensor) or tuple(output.shape) != expected:
        got = (
            f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        )
        cure = "Choose a classification model of torchvision, or check its head."
        raise ShapeError("model output", f"one score for each class, shape {expected}", got, cure)
