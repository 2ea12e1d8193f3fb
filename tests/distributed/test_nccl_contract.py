"""What NCCL asks of a sync, shown without a card: tensors on its device, types that it has, no pickles.

The collectives are those of torch's fake backend, which sends nothing; CUDA tensors have no values.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from registry import CASES, MetricCase
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

import ptmetrics
import ptmetrics as pm
from ptmetrics.distributed import World, gathered
from ptmetrics.testing import fake_cuda

OF_NCCL = {
    torch.int8,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}
PACKAGE = Path(ptmetrics.__file__).parent


class SentError(BaseException):
    """The collective was called; there is nothing to wait for."""


class Collectives:
    """What was asked of `torch.distributed`, in order.

    Attributes:
        groups: Arguments of each new group.
        sent: Name, tensor and group of each collective.
    """

    def __init__(self) -> None:
        self.groups: list[dict[str, Any]] = []
        self.sent: list[tuple[str, Tensor, Any]] = []

    def new_group(self, **options: Any) -> str:
        self.groups.append(options)
        return str(options.get("backend", "of the device"))

    def all_reduce(self, tensor: Tensor, group: Any) -> None:
        self.sent.append(("all_reduce", tensor, group))
        raise SentError

    def all_gather(self, each: list[Tensor], own: Tensor, group: Any) -> None:
        self.sent.append(("all_gather", own, group))
        for row in each:
            assert row.device == own.device
            row.copy_(own)

    def gather(self, own: Tensor, each: list[Tensor] | None, to: int, group: Any) -> None:
        self.sent.append(("gather", own, group))
        for row in each or []:
            row.copy_(own)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collectives]:
    """Two ranks of the fake backend, of which this one is the first."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    collectives = Collectives()
    for name in ("new_group", "all_reduce", "all_gather", "gather"):
        monkeypatch.setattr(dist, name, getattr(collectives, name))
    monkeypatch.setattr(World, "meet", lambda self, name, timeout_s: None)
    try:
        yield collectives
    finally:
        dist.destroy_process_group()


@pytest.mark.fault(5)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_counts_on_cuda_are_reduced_there_in_a_type_that_nccl_has(
    case: MetricCase, asked: Collectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers: list[list[int]] = []

    def exchange(self: World, numbers: list[int]) -> list[list[int]]:
        headers.append(list(numbers))
        return [list(numbers)] * self.size

    monkeypatch.setattr(World, "exchange", exchange)  # a header's numbers are read: below
    with fake_cuda():
        metrics = case.make()
        metrics.to("cuda")
        case.batch(6, 0, True).to("cuda").feed(metrics)
        with pytest.raises(SentError):
            metrics.sync()
    assert len(headers) == 1
    ((name, tensor, group),) = asked.sent
    assert (name, group) == ("all_reduce", "of the device")
    assert [set(options) for options in asked.groups] == [{"timeout"}]  # the default's backend
    assert tensor.device.type == "cuda"
    assert tensor.dtype == torch.float64
    assert tensor.dtype in OF_NCCL
    assert tensor.is_contiguous()
    assert tensor.ndim == 1


@pytest.mark.fault(4)
def test_headers_texts_and_bytes_go_over_gloo_from_the_host(asked: Collectives) -> None:
    world = World()
    assert world.exchange([1, 2**62]) == [[1, 2**62]] * 2
    assert world.texts("two splits", 12) == ["two splits  "] * 2
    assert gathered(b"some bytes", "test") == [b"some bytes"] * 2
    names = [name for name, _, _ in asked.sent]
    assert names == ["all_gather", "all_gather", "all_gather", "gather"]
    for _, tensor, group in asked.sent:
        assert tensor.device.type == "cpu"
        assert tensor.dtype in (torch.int64, torch.uint8)
        assert group == "gloo"
    assert {options["backend"] for options in asked.groups} == {"gloo"}


def test_counts_that_are_partly_on_the_host_are_reduced_there(asked: Collectives) -> None:
    metrics = pm.MulticlassMetrics(3)
    metrics.update(torch.eye(3), torch.arange(3))
    with pytest.raises(SentError):
        metrics.sync()
    name, tensor, group = asked.sent[-1]
    assert (name, tensor.device.type, group) == ("all_reduce", "cpu", "gloo")


def calls_of_distributed() -> set[str]:
    """Functions of `torch.distributed` that the package calls, with the arguments that are named."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id == "dist":
                    named = [f"{each.arg}={ast.unparse(each.value)}" for each in node.keywords]
                    found.add(" ".join([node.func.attr, *named]))
    return found


def test_no_pickle_is_sent_but_one_name_on_the_host() -> None:
    pickled = {call for call in calls_of_distributed() if "object" in call}
    assert pickled == {"broadcast_object_list device=torch.device('cpu')"}  # finetune's folder
