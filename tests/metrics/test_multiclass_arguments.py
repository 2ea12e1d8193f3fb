"""Wrong arguments are refused at once, with rule, fact and cure, and with nothing counted."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ptmetrics import MulticlassMetrics
from ptmetrics.errors import ConfigError, DeviceError, DtypeError, PtmetricsError, ShapeError

TOPK_CURE = "Pass topk=(1, 5)."
CONFIGS: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {"num_classes": n},
        "num_classes: expected a whole number from 2 to 200000",
        f"got {n!r}",
        "last layer.",
    )
    for n in (1, 0, -3, 200001, 2.0, True, "3", None)
]
CONFIGS += [
    (
        {"inputs": i},
        "inputs: expected one of logits, probs, labels",
        f"got {i!r}",
        "it is never guessed.",
    )
    for i in ("logit", "", None, 3)
]
CONFIGS += [
    ({"topk": k}, "topk: expected whole numbers from 1 to 3", f"got {k!r}", TOPK_CURE)
    for k in ((0,), (4,), (1, -1), (1.0,), "12", 2, None, (True,), {1})
]
CONFIGS += [
    (
        {"topk": (1, 2), "inputs": "labels"},
        'topk: expected (1,) beside inputs="labels"',
        "got (1, 2)",
        "scores",
    ),
    ({"class_names": ["a"]}, "class_names: expected 3 names", "got 1", "Pass one name a class."),
    ({"class_names": []}, "class_names: expected 3 names", "got 0", "Pass one name a class."),
]
CONFIGS += [
    (
        {"ignore_index": i},
        "ignore_index: expected a whole number or None",
        f"got {i!r}",
        "such as -100.",
    )
    for i in (1.0, "0", True, torch.tensor(1))
]
CONFIGS += [
    (
        {"absent": a},
        "absent: expected NaN or a number from 0 to 1",
        f"got {a!r}",
        "leaves the class out",
    )
    for a in (-0.1, 1.5, math.inf, "zero", None)
]


@pytest.mark.parametrize(("wrong", "rule", "fact", "cure"), CONFIGS, ids=lambda v: repr(v)[:40])
def test_a_configuration_that_cannot_work_is_refused(
    wrong: dict[str, Any], rule: str, fact: str, cure: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        MulticlassMetrics(**({"num_classes": 3} | wrong))
    message = str(caught.value)
    assert message.startswith(rule)
    assert f", {fact}. " in message
    assert cure in message


@pytest.mark.parametrize(
    "names", [("a", "b", "c"), ["a", "b", "c"], np.array(["a", "b", "c"])], ids=type
)
def test_class_names_may_be_any_sequence_even_an_array(names: Any) -> None:
    metrics = MulticlassMetrics(3, class_names=names)
    assert metrics.class_names == ("a", "b", "c")
    assert metrics.describe()["class_names"] == ["a", "b", "c"]


def test_the_k_of_top_k_may_come_in_any_order() -> None:
    metrics = MulticlassMetrics(3, topk=[3, 1, 2])
    metrics.update(torch.eye(3), torch.tensor([0, 1, 0]))
    got = metrics.compute()
    assert [name for name in got if "top" in name] == ["top3_accuracy", "top2_accuracy"]


scores, labels, target = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64), torch.arange(4) % 3
one_hot = torch.nn.functional.one_hot(target)
BESIDE = r"target: expected int64 of shape \(4,\) beside preds of shape \(4, 3\)"
LABELS = r'preds: expected int64 of shape \(4,\) for inputs="labels"'
SCORES = r"preds: expected floating point of shape \(N, 3\) or \(N, 3, d1, …\)"
BATCHES: list[tuple[str, type[PtmetricsError], tuple[Any, ...], str, str, str]] = [
    ("float targets", DtypeError, (scores, target.float()), BESIDE, r"float32 of shape \(4,\)", r"target\.long\(\)"),
    ("bool targets", DtypeError, (scores, target > 0), BESIDE, r"bool of shape \(4,\)", r"target\.long\(\)"),
    ("uint8 targets", DtypeError, (scores, target.byte()), BESIDE, r"uint8 of shape \(4,\)", r"target\.long\(\)"),
    ("complex targets", DtypeError, (scores, target + 0j), "target: expected a dense", "complex64", r"target\.real"),
    ("one-hot targets", ShapeError, (scores, one_hot), BESIDE, r"int64 of shape \(4, 3\)", r"target\.argmax\(1\)"),
    ("soft targets of two classes", DtypeError, (scores, one_hot[:, :2].float()), BESIDE,
     r"float32 of shape \(4, 2\)", r"argmax\(1\)"),
    ("column targets", ShapeError, (scores, target[:, None]), BESIDE, r"int64 of shape \(4, 1\)", r"squeeze\(1\)"),
    ("short targets", ShapeError, (scores, target[:2]), BESIDE, r"int64 of shape \(2,\)", "one class index for each"),
    ("a list of targets", DtypeError, (scores, [0, 1, 2, 0]), r"target: expected a torch\.Tensor", "list", "as_tens"),
    ("a list of scores", DtypeError, ([[1.0]], target), r"preds: expected a torch\.Tensor", "list", "as_tensor"),
    ("whole scores", DtypeError, (one_hot, target), SCORES, r"int64 of shape \(4, 3\)", 'inputs="labels"'),
    ("flat scores", ShapeError, (scores[:, 0], target), SCORES, r"float32 of shape \(4,\)", "right num_classes"),
    ("too few scores", ShapeError, (scores[:, :2], target), SCORES, r"float32 of shape \(4, 2\)", "right num_classes"),
    ("complex scores", DtypeError, (scores + 0j, target), "preds: expected a dense", "complex64", r"preds\.abs\(\)"),
    ("dense scores", ShapeError, (torch.randn(4, 3, 2), target), r"target: .* \(4, 2\) beside preds of .*\(4, 3, 2\)",
     r"int64 of shape \(4,\)", "one class index"),
    ("short weights", ShapeError, (scores, target, torch.ones(3)), r"sample_weight: expected real numbers .*\(4,\)",
     r"float32 of shape \(3,\)", "one weight a target"),
    ("complex weights", PtmetricsError, (scores, target, torch.ones(4) + 0j), "sample_weight: expected a dense",
     "complex64", r"sample_weight\.real"),
    ("a list of weights", DtypeError, (scores, target, [1.0] * 4), r"sample_weight: expected a torch\.Tensor", "list",
     "as_tensor"),
    ("targets elsewhere", DeviceError, (scores, target.to("meta")), "target: expected a tensor on cpu", "meta",
     r"target\.to\('cpu'\)"),
    ("weights elsewhere", DeviceError, (scores, target, torch.ones(4, device="meta")),
     "sample_weight: expected a tensor on cpu", "meta", r"sample_weight\.to\('cpu'\)"),
]  # fmt: skip
LABEL_BATCHES: list[tuple[str, type[PtmetricsError], tuple[Any, ...], str, str, str]] = [
    ("logits", DtypeError, (scores, target), LABELS, r"float32 of shape \(4, 3\)", r"preds\.argmax\(1\)"),
    ("float labels", DtypeError, (labels.float(), target), LABELS, r"float32 of shape \(4,\)", r"preds\.long\(\)"),
    ("column labels", ShapeError, (labels[:, None], target), LABELS, r"int64 of shape \(4, 1\)", r"\.squeeze\(1\)"),
    ("soft targets", DtypeError, (labels, one_hot.float()), r"target: expected int64 of shape \(4,\)",
     r"float32 of shape \(4, 3\)", r"target\.argmax\(1\)"),
    ("one-hot targets", ShapeError, (labels, one_hot), r"target: expected int64 of shape \(4,\)",
     r"int64 of shape \(4, 3\)", r"target\.argmax\(1\)"),
    ("short targets", ShapeError, (labels, target[:2]), r"target: expected int64 of shape \(4,\) beside preds",
     r"int64 of shape \(2,\)", "one class index"),
]  # fmt: skip


def refused(
    metrics: MulticlassMetrics, error: type[Exception], batch: tuple[Any, ...], words: str
) -> None:
    metrics.update(
        torch.zeros(1, 3) if metrics.config["inputs"] == "logits" else labels[:1], target[:1]
    )
    before = repr(metrics.state_dict())
    with pytest.raises(error) as caught:
        metrics.update(*batch)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert repr(metrics.state_dict()) == before


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("error", "batch", "rule", "fact", "cure"),
    [b[1:] for b in BATCHES],
    ids=[b[0] for b in BATCHES],
)
def test_a_batch_of_the_wrong_shape_type_or_place_is_refused_at_once(
    error: type[Exception], batch: tuple[Any, ...], rule: str, fact: str, cure: str
) -> None:
    refused(MulticlassMetrics(3), error, batch, f"{rule}.*, got {fact}.*{cure}")


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("error", "batch", "rule", "fact", "cure"),
    [b[1:] for b in LABEL_BATCHES],
    ids=[b[0] for b in LABEL_BATCHES],
)
def test_predicted_classes_of_the_wrong_shape_or_type_are_refused_at_once(
    error: type[Exception], batch: tuple[Any, ...], rule: str, fact: str, cure: str
) -> None:
    refused(MulticlassMetrics(3, inputs="labels"), error, batch, f"{rule}.*, got {fact}.*{cure}")


@pytest.mark.fault(21)
def test_each_error_is_also_the_builtin_that_users_catch() -> None:
    for error, builtin in (
        (ShapeError, ValueError),
        (DtypeError, TypeError),
        (DeviceError, RuntimeError),
    ):
        assert issubclass(error, builtin)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
def test_targets_of_any_signed_integer_type_count(dtype: torch.dtype) -> None:
    metrics = MulticlassMetrics(3, ignore_index=-1)
    metrics.update(torch.eye(3), torch.tensor([0, 1, -1], dtype=dtype))
    assert metrics.compute()["accuracy"] == 1.0
    assert metrics.compute().n == 2


def faults_of(
    metrics: MulticlassMetrics, preds: Tensor, target: Tensor, weight: Tensor | None = None
) -> Any:
    metrics.update(preds[:0], target[:0])
    metrics.update(preds, target, weight)
    metrics.update(preds, target, weight)
    return metrics.compute()


@pytest.mark.fault(17)
@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_with_one_nan_is_refused_counted_and_named_by_its_step(
    inputs: Any, place: int
) -> None:
    preds = torch.eye(3)
    preds[1, place] = math.nan
    got = faults_of(MulticlassMetrics(3, inputs=inputs, topk=(2,)), preds, torch.arange(3))
    assert got.confusion.tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 2]]
    assert got.faults == {
        "nan-score": {
            "count": 2,
            "first_step": 1,
            "message": "2 × row with a NaN prediction, refused; first in update 1",
        }
    }
    assert got["nll"].n == 4
    assert "2 × row with a NaN prediction" in str(got)


@pytest.mark.fault(20)
@pytest.mark.parametrize("inputs", ["logits", "labels"])
@pytest.mark.parametrize("bad", [3, -1, -100, 2**40])
def test_a_target_outside_the_classes_is_refused_counted_and_lands_in_no_cell(
    inputs: Any, bad: int
) -> None:
    preds = torch.eye(3) if inputs == "logits" else torch.arange(3)
    got = faults_of(MulticlassMetrics(3, inputs=inputs), preds, torch.tensor([0, bad, 2]))
    assert got.confusion.tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 2]]
    assert got["accuracy"] == 1.0
    assert got.n == 4
    assert [(name, f["count"], f["first_step"]) for name, f in got.faults.items()] == [
        ("target-out-of-range", 2, 1)
    ]
    ignored = faults_of(
        MulticlassMetrics(3, inputs=inputs, ignore_index=bad), preds, torch.tensor([0, bad, 2])
    )
    assert ignored.confusion.tolist() == got.confusion.tolist()
    assert ignored.faults == {}


@pytest.mark.parametrize("bad", [3, -1, 2**40])
def test_a_predicted_label_outside_the_classes_is_refused_and_counted(bad: int) -> None:
    got = faults_of(
        MulticlassMetrics(3, inputs="labels"), torch.tensor([0, bad, 2]), torch.arange(3)
    )
    assert got.confusion.tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 2]]
    assert got.faults["prediction-out-of-range"]["message"] == (
        "2 × predicted label outside the classes, refused; first in update 1"
    )


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    ("row", "fine"),
    [([0.5, 0.5, 0.0], True), ([0.4, 0.3, 0.31], True), ([0.4, 0.3, 0.25], False), ([1.2, -0.2, 0.0], False),
     ([math.inf, 0.0, 0.0], False), ([4.0, -2.0, 1.0], False)],
)  # fmt: skip
def test_rows_that_are_no_probabilities_are_refused_and_counted(
    row: list[float], fine: bool
) -> None:
    got = faults_of(MulticlassMetrics(3, inputs="probs"), torch.tensor([row]), torch.tensor([0]))
    assert got.n == 2 * fine
    assert ("not-probabilities" in got.faults) == (not fine)
    if not fine:
        assert got.faults["not-probabilities"]["message"].endswith(
            'is it inputs="logits"?; first in update 1'
        )


@pytest.mark.fault(27)
@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_weight_is_refused_with_its_row_and_the_others_stay(bad: float) -> None:
    weight = torch.tensor([9.0, bad, 1.0])
    got = faults_of(MulticlassMetrics(3), torch.eye(3)[[0, 1, 1]], torch.arange(3), weight)
    assert got["accuracy"].value == pytest.approx(0.9, rel=1e-15)
    assert got.n == 4
    assert got.faults["bad-weight"]["count"] == 2
    assert got.faults["bad-weight"]["message"].startswith(
        "2 × sample weight that is negative, NaN or infinite"
    )


def test_an_ignored_row_is_no_fault_whatever_else_is_wrong_with_it() -> None:
    preds = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [0.0, 1.0]])
    got = faults_of(
        MulticlassMetrics(2, ignore_index=-1),
        preds,
        torch.tensor([-1, -1, 1]),
        torch.tensor([math.nan, 1, 1]),
    )
    assert got.faults == {}
    assert got.n == 2


def test_an_unknown_score_is_named_with_the_known_ones() -> None:
    got = MulticlassMetrics(2).compute()
    with pytest.raises(
        KeyError, match=r"'f2': expected one of accuracy, balanced_accuracy, .*, nll"
    ):
        got["f2"]
    assert "f2" not in got
    assert got.get("f2") is None
