"""Rooms import only to their left, lazy and alias imports included; light commands stay light."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import ptmetrics

PACKAGE = Path(ptmetrics.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")

# What each room may import besides itself and `errors`.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "digits": set(),
    "class_formulas": set(),
    "extensions": set(),
    "counts": set(),
    "distributed": {"counts"},
    "metrics": {"class_formulas", "counts", "distributed"},
    "record": set(),
    "verdict": {"class_formulas", "record", "extensions"},
    "monitor": {"counts", "metrics", "distributed", "record", "verdict", "show", "extensions"},
    "leakage": {"distributed", "monitor", "verdict", "record"},
    "show": {"record", "verdict", "metrics"},
    "integrations": {"monitor", "metrics", "record"},
    "matrix": {"metrics", "verdict"},
    "advice": {"metrics", "record", "verdict"},
}
ROOMS["testing"] = set(ROOMS)
ROOMS["finetune"] = set(ROOMS)
ROOMS["bench"] = set(ROOMS)
ROOMS["cli"] = set(ROOMS)
ROOMS["__main__"] = {"cli"}
NO_TORCH = {"errors", "digits", "extensions", "class_formulas", "record", "verdict", "show"}
TORCHVISION = {"finetune"}
# Rooms whose results draw themselves: inside these methods they may import `show`.
LAZY = {"metrics", "record", "verdict", "leakage"}
DRAWS = ("_repr_html_", "plot")

# What still breaks a rule, as room → room or room → library; to be emptied, and never to grow.
KNOWN_OFFENCES: set[str] = set()
# Rooms in which modules still import one another in a circle; to be emptied, and never to grow.
ROOMS_WITH_CYCLES: set[str] = set()
# Names that two or more modules define; to be lowered, and never raised.
MOST_SHARED_NAMES = 8


@dataclass(frozen=True)
class Imported:
    """A dotted name that a source imports, and inside which functions it does."""

    name: str
    line: int
    functions: tuple[str, ...] = ()


class ImportFinder(ast.NodeVisitor):
    """Every import of a source: at its top, in functions, for typing, and by `pm.X`."""

    def __init__(self, aliases: set[str]) -> None:
        self.found: list[Imported] = []
        self._aliases = aliases
        self._functions: list[str] = []
        self._bases: set[ast.expr] = set()  # the `pm` of each `pm.X`

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 — names of ast

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name != "ptmetrics":
                self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if node.level:
                self._add("." * node.level, node)
            elif node.module == "ptmetrics":
                self._add(home_of(alias.name), node)
            else:
                self._add(f"{node.module}.{alias.name}", node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self._aliases:
            self._bases.add(node.value)
            self._add(home_of(node.attr), node)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self._aliases and node not in self._bases:
            self._add("ptmetrics.*", node)  # handed on as a whole: nobody sees what is taken

    def visit_Call(self, node: ast.Call) -> None:
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        if name in {"import_module", "__import__"} and isinstance(node.args[0], ast.Constant):
            self._add(str(node.args[0].value), node)
        self.generic_visit(node)

    def _add(self, name: str, node: ast.AST) -> None:
        self.found.append(Imported(name, getattr(node, "lineno", 0), tuple(self._functions)))


def home_of(name: str) -> str:
    """Where a name of the public face is defined; a room or a module is itself."""
    if name in ptmetrics._HOME:
        home = ptmetrics._HOME[name]
        return f"ptmetrics.{home}" if home == name else f"ptmetrics.{home}.{name}"
    return f"ptmetrics.{name}"


@cache
def imports_of(source: str) -> list[Imported]:
    tree = ast.parse(source)
    finder = ImportFinder(package_aliases(tree))
    finder.visit(tree)
    return finder.found


def package_aliases(tree: ast.AST) -> set[str]:
    """What the package itself is called in a source, wherever it is imported there."""
    names = set()
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import) else ():
            if alias.name == "ptmetrics":
                names.add(alias.asname or "ptmetrics")
            elif alias.name.startswith("ptmetrics.") and alias.asname is None:
                names.add("ptmetrics")
    return names


def offences(source: str, room: str) -> Iterator[str]:
    """What a source in a room imports and may not: "room → what, line"."""
    for item in imports_of(source):
        head, *rest = item.name.split(".")
        if head == "" or item.name == "ptmetrics.*":
            yield f"{room} → {item.name}, line {item.line}"
        elif head == "ptmetrics":
            goal = rest[0]
            if goal in ROOMS[room] | {room, "errors", "digits", "__version__"}:
                continue
            if not (goal == "show" and is_drawn(item, room)):
                yield f"{room} → {goal}, line {item.line}"
        elif (head == "torch" and room in NO_TORCH) or (
            head == "torchvision" and room not in TORCHVISION
        ):
            yield f"{room} → {head}, line {item.line}"


def is_drawn(item: Imported, room: str) -> bool:
    """Whether a result imports it to draw itself."""
    return room in LAZY and any(name.startswith(DRAWS) for name in item.functions)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


WRONG = {
    "a room to the right": ("from ptmetrics.monitor.monitor import Monitor", "record → monitor"),
    "a room to the right, as a module": ("import ptmetrics.monitor.monitor", "record → monitor"),
    "inside a function": ("def f():\n    from ptmetrics.show import run", "record → show"),
    "for typing alone": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ptmetrics import Monitor",
        "record → monitor",
    ),
    "by an alias": ("import ptmetrics as pm\ndef f():\n    return pm.Monitor", "record → monitor"),
    "by the whole name": ("import ptmetrics\nx = ptmetrics.judge", "record → verdict"),
    "by an alias that comes later": (
        "def f():\n    return pm.Score\nimport ptmetrics as pm",
        "record → metrics",
    ),
    "through a module that is at hand": (
        "import ptmetrics.errors\nx = ptmetrics.metrics.score",
        "record → metrics",
    ),
    "from the public face": ("from ptmetrics import BinaryMetrics", "record → metrics"),
    "a room from the package": ("from ptmetrics import monitor as m", "record → monitor"),
    "by name": ("import importlib\nimportlib.import_module('ptmetrics.counts.cell')", "record → counts"),
    "the package handed on": ("import ptmetrics as pm\nx = getattr(pm, 'Monitor')", "record → ptmetrics.*"),
    "everything": ("from ptmetrics import *", "record → ptmetrics.*"),
    "relative": ("from ..monitor import monitor", "record → .."),
    "torch": ("def f():\n    import torch.nn as nn", "record → torch"),
    "torch's part": ("from torch import nn", "record → torch"),
    "torchvision": ("from torchvision import models", "record → torchvision"),
}  # fmt: skip
RIGHT = {
    "itself and errors": "from ptmetrics.errors import RecordError\nfrom ptmetrics.record import lines",
    "an error by its alias": "import ptmetrics as pm\nx = pm.PtmetricsError",
    "the version": "from ptmetrics import __version__\nimport ptmetrics as pm\nx = pm.__version__",
    "another object's attribute": "import ptmetrics.errors as e\nx = other.Monitor\ny = e.RecordError",
    "other libraries": "import json\nimport numpy as np",
}


@pytest.mark.parametrize("case", WRONG)
def test_an_import_to_the_right_is_seen_however_it_is_written(case: str) -> None:
    source, told = WRONG[case]
    assert [offence.partition(", line")[0] for offence in offences(source, "record")] == [told]


@pytest.mark.parametrize("case", RIGHT)
def test_what_a_room_may_import_is_no_offence(case: str) -> None:
    assert list(offences(RIGHT[case], "record")) == []


def test_results_alone_draw_themselves_with_what_is_to_their_right() -> None:
    draws = "class Scores:\n    def {}(self):\n        from ptmetrics.show.plots import curve\n"
    for method in ("_repr_html_", "plot_curve", "plot"):
        for room in sorted(LAZY):
            assert list(offences(draws.format(method), room)) == []
        assert list(offences(draws.format(method), "counts")) == ["counts → show, line 3"]
    assert list(offences(draws.format("summary"), "metrics")) == ["metrics → show, line 3"]
    assert list(offences("from ptmetrics.show.plots import curve", "metrics"))


def test_torchvision_is_for_the_application_alone() -> None:
    source = "from torchvision import models"
    assert list(offences(source, "finetune")) == []
    assert list(offences(source, "bench")) == ["bench → torchvision, line 1"]


def test_each_room_imports_only_what_it_may() -> None:
    found = set()
    for path in FILES:
        room = room_of(path)
        assert room in ROOMS, f"{path.name} is in no known room"
        for offence in offences(path.read_text(encoding="utf-8"), room):
            short = offence.partition(", line")[0]
            found.add(short)
            assert short in KNOWN_OFFENCES, f"{path.relative_to(PACKAGE)}: {offence}"
    assert found == KNOWN_OFFENCES, "what was mended must go from the list"


def import_graph() -> dict[str, set[str]]:
    """Module to the modules that it imports, wherever it does."""
    modules = {module_of(path): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        goals = set()
        for item in imports_of(path.read_text(encoding="utf-8")):
            if is_drawn(item, room_of(path)):
                continue
            parent = item.name.rpartition(".")[0]
            goals |= {name for name in (item.name, parent) if name in modules}
        graph[module] = goals - {module}
    return graph


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules that reach one another (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = set()

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for goal in graph.get(module, ()):
            if goal not in order:
                visit(goal)
            if goal in stack:
                lowest[module] = min(lowest[module], lowest[goal])
        if lowest[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.add(frozenset(group))

    for module in graph:
        if module not in order:
            visit(module)
    return found


def test_a_cycle_is_found_and_a_diamond_is_none() -> None:
    diamond = {"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}
    assert cycles(diamond) == set()
    circle = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a", "d"}}
    assert cycles(circle) == {frozenset("abc"), frozenset("de")}


def test_no_modules_import_one_another() -> None:
    found = set()
    for cycle in cycles(import_graph()):
        rooms = {module.split(".")[1] for module in cycle}
        assert len(rooms) == 1, sorted(cycle)
        assert rooms <= ROOMS_WITH_CYCLES, sorted(cycle)
        found |= rooms
    assert found == ROOMS_WITH_CYCLES, "what was mended must go from the list"


def names_defined_in(source: str) -> set[str]:
    """Functions, classes and constants at the level of the module."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            targets = [leaf for target in node.targets for leaf in ast.walk(target)]
            names |= {leaf.id for leaf in targets if isinstance(leaf, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_few_names_are_defined_in_more_than_one_module() -> None:
    counted = Counter(
        name for path in FILES for name in names_defined_in(path.read_text(encoding="utf-8"))
    )
    shared = sorted(name for name, modules in counted.items() if modules > 1)
    shared.remove("MonitorCallback")  # one for each library, which the module names
    assert len(shared) <= MOST_SHARED_NAMES, shared


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_what_reads_records_alone_loads_no_torch() -> None:
    modules = [module_of(path) for path in FILES if room_of(path) in NO_TORCH]
    assert len(modules) > 10
    loaded = loaded_by("\n".join(f"import {module}" for module in ["ptmetrics", *modules]))
    assert "torch" not in loaded
    assert "numpy" in loaded, "modules of the verdict were loaded"


def test_every_public_name_resolves() -> None:
    for name in ptmetrics.__all__:
        assert getattr(ptmetrics, name) is not None
    assert set(ptmetrics.__all__) == set(ptmetrics._HOME) | {"__version__"}
