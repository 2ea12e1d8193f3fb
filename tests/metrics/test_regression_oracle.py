"""Every score of regression against scikit-learn and NumPy in float64."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import Batch, same
from registry import LAW
from regression_cases import regression_batch, regression_columns, regression_rows
from scipy import stats
from sklearn import metrics as sk

from ptmetrics.counts.subgroups import buckets_of
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.metrics.score import Scores

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
seeds = st.integers(0, 2**32)


def scores_of(*batches: Batch, outputs: int = 1, **config: object) -> Scores:
    metrics = RegressionMetrics(num_outputs=outputs, **config)
    for batch in batches:
        metrics.update(batch.preds, batch.target, batch.weight)
    return metrics.compute()


def near(size: float, rows: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets of standard deviation 1 around `size`, and predictions that are 0.5 off."""
    rng = np.random.default_rng(seed)
    target = size + rng.standard_normal(rows)
    return target + 0.5 * rng.standard_normal(rows), target


def exact_r2(preds: np.ndarray, target: np.ndarray) -> float:
    """R² of the given float64 values in 64-bit-mantissa arithmetic or better."""
    p, t = preds.astype(np.longdouble), target.astype(np.longdouble)
    return float(1 - ((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum())


@given(st.integers(1, 3), st.integers(0, 50), seeds, st.booleans(), st.sampled_from(DTYPES))
@settings(LAW, max_examples=60)
def test_every_score_of_each_output_is_that_of_scikit_learn(
    outputs: int, rows: int, seed: int, weighted: bool, dtype: torch.dtype
) -> None:
    batch = regression_batch(outputs, rows, seed, weighted)
    batch.preds, batch.target = batch.preds.to(dtype), batch.target.to(dtype)
    got = scores_of(batch, outputs=outputs)
    preds, target, weight = regression_rows([batch], outputs)
    assert got.n == len(preds)
    for name, values in regression_columns(preds, target, weight).items():
        mine = got.per_class[name] if outputs > 1 else [got[name]]
        assert all(map(same, mine, values)), f"{name}: {mine} for {values}"


@given(st.integers(1, 3), st.integers(1, 200), seeds, st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.95]))
@LAW
def test_quantiles_of_the_error_are_those_of_numpy_within_their_certified_bound(
    outputs: int, rows: int, seed: int, q: float
) -> None:
    batch = regression_batch(outputs, rows, seed, False)
    got = scores_of(batch, outputs=outputs, quantiles=(q,))
    preds, target, _ = regression_rows([batch], outputs)
    assume(len(preds))
    error = np.abs(preds - target)
    for name, level in (("median_absolute_error", 0.5), (f"absolute_error/p{100 * q:g}", q)):
        expected = np.quantile(error, level, axis=0, method="averaged_inverted_cdf")
        mine = got.per_class[name] if outputs > 1 else [got[name]]
        for score, value in zip(mine, expected, strict=True):
            assert abs(score - value) <= score.error_bound + 1e-15
            assert score.error_bound <= 0.002 * value + 1e-30
    if outputs == 1:
        median = sk.median_absolute_error(target, preds)
        assert (
            abs(got["median_absolute_error"] - median)
            <= got["median_absolute_error"].error_bound + 1e-15
        )


@given(st.integers(1, 60), seeds)
@LAW
def test_a_weighted_median_is_that_of_the_rows_repeated_as_often_as_they_weigh(
    rows: int, seed: int
) -> None:
    batch = regression_batch(1, rows, seed, False)
    weight = torch.randint(0, 4, (rows,), generator=torch.Generator().manual_seed(seed))
    repeated = Batch(
        batch.preds.repeat_interleave(weight), batch.target.repeat_interleave(weight, 0)
    )
    batch.weight = weight
    got, expected = scores_of(batch), scores_of(repeated)
    for name in expected:
        if name not in ("max_error",):
            assert same(got[name], expected[name]), name


@pytest.mark.fault(25)
@pytest.mark.parametrize("size", [0.0, 1e4, 1e6, -1e6, 1e9])
@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_r2_and_variance_keep_nine_digits_wherever_the_values_lie(
    size: float, batch_rows: int
) -> None:
    preds, target = near(size)
    metrics = RegressionMetrics()
    for i in range(0, 1000, batch_rows):
        metrics.update(
            torch.tensor(preds[i : i + batch_rows]), torch.tensor(target[i : i + batch_rows])
        )
    got = metrics.compute()
    assert got["r2"].value == pytest.approx(exact_r2(preds, target), rel=1e-12)
    p, t = preds - preds.mean(), target - target.mean()
    assert got["pearson"].value == pytest.approx(p @ t / math.sqrt(p @ p * (t @ t)), rel=1e-9)
    assert got["mse"].value == pytest.approx(np.mean((preds - target) ** 2), rel=1e-13)


@pytest.mark.fault(25)
def test_values_near_a_million_survive_a_first_row_at_zero_and_batches_of_nan() -> None:
    preds, target = near(1e6, 5000)
    metrics = RegressionMetrics()
    nan = torch.full((8,), math.nan, dtype=torch.float64)
    for _ in range(3):
        metrics.update(nan, nan)
    metrics.update(torch.zeros(1), torch.zeros(1), torch.full((1,), 1e-9, dtype=torch.float64))
    weight = torch.ones(1000, dtype=torch.float64)
    for i in range(0, 5000, 1000):
        metrics.update(
            torch.tensor(preds[i : i + 1000]), torch.tensor(target[i : i + 1000]), weight
        )
    # One row of weight 1e-9 at a distance of 1e6 adds 1e-9 · 1e12 to a sum of squares of about 5000.
    everything = np.concatenate(([0.0], target)), np.concatenate(([1e-9], np.ones(5000)))
    t, w = (x.astype(np.longdouble) for x in everything)
    spread = (w * (t - (w * t).sum() / w.sum()) ** 2).sum()
    expected = float(1 - ((preds - target) ** 2).sum() / spread)
    assert metrics.compute()["r2"].value == pytest.approx(expected, rel=1e-9)


def test_a_constant_offset_shows_in_the_bias_and_in_r2_but_not_in_the_explained_variance() -> None:
    preds, target = near(0.0)
    got = scores_of(Batch(torch.tensor(preds + 1e6), torch.tensor(target)))
    plain = scores_of(Batch(torch.tensor(preds), torch.tensor(target)))
    assert got["bias"].value == pytest.approx(1e6 + plain["bias"].value, rel=1e-12)
    assert got["explained_variance"].value == pytest.approx(
        plain["explained_variance"].value, rel=1e-8
    )
    assert got["r2"] < -1e11


@pytest.mark.fault(15)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_summed_exactly(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    target = (300 * torch.randn(50_000, generator=g)).to(dtype)
    preds = (target.float() + 200 * torch.randn(50_000, generator=g)).to(dtype)
    got = scores_of(Batch(preds, target))
    p, t = preds.double().numpy(), target.double().numpy()
    assert got["mse"].value == pytest.approx(sk.mean_squared_error(t, p), rel=1e-12)
    assert got["mae"].value == pytest.approx(sk.mean_absolute_error(t, p), rel=1e-12)
    assert got["r2"].value == pytest.approx(sk.r2_score(t, p), rel=1e-12)


@pytest.mark.fault(16)
@pytest.mark.parametrize("big", [2**24, 2**31, 2**53, 2**62])
def test_whole_numbers_are_subtracted_before_they_are_rounded(big: int) -> None:
    got = scores_of(Batch(torch.tensor([big + 1, big, big - 1]), torch.tensor([big, big, big + 1])))
    assert (got["mae"].value, got["max_error"].value, got["mse"].value) == (
        1.0,
        2.0,
        pytest.approx(5 / 3),
    )
    assert got["bias"].value == pytest.approx(-1 / 3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_small_whole_numbers_do_not_wrap_around(dtype: torch.dtype) -> None:
    got = scores_of(Batch(torch.tensor([0, 100], dtype=dtype), torch.tensor([100, 0], dtype=dtype)))
    assert (got["mae"].value, got["bias"].value) == (100.0, 0.0)


@pytest.mark.fault(27)
def test_weights_are_kept_whatever_the_values() -> None:
    """Peer defect C: with values [1, 0] and weights [9, 1] a peer says 0.5."""
    got = scores_of(Batch(torch.tensor([1.0, 0.0]), torch.zeros(2), torch.tensor([9.0, 1.0])))
    assert got["mae"].value == pytest.approx(0.9, rel=1e-15)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, 7.0, 0.0, -3e-7])
def test_targets_of_one_value_or_a_rounding_apart_have_no_r2_and_the_reason_is_said(
    value: float, apart: bool
) -> None:
    metrics = RegressionMetrics()
    for rows in (3, 50, 7):
        preds, weight = torch.rand(2, rows, dtype=torch.float64)
        target = torch.full_like(preds, value)
        if apart and value:
            target[::2] = math.nextafter(value, math.inf)
        metrics.update(preds, target, weight)
    got = metrics.compute()
    for name in ("r2", "explained_variance", "pearson"):
        assert math.isnan(got[name])
        assert "fewer than two values" in str(got[name].reason)
    assert got["mse"] > 0


def test_predictions_of_one_value_have_no_correlation_and_predictions_that_hardly_vary_have_one() -> (
    None
):
    g = torch.Generator().manual_seed(1)
    target, noise = torch.randn(2, 500, generator=g, dtype=torch.float64)
    assert math.isnan(scores_of(Batch(torch.full_like(target, 0.3), target))["pearson"])
    preds = 0.3 + 1e-9 * (target + noise)
    expected = np.corrcoef(target + noise, target)[0, 1]
    assert scores_of(Batch(preds, target))["pearson"].value == pytest.approx(expected, rel=1e-6)


def test_perfect_predictions_score_perfectly() -> None:
    target = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    got = scores_of(Batch(target, target), outputs=2)
    assert {got[name].value for name in ("mse", "rmse", "mae", "bias", "max_error")} == {0.0}
    assert got["median_absolute_error"].value == 0.0
    for name in ("mse", "rmse", "mae"):
        assert (got[name].low, got[name].high) == (0.0, 0.0)
    for name in ("r2", "explained_variance"):
        assert (got[name].value, got[name].low, got[name].high) == (1.0, 1.0, 1.0)
    assert got["pearson"].value == pytest.approx(1.0, rel=1e-15)


def test_one_output_that_does_not_vary_leaves_the_mean_undefined_and_the_others_defined() -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randn(50, 2, generator=g)
    target[:, 1] = 3
    got = scores_of(Batch(target + torch.randn(50, 2, generator=g), target), outputs=2)
    assert math.isnan(got["r2"])
    assert "at least one output" in str(got["r2"].reason)
    assert not math.isnan(got.per_class["r2"][0])
    assert math.isnan(got.per_class["r2"][1])


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e12, 1e36])
def test_scores_scale_with_the_unit(scale: float) -> None:
    preds, target = (torch.tensor(x) for x in near(3.0, 300))
    one, other = scores_of(Batch(preds, target)), scores_of(Batch(preds * scale, target * scale))
    for name, power in (
        ("mse", 2),
        ("rmse", 1),
        ("mae", 1),
        ("r2", 0),
        ("pearson", 0),
        ("max_error", 1),
    ):
        for end in ("value", "low", "high"):
            expected = getattr(one[name], end) * scale**power
            assert getattr(other[name], end) == pytest.approx(expected, rel=1e-9), (name, end)
    median = one["median_absolute_error"].value * scale
    assert other["median_absolute_error"].value == pytest.approx(median, rel=4e-3)


def test_errors_below_the_bins_are_nothing_and_none_is_beyond_them() -> None:
    error = torch.tensor([1e-50, 1e-45, 1.0], dtype=torch.float64)
    tiny = scores_of(Batch(error, torch.zeros(3)))["median_absolute_error"]
    assert (tiny.value, tiny.error_bound, tiny.low) == (0.0, 0.0, 0.0)
    most = torch.full((3,), 1e37, dtype=torch.float64)  # what is larger is refused
    median = scores_of(Batch(most, -most))["median_absolute_error"]
    assert abs(median.value - 2e37) <= median.error_bound * (1 + 1e-12)
    assert median.error_bound <= 1e-2 * 2e37


def test_one_row_has_values_and_says_where_there_is_no_interval() -> None:
    got = scores_of(Batch(torch.tensor([2.0]), torch.tensor([[1.0]])))
    assert (got["mse"].value, got["mae"].value, got["max_error"].value) == (1.0, 1.0, 1.0)
    assert math.isnan(got["mse"].low)
    assert math.isnan(got["r2"])
    two = scores_of(Batch(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 3.5])))
    assert two["r2"].value == pytest.approx(1 - 1.25 / 3.125)
    assert math.isnan(two["r2"].low)
    assert two["mse"].low > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert math.isnan(sk.r2_score([1.0], [2.0]))


def grouped(outputs: int) -> tuple[Batch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of groups that err together, some refused; their slices, groups, and buckets of the groups."""
    batch = regression_batch(outputs, 400, 3, True)
    g = torch.Generator().manual_seed(4)
    group = torch.randint(1, 13, (400,), generator=g)
    together = torch.randn(13, generator=g)[group]
    batch.preds = (batch.preds.reshape(400, outputs) + together.unsqueeze(1)).view_as(batch.preds)
    return batch, torch.randint(-1, 3, (400,), generator=g), group, buckets_of(group)


@pytest.mark.parametrize("outputs", [1, 2])
def test_slices_are_scored_as_by_a_metric_of_their_own(outputs: int) -> None:
    batch, slices, _, _ = grouped(outputs)
    metrics = RegressionMetrics(num_outputs=outputs, slices=("a", "b", "c"))
    for rows in torch.arange(400).split(150):
        part = batch.rows(rows.tolist())
        metrics.update(part.preds, part.target, part.weight, slices=slices[rows])
    got = metrics.compute().per_slice
    assert set(got) == {"a", "b", "c"}
    headline = [scores["mae"].value for scores in got.values()]
    assert headline == sorted(headline, reverse=True)
    for i, name in enumerate("abc"):
        alone = scores_of(batch.rows((slices == i).nonzero().flatten().tolist()), outputs=outputs)
        assert got[name].keys() == IN_SLICES
        for score, mine in got[name].items():
            for end in ("value", "low", "high", "n"):
                assert same(getattr(mine, end), getattr(alone[score], end), 1e-9), (
                    name,
                    score,
                    end,
                )


SCALES = {
    "mse": (np.log, np.exp),
    "rmse": (np.log, np.exp),
    "mae": (np.log, np.exp),
    "r2": (lambda x: np.log(1 - x), lambda x: 1 - np.exp(x)),
    "explained_variance": (lambda x: np.log(1 - x), lambda x: 1 - np.exp(x)),
    "pearson": (np.arctanh, np.tanh),
    "bias": (lambda x: x, lambda x: x),
}
IN_SLICES = SCALES.keys()


@pytest.mark.parametrize(("outputs", "size"), [(1, 1e7), (2, 0.0)])
def test_intervals_by_groups_are_a_jackknife_over_metrics_without_each_bucket(
    outputs: int, size: float
) -> None:
    batch, _, group, bucket = grouped(outputs)
    assert (bucket > 0).all(), "the first bucket is empty: its centre is not that of the rows"
    batch.preds = batch.preds.double() + size
    batch.target = batch.target.double() + size
    metrics = RegressionMetrics(num_outputs=outputs, groups=True)
    metrics.update(batch.preds, batch.target, batch.weight, group=group)
    got = metrics.compute()
    buckets = bucket.unique().tolist()
    left_out = [
        scores_of(batch.rows((bucket != b).nonzero().flatten().tolist()), outputs=outputs)
        for b in buckets
    ]
    plain = scores_of(batch, outputs=outputs)
    number = len(buckets)
    for name, (to, back) in SCALES.items():
        centre = to(plain[name].value)
        off = np.array([to(scores[name].value) for scores in left_out]) - centre
        t = stats.t.ppf(0.975, number - 1)
        half = t * math.sqrt((number - 1) / number * (off @ off))
        above = half
        if to is np.log:  # a few groups may lack the one that is far out
            above = half * np.minimum(1 + 1.5 * number * (half / t) ** 2 / math.sqrt(number), 3)
        ends = sorted([back(centre - half), back(centre + above)])
        assert [got[name].low, got[name].high] == pytest.approx(ends, rel=1e-5), name
        assert got[name].method == "jackknife-groups"
        assert same(got[name].value, plain[name].value, 1e-12)
    assert got["max_error"].method == "sample-maximum"
    lead = got.headline
    factor = (got[lead].high - got[lead].low) / (plain[lead].high - plain[lead].low)
    p90 = plain["absolute_error/p90"]
    wider = p90.value + factor * (p90.high - p90.value)
    assert same(got["absolute_error/p90"].high, wider, 1e-9)
    (note,) = got.notes
    assert "Those of max_error, median_absolute_error, absolute_error/p50" in note
    if outputs > 1:
        assert got.per_class["mae"][0].method == "jackknife-groups"


def test_stored_samples_are_errors_and_targets() -> None:
    metrics = RegressionMetrics()
    samples = metrics.store_samples(10)
    metrics.update(torch.tensor([1.0, math.inf, 3.0]), torch.tensor([0.5, 1.0, 4.0]))
    columns, reason = samples.columns()
    assert reason is None
    assert columns is not None
    error, target = columns.tolist()
    assert (error[0], error[2], target) == (0.5, -1.0, [0.5, 1.0, 4.0])
    assert math.isnan(error[1])
    many = RegressionMetrics(num_outputs=2)
    samples = many.store_samples(10)
    many.update(torch.zeros(3, 2), torch.zeros(3, 2))
    assert samples.columns()[0] is None
