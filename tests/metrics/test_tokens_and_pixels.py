"""Tokens and pixels: where the classes stand, images and texts as groups, vocabularies, soft targets."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

import ptmetrics as pm
from ptmetrics.counts.subgroups import BUCKETS
from ptmetrics.metrics.groups import BY_GROUPS
from ptmetrics.testing import assert_no_sync


def logits_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def classes_of(classes: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def scores_of(metrics: Any, *batch: Any) -> pm.Scores:
    metrics.update(*batch)
    scores: pm.Scores = metrics.compute()
    return scores


# Where the classes stand.


@pytest.mark.parametrize("dense", [(7,), (6, 5), (3, 4, 2), (4, 7), (7, 4)], ids=str)
@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "soft"])
def test_classes_first_and_classes_last_are_the_same_rows(
    dense: tuple[int, ...], inputs: Any, soft: bool
) -> None:
    last = logits_of(3, *dense, 4)
    if inputs == "probs":
        last = last.softmax(-1)
    target = classes_of(4, 3, *dense)
    first_target, last_target = target, target
    if soft:
        last_target = logits_of(3, *dense, 4, seed=5).softmax(-1)
        first_target = last_target.movedim(-1, 1)
    if soft and 4 in dense:  # the shape of the targets is that of the scores, and tells nothing
        return
    one = scores_of(pm.MulticlassMetrics(4, inputs=inputs), last, last_target)
    other = scores_of(pm.MulticlassMetrics(4, inputs=inputs), last.movedim(-1, 1), first_target)
    assert repr(one.to_dict()) == repr(other.to_dict())
    heaviest = last_target.argmax(-1) if soft else target
    assert one["accuracy"].value == pytest.approx(
        (last.argmax(-1) == heaviest).double().mean().item()
    )
    assert one.n == target.numel()


@pytest.mark.parametrize("dense", [(4,), (4, 4)], ids=str)
def test_where_both_dimensions_may_hold_the_classes_it_asks(dense: tuple[int, ...]) -> None:
    last, target = logits_of(3, *dense, 4), classes_of(4, 3, *dense)
    metrics = pm.MulticlassMetrics(4)
    fact = str(tuple(last.shape)).replace("(", r"\(").replace(")", r"\)")
    rule = f"preds: expected a shape that tells which dimension holds the 4 classes, got {fact}"
    with pytest.raises(
        pm.PtmetricsError, match=f"{rule} beside target .*class_dim=1.*class_dim=-1"
    ):
        metrics.update(last, target)
    assert metrics.updates == 0
    right = (last.argmax(-1) == target).double().mean().item()
    told = scores_of(pm.MulticlassMetrics(4, class_dim=-1), last, target)
    assert told["accuracy"].value == pytest.approx(right)
    told = scores_of(pm.MulticlassMetrics(4, class_dim=1), last.movedim(-1, 1), target)
    assert told["accuracy"].value == pytest.approx(right)
    labels = scores_of(pm.MulticlassMetrics(4, inputs="labels"), last.argmax(-1), target)
    assert labels["accuracy"].value == pytest.approx(right), "labels leave nothing open"


def test_a_call_of_a_criterion_has_its_classes_in_dimension_1() -> None:
    preds, target = logits_of(6, 3, 3), classes_of(3, 6, 3)
    loss = functional.cross_entropy(preds, target).item()
    for metrics in (pm.MulticlassMetrics(3), pm.MulticlassMetrics(3, class_dim=-1)):
        with metrics.called_by_criterion():
            metrics.check(preds, target, None)
            metrics.update(preds, target)
            metrics.update(preds, target)
        assert metrics.compute()["nll"].value == pytest.approx(loss, rel=1e-6)
    with pytest.raises(pm.PtmetricsError, match="class_dim"):
        scores_of(pm.MulticlassMetrics(3), preds, target)
    soft = logits_of(6, 3, 3, seed=4).softmax(1)
    metrics = pm.MulticlassMetrics(3)
    with metrics.called_by_criterion():
        metrics.update(preds, soft)
    expected = functional.cross_entropy(preds, soft).item()
    assert metrics.compute()["nll"].value == pytest.approx(expected, rel=1e-6)
    assert metrics.compute().n == 18


@pytest.mark.parametrize(
    ("preds", "target"),
    [((3, 7, 5), (3, 7)), ((3, 4, 7), (3, 6)), ((3, 7, 4), (3, 4)), ((4,), (4,))],
)
def test_a_shape_that_fits_neither_is_refused(
    preds: tuple[int, ...], target: tuple[int, ...]
) -> None:
    with pytest.raises(pm.PtmetricsError, match=r"(preds|target): expected .* got .* of shape \("):
        scores_of(pm.MulticlassMetrics(4), logits_of(*preds), classes_of(4, *target))


def test_class_dim_is_1_or_minus_1() -> None:
    for wrong in (0, 2, "last", True):
        with pytest.raises(pm.PtmetricsError, match="class_dim: expected 1, -1 or None"):
            pm.MulticlassMetrics(4, class_dim=wrong)  # type: ignore[arg-type]


def test_labels_of_a_row_may_stand_last_too_and_it_asks_where_both_may() -> None:
    last, target = logits_of(6, 5, 3), classes_of(2, 6, 5, 3)
    one = scores_of(pm.MultilabelMetrics(3), last, target)
    other = scores_of(pm.MultilabelMetrics(3), last.movedim(-1, 1), target.movedim(-1, 1))
    assert repr(one.to_dict()) == repr(other.to_dict())
    square, truth = logits_of(6, 3, 3), classes_of(2, 6, 3, 3)
    with pytest.raises(pm.PtmetricsError, match=r"which dimension holds the 3 labels.*class_dim"):
        scores_of(pm.MultilabelMetrics(3), square, truth)
    one = scores_of(pm.MultilabelMetrics(3, class_dim=-1), square, truth)
    other = scores_of(
        pm.MultilabelMetrics(3, class_dim=1), square.movedim(-1, 1), truth.movedim(-1, 1)
    )
    assert repr(one.to_dict()) == repr(other.to_dict())


# Images and texts as groups.


def by_hand(hits: np.ndarray) -> tuple[float, float, float]:
    """Accuracy and its interval over samples of one size, with NumPy; a sample a bucket."""
    k, p = len(hits), hits.mean()
    without = (hits.sum() - hits) / (k - 1)
    n = p * (1 - p) / ((k - 1) / k * ((without - p) ** 2).sum())
    t = stats.t.ppf(0.975, (without != p).sum() - 1)
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    return p, centre - half, centre + half


@pytest.mark.parametrize("size", [1, 7, 30], ids=lambda n: f"batches of {n}")
def test_intervals_of_pixels_are_a_jackknife_over_images(size: int) -> None:
    target = classes_of(2, 30, 6, 5)
    share = torch.linspace(0.4, 1, 30).view(-1, 1, 1)
    right = torch.rand(30, 6, 5, generator=torch.Generator().manual_seed(2)) < share
    preds = torch.where(right, target, 1 - target)
    metrics = pm.MulticlassMetrics(2, inputs="labels")
    for start in range(0, 28, size):
        metrics.update(
            preds[start : start + size][: 28 - start], target[start : start + size][: 28 - start]
        )
    score = metrics.compute()["accuracy"]
    hits = right[:28].double().mean((1, 2)).numpy()
    assert (score.value, score.low, score.high) == pytest.approx(by_hand(hits), rel=1e-5)
    assert (score.n, score.method) == (28 * 30, BY_GROUPS)
    assert "28 buckets of samples" in metrics.compute().notes[0]


def test_who_says_so_gets_intervals_by_rows_and_flat_rows_get_them_anyway() -> None:
    preds, target = logits_of(20, 9, 3), classes_of(3, 20, 9)
    apart = scores_of(pm.MulticlassMetrics(3, groups=False), preds, target)
    flat = scores_of(pm.MulticlassMetrics(3), preds.flatten(0, 1), target.flatten())
    assert repr(apart.to_dict()) == repr(flat.to_dict())
    assert flat["accuracy"].method == "wilson"
    assert flat.notes == ()
    single = scores_of(pm.MulticlassMetrics(3), preds[:, 0, :, None], target[:, 0, None])
    assert single["accuracy"].method == "wilson", "one row a sample is no group"


def test_ids_of_the_caller_are_the_groups_where_there_are_some() -> None:
    preds, target = logits_of(20, 9, 3), classes_of(3, 20, 9)
    patient = torch.arange(20) // 4
    metrics = pm.MulticlassMetrics(3, groups=True)
    metrics.update(preds, target, group=patient)
    assert "over 5 buckets of groups" in metrics.compute().notes[0]
    assert metrics.compute()["accuracy"].method == BY_GROUPS


def test_one_image_has_no_interval_and_says_why() -> None:
    scores = scores_of(pm.MulticlassMetrics(3), logits_of(1, 8, 8, 3), classes_of(3, 1, 8, 8))
    assert math.isnan(scores["accuracy"].low)
    assert not math.isnan(scores["accuracy"].value)
    assert "one sample" in scores.notes[0]


def test_samples_and_flat_rows_together_take_rows_for_independent_and_say_so() -> None:
    preds, target = logits_of(20, 9, 3), classes_of(3, 20, 9)
    for order in (("flat", "dense"), ("dense", "flat")):
        metrics = pm.MulticlassMetrics(3)
        for kind in order:
            if kind == "flat":
                metrics.update(preds[:, 0], target[:, 0])
            else:
                metrics.update(preds, target)
        scores = metrics.compute()
        assert scores["accuracy"].method == "wilson"
        assert "Rows without a group: 20." in scores.notes[0]


def test_groups_survive_merging_storing_and_a_reset() -> None:
    preds, target = logits_of(40, 9, 3), classes_of(3, 40, 9)
    metrics = pm.MulticlassMetrics(3)
    small = metrics.state_bytes
    metrics.update(preds[:20], target[:20])
    assert metrics.state_bytes > small
    other = pm.MulticlassMetrics(3)
    other.update(preds[20:], target[20:])
    merged = pm.MulticlassMetrics(3).merge_state([metrics, pm.MulticlassMetrics(3), other])
    assert merged.compute()["accuracy"].method == BY_GROUPS
    resumed = pm.MulticlassMetrics(3)
    resumed.load_state_dict(metrics.state_dict())
    assert repr(resumed.compute().to_dict()) == repr(metrics.compute().to_dict())
    metrics.reset()
    assert metrics.state_bytes == small


def test_samples_spread_evenly_over_the_buckets() -> None:
    metrics = pm.MulticlassMetrics(2, inputs="labels")
    for _ in range(16):
        metrics.update(classes_of(2, 8, 3), classes_of(2, 8, 3))
    rows = metrics.state_dict()["cells"]["group.rows"]
    assert rows.tolist() == [2 * 3] * BUCKETS + [0]


def test_images_and_vocabularies_wait_for_no_device() -> None:
    for metrics, preds, target in (
        (pm.MulticlassMetrics(3), (4, 3, 8, 6), (4, 8, 6)),
        (pm.MulticlassMetrics(40_000, topk=(5,)), (2, 6, 40_000), (2, 6)),
    ):
        with assert_no_sync():
            logits = torch.zeros(preds, device="cuda")
            metrics.fresh().update(logits, torch.zeros(target, dtype=torch.int64, device="cuda"))


@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
def test_other_tasks_know_images_too(task: str) -> None:
    share = torch.rand(24, 1, 1, generator=torch.Generator().manual_seed(3))
    noise = logits_of(24, 8, 7) + 3 * share
    target = (logits_of(24, 8, 7, seed=9) + 3 * share > 0).long()
    if task == "binary":
        made, batch, name = pm.BinaryMetrics, (noise, target), "accuracy"
        options: dict[str, Any] = {}
    elif task == "multilabel":
        both = torch.stack((noise, -noise), 1), torch.stack((target, target), 1)
        made, batch, name = pm.MultilabelMetrics, both, "hamming_loss"
        options = {"num_labels": 2}
    else:
        made, batch, name = pm.RegressionMetrics, (noise, target.float()), "mae"
        options = {}
    by_image = scores_of(made(**options), *batch)
    by_row = scores_of(made(groups=False, **options), *batch)
    assert by_image[name].method == BY_GROUPS != by_row[name].method
    assert by_image[name].value == by_row[name].value
    assert by_image.n == by_row.n
    wide, narrow = (s[name].high - s[name].low for s in (by_image, by_row))
    assert wide > 1.3 * narrow


def test_regression_takes_images_element_by_element() -> None:
    preds, target = logits_of(12, 3, 8, 6), logits_of(12, 3, 8, 6, seed=1)
    weight = torch.rand(12, 3, 8, 6, generator=torch.Generator().manual_seed(2))
    scores = scores_of(pm.RegressionMetrics(), preds, target, weight)
    off = (preds - target).double()
    assert scores["mse"].value == pytest.approx(float((weight * off**2).sum() / weight.sum()))
    assert scores["mae"].value == pytest.approx(float((weight * off.abs()).sum() / weight.sum()))
    assert (scores.n, scores["mse"].method) == (12 * 3 * 8 * 6, BY_GROUPS)
    for shape in ((12, 8, 6), (12, 1, 8, 6)):  # torch would broadcast them in silence
        with pytest.raises(pm.PtmetricsError, match=r"or both \(N, d1, d2, …\), got"):
            scores_of(pm.RegressionMetrics(), preds, target.new_zeros(shape))


@pytest.mark.parametrize("images", [12, 80])
def test_intervals_over_images_hold_the_truth(images: int) -> None:
    draw = np.random.default_rng(images)
    held = {"accuracy": 0, "mean_iou": 0}
    truth = {"accuracy": 0.75, "mean_iou": 0.6}  # two classes alike: a / (2 − a)
    for _ in range(60):
        metrics = pm.MulticlassMetrics(2, inputs="labels")
        for share in draw.beta(9, 3, (4, images // 4)):
            target = torch.from_numpy(draw.integers(0, 2, (images // 4, 12, 10)))
            wrong = torch.from_numpy(draw.random((images // 4, 12, 10)) > share[:, None, None])
            metrics.update(target ^ wrong.long(), target)
        scores = metrics.compute()
        for name, value in truth.items():
            held[name] += scores[name].low <= value <= scores[name].high
    assert min(held.values()) >= 52, f"of 60: {held}"


# Vocabularies.


def test_a_vocabulary_keeps_hits_and_totals_by_group_and_no_matrix() -> None:
    words = 50_257
    metrics = pm.MulticlassMetrics(words, topk=(1, 5), ignore_index=-100)
    logits = logits_of(6, 8, words)
    target = classes_of(words, 6, 8)
    sure = torch.rand(6, 8, generator=torch.Generator().manual_seed(4)) < 0.5
    logits.scatter_add_(2, target[..., None], 9.0 * sure[..., None])
    target[4:, 5:] = -100
    scores = scores_of(metrics, logits, target)
    kept = target != -100
    right = (logits.argmax(-1) == target)[kept].double().mean().item()
    nll = functional.cross_entropy(logits[kept], target[kept]).item()
    top5 = (logits.topk(5).indices == target[..., None]).any(-1)[kept].double().mean().item()
    assert scores["accuracy"].value == pytest.approx(right)
    assert scores["top5_accuracy"].value == pytest.approx(top5)
    assert scores["nll"].value == pytest.approx(nll, rel=1e-6)
    assert scores["perplexity"].value == pytest.approx(math.exp(nll), rel=1e-5)
    for name in ("accuracy", "top5_accuracy", "nll", "perplexity", "f1/micro"):
        assert scores[name].method == BY_GROUPS, name
        assert scores[name].n == int(kept.sum())
    assert scores.confusion is None
    assert metrics.state_bytes < 8 << 20
    assert "f1/macro" in scores.notes[1], "what takes rows for independent is named"
    assert scores["f1/macro"].value == pytest.approx(macro_f1(logits, target))
    hits = ((logits.argmax(-1) == target) & kept).double()
    p, without = right, []
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        without.append(float(hits[rest].sum() / kept[rest].sum()))
    variance = 5 / 6 * ((np.array(without) - p) ** 2).sum()
    t = stats.t.ppf(0.975, 5)
    n = p * (1 - p) / variance
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    ends = pytest.approx((centre - half, centre + half), rel=1e-5)
    assert (scores["accuracy"].low, scores["accuracy"].high) == ends


def macro_f1(logits: Tensor, target: Tensor) -> float:
    kept = target != -100
    actual, predicted = target[kept], logits.argmax(-1)[kept]
    found = []
    for word in set(actual.tolist()) | set(predicted.tolist()):
        hits = int(((actual == word) & (predicted == word)).sum())
        found.append(2 * hits / (int((actual == word).sum()) + int((predicted == word).sum())))
    return float(np.mean(found))


def test_a_vocabulary_has_the_scores_of_fewer_classes_slices_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preds, target = logits_of(12, 5, 6), classes_of(6, 12, 5)
    slices = torch.arange(12) % 2
    few = pm.MulticlassMetrics(6, slices=2)
    few.update(preds, target, slices=slices)
    monkeypatch.setattr("ptmetrics.metrics.multiclass.MAX_CLASSES", 5)
    many = pm.MulticlassMetrics(6, slices=2)
    many.update(preds, target, slices=slices)
    got, expected = many.compute(), few.compute()
    assert set(got) == set(expected)
    for name, score in got.items():
        assert score.value == pytest.approx(expected[name].value, rel=1e-12), name
    for name in ("accuracy", "hamming_loss", "jaccard/micro", "nll"):
        ends = (expected[name].low, expected[name].high)
        assert (got[name].low, got[name].high) == pytest.approx(ends, rel=1e-9)
    for part in ("0", "1"):
        for name, score in got.per_slice[part].items():
            assert score.value == pytest.approx(expected.per_slice[part][name].value, rel=1e-12)


# Perplexity, mean IoU and Dice.


@pytest.mark.parametrize("dense", [False, True], ids=["flat", "texts"])
def test_perplexity_is_the_exponential_of_the_nll_and_so_are_its_ends(dense: bool) -> None:
    preds, target = logits_of(30, 4, 5), classes_of(5, 30, 4)
    if not dense:
        preds, target = preds.flatten(0, 1), target.flatten()
    scores = scores_of(pm.MulticlassMetrics(5), preds, target)
    nll, perplexity = scores["nll"], scores["perplexity"]
    assert not perplexity.higher_is_better
    for got, of in zip(
        (perplexity.value, perplexity.low, perplexity.high),
        (nll.value, nll.low, nll.high),
        strict=True,
    ):
        assert got == pytest.approx(math.exp(of), rel=1e-12)
    assert perplexity.low < perplexity.value < perplexity.high
    assert "perplexity" not in scores_of(
        pm.MulticlassMetrics(5, inputs="labels"), preds.argmax(-1), target
    )
    assert pm.MulticlassMetrics(5).compute()["perplexity"].reason


def test_mean_iou_and_dice_are_named_and_defined_over_all_pixels() -> None:
    target = classes_of(4, 12, 9, 8)
    preds = torch.where(logits_of(12, 9, 8) > 0, target, classes_of(4, 12, 9, 8, seed=7))
    scores = scores_of(pm.MulticlassMetrics(4, inputs="labels"), preds, target)
    both = [float(((preds == c) & (target == c)).sum()) for c in range(4)]
    size = [float((preds == c).sum() + (target == c).sum()) for c in range(4)]
    ious = [b / (s - b) for b, s in zip(both, size, strict=True)]
    dices = [2 * b / s for b, s in zip(both, size, strict=True)]
    assert scores["mean_iou"].value == pytest.approx(np.mean(ious))
    assert scores["dice"].value == pytest.approx(np.mean(dices))
    assert [s.value for s in scores.per_class["iou"]] == pytest.approx(ious)
    assert [s.value for s in scores.per_class["dice"]] == pytest.approx(dices)
    assert scores["mean_iou"].method == scores["dice"].method == BY_GROUPS
    assert scores["dice"].higher_is_better


# Soft targets.


def test_soft_targets_are_told_with_their_number_and_classes_beside_them_are_not() -> None:
    preds, target = logits_of(10, 4), classes_of(4, 10)
    soft = 0.7 * functional.one_hot(target, 4) + 0.3 * functional.one_hot(target, 4).roll(1, 1)
    metrics = pm.MulticlassMetrics(4)
    metrics.update(preds, target)
    assert metrics.compute().notes == ()
    metrics.update(preds, soft)
    scores = metrics.compute()
    assert scores.faults == {}
    assert any(note.startswith("10 × soft target:") for note in scores.notes)
    assert scores.n == 20
    assert scores["accuracy"].value == pytest.approx(
        (preds.argmax(1) == target).double().mean().item()
    )
    expected = (
        functional.cross_entropy(preds, target) + functional.cross_entropy(preds, soft)
    ).item() / 2
    assert scores["nll"].value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_soft_targets_of_any_float_type_and_of_probabilities(dtype: torch.dtype) -> None:
    preds, soft = logits_of(40, 6).softmax(1), logits_of(40, 6, seed=3).softmax(1).to(dtype)
    scores = scores_of(pm.MulticlassMetrics(6, inputs="probs", topk=(2,)), preds, soft)
    kept = (soft == soft.amax(1, keepdim=True)).sum(1) == 1
    loss = -(soft[kept].double() * preds[kept].double().log()).sum(1).mean().item()
    assert scores["nll"].value == pytest.approx(loss, rel=1e-5)
    brier = (preds[kept].double() - soft[kept].double()).square().sum(1).mean().item()
    assert scores["brier"].value == pytest.approx(brier, rel=1e-5)
    ranked = (preds.topk(2).indices == soft.argmax(1, keepdim=True)).any(1)[kept]
    assert scores["top2_accuracy"].value == pytest.approx(ranked.double().mean().item())


def test_a_target_without_a_heaviest_class_is_left_out_with_a_word_and_is_no_fault() -> None:
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.6, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    scores = scores_of(pm.MulticlassMetrics(3), logits_of(3, 3), soft)
    assert scores.n == 1
    assert scores.faults == {}
    assert any(note.startswith("2 × soft target without a heaviest class") for note in scores.notes)


@pytest.mark.parametrize(
    "row", [[0.5, 0.7, 0.0], [1.2, -0.2, 0.0], [0.0, 0.0, 0.0], [math.nan, 0.0, 1.0]]
)
def test_a_soft_target_that_is_no_distribution_is_a_fault(row: list[float]) -> None:
    soft = torch.tensor([row, [0.1, 0.8, 0.1]])
    scores = scores_of(pm.MulticlassMetrics(3), logits_of(2, 3), soft)
    assert scores.n == 1
    assert scores.faults["soft-target-not-probabilities"]["count"] == 1


def test_an_impossible_class_of_weight_0_costs_nothing() -> None:
    preds = torch.tensor([[1.0, 0.0, -math.inf], [0.5, 2.0, -math.inf]])
    soft = torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.9, 0.0]])
    scores = scores_of(pm.MulticlassMetrics(3), preds, soft)
    expected = functional.cross_entropy(preds[:, :2], soft[:, :2]).item()
    assert scores["nll"].value == pytest.approx(expected, rel=1e-6)
