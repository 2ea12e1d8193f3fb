"""The soak finds what is lost and what is wrong, and an episode with kills has neither."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ptmetrics as pm
from ptmetrics.record.reader import read_run
from tests.studies import soak
from tests.studies.soak import SoakError

SEED, EPISODE = 3, 1


def one_epoch(folder: Path) -> Any:
    """What a run without any trouble records of the first epoch."""
    metrics = pm.MulticlassMetrics(soak.CLASSES)
    with pm.Monitor(metrics, run=folder / "run", progress=False, on_fault="raise") as monitor:
        for batch in range(soak.TRAIN + soak.VAL):
            rows = soak.rows_of(SEED, EPISODE, 0, batch)
            monitor.update(
                torch.tensor(rows.logits),
                torch.tensor(rows.target),
                loss=torch.tensor(rows.loss),
                split=soak.split_of(batch),
            )
            monitor.record("note", {"code": "soak", "message": f"0.0.{batch}"})
        monitor.end_epoch()
    return read_run(folder / "run").epochs[0]


def test_the_independent_count_is_that_of_a_quiet_run_and_any_other_number_is_found(
    tmp_path: Path,
) -> None:
    epoch = one_epoch(tmp_path)
    counts = soak.counted(SEED, EPISODE, 0)
    for split, count in counts.items():
        soak.check_split(epoch, split, count)
    for spoil in (
        lambda e: e["confusion"]["val"][0].__setitem__(0, e["confusion"]["val"][0][0] + 1),
        lambda e: e["scores"]["val/loss"].update(value=e["scores"]["val/loss"]["value"] + 1e-9),
        lambda e: e["counts"].update(val_samples=1),
        lambda e: e["faults"].update(val={}),
    ):
        wrong = copy.deepcopy(epoch)
        spoil(wrong)
        if wrong != epoch:
            with pytest.raises(SoakError, match=r"epoch 0, val: .*expected .*, got "):
                soak.check_split(wrong, "val", counts["val"])


def test_what_was_acknowledged_and_is_not_there_is_found(tmp_path: Path) -> None:
    one_epoch(tmp_path)
    run = read_run(tmp_path / "run")
    tally = soak.Tally()
    (tmp_path / "told-0-0").write_text("note 0.0.3\nnote 0.0.11\n")
    soak.check_acknowledged(run, tmp_path, tally)
    assert tally.acknowledged == 2
    for lost in ("note 0.0.12", "epoch 0 1", "epoch 1 7"):
        (tmp_path / "told-1-0").write_text(f"{lost}\n")
        with pytest.raises(SoakError, match=f"lost: {lost}, which told-1-0 acknowledges"):
            soak.check_acknowledged(run, tmp_path, tally)


def test_shares_of_the_ranks_are_the_batch_and_batches_are_of_every_kind() -> None:
    kinds = set()
    for batch in range(200):
        rows = soak.rows_of(SEED, EPISODE, 1, batch)
        shares = [rows.of(rank, 3) for rank in range(3)]
        assert sum(len(share.target) for share in shares) == len(rows.target)
        assert sorted(np.concatenate([share.loss for share in shares])) == sorted(rows.loss)
        kinds |= {
            "empty" * (not len(rows.target)),
            "nan" * bool(np.isnan(rows.logits).any()),
            "no class" * bool((rows.target == soak.CLASSES).any()),
        }
    assert kinds == {"", "empty", "nan", "no class"}


@pytest.mark.slow
@pytest.mark.fault(38)
@pytest.mark.fault(40)
@pytest.mark.fault(41)
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_episode_of_kills_full_disks_and_errors_loses_nothing(
    ranks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--ranks", str(ranks), "--seed", "7", "--episodes", "3"]
    assert soak.main(asked) == 0, capsys.readouterr().out
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"3 episodes of {ranks} ranks, 0 failed: ")
    assert last.endswith(
        "none lost, every number equal"
    )  # a quick machine may be done before a kill
