"""What judge, compare and advise_threshold take: each thing that tells of a run, alike."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DataError
from tests.verdict.judged_sources import accuracies, payload


def trained(run: Path | None, pace: float = 1.0, seed: int = 0) -> pm.Monitor:
    """Six epochs of a binary task that get better."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(800) % 2
    monitor = pm.Monitor(pm.BinaryMetrics(), run, progress=False)
    for number in range(6):
        right = (2 * target - 1) * min(3.0, pace * (number + 1))
        preds = right + torch.randn(800, generator=generator)
        for split in ("train", "val"):
            monitor.update(preds, target, loss=1 / (number + 1), split=split)
        monitor.end_epoch()
    monitor.close()
    return monitor


def test_a_folder_its_monitor_and_its_history_are_judged_alike(tmp_path: Path) -> None:
    monitor = trained(tmp_path / "run")
    wanted = pm.judge(tmp_path / "run").to_dict()
    assert pm.judge(monitor).to_dict() == wanted
    assert pm.judge(monitor.history).to_dict() == wanted
    assert pm.judge(pm.read_history(tmp_path / "run")).to_dict() == wanted


def test_a_monitor_without_a_folder_is_judged_by_its_last_epoch_and_its_curves(
    tmp_path: Path,
) -> None:
    recorded = pm.judge(trained(tmp_path / "run"))
    in_memory = pm.judge(trained(None))
    assert in_memory.criteria == recorded.criteria
    assert [f.code for f in in_memory.findings] == [f.code for f in recorded.findings]


def test_a_monitor_that_has_closed_no_epoch_is_invalid() -> None:
    verdict = pm.judge(pm.Monitor(pm.BinaryMetrics(), progress=False))
    assert (verdict.status, verdict.ready) == ("invalid", False)


def test_the_scores_of_an_epoch_are_judged_with_their_task() -> None:
    monitor = trained(None)
    verdict = pm.judge(monitor.scores)
    assert verdict.status == "ready"
    assert "precision of class '1'" in {criterion.name for criterion in verdict.criteria}


@pytest.mark.parametrize("wrong", [3, None, object(), []])
def test_what_tells_of_no_scores_is_refused(wrong: Any) -> None:
    with pytest.raises(DataError, match="source: expected "):
        pm.judge(wrong)


def test_monitors_and_histories_are_compared_as_their_folders(tmp_path: Path) -> None:
    monitors = [trained(tmp_path / str(pace), pace) for pace in (1.0, 0.3)]
    options = {"target": "val/accuracy>=0.8", "hold": 1}
    wanted = pm.compare(tmp_path / "1.0", tmp_path / "0.3", **options).to_dict()
    assert pm.compare(*monitors, **options).to_dict() == wanted
    assert pm.compare(*(one.history for one in monitors), **options).to_dict() == wanted


def test_scores_alone_tell_of_no_training() -> None:
    scores = trained(None).scores
    with pytest.raises(DataError, match=r"first: expected a run.* scores alone tell of no trai"):
        pm.compare(scores, scores)


@pytest.mark.parametrize("of", ["epoch", "monitor", "folder"])
def test_a_threshold_is_advised_from_what_carries_a_curve(tmp_path: Path, of: str) -> None:
    monitor = trained(tmp_path / "run", 0.2)
    source: Any = {"epoch": monitor.scores, "monitor": monitor, "folder": tmp_path / "run"}[of]
    wanted = pm.advise_threshold(monitor.scores.splits["val"], recall_at_least=0.9)
    got = pm.advise_threshold(source, recall_at_least=0.9)
    assert (got.certified, wanted.certified) == (True, True)
    assert got.threshold == pytest.approx(wanted.threshold, abs=0.05)
    assert got.threshold <= wanted.threshold  # a record keeps 200 of the thresholds


@pytest.mark.parametrize("wrong", [3, None, {"a": 1}, pm.judge])
def test_what_carries_no_curve_is_refused_with_the_cure(wrong: Any) -> None:
    with pytest.raises(DataError, match=r"keeps its curves, got .*\. Pass metrics\.compute\(\)"):
        pm.advise_threshold(wrong, beta=1)


def test_a_run_without_curves_gives_no_advice(tmp_path: Path) -> None:
    monitor = pm.Monitor(pm.RegressionMetrics(), tmp_path / "run", progress=False)
    monitor.update(torch.randn(8), torch.randn(8), split="val")
    monitor.end_epoch()
    monitor.close()
    with pytest.raises(DataError, match="a record that keeps the curve of validation"):
        pm.advise_threshold(tmp_path / "run", beta=1)


# A verdict is no truth value


def test_a_verdict_is_asked_whether_it_is_ready() -> None:
    for matrix, ready in (([[970, 30], [30, 970]], True), ([[600, 400], [450, 550]], False)):
        verdict = pm.judge_confusion(matrix)
        assert verdict.ready is ready
        with pytest.raises(ConfigError, match=r"Ask verdict\.ready"):
            bool(verdict)
        assert repr(verdict).startswith(f"Verdict({verdict.status!r}, profile='balanced', ")
        assert len(repr(verdict)) < 300
        assert verdict.status in verdict._repr_html_()


# Which epoch, which split


def test_an_epoch_is_asked_for_by_its_number_from_0(tmp_path: Path) -> None:
    trained(tmp_path / "run", 0.2)
    values = pm.read_history(tmp_path / "run")["val/accuracy"]
    for wanted, row in ((0, 0), (3, 3), ("last", 5), ("best", values.index(max(values)))):
        verdict = pm.judge(tmp_path / "run", epoch=wanted)
        (accuracy,) = [item for item in verdict.criteria if item.name == "accuracy"]
        assert accuracy.value == values[row]
        assert f"Judged epoch {row + 1} of 6, as asked for." in verdict.notes
    for wrong in (6, -1, True, "first"):
        with pytest.raises(ConfigError, match='epoch: expected "best", "last" or a number'):
            pm.judge(tmp_path / "run", epoch=wrong)
    with pytest.raises(ConfigError, match="a run to choose from, got scores alone"):
        pm.judge(payload([[9, 1], [1, 9]]), epoch=0)


# Several runs together


def test_several_runs_are_judged_by_their_mean_and_spread(tmp_path: Path) -> None:
    folders = [tmp_path / f"seed{seed}" for seed in range(3)]
    for seed, folder in enumerate(folders):
        trained(folder, seed=seed)
    verdict = pm.judge(folders)
    each = [pm.read_history(folder)["val/accuracy"][-1] for folder in folders]
    (accuracy,) = [item for item in verdict.criteria if item.name == "accuracy"]
    assert accuracy.value == pytest.approx(sum(each) / 3)
    alone = [
        item.low for one in folders for item in pm.judge(one).criteria if item.name == "accuracy"
    ]
    assert accuracy.low < sum(alone) / 3  # it covers the spread over seeds as well
    assert verdict.status == "ready"
    assert "Each alone: seed0 ready, seed1 ready, seed2 ready." in verdict.notes[0]
    assert pm.judge(folders[:1]).to_dict() == pm.judge(folders[0]).to_dict()


def test_seeds_that_spread_decide_nothing_and_say_how_many_would() -> None:
    sources = []
    for right in (400, 495, 450):
        sources.append(payload([[right, 500 - right], [500 - right, right]]))
    verdict = pm.judge(sources)
    assert verdict.status == "undetermined"
    (finding,) = [item for item in verdict.findings if item.code == "too-few-samples"]
    assert "over 3 runs" in finding.message
    assert "Train more seeds" in finding.advice
    assert "run 1 not ready" in verdict.notes[0]


def test_what_one_of_several_runs_has_is_told_with_its_name() -> None:
    bad = payload(
        [[960, 40], [40, 960]],
        faults={"nan-score": {"count": 3, "first_step": 0, "message": "3 rows"}},
    )
    verdict = pm.judge([payload([[960, 40], [40, 960]]), bad])
    (finding,) = [item for item in verdict.findings if item.code == "metric-faults"]
    assert finding.message.startswith("In 1 of 2 runs (run 2): ")
    assert finding.evidence["runs"] == ["run 2"]


def test_a_mean_that_fails_fails_though_one_run_is_good() -> None:
    runs = [accuracies([0.5, value]) for value in (0.60, 0.61, 0.62)]
    assert pm.judge(runs, select=["low-accuracy"]).status == "not ready"
