"""How the room is laid out: no cycle among its modules, and one place that knows the base of the metrics."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import ptmetrics.monitor

ROOM = Path(str(ptmetrics.monitor.__file__)).parent
COUNTING = {"split", "split_loss", "samples"}  # the modules that know how counts are kept


def imports(path: Path) -> set[str]:
    """Every module that is imported, at the top, lazily or for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


IMPORTS = {path.stem: imports(path) for path in ROOM.glob("*.py")}


def test_no_module_imports_itself_through_others() -> None:
    own = "ptmetrics.monitor."
    graph = {
        name: {other.removeprefix(own) for other in modules if other.startswith(own)}
        for name, modules in IMPORTS.items()
    }
    assert len(graph) > 10
    assert graph["monitor"] >= {"callbacks", "recorder"}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_what_counts_are_made_of_is_known_in_two_modules() -> None:
    assert {
        name for name, modules in IMPORTS.items() if any("ptmetrics.counts" in m for m in modules)
    } <= COUNTING
    tasks = {name for name, modules in IMPORTS.items() if "ptmetrics.metrics.base" in modules}
    assert tasks <= {"split", "ranks"}
