"""Cases of the codes of a comparison, and how often the time ratio's interval holds the truth."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ptmetrics.verdict.time_to_target import Span, ratio_of
from tests.studies.rule_case import Case, Rate, Setting, compared, share
from tests.studies.synthetic import Random, Recorded, pair_of, run_of, shares

MOST = 0.05
EPOCHS, SAMPLES = 60, 2000
Arms = tuple[list[Recorded], list[Recorded]]


def _learn(pace: float, *, seconds: float = 1.0, fingerprint: str = "a") -> Recorded:
    """An exact curve towards 95 % accuracy that passes 90 % after about 3 × pace epochs."""
    truth = 0.95 * (1 - np.exp(-np.arange(1, EPOCHS + 1) / pace))
    columns = {"val/accuracy": shares(np.round(100_000 * truth), 100_000)}
    return run_of(columns, seconds=seconds, header={"val_fingerprint": fingerprint})


def _seeds(ratio: float, spread: float) -> Setting:
    def make(rng: Random) -> Arms:
        first, second = (
            [_learn(float(pace)) for pace in centre * np.exp(spread * rng.normal(size=3))]
            for centre in (10 * ratio, 10.0)
        )
        return first, second

    return Setting(f"true ratio {ratio}, 3 seeds that spread by {100 * spread:.0f} %", make)


def _final(first: float, second: float, words: str, bar: float) -> Setting:
    def make(rng: Random) -> Arms:
        arms = []
        for accuracy in (first, second):
            hits = rng.binomial(SAMPLES, np.full(4, accuracy))
            arms.append([run_of({"val/accuracy": shares(hits, SAMPLES)})])
        return arms[0], arms[1]

    return Setting(f"{words}, {SAMPLES:,} samples", make, bar)


def _paired(first: float, second: float, words: str, bar: float) -> Setting:
    make = partial(pair_of, n=SAMPLES, accuracies=(first, second))
    return Setting(f"{words}, the same {SAMPLES:,} samples kept", make, bar)


def _slower(factor: float, words: str, bar: float) -> Setting:
    def make(rng: Random) -> Arms:
        pace = 5 * np.exp(0.05 * rng.normal())
        return [_learn(pace, seconds=factor * float(np.exp(0.05 * rng.normal())))], [_learn(10.0)]

    return Setting(words, make, bar)


def _other_data(fingerprint: str, words: str, bar: float) -> Setting:
    return Setting(words, lambda rng: ([_learn(5.0)], [_learn(10.0, fingerprint=fingerprint)]), bar)


def _barred(setting: Setting, bar: float) -> Setting:
    return Setting(setting.words, setting.make, bar)


CASES = (
    Case(
        "different-validation",
        (_other_data("a", "the same fingerprint", 0.0),),
        (_other_data("b", "another fingerprint", 1.0),),
        find=compared,
    ),
    Case(
        "no-speedup",
        (_barred(_seeds(0.5, 0.15), MOST), _barred(_seeds(0.8, 0.15), MOST)),
        (_barred(_seeds(1.5, 0.15), 0.7), _barred(_seeds(1.2, 0.05), 0.8)),
        find=compared,
    ),
    Case(
        "scratch-is-better",
        (
            _final(0.92, 0.93, "1 point worse, just tolerated", MOST),
            _final(0.93, 0.93, "equally good", MOST),
            _paired(0.92, 0.93, "1 point worse, just tolerated", MOST),
        ),
        (
            _paired(0.90, 0.94, "4 points worse", 0.95),
            _final(0.90, 0.94, "4 points worse", 0.90),
        ),
        find=compared,
    ),
    Case(
        "time-samples-disagree",
        (_slower(1.0, "steps equally fast within 5 %", MOST),),
        (_slower(1.6, "first arm's steps 1.6 times slower", 0.95),),
        find=compared,
    ),
)

TRUTHS = ((0.5, 0.0), (0.5, 3.0), (0.25, 3.0))


def coverage(truth: float, step: float, runs: int, spread: float = 0.15) -> Rate:
    """How often the time ratio's 95 % interval of 3 seeds in each arm holds the true ratio.

    Args:
        truth: The true ratio.
        step: Spacing of the evaluations, in percent of the second arm's time.
        runs: Comparisons drawn.
        spread: Standard deviation of the seeds' log times.
    """
    rng = np.random.default_rng(1)
    held = sum(_holds(rng, truth, step, spread) for _ in range(runs))
    words = f"true ratio {truth}, evaluations {f'{step:g} % apart' if step else 'exact'}"
    return share(
        "time ratio", Setting(words, np.random.Generator.normal, 0.93), held, runs, planted=True
    )


def _holds(rng: Random, truth: float, step: float, spread: float) -> bool:
    arms: list[Sequence[Span]] = []
    for centre in (100 * truth, 100.0):
        exact = centre * np.exp(rng.normal(scale=spread, size=3))
        seen = exact if step == 0 else np.ceil(exact / step) * step
        arms.append([Span(float(t - step), float(t)) for t in seen])
    ratio = ratio_of(*arms)
    return ratio.low <= truth <= ratio.high
