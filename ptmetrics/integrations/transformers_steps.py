"""What Hugging Face's Trainer computes, evaluates and trains goes by a monitor here."""

import sys
from contextlib import nullcontext
from functools import partial
from typing import Any

from ptmetrics.integrations.tracker import library
from ptmetrics.integrations.trainer import TrainerAdapter
from ptmetrics.integrations.trainer_loss import LossOfItems
from ptmetrics.monitor.extract import BatchExtractors, is_causal

kind: Any = library("transformers", "transformers").Trainer


class TrainerSteps(TrainerAdapter):
    """Counts each batch whose loss a Trainer computes, whatever its model is wrapped in.

    Attributes:
        trainer: The Trainer, once its methods go by here.
        train_loader: Its loader, once it trains.
        split: What was evaluated last.
    """

    trainer: Any = None
    train_loader: Any = None
    split = "val"

    def watch(self) -> None:
        """Find the Trainer whose event this is: callbacks are told everything but that."""
        frame: Any = sys._getframe(1)
        while not isinstance(frame.f_locals.get("self"), kind):
            frame = frame.f_back
        self.trainer = frame.f_locals["self"]
        self._losses: dict[bool, LossOfItems] = {}  # by whether it trains
        for name in ("compute_loss", "evaluation_loop", "train"):
            own = getattr(self, f"_{name}")
            setattr(self.trainer, name, partial(own, getattr(self.trainer, name)))

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

    def _compute_loss(
        self, compute: Any, model: Any, inputs: Any, return_outputs: bool = False, **more: Any
    ) -> Any:
        given = dict(inputs)  # smoothing takes the labels out
        training = model.training
        if training:
            self.hand("train", given, self.train_loader)
        items = more.get("num_items_in_batch")
        look: Any = nullcontext()
        if items is not None and training not in self._losses:
            look = self._losses[training] = LossOfItems(items)
        with self.monitor.pause(), look:  # hooks would count it as well
            loss, outputs = compute(model, inputs, return_outputs=True, **more)
        with self.monitor.faults.containing("update"):
            if look in self._losses.values():
                look.computed(loss)
            self._count(given, outputs, loss, items)
        if return_outputs:
            return loss, outputs
        return loss

    def _count(self, inputs: Any, outputs: Any, loss: Any, items: Any) -> None:
        model = self.trainer.model
        split = None
        if model.training:
            split = "train"
        reads = BatchExtractors(**{"shift": is_causal(model), **self.where})
        if isinstance(outputs, tuple):
            outputs = [part for part in outputs if part is not None and part.ndim]  # no loss
        preds = reads.predictions(outputs)
        if items is not None:
            labels = inputs["labels"]
            if reads.shift:
                labels = labels[:, 1:]
            loss = self._losses[model.training].mean(loss, items, labels)
        target = reads.labels_in_call(model, (), inputs)
        if reads.target is not None:
            target = reads.target_of(preds, inputs)
        ids = reads.ids_of(preds, inputs)
        preds, target = reads.as_labelled(preds, target)
        self.monitor.update(preds, target, loss=loss, split=split, **ids)
