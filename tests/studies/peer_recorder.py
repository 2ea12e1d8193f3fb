"""A pytest plugin for the suites of other libraries: what they ask of their metrics is asked of ours.

`peer_suites.py` starts a library's own suite with this plugin. Its test classes that compare a metric with a reference
(torchmetrics' `MetricTester`, torcheval's `MetricClassTester`) are asked for that reference alone; every other
metric that a test calls runs as it always does, and what it returned is what ours is held to, since the test goes on to
check it. Each call becomes a `Call`; `peer_answers.judge` says how ours stands to it. One line of JSON a test is
written.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.studies import peer_answers
from tests.studies.peer_call import Call, Outcome, shown, snake

PACKAGES = {
    "torchmetrics": ("torchmetrics",),
    "torcheval": ("torcheval.metrics",),
    "ignite": ("ignite.metrics",),
    "sklearn": ("sklearn.metrics",),
}
PLUMBING = ("array_api", "dataframe", "pandas", "memmap")
"""In the names of scikit-learn's tests of containers, whose values other tests check."""
MOST_REPEATS = 3
MOST_CALLS = 40
WATCHED = ("__init__", "update", "compute", "reset", "forward")
SKIPPED_MODULES = ("tests", "text", "image", "detection", "audio", "video", "multimodal", "gan")


class Recorder:
    """Collects the calls of the test that runs, and writes a line when it ends."""

    def __init__(self, library: str, out: Path) -> None:
        self.library = library
        self.out = out
        self.outcomes: list[tuple[Call, Outcome]] = []
        self.asked: Counter[tuple[str, str]] = Counter()
        self.depth = 0  # inside a call of a metric, which is not to be taken for another

    @contextmanager
    def inside(self) -> Iterator[None]:
        """While a metric or a reference runs, nothing that it calls is a case."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def ask(
        self,
        metric: str,
        arguments: dict[str, Any],
        batches: list[dict[str, Any]],
        expected: Any,
        atol: float = 1e-6,
        rtol: float = 1e-5,
        *,
        whole: bool = False,
    ) -> None:
        """One case: what ours says to the same batches; laws repeat a call often, of which a few are asked."""
        repeated = (metric, shown(arguments))
        self.asked[repeated] += 1
        if self.asked[repeated] > MOST_REPEATS or len(self.outcomes) > MOST_CALLS:
            return
        call = Call(self.library, snake(metric), arguments, batches, whole=whole)
        with self.inside(), torch.no_grad():
            outcome = peer_answers.judge(call, expected, atol=atol, rtol=rtol)
        self.outcomes.append((call, outcome))

    def function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A function that does what it did, and whose result ours is held to."""
        signature = inspect.signature(original)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self.depth:
                return original(*args, **kwargs)
            with self.inside():
                value = original(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            arguments.update(arguments.pop("kwargs", {}))
            self.ask(original.__name__, arguments, [arguments], value)
            return value

        watched.__peer__ = True  # type: ignore[attr-defined]
        return watched

    def watch_class(self, owner: type) -> None:
        """Wrap what a class of metrics defines itself of the methods that matter."""
        for name in WATCHED:
            method = owner.__dict__.get(name)
            if callable(method) and not hasattr(method, "__peer__"):
                made = getattr(self, f"_{name.strip('_')}")(method)
                made.__peer__ = True
                setattr(owner, name, made)

    def _init(self, method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def watched(metric: Any, *args: Any, **kwargs: Any) -> None:
            method(metric, *args, **kwargs)
            with suppress(TypeError):
                bound = signature.bind(metric, *args, **kwargs)
                bound.apply_defaults()
                arguments = dict(list(bound.arguments.items())[1:])
                arguments.update(arguments.pop("kwargs", {}))
                metric.__dict__["_peer_arguments"] = arguments
                metric.__dict__["_peer_batches"] = []

        return watched

    def _update(self, method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def watched(metric: Any, *args: Any, **kwargs: Any) -> Any:
            if self.depth:
                return method(metric, *args, **kwargs)
            with self.inside():
                value = method(metric, *args, **kwargs)
            batch = batch_of(signature, metric, args, kwargs)
            metric.__dict__.setdefault("_peer_batches", []).append(batch)
            return value

        return watched

    def _forward(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def watched(metric: Any, *args: Any, **kwargs: Any) -> Any:
            if self.depth:
                return method(metric, *args, **kwargs)
            with self.inside():
                value = method(metric, *args, **kwargs)
            batch = batch_of(inspect.signature(type(metric).update), metric, args, kwargs)
            metric.__dict__.setdefault("_peer_batches", []).append(batch)
            name, arguments = type(metric).__name__, arguments_of(metric)
            self.ask(name, arguments, [batch], value, whole=True)
            return value

        return watched

    def _compute(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def watched(metric: Any, *args: Any, **kwargs: Any) -> Any:
            if self.depth:
                return method(metric, *args, **kwargs)
            with self.inside():
                value = method(metric, *args, **kwargs)
            batches = metric.__dict__.get("_peer_batches", [])
            if batches:
                name, arguments = type(metric).__name__, arguments_of(metric)
                self.ask(name, arguments, list(batches), value, whole=True)
            return value

        return watched

    def _reset(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def watched(metric: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.depth:
                metric.__dict__["_peer_batches"] = []
            return method(metric, *args, **kwargs)

        return watched

    # What pytest calls.
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out tests of processes and containers, and all but every so many of a test's parametrisations."""
        every = int(os.environ.get("PEER_EVERY", "1"))
        places: Counter[str] = Counter()
        kept = []
        for item in items:
            if item.get_closest_marker("DDP") or any(word in item.name for word in PLUMBING):
                continue
            name = item.nodeid.split("[")[0]
            if places[name] % every == 0:
                kept.append(item)
            places[name] += 1
        line = {"library": self.library, "left_out": len(items) - sum(places.values())}
        with self.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        items[:] = kept

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell a file of tests that could not be imported."""
        if report.failed:
            line = {"library": self.library, "unread": report.nodeid, "why": str(report.longrepr)}
            with self.out.open("a") as file:
                file.write(json.dumps(line) + "\n")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        """Write what the test asked, once its body ran."""
        report = yield
        if call.when == "call" and report.outcome != "skipped":
            self._write(item, report)
        return report

    def _write(self, item: pytest.Item, report: Any) -> None:
        calls = []
        for call, outcome in self.outcomes:
            calls.append(
                {
                    "metric": call.metric,
                    "arguments": shown(call.arguments),
                    **vars(outcome),
                }
            )
        line = {
            "library": self.library,
            "test": item.nodeid,
            "passed": report.outcome,
            "calls": calls,
        }
        if report.outcome == "failed":
            line["failure"] = str(report.longrepr)[-800:]
        with self.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.outcomes.clear()
        self.asked.clear()


def batch_of(
    signature: inspect.Signature, metric: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of one update, by name, as they were when it was called."""
    bound = signature.bind(metric, *args, **kwargs)
    bound.apply_defaults()
    batch = {}
    for name, value in list(bound.arguments.items())[1:]:
        if isinstance(value, torch.Tensor):
            value = value.detach().clone()
        batch[name] = value
    return batch


def arguments_of(metric: Any) -> dict[str, Any]:
    """What the metric was built with."""
    arguments = metric.__dict__.get("_peer_arguments", {})
    return dict(arguments)


def modules_of(library: str) -> list[ModuleType]:
    """The modules of a library's metrics, all imported."""
    found = []
    for name in PACKAGES[library]:
        package = importlib.import_module(name)
        for found_module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not any(part in SKIPPED_MODULES for part in found_module.name.split(".")):
                with suppress(ImportError):
                    importlib.import_module(found_module.name)
    for name, module in list(sys.modules.items()):
        if module is not None and name.startswith(PACKAGES[library]):
            found.append(module)
    return found


def watch(recorder: Recorder) -> None:
    """Put watched functions and classes in the place of the library's own."""
    known = peer_answers.watched(recorder.library)
    proxies: dict[int, Any] = {}
    classes: set[type] = set()
    for module in modules_of(recorder.library):
        for name, value in list(vars(module).items()):
            if inspect.isclass(value) and value.__module__.startswith(PACKAGES[recorder.library]):
                classes.update(c for c in value.__mro__ if is_metric(c))
            elif inspect.isfunction(value) and name in known and not hasattr(value, "__peer__"):
                if id(value) not in proxies:
                    proxies[id(value)] = (value, recorder.function(value))
                setattr(module, name, proxies[id(value)][1])
    for owner in classes:
        recorder.watch_class(owner)


def is_metric(owner: type) -> bool:
    """Whether a class is one of metrics, with batches and a result."""
    return all(hasattr(owner, name) for name in ("update", "compute", "reset"))


def torchmetrics_testers(recorder: Recorder) -> None:
    """`MetricTester` asks its reference, and nothing else."""
    testers = importlib.import_module("unittests._helpers.testers")

    def by_class(
        self: Any,
        ddp: bool,
        preds: Any,
        target: Any,
        metric_class: Any,
        reference_metric: Callable[..., Any],
        dist_sync_on_step: bool = False,
        metric_args: dict[str, Any] | None = None,
        atol: float | None = None,
        **others: Any,
    ) -> None:
        if ddp:
            return
        extra = {k: v for k, v in others.items() if k not in testers_options}
        name, arguments = named(metric_class, metric_args)
        preds, target = thinned(preds, arguments), thinned(target, arguments)
        batches = []
        for i in range(len(preds)):
            batch = {k: v[i] if torch.is_tensor(v) else v for k, v in extra.items()}
            batches.append({"preds": preds[i], "target": target[i], **batch})
        joined = {k: joined_of(v) if torch.is_tensor(v) else v for k, v in extra.items()}
        expected = functools.partial(
            reference_metric, joined_of(preds), joined_of(target), **joined
        )
        recorder.ask(name, arguments, batches, expected, atol or self.atol, whole=True)

    def by_function(
        self: Any,
        preds: Any,
        target: Any,
        metric_functional: Any,
        reference_metric: Callable[..., Any],
        metric_args: dict[str, Any] | None = None,
        fragment_kwargs: bool = False,
        **extra: Any,
    ) -> None:
        plain = {name: value for name, value in extra.items() if not torch.is_tensor(value)}
        name, arguments = named(metric_functional, {**(metric_args or {}), **plain})
        preds, target = thinned(preds, arguments), thinned(target, arguments)
        for i in range(len(preds) // 2):
            batch = {k: v[i] if torch.is_tensor(v) else v for k, v in extra.items()}
            given = batch if fragment_kwargs else extra
            expected = functools.partial(reference_metric, preds[i], target[i], **given)
            both = {"preds": preds[i], "target": target[i], **batch}
            recorder.ask(name, arguments, [both], expected, self.atol)

    def nothing(*args: Any, **kwargs: Any) -> None:
        """Data types, gradients and devices: no value is compared."""

    tester = testers.MetricTester
    testers_options = set(inspect.signature(tester.run_class_metric_test).parameters)
    tester.run_class_metric_test = by_class
    tester.run_functional_metric_test = by_function
    for name in ("run_precision_test_cpu", "run_precision_test_gpu", "run_differentiability_test"):
        setattr(tester, name, staticmethod(nothing))


def thinned(batches: Any, arguments: dict[str, Any]) -> Any:
    """Of a metric with one value a sample every eighth sample: its reference takes milliseconds for each."""
    if arguments.get("multidim_average") == "samplewise" and torch.is_tensor(batches):
        return batches[:, ::8]
    return batches


def joined_of(batches: Any) -> Any:
    """All batches as one."""
    if torch.is_tensor(batches):
        return torch.cat(list(batches))
    return [item for batch in batches for item in batch]


def named(metric: Any, given: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a metric, its defaults with them."""
    arguments = dict(given or {})
    while isinstance(metric, functools.partial):
        arguments = {**metric.keywords, **arguments}
        metric = metric.func
    made = metric.__init__ if inspect.isclass(metric) else metric
    for name, parameter in inspect.signature(made).parameters.items():
        if parameter.default is not parameter.empty:
            arguments.setdefault(name, parameter.default)
    return metric.__name__, arguments


def torcheval_testers(recorder: Recorder) -> None:
    """`MetricClassTester` has its result given."""
    module = "torcheval.utils.test_utils.metric_class_tester"
    metric_class_tester = importlib.import_module(module)

    def by_class(
        self: Any,
        metric: Any,
        state_names: Any,
        update_kwargs: dict[str, Any],
        compute_result: Any,
        *args: Any,
        num_total_updates: int = 8,
        atol: float = 1e-8,
        rtol: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        batches = []
        for i in range(num_total_updates):
            batches.append({name: values[i] for name, values in update_kwargs.items()})
        name, arguments = type(metric).__name__, arguments_of(metric)
        recorder.ask(name, arguments, batches, compute_result, max(atol, 1e-6), rtol)

    metric_class_tester.MetricClassTester.run_class_implementation_tests = by_class


TESTERS = {"torchmetrics": torchmetrics_testers, "torcheval": torcheval_testers}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Their tests may be a package named `tests` too; what is needed of ours is imported by now."""
    sys.path.insert(0, os.environ["PEER_FOLDER"])
    sys.modules.pop("tests", None)


def pytest_configure(config: pytest.Config) -> None:
    """Watch the library before its tests are imported."""
    library = os.environ["PEER_LIBRARY"]
    recorder = Recorder(library, Path(os.environ["PEER_OUT"]))
    watch(recorder)
    if library in TESTERS:
        TESTERS[library](recorder)
    config.pluginmanager.register(recorder)
    config.addinivalue_line("markers", "DDP: several processes")
