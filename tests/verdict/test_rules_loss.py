"""A loss that is another number than the metric's own: the cause is named, and healthy loops are not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_sources import Recorded
from torch import Tensor
from torch.nn import functional

import ptmetrics as pm
from ptmetrics.verdict.finding import Finding
from ptmetrics.verdict.judge import judge

LossOf = Callable[[Tensor, Tensor], Tensor]
WATCHED = {"reduction": "mean", "weighted": False, "label_smoothing": 0.0}
CLASSES = 4


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and targets of a fair classifier."""
    torch.manual_seed(seed)
    target = torch.arange(count) % CLASSES
    return 2.5 * functional.one_hot(target, CLASSES) + torch.randn(count, CLASSES), target


def run_of(
    loss_of: LossOf,
    *,
    metrics: Any = None,
    data: tuple[Tensor, Tensor] | None = None,
    counted_as: Callable[[Tensor], Tensor] = lambda scores: scores,
    split: str = "val",
    batch: int = 40,
    epochs: int = 2,
    criterion: str = "",
    **seen: Any,
) -> Recorded:
    """A run through a real Monitor; `seen` is what hooks would have seen of it besides."""
    monitor = pm.Monitor(metrics or pm.MulticlassMetrics(CLASSES))
    found = []
    for epoch in range(epochs):
        scores, target = data or rows(430, epoch)
        for a, b in zip(scores.split(batch), target.split(batch), strict=True):
            monitor.update(counted_as(a), b, loss=loss_of(a, b), split=split)
        record: Any = dict(monitor.end_epoch().to_record())
        told: dict[str, Any] = {"inputs": "logits", "batch_rows": 430 / 11, "losses": 11, **seen}
        if criterion:
            told["criterion"] = {"name": criterion, **WATCHED, **seen.get("criterion", {})}
        record["seen"] = {split: told}
        found.append(record)
    monitor.close()
    return Recorded(found, {"metrics": dict((metrics or pm.MulticlassMetrics(CLASSES)).config)})


def finding_of(run: Recorded) -> Finding | None:
    findings = [item for item in judge(run).findings if item.code == "loss-disagrees"]
    assert len(findings) <= 1
    return findings[0] if findings else None


def cause_of(run: Recorded) -> str | None:
    """The cause, with the severity where it is no warning."""
    finding = finding_of(run)
    if finding is None:
        return None
    if finding.severity != "warning":
        return f"{finding.severity}: {finding.evidence['cause']}"
    return str(finding.evidence["cause"])


def focal(logits: Tensor, target: Tensor) -> Tensor:
    losses = functional.cross_entropy(logits, target, reduction="none")
    return ((1 - torch.exp(-losses)) ** 2 * losses).mean()


# Classes


def test_the_loss_of_the_rows_is_not_spoken_of() -> None:
    assert cause_of(run_of(functional.cross_entropy)) is None
    assert cause_of(run_of(functional.cross_entropy, criterion="CrossEntropyLoss")) is None
    half = run_of(lambda a, b: functional.cross_entropy(a.bfloat16(), b))
    assert cause_of(half) is None


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("batch", [16, 100])
def test_a_sum_is_named_with_the_rows_of_a_batch(batch: int, epochs: int) -> None:
    total = run_of(
        lambda a, b: functional.cross_entropy(a, b, reduction="sum"),
        batch=batch,
        epochs=epochs,
        batch_rows=430 / -(-430 // batch),
    )
    finding = finding_of(total)
    assert finding is not None
    assert finding.evidence["cause"] == "sum"
    assert "a sum in place of a mean" in finding.message
    assert 'reduction="sum"' in finding.advice


def test_a_sum_is_known_by_the_counts_where_the_record_does_not_tell_what_was_seen() -> None:
    run = run_of(lambda a, b: functional.cross_entropy(a, b, reduction="sum"))
    for record in run.epochs:
        del record["seen"]
    assert cause_of(run) == "sum"


@given(st.integers(2, 24))
@settings(max_examples=12, deadline=None)
def test_a_share_is_named_whatever_its_size(parts: int) -> None:
    run = run_of(lambda a, b: functional.cross_entropy(a, b) / parts, epochs=2)
    finding = finding_of(run)
    assert finding is not None
    assert f"1/{parts} of it" in finding.message


def test_a_share_in_training_is_held_against_the_steps_of_the_optimizer() -> None:
    run = run_of(
        lambda a, b: functional.cross_entropy(a, b) / 5,
        split="train",
        losses=10,
        optimizer_steps=2,
        epochs=1,
    )
    finding = finding_of(run)
    assert finding is not None
    assert finding.message.startswith("train/loss is ")
    assert "of which there are 5 batches a step" in finding.message


@pytest.mark.parametrize(
    ("factor", "epochs", "cause"),
    [
        (1 / 8 * 1.006, 1, "share"),
        (1 / 7, 1, "share"),
        (1 / 7 * 1.006, 1, "info: unknown"),  # any number is as near to such a share
        (1 / 7 * 1.006, 2, "share"),
        (1 / 7 * 1.03, 2, "info: unknown"),
        (1 / 130, 1, "info: unknown"),
        (1.5, 3, "info: unknown"),
        (-0.25, 1, "info: unknown"),
    ],
)
def test_how_near_a_share_must_be(factor: float, epochs: int, cause: str) -> None:
    run = run_of(lambda a, b: functional.cross_entropy(a, b) * factor, epochs=epochs)
    assert cause_of(run) == cause


@pytest.mark.parametrize(
    ("ratios", "cause"),
    [
        ((40.0, 40.0, 41.0), "sum"),
        ((50.0,), "sum"),  # batches of unlike size weigh unlike
        ((39.0, 52.0), "info: unknown"),
        ((55.0,), "info: unknown"),
        ((35.0,), "info: unknown"),
    ],
)
def test_how_near_a_sum_must_be(ratios: tuple[float, ...], cause: str) -> None:
    run = run_of(functional.cross_entropy, epochs=len(ratios), batch_rows=40.0)
    for record, ratio in zip(run.epochs, ratios, strict=True):
        own = record["scores"]["val/nll"]["value"]
        record["scores"]["val/loss"] |= {"value": ratio * own, "low": 0.0, "high": 1e6}
    assert cause_of(run) == cause


def test_what_is_wrong_for_sure_is_said_before_what_may_be_meant() -> None:
    val = run_of(focal, epochs=1)
    train = run_of(lambda a, b: functional.cross_entropy(a, b) / 4, epochs=1, split="train")
    val.epochs[0]["scores"] |= train.epochs[0]["scores"]
    val.epochs[0]["seen"] |= train.epochs[0]["seen"]
    finding = finding_of(val)
    assert finding is not None
    assert (finding.evidence["split"], finding.evidence["cause"]) == ("train", "share")


@pytest.mark.parametrize(
    ("criterion", "words"),
    [("CrossEntropyLoss", "ends in softmax"), ("NLLLoss", "log-probabilities"), ("", "softmax")],
)
def test_softmax_in_the_model_is_named_though_loss_and_metric_agree(
    criterion: str, words: str
) -> None:
    data = rows(430)[0].softmax(1), rows(430)[1]
    run = run_of(functional.cross_entropy, data=data, criterion=criterion, like_probabilities=True)
    finding = finding_of(run)
    assert finding is not None
    assert words in finding.message
    assert "probabilities" in finding.message
    assert finding.evidence["cause"] == "probabilities"


def test_logits_that_lie_in_0_to_1_once_are_no_probabilities() -> None:
    run = run_of(functional.cross_entropy, like_probabilities=True)
    run.epochs[0]["seen"]["val"]["like_probabilities"] = False
    assert cause_of(run) is None
    told = run_of(functional.cross_entropy, like_probabilities=True, inputs="probs")
    assert cause_of(told) is None


def test_a_loss_of_probabilities_whose_metric_expects_logits_names_the_declaration() -> None:
    torch.manual_seed(0)
    data = torch.randn(430).sigmoid(), (torch.arange(430) % 2).float()
    run = run_of(
        functional.binary_cross_entropy,
        data=data,
        metrics=pm.BinaryMetrics(),
        criterion="BCELoss",
        like_probabilities=True,
    )
    finding = finding_of(run)
    assert finding is not None
    assert "BCELoss takes probabilities" in finding.message
    assert 'inputs="probs"' in finding.advice


def test_the_same_loss_of_probabilities_that_were_announced_is_right() -> None:
    torch.manual_seed(0)
    data = torch.randn(430).sigmoid(), (torch.arange(430) % 2).float()
    run = run_of(
        functional.binary_cross_entropy,
        data=data,
        metrics=pm.BinaryMetrics(inputs="probs"),
        criterion="BCELoss",
        inputs="probs",
    )
    assert cause_of(run) is None


def test_log_probabilities_are_right_as_logits_and_logits_are_wrong_for_nll_loss() -> None:
    logits, target = rows(430)
    right = run_of(functional.nll_loss, data=(logits.log_softmax(1), target), criterion="NLLLoss")
    assert cause_of(right) is None
    assert (
        cause_of(run_of(functional.nll_loss, data=(logits, target), criterion="NLLLoss"))
        == "inputs"
    )
    announced = run_of(
        functional.nll_loss, data=(logits, target), criterion="NLLLoss", inputs="probs"
    )
    assert cause_of(announced) == "another head"


def test_another_head_is_named_where_the_criterion_is_known() -> None:
    run = run_of(
        lambda a, b: functional.cross_entropy(a.roll(1, 1), b), criterion="CrossEntropyLoss"
    )
    finding = finding_of(run)
    assert finding is not None
    assert finding.evidence["cause"] == "another head"
    assert "another head" in finding.message


@pytest.mark.parametrize(
    ("name", "more", "loss_of"),
    [
        ("CrossEntropyLoss", {"label_smoothing": 0.1}, None),
        ("CrossEntropyLoss", {"weighted": True}, None),
        ("FocalLoss", {}, focal),
        ("TripletMarginLoss", {}, lambda a, b: a.norm() / 7),
    ],
)
def test_weights_smoothing_and_criteria_of_ones_own_are_another_loss(
    name: str, more: dict[str, Any], loss_of: LossOf | None
) -> None:
    def smooth_and_weighted(logits: Tensor, target: Tensor) -> Tensor:
        weight = torch.tensor([1.0, 5.0, 1.0, 9.0])
        return functional.cross_entropy(logits, target, weight=weight, label_smoothing=0.1)

    run = run_of(loss_of or smooth_and_weighted, criterion=name)
    for record in run.epochs:
        record["seen"]["val"]["criterion"] |= more
    assert cause_of(run) is None


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_loss_that_was_given_and_fits_nothing_is_for_information(epochs: int) -> None:
    assert cause_of(run_of(focal, epochs=epochs)) == "info: unknown"
    assert cause_of(run_of(focal, epochs=epochs, split="train")) is None


def test_a_loss_of_fewer_rows_or_beside_refused_ones_is_not_compared() -> None:
    shifted = run_of(
        lambda a, b: functional.cross_entropy(a.roll(1, 1), b), criterion="CrossEntropyLoss"
    )
    few = run_of(
        lambda a, b: functional.cross_entropy(a.roll(1, 1), b), criterion="CrossEntropyLoss"
    )
    few.epochs[-1]["scores"]["val/loss"]["n"] = 40
    assert cause_of(few) is None
    bad = {"target-range": {"count": 1, "first_step": 0, "message": "1 row"}}
    shifted.epochs[-1]["faults"] = {"val": bad}
    assert cause_of(shifted) is None


def test_mixed_targets_of_training_are_not_spoken_of() -> None:
    def mixed(logits: Tensor, target: Tensor) -> Tensor:
        return 0.7 * functional.cross_entropy(logits, target) + 0.3 * functional.cross_entropy(
            logits, target.flip(0)
        )

    assert cause_of(run_of(mixed, split="train", criterion="CrossEntropyLoss")) is None
    assert cause_of(run_of(mixed, split="train")) is None


def test_the_loss_of_several_outputs_is_that_of_none_of_them() -> None:
    monitor = pm.Monitor(
        {"": pm.MulticlassMetrics(CLASSES), "other": pm.MulticlassMetrics(CLASSES)}
    )
    logits, target = rows(200)
    both = {"": logits, "other": logits.roll(1, 1)}
    total = functional.cross_entropy(logits, target) + functional.cross_entropy(
        both["other"], target
    )
    monitor.update(both, {"": target, "other": target}, loss=total, split="val")
    record: Any = dict(monitor.end_epoch().to_record())
    assert cause_of(Recorded([record])) is None


def test_labels_have_no_likelihood_to_disagree_with() -> None:
    metrics = pm.MulticlassMetrics(CLASSES, inputs="labels")
    run = run_of(focal, metrics=metrics, counted_as=lambda scores: scores.argmax(1))
    assert cause_of(run) is None


def test_one_evaluation_is_held_against_its_loss_too() -> None:
    logits, target = rows(200)
    metrics = pm.MulticlassMetrics(CLASSES)
    metrics.update(logits, target)
    scores = metrics.compute().to_dict()["scores"]
    named = {f"val/{name}": score for name, score in scores.items()}
    for share, cause in ((1, None), (1 / 8, "share")):
        parts = {key: scores["nll"][key] * share for key in ("value", "low", "high")}
        payload = {"scores": named | {"val/loss": scores["nll"] | parts}}
        finding = next((f for f in judge(payload).findings if f.code == "loss-disagrees"), None)
        assert (finding and finding.evidence["cause"]) == cause


# Numbers


def points(count: int = 430) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    target = 3 + 2 * torch.randn(count)
    return (target + torch.randn(count)).reshape(-1, 1), target


def each_with_each(preds: Tensor, target: Tensor) -> Tensor:
    return ((preds - target) ** 2).mean()


@pytest.mark.parametrize("criterion", ["", "MSELoss"])
def test_targets_that_were_broadcast_are_named(criterion: str) -> None:
    run = run_of(each_with_each, metrics=pm.RegressionMetrics(), data=points(), criterion=criterion)
    finding = finding_of(run)
    assert finding is not None
    assert finding.evidence["cause"] == "broadcast"
    assert "(N, 1) against (N)" in finding.message
    assert "squeeze(1)" in finding.advice


@pytest.mark.parametrize(
    ("loss_of", "criterion", "cause"),
    [
        (functional.mse_loss, "", None),
        (functional.mse_loss, "MSELoss", None),
        (functional.l1_loss, "L1Loss", None),
        (functional.l1_loss, "", None),
        (functional.smooth_l1_loss, "SmoothL1Loss", None),
        (lambda a, b: functional.mse_loss(a, b) / 2, "", None),
        (lambda a, b: functional.mse_loss(a, b) / 4, "", "share"),
        (lambda a, b: functional.mse_loss(a, b, reduction="sum"), "", "sum"),
        (functional.huber_loss, "", "info: unknown"),
        (lambda a, b: functional.mse_loss(a - 5, b), "MSELoss", "another head"),
    ],
)
def test_errors_are_held_against_the_error_of_their_kind(
    loss_of: LossOf, criterion: str, cause: str | None
) -> None:
    preds, target = points()
    run = run_of(
        loss_of,
        metrics=pm.RegressionMetrics(),
        data=(preds.squeeze(1), target),
        criterion=criterion,
    )
    assert cause_of(run) == cause


def test_a_loss_near_the_largest_number_is_compared_without_a_warning() -> None:
    """The suite takes a warning for an error: the ratio to the metric's own loss overflows."""
    run = run_of(lambda scores, target: functional.cross_entropy(scores, target))
    for epoch in run.epochs:
        score = epoch["scores"]["val/loss"]
        score.update(dict.fromkeys(("value", "low", "high"), 1e308))
    assert finding_of(run) is not None
