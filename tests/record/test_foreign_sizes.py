"""n from the printed digits of shares: never more than the truth, and often enough something."""

import json
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptmetrics.record.foreign_csv import read_csv
from ptmetrics.record.foreign_epochs import ONLY_SHARES, ForeignLog, read_log
from ptmetrics.record.foreign_json import read_json
from ptmetrics.record.foreign_sizes import samples_behind, wilson_interval
from ptmetrics.record.foreign_table import digits_of

Columns = list[list[tuple[float, int]]]
FORMATS = (4, 6, None, ".4g", "short")


def column(values: list[float], how: int | str | None) -> Columns:
    """Values as one column of a log holds them, with their decimals.

    `how` is a number of decimals, None for all digits of a double, ".4g" for four significant
    digits, "short" for four decimals without zeros at their end.
    """
    texts = [repr(value) for value in values]
    if how == "short":
        texts = [repr(round(value, 4)) for value in values]
    elif isinstance(how, str):
        texts = [f"{value:{how}}" for value in values]
    elif how is not None:
        texts = [f"{value:.{how}f}" for value in values]
    return [[(float(text), digits_of(text)) for text in texts]]


def accuracies(n: int, epochs: int = 10, batch: int | None = None, seed: int = 0) -> list[float]:
    """Accuracies of a model that learns; as means of batch means where a batch is given."""
    rng = np.random.default_rng([n, batch or 0, seed])
    values = []
    for share in np.linspace(0.5, 0.9, epochs):
        hits = rng.random(n) < share
        parts = [hits]
        if batch:
            parts = np.split(hits, range(batch, n, batch))
        values.append(float(np.mean([part.mean() for part in parts])))
    return values


@given(st.integers(2, 3000), st.sampled_from([2, 3, 5, 8, *FORMATS]), st.booleans(), st.data())
def test_what_is_found_is_n_or_a_part_of_it(
    n: int, how: int | str | None, exact: bool, data: st.DataObject
) -> None:
    hits = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=12))
    found = samples_behind(column([hit / n for hit in hits], how), exact=exact)
    assert found is None or found <= n


@given(st.integers(20, 3000), st.sampled_from(FORMATS), st.integers(0, 9))
def test_a_real_run_gives_n_or_a_divisor(n: int, how: int | str | None, seed: int) -> None:
    found = samples_behind(column(accuracies(n, seed=seed), how))
    assert found is None or n % found == 0


def test_digits_are_told_by_column() -> None:
    """0.483 beside 0.6175 is 0.4830, and no number near it; once 915 was found behind these."""
    assert samples_behind(column(accuracies(2000, seed=5), "short")) is None
    assert samples_behind(column(accuracies(160, seed=3), "short"), exact=True) == 160
    errors = [1 - value for value in accuracies(160, epochs=20)]
    assert samples_behind(column(errors, "short") + column(accuracies(160), 6), exact=True) == 160


@pytest.mark.parametrize(("n", "wanted"), [(150, 150), (1500, 1500), (9000, None)])
def test_significant_digits_are_no_decimals(n: int, wanted: int | None) -> None:
    """Of 0.09333 and 0.1333 the second has four decimals, and is not 0.13330."""
    errors = [0.8 * (1 - value) for value in accuracies(n, epochs=20)]
    values = [round(error * n) / n for error in errors]
    assert min(values) < 0.1 < max(values)
    assert samples_behind(column(values, ".4g"), exact=True) == wanted


def test_a_rounded_number_stays_one_when_it_is_multiplied() -> None:
    """100 · 0.8683 may be 86.83000000000001: taken as whole, it would be of 10,000 samples."""
    percent = [100 * round(hits / 150, 4) for hits in range(79, 91)]
    assert 52.669999999999995 in percent
    told = [(value / 100, digits_of(value) + 2) for value in percent]
    assert samples_behind([told], exact=True) == 150


@pytest.mark.parametrize("n", [60, 150, 330, 750, 999])
@pytest.mark.parametrize("digits", [4, 6])
def test_enough_digits_tell_n_itself(n: int, digits: int) -> None:
    values = accuracies(n)
    assert samples_behind(column(values, digits), exact=True) == n
    single = [float(np.float32(value)) for value in values]
    assert samples_behind(column(single, None), exact=True) == n


def test_values_in_even_steps_tell_no_more_than_two_of_them() -> None:
    """0.556, 0.566, …, 0.596 are 55 to 59 of 99, and a series that somebody made up as well."""
    even = [0.556 + 0.01 * step for step in range(5)]
    assert samples_behind(column(even, 3), exact=True) is None
    assert samples_behind(column([step / 150 for step in range(90, 140, 5)], 6), exact=True) == 30


def test_zeros_at_the_end_of_all_values_are_no_digits() -> None:
    """0.866700 may be rounded to four digits first: it would be of 10,000 samples."""
    rounded = [round(value, 4) for value in accuracies(2500)]
    assert samples_behind(column(rounded, 6)) is None
    assert samples_behind(column([float(np.float32(value)) for value in rounded], None)) is None
    assert samples_behind(column([round(value, 4) for value in accuracies(150)], 6)) is not None


def test_too_few_digits_tell_nothing() -> None:
    assert samples_behind(column(accuracies(1500), 4)) is None  # near the resolution
    assert samples_behind(column(accuracies(150), 2)) is None
    assert samples_behind([[(0.8580, 4)]], exact=True) is None  # any number fits a lone value
    assert samples_behind([]) is None
    assert samples_behind([[(1.0, 6), (0.0, 6), (float("nan"), 0)]]) is None


@pytest.mark.parametrize("batch", [8, 10, 16, 20, 32, 50, 64, 100, 128])
@pytest.mark.parametrize("digits", [4, 6, None])
def test_means_of_batch_means_never_make_more_samples_than_there_are(
    batch: int, digits: int | None
) -> None:
    for n in range(batch + 10, 1500, 70):
        found = samples_behind(column(accuracies(n // 10 * 10, batch=batch), digits))
        assert found is None or found <= n, (n, found)


def test_noise_that_is_no_share_is_not_taken_for_one() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        for digits in (3, 4, 5, 6):
            values = rng.uniform(0.5, 0.95, 10).tolist()
            assert samples_behind(column(values, digits)) is None


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson_interval(0.9, 100) == pytest.approx((0.8256343384950865, 0.9447708162925276))
    assert wilson_interval(1.0, 50)[1] == 1.0
    assert wilson_interval(0.0, 50)[0] == 0.0


# In a log


def log_of(values: list[float], digits: int = 4) -> ForeignLog:
    lines = [f"{i},{1 / (i + 1)},{v:.{digits}f}" for i, v in enumerate(values)]
    return read_log(read_csv("log", "\n".join(["epoch,val_loss,val_acc", *lines])))


def test_a_share_has_an_interval_and_what_is_none_has_not() -> None:
    log = log_of(accuracies(999))
    assert log.sizes == {"val": 999}
    scores = log.epochs[-1]["scores"]
    accuracy = scores["val/accuracy"]
    assert (accuracy["n"], accuracy["method"]) == (999, "wilson")
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    loss = scores["val/loss"]
    assert (loss["n"], isnan(loss["low"]), loss["reason"]) == (999, True, ONLY_SHARES)
    assert any("n = 999 of val was inferred from the printed digits" in note for note in log.notes)


def test_where_the_digits_do_not_tell_n_that_is_said() -> None:
    log = log_of(accuracies(1500))
    assert log.sizes == {}
    assert any("do not tell of how many samples" in note for note in log.notes)


def test_a_given_n_counts_before_the_digits() -> None:
    lines = [f"{i},{v:.4f}" for i, v in enumerate(accuracies(999))]
    table = read_csv("log", "\n".join(["epoch,val_acc", *lines]))
    log = read_log(table, n=1500)
    assert log.sizes == {"val": 1500}
    assert log.epochs[-1]["scores"]["val/accuracy"]["n"] == 1500
    assert any("n = 1500 of val was given" in note for note in log.notes)


def test_a_column_tells_n() -> None:
    text = "epoch,val_acc,val_samples\n0,0.5,640\n1,0.6,640\n"
    log = read_log(read_csv("log", text))
    assert log.sizes == {"val": 640}
    assert log.epochs[-1]["scores"]["val/accuracy"]["n"] == 640
    changing = read_log(read_csv("log", text.replace("0.6,640", "0.6,1280")))
    assert changing.sizes == {}


def test_percentages_have_two_digits_more() -> None:
    lines = [f"{i},{100 * v:.2f}" for i, v in enumerate(accuracies(150))]
    log = read_log(read_csv("log", "\n".join(["epoch,val_acc", *lines])))
    assert log.sizes["val"] in (30, 150)
    assert any("percentages" in note for note in log.notes)


def test_the_trainer_is_known_to_weigh_its_batches() -> None:
    entries = [
        {"epoch": i + 1, "step": 10 * i + 10, "eval_accuracy": v}
        for i, v in enumerate(accuracies(400))
    ]
    text = json.dumps({"log_history": entries})
    assert read_log(read_json("log", text)).sizes == {"val": 400}


@pytest.mark.parametrize("n", [1, 200, 872, 9815])
def test_the_speed_of_the_trainer_tells_n(n: int) -> None:
    def entries(counts: list[int]) -> list[dict[str, float]]:
        told = []
        for epoch, (count, seconds) in enumerate(
            zip(counts, (1.23456, 1.30303, 1.19), strict=True)
        ):
            speed = {"eval_runtime": round(seconds, 4)}
            speed["eval_samples_per_second"] = round(count / seconds, 3)
            told.append({"epoch": epoch + 1, "step": epoch, "eval_accuracy": 0.5, **speed})
        return told

    def sizes(counts: list[int]) -> dict[str, int]:
        return read_log(read_json("log", json.dumps({"log_history": entries(counts)}))).sizes

    assert sizes([n, n, n]).get("val") in (n, None if n > 4000 else n)
    assert sizes([n, n, n + 1]) == {}
