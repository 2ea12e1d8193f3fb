"""Evaluations and runs made from plain numbers, in the shape of the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ptmetrics.record.journal import Journal

Z = 1.959963984540054
NAN = float("nan")


def score(
    value: float,
    low: float = NAN,
    high: float = NAN,
    n: int = 0,
    method: str = "wilson",
    **more: Any,
) -> dict:
    keys = {
        "value": value,
        "low": low,
        "high": high,
        "n": n,
        "method": method,
        "reason": None,
        "error_bound": 0.0,
    }
    return keys | {"higher_is_better": True} | more


def wilson(hits: float, n: int) -> tuple[float, float, float]:
    if n == 0:
        return NAN, NAN, NAN
    p = hits / n
    centre, half = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n * n))
    return p, max(0.0, (centre - half) / (1 + Z**2 / n)), min(1.0, (centre + half) / (1 + Z**2 / n))


def share(hits: float, n: int) -> dict[str, Any]:
    return score(*(float(x) for x in wilson(hits, n)), n)


def mean_of(columns: Sequence[tuple[float, float, float]], n: int) -> dict[str, Any]:
    value, low, high = np.array(columns, dtype=float).T
    mean, k = value.mean(), len(columns)
    down, up = (np.sqrt(((value - bound) ** 2).sum()) / k for bound in (low, high))
    return score(float(mean), float(mean - down), float(mean + up), n, "mover")


def scores_of(matrix: ArrayLike) -> dict[str, dict[str, Any]]:
    counts = np.asarray(matrix)
    hits, actual, called, n = np.diag(counts), counts.sum(1), counts.sum(0), int(counts.sum())
    recall = [wilson(*pair) for pair in zip(hits.tolist(), actual.tolist(), strict=True)]
    precision = [wilson(*pair) for pair in zip(hits.tolist(), called.tolist(), strict=True)]
    return {
        "accuracy": share(int(hits.sum()), n),
        "precision/macro": mean_of(precision, n),
        "recall/macro": mean_of(recall, n),
        "balanced_accuracy": mean_of(recall, n),
    }


def per_class_of(matrix: ArrayLike) -> dict[str, dict[str, Any]]:
    counts = np.asarray(matrix)
    hits = np.diag(counts).tolist()
    columns = {}
    for name, totals in (("precision", counts.sum(0).tolist()), ("recall", counts.sum(1).tolist())):
        rows = [wilson(*pair) for pair in zip(hits, totals, strict=True)]
        value, low, high = (list(map(float, column)) for column in zip(*rows, strict=True))
        columns[name] = {"value": value, "low": low, "high": high, "n": totals, "method": "wilson"}
    return columns


def payload(matrix: ArrayLike, **more: Any) -> dict[str, Any]:
    """What `Scores.to_dict()` gives for these counts."""
    counts = np.asarray(matrix)
    return {
        "task": "multiclass",
        "n": int(counts.sum()),
        "scores": scores_of(counts),
        "per_class": per_class_of(counts),
        "confusion": counts.tolist(),
        "class_names": [str(k) for k in range(len(counts))],
        "faults": {},
    } | more


GOOD = [[970, 30], [30, 970]]


def epoch(
    number: int,
    scores: Mapping[str, Mapping[str, Any]],
    *,
    matrix: ArrayLike | None = None,
    seconds: float = 10.0,
    samples: int = 1000,
    **more: Any,
) -> dict[str, Any]:
    done = number + 1
    data: dict[str, Any] = {
        "epoch": number,
        "scores": dict(scores),
        "time": {
            "train_s": seconds,
            "train_cumulative_s": seconds * done,
            "wall_cumulative_s": seconds * done * 1.2,
            "train_device_s": None,
        },
        "counts": {
            "train_samples_cumulative": samples * done,
            "train_steps_cumulative": samples // 10 * done,
            "val_samples": 2000,
        },
        "faults": {},
    }
    if matrix is not None:
        data["scores"] |= {f"val/{name}": value for name, value in scores_of(matrix).items()}
        data |= {
            "confusion": {"val": np.asarray(matrix).tolist()},
            "per_class": {"val": per_class_of(matrix)},
            "class_names": [str(k) for k in range(len(np.asarray(matrix)))],
        }
    return data | more


@dataclass(frozen=True)
class Recorded:
    """A run as the reader gives it."""

    epochs: list[dict[str, Any]]
    header: dict[str, Any] = field(default_factory=dict)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = field(default_factory=lambda: {"reason": "completed", "epochs": 1})
    faults: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Any] = field(default_factory=list)


def loss(value: float, n: int = 2000) -> dict[str, Any]:
    return score(value, value * 0.95, value * 1.05, n, "normal", higher_is_better=False)


def losses(
    val: Sequence[float], train: Sequence[float], *, matrix: ArrayLike = GOOD, **more: Any
) -> Recorded:
    """A run with these losses whose confusion matrix stays as it is."""
    rows = [
        epoch(i, {"val/loss": loss(v), "train/loss": loss(u)}, matrix=matrix)
        for i, (v, u) in enumerate(zip(val, train, strict=True))
    ]
    return Recorded(rows, **more)


def accuracies(
    values: Sequence[float],
    *,
    n: int = 2000,
    seconds: float = 10.0,
    samples: int = 1000,
    fingerprint: str | None = None,
) -> Recorded:
    """A run with these validation accuracies, one evaluation each `seconds` of training."""
    rows = [
        epoch(i, {"val/accuracy": share(round(value * n), n)}, seconds=seconds, samples=samples)
        for i, value in enumerate(values)
    ]
    return Recorded(rows, {"val_fingerprint": fingerprint})


def written(folder: Path, run: Recorded) -> Path:
    """The run as a folder with a journal."""
    folder.mkdir(parents=True)
    with Journal(folder) as journal:
        journal.append("header", run.header)
        for data in run.epochs:
            journal.append("epoch", data)
        for data in run.checkpoints:
            journal.append("checkpoint", data)
        if run.end is not None:
            journal.append("end", run.end)
    return folder


def codes(verdict: Any) -> set[str]:
    return {finding.code for finding in verdict.findings}


def states(verdict: Any) -> dict[str, str]:
    return {criterion.name: criterion.state for criterion in verdict.criteria}
