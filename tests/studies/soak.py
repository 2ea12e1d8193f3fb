"""A soak: runs of several ranks in which everything goes wrong that may, held against an independent count.

    python -m tests.studies.soak [--minutes 10] [--ranks 3] [--seed 0] [--first 0] [--episodes N]

An episode is one run: epochs of training and validation batches, whose rows are dealt out to the
ranks. On the way metrics and callbacks raise, the disk is full, ranks are slow, rows are NaN or of
no class, batches of other sizes or empty; ranks are killed with SIGKILL at any moment, and all are
started again at their newest common checkpoint, at the end of an epoch also as another number of
ranks. In the end every number of the record is that of a count in NumPy which knows no ranks, and
nothing is missing that was acknowledged.

The faults of an episode follow from the seed and its number; the moments of the kills do not.
"""

import argparse
import errno
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

import ptmetrics as pm
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import Run, read_run

CLASSES = 4
EPOCHS = 4
TRAIN = 8  # batches of an epoch
VAL = 4
SAVED_EVERY = 3  # batches
MOST_KILLS = 4
LONGEST_LIFE_S = 1.5  # of an attempt that is killed
SYNC_TIMEOUT_S = 10.0
DEADLINE_S = 120.0  # of an attempt: then it hangs
PRELOADED = ["torch", "ptmetrics.monitor.monitor", "ptmetrics.integrations"]
NAN_ROW = "nan-score"
NO_CLASS = "target-out-of-range"
MINE = "the soak's own fault"
Integers = NDArray[np.int64]


# The data, and what an independent count makes of them.


class Rows(NamedTuple):
    """One batch before it is dealt out: logits, targets, and a loss a row."""

    logits: NDArray[np.float32]
    target: Integers
    loss: NDArray[np.float64]

    def of(self, rank: int, ranks: int) -> "Rows":
        """The share of one rank, which may be empty."""
        mine = slice(rank, None, ranks)
        return Rows(self.logits[mine], self.target[mine], self.loss[mine])


def rows_of(seed: int, episode: int, epoch: int, batch: int) -> Rows:
    """A batch of 0 to 48 rows with ties in it; in some of them rows of NaN, or of a class there is not."""
    rng = np.random.default_rng((seed, episode, epoch, batch))
    size = int(rng.integers(1, 49))
    if rng.random() < 0.06:
        size = 0
    logits = rng.integers(-3, 4, (size, CLASSES)).astype(np.float32)
    target = rng.integers(0, CLASSES, size)
    loss = rng.integers(0, 256, size) / 64
    kind = rng.random()
    if kind < 0.15:
        logits[rng.random(size) < 0.3, 1] = np.nan
    elif kind < 0.2:
        logits[:] = np.nan
    elif kind < 0.3:
        target[rng.random(size) < 0.2] = CLASSES
    return Rows(logits, target, loss)


@dataclass
class Count:
    """What was counted of one split in one epoch."""

    confusion: Integers = field(default_factory=lambda: np.zeros((CLASSES, CLASSES), np.int64))
    rows: int = 0
    loss: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, rows: Rows) -> None:
        """Count a batch; rows of NaN, and then those of no class, are refused."""
        nan = np.isnan(rows.logits).any(1)
        no_class = (rows.target >= CLASSES) & ~nan
        for kind, refused in ((NAN_ROW, nan), (NO_CLASS, no_class)):
            if refused.any():
                self.refused[kind] = self.refused.get(kind, 0) + int(refused.sum())
        good = ~(nan | no_class)
        predicted = rows.logits[good].argmax(1)  # of equal scores the lowest class
        np.add.at(self.confusion, (rows.target[good], predicted), 1)
        self.rows += len(rows.target)
        self.loss += float(rows.loss.sum())


def counted(seed: int, episode: int, epoch: int) -> dict[str, Count]:
    """What is to stand in the record of an epoch."""
    counts = {"train": Count(), "val": Count()}
    for batch in range(TRAIN + VAL):
        counts[split_of(batch)].add(rows_of(seed, episode, epoch, batch))
    return counts


def split_of(batch: int) -> str:
    """Training comes first."""
    return "train" if batch < TRAIN else "val"


# One rank of one attempt.


class Attempt(NamedTuple):
    """What a rank is told.

    Attributes:
        seed: Of the soak.
        episode: Number of the run.
        number: Of the attempt, from 0.
        rank: Of the process.
        ranks: How many there are.
        folder: Of the episode.
        at: Epoch and batch of the checkpoint to go on from; None for a new run.
        of_ranks: How many ranks wrote it.
    """

    seed: int
    episode: int
    number: int
    rank: int
    ranks: int
    folder: Path
    at: tuple[int, int] | None
    of_ranks: int

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"


class Trouble:
    """Draws what goes wrong on a rank, and counts what of it has.

    Args:
        attempt: Whose trouble; each has its own.
    """

    def __init__(self, attempt: Attempt) -> None:
        drawn_from = (attempt.seed, attempt.episode, attempt.number, attempt.rank, 1)
        self._rng = np.random.default_rng(drawn_from)
        self.metric_raises = False
        self.raised = 0
        self._full_for = 0  # batches

    @property
    def disk_is_full(self) -> bool:
        """Whether nothing can be written now."""
        return self._full_for > 0

    def draw(self) -> None:
        """Before a batch: what is to go wrong in it."""
        self.metric_raises = self.happens(0.06)
        if self.happens(0.05):
            self._full_for = int(self._rng.integers(1, 7))
        if self.happens(0.04):
            time.sleep(float(self._rng.uniform(0.01, 0.15)))

    def done(self) -> None:
        """Behind a batch."""
        self._full_for -= 1

    def make_room(self) -> None:
        """The disk is no longer full."""
        self._full_for = 0

    def happens(self, share: float) -> bool:
        """Whether something of this share happens now."""
        return bool(self._rng.random() < share)

    def write(self, fd: int, data: bytes) -> int:
        """As `os.write`, of a disk that is full now and then, perhaps in the midst of a line."""
        if self.disk_is_full:
            if self.happens(0.3):
                return os.write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)

    def own(self, preds: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A number a row for a metric of the user's own, or an error."""
        if self.metric_raises:
            self.raised += 1
            raise ValueError(MINE)
        return torch.zeros(len(target))


class Unruly(pm.Callback):
    """Raises now and then, at any event."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    def _perhaps(self, share: float) -> None:
        if self._trouble.happens(share):
            self._trouble.raised += 1
            raise RuntimeError(MINE)

    def on_epoch_begin(self, monitor: Any) -> None:
        """An event."""
        self._perhaps(0.3)

    def on_batch_end(self, monitor: Any, split: str, batch: int) -> None:
        """An event."""
        self._perhaps(0.05)

    def on_validation_end(self, monitor: Any, split: str, scores: Any) -> None:
        """An event."""
        self._perhaps(0.3)

    def on_epoch_end(self, monitor: Any, scores: Any) -> None:
        """An event."""
        self._perhaps(0.3)


class Acknowledged:
    """What the rank was told to be recorded, in a file that a kill leaves as it is.

    Args:
        attempt: Of the rank.
        monitor: Its monitor.
    """

    def __init__(self, attempt: Attempt, monitor: pm.Monitor) -> None:
        self._path = mark(attempt, "told")
        self._monitor = monitor
        self._waiting: list[str] = []

    def add(self, line: str) -> None:
        """A line that was handed over."""
        self._waiting.append(line)
        self.flush()

    def flush(self) -> None:
        """Acknowledge what is in the file; while the disk is full, records wait in memory."""
        journal = self._monitor._run._journal
        if journal is None or journal.waiting:
            return
        with self._path.open("ab", buffering=0) as file:
            for line in self._waiting:
                file.write(f"{line}\n".encode())
        self._waiting.clear()


def rank_of(attempt: Attempt) -> None:
    """One process: trains to the end, or until it is killed."""
    torch.set_num_threads(1)
    logging.getLogger("ptmetrics").setLevel(logging.CRITICAL)
    if attempt.ranks > 1:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{attempt.folder}/store-{attempt.number}",
            rank=attempt.rank,
            world_size=attempt.ranks,
            timeout=timedelta(seconds=60),
        )
    mark(attempt, "up").touch()
    try:
        mark(attempt, "done").write_bytes(pickle.dumps(trained(attempt)))
    except BaseException:
        mark(attempt, "failed").write_text(traceback.format_exc())
        raise


def mark(attempt: Attempt, what: str) -> Path:
    """A file by which a rank tells of itself."""
    return attempt.folder / f"{what}-{attempt.number}-{attempt.rank}"


def trained(attempt: Attempt) -> tuple[int, int, list[str]]:
    """How often something raised on purpose, how often that was contained, and other faults."""
    trouble = Trouble(attempt)
    defaults: Any = Journal.__init__.__kwdefaults__
    with patch.dict(defaults, write=trouble.write):
        monitor = pm.Monitor(
            [
                pm.MulticlassMetrics(CLASSES),
                pm.Mean("own", trouble.own, higher_is_better=True),
            ],
            run=attempt.run,
            callbacks=[Unruly(trouble)],
            if_exists="resume",
            progress=False,
            sync_timeout_s=SYNC_TIMEOUT_S,
        )
    epoch, batch = (0, 0)
    if attempt.at is not None:
        epoch, batch = attempt.at
        rank = attempt.rank if attempt.ranks == attempt.of_ranks else 0
        file = checkpoint_file(attempt.folder, rank, attempt.of_ranks, attempt.at)
        monitor.load_state_dict(torch.load(file, weights_only=True))
    told = Acknowledged(attempt, monitor)
    with monitor:
        while epoch < EPOCHS:
            for number in range(batch, TRAIN + VAL):
                trouble.draw()
                one_batch(monitor, attempt, epoch, number)
                message = f"{attempt.number}.{epoch}.{number}"
                monitor.record("note", {"code": "soak", "message": message})
                told.add(f"note {message}")
                trouble.done()
                if number % SAVED_EVERY == 2 and not trouble.disk_is_full:
                    save(monitor, attempt, (epoch, number + 1))
            scores = monitor.end_epoch(epoch)
            told.add(f"epoch {epoch} {scores['val/accuracy'].n}")
            epoch += 1
            batch = 0
            if not trouble.disk_is_full:
                save(monitor, attempt, (epoch, 0))
        trouble.make_room()  # a disk that stays full to the end loses records, and says so
    contained = sum(fault.count for fault in monitor.faults.all() if MINE in fault.message)
    others = [repr(fault) for fault in monitor.faults.all() if MINE not in fault.message]
    return trouble.raised, contained, others


def one_batch(monitor: pm.Monitor, attempt: Attempt, epoch: int, number: int) -> None:
    """Hand over the share of a rank, its loss a row or as a mean."""
    rows = rows_of(attempt.seed, attempt.episode, epoch, number).of(attempt.rank, attempt.ranks)
    loss = torch.tensor(rows.loss)
    if number % 2 and len(loss):
        loss = loss.mean()
    monitor.update(
        torch.tensor(rows.logits), torch.tensor(rows.target), loss=loss, split=split_of(number)
    )


def save(monitor: pm.Monitor, attempt: Attempt, at: tuple[int, int]) -> None:
    """A checkpoint, whole or not at all."""
    path = checkpoint_file(attempt.folder, attempt.rank, attempt.ranks, at)
    beside = path.with_suffix(".part")
    torch.save(monitor.state_dict(), beside)
    beside.replace(path)


def checkpoint_file(folder: Path, rank: int, ranks: int, at: tuple[int, int]) -> Path:
    """Where the checkpoint of a rank stands, of a place in the run."""
    return folder / f"state-{at[0]}-{at[1]:02}-{ranks}-{rank}.pt"


# An episode: attempts until one is not killed, then the reckoning.


@dataclass
class Tally:
    """What an episode has seen."""

    attempts: int = 0
    kills: int = 0
    left_alone: int = 0
    resized: int = 0
    raised: int = 0
    superseded: int = 0
    acknowledged: int = 0
    torn: int = 0


class SoakError(Exception):
    """Something was lost, or a number is not that of the independent count."""


def play(seed: int, episode: int, ranks: int, folder: Path) -> Tally:
    """One episode.

    Raises:
        SoakError: If something was lost or is wrong.
    """
    rng = np.random.default_rng((seed, episode, 2))
    tally = Tally()
    kills = int(rng.integers(0, MOST_KILLS + 1))
    now_ranks = ranks
    before = ranks
    while True:
        resized = ranks > 1 and rng.random() < 0.3
        older = rng.random() < 0.25
        at, of_ranks = checkpoint_of_all(folder, before, older=older, whole_epochs=resized)
        now_ranks = of_ranks
        if resized:
            now_ranks = int(rng.integers(1, ranks + 1))
            tally.resized += now_ranks != of_ranks
        number = tally.attempts
        told = [
            Attempt(seed, episode, number, rank, now_ranks, folder, at, of_ranks)
            for rank in range(now_ranks)
        ]
        killed = number < kills
        done = run_attempt(told, killed, rng, tally)
        tally.attempts += 1
        before = now_ranks
        if done and not killed:
            break
    for rank in range(now_ranks):
        raised, contained, others = pickle.loads(mark(told[rank], "done").read_bytes())
        expect(f"rank {rank}: faults contained", contained, raised)
        expect(f"rank {rank}: further faults", others, [])
        tally.raised += raised
    check(seed, episode, folder, tally)
    return tally


def checkpoint_of_all(
    folder: Path, ranks: int, *, older: bool, whole_epochs: bool
) -> tuple[tuple[int, int] | None, int]:
    """The newest place of which every rank has a checkpoint, or one before it; how many ranks these are.

    Checkpoints behind it are gone then: what they hold is to be done again. Of `whole_epochs` none
    holds counts, so that any number of ranks can go on from it.
    """
    found: dict[tuple[int, int, int], list[Path]] = {}
    for path in folder.glob("state-*.pt"):
        epoch, batch, of_ranks, _ = map(int, path.stem.split("-")[1:])
        found.setdefault((epoch, batch, of_ranks), []).append(path)
    whole = sorted(
        (
            key
            for key, files in found.items()
            if len(files) == key[2] and not (whole_epochs and key[1])
        ),
        key=lambda key: (key[0], key[1], key[2] == ranks),
    )
    at = None
    if whole:
        epoch, batch, ranks = whole[-4:][0] if older else whole[-1]
        at = (epoch, batch)
    for key, files in found.items():
        if at is None or key[:2] > at:
            for path in files:
                path.unlink()
    return at, ranks


def run_attempt(
    told: Sequence[Attempt], killed: bool, rng: np.random.Generator, tally: Tally
) -> bool:
    """Start all ranks; kill one at a random moment, then the others, or let them go on alone.

    Returns:
        Whether all ranks came to their end.
    """
    context = multiprocessing.get_context("forkserver")
    processes: list[BaseProcess] = [
        context.Process(target=rank_of, args=(attempt,)) for attempt in told
    ]
    for process in processes:
        process.start()
    try:
        if killed:
            victim = processes[int(rng.integers(len(processes)))]
            victim.join(float(rng.uniform(0.05, LONGEST_LIFE_S)))
            tally.kills += victim.is_alive()
            victim.kill()
            met = all(mark(attempt, "up").exists() for attempt in told)
            if rng.random() < 0.3 and met:
                tally.left_alone += len(processes) > 1
            else:  # as torchrun does
                for process in processes:
                    tally.kills += process is not victim and process.is_alive()
                    process.kill()
        wait_for(processes)
    finally:
        for process in processes:
            process.kill()
            process.join()
    for process in processes:
        if process.exitcode not in (0, -signal.SIGKILL):
            raise SoakError(f"a rank ended with {process.exitcode}: {failures(told[0].folder)}")
    return all(process.exitcode == 0 for process in processes)


def wait_for(processes: Sequence[BaseProcess]) -> None:
    """Wait for the ends of all.

    Raises:
        SoakError: If one hangs.
    """
    end = time.monotonic() + DEADLINE_S
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    late = [rank for rank, process in enumerate(processes) if process.is_alive()]
    if late:
        raise SoakError(f"ranks {late} were not done in {DEADLINE_S:g} s")


def failures(folder: Path) -> str:
    """What ranks told that failed."""
    return "\n".join(path.read_text() for path in sorted(folder.glob("failed-*")))


# The reckoning.


def check(seed: int, episode: int, folder: Path, tally: Tally) -> None:
    """Hold the record against the independent count and against what was acknowledged."""
    run = read_run(folder / "run")
    expect("epochs", [epoch["epoch"] for epoch in run.epochs], list(range(EPOCHS)))
    expect("end", run.end_reason, "completed")
    for epoch in run.epochs:
        for split, count in counted(seed, episode, epoch["epoch"]).items():
            check_split(epoch, split, count)
    torn = [problem for problem in run.problems if "torn" in problem.reason]
    expect("problems", [str(each) for each in run.problems if each not in torn], [])
    if len(torn) > tally.kills:
        raise SoakError(f"{len(torn)} torn lines after {tally.kills} kills")
    tally.torn = len(torn)
    tally.superseded = len(run.superseded)
    check_acknowledged(run, folder, tally)


def check_split(epoch: Any, split: str, count: Count) -> None:
    """One split of one epoch."""
    where = f"epoch {epoch['epoch']}, {split}"
    scores = epoch["scores"]
    expect(f"{where}: confusion", epoch["confusion"][split], count.confusion.tolist())
    expect(f"{where}: rows", epoch["counts"][f"{split}_samples"], count.rows)
    n = int(count.confusion.sum())
    accuracy = scores[f"{split}/accuracy"]
    expect(f"{where}: n", accuracy["n"], n)
    near(f"{where}: accuracy", accuracy["value"], np.trace(count.confusion) / max(n, 1))
    near(f"{where}: loss", scores[f"{split}/loss"]["value"], count.loss / max(count.rows, 1))
    expect(f"{where}: rows of the loss", scores[f"{split}/loss"]["n"], count.rows)
    refused = {kind: fault["count"] for kind, fault in epoch["faults"][split].items()}
    expect(f"{where}: refused", refused, count.refused)


def check_acknowledged(run: Run, folder: Path, tally: Tally) -> None:
    """Each record that was acknowledged is there, if only as superseded."""
    notes = {note["message"] for note in run.notes}
    epochs = {
        f"{epoch['epoch']} {epoch['scores']['val/accuracy']['n']}"
        for epoch in [*run.epochs, *run.superseded]
    }
    for path in sorted(folder.glob("told-*")):
        for line in path.read_text().splitlines():
            kind, _, what = line.partition(" ")
            tally.acknowledged += 1
            if what not in (notes if kind == "note" else epochs):
                raise SoakError(f"lost: {line}, which {path.name} acknowledges")


def expect(name: str, got: object, expected: object) -> None:
    """Raise unless two are equal.

    Raises:
        SoakError: If they are not.
    """
    if got != expected:
        raise SoakError(f"{name}: expected {expected}, got {got}")


def near(name: str, got: float, expected: float) -> None:
    """Raise unless two are equal but for rounding.

    Raises:
        SoakError: If they are not.
    """
    if not np.isclose(got, expected, rtol=1e-12, atol=1e-12):
        raise SoakError(f"{name}: expected {expected!r}, got {got!r}")


# The command.


def main(argv: Sequence[str] | None = None) -> int:
    """Play episodes until the time is up; print a line for each; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first episode")
    parser.add_argument("--episodes", type=int, help="so many in place of the time")
    asked = parser.parse_args(argv)
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    total = Tally()
    failed = 0
    played = 0
    end = time.monotonic() + 60 * asked.minutes
    while played < asked.episodes if asked.episodes else time.monotonic() < end:
        number = asked.first + played
        played += 1
        with episode_folder() as folder:
            try:
                tally = play(asked.seed, number, asked.ranks, folder)
            except (SoakError, OSError, pm.PtmetricsError) as error:
                failed += 1
                kept = Path(tempfile.mkdtemp(prefix="soak-")) / "episode"
                shutil.copytree(folder, kept)
                print(f"episode {number}: FAILED: {error}\n  its folder is kept: {kept}")
                again = f"--seed {asked.seed} --ranks {asked.ranks} --first {number} --episodes 1"
                print(f"  again: python -m tests.studies.soak {again}", flush=True)
                continue
        print(f"episode {number}: {in_words(tally)}", flush=True)
        for name, value in vars(tally).items():
            setattr(total, name, getattr(total, name) + value)
    print(f"{played} episodes of {asked.ranks} ranks, {failed} failed: {in_words(total)}")
    return int(failed > 0)


@contextmanager
def episode_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        yield Path(name)


def in_words(tally: Tally) -> str:
    """The line of an episode, or of all."""
    return (
        f"{tally.attempts} attempts, {tally.kills} kills, {tally.left_alone} times the others went "
        f"on alone, {tally.resized} times as another number of ranks; {tally.raised} errors raised "
        f"and contained in the last attempts, {tally.superseded} epochs superseded, {tally.torn} "
        f"torn lines; {tally.acknowledged} records acknowledged, none lost, every number equal"
    )


if __name__ == "__main__":
    raise SystemExit(main())
