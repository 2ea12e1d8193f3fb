"""Calibration against its definitions in float64, and against a model whose probabilities are the truth."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from oracles import same
from scipy import stats
from scipy.optimize import minimize_scalar
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.calibration import Reliability, ece, rms_calibration_error
from ptmetrics.metrics.intervals import Z
from ptmetrics.metrics.multiclass import MulticlassMetrics
from ptmetrics.metrics.score import Scores

NAMES = ("nll", "brier", "ece", "rms_calibration_error", "over_confidence")


def drawn(rows: int, classes: int, seed: int, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits and targets that follow their soft maximum, then the logits made too sharp or too flat."""
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=g, dtype=torch.float64)
    target = torch.multinomial(logits.softmax(1), 1, generator=g).squeeze(1)
    return logits * sharpness, target


def scored(preds: Tensor, target: Tensor, weight: Tensor | None = None, **options: Any) -> Scores:
    metrics = MulticlassMetrics(preds.shape[1], **options)
    for i in range(0, len(target), 100):
        part = slice(i, i + 100)
        metrics.update(preds[part], target[part], None if weight is None else weight[part])
    return metrics.compute()


def reference(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> dict[str, float]:
    """Straight from the definitions; the equal-mass bins from exact confidences."""
    w, sure, hit = w / w.sum(), p.max(1), (p.argmax(1) == y).astype(float)
    one_hot = np.eye(p.shape[1])[y]
    edges = np.clip(np.ceil(sure * 15).astype(int) - 1, 0, 14)
    gaps = [abs((w * (sure - hit))[edges == b].sum()) for b in range(15)]
    return {
        "nll": float(-(w * np.log(p[np.arange(len(y)), y])).sum()),
        "brier": float((w * ((p - one_hot) ** 2).sum(1)).sum()),
        "ece": sum(gaps),
        "over_confidence": float((w * (sure - hit)).sum()),
    }


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("classes", "sharpness"), [(2, 1.0), (5, 3.0), (70, 0.5)])
def test_every_score_is_its_definition(
    classes: int, sharpness: float, weighted: bool, inputs: Any
) -> None:
    logits, target = drawn(700, classes, classes, sharpness)
    preds = logits.softmax(1) if inputs == "probs" else logits
    weight = (
        torch.rand(700, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        if weighted
        else None
    )
    got = scored(preds, target, weight, inputs=inputs)
    w = np.ones(700) if weight is None else weight.numpy()
    for name, value in reference(logits.softmax(1).numpy(), target.numpy(), w).items():
        assert same(got[name], value, 1e-9), name


@pytest.mark.fault(15)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_read_as_the_values_that_it_holds(dtype: torch.dtype) -> None:
    logits, target = drawn(700, 40, 0, 4.0)
    low = logits.to(dtype)
    got, truth = scored(low, target), scored(low.double(), target)
    for name in NAMES:
        assert same(got[name], truth[name].value, 1e-6), name


def test_a_sure_and_right_row_has_a_brier_score_of_all_digits() -> None:
    got = scored(torch.tensor([[20.0, 0.0, 0.0]]), torch.tensor([0]))
    doubt = 2 * math.exp(-20)
    p = doubt / (1 + doubt)
    assert same(got["brier"], p * p + 2 * (p / 2) ** 2, 1e-6)


def test_equal_mass_bins_are_close_to_those_of_exact_quantiles() -> None:
    logits, target = drawn(5000, 10, 3, 2.0)
    p = logits.softmax(1).numpy()
    sure, hit = p.max(1), (p.argmax(1) == target.numpy()).astype(float)
    parts = np.array_split(np.argsort(sure), 15)
    terms = [
        len(i)
        / 5000
        * (
            (sure[i].mean() - hit[i].mean()) ** 2
            - hit[i].mean() * (1 - hit[i].mean()) / (len(i) - 1)
        )
        for i in parts
    ]
    got = scored(logits, target)["rms_calibration_error"]
    assert got.value == pytest.approx(math.sqrt(sum(terms)), rel=0.03)


def bins_of(right: np.ndarray, wrong: np.ndarray, sure: float) -> Reliability:
    """One bin of equal width holds rows of one confidence; weights of 1, arrays of shape (960,)."""
    return Reliability(
        right.sum() + wrong.sum(), right, wrong, right, wrong, sure * (right + wrong)
    )


def test_the_lower_end_of_the_ece_takes_off_what_chance_shows_in_a_true_model() -> None:
    """E|N(0, s²)| = √(2/π) s: of one bin in closed form, of a true model by simulation."""
    right, wrong = np.zeros((2, 960))
    place, n, hits, sure = 700, 400, 320, 0.7296
    right[place], wrong[place] = hits, n - hits
    with np.errstate(all="ignore"):  # most bins are empty
        value, low, high, _ = ece(bins_of(right, wrong, sure))
    gap = hits / n - sure
    spread = hits * (1 - sure) ** 2 + (n - hits) * sure**2 - n * gap**2
    chance = math.sqrt(2 / math.pi) * math.sqrt(sure * (1 - sure) / n)
    assert value == pytest.approx(gap)
    assert low == pytest.approx(gap - chance - Z * math.sqrt(spread) / n, rel=1e-12)
    assert high == pytest.approx(gap + Z * math.sqrt(spread) / n, rel=1e-12)

    drawn_hits = np.random.default_rng(0).binomial(n, sure, 20_000)
    seen = np.abs(drawn_hits / n - sure)
    assert chance == pytest.approx(seen.mean(), rel=0.02)


def test_the_rms_error_of_one_bin_is_its_gap_without_what_chance_adds_and_its_square_is_normal() -> (
    None
):
    right, wrong = np.zeros((2, 960))
    n, hits, sure = 40, 24, 0.8
    right[760], wrong[760] = hits, n - hits
    with np.errstate(all="ignore"):  # most bins are empty
        value, low, high, _ = rms_calibration_error(bins_of(right, wrong, sure))
    gap, hit = sure - hits / n, hits / n
    noise = hit * (1 - hit) / (n - 1)
    half = Z * math.sqrt(4 * gap**2 * noise + 2 * noise**2)
    assert value == pytest.approx(math.sqrt(gap**2 - noise), rel=1e-12)
    assert low == math.sqrt(max(0.0, gap**2 - noise - half))
    assert high == pytest.approx(math.sqrt(gap**2 - noise + half), rel=1e-12)


def test_a_true_model_is_found_calibrated_19_times_in_20() -> None:
    names = ("ece", "rms_calibration_error", "over_confidence", "temperature")
    inside = dict.fromkeys(names, 0)
    biased, debiased, runs = 0.0, 0.0, 150
    metrics = MulticlassMetrics(4, temperature=True)
    for seed in range(runs):
        metrics.reset()
        metrics.update(*drawn(500, 4, seed))
        got = metrics.compute()
        for name in names:
            truth = 1.0 if name == "temperature" else 0.0
            inside[name] += got[name].low <= truth <= got[name].high
        biased += got["ece"].value / runs
        debiased += got["rms_calibration_error"].value / runs
    assert all(count / runs >= 0.90 for count in inside.values()), inside
    assert debiased < biased, "the plain error is positive by chance alone"


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_best_temperature_is_that_of_a_direct_search(sharpness: float) -> None:
    logits, target = drawn(3000, 6, 11, sharpness)

    def loss(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_t), target))

    best = math.exp(minimize_scalar(loss, bounds=(-1.5, 1.5), method="bounded").x)
    got = scored(logits, target, temperature=True)["temperature"]
    assert got.value == pytest.approx(best, rel=2e-3)
    assert got.low < got.value < got.high
    assert got.low <= sharpness <= got.high
    for end in (got.low, got.high):  # the likelihood ratio that chance exceeds 1 time in 20
        ratio = 3000 * (loss(math.log(end)) - loss(math.log(best)))
        assert ratio == pytest.approx(stats.chi2.ppf(0.95, 1) / 2, rel=0.1)


def test_an_over_confident_model_is_said_to_be_so() -> None:
    got = scored(*drawn(2000, 5, 0, 3.0), temperature=True)
    assert got["over_confidence"].low > 0.05
    assert got["ece"].low > 0.05
    assert got["temperature"].low > 2


def test_beyond_the_grid_the_temperature_has_no_ends() -> None:
    got = scored(*drawn(500, 4, 0, 20.0), temperature=True)["temperature"]
    assert got.value == pytest.approx(4.0)
    assert math.isnan(got.low)
    assert math.isnan(got.high)


def test_without_samples_every_score_is_nan_with_a_reason() -> None:
    got = MulticlassMetrics(3, temperature=True).compute()
    for name in (*NAMES, "temperature"):
        assert math.isnan(got[name].value), name
        assert got[name].reason, name


def test_without_losses_nothing_of_it_is_counted() -> None:
    metrics = MulticlassMetrics(3, losses=False)
    metrics.update(torch.eye(3), torch.arange(3))
    assert not set(NAMES) & set(metrics.compute())
    assert not {"losses", "calibration", "confidence"} & metrics.state_dict()["cells"].keys()


REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: MulticlassMetrics(3, losses=False, temperature=True),
        r"temperature: .*, got True .*losses=False.*pass",
    ),
    (
        lambda: MulticlassMetrics(3, inputs="probs", temperature=True),
        r"temperature: expected .*, got True.*pass",
    ),
    (
        lambda: MulticlassMetrics(3, inputs="labels", curves=True),
        r"curves: expected False.*, got True for 3 .*Leave",
    ),
    (
        lambda: MulticlassMetrics(1025, curves=True),
        r"curves: expected .*1,024.*, got True for 1025 .*Leave",
    ),
    (
        lambda: MulticlassMetrics(3, beta=0),
        r"beta: expected a number above 0.*, got 0.*Pass beta=2",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_options_that_cannot_work_are_refused_in_words(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
