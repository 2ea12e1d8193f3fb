"""Training one model of a run group with one seed, watched by a monitor, in turns with others."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from torch.utils.flop_counter import FlopCounterMode

import ptmetrics as pm
from ptmetrics.errors import ShapeError
from ptmetrics.finetune.config import RunGroupConfig, TrainConfig
from ptmetrics.finetune.data import Data
from ptmetrics.finetune.models import freeze_backbone
from ptmetrics.finetune.pictures import ImageSet
from ptmetrics.finetune.ranks import rank_of_now, sampler_of, wrapped
from ptmetrics.verdict.time_to_target import Target

Batches = DataLoader[Any]  # of images and their labels
APART = 100_003  # the seeds of one run on two ranks


class TrainingRun:
    """Trains from one evaluation to the next, so that several runs can take turns on one machine.

    Several ranks of torchrun share the batches of each step.

    Each run has random numbers of its own: taking turns changes nothing in what it learns.

    Args:
        config: Name, model and training of the run group.
        seed: Seed of its order of samples, its head and its augmentation.
        model: The network, on the CPU.
        data: Training and validation set.
        run: Folder of its record, which must not exist.
        header: Plain values for the record's header.
        device: Where to train.
        target: Level at which training ends, once `epochs` are over and two evaluations in a row
            have met it; None: no sooner than all epochs.
        callbacks: Further callbacks of its monitor.
        profile: What it is judged by.

    Raises:
        ShapeError: If the model does not return one score for each class.
    """

    def __init__(
        self,
        config: RunGroupConfig,
        seed: int,
        model: nn.Module,
        data: Data,
        *,
        run: Path,
        header: dict[str, Any],
        device: torch.device,
        target: Target | None = None,
        callbacks: Sequence[pm.Callback] = (),
        profile: str | None = None,
    ) -> None:
        self.group = config.name
        self.run = run
        self.done = False
        self.evaluations_a_pass = config.train.validations_per_epoch
        rank, ranks = rank_of_now()
        self._seed = seed + APART * rank
        self._config = config.train
        self._device = device
        self._random: tuple[Tensor, Tensor | None] | None = None
        with self._turn():
            self._model = model.to(device)
            sampler = sampler_of(data.train, seed, shuffle=True)
            own = sampler_of(data.val, seed, shuffle=False)
            self._loader = make_loader(
                data.train, config.train, shuffle=True, ranks=ranks, sampler=sampler
            )
            self._val_loader = make_loader(data.val, config.train, shuffle=False, sampler=own)
        _check_output(self._model, data, device)
        _warm_up(self._model, config.train, data, device)
        freezes = config.train.freeze != "none" or config.train.freeze_epochs > 0
        self._called = wrapped(self._model, freezes=freezes)
        self._batches = _endless(self._loader)
        epochs = config.train.max_epochs or config.train.epochs
        self._steps = len(self._loader) * epochs
        self._intervals = epochs * config.train.validations_per_epoch
        self._least = config.train.epochs * config.train.validations_per_epoch
        self._target = target
        self._optimizer = make_optimizer(self._model, config.train)
        self._schedule = make_schedule(self._optimizer, config.train, self._steps)
        self._criterion = nn.CrossEntropyLoss(label_smoothing=config.train.label_smoothing)
        metrics = pm.MulticlassMetrics(
            data.num_classes, class_names=data.class_names, device=device
        )
        all_callbacks = [pm.Checkpoint("val/accuracy", last=False), *callbacks]
        if config.train.patience is not None:
            all_callbacks.append(pm.EarlyStopping("val/accuracy", config.train.patience))
        self.monitor = pm.Monitor(
            metrics,
            run,
            all_callbacks,
            on_fault="raise",
            progress=False,
            config=header,
            profile=profile,
        )
        self.monitor.attach(self._called, criterion=self._criterion, optimizer=self._optimizer)

    def advance(self) -> pm.EpochScores:
        """Train to the next evaluation and evaluate; `done` tells when the run has finished."""
        number = self.monitor.epoch
        begin = self._steps * number // self._intervals
        end = self._steps * (number + 1) // self._intervals
        with self._turn():
            self._train(islice(self._batches, end - begin), begin // len(self._loader))
            self._validate()
            scores = self.monitor.end_epoch()
        if self.monitor.should_stop:
            self.done = True
            self.monitor.close("early stopping")
        elif number + 1 == self._intervals or (number + 1 >= self._least and self._holds_target()):
            self.done = True
            self.monitor.close("completed")
        return scores

    def _holds_target(self) -> bool:
        """Whether the last two evaluations have met the target."""
        if self._target is None or self._target.metric not in self.monitor.history:
            return False
        last = self.monitor.history[self._target.metric][-2:]
        return len(last) == 2 and bool(self._target.met_by(np.array(last)).all())

    def _train(self, batches: Iterable[tuple[Tensor, Tensor]], epoch: int) -> None:
        self._called.train()
        freeze_backbone(self._model, frozen=self._config.freezes(epoch))
        for images, labels in self.monitor.train(batches):
            self._optimizer.zero_grad(set_to_none=True)
            self._loss(images, labels).backward()
            self._optimizer.step()
            self._schedule.step()

    @torch.no_grad()
    def _validate(self) -> None:
        self._called.eval()
        for images, labels in self.monitor.validate(self._val_loader):
            self._loss(images, labels)

    def _loss(self, images: Tensor, labels: Tensor) -> Any:
        with mixed_precision(self._config, self._device):
            output = self._called(images.to(self._device, non_blocking=True))
            return self._criterion(output, labels.to(self._device, non_blocking=True))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """This run's random numbers, from where its last turn left them."""
        on_cuda = self._device.type == "cuda"
        with torch.random.fork_rng(devices=[self._device] if on_cuda else []):
            if self._random is None:
                torch.manual_seed(self._seed)
            else:
                on_host, on_device = self._random
                torch.set_rng_state(on_host)
                if on_device is not None:
                    torch.cuda.set_rng_state(on_device, self._device)
            yield
            left = torch.cuda.get_rng_state(self._device) if on_cuda else None
            self._random = (torch.get_rng_state(), left)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW, over all parameters.

    Frozen ones get no gradient and stay. Both are fused: on two CPU cores AdamW's step of a
    ResNet-18 takes 13 ms so, 76 ms otherwise.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.SGD(
        model.parameters(),
        config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
        fused=True,
    )


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int) -> LRScheduler:
    """A schedule that is stepped once a batch, `steps` times in all."""
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if config.schedule == "onecycle":
        return OneCycleLR(optimizer, config.lr, total_steps=steps + 1)
    return LambdaLR(optimizer, lambda _: 1.0)


def make_loader(
    images: ImageSet,
    config: TrainConfig,
    *,
    shuffle: bool,
    ranks: int = 1,
    sampler: DistributedSampler[object] | None = None,
) -> Batches:
    """Batches to train on, shuffled; or to validate, which may be larger.

    Args:
        images: The set.
        config: Its `batch_size` is that of a step, of which each of several ranks has a part.
        shuffle: Whether they are to train on.
        ranks: How many share a step.
        sampler: What deals the images out to the ranks.
    """
    size = max(config.batch_size, 128)
    if shuffle:
        size = max(config.batch_size // ranks, min(2, config.batch_size))
    rows = len(images if sampler is None else sampler)
    return DataLoader(
        images,
        size,
        shuffle=shuffle and sampler is None,
        sampler=sampler,
        num_workers=config.workers,
        # A last batch of one image would break batch normalisation in training mode.
        drop_last=shuffle and rows % size == 1,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def mixed_precision(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16, on CUDA and where it is asked for."""
    if config.amp and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def _endless(loader: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    for number in count():
        if isinstance(loader.sampler, DistributedSampler):
            loader.sampler.set_epoch(number)
        yield from loader


@torch.no_grad()
def _check_output(model: nn.Module, data: Data, device: torch.device) -> None:
    images = torch.stack([data.val[index][0] for index in range(min(2, len(data.val)))])
    training = model.training
    output = model.eval()(images.to(device))
    model.train(training)
    expected = (len(images), data.num_classes)
    got = type(output).__name__
    if isinstance(output, Tensor):
        if tuple(output.shape) == expected:
            return
        got = f"shape {tuple(output.shape)}"
    cure = "Choose a classification model of torchvision, or check its head."
    raise ShapeError("model output", f"one score for each class, shape {expected}", got, cure)


def _warm_up(model: nn.Module, config: TrainConfig, data: Data, device: torch.device) -> None:
    """Take a training step on a copy, whose one-time costs would count for the first arm alone.

    Kernels are chosen and memory is taken at the first step of a process; that is no training.
    """
    copied = deepcopy(model).train()
    images = torch.stack([data.val[0][0]] * config.batch_size).to(device)
    own = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=own), mixed_precision(config, device):
        copied(images).sum().backward()


def step_flops(model: nn.Module, config: TrainConfig, data: Data) -> float | None:
    """Floating point operations of one training step; None where they change in the run.

    They are counted once, on a copy that holds no numbers.
    """
    if config.freeze_epochs:
        return None
    copied = deepcopy(model).to("meta")
    freeze_backbone(copied, frozen=config.freezes(0))
    shape = (config.batch_size, *data.val[0][0].shape)
    with FlopCounterMode(display=False) as counter:
        copied(torch.empty(shape, device="meta")).sum().backward()
    return float(counter.get_total_flops())
