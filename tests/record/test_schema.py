"""Lines that are whole, but say what cannot be; and that none which our own metrics give is refused."""

import copy
import json
import math
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from record_makers import journal_of, line

import ptmetrics as pm
import ptmetrics.metrics
from ptmetrics.metrics.score_spec import ScoreSpec
from ptmetrics.record.codec import Record
from ptmetrics.record.lines import Problem
from ptmetrics.record.reader import read_run
from ptmetrics.record.schema import defect, score_range

NAN = math.nan
LEVEL = 1.959963984540054


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    p = hits / n
    centre = p + LEVEL**2 / (2 * n)
    half = LEVEL * math.sqrt(p * (1 - p) / n + LEVEL**2 / (4 * n * n))
    return p, (centre - half) / (1 + LEVEL**2 / n), (centre + half) / (1 + LEVEL**2 / n)


def share(hits: int, n: int) -> dict[str, Any]:
    value, low, high = wilson(hits, n)
    told = {"value": value, "low": low, "high": high, "n": n, "method": "wilson", "reason": None}
    return {**told, "error_bound": 0.0, "higher_is_better": True}


def column(*pairs: tuple[int, int]) -> dict[str, Any]:
    values, lows, highs = zip(*(wilson(*pair) for pair in pairs), strict=True)
    counts = [n for _, n in pairs]
    return {"value": [*values], "low": [*lows], "high": [*highs], "n": counts, "method": "wilson"}


def support(*weights: float, n: tuple[int, int] = (50, 50)) -> dict[str, Any]:
    return {"value": [*weights], "low": [*weights], "high": [*weights], "n": [*n]}


def good() -> dict[str, Any]:
    """An epoch as a Monitor records it: [[40, 10], [20, 30]]."""
    return {
        "epoch": 3,
        "scores": {
            "val/accuracy": share(70, 100),
            "val/loss": {"value": math.inf, "low": NAN, "high": NAN, "n": 100},
            "train/mcc": {"value": NAN, "low": NAN, "high": NAN, "n": 0, "reason": "no samples"},
            "val/mae": {"value": 2, "low": 1.5, "high": math.inf, "n": 100, "error_bound": 0.0},
        },
        "per_class": {
            "val": {
                "precision": column((40, 60), (30, 40)),
                "recall": column((40, 50), (30, 50)),
                "support": support(50.0, 50.0),
            }
        },
        "per_slice": {
            "val": {
                "by": "accuracy",
                "names": ["north"],
                "filled": 4,
                "scores": {"accuracy": column((10, 30))},
            }
        },
        "confusion": {"val": [[40, 10], [20, 30]]},
        "class_names": ["cat", "dog"],
        "time": {"train_s": 3.5, "train_device_s": None, "step_ms": {"p50": 1.0}},
        "counts": {"val_samples": 100},
        "faults": {"val": {"nan-score": {"count": 2, "first_step": 1, "message": "2 rows"}}},
        "notes": {"val": ["Few samples."]},
        "samples": {"rows": 100, "crc": "00c0ffee"},
    }


def wrong(data: dict[str, Any], kind: str = "epoch", **envelope: int) -> str | None:
    record = Record(1, "run", 1, kind, 5, 1.5, data)
    return defect(record._replace(**envelope))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good epoch with another value at a place such as "confusion|val|0|1"."""
    data = good()
    *way, last = path.split("|")
    inner: Any = data
    for key in way:
        inner = inner[int(key) if isinstance(inner, list) else key]
    if value is KeyError:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return data


def test_what_a_monitor_writes_is_right() -> None:
    assert wrong(good()) is None


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("epoch", KeyError, "epoch is missing"),
        ("epoch", True, "epoch is True, not a whole number from 0 to 2^62"),
        ("epoch", 2**62 + 1, "epoch is 4611686018427387905, not a whole number from 0 to 2^62"),
        ("scores", [], "scores is list, not a mapping"),
        ("scores|val/loss", 0.5, "scores['val/loss'] is 0.5, not a mapping"),
        ("scores|val/loss|value", "0.99", "scores['val/loss'].value is '0.99', not a number"),
        ("scores|val/loss|value", 10**400, "scores['val/loss'].value is 1000000000"),
        ("scores|val/loss|low", None, "scores['val/loss'].low is NoneType, not a number"),
        ("scores|val/loss|n", -7, "scores['val/loss'].n is -7, not a whole number from 0 to 2^62"),
        ("scores|val/accuracy|n", -7, "scores['val/accuracy'].n is -7, not a whole number from 0"),
        ("scores|val/accuracy|method", 3, "scores['val/accuracy'].method is 3, not text"),
        ("scores|val/loss|n", 1.0, "scores['val/loss'].n is 1.0, not a whole number"),
        ("scores|val/loss|reason", 3, "scores['val/loss'].reason is 3, not text"),
        ("scores|val/loss|method", None, "scores['val/loss'].method is NoneType, not text"),
        ("scores|val/loss|higher_is_better", 1, "higher_is_better is 1, not true or false"),
        ("scores|val/mae|high", 1.9, "scores['val/mae'].value is 2, outside its interval from 1.5 to 1.9"),
        ("scores|val/mae|low", 2.1, "scores['val/mae'].value is 2, outside its interval from 2.1 to inf"),
        ("scores|val/mae|value", -1e-3, "scores['val/mae'].value is -0.001, outside its interval"),
        ("scores|train/mcc|value", -1.1, "scores['train/mcc'].value is -1.1, but such a score goes from -1 to 1"),
        ("scores|val/accuracy", {"value": 95.0, "low": 94.0, "high": 96.0, "n": 100}, "goes from 0 to 1"),
        ("scores|val/accuracy", share(71, 100), "value[0] is 0.71, but 70 of 100 by the confusion matrix"),
        ("scores|val/accuracy", share(77, 110), "val/accuracy'].n is 110, but 100 by the confusion matrix"),
        ("scores|val/accuracy|value", NAN, "value[0] is nan, but 70 of 100 by the confusion matrix"),
        ("confusion|val|0|1", -1, "confusion['val'][0][1] is -1, not a whole number"),
        ("confusion|val|0|1", 1.5, "confusion['val'][0][1] is 1.5, not a whole number"),
        ("confusion|val|0", [40, 10, 0], "confusion['val'][0] has 3 entries in 2 rows"),
        ("confusion|val|0|1", 2**62, "confusion['val'][0] adds up to more than 2^62"),
        ("confusion|val", [[2**61, 0], [2**61, 1]], "confusion['val'] adds up to more than 2^62"),
        ("confusion|val", [[100]], "confusion['val'] has 1 rows for 2 classes"),
        ("confusion|val", [[30, 20], [10, 40]], "per_class['val'].recall.value[0] is 0.8, but 30 of 50"),
        ("confusion|val", [[35, 15], [25, 25]], "per_class['val'].recall.value[0] is 0.8, but 35 of 50"),
        ("per_class|val|recall|value", [0.8], "per_class['val']['recall'].value has 1 entries, not 2"),
        ("per_class|val|recall|n", [50], "per_class['val']['recall'].n has 1 entries, not 2"),
        ("per_class|val|recall|n|1", 51, "per_class['val'].recall.n is not what the confusion matrix"),
        ("per_class|val|recall|value|1", 1.5, "['recall'].value[1] is 1.5, outside its interval"),
        ("per_class|val|recall|value|1", "a", "['recall'].value[1] is 'a', not a number"),
        ("per_class|val|recall|low|0", 0.9, "['recall'].value[0] has an interval from 0.9 down to 0.887562"),
        ("per_class|val|recall|n|0", -1, "['recall'].n[0] is -1, not a whole number"),
        ("per_class|val|recall", {"value": 1}, "['recall'].value is 1, not a list"),
        ("per_class|val", 3, "per_class['val'] is 3, not a mapping"),
        ("per_slice|val|names", ["a", "b"], "per_slice['val'].scores['accuracy'].value has 1 entries, not 2"),
        ("per_slice|val|by", "mcc", "per_slice['val'].by is 'mcc', which is none of their scores"),
        ("per_slice|val", ["a"], "per_slice['val'] is list, not a mapping"),
        ("per_slice|val|scores", KeyError, "per_slice['val'].scores is NoneType, not a mapping"),
        ("class_names", ["cat", 1], "class_names[1] is 1, not text"),
        ("class_names", ["cat"], "per_class['val']['precision'].value has 2 entries, not 1"),
        ("time|train_s", -1.0, "time['train_s'] is -1.0, not a finite number from 0 on"),
        ("time|train_s", NAN, "time['train_s'] is nan, not a finite number from 0 on"),
        ("time|step_ms|p50", math.inf, "time.step_ms['p50'] is inf, not a finite number from 0 on"),
        ("counts|val_samples", 1e3, "counts['val_samples'] is 1000.0, not a whole number"),
        ("faults|val|nan-score|count", "2", "faults['val']['nan-score'].count is '2', not a whole"),
        ("notes|val", 7, "notes['val'] is 7, not a list"),
        ("samples|crc", 7, "samples.crc is 7, not text"),
    ],
)  # fmt: skip
def test_an_epoch_that_cannot_be_is_refused_with_its_place(
    path: str, value: Any, reason: str
) -> None:
    said = wrong(changed(path, value))
    assert said is not None
    assert said.startswith("epoch record whose ")
    assert reason in said
    assert said.isprintable()


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("header", {"config": 3}, "header record whose config is 3, not a mapping"),
        ("header", {"metrics": {"task": 1}}, "header record whose metrics.task is 1, not text"),
        ("header", {"arm": ["a"]}, "header record whose arm is list, not a single value"),
        ("header", {"logged": {"by": "me"}}, "header record whose logged.notes is missing"),
        ("fault", {"where": "x", "message": "y"}, "fault record whose count is missing"),
        ("fault", {"where": "x", "message": 3, "count": 1}, "message is 3, not text"),
        ("note", {"code": "x"}, "note record whose message is missing"),
        ("checkpoint", {"path": "a", "epoch": []}, "checkpoint record whose epoch is list"),
        ("end", {"reason": 1}, "end record whose reason is 1, not text"),
        ("end", {"reason": "a", "epochs": -1}, "end record whose epochs is -1, not a whole"),
    ],
)
def test_a_line_that_does_not_fit_its_kind_is_refused(
    kind: str, data: dict[str, Any], reason: str
) -> None:
    assert reason in str(wrong(data, kind))


def test_what_may_be_absent_or_unknown_is_let_pass() -> None:
    assert wrong({"epoch": 0, "scores": {}}) is None
    assert wrong({"epoch": 0, "scores": {}, "of a later version": [1]}) is None
    assert wrong({}, "header") is None
    assert wrong({"seed": [1, 2], "val_fingerprint": None}, "header") is None
    assert wrong({"any": "thing"}, "of tomorrow") is None


@pytest.mark.parametrize("envelope", [{"seq": -1}, {"seq": 2**63}, {"attempt": 0}])
def test_a_number_of_the_line_that_cannot_be_is_refused(envelope: dict[str, int]) -> None:
    assert "cannot be" in str(wrong(good(), **envelope))


def test_weighted_samples_are_held_against_the_recall_of_their_classes() -> None:
    data = good()
    columns = data["per_class"]["val"]
    columns["support"] = support(10.0, 90.0)
    columns["recall"]["value"] = [0.75, 0.5]
    data["scores"]["val/accuracy"].update(value=0.525, low=0.4, high=0.65)
    assert wrong(data) is None
    columns["support"] = support(0.0, 90.0)
    columns["recall"]["value"][0] = NAN  # of nothing
    data["scores"]["val/accuracy"].update(value=0.5)
    assert wrong(data) is None
    columns["support"] = support(10.0, 90.0)
    columns["recall"]["value"][0] = 0.75
    data["scores"]["val/accuracy"].update(value=0.625)
    assert "is 0.625, but 0.525 by the recall of the classes" in str(wrong(data))


def test_weights_that_add_up_to_the_counts_are_known_by_the_wider_interval() -> None:
    data = good()
    data["per_class"]["val"]["recall"]["value"] = [0.75, 0.5]
    data["scores"]["val/accuracy"].update(value=0.625, low=0.5, high=0.75)
    assert wrong(data) is None
    data["scores"]["val/accuracy"].update(low=0.55, high=0.7)
    assert "by the confusion matrix" in str(wrong(data))
    data["per_class"]["val"]["recall"].update(value=[0.0, 0.0], low=[0.0, 0.0])
    data["per_class"]["val"]["precision"].update(value=[0.0, 0.0], low=[0.0, 0.0])
    data["scores"]["val/accuracy"].update(value=0.0, low=0.0, high=0.2)
    assert wrong(data) is None  # all hits weigh nothing


def test_a_matrix_has_a_name_for_each_class() -> None:
    assert "has 2 rows for 0 classes" in str(wrong(changed("class_names", KeyError)))


def test_classes_of_a_further_output_are_its_own() -> None:
    data = good()
    data["confusion"]["val/depth"] = [[3]]
    data["per_class"]["val/depth"] = {"recall": column((3, 3))}
    assert wrong(data) is None


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("val/accuracy", 0, 1),
        ("val/f1/macro", 0, 1),
        ("val/top5_accuracy", 0, 1),
        ("train/depth/r2", -math.inf, 1),
        ("val/accuracy/mae", 0, math.inf),
        ("val/kappa", -1, 1),
        ("macro", -math.inf, math.inf),
        ("val/loss", -math.inf, math.inf),
        ("val/my_accuracy", -math.inf, math.inf),
    ],
)
def test_the_last_word_tells_the_range_of_a_score(name: str, least: float, most: float) -> None:
    assert score_range(name) == (least, most)


def score_specs() -> dict[str, ScoreSpec]:
    """Every entry of a score table of the package."""
    found: dict[str, ScoreSpec] = {}

    def take(value: Any, depth: int = 0) -> None:
        if isinstance(value, ScoreSpec):
            found[value.name] = value
        elif isinstance(value, list | tuple) and depth < 3:
            for item in value:
                take(item, depth + 1)

    for module in pkgutil.iter_modules(ptmetrics.metrics.__path__):
        for value in vars(import_module(f"ptmetrics.metrics.{module.name}")).values():
            take(value)
    return found


def test_the_range_of_each_own_score_is_known_to_the_reader() -> None:
    specs = score_specs()
    assert len(specs) > 40
    for name, spec in specs.items():
        assert score_range(f"val/{name}") == spec.range, name


def numbers_in(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        if isinstance(item, dict | list):
            yield from numbers_in(item)
        elif isinstance(item, int | float):
            yield value, key


PLACES = len(list(numbers_in(good())))


@pytest.mark.fault(39)
@pytest.mark.parametrize("hostile", ["0.99", [1], {"x": 1}, 10**400, -(10**400)])
def test_no_number_may_be_something_else(hostile: Any) -> None:
    for index in range(PLACES):
        data = good()
        holder, key = list(numbers_in(data))[index]
        holder[key] = copy.copy(hostile)
        assert wrong(data) is not None, (index, key)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.fault(39)
@given(st.sampled_from(sorted(good())), JSON)
def test_no_data_at_all_stop_the_check(field: str, value: Any) -> None:
    wrong(changed(field, value))


WEIGHTS = {"plain": None, "weighted": torch.linspace(0.1, 3.0, 40), "weightless": torch.zeros(40)}
METRICS = {
    "classes": lambda: pm.MulticlassMetrics(3, topk=(1, 2), slices=("a", "b")),
    "yes or no": lambda: pm.BinaryMetrics(threshold=0.3),
    "labels": lambda: pm.MultilabelMetrics(3),
    "numbers": lambda: pm.RegressionMetrics(num_outputs=3),
}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("task", METRICS)
def test_nothing_that_our_metrics_give_is_refused(task: str, weight: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(40, 3, generator=generator)
    target = torch.randint(3, (40,), generator=generator)
    batch: dict[str, Any] = {
        "classes": {"preds": logits, "target": target, "slices": target % 2},
        "yes or no": {"preds": logits[:, 0], "target": target.clamp(max=1)},
        "labels": {"preds": logits, "target": (logits.roll(1, 1) > 0).long()},
        "numbers": {"preds": logits, "target": logits.roll(1, 0)},
    }[task]
    metrics: Any = METRICS[task]()
    assert wrong(pm.EpochScores(0, {"val": metrics.compute()}, {}).to_record()) is None
    metrics.update(**batch, sample_weight=WEIGHTS[weight])
    assert wrong(pm.EpochScores(0, {"val": metrics.compute()}, {}).to_record()) is None


@pytest.mark.fault(39)
def test_a_line_that_contradicts_itself_is_skipped_and_told(tmp_path: Path) -> None:
    forged = changed("scores|val/accuracy", share(97, 100))
    lines = [
        line(0, "header", {}),
        line(1, "epoch", good()),
        line(2, "epoch", forged | {"epoch": 4}),
    ]
    run = read_run(journal_of(tmp_path, *lines))
    assert [epoch["epoch"] for epoch in run.epochs] == [3]
    (problem,) = run.problems
    assert isinstance(problem, Problem)
    assert problem.contradiction
    assert str(problem) == (
        "journal-rank0.jsonl, line 3: epoch record whose scores['val/accuracy'].value[0] is 0.97, "
        "but 70 of 100 by the confusion matrix"
    )


def test_damage_is_no_contradiction(tmp_path: Path) -> None:
    run = read_run(journal_of(tmp_path, line(0, "header", {}), b"torn\n"))
    assert [problem.contradiction for problem in run.problems] == [False]
    assert json.dumps(run.problems[0])
