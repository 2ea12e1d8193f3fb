"""Versions of Python and of torch, a fresh environment each, in which a light part of the suite runs.

`make matrix` runs all pairs, `python -m tests.studies.matrix 3.10:2.6 3.13:newest` some. A pair takes
minutes and 6 GB of disk, which are given back. Interpreters are those on the PATH and pyenv's. Where
there is none, where no torch of that version can be installed, or where no time is left, a pair is
skipped, and the table in the end says why.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
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
OPTIONS = ("-p", "no:cacheprovider", "-m", "not slow")


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


def outcome(pair: str, end: float) -> tuple[str, str]:
    """How the tests went in an environment of this pair: "passed", "FAILED" or "skipped", and why."""
    version, torch = pair.split(":")
    found = interpreter(version)
    if found is None:
        return "skipped", f"no Python {version} on this machine"
    if time.monotonic() >= end:
        return "skipped", "no time was left"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([found, "-m", "venv", folder], check=True)
        try:
            return tested(Path(folder) / "bin" / "python", torch, end)
        except subprocess.TimeoutExpired as error:
            return "skipped", f"no time was left: {' '.join(map(str, error.cmd[1:4]))} was stopped"


def tested(python: Path, torch: str, end: float) -> tuple[str, str]:
    """The same in an environment that is still empty."""
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    done = run([*pip, *wanted(torch)], end)
    if done.returncode != 0:
        return "skipped", f"torch was not installed: {last_line(done.stderr)}"
    done = run([*pip, *wanted(torch), str(ROOT), *NEEDED], end)
    if done.returncode != 0:
        return "FAILED", f"ptmetrics was not installed: {last_line(done.stderr)}"
    code = "import numpy, torch; print('torch', torch.__version__, 'numpy', numpy.__version__)"
    versions = run([python, "-c", code], end).stdout.strip()
    tests = run([python, "-m", "pytest", *OPTIONS, *SMOKE], end)
    word = "passed"
    if tests.returncode != 0:
        word = "FAILED"
        print(tests.stdout[-5000:])
    return word, f"{versions}: {last_line(tests.stdout)}"


def run(command: list[str | Path], end: float) -> subprocess.CompletedProcess[str]:
    """Run in the checkout, whose package is the one that is tested, until a time at most."""
    left = max(1.0, end - time.monotonic())
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=left
    )


def last_line(text: str) -> str:
    """What a program said last, without pytest's frame."""
    return text.strip().rpartition("\n")[2].strip("= ")


def main() -> int:
    """A table of the pairs; 1 if one failed, or none ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", default=PAIRS, metavar="PYTHON:TORCH")
    parser.add_argument("--minutes", type=float, default=120.0, help="when to stop")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    rows = [("python", "torch", "result", "what")]
    for pair in asked.pairs:
        print(f"{pair} begins", file=sys.stderr, flush=True)
        word, told = outcome(pair, end)
        rows.append((*pair.split(":"), word, told))
    for version, torch, word, told in rows:
        print(f"{version:<8}{torch:<9}{word:<9}{told}")
    words = [row[2] for row in rows]
    return int("FAILED" in words or "passed" not in words)


if __name__ == "__main__":
    sys.exit(main())
