"""Two scores of one name would hide one another: the metric refuses them."""

from typing import Any

import pytest

import ptmetrics as pm
from ptmetrics.errors import ConfigError

METRICS: dict[str, tuple[Any, str]] = {
    "classes": (lambda scores: pm.MulticlassMetrics(3, scores=scores), "accuracy"),
    "top k": (lambda scores: pm.MulticlassMetrics(3, topk=(1, 2), scores=scores), "top2_accuracy"),
    "one that is asked for": (
        lambda scores: pm.MulticlassMetrics(3, scores=["kappa/linear", *scores]),
        "kappa/linear",
    ),
    "yes or no": (lambda scores: pm.BinaryMetrics(scores=scores), "precision"),
    "labels": (lambda scores: pm.MultilabelMetrics(3, scores=scores), "f1/macro"),
    "numbers": (lambda scores: pm.RegressionMetrics(scores=scores), "mae"),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_score_of_ones_own_named_like_another_is_refused(case: str) -> None:
    make, taken = METRICS[case]
    assert taken in make([]).compute()
    message = rf"^score {taken}: expected a name that no other score .*got one that is taken\. Pass"
    with pytest.raises(ConfigError, match=message):
        make([pm.ScoreSpec(taken, lambda c: c.hits[..., 0])])
    twice = pm.ScoreSpec("mine", lambda c: c.hits[..., 0])
    with pytest.raises(ConfigError, match=r"^score mine: expected a name"):
        make([twice, twice])
    make([pm.ScoreSpec(f"my_{taken}", twice.formula), twice])


def test_a_score_of_the_whole_may_share_its_name_with_one_of_each_class() -> None:
    whole = pm.ScoreSpec("mine", lambda c: c.hits.sum(-1) / c.actual.sum(-1))
    each = pm.ScoreSpec("mine", lambda c: c.hits / c.actual, each=True)
    scores = pm.MulticlassMetrics(3, scores=[whole, each]).compute()
    assert "mine" in scores
    assert len(scores.per_class["mine"]) == 3


def test_a_metric_of_ones_own_names_each_of_its_scores_once() -> None:
    class Twice(pm.Metrics):
        score_tables = (
            pm.ScoreSpec("share", lambda counts: counts["rows"]),
            pm.ScoreSpec("share", lambda counts: counts["near"]),
        )

        def cells(self) -> list[pm.Cell]:
            return [pm.Cell("near")]

    with pytest.raises(ConfigError, match=r"^score share: expected a name"):
        Twice()
