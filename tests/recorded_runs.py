"""Small real runs on disk, written by a Monitor without a model, for tests that read records."""

from collections.abc import Sequence
from pathlib import Path

import torch

import ptmetrics as pm

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '=HYPERLINK("http://example.org")',
    "\u202egnp.exe\u202c",
    "x" * 10_000,
    r"$\frac{",
    "{{ 7 * 7 }}",
    "\x1b[2J",
    "日本",
    '"><svg onload=alert(1)>',
)
"""Names that a page, a terminal or a spreadsheet might obey."""


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


def multiclass_run(path: Path, names=tuple("abcdefghij"), epochs: int = 3, **options) -> Path:
    """A small run whose model gets better."""
    torch.manual_seed(0)
    classes = len(names)
    metrics = pm.MulticlassMetrics(classes, class_names=list(names))
    with pm.Monitor(metrics, path, **options) as monitor:
        for epoch in range(epochs):
            for split in ("train", "val"):
                target = torch.arange(30 * classes) % classes
                preds = torch.randn(30 * classes, classes)
                preds[torch.arange(len(target)), target] += epoch + 1
                monitor.update(preds, target, loss=2.0 - epoch / 2, split=split)
            monitor.end_epoch()
    return path


def binary_run(path: Path) -> Path:
    """One evaluation of two classes, with its scores kept."""
    torch.manual_seed(0)
    with pm.Monitor(pm.BinaryMetrics(class_names=["well", "ill"]), path) as monitor:
        target = torch.randint(0, 2, (600,))
        monitor.update(torch.randn(600) + 2 * target, target, split="val")
        monitor.end_epoch()
    return path


def pictures_run(path: Path) -> Path:
    """A run on small pictures of three classes that keeps some; 6 of its rows stand in training."""
    torch.manual_seed(0)
    val = (torch.rand(90, 3, 12, 16), torch.arange(90) % 3)
    train = (torch.rand(60, 3, 12, 16), torch.arange(60) % 3)
    train[0][:6] = val[0][84:]
    train[1][0] += 1
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(576, 3))
    criterion = torch.nn.CrossEntropyLoss()
    metrics = pm.MulticlassMetrics(3, class_names=["cat", HOSTILE[0], "dog"])
    monitor = pm.Monitor(metrics, path, keep_inputs=90, callbacks=[pm.LeakageCheck(near=False)])
    with monitor.attach(model, criterion=criterion):
        for _ in monitor.epochs(2):
            for split, served in ((monitor.train, train), (monitor.validate, val)):
                for inputs, target in split([served]):
                    criterion(model.train(split == monitor.train)(inputs), target)
    return path
