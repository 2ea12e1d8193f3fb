"""Checkpoints are whole or absent, plain, and say which epoch they are of."""

import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import CLASSES, Net, fit, quiet
from test_callbacks import play
from torch import nn

import ptmetrics as pm
from ptmetrics.errors import ConfigError
from ptmetrics.record.reader import read_run


def load(path: Any) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_best_and_last_are_those_epochs(tmp_path: Path) -> None:
    checkpoint = pm.Checkpoint("val/loss")
    model = nn.Linear(1, 1)
    with quiet(checkpoint, run=tmp_path / "run") as monitor:
        monitor.attach(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        for loss in (0.5, 0.2, 0.3):
            model.weight.data.fill_(monitor.epoch)
            play(monitor, [loss])
    best, last = load(checkpoint.best_path), load(checkpoint.last_path)
    assert (best["epoch"], best["model"]["weight"].item()) == (1, 1)
    assert (last["epoch"], last["model"]["weight"].item()) == (2, 2)
    assert last["optimizer"]["param_groups"][0]["lr"] == 0.1
    assert last["monitor"]["status"]["epochs"] == 3
    assert checkpoint.best_path == tmp_path / "run" / "checkpoints" / "best.pt"
    told = [(c["why"], c["epoch"]) for c in read_run(tmp_path / "run").checkpoints]
    assert told == [("best", 0), ("last", 0), ("best", 1), ("last", 1), ("last", 2)]


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    for options, files in (({"score": None}, {"last.pt"}), ({"last": False}, {"best.pt"})):
        folder = tmp_path / "-".join(options)
        with quiet(pm.Checkpoint(folder=folder, **options)) as monitor:
            fit("hooks", monitor)
        assert {path.name for path in folder.iterdir()} == files


def test_a_checkpoint_with_nowhere_to_write_is_refused_before_the_first_batch() -> None:
    monitor = quiet(pm.Checkpoint())
    with pytest.raises(ConfigError) as caught:
        monitor.attach(Net())
    assert caught.value.name == "folder"
    assert "a folder to write to" in caught.value.expected
    assert "neither a folder nor a run" in caught.value.got
    assert "Monitor(run=…)" in caught.value.cure


def test_a_checkpoint_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught, quiet(pm.Checkpoint(folder=tmp_path)) as monitor:
        play(monitor, [0.3])
    assert "an attached model" in caught.value.expected
    assert caught.value.got == "none"
    assert "attach(model" in caught.value.cure


class Poison(nn.Linear):
    """Its state fails to be written in the middle of the file."""

    broken = False

    def get_extra_state(self) -> Any:
        return Unwritable() if self.broken else None

    def set_extra_state(self, state: Any) -> None:
        pass


class Unwritable:
    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_the_old_file_and_the_training_running(tmp_path: Path) -> None:
    checkpoint = pm.Checkpoint("val/loss", folder=tmp_path)
    model = Poison(1, 1)
    with quiet(checkpoint, on_fault="contain") as monitor:
        monitor.attach(model)
        play(monitor, [0.5])
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        model.broken = True
        play(monitor, [0.4, 0.3])
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        assert [fault.count for fault in monitor.faults.all()] == [2]
        assert monitor.history.epoch == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child in the middle of a write")
def test_a_process_killed_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    class Kill:
        def __reduce__(self) -> Any:
            os._exit(9)

    model = Poison(1, 1)
    with quiet(pm.Checkpoint("val/loss", folder=tmp_path)) as monitor:
        monitor.attach(model)
        play(monitor, [0.5])
        before = load(tmp_path / "last.pt")["epoch"]
        child = os.fork()
        if child == 0:
            model.get_extra_state = Kill  # type: ignore[method-assign]
            play(monitor, [0.4])
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert load(tmp_path / "last.pt")["epoch"] == before
        assert load(tmp_path / "best.pt")["epoch"] == before


def test_a_checkpoint_carries_every_callbacks_state_whatever_their_order(tmp_path: Path) -> None:
    """Whether the checkpoint or early stopping comes first must not matter."""
    stored = []
    for turn in (1, -1):
        callbacks = [
            pm.Checkpoint("val/loss", folder=tmp_path / str(turn)),
            pm.EarlyStopping("val/loss"),
        ][::turn]
        with quiet(*callbacks) as monitor:
            monitor.attach(nn.Linear(1, 1))
            play(monitor, [0.5, 0.4, 0.45])
        stopping = load(tmp_path / str(turn) / "last.pt")["monitor"]["callbacks"][::turn][1]
        stored.append(stopping)
    assert stored[0] == stored[1] == stored[0] | {"value": 0.4, "epoch": 1, "waited": 1}


def test_the_state_of_a_run_is_plain_tensors_and_values(tmp_path: Path) -> None:
    stopping = pm.EarlyStopping("val/loss", restore_best=True)
    with quiet(
        stopping, pm.Checkpoint(folder=tmp_path), metrics=pm.MulticlassMetrics(CLASSES, topk=(1, 2))
    ) as monitor:
        fit("hooks", monitor)
        monitor.update(
            torch.randn(4, CLASSES),
            torch.tensor([0, 1, 2, 0]),
            loss=0.5,
            sample_weight=torch.ones(4),
        )
        torch.save(monitor.state_dict(), tmp_path / "half")
        assert set(load(tmp_path / "half")) == set(monitor.state_dict())
        monitor.end_epoch()


def kept_by_a_sort(values: list[float], count: int, *, rises: bool) -> set[str]:
    """The files of the best epochs, the earlier one first where two are equal."""
    sign = -1 if rises else 1
    known = [(sign * value, epoch) for epoch, value in enumerate(values) if not math.isnan(value)]
    return {
        f"epoch{epoch + 1}-val-x-{sign * value:.4f}.pt" for value, epoch in sorted(known)[:count]
    }


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from([math.nan, 0.0, 0.25, 0.5, 0.75]), min_size=1, max_size=7),
    st.integers(2, 4),
    st.booleans(),
    st.integers(1, 6),
)
def test_the_best_epochs_that_are_kept_are_those_of_a_sort_in_one_run_or_two(
    values: list[float], count: int, rises: bool, cut: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        for part in (values[:cut], values[cut:]):
            metric = pm.Mean("x", lambda preds, target: preds, higher_is_better=rises)
            checkpoint = pm.Checkpoint("val/x", top_k=count)
            with quiet(checkpoint, metrics=metric, run=path, if_exists="resume") as monitor:
                monitor.attach(nn.Linear(1, 1))
                for value in part:
                    monitor.update(torch.full((4,), value), torch.zeros(4), split="val")
                    monitor.end_epoch()
        files = {found.name for found in (path / "checkpoints").iterdir()}
        kept = kept_by_a_sort(values, count, rises=rises)
        best = {"best.pt"} if kept else set()
        assert files == kept | best | {"last.pt"}
        if kept:
            first = min(kept_by_a_sort(values, 1, rises=rises))
            assert load(path / "checkpoints" / "best.pt")["epoch"] == int(first[5]) - 1
            for name in kept:
                assert load(path / "checkpoints" / name)["epoch"] == int(name[5]) - 1
