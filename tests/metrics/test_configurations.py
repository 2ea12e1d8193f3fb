"""Arguments that cannot work are refused when a metric is built, with an error of ours, before memory is taken."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ptmetrics as pm
from ptmetrics.errors import PtmetricsError

pytestmark = pytest.mark.slow

MAKE: dict[str, Callable[..., Any]] = {
    "multiclass": lambda **given: pm.MulticlassMetrics(**{"num_classes": 3, **given}),
    "binary": pm.BinaryMetrics,
    "multilabel": lambda **given: pm.MultilabelMetrics(**{"num_labels": 3, **given}),
    "regression": lambda **given: pm.RegressionMetrics(**{"num_outputs": 3, **given}),
    "mean": lambda **given: pm.Mean(
        **{"name": "mine", "fn": max, "higher_is_better": True, **given}
    ),
    "cell": lambda **given: pm.Cell(**{"name": "mine", **given}),
    "score": lambda **given: pm.ScoreSpec(**{"name": "mine", **given}),
}
NO_FLAG = [None, 0, 1, 1.0, "yes", [], torch.tensor(True)]
NO_NUMBER = [None, True, 2.5, "3", b"3", -1, math.nan, math.inf, [2], 10**9 * 4, 10**30]
NO_NAMES = [7, True, 2.5, object(), torch.ones(3), "abc", b"abc", ["a", "b"], ["a", "a", "b"]]
NO_NAMES += [["a", None, "b"], [True, False, "c"], [1, "1", "b"], ["a", "b", b"c"]]
NO_NAMES_OF_TWO = [7, True, "ab", b"ab", ["a"], ["yes", "yes"], [None, "b"], [1, "1"], (0.5, 1.0)]
NO_PARTS = [None, True, -1, 2.5, 10**9, 10**30, "ab", b"ab", ["a", "a"], ["a", 1], [None], math.nan]
NO_DEVICE = [None, True, 2.5, "gpu", "cuda:x", "", b"gpu", [], -1, 10**30, object()]
NO_SCORES = [None, 7, "f1", ["f1"], [None], object(), b"x"]
NO_SHARE = [None, True, "0.5", -0.1, 1.1, math.nan, math.inf, [0.5], torch.tensor(0.5)]
NO_ABSENT = [None, True, "0", -0.1, 1.5, math.inf, [0]]
NO_INPUTS = [None, True, "scores", "LOGITS", b"logits", ["logits"], 0, {}]
NO_TARGET = [True, 0.0, "-100", 2**63, -(2**63) - 1, [0], math.nan]
NO_BETA = [True, 0, -1.0, "2", math.nan, math.inf, [1]]
NO_GROUPS = NO_FLAG[1:]  # None: samples of several rows are groups
NO_DIMENSION = [True, 0, 2, -2, 1.0, "1", [1], math.nan]
SHARED = {"slices": NO_PARTS, "groups": NO_GROUPS, "device": NO_DEVICE}
CLASSES = {"inputs": NO_INPUTS, "ignore_index": NO_TARGET, "absent": NO_ABSENT, "scores": NO_SCORES}
BAD: dict[str, dict[str, list[Any]]] = {
    "multiclass": {
        **SHARED,
        **CLASSES,
        "num_classes": [*NO_NUMBER, 0, 1],
        "class_dim": NO_DIMENSION,
        "topk": [None, 1, "1", (0,), (4,), (1, True), (1.0,), {1}, (10**9,), b"1"],
        "class_names": NO_NAMES,
        "beta": NO_BETA,
        "losses": NO_FLAG,
        "curves": ["FP16", b"fp16", ["fp16"], {}, 16, 0, 1.0],
        "temperature": NO_FLAG,
    },
    "binary": {
        **SHARED,
        **CLASSES,
        "threshold": NO_SHARE,
        "class_names": NO_NAMES_OF_TWO,
        "beta": NO_BETA,
        "losses": NO_FLAG,
        "temperature": NO_FLAG,
        "curves": ["FP16", b"fp16", ["fp16"], {}, 16],
        "capacity": [*NO_NUMBER, 0],
    },
    "multilabel": {
        **SHARED,
        **CLASSES,
        "num_labels": [*NO_NUMBER, 0],
        "class_dim": NO_DIMENSION,
        "threshold": [*NO_SHARE, 0, 1],
        "label_names": NO_NAMES,
        "curves": ["FP16", b"fp16", ["fp16"], {}, 16, 0, 1.0],
    },
    "regression": {
        **SHARED,
        "num_outputs": [*NO_NUMBER, 0, 10**9],
        "quantiles": [None, 0.5, "0.5", (0,), (1,), (True,), ("0.5",), (math.nan,), {0.5}],
        "names": NO_NAMES,
    },
    "mean": {
        **SHARED,
        "name": [None, "", 7, b"x", ["x"]],
        "fn": [None, 7, "fn"],
        "higher_is_better": NO_FLAG,
        "range": [None, 1, (0,), (1, 0), (0, 0), (math.nan, 1), ("0", "1"), (False, True), "01"],
    },
    "cell": {
        "name": [None, "", 7, b"x"],
        "shape": [None, 3, [3], (-1,), (2.0,), (True,), ("3",)],
        "dtype": [None, torch.float32, torch.int32, "int64"],
        "merge": [None, "add", 7, ["sum"]],
        "scope": [None, "all", 7, ["both"]],
    },
    "score": {
        "name": [None, "", 7, b"x"],
        "interval": [None, "bootstrap", 7],
        "higher_is_better": NO_FLAG,
        "range": [None, 1, (1, 0), (math.nan, 1), ("0", "1"), (False, True)],
    },
}
MATRIX = [
    pytest.param(task, name, value, id=f"{task}-{name}-{place}")
    for task, arguments in BAD.items()
    for name, values in arguments.items()
    for place, value in enumerate(values)
]


@pytest.mark.parametrize(("task", "name", "value"), MATRIX)
def test_an_argument_that_cannot_work_is_refused_by_its_name(
    task: str, name: str, value: Any
) -> None:
    with pytest.raises(PtmetricsError, match=rf"^{name}: expected .*, got .*\. [A-Z]"):
        MAKE[task](**{name: value})


def test_what_can_work_is_taken() -> None:
    for make in MAKE.values():
        make()
    pm.MulticlassMetrics(3, class_names=("a", "b", "c"), topk=[1, 3], losses=False, slices=2)
    pm.MulticlassMetrics(3, class_names=[0, 1, 2], absent=0, slices=["north", "south"])
    pm.BinaryMetrics(class_names=["no", "yes"], threshold=np.float64(0.25), beta=1)
    pm.MultilabelMetrics(2, label_names=["cat", "dog"], curves=False)
    pm.RegressionMetrics(num_outputs=2, names=["x", "y"], quantiles=())
    pm.Mean("mine", max, higher_is_better=False, range=(0, math.inf), device=torch.device("cpu"))
    pm.Cell("mine", (0, 3), torch.float64, merge="mean", scope="whole")


class Wide(pm.Metrics):
    """Keeps more than any machine has."""

    def cells(self) -> list[pm.Cell]:
        return [pm.Cell("wide", (10**6, 10**6))]


def test_counts_of_your_own_that_no_machine_can_hold_are_refused_before_they_are_made() -> None:
    with pytest.raises(PtmetricsError, match="cells: expected counts of at most 16 GiB, got 7450"):
        Wide()


def test_moving_to_a_device_that_there_is_not_is_refused_and_changes_nothing() -> None:
    metrics = pm.MulticlassMetrics(2, inputs="labels")
    metrics.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(PtmetricsError, match="device: expected a device that torch can use here"):
        metrics.to("gpu")
    assert metrics.compute().n == 2
