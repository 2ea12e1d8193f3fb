"""`BinaryMetrics`: the public face of yes-or-no classification."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ptmetrics.counts.binary import (
    KINDS,
    BinarySpec,
    Inputs,
    check_batch,
    flat,
    read_pieces,
)
from ptmetrics.counts.binary_losses import BinaryLosses
from ptmetrics.counts.class_parts import class_parts
from ptmetrics.counts.contract import Fed
from ptmetrics.counts.histogram import ScoreHistogram, SpareFaults
from ptmetrics.counts.keys import CurveKeys, DecisionKeys, FloatKeys, ProbabilityKeys
from ptmetrics.counts.sample_rows import binary_columns
from ptmetrics.counts.stored import StoredScores
from ptmetrics.counts.waiting import Given
from ptmetrics.metrics import binary as b
from ptmetrics.metrics.binary_calibration import calibration_scores
from ptmetrics.metrics.binary_options import check_counting, check_options, check_temperature
from ptmetrics.metrics.class_parts import ClassTables
from ptmetrics.metrics.curves import ScoreBins
from ptmetrics.metrics.estimate import Estimate, to_host
from ptmetrics.metrics.parts import Parts, part_estimates, settle
from ptmetrics.metrics.ranking import FINE, Ranking, notes
from ptmetrics.metrics.score import Scores
from ptmetrics.metrics.tally import Tally
from ptmetrics.metrics.task import TaskMetrics

Curves = Literal["fp16", "fine", "exact"]
HEADLINE = "accuracy"
KEYS: Mapping[Curves, FloatKeys] = {"fp16": FloatKeys(), "fine": FINE, "exact": FloatKeys()}


class BinaryMetrics(TaskMetrics):
    """Everything about yes-or-no predictions from one pass: counts, curves, losses, with an interval on each.

    `update(preds, target)` takes one score a target, of the target's shape or with a dimension 1 of length 1, or two
    scores in dimension 1, (N, 2) or (N, 2, d1, …): then the positive's is the second, and a logit is the margin
    z₁ − z₀. Two columns are always two classes. Targets are signed integers 0 and 1. With `inputs="labels"`, preds are
    signed integers too, and there are no curves or losses. NaN scores and targets other than 0 and 1 are refused,
    counted and reported in `scores.faults`.

    A row is predicted positive when its probability is `threshold` or more, as in scikit-learn's curves; logits are
    compared with logit(threshold) as they are, no sigmoid rounds them.

    AUROC and average precision come from a histogram of the scores in constant memory, each with a certified
    `error_bound`: 0 where scores are exact in float16, which those of a float16 or bfloat16 model with one logit are,
    and its probabilities.
    `scores.roc_curve()`, `scores.pr_curve()` and `scores.thresholds()` draw the whole curve. Where the bound passes
    1e-3 for the AUROC or 5e-3 for the average precision, a note in `scores.notes` says which `curves` would hold it.
    The state cannot change to that by itself: its shape is fixed by the configuration, so that any two parts of a
    run can be added up.

    Args:
        inputs: What preds are: "logits", "probs" or "labels". Never guessed.
        threshold: Probability from which a row is predicted positive; for labels it has no meaning.
        ignore_index: A target value to leave out silently, such as −100.
        beta: Adds the score `fbeta`, in which recall counts `beta` times as much as precision.
        class_names: Names of class 0 and class 1.
        absent: Value of a score that is undefined; NaN leaves it out of averages (scikit-learn's `zero_division`).
        losses: Whether to report `nll` and `brier`, which take more than half of the time of an update; where there
            are curves, also `ece` and `rms_calibration_error` of the positive's probability and `over_confidence`.
        temperature: Whether to report the `temperature` that would calibrate the logits, where there are curves.
        curves: "fp16" for 1 MiB, "fine" for 63 MiB and 64 times less doubt, "exact" for "fp16" and `capacity` scores
            beside it: error 0 for that many unweighted samples, the histogram for more. None keeps no scores.
        capacity: Number of scores that "exact" keeps, 8 bytes each.
        slices: Parts of the data to score by themselves, such as hospitals or cameras: their names, or how many;
            `update(…, slices=ids)` takes the slice of each row. See `scores.per_slice`.
        groups: Whether rows come in groups, such as the frames of a patient: `update(…, group=ids)` takes the group of
            each row, and intervals allow for what rows of a group have in common.
        device: Where to count.

    Raises:
        ConfigError: If an argument cannot work.
    """

    task = "binary"

    def __init__(
        self,
        *,
        inputs: Inputs = "logits",
        threshold: float = 0.5,
        ignore_index: int | None = None,
        beta: float | None = None,
        class_names: Sequence[str] | None = None,
        absent: float = math.nan,
        losses: bool = True,
        temperature: bool = False,
        curves: Curves | None = "fp16",
        capacity: int = 1_000_000,
        slices: Sequence[str] | int = (),
        groups: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        check_counting(inputs, threshold, curves, capacity, tuple(KEYS))
        check_options(ignore_index, beta, class_names, absent)
        check_temperature(temperature, inputs, losses, curves)
        self.class_names = tuple(map(str, ("0", "1") if class_names is None else class_names))
        self.absent, self.beta, self.temperature = float(absent), beta, temperature
        self._parts = parts = Parts.of(slices, groups, 3 * (2 + 1))
        self._spec = BinarySpec(inputs, _cut(inputs, threshold), ignore_index, parts.rows)
        self.sample_columns = partial(binary_columns, self._spec)
        scored, slots = inputs != "labels", (self._spec.spare, self._spec.without_score)
        self._curve = _histogram(inputs, curves, slots) if curves and scored else None
        decisions = _decisions(self._curve, threshold, slots)
        self._store = StoredScores(capacity) if curves == "exact" and scored else None
        histograms: list[Any] = [h for h in (self._curve, decisions) if h is not None]
        self._decided, self._faults = histograms[-1], SpareFaults(histograms[0], KINDS[inputs])
        rows = [
            *histograms,
            *([self._store] if self._store else []),
            *([BinaryLosses()] if losses and scored else []),
        ]
        rows += [self._faults, *class_parts(parts.rows, 2)]
        config: dict[str, Any] = {"num_classes": 2, "inputs": inputs, "threshold": threshold}
        config |= {"ignore_index": ignore_index, "losses": losses, "curves": curves, **parts.config}
        super().__init__([Fed(partial(read_pieces, self._spec), tuple(rows))], config, device)

    def _check(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
        check_batch(self._spec, self._counts.home, preds, target, weight)

    def _flat(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
        return flat(self._spec, preds, target, weight)

    @torch.no_grad()
    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        state, tally, ranking = self._counts.state, self._tally(), self._ranking()
        counted = self._counted(tally)
        each = {name: e for name, e in counted.items() if ":" in name}
        named = {name: e for name, e in counted.items() if name not in each}
        named |= ({} if ranking is None else ranking.estimates()) | self._losses(tally, ranking)
        tables = ClassTables(state, self.absent, two=True).parting(self._counted)
        parts, extra = part_estimates(self._parts, tables, counted, state)
        extra |= {"faults": self._faults.counts(state), "steps": state["fault_first_step"]}
        extra |= {"matrix": tally.matrix} | ({} if ranking is None else {"fits": ranking.fits})
        values, extra = to_host(named | each | parts, extra)
        told = settle(self._parts, values, extra, HEADLINE)
        scores = {name: values[name][0] for name in named}
        return Scores(
            scores,
            task=self.task,
            n=int(extra["matrix"].sum()),
            per_class={name.removeprefix("class:"): values[name] for name in each},
            confusion=extra["matrix"],
            class_names=self.class_names,
            faults=self._faults.read(extra["faults"].tolist(), extra["steps"].tolist())
            | told.faults,
            notes=[*([] if ranking is None else notes(scores, ranking.keys)), *told.notes],
            curve=None if ranking is None else ranking.curve(fits=bool(extra["fits"])),
            per_slice=told.per_slice,
            headline=HEADLINE,
        )

    def _tally(self) -> Tally:
        histogram: ScoreHistogram[Any] = self._decided
        bins, cut = ScoreBins.of(self._counts.state, histogram), histogram.keys.first_positive
        count, weight, square = (
            torch.stack((cells[:cut].sum(0), cells[cut:].sum(0)), 1)
            for cells in (bins.count, bins.weight, bins.square)
        )
        return Tally.of_matrix(count, weight, square, self.absent)

    def _ranking(self) -> Ranking | None:
        if self._curve is None:
            return None
        probs = self._spec.inputs == "probs"
        return Ranking.of(self._counts.state, self._curve, self._store, probs=probs)

    def _counted(self, tally: Tally) -> dict[str, Estimate]:
        """What the matrix tells: named scores, and as "class:NAME" those of each class."""
        named = {name: score(tally) for name, score in b.SCORES.items()}
        named |= {} if self.beta is None else {"fbeta": b.fbeta(tally, self.beta)}
        return named | {f"class:{name}": score(tally) for name, score in b.PER_CLASS.items()}

    def _losses(self, tally: Tally, ranking: Ranking | None) -> dict[str, Estimate]:
        state = self._counts.state
        if "loss" not in state:
            return {}
        once = state["loss"]
        named = b.mean_losses(tally, state.get("loss_weight", once), state.get("loss_square", once))
        if ranking is None:
            return named
        probs = self._spec.inputs == "probs"
        return named | calibration_scores(
            ranking.binned, ranking.keys, probs=probs, tempered=self.temperature
        )


def _histogram(
    inputs: Inputs, curves: Curves, slots: tuple[int, tuple[int, ...]]
) -> ScoreHistogram[CurveKeys]:
    if inputs == "probs" and curves != "fine":
        return ScoreHistogram("probability", ProbabilityKeys(), *slots)
    return ScoreHistogram("curve", KEYS[curves], *slots)


def _decisions(
    curve: ScoreHistogram[CurveKeys] | None, threshold: float, slots: tuple[int, tuple[int, ...]]
) -> ScoreHistogram[DecisionKeys] | None:
    """Rows of scores part at probability 0.5; at any other threshold, the decisions are counted by themselves."""
    if curve is None:
        return ScoreHistogram("confusion", DecisionKeys(), *slots)
    # One histogram that tells the reasons is enough.
    return None if threshold == 0.5 else ScoreHistogram("confusion", DecisionKeys(), 1)


def _cut(inputs: Inputs, threshold: float) -> float:
    """The threshold in the unit of the predictions."""
    if inputs == "labels":
        return 1.0
    if inputs == "probs" or not 0 < threshold < 1:
        return threshold if inputs == "probs" else math.copysign(math.inf, threshold - 0.5)
    return math.log(threshold / (1 - threshold))
