"""Metrics with counts of their own: what `count` may return, and that what it may not changes nothing."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import ptmetrics as pm
from ptmetrics.counts.batch import Batch
from ptmetrics.errors import ConfigError

Change = Callable[[dict[str, Any], Batch], dict[str, Any]]


class Near(pm.Metrics):
    """Predictions within 1 of the target, and the sum of the distances."""

    fault_kinds: ClassVar = {"nan": "row with a NaN, refused"}
    score_tables = (
        pm.ScoreSpec("near", lambda c: (c["near"], c["rows"]), interval="wilson", doc="Near ones."),
    )

    def __init__(self, change: Change | None = None, kind: str = "nan") -> None:
        self._change = change
        self._kind = kind
        super().__init__()

    def cells(self) -> list[pm.Cell]:
        return [pm.Cell("near"), pm.Cell("far", (2,)), pm.Cell("sum", dtype=torch.float64)]

    def count(self, batch: Batch) -> dict[str, Any]:
        off = (batch.preds - batch.target).abs()
        batch.refuse(self._kind, off.isnan())
        found: dict[str, Any] = {"near": off <= 1, "far": batch.at((off > 1).long()), "sum": off}
        if self._change is not None and len(batch) == 4:
            found = self._change(found, batch)
        return found


def without(name: str) -> Change:
    return lambda found, batch: {key: value for key, value in found.items() if key != name}


def put(**values: Callable[[Batch], Any]) -> Change:
    return lambda found, batch: found | {name: make(batch) for name, make in values.items()}


ROWS = torch.tensor([0.0, 1.0, 2.0, 3.0])
CHANGES: dict[str, tuple[Change, str]] = {
    "a missing cell": (without("sum"), r"count: expected the cells \['far', 'near', 'rows', 'sum'\]"),
    "an unknown cell": (put(zz=lambda b: b.preds > 0), r"count: expected the cells .*got .*'zz'"),
    "too few rows": (put(near=lambda b: b.preds[:2] > 0), r"count\(\)\['near'\]: .*shape \(2,\)"),
    "too many dimensions": (put(sum=lambda b: torch.ones(4, 3)), r"count\(\)\['sum'\]: .*\(4, 3\)"),
    "parts of a count": (put(near=lambda b: b.preds / 2), r"whole numbers .*got float32.*float64"),
    "places that are no integers": (put(far=lambda b: b.at(b.preds)), r"4 int64 indices, got float"),
    "places of other rows": (put(far=lambda b: b.at(torch.zeros(3).long())), r"got int64 .*\(3,\)"),
}  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_added_is_told_and_nothing_of_the_batch_is_added(
    name: str, weighted: bool
) -> None:
    change, message = CHANGES[name]
    metrics = Near(change)
    metrics.update(torch.zeros(3), torch.tensor([0.0, 1.0, 5.0]))
    before, weight = metrics.state_dict(), torch.ones(4) if weighted else None
    with pytest.raises(ConfigError, match=message):
        metrics.update(ROWS, ROWS, weight)
    after = metrics.state_dict()
    assert after["updates"] == before["updates"] == 1
    for cell, value in before["cells"].items():
        assert torch.equal(after["cells"][cell], value), cell


@pytest.mark.parametrize("preds", [ROWS, ROWS / 0], ids=["nothing to refuse", "NaN"])
def test_a_kind_of_fault_that_is_not_declared_is_told_whether_it_occurs_or_not(
    preds: Tensor,
) -> None:
    with pytest.raises(ConfigError, match=r"kind: expected one of .*nan.*got 'typo'.*fault_kinds"):
        Near(kind="typo").update(preds, ROWS)


def test_specs_alone_are_a_table_whose_formulas_see_weights_and_slices() -> None:
    metrics = Near()
    metrics.update(torch.zeros(4), torch.tensor([0.0, 1.0, 5.0, 6.0]), torch.tensor([3.0, 3, 1, 1]))
    score = metrics.compute()["near"]
    assert (score.value, score.n, score.method) == (0.75, 4, "wilson")
    assert score.low < 0.75 < score.high
    with pytest.raises(ConfigError, match=r"score_tables: expected pm.ScoreSpec, got str"):
        type("Bad", (Near,), {"score_tables": ("near",)})()
