"""A loader that is watched."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

Batch = TypeVar("Batch", covariant=True)


class Watched(Generic[Batch]):
    """The batches of a loader, watched anew each time they are iterated; as long as the loader.

    Args:
        loader: Yields the batches; it is iterated once each time.
        watch: Iterates it.
    """

    def __init__(self, loader: Iterable[Batch], watch: Callable[[], Iterator[Batch]]) -> None:
        self._loader: Any = loader
        self._watch = watch

    def __iter__(self) -> Iterator[Batch]:
        return self._watch()

    def __len__(self) -> int:
        return len(self._loader)
