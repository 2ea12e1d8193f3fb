"""Runs and evaluations drawn at random, whose truth is known: what the rules are measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ptmetrics.matrix import scores_of
from ptmetrics.metrics.intervals import wilson
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.record.samples import CLASS_ROW, NOT_STORED, Rows, StoredSamples

Random = np.random.Generator
Curve = npt.NDArray[np.float64]
Scores = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A run as the reader gives it.

    Args:
        epochs: Records of the epochs.
        header: The run's first record.
        checkpoints: Records of saved checkpoints.
        end: The run's last record.
        faults: Errors that were contained.
        problems: Lines that could not be read.
        notes: What callbacks have noted.
    """

    epochs: list[dict[str, Any]]
    header: dict[str, Any] = field(default_factory=dict)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = field(default_factory=lambda: {"reason": "completed"})
    faults: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Any] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)


def noise(rng: Random, epochs: int, size: float, memory: float = 0.0) -> Curve:
    """White noise, or autoregressive noise of the same size where `memory` is above 0."""
    steps = rng.normal(size=epochs)
    for i in range(1, epochs):
        steps[i] = memory * steps[i - 1] + np.sqrt(1 - memory**2) * steps[i]
    return size * steps


def healthy_loss(rng: Random, epochs: int, size: float, memory: float = 0.0) -> Curve:
    """A validation loss that decays from 2.5 to its floor of 1, with noise."""
    return 1 + 1.5 * np.exp(-np.arange(epochs) * 6 / epochs) + noise(rng, epochs, size, memory)


def rising_loss(rng: Random, epochs: int, size: float, rise: float) -> Curve:
    """A noisy validation loss that turns at 40 % and ends `rise` above its floor of 1."""
    t, start = np.arange(epochs), int(0.4 * epochs)
    floor = 1 + 1.5 * np.exp(-t * 12 / epochs)
    return (
        floor
        + rise * np.clip((t - start) / (epochs - 1 - start), 0, None)
        + noise(rng, epochs, size)
    )


def training_loss(epochs: int) -> Curve:
    """A training loss that falls throughout."""
    return np.asarray(0.2 + 2 * np.exp(-np.arange(epochs) * 4 / epochs))


def loss_score(value: float) -> Scores:
    """A loss as it is recorded."""
    return {
        "value": value,
        "low": 0.95 * value,
        "high": 1.05 * value,
        "n": 2000,
        "higher_is_better": False,
    }


def shares(hits: npt.ArrayLike, n: int) -> list[Scores]:
    """Shares with Wilson's interval as recorded, one for each count of hits among n samples."""
    p = (np.asarray(hits) / n).reshape(-1)
    low, high = wilson(p, np.full_like(p, n))
    columns = zip(p.tolist(), low.tolist(), high.tolist(), strict=True)
    return [
        {"value": value, "low": a, "high": b, "n": n, "method": "wilson", "higher_is_better": True}
        for value, a, b in columns
    ]


def run_of(
    columns: Mapping[str, Sequence[Scores]], *, seconds: float = 10.0, **more: Any
) -> Recorded:
    """A run from the scores of each epoch; one trains 1,000 samples in so many seconds."""
    count = len(next(iter(columns.values())))
    epochs = [
        {
            "epoch": i,
            "scores": {name: column[i] for name, column in columns.items()},
            "time": {
                "train_cumulative_s": seconds * (i + 1),
                "wall_cumulative_s": 1.2 * seconds * (i + 1),
            },
            "counts": {"train_samples_cumulative": 1000 * (i + 1), "val_samples": 2000},
        }
        for i in range(count)
    ]
    return Recorded(epochs, **more)


def loss_run(
    val: Curve, train: Curve, accuracy: Mapping[str, Sequence[Scores]] | None = None, **more: Any
) -> Recorded:
    """A run with these losses, and accuracies where they are given."""
    columns = {"val/loss": list(map(loss_score, val)), "train/loss": list(map(loss_score, train))}
    return run_of(columns | dict(accuracy or {}), **more)


def evaluation(rng: Random, cells: npt.ArrayLike, n: int) -> Scores:
    """The scores of one evaluation on n samples that fall into cells by their shares.

    Args:
        rng: Where the samples come from.
        cells: True shares, rows are the actual class; scaled to a sum of 1.
        n: Samples.
    """
    expected = np.asarray(cells, dtype=np.float64)
    counts = rng.multinomial(n, (expected / expected.sum()).reshape(-1)).reshape(expected.shape)
    return scores_of(counts).to_dict()


def numbers(
    rng: Random, n: int, spread: float, error: float, *, heavy: bool = False, related: bool = True
) -> Scores:
    """The scores of one evaluation of predicted numbers.

    Args:
        rng: Where the samples come from.
        n: Samples.
        spread: Standard deviation of the predictions.
        error: Standard deviation of target less prediction, or of the targets where the two are not
            related.
        heavy: Whether errors have the tails of Laplace's distribution instead of the normal one's.
        related: Whether targets lie around their predictions, or know nothing of them.
    """
    preds = rng.normal(0.0, spread, n)
    misses = rng.laplace(0.0, error / np.sqrt(2), n) if heavy else rng.normal(0.0, error, n)
    metrics = RegressionMetrics()
    metrics.update(torch.from_numpy(preds), torch.from_numpy(preds + misses if related else misses))
    scores: dict[str, Any] = metrics.compute().to_dict()
    return scores


def symmetric(classes: int, hit: float) -> Curve:
    """Cells of equally frequent classes of this recall, errors spread evenly over the others."""
    cells = np.full((classes, classes), (1 - hit) / (classes - 1))
    np.fill_diagonal(cells, hit)
    return cells


SHARED = 0.7  # of what makes a sample hard, the same for every model


@dataclass(frozen=True)
class Keeping(Recorded):
    """A run as the reader gives it, with the samples of some epochs.

    Args:
        samples: Samples by the number of their epoch.
    """

    samples: dict[int, StoredSamples] = field(default_factory=dict)

    def kept(self, epoch: Mapping[str, Any]) -> StoredSamples:
        """The samples of an epoch."""
        return self.samples.get(epoch["epoch"], NOT_STORED)


def with_losses(rng: Random, run: Recorded, n: int) -> Keeping:
    """The run, with n losses of the recorded mean at its lowest validation loss and its end."""
    losses = [epoch["scores"]["val/loss"]["value"] for epoch in run.epochs]
    hard = rng.exponential(size=n)
    kept = {}
    for epoch in (int(np.argmin(losses)), len(losses) - 1):
        each = SHARED * hard + (1 - SHARED) * rng.exponential(size=n)
        kept[epoch] = StoredSamples(
            class_rows(np.zeros(n), np.zeros(n), losses[epoch] * each / each.mean())
        )
    return Keeping(run.epochs, samples=kept)


def pair_of(
    rng: Random, n: int, accuracies: tuple[float, float]
) -> tuple[list[Recorded], list[Recorded]]:
    """Two runs of these true accuracies, whose last evaluations saw the same n samples."""
    target, hard = rng.integers(0, 2, n), rng.random(n)
    arms: list[list[Recorded]] = []
    for accuracy in accuracies:
        luck = np.where(rng.random(n) < SHARED, hard, rng.random(n))
        wrong = luck > accuracy
        scores = shares(np.full(4, n - wrong.sum()), n)
        rows = class_rows(target, np.where(wrong, 1 - target, target), np.full(n, np.nan))
        arms.append(
            [Keeping(run_of({"val/accuracy": scores}).epochs, samples={3: StoredSamples(rows)})]
        )
    return arms[0], arms[1]


def class_rows(target: npt.ArrayLike, predicted: npt.ArrayLike, loss: Curve) -> Rows:
    """Rows as they are kept of classes."""
    rows = np.zeros(len(loss), CLASS_ROW)
    rows["target"], rows["predicted"], rows["loss"] = target, predicted, loss
    return rows
