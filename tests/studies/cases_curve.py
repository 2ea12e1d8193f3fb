"""Cases of the codes of learning curves: noisy healthy runs, and runs with a planted flaw."""

from collections.abc import Callable

import numpy as np

from tests.studies.rule_case import Case, Setting
from tests.studies.synthetic import (
    Curve,
    Random,
    Recorded,
    healthy_loss,
    loss_run,
    noise,
    rising_loss,
    run_of,
    shares,
    training_loss,
    with_losses,
)

MOST = 0.05
NOISY = ((5, 0.03, 0.0), (6, 0.08, 0.0), (9, 0.08, 0.0), (10, 0.03, 0.0), (20, 0.03, 0.0), (20, 0.03, 0.5),
         (50, 0.08, 0.0), (100, 0.03, 0.5), (200, 0.05, 0.7))  # fmt: skip


def _quiet(epochs: int, size: float, memory: float) -> Setting:
    words = f"{epochs} epochs, noise {100 * size:.0f} %" + (
        f" with memory {memory}" if memory else ""
    )
    return Setting(
        words,
        lambda rng: loss_run(healthy_loss(rng, epochs, size, memory), training_loss(epochs)),
        MOST,
    )


def _rise(epochs: int, size: float, rise: float, bar: float) -> Setting:
    words = f"{epochs} epochs, rise of {100 * rise:.0f} %, noise {100 * size:.0f} %"
    return Setting(
        words,
        lambda rng: loss_run(rising_loss(rng, epochs, size, rise), training_loss(epochs)),
        bar,
    )


def _kept(setting: Setting) -> Setting:
    """The same with the losses of 2,000 validation samples kept."""
    return Setting(
        f"{setting.words}, samples kept",
        lambda rng: with_losses(rng, setting.make(rng), 2000),
        setting.bar,
    )


def _gap(train: float, val: float, n: int, words: str, bar: float, late: float = 0.0) -> Setting:
    """12 epochs; training gains the last `late` of its accuracy after validation has stopped."""

    def make(rng: Random) -> Recorded:
        t = np.arange(12)
        learned = 1 - np.exp(-t / 1.0)
        later = np.clip((t - 5) / 6, 0, 1)
        trained = (train - late) * (0.6 + 0.4 * learned) + late * later
        validated = val * (0.6 + 0.4 * learned)
        columns = {
            "train/accuracy": shares(rng.binomial(5000, trained), 5000),
            "val/accuracy": shares(rng.binomial(n, validated), n),
        }
        return run_of(columns)

    return Setting(f"{words}, {n} validation samples", make, bar)


def _sure(rise: float, fall: float, n: int = 2000) -> Callable[[Random], Recorded]:
    """50 epochs whose loss rises while the accuracy of n samples falls by so much, or holds."""

    def make(rng: Random) -> Recorded:
        truth = 0.93 - fall * np.clip((np.arange(50) - 20) / 29, 0, None)
        accuracy = {"val/accuracy": shares(rng.binomial(n, truth), n)}
        return loss_run(rising_loss(rng, 50, 0.05, rise), training_loss(50), accuracy)

    return make


def _fit(accuracy: float, slope: float) -> Callable[[Random], Recorded]:
    """20 epochs that end at this training accuracy; the loss falls by `slope` each, noise 2 %."""

    def make(rng: Random) -> Recorded:
        train: Curve = (1 - slope) ** np.arange(20) * (1 + noise(rng, 20, 0.02))
        columns = {
            "train/accuracy": shares(rng.binomial(5000, accuracy, 20), 5000),
            "val/accuracy": shares(rng.binomial(2000, accuracy - 0.01, 20), 2000),
        }
        return loss_run(train, train, columns)

    return make


def _training(epochs: int, size: float, memory: float, jump: float) -> Callable[[Random], Recorded]:
    """A falling training loss that from 60 % on stands at `jump` times its start; 0 for never."""

    def make(rng: Random) -> Recorded:
        train = healthy_loss(rng, epochs, size, memory)
        train[int(0.6 * epochs) :] *= jump * 2.5 if jump else 1.0
        return loss_run(train, train)

    return make


CASES = (
    Case(
        "overfitting",
        (
            *(_quiet(*kind) for kind in NOISY),
            *(_kept(_quiet(*kind)) for kind in NOISY[1:3]),
            _gap(0.93, 0.88, 500, "gap of just the 5 points tolerated", MOST),
            _gap(0.99, 0.84, 500, "gap of 15 points from the first epochs on", MOST),
            Setting("loss rises by 30 %, accuracy of 500 holds", _sure(0.3, 0.0, 500), MOST),
        ),
        (
            _gap(0.99, 0.84, 500, "gap of 15 points, 8 of them late", 0.80, late=0.08),
            _gap(0.99, 0.84, 500, "gap of 15 points, 12 of them late", 0.90, late=0.12),
            Setting(
                "loss rises by 30 %, accuracy of 500 falls by 5 points", _sure(0.3, 0.05, 500), 0.90
            ),
            _rise(8, 0.03, 0.3, 0.70),
            _rise(5, 0.03, 0.6, 0.95),
            _kept(_rise(8, 0.03, 0.2, 0.60)),
            _kept(_rise(20, 0.08, 0.3, 0.76)),
            _rise(20, 0.08, 0.3, 0.76),
            _rise(100, 0.08, 0.3, 0.94),
            _rise(50, 0.08, 0.3, 0.94),
        ),
    ),
    Case(
        "val-loss-rising",
        (*(_quiet(*kind) for kind in NOISY), _kept(_quiet(*NOISY[2]))),
        (_rise(20, 0.03, 0.1, 0.50), _kept(_rise(20, 0.03, 0.1, 0.50)), _rise(50, 0.03, 0.1, 0.90)),
        also=("overfitting",),
    ),
    Case(
        "over-confident",
        (
            Setting("50 epochs, noise 8 %", _quiet(50, 0.08, 0.0).make, MOST),
            Setting("loss rises by 30 %, accuracy falls by 8 points", _sure(0.3, 0.08), MOST),
        ),
        (Setting("loss rises by 30 %, accuracy holds", _sure(0.3, 0.0), 0.85),),
    ),
    Case(
        "generalization-gap",
        (
            _gap(0.93, 0.88, 500, "gap of just the 5 points tolerated", MOST),
            _gap(0.99, 0.84, 500, "gap of 15 points, 12 of them late", MOST, late=0.12),
        ),
        (_gap(0.99, 0.84, 500, "gap of 15 points from the first epochs on", 0.90),),
    ),
    Case(
        "underfitting",
        (
            Setting("accuracy 85 %, just what is wanted", _fit(0.85, 0.0), MOST),
            Setting("accuracy 70 %, loss falls by 5 % an epoch", _fit(0.70, 0.05), MOST),
        ),
        (Setting("accuracy 70 %, loss flat", _fit(0.70, 0.0), 0.85),),
    ),
    Case(
        "undertrained",
        (
            Setting("accuracy 85 %, loss falls by 5 % an epoch", _fit(0.85, 0.05), MOST),
            Setting("accuracy 70 %, loss flat", _fit(0.70, 0.0), MOST),
        ),
        (Setting("accuracy 70 %, loss falls by 5 % an epoch", _fit(0.70, 0.05), 0.85),),
    ),
    Case(
        "diverged",
        (
            Setting("30 epochs, noise 20 % with memory 0.5", _training(30, 0.2, 0.5, 0.0), MOST),
            Setting("100 epochs, noise 30 %", _training(100, 0.3, 0.0, 0.0), MOST),
        ),
        (Setting("30 epochs, jumps to 1.5 times its start", _training(30, 0.2, 0.5, 1.5), 0.95),),
    ),
)
