"""`RegressionMetrics`: the public face of regression."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ptmetrics.counts.contract import Fed, Statistic
from ptmetrics.counts.faults import FaultLedger
from ptmetrics.counts.joint_moments import SIZE
from ptmetrics.counts.magnitude import MagnitudeHistogram
from ptmetrics.counts.point_parts import point_parts
from ptmetrics.counts.regression import KINDS, PointBatch, Residuals, check_batch, flat, points
from ptmetrics.counts.sample_rows import point_columns
from ptmetrics.counts.waiting import Given
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import regression as r
from ptmetrics.metrics.estimate import Estimate, to_host
from ptmetrics.metrics.outputs import average, worst
from ptmetrics.metrics.parts import Parts, part_estimates, settle
from ptmetrics.metrics.point_parts import SCORES as IN_PARTS
from ptmetrics.metrics.point_parts import PointTables
from ptmetrics.metrics.score import Scores
from ptmetrics.metrics.task import TaskMetrics

HEADLINE = "mae"
SCORES = {**IN_PARTS, "max_error": r.max_error}  # the largest error is that of all rows alone


class RegressionMetrics(TaskMetrics):
    """MSE, RMSE, MAE, R², explained variance, Pearson, bias, largest error and quantiles of |error| in one pass.

    `update(preds, target)` takes floating point or whole numbers of shape (N, D), or (N,) where D is 1, and
    weights of shape (N,). Sums are kept in float64 about the running mean, so that R² is right for values near
    1e6 or in half precision. A row with a NaN or infinite value in any output is refused, counted and reported
    in `scores.faults`; a row of weight 0 is as if it were not there.

    With several outputs `scores.per_class` holds one value an output, and the named scores are uniform means over
    the outputs, as in scikit-learn (`max_error`: the largest). Errors are prediction − target, in the target's
    unit.

    Args:
        num_outputs: D, the number of values a row.
        quantiles: Which quantiles of |error| to report, as `absolute_error/p90`; the median is always there as
            `median_absolute_error`.
        names: One name an output.
        slices: Parts of the data to score by themselves, such as hospitals or cameras: their names, or how many;
            `update(…, slices=ids)` takes the slice of each row. See `scores.per_slice`.
        groups: Whether rows come in groups, such as the frames of a patient: `update(…, group=ids)` takes the group of
            each row, and intervals allow for what rows of a group have in common.
        device: Where to count.

    Raises:
        ConfigError: If an argument cannot work.
    """

    task = "regression"

    def __init__(
        self,
        *,
        num_outputs: int = 1,
        quantiles: Sequence[float] = (0.5, 0.9, 0.95),
        names: Sequence[str] | None = None,
        slices: Sequence[str] | int = (),
        groups: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(num_outputs, quantiles, names)
        numbers = range(num_outputs if num_outputs > 1 else 0)
        self.class_names = tuple(map(str, numbers if names is None else names))
        self.quantiles = tuple(map(float, quantiles))
        self._ledger = FaultLedger(KINDS)
        self._parts = parts = Parts.of(slices, groups, (SIZE + 2) * num_outputs + 1)
        statistics: list[Statistic[PointBatch]] = [
            Residuals(num_outputs),
            MagnitudeHistogram(num_outputs),
            self._ledger,
            *point_parts(parts.rows, num_outputs),
        ]
        self._outputs = num_outputs
        self.sample_columns = point_columns if num_outputs == 1 else None
        config = {"num_outputs": num_outputs, **parts.config}
        super().__init__([Fed(partial(points, parts.rows), tuple(statistics))], config, device)

    def _check(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
        check_batch(self._outputs, self._counts.home, preds, target, weight)

    def _rows(self, target: Tensor) -> tuple[int, ...]:
        return (target.shape[0],)

    def _flat(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
        return flat(self._outputs, preds, target, weight)

    @torch.no_grad()
    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        state = self._counts.state
        each = self._each(r.Residue.of(state))
        named = {name: worst(e) if name == "max_error" else average(e) for name, e in each.items()}
        columns = {f"output:{name}": e for name, e in each.items()} if self.class_names else {}
        whole = named | {f"output:{name}": e for name, e in each.items()}
        parts, extra = part_estimates(
            self._parts, PointTables(state, self._outputs).parting(), whole, state
        )
        extra |= {name: state[name] for name in ("fault_count", "fault_first_step")}
        values, extra = to_host(named | columns | parts, extra | {"n": state["magnitude"][0].sum()})
        told = settle(self._parts, values, extra, HEADLINE)
        faults = self._ledger.read(
            extra["fault_count"].tolist(), extra["fault_first_step"].tolist()
        )
        return Scores(
            {name: values[name][0] for name in named},
            task=self.task,
            n=int(extra["n"]),
            per_class={name.removeprefix("output:"): values[name] for name in columns},
            class_names=self.class_names,
            faults=faults | told.faults,
            notes=told.notes,
            per_slice=told.per_slice,
            headline=HEADLINE,
        )

    def _each(self, residue: r.Residue) -> dict[str, Estimate]:
        each = {name: score(residue) for name, score in SCORES.items()}
        each["median_absolute_error"] = r.quantile(residue, 0.5)
        return each | {
            f"absolute_error/p{100 * q:g}": r.quantile(residue, q) for q in self.quantiles
        }


def _check(num_outputs: int, quantiles: Sequence[float], names: Sequence[str] | None) -> None:
    if isinstance(num_outputs, bool) or not isinstance(num_outputs, int) or num_outputs < 1:
        raise ConfigError("num_outputs", "a whole number of 1 or more", repr(num_outputs),
                          "Pass the number of values that the model predicts for a row.")  # fmt: skip
    if not all(isinstance(q, int | float) and 0 < q < 1 for q in quantiles):
        raise ConfigError("quantiles", "numbers between 0 and 1", repr(tuple(quantiles)),
                          "Pass quantiles=(0.5, 0.9).")  # fmt: skip
    if names is not None and len(names) != num_outputs:
        raise ConfigError(
            "names", f"{num_outputs} names", f"{len(names)}", "Pass one name an output."
        )
