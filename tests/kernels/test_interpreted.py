"""Kernels count what the tensor operations count: shown on the CPU, in a process where Triton interprets."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
@pytest.mark.slow
@pytest.mark.parametrize("part", ["not slow", "slow"])
@pytest.mark.parametrize("file", ["in_interpreter.py", "yes_no_in_interpreter.py"])
def test_kernels_in_the_interpreter(file: str, part: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "filterwarnings="]
    paths = os.pathsep.join([str(HERE.parent.parent), str(HERE.parent), str(HERE)])
    ran = subprocess.run(
        [*command, "-m", part, str(HERE / file)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
