"""A monitor as a callback of Hugging Face's Trainer: its events are the monitor's."""

from pathlib import Path
from typing import Any

from ptmetrics.errors import HookError
from ptmetrics.integrations.tracker import library
from ptmetrics.integrations.transformers_steps import MADE_WITH, TrainerSteps

TrainerCallback: Any = library("transformers", "transformers").TrainerCallback


class MonitorCallback(TrainerSteps, TrainerCallback):
    """Counts what a model answers in `train`, `evaluate` and `predict`; it keeps no logits.

    Evaluations are the split "val", of several data sets splits of their names, predictions "test".
    An evaluation closes an epoch; its scores go to the metrics, as for `metric_for_best_model`.

    Args:
        metrics: As for `pm.Monitor`.
        run: Likewise, as are all other options, and those of `Monitor.attach`.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification, Trainer
        >>> small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
        >>> config = BertConfig(vocab_size=20, num_hidden_layers=1, **small)
        >>> model = BertForSequenceClassification(config)
        >>> texts = [{"input_ids": torch.arange(6), "labels": n % 2} for n in range(10)]
        >>> watched = MonitorCallback(pm.MulticlassMetrics(2, ignore_index=-100))
        >>> trainer = Trainer(model, callbacks=[watched], eval_dataset=texts)
        >>> trainer.evaluate()["eval_accuracy"] == watched.monitor.scores["val/accuracy"].value
        True
    """

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
        self.begin_epochs(args, state)
        self.trained = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """All training data were seen; an evaluation may follow."""
        self.passes.end()
        if args.eval_strategy != "steps" and not control.should_evaluate:
            self.close_epoch(state, control)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A batch was evaluated."""
        if self.trainer is None:
            raise HookError(
                "callback", "one that the Trainer is made with", "a late one", MADE_WITH
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A data set was evaluated; behind the last one an epoch is closed."""
        sets = self.trainer.eval_dataset
        due = not self.trained or (self.trainer.is_in_train and state.global_step > self.closed_at)
        if due and (not isinstance(sets, dict) or self.split == [*sets][-1]):
            self.close_epoch(state, control)
            for name, score in self.monitor.scores.items():
                key = f"eval_{name}".replace("/", "_", 1).replace("eval_val_", "eval_")
                more["metrics"].setdefault(key, score.value)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A checkpoint was written."""
        path = f"{args.output_dir}/checkpoint-{state.global_step}"
        self.monitor.saved(path, best=Path(path) == Path(state.best_model_checkpoint or ""))

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The Trainer is done."""
        self.leave()
