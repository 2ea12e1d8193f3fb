"""The verdict on runs that other tools logged: curves count, and nothing is met without samples."""

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from judged_sources import codes, states

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.errors import RecordError
from ptmetrics.verdict.judge import judge

EPOCHS = np.arange(30)


TRAIN = 1.2 * np.exp(-EPOCHS / 8)


HEALTHY = 0.3 + np.exp(-EPOCHS / 8)


OVERFIT = HEALTHY + 0.04 * np.maximum(EPOCHS - 10, 0)


ACCURACY = 0.95 - 0.4 * np.exp(-EPOCHS / 8)


def lightning(path: Path, val: Sequence[float]) -> Path:
    lines = ["epoch,step,train_loss,val_acc,val_loss"]
    for i, loss in enumerate(val):
        lines += [f"{i},{100 * i + 99},,{ACCURACY[i]},{loss}", f"{i},{100 * i + 99},{TRAIN[i]},,"]
    path.write_text("\n".join(lines) + "\n")
    return path


def keras_csv(path: Path, val: Sequence[float]) -> Path:
    rows = [f"{i},{ACCURACY[i]},{TRAIN[i]},{ACCURACY[i]},{loss}" for i, loss in enumerate(val)]
    path.write_text("\n".join(["epoch,accuracy,loss,val_accuracy,val_loss", *rows]))
    return path


def keras_history(path: Path, val: Sequence[float]) -> Path:
    curves = {"loss": TRAIN, "val_loss": val, "val_accuracy": ACCURACY}
    path.write_text(json.dumps({name: list(curve) for name, curve in curves.items()}))
    return path


def trainer_state(path: Path, val: Sequence[float]) -> Path:
    history = []
    for i, loss in enumerate(val):
        history.append({"epoch": i + 1.0, "loss": TRAIN[i], "step": 100 * i + 100})
        history.append(
            {
                "epoch": i + 1.0,
                "eval_accuracy": ACCURACY[i],
                "eval_loss": loss,
                "step": 100 * i + 100,
            }
        )
    path.write_text(json.dumps({"log_history": history}))
    return path


def plain_csv(path: Path, val: Sequence[float]) -> Path:
    rows = [f"{TRAIN[i]},{loss},{ACCURACY[i]}" for i, loss in enumerate(val)]
    path.write_text("\n".join(["train/loss,val/loss,val/accuracy", *rows]))
    return path


FORMATS = [lightning, keras_csv, keras_history, trainer_state, plain_csv]


@pytest.mark.parametrize("write", FORMATS)
def test_a_healthy_log_is_undetermined_and_says_why(write, tmp_path: Path) -> None:
    verdict = judge(write(tmp_path / "log", HEALTHY))
    assert verdict.status == "undetermined"
    assert codes(verdict) == {"not-measured"}
    (finding,) = verdict.findings
    assert "the number of samples is not known" in finding.message
    assert "judge(…, n=1500)" in finding.advice
    accuracy = next(c for c in verdict.criteria if c.name == "accuracy")
    assert accuracy.value == pytest.approx(ACCURACY[-1])
    assert accuracy.reason == "the value has no interval: the number of samples is not known"
    assert set(states(verdict).values()) == {"undetermined"}
    notes = "\n".join(verdict.notes)
    assert "Judged epoch 30 of 30" in notes
    assert "values without their number of samples" in notes
    assert (
        "Not checked: missing-class, no-skill, accuracy-paradox, collapsed (no confusion matrix)."
        in notes
    )
    assert "training and validation accuracy with their intervals are needed" in notes
    assert "The run has no end" not in notes


@pytest.mark.parametrize("write", FORMATS)
def test_a_rising_loss_beside_a_rising_accuracy_is_seen_in_every_format(
    write, tmp_path: Path
) -> None:
    found = {f.code: f for f in judge(write(tmp_path / "log", OVERFIT)).findings}
    assert "overfitting" not in found
    assert "accuracy got better" in found["over-confident"].message


def test_an_overfit_log_whose_accuracy_falls_is_not_ready(tmp_path: Path) -> None:
    falling = ACCURACY - 0.01 * np.maximum(EPOCHS - 10, 0)
    rows = [f"{TRAIN[i]},{OVERFIT[i]},{falling[i]}" for i in EPOCHS]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["loss,val_loss,val_acc", *rows]))
    assert judge(path).status == "not ready"


def test_all_formats_of_one_run_get_the_same_verdict(tmp_path: Path) -> None:
    verdicts = [judge(write(tmp_path / f"log{i}", OVERFIT)) for i, write in enumerate(FORMATS)]
    assert len({json.dumps(verdict.to_dict()["findings"]) for verdict in verdicts}) == 1
    assert len({verdict.status for verdict in verdicts}) == 1


def test_divergence_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    losses = [1.0, 0.8, 0.6, *[5.0, 9.0, 20.0, 40.0, 80.0]]
    path.write_text(
        "\n".join(["epoch,loss,val_loss", *(f"{i},{x},{x}" for i, x in enumerate(losses))])
    )
    assert "diverged" in codes(judge(path))


@pytest.mark.parametrize("lost", ["nan", "inf", "-inf", "NaN"])
def test_a_loss_that_is_no_number_makes_the_run_invalid(lost: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"epoch,loss,val_loss\n0,0.5,0.6\n1,0.4,{lost}\n")
    verdict = judge(path)
    assert verdict.status == "invalid"
    assert "non-finite" in codes(verdict)


def test_a_log_without_validation_is_invalid_and_never_ready(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,accuracy\n0,0.5,0.99\n1,0.4,0.999\n")
    verdict = judge(path)
    assert verdict.status == "invalid"
    assert codes(verdict) == {"not-validated"}


def test_nothing_at_all_gets_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_loss\n")
    with pytest.raises(
        RecordError, match=r"expected at least one column of scores .* no line below them\. Name"
    ):
        judge(path)


def test_no_log_is_compared_by_times_that_it_does_not_hold(tmp_path: Path) -> None:
    path = keras_csv(tmp_path / "log.csv", HEALTHY)
    comparison = pm.compare(path, path, target="val/accuracy>=0.8")
    assert math.isnan(comparison.time_ratio.value)
    assert comparison.time_ratio.reason == "not every run recorded the time of its training"


@pytest.mark.parametrize("n", [None, 500])
def test_a_score_that_no_number_of_samples_gives_an_interval_asks_for_none(
    tmp_path: Path, n: int | None
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_miou,val_acc\n0,0.5,0.8,0.9\n1,0.4,0.93,0.95\n")
    verdict = judge(path, n=n, select=["low-overlap", "not-measured"])
    assert verdict.status == "undetermined"
    (finding,) = verdict.findings
    assert ("n=1500" in finding.advice) is (n is None)
    assert ("number of samples is not known" in finding.message) is (n is None)
    assert ("Record the run with a Monitor, which" in finding.advice) is (n is not None)
    healthy = judge(path, n=n, select=["low-accuracy"], profile="balanced")
    assert healthy.status == ("undetermined" if n is None else "ready")


def test_check_of_the_curves_alone_can_pass(tmp_path: Path) -> None:
    path = str(keras_csv(tmp_path / "log.csv", HEALTHY))
    assert (
        main(["check", path, "--select", "val-loss-rising,diverged,non-finite,not-validated"]) == 0
    )
    assert main(["check", path, "--select", "low-accuracy,diverged"]) == 3


def test_a_folder_of_another_tool_is_told_which_file_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lightning(tmp_path / "metrics.csv", HEALTHY)
    assert main(["check", str(tmp_path)]) == 2
    assert f"Did you mean {path}?" in capsys.readouterr().err


def test_report_of_a_log_shows_values_and_claims_no_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(trainer_state(tmp_path / "trainer_state.json", HEALTHY))]) == 0
    shown = capsys.readouterr().out
    assert "no interval, the number of samples is not known" in shown
    assert "ended: not told by the log" in shown
    assert "too many classes" not in shown


# StoredSamples files of Lightning, Hugging Face and Keras, and fresh ones where the library is installed


LOGS = Path(__file__).parent.parent / "record" / "logs"


NAMES = {
    "lightning": ["lightning_metrics.csv"],
    "transformers": ["hf_trainer_state.json"],
    "keras": ["keras_log.csv", "keras_history.json"],
}


TOOLS = {
    "lightning": "Lightning's CSVLogger",
    "transformers": "Hugging Face's Trainer",
    "keras": "Keras's",
}


KEPT = [(library, name) for library, names in NAMES.items() for name in names]


def assert_read_and_judged(path: Path, library: str, capsys: pytest.CaptureFixture[str]) -> None:
    history = pm.read_history(path)
    for name in ("train/loss", "val/loss", "val/accuracy"):
        assert len(history[name]) == 3
        assert all(map(math.isfinite, history[name])), name
    verdict = pm.judge(path)
    # Keras's model is right in 61 % of 64 rows, which its digits tell; n of the others is not told.
    status = {"keras": "not ready"}.get(library, "undetermined")
    assert verdict.status == status
    assert any(TOOLS[library] in note for note in verdict.notes)
    assert main(["check", str(path), "--json"]) == {"not ready": 1, "undetermined": 3}[status]
    assert json.loads(capsys.readouterr().out)["status"] == status


@pytest.mark.parametrize(("library", "name"), KEPT)
def test_a_log_that_the_library_wrote_is_read_and_judged(
    library: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_read_and_judged(LOGS / name, library, capsys)


def test_keras_writes_the_same_numbers_in_both_of_its_logs() -> None:
    csv, history = (pm.read_history(LOGS / name) for name in NAMES["keras"])
    assert {name: csv[name] for name in csv} == {name: history[name] for name in history}


def test_the_values_are_those_that_lightning_logged_at_the_end_of_the_first_epoch() -> None:
    history = pm.read_history(LOGS / NAMES["lightning"][0])
    assert history["val/accuracy"][0] == 0.84375
    assert history["train/loss"][0] == 0.49855589866638184


@pytest.mark.slow
@pytest.mark.parametrize("library", NAMES)
def test_a_log_that_the_installed_library_writes_now_is_read_and_judged(
    library: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed (tests/record/logs/README.md)")
    command = [sys.executable, str(LOGS / "write_logs.py"), str(tmp_path), library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in NAMES[library]:
        assert_read_and_judged(tmp_path / name, library, capsys)


def test_a_log_that_was_tested_alone_says_how_to_judge_that(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"{e},{1 - e / 10},{1.1 - e / 10},{0.5 + e / 10}" for e in range(4)]
    path.write_text("\n".join(["epoch,train_loss,test_loss,test_acc", *rows]))
    verdict = judge(path)
    assert verdict.status == "invalid"
    assert "judge(…, split='test')" in verdict.findings[0].message
    assert judge(path, split="test").status != "invalid"
    path.write_text("\n".join(["epoch,train_loss,train_acc", *(row[:7] for row in rows)]))
    assert "split" not in judge(path).findings[0].message
