"""However a run ends, its record says how and can be read, and the folder is free again."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loops import CLASSES, Net, quiet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm
from ptmetrics.errors import DtypeError
from ptmetrics.record.reader import Run, read_run

X, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])


def count(monitor: pm.Monitor) -> None:
    monitor.update(torch.randn(4, CLASSES), Y, loss=0.5)


def ended(run: Run) -> tuple[str, int, str | None]:
    assert run.end is not None
    return run.end["reason"], run.end["epochs"], run.end["stopping"]


class StopAt(pm.Callback):
    def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
        if scores.epoch == 1:
            monitor.stop("enough")


def test_epochs_closes_each_epoch_and_the_run(tmp_path: Path) -> None:
    monitor = quiet(run=tmp_path / "run")
    for number in monitor.epochs(3):
        assert number == monitor.epoch
        count(monitor)
    assert ended(read_run(tmp_path / "run")) == ("completed", 3, None)
    assert pm.read_history(tmp_path / "run").epoch == [0, 1, 2]


def test_epochs_ends_when_a_callback_asks_to_stop(tmp_path: Path) -> None:
    for number in quietly(tmp_path, StopAt()).epochs(9):
        assert number < 2
    assert ended(read_run(tmp_path / "run")) == ("early stopping", 2, "enough")


def test_a_loop_that_breaks_because_it_is_asked_to_stop_was_stopped_early(tmp_path: Path) -> None:
    monitor = quietly(tmp_path, StopAt())
    for _ in monitor.epochs(9):
        count(monitor)
        monitor.end_epoch()
        if monitor.should_stop:
            break
    assert ended(read_run(tmp_path / "run")) == ("early stopping", 2, "enough")


def quietly(folder: Path, *callbacks: pm.Callback) -> pm.Monitor:
    return quiet(*callbacks, run=folder / "run", on_fault="contain")


def test_an_epoch_that_the_body_closed_is_not_closed_again() -> None:
    with quiet() as monitor:
        for _ in monitor.epochs(2):
            count(monitor)
            monitor.end_epoch()
        assert monitor.history.epoch == [0, 1]


@pytest.mark.parametrize("managed", [False, True])
def test_a_break_is_an_interruption_that_keeps_what_was_recorded(
    tmp_path: Path, managed: bool
) -> None:
    monitor = quietly(tmp_path)

    def loop() -> None:
        for number in monitor.epochs(9):
            count(monitor)
            if number == 2:
                break

    if managed:
        with monitor:
            loop()
    else:
        loop()
    assert ended(read_run(tmp_path / "run")) == ("interrupted", 2, None)
    assert pm.read_history(tmp_path / "run").epoch == [0, 1]


@pytest.mark.fault(48)
@pytest.mark.parametrize("way", ["with", "attach", "epochs in with", "epochs in attach"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (OSError("mine \udc80"), "error: OSError: mine \udc80"),
        (SystemExit(3), "error: SystemExit: 3"),
    ],
    ids=["ctrl-c", "error", "exit"],
)
def test_an_exception_in_the_loop_seals_the_record_with_its_name(
    tmp_path: Path, way: str, error: BaseException, reason: str
) -> None:
    monitor, model, criterion = quietly(tmp_path), Net().train(), nn.CrossEntropyLoss()

    def endless() -> Iterator[int]:
        while True:
            yield monitor.epoch
            monitor.end_epoch()

    def loop() -> None:
        for epoch in monitor.epochs(9) if way.startswith("epochs") else endless():
            for step, (x, y) in enumerate(monitor.train([(X, Y)] * 3)):
                criterion(model(x), y)
                if (epoch, step) == (2, 1):
                    raise error

    with pytest.raises(type(error)) as caught:  # noqa: PT012 — the context is what is tested
        if way.endswith("attach"):
            with monitor.attach(model, criterion=criterion):
                loop()
        else:
            with monitor:
                monitor.attach(model, criterion=criterion)
                loop()
    assert caught.value is error
    assert ended(read_run(tmp_path / "run")) == (reason, 2, None)
    assert pm.read_history(tmp_path / "run").epoch == [0, 1]
    assert "__call__" not in vars(type(model))
    with quiet(run=tmp_path / "run", resume=True) as again:  # the lock is free
        assert again.history.epoch == [0, 1]


@pytest.mark.fault(48)
def test_ctrl_c_while_scores_are_computed_seals_the_record(tmp_path: Path) -> None:
    class Interrupt(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            raise KeyboardInterrupt

    monitor = quietly(tmp_path, Interrupt())
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 — the loop is what is tested
        for _ in monitor.epochs(3):
            count(monitor)
    assert ended(read_run(tmp_path / "run")) == ("interrupted", 1, None)
    assert pm.read_history(tmp_path / "run").epoch == [0]


def test_an_error_behind_an_epochs_body_is_the_runs_end(tmp_path: Path) -> None:
    class Broken(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            raise OSError("mine")

    monitor = quiet(Broken(), run=tmp_path / "run")
    with pytest.raises(OSError, match="mine"):  # noqa: PT012 — the loop is what is tested
        for _ in monitor.epochs(3):
            count(monitor)
    assert ended(read_run(tmp_path / "run"))[0] == "error: OSError: mine"


def test_a_record_without_a_single_epoch_can_be_read(tmp_path: Path) -> None:
    with quietly(tmp_path) as monitor:
        monitor.attach(Net())
    run = read_run(tmp_path / "run")
    assert (run.epochs, ended(run)) == ([], ("completed", 0, None))


def test_the_header_says_what_was_run(tmp_path: Path) -> None:
    config = {"seed": 3, "arm": "scratch", "val_fingerprint": "f00", "lr": 0.1}
    metrics = pm.MulticlassMetrics(2, class_names=["$cat", "dog"])
    with pm.Monitor(metrics, tmp_path / "run", config=config) as monitor:
        monitor.attach(Net())
    header = read_run(tmp_path / "run").header
    assert header["metrics"]["class_names"] == ["$cat", "dog"]
    assert (header["metrics"]["task"], header["metrics"]["num_classes"]) == ("multiclass", 2)
    assert (header["seed"], header["arm"], header["val_fingerprint"]) == (3, "scratch", "f00")
    assert (header["config"], header["name"]) == (config, "run")
    assert header["environment"]["torch"] == str(torch.__version__)
    assert header["environment"]["device"]


def test_a_configuration_that_no_record_can_hold_is_refused_with_its_place(tmp_path: Path) -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(3), tmp_path / "run", config={"lr": torch.ones(())})
    for _ in range(2):
        with pytest.raises(DtypeError) as caught:
            monitor.attach(Net())
        assert caught.value.name == "data.config.lr"
        assert caught.value.got == "Tensor"
    monitor.close()
    with pm.Monitor(pm.MulticlassMetrics(3), tmp_path / "run", config={"lr": 1.0}) as again:
        again.attach(Net())
    assert read_run(tmp_path / "run").header["config"] == {"lr": 1.0}


def test_a_run_that_is_dropped_seals_its_record_and_frees_the_folder(tmp_path: Path) -> None:
    monitor = quietly(tmp_path)
    count(monitor)
    monitor.end_epoch()
    del monitor
    gc.collect()
    assert ended(read_run(tmp_path / "run")) == ("completed", 1, None)
    quiet(run=tmp_path / "run", resume=True).close()


@pytest.mark.fault(48)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_loader_leave_the_record_and_its_lock_alone(tmp_path: Path) -> None:
    model, criterion = Net().train(), nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(torch.randn(16, 6), torch.zeros(16).long()), 4, num_workers=2)
    with quiet(run=tmp_path / "run") as monitor:
        monitor.attach(model, criterion=criterion)
        for _ in range(2):
            for x, y in monitor.train(loader):
                criterion(model(x), y)
            monitor.end_epoch()
    run = read_run(tmp_path / "run")
    assert (len(run.epochs), len(run.headers), run.problems) == (2, 1, [])
    quiet(run=tmp_path / "run", resume=True).close()


SCRIPT = """
import os, sys, torch
torch.set_num_threads(1)
import ptmetrics as pm

def main(how):
    monitor = pm.Monitor(pm.RegressionMetrics(), run=f"{sys.argv[1]}/{how}", progress=False)
    for epoch in range(2):
        monitor.update(torch.ones(3), torch.zeros(3), loss=0.5)
        monitor.end_epoch()
    if how == "half":
        monitor.update(torch.ones(3), torch.zeros(3), loss=0.5)
    if how == "stop":
        monitor.stop("enough")
    if how == "raise":
        raise ValueError("mine")
    if how == "interrupt":
        raise KeyboardInterrupt

# Importing everything once is enough: each child runs to an end of its own.
with pm.Monitor(pm.RegressionMetrics(), progress=False) as warm_up:
    warm_up.update(torch.ones(3), torch.zeros(3), loss=0.5)
    warm_up.end_epoch()
for how in sys.argv[2:]:
    child = os.fork()
    if not child:
        main(how)
        break
    os.waitpid(child, 0)
"""
REASONS = {
    "end": "completed",
    "stop": "early stopping",
    "half": "not closed",
    "raise": "error: ValueError: mine",
    "interrupt": "interrupted",
}


@pytest.mark.slow
@pytest.mark.fault(38)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each child process ends in another way")
def test_a_process_that_ends_without_close_seals_its_record(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), *REASONS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Exception ignored" not in done.stderr
    for how, reason in REASONS.items():
        epochs = 2
        if how == "half":
            epochs = 3  # the one that was under way is written, as unfinished
        stopping = "enough" if how == "stop" else None
        assert ended(read_run(tmp_path / how)) == (reason, epochs, stopping)
        assert pm.read_history(tmp_path / how)["val/loss"] == [0.5] * epochs
    assert done.stderr.count("end_epoch()") == 2  # one line, which names it twice
    assert [epoch.get("unfinished") for epoch in read_run(tmp_path / "half").epochs] == [
        None,
        None,
        True,
    ]
