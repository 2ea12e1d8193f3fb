"""The mean loss of a split weighs each value by the targets that it stands for."""

import pytest
import torch
from loops import quiet
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import ptmetrics as pm
from ptmetrics.monitor.split import SplitLoss


def mean_loss(*batches: tuple[Tensor, int]) -> float:
    loss_of_split = SplitLoss()
    for loss, targets in batches:
        loss_of_split.update(loss, torch.zeros(targets, dtype=torch.int64))
    return float(loss_of_split.mean().compute()["loss"])


@pytest.mark.parametrize("first", [0, 1])
def test_a_mean_over_targets_and_a_single_value_are_told_apart_in_any_order(first: int) -> None:
    batches = [(torch.tensor([1.0]), 5), (torch.tensor(3.0), 5)]
    expected = (1 * 1.0 + 5 * 3.0) / 6
    assert mean_loss(batches[first], batches[1 - first]) == pytest.approx(expected)


@pytest.mark.parametrize("ignored", [None, -100])
def test_where_there_is_no_float64_the_loss_is_counted_on_the_cpu(ignored: int | None) -> None:
    with FakeTensorMode():
        counts = SplitLoss(ignored)
        target = torch.zeros(4, dtype=torch.int64, device="mps")
        for loss in (torch.zeros((), device="mps"), torch.zeros(4, device="mps"), 0.5):
            counts.update(loss, target)
        state = counts.state_dict()
        assert counts._mean.device.type == "cpu"
        assert all(cell.device.type == "cpu" for cell in state["cells"].values())
        assert state["updates"] == 3
        assert counts.seen == 3


def test_what_is_ignored_is_looked_for_in_every_batch() -> None:
    counts = SplitLoss(-100)
    counts.update(torch.ones(4), torch.zeros(2, 2, dtype=torch.int64))
    counts.update(torch.full((4,), 3.0), torch.tensor([0, -100, -100, 0]))
    assert float(counts.mean().compute()["loss"]) == pytest.approx((4 * 1.0 + 2 * 3.0) / 6)


@pytest.mark.fault(24)
@pytest.mark.parametrize("way", ["hooks", "loaders", "update"])
@pytest.mark.parametrize("labels", [False, True], ids=["classes", "labels"])
def test_an_empty_batch_changes_nothing_in_any_way_in(way: str, labels: bool) -> None:
    model = nn.Identity().eval()
    criterion = nn.BCEWithLogitsLoss() if labels else nn.CrossEntropyLoss()
    target = (torch.eye(3) if labels else torch.arange(3)).repeat_interleave(2, 0)
    preds = torch.eye(3).repeat(2, 1)
    told = []
    for sizes in ([6], [0, 6], [3, 0, 3, 0]):
        batches = list(zip(preds.split(sizes), target.split(sizes), strict=True))
        metrics = pm.MultilabelMetrics(3) if labels else pm.MulticlassMetrics(3)
        with quiet(metrics=metrics) as monitor:
            monitor.attach(model, **({} if way == "update" else {"criterion": criterion}))
            for x, y in monitor.validate(batches) if way == "loaders" else batches:
                loss = criterion(model(x), y)
                if way == "update":
                    counted = y.long() if labels else y
                    monitor.update(x, counted, loss=loss if len(y) else None)
            scores = monitor.end_epoch()
        names = [name for name in scores if name != "val/loss"]
        told.append({name: (repr(scores[name].value), scores[name].n) for name in names})
        assert scores.counts["val_samples"] == 6
        assert scores["val/loss"].value == pytest.approx(float(criterion(preds, target)))
    assert told[0] == told[1] == told[2]


@pytest.mark.fault(26)
@pytest.mark.parametrize("way", ["hooks", "loaders", "update"])
def test_the_loss_of_tokens_is_the_same_at_any_batch_size(way: str) -> None:
    """Sentences of unequal lengths, padded: the criterion's mean of a batch is over its tokens."""
    g = torch.Generator().manual_seed(0)
    lengths = [3, 9, 1, 7, 7, 2, 8, 5]
    logits = torch.randn(8, 6, 9, generator=g, dtype=torch.float64)
    target = torch.randint(0, 6, (8, 9), generator=g)
    for row, length in enumerate(lengths):
        target[row, length:] = -100
    truth = float(nn.functional.cross_entropy(logits, target))
    for batch_size in range(1, 9):
        model, criterion = nn.Identity().eval(), nn.CrossEntropyLoss()
        metrics = pm.MulticlassMetrics(6, ignore_index=-100)
        batches = list(zip(logits.split(batch_size), target.split(batch_size), strict=True))
        with quiet(metrics=metrics) as monitor:
            monitor.attach(model, **({} if way == "update" else {"criterion": criterion}))
            for x, y in monitor.validate(batches) if way == "loaders" else batches:
                loss = criterion(model(x), y)
                if way == "update":
                    monitor.update(x, y, loss=loss)
            scores = monitor.end_epoch()
        assert scores["val/loss"].value == pytest.approx(truth, rel=1e-12), batch_size
        assert scores["val/nll"].value == pytest.approx(truth, rel=1e-12), batch_size
        assert scores["val/loss"].n == scores["val/accuracy"].n == sum(lengths), batch_size
