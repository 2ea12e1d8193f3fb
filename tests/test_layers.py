"""The rooms import only to their left, and light commands stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ptmetrics

PACKAGE = Path(ptmetrics.__file__).parent
ROOMS = {
    "errors": set(),
    "counts": {"errors"},
    "metrics": {"errors", "counts"},
    "functional": {"errors", "metrics"},
    "sync": {"errors", "counts"},
    "record": {"errors"},
    "verdict": {"errors", "record"},
    "matrix": {"errors", "metrics", "verdict"},
    "threshold": {"errors", "metrics", "verdict"},
    "monitor": {"errors", "counts", "metrics", "sync", "record", "verdict"},
    "show": {"errors", "record", "verdict"},
    "integrations": {"errors", "counts", "metrics", "monitor"},
    "finetune": {
        "errors",
        "counts",
        "metrics",
        "sync",
        "record",
        "verdict",
        "matrix",
        "monitor",
        "show",
    },
    "bench": {
        "errors",
        "counts",
        "metrics",
        "sync",
        "record",
        "verdict",
        "matrix",
        "monitor",
        "show",
        "finetune",
    },
    "__main__": {"cli"},
    "cli": {"errors", "record", "verdict", "matrix", "monitor", "show", "finetune", "bench"},
}
NO_TORCH = {"errors", "record", "verdict", "show"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_room_imports_only_what_it_may(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ROOMS, f"{path.name} is in no known room"
    for name in imports(path):
        head, *rest = name.split(".")
        if head == "ptmetrics" and rest and rest[0] != "__version__":
            assert rest[0] in ROOMS[room] | {room}, f"{room} imports {name}"
        if head in {"torch", "torchvision"}:
            assert room not in NO_TORCH, f"{room} imports {name}"


def loaded_by(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(out.stdout.split())


def test_importing_the_package_imports_no_torch() -> None:
    assert "torch" not in loaded_by("import ptmetrics")


def test_every_public_name_resolves() -> None:
    for name in ptmetrics.__all__:
        assert getattr(ptmetrics, name) is not None
    assert set(ptmetrics.__all__) == set(ptmetrics._HOME) | {"__version__"}
