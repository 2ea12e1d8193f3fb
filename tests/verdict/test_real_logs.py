"""Logs that Lightning, Hugging Face and Keras wrote: kept files, and fresh ones where the library is installed."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

import ptmetrics as pm
from ptmetrics.cli import main

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
    assert verdict.status == "undetermined"  # a log holds no number of samples
    assert any(TOOLS[library] in note for note in verdict.notes)
    assert main(["check", str(path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["status"] == "undetermined"


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
