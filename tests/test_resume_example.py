"""The documented script: killed at several places and started again, it is the run that was not killed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ptmetrics as pm
from ptmetrics.record.reader import read_run

SCRIPT = Path(__file__).parents[1] / "examples" / "resume.py"
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
STEP = "        optimizer.step()\n"
EPOCHS = 6


def start(folder: Path, script: str) -> int:
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-W", "error", str(path), str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def left(folder: Path) -> tuple[list[dict[str, str]], dict[str, list[float]]]:
    """Scores of each epoch to 9 digits, and the weights, exactly.

    Small batches are counted together. Which of them are depends on where the process began, and
    with it which rows a vector register holds: the exponentials of a row may differ in the last bit
    of float32, by the processor.
    """
    history = pm.read_history(folder / "run")
    assert history.epoch == list(range(EPOCHS))
    scores = [
        {name: f"{row[name]:.9g}" for name in row if name.startswith(("train/", "val/"))}
        for row in (history[index] for index in range(EPOCHS))
    ]
    last = torch.load(folder / "run" / "checkpoints" / "last.pt", weights_only=True)
    weights = {name: tensor.double().flatten().tolist() for name, tensor in last["model"].items()}
    return scores, weights


def killed_at(epoch: int, step: int) -> str:
    """The script, killed in the middle of an epoch."""
    source = SCRIPT.read_text()
    assert STEP in source
    condition = f"epoch == {epoch} and rows[0] == order[{30 * step}]"
    return source.replace(STEP, f"{STEP}        if {condition}:\n            {KILL}\n")


@pytest.mark.slow
@pytest.mark.fault(41)
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_script_that_is_killed_and_started_again_equals_one_that_is_not(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert start(whole, SCRIPT.read_text()) == 0
    again = tmp_path / "again"
    again.mkdir()
    for place in ((0, 4), (2, 7)):  # before there is a last.pt, and in the middle
        assert start(again, killed_at(*place)) == -9
    saving = SCRIPT.read_text().replace(
        "for epoch in",
        f"import os\nsave = torch.save\ndef kill(*args):\n    save(*args)\n    if monitor.epoch == 4:\n"
        f"        {KILL}\ntorch.save = kill\nfor epoch in",
    )
    assert start(again, saving) == -9  # behind the epoch's line, before its last.pt
    assert list((again / "run" / "checkpoints").glob(".tmp-*"))
    assert start(again, SCRIPT.read_text()) == 0
    assert left(again) == left(whole)
    run = read_run(again / "run")
    assert (run.attempts, run.problems) == (4, [])
    assert [epoch["epoch"] for epoch in run.superseded] == [3]
    assert not list((again / "run").rglob(".tmp-*"))
