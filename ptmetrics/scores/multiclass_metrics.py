"""`MulticlassMetrics`: the public face of single-label classification."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.scores import multiclass as m
from ptmetrics.scores.calibration import calibration_scores
from ptmetrics.scores.estimate import Estimate, to_host
from ptmetrics.scores.label_ranking import each_ranking, mean_ranking
from ptmetrics.scores.score import ConfusedPair, Scores
from ptmetrics.scores.tally import Tally
from ptmetrics.scores.task import TaskMetrics
from ptmetrics.statistics.class_counts import ClassCounts
from ptmetrics.statistics.class_losses import Calibration, ClassLosses, Tempered
from ptmetrics.statistics.class_rows import ClassPiece, RowStage
from ptmetrics.statistics.class_scores import ClassPasses
from ptmetrics.statistics.confused_pairs import ConfusedPairs
from ptmetrics.statistics.contract import Statistic
from ptmetrics.statistics.faults import FaultLedger
from ptmetrics.statistics.label_histogram import keys_for
from ptmetrics.statistics.multiclass import (
    KINDS,
    ClassBatch,
    ClassSpec,
    Confusion,
    Inputs,
    Judged,
    TopK,
    check_batch,
    flat,
)
from ptmetrics.statistics.one_vs_rest import OneVsRest
from ptmetrics.statistics.sample_rows import class_columns
from ptmetrics.statistics.waiting import Given

MAX_CLASSES = 4096  # whose matrix is kept: it takes 8 · C² bytes, 128 MiB
MOST_CLASSES = 200_000  # whose margins are kept, 24 bytes a class, and a sketch of the pairs of 4.6 MiB
PAIRS = 20
MANY = (
    f"More than {MAX_CLASSES} classes: no confusion matrix is kept. Intervals of F1, Jaccard index, MCC, kappa and "
    "weighted means are as wide as any matrix with these margins could make them; the most confused pairs have bounds."
)


class MulticlassMetrics(TaskMetrics):
    """Accuracy, precision, recall, F1, MCC, kappa, top-k, losses and calibration from one pass, each with an interval.

    `update(preds, target)` takes scores of shape (N, C) or (N, C, d1, …), or classes of shape (N, …) with
    `inputs="labels"`, and signed integer targets of shape (N, …). Of equal scores the lowest class wins.
    NaN rows and targets outside the classes are refused, counted and reported in `scores.faults`.

    Args:
        num_classes: C, 2 to 200,000. Above 4,096 only the margins of the confusion matrix are kept, and a sketch of
            the most confused pairs (`scores.confused`).
        inputs: What preds are: "logits", "probs" or "labels". Never guessed.
        topk: The k of top-k accuracy, which is recall at k; 1 is `accuracy` itself, and all there is for labels.
        ignore_index: A target value to leave out silently, such as −100.
        class_names: One name a class.
        beta: Adds the scores `fbeta/macro` and `fbeta/weighted`, recall `beta` times as important as precision.
        losses: Whether to report `nll`, `brier`, `ece`, `rms_calibration_error` and `over_confidence`: about half
            of the time of an update.
        curves: Whether to report `auroc/macro` and `average_precision/macro` of each class against the rest, with
            certified error bounds: up to 1,024 classes, 1 MiB a class up to 64, 64 KiB above, and several times
            the time of an update.
        temperature: Whether to report the `temperature` that would calibrate the logits: ten times the time.
        absent: Value of a class score that is undefined; NaN leaves it out of averages (scikit-learn's
            `zero_division`, 0 to 1 or NaN).
        device: Where to count.

    Raises:
        ConfigError: If an argument cannot work.
    """

    task = "multiclass"

    def __init__(
        self,
        num_classes: int,
        *,
        inputs: Inputs = "logits",
        topk: Sequence[int] = (1,),
        ignore_index: int | None = None,
        class_names: Sequence[str] | None = None,
        beta: float | None = None,
        losses: bool = True,
        curves: bool = False,
        temperature: bool = False,
        absent: float = math.nan,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(num_classes, inputs, topk)
        _check_options(num_classes, ignore_index, class_names, absent)
        _check_extras(num_classes, inputs, beta, curves=curves, temperature=temperature, losses=losses)
        self.class_names = tuple(map(str, range(num_classes) if class_names is None else class_names))
        self.absent, self.beta = float(absent), beta
        self._spec = spec = ClassSpec(num_classes, inputs, ignore_index)
        self._ks = tuple(k for k in topk if k > 1)
        self._ledger, scored = FaultLedger(KINDS[inputs]), inputs != "labels"
        self._pairs = ConfusedPairs(num_classes) if num_classes > MAX_CLASSES else None
        kept = [Confusion(num_classes)] if self._pairs is None else [ClassCounts(num_classes), self._pairs]
        statistics: list[Statistic[ClassBatch]] = [*kept, self._ledger]
        statistics += [ClassLosses(inputs), Calibration(inputs)] if losses and scored else []
        statistics += [TopK(self._ks)] if self._ks else []
        keys = keys_for(num_classes) if curves and scored else None
        self._curves = None if keys is None else OneVsRest(spec, keys)
        watchers: list[Statistic[ClassPiece]] = [] if self._curves is None else [self._curves]
        watchers += [Tempered(spec)] if temperature else []
        # Probabilities are only taken for such where they sum to 1.
        wanted = scored and (losses or temperature or inputs == "probs")
        passes = ClassPasses(num_classes, inputs == "probs", wanted, bool(self._ks)) if scored else None
        self.sample_columns = partial(class_columns, spec, losses=wanted)
        config = {
            "num_classes": num_classes, "inputs": inputs, "ignore_index": ignore_index, "topk": list(topk),
        }  # fmt: skip
        super().__init__([Judged(spec, tuple(statistics))], config, device, RowStage(passes, watchers))

    def _check(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
        check_batch(self._spec, self._counts.home, preds, target, weight)

    def _flat(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
        return flat(self._spec, preds, target, weight)

    @torch.no_grad()
    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        state, tally = self._counts.state, self._tally()
        some = m.PER_CLASS if self._pairs is None else ("precision", "recall", "support")
        each = {name: m.PER_CLASS[name](tally) for name in some}
        ranking = {} if self._curves is None else each_ranking(state, self._curves.histogram)
        named = self._named(tally) | {f"{name}/macro": mean_ranking(e) for name, e in ranking.items()}
        each |= ranking
        extra = {name: state[name] for name in ("fault_count", "fault_first_step")}
        extra |= {"matrix": tally.matrix, "n": tally.n}
        extra |= {} if self._pairs is None else {"pairs": torch.stack(self._pairs.heaviest(state, PAIRS))}
        values, extra = to_host({**named, **{f"class:{k}": e for k, e in each.items()}}, extra)
        return Scores(
            {name: values[name][0] for name in named},
            task=self.task,
            n=int(extra["n"]),
            per_class={k: values[f"class:{k}"] for k in each},
            confusion=extra["matrix"] if self._pairs is None else None,
            class_names=self.class_names,
            faults=self._ledger.read(extra["fault_count"].tolist(), extra["fault_first_step"].tolist()),
            notes=[] if self._pairs is None else [MANY],
            confused=[] if self._pairs is None else confused(extra["pairs"], self._spec.num_classes),
        )

    def _tally(self) -> Tally:
        state, size = self._counts.state, self._spec.num_classes
        if self._pairs is not None:
            count = state["class_counts"]
            weight, square = (state.get(name, count.double()) for name in ("class_weight", "class_square"))
            return Tally(count[:, :-1], weight[:, :-1], square[:, :-1], self.absent)
        count = state["confusion"][:-1].reshape(size, size)
        if not self._counts.weighted:
            return Tally.of_matrix(count, count.double(), count.double(), self.absent)
        weight, square = (state[name][:-1].reshape(size, size) for name in ("weight", "weight_square"))
        return Tally.of_matrix(count, weight, square, self.absent)

    def _named(self, t: Tally) -> dict[str, Estimate]:
        state = self._counts.state
        hits = state.get("topk_weight", state.get("topk", torch.zeros(0)))
        named = {"accuracy": m.accuracy(t)}
        named |= {f"top{k}_accuracy": m.top_k(t, hits[i]) for i, k in enumerate(self._ks)}
        named |= {name: score(t) for name, score in m.SCORES.items()}
        if self.beta is not None:
            named |= {
                "fbeta/macro": m.fbeta(t, self.beta, equal=True),
                "fbeta/weighted": m.fbeta(t, self.beta, equal=False),
            }
        return named | (calibration_scores(state) if "losses" in state else {})


def confused(pairs: Tensor, num_classes: int) -> list[ConfusedPair]:
    """Codes, lower and upper bounds, int64 of shape (3, K) on the CPU, as pairs of classes; those that are sure."""
    return [
        ConfusedPair(code // num_classes, code % num_classes, low, high)
        for code, low, high in pairs.t().tolist()
        if low > 0
    ]


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check(num_classes: int, inputs: str, topk: Sequence[int]) -> None:
    if not _whole(num_classes, 2, MOST_CLASSES):
        raise ConfigError("num_classes", f"a whole number from 2 to {MOST_CLASSES}", repr(num_classes),
                          "Pass the number of outputs of the model's last layer.")  # fmt: skip
    if inputs not in KINDS:
        raise ConfigError("inputs", f"one of {', '.join(KINDS)}", repr(inputs),
                          "Say what the model returns; it is never guessed.")  # fmt: skip
    if not isinstance(topk, Sequence) or not all(_whole(k, 1, num_classes) for k in topk):
        raise ConfigError("topk", f"whole numbers from 1 to {num_classes}", repr(topk), "Pass topk=(1, 5).")
    if inputs == "labels" and any(k > 1 for k in topk):
        raise ConfigError("topk", '(1,) beside inputs="labels"', repr(topk),
                          "Labels have no ranks: pass scores to the metric, or leave topk out.")  # fmt: skip


def _check_extras(
    num_classes: int, inputs: str, beta: float | None, *, curves: bool, temperature: bool, losses: bool
) -> None:
    if beta is not None and not (isinstance(beta, int | float) and 0 < beta < math.inf):
        raise ConfigError("beta", "a number above 0, or None", repr(beta),
                          "Pass beta=2 to count recall twice as much as precision.")  # fmt: skip
    if curves and (inputs == "labels" or keys_for(num_classes) is None):
        raise ConfigError("curves", "False for labels, and above 1,024 classes",
                          f"True for {num_classes} classes of {inputs}",
                          "Leave it out, or look at fewer classes.")  # fmt: skip
    if temperature and not (losses and inputs == "logits"):
        raise ConfigError("temperature", 'False, or inputs="logits" and losses=True',
                          f'True beside inputs="{inputs}" and losses={losses}',
                          "A temperature divides logits: pass those, with losses.")  # fmt: skip


def _check_options(
    num_classes: int, ignore_index: int | None, class_names: Sequence[str] | None, absent: float
) -> None:
    if ignore_index is not None and not _whole(ignore_index, -(2**63), 2**63 - 1):
        raise ConfigError("ignore_index", "a whole number or None", repr(ignore_index),
                          "Pass the target value to leave out, such as -100.")  # fmt: skip
    if class_names is not None and len(class_names) != num_classes:
        raise ConfigError(
            "class_names", f"{num_classes} names", f"{len(class_names)}", "Pass one name a class."
        )
    if not isinstance(absent, int | float) or not (math.isnan(absent) or 0 <= absent <= 1):
        raise ConfigError("absent", "NaN or a number from 0 to 1", repr(absent),
                          "NaN leaves the class out of averages, 0 and 1 count it so.")  # fmt: skip
