"""`ptmetrics bench`: everything beside the peers that are installed, in one run and one process."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ptmetrics import __version__
from ptmetrics.bench.bars import BARS, MANY_SCORES, Results
from ptmetrics.bench.growth import growth
from ptmetrics.bench.loops import mlp, resnet
from ptmetrics.bench.overhead import watched
from ptmetrics.bench.pages import write
from ptmetrics.bench.peers import installed, versions
from ptmetrics.bench.ranking import ranking, state_bytes
from ptmetrics.bench.tables import lines
from ptmetrics.bench.timing import threads
from ptmetrics.bench.updates import updates


def run(args: argparse.Namespace) -> int:
    """As the command says."""
    if args.device == "cuda":
        from ptmetrics.bench.gpu_run import run_gpu

        return run_gpu(args)
    results = measured(quick=args.quick, count=threads(args.threads), whole=not args.metrics)
    if args.json:
        print(json.dumps(asdict(results) | {"bars": reached(results)}))
    else:
        print("\n".join(lines(results)))
    for page in write(results, args.out) if args.out else ():
        print(f"written: {page}", file=sys.stderr)
    return int(any(row.differs for row in results.updates))


def setting(count: int, device: str, options: str) -> dict[str, Any]:
    """What the numbers hold for."""
    modules, missing = installed()
    return {
        "command": f"ptmetrics bench{options}",
        "machine": processor(),
        "cores": os.cpu_count(),
        "threads": count,
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ptmetrics": __version__,
        "device": device,
        "peers": versions(modules),
        "not_installed": missing,
    }


def processor(info: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the CPU, as Linux tells it; elsewhere what Python knows."""
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    names = (
        line.partition(":")[2].strip()
        for line in text.splitlines()
        if line.startswith("model name")
    )
    return f"{next(names, platform.processor())} {platform.machine()}".strip()


def _say(part: str) -> None:
    print(f"measuring {part}", file=sys.stderr, flush=True)


def measured(*, quick: bool, count: int, whole: bool = True) -> Results:
    """Measure all parts, one after the other; or the metrics alone, without loops and growth."""
    options = (" --quick" if quick else "") + ("" if whole else " --metrics")
    known = setting(count, "cpu", options) | {"scores": 20_000 if quick else MANY_SCORES}
    modules, _ = installed()
    _say("updates")
    rows = tuple(updates(modules, quick=quick, rounds=3 if quick else 15))
    _say("curves")
    curves = tuple(ranking(modules, known["scores"], 1 if quick else 3))
    grown = tuple(state_bytes(modules, (1000, 10_000) if quick else (10_000, 100_000, 1_000_000)))
    if not whole:
        return Results(known, rows, curves, grown, (), ())
    _say("loops")
    loops = list(
        watched(mlp(), modules, rounds=2 if quick else 9, batches=_batches(4 if quick else 128))
    )
    if not quick:
        loops += watched(resnet(18, 32, 64), modules, rounds=9, batches={"train": 8, "val": 16})
    _say("growth")
    more = tuple(growth(modules, curves, grown, known["scores"], quick=quick))
    return Results(known, rows, curves, grown, tuple(loops), more)


def _batches(number: int) -> dict[str, int]:
    return {"train": number, "val": number}


def reached(results: Results) -> list[dict[str, Any]]:
    """The bars in plain values."""
    values = [(bar, bar.measure(results)) for bar in BARS]
    return [
        {"what": bar.what, "limit": bar.limit, "at_least": bar.at_least, "value": value,
         "met": None if value is None else bar.met(value)}
        for bar, value in values
    ]  # fmt: skip
