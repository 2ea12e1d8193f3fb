"""Guards over operations: what an update launches, and that none makes the host wait.

A `with fake_cuda():` block makes CUDA tensors without values and without a GPU. Inside it, a
`Guard` refuses at once what would synchronise on a real one, names the line that asked for it, and
counts what would be launched.
"""

import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LIBRARIES = (
    str(Path(torch.__file__).parent),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib")),
)
FOREIGN = (*LIBRARIES, __file__, "<frozen", "<string>", "<__array")
NO_KERNEL = ("_unsafe_view", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty")
COPIES = ("_to_copy", "copy_", "to", "clone")
INDEXING = ("index", "index_put", "_unsafe_index", "_unsafe_index_put", "_index_put_impl")
# Beside torch's core and pointwise operations: looked up, none of their CUDA kernels reads a value back.
KNOWN = (
    "all arange baddbmm bucketize count_nonzero cumprod dot eye frexp index_add isin linalg_vector_norm logsumexp"
    " mv native_batch_norm new_full new_ones new_zeros nll_loss_forward ones ones_like roll searchsorted stack"
    " take zeros zeros_like"
)
READERS = {
    Tensor.__repr__: "repr",
    Tensor.__format__: "format",
    Tensor.numpy: "numpy",
    Tensor.__array__: "array",
}
WAITS = (
    (torch.cuda, "synchronize"),
    (torch.cuda.Event, "synchronize"),
    (torch.cuda.Stream, "synchronize"),
    (torch.accelerator, "synchronize"),
)
Kwargs = Mapping[str, Any]


class HostSync(Exception):  # noqa: N818 — it is what happened
    """Something would have made the host wait: which rule it broke, which operation, where."""

    def __init__(self, rule: str, operation: str) -> None:
        self.rule, self.operation = rule, operation
        self.file, self.line = asked_by()
        super().__init__(f"{self.file}:{self.line}: {operation} makes the host wait ({rule})")


def asked_by() -> tuple[str, int]:
    """File and line of the innermost frame that is neither torch's nor this module's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(FOREIGN):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


@cache
def name_of(func: Any) -> str:
    """The operation without its overload, and without the mark of one that works in place."""
    return str(func.overloadpacket).removeprefix("aten.")


@cache
def launches(func: Any) -> bool:
    """Whether an operation runs a kernel: one that gives a view, or memory as it is, does not."""
    if name_of(func) in NO_KERNEL:
        return False
    alias = func._schema.returns[0].alias_info if func._schema.returns else None
    return alias is None or bool(alias.is_write)


def tensors(args: Any) -> list[Tensor]:
    """Every tensor among the arguments, however deep."""
    return [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]


def reads_value(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """A number on the host that depends on values: item, bool, equal, allclose."""
    return torch.Tag.data_dependent_output in func.tags


def reads_shape(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """A shape that depends on values: nonzero, unique, bincount, masked_select."""
    return torch.Tag.dynamic_output_shape in func.tags and name_of(func) not in INDEXING


def indexes_by_mask(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """A boolean index is a nonzero in disguise, in reading and in writing."""
    indexing = name_of(func).removesuffix("_") in INDEXING
    return indexing and any(t.dtype in (torch.bool, torch.uint8) for t in tensors(args[1]))


def copies_to_host(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """From the device to the host: waits, or, told not to, gives numbers that are not there yet."""
    source, goal = _copied(func, args, kwargs)
    return source == "cuda" and goal == "cpu"


def copies_from_host(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """From pageable memory to the device: waits, unless told not to."""
    if _copied(func, args, kwargs) != ("cpu", "cuda"):
        return False
    return not (kwargs.get("non_blocking") or args[2:3] == (True,))


def mixes_host_in(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """Index and where move a tensor from the host to the others by themselves; blocking."""
    if name_of(func).removesuffix("_") not in (*INDEXING, "where"):
        return False
    return {"cpu", "cuda"} <= {t.device.type for t in tensors((args, kwargs))}


def is_unknown(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """An operation that nobody has looked at.

    See whether its CUDA kernel reads a value. If it does not, add it to KNOWN.
    """
    return not _is_known(func)


@cache
def _is_known(func: Any) -> bool:
    name = name_of(func).removesuffix("_")
    if func.namespace != "aten" or name in KNOWN.split() or not launches(func):
        return True
    packet = getattr(torch.ops.aten, name, func.overloadpacket)
    tags = {tag for overload in packet.overloads() for tag in getattr(packet, overload).tags}
    return bool(tags & {torch.Tag.core, torch.Tag.pointwise})


def _copied(func: Any, args: Any, kwargs: Kwargs) -> tuple[str, str]:
    if name_of(func) == "copy_":
        return args[1].device.type, args[0].device.type
    if name_of(func) not in COPIES or not tensors(args):
        return "", ""
    source = tensors(args)[0].device
    return source.type, torch.device(kwargs.get("device") or source).type


Rule = Callable[[Any, Any, Kwargs], bool]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        reads_value, reads_shape, indexes_by_mask, copies_to_host, copies_from_host, mixes_host_in, is_unknown,
    )
}  # fmt: skip
RULE_NAMES = (*RULES, "reads_words", "waits")


class Operations(TorchDispatchMode):
    """Notes the name of each operation, and the most elements and bytes that one returned."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.largest = self.largest_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "prim":
            return result
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        if launches(func):
            self.names.append(str(func).removeprefix("aten."))
        if alias is None:  # in place there is nothing new
            for tensor in tensors(result):
                self.largest = max(self.largest, tensor.numel())
                self.largest_bytes = max(self.largest_bytes, tensor.numel() * tensor.element_size())
        return result


class _Readers(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READERS and args[0].device.type == "cuda":
            raise HostSync("reads_words", READERS[func])
        return func(*args, **(kwargs or {}))


class Guard(Operations):
    """Refuses what would make the host wait.

    Args:
        without: Rules to leave out, by name: only the test of the rules themselves needs that.

    Raises:
        HostSync: From the operation itself, with the line that asked for it.
    """

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._rules = {name: rule for name, rule in RULES.items() if name not in without}
        self._without, self._stack = without, ExitStack()

    def __enter__(self) -> "Guard":
        if "reads_words" not in self._without:
            self._stack.enter_context(_Readers())
        for owner, name in () if "waits" in self._without else WAITS:
            self._stack.enter_context(patch.object(owner, name, _refuse_to_wait))
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for name, rule in self._rules.items() if func.namespace != "prim" else ():
            if rule(func, args, kwargs or {}):
                raise HostSync(name, str(func))
        return super().__torch_dispatch__(func, types, args, kwargs)


def _refuse_to_wait(*_: Any, **__: Any) -> None:
    raise HostSync("waits", "synchronize")


@contextmanager
def fake_cuda() -> Iterator[None]:
    """CUDA tensors without values: no shape may depend on one, as there is no ShapeEnv."""
    with FakeTensorMode():
        yield
