"""Runs of pixels and of tokens: judged by what they are about, and ready where that is good."""

from pathlib import Path

import pytest
import torch

import ptmetrics as pm


def run_of(folder: Path, shape: tuple[int, ...], classes: int, sure: float) -> Path:
    """Four epochs of 40 samples of that shape; `sure` is how far the right score stands out."""
    generator = torch.Generator().manual_seed(0)
    monitor = pm.Monitor(pm.MulticlassMetrics(classes), folder, progress=False)
    for number in range(4):
        for split in ("train", "val"):
            target = (torch.rand(40, *shape, generator=generator) ** 3 * classes).long()
            right = torch.nn.functional.one_hot(target, classes).movedim(-1, 1)
            noise = torch.randn(40, classes, *shape, generator=generator)
            logits = noise + sure * (number + 1) / 4 * right
            loss = torch.nn.functional.cross_entropy(logits, target)
            monitor.update(logits, target, loss=loss, split=split)
        monitor.end_epoch()
    monitor.close()
    return folder


@pytest.mark.parametrize(
    ("profile", "shape", "classes", "name"),
    [("pixels", (12, 12), 4, "mean_iou"), ("tokens", (25,), 300, "perplexity")],
)
def test_a_good_run_can_be_ready_and_a_bad_one_is_not(
    tmp_path: Path, profile: str, shape: tuple[int, ...], classes: int, name: str
) -> None:
    good = pm.judge(run_of(tmp_path / "good", shape, classes, 9.0), profile=profile)
    assert good.ready, good
    assert {item.name: item.state for item in good.criteria}[name] == "met"
    bad = pm.judge(run_of(tmp_path / "bad", shape, classes, 0.5), profile=profile)
    assert bad.status == "not ready"
    code = {"mean_iou": "low-overlap", "perplexity": "high-perplexity"}[name]
    assert code in {item.code for item in bad.findings}
    assert code not in {item.code for item in good.findings}


def test_a_profile_of_ones_own_may_ask_for_an_overlap(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "pixels"\ndice = 0.99\nmean_iou = false\n')
    verdict = pm.judge(run_of(tmp_path / "run", (12, 12), 4, 3.0), profile=path)
    states = {item.name: item.state for item in verdict.criteria}
    assert states["dice"] == "failed"
    assert "mean_iou" not in states


def test_a_run_without_such_a_score_is_left_open() -> None:
    scores = {"accuracy": {"value": 0.93, "low": 0.91, "high": 0.95, "n": 800}}
    verdict = pm.judge({"scores": scores}, profile="pixels", select=["low-overlap"])
    assert verdict.status == "undetermined"
    assert verdict.criteria[0].reason == "mean_iou was not recorded"


@pytest.mark.parametrize(
    ("shape", "classes", "profile"),
    [
        ((12, 12), 4, "pixels"),
        ((5, 6, 4), 3, "pixels"),
        ((25,), 300, "tokens"),
        ((25,), 9, "balanced"),  # tags of words
        ((), 300, "balanced"),
    ],
)
def test_where_no_profile_is_named_the_data_say_which_and_the_verdict_that(
    tmp_path: Path, shape: tuple[int, ...], classes: int, profile: str
) -> None:
    folder = run_of(tmp_path / "run", shape, classes, 9.0)
    verdict = pm.judge(folder)
    named = pm.judge(folder, profile=profile)
    assert (verdict.profile, verdict.status) == (profile, named.status)
    assert verdict.criteria == named.criteria
    told = [note for note in verdict.notes if "no profile was named" in note]
    assert len(told) == (profile != "balanced")
    assert all(profile in note for note in told)
    assert not any("no profile was named" in note for note in named.notes)


def test_a_profile_that_was_named_counts_whatever_the_data_are(tmp_path: Path) -> None:
    target = torch.randint(0, 3, (20, 8, 8))
    logits = 5.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1)
    with pm.Monitor(
        pm.MulticlassMetrics(3), tmp_path / "run", profile="balanced", progress=False
    ) as monitor:
        monitor.update(logits, target, split="val")
        monitor.end_epoch()
    assert pm.judge(tmp_path / "run").profile == "balanced"
    assert pm.judge(tmp_path / "run", profile="pixels").profile == "pixels"


def test_scores_alone_are_judged_by_their_data_too() -> None:
    target = torch.randint(0, 3, (20, 8, 8))
    metrics = pm.MulticlassMetrics(3)
    metrics.update(5.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1), target)
    scores = metrics.compute()
    assert scores.sample_axes == 2
    assert pm.judge(scores).profile == pm.judge(scores.to_dict()).profile == "pixels"
    other = pm.MulticlassMetrics(3)
    other.merge_state([metrics])
    assert pm.judge(other.compute()).profile == "pixels"
