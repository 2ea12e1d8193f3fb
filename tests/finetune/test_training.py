"""How a run trains: optimizer, schedule, loaders, frozen epochs, and how it ends."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ptmetrics.finetune.config import DataConfig, ModelConfig, RunGroupConfig, TrainConfig
from ptmetrics.finetune.data import Data, load_data
from ptmetrics.finetune.training import (
    TrainingRun,
    make_loader,
    make_optimizer,
    make_schedule,
    step_flops,
)
from ptmetrics.record.reader import read_run
from ptmetrics.verdict.time_to_target import Target

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(DataConfig("digits", image_size=8, train_limit=33, val_limit=40), 0)


class SmallNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3 * 64, 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(images.flatten(1)).relu())


def make_run(
    data: Data, run: Path, model: nn.Module, train: TrainConfig, target: Target | None = None
) -> TrainingRun:
    group = RunGroupConfig("group", ModelConfig(weights="source-task"), train)
    return TrainingRun(group, 0, model, data, run=run, header={}, device=CPU, target=target)


@pytest.mark.parametrize(
    ("level", "evaluations"), [("val/accuracy>=0", 4), ("val/accuracy>=2", 10)]
)
def test_a_run_goes_on_until_it_holds_the_target_or_its_budget_is_spent(
    data: Data, tmp_path: Path, level: str, evaluations: int
) -> None:
    config = TrainConfig(epochs=2, max_epochs=5, validations_per_epoch=2, batch_size=16)
    run = make_run(data, tmp_path / "run", SmallNet(), config, Target.parse(level))
    while not run.done:
        run.advance()
    read = read_run(tmp_path / "run")
    assert len(read.epochs) == evaluations
    assert read.end_reason == "completed"
    steps = [epoch["counts"]["train_steps_cumulative"] for epoch in read.epochs]
    assert steps == [len(run._loader) * (n + 1) // 2 for n in range(evaluations)]


def test_the_flops_of_a_step_are_counted_once_without_touching_the_model(data: Data) -> None:
    model = SmallNet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = TrainConfig(batch_size=16)
    forward = 2 * 16 * (3 * 64 * 8 + 8 * 10)
    # Backward: the gradient of each weight, and that of the inputs of all but the first layer.
    assert step_flops(model, config, data) == 2 * forward + 2 * 16 * 8 * 10
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert step_flops(model, TrainConfig(freeze_epochs=1), data) is None


def test_optimizers_are_those_of_the_configuration() -> None:
    model = SmallNet()
    sgd = make_optimizer(model, TrainConfig(optimizer="sgd", lr=0.3, weight_decay=0.02))
    assert type(sgd) is torch.optim.SGD
    told = {key: sgd.defaults[key] for key in ("lr", "momentum", "weight_decay", "nesterov")}
    assert told == {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.02, "nesterov": True}
    assert not make_optimizer(model, TrainConfig(optimizer="sgd", momentum=0.0)).defaults[
        "nesterov"
    ]
    adamw = make_optimizer(model, TrainConfig(lr=0.3, weight_decay=0.02))
    assert type(adamw) is torch.optim.AdamW
    assert (adamw.defaults["lr"], adamw.defaults["weight_decay"]) == (0.3, 0.02)
    assert sum(len(group["params"]) for group in adamw.param_groups) == 4


@pytest.mark.parametrize(
    ("name", "peak", "last"), [("constant", 0.3, 0.3), ("cosine", 0.3, 0.0), ("onecycle", 0.3, 0.0)]
)
def test_a_schedule_lasts_as_many_steps_as_there_are(name: str, peak: float, last: float) -> None:
    config = TrainConfig(optimizer="sgd", lr=0.3, schedule=name)
    optimizer = make_optimizer(SmallNet(), config)
    schedule = make_schedule(optimizer, config, 20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    rates.append(optimizer.param_groups[0]["lr"])
    assert max(rates) == pytest.approx(peak, rel=0.02)
    assert rates[-1] == pytest.approx(last, abs=1e-5)
    assert rates[-2] > 0


def test_a_last_batch_of_one_image_is_left_out_of_training_and_not_of_validation(
    data: Data,
) -> None:
    config = TrainConfig(batch_size=16)
    train = make_loader(data.train, config, shuffle=True)
    assert [len(labels) for _, labels in train] == [16, 16]
    assert [len(labels) for _, labels in make_loader(data.train, config, shuffle=False)] == [33]
    labels = torch.cat([labels for _, labels in make_loader(data.val, config, shuffle=False)])
    assert labels.tolist() == data.val.labels


def test_the_backbone_stands_still_while_it_is_frozen_and_the_schedule_goes_on(
    data: Data, tmp_path: Path
) -> None:
    model = SmallNet()
    config = TrainConfig(epochs=2, batch_size=16, freeze_epochs=1, schedule="cosine", lr=0.01)
    run = make_run(data, tmp_path / "run", model, config)
    body, fc = model.body.weight.clone(), model.fc.weight.clone()
    run.advance()
    assert torch.equal(model.body.weight, body)
    assert not torch.equal(model.fc.weight, fc)
    assert not run.done
    run.advance()
    assert not torch.equal(model.body.weight, body)
    assert run.done
    (rates,) = {group["lr"] for group in run._optimizer.param_groups}
    assert rates == pytest.approx(0.0, abs=1e-9)


def test_each_epoch_has_an_order_of_its_own(data: Data, tmp_path: Path) -> None:
    model = SmallNet()
    run = make_run(data, tmp_path / "run", model, TrainConfig(epochs=2, batch_size=16))
    seen: list[torch.Tensor] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if module.training:
            seen.append(inputs[0])

    model.register_forward_pre_hook(look)
    run.advance()
    run.advance()
    first, _, again, _ = seen
    assert not torch.equal(first, again)


def test_a_run_that_no_longer_improves_stops_early_and_says_so(data: Data, tmp_path: Path) -> None:
    config = TrainConfig(epochs=5, batch_size=16, lr=1e-12, weight_decay=0.0, patience=1)
    run = make_run(data, tmp_path / "run", SmallNet(), config)
    while not run.done:
        run.advance()
    read = read_run(tmp_path / "run")
    assert len(read.epochs) == 2
    assert read.end is not None
    assert read.end["reason"] == "early stopping"
    other = make_run(data, tmp_path / "other", SmallNet(), replace(config, epochs=1))
    other.advance()
    assert read_run(tmp_path / "other").end["reason"] == "completed"  # type: ignore[index]


class CountingNet(SmallNet):
    """Knows how often it was called in training mode, copies included."""

    def __init__(self, calls: list[bool]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(10)
        self.calls = calls

    def __deepcopy__(self, memo: dict[int, object]) -> "CountingNet":
        copied = CountingNet(self.calls)
        copied.load_state_dict(self.state_dict())
        return copied

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls.append(torch.is_grad_enabled())
        return self.norm(super().forward(images))


def test_one_time_costs_of_the_first_step_are_paid_before_the_clock_runs(
    data: Data, tmp_path: Path
) -> None:
    calls: list[bool] = []
    model = CountingNet(calls)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_run(data, tmp_path / "run", model, TrainConfig(epochs=2, batch_size=16))
    assert calls == [True], "one step with gradients before the first of the run"
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
