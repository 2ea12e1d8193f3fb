"""Cases of the codes of a comparison, and how often the time ratio's interval holds the truth."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.time_to_target import Ratio, Span, ratio_of
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

TRUTHS = (
    (0.5, 0.0, 3),
    (0.5, 3.0, 3),
    (0.25, 3.0, 3),
    (0.25, 3.0, 5),
    (1.0, 3.0, 5),
    (1.0, 3.0, 3),
    (0.25, 3.0, 1),
    (1.0, 3.0, 1),
)
"""True ratio, spacing of the evaluations in percent of the second arm's time, seeds in each arm."""
SPREAD = 0.15  # of the seeds' log times
LIMITS = Thresholds()


def ratio_rates(truth: float, step: float, seeds: int, runs: int) -> tuple[Rate, Rate]:
    """How often the time ratio's 95 % interval holds the true ratio, and how often "at least halved" is claimed.

    One run an arm tells nothing of other seeds: its interval has no bar.

    Args:
        truth: The true ratio.
        step: Spacing of the evaluations, in percent of the second arm's time.
        seeds: In each arm.
        runs: Comparisons drawn.
    """
    rng = np.random.default_rng(1)
    drawn = [_drawn_ratio(rng, truth, step, seeds) for _ in range(runs)]
    limit = LIMITS.speedup
    if seeds == 1:
        limit /= LIMITS.single_run_margin
    held = sum(ratio.low <= truth <= ratio.high for ratio in drawn)
    claimed = sum(ratio.high <= limit for ratio in drawn)
    spaced = f"evaluations {f'{step:g} % apart' if step else 'exact'}"
    words = f"true ratio {truth}, {seeds} {'seed' if seeds == 1 else 'seeds'}, {spaced}"
    bar = 0.93 if seeds > 1 else None
    most = MOST if truth == 1 else None
    make = np.random.Generator.normal
    return (
        share("time ratio", Setting(words, make, bar), held, runs, planted=True),
        share("at least halved", Setting(words, make, most), claimed, runs, planted=False),
    )


def _drawn_ratio(rng: Random, truth: float, step: float, seeds: int) -> Ratio:
    arms: list[Sequence[Span]] = []
    for centre in (100 * truth, 100.0):
        exact = centre * np.exp(rng.normal(scale=SPREAD, size=seeds))
        seen = exact if step == 0 else np.ceil(exact / step) * step
        arms.append([Span(float(t - step), float(t)) for t in seen])
    return ratio_of(*arms)
