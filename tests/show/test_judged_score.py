"""What a run is judged by leads wherever it is shown: console, list, text and page."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ptmetrics as pm
from ptmetrics.record.reader import read_run
from ptmetrics.show.report import RunPage
from ptmetrics.show.run import run_text
from ptmetrics.show.run_state import state_at
from ptmetrics.show.tables import judged_score
from ptmetrics.verdict.finding import Estimate, decide

TARGET = torch.arange(60) % 3
BLOCKS = TARGET.view(10, 6)
RUNS: dict[str, tuple[Any, Any, Any, str | None]] = {
    "accuracy": (pm.MulticlassMetrics(3), torch.randn(60, 3), TARGET, None),
    "mean_iou": (pm.MulticlassMetrics(3), torch.randn(10, 3, 6), BLOCKS, "pixels"),
    "perplexity": (pm.MulticlassMetrics(3), torch.randn(10, 3, 6), BLOCKS, "tokens"),
    "recall": (pm.BinaryMetrics(), torch.randn(60), TARGET % 2, "recall-first"),
    "recall/macro": (pm.MulticlassMetrics(3), torch.randn(60, 3), TARGET, "recall-first"),
    "precision": (pm.BinaryMetrics(), torch.randn(60), TARGET % 2, "precision-first"),
    "r2": (pm.RegressionMetrics(), torch.randn(60), TARGET.float(), None),
    "f1/micro": (pm.MultilabelMetrics(3), torch.randn(60, 3), torch.eye(3)[TARGET], None),
}


@pytest.mark.parametrize("score", RUNS)
def test_the_judged_score_leads_on_the_console_in_the_list_and_on_the_page(
    score: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, preds, target, profile = RUNS[score]
    metrics.reset()
    with pm.Monitor(metrics, tmp_path / "run", profile=profile, progress="plain") as monitor:
        monitor.update(preds, target, split="val")
        monitor.end_epoch()
    head = capsys.readouterr().err.splitlines()[0]
    assert head.split()[:2] == ["epoch", f"val/{score}"]
    assert state_at(tmp_path / "run").score == f"val/{score}"
    run = read_run(tmp_path / "run")
    page = RunPage(1, run, pm.judge(run), "val", several=False)
    if score != "f1/micro":  # of several labels nothing is judged before the rest
        assert page.lead == score
        assert next(iter(page.headlines)) == score


def test_a_run_that_validates_later_leads_with_validation_from_then_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pm.Monitor(pm.MulticlassMetrics(3), progress="plain") as monitor:
        for splits in (["train"], ["train", "val"]):
            for split in splits:
                monitor.update(torch.eye(3)[TARGET], TARGET, loss=0.5, split=split)
            monitor.end_epoch()
    lines = capsys.readouterr().err.splitlines()
    assert "train/accuracy" in lines[0]
    assert "val/accuracy" in lines[2]
    assert "0.5000 *" in lines[1]
    assert lines[3].split()[1:3] == ["0.5000", "0.5000"], "what was best before still is"


def test_of_precision_and_recall_the_one_that_more_is_asked_of_is_judged_first() -> None:
    def held(recall: float, precision: float) -> list[Any]:
        wanted = {"recall": recall, "precision": precision}
        return [
            decide(f"{name} of class 'ill'", Estimate(0.7, 0.6, 0.8, 50), level, code=f"low-{name}")
            for name, level in wanted.items()
        ]

    assert judged_score(held(0.9, 0.5), ["precision", "recall"]) == "recall"
    assert judged_score(held(0.5, 0.9), ["precision/macro", "recall/macro"]) == "precision/macro"
    assert judged_score(held(0.8, 0.8), ["precision", "recall"]) is None
    assert judged_score(held(0.9, 0.5)[:1], ["recall"]) == "recall"
    assert judged_score(held(0.9, 0.5), ["mine"]) is None
    assert judged_score([], ["accuracy"]) is None


def margin(preds: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return preds.amax(1) - preds.mean(1)


FURTHER: dict[str, tuple[Any, set[str]]] = {
    "a mean": (
        [pm.MulticlassMetrics(3), pm.Mean("margin", margin, higher_is_better=True)],
        {"margin"},
    ),
    "an output": (
        {"": pm.MulticlassMetrics(3), "size": pm.RegressionMetrics()},
        {"size/r2", "size/mae", "size/rmse"},
    ),
    "its mean": (
        {
            "": pm.MulticlassMetrics(3),
            "size": pm.Mean("gap", lambda p, t: (p - t).abs(), higher_is_better=False),
        },
        {"size/gap"},
    ),
    "neither": (pm.MulticlassMetrics(3), set()),
}


@pytest.mark.parametrize("kind", FURTHER)
def test_what_further_metrics_and_outputs_scored_is_shown_beside_the_headlines(
    kind: str, tmp_path: Path
) -> None:
    metrics, wanted = FURTHER[kind]
    preds: Any = torch.randn(60, 3)
    target: Any = TARGET
    if isinstance(metrics, dict):
        preds = {"": preds, "size": torch.randn(60)}
        target = {"": target, "size": TARGET.float()}
    with pm.Monitor(metrics, tmp_path / "run", progress=False) as monitor:
        monitor.update(preds, target, split="val")
        monitor.end_epoch()
    run = read_run(tmp_path / "run")
    headlines = RunPage(1, run, pm.judge(run), "val", several=False).headlines
    text = run_text(run, pm.judge(run))
    lines = {line.split()[0] for line in text.splitlines() if line.strip()}
    for shown in (set(headlines), lines):
        assert wanted <= shown
        assert "accuracy" in shown
    others = {name for name in headlines if name.startswith(("size/", "margin"))}
    assert bool(others) is bool(wanted)
