"""The code of docs/recipes.md runs as it stands, and each recipe is the score of a peer."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics import functional as peers

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
G = torch.Generator().manual_seed(0)
REAL, REAL_TARGET = torch.randn(2, 40, generator=G, dtype=torch.float64)
POSITIVE, POSITIVE_TARGET = torch.rand(2, 40, generator=G, dtype=torch.float64) + 0.1
ENDS = torch.randn(40, 2, generator=G, dtype=torch.float64).sort(1).values
MEMBERS = torch.randn(40, 7, generator=G, dtype=torch.float64)
SHARES, OTHER_SHARES = torch.randn(2, 40, 5, generator=G, dtype=torch.float64).softmax(2)
SCORES = torch.randn(40, 4, generator=G, dtype=torch.float64)
CLASSES = torch.randint(0, 4, (40,), generator=G)
SIDES = torch.randint(0, 2, (40,), generator=G)


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    assert len(blocks) >= 6
    names: dict[str, Any] = {"__name__": "recipes"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), names)
    return names


def mean_of(metrics: Any, preds: Tensor, target: Tensor) -> float:
    metrics = metrics.fresh()
    weight = torch.rand(len(preds), generator=torch.Generator().manual_seed(1)).double()
    metrics.update(preds, target, weight)
    assert metrics.compute()[metrics.name].n == len(preds)
    metrics.reset()
    metrics.update(preds, target)
    score = metrics.compute()[metrics.name]
    assert score.low < score.value < score.high
    return float(score)


def of_scipy(low: Tensor, high: Tensor) -> float:
    """CRPS of normal predictions, the integral of the squared distance of distribution functions."""
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    total = 0.0
    for mean, size, target in zip(low, high, REAL_TARGET[:5], strict=True):
        function = torch.tensor(stats.norm.cdf(x.numpy(), mean, size))
        total += float((function - (x >= target).double()).square().sum() * (x[1] - x[0]))
    return total / 5


def test_recipes_of_real_values_are_those_of_scikit_learn_and_torch(recipes: Any) -> None:
    p, t = REAL, REAL_TARGET
    huber = torch.nn.functional.huber_loss(p, t)
    assert mean_of(recipes["huber"], p, t) == pytest.approx(float(huber))
    log_cosh = peers.regression.log_cosh_error(p, t)
    assert mean_of(recipes["log_cosh"], p, t) == pytest.approx(float(log_cosh))
    p, t = POSITIVE, POSITIVE_TARGET
    poisson = sk.mean_poisson_deviance(t, p)
    assert mean_of(recipes["poisson_deviance"], p, t) == pytest.approx(poisson)
    gamma = sk.mean_gamma_deviance(t, p)
    assert mean_of(recipes["gamma_deviance"], p, t) == pytest.approx(gamma)
    for power in (1.5, 3.0):
        tweedie = sk.mean_tweedie_deviance(t, p, power=power)
        assert mean_of(recipes["tweedie"](power), p, t) == pytest.approx(tweedie)


def test_d2_is_that_of_scikit_learn(recipes: Any) -> None:
    p, t = REAL_TARGET + REAL / 3, REAL_TARGET
    absolute = sk.d2_absolute_error_score(t, p)
    assert mean_of(recipes["d2_absolute_error"](t), p, t) == pytest.approx(absolute)

    def pinball(p: Tensor, t: Tensor) -> Tensor:
        return torch.maximum(0.9 * (t - p), -0.1 * (t - p))

    made = recipes["d2"]("d2_pinball", pinball, t, t.quantile(0.9))
    assert mean_of(made, p, t) == pytest.approx(sk.d2_pinball_score(t, p, alpha=0.9))
    p, t = POSITIVE, POSITIVE_TARGET

    def poisson(p: Tensor, t: Tensor) -> Tensor:
        return 2 * (torch.xlogy(t, t / p) - t + p)

    made = recipes["d2"]("d2_tweedie", poisson, t, t.mean())
    assert mean_of(made, p, t) == pytest.approx(sk.d2_tweedie_score(t, p, power=1))


def test_recipes_of_quantiles_are_those_of_their_definitions(recipes: Any) -> None:
    t = REAL_TARGET
    for place, q in enumerate((0.1, 0.9)):
        pinball = sk.mean_pinball_loss(t, ENDS[:, place], alpha=q)
        assert mean_of(recipes["pinball"](q, place), ENDS, t) == pytest.approx(pinball)
    inside = ((ENDS[:, 0] <= t) & (t <= ENDS[:, 1])).double().mean()
    assert mean_of(recipes["coverage"], ENDS, t) == pytest.approx(float(inside))
    width = float((ENDS[:, 1] - ENDS[:, 0]).mean())
    assert mean_of(recipes["width"], ENDS, t) == pytest.approx(width)
    both = sk.mean_pinball_loss(t, ENDS[:, 0], alpha=0.1) + sk.mean_pinball_loss(
        t, ENDS[:, 1], alpha=0.9
    )
    assert mean_of(recipes["winkler"](0.2), ENDS, t) == pytest.approx(both * 2 / 0.2)
    pairs = (MEMBERS.unsqueeze(1) - MEMBERS.unsqueeze(2)).abs().mean((1, 2)) / 2
    crps = ((MEMBERS - t.unsqueeze(1)).abs().mean(1) - pairs).mean()
    assert mean_of(recipes["crps"], MEMBERS, t) == pytest.approx(float(crps))
    normal = torch.stack((REAL, POSITIVE), 1)[:5]
    expected = of_scipy(REAL[:5], POSITIVE[:5])
    assert mean_of(recipes["normal_crps"], normal, t[:5]) == pytest.approx(expected, abs=1e-3)


def test_recipes_of_margins_and_distributions_are_those_of_peers(recipes: Any) -> None:
    hinge = sk.hinge_loss(SIDES, REAL)
    assert mean_of(recipes["hinge"], REAL, SIDES) == pytest.approx(hinge)
    several = sk.hinge_loss(CLASSES, SCORES, labels=range(4))
    assert mean_of(recipes["multiclass_hinge"], SCORES, CLASSES) == pytest.approx(several)
    p, q = SHARES, OTHER_SHARES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cosine = peers.cosine_similarity(SCORES, SCORES.flip(0), reduction="mean")
        kl = peers.kl_divergence(p, q)
    assert mean_of(recipes["cosine"], SCORES, SCORES.flip(0)) == pytest.approx(float(cosine))
    assert mean_of(recipes["kl"], p, q) == pytest.approx(float(kl))
    middle = (p + q) / 2
    js = (stats.entropy(p, middle, axis=1) + stats.entropy(q, middle, axis=1)).mean() / 2
    assert mean_of(recipes["js"], p, q) == pytest.approx(js)


def spans(tags: list[int]) -> set[tuple[int, int, int]]:
    """Entities of one text as (kind, start, end), by the rules of conlleval."""
    found: list[list[int]] = []
    for place, tag in enumerate(tags):
        kind = (tag + 1) // 2
        goes_on = tag > 0 and tag % 2 == 0 and bool(found) and found[-1][::2] == [kind, place]
        if goes_on:
            found[-1][2] = place + 1
        elif tag > 0:
            found.append([kind, place, place + 1])
    return {(kind, start, end) for kind, start, end in found}


def test_f1_of_entities_is_that_of_their_spans() -> None:
    page = PAGE.parent / "bridge.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.S | re.M)
    names: dict[str, Any] = {"__name__": "bridge"}
    for block in (blocks[0], next(block for block in blocks if "class EntityScores" in block)):
        exec(compile(block, page.name, "exec"), names)
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(-1, 5, (200, 11), generator=generator)
    target = target.masked_fill(target < 0, -100)
    guess = torch.randint(0, 5, (200, 11), generator=generator)
    labels = torch.where(torch.rand(200, 11, generator=generator) < 0.6, target.clamp(min=0), guess)
    metrics = names["EntityScores"]()
    metrics.update(torch.nn.functional.one_hot(labels, 5).float(), target)
    scores = metrics.compute()
    hits = predicted = actual = 0
    for answers, truth in zip(labels.tolist(), target.tolist(), strict=True):
        kept = [(p, t) for p, t in zip(answers, truth, strict=True) if t >= 0]
        ours = spans([p for p, _ in kept])
        theirs = spans([t for _, t in kept])
        hits += len(ours & theirs)
        predicted += len(ours)
        actual += len(theirs)
    assert 0.2 < hits / actual < 0.9
    assert scores["entity_precision"].value == pytest.approx(hits / predicted)
    assert scores["entity_recall"].value == pytest.approx(hits / actual)
    f1 = scores["entity_f1"]
    assert f1.value == pytest.approx(2 * hits / (predicted + actual))
    assert f1.low < f1.value < f1.high


def test_a_prediction_that_is_nan_is_left_out_by_every_recipe_that_compares(recipes: Any) -> None:
    ends = ENDS.clone()
    ends[0, 0] = torch.nan
    metrics = recipes["coverage"].fresh()
    metrics.update(ends, REAL_TARGET)
    assert metrics.compute()["coverage"].n == 39
