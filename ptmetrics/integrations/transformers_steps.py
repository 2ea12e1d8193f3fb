"""Hugging Face's Trainer, found and watched: what it computes, evaluates and trains goes by here."""

import sys
from functools import partial
from typing import Any

from ptmetrics.errors import HookError
from ptmetrics.integrations.tracker import library
from ptmetrics.integrations.transformers_batches import TrainerBatches

kind: Any = library("transformers", "transformers").Trainer
MADE_WITH = "Write Trainer(…, callbacks=[callback])."


class TrainerSteps(TrainerBatches):
    """Watches the Trainer, and closes epochs as it does.

    Attributes:
        split: What was evaluated last.
        closed_at: The step at which an epoch was closed last.
    """

    split = "val"
    closed_at = 0
    _number: int | None = None

    def watch(self) -> None:
        """Find the Trainer whose event this is: callbacks are told everything but that."""
        with self.monitor.faults.containing("callback"):
            frame: Any = sys._getframe()
            while not isinstance(frame.f_locals.get("self"), kind):
                frame = frame.f_back
                if frame is None:
                    rule, got = "an event of a Trainer", "one that no Trainer has sent"
                    raise HookError("callback", rule, got, MADE_WITH)
            self.trainer = frame.f_locals["self"]
            self.losses = {}
            for name in ("compute_loss", "evaluation_loop", "train"):
                own = getattr(self, f"_{name}")
                setattr(self.trainer, name, partial(own, getattr(self.trainer, name)))

    def begin_epochs(self, args: Any, state: Any) -> None:
        """The training begins, or goes on from a checkpoint."""
        self.closed_at = state.global_step
        self._number = None
        if state.global_step:
            self._number = round(state.epoch)
        if args.eval_strategy == "steps":
            self.monitor.every(steps=state.eval_steps)
            self._number = state.global_step // state.eval_steps

    def close_epoch(self, state: Any, control: Any) -> None:
        """An epoch is over, maybe in the middle of a pass over the training data."""
        self.closed_at = state.global_step
        self.monitor.end_epoch(self._number)
        control.should_training_stop |= self.monitor.should_stop
        self._number = None

    def _train(self, train: Any, *args: Any, **more: Any) -> Any:
        try:
            return train(*args, **more)
        except BaseException as error:
            self.leave(error)
            raise

    def _evaluation_loop(self, loop: Any, loader: Any, *args: Any, **more: Any) -> Any:
        prefix = more.get("metric_key_prefix", "eval")
        self.split = prefix.removeprefix("eval").strip("_") or "val"
        with self.monitor.pause():
            return loop(self.monitor.validate(loader, self.split), *args, **more)
