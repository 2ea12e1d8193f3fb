"""False alarms and power of the curve rules, measured with fixed seeds.

The settings and their bars are those of `make bench-rules`, with fewer runs.
"""

import numpy as np
import pytest
from judged_sources import Recorded, codes, epoch, loss, share

from ptmetrics.verdict.judge import judge
from tests.studies.cases_curve import CASES
from tests.studies.rule_case import Case, Setting, rate
from tests.studies.synthetic import Curve, healthy_loss, rising_loss

RUNS = 50
SETTINGS = [
    pytest.param(case, setting, planted, id=f"{case.code}: {setting.words}")
    for case in CASES
    for settings, planted in ((case.healthy, False), (case.planted, True))
    for setting in settings
]


@pytest.mark.parametrize(("case", "setting", "planted"), SETTINGS)
def test_false_alarms_and_power_of_curve_rules_keep_their_bars(
    case: Case, setting: Setting, planted: bool
) -> None:
    assert setting.bar is not None
    assert rate(case, setting, RUNS, planted=planted).passed


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
        verdict = judge(run_of(healthy_loss(rng, 50, 0.05), rng, overfit=False))
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
        for verdict in (
            judge(run_of(rising_loss(rng, 50, 0.05, 0.3), rng, overfit=True)) for _ in range(20)
        )
    ]
    assert sum(found) >= 19


def test_equal_accuracies_are_called_a_gap_in_at_most_5_percent() -> None:
    rng, alarms = np.random.default_rng(10), 0
    for _ in range(500):
        train, val = (
            rng.binomial(5000, 0.93),
            rng.binomial(500, 0.88),
        )  # the true gap is the 5 points tolerated
        data = epoch(
            0, {"train/accuracy": share(int(train), 5000), "val/accuracy": share(int(val), 500)}
        )
        alarms += "overfitting" in codes(judge(Recorded([data]), select=["overfitting"]))
    assert alarms / 500 <= 0.05


def test_a_noisy_falling_loss_has_not_diverged() -> None:
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(50):
        train = healthy_loss(rng, 30, 0.2, 0.5).tolist()
        rows = [epoch(i, {"train/loss": loss(v), "val/loss": loss(v)}) for i, v in enumerate(train)]
        alarms += "diverged" in codes(judge(Recorded(rows), select=["diverged"]))
    assert alarms / 50 <= 0.05
