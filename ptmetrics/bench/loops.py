"""Training loops to be watched: written as users write them, on random data."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

Answer = Callable[[Tensor, Tensor, Tensor, str], None]


class Loop:
    """A loop as users write it: zero_grad, forward, loss, backward, step; and a pass without gradients.

    Args:
        name: For the table.
        model: On its device.
        batch: Inputs and targets, on the same device.
        classes: Number of the model's outputs.
        amp: Type of mixed precision; None for float32.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        batch: tuple[Tensor, Tensor],
        classes: int,
        amp: torch.dtype | None = None,
    ) -> None:
        self.name, self.model, self.batch, self.classes, self.amp = name, model, batch, classes, amp
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self._device = batch[0].device.type
        self._scaler = torch.amp.GradScaler(self._device, enabled=amp == torch.float16)

    def run(self, phase: str, batches: int, after: Answer | None = None) -> None:
        """Go through so many batches, and tell `after` the predictions, targets, loss and phase of each."""
        x, y = self.batch
        self.model.train(phase == "train")
        with torch.set_grad_enabled(phase == "train"):
            for _ in range(batches):
                output, loss = self._step(x, y) if phase == "train" else self._answer(x, y)
                if after is not None:
                    after(output.detach(), y, loss.detach(), phase)

    def _answer(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self._device, dtype=self.amp, enabled=self.amp is not None):
            output = self.model(x)
            return output, self.criterion(output, y)

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        output, loss = self._answer(x, y)
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return output, loss

    def hooks(self) -> Iterator[dict[Any, Any]]:
        """The tables of hooks that a monitor can put something into."""
        for module in (self.model, self.criterion):
            yield from (module._forward_pre_hooks, module._forward_hooks)
        yield from (
            self.optimizer._optimizer_step_pre_hooks,
            self.optimizer._optimizer_step_post_hooks,
        )


def resnet(
    layers: int, pixels: int, rows: int, device: str = "cpu", amp: torch.dtype | None = None
) -> Loop:
    """A ResNet of torchvision with 10 classes on random images."""
    with torch.device(device):
        model = getattr(torchvision.models, f"resnet{layers}")(num_classes=10)
        batch = torch.randn(rows, 3, pixels, pixels), torch.arange(rows) % 10
    name = f"ResNet-{layers}, {rows} images of {pixels} x {pixels}"
    return Loop(name, model, batch, 10, amp)


def mlp(rows: int = 64) -> Loop:
    """Two layers on vectors as long as an image of MNIST: about the smallest loop there is."""
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    return Loop(
        f"two-layer MLP, {rows} x 784", model, (torch.randn(rows, 784), torch.arange(rows) % 10), 10
    )
