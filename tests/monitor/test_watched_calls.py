"""Which calls are told: those of the attached object in the loop, and no others."""

import copy
import io
import pickle
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import quiet
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import ptmetrics as pm
from ptmetrics.errors import ConfigError

F = nn.functional
X, Y = torch.randn(8, 6), torch.arange(8) % 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


class Nested(nn.Sequential):
    """One object of the class within another one."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 3))


class Called(Net):
    """With a `__call__` of its own."""

    def __call__(self, x: Tensor) -> Tensor:
        logits: Tensor = super().__call__(x)
        return logits


def sequential() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 3))


Pass = Callable[[nn.Module, nn.Module], object]


def weights(model: nn.Module, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {name: change(value) for name, value in model.named_parameters()}


def on_meta(model: nn.Module, criterion: nn.Module) -> object:
    moved = weights(model, lambda value: value.to("meta"))
    output = torch.func.functional_call(model, moved, (X.to("meta"),))
    return criterion(output, Y.to("meta"))


def on_fake_weights(model: nn.Module, criterion: nn.Module) -> object:
    with FakeTensorMode() as mode:
        moved = weights(model, mode.from_tensor)
        output = torch.func.functional_call(model, moved, (mode.from_tensor(X),))
        return criterion(output, mode.from_tensor(Y))


def on_fake_input(model: nn.Module, criterion: nn.Module) -> object:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return criterion(model(mode.from_tensor(X)), mode.from_tensor(Y))


def gradient_of_functions(model: nn.Module, criterion: nn.Module) -> object:
    def loss(parameters: dict[str, Tensor]) -> Any:
        return criterion(torch.func.functional_call(model, parameters, (X,)), Y)

    return torch.func.grad(loss)(dict(model.named_parameters()))


def saved_and_loaded(model: nn.Module, criterion: nn.Module) -> object:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return criterion(torch.load(file, weights_only=False)(X), Y)


NO_STEP: dict[str, Pass] = {
    "meta": on_meta,
    "fake weights": on_fake_weights,
    "fake input": on_fake_input,
    "vmap": lambda model, criterion: torch.vmap(model)(X),
    "grad": gradient_of_functions,
    "jacrev": lambda model, criterion: torch.func.jacrev(model)(X),
    "jit.trace": lambda model, criterion: torch.jit.trace(model, X, check_trace=False),
    "jit.script": lambda model, criterion: torch.jit.script(model)(X),
    "fx": lambda model, criterion: torch.fx.symbolic_trace(model)(X),
    "fx of a parent": lambda model, criterion: torch.fx.symbolic_trace(nn.Sequential(model))(X),
    "make_fx": lambda model, criterion: make_fx(
        model, tracing_mode="fake", _allow_non_fake_inputs=True
    )(X),
    "copy": lambda model, criterion: copy.copy(criterion)(copy.copy(model)(X), Y),
    "deepcopy": lambda model, criterion: copy.deepcopy(criterion)(copy.deepcopy(model)(X), Y),
    "pickle": lambda model, criterion: pickle.loads(pickle.dumps(model))(X),
    "save": lambda model, criterion: saved_and_loaded(model, copy.copy(criterion)),
    "replica": lambda model, criterion: model._replicate_for_data_parallel(),
    "another object": lambda model, criterion: type(model)()(X) if type(model) is Net else None,
}
COMPILED: dict[str, Pass] = {
    "export": lambda model, criterion: torch.export.export(model, (X,)).module()(X),
    "strict export": lambda model, criterion: torch.export.export(model, (X,), strict=True),
    "compile": lambda model, criterion: torch.compile(model, backend="eager", fullgraph=True)(X),
    "compiled step": lambda model, criterion: torch.compile(
        lambda x, y: criterion(model(x), y), backend="eager", fullgraph=True
    )(X, Y),
}
slow = pytest.mark.slow
quietly = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning",
                                     "ignore::UserWarning")  # fmt: skip


@quietly
@pytest.mark.parametrize("make", [Net, Nested, Called, sequential])
@pytest.mark.parametrize("what", [*NO_STEP, *(pytest.param(name, marks=slow) for name in COMPILED)])
def test_what_is_no_step_of_the_loop_works_as_without_us_and_is_not_told(
    what: str, make: Callable[[], nn.Module]
) -> None:
    call = {**NO_STEP, **COMPILED}[what]
    model, criterion = make().eval(), nn.CrossEntropyLoss()
    if make is Called and what in ("jit.script", "fx of a parent"):
        pytest.skip("torch itself knows no __call__ of one's own there")
    torch._dynamo.reset()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        criterion(model(X), Y)
        call(model, criterion)
        criterion(model(X), Y)
        assert monitor.end_epoch().counts["val_samples"] == 16
        assert not monitor.faults
    torch._dynamo.reset()


def compiled_in_place() -> nn.Module:
    model = Net()
    model.compile(backend="eager", fullgraph=True)
    return model


LOOPED: dict[str, Callable[[], Any]] = {
    "plain": Net,
    "a __call__ of its own": Called,
    "scripted": lambda: torch.jit.script(Net()),
    "traced": lambda: torch.jit.trace(Net(), X),
    "DataParallel": lambda: nn.DataParallel(Net()),
    "average": lambda: torch.optim.swa_utils.AveragedModel(Net()),
    "graph": lambda: torch.fx.symbolic_trace(Net()),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)),
}
COMPILED_LOOPED: dict[str, Callable[[], Any]] = {
    "compiled": lambda: torch.compile(Net(), backend="eager", fullgraph=True),
    "compiled in place": compiled_in_place,
    "exported": lambda: torch.export.export(Net().train(), (X,)).module(),
}


@quietly
@pytest.mark.parametrize(
    "what", [*LOOPED, *(pytest.param(name, marks=slow) for name in COMPILED_LOOPED)]
)
def test_whatever_the_loop_calls_is_counted(what: str) -> None:
    torch._dynamo.reset()
    model = {**LOOPED, **COMPILED_LOOPED}[what]()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            criterion(model(X), Y).backward()
            optimizer.step()
        counts = monitor.end_epoch().counts
        assert (counts["train_samples"], counts["train_steps"]) == (24, 3)
    torch._dynamo.reset()


@pytest.mark.slow
def test_cloudpickle_of_a_class_by_value_knows_nothing_of_us(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    code = (
        "import cloudpickle, sys, torch\n"
        "import ptmetrics as pm\n"
        "class Mine(torch.nn.Linear):\n"
        "    pass\n"
        "model = Mine(6, 3)\n"
        "monitor = pm.Monitor(pm.MulticlassMetrics(3))\n"
        "monitor.attach(model)\n"
        "open(sys.argv[1], 'wb').write(cloudpickle.dumps(model))\n"
    )
    load = (
        "import sys\n"
        "sys.modules['ptmetrics'] = None\n"
        "import pickle, torch\n"
        "print(pickle.load(open(sys.argv[1], 'rb'))(torch.ones(2, 6)).shape)\n"
    )
    assert cloudpickle
    file = str(tmp_path / "model.pickle")
    done = None
    for script in (code, load):
        start = [sys.executable, "-c", script, file]
        done = subprocess.run(start, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done is not None
    assert "[2, 3]" in done.stdout


# Functions.


def test_a_function_of_torch_is_watched_where_it_is_called_and_put_back() -> None:
    model, plain = Net().eval(), F.cross_entropy
    with quiet() as monitor:
        monitor.attach(model, criterion=F.cross_entropy)
        F.cross_entropy(model(X), Y)
        F.cross_entropy(model(X), target=Y)
        assert monitor.end_epoch().counts["val_samples"] == 16
    assert F.cross_entropy is plain


def test_torchs_own_call_of_a_watched_function_is_not_the_loops() -> None:
    model, module = Net().eval(), nn.CrossEntropyLoss()
    told: list[Any] = []
    with quiet() as monitor:
        attachment = monitor.attach(model, criterion=F.cross_entropy)
        listener = attachment.listeners[1]
        listener.end = lambda *values: told.append(values)
        loss = module(model(X), Y)
        assert not told
        with torch.device("cpu"):  # a mode, through which torch calls the function once more
            assert F.cross_entropy(model(X), Y) == loss
        assert len(told) == 1


def test_a_module_and_the_function_that_it_calls_count_each_for_its_own_monitor() -> None:
    model, module = Net().eval(), nn.CrossEntropyLoss()
    with quiet() as first, quiet() as second:
        first.attach(model, criterion=module)
        second.attach(model, criterion=F.cross_entropy)
        module(model(X), Y)
        F.cross_entropy(model(X[:3]), Y[:3])
        assert first.end_epoch().counts["val_samples"] == 8
        assert second.end_epoch().counts["val_samples"] == 3


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_monitors_watch_one_function_and_go_in_any_order(first_out: int) -> None:
    model, plain = Net().eval(), F.cross_entropy
    monitors = [quiet(), quiet()]
    for monitor in monitors:
        monitor.attach(model, criterion=plain)
    F.cross_entropy(model(X), Y)
    monitors[first_out].close()
    F.cross_entropy(model(X), Y)
    assert monitors[1 - first_out].end_epoch().counts["val_samples"] == 16
    monitors[1 - first_out].close()
    assert F.cross_entropy is plain


def test_a_function_that_another_monitor_watches_is_attached_by_its_name() -> None:
    model, plain = Net().eval(), F.cross_entropy
    monitors = [quiet(), quiet()]
    for monitor in monitors:
        monitor.attach(model, criterion=F.cross_entropy)  # of the second one it is a stand-in
    F.cross_entropy(model(X), Y)
    for monitor in monitors:
        assert monitor.end_epoch().counts["val_samples"] == 8
        monitor.close()
    assert F.cross_entropy is plain


@pytest.fixture
def _losses() -> Iterator[None]:
    """A module of the user's with a function and a loss of its own class."""
    module = types.ModuleType("my_losses")
    code = "def twice(preds, target):\n    return 2 * cross_entropy(preds, target)\n"
    module.__dict__["cross_entropy"] = F.cross_entropy
    exec(code, module.__dict__)
    sys.modules["my_losses"] = module
    yield
    del sys.modules["my_losses"]


@pytest.mark.usefixtures("_losses")
def test_a_function_of_the_users_own_module_is_watched_there() -> None:
    losses: Any = sys.modules["my_losses"]
    model, plain = Net().eval(), losses.twice
    with quiet() as monitor:
        monitor.attach(model, criterion=losses.twice)
        loss = losses.twice(model(X), Y)
        scores = monitor.end_epoch()
    assert losses.twice is plain
    assert scores["val/loss"].value == pytest.approx(loss.item())
    losses.other = losses.twice
    del losses.twice
    with quiet() as monitor, pytest.raises(ConfigError, match="by its name in a module"):
        monitor.attach(model, criterion=losses.other)


def test_an_object_that_can_be_called_is_a_criterion() -> None:
    class Loss:
        def __call__(self, preds: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(preds, target)

    model, loss, other = Net().eval(), Loss(), Loss()
    with quiet() as monitor:
        monitor.attach(model, criterion=loss)
        loss(model(X), Y)
        other(model(X), Y)
        assert monitor.end_epoch().counts["val_samples"] == 8


def test_a_pair_of_criteria_is_watched_each_for_its_split() -> None:
    model = Net()
    smooth, plain = nn.CrossEntropyLoss(label_smoothing=0.1), F.cross_entropy
    with quiet() as monitor:
        monitor.attach(model, criterion=(smooth, plain))
        smooth(model.train()(X), Y)
        F.cross_entropy(model.eval()(X[:5]), Y[:5])
        scores = monitor.end_epoch()
    assert (scores.counts["train_samples"], scores.counts["val_samples"]) == (8, 5)


def test_what_another_library_puts_in_the_place_stays_there() -> None:
    model, plain = Net().eval(), F.cross_entropy
    monitor = quiet()
    monitor.attach(model, criterion=F.cross_entropy)
    watched = F.cross_entropy

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return watched(*args, **kwargs)

    F.cross_entropy = theirs
    try:
        monitor.close()
        assert F.cross_entropy is theirs
        assert F.cross_entropy(model(X), Y).ndim == 0
    finally:
        F.cross_entropy = plain


@quietly
def test_a_function_that_is_watched_can_still_be_scripted() -> None:
    def loss(preds: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(preds, target)

    with quiet() as monitor:
        monitor.attach(Net(), criterion=F.cross_entropy)
        output = torch.randn(8, 3)
        assert torch.jit.script(loss)(output, Y) == loss(output, Y)


def test_an_error_of_the_model_passes_and_is_no_fault() -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    with quiet(on_fault="contain") as monitor:
        monitor.attach(model, criterion=criterion)
        with pytest.raises(RuntimeError, match="shapes"):
            model(X[:, :2])
        criterion(model(X), Y)
        assert monitor.end_epoch().counts["val_samples"] == 8
        assert not monitor.faults


def test_metrics_are_not_touched_by_a_model_that_lives_on_meta() -> None:
    model = Net().eval().to("meta")
    with quiet(metrics=pm.MulticlassMetrics(3)) as monitor:
        attachment = monitor.attach(model)
        assert not attachment.listeners[0].real
