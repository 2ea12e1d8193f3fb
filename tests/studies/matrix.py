"""Versions of Python and of torch, a fresh environment each, in which a light part of the suite runs.

`make matrix` runs all pairs, `python -m tests.studies.matrix 3.10:2.6 3.13:newest` some. A pair takes
minutes and 6 GB of disk, which are given back. Interpreters are those on the PATH and pyenv's.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAIRS = ("3.10:2.6", "3.11:2.8", "3.12:2.10", "3.12:2.12", "3.13:2.6", "3.13:newest")
"""Oldest and newest of both, and some in between."""
NEEDED = ("pytest", "hypothesis", "scikit-learn", "matplotlib")
SMOKE = (
    "tests/test_cli.py",
    "tests/test_extending.py",
    "tests/test_public_names.py",
    "tests/distributed",
    "tests/metrics/test_binary_oracle.py",
    "tests/metrics/test_functional.py",
    "tests/metrics/test_multiclass_oracle.py",
    "tests/monitor/test_callbacks.py",
    "tests/monitor/test_checkpoint.py",
    "tests/monitor/test_hooks.py",
    "tests/monitor/test_loaders.py",
    "tests/monitor/test_three_ways.py",
    "tests/record/test_atomic.py",
    "tests/record/test_journal.py",
    "tests/verdict/test_judge.py",
)
"""A test of each room that touches torch, Python's syntax or the system."""


def interpreter(version: str) -> Path | None:
    """The Python of this version, such as 3.12; None where there is none."""
    places = [shutil.which(f"python{version}")]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places.extend(str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python")))
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    for place in places:
        if place is not None:
            told = subprocess.run([place, "-c", code], capture_output=True, text=True, check=False)
            if told.stdout.strip() == version:
                return Path(place)
    return None


def wanted(torch: str) -> list[str]:
    """What pip is asked for: torchvision 0.21 belongs to torch 2.6, and so on."""
    if torch == "newest":
        return ["torch", "torchvision"]
    minor = int(torch.split(".")[1])
    return [f"torch=={torch}.*", f"torchvision==0.{minor + 15}.*"]


def outcome(pair: str) -> tuple[bool, str]:
    """Whether the tests passed in an environment of this pair, and how they ended."""
    version, torch = pair.split(":")
    found = interpreter(version)
    if found is None:
        return False, f"no Python {version} on this machine"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([found, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        packages = [str(ROOT), *wanted(torch), *NEEDED]
        done = run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *packages])
        if done.returncode != 0:
            return False, f"not installed: {last_line(done.stderr)}"
        code = "import numpy, torch; print('torch', torch.__version__, 'numpy', numpy.__version__)"
        versions = run([python, "-c", code]).stdout.strip()
        tests = run([python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *SMOKE])
        if tests.returncode != 0:
            print(tests.stdout[-5000:])
        return tests.returncode == 0, f"{versions}: {last_line(tests.stdout)}"


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run in the checkout, whose package is the one that is tested."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def last_line(text: str) -> str:
    """What a program said last."""
    return text.strip().rpartition("\n")[2]


def main() -> int:
    """Each pair, one line as it ends; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", default=PAIRS, metavar="PYTHON:TORCH")
    failed = False
    for pair in parser.parse_args().pairs:
        passed, told = outcome(pair)
        failed = failed or not passed
        word = "passed" if passed else "FAILED"
        print(f"{pair:<12} {word}  {told}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
