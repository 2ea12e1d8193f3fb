"""The Matthews correlation where rounding bites: one class on a side, a rare class in a million."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import LAW

from ptmetrics import MulticlassMetrics


@pytest.mark.fault(24)
@given(
    st.integers(2, 6),
    st.integers(1, 60),
    st.sampled_from(["target", "preds"]),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(LAW, max_examples=25)
def test_one_class_on_a_side_has_no_correlation_whatever_the_rounding(
    c: int, rows: int, side: str, weighted: bool, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    varied, fixed = torch.randint(0, c, (rows,), generator=g), torch.full((rows,), seed % c)
    preds, target = (varied, fixed) if side == "target" else (fixed, varied)
    metrics = MulticlassMetrics(c, inputs="labels")
    metrics.update(preds, target, torch.rand(rows, generator=g) if weighted else None)
    assert metrics.compute()["mcc"].reason == "targets or predictions hold one class only"


@given(st.integers(1, 10**6), st.integers(0, 1000), st.integers(0, 1000))
@settings(LAW, max_examples=25)
def test_mcc_of_a_rare_class_keeps_its_digits(often: int, rare: int, wrong: int) -> None:
    matrix = [[often, wrong], [wrong + 1, rare + 1]]
    metrics = MulticlassMetrics(2, inputs="labels")
    state = metrics.state_dict()
    state["cells"]["confusion"].copy_(torch.tensor(matrix))
    state["cells"]["rows"].fill_(sum(map(sum, matrix)))
    metrics.load_state_dict(state)
    numerator = often * (rare + 1) - wrong * (wrong + 1)
    product = math.prod((often + wrong, wrong + rare + 2, often + wrong + 1, wrong + rare + 1))
    assert metrics.compute()["mcc"].value == pytest.approx(
        numerator / math.sqrt(product), rel=1e-12, abs=1e-14
    )
