"""Slices are scored as separate metrics would be, and groups as a jackknife in NumPy says."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Batch
from registry import PARTS, MetricCase
from scipy import stats

from ptmetrics import BinaryMetrics, MulticlassMetrics, RegressionMetrics
from ptmetrics.counts.subgroups import buckets_of

NAMES = ("a", "b", "c")
every_case = pytest.mark.parametrize("case", PARTS, ids=lambda c: c.name)
both_weights = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def alone(case: MetricCase, batches: list[Batch], number: int) -> Any:
    """A metric of no parts that saw the rows of one slice."""
    metrics = case.make(slices=(), groups=False)
    for batch in batches:
        assert batch.slices is not None
        rows = replace(
            batch.rows((batch.slices == number).nonzero().squeeze(1).tolist()),
            slices=None,
            group=None,
        )
        rows.feed(metrics)
    return metrics


@every_case
@both_weights
def test_each_slice_has_the_scores_of_a_metric_that_saw_its_rows_alone(
    case: MetricCase, weighted: bool
) -> None:
    batches = [case.batch(90, seed, weighted) for seed in range(3)]
    got = case.counted(batches).compute()
    assert set(got.per_slice) == set(NAMES)
    for number, name in enumerate(NAMES):
        expected = alone(case, batches, number).compute()
        for score, value in got.per_slice[name].items():
            theirs = expected[score]
            assert value.value == pytest.approx(theirs.value, rel=1e-12, abs=1e-12, nan_ok=True), (
                score
            )
            assert value.n == theirs.n
            if "multiclass" not in case.name or not value.method.startswith("delta"):
                assert (value.low, value.high) == pytest.approx(
                    (theirs.low, theirs.high), rel=1e-9, nan_ok=True
                )
            else:  # margins alone: no narrower than the matrix
                assert value.low <= theirs.low + 1e-12
                assert value.high >= theirs.high - 1e-12


@every_case
def test_the_counts_of_slices_are_those_of_separate_metrics_bit_for_bit(case: MetricCase) -> None:
    batches = [case.batch(90, seed, False) for seed in range(3)]
    metrics = case.counted(batches)
    cells = metrics.state_dict()["cells"]
    shared = 0
    for number in range(3):
        state = alone(case, batches, number).state_dict()["cells"]
        for name, cell in state.items():
            of_slice = cells.get(f"slice.{name}")
            if of_slice is not None and cell.dtype == torch.int64:
                assert torch.equal(of_slice[number], cell), name
                shared += 1
    assert shared >= 3


@every_case
def test_worst_comes_first_and_what_is_empty_last(case: MetricCase) -> None:
    batch = case.batch(200, 1, False)
    assert batch.slices is not None
    batch.slices[batch.slices == 1] = 0
    got = case.counted([batch]).compute()
    lead = [each[got.headline] for each in got.per_slice.values()]
    assert list(got.per_slice)[-1] == "b"
    assert math.isnan(lead[-1])
    assert lead[-1].reason
    assert lead[-1].n == 0
    worse, better = lead[:2]
    assert worse < better if worse.higher_is_better else worse > better
    text = str(got)
    assert f"slices by {got.headline}, worst first:\n  {next(iter(got.per_slice))}" in text
    plain = got.to_dict()["per_slice"]
    assert (plain["by"], plain["names"], plain["filled"]) == (got.headline, list(got.per_slice), 2)
    assert plain["scores"][got.headline]["value"][0] == lead[0]


def test_only_the_worst_of_many_slices_are_printed() -> None:
    metrics = MulticlassMetrics(2, inputs="labels", slices=50)
    metrics.update(torch.zeros(50, dtype=torch.long), torch.arange(50) % 2, slices=torch.arange(50))
    assert str(metrics.compute()).count("n=1\n") == 20
    assert "  and 30 more\n" in str(metrics.compute())


# Groups.


def clustered(rows: int, patients: int, seed: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    group = torch.randint(0, patients, (rows,), generator=g)
    skill = torch.rand(patients, generator=g)[group]
    target = torch.randint(0, 3, (rows,), generator=g)
    right = torch.rand(rows, generator=g) < 0.5 + 0.5 * skill
    return torch.where(right, target, (target + 1) % 3), target, group * 7919


def reference(values: Any, rows: np.ndarray, whole: float) -> tuple[float, float]:
    """Variance and Student's quantile of a score, with NumPy: `values(kept)` scores the rows that are kept."""
    filled = np.unique(rows)
    left = np.array([values(rows != b) for b in filled])
    k = len(filled)
    moved = (np.abs(left - whole) > 1e-12).sum()
    return (k - 1) / k * ((left - whole) ** 2).sum(), stats.t.ppf(
        0.975, (moved if moved > 1 else k) - 1
    )


def wilson(p: float, n: float, t: float) -> tuple[float, float]:
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    return centre - half, centre + half


@pytest.mark.parametrize("patients", [5, 40, 1000])
def test_intervals_by_groups_are_those_of_a_jackknife_in_numpy(patients: int) -> None:
    preds, target, group = clustered(600, patients, patients)
    metrics = MulticlassMetrics(3, inputs="labels", groups=True)
    metrics.update(preds, target, group=group)
    got, bucket = metrics.compute(), buckets_of(group).numpy()
    by_rows = MulticlassMetrics(3, inputs="labels")
    by_rows.update(preds, target)
    alone = by_rows.compute()
    hit, actual = (preds == target).numpy(), target.numpy()
    scored = {
        "accuracy": lambda kept: hit[kept].mean(),
        "balanced_accuracy": lambda kept: np.mean(
            [hit[kept & (actual == c)].mean() for c in range(3)]
        ),
        "hamming_loss": lambda kept: 1 - hit[kept].mean(),
    }
    for name, values in scored.items():
        variance, t = reference(values, bucket, got[name].value)
        p = got[name].value
        low, high = wilson(p, p * (1 - p) / variance, t)
        ends = min(low, alone[name].low), max(high, alone[name].high)  # never surer than by rows
        assert (got[name].low, got[name].high) == pytest.approx(ends, abs=2e-4), name
        assert got[name].method == "jackknife-groups"
    recall = got.per_class["recall"][0]
    variance, t = reference(lambda kept: hit[kept & (actual == 0)].mean(), bucket, recall.value)
    low, high = wilson(recall.value, recall.value * (1 - recall.value) / variance, t)
    plain = alone.per_class["recall"][0]
    ends = min(low, plain.low), max(high, plain.high)
    assert (recall.low, recall.high) == pytest.approx(ends, abs=2e-4)
    assert got.per_class["support"][0].method == "count"
    assert f"{len(np.unique(bucket))} buckets of groups" in got.notes[0]


def test_a_regression_by_groups_is_that_of_a_jackknife_in_numpy_also_near_a_million() -> None:
    g = torch.Generator().manual_seed(1)
    group = torch.randint(0, 30, (500,), generator=g)
    target = torch.randn(500, generator=g, dtype=torch.float64) + 1e6
    preds = target + 0.3 * torch.randn(500, generator=g) + 0.5 * torch.randn(30, generator=g)[group]
    metrics = RegressionMetrics(groups=True, slices=2)
    metrics.update(preds, target, group=group, slices=group % 2)
    got, bucket = metrics.compute(), buckets_of(group).numpy()
    e, t = (preds - target).numpy(), target.numpy()
    scored = {
        "mse": (lambda k: np.log((e[k] ** 2).mean()), np.exp),
        "mae": (lambda k: np.log(np.abs(e[k]).mean()), np.exp),
        "r2": (lambda k: np.log((e[k] ** 2).mean() / t[k].var()), lambda x: 1 - np.exp(x)),
        "bias": (lambda k: e[k].mean(), lambda x: x),
    }
    everything = np.ones(500, dtype=bool)
    for name, (values, back) in scored.items():
        centre = values(everything)
        variance, quantile = reference(values, bucket, centre)
        half = quantile * math.sqrt(variance)
        above = half
        if name in ("mse", "mae"):  # a few groups may lack the one that is far out
            above = half * (1 + 1.5 * variance * math.sqrt(len(np.unique(bucket))))
        ends = sorted((back(centre - half), back(centre + above)))
        assert got[name].value == pytest.approx(back(centre), rel=1e-9)
        assert (got[name].low, got[name].high) == pytest.approx(ends, rel=2e-3), name
    for number in range(2):
        rows = (group % 2 == number).numpy()
        r2 = 1 - (e[rows] ** 2).mean() / t[rows].var()
        assert got.per_slice[str(number)]["r2"].value == pytest.approx(r2, rel=1e-9)


def test_slices_of_different_magnitudes_keep_their_digits() -> None:
    g = torch.Generator().manual_seed(1)
    slices = torch.arange(400) % 2
    target = torch.randn(400, generator=g, dtype=torch.float64) + 1e6 * slices
    preds = target + 0.3 * torch.randn(400, generator=g)
    metrics = RegressionMetrics(slices=2)
    for rows in torch.arange(400).split(100):
        metrics.update(preds[rows], target[rows], slices=slices[rows])
    for number in range(2):
        e, t = ((x[slices == number]).numpy() for x in (preds - target, target))
        got = metrics.compute().per_slice[str(number)]["r2"]
        assert got.value == pytest.approx(1 - (e**2).mean() / t.var(), rel=1e-9)


def test_one_row_without_a_group_withholds_the_intervals_by_groups() -> None:
    preds, target, group = clustered(200, 20, 1)
    metrics, plain = (MulticlassMetrics(3, inputs="labels", groups=g) for g in (True, False))
    metrics.update(preds, target, group=group)
    metrics.update(preds[:1], target[:1])
    for rows in (slice(None), slice(1)):
        plain.update(preds[rows], target[rows])
    got, expected = metrics.compute(), plain.compute()
    assert {name: repr(s.to_dict()) for name, s in got.items()} == {
        n: repr(s.to_dict()) for n, s in expected.items()
    }
    assert got.notes == ("Rows without a group: 1. All intervals take rows for independent.",)


def test_one_group_has_no_interval_and_says_why() -> None:
    preds, target, _ = clustered(200, 20, 1)
    metrics = MulticlassMetrics(3, inputs="labels", groups=True)
    metrics.update(preds, target, group=torch.ones(200, dtype=torch.long))
    got = metrics.compute()
    assert math.isnan(got["accuracy"].low)
    assert 0.5 < got["accuracy"].value < 1
    assert got.notes[0].startswith("The rows are of one group")


def test_where_groups_reach_all_scores_none_is_named() -> None:
    metrics = MulticlassMetrics(2, inputs="labels", groups=True)
    metrics.update(torch.arange(40) % 2, torch.arange(40) // 20, group=torch.arange(40) // 4)
    (note,) = [each for each in metrics.compute().notes if each.startswith("Intervals are by")]
    assert "Those of" not in note


def test_scores_that_groups_do_not_reach_are_named() -> None:
    preds, target, group = clustered(200, 20, 1)
    metrics = BinaryMetrics(groups=True)
    metrics.update(preds.float() - 0.5, target.clamp(max=1), group=group)
    got = metrics.compute()
    assert got["recall"].method == "jackknife-groups"
    assert got["auroc"].method != "jackknife-groups"
    (note,) = [note for note in got.notes if note.startswith("Intervals are by groups")]
    names = "auroc, average_precision, ece, rms_calibration_error"
    assert f"Those of {names} are as much wider as that of accuracy is." in note
    alone = BinaryMetrics()
    alone.update(preds.float() - 0.5, target.clamp(max=1))
    rows, factor = alone.compute(), 0.0
    for name in ("accuracy", "auroc"):
        wider = (got[name].high - got[name].low) / (rows[name].high - rows[name].low)
        factor = factor or wider
        assert wider == pytest.approx(factor)
    assert factor > 1


def test_nothing_counted_has_nothing_to_say() -> None:
    got = MulticlassMetrics(3, groups=True, slices=2).compute()
    assert got.notes == ()
    assert math.isnan(got["accuracy"])
    assert list(got.per_slice) == ["0", "1"]


def test_intervals_by_groups_are_wider_where_rows_of_a_group_are_alike() -> None:
    preds, target, group = clustered(1000, 40, 2)
    robust, naive = (MulticlassMetrics(3, inputs="labels", groups=g) for g in (True, False))
    robust.update(preds, target, group=group)
    naive.update(preds, target)
    one, other = robust.compute()["accuracy"], naive.compute()["accuracy"]
    assert one.high - one.low > 1.3 * (other.high - other.low)
