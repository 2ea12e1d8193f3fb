"""What an accumulator asks of a statistic, and of a stage in front of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.waiting import Given

B = TypeVar("B", contravariant=True)


class Statistic(Protocol[B]):
    """A sufficient statistic: the cells it needs, and how a batch is added to them without a host sync."""

    def layout(self) -> Mapping[str, Cell]:
        """The cells, from the configuration alone: no batch changes a shape."""
        ...

    def add_(self, state: State, batch: B) -> None:
        """Add one checked batch in place."""
        ...


@dataclass(frozen=True)
class Fed:
    """Statistics that are fed with what is read from a batch.

    Attributes:
        read: From a batch to what the statistics count, in one piece or in several.
        statistics: Each sees every piece.
    """

    read: Callable[[Any], Iterable[Any]]
    statistics: tuple[Statistic[Any], ...]

    def layout(self) -> Mapping[str, Cell]:
        """The cells of all of them."""
        return {name: cell for s in self.statistics for name, cell in s.layout().items()}

    def add_(self, state: State, batch: Any) -> None:
        """Read each piece once, and give it to every statistic."""
        for piece in self.read(batch):
            for statistic in self.statistics:
                statistic.add_(state, piece)


class Stage(Protocol):
    """What makes of batches what is counted, now or later; the state is only read with nothing left waiting."""

    def layout(self) -> Mapping[str, Cell]:
        """Cells of what it counts by itself."""
        ...

    def read(self, state: State, batch: Given) -> Iterator[Any]:
        """Take in a batch; give out what is to be counted now, each before the next is made."""
        ...

    def drain(self) -> Iterator[Any]:
        """Give out what waits."""
        ...

    def fresh(self) -> "Stage":
        """The same with nothing in it."""
        ...


class Direct:
    """Batches are counted as they come."""

    def layout(self) -> Mapping[str, Cell]:
        """Nothing of its own."""
        return {}

    def read(self, state: State, batch: Given) -> Iterator[Given]:
        """The batch itself."""
        yield batch

    def drain(self) -> Iterator[Given]:
        """Nothing waits."""
        yield from ()

    def fresh(self) -> "Direct":
        """It holds nothing."""
        return self
