"""Progress bars show the loop and change nothing in it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from loops import Net, quiet
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from ptmetrics.errors import ConfigError

X, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])


class Stream(IterableDataset[Tensor]):
    """Without a length, as a stream of files."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(X, Y, strict=True)


class Liar(Stream):
    """With a length that is too small: a DataLoader that was asked for it warns."""

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize(
    "loader",
    [DataLoader(Stream(), 2), DataLoader(Liar(), 2), iter([(X, Y)] * 2), [(X, Y)] * 2],
    ids=["stream", "wrong length", "iterator", "list"],
)
def test_a_loader_of_any_kind_can_be_watched(loader: Any, progress: bool) -> None:
    model = Net().eval()
    loader = [(X, Y)] * 2 if isinstance(loader, Iterator) else loader
    with quiet(progress=progress) as monitor:
        monitor.attach(model)
        for x, _ in monitor.validate(loader):
            model(x)
        scores = monitor.end_epoch()
    assert scores.counts["val_steps"] == 2


def test_bars_tell_epochs_batches_and_scores(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    model = Net().eval()
    monitor = quiet(progress=True, run=tmp_path / "my-run")
    monitor.attach(model)
    for _ in monitor.epochs(2):
        for x, _y in monitor.validate([(X, Y)] * 2):
            model(x)
    shown = capsys.readouterr().err
    for part in ("my-run", "2/2", "epoch", "batch", "val", "val/accuracy"):
        assert part in shown


@pytest.mark.parametrize("progress", [False, None])
def test_nothing_is_shown_where_no_terminal_is_or_nobody_asks(
    progress: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Net().eval()
    with quiet(progress=progress) as monitor:
        monitor.attach(model)
        for _ in monitor.epochs(2):
            for x, _y in monitor.validate([(X, Y)] * 2):
                model(x)
    assert capsys.readouterr().err == ""


def test_a_watched_loader_has_its_length_and_can_be_watched_every_epoch() -> None:
    model = Net().eval()
    with quiet() as monitor:
        monitor.attach(model)
        watched = monitor.validate([(X, Y)] * 3)
        assert len(watched) == 3
        for _ in range(2):
            for x, _y in watched:
                model(x)
            assert monitor.end_epoch().counts["val_samples"] == 12


def trained(tmp_path: Any, progress: Any, *, validated: bool = True, fail: bool = False) -> None:
    model = Net()
    criterion = nn.CrossEntropyLoss()
    with quiet(progress=progress, run=tmp_path / "run", if_exists="overwrite") as monitor:
        monitor.attach(model, criterion=criterion)
        for epoch in range(3):
            criterion(model.train()(X), Y)
            if validated:
                criterion(model.eval()(X), Y)
            if fail and epoch:
                raise RuntimeError("the loop's own")
            monitor.end_epoch()


@pytest.mark.parametrize("progress", [True, "plain"])
def test_each_epoch_is_a_line_and_the_verdict_comes_last(
    progress: Any, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    trained(tmp_path, progress)
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0].split()[:4] == ["epoch", "train/loss", "val/loss", "val/accuracy"]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert any(line.startswith("Verdict: ") for line in lines[4:])
    assert " ".join(shown.err.split()).endswith(f"All of it: ptmetrics report {tmp_path / 'run'}")
    assert "\x1b" not in shown.err


@pytest.mark.parametrize("progress", [False, None])
def test_a_quiet_run_shows_neither_lines_nor_a_verdict(
    progress: Any, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    trained(tmp_path, progress)
    assert capsys.readouterr().err == ""


def test_a_run_that_failed_ends_without_a_verdict(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    with pytest.raises(RuntimeError, match="own"):
        trained(tmp_path, "plain", fail=True)
    shown = capsys.readouterr().err
    assert shown.splitlines()[1].split()[0] == "1"
    assert "Verdict" not in shown


def test_a_run_without_validation_shows_what_it_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    trained(tmp_path, "plain", validated=False)
    head = capsys.readouterr().err.splitlines()[0]
    assert head.split()[:3] == ["epoch", "train/loss", "train/accuracy"]


def test_rank_0_alone_shows_anything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    trained(tmp_path, "plain")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("progress", ["loud", 1, "", [True]])
def test_what_is_no_way_to_show_is_refused(progress: Any) -> None:
    with pytest.raises(ConfigError, match=r"progress: expected True, False, None or \"plain\""):
        quiet(progress=progress)
