"""No worse than a baseline: three values by the interval of the difference, and nothing is said of other data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged_sources import GOOD, NAN, Recorded, codes, epoch, payload, score, states, written

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.errors import ConfigError
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import PROFILES, Thresholds

CODE = "worse-than-baseline"
MANY = np.array(GOOD) * 100


def of(right: int, n: int = 100_000, **more: Any) -> dict[str, Any]:
    return payload([[right, n - right], [n - right, right]], **more)


def held(verdict: Any) -> dict[str, str]:
    return {name: state for name, state in states(verdict).items() if name.endswith("baseline")}


@pytest.mark.parametrize(
    ("right", "state", "status"),
    [
        (98_000, "met", "ready"),
        (97_000, "met", "ready"),  # the same as the baseline
        (96_000, "undetermined", "undetermined"),  # the margin itself
        (94_000, "failed", "not ready"),
    ],
)
def test_the_interval_of_the_difference_decides(right: int, state: str, status: str) -> None:
    verdict = judge(of(right), baseline=of(97_000))
    assert set(held(verdict).values()) == {state}
    assert held(verdict).keys() == {
        "accuracy − baseline",
        "precision/macro − baseline",
        "recall/macro − baseline",
    }
    assert (verdict.status, CODE in codes(verdict)) == (status, state == "failed")


def test_a_worse_run_says_by_how_much_and_what_is_tolerated() -> None:
    verdict = judge(of(94_000), baseline=of(97_000), select=[CODE])
    first = verdict.findings[0]
    assert first.message.startswith(
        "accuracy is worse than the baseline's: 0.9400 against 0.9700, difference -0.0300 ["
    )
    assert first.message.endswith("tolerated is -0.01.")
    assert (first.evidence["run"], first.evidence["baseline"], first.evidence["n"]) == (
        0.94,
        0.97,
        200_000,
    )


def test_the_margin_is_the_profiles() -> None:
    loose = replace(PROFILES["balanced"].thresholds, margin=0.05)
    assert judge(of(94_000), baseline=of(97_000), profile=loose).status == "ready"


def test_few_samples_leave_it_open_and_say_how_many_would_do() -> None:
    verdict = judge(of(97, 100), baseline=of(96, 100), select=[CODE, "too-few-samples"])
    assert (verdict.status, set(held(verdict).values())) == ("undetermined", {"undetermined"})
    (finding,) = verdict.findings
    assert finding.evidence["needed_n"]["accuracy − baseline"] > 200


def test_without_a_baseline_nothing_is_said_and_a_selected_code_stays_open() -> None:
    assert not held(judge(of(97_000)))
    verdict = judge(of(97_000), select=[CODE])
    assert verdict.status == "undetermined"
    assert f"Not checked: {CODE} (no baseline was named)." in verdict.notes


@pytest.mark.parametrize("codes", [{"select": ["low-accuracy"]}, {"ignore": [CODE]}])
def test_a_baseline_that_would_not_be_looked_at_is_refused(codes: dict[str, list[str]]) -> None:
    message = rf"baseline: expected the code '{CODE}' among those that count, got it left out\. Select it, or leave"
    with pytest.raises(ConfigError, match=message):
        judge(of(97_000), baseline=of(97_000), **codes)


@pytest.mark.parametrize("missing", ["accuracy", "recall/macro"])
def test_a_score_that_the_baseline_lacks_leaves_it_open(missing: str) -> None:
    other = of(97_000)
    del other["scores"][missing]
    verdict = judge(of(97_000), baseline=other)
    (criterion,) = (c for c in verdict.criteria if c.name == f"{missing} − baseline")
    assert (criterion.state, criterion.reason) == ("undetermined", f"{missing} was not recorded")
    assert verdict.status == "undetermined"


def test_nan_in_the_baseline_is_never_met() -> None:
    other = of(50_000, confusion=None, per_class={})
    other["scores"]["accuracy"] = score(NAN, n=200_000, reason="no samples")
    assert held(judge(of(97_000), baseline=other))["accuracy − baseline"] == "undetermined"


def test_the_positive_class_is_held_against_the_baselines() -> None:
    verdict = judge(of(97_000), baseline=of(97_000), positive=0, profile="recall-first")
    assert held(verdict).keys() == {
        "precision of class '0' − baseline",
        "recall of class '0' − baseline",
    }


# Validated on different data


def run_on(fingerprint: str | None, samples: int = 200_000) -> Recorded:
    data = epoch(0, {}, matrix=MANY)
    data["counts"]["val_samples"] = samples
    return Recorded([data], {"val_fingerprint": fingerprint, "metrics": {"task": "multiclass"}})


@pytest.mark.parametrize(
    "other",
    [
        run_on("b"),
        run_on("a", samples=100_000),
        payload(np.diag([60_000] * 3)),
        {
            "task": "regression",
            "scores": {"r2": score(0.9, 0.89, 0.91, 200_000, "delta-log")},
            "n": 200_000,
        },
    ],
    ids=["fingerprint", "size", "classes", "regression"],
)
@pytest.mark.parametrize("select", [None, [CODE], [CODE, "different-validation"]])
def test_different_validation_data_are_refused_whatever_is_selected(
    other: Any, select: Any
) -> None:
    verdict = judge(run_on("a"), baseline=other, select=select)
    assert not held(verdict)
    assert verdict.status == ("undetermined" if select == [CODE] else "invalid")
    assert ("different-validation" in codes(verdict)) == (select != [CODE])
    assert any(note.startswith(f"Not checked: {CODE} (") for note in verdict.notes)


def test_data_of_unknown_identity_are_compared_and_told() -> None:
    same = judge(run_on("a"), baseline=run_on("a"))
    unknown = judge(run_on(None), baseline=run_on("a"))
    assert same.status == unknown.status == "ready"
    told = "Whether the run and its baseline saw the same validation data is not recorded."
    assert (told in same.notes, told in unknown.notes) == (False, True)
    assert (
        "Of the baseline: judged epoch 1 of 1, the last, as no best checkpoint is recorded."
        in same.notes
    )


@pytest.mark.parametrize("names", [["dog", "cat"], ["cat", "emu"]])
def test_other_classes_or_another_order_of_them_are_refused(names: list[str]) -> None:
    verdict = judge(of(97_000, class_names=["cat", "dog"]), baseline=of(97_000, class_names=names))
    assert verdict.status == "invalid"
    assert "their classes differ" in verdict.findings[0].message


def test_a_baseline_that_named_no_classes_may_be_held_against_one_that_did() -> None:
    assert judge(of(97_000, class_names=["cat", "dog"]), baseline=of(97_000)).status == "ready"
    assert judge(of(97_000, class_names=None), baseline=of(97_000)).status == "ready"


def test_a_baseline_that_left_bad_rows_out_leaves_it_open() -> None:
    fault = {"count": 3, "first_step": 2, "message": "3 rows hold a NaN prediction"}
    verdict = judge(of(97_000), baseline=of(90_000, faults={"nan-score": fault}))
    assert set(held(verdict).values()) == {"undetermined"}
    assert all(
        "less than all its data" in (c.reason or "")
        for c in verdict.criteria
        if "baseline" in c.name
    )


@pytest.mark.parametrize(("n", "status"), [(200_000, "ready"), (100_000, "invalid")])
def test_lone_evaluations_are_told_apart_by_their_number_of_samples(n: int, status: str) -> None:
    other = of(97_000) | {"n": n}
    assert judge(of(97_000), baseline=other).status == status


def test_an_evaluation_that_left_rows_out_is_still_held_against_a_run() -> None:
    assert judge(of(97_000) | {"n": 199_000}, baseline=run_on("a")).status == "ready"


# Numbers


def numbers(noise: float, n: int = 200_000) -> pm.Scores:
    generator = torch.Generator().manual_seed(0)
    target = 10 * torch.randn(n, generator=generator)
    metrics = pm.RegressionMetrics()
    metrics.update(target + noise * torch.randn(n, generator=generator), target)
    return metrics.compute()


@pytest.mark.parametrize(
    ("noise", "state"), [(1.9, "met"), (2.0, "met"), (2.1, "undetermined"), (2.3, "failed")]
)
def test_errors_may_grow_by_a_share_of_the_baselines(noise: float, state: str) -> None:
    limits = Thresholds(r2=None, rmse=5.0)
    verdict = judge(numbers(noise), baseline=numbers(2.0), profile=limits)
    assert held(verdict) == {"rmse − baseline": state}
    (criterion,) = (c for c in verdict.criteria if c.name == "rmse − baseline")
    assert criterion.threshold == pytest.approx(0.05 * 2.0, rel=0.01)


def test_r2_is_held_against_the_baselines() -> None:
    assert held(judge(numbers(5.0), baseline=numbers(2.0))) == {"r2 − baseline": "failed"}


# Files and the command


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs of 40,000 samples that are good, worse within the thresholds, and good on fewer."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, right, n in (("good", 19_400, 20_000), ("worse", 18_200, 20_000), ("few", 97, 100)):
        matrix = [[right, n - right], [n - right, right]]
        data = epoch(0, {}, matrix=matrix)
        data["counts"]["val_samples"] = 2 * n
        made[name] = str(written(folder / name, Recorded([data])))
    return made


def test_check_holds_runs_against_a_baseline(
    folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    good, worse = folders["good"], folders["worse"]
    assert main(["check", worse]) == 0
    assert main(["check", good, "--baseline", worse]) == 0
    assert main(["check", good, worse, "--baseline", good]) == 1
    capsys.readouterr()
    assert main(["check", worse, "--baseline", good]) == 1
    assert f"fail {CODE}: accuracy is worse than the baseline's" in capsys.readouterr().out
    assert main(["check", worse, "--baseline", good, "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["verdict"]["findings"]
    assert next(f["evidence"]["baseline"] for f in findings if f["code"] == CODE) == 0.97
    assert main(["check", worse, "--baseline", good, "--format", "github"]) == 1
    assert f"::error title={CODE} (" in capsys.readouterr().out


def test_a_run_validated_on_another_number_of_samples_is_no_baseline(
    folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", folders["good"], "--baseline", folders["few"]]) == 4
    words = "invalid different-validation: The run and its baseline cannot be compared"
    assert words in capsys.readouterr().out


def test_a_log_of_another_tool_as_baseline_leaves_it_open(
    folders: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,val_accuracy\n0,0.5,0.90\n1,0.4,0.95\n")
    verdict = judge(folders["good"], baseline=log)
    (criterion,) = (c for c in verdict.criteria if c.name == "accuracy − baseline")
    assert (round(criterion.value, 6), criterion.state) == (0.02, "undetermined")
    assert verdict.status == "undetermined"


def test_a_folder_with_several_runs_is_no_baseline(
    folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = folders["good"]
    assert main(["check", run, "--baseline", str(Path(run).parent)]) == 2
    words = "baseline: expected one run, got a folder with 3 runs. Name one of them, such as "
    assert words in capsys.readouterr().err


def test_a_class_that_was_never_predicted_is_the_reason() -> None:
    verdict = pm.judge_confusion([[90, 10, 0], [10, 90, 0], [10, 10, 0]], positive=2)
    (precision,) = (c for c in verdict.criteria if c.name.startswith("precision of"))
    assert (precision.state, precision.reason) == (
        "undetermined",
        "no sample is predicted as class '2'",
    )
    absent = pm.judge_confusion([[90, 10, 0], [10, 90, 0], [0, 0, 0]], positive=2)
    (recall,) = (c for c in absent.criteria if c.name.startswith("recall of"))
    assert recall.reason == "no sample is of class '2'"
