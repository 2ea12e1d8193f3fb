"""The example of Accelerate counts each row once, plain and under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptmetrics.record.reader import Run, read_run

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "accelerate_example.py"


def done(folder: Path, launcher: list[str]) -> Run:
    """Two epochs of the example; what its record holds."""
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT.read_text().replace("range(8)", "range(2)"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder / "run")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return read_run(folder / "run")


@pytest.mark.slow
@pytest.mark.fault(9)
def test_the_example_counts_each_row_once_plain_and_under_torchrun(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone, two = done(tmp_path / "alone", []), done(tmp_path / "two", launcher)
    for run in (alone, two):
        assert run.faults == []
        assert [epoch["scores"]["val/accuracy"]["n"] for epoch in run.epochs] == [1001, 1001]
        assert [epoch["scores"]["train/accuracy"]["n"] for epoch in run.epochs] == [796, 796]
        assert run.kept(run.epochs[1]).rows is not None
        assert run.end is not None
        assert run.end["reason"] == "completed"
    assert two.epochs[0]["seen"]["val"]["padding_left_out"] > 0
    supports = [[sum(row) for row in run.epochs[0]["confusion"]["val"]] for run in (alone, two)]
    assert supports[0] == supports[1]


def test_the_example_knows_of_ptmetrics_in_four_lines_and_two_loaders() -> None:
    lines = SCRIPT.read_text().split('"""')[2].splitlines()
    ours = [line for line in lines if "# +" in line]
    assert len(ours) == 4
    others = [line.strip() for line in lines if "monitor" in line and line not in ours]
    assert others == [
        "for x, y in monitor.train(train_loader):",
        "for x, y in monitor.validate(val_loader):",
        "monitor.close()",
    ]
