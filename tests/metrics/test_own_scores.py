"""A score of one's own whose formula does not fit says so by its name."""

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


def test_a_run_goes_on_and_has_the_name_among_its_faults() -> None:
    spec = pm.ScoreSpec("mine", lambda c: c.tp)
    monitor = pm.Monitor(pm.MulticlassMetrics(3, scores=[spec]))
    monitor.update(PREDS, TARGET, split="val")
    monitor.end_epoch()
    assert [fault.where for fault in monitor.faults.all()] == ["compute val"]
    assert "score mine: expected a formula that returns the score" in repr(monitor.faults)
