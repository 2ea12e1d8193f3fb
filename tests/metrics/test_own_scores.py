"""A score of one's own whose formula does not fit says so by its name, and costs no other one."""

from typing import Any

import pytest
import torch

import ptmetrics as pm
from ptmetrics.errors import ConfigError

TARGET = torch.arange(60) % 3
PREDS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
GOOD = pm.ScoreSpec("good", lambda c: c.hits.sum(-1) / c.actual.sum(-1), interval="delta")


def scores_with(spec: pm.ScoreSpec, slices: int = 0) -> pm.Scores:
    metrics = pm.MulticlassMetrics(3, scores=[GOOD, spec], slices=slices)
    ids = torch.arange(60) % 2 if slices else None
    metrics.update(PREDS, TARGET, slices=ids)
    return metrics.compute()


FAILING: dict[str, tuple[str, Any, str]] = {
    "no pair": ("wilson", lambda c: c.hits.sum(-1), r"a pair \(part, whole\)"),
    "no classes": (
        "mover",
        lambda c: (c.hits.sum(-1), c.actual.sum(-1)),
        r"a pair \(part, whole\) of each class",
    ),
    "no array": ("delta", lambda c: float(c.hits.sum()), "the score, smooth in hits"),
    "no six sums": ("normal", lambda c: c.weights.hits, "the six sums of a cell"),
    "a name that there is not": ("none", lambda c: c.tp.sum(-1), "the score, for"),
    "no formula": ("none", None, "the score, for"),
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.parametrize("slices", [0, 2])
def test_a_formula_that_fails_is_named_with_what_it_should_return(case: str, slices: int) -> None:
    interval, formula, rule = FAILING[case]
    with pytest.raises(ConfigError, match=rf"^score mine: expected .*{rule}.*, got .*Index from"):
        scores_with(pm.ScoreSpec("mine", formula, interval=interval), slices)


@pytest.mark.parametrize("interval", ["none", "wilson"])
def test_a_formula_that_keeps_the_classes_is_named_where_its_number_is_asked_for(
    interval: str,
) -> None:
    def formula(c: Any) -> Any:
        if interval == "wilson":
            return c.hits, c.actual
        return c.hits / c.actual

    scores = scores_with(pm.ScoreSpec("mine", formula, interval=interval))
    message = r"^score mine: expected one number, got numbers of shape \(3,\)\. Let its formula"
    with pytest.raises(ConfigError, match=message):
        scores["mine"]
    with pytest.raises(ConfigError, match=message):
        scores.to_dict()
    fitting = pm.ScoreSpec("mine", formula, interval=interval, each=True)
    assert len(scores_with(fitting, 2).per_class["mine"]) == 3


def refuse(*_: Any) -> Any:
    """A formula that calls something which refuses its argument."""
    raise ConfigError("beta", "a number above 0", "0", "Pass beta=1.")


def bug(*_: Any) -> Any:
    raise RuntimeError("a bug")


# The spec, and what its fault tells.
COSTLY: dict[str, tuple[pm.ScoreSpec, str]] = {
    **{
        name: (pm.ScoreSpec("mine", formula, interval=interval), "score mine: expected a formula")
        for name, (interval, formula, _) in FAILING.items()
    },
    "any error": (pm.ScoreSpec("mine", bug), "RuntimeError: a bug"),
    "a refusal": (pm.ScoreSpec("mine", refuse), "beta: expected a number above 0"),
    "of each class": (pm.ScoreSpec("mine", bug, each=True), "RuntimeError: a bug"),
    "an interval that fails": (pm.ScoreSpec("mine", interval=bug), "RuntimeError: a bug"),
    "an interval that is none": (
        pm.ScoreSpec("mine", interval=lambda spec, counts, wanted: 0.5),
        "expected a function that returns an Estimate, got TypeError: it returned float",
    ),
    "classes are kept": (pm.ScoreSpec("mine", lambda c: c.hits / c.actual), "shape"),
    "classes are kept in a ratio": (
        pm.ScoreSpec("mine", lambda c: (c.hits, c.actual), interval="wilson"),
        "shape",
    ),
    "classes are kept where they are stacked": (
        pm.ScoreSpec("mine", lambda c: c.hits / c.actual, interval="delta"),
        "shape",
    ),
    "one number of each class": (
        pm.ScoreSpec("mine", lambda c: c.hits.sum(-1), each=True),
        "score mine: expected a formula",
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "alone": {},
    "slices": {"slices": 2},
    "groups": {"groups": True},
    "slices and groups": {"slices": 2, "groups": True},
}


def recorded(specs: list[pm.ScoreSpec], options: dict[str, Any]) -> tuple[Any, pm.Monitor]:
    """What a record holds of two epochs."""
    keep = Keep()
    metrics = pm.MulticlassMetrics(3, scores=specs, **options)
    monitor = pm.Monitor(metrics, callbacks=[keep], progress=False)
    ids = {"slices": torch.arange(60) % 2} if "slices" in options else {}
    if "groups" in options:
        ids["group"] = torch.arange(60) // 4
    for _ in range(2):
        for split in ("train", "val"):
            monitor.update(PREDS, TARGET, split=split, loss=0.5, **ids)
        monitor.end_epoch()
    return keep.epochs, monitor


class Keep(pm.Callback):
    def __init__(self) -> None:
        self.epochs: list[Any] = []

    def on_epoch_end(self, monitor: pm.MonitoredRun, scores: pm.EpochScores) -> None:
        record: Any = scores.to_record()
        self.epochs.append(repr({key: record[key] for key in record if key != "time"}))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("case", COSTLY)
def test_a_formula_that_fails_costs_a_run_its_score_alone(case: str, options: str) -> None:
    spec, told = COSTLY[case]
    whole, _ = recorded([GOOD], OPTIONS[options])
    epochs, monitor = recorded([GOOD, spec], OPTIONS[options])
    assert len(epochs) == 2
    assert epochs == whole
    faults = monitor.faults.all()
    assert [fault.where for fault in faults] == ["compute train/mine", "compute val/mine"]
    assert [fault.count for fault in faults] == [2, 2]
    for fault in faults:
        assert told in fault.message


def test_scores_that_are_whole_raise_no_fault() -> None:
    each = pm.ScoreSpec("mine", lambda c: c.hits / c.actual, each=True)
    epochs, monitor = recorded([GOOD, each], {"slices": 2, "groups": True})
    assert len(monitor.faults) == 0
    assert "'mine'" in epochs[0]


def test_two_formulas_that_fail_are_named_each() -> None:
    epochs, monitor = recorded([GOOD, pm.ScoreSpec("a", bug), pm.ScoreSpec("b", bug)], {})
    assert epochs == recorded([GOOD], {})[0]
    where = [fault.where for fault in monitor.faults.all()]
    assert where == ["compute train/a", "compute train/b", "compute val/a", "compute val/b"]


def test_a_metric_that_fails_costs_the_others_and_the_loss_nothing() -> None:
    class Failing(pm.Metrics):
        def cells(self) -> list[pm.Cell]:
            return [pm.Cell("near")]

        def count(self, batch: Any) -> dict[str, Any]:
            return {"near": batch.target == 0}

        def scores(self, counts: Any) -> dict[str, float]:
            if counts["near"]:
                raise RuntimeError("a bug")
            return {"near": 0.0}

    for metrics in ([Failing(), pm.MulticlassMetrics(3)], [pm.MulticlassMetrics(3), Failing()]):
        with pm.Monitor(metrics, progress=False) as monitor:
            monitor.update(PREDS, TARGET, split="val", loss=0.5)
            scores = monitor.end_epoch()
        alone = pm.MulticlassMetrics(3)
        alone.update(PREDS, TARGET)
        assert scores["val/loss"] == 0.5
        assert scores.splits["val"].to_dict() == alone.compute().to_dict()
        assert [fault.where for fault in monitor.faults.all()] == ["compute val"]
        assert "a bug" in repr(monitor.faults)


def test_the_only_score_of_a_metric_costs_no_more_than_itself() -> None:
    class Only(pm.Metrics):
        score_tables = (pm.ScoreSpec("only", bug),)

        def cells(self) -> list[pm.Cell]:
            return [pm.Cell("near")]

        def count(self, batch: Any) -> dict[str, Any]:
            return {"near": batch.target == 0}

    with pm.Monitor(Only(slices=2, groups=True), progress=False) as monitor:
        ids = torch.arange(60) % 2
        monitor.update(PREDS, TARGET, slices=ids, group=ids, split="val", loss=0.5)
        assert list(monitor.end_epoch()) == ["val/loss"]
    assert [fault.where for fault in monitor.faults.all()] == ["compute val/only"]


def test_an_evaluation_within_an_epoch_keeps_its_other_scores() -> None:
    seen = []

    class Look(pm.Callback):
        def on_validation_end(
            self, monitor: pm.MonitoredRun, split: str, scores: pm.EpochScores
        ) -> None:
            seen.append(scores["val/accuracy"].n)

    metrics = pm.MulticlassMetrics(3, scores=[pm.ScoreSpec("mine", bug)])
    with pm.Monitor(metrics, callbacks=[Look()], progress=False) as monitor:
        for _ in range(2):
            for preds, target in monitor.validate([(PREDS, TARGET)]):
                monitor.update(preds, target)
        monitor.end_epoch()
    assert seen == [60, 60]


def test_with_on_fault_raise_the_first_formula_that_fails_raises() -> None:
    metrics = pm.MulticlassMetrics(3, scores=[pm.ScoreSpec("mine", bug)])
    monitor = pm.Monitor(metrics, on_fault="raise", progress=False)
    monitor.update(PREDS, TARGET, split="val")
    with pytest.raises(ConfigError, match=r"^score mine: .*a bug"):
        monitor.end_epoch()
