"""The thin shell that all tasks share: state in an accumulator, numbers from pure functions."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.contract import Stage, Statistic
from ptmetrics.counts.waiting import Given
from ptmetrics.errors import StateError
from ptmetrics.metrics.parts import Parts
from ptmetrics.metrics.score import Scores

NO_FLOAT64 = ("mps",)  # types of devices
Self = TypeVar("Self", bound="TaskMetrics")


class TaskMetrics:
    """Update, compute, merge, reset and store; a task says how a batch is read and what is computed.

    Args:
        statistics: What to count.
        config: Plain values that fix what the counts mean.
        device: Where to count; a metric that has counted nothing yet follows its first batch.
        stage: What makes of a batch what the statistics count; None for the batch itself.
    """

    task = ""
    _parts = Parts()
    sample_columns: Callable[[Any], Tensor] | None = None
    """What became of each sample of the rows that a follower is shown, as `counts/sample_rows.py` says; None where
    a sample is no single row."""

    def __init__(
        self,
        statistics: Sequence[Statistic[Any]],
        config: Mapping[str, Any],
        device: torch.device | str,
        stage: Stage | None = None,
    ) -> None:
        device = _with_float64(device)
        config = {"task": self.task, **config}
        self._counts = Accumulator(statistics, config, device, stage)
        self._checked: tuple[Any, ...] | None = (
            None  # form of the last batch that passed the checks here
        )

    def _check(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """Refuse what shapes, types and devices tell."""
        raise NotImplementedError

    def _flat(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
        """A checked batch, one row a sample."""
        raise NotImplementedError

    def _rows(self, target: Tensor) -> tuple[int, ...]:
        """Shape of the rows behind a checked target."""
        return tuple(target.shape)

    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        raise NotImplementedError

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        slices: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        """Count one batch. No host sync; nothing is kept of the arguments, nothing in them changes.

        Apple's MPS has no float64: there counts stay on the CPU, and each batch is copied to it, which waits. While a
        CUDA graph is captured the batch is counted at once, and each replay counts what it reads; `updates` does not
        see replays, and `reset()` keeps the tensors that they write to.

        Args:
            preds: Predictions, as the class docstring says.
            target: Truth of the same rows.
            sample_weight: Non-negative weights of the target's shape.
            slices: The slice of each row, signed integers of shape (N,) or of the weights' shape: 0 to K − 1, and −1
                for none. Anything else is counted as a fault, and the row in the whole only.
            group: The group of each row, such as its patient: signed integers likewise, of any value but −2⁶³.

        Raises:
            ShapeError, DtypeError, DeviceError: At once, with nothing counted.
            ConfigError: If there are ids that the metric was not built for.
        """
        form = _form(preds, target, sample_weight)
        if form is None or form != self._checked or preds.device != self._counts.device:
            preds, target, sample_weight = map(countable, (preds, target, sample_weight))
            if (
                not self._counts.updates
                and isinstance(preds, Tensor)
                and preds.device != self.device
            ):
                self.to(preds.device)
            self._check(preds, target, sample_weight)
            self._checked = form = _form(preds, target, sample_weight)
        ids = None
        if self._parts or slices is not None or group is not None:
            slices, group = map(countable, (slices, group))
            ids = self._parts.rows.read(self._counts.home, self._rows(target), slices, group)
            form = form and (*form, slices is None, group is None)
        if sample_weight is not None:
            self._counts.weigh()
            sample_weight = sample_weight.detach()
        preds = preds.detach() if preds.requires_grad else preds
        target = target.detach() if target.requires_grad else target
        batch = self._flat(preds, target, sample_weight)
        batch.ids = ids
        self._counts.add_(batch, form)

    def follow(self, follower: Statistic[Any]) -> None:
        """Show all rows that are counted from now on, in their order, to a statistic that has no cells of its own."""
        self._counts.statistics = (*self._counts.statistics, follower)

    @property
    def device(self) -> torch.device:
        """Where the counts live."""
        return self._counts.device

    @property
    def updates(self) -> int:
        """Number of batches counted."""
        return self._counts.updates

    @property
    def state_bytes(self) -> int:
        """Bytes of the state; they do not depend on the number of samples."""
        return self._counts.state_bytes

    @property
    def config(self) -> dict[str, Any]:
        """The plain values that fix what is counted."""
        return dict(self._counts.config)

    def describe(self) -> dict[str, Any]:
        """The configuration in plain values, with the names of classes and slices if there are any, for a record."""
        names = {"class_names": getattr(self, "class_names", ()), "slice_names": self._parts.slices}
        return self.config | {key: list(value) for key, value in names.items() if value}

    def merge_state(self: Self, metrics: Iterable[object]) -> Self:
        """Add what other metrics of the same configuration counted; they do not change.

        Raises:
            StateError: If a configuration differs; nothing is merged.
        """
        if isinstance(metrics, TaskMetrics):
            raise _not_a_list_of_metrics(metrics)
        counts = []
        for other in metrics:
            if not isinstance(other, TaskMetrics):
                raise _not_a_list_of_metrics(other)
            counts.append(other._counts)
        self._counts.merge_state(counts)
        return self

    def fresh(self: Self) -> Self:
        """A metric of the same configuration and device that has counted nothing."""
        other = copy.copy(self)
        other._counts = self._counts.fresh()
        return other

    def reset(self) -> None:
        """Forget everything counted."""
        self._counts.reset()

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the counts to a device; their 64-bit types stay. In place of one without them, to the CPU."""
        self._counts.to(_with_float64(device))
        return self

    def state_dict(self) -> dict[str, Any]:
        """The counts and a digest of the configuration; `torch.load(weights_only=True)` reads it back."""
        return self._counts.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            StateError: If it is foreign, of another configuration or impossible; the current one is kept.
        """
        self._counts.load_state_dict(state)


def _with_float64(device: torch.device | str) -> torch.device:
    device = torch.device(device)
    return torch.device("cpu") if device.type in NO_FLOAT64 else device


def _form(preds: Any, target: Any, weight: Any) -> tuple[Any, ...] | None:
    """All that the checks of the host look at; None for what is no tensor."""
    try:
        form = preds.shape, preds.dtype, preds.device, target.shape, target.dtype, target.device
        return form if weight is None else (*form, weight.shape, weight.dtype, weight.device)
    except AttributeError:
        return None


def countable(value: Any) -> Any:
    """A tensor where it can be counted; anything else as it is, for the checks to refuse."""
    if isinstance(value, Tensor) and value.device.type in NO_FLOAT64:
        return value.detach().cpu()
    return value


def _not_a_list_of_metrics(value: object) -> StateError:
    cure = "Pass a list of metrics: metrics.merge_state([other])."
    return StateError("metrics", "metrics of the same configuration", type(value).__name__, cure)
