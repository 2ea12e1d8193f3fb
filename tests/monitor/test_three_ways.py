"""Loader wrappers, hooks and `update()` give the numbers of a metric fed by hand, bit for bit."""

from typing import Any

import pytest
import torch
from loops import CLASSES, WAYS, Fit, Keep, Net, fit, quiet
from torch import Tensor, nn

import ptmetrics as pm


class Tuple(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), "auxiliary"


class Mapping(Net):
    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x), "hidden": x}


class Named(Net):
    def forward(self, x: Tensor) -> Any:
        return {"scores": super().forward(x)}


class Twice(nn.Module):
    """A criterion of its own, called through others inside: only the outer call is the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.CrossEntropyLoss()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 — torch's own names
        return self.inner(input, target) + self.inner(0.5 * input, target)


def first(output: Any) -> Tensor:
    return output[0]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"accumulate": 4},
    "tuple": {"model": Tuple, "call": lambda c, out, y: c(out[0], y), "preds": first},
    "whole tuple to the criterion": {
        "model": Tuple,
        "criterion": type(
            "First",
            (nn.Module,),
            {"forward": lambda self, out, y: nn.functional.cross_entropy(out[0], y)},
        )(),
        "preds": first,
    },
    "mapping": {
        "model": Mapping,
        "call": lambda c, out, y: c(out["logits"], y),
        "preds": lambda out: out["logits"],
    },
    "predictions picked by the user": {
        "model": Named,
        "call": lambda c, out, y: c(out["scores"], y),
        "preds": lambda out: out["scores"],
        "attach": {"preds": lambda out: out["scores"]},
    },
    "keywords": {"call": lambda c, out, y: c(target=y, input=out)},
    "one keyword": {"call": lambda c, out, y: c(out, target=y)},
    "nested criterion": {"criterion": Twice()},
    "second criterion call": {"call": lambda c, out, y: (c(out, y), c(out.detach().flip(1), y))[0]},
    "sum": {
        "criterion": nn.CrossEntropyLoss(reduction="sum"),
        "loss": lambda loss, y: loss.double() / len(y),
    },
    "none": {"criterion": nn.CrossEntropyLoss(reduction="none")},
}


def kept(
    way: str, metrics: pm.MulticlassMetrics | None = None, **case: Any
) -> list[dict[str, str]]:
    keep = Keep()
    with quiet(keep, metrics=metrics) as monitor:
        fit(way, monitor, **case)
    return keep.epochs


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_three_ways_give_the_same_numbers_bit_for_bit(case: dict[str, Any]) -> None:
    loaders, hooks, update = (kept(way, **case) for way in WAYS)
    assert loaders == hooks == update
    assert "'val/loss'" in loaders[1]["scores"]
    assert "'train/loss'" in loaders[1]["scores"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("way", ["loaders", "hooks"])
def test_the_mean_loss_is_the_criterions_own_over_all_targets_that_are_not_ignored(
    way: str, reduction: str
) -> None:
    metrics = pm.MulticlassMetrics(CLASSES, ignore_index=-100)
    with quiet(metrics=metrics) as monitor:
        left = fit(
            way, monitor, criterion=nn.CrossEntropyLoss(reduction=reduction), epochs=1, ignore=-100
        )
        assert monitor.history[-1, "val/loss"] == pytest.approx(whole_val_loss(left), rel=1e-6)


def whole_val_loss(left: Fit) -> float:
    from loops import batches

    x, y = batches(30, shuffle=False, ignore=-100).dataset.tensors
    with torch.no_grad():
        return float(nn.functional.cross_entropy(left.model(x), y))


@pytest.mark.parametrize("way", WAYS)
def test_the_numbers_are_those_of_a_metric_that_sees_the_same_batches(way: str) -> None:
    with quiet() as monitor:
        left = fit(way, monitor, epochs=1)
        seen = monitor.history[-1]
    from loops import batches

    metrics = pm.MulticlassMetrics(CLASSES)
    loss = []
    with torch.no_grad():
        for x, y in batches(30, shuffle=False):
            metrics.update(left.model(x), y)
            loss.append(nn.functional.cross_entropy(left.model(x), y, reduction="none"))
    expected = metrics.compute()
    for name in expected:
        assert repr(seen[f"val/{name}"]) == repr(expected[name].value)
    assert seen["val/loss"] == pytest.approx(float(torch.cat(loss).mean()), rel=1e-6)
    assert (seen["counts/train_samples"], seen["counts/val_samples"]) == (50, 30)
    assert (seen["counts/train_steps"], seen["counts/val_steps"]) == (7, 4)


@pytest.mark.parametrize("way", WAYS)
def test_accumulation_counts_each_batch_once_and_each_step_once(way: str) -> None:
    with quiet() as monitor:
        fit(way, monitor, accumulate=4, epochs=2)
        assert monitor.history["counts/train_samples"] == [50, 50]
        assert monitor.history["counts/train_steps"] == [1, 1]
        assert monitor.history["counts/val_steps"] == [4, 4]


@pytest.mark.parametrize("way", WAYS)
def test_an_epoch_shorter_than_the_accumulation_took_no_step(way: str) -> None:
    with quiet() as monitor:
        fit(way, monitor, accumulate=100, epochs=1)
        assert monitor.history["counts/train_steps"] == [0]


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5)])
def test_a_loss_for_each_target_of_any_shape_is_averaged(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, criterion = nn.Identity(), nn.CrossEntropyLoss(reduction="none")
    logits = torch.randn(shape)
    target = torch.randint(3, (4, *shape[2:]))
    with quiet() as monitor:
        monitor.attach(model.eval(), criterion=criterion)
        criterion(model(logits), target)
        scores = monitor.end_epoch()
    assert float(scores["val/loss"]) == pytest.approx(
        float(nn.functional.cross_entropy(logits, target)), rel=1e-6
    )


def test_a_loop_left_early_counts_the_batch_that_it_was_left_in() -> None:
    model, criterion = Net(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        for step, (x, y) in enumerate(
            monitor.train([(torch.randn(4, 6), torch.zeros(4).long())] * 5)
        ):
            criterion(model(x), y)
            if step == 1:
                break
        scores = monitor.end_epoch()
    assert (scores.counts["train_samples"], scores.counts["train_steps"]) == (8, 2)


def test_validation_in_the_middle_of_an_epoch_leaves_training_counted_to_its_end() -> None:
    model = Net()
    data = [(torch.randn(4, 6), torch.zeros(4).long())] * 5
    with quiet() as monitor:
        monitor.attach(model)
        for step, (x, _) in enumerate(monitor.train(data)):
            model.train()(x)
            if step in (1, 3):
                model.eval()
                for u, _v in monitor.validate(data[:2]):
                    model(u)
        scores = monitor.end_epoch()
    assert (scores.counts["train_samples"], scores.counts["train_steps"]) == (20, 5)
    assert scores.counts["val_samples"] == 8  # of the last validation


def test_a_validation_between_an_answer_and_its_loss_leaves_the_loss_to_the_answer() -> None:
    model, criterion = Net(), nn.CrossEntropyLoss()
    x, y = torch.randn(4, 6), torch.zeros(4).long()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        for a, b in monitor.train([(x, y)] * 2):
            output = model.train()(a)
            for u, v in monitor.validate([(x, y)]):
                criterion(model.eval()(u), v)
            criterion(output, b)
        scores = monitor.end_epoch()
    assert (scores["train/loss"].n, scores["val/loss"].n) == (8, 4)


def test_calls_outside_the_wrapped_loaders_are_not_counted() -> None:
    model, criterion = Net(), nn.CrossEntropyLoss()
    data = [(torch.randn(4, 6), torch.zeros(4).long())] * 3
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        for x, y in monitor.train(data):
            criterion(model(x), y)
        model.eval()
        for x, y in monitor.validate(data):
            criterion(model(x), y)
        for x, y in data:  # a test set that nobody asked to watch
            criterion(model(x), y)
        scores = monitor.end_epoch()
    assert scores.counts["val_samples"] == 12


def test_what_a_callback_evaluates_is_not_counted_by_hooks() -> None:
    model, criterion = Net(), nn.CrossEntropyLoss()
    x, y = torch.randn(4, 6), torch.zeros(4).long()

    class Look(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            criterion(model.eval()(x), y)

    with quiet(Look()) as monitor:
        monitor.attach(model, criterion=criterion)
        for _ in range(2):
            criterion(model.eval()(x), y)
            scores = monitor.end_epoch()
    assert scores.counts["val_samples"] == 4


def test_two_monitors_share_a_criterion_and_each_sees_its_own_model() -> None:
    criterion, models = nn.CrossEntropyLoss(), (Net().eval(), Net().eval())
    x, y = torch.randn(4, 6), torch.zeros(4).long()
    with quiet() as one, quiet() as two:
        one.attach(models[0], criterion=criterion)
        two.attach(models[1], criterion=criterion)
        for _ in range(3):
            criterion(models[0](x), y)
        criterion(models[1](x), y)
        assert one.end_epoch().counts["val_samples"] == 12
        assert two.end_epoch().counts["val_samples"] == 4


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_that_is_no_pair_is_read_by_the_users_own_picks(way: str) -> None:
    model = Named().eval()
    batch = {"pixels": torch.randn(4, 6), "label": torch.tensor([0, 1, 2, 0])}
    with quiet() as monitor:
        monitor.attach(
            model,
            preds=lambda output: output["scores"],
            target=lambda batch: batch["label"],
            criterion=nn.NLLLoss(),
        )
        for seen in monitor.validate([batch]):
            model(seen["pixels"])
        scores = monitor.end_epoch()
    assert scores.counts["val_samples"] == 4


def test_autocast_around_the_loop_does_not_change_the_numbers() -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    x, y = torch.randn(64, 6), torch.randint(CLASSES, (64,))
    metrics = pm.MulticlassMetrics(CLASSES)
    with quiet() as monitor, torch.no_grad():
        monitor.attach(model, criterion=criterion)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x)
            criterion(output, y)
            scores = monitor.end_epoch()
        metrics.update(output, y)
    expected = metrics.compute()
    assert {name: repr(scores[f"val/{name}"].value) for name in expected} == {
        name: repr(score.value) for name, score in expected.items()
    }


@pytest.mark.parametrize("way", ["loaders", "hooks", "update"])
@pytest.mark.parametrize("metrics", [pm.BinaryMetrics(ignore_index=-1), pm.MultilabelMetrics(2)])
def test_classes_that_a_loss_takes_as_floats_are_counted_as_classes(way: str, metrics: Any) -> None:
    wide = isinstance(metrics, pm.MultilabelMetrics)
    x, target = torch.randn(8, 2 if wide else 1), torch.randint(0, 2, (8, 2 if wide else 1)).float()
    target[0, 0], target[1, 0] = 0.3, 1.5  # between two classes, so that they are refused
    model, criterion = torch.nn.Identity().eval(), torch.nn.BCEWithLogitsLoss()
    monitor = pm.Monitor(metrics, progress=False, on_fault="raise")
    if way == "update":
        monitor.update(x, target)
    else:
        monitor.attach(model, criterion=criterion)
        for batch, y in monitor.validate([(x, target)]) if way == "loaders" else [(x, target)]:
            criterion(model(batch), y)
    scores = monitor.end_epoch().splits["val"]
    whole = metrics.fresh()
    whole.update(x, torch.where(target == target.round(), target, 7).long())
    assert repr(scores.to_dict()) == repr(whole.compute().to_dict())
    assert scores.faults


def test_a_batch_that_is_handed_over_belongs_to_the_loader_that_is_watched() -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(3), progress=False, on_fault="raise")
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    for _ in monitor.train([(x, y)] * 3):
        monitor.update(x, y)
    for _ in monitor.validate([(x, y)]):
        monitor.update(x, y)
    monitor.update(x, y)
    scores = monitor.end_epoch()
    assert (scores["train/accuracy"].n, scores["val/accuracy"].n) == (12, 8)


def test_an_iterator_that_is_held_while_others_end_leaves_nothing_of_itself() -> None:
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    with quiet(on_fault="contain") as monitor:
        outer = iter(monitor.train([(x, y)] * 3))
        next(outer)
        inner = iter(monitor.validate([(x, y)] * 2))
        next(inner)
        outer.close()
        list(inner)
        monitor.update(x, y)  # of the loader under way, of which there is none
        assert monitor.end_epoch().counts["val_samples"] == 4


def test_before_the_first_epoch_there_are_no_scores_and_a_name_says_so() -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(2), progress=False)
    assert len(monitor.scores) == 0
    with pytest.raises(KeyError, match="no epoch was closed yet"):
        monitor.scores["val/accuracy"]
    monitor.update(torch.eye(2), torch.tensor([0, 1]), split="val")
    assert monitor.end_epoch() is monitor.scores
