"""The user's run is untouched: parameters, losses, random numbers, and the model afterwards."""

import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import WAYS, Net, fit, quiet
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import ptmetrics as pm
from ptmetrics.counts.small_batches import MOST_BATCHES
from ptmetrics.errors import HookError
from ptmetrics.monitor.split_loss import MOST_WAITING

X, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])


class Nosy(pm.Callback):
    def on_batch_end(self, monitor: pm.Monitor, split: str, batch: int) -> None:
        assert monitor.model is not None


@pytest.fixture(scope="module")
def without_us() -> list[str]:
    return fit(None, rows=402).traces()  # 2 epochs of 51 steps


@pytest.mark.fault(34)
@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_steps_with_us_are_bitwise_those_without(
    way: str, progress: bool, without_us: list[str], tmp_path: Path
) -> None:
    callbacks = (
        [Nosy(), pm.EarlyStopping("val/accuracy", patience=50), pm.Checkpoint()] if progress else []
    )
    with quiet(*callbacks, run=tmp_path / "run", progress=progress) as monitor:
        assert fit(way, monitor, rows=402).traces() == without_us


@pytest.mark.fault(34)
def test_restoring_the_best_epoch_does_not_change_the_training_before_it(
    without_us: list[str],
) -> None:
    with quiet(pm.EarlyStopping("val/loss", patience=50, restore_best=True)) as monitor:
        assert fit("hooks", monitor, rows=402).traces() == without_us


def structure(value: Any) -> Any:
    """The keys and sizes of everything that a module or optimizer holds."""
    if isinstance(value, nn.Module):
        return {name: structure(item) for name, item in vars(value).items()}
    return (
        {name: structure(item) for name, item in value.items()}
        if isinstance(value, dict)
        else type(value)
    )


@pytest.mark.fault(37)
def test_while_attached_the_model_is_as_before_and_after_detaching_so_is_its_class() -> None:
    model, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [structure(model), structure(criterion), structure(vars(optimizer))]
    classes = [dict(vars(Net)), dict(vars(nn.CrossEntropyLoss))]
    with quiet() as monitor:
        attachment = monitor.attach(model, criterion=criterion, optimizer=optimizer)
        assert [structure(model), structure(criterion)] == before[:2]
        attachment.detach()
        attachment.detach()
        assert not attachment.attached
        assert [structure(model), structure(criterion), structure(vars(optimizer))] == before
        assert [dict(vars(Net)), dict(vars(nn.CrossEntropyLoss))] == classes


@pytest.fixture(autouse=True)
def _nothing_is_collected_by_chance() -> Iterator[None]:
    """What earlier tests left is gone, and what this one leaves goes when it is asked to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def watched(optimizer: torch.optim.Optimizer) -> bool:
    """Whether anything is left of the hooks on a `Net` and its optimizer."""
    return "__call__" in vars(Net) or bool(optimizer._optimizer_step_post_hooks)


@pytest.mark.parametrize("how", ["with", "close", "exception", "epochs"])
def test_every_end_of_a_run_takes_the_hooks_off(how: str) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = quiet(on_fault="contain")
    if how == "with":
        with monitor.attach(model, optimizer=optimizer):
            pass
    elif how == "close":
        monitor.attach(model, optimizer=optimizer)
        monitor.close()
    elif how == "exception":
        with pytest.raises(OSError, match="mine"), monitor:  # noqa: PT012 — it is the context
            monitor.attach(model, optimizer=optimizer)
            raise OSError("mine")
    else:
        monitor.attach(model, optimizer=optimizer)
        assert list(monitor.epochs(2)) == [0, 1]
    assert not watched(optimizer)
    monitor.close()


@pytest.mark.fault(37)
def test_a_callback_that_fails_at_the_end_leaves_no_hook_and_a_sealed_record(
    tmp_path: Path,
) -> None:
    class Broken(pm.Callback):
        def on_run_end(self, monitor: pm.Monitor) -> None:
            raise OSError("mine")

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = quiet(Broken(), run=tmp_path / "run")
    monitor.attach(model, optimizer=optimizer)
    with pytest.raises(OSError, match="mine"):
        monitor.close()
    assert not watched(optimizer)
    assert '"kind":"end"' in (tmp_path / "run" / "journal-rank0.jsonl").read_text()


@pytest.mark.fault(37)
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save", "average", "copy", "replica"])
def test_a_copy_of_a_hooked_model_is_inert(how: str) -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        copied = duplicate(model, how)
        assert torch.equal(copied.eval()(X), model(X))
        criterion(model(X), Y)
        copied(X)
        criterion(copied(X), Y)
        assert monitor.end_epoch().counts["val_samples"] == 4
        with quiet() as other:
            other.attach(copied)  # its dead hooks do not stand in the way


def duplicate(model: nn.Module, how: str) -> nn.Module:
    match how:
        case "deepcopy":
            return copy.deepcopy(model)
        case "pickle":
            return pickle.loads(pickle.dumps(model))
        case "copy":
            return copy.copy(model)
        case "replica":
            return model._replicate_for_data_parallel()
        case "average":
            return AveragedModel(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.fault(37)
def test_a_second_attachment_of_the_same_monitor_is_refused_in_words() -> None:
    with quiet() as monitor:
        monitor.attach(Net())
        with pytest.raises(HookError) as caught:
            monitor.attach(Net())
        assert "attached" in caught.value.expected
        assert "detach()" in caught.value.cure


@pytest.mark.fault(37)
@pytest.mark.parametrize("first_out", [0, 1])
def test_two_monitors_watch_one_model_and_go_in_any_order(first_out: int) -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitors = [quiet(), quiet()]
    with monitors[0], monitors[1]:
        for monitor in monitors:
            monitor.attach(model, criterion=criterion, optimizer=optimizer)
        criterion(model(X), Y)
        monitors[first_out].close()
        assert watched(optimizer)
        criterion(model(X), Y)
        assert monitors[1 - first_out].end_epoch().counts["val_samples"] == 8
    assert not watched(optimizer)


@pytest.mark.fault(37)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_earlier_monitor_of_the_same_folder_is_taken_off_and_one_of_another_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrapped: bool
) -> None:
    model: nn.Module = Net()
    criterion = nn.CrossEntropyLoss()
    with quiet() as old, quiet() as beside, quiet() as new:
        old.path = new.path = tmp_path / "run"
        beside.path = tmp_path / "other"
        attachments = [monitor.attach(model, criterion=criterion) for monitor in (old, beside)]
        assert not caplog.messages
        if wrapped:
            model = nn.DataParallel(model)
        new.attach(model, criterion=criterion)
        assert [attachment.attached for attachment in attachments] == [False, True]
        assert "earlier monitor" in " ".join(caplog.messages)


@pytest.mark.fault(37)
def test_a_monitor_that_nobody_holds_any_more_is_taken_off_with_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Net().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for cell in range(3):  # a notebook's cell that is run again
        monitor = quiet()
        monitor.attach(model, criterion=nn.CrossEntropyLoss(), optimizer=optimizer)
        optimizer.step()
        assert len(optimizer._optimizer_step_post_hooks) in (1, cell + 1)
        assert len(caplog.messages) == cell, caplog.messages
    monitor.close()


LOAD = """
import sys
sys.modules["ptmetrics"] = None
import pickle, torch
model = torch.load(sys.argv[1], weights_only=False)
model.load_state_dict(torch.load(sys.argv[1] + ".state"))
inside = pickle.loads(open(sys.argv[1] + ".pickle", "rb").read())["model"]
print(tuple(model(torch.ones(5, 6)).shape), tuple(inside(torch.ones(5, 6)).shape))
"""


def test_what_is_saved_while_attached_is_what_is_saved_without_us(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)).train()
    alone = pickle.dumps(model)
    file = tmp_path / "model.pt"
    with quiet() as monitor:
        monitor.attach(model, criterion=nn.MSELoss())
        model(X)
        assert pickle.dumps(model) == alone
        torch.save(model, file)
        torch.save(model.state_dict(), f"{file}.state")
        (tmp_path / "model.pt.pickle").write_bytes(pickle.dumps({"model": model}))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(file)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[0] == "(5, 3) (5, 3)", done.stderr


def test_a_run_may_attach_again_with_another_optimizer() -> None:
    model, criterion = Net(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        for parameters in (model[4].parameters(), model.parameters()):
            optimizer = torch.optim.SGD(parameters, lr=0.1)
            with monitor.attach(model, criterion=criterion, optimizer=optimizer):
                criterion(model.train()(X), Y).backward()
                optimizer.step()
                assert monitor.end_epoch().counts["train_steps"] == 1
        assert monitor.history["counts/train_steps_cumulative"] == [1, 2]


class Counted:
    """Counts how often it is iterated: a DataLoader draws random numbers each time."""

    def __init__(self) -> None:
        self.iterations = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.iterations += 1
        return iter([(X, Y)] * 3)

    def __len__(self) -> int:
        return 3


@pytest.mark.fault(34)
@pytest.mark.parametrize("progress", [False, True, None])
def test_a_loader_is_iterated_once_whatever_is_shown(progress: bool | None) -> None:
    loader, model = Counted(), Net().eval()
    with quiet(progress=progress) as monitor:
        monitor.attach(model)
        for x, _ in monitor.validate(loader):
            model(x)
    assert loader.iterations == 1


@pytest.mark.fault(35)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_nothing_of_a_batch_is_kept(way: str) -> None:
    model, criterion = Net().train(), nn.CrossEntropyLoss()
    kept: list[weakref.ref[Tensor]] = []
    with quiet() as monitor:
        monitor.attach(model, **({} if way == "update" else {"criterion": criterion}))
        for x, y in monitor.train([(X, Y)] * 3) if way == "loaders" else [(X, Y)] * 3:
            x, y = x.clone(), y.clone()
            output = model(x)
            loss = criterion(output, y)
            if way == "update":
                monitor.update(output, y, loss=loss, split="train")
            kept += [weakref.ref(tensor) for tensor in (x, y, output, loss)]
            loss.backward()
        del x, y, output, loss
        gc.collect()
        assert [ref() for ref in kept] == [None] * 12
        for split in monitor._recorder.splits.values():
            state = split.state_dict()
            cells = [*state["metrics"][0]["cells"].values(), *state["loss"]["cells"].values()]
            assert all(cell.grad_fn is None and not cell.requires_grad for cell in cells)


@pytest.mark.fault(35)
@pytest.mark.parametrize("way", WAYS)
def test_changing_predictions_targets_and_loss_afterwards_changes_no_number(way: str) -> None:
    model, criterion = nn.Identity().eval(), nn.CrossEntropyLoss()
    results = []
    for change in (False, True):
        torch.manual_seed(0)
        with quiet() as monitor:
            monitor.attach(model, **({} if way == "update" else {"criterion": criterion}))
            batches = [(torch.randn(4, 3), Y.clone()) for _ in range(3)]
            for x, y in monitor.validate(batches) if way == "loaders" else batches:
                loss = criterion(model(x), y)
                if way == "update":
                    monitor.update(x, y, loss=loss)
                if change:
                    x.zero_(), y.fill_(2), loss.fill_(100)
            results.append(repr(dict(monitor.end_epoch())))
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.fault(35)
@pytest.mark.parametrize(("way", "count"), [("loaders", 256), ("hooks", 320), ("update", 256)])
def test_the_state_does_not_grow_with_the_steps(way: str, count: int) -> None:
    model, criterion = nn.Identity().eval(), nn.CrossEntropyLoss()
    logits = torch.randn(4, 3)
    with quiet() as monitor:
        monitor.attach(model, **({} if way == "update" else {"criterion": criterion}))

        def steps(count: int) -> int:
            batches = [(logits, Y)] * count
            for x, y in monitor.validate(batches) if way == "loaders" else batches:
                loss = criterion(model(x), y)
                if way == "update":
                    monitor.update(x, y, loss=loss)
            gc.collect()
            return sum(1 for thing in gc.get_objects() if type(thing) is Tensor)

        # From here on all places of the ring have been used, and losses wait in portions of 64.
        steps(MOST_WAITING * -(-MOST_BATCHES // MOST_WAITING))
        assert steps(MOST_WAITING) == steps(count)


@pytest.mark.fault(35)
def test_a_closed_run_lets_its_loader_and_model_go() -> None:
    model = Net()
    loader = Counted()
    with quiet(on_fault="contain") as monitor:
        monitor.attach(model)
        for x, _ in monitor.train(loader):
            model(x)
    refs = weakref.ref(model), weakref.ref(loader)
    del model, loader, x, monitor
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
