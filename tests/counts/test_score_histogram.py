"""Keys keep the order of floats, histograms lose nothing but what shares a row, and stored scores lose nothing."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import LAW
from torch import Tensor

from ptmetrics import BinaryMetrics
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.cell import Cell
from ptmetrics.counts.keys import FloatKeys, ProbabilityKeys
from ptmetrics.counts.score_histogram import ScoreHistogram, tied_rows
from ptmetrics.counts.stored_scores import StoredScores, pack_scores, unpack_scores
from ptmetrics.metrics.score_bins import ScoreBins

DIGITS = (6, 10, 16)
HALVES = torch.arange(0x3C01, dtype=torch.int16).view(torch.float16)  # every float16 from 0 to 1
every_key = st.sampled_from([FloatKeys(d) for d in DIGITS])
every_width = pytest.mark.parametrize("keys", [FloatKeys(d) for d in DIGITS], ids=DIGITS)
singles = st.floats(width=32, allow_nan=False)
doubles = st.floats(allow_nan=False)
EDGES = [
    0.0,
    -0.0,
    2**-149,
    -(2**-149),
    2**-25,
    -(2**-25),
    65504.0,
    65520.0,
    65536.0,
    65537.0,
    3e38,
    math.inf,
]


def all_of(dtype: torch.dtype) -> Tensor:
    """Every number of a 16-bit type, in order, NaN left out."""
    values = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).float()
    return values[~values.isnan()].sort().values


@every_width
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    values=st.lists(singles | doubles | st.sampled_from([*EDGES, *(-e for e in EDGES)]), min_size=2)
)
@settings(LAW, max_examples=200)
def test_a_higher_score_never_lies_in_a_lower_row(
    keys: FloatKeys, dtype: torch.dtype, values: list[float]
) -> None:
    score = torch.tensor(values, dtype=torch.float64).to(dtype).sort().values
    assert (keys.position(score).diff() >= 0).all()


@every_width
@given(st.lists(doubles, min_size=1))
@LAW
def test_every_code_lies_in_the_table_where_the_order_says(
    keys: FloatKeys, values: list[float]
) -> None:
    score = torch.tensor(values, dtype=torch.float64)
    row = keys.code(score)[0].long() + keys.zero
    assert int(row.min()) >= 0
    assert int(row.max()) < keys.rows
    assert torch.equal(keys.order(score.device)[keys.position(score)], row)


@every_width
def test_the_row_of_zero_divides_negative_from_positive(keys: FloatKeys) -> None:
    tiny = torch.tensor([-(2.0**-149), -0.0, 0.0, 2.0**-149])
    below = keys.position(tiny) < keys.first_positive
    assert below.tolist() == [True, False, False, False]
    assert keys.position(tiny[1:2]) == keys.position(tiny[2:3])


def test_float16_scores_each_have_a_row_of_their_own() -> None:
    values = all_of(torch.float16)
    positions, offset = FloatKeys().position(values), FloatKeys().code(values)[1]
    assert not offset.any()
    distinct = values.diff() != 0  # −0 and 0 are one number
    assert torch.equal(positions.diff() != 0, distinct)


def test_bfloat16_scores_are_exact_but_for_the_tiny_and_the_huge() -> None:
    values = all_of(torch.bfloat16)
    inexact = values[FloatKeys().code(values)[1] != 0].abs()
    assert inexact[inexact < 1].max() < 7.6e-6
    assert inexact[inexact >= 1].min() > 65504


@given(st.lists(singles, min_size=2, max_size=30))
@settings(LAW, max_examples=100)
def test_exact_scores_of_one_row_are_equal(values: list[float]) -> None:
    score = torch.tensor(values)
    for keys in (FloatKeys(), FloatKeys(16)):
        exact = score[keys.code(score)[1] == 0].sort().values
        same_row, equal = keys.position(exact).diff() == 0, exact[1:] == exact[:-1]
        assert torch.equal(same_row, equal)


def test_every_float16_probability_has_a_row_of_its_own_seen_from_either_side() -> None:
    keys = ProbabilityKeys()
    for p in (HALVES, HALVES.float(), HALVES.double()):
        assert not keys.code(p)[1].any()
        assert (keys.position(p).diff() > 0).all()


def test_bfloat16_probabilities_are_exact_but_for_the_tiny() -> None:
    p = torch.arange(0x3F81, dtype=torch.int16).view(torch.bfloat16)
    inexact = p[ProbabilityKeys().code(p)[1] != 0]
    assert 9e-10 < inexact.max() < 1e-9
    assert (ProbabilityKeys().position(p[p >= 1e-9]).diff() > 0).all()


@given(
    st.lists(st.floats(0, 1) | st.floats(0, 1, width=32) | st.floats(0, 1, width=16), min_size=1)
)
def test_a_higher_probability_never_lies_in_a_lower_row_and_a_half_divides(
    values: list[float],
) -> None:
    keys, p = (
        ProbabilityKeys(),
        torch.tensor([*values, 0.5, 1.0, 0.0, -0.0], dtype=torch.float64).sort().values,
    )
    position, (code, offset) = keys.position(p), keys.code(p)
    inexact = offset != 0
    assert (position.diff() >= 0).all()
    assert torch.equal(position >= keys.first_positive, p >= 0.5)
    assert torch.equal(keys.order(torch.device("cpu"))[position], code.long() + keys.zero)
    kept, rows = p[~inexact], position[~inexact]
    assert torch.equal(rows.diff() == 0, kept.diff() == 0)


def test_rows_of_probabilities_are_a_permutation() -> None:
    keys = ProbabilityKeys()
    assert torch.equal(keys.order(torch.device("cpu")).sort().values, torch.arange(keys.rows))


def test_the_curve_of_a_binary_metric_fits_into_two_mebibytes_with_all_that_is_beside_it() -> None:
    assert ScoreHistogram("curve", FloatKeys()).cells()[0].shape == (64513, 2)
    assert BinaryMetrics().state_bytes == 2_064_616 < 2**21
    assert BinaryMetrics(curves="fine").state_bytes < 127 * 2**20
    assert BinaryMetrics(curves="exact", capacity=1000).state_bytes < 2**21 + 8 * 1000


def test_weights_count_as_often_as_their_size() -> None:
    score, target = torch.tensor([0.5, 0.5, -2.0, 7.3]), torch.tensor([1, 0, 1, 1])
    repeat = torch.tensor([3, 1, 0, 2])
    weighted, repeated = BinaryMetrics(), BinaryMetrics()
    weighted.update(score, target, repeat)
    repeated.update(score.repeat_interleave(repeat), target.repeat_interleave(repeat))
    state, plain = weighted.state_dict()["cells"], repeated.state_dict()["cells"]
    assert torch.equal(state["curve.weight"], plain["curve"].double())
    assert (state["curve_ties"] != 0).sum() == 2  # 7.3 is no float16; ties are about rows


@given(
    st.integers(-12, 14),
    st.lists(st.integers(0, 3000), min_size=1, max_size=30),
    st.sampled_from([torch.float32, torch.float64]),
    every_key,
)
@settings(LAW, max_examples=100)
def test_sums_tell_whether_all_scores_of_a_row_are_equal(
    exponent: int, steps: list[int], dtype: torch.dtype, keys: FloatKeys
) -> None:
    one = torch.tensor(2.0**exponent, dtype=dtype)
    kind = torch.int64 if dtype == torch.float64 else torch.int32
    score = (one.view(kind) + torch.tensor(steps, dtype=kind)).view(dtype)
    histogram = ScoreHistogram("curve", keys)
    cell = torch.zeros(keys.rows, 2, dtype=torch.int64)
    target = torch.zeros(len(steps), dtype=torch.int64)
    counts = histogram.count(Batch(score, target), score, target, None)
    add_ties: Any = counts["curve_ties"]
    add_ties(cell)
    row = keys.code(score)[0].long() + keys.zero
    for here in row.unique():
        tied, exact = tied_rows((row == here).sum(), cell[here])
        values = score[row == here].unique()
        assert bool(tied) == (len(values) == 1)
        assert not exact or tied


@given(st.lists(singles, min_size=1, max_size=40), st.randoms(use_true_random=False))
@settings(LAW, max_examples=100)
def test_packed_scores_come_back_sorted_with_their_targets(
    values: list[float], random: object
) -> None:
    score = torch.tensor(values)
    target = torch.arange(len(values)) % 2
    got, labels, real = unpack_scores(
        torch.cat((pack_scores(score, target), torch.tensor([torch.inf] * 2).double()))
    )
    assert real.tolist() == [True] * len(values) + [False] * 2
    pairs = [
        (x.clamp(-1e300, 1e300).item() + 0.0, t)
        for x, t in zip(score.double(), target.tolist(), strict=True)
    ]
    assert sorted(zip(got[real].tolist(), labels[real].tolist(), strict=True)) == sorted(pairs)


def test_stored_scores_forget_the_order_of_batches_and_ranks() -> None:
    g = torch.Generator().manual_seed(3)
    score, target = torch.randn(50, generator=g), torch.randint(0, 2, (50,), generator=g)
    parts = [BinaryMetrics(curves="exact", capacity=60) for _ in range(3)]
    for part, rows in zip(parts, torch.randperm(50, generator=g).split(20), strict=True):
        part.update(score[rows], target[rows])
    forward, backward = (
        BinaryMetrics(curves="exact", capacity=60).merge_state(p) for p in (parts, parts[::-1])
    )
    one, other = (m.state_dict()["cells"] for m in (forward, backward))
    assert all(torch.equal(one[name], other[name]) for name in one)
    whole = BinaryMetrics(curves="exact", capacity=60)
    whole.update(score, target)
    assert repr(whole.compute()["auroc"].to_dict()) == repr(forward.compute()["auroc"].to_dict())


def test_scores_beyond_the_capacity_are_counted_and_overwrite_nothing() -> None:
    metrics = BinaryMetrics(curves="exact", capacity=3)
    for _ in range(2):
        metrics.update(torch.tensor([0.1, math.nan, 0.2]), torch.tensor([0, 1, 1]))
    cells = metrics.state_dict()["cells"]
    scores, targets, real = unpack_scores(cells["scores"])
    assert cells["scores_seen"].item() == 4
    assert scores[real].float().tolist() == pytest.approx([0.1, 0.1, 0.2])
    assert targets[real].tolist() == [0, 0, 1]


def test_the_identity_of_the_stored_scores_is_an_empty_buffer() -> None:
    _, cell = StoredScores(4).cells()
    assert cell == Cell("scores", (5,), torch.float64, merge="smallest", scope="whole")
    assert cell.zeros("cpu").tolist() == [torch.inf] * 5


def test_bins_of_stored_scores_have_one_row_a_value() -> None:
    score, target = torch.tensor([2.0, -1.0, 2.0, 0.0, -0.0]), torch.tensor([1, 0, 0, 1, 0])
    packed = torch.cat((pack_scores(score, target), torch.tensor([torch.inf]).double()))
    bins, values = ScoreBins.of_sorted(*unpack_scores(packed))
    assert bins.count[:3].tolist() == [[1, 0], [1, 1], [1, 1]]
    assert bins.count[3:].sum() == 0
    assert values[:3].tolist() == [-1.0, 0.0, 2.0]
