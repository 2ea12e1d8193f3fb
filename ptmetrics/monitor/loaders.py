"""The user's loaders, wrapped: the recorder hears of each batch, bars show how far the loop is."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from operator import getitem
from typing import Any, Generic, TypeVar

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, default_collate
from torch.utils.data.distributed import DistributedSampler

from ptmetrics.monitor.answers import NO_BATCH
from ptmetrics.monitor.console import Console
from ptmetrics.monitor.recorder import BatchRecorder
from ptmetrics.monitor.seen import LoaderSize, RankShare

BatchT = TypeVar("BatchT")


def size_of(loader: Any) -> LoaderSize | None:
    """What torch's own loader yields of a data set of samples; None where that is not for sure."""
    if type(loader) is not DataLoader or isinstance(loader.dataset, IterableDataset):
        return None
    plain = type(loader.batch_sampler) is BatchSampler and loader.collate_fn is default_collate
    if not plain or not loader.batch_size:
        return None
    sampler: Any = loader.sampler
    try:
        rows = len(sampler)
        dropped = 0
        if loader.drop_last:
            dropped = rows % loader.batch_size
        return LoaderSize(rows - dropped, len(loader), loader.batch_size, dropped)
    except (TypeError, NotImplementedError):
        return None


def share_of(loader: Any) -> RankShare | None:
    """What of a data set torch's own loader gives to this rank; None where that is not for sure.

    The samplers of torch and of Accelerate repeat samples at the end of the data, so that all
    ranks have as many: which these are is known by their positions in all of it.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    batches: Any = loader.batch_sampler
    sampler: Any = loader.sampler
    try:
        if type(batches).__name__ == "BatchSamplerShard":
            return _share_of_accelerate(batches)
        if type(batches) is not BatchSampler:
            return None
        served = len(sampler)
        rows = served
        if isinstance(sampler, DistributedSampler):
            whole: Any = sampler.dataset
            rows = len(range(sampler.rank, len(whole), sampler.num_replicas))
        number = len(batches)
        last_rows = min(served, number * batches.batch_size) - (number - 1) * batches.batch_size
        left = max(0, served - number * batches.batch_size)  # of the rest that is no full batch
        return RankShare(rows, number, last_rows, max(0, served - rows - left))
    except (AttributeError, TypeError, NotImplementedError):  # a sampler or data without a length
        return None


def _share_of_accelerate(shard: Any) -> RankShare | None:
    """Of Accelerate's sampler, which gives whole batches, or parts of each batch, to the ranks."""
    whole = len(shard.batch_sampler.sampler)
    size = shard.batch_sampler.batch_size
    number = len(shard)
    ranks = shard.num_processes
    step = size * ranks
    rows = size
    if shard.split_batches:
        step = size
        rows = size // ranks
    first = shard.process_index * rows
    own = sum(max(0, min(rows, whole - start)) for start in range(first, whole, step))
    last = (number - 1) * step + first
    there = max(0, min(rows, whole - last))
    if not shard.even_batches:
        return RankShare(own, number, there, 0)
    return RankShare(own, number, rows, rows - there)


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
            size = size_of(self._loader)
            current = recorder.enter_loader(self._split, size, share_of(self._loader))
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
