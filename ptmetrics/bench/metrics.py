"""`python -m ptmetrics.bench.metrics`: updates, curves and memory beside the peers, in one run and one process."""

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import torch

from ptmetrics.bench.peers import PEERS, installed
from ptmetrics.bench.ranking import BytesRow, RankingRow, ranking, state_bytes
from ptmetrics.bench.timing import threads
from ptmetrics.bench.updates import Row, updates


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a peer's number differs from ours, else 0."""
    args = _arguments().parse_args(argv)
    modules, missing = installed(args.peers)
    count = args.scores or (20_000 if args.quick else 10_000_000)
    setting: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": threads(args.threads),
        "machine": platform.machine(),
        "peers": {
            name: getattr(sys.modules[PEERS[name].split(".")[0]], "__version__", "?") for name in modules
        },
        "not_installed": missing,
        "scores": count,
    }
    rows = list(updates(modules, quick=args.quick, rounds=3 if args.quick else 15))
    curves = list(ranking(modules, count, 1 if args.quick else 3))
    grown = list(state_bytes(modules, (1000, 10_000) if args.quick else (10_000, 100_000, 1_000_000)))
    if args.json:
        parts: dict[str, Sequence[Any]] = {"updates": rows, "curves": curves, "state_bytes": grown}
        print(json.dumps(setting | {name: [asdict(row) for row in part] for name, part in parts.items()}))
    else:
        print("\n".join([*_setting(setting), *_updates(rows), *_curves(curves, count), *_bytes(grown)]))
    return int(any(row.differs for row in rows))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ptmetrics.bench.metrics", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and few rounds: to see that it works"
    )
    parser.add_argument("--threads", type=int, help="threads of torch; default: as torch has them")
    parser.add_argument("--scores", type=int, help="number of scores for AUROC; default 10,000,000")
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=tuple(PEERS), help="default: all")
    return parser


def _setting(setting: dict[str, Any]) -> list[str]:
    peers = ", ".join(f"{name} {version}" for name, version in setting["peers"].items()) or "none"
    lines = [f"torch {setting['torch']}, {setting['threads']} threads, {setting['machine']}; peers: {peers}"]
    if setting["not_installed"]:
        lines.append(f"not installed: {', '.join(setting['not_installed'])} (pip install 'ptmetrics[bench]')")
    return [
        *lines,
        "Times are medians with quartiles; the sides take turns. Ratios are to the first line of a part.",
    ]


def _updates(rows: Iterable[Row]) -> list[str]:
    lines = []
    for section, part in groupby(rows, key=lambda row: row.section):
        lines += ["", f"one update: {section}"]
        for row in part:
            median, low, high = row.microseconds
            lines.append(
                f"  {row.side:<32}{median:>11,.0f} us [{low:,.0f}, {high:,.0f}]  x{row.ratio:.2f}"
                f"  {row.operations} operations{_agreement(row)}"
            )
    return lines


def _agreement(row: Row) -> str:
    if row.differs:
        return f"  DIFFERS: {', '.join(row.differs)}"
    if not row.compared:
        return ""
    return f"  {len(row.compared)} scores" + ("" if row.side.startswith("ptmetrics") else ", equal")


def _curves(rows: Iterable[RankingRow], count: int) -> list[str]:
    lines = ["", f"AUROC and average precision of {count:,} float32 scores, update and compute"]
    for row in rows:
        median, low, high = row.seconds
        bound = "" if row.bound is None else f"  certified {row.bound[0]:.1e}, {row.bound[1]:.1e}"
        lines.append(
            f"  {row.side:<32}{1e3 * median:>11,.1f} ms [{1e3 * low:,.1f}, {1e3 * high:,.1f}]  x{row.ratio:.2f}"
            f"  off by {row.error[0]:.1e}, {row.error[1]:.1e}{bound}"
        )
    return lines


def _bytes(rows: Iterable[BytesRow]) -> list[str]:
    lines = ["", "bytes of state for AUROC"]
    for row in rows:
        sizes = ", ".join(f"{name} {size:,}" for name, size in row.state_bytes.items())
        lines.append(f"  {row.rows:>11,} scores: {sizes}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
