"""Metrics of torchmetrics inside a `Monitor`, and ours where torchmetrics' are expected."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ptmetrics.errors import ConfigError, DependencyError, StateError
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.score import Score, Scores

MAX_VALUES = 128  # of a vector: more are no scores that a person would read
NO_INTERVAL = "These values come from torchmetrics, which gives no interval."


def from_torchmetrics(metric: Any) -> "TorchmetricsMetrics":
    """A metric or collection of torchmetrics as metrics of ours, for `Monitor(pm.from_torchmetrics(metric))`.

    Args:
        metric: A `torchmetrics.Metric` or `MetricCollection`; it is copied and stays as it is.

    Raises:
        ConfigError: If it is something else.

    Example:
        >>> from torchmetrics.classification import MulticlassAccuracy
        >>> metrics = from_torchmetrics(MulticlassAccuracy(2))
        >>> metrics.update(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 1]))
        >>> metrics.compute()["MulticlassAccuracy"].value
        1.0
    """
    if not _is_torchmetrics(metric):
        cure = "Pass a metric, such as torchmetrics.classification.MulticlassAccuracy(10)."
        raise ConfigError(
            "metric", "a torchmetrics.Metric or MetricCollection", type(metric).__name__, cure
        )
    return TorchmetricsMetrics(metric)


def to_torchmetrics(metrics: Metrics, score: str | None = None, *, weighted: bool = False) -> Any:
    """Metrics of ours as a `torchmetrics.Metric`, for a `MetricCollection`, `self.log` of Lightning and its sync.

    Args:
        metrics: Any metrics of ours; their configuration is taken, not their counts.
        score: Name of the score that `compute` returns; None returns all as a dictionary.
        weighted: Whether `update` will be given weights; their sums must exist on every rank from
            the start.

    Raises:
        ConfigError: If the metrics are not ours, or have no such score.
        DependencyError: If torchmetrics is not installed.

    Example:
        >>> from torchmetrics import MetricCollection
        >>> import ptmetrics as pm
        >>> f1 = to_torchmetrics(pm.MulticlassMetrics(2, inputs="labels"), "f1/macro")
        >>> collection = MetricCollection({"f1": f1})
        >>> collection.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
        >>> float(collection.compute()["f1"])
        1.0
    """
    try:
        from ptmetrics.integrations.as_torchmetrics import AsTorchmetrics
    except ImportError as error:
        cure = "Run pip install torchmetrics."
        raise DependencyError(
            "torchmetrics", "an installed torchmetrics", str(error), cure
        ) from error
    if not isinstance(metrics, Metrics) or isinstance(metrics, TorchmetricsMetrics):
        cure = "Pass pm.MulticlassMetrics(num_classes=…)."
        raise ConfigError("metrics", "metrics of ptmetrics", type(metrics).__name__, cure)
    names = metrics.fresh().compute()
    if score is not None and score not in names:
        raise ConfigError(
            "score", f"one of {', '.join(names)}", repr(score), "Pass the name of a score."
        )
    return AsTorchmetrics(metrics, score, weighted=weighted)


class TorchmetricsMetrics(Metrics):
    """A metric or collection of torchmetrics that updates, computes, merges and stores as ours do.

    `compute()` gives one score an entry, named as in the collection, else as its class. A vector
    gives one score a value, "name/0" and so on; what is neither, such as a matrix or a curve, is
    left out with a note. There are no
    intervals: `low` and `high` are NaN and `method` is "none". `update` takes no weights.

    Args:
        metric: A `torchmetrics.Metric` or `MetricCollection`.
    """

    task = "torchmetrics"

    def __init__(self, metric: Any) -> None:
        self._metric = copy.deepcopy(metric)
        self._metric.reset()
        self._rows_seen = 0
        super().__init__(device=_device_of(self._metric))

    def counted_arguments(self) -> dict[str, Any]:
        """The metric as torchmetrics writes it, and the shapes of its states."""
        shapes: dict[str, Any] = {}
        for path, metric in self._states():
            for name, value in metric.metric_state.items():
                shapes[f"{path}.{name}"] = list(getattr(value, "shape", ["list"]))
        return {"metrics": repr(self._metric), "states": shapes}

    def cells(self) -> list[Any]:
        """Nothing of ours: torchmetrics keeps it."""
        return []

    @torch.no_grad()
    def update(
        self,
        preds: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        slices: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        """Give one batch to the metric; what it raises comes through.

        Raises:
            ConfigError: If there are weights, slices or groups.
        """
        beside = {"sample_weight": sample_weight, "slices": slices, "group": group}
        for name, value in beside.items():
            if value is not None:
                rule = "None beside metrics of torchmetrics"
                cure = "Use metrics of ptmetrics, which take it."
                raise ConfigError(name, rule, "a tensor", cure)
        device = getattr(preds, "device", self.device)  # boxes and texts come in lists
        if not self.updates and device != self.device:
            self.to(device)
        self._metric.update(preds, target)
        rows = 1
        if getattr(target, "ndim", 1):
            rows = len(target)
        self._accumulator.updates += 1
        self._accumulator.state["rows"] += rows
        self._rows_seen += rows

    @torch.no_grad()
    def compute(self) -> Scores:
        """What the metric computes; it may gather over ranks, as torchmetrics does by itself."""
        members = dict(_members_of(self._metric))
        reason = "torchmetrics computed NaN"
        if self.updates:
            values = self._metric.compute()
            if not isinstance(values, Mapping):
                values = {type(self._metric).__name__: values}
        else:
            reason = "no samples were counted"
            values = dict.fromkeys(members, torch.tensor(math.nan))
        scores: dict[str, Score] = {}
        notes = [NO_INTERVAL]
        for name, value in values.items():
            declared = getattr(members.get(name, self._metric), "higher_is_better", None)
            numbers = _numbers_in(name, value)
            if numbers is None:
                notes.append(f"{name} is no score but {_kind_of(value)}, and is left out.")
                continue
            for key, number in numbers.items():
                scores[key] = Score(
                    number, n=self._rows_seen, reason=reason, higher_is_better=declared
                )
        return Scores(scores, task=self.task, n=self._rows_seen, notes=notes)

    @property
    def state_bytes(self) -> int:
        """Bytes of the state now; that of a metric which keeps predictions grows with every batch."""
        total = 0
        for _, metric in self._states():
            for value in metric.metric_state.values():
                total += sum(t.numel() * t.element_size() for t in _listed(value))
        return total

    def merge_state(self, metrics: Iterable[object]) -> "TorchmetricsMetrics":
        """Add what others counted, by torchmetrics' own rules.

        Raises:
            StateError: If a configuration differs, or a metric cannot be merged.
        """
        others = list(metrics)
        super().merge_state(others)  # checks the configuration, and counts the updates
        for other in others:
            assert isinstance(other, TorchmetricsMetrics)  # its configuration is ours
            self._rows_seen += other._rows_seen
            pairs = zip(_members_of(self._metric), _members_of(other._metric), strict=True)
            for (_, mine), (_, theirs) in pairs:
                mine.merge_state(theirs)
                mine._update_count += theirs._update_count
        return self

    def fresh(self) -> "TorchmetricsMetrics":
        """A copy that has counted nothing."""
        return TorchmetricsMetrics(self._metric)

    def _with_counts(self, accumulator: Any) -> "TorchmetricsMetrics":
        """Itself, as torchmetrics gathers over ranks when it computes, beside the rows of all of them."""
        other = copy.copy(self)
        other._accumulator = accumulator
        other._rows_seen = int(accumulator.state["rows"])
        return other

    def reset(self) -> None:
        """Forget everything counted."""
        super().reset()
        self._metric.reset()
        self._rows_seen = 0

    def to(self, device: torch.device | str) -> "TorchmetricsMetrics":
        """Move the metric's state."""
        super().to(device)
        self._metric.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """States of all metrics inside, persistent or not; tensors and plain values."""
        states: dict[str, Any] = {}
        for path, metric in self._states():
            values = {name: _copied(value) for name, value in metric.metric_state.items()}
            states[path] = {"updates": metric._update_count, "values": values}
        return {**super().state_dict(), "samples": self._rows_seen, "states": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            StateError: If it is of another metric; the current one is kept.
        """
        inside = dict(self._states())
        if not isinstance(state, Mapping) or set(state.get("states", ())) != set(inside):
            rule = f"the states of {', '.join(map(repr, inside))}"
            raise StateError("state_dict", rule, "others", "Load the state of the same metric.")
        super().load_state_dict(state)
        self._rows_seen = state["samples"]
        for path, metric in inside.items():
            stored = state["states"][path]
            metric._update_count = stored["updates"]
            metric._computed = None
            for name, value in stored["values"].items():
                setattr(metric, name, _copied(value, self.device))

    def _states(self) -> Iterator[tuple[str, Any]]:
        # Listing them lets a collection give metrics that share a state one of their own.
        list(_members_of(self._metric))
        for path, metric in self._metric.named_modules():
            if hasattr(metric, "_update_count"):
                yield path, metric


def _is_torchmetrics(metric: object) -> bool:
    """By the names of its classes: a metric of torchmetrics can only be there if it was imported."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(metric).__mro__}
    return bool(kinds & {("torchmetrics", "Metric"), ("torchmetrics", "MetricCollection")})


def _members_of(metric: Any) -> Iterator[tuple[str, Any]]:
    """Metrics by the name of their entry in the result."""
    if hasattr(metric, "items"):
        yield from metric.items()
    else:
        yield type(metric).__name__, metric


def _device_of(metric: Any) -> torch.device:
    for _, member in _members_of(metric):
        device: torch.device = member.device
        return device
    return torch.device("cpu")


def _numbers_in(name: str, value: object) -> dict[str, float] | None:
    """The scores in what a metric computes; None where it is no score."""
    if isinstance(value, float):
        value = torch.tensor(value)
    if not isinstance(value, Tensor) or value.numel() > MAX_VALUES:
        return None
    if value.ndim > 1 and value.numel() > 1:
        return None
    numbers: list[float] = value.double().reshape(-1).tolist()
    if len(numbers) == 1:
        return {name: numbers[0]}
    return {f"{name}/{i}": x for i, x in enumerate(numbers)}


def _kind_of(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _listed(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return list(value)


def _copied(value: Any, device: torch.device | None = None) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    return [tensor.detach().to(device, copy=True) for tensor in value]
