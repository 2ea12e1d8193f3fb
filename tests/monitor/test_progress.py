"""Progress bars show the loop and change nothing in it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from loops import Net, quiet
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

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
    for part in ("my-run", "2/2", "epoch", "batch", "val", "val/accuracy="):
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
