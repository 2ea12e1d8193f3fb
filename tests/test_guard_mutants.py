"""Each small change of the guard's code is noticed by its corpus of snippets."""

import ast
import copy
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from test_testing import ALLOWED, REFUSED, Device, Snippet
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from ptmetrics import testing

SOURCE = Path(testing.__file__)
CHANGED = (
    "asked_by", "name_of", "launches", "tensors", "reads_value", "reads_shape", "_on_device",
    "indexes_by_mask", "copies_to_host", "copies_from_host", "mixes_host_in", "is_unknown",
    "_is_known", "_copy_devices", "__torch_function__", "__torch_dispatch__", "__enter__", "__exit__",
)  # fmt: skip
COUNTED = ["add_.Tensor", "sum.dim_IntList", "mul.Tensor"]
EQUAL = {
    "asked_by: frame.f_back is not None and frame.f_code.co_filename.startswith(FOREIGN)"
    " -> frame.f_code.co_filename.startswith(FOREIGN)": "every frame a library's: not in a test",
    "__torch_dispatch__: kwargs or {} -> kwargs": "torch passes a dictionary",
}
"""Changes that nobody can notice, and why."""


def boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    other = copy.deepcopy(node)
    other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield other
    if len(node.values) == 2:
        yield from node.values


def compared(node: ast.Compare) -> Iterator[ast.AST]:
    swaps: dict[type[ast.cmpop], ast.cmpop] = {
        ast.Eq: ast.NotEq(), ast.NotEq: ast.Eq(), ast.In: ast.NotIn(), ast.NotIn: ast.In(),
        ast.Is: ast.IsNot(), ast.IsNot: ast.Is(), ast.LtE: ast.Gt(),
    }  # fmt: skip
    other = copy.deepcopy(node)
    other.ops = [swaps[type(node.ops[0])]]
    yield other


def called(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Name) and node.func.id in ("any", "all"):
        other = copy.deepcopy(node)
        other.func = ast.Name({"any": "all", "all": "any"}[node.func.id], ast.Load())
        yield other


def constant(node: ast.Constant) -> Iterator[ast.AST]:
    if node.value in ("cuda", "cpu"):
        yield ast.Constant({"cuda": "cpu", "cpu": "cuda"}[node.value])
    elif isinstance(node.value, bool):
        yield ast.Constant(not node.value)


def returned(node: ast.Return) -> Iterator[ast.AST]:
    was = getattr(node.value, "value", None)
    for value in (not was,) if isinstance(was, bool) else (True, False, None):
        yield ast.Return(ast.Constant(value))


def unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not):
        yield node.operand


def branch(node: ast.If) -> Iterator[ast.AST]:
    for value in (True, False):
        other = copy.deepcopy(node)
        other.test = ast.Constant(value)
        yield other


CHANGES: dict[type[ast.AST], Any] = {
    ast.BoolOp: boolean, ast.Compare: compared, ast.Call: called, ast.Constant: constant,
    ast.Return: returned, ast.UnaryOp: unary, ast.If: branch,
}  # fmt: skip


class Put(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def changeable(tree: ast.Module) -> list[tuple[str, ast.AST]]:
    """The nodes of the functions that are changed, each with the function's name."""
    return [
        (function.name, node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name in CHANGED
        for statement in function.body
        for node in ast.walk(statement)
        if type(node) in CHANGES
    ]


def mutants() -> Iterator[tuple[str, ast.Module]]:
    """Every change, in words, and the module with it."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    for index, (name, node) in enumerate(changeable(tree)):
        for number, new in enumerate(CHANGES[type(node)](node)):
            other = copy.deepcopy(tree)
            old = changeable(other)[index][1]
            changed = list(CHANGES[type(old)](old))[number]
            Put(old, changed).visit(other)
            words = f"{name}: {ast.unparse(node)} -> {ast.unparse(new)}"
            yield words.replace("\n", " "), other


def loaded(tree: ast.Module) -> Any:
    """The guard of a changed module."""
    module = ModuleType("mutant")
    module.__file__ = str(SOURCE)
    exec(compile(ast.fix_missing_locations(tree), str(SOURCE), "exec"), vars(module))
    return module


def said(module: Any, snippet: Snippet) -> tuple[str, str, int] | None:
    with testing.fake_cuda():
        device = Device()
        try:
            with module.Guard():
                snippet(device)
        except module.HostSync as found:
            return found.rule, found.file, found.line
        except DynamicOutputShapeException:
            return None
    return None


def are_blocks_as_told(module: Any) -> bool:
    """Whether tensors lack values where that is asked for only, and rules can be left out."""
    with module.Guard():
        assert torch.zeros(3).add(1).tolist() == [1.0] * 3
    with module.assert_no_sync():
        x = torch.zeros(3, device="cuda").add(1)
        with pytest.raises(module.HostSync):
            x.sum().item()
    with testing.fake_cuda():
        with module.Guard(without=("reads_words",)):
            repr(Device().v)
        with module.Guard(without=("waits",)), suppress(AssertionError, RuntimeError, TypeError):
            torch.cuda.synchronize()
    return True


def is_noticed(module: Any) -> bool:
    """Whether a snippet is told otherwise, or what is counted differs."""
    try:
        return not (is_corpus_told(module) and is_counted(module) and are_blocks_as_told(module))
    except Exception:
        return True


def is_corpus_told(module: Any) -> bool:
    for rule, snippet in REFUSED:
        place = (snippet.__code__.co_filename, snippet.__code__.co_firstlineno)
        if said(module, snippet) != (rule, *place):
            return False
    # A tensor of the host's own is no wait, though without values it has no shape.
    allowed = [*ALLOWED, lambda d: d.host.nonzero()]
    return all(said(module, snippet) is None for snippet in allowed)


def is_counted(module: Any) -> bool:
    with testing.fake_cuda():
        device = Device()
        with module.Guard() as seen:
            device.x.add_(1).sum(1, keepdim=True).mT.mul(2).reshape(-1).detach()
            device.x.new_empty(3, 1)
        repr(device.x)  # behind the guard nothing is refused
    return (seen.names, seen.largest) == (COUNTED, 4)


@pytest.mark.fault(29)
def test_the_guard_as_it_is_passes_its_corpus() -> None:
    assert not is_noticed(loaded(ast.parse(SOURCE.read_text(encoding="utf-8"))))


@pytest.mark.slow
@pytest.mark.fault(29)
def test_every_change_of_a_rule_is_noticed() -> None:
    tried = SimpleNamespace(all=0, survived=[])
    for where, tree in mutants():
        tried.all += 1
        if where not in EQUAL and not is_noticed(loaded(tree)):
            tried.survived.append(where)
    assert tried.all > 100
    assert not tried.survived, "\n".join(tried.survived)
