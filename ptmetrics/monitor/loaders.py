"""The user's loaders, wrapped: the recorder hears of each batch, bars show how far the loop is."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from operator import getitem
from typing import Any, Generic, TypeVar

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, default_collate

from ptmetrics.monitor.answers import NO_BATCH
from ptmetrics.monitor.console import Console
from ptmetrics.monitor.recorder import BatchRecorder
from ptmetrics.monitor.seen import LoaderSize

BatchT = TypeVar("BatchT")


def size_of(loader: Any) -> LoaderSize | None:
    """What torch's own loader yields of a data set of samples; None where that is not for sure."""
    if type(loader) is not DataLoader or isinstance(loader.dataset, IterableDataset):
        return None
    plain = type(loader.batch_sampler) is BatchSampler and loader.collate_fn is default_collate
    if not plain or loader.drop_last or not loader.batch_size:
        return None
    sampler: Any = loader.sampler
    try:
        return LoaderSize(len(sampler), len(loader), loader.batch_size)
    except (TypeError, NotImplementedError):
        return None


class MonitoredLoader(Generic[BatchT]):
    """The batches of a loader, monitored anew each time they are iterated.

    All else is the loader's: its length, what is read from it and what is set on it. A copy or a
    pickle is one of the loader alone, which nobody monitors.

    Args:
        loader: Yields the batches; it is iterated once each time.
        split: What its batches are counted as.
        recorder: Told of each batch.
        console: Shows how far the loop is.
    """

    __slots__ = ("__weakref__", "_console", "_loader", "_recorder", "_split")

    def __init__(
        self, loader: Iterable[BatchT], split: str, recorder: BatchRecorder, console: Console
    ) -> None:
        own = super().__setattr__
        own("_loader", loader)
        own("_split", split)
        own("_recorder", recorder)
        own("_console", console)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_loader"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._loader, name)

    def __copy__(self) -> Any:
        return copy(self._loader)

    def __reduce__(self) -> tuple[Any, ...]:
        return getitem, ([self._loader], 0)

    def __bool__(self) -> bool:
        return bool(self._loader)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[BatchT]:
        recorder = self._recorder
        kept_in = recorder.faults.kept_in
        now = recorder.clock.now
        bar = None
        current = None
        with suppress(*kept_in):
            # The bar never gets the loader: tqdm.auto calls iter() twice, and a DataLoader draws
            # from torch's random numbers each time.
            bar = self._console.begin_batches(self._loader, self._split)
            current = recorder.enter_loader(self._split, size_of(self._loader))
        try:
            asked = now()
            for batch in self._loader:
                with suppress(*kept_in):
                    if current is not None:
                        recorder.next_batch(current, batch, asked)
                yield batch
                with suppress(*kept_in):
                    if bar is not None:
                        self._console.advance(bar)
                asked = now()
            with suppress(*kept_in):
                if current is not None:
                    recorder.next_batch(current, NO_BATCH, asked)
        except GeneratorExit:
            # The body broke out; behind the model's answer the batch was done.
            with suppress(*kept_in):
                if current is not None and not current.waiting:
                    recorder.next_batch(current, NO_BATCH, now())
                    current.exhausted = False
            raise
        finally:
            with suppress(*kept_in):
                if current is not None:
                    recorder.leave_loader(current)
            with suppress(*kept_in):
                if bar is not None:
                    self._console.end(bar)
