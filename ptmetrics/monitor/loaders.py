"""The user's loaders, wrapped: the recorder hears of each batch, bars show how far the loop is."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from operator import getitem
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, default_collate

from ptmetrics.monitor.answers import NO_BATCH
from ptmetrics.monitor.faults import FaultLog, contained
from ptmetrics.monitor.recorder import BatchRecorder
from ptmetrics.monitor.seen import LoaderSize

BatchT = TypeVar("BatchT")
BAR_SCORES = ("train/loss", "val/loss", "val/accuracy")


class Progress:
    """Bars of a run, by tqdm: one over its epochs, one over the batches of the phase under way.

    A bar that fails, because nobody reads what it writes say, is the last one.

    Args:
        show: True or False; None shows bars on a terminal only.
        name: What the bar of the epochs is called.
        faults: Where a failure is noted.
    """

    def __init__(self, show: bool | None, name: str, faults: FaultLog) -> None:
        self._disable: bool | None = None
        if show is not None:
            self._disable = not show
        self._name = name
        self._epochs: Any = None
        self._bars: WeakSet[Any] = WeakSet()
        self._failed = False
        self.faults = faults

    @contained("progress")
    def begin_epochs(self, numbers: range) -> Any:
        """A bar over epochs; None where none is shown."""
        start, stop = numbers.start, numbers.stop
        self._epochs = self._draw(
            self._bar, desc=self._name, unit="epoch", initial=start, total=stop
        )
        return self._epochs

    @contained("progress")
    def begin_batches(self, loader: Iterable[Any], split: str) -> Any:
        """A bar over the batches of one phase, gone when it is over; None where none is shown."""
        total = _length(loader)
        return self._draw(self._bar, desc=f"  {split}", unit="batch", leave=False, total=total)

    @contained("progress")
    def advance(self, bar: Any) -> None:
        """One more is done."""
        self._draw(bar.update)

    @contained("progress")
    def end(self, bar: Any) -> None:
        """All are done, or the loop was left."""
        if bar is self._epochs:
            self._epochs = None
        self._draw(bar.close)

    def show_scores(self, scores: Mapping[str, float]) -> None:
        """Show the most telling scores behind the bar of the epochs."""
        if self._epochs is not None:
            shown = {name: f"{scores[name]:.4f}" for name in BAR_SCORES if name in scores}
            self._draw(self._epochs.set_postfix, shown, refresh=False)

    def _draw(self, draw: Any, *args: Any, **options: Any) -> Any:
        if self._failed:
            return None
        try:
            return draw(*args, **options)
        except Exception:
            self._failed = True
            for bar in self._bars:
                bar.disable = True  # or it would try again when it is thrown away
            raise

    def _bar(self, **options: Any) -> Any:
        if self._disable or sys.stderr is None:
            return None
        from tqdm.auto import tqdm

        bar = tqdm(disable=self._disable, dynamic_ncols=True, **options)
        if bar.disable:
            return None
        self._bars.add(bar)
        return bar


def _length(loader: Any) -> int | None:
    """Batches to come; None for a stream, whose DataLoader warns if its length is wrong."""
    if isinstance(getattr(loader, "dataset", None), IterableDataset):
        return None
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


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


class MonitoredLoader(Generic[BatchT]):
    """The batches of a loader, monitored anew each time they are iterated.

    All else is the loader's: its length, what is read from it and what is set on it. A copy or a
    pickle is one of the loader alone, which nobody monitors.

    Args:
        loader: Yields the batches; it is iterated once each time.
        split: What its batches are counted as.
        recorder: Told of each batch.
        progress: Shows how far the loop is.
    """

    __slots__ = ("__weakref__", "_loader", "_progress", "_recorder", "_split")

    def __init__(
        self, loader: Iterable[BatchT], split: str, recorder: BatchRecorder, progress: Progress
    ) -> None:
        own = super().__setattr__
        own("_loader", loader)
        own("_split", split)
        own("_recorder", recorder)
        own("_progress", progress)

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
            bar = self._progress.begin_batches(self._loader, self._split)
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
                        self._progress.advance(bar)
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
                    self._progress.end(bar)
