"""What a user installs: wheel and sdist are built, checked, and each runs the demo in a fresh environment.

`make package` runs it in an environment that has `build` and `twine`. torch is installed once: the
sdist takes the place of the wheel in the same environment. That holds 5 GB: it stands in one place
and not in a new folder for temporary files each time, so that what was killed leaves one at most.
"""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "build" / "dist"
TRIED = ROOT / "build" / "package"
MOST_BYTES = 1024**2
MUST_HOLD = (
    "ptmetrics/py.typed",
    "ptmetrics/metrics/functional.pyi",
    "ptmetrics/show/templates/report.html",
    "ptmetrics/finetune/configs/digits.toml",
    "ptmetrics/finetune/configs/digits-quick.toml",
    "ptmetrics/finetune/configs/imagefolder.toml",
)


def build() -> tuple[Path, Path]:
    """Wheel and sdist, checked without being installed."""
    shutil.rmtree(DIST, ignore_errors=True)
    call(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    wheel = next(DIST.glob("*.whl"))
    sdist = next(DIST.glob("*.tar.gz"))
    call(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    size = wheel.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"wheel: expected at most {MOST_BYTES} bytes, got {size}.")
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in MUST_HOLD if name not in names]
    if missing:
        raise SystemExit(f"wheel: expected all that is read at run time, got no {missing}.")
    strange = [name for name in names if not name.startswith("ptmetrics")]
    if strange:
        raise SystemExit(f"wheel: expected the package alone, got {strange} as well.")
    return wheel, sdist


def try_out(python: Path, folder: Path) -> None:
    """The commands of a newcomer, away from the checkout."""
    code = "import ptmetrics; print(ptmetrics.__file__)"
    told = subprocess.run(
        [python, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    if str(python.parent.parent) not in told.stdout:
        raise SystemExit(f"import: expected the installed package, got {told.stdout}.")
    command = python.with_name("ptmetrics")
    run = folder / "demo"
    call(python, "-m", "pip", "check", cwd=folder)
    call(command, "demo", "--quick", "--run", run, cwd=folder)
    call(command, "report", run, "-o", folder / "report.html", cwd=folder)
    call(command, "list", run, cwd=folder)
    shutil.rmtree(run)


def call(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command, or end with its status."""
    print("+", *command, flush=True)
    done = subprocess.run(command, cwd=cwd, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)


def main() -> None:
    """Build, install, run: the wheel, then the sdist."""
    shutil.rmtree(TRIED, ignore_errors=True)
    wheel, sdist = build()
    try:
        venv.create(TRIED / "venv", with_pip=True)
        python = TRIED / "venv" / "bin" / "python"
        install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        call(*install, f"{wheel}[demo]", cwd=TRIED)
        try_out(python, TRIED)
        call(*install, "--force-reinstall", "--no-deps", sdist, cwd=TRIED)
        try_out(python, TRIED)
    finally:
        shutil.rmtree(TRIED)
    print("Wheel and sdist run.")


if __name__ == "__main__":
    main()
