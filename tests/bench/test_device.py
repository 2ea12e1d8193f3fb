"""The part for a GPU runs whole: on the CPU, and with every CUDA branch on a simulation."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_cuda import FakeCuda, names_of

import ptmetrics as pm
from ptmetrics.bench import device, peers, probes, timing
from ptmetrics.bench.device import (
    PLANS,
    DeviceRow,
    bench_device,
    device_loops,
    device_rows,
    device_text,
    graphed_rows,
    half_precision,
    replayed,
    runs_there,
    scored_rows,
    scored_text,
    shaped_batch,
)
from ptmetrics.bench.loops import Loop
from ptmetrics.bench.peers import Competitor, plain_pytorch
from ptmetrics.bench.probes import CudaProbes, Probes
from ptmetrics.bench.updates import class_batch
from ptmetrics.cli import main
from ptmetrics.testing import Guard, fake_cuda

SIDES = ("ptmetrics", "plain PyTorch")
REFERENCES = ("x.max(1) alone", "one read: x.sum()")


@pytest.fixture(autouse=True)
def _few_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS", {"torcheval": "no.such.module"})
    # What is no kernel of the simulation takes no time there, and would be repeated for long.
    monkeypatch.setattr(timing, "LEAST_S", 1e-3)


def options(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **({"device": "cuda", "quick": True, "json": True, "out": None, "threads": 1} | changes)
    )


def test_without_a_gpu_it_runs_and_names_what_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "--device", "cuda", "--quick", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "device: CPU" in text
    assert (
        "launches, waits, peak memory, CUDA graphs, mixed precision: not measured: no CUDA device"
        in text
    )
    assert "not measured: no CUDA device" in (tmp_path / "BENCHMARKS-gpu.md").read_text()
    data = json.loads((tmp_path / "docs" / "gpu-benchmark.json").read_text())
    assert [row["side"] for row in data["updates"]] == [*SIDES, *REFERENCES]
    tasks = {row["task"].split(",")[0] for row in data["tasks"]}
    assert tasks == {"binary", "multilabel", "regression", "multiclass"}
    assert "one update of multilabel, 64 rows" in text
    told = [*data["updates"], *data["tasks"]]
    assert all(row["launches"] is row["waits"] is row["graph"] is None for row in told)
    assert (tmp_path / "docs" / "gpu-updates.png").stat().st_size > 1000


def test_with_a_simulated_gpu_every_number_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(probes, "profiled_names", names_of(*["cudaLaunchKernel"] * 30))
    launched(monkeypatch, cuda)
    assert bench_device(options(), cuda, where="cpu") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["setting"]["device"] == "Simulated GPU"
    mine, by_hand, *others = found["updates"]
    assert [row["side"] for row in found["updates"]] == [*SIDES, *REFERENCES]
    assert all(row["graph"] is None for row in others), "there is nothing to count"
    assert mine["device_us"] == pytest.approx(1000, rel=1e-6), (
        "a simulated update takes a millisecond"
    )
    for row in (mine, by_hand):
        assert (row["launches"], row["waits"], row["peak_bytes"]) == (15, 0, 512)
        assert row["replay_us"] > 0
        assert row["graph"] == "loses rows", "the simulated replay works, and counts nothing"
    for row in found["tasks"]:
        assert row["rows"] == 64
        assert (row["launches"], row["waits"], row["differs"]) == (15, 0, [])
    parts = [row["side"] for row in found["tasks"] if row["task"].startswith("multiclass")]
    assert parts == ["ptmetrics"] + [f"ptmetrics, {x}" for x in ("7 slices", "groups", "curves")]
    assert {row["side"] for row in found["loops"]} == {"bare loop", "ptmetrics"}
    assert bench_device(options(json=False), cuda, where="cpu") == 0
    text = capsys.readouterr().out
    assert "not measured" not in text
    for words in ("launches 15.0", "waits 0.0", "512", "graph loses rows", "us a replay"):
        assert words in text


def launched(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> None:
    """Each update and each batch of a loop is a kernel of the simulation as well."""
    update, run = pm.MulticlassMetrics.update, Loop.run

    def trained(self: Loop, phase: str, batches: int, after: Any = None) -> None:
        run(self, phase, batches, after)
        cuda.work(10 * batches)

    def on_device(self: Any, preds: Any, target: Any, weight: Any = None, **parts: Any) -> None:
        update(self, preds, target, weight, **parts)
        cuda.work(1, 512)

    def by_hand(*arguments: Any) -> Competitor:
        side = plain_pytorch(*arguments)
        return Competitor(
            side.name, lambda *batch: (side.update(*batch), cuda.work(3, 512)), side.scores
        )

    monkeypatch.setattr(Loop, "run", trained)
    monkeypatch.setattr(pm.MulticlassMetrics, "update", on_device)
    monkeypatch.setattr(
        device, "peer_sides", lambda *arguments: [by_hand(10, ["confusion", "accuracy"])]
    )


def side(
    cuda: FakeCuda, *, waits: bool, counts: bool = True
) -> tuple[Competitor, Callable[[], None]]:
    rows = [0]

    def call() -> None:
        cuda.work(waits=waits)
        if cuda.graphed is not None:
            cuda.graphed.calls.append(count)
        else:
            count()

    def count() -> None:
        rows[0] += 8 * counts

    return Competitor(
        "side", lambda *batch: call(), lambda: {"confusion": [[rows[0], 0], [0, 0]]}
    ), call


def test_a_graph_whose_replays_count_is_told_from_one_that_loses_rows_and_one_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    probe = CudaProbes(cuda)
    for counts, words in ((True, "counts"), (False, "loses rows")):
        one, call = side(cuda, waits=False, counts=counts)
        assert replayed(one, probe.capture(call), 8, probe.clock) == (
            words,
            pytest.approx(1000),
        )
    monkeypatch.setattr(device, "_device_sides", lambda *arguments: [side(cuda, waits=True)[0]])
    row = DeviceRow("side", 8, 10, 1.0, 1.0, 1.0, 3.0, None, None, None)
    ((place, refused),) = graphed_rows({}, probe, [row], "cpu")
    assert place == 0
    assert refused.graph == "refused: CUDA error: operation not permitted when stream is capturing"
    assert refused.replay_us is None


def test_ours_is_captured_before_a_peer_can_leave_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(
        device,
        "graph_of_update",
        lambda modules, probes, row, where: (order.append(row.side), None),
    )
    rows = [
        DeviceRow(name, n, 10, 1.0, 1.0, 1.0, 3.0, None, None, None)
        for n in (8, 9)
        for name in ("ptmetrics", "a")
    ]
    list(graphed_rows({}, CudaProbes(FakeCuda()), rows, "cpu"))
    assert order == ["ptmetrics", "ptmetrics", "a", "a"]


def test_a_peer_that_cannot_run_on_the_device_is_left_out_and_ours_may_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise NotImplementedError("no kernel for it")

    assert not runs_there("peer", fail)
    assert "peer is left out: no kernel for it" in capsys.readouterr().err
    with pytest.raises(NotImplementedError):
        runs_there("ptmetrics", fail)


def test_our_side_updates_on_fake_cuda_tensors_without_waiting() -> None:
    with fake_cuda():
        metrics = pm.MulticlassMetrics(10, topk=(1, 5), device="cuda")
        batch = (
            torch.zeros(64, 10, device="cuda"),
            torch.zeros(64, dtype=torch.int64, device="cuda"),
        )
        with Guard() as seen:
            metrics.update(*batch)
    assert seen.names


def test_peers_are_moved_to_the_device_and_ignite_stays_out() -> None:
    moved: list[str] = []
    metric = SimpleNamespace(update=lambda *batch: None, to=moved.append)
    library = SimpleNamespace(
        **{name: lambda *a, **k: metric for name in ("MulticlassAccuracy", "Accuracy")}
    )
    modules = {"torcheval": library, "pytorch-ignite": library}
    found = peers.peer_sides(modules, "multiclass", 10, ["accuracy"], "cuda")
    assert ([one.name for one in found], moved) == (["torcheval"], ["cuda"])


def test_a_number_that_is_not_ours_is_told() -> None:
    row = DeviceRow("peer", 8, 2, 1.0, 1.0, 1.0, 3.0, None, None, None, None, None, ("accuracy",))
    assert "\n".join(device_text([row])).endswith("DIFFERS: accuracy")


def test_mixed_precision_is_bfloat16_where_it_is_native() -> None:
    assert half_precision(FakeCuda()) == torch.bfloat16
    assert half_precision(FakeCuda(bf16=False)) == torch.float16


def test_a_gpu_trains_resnets_of_both_sizes() -> None:
    with fake_cuda():
        loops = device_loops("cuda", quick=False, cuda=FakeCuda())
    names = ["two-layer MLP", "ResNet-18", "ResNet-18", "ResNet-50"]
    assert [loop.name.split(",")[0] for loop in loops] == names
    assert all(loop.batch[0].is_cuda for loop in loops)
    assert [loop.amp for loop in loops] == [None, *[torch.bfloat16] * 3]


@pytest.mark.parametrize("size", [(6, 5), (2, 6, 3, 5)])
def test_every_side_takes_rows_and_pictures_and_is_read_beside_a_maximum(
    size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    monkeypatch.setattr(device, "MOST_COMPARED", 5)
    plan = PLANS["cpu", True]
    rows = list(device_rows({"torchmetrics": torchmetrics}, Probes(), size, plan, "cpu"))
    sides = ["ptmetrics", "torchmetrics"]
    if len(size) == 2:
        sides.append("plain PyTorch")
    assert [row.side for row in rows] == [*sides, *REFERENCES]
    assert all(row.size == size and not row.differs for row in rows)
    assert f"full set: {' x '.join(map(str, size))}" in "\n".join(device_text(rows))


def test_a_batch_of_pictures_has_the_scores_of_its_pixels_in_dimension_one() -> None:
    preds, target = shaped_batch((2, 4, 3, 5), "cpu")
    rows, classes = class_batch(30, 4)
    assert (preds.shape, target.shape) == ((2, 4, 3, 5), (2, 3, 5))
    assert preds.is_contiguous()
    assert torch.equal(preds[1, :, 2, 4], rows[29])
    assert torch.equal(target.reshape(-1), classes)


def test_scores_are_computed_anew_each_time_and_timed_beside_those_of_a_peer() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    modules = {"torchmetrics": torchmetrics}
    mine, theirs = scored_rows(modules, Probes(), 6, 2, "cpu")
    assert (mine.side, theirs.side) == ("ptmetrics", "torchmetrics")
    assert mine.waits is None
    told = "\n".join(scored_text([mine, replace(theirs, waits=3)]))
    assert "compute() of the full set, 6 classes" in told
    assert told.endswith("waits 3")
    (peer,) = peers.peer_sides(modules, "multiclass", 4, ["accuracy"])
    peer.update(*class_batch(32, 4))
    assert peer.compute is not None
    assert peer.compute()["accuracy"] is not peer.compute()["accuracy"]  # type: ignore[index]


def test_each_line_is_told_when_it_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probes, "profiled_names", names_of("cudaLaunchKernel"))
    monkeypatch.setattr(device, "scored_rows", broken)
    with pytest.raises(KeyboardInterrupt):
        bench_device(options(json=False), FakeCuda(), where="cpu")
    assert "one update of the full set: 64 x 10" in capsys.readouterr().out


def test_on_a_gpu_every_size_of_the_table_is_measured_quickly_or_at_length() -> None:
    quick, full = PLANS["cuda", True], PLANS["cuda", False]
    assert quick.sizes == full.sizes
    assert {(64, 10), (2048, 32000), (8, 21, 512, 512)} <= set(full.sizes)
    assert (quick.curves, full.curves) == ((10**7,), (10**7, 10**8))
