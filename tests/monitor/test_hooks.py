"""Hooks under checkpointing, compilation, inference mode, shared modules, and what they refuse."""

import functools
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loops import CLASSES, WAYS, quiet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DtypeError, HookError
from ptmetrics.monitor import hooks

X, Y = torch.randn(8, 6), torch.randint(CLASSES, (8,))


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, CLASSES))


@pytest.mark.fault(32)
@pytest.mark.parametrize("way", ["loaders", "hooks"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("around", ["model", "model and criterion"])
def test_activation_checkpointing_counts_each_forward_once(
    way: str, reentrant: bool, around: str
) -> None:
    model, criterion = plain_net().train(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    model[0].register_forward_hook(count)
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        batches = [(X.clone().requires_grad_(), Y.clone()) for _ in range(8)]
        for step, (x, y) in enumerate(monitor.train(batches) if way == "loaders" else batches, 1):
            if around == "model":
                loss = criterion(checkpoint(model, x, use_reentrant=reentrant), y)
            else:
                loss = checkpoint(
                    lambda x, y: criterion(model(x), y), x, y, use_reentrant=reentrant
                )
            loss.backward()
            if step % 4 == 0:
                optimizer.step()
        scores = monitor.end_epoch()
    assert calls == 16  # the forward was indeed repeated in the backward pass
    assert (scores.counts["train_samples"], scores.counts["train_steps"]) == (64, 2)


@pytest.mark.fault(32)
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_loss_that_is_repeated_in_the_backward_pass_does_not_count_for_a_later_answer(
    reentrant: bool,
) -> None:
    model, criterion = plain_net().train(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        x = X.clone().requires_grad_()
        loss = checkpoint(lambda x, y: criterion(model(x), y), x, Y, use_reentrant=reentrant)
        model(X)
        loss.backward()
        assert monitor.end_epoch().counts["train_samples"] == 8


@pytest.mark.fault(32)
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_forward_that_is_repeated_in_the_backward_pass_begins_nothing(reentrant: bool) -> None:
    model, criterion = plain_net().train(), nn.CrossEntropyLoss()
    with quiet(on_fault="contain") as monitor:
        monitor.attach(model, criterion=criterion)
        x = X.clone().requires_grad_()
        output = checkpoint(model, x, use_reentrant=reentrant)
        criterion(output, Y).backward()
        monitor.update(output, Y, split="train")  # a hook has counted it
        assert monitor.end_epoch().counts["train_samples"] == 8
        assert [fault.where for fault in monitor.faults.all()] == ["update"]


@pytest.mark.fault(32)
@pytest.mark.parametrize("way", ["loaders", "hooks"])
def test_a_module_that_is_called_twice_for_a_batch_is_counted_once(way: str) -> None:
    model, criterion = plain_net().train(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        for x, y in monitor.train([(X, Y)] * 3) if way == "loaders" else [(X, Y)] * 3:
            first, second = model(x), model(x.flip(0))
            criterion(first, y)
            criterion(second, y)
        scores = monitor.end_epoch()
    assert (scores.counts["train_samples"], scores.counts["train_steps"]) == (24, 3)
    assert scores["train/loss"].n == 24


@pytest.mark.fault(32)
def test_a_module_that_is_part_of_two_models_counts_the_calls_of_either() -> None:
    shared, criterion = plain_net().eval(), nn.CrossEntropyLoss()
    outer = nn.Sequential(shared, nn.Identity()).eval()
    with quiet() as monitor:
        monitor.attach(shared, criterion=criterion)
        criterion(outer(X), Y)
        criterion(shared(X), Y)
        assert monitor.end_epoch().counts["val_samples"] == 16


@pytest.mark.fault(36)
@pytest.mark.parametrize("way", WAYS)
def test_inference_mode_mixes_with_normal_mode_and_the_next_epoch(way: str) -> None:
    model, criterion = plain_net().eval(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        monitor.attach(model, **({} if way == "update" else {"criterion": criterion}))
        for order in ([True, False, True], [False, True, False]):
            for inference in order:
                with torch.inference_mode(inference):
                    for x, y in monitor.validate([(X, Y)]) if way == "loaders" else [(X, Y)]:
                        output = model(x)
                        loss = criterion(output, y)
                        if way == "update":
                            monitor.update(output, y, loss=loss, sample_weight=torch.ones(8))
            scores = monitor.end_epoch()
            rows = 8 if way == "loaders" else 24  # each pass over a loader is a validation
            assert scores.counts["val_samples"] == rows
            assert scores["val/loss"].n == rows


@pytest.mark.fault(36)
def test_a_validation_wholly_in_inference_mode_leaves_counts_that_the_next_one_can_add_to() -> None:
    model = plain_net().eval()
    with quiet() as monitor:
        monitor.attach(model, criterion=nn.CrossEntropyLoss())
        with torch.inference_mode():
            monitor.update(model(X), Y, sample_weight=torch.ones(8))
            state = monitor.state_dict()
            monitor.load_state_dict(state)
        monitor.update(model(X), Y, sample_weight=torch.ones(8))
        assert monitor.end_epoch().counts["val_samples"] == 16


@pytest.mark.slow
@pytest.mark.fault(31)
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
def test_a_compiled_model_takes_the_hooks_on_its_wrapper_without_breaking_the_graph() -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    model, criterion = plain_net().eval(), nn.CrossEntropyLoss()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    with quiet() as monitor:
        monitor.attach(compiled, criterion=criterion)
        for size in (8, 6, 4, 2):
            criterion(compiled(X[:size]), Y[:size])
        assert monitor.end_epoch().counts["val_samples"] == 20
    assert counter.frame_count <= 2
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.fault(31)
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
def test_a_hook_that_a_compiled_model_never_calls_is_told() -> None:
    model = plain_net().eval()
    compiled = torch.compile(model, backend="eager")
    compiled(X)
    with quiet(on_fault="contain") as monitor:
        monitor.attach(model[2])  # inside of what is compiled already
        for x, _ in monitor.validate([(X, Y)] * 3):
            compiled(x)
        monitor.end_epoch()
        faults = {fault.where: fault for fault in monitor.faults.all()}
    assert faults["model hook"].count == 3
    assert "attach the object that the loop calls" in faults["model hook"].message.lower()
    torch._dynamo.reset()


@pytest.mark.fault(28)
@pytest.mark.parametrize("way", WAYS)
def test_every_hook_runs_where_tensors_hold_no_values(way: str) -> None:
    """On the meta device nothing can be read back, so whatever waits for a value fails."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, CLASSES)).to("meta")
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    metrics = pm.MulticlassMetrics(CLASSES, topk=(1, 2), ignore_index=-100)
    batches = [
        (torch.empty(4, 6, device="meta"), torch.empty(4, dtype=torch.int64, device="meta"))
    ] * 3
    monitor = quiet(metrics=metrics)
    monitor.attach(
        model, optimizer=optimizer, **({} if way == "update" else {"criterion": criterion})
    )
    for x, y in monitor.train(batches) if way == "loaders" else batches:
        output = model(x)
        loss = criterion(output, y)
        loss.backward()
        optimizer.step()
        if way == "update":
            monitor.update(
                output, y, loss=loss, split="train", sample_weight=torch.empty(4, device="meta")
            )
    assert not monitor.faults
    assert monitor._recorder.splits["train"].samples == 12
    assert monitor._recorder.splits["train"].metrics[""][0].device.type == "meta"


@pytest.mark.fault(28)
def test_counts_follow_a_model_that_moves_in_the_middle_of_an_epoch() -> None:
    with quiet() as monitor:
        monitor.update(torch.randn(4, CLASSES), Y[:4], loss=1.0)
        monitor.update(
            torch.empty(4, CLASSES, device="meta"),
            Y[:4].to("meta"),
            loss=torch.ones((), device="meta"),
        )
        assert monitor._recorder.splits["val"].metrics[""][0].device.type == "meta"
        assert not monitor.faults
        monitor._recorder.splits.clear()


REFUSED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "model": ({"model": len}, "a torch.nn.Module", "builtin_function_or_method", "Pass the object"),
    "a function without a name": (
        {"model": plain_net(), "criterion": lambda preds, target: preds.mean()},
        "such as F.cross_entropy", "lambda", "by its name in a module",
    ),
    "a method": (
        {"model": plain_net(), "criterion": nn.MSELoss().forward},
        "such as F.cross_entropy", "bound method", "monitor.update()",
    ),
    "a class": (
        {"model": plain_net(), "criterion": nn.MSELoss}, "such as nn.CrossEntropyLoss()",
        "class", "monitor.update()",
    ),
    "no function": (
        {"model": plain_net(), "criterion": 3}, "such as nn.CrossEntropyLoss()", "3", "update()",
    ),
    "three": (
        {"model": plain_net(), "criterion": (nn.MSELoss(),) * 3},
        "one criterion or two", "3 of them", "criterion=(train_criterion, val_criterion)",
    ),
    "optimizer": (
        {"model": plain_net(), "optimizer": 3}, "a torch.optim.Optimizer", "int", "whose step()",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "rule", "fact", "cure"), REFUSED.values(), ids=REFUSED.keys()
)
def test_what_takes_no_hooks_is_refused_and_nothing_is_attached(
    arguments: dict[str, Any], rule: str, fact: str, cure: str
) -> None:
    with quiet() as monitor:
        with pytest.raises(ConfigError) as caught:
            monitor.attach(**arguments)
        assert rule in caught.value.expected
        assert fact in caught.value.got
        assert cure in caught.value.cure
        assert monitor.model is None
        monitor.attach(plain_net())


class Own(nn.Linear):
    """A class of which there is one object."""


@pytest.mark.parametrize(
    ("arguments", "fact", "cure"),
    [
        ({"model": nn.LazyLinear(3)}, "a lazy module", "with a batch before"),
        (
            {"model": Own(6, 3), "criterion": functools.partial(nn.functional.mse_loss)},
            "partial", "update()",
        ),
    ],
    ids=["lazy", "partial"],
)  # fmt: skip
def test_what_cannot_be_watched_is_refused_before_anything_is(
    arguments: dict[str, Any], fact: str, cure: str
) -> None:
    with quiet() as monitor:
        with pytest.raises(HookError) as caught:
            monitor.attach(**arguments)
        assert fact in caught.value.got
        assert cure in caught.value.cure
        assert monitor.model is None
        assert "__call__" not in vars(type(arguments["model"]))
        monitor.attach(plain_net())


def test_an_output_without_predictions_says_how_to_point_at_them() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"boxes": x}

    model = Odd().eval()
    with quiet() as monitor:
        monitor.attach(model)
        for x, _ in monitor.validate([(X, Y)]):
            with pytest.raises(DtypeError) as caught:
                model(x)
    assert caught.value.name == "model output"
    assert "logits" in caught.value.expected
    assert caught.value.got == "dict"
    assert "preds=lambda" in caught.value.cure


def test_a_batch_without_a_target_says_how_to_point_at_it() -> None:
    model = plain_net().eval()
    with quiet() as monitor:
        monitor.attach(model)
        for batch in monitor.validate([{"x": X}]):
            with pytest.raises(DtypeError) as caught:
                model(batch["x"])
    assert caught.value.name == "batch"
    assert "(inputs, targets)" in caught.value.expected
    assert caught.value.got == "dict"
    assert "target=lambda" in caught.value.cure


def test_a_criterion_without_a_target_says_what_to_do() -> None:
    class Alone(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean()

    model, criterion = plain_net().eval(), Alone()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        output = model(X)
        with pytest.raises(HookError) as caught:
            criterion(output)
    assert caught.value.name == "criterion"
    assert "predictions and targets" in caught.value.expected
    assert "1" in caught.value.got
    assert "update()" in caught.value.cure


def test_a_criterion_with_names_of_its_own_is_read_in_the_order_of_its_call() -> None:
    class Renamed(nn.Module):
        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(logits, labels)

    model, criterion = plain_net().eval(), Renamed()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        criterion(logits=model(X), labels=Y)
        assert monitor.end_epoch().counts["val_samples"] == 8


class Marked(torch.autograd.Function):
    """The identity, whose graph holds an object as long as it lives itself."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mark: object) -> Tensor:
        ctx.mark = mark
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


class Mark:
    pass


@pytest.mark.parametrize("training", [False, True])
def test_no_graph_of_an_earlier_step_is_held_when_the_next_one_begins(training: bool) -> None:
    """Where nobody calls backward(), a graph holds all activations of its step."""
    alive: list[int] = []
    marks: list[weakref.ref[Mark]] = []

    class Net(torch.nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            alive.append(sum(mark() is not None for mark in marks))
            mark = Mark()
            marks.append(weakref.ref(mark))
            output: Tensor = Marked.apply(super().forward(values), mark)
            return output

    model = Net(4, 3).train(training)
    criterion = torch.nn.CrossEntropyLoss()
    monitor = pm.Monitor(pm.MulticlassMetrics(num_classes=3), progress=False)
    with monitor.attach(model, criterion=criterion):
        for _ in range(6):
            criterion(model(torch.randn(2, 4)), torch.tensor([0, 1]))
        scores = monitor.end_epoch()
    assert alive == [0] * 6
    assert scores["train/loss" if training else "val/loss"].n == 12


@pytest.mark.parametrize("collected", ["while it is attached", "before"])
def test_an_earlier_monitor_that_is_collected_takes_no_hook_of_the_next_one_along(
    collected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector runs where anything is allocated: where a listener is put beside others, too."""
    model, criterion = nn.Linear(6, CLASSES), nn.CrossEntropyLoss()
    x, y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
    gc.collect()
    gc.disable()
    try:
        quiet().attach(nn.Linear(6, CLASSES), criterion=nn.CrossEntropyLoss())
        if collected == "before":
            gc.collect()

        def reference(*arguments: Any) -> Any:
            gc.collect()
            return weakref.ref(*arguments)

        monkeypatch.setattr(hooks, "weakref", SimpleNamespace(ref=reference))
        with quiet() as monitor:
            monitor.attach(model, criterion=criterion)
            criterion(model(x), y)
            assert monitor.end_epoch()["train/loss"].n == 4
    finally:
        gc.enable()
