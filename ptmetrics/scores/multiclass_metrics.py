"""`MulticlassMetrics`: the public face of single-label classification."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.scores import multiclass as m
from ptmetrics.scores.estimate import Estimate, to_host
from ptmetrics.scores.score import Scores
from ptmetrics.scores.task import TaskMetrics
from ptmetrics.statistics.accumulator import Statistic
from ptmetrics.statistics.faults import FaultLedger
from ptmetrics.statistics.multiclass import (
    KINDS,
    ClassBatch,
    ClassSpec,
    Confusion,
    Inputs,
    Likelihood,
    TopK,
    read_batch,
)

MAX_CLASSES = 4096  # the matrix takes 8 · C² bytes: 128 MiB


class MulticlassMetrics(TaskMetrics[ClassBatch]):
    """Accuracy, precision, recall, F1, MCC, kappa, top-k and NLL from one pass, with an interval on each.

    `update(preds, target)` takes scores of shape (N, C) or (N, C, d1, …), or classes of shape (N, …) with
    `inputs="labels"`, and signed integer targets of shape (N, …). Of equal scores the lowest class wins.
    NaN rows and targets outside the classes are refused, counted and reported in `scores.faults`.

    Args:
        num_classes: C, 2 to 4096.
        inputs: What preds are: "logits", "probs" or "labels". Never guessed.
        topk: The k of top-k accuracy; 1 is `accuracy` itself, and all there is for labels.
        ignore_index: A target value to leave out silently, such as −100.
        class_names: One name a class.
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
        absent: float = math.nan,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(num_classes, inputs, topk)
        _check_options(num_classes, ignore_index, class_names, absent)
        self.class_names = tuple(map(str, range(num_classes) if class_names is None else class_names))
        self.absent = float(absent)
        self._spec = ClassSpec(num_classes, inputs, ignore_index)
        self._ks = tuple(k for k in topk if k > 1)
        self._ledger = FaultLedger(KINDS[inputs])
        statistics: list[Statistic[ClassBatch]] = [Confusion(num_classes), self._ledger]
        if inputs != "labels":
            statistics.append(Likelihood(inputs))
            statistics += [TopK(self._ks)] if self._ks else []
        config = {
            "num_classes": num_classes,
            "inputs": inputs,
            "ignore_index": ignore_index,
            "topk": list(topk),
        }
        super().__init__(statistics, config, device)

    def _read(self, preds: Tensor, target: Tensor, weight: Tensor | None) -> ClassBatch:
        home = self._counts.state["confusion"]
        return read_batch(self._spec, home, preds, target, weight=weight, step=self._counts.updates)

    @torch.no_grad()
    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        tally = self._tally()
        named = self._named(tally)
        state = self._counts.state
        extra = {name: state[name] for name in ("fault_count", "fault_first_step")} | {"matrix": tally.count}
        per_class = {
            "precision": m.class_precision(tally),
            "recall": m.class_recall(tally),
            "f1": m.class_f1(tally),
            "support": m.class_support(tally),
        }
        values, extra = to_host({**named, **{f"class:{k}": e for k, e in per_class.items()}}, extra)
        matrix = extra["matrix"]
        return Scores(
            {name: values[name][0] for name in named},
            task=self.task,
            n=int(matrix.sum()),
            per_class={k: values[f"class:{k}"] for k in per_class},
            confusion=matrix,
            class_names=self.class_names,
            faults=self._ledger.read(extra["fault_count"].tolist(), extra["fault_first_step"].tolist()),
        )

    def _tally(self) -> m.Tally:
        state, size = self._counts.state, self._spec.num_classes
        count = state["confusion"][:-1].reshape(size, size)
        if not self._counts.weighted:
            return m.Tally(count, count.double(), count.double(), self.absent)
        weight, square = (state[name][:-1].reshape(size, size) for name in ("weight", "weight_square"))
        return m.Tally(count, weight, square, self.absent)

    def _named(self, t: m.Tally) -> dict[str, Estimate]:
        accuracy, state = m.accuracy(t), self._counts.state
        hits = state.get("topk_weight", state.get("topk", torch.zeros(0)))
        named = {"accuracy": accuracy}
        named |= {f"top{k}_accuracy": m.top_k(t, hits[i]) for i, k in enumerate(self._ks)}
        # With one label a row every micro average is the accuracy, and so is the weighted recall.
        named |= {
            "balanced_accuracy": m.balanced_accuracy(t),
            "precision/macro": m.precision_macro(t),
            "precision/micro": accuracy,
            "precision/weighted": m.precision_weighted(t),
            "recall/macro": m.recall_macro(t),
            "recall/micro": accuracy,
            "recall/weighted": accuracy,
            "f1/macro": m.f1_macro(t),
            "f1/micro": accuracy,
            "f1/weighted": m.f1_weighted(t),
            "mcc": m.mcc(t),
            "kappa": m.kappa(t),
        }
        if "nll" in state:
            named["nll"] = m.mean_loss(state["nll"])
        return named


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check(num_classes: int, inputs: str, topk: Sequence[int]) -> None:
    if not _whole(num_classes, 2, MAX_CLASSES):
        raise ConfigError("num_classes", f"a whole number from 2 to {MAX_CLASSES}", repr(num_classes),
                          "Pass the number of outputs of the model's last layer.")  # fmt: skip
    if inputs not in KINDS:
        raise ConfigError("inputs", f"one of {', '.join(KINDS)}", repr(inputs),
                          "Say what the model returns; it is never guessed.")  # fmt: skip
    if not isinstance(topk, Sequence) or not all(_whole(k, 1, num_classes) for k in topk):
        raise ConfigError("topk", f"whole numbers from 1 to {num_classes}", repr(topk), "Pass topk=(1, 5).")
    if inputs == "labels" and any(k > 1 for k in topk):
        raise ConfigError("topk", '(1,) beside inputs="labels"', repr(topk),
                          "Labels have no ranks: pass scores to the metric, or leave topk out.")  # fmt: skip


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
