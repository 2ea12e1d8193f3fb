"""`ptmetrics bench`: everything beside the peers that are installed, in one run and one process."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import NamedTuple

from ptmetrics.bench.curves import bytes_rows, curve_rows
from ptmetrics.bench.device import bench_device
from ptmetrics.bench.loops import LoopRow, loop_rows, mlp_loop, resnet_loop
from ptmetrics.bench.machine import setting
from ptmetrics.bench.peers import installed
from ptmetrics.bench.report import (
    MANY_SCORES,
    Results,
    bars_reached,
    results_text,
    write_benchmarks,
)
from ptmetrics.bench.updates import update_rows


class Plan(NamedTuple):
    """How much is measured.

    Attributes:
        update_sizes: Rows and classes of the full multiclass set.
        update_rounds: Rounds of each update.
        scores: Number of scores for the curves.
        curve_rounds: Rounds of the curves.
        state_scores: Numbers of scores whose state is weighed.
        mlp_batches: Batches of a block of the small loop.
        loop_rounds: Blocks of each side in each phase.
    """

    update_sizes: tuple[tuple[int, int], ...]
    update_rounds: int
    scores: int
    curve_rounds: int
    state_scores: tuple[int, ...]
    mlp_batches: int
    loop_rounds: int


FULL_PLAN = Plan(
    update_sizes=((64, 10), (256, 1000), (1024, 1000)),
    update_rounds=15,
    scores=MANY_SCORES,
    curve_rounds=3,
    state_scores=(10_000, 100_000, 1_000_000),
    mlp_batches=128,
    loop_rounds=9,
)
QUICK_PLAN = Plan(
    update_sizes=((64, 10),),
    update_rounds=3,
    scores=20_000,
    curve_rounds=1,
    state_scores=(1000, 10_000),
    mlp_batches=4,
    loop_rounds=2,
)


def bench(args: argparse.Namespace) -> int:
    """As the command says; returns 1 if a peer's number is not ours, else 0."""
    if args.device == "cuda":
        return bench_device(args)
    results = measure(quick=args.quick, threads=args.threads, metrics_only=args.metrics)
    if args.json:
        print(json.dumps({**asdict(results), "bars": bars_reached(results)}))
    else:
        print("\n".join(results_text(results)))
    if args.out:
        print(f"written: {write_benchmarks(results, args.out)}", file=sys.stderr)
    return int(any(row.differs for row in results.updates))


def measure(*, quick: bool, threads: int | None, metrics_only: bool = False) -> Results:
    """Measure all parts, one after the other; or the metrics alone, without loops."""
    options = ""
    plan = FULL_PLAN
    if quick:
        options += " --quick"
        plan = QUICK_PLAN
    if metrics_only:
        options += " --metrics"
    known = {**setting(threads, "cpu", options), "scores": plan.scores}
    modules, _ = installed()
    _say("updates")
    updates = list(update_rows(modules, plan.update_sizes, plan.update_rounds))
    _say("curves")
    curves = list(curve_rows(modules, plan.scores, plan.curve_rounds))
    state_bytes = list(bytes_rows(modules, plan.state_scores))
    loops: list[LoopRow] = []
    if not metrics_only:
        _say("loops")
        batches = {"train": plan.mlp_batches, "val": plan.mlp_batches}
        loops += loop_rows(mlp_loop(), modules, rounds=plan.loop_rounds, batches=batches)
        if not quick:
            batches = {"train": 8, "val": 16}
            resnet = resnet_loop(18, 32, 64)
            loops += loop_rows(resnet, modules, rounds=plan.loop_rounds, batches=batches)
    return Results(known, updates, curves, state_bytes, loops)


def _say(part: str) -> None:
    print(f"measuring {part}", file=sys.stderr, flush=True)
