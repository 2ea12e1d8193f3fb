"""`BinaryMetrics`: the public face of yes-or-no classification."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.scores import binary as b
from ptmetrics.scores.binary_calibration import calibration_scores
from ptmetrics.scores.curves import ScoreBins
from ptmetrics.scores.estimate import Estimate, to_host
from ptmetrics.scores.ranking import FINE, Ranking, notes
from ptmetrics.scores.score import Scores
from ptmetrics.scores.tally import Tally
from ptmetrics.scores.task import TaskMetrics
from ptmetrics.statistics.binary import (
    KINDS,
    BinaryRows,
    BinarySpec,
    InPieces,
    Inputs,
    check_batch,
    flat,
)
from ptmetrics.statistics.binary_losses import BinaryLosses
from ptmetrics.statistics.contract import Statistic
from ptmetrics.statistics.histogram import ScoreHistogram, SpareFaults
from ptmetrics.statistics.keys import CurveKeys, DecisionKeys, FloatKeys, ProbabilityKeys
from ptmetrics.statistics.sample_rows import binary_columns
from ptmetrics.statistics.stored import StoredScores
from ptmetrics.statistics.waiting import Given

Curves = Literal["fp16", "fine", "exact"]
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
        device: torch.device | str = "cpu",
    ) -> None:
        _check_counting(inputs, threshold, curves, capacity)
        _check_options(ignore_index, beta, class_names, absent)
        _check_temperature(temperature, inputs, losses, curves)
        self.class_names = tuple(map(str, ("0", "1") if class_names is None else class_names))
        self.absent, self.beta, self.temperature = float(absent), beta, temperature
        self._spec = BinarySpec(inputs, _cut(inputs, threshold), ignore_index)
        self.sample_columns = partial(binary_columns, self._spec)
        scored = inputs != "labels"
        slots = (self._spec.spare, self._spec.without_score)
        self._curve = _histogram(inputs, curves, slots) if curves and scored else None
        # Rows of scores part at probability 0.5; at any other threshold, the decisions are counted by themselves.
        apart = self._curve is None or threshold != 0.5
        reasons = slots if self._curve is None else (1,)  # one histogram that tells the reasons is enough
        decisions = ScoreHistogram("confusion", DecisionKeys(), *reasons) if apart else None
        self._store = StoredScores(capacity) if curves == "exact" and scored else None
        histograms: list[ScoreHistogram[Any]] = [h for h in (self._curve, decisions) if h is not None]
        self._decided, self._faults = histograms[-1], SpareFaults(histograms[0], KINDS[inputs])
        rows: list[Statistic[BinaryRows]] = [*histograms, *([self._store] if self._store else [])]
        rows += [*([BinaryLosses()] if losses and scored else []), self._faults]
        config = {
            "num_classes": 2, "inputs": inputs, "threshold": threshold,
            "ignore_index": ignore_index, "losses": losses, "curves": curves,
        }  # fmt: skip
        super().__init__([InPieces(self._spec, tuple(rows))], config, device)

    def _check(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
        check_batch(self._spec, self._counts.home, preds, target, weight)

    def _flat(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
        return flat(self._spec, preds, target, weight)

    @torch.no_grad()
    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        state, tally, ranking = self._counts.state, self._tally(), self._ranking()
        named = (
            self._named(tally)
            | ({} if ranking is None else ranking.estimates())
            | self._losses(tally, ranking)
        )
        each = {f"class:{name}": score(tally) for name, score in b.PER_CLASS.items()}
        extra = {
            "faults": self._faults.counts(state),
            "steps": state["fault_first_step"],
            "matrix": tally.matrix,
        }
        extra |= {} if ranking is None else {"fits": ranking.fits}
        values, extra = to_host(named | each, extra)
        scores = {name: values[name][0] for name in named}
        return Scores(
            scores,
            task=self.task,
            n=int(extra["matrix"].sum()),
            per_class={name: values[f"class:{name}"] for name in b.PER_CLASS},
            confusion=extra["matrix"],
            class_names=self.class_names,
            faults=self._faults.read(extra["faults"].tolist(), extra["steps"].tolist()),
            notes=[] if ranking is None else notes(scores, ranking.keys),
            curve=None if ranking is None else ranking.curve(fits=bool(extra["fits"])),
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

    def _named(self, tally: Tally) -> dict[str, Estimate]:
        named = {name: score(tally) for name, score in b.SCORES.items()}
        return named if self.beta is None else named | {"fbeta": b.fbeta(tally, self.beta)}

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


def _cut(inputs: Inputs, threshold: float) -> float:
    """The threshold in the unit of the predictions."""
    if inputs == "labels":
        return 1.0
    if inputs == "probs" or not 0 < threshold < 1:
        return threshold if inputs == "probs" else math.copysign(math.inf, threshold - 0.5)
    return math.log(threshold / (1 - threshold))


def _check_counting(inputs: str, threshold: float, curves: str | None, capacity: int) -> None:
    if inputs not in KINDS:
        raise ConfigError("inputs", f"one of {', '.join(KINDS)}", repr(inputs),
                          "Say what the model returns; it is never guessed.")  # fmt: skip
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigError("threshold", "a probability from 0 to 1", repr(threshold),
                          "For logits pass the probability too: threshold=0.5 is logit 0.")  # fmt: skip
    if curves is not None and curves not in KEYS:
        raise ConfigError("curves", f"one of {', '.join(KEYS)}, or None", repr(curves),
                          'Leave it out for "fp16", 1 MiB.')  # fmt: skip
    if not whole(capacity, 1, 2**40):
        raise ConfigError("capacity", "a whole number of 1 or more", repr(capacity),
                          "Pass the number of validation samples.")  # fmt: skip


def _check_temperature(temperature: bool, inputs: str, losses: bool, curves: str | None) -> None:
    if temperature and (inputs == "labels" or not losses or curves is None):
        raise ConfigError("temperature", "False, or scores with losses and curves",
                          f'True beside inputs="{inputs}", losses={losses}, curves={curves!r}',
                          "It is read off the curves: leave losses and curves as they are.")  # fmt: skip


def _check_options(
    ignore_index: int | None, beta: float | None, class_names: Sequence[str] | None, absent: float
) -> None:
    if ignore_index is not None and not whole(ignore_index, -(2**63), 2**63 - 1):
        raise ConfigError("ignore_index", "a whole number or None", repr(ignore_index),
                          "Pass the target value to leave out, such as -100.")  # fmt: skip
    if beta is not None and not (isinstance(beta, int | float) and 0 < beta < math.inf):
        raise ConfigError("beta", "a number above 0, or None", repr(beta),
                          "Pass beta=2 to count recall twice as much as precision.")  # fmt: skip
    if class_names is not None and (isinstance(class_names, str) or len(class_names) != 2):
        raise ConfigError("class_names", "2 names", repr(class_names),
                          'Name class 0 and class 1, such as ("ham", "spam").')  # fmt: skip
    if not isinstance(absent, int | float) or not (math.isnan(absent) or 0 <= absent <= 1):
        raise ConfigError("absent", "NaN or a number from 0 to 1", repr(absent),
                          "NaN leaves the class out of averages, 0 and 1 count it so.")  # fmt: skip


def whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number from `low` to `high`, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
