"""Two runs on the same samples: numbers by hand, the bootstrap, and why some are not paired."""

import json
import math
import shutil
from collections.abc import Sequence
from functools import partial
from math import comb, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_sources import accuracies
from kept_runs import Keeping, class_rows, keeping, point_rows, two_models

import ptmetrics as pm
from ptmetrics.class_formulas import ClassSums
from ptmetrics.cli import main
from ptmetrics.record.samples import Rows, StoredSamples
from ptmetrics.show.opinion import comparison_text
from ptmetrics.verdict.compare import Comparison, compare
from ptmetrics.verdict.gathering import evidence_of_run
from ptmetrics.verdict.paired import (
    PAIRED_SCORES,
    Difference,
    ScoreFormula,
    margins_of,
    paired_difference,
    score_formula,
)
from ptmetrics.verdict.run_groups import difference
from ptmetrics.verdict.samples import Sampled
from ptmetrics.verdict.time_to_target import trace

# Influence functions


def formula(name: str, label: int | None = None) -> ScoreFormula:
    found = score_formula(name, label)
    assert found is not None
    return found


LAW = settings(deadline=None, max_examples=25, derandomize=True)


PER_CLASS = ("precision", "recall", "f1", "jaccard", "specificity")


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    classes = draw(st.integers(2, 5))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40))
    target, predicted = np.array(pairs, dtype=np.int64).T
    return classes, target, predicted


def recorded(classes: int, target: np.ndarray, predicted: np.ndarray) -> pm.Scores:
    metrics = pm.MulticlassMetrics(classes, inputs="labels")
    metrics.update(torch.tensor(predicted), torch.tensor(target))
    return metrics.compute()


@LAW
@given(rows())
def test_values_are_those_of_the_metrics(drawn: tuple[int, np.ndarray, np.ndarray]) -> None:
    classes, target, predicted = drawn
    margins, scores = margins_of(target, predicted, classes), recorded(*drawn)
    expected = {(name, None): scores[name] for name in PAIRED_SCORES}
    for name in PER_CLASS:
        expected |= {(name, label): scores.per_class[name][label] for label in range(classes)}
    for (name, label), score in expected.items():
        value = formula(name, label)(margins).value
        assert value == pytest.approx(score.value, abs=1e-12, nan_ok=True), (name, label)


@LAW
@given(rows())
def test_gradients_are_those_of_the_values_and_have_mean_0(
    drawn: tuple[int, np.ndarray, np.ndarray],
) -> None:
    classes, target, predicted = drawn
    margins = margins_of(target, predicted, classes)
    named = [(name, None) for name in PAIRED_SCORES] + [(name, 1) for name in PER_CLASS]
    for name, label in named:
        score = formula(name, label)
        gradient = score(margins)
        if math.isnan(gradient.value):
            continue
        influence = gradient.at(target, predicted)
        assert influence.sum() == pytest.approx(0, abs=1e-9), name
        for i in range(min(3, len(target))):  # one more row of a kind that is there
            up, down = (moved(margins, target[i], predicted[i], step) for step in (1e-6, -1e-6))
            slope = (score(up).value - score(down).value) / 2e-6
            assert influence[i] == pytest.approx(slope, abs=1e-5), name


def moved(m: ClassSums, target: int, predicted: int, step: float) -> ClassSums:
    row, column = (np.eye(1, len(m.actual), k)[0] * step for k in (target, predicted))
    return m.moved(row * (target == predicted), row, column)


def test_an_unknown_class_score_is_none() -> None:
    assert score_formula("auroc", 1) is None
    assert score_formula("auroc") is None


# Paired tests


Z = 1.959963984540054


TARGET = np.arange(100) % 2


FIRST = np.where(np.isin(np.arange(100), [0, 1, 2, 3]), 1 - TARGET, TARGET)  # wrong on 4


SECOND = np.where(
    np.isin(np.arange(100), [*range(10, 20)]), 1 - TARGET, TARGET
)  # wrong on 10 others


def of(first: Rows, second: Rows, metric: str = "val/accuracy", **options: Any) -> Difference:
    runs = (keeping(rows, **options) for rows in (first, second))
    return difference(*([trace(run, metric).last] for run in runs))


def test_accuracy_is_mcnemars_mid_p_and_bonett_and_prices_interval_by_hand() -> None:
    told = of(class_rows(TARGET, FIRST), class_rows(TARGET, SECOND))
    p, q = 11 / 102, 5 / 102
    half = Z * sqrt((p + q - (p - q) ** 2) / 102)
    tail = (sum(comb(14, k) for k in range(11, 15)) + comb(14, 10) / 2) / 2**14
    assert (told.low, told.value, told.high) == pytest.approx((p - q - half, 0.06, p - q + half))
    assert told.p == pytest.approx(2 * tail)
    assert (told.paired, told.n, told.method) == (True, 100, "bonett-price, paired")
    assert told.unpaired is None


def test_scores_that_are_a_share_of_right_rows_are_tested_as_such() -> None:
    first, second = class_rows(TARGET, FIRST), class_rows(TARGET, SECOND)
    for name in ("val/f1/micro", "val/recall/weighted"):
        assert of(first, second, name) == of(first, second)
    wrong = of(first, second, "val/hamming_loss")
    right = of(first, second)
    assert (wrong.value, wrong.low, wrong.high) == pytest.approx(
        (-right.value, -right.high, -right.low)
    )
    recall = of(first, second, "val/recall", binary=True)
    assert (recall.method, recall.n) == ("bonett-price, paired", 50)
    assert recall.value == pytest.approx((5 - 2) / 50)


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "jaccard", "specificity", "npv"])
def test_scores_of_a_binary_task_are_those_of_one_of_its_classes(name: str) -> None:
    index = np.arange(100)
    first = class_rows(TARGET, np.where(np.isin(index, [0, 2, 4, 6, 1]), 1 - TARGET, TARGET))
    second = class_rows(TARGET, np.where(np.isin(index, [10, 11, 13, 15]), 1 - TARGET, TARGET))
    runs = [keeping(rows, binary=True) for rows in (first, second)]
    recorded = [run.epochs[-1]["scores"][f"val/{name}"]["value"] for run in runs]
    told = of(first, second, f"val/{name}", binary=True)
    assert told.paired
    assert told.value == pytest.approx(recorded[0] - recorded[1])
    mirrored = of(second, first, f"val/{name}", binary=True)
    assert (mirrored.low, mirrored.high) == pytest.approx((-told.high, -told.low))


def test_the_interval_is_that_of_the_same_samples_and_much_narrower() -> None:
    first, second = two_models(
        np.random.default_rng(0), 2000, [0.5, 0.5], (0.93, 0.92), shared=0.95
    )
    told = of(first, second)
    apart = compare(
        *(without(keeping(rows)) for rows in (first, second)), target="val/accuracy>=0.5"
    )
    assert told.high - told.low < 0.5 * (apart.final_difference.high - apart.final_difference.low)


def without(run: Keeping) -> Keeping:
    return Keeping(run.epochs, run.header)


@pytest.mark.parametrize(
    "name", ["f1/macro", "mcc", "kappa", "balanced_accuracy", "precision/weighted"]
)
def test_the_error_of_other_scores_is_that_of_the_bootstrap(name: str) -> None:
    rng = np.random.default_rng(3)
    first, second = two_models(rng, 1500, [0.6, 0.3, 0.1], (0.85, 0.8))
    told = of(first, second, f"val/{name}")

    def value(rows: Rows) -> float:
        return formula(name)(margins_of(rows["target"], rows["predicted"], 3)).value

    draws = [rng.integers(0, 1500, 1500) for _ in range(400)]
    spread = np.std([value(first[i]) - value(second[i]) for i in draws])
    assert (told.high - told.low) / (2 * Z) == pytest.approx(spread, rel=0.12)
    assert told.method == "influence function, paired"


def quickly(first: Rows, second: Rows) -> Difference:
    """The difference in macro F1 of samples whose scores nobody recorded."""
    classes = int(first["target"].max()) + 1
    sides = []
    for rows in (first, second):
        value = formula("f1/macro")(margins_of(rows["target"], rows["predicted"], classes)).value
        sides.append(Sampled(value, score="f1/macro", samples=partial(StoredSamples, rows)))
    told = paired_difference(*sides)
    assert isinstance(told, Difference)
    return told


@pytest.mark.parametrize(
    ("n", "prior", "hits"), [(300, [0.5, 0.3, 0.2], (0.9, 0.85)), (400, [0.9, 0.1], (0.97, 0.96))]
)
def test_intervals_of_other_scores_hold_the_true_difference(
    n: int, prior: list[float], hits: tuple[float, float]
) -> None:
    rng = np.random.default_rng(4)
    truth = quickly(*two_models(rng, 400_000, prior, hits)).value
    told = [quickly(*two_models(rng, n, prior, hits)) for _ in range(400)]
    assert sum(one.low <= truth <= one.high for one in told) / 400 >= 0.93


def test_two_perfect_runs_are_not_called_equal_for_sure() -> None:
    told = of(class_rows(TARGET, TARGET), class_rows(TARGET, TARGET), "val/f1/macro")
    assert told.value == 0
    assert told.low < -0.01
    assert told.high > 0.01
    assert told.p == 1


def test_errors_of_regressions_are_students_t_on_the_differences_by_hand() -> None:
    target, second = np.arange(4.0), np.zeros(4)
    second[:] = 1.0
    first = np.sqrt(second + np.array([1.0, 2.0, 3.0, 4.0]))
    told = of(point_rows(target, first), point_rows(target, second), "val/mse")
    half = 3.182446305284263 * 1.2909944487358056 / 2
    assert (told.low, told.value, told.high) == pytest.approx((2.5 - half, 2.5, 2.5 + half))
    assert told.p == pytest.approx(0.030466, abs=1e-6)
    assert (told.method, told.n) == ("student t, paired", 4)


def test_every_error_of_a_regression_agrees_with_what_was_recorded() -> None:
    rng = np.random.default_rng(5)
    target, first = rng.normal(size=500), rng.normal(size=500)
    second = first + 0.3 * rng.normal(size=500)
    runs = [point_rows(target, first), point_rows(target, second)]
    squares, absolute = first**2 - second**2, np.abs(first) - np.abs(second)
    assert of(*runs, "val/mse").value == pytest.approx(squares.mean())
    assert of(*runs, "val/mae").value == pytest.approx(absolute.mean())
    assert of(*runs, "val/bias").value == pytest.approx((first - second).mean())
    root = of(*runs, "val/rmse")
    assert root.value == pytest.approx(np.sqrt(np.mean(first**2)) - np.sqrt(np.mean(second**2)))
    draws = rng.integers(0, 500, (2000, 500))
    spread = np.std(
        [np.sqrt(np.mean(first[i] ** 2)) - np.sqrt(np.mean(second[i] ** 2)) for i in draws]
    )
    assert (root.high - root.low) / (2 * Z) == pytest.approx(spread, rel=0.1)
    assert "no paired test for max_error" in str(of(*runs, "val/max_error").unpaired)


def test_a_loss_is_paired_where_it_is_the_mean_of_the_kept_ones() -> None:
    rng = np.random.default_rng(6)
    loss = rng.gamma(1.0, size=200)
    first, second = (class_rows(TARGET.repeat(2), TARGET.repeat(2), loss * s) for s in (1.0, 1.1))
    told = of(first, second, "val/loss")
    assert told.paired
    assert told.high < 0
    run = keeping(first)
    for data in run.epochs:
        data["scores"]["val/loss"] = data["scores"]["val/loss"] | {
            "value": 1.01 * float(loss.mean())
        }  # smoothed labels, say
    other = difference([trace(run, "val/loss").last], [trace(keeping(second), "val/loss").last])
    assert other.unpaired == "the recorded loss is not the mean of the kept ones"


REFUSED: dict[str, tuple[Any, str]] = {
    "another order": (
        class_rows(TARGET[::-1], FIRST[::-1]),
        "another order, so validate without shuffling",
    ),
    "other targets": (class_rows(1 - TARGET[:99], FIRST[:99]), "their samples have other targets"),
    "refused in one": (
        class_rows(TARGET, np.where(TARGET == 0, FIRST, -1)),
        "refused in one of them only",
    ),
    "another kind": (point_rows(TARGET, FIRST), "one predicts classes and the other numbers"),
}


@pytest.mark.parametrize(("other", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_paired_is_compared_as_independent_and_says_why(
    other: Rows, words: str
) -> None:
    run = keeping(class_rows(TARGET, FIRST))
    second = Keeping(run.epochs, samples={2: StoredSamples(other)})
    told = difference([trace(run, "val/accuracy").last], [trace(second, "val/accuracy").last])
    assert told.method == "newcombe, unpaired"
    assert words in str(told.unpaired)
    assert np.isnan(told.p)


def test_samples_that_do_not_give_the_recorded_score_are_not_used() -> None:
    run = keeping(class_rows(TARGET, FIRST))
    second = Keeping(run.epochs, samples={2: StoredSamples(class_rows(TARGET, SECOND))})
    told = difference([trace(run, "val/accuracy").last], [trace(second, "val/accuracy").last])
    assert told.unpaired == "the kept samples do not give the recorded accuracy"


def test_absurd_classes_cost_no_memory() -> None:
    rows = class_rows(TARGET, FIRST)
    rows["target"][5] = rows["predicted"][5] = 2**31 - 1
    run = keeping(class_rows(TARGET, FIRST))
    odd = Keeping(run.epochs, samples={2: StoredSamples(rows)})
    told = difference([trace(odd, "val/f1/macro").last], [trace(odd, "val/f1/macro").last])
    assert told.unpaired == "there are more than 200000 classes"


def whole(first: Rows, second: Rows, **headers: Any) -> Comparison:
    return compare(
        keeping(first, **headers), keeping(second, **headers), target="val/accuracy>=0.5"
    )


def test_a_comparison_tells_the_paired_difference_in_text_and_json() -> None:
    comparison = whole(class_rows(TARGET, FIRST), class_rows(TARGET, SECOND))
    told = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["final_difference"]
    assert (told["paired"], told["unpaired"], told["n"]) == (True, None, 100)
    assert 0 < told["p"] < 1
    assert "kept" not in json.dumps(comparison.to_dict()["at_equal_time"])
    assert any("that of the same samples, one by one" in note for note in comparison.notes)
    text = comparison_text(comparison, "a", "b")
    assert f"(p = {told['p']:.3f}, n = 100, bonett-price, paired)" in text
    assert f"p {told['p']:.2g}" in str(comparison)
    assert comparison.at_equal_time.difference.paired  # both ended there


def test_seeds_are_compared_by_their_spread() -> None:
    runs = [keeping(class_rows(TARGET, FIRST)), keeping(class_rows(TARGET, SECOND))]
    comparison = compare(runs, runs, target="val/accuracy>=0.5")
    told = comparison.final_difference
    assert (told.method, told.paired) == ("student t, paired and seeds", True)
    assert any("it covers other training seeds too" in note for note in comparison.notes)
    one = compare(runs[0], runs, target="val/accuracy>=0.5").final_difference
    assert (one.method, one.paired) == ("student t, paired", True)
    bare = [without(run) for run in runs]
    assert compare(bare, bare, target="val/accuracy>=0.5").final_difference.method == (
        "welch over seeds"
    )


def test_records_without_samples_are_compared_as_before_and_say_so() -> None:
    comparison = compare(accuracies([0.8, 0.9]), accuracies([0.7, 0.8]), target="val/accuracy>=0.7")
    told = comparison.final_difference
    assert (told.method, told.unpaired) == (
        "newcombe, unpaired",
        "in the first run, no samples of it were kept",
    )


def same(first: Rows, second: Rows, **header: Any) -> bool | None:
    return whole(first, second, **header).same_validation


def test_kept_targets_tell_whether_the_validation_data_are_the_same() -> None:
    rows = class_rows(TARGET, FIRST)
    assert same(rows, class_rows(TARGET, SECOND)) is True
    assert same(rows, class_rows(np.roll(TARGET, 1), np.roll(FIRST, 1))) is None
    moved = TARGET.copy()
    moved[0] = 1
    assert same(rows, class_rows(moved, FIRST)) is False
    codes = {item.code for item in whole(rows, class_rows(moved, FIRST)).findings}
    assert "different-validation" in codes
    assert (
        same(rows, class_rows(moved, FIRST), val_fingerprint="a") is True
    )  # the fingerprint knows the inputs


def test_judged_scores_know_their_samples_too() -> None:
    rows = [class_rows(TARGET, FIRST), class_rows(TARGET, SECOND)]
    first, second = (evidence_of_run(keeping(side)) for side in rows)
    assert difference([first.score("f1/macro")], [second.score("f1/macro")]).paired
    assert first.samples().rows is rows[0]


# Run folders that a Monitor wrote


N = 400


def write(
    path: Path, sharpness: Sequence[float], *, shuffled: bool = False, **options: Any
) -> Path:
    """A run that gets better; the samples are hard for every run alike."""
    generator = torch.Generator().manual_seed(7)
    target = torch.randint(0, 3, (N,), generator=generator)
    hard = torch.randn(N, 3, generator=generator)
    order = (
        torch.randperm(N, generator=torch.Generator().manual_seed(1))
        if shuffled
        else torch.arange(N)
    )
    with pm.Monitor(
        pm.MulticlassMetrics(3), path, progress=False, on_fault="raise", **options
    ) as monitor:
        for sharp in sharpness:
            logits = hard + sharp * torch.nn.functional.one_hot(target, 3)
            for part in order.split(150):
                loss = torch.nn.functional.cross_entropy(logits[part], target[part])
                monitor.update(logits[part], target[part], loss=loss, split="train")
            for part in order.split(150):
                loss = torch.nn.functional.cross_entropy(logits[part], target[part])
                monitor.update(logits[part], target[part], loss=loss, split="val")
            monitor.end_epoch()
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs on the same samples, and one that saw them in another order."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "a": write(folder / "a", [1, 2, 3]),
        "b": write(folder / "b", [1, 1.5, 2.5]),
        "shuffled": write(folder / "shuffled", [1, 2, 3], shuffled=True),
    }


def test_two_runs_of_monitors_are_paired_in_every_score(folders: dict[str, Path]) -> None:
    first, second = folders["a"], folders["b"]
    for metric in ("accuracy", "f1/macro", "mcc", "kappa", "precision/weighted", "nll", "loss"):
        told = pm.compare(first, second, metric=f"val/{metric}", hold=1).final_difference
        assert told.paired, (metric, told.unpaired)
        last, other = (pm.read_history(run)[f"val/{metric}"][-1] for run in (first, second))
        assert told.value == pytest.approx(last - other, rel=1e-5)
    assert pm.compare(first, second).same_validation is True
    told = pm.compare(first, second, metric="val/ece", hold=1).final_difference
    assert told.unpaired == "there is no paired test for ece"


def test_a_shuffled_validation_is_not_paired(folders: dict[str, Path]) -> None:
    comparison = pm.compare(folders["a"], folders["shuffled"])
    assert "another order" in str(comparison.final_difference.unpaired)
    assert comparison.same_validation is None


def test_a_baseline_that_is_not_paired_is_said_to_be_and_why(folders: dict[str, Path]) -> None:
    words = "takes the two as independent, which is too wide: "
    verdict = pm.judge(folders["shuffled"], baseline=folders["a"])
    (note,) = (note for note in verdict.notes if words in note)
    assert note.startswith("The difference to the baseline ")
    assert note.endswith("their samples came in another order, so validate without shuffling.")
    paired = pm.judge(folders["b"], baseline=folders["a"])
    assert not any(words in note for note in paired.notes)


@pytest.mark.fault(43)
def test_a_file_that_was_tampered_with_is_refused_and_the_comparison_goes_on(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    first, second = shutil.copytree(folders["a"], tmp_path / "a"), folders["b"]
    (first / "samples-2.npy").write_bytes(b"\x80\x04cos\nsystem\n")
    comparison = pm.compare(first, second)
    assert comparison.final_difference.method == "newcombe, unpaired"
    assert any("samples-2.npy was refused: is torn, altered" in note for note in comparison.notes)
    assert pm.judge(first).status == pm.judge(second).status


def test_the_command_prints_it_and_puts_it_into_json(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arms = [str(folders["a"]), str(folders["b"])]
    assert main(["compare", *arms]) == 0
    assert f"n = {N}, bonett-price, paired)" in capsys.readouterr().out
    assert main(["compare", *arms, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["final_difference"]
    assert told["paired"] is True
    assert set(told) == {"value", "low", "high", "n", "method", "reason", "p", "paired", "unpaired"}
