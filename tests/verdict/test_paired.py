"""Two runs on the same samples: numbers by hand, intervals against the bootstrap, and why some are not paired."""

import json
from functools import partial
from math import comb, sqrt
from typing import Any

import numpy as np
import pytest
from judged_sources import accuracies
from kept_runs import class_rows, keeping, point_rows, two_models

from ptmetrics.record.samples import Kept, Rows
from ptmetrics.show.opinion import comparison_text
from ptmetrics.verdict.arms import difference
from ptmetrics.verdict.compare import Comparison, compare
from ptmetrics.verdict.influence import SCORES, Margins
from ptmetrics.verdict.paired import Difference, paired_difference
from ptmetrics.verdict.reach import trace
from ptmetrics.verdict.samples import Sampled
from ptmetrics.verdict.sources import evidence_of_run
from tests.studies.synthetic import Keeping

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
        return SCORES[name](Margins.of(rows["target"], rows["predicted"], 3)).value

    draws = [rng.integers(0, 1500, 1500) for _ in range(400)]
    spread = np.std([value(first[i]) - value(second[i]) for i in draws])
    assert (told.high - told.low) / (2 * Z) == pytest.approx(spread, rel=0.12)
    assert told.method == "influence function, paired"


def quickly(first: Rows, second: Rows) -> Difference:
    """The difference in macro F1 of samples whose scores nobody recorded."""
    classes = int(first["target"].max()) + 1
    sides = []
    for rows in (first, second):
        value = SCORES["f1/macro"](Margins.of(rows["target"], rows["predicted"], classes)).value
        sides.append(Sampled(value, score="f1/macro", kept=partial(Kept, rows)))
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
    assert "no paired test for r2" in str(of(*runs, "val/r2").unpaired)


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
            "value": 3.0
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
    second = Keeping(run.epochs, samples={2: Kept(other)})
    told = difference([trace(run, "val/accuracy").last], [trace(second, "val/accuracy").last])
    assert told.method == "newcombe, unpaired"
    assert words in str(told.unpaired)
    assert np.isnan(told.p)


def test_samples_that_do_not_give_the_recorded_score_are_not_used() -> None:
    run = keeping(class_rows(TARGET, FIRST))
    second = Keeping(run.epochs, samples={2: Kept(class_rows(TARGET, SECOND))})
    told = difference([trace(run, "val/accuracy").last], [trace(second, "val/accuracy").last])
    assert told.unpaired == "the kept samples do not give the recorded accuracy"


def test_absurd_classes_cost_no_memory() -> None:
    rows = class_rows(TARGET, FIRST)
    rows["target"][5] = rows["predicted"][5] = 2**31 - 1
    run = keeping(class_rows(TARGET, FIRST))
    odd = Keeping(run.epochs, samples={2: Kept(rows)})
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
    assert comparison.final_difference.method == "welch over seeds"
    one = compare(runs[0], runs, target="val/accuracy>=0.5")
    assert one.final_difference.unpaired == "one of them is several seeds"
    assert any("which is too wide: one of them is several seeds" in note for note in one.notes)


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
    assert first.kept().rows is rows[0]
