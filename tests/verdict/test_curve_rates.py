"""False alarms and power of the curve rules, measured with fixed seeds.

Healthy: exponential decay to a floor, white or autoregressive noise in percent of the floor. Planted: the loss
starts to rise at 40 % of the run and ends 10 % or 30 % above its floor. The bounds are those of the methods' table.
"""

from collections.abc import Callable

import numpy as np
import pytest
from judged_sources import Recorded, codes, epoch, loss, share

from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rising_loss import rising_loss

RUNS = 200
Curve = np.ndarray


def noise(rng: np.random.Generator, epochs: int, size: float, memory: float) -> Curve:
    steps = rng.normal(size=epochs)
    for i in range(1, epochs):
        steps[i] = memory * steps[i - 1] + np.sqrt(1 - memory**2) * steps[i]
    return size * steps


def healthy(rng: np.random.Generator, epochs: int, size: float, memory: float = 0.0) -> Curve:
    return 1 + 1.5 * np.exp(-np.arange(epochs) * 6 / epochs) + noise(rng, epochs, size, memory)


def planted(rng: np.random.Generator, epochs: int, size: float, rise: float) -> Curve:
    t, start = np.arange(epochs), int(0.4 * epochs)
    floor = 1 + 1.5 * np.exp(-t * 12 / epochs)
    return floor + rise * np.clip((t - start) / (epochs - 1 - start), 0, None) + noise(rng, epochs, size, 0.0)


def rate(make: Callable[[np.random.Generator], Curve]) -> float:
    rng, found = np.random.default_rng(2024), 0
    for _ in range(RUNS):
        val = make(rng)
        train = 0.2 + 2 * np.exp(-np.arange(val.size) * 4 / val.size)
        found += rising_loss(val, train, Thresholds()) is not None
    return found / RUNS


@pytest.mark.parametrize(
    ("epochs", "size", "memory"),
    [
        (5, 0.03, 0.0),
        (6, 0.08, 0.0),
        (9, 0.08, 0.0),
        (10, 0.03, 0.0),
        (20, 0.03, 0.0),
        (20, 0.03, 0.5),
        (50, 0.08, 0.0),
        (100, 0.03, 0.5),
        (200, 0.05, 0.7),
    ],
)
def test_a_healthy_noisy_curve_is_called_overfit_in_at_most_5_percent(
    epochs: int, size: float, memory: float
) -> None:
    assert rate(lambda rng: healthy(rng, epochs, size, memory)) <= 0.05


@pytest.mark.parametrize(
    ("epochs", "size", "rise", "power"),
    [
        (20, 0.03, 0.1, 0.50),
        (20, 0.08, 0.3, 0.76),
        (50, 0.03, 0.1, 0.90),
        (50, 0.08, 0.3, 0.94),
        (100, 0.08, 0.3, 0.97),
        (8, 0.03, 0.3, 0.70),
        (5, 0.03, 0.6, 0.95),
    ],
)
def test_a_planted_rise_is_found(epochs: int, size: float, rise: float, power: float) -> None:
    assert rate(lambda rng: planted(rng, epochs, size, rise)) >= power


def run_of(val: Curve, rng: np.random.Generator, *, overfit: bool) -> Recorded:
    t = np.arange(val.size) / val.size
    train = 0.2 + 2 * np.exp(-t * 4)
    accuracy = 0.93 - (0.05 * np.clip(t - 0.4, 0, None) if overfit else 0.0)
    learned = np.minimum(0.95 + 0.049 * t, 0.999) if overfit else np.full(val.size, 0.93)
    rows = []
    for i in range(val.size):
        hits = rng.binomial(1000, [accuracy[i] if overfit else 0.93] * 2)
        matrix = [[hits[0], 1000 - hits[0]], [1000 - hits[1], hits[1]]]
        scores = {"val/loss": loss(float(val[i])), "train/loss": loss(float(train[i]))}
        scores["train/accuracy"] = share(int(rng.binomial(10000, learned[i])), 10000)
        rows.append(epoch(i, scores, matrix=matrix))
    return Recorded(rows)


def test_whole_verdicts_on_healthy_runs_of_50_epochs_have_no_false_alarm_above_5_percent() -> None:
    rng, alarms = np.random.default_rng(8), 0
    for _ in range(40):
        verdict = judge(run_of(healthy(rng, 50, 0.05), rng, overfit=False))
        curve_codes = {
            "overfitting",
            "val-loss-rising",
            "over-confident",
            "underfitting",
            "undertrained",
            "diverged",
        }
        alarms += bool(codes(verdict) & curve_codes)
    assert alarms <= 2


def test_whole_verdicts_on_planted_runs_of_50_epochs_say_overfitting() -> None:
    rng = np.random.default_rng(9)
    found = [
        any(f.code == "overfitting" and f.evidence["sign"] == "loss" for f in verdict.findings)
        for verdict in (judge(run_of(planted(rng, 50, 0.05, 0.3), rng, overfit=True)) for _ in range(20))
    ]
    assert sum(found) >= 19


def test_equal_accuracies_are_called_a_gap_in_at_most_5_percent() -> None:
    rng, alarms = np.random.default_rng(10), 0
    for _ in range(500):
        train, val = (
            rng.binomial(5000, 0.93),
            rng.binomial(500, 0.88),
        )  # the true gap is the 5 points tolerated
        data = epoch(0, {"train/accuracy": share(int(train), 5000), "val/accuracy": share(int(val), 500)})
        alarms += "overfitting" in codes(judge(Recorded([data]), select=["overfitting"]))
    assert alarms / 500 <= 0.05


def test_a_noisy_falling_loss_has_not_diverged() -> None:
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(200):
        train = healthy(rng, 30, 0.2, 0.5).tolist()
        rows = [epoch(i, {"train/loss": loss(v), "val/loss": loss(v)}) for i, v in enumerate(train)]
        alarms += "diverged" in codes(judge(Recorded(rows), select=["diverged"]))
    assert alarms / 200 <= 0.05
