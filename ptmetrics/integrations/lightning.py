"""A monitor as a callback of Lightning's trainer: the events of the one are those of the other."""

from typing import Any

from ptmetrics.integrations.lightning_batches import LightningBatches, answering
from ptmetrics.integrations.tracker import library

pytorch: Any = library("lightning.pytorch", "lightning")


class MonitorCallback(LightningBatches, pytorch.Callback):
    """Counts what a module answers in `fit`, `validate` and `test`, but in no sanity check.

    Losses are those that the steps return. A second loader of a validation is the split "val_1".

    Args:
        metrics: As for `pm.Monitor`, as are `run` and all other options, or as for `attach`.
        part: Name of the part of the module whose answers are the predictions; by default its only
            one with parameters, or the module itself where there are several.

    Example:
        >>> class Module(pytorch.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.model = torch.nn.Linear(4, 2)
        ...     def validation_step(self, batch, number):
        ...         return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        >>> data = torch.utils.data.TensorDataset(torch.randn(20, 4), torch.zeros(20).long())
        >>> watched = MonitorCallback(pm.MulticlassMetrics(2))
        >>> quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
        >>> trainer = pytorch.Trainer(callbacks=[watched], **quiet)
        >>> _ = trainer.validate(Module(), torch.utils.data.DataLoader(data, 8), verbose=False)
        >>> watched.monitor.scores["val/accuracy"].n
        20
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
            model = answering(module, self.part)
            if model is module:
                self.leave_out_steps(trainer.strategy)
            self.attach(model, optimizer=[*trainer.optimizers, None][0])

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """The epoch is over, its validation too."""
        if self.end_epoch():
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, module: Any, stage: str = "") -> None:
        """The trainer is done."""
        self.leave()

    def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None:
        """The trainer has failed, or was interrupted."""
        self.leave(error)

    on_validation_start = on_test_start = on_train_start
    teardown = on_train_end

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of the trainer holds of the run."""
        return self.monitor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was written."""
        self.monitor.load_state_dict(state)
