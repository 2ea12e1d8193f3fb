"""The two helpers of torchvision's and timm's training scripts, with the same call and no host sync until read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ptmetrics.counts.class_scores import rank_of_target
from ptmetrics.errors import ShapeError


@torch.no_grad()
def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[Tensor]:
    """Share of targets among the k highest scores, in percent, as torchvision's reference scripts compute it.

    Rises, [0, 100], NaN for an empty batch. Of equal scores the lowest class comes first.

    Args:
        output: Scores of shape (N, C).
        target: Classes of shape (N,), or scores of shape (N, C) whose highest is the class.
        topk: The k to compute; a k above C counts as C.

    Returns:
        One tensor of shape () for each k, on the device of `output`.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    target = target.argmax(1) if target.ndim == 2 else target
    if output.ndim != 2 or target.shape != output.shape[:1]:
        fact = f"{tuple(output.shape)} and {tuple(target.shape)}"
        raise ShapeError(
            "output, target", "shapes (N, C) and (N,)", fact, "Pass one row of scores a target."
        )
    scores, target = (
        output if output.dtype == torch.float64 else output.float(),
        target.unsqueeze(1),
    )
    classes = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
    buffers = [torch.empty_like(scores) for _ in range(3)]
    own, out = scores.gather(1, target), scores.new_empty(scores.shape[0])
    rank = rank_of_target(scores, own, target, classes, buffers, out=out)
    return [(rank < k).float().mean() * 100 for k in topk]


class AverageMeter:
    """Keeps the latest value, the sum and the average of a number that comes batch by batch.

    Takes tensors without reading them: the sum stays on the device in float64 until `avg` or `sum` is asked for.

    Args:
        name: What `str(meter)` calls it.
        fmt: Format of a number, such as ":.4f".
    """

    def __init__(self, name: str = "", fmt: str = ":f") -> None:
        self.name, self.fmt = name, fmt
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._latest: float | Tensor = 0.0
        self._sum: float | Tensor = 0.0
        self.count = 0

    def update(self, val: float | Tensor, n: int = 1) -> None:
        """Add a value that is the mean over `n` samples.

        Raises:
            ShapeError: If it is a tensor of more than one element.
        """
        if isinstance(val, Tensor):
            if val.numel() != 1:
                raise ShapeError(
                    "val", "one number", f"shape {tuple(val.shape)}", "Pass val.mean()."
                )
            val = val.detach().reshape(()).double()
        self._latest = val
        self._sum = self._sum + val * n
        self.count += n

    @property
    def val(self) -> float:
        """The latest value."""
        return float(self._latest)

    @property
    def sum(self) -> float:
        """Sum over all samples."""
        return float(self._sum)

    @property
    def avg(self) -> float:
        """Mean over all samples; 0.0 before the first, as in the scripts that this replaces."""
        return self.sum / self.count if self.count else 0.0

    def __str__(self) -> str:
        template = "{name} {val" + self.fmt + "} ({avg" + self.fmt + "})"
        return template.format(name=self.name, val=self.val, avg=self.avg)
