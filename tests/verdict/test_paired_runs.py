"""Run folders that a Monitor wrote are compared sample by sample, and the losses of their samples are looked at."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept_runs import class_rows

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.record.samples import Kept
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rising_loss import rising_loss
from ptmetrics.verdict.sources import evidence_of_run
from tests.studies.synthetic import Keeping, loss_run

N = 400


def write(
    path: Path, sharpness: Sequence[float], *, shuffled: bool = False, **options: Any
) -> Path:
    """A run that gets better; the samples are hard for every run alike."""
    generator = torch.Generator().manual_seed(7)
    target = torch.randint(0, 3, (N,), generator=generator)
    hard = torch.randn(N, 3, generator=generator)
    order = (
        torch.randperm(N, generator=torch.Generator().manual_seed(1))
        if shuffled
        else torch.arange(N)
    )
    with pm.Monitor(
        pm.MulticlassMetrics(3), path, progress=False, on_fault="raise", **options
    ) as monitor:
        for sharp in sharpness:
            logits = hard + sharp * torch.nn.functional.one_hot(target, 3)
            for part in order.split(150):
                loss = torch.nn.functional.cross_entropy(logits[part], target[part])
                monitor.update(logits[part], target[part], loss=loss, split="train")
                monitor.update(logits[part], target[part], loss=loss, split="val")
            monitor.end_epoch()
    return path


def test_two_runs_of_monitors_are_paired_in_every_score(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", [1, 2, 3]), write(tmp_path / "b", [1, 1.5, 2.5])
    for metric in ("accuracy", "f1/macro", "mcc", "kappa", "precision/weighted", "nll", "loss"):
        told = pm.compare(first, second, metric=f"val/{metric}", hold=1).final_difference
        assert told.paired, (metric, told.unpaired)
        runs = [pm.read_history(run)[f"val/{metric}"][-1] for run in (first, second)]
        assert told.value == pytest.approx(runs[0] - runs[1], rel=1e-5)
    assert pm.compare(first, second).same_validation is True
    told = pm.compare(first, second, metric="val/ece", hold=1).final_difference
    assert told.unpaired == "there is no paired test for ece"


def test_a_shuffled_validation_is_not_paired(tmp_path: Path) -> None:
    comparison = pm.compare(
        write(tmp_path / "a", [1, 2]), write(tmp_path / "b", [1, 2], shuffled=True)
    )
    assert "another order" in str(comparison.final_difference.unpaired)
    assert comparison.same_validation is None


@pytest.mark.fault(43)
def test_a_baseline_that_is_not_paired_is_said_to_be_and_why(tmp_path: Path) -> None:
    ordered, other = write(tmp_path / "ordered", [1, 2, 3]), write(tmp_path / "other", [1, 2, 2.5])
    shuffled = write(tmp_path / "shuffled", [1, 2, 3], shuffled=True)
    words = "takes the two as independent, which is too wide: "
    (note,) = (note for note in pm.judge(shuffled, baseline=ordered).notes if words in note)
    assert note.startswith("The difference to the baseline ")
    assert note.endswith("their samples came in another order, so validate without shuffling.")
    assert not any(words in note for note in pm.judge(other, baseline=ordered).notes)


def test_a_file_that_was_tampered_with_is_refused_and_the_comparison_goes_on(
    tmp_path: Path,
) -> None:
    first, second = write(tmp_path / "a", [1, 2, 3]), write(tmp_path / "b", [1, 2, 2.5])
    (first / "samples-2.npy").write_bytes(b"\x80\x04cos\nsystem\n")
    comparison = pm.compare(first, second)
    assert comparison.final_difference.method == "newcombe, unpaired"
    assert any("samples-2.npy was refused: is torn, altered" in note for note in comparison.notes)
    assert pm.judge(first).status == pm.judge(second).status


def test_the_command_prints_it_and_puts_it_into_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        str(write(tmp_path / name, s)) for name, s in (("a", [1, 2, 3]), ("b", [1, 2, 2.5]))
    )
    assert main(["compare", first, second]) == 0
    assert f"n = {N}, bonett-price, paired)" in capsys.readouterr().out
    assert main(["compare", first, second, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["final_difference"]
    assert told["paired"] is True
    assert set(told) == {"value", "low", "high", "n", "method", "reason", "p", "paired", "unpaired"}


# Is a rise of the validation loss one of the samples at large?


def rising(last: np.ndarray, epochs: int = 5) -> Keeping:
    """Losses 0.8, 0.5, …, with samples of mean 0.5 at the best epoch, and these at the end."""
    base = np.full(last.size, 0.5)
    rise = np.linspace(0.5, last.mean(), epochs - 1)
    val = np.concatenate([[0.8], rise])
    run = loss_run(val, np.linspace(1.0, 0.1, epochs))
    target = np.arange(last.size) % 2
    samples = {
        1: Kept(class_rows(target, target, base)),
        epochs - 1: Kept(class_rows(target, target, last)),
    }
    return Keeping(run.epochs, samples=samples)


def codes(run: Keeping) -> set[str]:
    return {item.code for item in pm.judge(run, select=["overfitting", "val-loss-rising"]).findings}


def test_a_rise_that_few_samples_make_is_no_overfitting() -> None:
    one = np.full(50, 0.5)
    one[7] = 15.5  # the mean is 0.8
    assert codes(rising(one)) == set()
    assert codes(rising(np.full(50, 0.8) + 0.1 * np.sin(np.arange(50)))) == {"overfitting"}
    without = rising(one)
    assert codes(Keeping(without.epochs)) == {"overfitting"}  # nothing but the curve is known


def test_a_long_run_needs_it_too() -> None:
    one = np.full(50, 0.5)
    one[7] = 15.5
    assert codes(rising(one, epochs=20)) == set()
    assert codes(rising(np.full(50, 0.8), epochs=20)) == {"overfitting"}


def test_below_ten_epochs_the_samples_decide_where_no_trend_can() -> None:
    last = 0.58 + 0.2 * np.sin(np.arange(500))
    run = rising(last + 0.58 - last.mean(), epochs=5)
    assert codes(run) == {"overfitting"}
    assert codes(Keeping(run.epochs)) == set()
    (finding,) = pm.judge(run, select=["overfitting"]).findings
    assert "on the same 500 samples it grew by 0.08, at least 0.0" in finding.message
    assert finding.evidence["paired"]["n"] == 500
    assert (
        finding.evidence["paired"]["low"]
        < finding.evidence["paired"]["value"]
        == pytest.approx(0.08)
    )


def test_the_bound_is_of_students_kind_by_hand() -> None:
    last = np.array([0.5, 0.6, 0.7, 0.8])
    change = evidence_of_run(rising(last)).loss_change
    assert change.value == pytest.approx(0.15)
    assert change.low == pytest.approx(0.15 - 1.6448536269514722 * 0.12909944487358055 / 2)


def test_another_loss_than_that_of_the_samples_leaves_the_curve_alone_to_speak() -> None:
    run = rising(np.full(50, 0.8))
    odd = Keeping(
        run.epochs, samples=run.samples | {4: Kept(class_rows(np.arange(50) % 2, 0, 0.5))}
    )
    change = evidence_of_run(odd).loss_change
    assert not change.bounded
    assert change.reason == "the recorded loss is not the mean of the kept ones"
    assert codes(odd) == {"overfitting"}


def test_a_rise_that_is_not_known_to_be_one_of_all_samples_changes_no_older_answer() -> None:
    val, train = np.array([0.8, 0.5, 0.55, 0.7, 0.9]), np.linspace(1, 0.1, 5)
    assert rising_loss(val, train, Thresholds()) is not None
