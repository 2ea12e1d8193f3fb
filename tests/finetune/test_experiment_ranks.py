"""The fine-tune under torchrun: one experiment of two processes, told and recorded by the first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptmetrics.record.events import AUDIT_NOTE
from ptmetrics.record.reader import read_run

ROOT = Path(__file__).parents[2]
CONFIG = """
run = "runs/tiny"
target = "val/accuracy>=0.2"
[task]
name = "digits"
image_size = 8
train_limit = 40
val_limit = 61
[source]
name = "glyphs"
train_limit = 60
val_limit = 47
[model]
name = "shufflenet_v2_x0_5"
[pretrain]
epochs = 1
[train]
epochs = 2
batch_size = 20
[arms.pretrained]
weights = "source-task"
freeze_epochs = 1
[arms.scratch]
"""


@pytest.mark.slow
@pytest.mark.fault(9)
def test_two_processes_of_torchrun_make_one_experiment(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "ptmetrics", "finetune", "tiny.toml", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["PTMETRICS_CACHE"] = str(tmp_path / "cache")
    done = subprocess.run(
        command,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)  # one process alone prints
    assert {"status", "criteria", "findings"} <= told["verdict"].keys()
    assert set(told["arms"]) == {"pretrained", "scratch"}
    assert told["comparison"] is not None
    assert done.stderr.count("leakage: ") == 1
    for folder in (tmp_path / told["run"]).glob("*/seed0"):
        run = read_run(folder)
        assert run.faults == []
        assert len(run.epochs) == 2
        for epoch in run.epochs:
            seen = epoch["seen"]
            assert epoch["scores"]["val/accuracy"]["n"] == 61
            assert seen["val"]["padding_left_out"] == 1
            assert (epoch["counts"]["train_samples"], epoch["counts"]["train_steps"]) == (40, 2)
            assert run.kept(epoch).rows is not None
        assert [note["code"] for note in run.notes].count(AUDIT_NOTE) == 1
        assert run.end is not None
        assert run.end["reason"] == "completed"
    assert len(list((tmp_path / told["run"]).glob("*/seed0"))) == 2
    assert len(list((tmp_path / "cache").glob("glyphs-*.pt"))) == 1
