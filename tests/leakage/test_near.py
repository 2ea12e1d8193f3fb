"""Near duplicates: each step against its definition, then what is planted in real handwriting."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import ptmetrics as pm
from ptmetrics.leakage import near, samples
from ptmetrics.leakage.near import calibrated, false_share_below, nearest, spacing_p, ties
from tests.studies import planted


def quiet(*args: object, **options: object) -> pm.Audit:
    return pm.audit(*args, progress=False, **options)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("at_once", [(1, 7), (256, 16_384)])
def test_the_nearest_are_those_of_all_distances(
    at_once: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "_QUERIES", at_once[0])
    monkeypatch.setattr(near, "_BASE_ROWS", at_once[1])
    queries, base = rows(20, 6, seed=1), rows(50, 6, seed=2)
    wanted = torch.cdist(queries, base).argsort(1)[:, :9]
    assert torch.equal(nearest(queries, base, 9).sort(1)[0], wanted.sort(1)[0])
    assert nearest(queries[:0], base, 9).shape == (0, 9)


def test_an_index_of_faiss_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    queries, base = rows(50, 8, seed=1), rows(4000, 8, seed=2)
    exact = nearest(queries, base, 1)
    monkeypatch.setattr(near, "INDEXED", 100)
    assert (nearest(queries, base, 1) == exact).float().mean() > 0.9


def f_test(distance: np.ndarray) -> np.ndarray:
    """The p-value of each row by SciPy's F distribution."""
    spacings = np.diff(np.log(distance), axis=1) * np.arange(1, distance.shape[1])
    each = []
    for first in (1, 2):
        rest = spacings.shape[1] - first
        ratio = spacings[:, :first].mean(1) / spacings[:, first:].mean(1)
        each.append(stats.f.sf(ratio, 2 * first, 2 * rest))
    return 1 - (1 - np.minimum(*each)) ** 2


@pytest.mark.parametrize("dimension", [2, 5, 20])
def test_spacings_follow_the_f_distribution_and_are_even_where_nothing_is_planted(
    dimension: int,
) -> None:
    # Points of even density: d^m grows in even steps.
    rng = np.random.default_rng(dimension)
    distance = rng.exponential(size=(4000, 50)).cumsum(1) ** (1 / dimension)
    p = spacing_p(distance)
    assert p == pytest.approx(f_test(distance), rel=1e-9)
    assert (p < 0.05).mean() <= 0.055  # two tests that go together: a little less than each
    assert (p < 0.01).mean() <= 0.013


@given(st.lists(st.floats(0, 1), max_size=30), st.sampled_from([0.05, 0.2]))
def test_rows_are_named_as_scipy_adjusts_p_values(p: list[float], share: float) -> None:
    named = false_share_below(np.array(p), share)
    wanted = stats.false_discovery_control(p) <= share if p else np.zeros(0, dtype=bool)
    edge = np.abs(stats.false_discovery_control(p) - share) < 1e-12 if p else wanted
    assert np.array_equal(named | edge, wanted | edge)


def test_a_null_that_is_too_small_is_set_right_and_one_of_twins_is_not_believed() -> None:
    normal = stats.norm
    z = np.random.default_rng(0).normal(-1.5, 2.0, 5000)
    right = calibrated(normal.cdf(z))
    assert 0.03 < (right < 0.05).mean() < 0.07
    twins = normal.cdf(np.random.default_rng(0).normal(-6, 1, 5000))
    assert np.array_equal(calibrated(twins), twins)
    few = normal.cdf(z[:50])
    assert np.array_equal(calibrated(few), few)


def test_ties_are_counted() -> None:
    assert ties(np.tile(np.arange(1.0, 21.0), (3, 1))) == 0.0
    assert ties(np.repeat(np.arange(1.0, 11.0), 2)[None]) == pytest.approx(0.5, abs=0.11)
    assert ties(np.zeros((0, 20))) == 0.0


def test_a_thumbnail_is_the_mean_over_squares_however_the_picture_lies() -> None:
    pictures = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    wanted = pictures.float().reshape(2, 3, 8, 2, 8, 3).mean((3, 5)).flatten(1)
    assert torch.allclose(samples.thumbnails(pictures), wanted)
    assert torch.allclose(samples.thumbnails(pictures.movedim(1, -1)), wanted)


@pytest.mark.parametrize("number", [1, 2])
def test_copies_of_digits_are_found_and_few_others(number: int) -> None:
    found = false = all_of = 0
    for kind in planted.COPIES:
        train, val, count = planted.planted(kind, 3, 0.1, number)
        named = {row for _, row in quiet(train, val).near}
        hits = len(named & set(range(count)))
        assert hits >= 0.75 * count, kind
        found += hits
        false += len(named - set(range(count)))
        all_of += count
    assert found >= 0.95 * all_of
    assert false <= 0.05 * (found + false)


def test_clean_sets_of_all_kinds_have_hardly_a_flag() -> None:
    flagged = {}
    searched = 0
    for kind, (train, val) in planted.clean(seed=1):
        found = quiet(train, val)
        if "near" in found.not_checked:
            assert kind.startswith(("integers 0 to 2", "text")), kind
            continue
        flagged[kind] = len(found.near)
        searched += found.near_of
    assert sum(flagged.values()) <= 1, flagged
    assert searched > 2000


def test_integers_that_tie_are_told_exactly_alone() -> None:
    sets = dict(planted.clean(seed=2))["integers 0 to 2, 8 columns"]
    found = quiet(*sets)
    assert "equally far" in found.not_checked["near"]
    assert "NOT CHECKED" in found.summary()


def test_texts_with_a_few_words_changed_are_found() -> None:
    pytest.importorskip("datasketch")
    train, val = planted.sentences(1, 400), planted.sentences(2, 150)
    changed = [text.replace(text.split()[7], "other", 1) for text in val[:10]]
    found = quiet(train + changed, val)
    assert {row for _, row in found.near} == set(range(10))
    assert [place for place, _ in found.near] == list(range(400, 410))


def test_texts_without_datasketch_are_told_exactly_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    found = quiet(["a", "b"], ["b"])
    assert found.exact == [(1, 0)]
    assert "pip install 'ptmetrics[leakage]'" in found.not_checked["near"]


def test_where_most_rows_have_a_twin_they_are_named() -> None:
    train, val = rows(500, 20, seed=1), rows(200, 20, seed=2)
    train[:180] = val[:180] + 0.001
    named = {row for _, row in quiet(train, val).near}
    assert len(named & set(range(180))) >= 175


def test_of_many_rows_a_sample_is_searched_and_the_interval_says_so() -> None:
    train, val = rows(500, 20, seed=1), rows(400, 20, seed=2)
    train[:200] = val[:200] + 0.001
    found = quiet(train, val, most_near=100)
    assert found.near_of == 100
    assert 30 <= len(found.near) <= 70
    assert "of 100 rows" in found.summary()


def test_features_of_ones_own_take_the_place_of_thumbnails() -> None:
    train, val = rows(100, 3, 16, 16, seed=1), rows(50, 3, 16, 16, seed=2)
    train[:5] = val[:5].flip(-1)  # mirrored: thumbnails do not tell
    assert not quiet(train, val).near

    def symmetric(pictures: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(pictures, 8)
        return small + small.flip(-1)

    assert {row for _, row in quiet(train, val, features=symmetric).near} == set(range(5))
    assert not quiet(train, val, near=False).near


def test_blank_pictures_and_columns_without_spread_or_number_do_no_harm() -> None:
    train, val = rows(100, 3, 16, 16, seed=1), rows(50, 3, 16, 16, seed=2)
    train[:30], val[:10] = 0.5, 0.25
    assert not quiet(train, val).near
    numbers, others = rows(100, 6, seed=3), rows(50, 6, seed=4)
    numbers[:, 0], others[:, 0] = 3.0, 3.0
    numbers[::3, 1], others[::4, 2] = torch.nan, torch.inf
    others[7] = numbers[8] + 0.0001
    assert quiet(numbers, others).near == [(8, 7)]


def test_pictures_that_all_stand_in_training_or_are_blank_or_no_number_do_no_harm() -> None:
    pictures, others = rows(100, 3, 16, 16, seed=1), rows(50, 3, 16, 16, seed=2)
    assert not quiet(pictures, pictures[:20]).near
    blank = torch.zeros(100, 3, 16, 16)
    assert not quiet(blank, blank[:5]).near
    others[5] = pictures[9] + 0.01
    pictures[3], others[7], others[8, 0, 0, 0] = torch.nan, torch.nan, torch.inf
    found = quiet(pictures, others)
    assert (found.near, found.exact) == ([(9, 5)], [(3, 7)])


def test_few_rows_of_training_and_long_rows_are_not_searched() -> None:
    assert "fewer than 13 rows" in quiet(rows(12, 4), rows(5, 4, seed=1)).not_checked["near"]
    long = quiet(rows(20, 3000), rows(5, 3000, seed=1))
    assert "pass features=" in long.not_checked["near"]


def _columns(kind: str, seed: int) -> npt.NDArray[np.float64]:
    """Rows of numbers as they stand in tables, 1,500 of them."""
    random = np.random.default_rng(seed)
    if kind == "digits":
        return random.permutation(load_digits().data / 16)[:1500]
    if kind == "rare indicators":
        rare = (random.random((1500, 30)) < 0.01).astype(np.float64)
        return np.concatenate([random.normal(size=(1500, 10)), rare], 1)
    return np.concatenate(
        [random.normal(size=(1500, 6)), np.exp(2 * random.normal(size=(1500, 6)))], 1
    )


@pytest.mark.parametrize("kind", ["digits", "rare indicators", "lognormal amounts"])
def test_columns_of_few_values_or_far_ends_make_no_near_duplicates(kind: str) -> None:
    """A column that mostly holds one value was once worth 90 % of the distance of some rows."""
    flagged = 0
    for seed in range(5):
        table = torch.from_numpy(_columns(kind, seed)).float()
        labels = torch.zeros(len(table))
        train = TensorDataset(table[:1000], labels[:1000])
        flagged += len(quiet(train, TensorDataset(table[1000:], labels[1000:])).near)
    assert flagged <= 5, "of 2,500 rows"


@pytest.mark.parametrize("kind", ["digits", "rare indicators", "lognormal amounts"])
def test_copies_with_a_little_noise_are_found_in_such_columns(kind: str) -> None:
    table = torch.from_numpy(_columns(kind, 1)).float()
    noise = 0.005 * torch.randn(25, table.shape[1], generator=torch.Generator().manual_seed(0))
    copied = torch.cat([table[1000:], table[:25] + noise])
    labels = torch.zeros(2000)
    train = TensorDataset(table[:1000], labels[:1000])
    found = quiet(train, TensorDataset(copied, labels[: len(copied)])).near
    assert sum(of_train == of_val - 500 for of_train, of_val in found) >= 23


def test_a_validation_of_nothing_but_copies_leaves_no_picture_to_turn() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(40, 3, 16, 16, generator=generator)
    audit = pm.audit(pictures, pictures[:10], progress=False)
    assert len(audit.exact) == 10
    assert not audit.near


def test_what_small_moves_explain_is_taken_out_as_by_least_squares() -> None:
    """The products of forms are those of the directions themselves, by their definition."""
    generator = torch.Generator().manual_seed(0)
    base = near._unit(torch.randn(20, 3 * 64, generator=generator))
    queries = near._unit(base[:5] + 0.1 * torch.randn(5, 3 * 64, generator=generator))
    found = torch.arange(20).expand(5, 20)
    distance, place = near._looked_at(queries, base, found, True)
    for row, query in enumerate(queries):
        for nearest_one, column in zip(distance[row], place[row], strict=True):
            both = (base[column] + query).reshape(3, 8, 8)
            moves = _moves(both).reshape(3, -1).double().numpy().T
            away = (base[column] - query).double().numpy()
            left = away - moves @ np.linalg.lstsq(moves, away)[0]
            assert nearest_one == pytest.approx(np.linalg.norm(left), rel=1e-3)
    assert (np.diff(distance) >= 0).all()


def _moves(pictures: torch.Tensor) -> torch.Tensor:
    """How pictures change to the right, downwards and turned, by NumPy."""
    pixels = np.pad(pictures.numpy(), ((0, 0), (2, 2), (2, 2)), mode="edge")
    weights = np.array([1, -8, 0, 8, -1]) / 12
    along_x = sum(weights[step] * pixels[:, 2:-2, step : step + 8] for step in range(5))
    along_y = sum(weights[step] * pixels[:, step : step + 8, 2:-2] for step in range(5))
    place = np.arange(8) - 3.5
    turned = (place * along_y - place[:, None] * along_x) / 8
    return torch.from_numpy(np.stack([along_x, along_y, turned]))
