"""Runs a script as several ranks: processes of one fork server, gloo, a store in a file, a hard deadline."""

import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

DEADLINE_S = 60.0
PRELOADED = ["torch", "ptmetrics.monitor.monitor", "ptmetrics.testing"]


class Failed:
    """What a rank left behind that ended with an error, or was killed.

    Args:
        text: The traceback; empty where it was killed.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Failed({self.text})"


def run_ranks(
    script: Callable[..., Any],
    ranks: int,
    folder: Path,
    *args: Any,
    may_fail: bool = False,
    deadline_s: float = DEADLINE_S,
    store: str = "",
) -> list[Any]:
    """What `script(rank, *args)` returned on each rank.

    Args:
        script: A function of a module; it finds the ranks initialised.
        ranks: How many.
        folder: For the store and what is returned.
        args: Further arguments.
        may_fail: Whether a rank may end otherwise: then `Failed` stands in its place.
        deadline_s: When all are killed, and the test has failed.
        store: Where they meet, such as "tcp://localhost:29511"; a file where it is empty.
    """
    store = store or f"file://{folder}/store"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    folder.mkdir(parents=True, exist_ok=True)
    started = []
    for rank in range(ranks):
        process = context.Process(target=_rank, args=(script, rank, ranks, folder, store, args))
        process.start()
        started.append(process)
    end = time.monotonic() + deadline_s
    for process in started:
        process.join(max(0.0, end - time.monotonic()))
    late = [rank for rank, process in enumerate(started) if process.is_alive()]
    for process in started:
        process.kill()
        process.join()
    assert not late, f"ranks {late} were not done in {deadline_s} s: {_results(folder, ranks)}"
    found = _results(folder, ranks)
    if not may_fail:
        failed = [each for each in found if isinstance(each, Failed)]
        assert not failed, failed[0].text
    return found


def _results(folder: Path, ranks: int) -> list[Any]:
    found: list[Any] = []
    for rank in range(ranks):
        file = folder / f"result{rank}"
        if file.exists():
            found.append(pickle.loads(file.read_bytes()))
        else:
            found.append(Failed(""))
    return found


def _rank(
    script: Callable[..., Any],
    rank: int,
    ranks: int,
    folder: Path,
    store: str,
    args: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=store,
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=30),
    )
    try:
        result = script(rank, *args)
    except BaseException:
        result = Failed(traceback.format_exc())
    (folder / f"result{rank}").write_bytes(pickle.dumps(result))
    dist.destroy_process_group()
