"""The verdict where numbers are predicted: better than the mean, R², errors in the user's units, and the curves."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged_sources import GOOD, Recorded, codes, epoch, loss, payload, score, states

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.digits import number
from ptmetrics.errors import ConfigError
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import PROFILES, Thresholds, profile_of


def drawn(noise: float, n: int = 1000, *, seed: int = 0, scale: float = 10.0) -> pm.Scores:
    """Scores of targets that spread by `scale`, predicted with this error; R² is about 1 − (noise / scale)²."""
    generator = torch.Generator().manual_seed(seed)
    target = 50 + scale * torch.randn(n, generator=generator)
    metrics = pm.RegressionMetrics()
    metrics.update(target + noise * torch.randn(n, generator=generator), target)
    return metrics.compute()


def of_the_mean(n: int = 1000) -> pm.Scores:
    target = torch.arange(n, dtype=torch.float64)
    metrics = pm.RegressionMetrics()
    metrics.update(target.mean().expand(n), target)
    return metrics.compute()


def run_of(r2: tuple[float, float], losses: list[float]) -> Recorded:
    """A run whose R² of training and validation is this in every epoch."""
    train, val = (score(v, v - 0.01, v + 0.01, 2000, "delta-log") for v in r2)
    rows = [
        epoch(i, {"train/r2": train, "val/r2": val, "train/loss": loss(v), "val/loss": loss(v)})
        for i, v in enumerate(losses)
    ]
    return Recorded(rows, {"metrics": {"task": "regression"}})


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_good_regression_is_ready_by_its_own_criteria_under_every_profile(profile: str) -> None:
    verdict = judge(drawn(2.0), profile=profile)
    assert (verdict.status, verdict.profile) == ("ready", profile)
    assert states(verdict) == {"r2 above predicting the mean": "met", "r2": "met"}
    assert any(note.startswith("Numbers are predicted, not classes") for note in verdict.notes)


def test_predicting_the_mean_has_no_skill() -> None:
    verdict = judge(of_the_mean())
    assert verdict.status == "not ready"
    assert {"regression-no-skill", "low-r2"} <= codes(verdict)
    assert verdict.findings[0].severity == "fail"


@pytest.mark.parametrize(
    ("bounds", "state"), [((0.0, 0.0, 0.0), "failed"), ((0.05, 0.0, 0.1), "undetermined")]
)
def test_to_touch_the_mean_is_no_gain(bounds: tuple[float, float, float], state: str) -> None:
    made = {"task": "regression", "scores": {"r2": score(*bounds, 1000, "delta-log")}}
    verdict = judge(made, select=["regression-no-skill"])
    assert states(verdict) == {"r2 above predicting the mean": state}
    assert codes(verdict) == {"regression-no-skill"}


def test_worse_than_the_mean_fails_and_a_small_gain_is_open_with_the_samples_that_would_do() -> (
    None
):
    assert judge(drawn(13.0), select=["regression-no-skill"]).status == "not ready"
    verdict = judge(drawn(9.5, 100, seed=3), select=["regression-no-skill"])
    (criterion,) = verdict.criteria
    assert criterion.low < 0 < criterion.high
    assert (verdict.status, codes(verdict)) == ("undetermined", {"regression-no-skill"})
    assert criterion.needed_n is not None
    assert criterion.needed_n > 100


@pytest.mark.parametrize("name", ["mae", "mse", "rmse"])
def test_errors_are_held_against_thresholds_in_the_users_unit(name: str, tmp_path: Path) -> None:
    scores = drawn(4.0)
    value = scores[name].value
    path = tmp_path / "house-prices.toml"
    truths = (
        (1.3, "met", "ready"),
        (1.0, "undetermined", "undetermined"),
        (0.7, "failed", "not ready"),
    )
    for factor, state, status in truths:
        path.write_text(f'extends = "regression"\n{name} = {factor * value}\n')
        verdict = judge(scores, profile=path)
        assert (states(verdict)[name], verdict.status) == (state, status)
        assert ("high-error" in codes(verdict)) == (state == "failed")
    (finding,) = (f for f in verdict.findings if f.code == "high-error")
    assert finding.message.startswith(f"{name} is too high: {number(value)} [")
    assert finding.evidence["score"] == name


def test_a_low_r2_fails_and_the_threshold_is_the_users(tmp_path: Path) -> None:
    assert "low-r2" in codes(judge(drawn(9.0)))
    assert judge(drawn(9.0), profile=Thresholds(r2=0.1)).status == "ready"
    path = tmp_path / "mine.toml"
    path.write_text("r2 = false\n")
    assert states(judge(drawn(2.0), profile=path)) == {"r2 above predicting the mean": "met"}


@pytest.mark.parametrize(
    ("key", "value"), [("rmse", "-1"), ("mae", "'low'"), ("mse", "nan"), ("rmse", "true")]
)
def test_a_threshold_in_units_is_a_number_of_0_or_more(
    key: str, value: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f"{key} = {value}\n")
    message = rf"{key}: expected a number >= 0, or false to drop the criterion, got .*\. Write .*{key} = 2\.5"
    with pytest.raises(ConfigError, match=message):
        profile_of(path)


@pytest.mark.parametrize("n", [3, 29])
def test_few_samples_decide_nothing_however_perfect(n: int) -> None:
    metrics = pm.RegressionMetrics()
    target = torch.arange(n, dtype=torch.float64)
    metrics.update(target, target)
    verdict = judge(metrics.compute())
    assert verdict.status == "undetermined"
    assert all("under 30 samples" in (criterion.reason or "") for criterion in verdict.criteria)


def test_targets_that_do_not_vary_leave_r2_open_with_the_reason() -> None:
    metrics = pm.RegressionMetrics()
    metrics.update(torch.rand(100), torch.ones(100))
    verdict = judge(metrics.compute())
    assert verdict.status == "undetermined"
    assert verdict.criteria[0].reason is not None
    assert "nan" not in "".join(f.message for f in verdict.findings)


def test_thirty_samples_are_enough_to_decide() -> None:
    metrics = pm.RegressionMetrics()
    target = torch.arange(30, dtype=torch.float64)
    metrics.update(target + 0.1 * (-1) ** target, target)
    assert judge(metrics.compute()).status == "ready"


# The task and the profile


def test_classes_under_the_profile_regression_are_judged_as_classes_and_told_so() -> None:
    verdict = judge(payload(GOOD), profile="regression")
    assert verdict.status == judge(payload(GOOD)).status == "ready"
    assert {"accuracy", "recall/macro"} <= states(verdict).keys()
    assert any(note.startswith("Classes are predicted, not numbers") for note in verdict.notes)
    assert judge(payload([[600, 400], [400, 600]]), profile="regression").status == "not ready"


def test_selected_codes_about_the_other_kind_of_task_leave_it_open() -> None:
    verdict = judge(payload(GOOD), select=["regression-no-skill"])
    assert verdict.status == "undetermined"
    assert "Not checked: regression-no-skill (classes are predicted, not numbers)." in verdict.notes
    verdict = judge(drawn(2.0), select=["weak-class"])
    assert verdict.status == "undetermined"
    assert "Not checked: weak-class (numbers are predicted, not classes)." in verdict.notes


def test_a_positive_class_of_numbers_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"positive: expected None for a regression, got 1\. Leave it out"
    ):
        judge(drawn(2.0), positive=1)


def test_metrics_of_torchmetrics_are_what_their_scores_are() -> None:
    made = {"task": "torchmetrics", "scores": drawn(2.0).to_dict()["scores"]}
    assert judge(made).status == "ready"


# Runs


def test_a_recorded_regression_is_judged_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = pm.Monitor(pm.RegressionMetrics(), tmp_path / "run")
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        target = 50 + 10 * torch.randn(500, generator=generator)
        preds = target + torch.randn(500, generator=generator)
        for split in ("train", "val"):
            monitor.update(preds, target, loss=1.0, split=split)
        monitor.end_epoch()
    monitor.close()
    assert main(["check", str(tmp_path / "run")]) == 0
    assert "r2 above predicting the mean" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    for name in ("r2  ", "rmse ", "mae "):
        assert f"\n{name}" in shown
    assert "confusion matrix" not in shown


def test_a_gap_of_r2_is_overfitting_and_a_low_r2_in_training_is_underfitting() -> None:
    verdict = judge(run_of((0.95, 0.70), [1.0, 0.9, 0.8, 0.8]))
    (finding,) = (f for f in verdict.findings if f.code == "generalization-gap")
    assert (finding.severity, finding.evidence["sign"]) == ("warning", "gap")
    assert "overfitting" not in codes(verdict)
    assert "Validation r2 is 25.0 points" in finding.message
    assert "underfitting" in codes(judge(run_of((0.30, 0.29), [1.0, 0.9, 0.9, 0.9, 0.9])))
    assert not codes(judge(run_of((0.90, 0.89), [1.0, 0.9, 0.9, 0.9, 0.9])))


@pytest.mark.parametrize(("fall", "code"), [(0.0, "val-loss-rising"), (0.01, "overfitting")])
def test_a_rising_validation_loss_is_overfitting_of_numbers_where_r2_falls(
    fall: float, code: str
) -> None:
    rows = np.arange(30)
    run = run_of((0.9, 0.88), (0.2 + np.exp(-rows / 5)).tolist())
    for row, data in zip(rows.tolist(), run.epochs, strict=True):
        later = max(0, row - 10)
        data["scores"]["val/loss"] = loss(0.3 + math.exp(-row / 5) + 0.02 * later)
        r2 = 0.88 - fall * later
        data["scores"]["val/r2"] = score(r2, r2 - 0.02, r2 + 0.02, 1000, "delta-log")
    assert codes(judge(run)) & {"overfitting", "val-loss-rising", "over-confident"} == {code}


# Logs of other tools


def log(path: Path, columns: dict[str, list[Any]]) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
    return path


FALLING = [1.0, 0.7, 0.5, 0.4]


@pytest.mark.parametrize(
    "columns",
    [
        {"loss": FALLING, "val_loss": FALLING, "val_r2": [0.1, 0.4, 0.6, 0.7]},
        {"loss": FALLING, "val_loss": FALLING, "mae": FALLING, "val_mae": FALLING},
        {"loss": FALLING, "val_mean_squared_error": FALLING},
    ],
)
def test_a_log_with_errors_alone_is_a_regression_and_stays_open(
    columns: dict[str, list[Any]], tmp_path: Path
) -> None:
    verdict = judge(log(tmp_path / "log.csv", columns))
    assert verdict.status == "undetermined"
    assert states(verdict) == {"r2 above predicting the mean": "undetermined", "r2": "undetermined"}
    assert all(criterion.reason for criterion in verdict.criteria)
    assert codes(verdict) == {"not-measured"}


def test_a_log_with_losses_alone_is_what_the_profile_says(tmp_path: Path) -> None:
    path = log(tmp_path / "log.csv", {"loss": FALLING, "val_loss": FALLING})
    assert "r2" in states(judge(path, profile="regression"))
    assert "accuracy" in states(judge(path))


def test_a_log_with_accuracy_and_mse_is_one_of_classes(tmp_path: Path) -> None:
    columns = {"loss": FALLING, "val_mse": FALLING, "val_accuracy": [0.5, 0.6, 0.7, 0.8]}
    assert "accuracy" in states(judge(log(tmp_path / "log.csv", columns), profile="regression"))


def test_an_error_threshold_on_a_log_shows_the_value_and_stays_open(tmp_path: Path) -> None:
    path = log(tmp_path / "log.csv", {"loss": FALLING, "val_mae": FALLING})
    verdict = judge(path, profile=Thresholds(mae=0.3))
    (criterion,) = (c for c in verdict.criteria if c.name == "mae")
    assert (criterion.value, criterion.state) == (0.4, "undetermined")
    assert "the number of samples is not known" in (criterion.reason or "")


def test_an_overfit_log_of_a_regression_is_not_ready(tmp_path: Path) -> None:
    rows = np.arange(30)
    columns = {
        "loss": (1.2 * np.exp(-rows / 8)).tolist(),
        "val_loss": (0.3 + np.exp(-rows / 8) + 0.04 * np.maximum(rows - 10, 0)).tolist(),
        "val_mae": (0.3 + np.exp(-rows / 8)).tolist(),
    }
    assert judge(log(tmp_path / "log.csv", columns)).status == "undetermined"
    columns["val_mae"] = columns["val_loss"]
    verdict = judge(log(tmp_path / "log.csv", columns))
    assert ("overfitting" in codes(verdict), verdict.status) == (True, "not ready")
