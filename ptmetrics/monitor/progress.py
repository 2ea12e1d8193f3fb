"""Progress bars of a run: one over its epochs, one over the batches of the phase under way."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from torch.utils.data import IterableDataset

T = TypeVar("T")
SHOWN = ("train/loss", "val/loss", "val/accuracy")


class Progress:
    """Thin shell around tqdm.

    Args:
        show: True or False; None shows bars on a terminal only.
        name: What the epoch bar is called.
    """

    def __init__(self, show: bool | None, name: str) -> None:
        self._disable = None if show is None else not show
        self._name = name
        self._epochs: Any = None

    def epochs(self, numbers: range) -> Iterator[int]:
        """A bar over epochs."""
        self._epochs = self._bar(
            desc=self._name, unit="epoch", initial=numbers.start, total=numbers.stop
        )
        try:
            yield from self._follow(numbers, self._epochs)
        finally:
            self._epochs = None

    def batches(self, loader: Iterable[T], name: str) -> Iterator[T]:
        """A bar over the batches of one phase; it goes when the phase is over."""
        bar = self._bar(desc=f"  {name}", unit="batch", leave=False, total=_length(loader))
        return self._follow(loader, bar)

    def tell(self, scores: Mapping[str, float]) -> None:
        """Show the most telling scores behind the epoch bar."""
        if self._epochs is not None:
            shown = {name: f"{scores[name]:.4f}" for name in SHOWN if name in scores}
            self._epochs.set_postfix(shown, refresh=False)

    def _follow(self, items: Iterable[T], bar: Any) -> Iterator[T]:
        # The bar never gets the loader: tqdm.auto calls iter() twice, and a DataLoader draws from torch's
        # random numbers each time.
        try:
            for item in items:
                yield item
                bar.update()
        finally:
            bar.close()

    def _bar(self, **options: Any) -> Any:
        from tqdm.auto import tqdm

        return tqdm(disable=self._disable, dynamic_ncols=True, **options)


def _length(loader: Any) -> int | None:
    """Batches to come; None for a stream, whose DataLoader warns of a wrong length once it was asked for it."""
    if isinstance(getattr(loader, "dataset", None), IterableDataset):
        return None
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
