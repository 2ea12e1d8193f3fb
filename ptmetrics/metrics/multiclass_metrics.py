"""`MulticlassMetrics`: the public face of single-label classification."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.class_counts import ClassCounts
from ptmetrics.counts.class_losses import Calibration, ClassLosses, Tempered
from ptmetrics.counts.class_parts import class_parts
from ptmetrics.counts.class_rows import ClassPiece, RowStage
from ptmetrics.counts.class_scores import ClassPasses
from ptmetrics.counts.confused_pairs import ConfusedPairs
from ptmetrics.counts.contract import Fed, Statistic
from ptmetrics.counts.faults import FaultLedger
from ptmetrics.counts.label_histogram import keys_for
from ptmetrics.counts.multiclass import (
    KINDS,
    ClassBatch,
    ClassSpec,
    Confusion,
    Inputs,
    TopK,
    check_batch,
    flat,
    judged,
)
from ptmetrics.counts.one_vs_rest import OneVsRest
from ptmetrics.counts.sample_rows import class_columns
from ptmetrics.counts.waiting import Given
from ptmetrics.metrics import multiclass as m
from ptmetrics.metrics.calibration import calibration_scores
from ptmetrics.metrics.class_parts import ClassTables
from ptmetrics.metrics.estimate import Estimate, to_host
from ptmetrics.metrics.label_ranking import each_ranking, mean_ranking
from ptmetrics.metrics.multiclass_options import check_counting, check_extras, check_options
from ptmetrics.metrics.parts import Parts, part_estimates, settle
from ptmetrics.metrics.score import ConfusedPair, Scores
from ptmetrics.metrics.tally import Tally
from ptmetrics.metrics.task import TaskMetrics

MAX_CLASSES = 4096  # whose matrix is kept: it takes 8 · C² bytes, 128 MiB
MOST_CLASSES = (
    200_000  # whose margins are kept, 24 bytes a class, and a sketch of the pairs of 4.6 MiB
)
PAIRS = 20
HEADLINE = "accuracy"
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
        slices: Parts of the data to score by themselves, such as hospitals or cameras: their names, or how many;
            `update(…, slices=ids)` takes the slice of each row. See `scores.per_slice`.
        groups: Whether rows come in groups, such as the frames of a patient: `update(…, group=ids)` takes the group of
            each row, and intervals allow for what rows of a group have in common.
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
        slices: Sequence[str] | int = (),
        groups: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        check_counting(num_classes, inputs, topk, MOST_CLASSES)
        check_options(num_classes, ignore_index, class_names, absent)
        check_extras(
            num_classes, inputs, beta, curves=curves, temperature=temperature, losses=losses
        )
        self.class_names = tuple(
            map(str, range(num_classes) if class_names is None else class_names)
        )
        self.absent, self.beta, self._ks = float(absent), beta, tuple(k for k in topk if k > 1)
        self._parts = parts = Parts.of(slices, groups, 3 * (num_classes + 1))
        self._spec = spec = ClassSpec(num_classes, inputs, ignore_index, parts.rows)
        self._ledger, scored = FaultLedger(KINDS[inputs]), inputs != "labels"
        self._pairs = ConfusedPairs(num_classes) if num_classes > MAX_CLASSES else None
        kept = (
            [Confusion(num_classes)]
            if self._pairs is None
            else [ClassCounts(num_classes), self._pairs]
        )
        statistics: list[Statistic[ClassBatch]] = [*kept, self._ledger]
        statistics += [ClassLosses(inputs), Calibration(inputs)] if losses and scored else []
        statistics += [
            *([TopK(self._ks)] if self._ks else []),
            *class_parts(parts.rows, num_classes),
        ]
        keys = keys_for(num_classes) if curves and scored else None
        self._curves = None if keys is None else OneVsRest(spec, keys)
        watchers: list[Statistic[ClassPiece]] = [] if self._curves is None else [self._curves]
        watchers += [Tempered(spec)] if temperature else []
        passes = (
            _passes(spec, losses=losses or temperature, ranks=bool(self._ks)) if scored else None
        )
        self.sample_columns = partial(
            class_columns, spec, losses=passes is not None and passes.losses
        )
        config: dict[str, Any] = {
            "num_classes": num_classes,
            "inputs": inputs,
            "ignore_index": ignore_index,
        }
        config |= {"topk": list(topk), **parts.config}
        fed = Fed(partial(judged, spec), tuple(statistics))
        super().__init__([fed], config, device, RowStage(passes, watchers))

    def _check(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
        check_batch(self._spec, self._counts.home, preds, target, weight)

    def _flat(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
        return flat(self._spec, preds, target, weight)

    @torch.no_grad()
    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        state, tally = self._counts.state, self._tally()
        counted = self._counted(tally)
        ranking = {} if self._curves is None else each_ranking(state, self._curves.histogram)
        named = self._named(tally, counted) | {
            f"{k}/macro": mean_ranking(e) for k, e in ranking.items()
        }
        each = {k: e for k, e in counted.items() if ":" in k} | {
            f"class:{k}": e for k, e in ranking.items()
        }
        tables = ClassTables(state, self.absent).parting(self._counted)
        parts, extra = part_estimates(self._parts, tables, counted, state)
        extra |= {name: state[name] for name in ("fault_count", "fault_first_step")}
        extra |= {"matrix": tally.matrix, "n": tally.n}
        extra |= (
            {}
            if self._pairs is None
            else {"pairs": torch.stack(self._pairs.heaviest(state, PAIRS))}
        )
        values, extra = to_host({**named, **each, **parts}, extra)
        told = settle(self._parts, values, extra, HEADLINE)
        faults = self._ledger.read(
            extra["fault_count"].tolist(), extra["fault_first_step"].tolist()
        )
        return Scores(
            {name: values[name][0] for name in named},
            task=self.task,
            n=int(extra["n"]),
            per_class={name.removeprefix("class:"): values[name] for name in each},
            confusion=extra["matrix"] if self._pairs is None else None,
            class_names=self.class_names,
            faults=faults | told.faults,
            notes=[*([] if self._pairs is None else [MANY]), *told.notes],
            confused=[]
            if self._pairs is None
            else confused(extra["pairs"], self._spec.num_classes),
            per_slice=told.per_slice,
            headline=HEADLINE,
        )

    def _tally(self) -> Tally:
        state, size = self._counts.state, self._spec.num_classes
        if self._pairs is not None:
            count = state["class_counts"]
            weight, square = (
                state.get(name, count.double()) for name in ("class_weight", "class_square")
            )
            return Tally(count[:, :-1], weight[:, :-1], square[:, :-1], self.absent)
        count = state["confusion"][:-1].reshape(size, size)
        if not self._counts.weighted:
            return Tally.of_matrix(count, count.double(), count.double(), self.absent)
        weight, square = (
            state[name][:-1].reshape(size, size) for name in ("weight", "weight_square")
        )
        return Tally.of_matrix(count, weight, square, self.absent)

    def _counted(self, t: Tally) -> dict[str, Estimate]:
        """What margins tell: named scores, and as "class:NAME" those of each class."""
        once = {
            score: score(t) for score in dict.fromkeys(m.SCORES.values())
        }  # some have several names
        named = {name: once[score] for name, score in m.SCORES.items()}
        if self.beta is not None:
            named |= {
                f"fbeta/{k}": m.fbeta(t, self.beta, equal=k == "macro")
                for k in ("macro", "weighted")
            }
        some = m.PER_CLASS if self._pairs is None else ("precision", "recall", "support")
        return named | {f"class:{name}": m.PER_CLASS[name](t) for name in some}

    def _named(self, t: Tally, counted: Mapping[str, Estimate]) -> dict[str, Estimate]:
        state = self._counts.state
        hits = state.get("topk_weight", state.get("topk", torch.zeros(0)))
        named = {"accuracy": counted["accuracy"]}
        named |= {f"top{k}_accuracy": m.top_k(t, hits[i]) for i, k in enumerate(self._ks)}
        named |= {name: e for name, e in counted.items() if ":" not in name}
        return named | (calibration_scores(state) if "losses" in state else {})


def _passes(spec: ClassSpec, *, losses: bool, ranks: bool) -> ClassPasses:
    """Probabilities are only taken for such where they sum to 1, which is seen on the way to the losses."""
    probs = spec.inputs == "probs"
    return ClassPasses(spec.num_classes, probs, losses or probs, ranks)


def confused(pairs: Tensor, num_classes: int) -> list[ConfusedPair]:
    """Codes, lower and upper bounds, int64 of shape (3, K) on the CPU, as pairs of classes; those that are sure."""
    return [
        ConfusedPair(code // num_classes, code % num_classes, low, high)
        for code, low, high in pairs.t().tolist()
        if low > 0
    ]
