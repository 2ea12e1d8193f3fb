"""What is counted for one split of one epoch: the metrics, the loss, samples and batches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.contract import Fed
from ptmetrics.counts.faults import FaultLedger
from ptmetrics.counts.loss import NON_FINITE_LOSS, LossMoments, given_loss, read_losses
from ptmetrics.errors import ConfigError
from ptmetrics.metrics.estimate import to_host
from ptmetrics.metrics.multiclass import mean_loss
from ptmetrics.metrics.score import FaultReport, Score, Scores
from ptmetrics.metrics.task import TaskMetrics, countable
from ptmetrics.monitor.criterion import targets_of, whole_classes
from ptmetrics.monitor.samples import SampleLog, check_room
from ptmetrics.record.samples import Kept


class SplitCounts:
    """Counts of one split; `close` turns them into scores and starts again.

    Args:
        metrics: A metric to copy the configuration of; it is not touched.
        room: Samples whose rows are kept as well; 0 keeps none.
    """

    def __init__(self, metrics: TaskMetrics, room: int = 0) -> None:
        self.metrics = metrics.fresh()
        self._takes_floats = metrics.config["task"] in ("binary", "multilabel")
        self._ignore_index = metrics.config.get("ignore_index")  # weighs nothing in the mean loss
        self._ledger = FaultLedger((NON_FINITE_LOSS,))
        self._loss = Accumulator(
            [Fed(read_losses, (LossMoments(), self._ledger))], {"task": "loss"}
        )
        # The shape of a loss and its number of targets, and what each value weighs.
        self._rows: tuple[tuple[torch.Size, int], Tensor]
        self._rows = (torch.Size([0]), 0), torch.zeros(0, dtype=torch.float64)
        self._log = SampleLog(self.metrics, room) if room else None
        self.samples = self.batches = self.steps = 0

    def add(self, preds: Tensor, target: Tensor, **beside: Tensor | None) -> None:
        """Count one batch where its predictions are: a model may move, stored counts come from the CPU.

        Args:
            preds: As the metrics take them.
            target: As the metrics take them; classes 0 and 1 also as floats, as torch's losses want them.
            beside: Further arguments of the metrics' `update`.
        """
        if isinstance(preds, Tensor) and preds.device != self.metrics.device:
            self.metrics.to(preds.device)
        if self._takes_floats and isinstance(target, Tensor) and target.is_floating_point():
            target = whole_classes(target)
        self.metrics.update(preds, target, **beside)
        self.samples += target.shape[0] if target.ndim else 1
        self.batches += 1
        if self._log is not None:
            self._log.meet(target, grouped=beside.get("group") is not None)

    def add_loss(self, loss: Tensor | float, target: Tensor, *, summed: bool = False) -> None:
        """Count the loss of one batch: a mean over its targets, their sum, or one value a target."""
        if isinstance(loss, Tensor):
            value = loss.detach()
        else:
            target = countable(target)
            value = torch.full((), loss, dtype=torch.float64, device=target.device)
        if value.device != self._loss.device:
            value, target = countable(value), countable(target)
            self._loss.to(value.device)
        rows = self._targets_of(value, target)
        if summed:
            value = value.double() / rows.clamp(min=1)
        elif value.ndim and value.shape == target.shape:
            value = value.reshape(-1)
        self._loss.add_(given_loss(value, rows), (value.shape, value.dtype))

    def _targets_of(self, loss: Tensor, target: Tensor) -> Tensor:
        """How many targets each value of a loss stands for; where none is ignored, the tensor of the last batch."""
        if self._ignore_index is not None:
            return targets_of(loss, target, self._ignore_index)
        key, rows = self._rows
        if key != (loss.shape, target.numel()) or rows.device != loss.device:
            rows = targets_of(loss, target, None)
            self._rows = (loss.shape, target.numel()), rows
        return rows

    def close(self) -> tuple[Scores, Score | None, Kept | None]:
        """Scores, mean loss and samples of the split, None for what was not seen; the counts start again."""
        try:
            scores = self.metrics.compute()
            loss = self._read_loss(scores.faults) if self._loss.updates else None
            return scores, loss, None if self._log is None else self._log.take()
        finally:
            self.metrics.reset()
            self._loss.reset()
            if self._log is not None:
                self._log.reset()
            self.samples = self.batches = self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Counts of a half-done epoch."""
        metrics, loss = self.metrics.state_dict(), self._loss.state_dict()
        counts = {"samples": self.samples, "batches": self.batches, "steps": self.steps}
        rows = {} if self._log is None else {"samples": self._log.state_dict()}
        return {"metrics": metrics, "loss": loss, "counts": counts} | rows

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a half-done epoch up again."""
        self.metrics.load_state_dict(state["metrics"])
        self._loss.load_state_dict(state["loss"])
        counts = state["counts"]
        self.samples, self.batches, self.steps = (
            counts["samples"],
            counts["batches"],
            counts["steps"],
        )
        if self._log is not None:
            self._log.load_state_dict(state.get("samples"), self.samples)

    def _read_loss(self, faults: FaultReport) -> Score:
        state = self._loss.state
        ledger = {name: state[name] for name in ("fault_count", "fault_first_step")}
        values, extra = to_host(
            {"loss": mean_loss(state["loss"])}, {**ledger, "n": state["loss"][1].long()}
        )
        faults.update(
            self._ledger.read(extra["fault_count"].tolist(), extra["fault_first_step"].tolist())
        )
        loss = values["loss"][0]
        return Score(loss.value, low=loss.low, high=loss.high, n=int(extra["n"]), method="normal-batches",
                     reason="no finite loss was seen", higher_is_better=False)  # fmt: skip


def new_splits(
    metrics: object, keep_samples: int, *, recorded: bool = True
) -> Callable[[str], SplitCounts]:
    """What makes the counts of a split by its name.

    Args:
        metrics: A metric to copy the configuration of.
        keep_samples: Samples of the split "val" whose rows are kept as well.
        recorded: Whether there is a record to keep them for.

    Raises:
        ConfigError: If `metrics` is no metric of ours, or `keep_samples` no number of samples.
    """
    check_room(keep_samples)
    if not isinstance(metrics, TaskMetrics):
        foreign = type(metrics).__module__.startswith("torchmetrics")
        cure = f"Pass pm.{'from_torchmetrics(metric)' if foreign else 'MulticlassMetrics(num_classes=…)'}."
        raise ConfigError("metrics", "metrics of ptmetrics", type(metrics).__name__, cure)
    return lambda split: SplitCounts(metrics, keep_samples if recorded and split == "val" else 0)
