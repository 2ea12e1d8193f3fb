"""The cost of watching a loop is what hooks took in it, over the bare loop, which stays as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ptmetrics.bench import loops
from ptmetrics.bench.loops import (
    PHASES,
    BareLoop,
    Loop,
    MonitoredLoop,
    Stopwatch,
    TorchmetricsLoop,
    hook_frame_us,
    loop_rows,
)
from ptmetrics.bench.report import loop_text
from ptmetrics.bench.timing import Call
from tests.bench.test_bench_report import RESULTS


def small(amp: torch.dtype | None = None) -> Loop:
    return Loop("small", nn.Linear(4, 5), (torch.randn(6, 4), torch.arange(6) % 5), 5, amp)


def ticking(step_ns: int) -> Iterator[int]:
    now = 0
    while True:
        yield now
        now += step_ns


def test_a_stopwatch_adds_up_what_it_wraps_and_nothing_else() -> None:
    ticks = ticking(2000)
    watch = Stopwatch(lambda: next(ticks))
    assert watch.wrap(lambda a, *, b: a + b)(1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        watch.wrap(lambda: 1 // 0)()
    assert watch.take_us() == 4
    assert watch.take_us() == 0


def test_hooks_are_timed_where_they_run_and_the_loop_is_left_as_it_was(tmp_path: Path) -> None:
    loop, ticks = small(), ticking(1000)
    hooked = MonitoredLoop(loop, str(tmp_path))
    hooked.watch = Stopwatch(lambda: next(ticks))
    hooked.block(loop, "train", 3)
    assert hooked.watch.take_us() == 3 * 4, (
        "before and behind the model, behind the loss, behind the step"
    )
    hooked.block(loop, "val", 2)
    assert hooked.watch.take_us() == 2 * 3
    assert "__call__" not in vars(nn.Linear)
    assert "__call__" not in vars(nn.CrossEntropyLoss)
    assert not loop.optimizer._optimizer_step_post_hooks
    scores = hooked.end()
    assert {split: scores.counts[f"{split}_samples"] for split in PHASES} == {
        "train": 18,
        "val": 12,
    }  # type: ignore[attr-defined]


def test_the_share_is_the_time_inside_over_a_bare_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "hook_frame_us", lambda: 5000.0)
    blocks: list[str] = []

    def clock(call: Call, repeats: int) -> float:
        call()
        owner = getattr(call, "func", call).__self__  # type: ignore[attr-defined]
        blocks.append(owner.name)
        return 0.002 if owner.name == "bare loop" else 0.003

    rows = list(loop_rows(small(), {}, rounds=2, batches={"train": 2, "val": 4}, clock=clock))
    assert [(row.phase, row.side) for row in rows] == [
        (p, s) for p in PHASES for s in ("bare loop", "ptmetrics")
    ]
    bare, hooked = rows[:2]
    assert (bare.batch_us[0], bare.added_us, bare.blocks[0]) == (1000, 0, 1)
    assert (hooked.batch_us[0], hooked.end_us) == (1500, 3000)
    assert hooked.blocks == pytest.approx((1.5, 1.5, 1.5))
    assert hooked.share == pytest.approx(hooked.added_us / 1000)
    assert hooked.added_us > 5000, "what torch takes to call the hooks is in it"
    assert blocks.count("ptmetrics") == blocks.count("bare loop") == 2 * (2 + 1)


def test_torchmetrics_counts_each_phase_in_the_same_loop() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    loop = small()
    theirs = TorchmetricsLoop(loop, torchmetrics)
    for phase in PHASES:
        theirs.block(loop, phase, 2)
    assert theirs.watch.take_us() > 0
    for scores, loss in theirs.end():
        assert sum(map(sum, scores["confusion"])) == 12
        assert {"accuracy", "f1/macro", "top5_accuracy", "ece"} <= set(scores)
        assert float(loss) > 0


@pytest.mark.parametrize("amp", [None, torch.bfloat16, torch.float16], ids=str)
def test_a_loop_trains_in_any_precision_and_validates_without_gradients(
    amp: torch.dtype | None,
) -> None:
    loop, told = small(amp), []
    before = loop.model.weight.clone()
    loop.run(
        "train",
        2,
        lambda preds, target, loss, phase: told.append((phase, preds.dtype, loss.requires_grad)),
    )
    assert not torch.equal(loop.model.weight, before)
    after = loop.model.weight.clone()
    loop.run(
        "val",
        1,
        lambda preds, target, loss, phase: told.append((phase, preds.dtype, loss.requires_grad)),
    )
    assert torch.equal(loop.model.weight, after)
    assert told == [(phase, amp or torch.float32, False) for phase in ("train", "train", "val")]


def test_the_frame_of_hooks_is_what_calling_those_that_do_nothing_takes_more() -> None:
    called: list[int] = []

    def clock(call: Call, repeats: int) -> float:
        """A microsecond for the call itself and for each module in it that is watched."""
        modules = call.args  # type: ignore[attr-defined] # a partial
        called.append(sum("__call__" in vars(type(module)) for module in modules))
        return 1e-6 * repeats * (1 + called[-1])

    assert hook_frame_us(clock) == pytest.approx(2.0)
    assert set(called) == {0, 2}
    assert hook_frame_us(lambda call, repeats: 1.0) == 0.0, "noise is no negative time"


def test_nobody_looks_on_for_nothing() -> None:
    bare = BareLoop()
    bare.block(small(), "train", 1)
    assert (bare.watch.take_us(), bare.end()) == (0, None)


def test_the_table_tells_batch_share_blocks_and_the_end_of_an_epoch() -> None:
    text = "\n".join(loop_text(RESULTS))
    assert "10.0 us of them inside (1.00 %); blocks x1.00" in text
    assert (
        "ptmetrics: end of an epoch 0.1 ms; 9.5 ms for 782 training and 157 validation batches"
        in text
    )
