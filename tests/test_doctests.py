"""Every example in a docstring of the package runs, and every public name has one.

Docstrings are found in the source, so that nothing is imported before an example runs; those that
are made when they are asked for, `pm.functional.*`, are read off the functions. An example sees the
names of its module, `pm` and `torch`.
"""

import ast
import doctest
import importlib
import inspect
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import ptmetrics as pm

PACKAGE = Path(pm.__file__).parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MISSING = re.compile(r"DependencyError: |No module named '(accelerate|ignite)")
SLOW = re.compile(r"^ptmetrics\.integrations\.(lightning|transformers)$")  # to import
DOCUMENTED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Documented(NamedTuple):
    """A docstring that holds an example.

    Attributes:
        module: Where it is.
        name: Of the class, function or method in the module; empty for the module itself.
        text: The docstring.
        path: Its file.
        line: Its first line there, from 0.
    """

    module: str
    name: str
    text: str
    path: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.module}.{self.name}".rstrip(".")


def documented_in(source: str, module: str, path: str = "") -> Iterator[Documented]:
    """Every docstring of a source that holds an example."""

    def visit(node: ast.Module | DOCUMENTED, name: str) -> Iterator[Documented]:
        text = ast.get_docstring(node, clean=False)
        if text is not None and ">>>" in text:
            yield Documented(module, name, text, path, node.body[0].lineno - 1)
        for child in node.body:
            if isinstance(child, DOCUMENTED):
                yield from visit(child, f"{name}.{child.name}".lstrip("."))

    return visit(ast.parse(source), "")


def all_documented() -> Iterator[Documented]:
    """All of the package, and what `pm.functional` makes when it is asked."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        yield from documented_in(path.read_text(encoding="utf-8"), module, str(path))
    for name in functional_names():
        function = getattr(pm.functional, name)
        made = function.__code__.co_name != name  # else it stands in the source
        if made and ">>>" in (function.__doc__ or ""):
            yield Documented(pm.functional.__name__, name, function.__doc__)


def functional_names() -> list[str]:
    return [
        name
        for name in dir(pm.functional)
        if not name.startswith("_")
        and inspect.isfunction(getattr(pm.functional, name))
        and getattr(pm.functional, name).__module__ == pm.functional.__name__
    ]


def run_examples(documented: Documented) -> str:
    """Run the examples of a docstring; what failed, in words, empty if nothing did."""
    module = importlib.import_module(documented.module)
    names = {"pm": pm, "torch": torch, **vars(module)}
    parser = doctest.DocTestParser()
    test = parser.get_doctest(
        documented.text, names, str(documented), documented.path, documented.line
    )
    out = io.StringIO()
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=out.write, clear_globs=False)
    return out.getvalue()


def marked(documented: Documented) -> Any:
    """An example as a parameter; one whose library takes seconds to import is slow."""
    marks: list[Any] = []
    if SLOW.match(documented.module):
        marks = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # at their own code
    return pytest.param(documented, id=str(documented), marks=marks)


@pytest.mark.parametrize("documented", [marked(each) for each in all_documented()])
def test_every_example_runs(
    documented: Documented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write a run
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # or make a folder that nobody removes
    monkeypatch.setenv("PTMETRICS_CACHE", str(tmp_path / "cache"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            failed = run_examples(documented)
        except ImportError as error:
            pytest.skip(f"{documented.module} needs {error.name}")
    missing = [line.strip() for line in failed.splitlines() if MISSING.search(line)]
    if missing:
        pytest.skip(missing[0])
    if failed:
        pytest.fail(failed, pytrace=False)


def test_examples_are_found_in_modules_classes_functions_and_methods() -> None:
    example = '"""Text.\n\n    >>> 1 + 1\n    2\n    """'
    source = (
        f"{example}\nclass A:\n    {example}\n    def b(self):\n        {example}\n"
        f"def c():\n    {example}\n    def inner():\n        'none'\ndef d():\n    'none'\n"
    )
    assert [item.name for item in documented_in(source, "m")] == ["", "A", "A.b", "c"]


def test_an_example_that_is_wrong_or_raises_or_warns_is_told_with_its_line() -> None:
    right = Documented("ptmetrics.errors", "f", ">>> DependencyError.__name__\n'DependencyError'\n")
    assert run_examples(right) == ""
    wrong = run_examples(
        Documented("ptmetrics.errors", "f", "Text.\n\n>>> 1 + 1\n3\n", "file.py", 9)
    )
    assert 'File "file.py", line 12, in ptmetrics.errors.f' in wrong
    assert "Expected:\n    3\nGot:\n    2" in wrong
    assert "ZeroDivisionError" in run_examples(Documented("ptmetrics.errors", "f", ">>> 1 / 0\n"))
    warns = ">>> import warnings\n>>> warnings.warn('old')\n"
    assert "UserWarning: old" in run_examples(Documented("ptmetrics.errors", "f", warns))


def test_every_public_name_has_an_example() -> None:
    public = {name: getattr(pm, name) for name in pm.__all__}
    public |= {f"functional.{name}": getattr(pm.functional, name) for name in functional_names()}
    documented = {name: it for name, it in public.items() if callable(it)}  # and not RULES, say
    assert len(documented) > 80
    assert [name for name, it in documented.items() if ">>>" not in (it.__doc__ or "")] == []
