"""What `BinaryMetrics` refuses: rule, fact and cure of every message, and faults that are counted instead."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from ptmetrics import BinaryMetrics, RegressionMetrics
from ptmetrics.errors import ConfigError, DeviceError, DtypeError, PtmetricsError, ShapeError


def said(error: type[PtmetricsError], *words: str) -> Any:
    return pytest.raises(error, match=".*".join(map(re.escape, words)))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"inputs": "scores"}, ("inputs: expected one of logits, probs, labels, got 'scores'.", "never guessed")),
        ({"threshold": 1.5}, ("threshold: expected a probability from 0 to 1, got 1.5.", "threshold=0.5 is logit 0")),
        ({"threshold": "0.5"}, ("threshold: expected a probability", "got '0.5'.")),
        ({"threshold": math.nan}, ("threshold: expected a probability", "got nan.")),
        ({"curves": "fp32"}, ("curves: expected one of fp16, fine, exact", "or None, got 'fp32'.", "2 MiB")),
        ({"curves": 2}, ("curves: expected one of", "got 2.")),
        ({"at": ["recall@auroc>=0.9"]}, ("at: expected", "got 'recall@auroc>=0.9'.", "Pass at=")),
        ({"at": "eer"}, ("at: expected a list of different names, got 'eer'.",)),
        ({"at": ["eer"], "curves": None}, ("at: expected no names where no scores are kept",)),
        ({"capacity": 0}, ("capacity: expected a whole number from 1 to 536870912, got 0.", "validation samples")),
        ({"capacity": 1e6}, ("capacity: expected a whole number", "got 1000000.0.")),
        ({"ignore_index": 0.5}, ("ignore_index: expected a whole number or None, got 0.5.", "such as -100")),
        ({"beta": 0}, ("beta: expected a number above 0, or None, got 0.", "Pass beta=2")),
        ({"beta": math.inf}, ("beta: expected", "got inf.")),
        ({"class_names": ["a"]}, ("class_names: expected 2 names, got 1.", "Pass one name a class.")),
        ({"class_names": "ab"}, ("class_names: expected 2 names, got 'ab'.",)),
        ({"absent": 2}, ("absent: expected NaN or a number from 0 to 1, got 2.", "NaN leaves the class out")),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(
    config: dict[str, Any], words: tuple[str, ...]
) -> None:
    with said(ConfigError, *words):
        BinaryMetrics(**config)


def ints(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("error", "preds", "target", "words"),
    [
        (DtypeError, torch.zeros(4), torch.zeros(4),
         ("target: expected int64 of shape (4,) beside preds of shape (4,), got float32", "target.long()")),
        (DtypeError, torch.zeros(4), ints(4).bool(), ("target: expected int64", "got bool", "target.long()")),
        (DtypeError, torch.zeros(4), ints(4).to(torch.uint8), ("got uint8 of shape (4,)", "target.long()")),
        (DtypeError, torch.zeros(4), torch.zeros(4, 1),
         ("expected int64 of shape (4,)", "got float32 of shape (4, 1)", "squeeze(1).long()")),
        (ShapeError, torch.zeros(4), ints(4, 1),
         ("target: expected int64 of shape (4,)", "got int64 of shape (4, 1)", "target.squeeze(1).long()")),
        (ShapeError, torch.zeros(4), ints(5), ("target: expected int64 of shape (4,)", "of shape (5,)")),
        (ShapeError, torch.zeros(4, 2), ints(4, 2),
         ("target: expected int64 of shape (4,)", "got int64 of shape (4, 2)", "one-hot: pass target.argmax(1)")),
        (ShapeError, torch.zeros(4, 3), ints(4),
         ("preds: expected floating point of the target's shape, or with 1 or 2 columns in dimension 1",
          "got float32 of shape (4, 3) beside target of shape (4,)", "MulticlassMetrics")),
        (DtypeError, ints(4), ints(4), ("preds: expected floating point", "got int64", 'inputs="labels"')),
        (DtypeError, [0.5], ints(1), ("preds: expected a torch.Tensor, got list",)),
        (DtypeError, torch.zeros(1), [1], ("target: expected a torch.Tensor, got list",)),
        (DeviceError, torch.zeros(4), ints(4).to("meta"), ("target: expected a tensor on cpu", "got meta")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_once_and_nothing_is_counted(
    error: type[PtmetricsError], preds: Any, target: Any, words: tuple[str, ...]
) -> None:
    metrics = BinaryMetrics()
    with said(error, *words):
        metrics.update(preds, target)
    assert metrics.updates == 0


@pytest.mark.fault(21)
def test_labels_must_be_integers_of_the_target_s_shape() -> None:
    metrics = BinaryMetrics(inputs="labels")
    with said(
        DtypeError,
        'preds: expected int64 of shape (3,) for inputs="labels", got float32',
        "preds.long()",
    ):
        metrics.update(torch.zeros(3), ints(3))
    with said(ShapeError, "target: expected int64 of shape (3,)", "got int64 of shape (2,)"):
        metrics.update(ints(3), ints(2))


@pytest.mark.fault(27)
def test_weights_must_be_of_the_target_s_shape_and_device() -> None:
    metrics = BinaryMetrics()
    with said(
        ShapeError,
        "sample_weight: expected real numbers",
        "(4,)",
        "got float32 of shape (3,)",
        "one weight a target",
    ):
        metrics.update(torch.zeros(4), ints(4), torch.ones(3))
    with said(DeviceError, "sample_weight: expected a tensor on cpu", "got meta"):
        metrics.update(torch.zeros(4), ints(4), torch.ones(4, device="meta"))
    with said(DtypeError, "sample_weight: expected a torch.Tensor", "got list"):
        metrics.update(torch.zeros(4), ints(4), [1.0] * 4)  # type: ignore[arg-type]


@pytest.mark.fault(20)
def test_targets_outside_0_and_1_are_refused_counted_and_named() -> None:
    metrics = BinaryMetrics(ignore_index=-100)
    metrics.update(torch.zeros(3), torch.tensor([1, 0, -100]))
    metrics.update(torch.zeros(5), torch.tensor([2, -1, 2**40, -(2**63), 1]))
    got = metrics.compute()
    assert got.n == 3
    assert got.faults == {
        "target-out-of-range": {
            "count": 4,
            "first_step": 1,
            "message": "4 × target outside the classes, refused; first in update 1",
        }
    }


@pytest.mark.fault(17)
def test_every_kind_of_bad_row_has_its_own_count() -> None:
    nan = math.nan
    logits, probs, labels = (
        BinaryMetrics(),
        BinaryMetrics(inputs="probs"),
        BinaryMetrics(inputs="labels"),
    )
    logits.update(
        torch.tensor([nan, 1.0, nan, 2.0]),
        torch.tensor([0, 1, 7, 7]),
        torch.tensor([1.0, -1.0, 1.0, 1.0]),
    )
    probs.update(torch.tensor([nan, -0.1, 1.1, 0.0, -0.0, 1.0]), torch.tensor([0, 1, 0, 0, 0, 1]))
    labels.update(torch.tensor([2, -1, 0, 1]), torch.tensor([0, 1, 0, 0]))
    counts = [
        {k: f["count"] for k, f in m.compute().faults.items()} for m in (logits, probs, labels)
    ]
    assert counts == [
        {"target-out-of-range": 1, "bad-weight": 1, "nan-score": 2},
        {"nan-score": 1, "not-probabilities": 2},
        {"prediction-out-of-range": 2},
    ]
    assert [m.compute().n for m in (logits, probs, labels)] == [0, 3, 2]
    assert 'is it inputs="logits"?' in str(probs.compute().faults["not-probabilities"]["message"])


def test_two_probabilities_must_sum_to_one() -> None:
    metrics = BinaryMetrics(inputs="probs")
    metrics.update(
        torch.tensor([[0.5, 0.495], [0.5, 0.6], [math.nan, 0.5], [1.5, -0.5]]),
        torch.tensor([1, 1, 1, 1]),
    )
    got = metrics.compute()
    assert got.n == 1
    assert {k: f["count"] for k, f in got.faults.items()} == {
        "nan-score": 1,
        "not-probabilities": 2,
    }
    metrics.reset()
    metrics.update(torch.tensor([[0.5, 0.5], [0.5, 0.6]]), torch.tensor([1, 1]))
    assert metrics.compute().faults["not-probabilities"]["count"] == 1


def test_a_metric_that_keeps_no_scores_says_so_when_a_curve_is_asked_for() -> None:
    words = (
        "curves: expected a metric that keeps scores, got binary counts without them.",
        'curves="fp16"',
    )
    for scores in (BinaryMetrics(inputs="labels").compute(), BinaryMetrics(curves=None).compute()):
        for draw in (scores.roc_curve, scores.pr_curve, scores.thresholds):
            with said(ConfigError, *words):
                draw()
    with said(ConfigError, "got regression counts without them"):
        RegressionMetrics().compute().roc_curve()


def test_the_configuration_is_plain_and_named() -> None:
    described = BinaryMetrics(threshold=0.3, class_names=("no", "yes")).describe()
    assert described == {
        "task": "binary",
        "num_classes": 2,
        "inputs": "logits",
        "threshold": 0.3,
        "ignore_index": None,
        "losses": True,
        "curves": "fp16",
        "class_names": ["no", "yes"],
    }
