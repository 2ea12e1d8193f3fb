"""The example of several ranks: four lines more, two loaders wrapped, and one run of all ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptmetrics.record.reader import read_run

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "ddp.py"


def test_the_example_knows_of_ptmetrics_in_four_lines_and_two_loaders() -> None:
    lines = SCRIPT.read_text().split('"""')[2].splitlines()
    ours = [line for line in lines if line.endswith("# +")]
    assert len(ours) == 4
    others = [line.strip() for line in lines if "monitor" in line and line not in ours]
    assert others == [
        "for x, y in monitor.train(train_loader):",
        "for x, y in monitor.validate(val_loader):",
    ]


@pytest.mark.slow
@pytest.mark.fault(9)
def test_two_processes_of_torchrun_make_one_run(tmp_path: Path) -> None:
    script = tmp_path / "ddp.py"
    script.write_text(SCRIPT.read_text().replace("range(8)", "range(2)"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    assert [epoch["scores"]["val/accuracy"]["n"] for epoch in run.epochs] == [1001, 1001]
    assert run.epochs[0]["scores"]["train/accuracy"]["n"] == 796
    assert run.epochs[0]["seen"]["val"]["padding_left_out"] == 1
    assert run.faults == []
