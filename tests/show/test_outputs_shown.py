"""Runs of several outputs show each of them; refused rows are not told as a validation that is missing."""

from pathlib import Path

import pytest
import torch

import ptmetrics as pm
from ptmetrics.record.reader import read_run
from ptmetrics.show.paint import plain
from ptmetrics.show.tables import score_lines
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.pages import PAGES


def recorded(run: Path, metrics: pm.Metrics, preds: torch.Tensor, target: torch.Tensor) -> Path:
    monitor = pm.Monitor(metrics, run=str(run), progress=False)
    for split in ("train", "val"):
        monitor.update(preds, target, split=split)
    monitor.end_epoch()
    monitor.close()
    return run


def numbers(columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.randn(60, columns, generator=torch.Generator().manual_seed(0))
    return target + torch.arange(columns), target  # each output is further off than the one before


def test_each_output_of_a_regression_has_its_line_and_its_section(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    metrics = pm.RegressionMetrics(num_outputs=2, names=["near", "far"])
    run = recorded(tmp_path / "two", metrics, *numbers(2))
    text = plain.join(score_lines(read_run(run).epochs[-1], "val"))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["output"] == ["r2", "mae", "rmse", "bias", "n"]
    assert rows["near"] == ["1.0000", "0.0000", "0.0000", "0.0000", "60"]
    assert rows["far"][1:] == ["1.0000", "1.0000", "1.0000", "60"]
    page = pm.report(run, tmp_path / "two.html").read_text(encoding="utf-8")
    assert "Scores of each output" in page
    assert ">Classes</h" not in page


def test_one_output_and_classes_have_no_section_of_outputs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    preds, target = numbers(1)
    one = recorded(tmp_path / "one", pm.RegressionMetrics(), preds, target)
    labels = torch.arange(60) % 3
    three = recorded(tmp_path / "three", pm.MulticlassMetrics(3), torch.eye(3)[labels], labels)
    for run, classes in ((one, False), (three, True)):
        page = pm.report(run, run.with_suffix(".html")).read_text(encoding="utf-8")
        assert "Scores of each output" not in page
        assert (">Classes</h" in page) == classes


def test_a_validation_whose_rows_were_all_refused_is_not_told_to_validate(tmp_path: Path) -> None:
    labels = torch.arange(60) % 3
    preds = torch.full((60, 3), float("nan"))
    run = recorded(tmp_path / "nan", pm.MulticlassMetrics(3), preds, labels)
    for ignored in ([], ["non-finite"], ["non-finite", "metric-faults"]):
        refused = judge(run, ignore=ignored)
        assert refused.status == "invalid", ignored
        found = {finding.code: finding for finding in refused.findings}
        assert "refused" in found["not-validated"].message
        assert found["not-validated"].advice == PAGES["non-finite"].advice


def test_where_no_row_came_the_advice_is_to_validate(tmp_path: Path) -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(3), run=str(tmp_path / "none"), progress=False)
    labels = torch.arange(60) % 3
    monitor.update(torch.eye(3)[labels], labels, split="train")
    monitor.end_epoch()
    monitor.close()
    found = {finding.code: finding for finding in judge(tmp_path / "none").findings}
    assert found["not-validated"].advice == PAGES["not-validated"].advice
