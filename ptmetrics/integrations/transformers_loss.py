"""The mean loss of a batch, where a Trainer's own is a share of the mean over several batches."""

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

IGNORED = -100  # labels that a Trainer does not count


class LossOfItems(TorchFunctionMode):
    """Sees, while a loss is computed, whether it is divided by a number of items, and multiplied.

    A Trainer gives its model the number of items of all batches that make a step, on all processes.
    Some losses are a sum divided by it, others pass it over and are the mean over their batch.

    Args:
        items: The number of items.

    Attributes:
        divided: Whether anything was computed with it.
        factor: By how much the Trainer has multiplied the loss, as all processes take a mean of it.

    Example:
        >>> items = torch.tensor(4)
        >>> with LossOfItems(items) as seen:
        ...     loss = torch.tensor([1.0, 3.0]).sum() / items
        >>> seen.computed(loss)
        >>> seen.mean(loss, items, labels=torch.tensor([0, 1]))
        tensor(2.)
    """

    divided = False
    factor = 1
    _product: Any = None

    def __init__(self, items: Any) -> None:
        super().__init__()
        self.items = items

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """A function of torch is called."""
        result = function(*args, **(kwargs or {}))
        name = function.__name__
        counts = name.startswith("div")  # where a plain number stands for nothing else
        if isinstance(self.items, Tensor):
            counts = name != "__get__"  # which only reads its device, say
        if counts and any(given is self.items for given in args):
            self.divided = True
        if name.startswith("mul") and isinstance(args[-1], int):
            self._product = result
            self.factor = args[-1]
        return result

    def computed(self, loss: Tensor) -> None:
        """The loss is there; only what it was itself multiplied by is its factor."""
        if self._product is not loss:
            self.factor = 1
        self._product = None

    def mean(self, loss: Tensor, items: Any, labels: Tensor) -> Tensor:
        """The mean over the labels of a batch, of a loss that was computed in the same way."""
        loss = loss.detach() / self.factor
        if self.divided:
            loss = loss * (items / (labels != IGNORED).sum().clamp(min=1))
        return loss
