"""Engines of Ignite, with their events attached, count what a loop without engines counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loop import ROWS, loader, net, same_run, trained
from torch import nn

import ptmetrics as pm

pytest.importorskip("ignite")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

from ignite.engine import (  # noqa: E402
    Engine,
    Events,
    create_supervised_evaluator,
    create_supervised_trainer,
)

from ptmetrics.integrations.ignite import attach  # noqa: E402 — needs ignite


def engines(
    before: Callable[[Any], None] | None = None, late: bool = True, **options: Any
) -> tuple[Engine, Engine, pm.Monitor]:
    """Trainer, evaluator and monitor; the evaluation is registered behind or before the monitor."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    loss = nn.CrossEntropyLoss()
    evaluator = create_supervised_evaluator(
        model, output_transform=lambda x, y, preds: {"loss": loss(preds, y)}
    )

    def evaluate(engine: Engine) -> None:
        evaluator.run(loader(30, 2))

    if not late:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluate)
    monitor = attach(
        pm.MulticlassMetrics(3),
        trainer,
        {"val": evaluator},
        model=model,
        optimizer=optimizer,
        **options,
    )
    if late:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluate)
    if before is not None:
        trainer.add_event_handler(Events.ITERATION_STARTED, before)
    return trainer, evaluator, monitor


@pytest.mark.parametrize("late", [True, False])
def test_the_counts_are_those_of_a_plain_loop(late: bool) -> None:
    trainer, _, monitor = engines(late=late)
    trainer.run(loader(ROWS, 1), max_epochs=3)
    same_run(monitor, trained(3))


def test_an_evaluation_behind_the_training_is_a_part_of_the_run(tmp_path: Path) -> None:
    trainer, evaluator, monitor = engines(run=tmp_path / "run")
    trainer.run(loader(ROWS, 1), max_epochs=2)
    evaluator.run(loader(20, 3))
    monitor.close()
    assert monitor.epoch == 2
    notes = pm.judge(tmp_path / "run").notes
    assert any("split val, 20 samples" in note for note in notes)


def test_early_stopping_stops_the_trainer_where_it_stops_a_plain_loop() -> None:
    def stopping() -> list[Any]:
        return [pm.EarlyStopping("val/accuracy", patience=1, restore_best=True)]

    trainer, _, monitor = engines(callbacks=stopping())
    trainer.run(loader(ROWS, 1), max_epochs=30)
    plain = trained(30, callbacks=stopping())
    assert plain.epoch < 30
    same_run(monitor, plain)
    for one, other in zip(monitor.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)  # the best weights, again


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("no"), "error: ZeroDivisionError: no"),
        (KeyboardInterrupt(), "interrupted"),
    ],
    ids=["error", "interrupt"],
)
def test_what_ends_the_training_ends_the_run(error: BaseException, reason: str) -> None:
    def fail(engine: Engine) -> None:
        if engine.state.epoch == 2:
            raise error

    trainer, _, monitor = engines(before=fail)
    with pytest.raises(type(error)):
        trainer.run(loader(ROWS, 1), max_epochs=3)
    assert monitor.end_reason == reason
    assert monitor.epoch >= 1
