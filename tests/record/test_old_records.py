"""docs/stability.md: a run that 0.1.0 recorded is read as it was told.

That a later schema is refused by its number is in test_reader.py.
"""

import re
from pathlib import Path

import pytest

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.record.codec import SCHEMA

OLD = Path(__file__).with_name("run_0_1_0")
TOLD = {
    "val/accuracy": 0.925,
    "val/f1/macro": 0.9249762583095915,
    "val/auroc/macro": 0.9934879934879935,
}
"""What 0.1.0 had in memory when it wrote that run."""


def test_a_run_of_the_first_version_has_the_scores_that_it_told() -> None:
    history = pm.read_history(OLD)
    assert {name: history[name][-1] for name in TOLD} == TOLD
    assert history.epoch == [0, 1]


def test_a_run_of_the_first_version_is_judged_compared_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pm.judge(OLD).status in {"ready", "undetermined"}
    compared = pm.compare(OLD, OLD)
    assert compared.final_difference is not None
    assert compared.final_difference.value == 0
    assert main(["report", str(OLD), "-o", str(tmp_path / "report.html")]) == 0
    assert "run_0_1_0" in (tmp_path / "report.html").read_text("utf-8")


def test_stability_tells_the_schema_that_is_written() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stability.md").read_text("utf-8")
    assert re.findall(r"schema version (\d+)", page) == [str(SCHEMA)]
