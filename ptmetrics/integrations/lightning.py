"""A monitor as a callback of Lightning's trainer: the events of the one are those of the other."""

from typing import Any

from ptmetrics.integrations.tracker import library
from ptmetrics.integrations.trainer import TrainerAdapter, answering

pytorch: Any = library("lightning.pytorch", "lightning")


class MonitorCallback(TrainerAdapter, pytorch.Callback):
    """Counts what a module answers in `fit`, `validate` and `test`, but in no sanity check.

    Losses are those that the steps return. A second loader of a validation is the split "val_1".

    Args:
        metrics: As for `pm.Monitor`, as are `run` and all other options, or as for `attach`.
        part: Name of the part of the module whose answers are the predictions; by default its only
            one with parameters, or the module itself where there are several.
    """

    def __init__(self, metrics: Any, run: Any = None, *, part: str = "", **options: Any) -> None:
        super().__init__(metrics, run, **options)
        self.part = part

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Ranks are known."""
        self.make()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Something begins."""
        if not trainer.sanity_checking:
            self.attach(answering(module, self.part), optimizer=[*trainer.optimizers, None][0])

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        """A batch comes."""
        self.hand("train", batch, trainer.train_dataloader)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *batch: Any) -> None:
        """It was answered; the trainer has divided its loss by the batches that make a step."""
        batches = 1
        if trainer.training and module.automatic_optimization:
            batches = trainer.accumulate_grad_batches
        self.count_loss(outputs, batches)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """The epoch is over, its validation too."""
        if self.end_epoch():
            trainer.should_stop = True

    def on_validation_batch_start(self, trainer: Any, module: Any, *batch: Any) -> None:
        """A batch comes, its number, and that of its loader where there are several."""
        split, loader = _source(trainer, *batch[2:])
        self.hand(split, batch[0], loader)

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        """All batches were answered."""
        self.passes.end(but="train")

    def on_train_end(self, trainer: Any, module: Any, stage: str = "") -> None:
        """The trainer is done."""
        self.leave()

    def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None:
        """The trainer has failed, or was interrupted."""
        self.leave(error)

    on_validation_start = on_test_start = on_train_start
    on_validation_batch_end = on_test_batch_end = on_train_batch_end
    on_test_batch_start, on_test_epoch_end = on_validation_batch_start, on_validation_epoch_end
    teardown = on_train_end


def _source(trainer: Any, number: int = 0) -> tuple[str, Any]:
    split, loaders = "val", trainer.val_dataloaders
    if trainer.testing:
        split, loaders = "test", trainer.test_dataloaders
    if isinstance(loaders, list | tuple):
        loaders = loaders[number]
    return f"{split}_{number}".removesuffix("_0"), loaders
