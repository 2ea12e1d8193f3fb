"""The report of a run: every split, evaluations beside the epochs, and what was contained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run
from ptmetrics.show.run import run_text
from ptmetrics.verdict.judge import judge


def labels(count: int, wrong: int) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.arange(count) % 3
    return torch.where(torch.arange(count) < wrong, (target + 1) % 3, target), target


def report(folder: Path) -> str:
    return run_text(read_run(folder), judge(folder))


def section(text: str, title: str) -> list[str]:
    """The lines below the title of a table, to the next empty one."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{title:20}  value"))
    return lines[start + 1 : lines.index("", start)]


@pytest.mark.parametrize("name", ["test", "train_eval", "val_b", "ema"])
def test_a_further_split_stands_under_its_own_name(tmp_path: Path, name: str) -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(3, inputs="labels"), run=tmp_path / "run")
    monitor.update(*labels(240, 24), split="val")
    monitor.update(*labels(150, 48), loss=0.75, split=name)
    monitor.end_epoch()
    monitor.close()
    lines = section(report(tmp_path / "run"), name)
    assert lines[0].split() == ["accuracy", "0.6800", "[0.6017,", "0.7494]", "150"]
    assert any(line.startswith("loss") and "0.7500" in line for line in lines)


def test_training_is_a_split_too_and_validation_stands_once(tmp_path: Path) -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(3, inputs="labels"), run=tmp_path / "run")
    for split, wrong in (("train", 30), ("val", 60)):
        monitor.update(*labels(300, wrong), split=split)
    monitor.end_epoch()
    monitor.close()
    text = report(tmp_path / "run")
    assert "0.9000" in section(text, "train")[0]
    assert text.count("  value   95 % interval") == 2


def test_a_split_whose_scores_are_the_users_own_is_shown_by_them(tmp_path: Path) -> None:
    margin = pm.Mean("margin", lambda preds, target: preds - target, higher_is_better=True)
    monitor = pm.Monitor(margin, run=tmp_path / "run")
    for split in ("val", "test"):
        monitor.update(torch.ones(50), torch.full((50,), 0.25), split=split)
    monitor.end_epoch()
    monitor.close()
    assert section(report(tmp_path / "run"), "test")[0].split()[:2] == ["margin", "0.7500"]


def run_with(folder: Path, *evaluations: dict[str, Any], faults: Any = ()) -> Path:
    """A run of one epoch, with lines behind it."""
    metrics = pm.MulticlassMetrics(3, inputs="labels")
    monitor = pm.Monitor(metrics, run=folder)
    monitor.update(*labels(240, 24), split="val")
    monitor.end_epoch()
    monitor.close()
    with Journal(folder, resume=True) as journal:
        for fault in faults:
            journal.append("fault", fault)
        for data in evaluations:
            journal.append("evaluation", data)
    return folder


def evaluation(why: str, split: str, rows: int, epoch: int = 1) -> dict[str, Any]:
    metrics = pm.MulticlassMetrics(3, inputs="labels")
    metrics.update(*labels(rows, rows // 4))
    scores = metrics.compute().to_dict()["scores"]
    data: dict[str, Any] = {"split": split, "epoch": epoch, "step": 12, "why": why}
    data["scores"] = {f"{split}/{name}": score for name, score in scores.items()}
    return data | {"counts": {f"{split}_samples": rows}}


@pytest.mark.parametrize(
    ("why", "words"), [("after-training", "after training"), ("test", "tested")]
)
def test_an_evaluation_behind_the_epochs_is_a_part_of_its_own(
    tmp_path: Path, why: str, words: str
) -> None:
    text = report(run_with(tmp_path / "run", evaluation(why, "test", 84)))
    assert f"{words}, split test" in text
    assert section(text, "test")[0].split() == ["accuracy", "0.7500", "[0.6479,", "0.8303]", "84"]
    assert "ended: completed" in text
    assert "cut off" not in text


def test_validations_within_epochs_are_counted_and_a_run_that_was_cut_off_is_not_complete(
    tmp_path: Path,
) -> None:
    several = [evaluation("several", "val", 60, epoch=1) for _ in range(3)]
    text = report(run_with(tmp_path / "run", *several))
    assert "validated 3 more times within epochs" in text
    assert "ended: not yet, or it was cut off" in text
    plain = report(run_with(tmp_path / "plain"))
    assert "more times" not in plain


def test_a_kind_of_fault_is_one_line_with_the_number_that_was_seen(tmp_path: Path) -> None:
    faults = []
    for kind in range(7):
        base = {"where": "update", "message": f"kind {kind}", "epoch": 0, "step": 0}
        faults += [{**base, "count": count} for count in (1, 10, 31 + kind)]
    text = report(run_with(tmp_path / "run", faults=faults))
    assert text.count("fault in update") == 5
    assert "fault in update, 31 ×: kind 0" in text
    assert "2 more kinds of fault, 73 ×" in text
    assert "fault in" not in report(run_with(tmp_path / "plain"))


def test_the_report_as_json_holds_the_evaluations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_with(tmp_path / "run", evaluation("test", "test", 84))
    assert main(["report", str(folder), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    (tested,) = told["evaluations"]
    assert (tested["why"], tested["scores"]["test/accuracy"]["n"]) == ("test", 84)
