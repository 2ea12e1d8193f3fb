"""A copy of a validation row that another rank trains on is found, as by an audit of the whole sets."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gloo_ranks import run_ranks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import ptmetrics as pm
from ptmetrics.leakage.ranks import joined, packed
from ptmetrics.leakage.samples import Fingerprints
from ptmetrics.record.events import AUDIT_NOTE
from ptmetrics.record.reader import read_run

FEATURES = 16
CLASSES = 2


def sets() -> tuple[TensorDataset, TensorDataset]:
    """Row 4 of validation, of rank 0, is row 7 of training, of rank 1, and row 5 is nearly row 8."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, FEATURES, generator=generator)
    held_out = torch.randn(41, FEATURES, generator=generator)  # odd: a row of padding
    x[7] = held_out[4]
    x[8] = held_out[5] + 1e-3
    target, answers = torch.arange(200) % CLASSES, torch.arange(41) % CLASSES
    answers[4] = 1 - target[7]
    return TensorDataset(x, target), TensorDataset(held_out, answers)


def fitted(rank: int, ranks: int, run: Path, check: pm.Callback | None, **options: Any) -> None:
    train, val = sets()
    model, criterion = nn.Linear(FEATURES, CLASSES), nn.CrossEntropyLoss()
    monitor = pm.Monitor(
        pm.MulticlassMetrics(CLASSES),
        run,
        [] if check is None else [check],
        progress=False,
        hygiene=False,
        **{"sync_timeout_s": 20, **options},
    )
    monitor.attach(model, criterion=criterion)
    train_loader: Any = DataLoader(
        train, 16, sampler=DistributedSampler(train, ranks, rank, shuffle=False)
    )
    own: Any = DistributedSampler(val, ranks, rank, shuffle=False)
    val_loader: Any = DataLoader(val, 16, sampler=own)
    for epoch in range(2):
        for x, y in monitor.train(train_loader):
            criterion(model.train()(x), y)
        for _ in range(2 - epoch):  # in the first epoch twice: the last one counts
            for x, y in monitor.validate(val_loader):
                with torch.no_grad():
                    criterion(model.eval()(x), y)
        monitor.end_epoch()
    assert [repr(fault) for fault in monitor.faults.all()] == []
    monitor.close()


def watched(rank: int, run: Path) -> dict[str, pm.Audit]:
    check = pm.LeakageCheck()
    fitted(rank, 2, run, check)
    return check.found


def viewed(rank: int, run: Path) -> dict[str, pm.Audit]:
    check = pm.LeakageCheck(train_view=sets()[0])
    fitted(rank, 2, run, check)
    return check.found


@pytest.mark.fault(9)
@pytest.mark.parametrize("script", [watched, viewed])
def test_a_copy_on_another_rank_is_found_as_by_an_audit(script: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    found, none = run_ranks(script, 2, tmp_path / "ranks", run)
    audit = pm.audit(*sets())
    assert none == {}
    assert found["val"].exact == audit.exact == [(7, 4)]
    assert found["val"].near == audit.near == [(8, 5)]
    assert found["val"].conflicts == audit.conflicts == [("train", 7, 4)]
    assert found["val"].duplicates == []  # the row of padding is none
    assert (found["val"].train_rows, found["val"].val_rows) == (200, 41)
    (note,) = (each for each in read_run(run).notes if each["code"] == AUDIT_NOTE)
    assert note["leaked"] == [4, 5]
    codes = {finding.code: finding for finding in pm.judge(run).findings}
    assert {"leakage-exact", "leakage-near"} <= codes.keys()
    # The samples of both ranks, joined, tell the score without those rows.
    assert codes["leakage-exact"].evidence["without"]["accuracy"]["clean"]["n"] == 39


def on_rank_0(rank: int, run: Path) -> dict[str, pm.Audit]:
    check = pm.LeakageCheck()
    train, val = sets()
    monitor = pm.Monitor(
        pm.MulticlassMetrics(CLASSES),
        run,
        [] if rank else [check],
        progress=False,
        hygiene=False,
        sync_timeout_s=2,
    )
    model = nn.Linear(FEATURES, CLASSES)
    criterion = nn.CrossEntropyLoss()
    with monitor.attach(model, criterion=criterion):
        for split, data in (("train", train), ("val", val)):
            x, y = data.tensors
            with monitor.split(split):
                criterion(model(x[rank::2]), y[rank::2])
        monitor.end_epoch()
    monitor.close()
    return check.found


@pytest.mark.slow
@pytest.mark.fault(6)
def test_a_rank_without_the_check_is_named_and_nothing_is_claimed(tmp_path: Path) -> None:
    found, _ = run_ranks(on_rank_0, 2, tmp_path / "ranks", tmp_path / "run")
    why = found["val"].not_checked["exact"]
    assert "expected a sync with all 2 ranks, got none from rank 1 in 2 s" in why
    assert found["val"].leaked == []


def test_what_does_not_fit_is_left_out_and_said() -> None:
    kept = Fingerprints("val")
    kept.add(torch.rand(10, FEATURES), list(range(10)))
    twice = joined([packed({"val": kept}, 10**6)] * 2)["val"]
    assert isinstance(twice, Fingerprints)
    assert (twice.rows, twice.near) == (20, True)
    hashes_alone = joined([packed({"val": kept}, 10**6), packed({"val": kept}, 170)])["val"]
    assert isinstance(hashes_alone, Fingerprints)
    assert not hashes_alone.near
    assert "call pm.audit instead" in hashes_alone.why_not
    assert hashes_alone.hashes()[::2].tolist() == kept.hashes().tolist()  # dealt out in turn
    assert hashes_alone.labels[1::2] == list(range(10))
    nothing = joined([packed({"val": kept}, 100), packed({"val": kept}, 10**6)])["val"]
    assert "MiB of hashes" in str(nothing)


def test_shares_of_unlike_kinds_and_reasons_are_told() -> None:
    kept, other = Fingerprints("val"), Fingerprints("val")
    kept.add(torch.rand(3, FEATURES))
    other.add(torch.rand(3, FEATURES + 1))
    told = joined([packed({"val": each}, 10**6) for each in (kept, other)])["val"]
    forms = [f"torch.float32 of shape ({size},)" for size in (FEATURES, FEATURES + 1)]
    assert told == f"its ranks have seen {' and '.join(forms)}"
    reasons = joined([packed({"val": "no inputs"}, 10**6), packed({"val": kept}, 10**6)])
    assert reasons == {"val": "no inputs"}
    alone = joined([packed({}, 10**6), packed({"val": kept}, 10**6)])["val"]
    assert isinstance(alone, Fingerprints)
    assert alone.hashes().tolist() == kept.hashes().tolist()
