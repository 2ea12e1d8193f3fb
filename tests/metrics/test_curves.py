"""AUROC and average precision against scikit-learn in float64: never farther off than the certified bound says."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from registry import LAW
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics
from ptmetrics.counts.keys import FloatKeys
from ptmetrics.metrics import score_bins
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.curves import auroc_estimate, average_precision_estimate
from ptmetrics.metrics.score import Score, Scores
from ptmetrics.metrics.score_bins import ScoreBins
from ptmetrics.testing import Guard, Operations, fake_cuda

ROUNDING = 1e-12  # of float64 sums, ours and scikit-learn's
REFERENCE = {"auroc": roc_auc_score, "average_precision": average_precision_score}
seeds = st.integers(0, 2**32)


def counted(preds: Tensor, target: Tensor, weight: Tensor | None = None, **config: Any) -> Scores:
    metrics = BinaryMetrics(losses=False, **config)
    for piece in torch.arange(len(target)).tensor_split(3):
        metrics.update(preds[piece], target[piece], None if weight is None else weight[piece])
    return metrics.compute()


def reference(name: str, preds: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    weights = None if weight is None else weight.double().numpy()
    return float(REFERENCE[name](target.numpy(), preds.double().numpy(), sample_weight=weights))


def assert_certified(
    got: Scores, preds: Tensor, target: Tensor, weight: Tensor | None = None
) -> None:
    for name in REFERENCE:
        truth = reference(name, preds, target, weight)
        assert abs(got[name] - truth) <= got[name].error_bound + ROUNDING, (
            name,
            got[name].value,
            truth,
        )


def sampled(rows: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Normal scores, one standard deviation higher for positives."""
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, generator=g) < share).long()
    return torch.randn(rows, generator=g) + target, target


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "wide": lambda x: 8 * x,
    "near zero": lambda x: 0.01 * x,
    "rare": lambda x: x - 7,
    "saturated": lambda x: x + 20,
    "huge": lambda x: 1e4 * x,
    "enormous": lambda x: 1e30 * x,
    "tiny": lambda x: 1e-9 * x,
    "many ties": lambda x: x.round(),
    "whole": lambda x: (10 * x).round(),
    "constant": lambda x: 0 * x + 0.3,
    "zeros": lambda x: 0 * x,
    "spike": lambda x: x.clamp(min=0),
}


@pytest.mark.fault(23)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.slow
def test_scores_of_any_shape_and_type_are_within_the_bound(
    shape: str, dtype: torch.dtype, weighted: bool
) -> None:
    if dtype == torch.float16 and shape in ("huge", "enormous"):
        pytest.skip("float16 has no numbers so large, and scikit-learn takes no infinite ones")
    for seed, (rows, share) in enumerate([(40, 0.5), (3000, 0.3), (20_000, 0.001)]):
        x, target = sampled(rows, share, seed)
        preds = SHAPES[shape](x).to(dtype)
        weight = (
            torch.rand(rows, generator=torch.Generator().manual_seed(seed)) * 3
            if weighted
            else None
        )
        assert_certified(counted(preds, target, weight), preds, target, weight)


@pytest.mark.parametrize("shape", ["plain", "rare", "near zero", "many ties"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_are_within_the_bound(shape: str, dtype: torch.dtype) -> None:
    x, target = sampled(5000, 0.2, 5)
    preds = SHAPES[shape](x.double()).sigmoid().to(dtype)
    got = counted(preds, target, inputs="probs")
    assert_certified(got, preds, target)
    if dtype in (torch.float32, torch.float64) and shape != "many ties":
        assert got["auroc"].error_bound < 2e-3


@pytest.mark.fault(23)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shift", [0.0, 20.0])
@pytest.mark.parametrize("as_float", [False, True], ids=["half", "widened"])
def test_a_half_precision_model_has_exact_curves(
    dtype: torch.dtype, shift: float, as_float: bool
) -> None:
    x, target = sampled(5000, 0.3, 1)
    preds = (4 * x + shift).to(dtype)
    preds = (
        preds[preds.float().abs() > 1e-5].float() if as_float else preds[preds.float().abs() > 1e-5]
    )
    target = target[: len(preds)]
    got = counted(preds, target)
    for name in REFERENCE:
        assert got[name].error_bound == 0.0
        assert got[name].value == pytest.approx(reference(name, preds, target), abs=ROUNDING)


@pytest.mark.fault(23)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", ["plain", "wide", "rare", "near zero", "saturated"])
@pytest.mark.parametrize("as_float", [False, True], ids=["half", "widened"])
def test_probabilities_in_half_precision_have_exact_curves(
    dtype: torch.dtype, shape: str, as_float: bool
) -> None:
    x, target = sampled(5000, 0.3, 1)
    preds = (SHAPES[shape](x) if shape != "saturated" else x + 5).sigmoid().to(dtype)
    target, preds = target[preds > 1e-9], preds[preds > 1e-9]
    got = counted(preds.float() if as_float else preds, target, inputs="probs")
    for name in REFERENCE:
        assert got[name].error_bound == 0.0
        assert got[name].value == pytest.approx(reference(name, preds, target), abs=ROUNDING)


def test_a_few_scores_off_the_grid_cost_next_to_nothing() -> None:
    x, target = sampled(20_000, 0.3, 1)
    preds = x.bfloat16().float()
    preds[:3] = torch.tensor([1.0001, 0.5001, 2.0001])  # in rows of others
    got = counted(preds, target)
    assert_certified(got, preds, target)
    assert 0 < got["auroc"].error_bound < 1e-5
    assert 0 < got["average_precision"].error_bound < 2e-3


@pytest.mark.fault(19)
def test_rows_of_nan_are_refused_and_exact_ties_stay_exact() -> None:
    preds = torch.tensor([1.0, 2.0, 1.0, math.nan, 2.0, math.nan, math.nan])
    target = torch.tensor([0, 1, 1, 1, 0, 0, -100])
    metrics = BinaryMetrics(ignore_index=-100)
    metrics.update(preds, target)
    got = metrics.compute()
    assert got["auroc"].value == roc_auc_score([0, 1, 1, 0], [1, 2, 1, 2])
    assert got["auroc"].error_bound == got["average_precision"].error_bound == 0.0
    assert got["auroc"].n == 4
    assert got.faults["nan-score"]["count"] == 2
    assert (
        got.faults["nan-score"]["message"]
        == "2 × row with a NaN prediction, refused; first in update 0"
    )


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=6))
@settings(LAW, max_examples=15)
def test_the_bounds_hold_for_every_way_that_the_rows_could_be_filled(
    rows: list[tuple[int, bool]],
) -> None:
    """Every score is 1, 2 or 3 wherever its row allows it: three places in each row, all of them tried."""
    target = torch.tensor([t for _, t in rows]).long()
    assume(0 < target.sum() < len(rows))
    row = torch.tensor([s for s, _ in rows])
    counts = torch.zeros(14, dtype=torch.int64).index_add_(
        0, 2 * (row + 3) + target, torch.ones(len(rows)).long()
    )
    counts = counts.view(7, 2)
    tied = torch.zeros(7, dtype=torch.bool)
    bins = ScoreBins(counts, counts.double(), counts.double(), tied, tied)
    summary = bins.summary().numpy()
    with np.errstate(all="ignore"):
        estimates = {
            "auroc": auroc_estimate(summary),
            "average_precision": average_precision_estimate(summary),
        }
    for name, estimate in estimates.items():
        worst = 0.0
        for places in itertools.islice(itertools.product((0, 1, 2), repeat=len(rows)), 250):
            truth = reference(name, row * 10 + torch.tensor(places), target)
            worst = max(worst, abs(float(estimate.value) - truth))
        assert worst <= float(estimate.error_bound) + ROUNDING


@given(st.integers(1, 60), seeds, st.sampled_from([3, 8, 1000]), st.integers(0, 4))
@settings(LAW, max_examples=30)
def test_few_inexact_scores_move_the_scores_no_farther_than_their_bound(
    size: int, seed: int, values: int, loose: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    preds = torch.randint(0, values, (size,), generator=g) / 4
    target = torch.randint(0, 2, (size,), generator=g)
    assume(0 < target.sum() < size)
    preds[:loose] += 1e-5 * torch.randn(min(loose, size), generator=g)
    assert_certified(counted(preds, target), preds, target)


@given(st.integers(2, 80), seeds, st.booleans(), st.sampled_from(["exact", "fp16"]))
@settings(LAW, max_examples=20)
def test_every_choice_of_curves_is_certified(
    size: int, seed: int, weighted: bool, curves: Any
) -> None:
    preds, target = sampled(size, 0.4, seed)
    assume(0 < target.sum() < size)
    preds = preds.round(decimals=2)
    weight = torch.rand(size, generator=torch.Generator().manual_seed(seed)) if weighted else None
    got = counted(preds, target, weight, curves=curves, capacity=100)
    assert_certified(got, preds, target, weight)
    if curves == "exact" and not weighted:
        assert got["auroc"].error_bound == got["average_precision"].error_bound == 0.0


def test_exact_curves_fall_back_to_the_histogram_when_there_is_no_room() -> None:
    preds, target = sampled(500, 0.4, 1)
    small, plain = counted(preds, target, curves="exact", capacity=499), counted(preds, target)
    for name in REFERENCE:
        assert small[name].to_dict() == plain[name].to_dict()
    assert small[name].error_bound > 0
    assert len(small.thresholds().tp) == len(plain.thresholds().tp)
    large = counted(preds, target, curves="exact", capacity=500)
    assert len(large.thresholds().tp) == len(preds.unique())


def test_fine_rows_leave_64_times_less_doubt() -> None:
    preds, target = sampled(60_000, 0.5, 1)
    coarse, fine = counted(preds, target), counted(preds, target, curves="fine")
    assert fine["auroc"].error_bound == pytest.approx(coarse["auroc"].error_bound / 64, rel=0.2)
    assert_certified(fine, preds, target)


@pytest.mark.parametrize(
    ("preds", "curves", "words"),
    [
        (
            lambda x: x + 20,
            "fp16",
            ("auroc: its error bound 0.00", "passes 0.001", 'curves="fine"'),
        ),
        (
            lambda x: x + 3000,
            "fp16",
            ("average_precision: its error bound", "passes 0.005", 'curves="fine"'),
        ),
        (
            lambda x: 1e-7 * x + 1,
            "fine",
            ("auroc: its error bound", "passes 0.001", 'curves="exact"'),
        ),
    ],
)
def test_a_bound_past_its_tolerance_is_told_with_what_would_hold_it(
    preds: Callable[[Tensor], Tensor], curves: Any, words: tuple[str, ...]
) -> None:
    x, target = sampled(20_000, 0.5, 1)
    got = counted(preds(x), target, curves=curves)
    assert any(all(word in note for word in words) for note in got.notes), got.notes
    assert str(got).endswith(f"{got.notes[-1]}\n")
    assert got.to_dict()["notes"] == list(got.notes)


def test_a_bound_within_its_tolerance_is_not_talked_about() -> None:
    assert counted(*sampled(20_000, 0.5, 1)).notes == ()


@pytest.mark.fault(24)
@pytest.mark.parametrize("target", [[], [0, 0, 0], [1, 1, 1]])
@pytest.mark.parametrize("curves", ["fp16", "exact"])
def test_one_class_only_or_no_data_has_no_curve_and_says_why(
    target: list[int], curves: Any
) -> None:
    got = counted(torch.randn(len(target)), torch.tensor(target, dtype=torch.int64), curves=curves)
    reasons = {"auroc": "the targets hold one class only"}
    if sum(target):  # as scikit-learn's
        assert got["average_precision"].value == got["average_precision"].high == 1.0
        assert 0 < got["average_precision"].low < 1
    else:
        reasons["average_precision"] = "no target is positive"
    for name, reason in reasons.items():
        assert math.isnan(got[name])
        assert got[name].reason == reason
        assert math.isnan(got[name].low)
        assert math.isnan(got[name].high)


def test_infinite_scores_rank_above_and_below_all_others() -> None:
    preds = torch.tensor([-math.inf, 0.5, math.inf, -math.inf, 1e30, math.inf])
    target = torch.tensor([0, 1, 1, 1, 0, 0])
    order = torch.tensor([0.0, 1.0, 3.0, 0.0, 2.0, 3.0])
    assert_certified(counted(preds, target), order, target)
    exact = counted(preds, target, curves="exact")
    assert exact["auroc"].value == pytest.approx(reference("auroc", order, target), abs=ROUNDING)


def test_the_global_generator_is_untouched() -> None:
    before = torch.random.get_rng_state()
    counted(*sampled(200, 0.5, 1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_merged_halves_have_the_bound_of_the_whole() -> None:
    preds, target = sampled(4000, 0.3, 2)
    halves: list[Score] = []
    for cut in (0, 1000, 3999):
        one, other = BinaryMetrics(), BinaryMetrics()
        one.update(preds[:cut], target[:cut])
        other.update(preds[cut:], target[cut:])
        halves.append(one.merge_state([other]).compute()["average_precision"])
    assert len({repr(score.to_dict()) for score in halves}) == 1


@pytest.mark.parametrize("rows", [200, 2000, 50_000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_scores_rounded_to_one_digit_are_ties_and_their_curves_exact(
    rows: int, dtype: torch.dtype, inputs: Any, weighted: bool
) -> None:
    x, target = sampled(rows, 0.3, rows)
    preds = x.double()
    if inputs == "probs":
        preds = preds.sigmoid()
    preds = preds.round(decimals=1).to(dtype)
    weight = torch.rand(rows, generator=torch.Generator().manual_seed(1)) if weighted else None
    got = counted(preds, target, weight, inputs=inputs)
    for name in REFERENCE:
        assert got[name].error_bound == 0.0
        assert got[name].value == pytest.approx(reference(name, preds, target, weight), abs=1e-9)


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8, unique=True),
    st.integers(2, 200),
    seeds,
    st.sampled_from([torch.float32, torch.float64]),
)
@settings(LAW, max_examples=60)
def test_the_bound_is_0_if_and_only_if_equal_scores_alone_share_rows(
    levels: list[float], size: int, seed: int, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(seed)
    level = torch.tensor(levels, dtype=dtype)
    assume(((level == 0) | (level.abs() > 1e-3)).all())  # the tiny are told apart by exact curves
    if dtype == torch.float64:
        level = level / 3
    chosen = torch.randint(0, len(levels), (size,), generator=g)
    target = torch.randint(0, 2, (size,), generator=g)
    assume(0 < target.sum() < size)
    preds = level[chosen]
    got = counted(preds, target)
    assert_certified(got, preds, target)
    row = FloatKeys().position(preds)
    mixed = False
    for one in row.unique():
        here = row == one
        mixed |= len(preds[here].unique()) > 1 and len(target[here].unique()) > 1
    assert (got["auroc"].error_bound > 0) == mixed


def test_two_values_of_one_row_are_never_taken_for_a_tie_however_often_they_come() -> None:
    for one, other in ((0.3, 0.30001), (1e5, 2e5), (1e-9, 2e-9), (math.inf, 1e30), (0.0, 1e-30)):
        preds = torch.tensor([one, other]).repeat(4096)
        target = torch.arange(8192) % 2
        assert counted(preds, target)["auroc"].error_bound > 0.4


def test_every_interval_is_widened_by_the_bound() -> None:
    x, target = sampled(4000, 0.5, 1)
    preds = x + 3000
    got = counted(preds, target)
    exact = counted(preds, target, curves="exact")
    for name in REFERENCE:
        assert got[name].low <= got[name].value - got[name].error_bound
        assert got[name].low < exact[name].low
        assert exact[name].high < got[name].high


def test_a_row_with_an_impossible_weight_says_nothing_about_ties() -> None:
    preds = torch.tensor([0.3, 0.3, 0.30001])
    weight = torch.tensor([1.0, 1.0, math.nan])
    got = counted(preds, torch.tensor([0, 1, 1]), weight)
    assert got["auroc"].error_bound == 0
    assert got["auroc"].value == 0.5


@pytest.mark.slow
@pytest.mark.fault(46)
def test_ten_million_scores_take_the_room_of_one_batch_and_are_within_their_bound() -> None:
    """A fixed histogram: 8 MiB of a state, and temporaries of a batch, however many rows come."""
    metrics = BinaryMetrics()
    room = metrics.state_bytes
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(10):
        target = (torch.rand(1_000_000, generator=generator) < 0.1).long()
        preds = torch.randn(1_000_000, generator=generator) + target
        batches.append((preds, target))
        with Operations() as seen:
            metrics.update(preds, target)
        assert seen.largest_bytes <= 8 * 1_000_000
    got = metrics.compute()
    assert metrics.state_bytes == room < 8 * 2**20
    preds, target = (torch.cat(column) for column in zip(*batches, strict=True))
    truth = roc_auc_score(target.numpy(), preds.double().numpy())
    assert got["auroc"].n == 10_000_000
    assert abs(got["auroc"].value - truth) <= got["auroc"].error_bound + 1e-12
    assert got["auroc"].error_bound < 1e-3


POINTS = ("recall@precision>=0.7", "tpr@fpr<=0.1", "auroc@fpr<=0.3", "eer")
HEADS: dict[str, Callable[[], Metrics]] = {
    "one": lambda: BinaryMetrics(losses=False, at=POINTS),
    "labels": lambda: MultilabelMetrics(5, at=POINTS),
    "classes": lambda: MulticlassMetrics(5, curves=True, labels=[0, 2], at=POINTS),
    "stored": lambda: MultilabelMetrics(5, curves="exact", capacity=500),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", HEADS)
def test_a_device_without_a_look_at_values_gives_the_same_summary(
    kind: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There all rows are read, all heads at once, and both ways of each choice are worked out."""
    metrics = HEADS[kind]()
    g = torch.Generator().manual_seed(2)
    rows = 400
    shape = (rows,) if kind == "one" else (rows, 5)
    target = torch.randint(0, 2, (rows,) if kind == "classes" else shape, generator=g)
    preds = (8 * torch.randn(shape, generator=g)).round() / 8 + torch.randn(
        shape, generator=g
    ) / 999
    if kind in ("labels", "stored"):
        target[:, 3] = 0  # without a positive
    weight = 0.1 + torch.rand(rows, generator=g) if weighted else None
    metrics.update(preds, target, weight)
    state = metrics.shared_state()
    looked = metrics.summarize(state)
    monkeypatch.setattr(score_bins, "in_memory", lambda values: False)
    monkeypatch.setattr(score_bins, "CACHED_BINS", score_bins.BINS_AT_ONCE)
    unseen = metrics.summarize(state)
    name = next(name for name in looked if name.endswith(score_bins.SUMMARY))
    torch.testing.assert_close(unseen[name], looked[name], rtol=1e-11, atol=1e-13, equal_nan=True)
    assert looked[name].isfinite().any()


@pytest.mark.parametrize(
    ("make", "shape", "most"),
    [
        (lambda: BinaryMetrics(losses=False), (9,), 155),
        (BinaryMetrics, (9,), 195),
        (lambda: MultilabelMetrics(2), (9, 2), 310),
        (lambda: MultilabelMetrics(30), (9, 30), 310),
    ],
)
def test_curves_are_summed_up_in_few_launches_however_many_labels_there_are(
    make: Callable[[], Metrics], shape: tuple[int, ...], most: int
) -> None:
    with fake_cuda():
        metrics = make().to("cuda")
        target = torch.zeros(shape, dtype=torch.int64, device="cuda")
        metrics.update(torch.zeros(shape, device="cuda"), target)
        state = metrics.shared_state()
        with Guard() as guard:
            metrics.summarize(state)
    assert len(guard.names) <= most


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_curves_that_are_read_side_by_side_say_what_each_says_alone(
    weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = torch.Generator().manual_seed(0)
    preds = torch.randn(900, 5, generator=g)
    preds[:, 2] = preds[:, 2].round()
    target = torch.randint(0, 2, (900, 5), generator=g)
    target[:, 0] = -1  # a label of which nothing is kept, and one of a single row
    target[1:, 1] = -1
    metrics = MultilabelMetrics(5, ignore_index=-1, at=["tpr@fpr<=0.1"])
    weight = None
    if weighted:
        weight = torch.rand(900, generator=g)
    metrics.update(preds, target, weight)
    found = []
    for at_once in (1, 1300, 1 << 16):
        monkeypatch.setattr(score_bins, "SIDE_BY_SIDE", at_once)
        found.append(metrics.compute())
    alone = found[0]
    for scores in found[1:]:
        for name in ("auroc", "average_precision", "tpr@fpr<=0.1"):
            for mine, other in zip(scores.per_class[name], alone.per_class[name], strict=True):
                for end in ("value", "low", "high", "error_bound", "n"):
                    expected = pytest.approx(getattr(other, end), rel=1e-12, nan_ok=True)
                    assert getattr(mine, end) == expected, (name, end)
