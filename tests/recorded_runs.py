"""Small real runs on disk, written by a Monitor without a model, for tests that read records."""

from collections.abc import Sequence
from pathlib import Path

import torch

import ptmetrics as pm


def write_run(
    path: Path,
    accuracies: Sequence[float] = (0.6, 0.8, 0.95, 0.96),
    *,
    samples: int = 1000,
    step_s: float = 1.0,
    names: Sequence[str] = ("cat", "dog"),
) -> Path:
    """A run of two balanced classes whose validation accuracy is what is asked for, on a clock that is injected.

    The errors fall evenly on both classes; a training epoch takes 4 × `step_s`.
    """
    now = [0]

    def clock() -> int:
        now[0] += int(step_s * 1e9)
        return now[0]

    monitor = pm.Monitor(
        pm.MulticlassMetrics(2, inputs="labels", class_names=names), path, clock=clock
    )
    target = torch.arange(samples) % 2
    for accuracy in accuracies:
        wrong = round((1 - accuracy) * samples)
        preds = torch.where(torch.arange(samples) < wrong, 1 - target, target)
        for _ in range(4):
            monitor.update(preds, target, loss=1 - accuracy, split="train")
        monitor.update(preds, target, loss=1.1 - accuracy, split="val")
        monitor.end_epoch()
    monitor.close()
    return path
