"""A monitor on the engines of PyTorch-Ignite: their events are the monitor's."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ptmetrics.integrations.tracker import library
from ptmetrics.integrations.trainer import TrainerAdapter
from ptmetrics.monitor.monitor import Monitor


def attach(
    metrics: Any,
    trainer: Any,
    evaluators: Mapping[str, Any],
    *,
    model: nn.Module,
    optimizer: Any = None,
    **options: Any,
) -> Monitor:
    """Count the batches of engines; an epoch is closed as the next one begins, with its evaluations.

    Args:
        metrics: As for `pm.Monitor`.
        trainer: The engine that trains; its output is the loss, or a mapping with "loss".
        evaluators: Engines that evaluate, by the names of their splits.
        model: As for `Monitor.attach`.
        optimizer: Likewise.
        options: What else `pm.Monitor` and `Monitor.attach` take.

    Example:
        >>> from ignite.engine import create_supervised_trainer
        >>> model = torch.nn.Linear(4, 2)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(model, sgd, torch.nn.CrossEntropyLoss())
        >>> monitor = attach(pm.MulticlassMetrics(2), trainer, {}, model=model, optimizer=sgd)
        >>> _ = trainer.run([(torch.randn(8, 4), torch.zeros(8).long())], max_epochs=2)
        >>> len(monitor.history["train/loss"])
        2
    """
    on = library("ignite.engine", "pytorch-ignite").Events
    adapter = TrainerAdapter(metrics, **options)
    adapter.make()

    def begin(engine: Any) -> None:
        adapter.attach(model, optimizer=optimizer)

    def count_loss(engine: Any) -> None:
        adapter.count_loss(engine.state.output)

    for split, engine in {"train": trainer, **evaluators}.items():
        engine.add_event_handler(on.STARTED, begin)
        engine.add_event_handler(on.ITERATION_STARTED, _hand, adapter, split)
        engine.add_event_handler(on.ITERATION_COMPLETED, count_loss)
        engine.add_event_handler(on.COMPLETED, _end, adapter, split)
    trainer.add_event_handler(on.EPOCH_STARTED, _close, adapter)
    trainer.add_event_handler(on.EXCEPTION_RAISED, _fail, adapter)
    return adapter.monitor


def _hand(engine: Any, adapter: TrainerAdapter, split: str) -> None:
    adapter.hand(split, engine.state.batch, engine.state.dataloader)


def _close(engine: Any, adapter: TrainerAdapter) -> None:
    if adapter.passes.training and adapter.end_epoch():
        engine.terminate()


def _end(engine: Any, adapter: TrainerAdapter, split: str) -> None:
    adapter.passes.end(but="train")
    if split == "train":
        _close(engine, adapter)
        adapter.leave()


def _fail(engine: Any, error: BaseException, adapter: TrainerAdapter) -> None:
    adapter.leave(error)
    raise error
