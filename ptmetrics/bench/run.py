"""`ptmetrics bench`: everything beside the peers that are installed, in one run and one process."""

import argparse
import json
import sys
from dataclasses import asdict

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
    if quick:
        options += " --quick"
    if metrics_only:
        options += " --metrics"
    known = setting(threads, "cpu", options)
    known["scores"] = 20_000 if quick else MANY_SCORES
    modules, _ = installed()
    _say("updates")
    updates = list(update_rows(modules, quick=quick, rounds=3 if quick else 15))
    _say("curves")
    curves = list(curve_rows(modules, known["scores"], 1 if quick else 3))
    counts = (1000, 10_000) if quick else (10_000, 100_000, 1_000_000)
    state_bytes = list(bytes_rows(modules, counts))
    loops: list[LoopRow] = []
    if not metrics_only:
        _say("loops")
        if quick:
            loops += loop_rows(mlp_loop(), modules, rounds=2, batches={"train": 4, "val": 4})
        else:
            batches = {"train": 128, "val": 128}
            loops += loop_rows(mlp_loop(), modules, rounds=9, batches=batches)
            batches = {"train": 8, "val": 16}
            loops += loop_rows(resnet_loop(18, 32, 64), modules, rounds=9, batches=batches)
    return Results(known, updates, curves, state_bytes, loops)


def _say(part: str) -> None:
    print(f"measuring {part}", file=sys.stderr, flush=True)
