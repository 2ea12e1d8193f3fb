"""`print(scores)` begins with scikit-learn's classification report, digit for digit."""

import json
import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import LAW
from sklearn.metrics import classification_report as sklearn_report

from ptmetrics import MulticlassMetrics, Scores, classification_report, functional
from ptmetrics.errors import ConfigError

names = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1, max_size=30
)


def report_of(target: np.ndarray, preds: np.ndarray, names: list[str], **options: Any) -> str:
    """Of the classes that occur, which have these names."""
    there = sorted({*target.tolist(), *preds.tolist()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = sklearn_report(target, preds, target_names=[names[k] for k in there], **options)
    return str(text)


@given(
    st.integers(0, 2**32),
    st.integers(1, 80),
    st.lists(names, min_size=2, max_size=7, unique=True),
    st.booleans(),
)
@settings(LAW, max_examples=25)
def test_print_begins_with_the_report_of_scikit_learn(
    seed: int, rows: int, labels: list[str], one_class: bool
) -> None:
    rng = np.random.default_rng(seed)
    target, preds = rng.integers(0, len(labels), rows), rng.integers(0, len(labels), rows)
    target[: None if one_class else 1] = preds[
        0
    ]  # without one hit scikit-learn prints the support as floats
    metrics = MulticlassMetrics(len(labels), inputs="labels", class_names=labels)
    metrics.update(torch.tensor(preds), torch.tensor(target))
    report = report_of(target, preds, labels)
    assert classification_report(metrics.compute()) == report
    if len({*target.tolist(), *preds.tolist()}) == len(labels):
        assert str(metrics.compute()).startswith(report)


@given(
    st.integers(0, 2**32),
    st.integers(1, 20),
    st.one_of(st.none(), st.lists(st.integers(0, 4), min_size=1, unique=True)),
    st.integers(0, 9),
)
@settings(LAW, max_examples=40)
def test_weights_digits_and_labels_are_printed_as_scikit_learn_prints_them(
    seed: int, rows: int, labels: list[int] | None, digits: int
) -> None:
    rng = np.random.default_rng(seed)
    target, preds = rng.integers(0, 5, rows), rng.integers(0, 5, rows)
    target[0] = preds[0]
    weight = rng.integers(2, 9, rows) / rng.choice([1.0, 2.0, 4.0])
    weight[0] = 1.25
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sklearn_report(target, preds, labels=labels, sample_weight=weight, digits=digits)
    got = classification_report(
        torch.tensor(preds), torch.tensor(target), sample_weight=torch.tensor(weight), digits=digits,
        num_classes=5, inputs="labels", labels=labels,
    )  # fmt: skip
    assert got == expected


def test_a_class_that_was_never_predicted_counts_as_0_in_the_macro_average() -> None:
    scores = functional.multiclass(
        torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2]), 4, inputs="labels"
    )
    assert scores["precision/macro"] == 0.5
    precision = scores.per_class["precision"]
    assert (precision[2].value, precision[2].low, precision[2].high) == (0.0, 0.0, 1.0)
    assert math.isnan(precision[3])
    one = functional.multiclass(
        torch.ones(100, dtype=torch.int64), torch.arange(100) % 10, 10, inputs="labels"
    )
    assert one["precision/macro"].value == pytest.approx(0.01)
    assert one["precision/macro"].high > 0.9  # nothing is known of nine classes
    assert one["precision/weighted"].high > 0.9


def dictionary_of(target: np.ndarray, preds: np.ndarray, **options: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(sklearn_report(target, preds, output_dict=True, **options))


def assert_same_dictionary(got: Any, expected: dict[str, Any]) -> None:
    assert list(got) == list(expected)
    for name, row in expected.items():
        assert got[name] == pytest.approx(row, rel=1e-12, nan_ok=True)
        values = got[name].values() if isinstance(row, dict) else [got[name]]
        assert {type(value) for value in values} == {float}


@given(st.integers(0, 2**32), st.integers(1, 80))
@settings(LAW, max_examples=15)
def test_the_dictionary_is_that_of_scikit_learn(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    target, preds, weight = (
        rng.integers(0, 5, rows),
        rng.integers(0, 5, rows),
        rng.random(rows) + 0.1,
    )
    names = ["a", "b", "c", "d", "e"]
    options = {
        "sample_weight": weight,
        "target_names": names,
        "labels": range(5),
    }
    got = classification_report(
        torch.tensor(preds), torch.tensor(target), sample_weight=torch.tensor(weight), output_dict=True,
        num_classes=5, inputs="labels", labels=range(5), class_names=names,
    )  # fmt: skip
    assert_same_dictionary(got, dictionary_of(target, preds, **options))


@pytest.mark.parametrize("labels", [0, 3])
def test_yes_or_no_and_labels_are_reported_as_in_scikit_learn(labels: int) -> None:
    rng = np.random.default_rng(1)
    shape = (40, labels) if labels else (40,)
    target, preds = (rng.integers(0, 2, shape) for _ in range(2))
    options: dict[str, Any] = {"num_labels": labels, "absent": 0.0} if labels else {"absent": 0.0}
    tensors = torch.tensor(preds), torch.tensor(target)
    got = classification_report(*tensors, inputs="labels", output_dict=True, **options)
    assert_same_dictionary(got, dictionary_of(target, preds, zero_division=0.0))
    text = classification_report(*tensors, inputs="labels", digits=4, **options)
    assert text == sklearn_report(target, preds, digits=4, zero_division=0.0)


def test_a_report_says_what_it_cannot_be_made_of() -> None:
    with pytest.raises(
        ConfigError,
        match=r"scores: expected scores of a classification, got those of a regression. Print",
    ):
        classification_report(functional.regression(torch.rand(3), torch.rand(3)))
    with pytest.raises(
        ConfigError, match=r"target: expected the truth beside predictions, got None. Pass"
    ):
        classification_report(torch.rand(3))
    with pytest.raises(
        ConfigError,
        match=r"expected nothing but digits and output_dict beside Scores, got more. Give",
    ):
        classification_report(counted(), inputs="labels")


@pytest.mark.parametrize("width", [1, 12, 13, 200])
def test_long_names_widen_the_first_column_as_in_scikit_learn(width: int) -> None:
    labels, target, preds = ["x" * width, "b"], np.array([0, 1, 1]), np.array([0, 1, 0])
    metrics = MulticlassMetrics(2, inputs="labels", class_names=labels)
    metrics.update(torch.tensor(preds), torch.tensor(target))
    assert str(metrics.compute()).startswith(report_of(target, preds, labels))


def counted() -> Scores:
    metrics = MulticlassMetrics(3, topk=(2,), class_names=["a", "b", "c"])
    preds = torch.tensor([[9.0, 0, 1], [0, 9, 1], [0, 9, 1], [math.nan, 0, 0]])
    metrics.update(preds, torch.tensor([0, 1, 0, 2]))
    return metrics.compute()


def test_the_intervals_follow_one_line_a_score_then_the_faults() -> None:
    text = str(counted())
    assert re.search(r"\naccuracy  +0\.6667 +\[0\.2077, 0\.9385\] +3  wilson\n", text)
    assert all(f"\n{name}  " in text for name in counted())
    assert text.endswith("1 × row with a NaN prediction, refused; first in update 0\n")
    nothing = str(MulticlassMetrics(2).compute())
    assert re.search(r"\naccuracy +nan +no samples were counted\n", nothing)


def test_a_score_is_a_float_that_prints_its_interval_and_n() -> None:
    score = counted()["accuracy"]
    assert score == score.value == 2 / 3
    assert type(score.value) is float
    assert f"{score:.2f}" == "0.67"
    assert str(score) == "0.6667 [0.2077, 0.9385] n=3"
    assert repr(score) == "Score(0.6667 [0.2077, 0.9385] n=3)"
    assert (
        str(MulticlassMetrics(2).compute()["mcc"])
        == "nan (targets or predictions hold one class only)"
    )
    assert repr(counted()).startswith("Scores(multiclass, n=3, accuracy=0.6667, balanced_accuracy=")


FALLING = [
    "hamming_loss",
    "nll",
    "perplexity",
    "brier",
    "over_confidence",
    "ece",
    "rms_calibration_error",
]


def test_scores_are_a_mapping_with_directions_and_plain_values_for_json() -> None:
    got = counted()
    assert len(got) == len(list(got)) == len(dict(got))
    assert [name for name, score in got.items() if not score.higher_is_better] == FALLING
    assert all(score.error_bound == 0.0 for score in got.values())
    plain = json.loads(json.dumps(got.to_dict()))
    assert plain["scores"]["accuracy"] == {
        "value": 2 / 3,
        "low": got["accuracy"].low,
        "high": got["accuracy"].high,
        "n": 3,
        "method": "wilson",
        "reason": None,
        "error_bound": 0.0,
        "higher_is_better": True,
    }
    assert plain["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert plain["per_class"]["recall"]["n"] == [2, 1, 0]
    assert plain["per_class"]["recall"]["method"] == "wilson"
    assert plain["class_names"] == ["a", "b", "c"]
    assert (plain["task"], plain["n"]) == ("multiclass", 3)
    assert plain["faults"]["nan-score"]["count"] == 1
    assert math.isnan(plain["per_class"]["recall"]["value"][2])
    reason = "the class is neither in the targets nor in the predictions"
    for name in ("precision", "recall", "f1"):
        assert got.per_class[name][2].reason == reason
