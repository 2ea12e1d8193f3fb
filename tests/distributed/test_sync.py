"""`metrics.sync()` of real ranks: exact for any share of the data, bounded in collectives, and never a hang."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from gloo_ranks import Failed, run_ranks
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

import ptmetrics as pm
from ptmetrics import distributed
from ptmetrics.errors import RanksError
from ptmetrics.metrics.base import Metrics, sync_together

CLASSES = 4
ROWS = 50
COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "barrier",
    "broadcast",
    "gather",
    "monitored_barrier",
    "reduce",
    "reduce_scatter",
)


def rows_of(rank: int, ranks: int) -> slice:
    """The share of a rank: uneven, and none for the first."""
    if rank == 0 and ranks > 1:
        return slice(0, 0)
    others = max(1, ranks - 1)
    return (
        slice(ROWS * (rank - 1) // others, ROWS * max(rank, 1) // others) if rank else slice(ROWS)
    )


def data(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(ROWS, CLASSES, generator=generator).bfloat16().to(dtype)
    return logits, torch.randint(0, CLASSES, (ROWS,), generator=generator)


def every_metric() -> dict[str, Metrics]:
    """One of each task, with all ways to merge among their cells."""
    return {
        "multiclass": pm.MulticlassMetrics(CLASSES, curves=True),
        "kept": pm.BinaryMetrics(capacity=1000),
        "weighted": pm.MulticlassMetrics(CLASSES),
        "regression": pm.RegressionMetrics(capacity=1000, scores=["spearman"]),
        "multilabel": pm.MultilabelMetrics(CLASSES),
        "mean": pm.Mean("margin", lambda preds, target: preds[:, 0], higher_is_better=True),
        "groups": pm.MulticlassMetrics(CLASSES, groups=True, slices=2),
    }


def feed(metrics: dict[str, Metrics], rows: slice, dtype: torch.dtype = torch.float32) -> None:
    logits, target = data(dtype)
    logits, target = logits[rows], target[rows]
    number = torch.arange(ROWS)[rows]
    metrics["multiclass"].update(logits, target)
    metrics["kept"].update(logits[:, 0], (target > 1).long())  # whole numbers, kept one by one
    weight = None
    if len(target) and rows.stop == ROWS:  # of the last rank alone
        weight = torch.full((len(target),), 0.5)
    metrics["weighted"].update(logits, target, weight)
    metrics["regression"].update(logits[:, 0], target)
    metrics["multilabel"].update(
        logits, torch.stack([target == c for c in range(CLASSES)], 1).long()
    )
    metrics["mean"].update(logits, target)
    metrics["groups"].update(logits, target, slices=number % 2, group=number // 5)


def plain(metrics: Metrics) -> dict[str, Any]:
    scores = metrics.compute()
    return {"n": scores.n, **{name: score.value for name, score in scores.items()}}


@contextmanager
def counted_collectives() -> Iterator[list[str]]:
    """The names of the collectives that are called."""
    called: list[str] = []
    kept = {name: getattr(dist, name) for name in COLLECTIVES}

    def counting(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            called.append(name)
            return kept[name](*args, **options)

        return call

    for name in COLLECTIVES:
        setattr(dist, name, counting(name))
    try:
        yield called
    finally:
        for name, function in kept.items():
            setattr(dist, name, function)


# What is counted.


def all_kinds(rank: int, ranks: int) -> dict[str, Any]:
    metrics = every_metric()
    feed(metrics, rows_of(rank, ranks), torch.bfloat16 if rank == 1 else torch.float32)
    before = {name: repr(metric.state_dict()) for name, metric in metrics.items()}
    with counted_collectives() as called:
        merged = sync_together(list(metrics.values()), timeout_s=20)
        first = list(called)
        again = sync_together(list(metrics.values()), timeout_s=20)
    same = {name: repr(metric.state_dict()) for name, metric in metrics.items()} == before
    return {
        "scores": {name: plain(one) for name, one in zip(metrics, merged, strict=True)},
        "again": {name: plain(one) for name, one in zip(metrics, again, strict=True)},
        "matrix": merged[0].state_dict()["cells"]["confusion"].tolist(),
        "text": repr([one.compute().to_dict() for one in merged]),
        "collectives": first,
        "second": called[len(first) :],
        "unchanged": same,
    }


@pytest.mark.fault(1)
@pytest.mark.fault(2)
@pytest.mark.fault(3)
@pytest.mark.fault(5)
@pytest.mark.parametrize("ranks", [2, 3])
def test_all_ranks_get_what_one_process_gets(ranks: int, tmp_path: Path) -> None:
    whole = every_metric()
    for rank in range(ranks):
        feed(whole, rows_of(rank, ranks))
    found = run_ranks(all_kinds, ranks, tmp_path, ranks)
    expected = {name: plain(metrics) for name, metrics in whole.items()}
    for each in found:
        assert each["matrix"] == whole["multiclass"].state_dict()["cells"]["confusion"].tolist()
        for name, scores in expected.items():
            assert each["scores"][name] == pytest.approx(scores, rel=1e-12, nan_ok=True), name
        assert each["again"].keys() == each["scores"].keys()
        assert repr(each["again"]) == repr(each["scores"])
        assert each["unchanged"]
    assert len({each["text"] for each in found}) == 1, "the same to the last bit on all ranks"


def test_a_sync_is_a_header_and_a_reduce_whatever_the_number_of_metrics(tmp_path: Path) -> None:
    """A third one, of texts, is there only where ranks bring unlike things: here weights of one."""
    for each in run_ranks(all_kinds, 2, tmp_path, 2):
        assert each["collectives"] == ["all_gather", "all_gather", "all_reduce"]
    for each in run_ranks(alike, 2, tmp_path / "alike"):
        assert each == [["all_gather", "all_reduce"]] * 2


def alike(rank: int) -> list[list[str]]:
    found = []
    for number in (1, 7):
        metrics = [pm.MulticlassMetrics(CLASSES) for _ in range(number)]
        for metric in metrics:
            metric.update(*data())
        with counted_collectives() as called:
            sync_together(metrics, timeout_s=20)
        found.append(called)
    return found


def in_turn(rank: int) -> list[tuple[float, int, int]]:
    metrics = pm.MulticlassMetrics(2)
    found = []
    for step in range(3):
        metrics.update(torch.eye(2)[[rank, rank]], torch.tensor([step % 2, 1]))
        merged = metrics.sync(timeout_s=20)
        merged.update(torch.eye(2), torch.tensor([0, 1]))  # a copy: nobody else sees it
        merged = metrics.sync(timeout_s=20)
        found.append((merged.compute()["accuracy"].value, merged.updates, metrics.updates))
    return found


@pytest.mark.fault(11)
def test_update_sync_update_sync_counts_nothing_twice(tmp_path: Path) -> None:
    right = [[0.5, 2, 1], [0.5, 4, 2], [0.5, 6, 3]]
    assert [[list(one) for one in each] for each in run_ranks(in_turn, 2, tmp_path)] == [right] * 2


def test_a_process_alone_gets_a_copy() -> None:
    metrics = pm.MulticlassMetrics(2)
    metrics.update(torch.eye(2), torch.tensor([0, 0]))
    merged = metrics.sync()
    merged.update(torch.eye(2), torch.tensor([0, 0]))
    assert (metrics.compute().n, merged.compute().n) == (2, 4)
    assert distributed.world_of_now() is None


def twice(rank: int, store: str) -> list[int]:
    """The process group is left and made anew."""
    metrics = pm.MulticlassMetrics(2)
    metrics.update(torch.eye(2), torch.tensor([0, 1]))
    found = [metrics.sync(timeout_s=20).compute().n]
    dist.barrier()
    dist.destroy_process_group()
    found.append(metrics.sync(timeout_s=20).compute().n)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found.append(metrics.sync(timeout_s=20).compute().n)
    return found


@pytest.mark.slow
def test_a_process_group_may_be_left_and_made_anew(tmp_path: Path) -> None:
    again = f"file://{tmp_path}/again"
    assert run_ranks(twice, 2, tmp_path, again) == [[4, 2, 4]] * 2


# What goes wrong.


def said(call: Callable[[], Any]) -> tuple[str, float]:
    begun = time.monotonic()
    try:
        call()
    except RanksError as error:
        return str(error), time.monotonic() - begun
    return "", time.monotonic() - begun


def unlike(rank: int) -> list[str]:
    first, second = pm.MulticlassMetrics(3), pm.BinaryMetrics()
    both = [first, second]
    swapped = [second, first] if rank else both
    fewer = [first] if rank == 2 else both
    found = [said(lambda: sync_together(both, timeout_s=20))[0]]
    found.append(said(lambda: sync_together(swapped, timeout_s=20))[0])
    found.append(said(lambda: sync_together(fewer, timeout_s=20))[0])
    found.append(said(lambda: pm.MulticlassMetrics(3 + rank).sync(timeout_s=20))[0])
    found.append(said(lambda: first.sync(timeout_s=20))[0])
    return found


@pytest.mark.fault(4)
def test_another_order_or_set_of_metrics_is_the_same_error_on_all_ranks(tmp_path: Path) -> None:
    first, *others = run_ranks(unlike, 3, tmp_path)
    assert [first] * 2 == others
    none, order, fewer, classes, after = first
    assert none == after == ""
    assert order.startswith("metrics: expected the same metrics on all ranks, got on rank 0 {")
    assert "on rank 1 {" in order
    assert order.count("num_classes") >= 2
    assert '"binary"' in fewer.partition("on rank 2")[0]
    assert '"binary"' not in fewer.partition("on rank 2")[2]
    assert '"num_classes": 3' in classes
    assert '"num_classes": 4' in classes


def on_rank_0_only(rank: int) -> list[Any]:
    """Rank 1 comes when rank 0 has given up, then both come, then rank 1 does not at all."""
    metrics = pm.MulticlassMetrics(2)
    metrics.update(torch.eye(2), torch.tensor([0, rank]))
    store = dist.distributed_c10d._get_default_store()
    found: list[Any] = []
    if rank == 0:
        found.append(said(lambda: metrics.sync(timeout_s=0.5)))
        store.set("given up", "")
        store.wait(["late"])  # as training does that goes on together
    else:
        store.wait(["given up"])
        found.append(said(lambda: metrics.sync(timeout_s=20)))
        store.set("late", "")
    both = metrics.sync(timeout_s=20)
    found.append(both.compute().n)
    if rank == 0:
        found.append(said(lambda: metrics.sync(timeout_s=0.5)))
        found.append(said(lambda: metrics.sync(timeout_s=20)))
        store.set("done", "")
    store.wait(["done"])
    return found


@pytest.mark.fault(6)
def test_a_rank_that_does_not_come_is_named_in_time_and_may_come_again(tmp_path: Path) -> None:
    first, second = run_ranks(on_rank_0_only, 2, tmp_path)
    text, seconds = first[0]
    assert text == (
        "ranks: expected a sync with all 2 ranks, got none from rank 1 in 0.5 s. Let every rank "
        "call it, or opt out with Monitor(sync=False)."
    )
    assert 0.4 < seconds < 10
    assert "none from rank 1" in second[0][0]
    assert second[0][1] < 10, "who comes late does not wait"
    assert first[1] == second[1] == 4
    assert "none from rank 1 in 0.5 s" in first[2][0]
    assert "none from rank 1" in first[3][0]
    assert first[3][1] < 10, "who never came is not waited for again"


def killed(rank: int, when: str) -> list[Any]:
    metrics = pm.MulticlassMetrics(2)
    metrics.update(torch.eye(2), torch.tensor([0, 1]))
    found: list[Any] = [metrics.sync(timeout_s=10).compute().n]
    if rank == 1:
        if when == "in the middle":
            distributed.World.exchange = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
            metrics.sync(timeout_s=10)
        os.kill(os.getpid(), signal.SIGKILL)
    found.append(said(lambda: metrics.sync(timeout_s=1)))
    found.append(metrics.compute().n)
    return found


@pytest.mark.fault(8)
@pytest.mark.parametrize("when", ["between two syncs", "in the middle"])
@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_and_the_others_go_on(when: str, tmp_path: Path) -> None:
    first, second, third = run_ranks(killed, 3, tmp_path, when, may_fail=True)
    assert isinstance(second, Failed)
    for together, (text, seconds), own in (first, third):
        assert (together, own) == (6, 2)
        assert "none from rank 1 in 1 s" in text
        assert seconds < 20


def test_a_store_that_is_gone_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(FakeStore):
        def set(self, key: str, value: str) -> None:
            raise dist.DistNetworkError("Connection reset by peer")

        def check(self, keys: list[str]) -> bool:
            return False

    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", Gone)
    with pytest.raises(RanksError, match="an answer of the store, got none: Connection reset"):
        distributed.World().meet("metrics", 1.0)
