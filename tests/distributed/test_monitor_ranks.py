"""A monitor on each of several ranks: one run, with the numbers of one process."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gloo_ranks import Failed, run_ranks
from test_sync import counted_collectives
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import ptmetrics as pm
from ptmetrics.errors import RanksError
from ptmetrics.record.reader import read_run

CLASSES = 3
FEATURES = 5


def samples(rows: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=generator)
    return TensorDataset(x, x[:, :CLASSES].argmax(1))


def quiet(*callbacks: pm.Callback, **options: Any) -> pm.Monitor:
    options = {"progress": False, "sync_timeout_s": 20, "hygiene": False, **options}
    return pm.Monitor(pm.MulticlassMetrics(CLASSES), callbacks=callbacks, **options)


def batch(hits: int, rows: int = 10) -> tuple[Tensor, Tensor]:
    target = torch.arange(rows) % CLASSES
    answered = torch.where(torch.arange(rows) < hits, target, (target + 1) % CLASSES)
    return torch.eye(CLASSES)[answered], target


def journals_of(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir() if path.is_file() and "journal" in path.name)


# A run of several ranks.


def epochs(rank: int, run: Path) -> dict[str, Any]:
    """Rank 1 has no validation data, and rank 0 another split beside; four epochs of two callbacks."""
    stopping = pm.EarlyStopping("val/accuracy", patience=2)
    checkpoint = pm.Checkpoint("val/accuracy")
    monitor = quiet(stopping, checkpoint, run=run)
    collectives = []
    model = nn.Linear(1, 1)
    with monitor.attach(model):
        for epoch in range(6):
            monitor.update(*batch(rank + epoch, 10 + rank), loss=1.0 + rank, split="train")
            if rank != 1:
                hits = [4, 6, 5, 5, 9, 9][epoch] - rank
                monitor.update(*batch(hits), loss=torch.tensor(0.5), split="val")
            if rank == 0 and epoch == 1:
                monitor.update(*batch(7), split="extra")
            with counted_collectives() as called:
                scores = monitor.end_epoch()
            collectives.append(called)
            if epoch == 0:
                first = scores
            if monitor.should_stop:
                break
    return {
        "history": [list(monitor.history[name]) for name in ("val/accuracy", "train/loss")],
        "n": [first["val/accuracy"].n, first["train/accuracy"].n],
        "counts": dict(first.counts),
        "notes": list(first.splits["val"].notes),
        "stopped": (epoch, monitor.stopping_reason),
        "best": stopping.best_epoch,
        "collectives": collectives,
        "faults": len(monitor.faults),
    }


def test_all_ranks_have_the_scores_of_all_and_stop_together(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second, third = run_ranks(epochs, 3, tmp_path / "ranks", run)
    assert first == second | {"collectives": first["collectives"]}
    assert first["stopped"] == third["stopped"]
    assert first["faults"] == 0
    # Ranks 0 and 2 validate 10 rows each, rank 2 with two hits fewer.
    accuracies = [(2 * hits - 2) / 20 for hits in (4, 6, 5, 5)]
    assert first["history"][0] == pytest.approx(accuracies)
    assert first["history"][1] == pytest.approx([(10 * 1 + 11 * 2 + 12 * 3) / 33] * 4)
    assert first["n"] == [20, 33]
    assert first["counts"]["val_samples"] == 20
    assert first["notes"] == ["20 rows of 3 ranks were counted."]
    assert first["best"] == third["best"] == 1
    assert first["stopped"][0] == 3
    # A third collective, of texts, as rank 1 has no validation.
    assert first["collectives"] == [["all_gather", "all_gather", "all_reduce"]] * 4
    told = read_run(run)
    assert [epoch["scores"]["val/accuracy"]["value"] for epoch in told.epochs] == accuracies
    assert told.epochs[1]["scores"]["extra/accuracy"]["n"] == 10
    assert told.epochs[0]["seen"]["val"]["rows_of_ranks"] == 20
    assert (told.header["rank"], told.header["world_size"]) == (0, 3)
    assert not [note for note in told.notes if note["code"] == "one-rank"]
    assert journals_of(run) == [f"journal-rank{rank}.jsonl" for rank in range(3)]
    assert torch.load(run / "checkpoints" / "best.pt", weights_only=True)["epoch"] == 1


# Padding of samplers.


def validated(
    rank: int, ranks: int, rows: int, size: int, way: str, options: dict[str, Any]
) -> dict[str, Any]:
    """One validation of a fixed model over a sampler that pads, in one of the ways in."""
    torch.manual_seed(0)
    model = nn.Linear(FEATURES, CLASSES)
    criterion: Any = nn.CrossEntropyLoss()
    if way == "functional":
        criterion = functional.cross_entropy
    elif way == "own loss":
        criterion = OwnLoss()
    data = samples(rows)
    sampler = None
    if ranks > 1:
        sampler = DistributedSampler(data, ranks, rank, shuffle=False, **options)
    monitor = quiet()
    if way != "update":
        monitor.attach(model, criterion=criterion)
    loader: Any = DataLoader(data, batch_size=size, sampler=sampler)
    if way != "hooks":
        loader = monitor.validate(loader)
    model.eval()
    with torch.no_grad():
        for x, y in loader:
            preds = model(x)
            if way == "update":
                loss = functional.cross_entropy(preds, y, reduction="none")
                monitor.update(preds, y, loss=loss, split="val")
            elif way == "functional":
                functional.cross_entropy(preds, y)
            else:
                criterion(preds, y)
    scores = monitor.end_epoch()
    result = {
        "confusion": scores.splits["val"].confusion.tolist(),
        "loss": scores["val/loss"].value,
        "notes": list(scores.splits["val"].notes),
        "faults": [repr(fault) for fault in monitor.faults.all()],
        "seen": scores.to_record()["seen"]["val"],
    }
    monitor.close()
    return result


class OwnLoss(nn.Module):
    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(preds, target)


def padded(rank: int, ways: list[str]) -> list[dict[str, Any]]:
    found = [validated(rank, 2, 5, 2, way, {}) for way in ways]
    found.append(validated(rank, 2, 9, 1, "module", {}))  # the last batch is nothing but padding
    found.append(validated(rank, 2, 5, 2, "module", {"drop_last": True}))
    return found


@pytest.mark.fault(9)
def test_the_padding_of_a_sampler_is_left_out_exactly(tmp_path: Path) -> None:
    ways = ["module", "functional", "update", "own loss", "hooks"]
    first, second = run_ranks(padded, 2, tmp_path, ways)
    whole = validated(0, 1, 5, 5, "module", {})
    line = "5 of 5 rows were counted on 2 ranks, 1 duplicate of the sampler's padding ignored."
    for found in (first, second):
        for way, each in zip(ways[:4], found, strict=False):
            assert each["faults"] == []
            assert each["confusion"] == whole["confusion"], way
            assert each["notes"] == [line]
            assert each["seen"]["padding_left_out"] == 1
            if way != "own loss":  # the mean of its last batch cannot be taken apart
                assert each["loss"] == pytest.approx(whole["loss"], rel=1e-6), way
        hooks = found[4]
        assert sum(map(sum, hooks["confusion"])) == 6
        assert hooks["seen"]["padding_rows"] == 1
        told = "6 of 5 rows were counted on 2 ranks, 1 of them padding of the sampler."
        assert hooks["notes"] == [told]
        single, dropped = found[5:]
        assert single["confusion"] == validated(0, 1, 9, 9, "module", {})["confusion"]
        assert single["loss"] == pytest.approx(
            validated(0, 1, 9, 9, "module", {})["loss"], rel=1e-6
        )
        assert dropped["notes"] == ["4 of 5 rows were counted on 2 ranks."]


# Runs that do more than one sync an epoch, or none.


def several(rank: int, run: Path) -> dict[str, Any]:
    """Two monitors; a validation in the middle of an epoch; a test at the end; then resumed."""
    found: dict[str, Any] = {}
    with quiet(run=run) as monitor, quiet() as other:
        for _ in range(2):
            for hits in (3 + rank, 5 + rank):
                monitor.update(*batch(hits), split="val")
                monitor.update(*batch(1), split="train")
                monitor.update(*batch(1), split="train")
            other.update(*batch(rank), split="val")
            with counted_collectives() as called:
                monitor.end_epoch()
                other.end_epoch()
            found["collectives"] = called
        monitor.update(*batch(9 - rank), split="test")
        found["other"] = list(other.history["val/accuracy"])
    found["faults"] = len(monitor.faults) + len(other.faults)
    torch.distributed.barrier()
    tested = read_run(run).evaluations[-1]
    found["tested"] = [tested["split"], tested["why"], tested["scores"]["test/accuracy"]["value"]]
    torch.distributed.barrier()
    with quiet(run=run, if_exists="resume") as monitor:
        monitor.update(*batch(8 + rank), split="val")
        found["resumed"] = [monitor.epoch, monitor.end_epoch()["val/accuracy"].value]
        found["history"] = list(monitor.history["val/accuracy"])
    return found


@pytest.mark.fault(41)
@pytest.mark.slow
def test_evaluations_and_resumed_runs_are_merged_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second = run_ranks(several, 2, tmp_path / "ranks", run)
    assert first == second
    assert first["collectives"] == ["all_gather", "all_reduce"] * 2
    assert first["other"] == [0.05, 0.05]
    assert first["faults"] == 0
    assert first["resumed"] == [2, 0.85]
    assert first["history"] == [0.35, 0.55, 0.35, 0.55, 0.85]
    told = read_run(run)
    assert [each["scores"]["val/accuracy"]["value"] for each in told.evaluations] == [0.35, 0.35]
    assert first["tested"] == ["test", "test", 0.85]
    assert [note for note in told.notes if note["code"] == "one-rank"] == []
    assert told.faults == []


def leaves(rank: int, run: Path, leaver: int) -> list[Any]:
    """Two epochs of two batches; one rank leaves behind the first batch of the second; -1 is none."""
    with quiet(run=run) as monitor:
        for epoch in range(2):
            for hits in (3 + rank, 6 + rank):
                monitor.update(*batch(hits), split="train")
                if epoch == 1 and rank == leaver:
                    break
            else:
                monitor.update(*batch(5 + rank), split="val")
                monitor.end_epoch()
    return [monitor.scores["train/accuracy"].n, len(monitor.faults)]


@pytest.mark.slow
@pytest.mark.parametrize("leaver", [0, 1, -1])
def test_a_rank_that_ends_its_run_within_an_epoch_is_told(leaver: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    found = run_ranks(leaves, 2, tmp_path / "ranks", run, leaver)
    assert [faults for _, faults in found] == [0, 0]
    line = f"rank {leaver} ended its run within epoch 2: of its share only a part was counted."
    for rank, (rows, _) in enumerate(found):  # the leaver's last whole epoch is the first one
        assert rows == (40 if leaver in (-1, rank) else 30)
        journal = (run / f"journal-rank{rank}.jsonl").read_text()
        assert (line in journal) == (leaver != -1)


def all_of_it(rank: int, run: Path) -> list[str]:
    """Each rank validates all of the data, of a loader that knows of no ranks."""
    torch.manual_seed(0)
    model, criterion = nn.Linear(FEATURES, CLASSES), nn.CrossEntropyLoss()
    monitor = quiet(run=run)
    monitor.attach(model, criterion=criterion)
    for x, y in monitor.validate(DataLoader(samples(20), batch_size=8)):
        criterion(model.eval()(x), y)
    scores = monitor.end_epoch()
    monitor.close()
    return list(scores.splits["val"].notes)


@pytest.mark.slow
def test_ranks_that_validate_the_same_rows_are_told_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second = run_ranks(all_of_it, 2, tmp_path / "ranks", run)
    assert first == second == ["40 of 40 rows were counted on 2 ranks."]
    (found,) = (each for each in pm.judge(run).findings if each.code == "padded-duplicates")
    assert "2 ranks validated the same 20 rows" in found.message
    told = read_run(run).epochs[0]["samples"]
    assert told == {"reason": "2 ranks validated the same samples"}
    assert not list(run.glob("samples*"))


# The samples of all ranks


def kept(rank: int, ranks: int, run: Path, weak: bool = False, **options: Any) -> int | None:
    """Two epochs that validate 23 rows, one model or another; the rows that this rank has itself."""
    torch.manual_seed(0)
    model, criterion = nn.Linear(FEATURES, CLASSES), nn.CrossEntropyLoss()
    data = samples(23)
    sampler: Any = None
    if ranks > 1:
        sampler = DistributedSampler(data, ranks, rank, shuffle=False)
    monitor = quiet(run=run, **options)
    monitor.attach(model, criterion=criterion)
    for _ in range(2):
        for x, y in monitor.validate(DataLoader(data, batch_size=4, sampler=sampler)):
            criterion(model.eval()(x * (1 - 2 * weak)), y)
        scores = monitor.end_epoch()
    assert scores.samples is not None
    monitor.close()
    return None if scores.samples.rows is None else len(scores.samples.rows)


def with_less_room(rank: int, run: Path) -> int | None:
    return kept(rank, 2, run, keep_samples=100 - 90 * rank)


@pytest.mark.fault(9)
def test_the_samples_of_all_ranks_are_those_of_one_process_and_are_compared(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("one", "two", "weak")]
    kept(0, 1, runs[0])
    kept(0, 1, runs[2], weak=True)
    assert run_ranks(kept, 2, tmp_path / "ranks", 2, runs[1]) == [12, 11]
    one, two, _ = told = [read_run(run) for run in runs]
    assert two.epochs[1]["samples"]["rows"] == 23
    alone, joined = (run.kept(run.epochs[1]).rows for run in (one, two))
    assert alone is not None
    assert joined is not None
    for name in ("predicted", "target"):
        assert joined[name].tolist() == alone[name].tolist()
    assert joined["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    differences = []
    for run in told[:2]:
        differences.append(pm.compare(run, told[2]).to_dict()["final_difference"])
        assert differences[-1]["paired"]
    assert differences[0] == differences[1]
    names = sorted(path.name for path in runs[1].glob("samples*"))
    assert names == [f"samples-{epoch}{rank}.npy" for epoch in (0, 1) for rank in ("-rank1", "")]
    torn = runs[1] / "samples-1-rank1.npy"
    torn.write_bytes(torn.read_bytes()[:-1])
    reason = str(two.kept(two.epochs[1]).reason)
    assert reason.startswith("the share of rank 1 is missing: samples-1-rank1.npy was refused")
    torn.unlink()
    assert "rank 1" in str(two.kept(two.epochs[1]).reason)


@pytest.mark.slow
def test_a_rank_that_kept_none_of_its_share_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_ranks(with_less_room, 2, tmp_path / "ranks", run) == [None, None]
    assert read_run(run).epochs[1]["samples"] == {"reason": "rank 1 of 2 kept none of its share"}


# The loop of a user, on one process and on several.


class Stream(IterableDataset[Any]):
    """A stream of which a rank takes every other sample."""

    def __init__(self, data: TensorDataset, rank: int, ranks: int) -> None:
        self._data = data
        self._rank = rank
        self._ranks = ranks

    def __iter__(self) -> Iterator[Any]:
        for number in range(self._rank, len(self._data), self._ranks):
            yield self._data[number]


def trained(rank: int, ranks: int, watched: bool = True, **options: Any) -> dict[str, Any]:
    """Two epochs of a model under DDP, full batches of the whole data, validation on odd shares."""
    torch.manual_seed(0)
    model: nn.Module = nn.Linear(FEATURES, CLASSES)
    train, val = samples(40), samples(23, 1)
    sampler = valid = None
    if ranks > 1:
        model = DistributedDataParallel(model)
        sampler = DistributedSampler(train, ranks, rank, shuffle=False)
        valid = DistributedSampler(val, ranks, rank, shuffle=False)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train_loader: Any = DataLoader(train, batch_size=40 // ranks, sampler=sampler)
    val_loader: Any = DataLoader(val, batch_size=5, sampler=valid)
    stream: Any = DataLoader(Stream(val, rank, ranks), batch_size=4)
    found: dict[str, Any] = {"losses": [], "epochs": []}
    if watched:
        monitor = quiet(**options)
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        train_loader = monitor.train(train_loader)
        val_loader = monitor.validate(val_loader)
        stream = monitor.validate(stream, "stream")
    for _epoch in range(3):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            found["losses"].append(loss.item().hex())
        model.eval()
        with torch.no_grad():
            for loader in (val_loader, stream):
                for x, y in loader:
                    criterion(model(x), y)
        if watched:
            scores = monitor.end_epoch()
            found["epochs"].append(
                {
                    "matrix": scores.splits["val"].confusion.tolist(),
                    "loss": [scores["val/loss"].value, scores["train/loss"].value],
                    "streamed": [scores.splits["stream"].confusion.tolist()],
                    "notes": [list(each.notes) for each in scores.splits.values()],
                }
            )
    if watched:
        found["faults"] = [repr(fault) for fault in monitor.faults.all()]
        monitor.close()
    found["state"] = [value.tolist() for value in model.state_dict().values()]
    found["random"] = torch.get_rng_state().tolist()
    return found


def with_and_without(rank: int) -> list[dict[str, Any]]:
    return [trained(rank, 2), trained(rank, 2, watched=False), trained(rank, 2, sync=False)]


@pytest.mark.fault(10)
@pytest.mark.fault(34)
def test_two_ranks_give_the_numbers_of_one_process_and_training_is_untouched(
    tmp_path: Path,
) -> None:
    found = run_ranks(with_and_without, 2, tmp_path)
    whole = trained(0, 1)
    for watched, plain, alone in found:
        assert watched["faults"] == alone["faults"] == []
        for name in ("losses", "state", "random"):
            assert watched[name] == plain[name] == alone[name], name
        for epoch, single in zip(watched["epochs"], whole["epochs"], strict=True):
            assert epoch["matrix"] == single["matrix"]
            assert epoch["streamed"] == single["streamed"]
            assert epoch["loss"] == pytest.approx(single["loss"], rel=1e-5)
            assert epoch["notes"] == [
                ["40 of 40 rows were counted on 2 ranks."],
                [
                    "23 of 23 rows were counted on 2 ranks, 1 duplicate of the sampler's padding "
                    "ignored."
                ],
                ["23 rows of 2 ranks were counted."],
            ]
        assert sum(map(sum, alone["epochs"][0]["matrix"])) in (11, 12)


# What goes wrong.


class Broken(pm.MulticlassMetrics):
    """Fails on rank 1: in its second update, or in reading the batches that wait for the end."""

    rank = 0
    where = ""

    def update(self, *args: Any, **options: Any) -> None:
        if (Broken.rank, Broken.where, self.updates) == (1, "update", 1):
            raise ValueError("out of order")
        super().update(*args, **options)

    def count(self, batch: Any) -> Any:
        if (Broken.rank, Broken.where) == (1, "count") and len(batch.target) > 10:
            raise ValueError("out of order")
        return super().count(batch)


def faulty(rank: int, run: Path, where: str) -> dict[str, Any]:
    Broken.rank, Broken.where = rank, where
    monitor = pm.Monitor(Broken(CLASSES), run=run, progress=False, hygiene=False, sync_timeout_s=20)
    seen = []
    for _ in range(2):
        for _ in range(3):
            monitor.update(*batch(5), split="val")
        seen.append(monitor.end_epoch()["val/accuracy"].n)
    monitor.close()
    return {"n": seen, "faults": len(monitor.faults)}


@pytest.mark.fault(7)
@pytest.mark.parametrize(("where", "rows", "faults"), [("update", 40, 4), ("count", 30, 2)])
@pytest.mark.slow
def test_a_fault_on_one_rank_is_contained_there_and_told_on_all(
    where: str, rows: int, faults: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first, second = run_ranks(faulty, 2, tmp_path / "ranks", run, where)
    assert first["n"] == second["n"] == [rows, rows]
    assert (first["faults"], second["faults"]) == (0, faults)
    told = read_run(run)
    messages = [note["message"] for note in told.notes if note["code"].startswith("rank-faults")]
    (message,) = messages
    assert message.endswith("contained on rank 1 by epoch 1; its journal and its log list them.")
    (fault,) = told.faults
    assert fault["message"] == "ValueError: out of order"
    assert message in pm.judge(run).notes


def alone(rank: int, run: Path) -> Any:
    """A script that makes its monitor on rank 0 only."""
    if rank:
        return None
    monitor = quiet(run=run, sync_timeout_s=0.5)
    found = []
    for _ in range(3):
        monitor.update(*batch(5), split="val")
        begun = time.monotonic()
        found.append(monitor.end_epoch()["val/accuracy"].n)
        found.append(time.monotonic() - begun)
    monitor.close()
    return found


@pytest.mark.fault(6)
@pytest.mark.slow
def test_a_monitor_on_rank_0_only_finds_out_in_time_and_goes_on_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    found, nothing = run_ranks(alone, 2, tmp_path / "ranks", run)
    assert nothing is None
    assert found[0::2] == [10, 10, 10]
    assert max(found[1::2]) < 10
    assert sum(found[3::2]) < 5, "the other rank is waited for once"
    told = read_run(run)
    assert len(told.epochs) == 3
    (fault,) = told.faults
    assert fault["where"] == "sync"
    assert "none from rank 1 in 0.5 s" in fault["message"]
    assert [note["code"] for note in told.notes] == ["one-rank"]
    assert "Rank 0 of 2 recorded what it saw itself" in told.notes[0]["message"]


def survivors(rank: int, run: Path) -> list[int]:
    monitor = quiet(run=run, sync_timeout_s=1)
    found = []
    for epoch in range(3):
        monitor.update(*batch(5), split="val")
        if rank == 1 and epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        found.append(monitor.end_epoch()["val/accuracy"].n)
    monitor.close()
    return found


@pytest.mark.fault(8)
def test_a_rank_that_is_killed_is_named_in_a_record_that_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second, third = run_ranks(survivors, 3, tmp_path / "ranks", run, may_fail=True)
    assert isinstance(second, Failed)
    assert first == third == [30, 10, 10]
    told = read_run(run)
    assert [epoch["scores"]["val/accuracy"]["n"] for epoch in told.epochs] == [30, 10, 10]
    assert told.end["reason"] == "completed"
    assert all("none from rank 1 in 1 s" in fault["message"] for fault in told.faults)
    assert journals_of(run) == [f"journal-rank{rank}.jsonl" for rank in range(3)]
    assert read_run(run / "journal-rank2.jsonl").end["reason"] == "completed"


def strict(rank: int) -> str:
    metrics = pm.BinaryMetrics() if rank else pm.MulticlassMetrics(2)
    monitor = pm.Monitor(metrics, on_fault="raise", progress=False, sync_timeout_s=20)
    monitor.update(torch.tensor([0.1, 0.9]) if rank else torch.eye(2), torch.tensor([0, 1]))
    try:
        monitor.end_epoch()
    except RanksError as error:
        return str(error)
    return ""


@pytest.mark.fault(4)
@pytest.mark.slow
def test_unlike_monitors_raise_the_same_error_where_faults_are_to_raise(tmp_path: Path) -> None:
    first, second = run_ranks(strict, 2, tmp_path)
    assert first == second
    assert '"task": "multiclass"' in first
    assert '"task": "binary"' in first


def until_the_time_is_over(rank: int) -> Any:
    """The clock of rank 1 is over in the middle of the second epoch, that of rank 0 never."""
    seconds = iter(range(100))
    limit = pm.TimeLimit(5, clock=lambda: int(1e9 * rank * next(seconds)))
    monitor = quiet(limit)
    asked = []
    for _ in range(4):
        for _ in range(3):
            monitor.update(*batch(rank, 10), split="train")
            asked.append(monitor.should_stop)
        monitor.end_epoch()
        if monitor.should_stop:
            break
    monitor.close()
    return monitor.epoch, monitor.stopping_reason, any(asked), len(monitor.faults)


def test_the_first_rank_whose_time_is_over_stops_all_at_the_end_of_the_same_epoch(
    tmp_path: Path,
) -> None:
    stopped = (2, "the time limit of 5 s is over", False, 0)
    assert run_ranks(until_the_time_is_over, 2, tmp_path / "ranks") == [stopped, stopped]
