"""The batches whose loss Hugging Face's Trainer computes: what is counted of each."""

from contextlib import nullcontext
from typing import Any

from ptmetrics.integrations.trainer import TrainerAdapter
from ptmetrics.integrations.transformers_loss import LossOfItems
from ptmetrics.monitor.extract import BatchExtractors, is_causal


class TrainerBatches(TrainerAdapter):
    """Counts each batch whose loss a Trainer computes, whatever its model is wrapped in.

    Attributes:
        trainer: The Trainer, once its methods go by here.
        train_loader: Its loader, once it trains.
        losses: How it makes the losses of training and of evaluations, once that was seen.
    """

    trainer: Any = None
    train_loader: Any = None
    losses: dict[bool, LossOfItems]

    def _compute_loss(
        self, compute: Any, model: Any, inputs: Any, return_outputs: bool = False, **more: Any
    ) -> Any:
        given = dict(inputs)  # smoothing takes the labels out
        if model.training:
            self.hand("train", given, self.train_loader)
        items = more.get("num_items_in_batch")
        look: Any = nullcontext()
        if items is not None and model.training not in self.losses:
            look = LossOfItems(items)
        with self.monitor.pause(), look:  # hooks would count it as well
            loss, outputs = compute(model, inputs, return_outputs=True, **more)
        with self.monitor.faults.containing("update"):
            if isinstance(look, LossOfItems):
                look.computed(loss)
                self.losses[model.training] = look
            self._count(given, outputs, loss, items)
        if return_outputs:
            return loss, outputs
        return loss

    def _count(self, inputs: Any, outputs: Any, loss: Any, items: Any) -> None:
        model = self.trainer.model
        reads = BatchExtractors(**{"shift": is_causal(model), **self.where})
        if isinstance(outputs, tuple):
            outputs = [part for part in outputs if part is not None and part.ndim]  # no loss
        preds = reads.predictions(outputs)
        if items is not None:
            labels = inputs["labels"]
            if reads.shift:
                labels = labels[:, 1:]
            loss = self.losses[model.training].mean(loss, items, labels)
        target = reads.labels_in_call(model, (), inputs)
        if reads.target is not None:
            target = reads.target_of(preds, inputs)
        ids = reads.ids_of(preds, inputs)
        preds, target = reads.as_labelled(preds, target)
        split = None
        if model.training:
            split = "train"
        self.monitor.update(preds, target, loss=loss, split=split, **ids)
