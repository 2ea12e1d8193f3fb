"""A run where the system has no locks, no sync of folders, and does not rename what is open: Windows."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import ptmetrics as pm
from ptmetrics.record import atomic, run_folder


def is_open(path: Path) -> bool:
    """Whether this process has a file open, by what Linux lists."""
    handles = Path("/proc/self/fd")
    return any(os.path.realpath(handle) == os.path.realpath(path) for handle in handles.iterdir())


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open files")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        monkeypatch.delattr(os, name)
    # Not in `os` itself, where pathlib looks as well.
    monkeypatch.setattr(run_folder, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    whole = {name: getattr(Path, name) for name in ("replace", "unlink", "rename")}

    def refusing(name: str) -> Any:
        def call(self: Path, *args: Any, **options: Any) -> Any:
            if is_open(self) or any(is_open(Path(other)) for other in args):
                raise PermissionError(13, "the file is used by another process", str(self))
            return whole[name](self, *args, **options)

        return call

    for name in whole:
        monkeypatch.setattr(Path, name, refusing(name))


def recorded(folder: Path, if_exists: str = "keep", epochs: int = 2) -> pm.Monitor:
    model = nn.Linear(3, 3)
    callbacks = [pm.Checkpoint("val/accuracy", last=True), pm.CSVLogger()]
    metrics = pm.MulticlassMetrics(3)
    with pm.Monitor(
        metrics,
        run=folder,
        callbacks=callbacks,
        keep_samples=100,
        if_exists=if_exists,
        progress=False,
        on_fault="raise",
    ) as monitor:
        monitor.attach(model)
        for _ in range(epochs):
            target = torch.arange(30) % 3
            preds = nn.functional.one_hot(target, 3).float() * 5
            for split in ("train", "val"):
                monitor.update(preds, target, loss=0.5, split=split)
            monitor.end_epoch()
    return monitor


@pytest.mark.usefixtures("windows")
def test_a_run_is_recorded_kept_resumed_overwritten_and_reported_there(tmp_path: Path) -> None:
    run = tmp_path / "run"
    recorded(run)
    assert pm.read_history(run)["val/accuracy"] == [1.0, 1.0]
    recorded(run)
    assert len(pm.read_history(run / "earlier" / "1")["val/accuracy"]) == 2
    recorded(run, "resume", 1)
    assert len(pm.read_history(run)["val/accuracy"]) == 3
    recorded(run, "overwrite", 1)
    assert len(pm.read_history(run)["val/accuracy"]) == 1
    assert (run / "checkpoints" / "best.pt").is_file()
    assert pm.report(run, run / "report.html").is_file()


@pytest.mark.usefixtures("windows")
def test_a_file_that_somebody_holds_open_keeps_its_old_content(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(b"old")
    with path.open("rb") as held:
        with pytest.raises(PermissionError):
            atomic.replace(path, lambda file: file.write(b"new"))
        assert held.read() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    atomic.replace(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


@pytest.mark.usefixtures("windows")
def test_without_locks_nothing_says_that_a_file_is_free(tmp_path: Path) -> None:
    path = tmp_path / ".tmp-1"
    path.write_bytes(b"")
    with path.open("rb") as file:
        assert atomic.try_lock(file.fileno()) is None
    atomic.sweep(tmp_path)
    assert path.exists()
