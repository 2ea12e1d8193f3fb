"""The one class that is a `torchmetrics.Metric`: this file is imported only where torchmetrics is wanted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.base import Metrics


class AsTorchmetrics(Metric):
    """Counts of ours as states of torchmetrics, each with its own merge, so that torchmetrics can sync them.

    The states' names hold the digest of the configuration: a `MetricCollection` lets metrics share
    their counts when the counts mean the same, and never because two numbers happen to be equal.

    Args:
        metrics: Metrics of ours, for their configuration.
        score: The score that `compute` returns; None for all.
        weighted: Whether there will be weights.
        options: Those of `torchmetrics.Metric`, such as sync_on_compute.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(
        self, metrics: Metrics, score: str | None, *, weighted: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self._metrics = metrics.fresh()
        self._score = score
        self._weighted = weighted
        self._rises = None
        if score is not None:
            self._rises = self._metrics.compute()[score].higher_is_better
        state = self._metrics.shared_state(weighted=weighted)
        prefix = f"counts_{self._metrics.digest}_"
        if weighted:
            prefix = f"{prefix}weighted_"
        self._names = {cell: prefix + cell.replace(".", "__") for cell in state}
        for cell, name in self._names.items():
            merge = MergeRanks(self._metrics.layout[cell].merge_)
            self.add_state(name, state[cell], dist_reduce_fx=merge)

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
            rule = "weights beside weighted=True only"
            cure = "Pass to_torchmetrics(metrics, score, weighted=True)."
            raise ConfigError("sample_weight", rule, "weights without it", cure)
        metrics = self._with_its_state()
        metrics.update(preds, target, sample_weight, slices=slices, group=group)
        state = metrics.shared_state(weighted=self._weighted)
        for cell, name in self._names.items():
            setattr(self, name, state[cell])

    def compute(self) -> Tensor | dict[str, Tensor]:
        """The score, or all scores by name, float64 of shape () on the metric's device."""
        scores = self._with_its_state().compute()
        device = self._metrics.device
        values = {
            name: torch.tensor(score.value, dtype=torch.float64, device=device)
            for name, score in scores.items()
        }
        if self._score is not None:
            return values[self._score]
        return values

    def _with_its_state(self) -> Metrics:
        """Our metrics around torchmetrics' tensors."""
        state = {cell: getattr(self, name) for cell, name in self._names.items()}
        # torchmetrics has counted this batch already.
        self._metrics.adopt_state(state, max(0, self._update_count - 1))
        return self._metrics

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Any:
        """Move to a device; the 64-bit types stay, whatever `model.to(torch.bfloat16)` asks for."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), *args, **options)


class MergeRanks:
    """Merges the tensors of all ranks, stacked in dimension 0, as the cell says; unlike a closure it can be pickled.

    Args:
        merge_: Adds the second tensor to the first, as the cell says.
    """

    def __init__(self, merge_: Callable[[Tensor, Tensor], None]) -> None:
        self.merge_ = merge_

    def __call__(self, stacked: Tensor) -> Tensor:
        """One tensor of the cell's shape from a stack of them."""
        first, *others = stacked.unbind(0)
        merged = first.clone()
        for other in others:
            self.merge_(merged, other)
        return merged
