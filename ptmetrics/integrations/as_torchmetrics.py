"""The one class that is a `torchmetrics.Metric`: this file is imported only where torchmetrics is wanted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ptmetrics.counts.cells import Cell, merge_
from ptmetrics.errors import ConfigError
from ptmetrics.metrics.task import TaskMetrics


class AsTorchmetrics(Metric):
    """Counts of ours as states of torchmetrics, each with its own merge, so that torchmetrics can sync them.

    The states' names hold the digest of the configuration: a `MetricCollection` lets metrics share their counts
    when the counts mean the same, and never because two numbers happen to be equal.

    Args:
        metrics: Metrics of ours, for their configuration.
        score: The score that `compute` returns; None for all.
        weighted: Whether there will be weights.
        options: Those of `torchmetrics.Metric`, such as sync_on_compute.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(
        self, metrics: TaskMetrics, score: str | None, *, weighted: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self._metrics, self._score, self._weighted = metrics.fresh(), score, weighted
        counts = self._metrics._counts
        self._rises = None if score is None else self._metrics.compute()[score].higher_is_better
        if weighted:
            counts.weigh()
        prefix = f"counts_{counts.digest}_{'weighted_' if weighted else ''}"
        self._names = {cell: prefix + cell for cell in counts.state}
        for cell, name in self._names.items():
            self.add_state(
                name, counts.state[cell], dist_reduce_fx=Merge(cell, counts.layout[cell])
            )

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """Direction of the score; None for all of them."""
        return self._rises

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        slices: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        """Count one batch; no host sync.

        Raises:
            ConfigError: If there are weights, and the metric was not told so.
        """
        if sample_weight is not None and not self._weighted:
            raise ConfigError("sample_weight", "weights beside weighted=True only", "weights without it",
                              "Pass to_torchmetrics(metrics, score, weighted=True).")  # fmt: skip
        metrics = self._lent()
        metrics.update(preds, target, sample_weight, slices=slices, group=group)
        for cell, name in self._names.items():
            setattr(self, name, metrics._counts.state[cell])

    def compute(self) -> Tensor | dict[str, Tensor]:
        """The score, or all scores by name, float64 of shape () on the metric's device."""
        scores = self._lent().compute()
        device = self._metrics.device
        if self._score is not None:
            return torch.tensor(scores[self._score].value, dtype=torch.float64, device=device)
        return {
            name: torch.tensor(s.value, dtype=torch.float64, device=device)
            for name, s in scores.items()
        }

    def _lent(self) -> TaskMetrics:
        """Our metrics around torchmetrics' tensors."""
        state = {cell: getattr(self, name) for cell, name in self._names.items()}
        # torchmetrics has counted this batch already.
        self._metrics._counts.lend(state, max(0, self._update_count - 1))
        return self._metrics

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Any:
        """Move to a device; the 64-bit types stay, whatever `model.to(torch.bfloat16)` asks for."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), *args, **options)


class Merge:
    """Merges the tensors of all ranks, stacked in dimension 0, as the cell says; unlike a closure it can be pickled.

    Args:
        name: Name of the cell.
        cell: The cell.
    """

    def __init__(self, name: str, cell: Cell) -> None:
        self.name, self.cell = name, cell

    def __call__(self, stacked: Tensor) -> Tensor:
        """One tensor of the cell's shape from a stack of them."""
        first, *others = stacked.unbind(0)
        state = {self.name: first.clone()}
        for other in others:
            merge_({self.name: self.cell}, state, {self.name: other})
        return state[self.name]
