"""Several metrics in one monitor: a list for the same batch, a dict for several outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loops import WAYS, quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.counts.batch import Batch
from ptmetrics.errors import ConfigError, DtypeError, ShapeError
from ptmetrics.monitor.split import _joined_scores
from ptmetrics.record.reader import read_run

CLASSES = 3


class TwoHeads(nn.Module):
    """Classes and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.depth = nn.Linear(4, CLASSES), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"": self.classes(x), "depth": self.depth(x).squeeze(1)}


class Loss(nn.Module):
    def forward(self, preds: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
        classes = nn.functional.cross_entropy(preds[""], target[""])
        return classes + nn.functional.mse_loss(preds["depth"], target["depth"])


def batches() -> list[tuple[Tensor, dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for rows in (8, 8, 5):
        x = torch.randn(rows, 4, generator=generator)
        found.append((x, {"": x[:, :CLASSES].argmax(1), "depth": x.sum(1)}))
    return found


def two_outputs(way: str, run: Path | None = None, **attach: Any) -> pm.EpochScores:
    torch.manual_seed(0)
    model, criterion = TwoHeads().eval(), Loss()
    metrics = {"": pm.MulticlassMetrics(CLASSES), "depth": pm.RegressionMetrics()}
    with quiet(metrics=metrics, run=run) as monitor, torch.no_grad():
        if way != "update":
            monitor.attach(model, criterion=criterion, **attach)
        loader = batches()
        for x, y in monitor.validate(loader) if way == "loaders" else loader:
            preds = model(x)
            loss = criterion(preds, y)
            if way == "update":
                monitor.update(preds, y, loss=loss)
        return monitor.end_epoch()


def test_the_three_ways_give_several_outputs_the_numbers_of_metrics_that_are_fed_by_hand(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model, metrics, depth = TwoHeads().eval(), pm.MulticlassMetrics(CLASSES), pm.RegressionMetrics()
    with torch.no_grad():
        for x, y in batches():
            preds = model(x)
            metrics.update(preds[""], y[""])
            depth.update(preds["depth"], y["depth"])
    expected = {f"val/{name}": repr(score) for name, score in metrics.compute().items()}
    expected |= {f"val/depth/{name}": repr(score) for name, score in depth.compute().items()}
    for way in WAYS:
        scores = two_outputs(way, tmp_path / way)
        assert {name: repr(scores[name]) for name in scores if name != "val/loss"} == expected
        assert len(scores) == len(list(scores)) == len(expected) + 1
        assert (scores["val/loss"].n, scores.counts["val_samples"]) == (21, 21)
        (epoch,) = read_run(tmp_path / way).epochs
        assert list(epoch["scores"]) == list(scores)
        assert epoch["scores"]["val/depth/mae"]["value"] == scores["val/depth/mae"].value
        assert epoch["confusion"] == {"val": scores.splits["val"].to_dict()["confusion"]}
        assert set(epoch["per_class"]) == {"val", "val/depth"}
        assert len(epoch["class_names"]) == CLASSES


def test_outputs_are_found_by_functions_of_each_or_by_one_that_returns_all() -> None:
    expected = repr(dict(two_outputs("loaders")))
    each = {"": lambda output: output[""], "depth": lambda output: output["depth"]}
    targets = {"": lambda batch: batch[1][""], "depth": lambda batch: batch[1]["depth"]}
    assert repr(dict(two_outputs("loaders", preds=each, target=targets))) == expected
    whole: dict[str, Any] = {"preds": dict, "target": lambda batch: dict(batch[1])}
    assert repr(dict(two_outputs("loaders", **whole))) == expected


class Margin(pm.RegressionMetrics):
    """A second metric of the same logits, under names of its own."""

    def check(self, preds: Tensor, target: Tensor, *args: Any, **options: Any) -> Any:
        return super().check(preds[:, 0], target, *args, **options)


def test_a_list_counts_the_same_batch_in_each(tmp_path: Path) -> None:
    metrics = [pm.MulticlassMetrics(CLASSES), Margin()]
    with quiet(metrics=metrics, run=tmp_path / "run") as monitor:
        preds, target = torch.randn(8, CLASSES), torch.arange(8) % CLASSES
        for weight in (None, torch.ones(8)):
            monitor.update(preds, target, sample_weight=weight)
        scores = monitor.end_epoch()
        for metric in metrics:
            metric.update(preds, target)
            metric.update(preds, target, torch.ones(8))
    first, second = (metric.compute() for metric in metrics)
    assert {name: repr(score) for name, score in scores.items()} == {
        f"val/{name}": repr(score) for name, score in [*first.items(), *second.items()]
    }
    assert scores.splits["val"].class_names == first.class_names
    assert torch.equal(scores.splits["val"].confusion, first.confusion)
    header = read_run(tmp_path / "run").header["metrics"]
    assert header["task"] == "multiclass"
    assert [(more["task"], more["output"]) for more in header["further"]] == [("regression", "")]


def test_a_batch_that_one_of_several_refuses_is_counted_by_none() -> None:
    metrics = {"": pm.MulticlassMetrics(CLASSES), "depth": pm.RegressionMetrics()}
    with quiet(metrics=metrics) as monitor:
        preds = {"": torch.randn(4, CLASSES), "depth": torch.randn(4)}
        good = {"": torch.arange(4) % CLASSES, "depth": torch.randn(4)}
        with pytest.raises(ShapeError):
            monitor.update(preds, good | {"depth": torch.randn(3)})
        monitor.update(preds, good)
        scores = monitor.end_epoch()
    assert (scores["val/accuracy"].n, scores["val/depth/mae"].n) == (4, 4)


def first_score(preds: Tensor, target: Tensor) -> Tensor:
    return preds[:, 0]


class Broken(pm.Mean):
    """Raises where a batch has one row."""

    def count(self, batch: Batch) -> Any:
        if len(batch) == 1:
            raise ZeroDivisionError
        return super().count(batch)


@pytest.mark.parametrize("place", [0, 1])
def test_a_metric_that_fails_costs_the_others_nothing(place: int) -> None:
    metrics: list[Any] = [pm.MulticlassMetrics(CLASSES)]
    metrics.insert(place, Broken("mean", first_score, higher_is_better=True))
    with quiet(metrics=metrics, on_fault="contain") as monitor:
        for rows in (8, 1, 1):
            preds = torch.randn(rows, CLASSES)
            monitor.update(preds, torch.arange(rows) % CLASSES, loss=0.5)
        scores = monitor.end_epoch()
        assert [fault.count for fault in monitor.faults.all()] == [2]
    assert (scores["val/accuracy"].n, scores["val/mean"].n) == (10, 8)
    assert (scores["val/loss"].value, scores.counts["val_samples"]) == (0.5, 10)


def test_a_line_of_an_epoch_shows_a_score_of_ones_own() -> None:
    with quiet(metrics=pm.Mean("iou", first_score, higher_is_better=True)) as monitor:
        monitor.update(torch.ones(4, 1), torch.ones(4))
        assert str(monitor.end_epoch()) == "epoch 0: val/iou 1.0000"


def test_slices_go_to_the_metrics_that_were_built_for_them() -> None:
    metrics = [pm.MulticlassMetrics(CLASSES, slices=2), Margin()]
    with quiet(metrics=metrics) as monitor:
        preds, target = torch.randn(8, CLASSES), torch.arange(8) % CLASSES
        monitor.update(preds, target, slices=torch.arange(8) % 2)
        scores = monitor.end_epoch()
    assert [row["accuracy"].n for row in scores.splits["val"].per_slice.values()] == [4, 4]


def test_an_output_whose_metric_has_a_name_stands_alone_as_well() -> None:
    with quiet(
        pm.EarlyStopping("val/depth/mae"), metrics={"depth": pm.RegressionMetrics()}
    ) as monitor:
        monitor.update(torch.ones(4), torch.zeros(4), loss=0.5)
        monitor.update({"depth": torch.ones(4)}, {"depth": torch.zeros(4)}, loss=0.5)
        scores = monitor.end_epoch()
    assert (scores["val/depth/mae"], scores["val/loss"]) == (1.0, 0.5)
    assert list(scores)[-1] == "val/loss"
    assert list(scores.to_record()["scores"])[-1] == "val/loss"


def test_a_half_done_epoch_of_several_goes_on() -> None:
    def monitor() -> pm.Monitor:
        return quiet(metrics={"": pm.MulticlassMetrics(CLASSES), "depth": pm.RegressionMetrics()})

    batch = (
        {"": torch.randn(4, CLASSES), "depth": torch.randn(4)},
        {"": torch.arange(4) % CLASSES, "depth": torch.randn(4)},
    )
    with monitor() as first, monitor() as second:
        for _ in range(2):
            first.update(*batch, loss=0.5)
        expected = repr(dict(first.end_epoch()))
        second.update(*batch, loss=0.5)
        state = second.state_dict()
    with monitor() as third:
        third.load_state_dict(state)
        third.update(*batch, loss=0.5)
        assert repr(dict(third.end_epoch())) == expected


@pytest.mark.parametrize(
    ("metrics", "rule", "got"),
    [
        ([], "metrics of ptmetrics", "none at all"),
        ({}, "metrics of ptmetrics", "none at all"),
        ({"": []}, "metrics of ptmetrics", "none at all"),
        ([pm.MulticlassMetrics(3), 3], "metrics of ptmetrics", "int"),
        ("accuracy", "metrics of ptmetrics", "str"),
        ({0: pm.MulticlassMetrics(3)}, "names of outputs", "0"),
        ({"a//b": pm.MulticlassMetrics(3)}, "names of outputs", "'a//b'"),
        ({"/a": pm.MulticlassMetrics(3)}, "names of outputs", "'/a'"),
        ([pm.RegressionMetrics()] * 2, "scores of different names", "mse, pearson"),
    ],
    ids=["none", "no output", "empty", "a number", "a word", "0", "a//b", "/a", "twice"],
)  # fmt: skip
def test_metrics_that_cannot_stand_together_are_refused(metrics: Any, rule: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        quiet(metrics=metrics)
    assert caught.value.name == "metrics"
    assert rule in caught.value.expected
    assert got in caught.value.got
    assert caught.value.cure


@pytest.mark.parametrize(
    ("preds", "got"),
    [
        (torch.randn(4, CLASSES), "Tensor"),
        ({"": torch.randn(4, CLASSES)}, "keys ['']"),
        ({"": torch.randn(4, CLASSES), "depth": [1]}, "keys ['', 'depth']"),
    ],
)
def test_outputs_that_do_not_come_are_told(preds: Any, got: str) -> None:
    metrics = {"": pm.MulticlassMetrics(CLASSES), "depth": pm.RegressionMetrics()}
    target = {"": torch.arange(4) % CLASSES, "depth": torch.randn(4)}
    with quiet(metrics=metrics) as monitor, pytest.raises(DtypeError) as caught:
        monitor.update(preds, target)
    assert (caught.value.name, caught.value.got) == ("preds", got)
    assert "the keys '', 'depth'" in caught.value.expected
    assert "attach(preds=…, target=…)" in caught.value.cure


def test_bad_values_are_told_whichever_of_a_list_refuses_them() -> None:
    metrics = [pm.MulticlassMetrics(CLASSES, losses=False), Margin()]
    preds, target = torch.randn(4, CLASSES), torch.tensor([0, 1, 2, 9])
    preds[0, 0] = torch.nan
    with quiet(metrics=metrics) as monitor:
        monitor.update(preds, target)
        told = monitor.end_epoch().splits["val"].faults
    each = []
    for metric in metrics:
        metric.update(preds, target)
        each.append(set(metric.compute().faults))
    assert each[0] != each[1]
    assert set(told) == each[0] | each[1]


def test_scores_of_other_classes_do_not_join_those_of_the_first() -> None:
    def scores(name: str, classes: tuple[str, ...]) -> pm.Scores:
        values = [pm.Score(0.5)] * len(classes)
        return pm.Scores(
            {name: pm.Score(0.5)},
            task="t",
            n=1,
            per_class={f"{name}s": values},
            class_names=classes,
        )

    joined = _joined_scores([scores("a", ("x", "y")), scores("b", ("x", "y")), scores("c", ("z",))])
    assert list(joined) == ["a", "b", "c"]
    assert list(joined.per_class) == ["as", "bs"]
    assert joined.class_names == ("x", "y")
