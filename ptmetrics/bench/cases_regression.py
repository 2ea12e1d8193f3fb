"""Cases of the codes that an evaluation of predicted numbers raises, and of the baseline that is named."""

from collections.abc import Callable
from math import sqrt

from ptmetrics.bench.rule_case import Case, Setting, against_baseline, judged_with
from ptmetrics.bench.synthetic import Random, Scores, evaluation, numbers, symmetric
from ptmetrics.verdict.profile import Thresholds

MOST = 0.05
NORMAL, HEAVY = "", ", heavy tails"


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
    make: Callable[[Random], Scores] = lambda rng: numbers(rng, n, 3.0, rmse, heavy=tails == HEAVY)  # noqa: E731
    return Setting(f"{words}{tails}, {n:,} samples", make, bar)


def _pair(run: float, baseline: float, n: int, words: str, bar: float) -> Setting:
    def make(rng: Random) -> tuple[Scores, Scores]:
        first, second = (evaluation(rng, symmetric(2, accuracy), n) for accuracy in (run, baseline))
        return first, second

    return Setting(f"{words}, {n:,} samples", make, bar)


CASES = (
    Case(
        "regression-no-skill",
        "The model is not shown to beat always predicting the mean of the targets, whose R² is 0. It fails where R² is "
        "shown to be below 0 and stays undetermined where 0 lies in its interval.",
        ("regression_support",),
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
        "The whole interval of R², the share of the targets' variance that is explained, lies below what is wanted.",
        ("r2", "regression_support"),
        (
            _explained(0.50, 30, MOST),
            _explained(0.50, 1000, MOST),
            _explained(0.50, 300, MOST, HEAVY),
        ),
        (_explained(0.40, 1000, 0.90),),
    ),
    Case(
        "high-error",
        "The whole interval of the mean absolute, mean squared or root mean squared error lies above what was asked "
        "for, in the unit of the target (squared for `mse`). Measured with `rmse = 1`.",
        ("mae", "mse", "rmse", "regression_support"),
        (
            _error(1.0, 30, "error 1, just what is wanted", MOST),
            _error(1.0, 1000, "error 1, just what is wanted", MOST),
            _error(1.0, 300, "error 1, just what is wanted", MOST, HEAVY),
        ),
        (_error(1.2, 500, "error 1.2", 0.95),),
        find=judged_with(Thresholds(rmse=1.0)),
    ),
    Case(
        "worse-than-baseline",
        "A score that the profile holds against a threshold is shown to be worse than that of the baseline that was "
        "named, by more than the margin: `margin` for shares and R², `error_margin` relative to the baseline's for "
        "errors. Both must have been validated on the same data.",
        ("margin", "error_margin"),
        (
            _pair(0.92, 0.93, 2000, "1 point worse, just tolerated", MOST),
            _pair(0.93, 0.93, 2000, "equally good", MOST),
        ),
        (_pair(0.89, 0.93, 2000, "4 points worse", 0.85),),
        find=against_baseline,
    ),
)
