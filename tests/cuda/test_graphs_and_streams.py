"""On a real GPU: CUDA graphs, streams, autocast and compiled models are counted as they are without."""

import pytest
import torch
from on_device import (
    DEVICE,
    assert_same_counts,
    batches_of,
    counted,
    every_case,
    needs_gpu,
)
from oracles import Batch
from registry import MetricCase
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.metrics.base import Metrics

STEPS = 5


def captured(metrics: Metrics, static: Batch) -> torch.cuda.CUDAGraph:
    """A graph of the update with a batch, whose tensors a replay reads anew."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            static.feed(metrics)
    torch.cuda.current_stream().wait_stream(side)
    metrics.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static.feed(metrics)
    return graph


def copied(batch: Batch) -> Batch:
    return Batch(*(None if tensor is None else tensor.clone() for tensor in vars(batch).values()))


def refill(static: Batch, batch: Batch) -> None:
    for name, tensor in vars(static).items():
        if tensor is not None:
            tensor.copy_(getattr(batch, name))


@needs_gpu
@every_case
@pytest.mark.parametrize("weighted", [False, True])
def test_each_replay_of_a_graph_counts_what_it_reads(case: MetricCase, weighted: bool) -> None:
    batches = [case.batch(30, seed, weighted) for seed in range(STEPS)]
    static = copied(batches[0].to(DEVICE))
    metrics = case.make(device=DEVICE)
    graph = captured(metrics, static)
    metrics.reset()
    for batch in batches:
        refill(static, batch)
        graph.replay()
    expected = case.counted(batches)
    replayed = case.make()
    replayed.load_state_dict(metrics.state_dict() | {"updates": STEPS})
    assert_same_counts(replayed, expected, replayed=True)
    metrics.reset()
    graph.replay()
    batches[1].to(DEVICE).feed(metrics)
    assert metrics.compute().n == case.counted([batches[-1], batches[1]]).compute().n


@needs_gpu
@every_case
def test_two_streams_count_into_one_metric(case: MetricCase) -> None:
    batches = batches_of(case, 600) * 3
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    metrics = case.make(device=DEVICE)
    here = [batch.to(DEVICE) for batch in batches]
    before = torch.cuda.current_stream()
    for number, batch in enumerate(here):
        stream = streams[number % 2]
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            batch.feed(metrics)
        before = stream
    torch.cuda.current_stream().wait_stream(before)
    assert_same_counts(metrics, case.counted(batches))


@needs_gpu
def test_metrics_on_streams_of_their_own_do_not_meet() -> None:
    case_batches = [
        (torch.randn(5000, 10, device=DEVICE), torch.randint(10, (5000,), device=DEVICE))
        for _ in range(8)
    ]
    torch.cuda.synchronize()
    metrics = [pm.MulticlassMetrics(10, device=DEVICE) for _ in range(2)]
    for batch in case_batches:
        for one in metrics:
            with torch.cuda.stream(torch.cuda.Stream()):
                one.update(*batch)
            torch.cuda.synchronize()
    alone = pm.MulticlassMetrics(10, device=DEVICE)
    for batch in case_batches:
        alone.update(*batch)
    for one in metrics:
        assert_same_counts(one, alone)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_around_updates_and_scores_changes_nothing(
    case: MetricCase, dtype: torch.dtype
) -> None:
    batches = batches_of(case)
    with torch.autocast(DEVICE, dtype):
        inside = counted(case, *batches)
        scores = inside.compute()
    outside = counted(case, *batches)
    assert_same_counts(inside, outside, loss=1e-12)
    assert scores.n == outside.compute().n
    assert list(scores) == list(outside.compute())


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).to(DEVICE)


def batch(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 32, generator=g)
    return x.to(DEVICE), torch.randint(10, (rows,), generator=g).to(DEVICE)


# Compilers warn of what they could do better.
@pytest.mark.fault(31)
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_is_watched_and_counted() -> None:
    model, criterion = torch.compile(net()), nn.CrossEntropyLoss()
    x, y = batch(64)
    alone = pm.MulticlassMetrics(10, device=DEVICE)
    monitor = pm.Monitor(pm.MulticlassMetrics(10), progress=False, on_fault="raise")
    with monitor.attach(model, criterion=criterion):
        model.eval()
        for _ in range(3):
            with torch.no_grad():
                output = model(x)
                criterion(output, y)
            alone.update(output, y)
        scores = monitor.end_epoch()
    expected = alone.compute()
    assert {name: repr(scores[f"val/{name}"].value) for name in expected} == {
        name: repr(score.value) for name, score in expected.items()
    }


@needs_gpu
def test_a_graph_of_a_training_step_with_its_update_counts_each_replay() -> None:
    model, criterion = net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(64)
    metrics = pm.MulticlassMetrics(10, device=DEVICE)
    outputs = []

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        output = model(x)
        criterion(output, y).backward()
        optimizer.step()
        metrics.update(output, y)
        return output.detach()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    metrics.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step()
    metrics.reset()
    for _ in range(STEPS):
        graph.replay()
        outputs.append(output.clone())
    alone = pm.MulticlassMetrics(10)
    for seen in outputs:
        alone.update(seen.cpu(), y.cpu())
    mine, theirs = metrics.compute(), alone.compute()
    assert mine.n == STEPS * 64
    assert torch.equal(torch.as_tensor(mine.confusion), torch.as_tensor(theirs.confusion))
    assert float(mine["nll"]) == pytest.approx(float(theirs["nll"]), rel=1e-6)
