"""Metrics of torchmetrics inside a `Monitor`, and ours where torchmetrics' are expected."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ptmetrics.errors import ConfigError, DependencyError, StateError
from ptmetrics.metrics.score import Score, Scores
from ptmetrics.metrics.base import Metrics

MAX_VALUES = 128  # of a vector: more are no scores that a person would read
NO_INTERVAL = "These values come from torchmetrics, which gives no interval."


def from_torchmetrics(metric: Any) -> "TorchmetricsMetrics":
    """A metric or collection of torchmetrics as metrics of ours, for `Monitor(pm.from_torchmetrics(metric))`.

    Args:
        metric: A `torchmetrics.Metric` or `MetricCollection`; it is copied and stays as it is.

    Raises:
        ConfigError: If it is something else.
    """
    if not _is_torchmetrics(metric):
        cure = "Pass a metric, such as torchmetrics.classification.MulticlassAccuracy(10)."
        raise ConfigError(
            "metric", "a torchmetrics.Metric or MetricCollection", type(metric).__name__, cure
        )
    return TorchmetricsMetrics(metric)


def to_torchmetrics(
    metrics: Metrics, score: str | None = None, *, weighted: bool = False
) -> Any:
    """Metrics of ours as a `torchmetrics.Metric`, for a `MetricCollection`, `self.log` of Lightning and its sync.

    Args:
        metrics: Any metrics of ours; their configuration is taken, not their counts.
        score: Name of the score that `compute` returns; None returns all as a dictionary.
        weighted: Whether `update` will be given weights; their sums must exist on every rank from the start.

    Raises:
        ConfigError: If the metrics are not ours, or have no such score.
        DependencyError: If torchmetrics is not installed.
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

    `compute()` gives one score an entry, named as in the collection, else as its class. A vector gives one score a
    value, "name/0" and so on; what is neither, such as a matrix or a curve, is left out with a note. There are no
    intervals: `low` and `high` are NaN and `method` is "none". `update` takes no weights.

    Args:
        metric: A `torchmetrics.Metric` or `MetricCollection`.
    """

    task = "torchmetrics"

    def __init__(self, metric: Any) -> None:
        self._metric = copy.deepcopy(metric)
        self._metric.reset()
        self._samples = 0
        shapes = {f"{path}.{name}": list(getattr(value, "shape", ["list"]))
                  for path, m in self._states() for name, value in m.metric_state.items()}  # fmt: skip
        super().__init__([], {"metrics": repr(metric), "states": shapes}, _device(self._metric))

    @torch.no_grad()
    def update(
        self,
        preds: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        **ids: Tensor | None,
    ) -> None:
        """Give one batch to the metric; what it raises comes through."""
        for name, value in {"sample_weight": sample_weight, **ids}.items():
            if value is not None:
                raise ConfigError(name, "None beside metrics of torchmetrics", "a tensor",
                                  "Use metrics of ptmetrics, which take it.")  # fmt: skip
        if not self.updates and preds.device != self.device:
            self.to(preds.device)
        self._metric.update(preds, target)
        self._counts.updates += 1
        self._samples += target.shape[0] if target.ndim else 1

    @torch.no_grad()
    def compute(self) -> Scores:
        """What the metric computes; it may gather over ranks, as torchmetrics does by itself."""
        members = dict(_members(self._metric))
        values = (
            dict.fromkeys(members, torch.tensor(math.nan)) if not self.updates else self._values()
        )
        scores: dict[str, Score] = {}
        notes = [NO_INTERVAL]
        for name, value in values.items():
            rises = getattr(members.get(name, self._metric), "higher_is_better", None) is not False
            numbers = _numbers(name, value)
            if numbers is None:
                notes.append(f"{name} is no score but {_form(value)}, and is left out.")
            reason = "torchmetrics computed NaN" if self.updates else "no samples were counted"
            for key, number in (numbers or {}).items():
                scores[key] = Score(number, n=self._samples, reason=reason, higher_is_better=rises)
        return Scores(scores, task=self.task, n=self._samples, notes=notes)

    def _values(self) -> dict[str, Any]:
        value = self._metric.compute()
        return dict(value) if isinstance(value, Mapping) else {type(self._metric).__name__: value}

    @property
    def state_bytes(self) -> int:
        """Bytes of the state now; that of a metric which keeps predictions grows with every batch."""
        tensors = (
            t for _, m in self._states() for v in m.metric_state.values() for t in _listed(v)
        )
        return sum(t.numel() * t.element_size() for t in tensors)

    def merge_state(self, metrics: Iterable[object]) -> "TorchmetricsMetrics":
        """Add what others counted, by torchmetrics' own rules.

        Raises:
            StateError: If a configuration differs, or a metric cannot be merged.
        """
        others = list(metrics)
        super().merge_state(others)  # checks the configuration, and counts the updates
        for other in others:
            assert isinstance(other, TorchmetricsMetrics)  # its configuration is ours
            self._samples += other._samples
            for (_, mine), (_, theirs) in zip(
                _members(self._metric), _members(other._metric), strict=True
            ):
                mine.merge_state(theirs)
                mine._update_count += theirs._update_count
        return self

    def fresh(self) -> "TorchmetricsMetrics":
        """A copy that has counted nothing."""
        return TorchmetricsMetrics(self._metric)

    def reset(self) -> None:
        """Forget everything counted."""
        self._metric.reset()
        self._counts.reset()
        self._samples = 0

    def to(self, device: torch.device | str) -> "TorchmetricsMetrics":
        """Move the metric's state."""
        self._metric.to(device)
        self._counts.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """States of all metrics inside, persistent or not; tensors and plain values."""
        states = {
            path: {
                "updates": metric._update_count,
                "values": {name: _copied(value) for name, value in metric.metric_state.items()},
            }
            for path, metric in self._states()
        }
        return super().state_dict() | {"samples": self._samples, "states": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            StateError: If it is of another metric; the current one is kept.
        """
        inside = dict(self._states())
        if not isinstance(state, Mapping) or set(state.get("states", ())) != set(inside):
            raise StateError("state_dict", f"the states of {', '.join(map(repr, inside))}", "others",
                             "Load the state of the same metric.")  # fmt: skip
        super().load_state_dict(state)
        self._samples = state["samples"]
        for path, metric in inside.items():
            metric._update_count, metric._computed = state["states"][path]["updates"], None
            for name, value in state["states"][path]["values"].items():
                setattr(metric, name, _copied(value, self.device))

    def _states(self) -> Iterator[tuple[str, Any]]:
        dict(
            _members(self._metric)
        )  # lets a collection give metrics that share a state one of their own
        return (
            (path, m) for path, m in self._metric.named_modules() if hasattr(m, "_update_count")
        )


def _is_torchmetrics(metric: object) -> bool:
    """By the names of its classes: a metric of torchmetrics can only be there if it was imported."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(metric).__mro__}
    return bool(kinds & {("torchmetrics", "Metric"), ("torchmetrics", "MetricCollection")})


def _members(metric: Any) -> Iterator[tuple[str, Any]]:
    """Metrics by the name of their entry in the result."""
    return (
        iter(metric.items())
        if hasattr(metric, "items")
        else iter([(type(metric).__name__, metric)])
    )


def _device(metric: Any) -> torch.device:
    return next((m.device for _, m in _members(metric)), torch.device("cpu"))


def _numbers(name: str, value: object) -> dict[str, float] | None:
    tensor = (
        value
        if isinstance(value, Tensor)
        else torch.tensor(value)
        if isinstance(value, float)
        else None
    )
    if tensor is None or tensor.numel() > MAX_VALUES or (tensor.ndim > 1 and tensor.numel() > 1):
        return None
    numbers: list[float] = tensor.double().reshape(-1).tolist()
    return (
        {name: numbers[0]}
        if len(numbers) == 1
        else {f"{name}/{i}": x for i, x in enumerate(numbers)}
    )


def _form(value: object) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"a {type(value).__name__}"
    )


def _listed(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _copied(value: Any, device: torch.device | None = None) -> Any:
    copies = [tensor.detach().to(device, copy=True) for tensor in _listed(value)]
    return copies[0] if isinstance(value, Tensor) else copies
