"""How a batch of labels is read: what is refused at once, and what is left out on the device."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from ptmetrics.errors import ConfigError, DeviceError, DtypeError, PtmetricsError, ShapeError
from ptmetrics.metrics.multilabel import MultilabelMetrics


def said(error: type[PtmetricsError], *words: str) -> Any:
    return pytest.raises(error, match=".*".join(map(re.escape, words)))


def labels(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("error", "preds", "target", "words"),
    [
        (ShapeError, torch.zeros(4), labels(4), ("(N, 3, d1, …), or labels last, got (4,).", "num_")),
        (ShapeError, torch.zeros(4, 2), labels(4, 2), ("preds: expected shape (N, 3)", "got (4, 2).")),
        (ShapeError, torch.zeros(4, 3), labels(4), ("target: expected int64 of shape (4, 3)", "of shape (4,)")),
        (ShapeError, torch.zeros(4, 3, 5), labels(4, 5, 3), ("shape (4, 3, 5)", "got int64 of shape (4, 5, 3)")),
        (DtypeError, torch.zeros(4, 3), torch.zeros(4, 3), ("target: expected int64", "got float32", "target.long()")),
        (DtypeError, torch.zeros(4, 3), labels(4, 3).bool(), ("target: expected int64", "got bool", "target.long()")),
        (DtypeError, torch.zeros(4, 3), labels(4, 3).to(torch.uint8), ("got uint8", "target.long()")),
        (DtypeError, labels(4, 3), labels(4, 3), ("preds: expected floating point", "got int64", 'inputs="labels"')),
        (DtypeError, [[0.0] * 3], labels(1, 3), ("preds: expected a torch.Tensor, got list.",)),
        (DtypeError, torch.zeros(1, 3), [[0] * 3], ("target: expected a torch.Tensor, got list.",)),
        (DeviceError, torch.zeros(4, 3), labels(4, 3).to("meta"), ("target: expected a tensor on cpu", "got meta")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_once_and_nothing_is_counted(
    error: type[PtmetricsError], preds: Any, target: Any, words: tuple[str, ...]
) -> None:
    metrics = MultilabelMetrics(3)
    with said(error, *words):
        metrics.update(preds, target)
    assert metrics.updates == 0
    assert metrics.compute().n == 0


def test_labels_as_predictions_are_whole_numbers() -> None:
    with said(
        DtypeError, "preds: expected int64", 'for inputs="labels"', "got float32", "preds.long()"
    ):
        MultilabelMetrics(3, inputs="labels").update(torch.zeros(4, 3), labels(4, 3))


@pytest.mark.parametrize("weight", [torch.ones(4, 3), torch.ones(3)])
def test_weights_are_one_a_row_and_not_one_a_label(weight: Tensor) -> None:
    metrics = MultilabelMetrics(3)
    with said(
        ShapeError,
        "sample_weight: expected real numbers one a row, of shape (4,)",
        str(tuple(weight.shape)),
    ):
        metrics.update(torch.zeros(4, 3), labels(4, 3), weight)
    assert metrics.updates == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"num_labels": 0},
            ("num_labels: expected a whole number from 1 to 1000000, got 0.", "last layer"),
        ),
        ({"num_labels": True}, ("num_labels: expected", "got True")),
        (
            {"inputs": "scores"},
            ("inputs: expected one of logits, probs, labels, got 'scores'.", "never guessed"),
        ),
        (
            {"threshold": 0.0},
            ("threshold: expected a probability between 0 and 1, got 0.0.", "Pass threshold=0.5"),
        ),
        ({"threshold": "half"}, ("threshold: expected a probability", "half")),
        ({"label_names": ["a"]}, ("label_names: expected 3 names, got 1. Pass one name a label.",)),
        (
            {"ignore_index": 0.5},
            ("ignore_index: expected a whole number or None, got 0.5.", "such as -1"),
        ),
        ({"curves": "fp32"}, ("curves: expected one of fp16, fine, exact", "got 'fp32'.")),
        (
            {"absent": 2},
            ("absent: expected NaN or a number from 0 to 1, got 2.", "leaves the class out"),
        ),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(
    config: dict[str, Any], words: tuple[str, ...]
) -> None:
    with said(ConfigError, *words):
        MultilabelMetrics(**({"num_labels": 3} | config))


@pytest.mark.fault(19)
@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("inputs", "preds", "faults"),
    [
        ("logits", [float("nan"), float("inf"), float("-inf")], {"nan-score": 1}),
        ("probs", [float("nan"), 1.01, -0.01], {"not-probabilities": 3}),
        ("labels", [2, -1, 1], {"prediction-out-of-range": 2}),
    ],
)
def test_a_bad_value_is_left_out_for_its_label_and_counted(
    inputs: Any, preds: list[float], faults: dict[str, int]
) -> None:
    metrics = MultilabelMetrics(4, inputs=inputs)
    good = torch.tensor([[1, 1, 0, 1]])
    metrics.update({"logits": 2.0 * good - 1, "probs": 1.0 * good, "labels": good}[inputs], good)
    metrics.update(torch.tensor([[*preds, preds[-1]]]), torch.tensor([[1, 1, 1, 2]]))
    got = metrics.compute()
    assert {name: fault["count"] for name, fault in got.faults.items()} == faults | {
        "target-out-of-range": 1
    }
    assert all(fault["first_step"] == 1 for fault in got.faults.values())
    assert "left out for its label; first in update 1" in str(got).replace(
        '; is it inputs="logits"?', ""
    )
    wrong = 1 if inputs == "logits" else 0  # −inf is a sure no
    assert got["hamming_loss"].value == pytest.approx(wrong / (4 + 3 - sum(faults.values())))


@pytest.mark.fault(27)
def test_a_row_with_an_impossible_weight_is_refused_once() -> None:
    metrics = MultilabelMetrics(2, inputs="labels", ignore_index=-1)
    target = torch.tensor([[1, 0], [1, 0], [1, 0], [-1, -1]])
    weight = torch.tensor([1.0, float("nan"), -1.0, float("inf")])
    metrics.update(target.clamp(min=0), target, weight)
    got = metrics.compute()
    assert got.n == 1
    assert got.faults["bad-weight"]["count"] == 2
    assert got["exact_match"].value == 1.0


@pytest.mark.fault(13)
@pytest.mark.parametrize("big", [2**24, 2**31, 2**53])
def test_counts_never_stick(big: int) -> None:
    metrics = MultilabelMetrics(2, inputs="labels")
    metrics.update(torch.tensor([[1, 0]]), torch.tensor([[1, 1]]))
    metrics.shared_state()["labels"].mul_(big)
    metrics.update(torch.tensor([[1, 0]]), torch.tensor([[1, 1]]))
    got = metrics.compute()
    assert got.per_class["recall"][0].n == big + 1
    one = big + 1
    assert metrics.state_dict()["cells"]["labels"].tolist() == [
        [one, 0],
        [one, one],
        [one, 0],
        [0, 0],
    ]


def test_the_state_is_small_and_depends_on_the_labels_alone() -> None:
    assert MultilabelMetrics(1000, curves=False).state_bytes < 40_000
