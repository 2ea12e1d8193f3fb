"""Images and texts as the unit, and scores at k, beside torchmetrics and scikit-learn."""

import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from image_cases import AVERAGES, IMAGE_SCORES, names_at
from oracles import same
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics.functional import classification as tm
from torchmetrics.functional.segmentation import generalized_dice_score, mean_iou
from torchmetrics.segmentation import DiceScore

import ptmetrics as pm
from ptmetrics.counts.images import HITS, OVERLAPS
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.metrics.groups import BY_GROUPS
from ptmetrics.metrics.image_scores import IMAGE_NAMES
from ptmetrics.metrics.top_k import top_k_table
from ptmetrics.testing import assert_no_sync


def pictures(number: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and targets of pictures in which some classes are missing."""
    g = torch.Generator().manual_seed(seed)
    most = torch.randint(1, classes, (number, 1, 1), generator=g)
    target = torch.randint(0, classes, (number, 7, 5), generator=g) % (most + 1)
    other = torch.randint(0, classes, (number, 7, 5), generator=g)
    wrong = torch.rand(number, 7, 5, generator=g) < torch.rand(number, 1, 1, generator=g)
    return torch.where(wrong, other, target), target


def scores_of(*batch: Tensor, **config: Any) -> pm.Scores:
    metrics = pm.MulticlassMetrics(**{"inputs": "labels", "scores": IMAGE_SCORES, **config})
    metrics.update(*batch)
    return metrics.compute()


def test_the_names_are_those_that_the_tests_know() -> None:
    assert set(IMAGE_SCORES) == IMAGE_NAMES
    assert {spec.name for spec in top_k_table(5).specs} == set(names_at(5))


@pytest.mark.parametrize("background", [True, False])
def test_overlaps_of_images_are_those_of_torchmetrics(background: bool) -> None:
    preds, target = pictures(14, 5)
    kept = list(range(5))[not background :]
    got = scores_of(preds, target, num_classes=5, labels=kept)
    expected = {}
    for average in ("macro", "micro", "none"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another default to come
            peer = DiceScore(
                5, background, average, aggregation_level="samplewise", input_format="index"
            )
        peer.update(preds, target)
        expected[average] = peer.compute()
    assert same(got["dice/image"], expected["macro"], 1e-6)
    assert same(got["dice/image/micro"], expected["micro"], 1e-6)
    each = [got.per_class["dice/image"][c] for c in kept]
    assert all(map(lambda a, b: same(a, b, 1e-6), each, expected["none"]))
    one = mean_iou(preds, target, 5, include_background=background, input_format="index")
    assert same(got["iou/image"], one.nanmean(), 1e-6)
    right = tm.multiclass_accuracy(preds, target, 5, average="micro", multidim_average="samplewise")
    assert same(got["accuracy/image"], right.mean(), 1e-6)


@pytest.mark.parametrize("background", [True, False])
def test_the_generalized_dice_is_that_of_torchmetrics_where_each_image_has_each_class(
    background: bool,
) -> None:
    g = torch.Generator().manual_seed(2)
    preds, target = torch.randint(0, 5, (2, 6, 16, 16), generator=g)
    got = scores_of(preds, target, num_classes=5, labels=list(range(5))[not background :])
    peer = generalized_dice_score(preds, target, 5, background, input_format="index")
    assert same(got["dice/image/generalized"], peer.mean(), 1e-6)


def test_by_hand() -> None:
    target = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [2, -100, 2, -100], [-100] * 4])
    preds = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [2, 0, 2, 1], [0, 1, 2, 0]])
    got = scores_of(preds, target, num_classes=3, ignore_index=-100)
    assert got.faults == {}
    assert got["exact_match"] == pytest.approx(2 / 3), "the last text has nothing that counts"
    assert got["exact_match"].n == got["dice/image"].n == 3
    assert got["accuracy/image"] == pytest.approx((0.75 + 1 + 1) / 3)
    assert got["iou/image"] == pytest.approx(((2 / 3 + 1 / 2) / 2 + 1 + 1) / 3)
    assert got["iou/image/micro"] == pytest.approx((3 / 5 + 1 + 1) / 3)
    assert [score.value for score in got.per_class["iou/image"]] == pytest.approx([5 / 6, 0.5, 1])
    assert [score.n for score in got.per_class["iou/image"]] == [2, 1, 1]


def test_what_no_image_has_is_undefined_and_says_why() -> None:
    nothing = torch.full((3, 4), -100)
    got = scores_of(torch.zeros(3, 4).long(), nothing, num_classes=3, ignore_index=-100)
    for name in IMAGE_SCORES:
        assert math.isnan(got[name])
        assert got[name].reason.startswith("no image has a")


@pytest.mark.parametrize("rows", [1, 6, 40])
def test_a_metric_that_counts_in_pieces_keeps_images_whole(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    preds, target = pictures(9, 4)
    whole = scores_of(preds, target, num_classes=4)
    metrics = pm.MulticlassMetrics(4, inputs="labels", scores=IMAGE_SCORES)
    monkeypatch.setattr(metrics, "rows_at_once", rows)
    metrics.update(preds, target)
    assert all(same(metrics.compute()[name], whole[name]) for name in IMAGE_SCORES)


def test_small_batches_that_wait_keep_images_whole() -> None:
    preds, target = pictures(40, 4)
    whole = scores_of(preds, target, num_classes=4)
    metrics = pm.MulticlassMetrics(4, inputs="labels", scores=IMAGE_SCORES)
    for i in range(0, 40, 2):
        metrics.update(preds[i : i + 2], target[i : i + 2])
    assert metrics._buffer._filled, "the last ones wait"
    assert all(same(metrics.compute()[name], whole[name]) for name in IMAGE_SCORES)


def test_an_image_weighs_as_its_heaviest_pixel() -> None:
    preds, target = pictures(12, 4)
    weight = torch.randint(0, 4, (12, 1, 1)).double().expand(12, 7, 5)
    got = scores_of(preds, target, weight, num_classes=4)
    again = weight[:, 0, 0].long()
    repeated = scores_of(
        preds.repeat_interleave(again, 0), target.repeat_interleave(again, 0), num_classes=4
    )
    masked = torch.where(target == 1, -100, target)
    mask = (target != 1).double()
    by_mask = scores_of(preds, target, mask, num_classes=4)
    ignored = scores_of(preds, masked, num_classes=4, ignore_index=-100)
    for name in IMAGE_SCORES:
        assert same(got[name], repeated[name]), name
        assert same(by_mask[name], ignored[name]), name
        assert same(by_mask[name].low, ignored[name].low), name


def test_images_of_slices_and_groups() -> None:
    preds, target = pictures(24, 4)
    where, patient = torch.arange(24) % 3, torch.arange(24) // 4
    metrics = pm.MulticlassMetrics(
        4, inputs="labels", scores=IMAGE_SCORES, slices=["a", "b"], groups=True
    )
    metrics.update(preds, target, slices=where.masked_fill(where == 2, -1), group=patient)
    got = metrics.compute()
    alone = scores_of(preds, target, num_classes=4)
    for name in IMAGE_SCORES:
        assert same(got[name], alone[name])
        assert got[name].method == BY_GROUPS != alone[name].method
        for place, part in enumerate("ab"):
            some = scores_of(preds[where == place], target[where == place], num_classes=4)
            score = got.per_slice[part][name]
            assert same(score, some[name])
            assert same(score.low, some[name].low)
            assert score.n == some[name].n
    twice = pm.MulticlassMetrics(4, inputs="labels", scores=IMAGE_SCORES, groups=True)
    for _ in range(2):  # each image twice in its patient tells nothing more
        twice.update(preds, target, group=patient)
    for name, wide in twice.compute().items():
        if name in IMAGE_SCORES:  # by images alone the interval of `got` may be the wider one
            assert got[name].low - 1e-9 <= wide.low <= wide.high <= got[name].high + 1e-9, name
            plain = alone[name]
            inside = plain.low <= wide.low and wide.high <= plain.high
            assert inside or same(wide.low, got[name].low, 1e-9), name


def test_a_stored_state_with_scores_above_1_is_refused() -> None:
    metrics = pm.MulticlassMetrics(3, inputs="labels", scores=IMAGE_SCORES)
    metrics.update(*pictures(6, 3))
    for name in (HITS, OVERLAPS):
        state = metrics.state_dict()
        state["cells"][name][3:] *= 3
        state["cells"][name][5:] *= 3
        with pytest.raises(StateError, match="scores of images from 0 to 1"):
            metrics.load_state_dict(state)
    again = pickle.loads(pickle.dumps(metrics))
    assert repr(again.compute().to_dict()) == repr(metrics.compute().to_dict())


def test_labels_that_are_averaged_over_are_part_of_what_is_counted() -> None:
    one, other = (
        pm.MulticlassMetrics(3, scores=["dice/image"], labels=labels) for labels in ([1, 2], [0, 2])
    )
    with pytest.raises(StateError, match="configuration"):
        one.merge_state([other])
    plain = pm.MulticlassMetrics(3, labels=[1, 2])
    plain.merge_state([pm.MulticlassMetrics(3, labels=[0, 2])])


@pytest.mark.slow
@pytest.mark.parametrize("images", [8, 30, 200])
def test_intervals_over_images_hold_the_truth(images: int) -> None:
    draw = np.random.default_rng(images)
    names = ("accuracy/image", "dice/image/micro", "exact_match")
    held = dict.fromkeys(names, 0)
    truth = {"accuracy/image": 0.75, "dice/image/micro": 0.75, "exact_match": 0.0}
    share = draw.beta(3, 1, 200_000)
    truth["exact_match"] = float((share**3).mean())
    for _ in range(200):
        share = draw.beta(3, 1, (images, 1))
        right = torch.from_numpy(draw.random((images, 3)) < share)
        target = torch.from_numpy(draw.integers(0, 2, (images, 3)))
        got = scores_of(torch.where(right, target, 1 - target), target, num_classes=2, scores=names)
        for name in names:
            held[name] += got[name].low <= truth[name] <= got[name].high
    assert min(held.values()) >= 183, f"of 200: {held}"


def test_texts_of_a_vocabulary_have_accuracies_and_no_overlaps() -> None:
    words = 5_000
    logits = torch.randn(6, 8, words, generator=torch.Generator().manual_seed(0))
    target = logits.argmax(-1)
    target[:3, 2] = 7
    names = ["accuracy/image", "exact_match", *names_at(5)]
    metrics = pm.MulticlassMetrics(words, topk=(1, 5), scores=names, slices=2)
    metrics.update(logits, target, slices=torch.arange(6) % 2)
    got = metrics.compute()
    assert got["exact_match"] == 0.5
    assert got["accuracy/image"] == pytest.approx(1 - 3 / 48)
    assert got["top5_recall/micro"] == got["top5_accuracy"]
    assert got["top5_f1/macro"].low <= got["top5_f1/macro"] <= got["top5_f1/macro"].high
    with pytest.raises(ConfigError, match="scores: expected no weighted kappa, Dice or IoU"):
        pm.MulticlassMetrics(words, scores=["dice/image"])


def test_images_wait_for_no_device() -> None:
    names = (*IMAGE_SCORES, *names_at(2))
    for metrics, shape in (
        (pm.MulticlassMetrics(3, topk=(2,), scores=names, labels=[1, 2]), (4, 3, 8, 6)),
        (pm.BinaryMetrics(scores=IMAGE_SCORES[:4]), (4, 8, 6)),
    ):
        with assert_no_sync():
            target = torch.zeros(4, 8, 6, dtype=torch.int64, device="cuda")
            metrics.update(torch.zeros(shape, device="cuda"), target, target.double())


@pytest.mark.parametrize("ignored", [None, -1])
@pytest.mark.parametrize("k", [2, 4])
def test_scores_at_k_are_those_of_torchmetrics(k: int, ignored: int | None) -> None:
    g = torch.Generator().manual_seed(k)
    logits = torch.randn(300, 7, generator=g)
    target = torch.randint(0, 6, (300,), generator=g)  # the last class has no target
    if ignored is not None:
        target[::9] = ignored
    metrics = pm.MulticlassMetrics(7, topk=(1, k), scores=names_at(k), ignore_index=ignored)
    metrics.update(logits, target)
    got = metrics.compute()
    for name, peer in (
        ("precision", tm.multiclass_precision),
        ("recall", tm.multiclass_recall),
        ("f1", tm.multiclass_f1_score),
    ):
        options = {"num_classes": 7, "top_k": k, "ignore_index": ignored}
        for average in AVERAGES:
            score = got[f"top{k}_{name}/{average}"]
            assert same(score, peer(logits, target, average=average, **options), 1e-6)
            assert score.low < score.value < score.high
        each = peer(logits, target, average="none", **options)
        for score, value in zip(got.per_class[f"top{k}_{name}"], each, strict=True):
            assert same(0.0 if math.isnan(score) else score, value, 1e-6), name


def test_scores_at_k_over_some_classes_are_those_of_scikit_learn() -> None:
    g = torch.Generator().manual_seed(0)
    logits, target = torch.randn(200, 5, generator=g), torch.randint(0, 5, (200,), generator=g)
    found = (logits.topk(3).indices == target.unsqueeze(1)).any(1)
    at_3 = torch.where(found, target, logits.argmax(1))
    metrics = pm.MulticlassMetrics(5, topk=(3,), scores=names_at(3), labels=[1, 3, 4])
    metrics.update(logits, target)
    got = metrics.compute()
    functions = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    for name, function in functions.items():
        for average in AVERAGES:
            expected = function(target, at_3, labels=[1, 3, 4], average=average)
            assert same(got[f"top3_{name}/{average}"], expected), f"{name}/{average}"


def test_scores_at_k_need_their_k() -> None:
    with pytest.raises(ConfigError, match=r"scores: expected .* names among .*top5_recall/macro"):
        pm.MulticlassMetrics(10, topk=(1, 5), scores=["top3_recall/macro"])
    plain = pm.MulticlassMetrics(10, topk=(1, 5))
    assert not any("top5" in name for name in plain.layout)
    assert not any("image" in name for name in plain.layout)


def test_masks_of_yes_and_no() -> None:
    preds, target = pictures(10, 2)
    metrics = pm.BinaryMetrics(inputs="labels", scores=IMAGE_SCORES[:4])
    metrics.update(preds, target)
    got = metrics.compute()
    dice = DiceScore(2, False, "macro", aggregation_level="samplewise", input_format="index")
    dice.update(preds, target)
    assert same(got["dice/image"], dice.compute(), 1e-6)
    assert same(got["exact_match"], float((preds == target).flatten(1).all(1).double().mean()))
    assert "dice/image" not in got.per_class
