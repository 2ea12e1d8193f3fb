"""The guard refuses what would make the host wait, names the line, and lets the rest pass."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ptmetrics.testing import SYNC_RULE_NAMES, Guard, HostSync, assert_no_sync, fake_cuda


class Device:
    """Tensors on a CUDA device without values, and two on the host."""

    def __init__(self) -> None:
        self.x = torch.randn(4, 3, device="cuda")
        self.square = torch.randn(3, 3, device="cuda")
        self.mask = torch.ones(4, 3, device="cuda", dtype=torch.bool)
        self.rows = torch.ones(4, device="cuda", dtype=torch.bool)
        self.v = torch.zeros(4, device="cuda")
        self.labels = torch.zeros(4, device="cuda", dtype=torch.int64)
        self.one = torch.ones((), device="cuda", dtype=torch.int64)
        self.host = torch.zeros(4, 3)
        self.places = torch.zeros(4, dtype=torch.int64)


Snippet = Callable[[Device], Any]

REFUSED: list[tuple[str, Snippet]] = [
    ("reads_value", lambda d: d.v.sum().item()),
    ("reads_value", lambda d: float(d.one)),
    ("reads_value", lambda d: int(d.one)),
    ("reads_value", lambda d: bool(d.mask.any())),
    ("reads_value", lambda d: 1 if d.one else 0),
    ("reads_value", lambda d: d.mask.all() and True),
    ("reads_value", lambda d: d.v.tolist()),
    ("reads_value", lambda d: list(range(d.one))),
    ("reads_value", lambda d: d.v[d.one]),
    ("reads_value", lambda d: d.v[: d.one]),
    ("reads_value", lambda d: d.x.add(d.x, alpha=d.one)),
    ("reads_value", lambda d: torch.full((3,), d.one, device="cuda")),
    ("reads_value", lambda d: torch.arange(d.one, device="cuda")),
    ("reads_value", lambda d: torch.zeros(d.one, device="cuda")),
    ("reads_value", lambda d: torch.equal(d.x, d.x)),
    ("reads_value", lambda d: torch.allclose(d.x, d.x)),
    ("reads_value", lambda d: torch.equal(d.x, d.host)),
    ("reads_value", lambda d: torch.nn.functional.one_hot(d.labels)),
    ("reads_value", lambda d: max(d.v)),
    ("reads_value", lambda d: torch.cov(d.x)),
    ("reads_shape", lambda d: d.x.nonzero()),
    ("reads_shape", lambda d: torch.where(d.mask)),
    ("reads_shape", lambda d: torch.argwhere(d.mask)),
    ("reads_shape", lambda d: d.x.masked_select(d.mask)),
    ("reads_shape", lambda d: d.labels.unique()),
    ("reads_shape", lambda d: d.labels.unique(return_counts=True)),
    ("reads_shape", lambda d: torch.unique_consecutive(d.labels)),
    ("reads_shape", lambda d: torch.unique(d.x, dim=0)),
    ("reads_shape", lambda d: d.labels.bincount()),
    ("reads_shape", lambda d: torch.bincount(d.labels, minlength=9)),
    ("reads_shape", lambda d: d.x.repeat_interleave(d.labels, 0)),
    ("indexes_by_mask", lambda d: d.x[d.mask]),
    ("indexes_by_mask", lambda d: d.x[d.rows]),
    ("indexes_by_mask", lambda d: d.x[:, d.rows[:3]]),
    ("indexes_by_mask", lambda d: d.x[d.labels, d.rows]),
    ("indexes_by_mask", lambda d: d.x.__setitem__(d.rows, d.x[:1])),
    ("indexes_by_mask", lambda d: d.v.index_put_((d.rows,), d.v[:1])),
    ("indexes_by_mask", lambda d: d.v.index_put((d.rows,), d.v[:1], accumulate=True)),
    ("copies_to_host", lambda d: d.x.cpu()),
    ("copies_to_host", lambda d: d.x.to("cpu")),
    ("copies_to_host", lambda d: d.x.to("cpu", non_blocking=True)),
    ("copies_to_host", lambda d: d.x.to(d.host)),
    ("copies_to_host", lambda d: d.host.copy_(d.x)),
    ("copies_to_host", lambda d: torch.save(d.x.cpu(), io.BytesIO())),
    ("copies_to_host", lambda d: str(d.x.detach().cpu())),
    ("copies_to_host", lambda d: [loss.cpu() for loss in (d.v.mean(), d.x.mean())]),
    ("copies_from_host", lambda d: torch.tensor([1.0, 2.0], device="cuda")),
    ("copies_from_host", lambda d: torch.tensor(1.0, device="cuda")),
    ("copies_from_host", lambda d: torch.as_tensor([1.0], device="cuda")),
    ("copies_from_host", lambda d: torch.as_tensor(np.ones(2), device="cuda")),
    ("copies_from_host", lambda d: d.v.new_tensor([1.0])),
    ("copies_from_host", lambda d: d.host.cuda()),
    ("copies_from_host", lambda d: d.x.copy_(d.host)),
    ("copies_from_host", lambda d: torch.zeros(()).to("cuda")),
    ("copies_from_host", lambda d: d.x[[0, 2]]),
    ("copies_from_host", lambda d: d.x[np.array([0, 2])]),
    ("mixes_host_in", lambda d: d.x[d.places]),
    ("mixes_host_in", lambda d: torch.where(d.mask, d.x, torch.tensor(0.0))),
    ("mixes_host_in", lambda d: d.v.index_put_((d.places,), d.v)),
    ("is_unknown", lambda d: torch.histc(d.x)),
    ("is_unknown", lambda d: torch._foreach_copy_([d.x], [d.host])),
    ("is_unknown", lambda d: torch.linalg.inv(d.square)),
    ("is_unknown", lambda d: torch.linalg.solve(d.square, d.square)),
    ("is_unknown", lambda d: torch.multinomial(d.x.abs(), 2)),
    ("is_unknown", lambda d: torch.normal(d.v, d.v.abs())),
    ("is_unknown", lambda d: torch.linalg.cholesky(d.square)),
    ("reads_words", lambda d: repr(d.v)),
    ("reads_words", lambda d: f"{d.v}"),
    ("reads_words", lambda d: str(d.one)),
    ("reads_words", lambda d: d.v.numpy()),
    ("reads_words", lambda d: np.asarray(d.v)),
    ("waits", lambda d: torch.cuda.synchronize()),
    ("waits", lambda d: torch.cuda.Event.synchronize(None)),  # type: ignore[arg-type]
    ("waits", lambda d: torch.cuda.Stream.synchronize(None)),  # type: ignore[arg-type]
]

ALLOWED: list[Snippet] = [
    lambda d: d.x.sum(),
    lambda d: d.x.max(1),
    lambda d: d.x.reshape(-1).view(3, 4).mT,
    lambda d: d.x[1:, None],
    lambda d: d.x[d.labels],
    lambda d: d.v.scatter_add_(0, d.labels, d.v),
    lambda d: d.v.index_add_(0, d.labels, d.v),
    lambda d: torch.where(d.mask, d.x, 0.0),
    lambda d: d.x.masked_fill_(d.mask, 0.0),
    # A number written to one place is a fill or a copy from the host, by the build of torch: neither list has it.
    lambda d: d.x.__setitem__(slice(0, 2), 5.0),
    lambda d: d.x + torch.tensor(2.0),
    lambda d: d.x * 2.0 + 1,
    lambda d: torch.zeros(3, device="cuda"),
    lambda d: torch.full((3,), 2.0, device="cuda"),
    lambda d: torch.arange(3, device="cuda"),
    lambda d: d.x.double().half(),
    lambda d: d.host.to("cuda", non_blocking=True),
    lambda d: d.x.to("cuda"),
    lambda d: d.x.copy_(d.x.flip(0)),
    lambda d: d.x.gather(1, d.labels.unsqueeze(1)),
    lambda d: d.x.sort(1).values.cumsum(1),
    lambda d: d.x.topk(2, 1),
    lambda d: torch.cat((d.v, d.v)).logsumexp(0),
    lambda d: torch.nn.functional.one_hot(d.labels, 3),
    lambda d: torch.searchsorted(d.v, d.v),
    lambda d: torch.nn.functional.cross_entropy(d.x, d.labels),
    lambda d: repr(d.host),
    lambda d: d.x.copy_(d.host, non_blocking=True),
    lambda d: repr(d.x.shape) + str(d.x.device),
    lambda d: d.x.clone().detach().numel(),
    lambda d: torch.tensor(2.0).item(),
    lambda d: d.host.double().clone(),
    lambda d: torch.tensor([1, 0, 2])[torch.tensor([2, 0])].shape,
    lambda d: torch.nn.Linear(3, 2, device="cuda")(d.x),
    lambda d: torch.nn.functional.dropout(d.x, 0.5),
    lambda d: torch.rand_like(d.x).lerp(d.x, 0.3),
    lambda d: torch.randn(3, device="cuda").normal_(),
    lambda d: torch.nn.functional.mse_loss(d.x, d.x),
    lambda d: torch.nn.functional.binary_cross_entropy_with_logits(d.v, d.v),
    lambda d: torch.nn.functional.scaled_dot_product_attention(d.x, d.x, d.x, is_causal=True),
    lambda d: torch._foreach_add([d.x, d.v], 1.0),
    lambda d: torch._foreach_norm([d.x, d.v]),
    lambda d: torch.triu(d.square) + torch.eye(3, device="cuda").diag_embed().sum(),
    lambda d: stepped(d, torch.optim.SGD, momentum=0.9),
    lambda d: stepped(d, torch.optim.AdamW, fused=True),
]


def stepped(d: Device, make: Any, **options: Any) -> None:
    """Clip gradients, and two steps of an optimizer."""
    weight = torch.nn.Parameter(d.square)
    weight.grad = torch.ones_like(weight)
    torch.nn.utils.clip_grad_norm_([weight], 1.0)
    optimizer = make([weight], **options)
    optimizer.step()
    optimizer.step()
    optimizer.zero_grad()


def outcome(snippet: Snippet, **guard: Any) -> HostSync | None:
    """What the guard says; whatever else a snippet raises is not its word."""
    with fake_cuda():
        device = Device()
        try:
            with Guard(**guard):
                snippet(device)
        except HostSync as found:
            return found
        except Exception:
            if not guard:
                raise
    return None


def ids(snippets: list[Any]) -> list[str]:
    return [str(number) for number in range(len(snippets))]


@pytest.mark.fault(29)
@pytest.mark.parametrize(("rule", "snippet"), REFUSED, ids=ids(REFUSED))
def test_the_guard_refuses_what_makes_the_host_wait_and_names_its_line(
    rule: str, snippet: Snippet
) -> None:
    found = outcome(snippet)
    assert found is not None
    here = (__file__, snippet.__code__.co_firstlineno)
    assert (found.rule, found.file, found.line) == (rule, *here), found
    assert f"{here[0]}:{here[1]}: " in str(found)


@pytest.mark.fault(29)
@pytest.mark.parametrize("snippet", ALLOWED, ids=ids(ALLOWED))
def test_the_guard_lets_pass_what_waits_for_nothing(snippet: Snippet) -> None:
    assert outcome(snippet) is None


@pytest.mark.fault(29)
@pytest.mark.parametrize("rule", SYNC_RULE_NAMES)
def test_without_any_one_rule_something_slips_through(rule: str) -> None:
    mine = [snippet for name, snippet in REFUSED if name == rule]
    assert any(outcome(snippet, without=(rule,)) is None for snippet in mine)


@pytest.mark.fault(29)
def test_only_what_launches_a_kernel_is_counted() -> None:
    with fake_cuda():
        device = Device()
        with Guard() as seen:
            device.x.reshape(-1).view(3, 4).mT[1:].detach().unsqueeze(0).expand(2, -1, -1)
        assert seen.names == []
        with Guard() as seen:
            device.x.add_(1).sum(1, keepdim=True).mT.mul(2)
        assert seen.names == ["add_.Tensor", "sum.dim_IntList", "mul.Tensor"]


@pytest.mark.fault(29)
def test_a_line_is_named_through_the_calls_of_torch() -> None:
    def loss(x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(x)

    with fake_cuda(), pytest.raises(HostSync) as caught, Guard():
        torch.nn.Sequential(torch.nn.Identity())(
            loss(torch.zeros(3, device="cuda", dtype=torch.int64))
        )
    assert (caught.value.file, caught.value.line) == (__file__, loss.__code__.co_firstlineno + 1)


@pytest.mark.fault(29)
def test_a_step_is_called_in_the_guard_and_its_line_is_named() -> None:
    with fake_cuda(), torch.device("cuda"):
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout()
        )
        x = torch.randn(8, 4)
        seen: list[float] = []

        def step() -> Tensor:
            return model(x).logsumexp(1).mean()

        def logging_step() -> None:
            loss = step()
            seen.append(loss.item())

        guard = assert_no_sync(step)
        assert guard.names[-1] == "mean.default"
        with pytest.raises(HostSync) as caught:
            assert_no_sync(logging_step)
    line = logging_step.__code__.co_firstlineno + 2
    assert (caught.value.rule, caught.value.file, caught.value.line) == (
        "reads_value",
        __file__,
        line,
    )
    with assert_no_sync() as guard:
        torch.zeros(3, device="cuda").add_(1)
    assert guard.names == ["zeros.default", "add_.Tensor"] or guard.names[-1] == "add_.Tensor"
    assert torch.zeros(3).add_(1).tolist() == [1.0] * 3, "outside tensors have values again"
