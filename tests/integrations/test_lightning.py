"""Lightning's trainer with one callback counts what a loop without a trainer counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loop import ROWS, loader, matrices, net, same_run, trained
from torch import nn

import ptmetrics as pm

lightning = pytest.importorskip("lightning")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

from ptmetrics.integrations.lightning import MonitorCallback  # noqa: E402 — needs lightning


class Module(lightning.LightningModule):
    """As users write it: a forward, and steps that return their loss."""

    def __init__(self, fail: BaseException | None = None) -> None:
        super().__init__()
        self.net = net()
        self.fail = fail

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        if self.fail is not None and self.current_epoch == 1:
            raise self.fail
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def validation_step(self, batch: Any, number: int, dataloader_idx: int = 0) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def trainer(*callbacks: Any, epochs: int = 3, **options: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    options = {"enable_checkpointing": False, **options}
    return lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[*callbacks], **quiet, **options
    )


def callback(run: Path | None = None, **options: Any) -> MonitorCallback:
    return MonitorCallback(pm.MulticlassMetrics(3), run, **options)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_counts_are_those_of_a_plain_loop(accumulate: int) -> None:
    watched = callback()
    fit = trainer(watched, accumulate_grad_batches=accumulate)
    fit.fit(Module(), loader(ROWS, 1), loader(30, 2))
    same_run(watched.monitor, trained(3, accumulate))


def test_weights_are_those_without_the_callback() -> None:
    with_us, plain = Module(), Module()
    trainer(callback()).fit(with_us, loader(ROWS, 1), loader(30, 2))
    trainer().fit(plain, loader(ROWS, 1), loader(30, 2))
    for one, other in zip(with_us.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_sanity_check_is_not_counted() -> None:
    watched = callback()
    trainer(watched, epochs=1, num_sanity_val_steps=2).fit(Module(), loader(ROWS, 1), loader(30, 2))
    assert watched.monitor.epoch == 1
    assert watched.monitor.scores["val/accuracy"].n == 30
    assert not watched.monitor.history.notes


def test_further_loaders_of_a_validation_are_splits_of_their_own() -> None:
    watched = callback()
    trainer(watched, epochs=2).fit(Module(), loader(ROWS, 1), [loader(30, 2), loader(20, 3)])
    scores = watched.monitor.scores
    assert scores["val/accuracy"].n == 30
    assert scores["val_1/accuracy"].n == 20
    assert matrices(watched.monitor)["val"] == matrices(trained(2))["val"]


def test_a_validation_in_the_middle_of_an_epoch_leaves_the_training_counts() -> None:
    watched = callback()
    trainer(watched, epochs=2, val_check_interval=2).fit(Module(), loader(ROWS, 1), loader(30, 2))
    assert matrices(watched.monitor)["train"] == matrices(trained(2))["train"]
    assert watched.monitor.scores["val/accuracy"].n == 30


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_an_evaluation_alone_is_a_run(stage: str, tmp_path: Path) -> None:
    watched = callback(tmp_path / "run")
    getattr(trainer(watched), stage)(Module(), loader(30, 2), verbose=False)
    watched.monitor.close()
    split = {"validate": "val", "test": "test"}[stage]
    history = pm.read_history(tmp_path / "run")
    assert len(history[f"{split}/accuracy"]) == 1
    assert not [note for note in pm.judge(tmp_path / "run").notes if "end_epoch" in note]


def test_a_test_behind_fit_is_a_part_of_the_run(tmp_path: Path) -> None:
    watched = callback(tmp_path / "run")
    both = trainer(watched, epochs=2)
    module = Module()
    both.fit(module, loader(ROWS, 1), loader(30, 2))
    both.test(module, loader(20, 3), verbose=False)
    watched.monitor.close()
    verdict = pm.judge(tmp_path / "run")
    assert any("split test, 20 samples" in note for note in verdict.notes)
    assert watched.monitor.end_reason == "completed"


def test_an_error_ends_the_run_as_one(tmp_path: Path) -> None:
    watched = callback(tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        trainer(watched).fit(Module(ZeroDivisionError("no")), loader(ROWS, 1), loader(30, 2))
    assert watched.monitor.end_reason == "error: ZeroDivisionError: no"
    assert watched.monitor.epoch >= 1


def test_ctrl_c_ends_the_run_as_interrupted() -> None:
    watched = callback()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(watched).fit(Module(KeyboardInterrupt()), loader(ROWS, 1), loader(30, 2))
    assert watched.monitor.end_reason == "interrupted"


def test_early_stopping_stops_the_trainer_where_it_stops_a_plain_loop() -> None:
    def stopping() -> list[Any]:
        return [pm.EarlyStopping("val/accuracy", patience=1, restore_best=True)]

    watched = callback(callbacks=stopping())
    module = Module()
    trainer(watched, epochs=30).fit(module, loader(ROWS, 1), loader(30, 2))
    plain = trained(30, callbacks=stopping())
    assert plain.epoch < 30
    same_run(watched.monitor, plain)
    for one, other in zip(module.net.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)  # the best weights, again


@pytest.mark.parametrize("written", ["behind the epoch", "behind validation", "without validation"])
def test_a_checkpoint_of_the_trainer_holds_the_run(written: str, tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    val = [] if written == "without validation" else [loader(30, 2)]
    first = callback()
    at_end = written != "behind validation"
    saved = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=at_end)
    trainer(first, saved, epochs=2, enable_checkpointing=True).fit(Module(), loader(ROWS, 1), *val)
    again = callback()
    trainer(again, epochs=4).fit(Module(), loader(ROWS, 1), *val, ckpt_path=tmp_path / "last.ckpt")
    assert again.monitor.epoch == 4
    assert again.monitor.scores.epoch == 3
    assert matrices(again.monitor)["train"] == matrices(trained(4))["train"]
    assert again.monitor.scores.counts["train_samples_cumulative"] == 4 * ROWS


class Parts(Module):
    """Two parts with parameters: the module itself answers, or a part that is named."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = self.net[:2], self.net[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.net(x))


@pytest.mark.parametrize("part", ["", "head"])
def test_a_module_of_several_parts_answers_itself_or_by_the_part_that_is_named(part: str) -> None:
    watched = callback(part=part)
    trainer(watched, epochs=2).fit(Parts(), loader(ROWS, 1), loader(30, 2))
    same_run(watched.monitor, trained(2))


class Logging(Module):
    """Our metrics where torchmetrics' are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.f1 = pm.to_torchmetrics(pm.MulticlassMetrics(3), "f1/macro")

    def validation_step(self, batch: Any, number: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        self.f1.update(self(x), y)
        self.log("val_f1", self.f1, on_epoch=True)


def test_our_metrics_are_logged_by_a_module_and_theirs_count_in_a_monitor() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    accuracy = torchmetrics.classification.MulticlassAccuracy(3, average="micro")
    watched = MonitorCallback([pm.MulticlassMetrics(3), pm.from_torchmetrics(accuracy)])
    fit = trainer(watched, epochs=2)
    fit.fit(Logging(), loader(ROWS, 1), loader(30, 2))
    scores = watched.monitor.scores
    assert float(fit.callback_metrics["val_f1"]) == pytest.approx(scores["val/f1/macro"].value)
    assert scores["val/MulticlassAccuracy"].value == pytest.approx(scores["val/accuracy"].value)
