"""The rooms import only to their left, files and functions stay small, and light commands stay light."""

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
    "statistics": {"errors"},
    "scores": {"errors", "statistics"},
    "functional": {"errors", "scores"},
    "sync": {"errors", "statistics"},
    "record": {"errors"},
    "verdict": {"errors", "record"},
    "matrix": {"errors", "scores", "verdict"},
    "threshold": {"errors", "scores", "verdict"},
    "loop": {"errors", "statistics", "scores", "sync", "record", "verdict"},
    "show": {"errors", "record", "verdict"},
    "adapters": {"errors", "statistics", "scores", "loop"},
    "finetune": {"errors", "statistics", "scores", "sync", "record", "verdict", "matrix", "loop", "show"},
    "bench": {
        "errors",
        "statistics",
        "scores",
        "sync",
        "record",
        "verdict",
        "matrix",
        "loop",
        "show",
        "finetune",
    },
    "cli": {"errors", "record", "verdict", "matrix", "loop", "show", "finetune", "bench"},
}
NO_TORCH = {"errors", "record", "verdict", "show"}
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 250, 40


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0] if ast.get_docstring(node, clean=False) else None
            doc_lines = doc.end_lineno - doc.lineno + 1 if doc and doc.end_lineno else 0
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1 - doc_lines


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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE
    too_long = [(name, lines) for name, lines in functions(path) if lines > MAX_FUNCTION]
    assert not too_long


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
