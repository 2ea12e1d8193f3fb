"""A monitor as a callback of Hugging Face's Trainer: its events are the monitor's."""

from pathlib import Path
from typing import Any

from ptmetrics.errors import HookError
from ptmetrics.integrations.tracker import library
from ptmetrics.integrations.trainer_steps import TrainerSteps

TrainerCallback: Any = library("transformers", "transformers").TrainerCallback


class MonitorCallback(TrainerSteps, TrainerCallback):
    """Counts what a model answers in `train`, `evaluate` and `predict`; it keeps no logits.

    Evaluations are the split "val", of several data sets splits of their names, predictions "test".
    An evaluation closes an epoch; its scores go to the metrics, as for `metric_for_best_model`.

    Args:
        metrics: As for `pm.Monitor`.
        run: Likewise, as are all other options, and those of `Monitor.attach`.
    """

    _closed_at = 0
    _number: int | None = None

    def on_init_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The Trainer is made."""
        self.make()
        self.watch()

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The optimizer is made."""
        self.make()
        if self.trainer is None:  # the callback was added later
            self.watch()
        self.attach(more["model"], optimizer=getattr(more["optimizer"], "optimizer", None))
        self.train_loader = more["train_dataloader"]
        self._closed_at = state.global_step
        self._number = None
        if state.global_step:  # it goes on from a checkpoint
            self._number = round(state.epoch)
        if args.eval_strategy == "steps":
            self.monitor.every(steps=state.eval_steps)
            self._number = state.global_step // state.eval_steps
        self.trained = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """All training data were seen; an evaluation may follow."""
        self.passes.end()
        if args.eval_strategy != "steps" and not control.should_evaluate:
            self._close(state, control)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A batch was evaluated."""
        if self.trainer is None:
            cure = "Write Trainer(…, callbacks=[callback])."
            raise HookError("callback", "one that the Trainer is made with", "a late one", cure)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A data set was evaluated; behind the last one an epoch is closed."""
        sets = self.trainer.eval_dataset
        due = not self.trained or (self.trainer.is_in_train and state.global_step > self._closed_at)
        if due and (not isinstance(sets, dict) or self.split == [*sets][-1]):
            self._close(state, control)
            for name, score in (self.monitor.scores or {}).items():
                key = f"eval_{name}".replace("/", "_", 1).replace("eval_val_", "eval_")
                more["metrics"].setdefault(key, score.value)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A checkpoint was written."""
        path = f"{args.output_dir}/checkpoint-{state.global_step}"
        self.monitor.saved(path, best=Path(path) == Path(state.best_model_checkpoint or ""))

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The Trainer is done."""
        self.leave()

    def _close(self, state: Any, control: Any) -> None:
        self._closed_at = state.global_step
        self.monitor.end_epoch(self._number)  # maybe in the middle of a pass
        control.should_training_stop |= self.monitor.should_stop
        self._number = None
