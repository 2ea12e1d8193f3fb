"""What a Lightning trainer tells of its batches, and which part of a module answers them."""

from contextlib import ExitStack
from typing import Any

from torch import nn

from ptmetrics.integrations.trainer import TrainerAdapter


class LightningBatches(TrainerAdapter):
    """Counts batches and losses of `fit`, `validate` and `test`."""

    _redirection: Any = None

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        """A batch comes."""
        self.hand("train", batch, trainer.train_dataloader)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *batch: Any) -> None:
        """It was answered; the trainer has divided its loss by the batches that make a step."""
        batches = 1
        if trainer.training and module.automatic_optimization:
            batches = trainer.accumulate_grad_batches
        self.count_loss(outputs, batches)

    def on_validation_batch_start(self, trainer: Any, module: Any, *batch: Any) -> None:
        """A batch comes, its number, and that of its loader where there are several."""
        split, loader = _source(trainer, *batch[2:])
        self.hand(split, batch[0], loader)

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        """All batches were answered."""
        self.passes.end(but="train")

    on_validation_batch_end = on_test_batch_end = on_train_batch_end
    on_test_batch_start, on_test_epoch_end = on_validation_batch_start, on_validation_epoch_end

    def leave_out_steps(self, strategy: Any) -> None:
        """Where a module is wrapped, its steps are called as if they were it: they answer nothing.

        The strategy tells when the step is done, and when the call around it is.
        """
        redirection = getattr(strategy, "_forward_redirection", None)
        if redirection is None or redirection is self._redirection:
            return
        self._redirection = redirection
        after_step = redirection.on_after_inner_forward
        after_call = redirection.on_after_outer_forward
        pause = ExitStack()

        def step_done(*modules: Any) -> None:
            after_step(*modules)
            pause.enter_context(self.monitor.pause())

        def call_done(*modules: Any) -> None:
            pause.close()
            after_call(*modules)

        redirection.on_after_inner_forward = step_done
        redirection.on_after_outer_forward = call_done


def answering(module: nn.Module, part: str = "") -> nn.Module:
    """The part whose answers are predictions: the only one with parameters, or all of the module."""
    if part:
        return module.get_submodule(part)
    parts = [each for each in module.children() if any(True for _ in each.parameters())]
    if len(parts) == 1:
        return parts[0]
    return module


def _source(trainer: Any, number: int = 0) -> tuple[str, Any]:
    split, loaders = "val", trainer.val_dataloaders
    if trainer.testing:
        split, loaders = "test", trainer.test_dataloaders
    if isinstance(loaders, list | tuple):
        loaders = loaders[number]
    return f"{split}_{number}".removesuffix("_0"), loaders
