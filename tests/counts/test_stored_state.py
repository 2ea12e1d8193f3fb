"""A stored state that no metric can have is refused, and the current one kept; every one that can be is taken."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import CASES, MetricCase, Metrics, in_parts, multilabel_case, regression_case

from ptmetrics import BinaryMetrics, Mean, MulticlassMetrics, RegressionMetrics
from ptmetrics.errors import StateError
from ptmetrics.metrics.loss import MeanLoss
from ptmetrics.metrics.score import Scores

pytestmark = pytest.mark.slow

LAW = settings(deadline=None, max_examples=8, derandomize=True)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
both_weights = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
Change = Callable[[torch.Tensor], Any]


def first_to(value: float) -> Change:
    def change(cell: torch.Tensor) -> torch.Tensor:
        cell = cell.clone()
        cell.view(-1)[0] = value
        return cell

    return change


def all_to(value: float) -> Change:
    return lambda cell: torch.full_like(cell, value)


# What no state can hold, whatever the cell: each must be refused.
IMPOSSIBLE: dict[str, Change] = {
    "no tensor": lambda cell: cell.numpy(),
    "nothing": lambda cell: None,
    "another type": lambda cell: cell.to(torch.float16),
    "the other 64 bits": lambda cell: cell.long() if cell.is_floating_point() else cell.double(),
    "another shape": lambda cell: torch.cat((cell.reshape(-1), cell.reshape(-1))),
    "expanded": lambda cell: cell.reshape(-1)[:1].expand(cell.numel() + 1)[1:].view(cell.shape),
    "sparse": lambda cell: cell.to_sparse() if cell.ndim else None,
    "no values": lambda cell: cell.to("meta"),
    "complex": lambda cell: cell.to(torch.complex128),
}
# Numbers that a cell may hold or not: refused, or in range.
NUMBERS: dict[str, Change] = {
    "negative": all_to(-3),
    "one negative": first_to(-3),
    "enormous": all_to(2**61),
    "one enormous": first_to(2**61),
    "large": all_to(2**52),
    "one large": first_to(2**52),
    "nothing": all_to(0),
    "one too many": lambda cell: cell + 1,
    "doubled": lambda cell: cell * 2,
    "upside down": lambda cell: cell.flip(0) if cell.ndim else cell,
}
FLOATS: dict[str, Change] = {
    "nan": all_to(math.nan),
    "one nan": first_to(math.nan),
    "infinite": all_to(math.inf),
    "one infinite": first_to(math.inf),
    "minus infinity": all_to(-math.inf),
    "tiny": all_to(1e-300),
    "huge": all_to(1e300),
    "halved": lambda cell: cell / 2,
}
BOUNDED = ("accuracy", "f1/macro", "brier", "auroc", "ece", "recall/micro", "exact_match", "mae")


def state_of(case: MetricCase, *, weighted: bool) -> dict[str, Any]:
    return case.counted([case.batch(30, seed, weighted) for seed in (1, 2)]).state_dict()


def damaged(state: dict[str, Any], name: str, change: Change) -> dict[str, Any]:
    """The state with one cell changed."""
    return {**state, "cells": {**state["cells"], name: change(state["cells"][name])}}


def in_range(scores: Scores) -> None:
    assert 0 <= scores.n < 2**53
    for name, score in scores.items():
        assert 0 <= score.n < 2**53, f"{name} of n = {score.n}"
        if name in BOUNDED and not math.isnan(score.value):
            most = math.inf if name == "mae" else 2
            assert 0 <= score.value <= most, f"{name}: {score.value}"
        if not math.isnan(score.low):
            assert score.low <= score.value <= score.high, name


def refused(metrics: Metrics, state: Any) -> bool:
    """Whether a state is refused; the tensors that were there are kept then."""
    before = dict(metrics.shared_state())
    kept = {name: cell.clone() for name, cell in before.items() if cell.numel() < 1000}
    updates = metrics.updates
    try:
        metrics.load_state_dict(state)
    except StateError:
        after = metrics.shared_state()
        assert metrics.updates == updates
        assert after.keys() == before.keys()
        assert all(after[name] is cell for name, cell in before.items())
        assert all(torch.equal(after[name], cell) for name, cell in kept.items())
        return True
    return False


def current(case: MetricCase) -> Metrics:
    return case.counted([case.batch(10, 7, False)])


@pytest.mark.fault(42)
@every_case
@both_weights
@pytest.mark.slow
def test_what_no_cell_can_be_is_refused_in_every_cell(case: MetricCase, weighted: bool) -> None:
    metrics, state = current(case), state_of(case, weighted=weighted)
    for name, cell in state["cells"].items():
        for kind, change in IMPOSSIBLE.items():
            if kind == "expanded" and cell.numel() < 2:
                continue
            assert refused(metrics, damaged(state, name, change)), f"{name}: {kind}"


# Histograms of many labels and groups of them take long: a few such metrics stand for all.
HEAVY = (
    "multilabel-logits",
    "multiclass-probs-counts",
    "multilabel-logits-parts",
    "multilabel-logits-images",
    "binary-logits-parts",
    "multiclass-logits-images",
    "multiclass-probs-images",
    "multiclass-labels-images",
    "regression-outputs-parts",
    "regression-images",
    "binary-logits-images",
    "binary-probs",
)
POINTS_IN_PARTS = in_parts(regression_case("regression"))
LABELS_IN_PARTS = in_parts(multilabel_case("multilabel-labels", num_labels=3, inputs="labels"))
LIGHT = [LABELS_IN_PARTS, POINTS_IN_PARTS, *(case for case in CASES if case.name not in HEAVY)]


@pytest.mark.slow
@pytest.mark.fault(42)
@pytest.mark.parametrize("case", LIGHT, ids=lambda c: c.name)
@both_weights
def test_numbers_that_a_cell_may_not_hold_are_refused_and_others_in_range(
    case: MetricCase, weighted: bool
) -> None:
    metrics, state = current(case), state_of(case, weighted=weighted)
    for name, cell in state["cells"].items():
        changes = dict(NUMBERS)
        if cell.is_floating_point():
            changes.update(FLOATS)
        for kind, change in changes.items():
            if not refused(metrics, damaged(state, name, change)):
                try:
                    in_range(metrics.compute())
                except Exception as error:
                    raise AssertionError(f"{name}: {kind}: {error!r}") from error
                metrics = current(case)


@pytest.mark.fault(42)
@every_case
@both_weights
def test_a_number_of_rows_that_differs_between_cells_is_refused(
    case: MetricCase, weighted: bool
) -> None:
    """Of several labels a row may lack some: there only what is far off can be seen."""
    metrics, state = current(case), state_of(case, weighted=weighted)
    changes = [all_to(0), lambda cell: cell * 1000]
    if "multilabel" not in case.name:
        changes += [lambda cell: cell + 1, lambda cell: cell * 2]
    for name in ("rows", "slice.rows", "group.rows"):
        if name in state["cells"]:
            for change in changes:
                assert refused(metrics, damaged(state, name, change)), name
    if weighted:
        for name in ("rows.weight", "rows.square"):
            for change in (all_to(0), lambda cell: cell * 1000, lambda cell: cell / 1e9):
                assert refused(metrics, damaged(state, name, change)), name


@every_case
@both_weights
def test_every_state_that_was_counted_is_taken_over(case: MetricCase, weighted: bool) -> None:
    counted = case.counted([case.batch(rows, rows, weighted) for rows in (1, 0, 40, 300)])
    merged = case.counted([case.batch(50, 3, not weighted)]).merge_state([counted, counted])
    for metrics in (case.make(), counted, merged):
        taken = case.make()
        taken.load_state_dict(copy.deepcopy(metrics.state_dict()))
        assert str(taken.compute()) == str(metrics.compute())


@pytest.mark.parametrize("scale", [1e-139, 1e-30, 1e30, 1e139])
@every_case
def test_states_of_small_and_large_weights_are_taken_over(case: MetricCase, scale: float) -> None:
    batch = case.batch(80, 5, True)
    assert batch.weight is not None
    batch.weight.mul_(scale)
    counted = case.counted([batch])
    case.make().load_state_dict(counted.state_dict())


def endless() -> Iterator[Metrics]:
    """Metrics whose sums are infinite, and rightly so."""
    logits = torch.tensor([[math.inf, 0.0], [0.0, 1.0], [2.0, -math.inf]])
    classes = MulticlassMetrics(2)
    classes.update(logits, torch.tensor([0, 1, 1]))
    yield classes
    probs = MulticlassMetrics(2, inputs="probs")
    probs.update(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([1, 1]))
    yield probs
    binary = BinaryMetrics(inputs="probs", curves="exact", capacity=3)
    binary.update(torch.tensor([0.0, 1.0, 0.3, 0.3]), torch.tensor([1, 1, 0, 1]))
    yield binary
    yield BinaryMetrics(curves="exact", capacity=3)


def test_a_likelihood_of_zero_makes_an_infinite_sum_that_is_taken_over() -> None:
    for metrics in endless():
        taken = metrics.fresh()
        taken.load_state_dict(metrics.state_dict())
        assert str(taken.compute()) == str(metrics.compute())


def test_a_stored_score_too_many_or_too_few_is_refused() -> None:
    metrics = BinaryMetrics(curves="exact", capacity=5)
    metrics.update(torch.tensor([0.1, 0.4, -2.0]), torch.tensor([1, 0, 1]))
    state = metrics.state_dict()
    for name, change in (
        ("scores_seen", lambda cell: cell + 1),
        ("scores", all_to(math.inf)),
        ("scores", all_to(0.5)),
        ("scores", first_to(-math.inf)),
    ):
        assert refused(metrics, damaged(state, name, change)), name


@pytest.mark.parametrize("weighted", [False, True])
def test_a_vocabulary_without_a_matrix_is_taken_over_and_too_many_hits_are_refused(
    weighted: bool,
) -> None:
    g = torch.Generator().manual_seed(3)
    target = torch.randint(0, 4500, (6, 5), generator=g)
    preds = torch.where(torch.rand(6, 5, generator=g) < 0.5, target, (target + 1) % 4500)
    weight = torch.rand(6, 5, generator=g) if weighted else None
    metrics = MulticlassMetrics(4500, inputs="labels", slices=2)
    metrics.update(preds, target, weight, slices=torch.tensor([0, 1, 1, 0, -1, 1]))
    state = metrics.state_dict()
    taken = metrics.fresh()
    taken.load_state_dict(state)
    assert str(taken.compute()) == str(metrics.compute())
    for name in ("hits", "slice.hits", "group.hits", "margins", "slice.margins"):
        assert refused(taken, damaged(state, name, lambda cell: cell + 40)), name


def margin(preds: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return preds - target


def own() -> Iterator[Metrics]:
    mean = Mean("margin", margin, higher_is_better=True, slices=2, groups=True)
    for seed in range(2):
        g = torch.Generator().manual_seed(seed)
        numbers = torch.randn(2, 20, generator=g)
        ids = torch.randint(0, 2, (20,), generator=g)
        mean.update(numbers[0], numbers[1], slices=ids, group=ids)
    yield mean
    loss = MeanLoss()
    loss.update(torch.tensor([0.5, 0.25]), torch.tensor([8.0, 4.0]), torch.tensor([8.0, 4.0]))
    yield loss


@pytest.mark.fault(42)
@pytest.mark.parametrize("metrics", list(own()), ids=lambda m: type(m).__name__)
def test_sums_of_a_mean_that_contradict_one_another_are_refused(metrics: Metrics) -> None:
    state = metrics.state_dict()
    name = "mean" if "mean" in state["cells"] else "loss"
    sums = state["cells"][name]
    for place in range(6):
        for value in (-3.0, 2.0**60, math.inf, -math.inf, math.nan):
            wrong = sums.clone()
            wrong[place] = value
            if (place == 5 and value > 0) or (value == -3.0 and place in (3, 4)):
                continue  # a mean may be negative, and its squares of any size
            assert refused(metrics, damaged(state, name, lambda _, w=wrong: w)), (place, value)
    taken = metrics.fresh()
    taken.load_state_dict(state)
    assert str(taken.compute()) == str(metrics.compute())


@pytest.mark.fault(42)
def test_a_cell_that_nobody_knows_and_cells_that_share_memory_are_refused() -> None:
    metrics = RegressionMetrics()
    metrics.update(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.0]))
    state = metrics.state_dict()
    cells = state["cells"]
    assert refused(metrics, {**state, "cells": {**cells, "surprise": torch.zeros(3)}})
    packed = torch.zeros(200, dtype=torch.float64)
    overlapping = {"moments": packed[:103].view(1, 103), "absolute": packed[100:106].view(6, 1)}
    assert refused(metrics, {**state, "cells": {**cells, **overlapping}})
    one = torch.cat((cells["moments"].reshape(-1), cells["absolute"].reshape(-1)))
    beside = {"moments": one[:103].view(1, 103), "absolute": one[103:].view(6, 1)}
    metrics.load_state_dict({**state, "cells": {**cells, **beside}})
    one.zero_()
    assert metrics.compute()["mae"].value == 0.25, "what was loaded is a copy"


@pytest.mark.parametrize("case", LIGHT, ids=lambda c: c.name)
@given(data=st.data())
@LAW
def test_any_number_anywhere_is_refused_or_leaves_all_scores_in_range(
    case: MetricCase, data: st.DataObject
) -> None:
    state = state_of(case, weighted=data.draw(st.booleans()))
    name = data.draw(st.sampled_from(sorted(state["cells"])))
    cell = state["cells"][name].clone()
    place = data.draw(st.integers(0, cell.numel() - 1))
    if cell.is_floating_point():
        value: float = data.draw(st.floats())
    else:
        value = data.draw(st.integers(-(2**63), 2**63 - 1))
    cell.view(-1)[place] = value
    metrics = case.make()
    if not refused(metrics, damaged(state, name, lambda _: cell)):
        in_range(metrics.compute())
