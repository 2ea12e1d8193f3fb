"""A small training loop in each of the three ways in, and without ptmetrics."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm

WAYS = ("loaders", "hooks", "update")
CLASSES, FEATURES = 3, 6


class Net(nn.Sequential):
    """Dropout draws random numbers, batch normalisation has buffers: both show what meddles."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(FEATURES, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(16, CLASSES),
        )


class Keep(pm.Callback):
    """Keeps each epoch's data without the times, as text: floats to 12 digits, and NaN equals NaN.

    Counts are exact; sums of floats are added up in other portions after a resume.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, str]] = []

    def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
        record = scores.to_record()
        # Times, and what went by on the way to the counts, differ from one way in to the other.
        left_out = ("time", "seen")
        self.epochs.append(
            {key: repr(rounded(record[key])) for key in record if key not in left_out}
        )


def rounded(value: Any) -> Any:
    """The same plain value with every float at 12 digits."""
    return tree_map(lambda leaf: float(f"{leaf:.12g}") if isinstance(leaf, float) else leaf, value)


@dataclass
class Fit:
    """What a training left behind."""

    model: nn.Module
    losses: list[Tensor] = field(default_factory=list)
    random: list[str] = field(default_factory=list)

    def traces(self) -> list[str]:
        """Parameters, buffers, losses and the state of every random generator, exactly."""
        state = [f"{name} {value.tolist()}" for name, value in self.model.state_dict().items()]
        return [*state, *(str(loss.tolist()) for loss in self.losses), *self.random]


def batches(
    rows: int, *, shuffle: bool, batch_size: int = 8, ignore: int | None = None
) -> DataLoader[Any]:
    """Random data whose last batch is smaller."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, FEATURES, generator=generator)
    y = torch.randint(CLASSES, (rows,), generator=generator)
    if ignore is not None:
        y[::4] = ignore
    return DataLoader(TensorDataset(x, y), batch_size, shuffle=shuffle)


def fit(
    way: str | None,
    monitor: pm.Monitor | None = None,
    *,
    model: Callable[[], nn.Module] = Net,
    criterion: nn.Module | None = None,
    call: Callable[[nn.Module, Any, Tensor], Tensor] = lambda criterion, output, y: criterion(
        output, y
    ),
    preds: Callable[[Any], Tensor] = lambda output: output,
    loss: Callable[[Tensor, Tensor], Tensor] = lambda loss, y: loss,
    rows: int = 50,
    epochs: int = 2,
    accumulate: int = 1,
    ignore: int | None = None,
    attach: dict[str, Any] | None = None,
) -> Fit:
    """Train; `way` None leaves ptmetrics out. The way "update" hands over `preds` and `loss`."""
    seed_all()
    network, criterion = model(), criterion or nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    train, val = (
        batches(rows, shuffle=True, ignore=ignore),
        batches(30, shuffle=False, ignore=ignore),
    )
    left = Fit(network)
    if monitor is not None:
        watched = {} if way == "update" else {"criterion": criterion}
        monitor.attach(network, optimizer=optimizer, **watched, **(attach or {}))

    def one(x: Tensor, y: Tensor, split: str) -> Tensor:
        output = network(x)
        value = call(criterion, output, y)
        if way == "update" and monitor is not None:
            monitor.update(preds(output), y, loss=loss(value, y), split=split)
        left.losses.append(value.detach().clone())
        return value.mean()

    for _ in range(epochs):
        network.train()
        for step, (x, y) in enumerate(_seen(monitor, way, train, "train"), 1):
            (one(x, y, "train") / accumulate).backward()
            if step % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
        network.eval()
        with torch.no_grad():
            for x, y in _seen(monitor, way, val, "val"):
                one(x, y, "val")
        if monitor is not None:
            monitor.end_epoch()
    left.random = [
        repr(random.getstate()),
        repr(np.random.get_state()),  # noqa: NPY002 — the legacy generator is what is compared
        str(torch.get_rng_state().tolist()),
    ]
    return left


def seed_all() -> None:
    """Seed every global random generator."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 — the global state is what must not be touched
    torch.manual_seed(0)


def _seen(
    monitor: pm.Monitor | None, way: str | None, loader: Iterable[Any], split: str
) -> Iterable[Any]:
    if monitor is None or way != "loaders":
        return loader
    return monitor.train(loader) if split == "train" else monitor.validate(loader)


def quiet(*callbacks: pm.Callback, metrics: Any = None, **options: Any) -> pm.Monitor:
    """A monitor that shows no bars and lets nothing wrong pass."""
    options = {"on_fault": "raise", "progress": False} | options
    metrics = pm.MulticlassMetrics(CLASSES) if metrics is None else metrics
    return pm.Monitor(metrics, callbacks=callbacks, **options)
