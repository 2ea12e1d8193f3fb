"""Cases of the codes of one evaluation: validity, baselines, criteria of classes and numbers."""

from collections.abc import Callable
from math import nan, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import ptmetrics as pm
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.record.lines import Problem
from ptmetrics.verdict.profile import Thresholds
from tests.studies.rule_case import Case, Setting, against_baseline, judged_whole, judged_with
from tests.studies.synthetic import (
    Random,
    Recorded,
    Scores,
    evaluation,
    healthy_loss,
    loss_run,
    numbers,
    shares,
    symmetric,
    training_loss,
)

MOST = 0.05


def _drawn(words: str, cells: npt.ArrayLike, n: int, bar: float | None) -> Setting:
    return Setting(f"{words}, {n:,} samples", lambda rng: evaluation(rng, cells, n), bar)


def _rare(prevalence: float, recall: float, precision: float) -> list[list[float]]:
    """Cells of two classes, of which class 1 has this prevalence, recall and precision."""
    hits = prevalence * recall
    false = hits / precision - hits
    return [[1 - prevalence - false, false], [prevalence - hits, hits]]


def _two_class(rng: Random, cells: npt.ArrayLike, n: int) -> dict[str, Any]:
    return evaluation(rng, cells, n) | {"task": "binary"}


def _without_n(rng: Random) -> dict[str, Any]:
    return {"scores": {"accuracy": {"value": 0.9 + 0.05 * rng.random()}}}


def _apart(precision: float, recall: float, n: int, bar: float) -> Setting:
    words = f"precision {100 * precision:.0f} %, recall {100 * recall:.0f} %, {n:,} samples"
    return Setting(words, lambda rng: _two_class(rng, _rare(0.5, recall, precision), n), bar)


def _one_weak(recall: float) -> npt.NDArray[np.float64]:
    cells = symmetric(10, 0.9)
    cells[3] = symmetric(10, recall)[3]
    return cells


def _sliced(rng: Random, accuracies: list[float], n: int) -> Scores:
    """An evaluation whose slices of n samples each have these accuracies."""
    each = shares(rng.binomial(n, accuracies), n)
    columns = {key: [share[key] for share in each] for key in ("value", "low", "high", "n")}
    names = [f"camera {i}" for i in range(len(each))]
    slices = {
        "by": "accuracy",
        "names": names,
        "filled": len(each),
        "scores": {"accuracy": columns},
    }
    return evaluation(rng, symmetric(10, sum(accuracies) / len(accuracies)), n * len(each)) | {
        "per_slice": slices
    }


def _slices(words: str, accuracies: list[float], n: int, bar: float) -> Setting:
    return Setting(f"{words}, {n} samples each", lambda rng: _sliced(rng, accuracies, n), bar)


def _noisy(rng: Random) -> Recorded:
    return loss_run(healthy_loss(rng, 20, 0.3, 0.5), training_loss(20))


def _with(change: Callable[[Random, Recorded], None]) -> Callable[[Random], Recorded]:
    """A noisy run of 20 epochs with something done to its record."""

    def make(rng: Random) -> Recorded:
        run = _noisy(rng)
        change(rng, run)
        return run

    return make


def _no_validation(rng: Random, run: Recorded) -> None:
    for epoch in run.epochs:
        del epoch["scores"]["val/loss"]


def _nan_loss(rng: Random, run: Recorded) -> None:
    run.epochs[int(rng.integers(20))]["scores"]["train/loss"]["value"] = nan


def _bad_rows(rng: Random, run: Recorded) -> None:
    epoch = run.epochs[int(rng.integers(20))]
    epoch["faults"] = {
        "train": {"label-range": {"message": "3 labels of 10 or more, first in step 7"}}
    }


def _torn_line(rng: Random, run: Recorded) -> None:
    run.problems.append("line 7")


def _best_of(rng: Random) -> Recorded:
    accuracy = {"val/accuracy": shares(rng.binomial(2000, 0.9, 20), 2000)}
    run = loss_run(healthy_loss(rng, 20, 0.03), training_loss(20), accuracy)
    run.checkpoints.append({"path": "best.pt", "epoch": 12, "why": "best"})
    return run


def _forged_line(rng: Random, run: Recorded) -> None:
    reason = "epoch record whose scores['val/accuracy'].value is 95"
    run.problems.append(Problem("journal-rank0.jsonl", 7, 900, reason, contradiction=True))


_HEALTHY_RUN = (Setting("20 epochs, noise 30 % with memory 0.5", _noisy, 0.0),)

VALIDITY = (
    Case(
        "not-validated",
        _HEALTHY_RUN,
        (Setting("20 epochs without validation", _with(_no_validation), 1.0),),
    ),
    Case(
        "non-finite",
        _HEALTHY_RUN,
        (Setting("one training loss out of 20 is NaN", _with(_nan_loss), 1.0),),
    ),
    Case(
        "missing-class",
        (_drawn("10 classes, equally frequent", symmetric(10, 0.9), 300, MOST),),
        (
            _drawn(
                "class 3 of 10 left out",
                symmetric(10, 0.9) * (np.arange(10) != 3)[:, None],
                300,
                1.0,
            ),
        ),
    ),
    Case(
        "metric-faults",
        _HEALTHY_RUN,
        (Setting("3 labels out of range in one epoch", _with(_bad_rows), 1.0),),
    ),
    Case(
        "too-good",
        (_drawn("10 classes, recall 99 %", symmetric(10, 0.99), 1000, MOST),),
        (_drawn("10 classes, without an error", symmetric(10, 1.0), 1000, 1.0),),
    ),
    Case(
        "selected-on-val",
        _HEALTHY_RUN,
        (Setting("best of 20 epochs of 2,000 samples", _best_of, 1.0),),
        info=True,
    ),
    Case(
        "contradiction",
        _HEALTHY_RUN,
        (Setting("one accuracy above 1", _with(_forged_line), 1.0),),
    ),
    Case(
        "damaged-record",
        _HEALTHY_RUN,
        (Setting("one damaged line", _with(_torn_line), 1.0),),
    ),
)

BASELINE = (
    Case(
        "no-skill",
        (
            _drawn("10 classes, accuracy 20 %", symmetric(10, 0.2), 1000, MOST),
            _drawn(
                "2 % positive, recall 50 %, precision 80 %", _rare(0.02, 0.5, 0.8), 10_000, MOST
            ),
        ),
        (
            _drawn(
                "accuracy of the majority class exactly, balanced", symmetric(2, 0.5), 1000, 0.92
            ),
            _drawn(
                "2 % positive, recall 12 %, precision 50 %", _rare(0.02, 0.12, 0.5), 10_000, 0.92
            ),
        ),
    ),
    Case(
        "accuracy-paradox",
        (
            _drawn("5 % positive, recall 80 %, precision 80 %", _rare(0.05, 0.8, 0.8), 2000, MOST),
            _drawn("5 % positive, recall 50 %, just tolerated", _rare(0.05, 0.5, 0.8), 2000, MOST),
        ),
        (
            _drawn(
                "2 % positive, recall 12 %, precision 50 %", _rare(0.02, 0.12, 0.5), 10_000, 0.95
            ),
        ),
    ),
)

QUALITY = (
    Case(
        "low-accuracy",
        (
            _drawn("accuracy 85 %, just what is wanted", symmetric(10, 0.85), 500, MOST),
            _drawn("accuracy 85 %, just what is wanted", symmetric(10, 0.85), 10_000, MOST),
        ),
        (_drawn("accuracy 80 %", symmetric(10, 0.80), 1000, 0.95),),
    ),
    Case(
        "low-precision",
        (
            _drawn(
                "precision 80 %, just what is wanted, 10 classes", symmetric(10, 0.8), 1000, MOST
            ),
            _drawn("precision 80 %, just what is wanted, 2 classes", symmetric(2, 0.8), 1000, MOST),
        ),
        (_drawn("precision 75 %, 10 classes", symmetric(10, 0.75), 1000, 0.90),),
    ),
    Case(
        "low-recall",
        (
            _drawn("recall 80 %, just what is wanted, 10 classes", symmetric(10, 0.8), 1000, MOST),
            _drawn("recall 80 %, just what is wanted, 2 classes", symmetric(2, 0.8), 1000, MOST),
        ),
        (_drawn("recall 75 %, 10 classes", symmetric(10, 0.75), 1000, 0.90),),
    ),
    Case(
        "precision-recall-gap",
        (_apart(0.90, 0.80, 1000, MOST), _apart(0.95, 0.95, 200, MOST)),
        (_apart(0.90, 0.70, 1000, 0.95),),
    ),
    Case(
        "collapsed",
        (_drawn("one class in 200 is never predicted", [[0.95, 0.045], [0.005, 0.0]], 200, MOST),),
        (_drawn("10 classes, all called the first", np.eye(10)[[0] * 10], 300, 1.0),),
    ),
    Case(
        "weak-class",
        (
            _drawn(
                "10 classes, recall 50 % in each, just tolerated", symmetric(10, 0.5), 500, MOST
            ),
            _drawn("100 classes, recall 60 %", symmetric(100, 0.6), 3000, MOST),
        ),
        (_drawn("recall 20 % in one class of 10", _one_weak(0.2), 500, 0.85),),
    ),
    Case(
        "weak-slice",
        (
            _slices("10 slices, accuracy 70 % in each, just tolerated", [0.7] * 10, 100, MOST),
            _slices("50 slices, accuracy 80 %", [0.8] * 50, 30, MOST),
        ),
        (_slices("accuracy 50 % in one slice of 10", [0.9] * 9 + [0.5], 100, 0.85),),
    ),
    Case(
        "too-few-samples",
        (_drawn("10 classes, accuracy 93 %", symmetric(10, 0.93), 3000, MOST),),
        (_drawn("10 classes, accuracy 87 %", symmetric(10, 0.87), 100, 0.95),),
        find=judged_whole,
    ),
    Case(
        "not-measured",
        (_drawn("10 classes, accuracy 93 %", symmetric(10, 0.93), 3000, MOST),),
        (Setting("accuracy of an unknown number of samples", _without_n, 1.0),),
        find=judged_whole,
    ),
)

NORMAL, HEAVY = "", ", heavy tails"


def _one_far(rng: Random) -> Scores:
    preds = rng.normal(size=300)
    target = preds + rng.normal(size=300)
    target[17] += 30
    metrics = RegressionMetrics()
    metrics.update(torch.from_numpy(preds), torch.from_numpy(target))
    found: Scores = metrics.compute().to_dict()
    return found


def _explained(r2: float, n: int, bar: float, tails: str = NORMAL) -> Setting:
    """Targets of variance 1 of which this share is predicted."""
    words = f"R² {100 * r2:.0f} %{tails}, {n:,} samples"
    return Setting(
        words, lambda rng: numbers(rng, n, sqrt(r2), sqrt(1 - r2), heavy=tails == HEAVY), bar
    )


def _unrelated(spread: float, words: str, n: int, bar: float) -> Setting:
    """Predictions that know nothing of their targets."""

    def make(rng: Random) -> Scores:
        return numbers(rng, n, spread, 1.0, related=False)

    return Setting(f"{words}, {n:,} samples", make, bar)


def _error(rmse: float, n: int, words: str, bar: float, tails: str = NORMAL) -> Setting:
    def make(rng: Random) -> Scores:
        return numbers(rng, n, 3.0, rmse, heavy=tails == HEAVY)

    return Setting(f"{words}{tails}, {n:,} samples", make, bar)


def _pair(run: float, baseline: float, n: int, words: str, bar: float) -> Setting:
    def make(rng: Random) -> tuple[Scores, Scores]:
        first, second = (evaluation(rng, symmetric(2, accuracy), n) for accuracy in (run, baseline))
        return first, second

    return Setting(f"{words}, {n:,} samples", make, bar)


NUMBERS = (
    Case(
        "regression-no-skill",
        (
            _explained(0.10, 1000, MOST),
            _explained(0.50, 100, MOST),
            _explained(0.50, 100, MOST, HEAVY),
        ),
        (
            _unrelated(0.03, "hardly more than the mean", 1000, 0.95),
            _unrelated(0.3, "noise around the mean", 1000, 0.95),
        ),
    ),
    Case(
        "low-r2",
        (
            _explained(0.50, 30, MOST),
            _explained(0.50, 1000, MOST),
            _explained(0.50, 300, MOST, HEAVY),
        ),
        (_explained(0.40, 1000, 0.90),),
    ),
    Case(
        "high-error",
        (
            _error(1.0, 30, "error 1, just what is wanted", MOST),
            _error(1.0, 1000, "error 1, just what is wanted", MOST),
            _error(1.0, 300, "error 1, just what is wanted", MOST, HEAVY),
        ),
        (_error(1.2, 500, "error 1.2", 0.95),),
        find=judged_with(Thresholds(rmse=1.0)),
    ),
    Case(
        "one-row",
        (_error(1.0, 30, "error 1", MOST), _error(1.0, 300, "error 1", MOST, HEAVY)),
        (Setting("one error of 30 among 300 of 1", _one_far, 1.0),),
    ),
    Case(
        "worse-than-baseline",
        (
            _pair(0.92, 0.93, 2000, "1 point worse, just tolerated", MOST),
            _pair(0.93, 0.93, 2000, "equally good", MOST),
        ),
        (_pair(0.89, 0.93, 2000, "4 points worse", 0.85),),
        find=against_baseline,
    ),
)


def _pictures(wrong: float, words: str, bar: float) -> Setting:
    """40 pictures of 100 pixels of two equally frequent classes; each has its own share of errors.

    With a share e of errors in all, both overlaps are (1 − e) / (1 + e).
    """

    def make(rng: Random) -> Any:
        flips = rng.random((40, 100)) < rng.beta(8 * wrong, 8 * (1 - wrong), size=(40, 1))
        target = torch.arange(4000).reshape(40, 100) % 2
        metrics = pm.MulticlassMetrics(2, inputs="labels")
        metrics.update(target ^ torch.from_numpy(flips), target)
        return metrics.compute()

    return Setting(words, make, bar)


def _texts(sure: float, words: str, bar: float) -> Setting:
    """60 texts of 20 tokens; in each the right token has one probability, from Beta(sure, 2).

    Then the perplexity is exp(1 / sure + 1 / (sure + 1)).
    """

    def make(rng: Random) -> Any:
        right = torch.from_numpy(rng.beta(sure, 2, size=(60, 1))).expand(60, 20)
        metrics = pm.MulticlassMetrics(2, inputs="probs")
        metrics.update(torch.stack([right, 1 - right], 1), torch.zeros(60, 20, dtype=torch.long))
        return metrics.compute()

    return Setting(words, make, bar)


POSITIONS = (
    Case(
        "low-overlap",
        (_pictures(0.25, "overlap 0.6, just what is wanted", MOST),),
        (_pictures(0.35, "overlap 0.48 for a wanted 0.6", 0.90),),
        find=judged_with(Thresholds(mean_iou=0.6)),
    ),
    Case(
        "high-perplexity",
        (_texts(8, "perplexity 1.27, just what is wanted", MOST),),
        (_texts(4, "perplexity 1.57 for a wanted 1.27", 0.90),),
        find=judged_with(Thresholds(perplexity=float(np.exp(1 / 8 + 1 / 9)))),
    ),
)

CASES = VALIDITY + BASELINE + QUALITY + NUMBERS + POSITIONS
