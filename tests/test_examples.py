"""The drop-in example: four lines more than the plain script, and nothing else changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptmetrics.record.history import read_history

DROP_IN = Path(__file__).parents[1] / "examples" / "drop_in.py"
TELL_WEIGHTS = (
    "\nprint('weights', sum(float(p.double().abs().sum()) for p in model.parameters()).hex())\n"
)


def last_line(script: str, folder: Path, *arguments: str) -> str:
    path = folder / "script.py"
    path.write_text(script.replace("range(8)", "range(2)") + TELL_WEIGHTS)
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.fault(34)
def test_the_drop_in_is_four_lines_and_leaves_the_weights_bit_for_bit(tmp_path: Path) -> None:
    lines = DROP_IN.read_text().splitlines(keepends=True)
    added = [line for line in lines if line.rstrip().endswith("# +")]
    assert len(added) == 4
    assert not any("monitor" in line or "pm." in line for line in lines if line not in added)
    plain = "".join(line for line in lines if line not in added)
    with_us = last_line("".join(lines), tmp_path, str(tmp_path / "run"))
    assert with_us.startswith("weights ")
    assert with_us == last_line(plain, tmp_path)
    assert len(read_history(tmp_path / "run")["val/accuracy"]) == 2
