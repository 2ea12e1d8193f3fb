"""`MultilabelMetrics`: the public face of many yes-or-no labels a row."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ptmetrics.counts.contract import Fed, Statistic
from ptmetrics.counts.faults import FaultLedger
from ptmetrics.counts.label_histogram import LabelHistogram, keys_for
from ptmetrics.counts.label_parts import label_parts
from ptmetrics.counts.multilabel import (
    KINDS,
    Inputs,
    LabelBatch,
    LabelCounts,
    LabelRows,
    LabelSpec,
    check_batch,
    flat,
    labelled,
)
from ptmetrics.counts.waiting import Given
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import multilabel as m
from ptmetrics.metrics.estimate import Estimate, to_host
from ptmetrics.metrics.label_parts import LabelTables
from ptmetrics.metrics.label_ranking import each_ranking, mean_ranking
from ptmetrics.metrics.parts import Parts, part_estimates, settle
from ptmetrics.metrics.score import Scores
from ptmetrics.metrics.task import TaskMetrics

HEADLINE = "f1/micro"


class MultilabelMetrics(TaskMetrics):
    """Precision, recall, F1, Jaccard, exact match and Hamming loss from one pass, with an interval on each.

    `update(preds, target)` takes scores of shape (N, L) or (N, L, d1, …), or 0 and 1 with `inputs="labels"`, and
    signed integer targets 0 and 1 of the same shape; weights have the shape (N, …), one a row. NaN scores and
    targets that are neither 0 nor 1 are left out for their label alone, counted and reported in
    `scores.faults`. The scores of whole rows (`exact_match`, `…/samples`) leave a row with a refused label out;
    ignored labels have no say in them.

    AUROC and average precision of each label come from histograms of the scores in constant memory, each with a
    certified `error_bound`: 1 MiB a label up to 64 labels, 64 KiB up to 1,024, three times that with weights.
    Above 1,024 labels there are none.

    Args:
        num_labels: L, 1 or more.
        inputs: What preds are: "logits", "probs" or "labels". Never guessed.
        threshold: Probability from which a label is predicted: equal is a yes.
        ignore_index: A target value to leave out silently, such as −1.
        label_names: One name a label.
        absent: Value of an undefined score; NaN leaves it out of averages (scikit-learn's `zero_division`).
        curves: Whether to keep what AUROC and average precision need.
        slices: Parts of the data to score by themselves, such as hospitals or cameras: their names, or how many;
            `update(…, slices=ids)` takes the slice of each row. See `scores.per_slice`.
        groups: Whether rows come in groups, such as the frames of a patient: `update(…, group=ids)` takes the group of
            each row, and intervals allow for what rows of a group have in common.
        device: Where to count.

    Raises:
        ConfigError: If an argument cannot work.
    """

    task = "multilabel"

    def __init__(
        self,
        num_labels: int,
        *,
        inputs: Inputs = "logits",
        threshold: float = 0.5,
        ignore_index: int | None = None,
        label_names: Sequence[str] | None = None,
        absent: float = math.nan,
        curves: bool = True,
        slices: Sequence[str] | int = (),
        groups: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(num_labels, inputs, threshold, label_names)
        _check_options(ignore_index, absent, curves)
        self.class_names = tuple(
            map(str, range(num_labels) if label_names is None else label_names)
        )
        self.absent = float(absent)
        cut = math.log(threshold / (1 - threshold)) if inputs == "logits" else threshold
        self._parts = parts = Parts.of(slices, groups, 4 * num_labels + 40)
        self._spec = LabelSpec(num_labels, inputs, cut, ignore_index, parts.rows)
        self._ledger = FaultLedger(KINDS[inputs])
        config = {
            "num_labels": num_labels,
            "inputs": inputs,
            "threshold": None if inputs == "labels" else threshold,
            "ignore_index": ignore_index,
            "curves": curves,
            **parts.config,
        }
        keys = keys_for(num_labels) if curves and inputs != "labels" else None
        self._ranking = (
            None if keys is None else LabelHistogram(num_labels, keys, inputs == "probs")
        )
        statistics: list[Statistic[LabelBatch]] = [
            LabelCounts(num_labels),
            LabelRows(),
            self._ledger,
        ]
        statistics += [
            *([self._ranking] if self._ranking else []),
            *label_parts(parts.rows, num_labels),
        ]
        super().__init__([Fed(partial(labelled, self._spec), tuple(statistics))], config, device)

    def _check(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
        check_batch(self._spec, self._counts.home, preds, target, weight)

    def _rows(self, target: Tensor) -> tuple[int, ...]:
        return target.shape[0], *target.shape[2:]

    def _flat(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
        return flat(self._spec, preds, target, weight)

    @torch.no_grad()
    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        state, tally = self._counts.state, self._tally()
        counted = scores_of(tally)
        ranking = {} if self._ranking is None else each_ranking(state, self._ranking)
        named = {name: e for name, e in counted.items() if ":" not in name}
        named |= {f"{name}/macro": mean_ranking(e) for name, e in ranking.items()}
        columns = {name: e for name, e in counted.items() if ":" in name}
        columns |= {f"label:{name}": e for name, e in ranking.items()} | {
            "label:support": m.support(tally)
        }
        tables = LabelTables(state, self.absent).parting(scores_of)
        parts, extra = part_estimates(self._parts, tables, counted, state)
        extra |= {name: state[name] for name in ("fault_count", "fault_first_step", "rows")}
        values, extra = to_host(named | columns | parts, extra)
        told = settle(self._parts, values, extra, HEADLINE)
        faults = self._ledger.read(
            extra["fault_count"].tolist(), extra["fault_first_step"].tolist()
        )
        return Scores(
            {name: values[name][0] for name in named},
            task=self.task,
            n=int(extra["rows"][0]),
            per_class={name.removeprefix("label:"): values[name] for name in columns},
            class_names=self.class_names,
            faults=faults | told.faults,
            notes=told.notes,
            per_slice=told.per_slice,
            headline=HEADLINE,
        )

    def _tally(self) -> m.Labels:
        state = self._counts.state
        labels, rows = self._weights("labels"), self._weights("rows")
        return m.Labels(
            count=state["labels"], weight=labels[0], square=labels[1],
            rows=state["rows"], rows_weight=rows[0], rows_square=rows[1],
            together=state["together"], row_scores=state["row_scores"], absent=self.absent,
        )  # fmt: skip

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        state = self._counts.state
        if self._counts.weighted:
            return state[f"{name}_weight"], state[f"{name}_square"]
        return state[name].double(), state[name].double()


def named_scores(t: m.Labels) -> dict[str, Estimate]:
    """All scores by name but those of the curves."""
    named = {"exact_match": m.exact_match(t), m.WRONG.name: m.micro(t, m.WRONG)}
    for index, ratio in enumerate(m.RATIOS):
        named |= {
            f"{ratio.name}/macro": m.macro(t, ratio),
            f"{ratio.name}/micro": m.micro(t, ratio),
            f"{ratio.name}/weighted": m.weighted(t, ratio),
            f"{ratio.name}/samples": m.samples(t, index, ratio),
        }
    return named


def scores_of(t: m.Labels) -> dict[str, Estimate]:
    """Named scores, and as "label:NAME" those of each label."""
    return named_scores(t) | {f"label:{ratio.name}": m.each(t, ratio) for ratio in m.RATIOS}


def _check(
    num_labels: int, inputs: str, threshold: float, label_names: Sequence[str] | None
) -> None:
    if isinstance(num_labels, bool) or not isinstance(num_labels, int) or num_labels < 1:
        raise ConfigError("num_labels", "a whole number of 1 or more", repr(num_labels),
                          "Pass the number of outputs of the model's last layer.")  # fmt: skip
    if inputs not in KINDS:
        raise ConfigError("inputs", f"one of {', '.join(KINDS)}", repr(inputs),
                          "Say what the model returns; it is never guessed.")  # fmt: skip
    if (
        isinstance(threshold, bool)
        or not isinstance(threshold, int | float)
        or not 0 < threshold < 1
    ):
        raise ConfigError(
            "threshold", "a probability between 0 and 1", repr(threshold), "Pass threshold=0.5."
        )
    if label_names is not None and len(label_names) != num_labels:
        raise ConfigError(
            "label_names", f"{num_labels} names", f"{len(label_names)}", "Pass one name a label."
        )


def _check_options(ignore_index: int | None, absent: float, curves: bool) -> None:
    if ignore_index is not None and (
        isinstance(ignore_index, bool) or not isinstance(ignore_index, int)
    ):
        raise ConfigError("ignore_index", "a whole number or None", repr(ignore_index),
                          "Pass the target value to leave out, such as -1.")  # fmt: skip
    if not isinstance(absent, int | float) or not (math.isnan(absent) or 0 <= absent <= 1):
        raise ConfigError("absent", "NaN or a number from 0 to 1", repr(absent),
                          "NaN leaves the label out of averages, 0 and 1 count it so.")  # fmt: skip
    if not isinstance(curves, bool):
        raise ConfigError("curves", "True or False", repr(curves),
                          "Pass curves=False to do without AUROC and average precision.")  # fmt: skip
