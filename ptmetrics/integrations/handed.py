"""Batches that a trainer hands over one by one, as passes over loaders that a monitor watches."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from ptmetrics.monitor.monitor import Monitor


class HandedLoader(DataLoader[Any]):
    """Batches that are handed over, as a loader whose sampler tells which rows are padding.

    Args:
        loader: The loader that the trainer iterates.
        batches: Its batches, as they come.
    """

    def __init__(self, loader: DataLoader[Any], batches: Iterator[Any]) -> None:
        self.__dict__.update(vars(loader))
        self.batches = batches

    def __iter__(self) -> Any:
        return self.batches


class HandedPasses:
    """Passes over the loaders of a trainer that tells of each batch before it is answered.

    Args:
        monitor: Counts them.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> monitor, model = pm.Monitor(pm.MulticlassMetrics(2)), torch.nn.Linear(4, 2).eval()
        >>> passes = HandedPasses(monitor)
        >>> with monitor.attach(model):
        ...     for x in (torch.zeros(8, 4), torch.zeros(3, 4)):
        ...         passes.hand("val", (x, torch.zeros(len(x)).long()))
        ...         _ = model(x)
        ...     passes.end()
        ...     epoch_scores = monitor.end_epoch()
        >>> epoch_scores["val/accuracy"].n
        11
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._batches: list[Any] = []
        self._open: dict[str, Iterator[Any]] = {}

    @property
    def training(self) -> bool:
        """Whether a pass over the training data goes on."""
        return "train" in self._open

    def hand(self, split: str, batch: Any, loader: object = None) -> None:
        """A batch comes, of a loader; the first one of a split begins a pass."""
        if split not in self._open:
            self.end(but="train")  # in whose middle a validation stands
            source: Any = self._taken()
            loader = getattr(loader, "base_dataloader", loader)  # that Accelerate has prepared
            if isinstance(loader, DataLoader):
                source = HandedLoader(loader, source)
            if split == "train":
                self._open[split] = iter(self._monitor.train(source))
            else:
                self._open[split] = iter(self._monitor.validate(source, split))
        self._batches.append(batch)
        next(self._open[split])

    def _taken(self) -> Iterator[Any]:
        while self._batches:
            yield self._batches.pop()

    def end(self, but: str = "") -> None:
        """No more batches come, but of this split."""
        for split in set(self._open) - {but}:
            next(self._open.pop(split), None)
