"""`BinaryMetrics.update` asks nothing of the host: it runs without values, and in few operations."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ptmetrics import BinaryMetrics
from ptmetrics.counts.binary import softplus

# What would wait for the device, or takes a shape from the data.
SYNCS = (
    "_local_scalar_dense",
    "item",
    "nonzero",
    "unique",
    "bincount",
    "masked_select",
    "equal",
    "is_nonzero",
)


class Dispatched(TorchDispatchMode):
    """The names of the operations, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


ROWS = 64
LOGITS, TARGET = torch.randn(ROWS), torch.arange(ROWS) % 2
# Configuration, predictions, weights, the most operations that an update may take.
CASES: dict[str, tuple[dict[str, Any], Tensor, Tensor | None, int]] = {
    "logits": ({}, LOGITS, None, 93),
    "float64": ({}, LOGITS.double(), None, 92),
    "bfloat16": ({}, LOGITS.bfloat16(), None, 94),
    "column": ({}, LOGITS[:, None], None, 94),
    "two columns": ({}, torch.randn(ROWS, 2), None, 96),
    "counts and curves": ({"losses": False}, LOGITS, None, 68),
    "counts": ({"losses": False, "curves": None}, LOGITS, None, 53),
    "threshold": ({"threshold": 0.3}, LOGITS, None, 102),
    "ignored": ({"ignore_index": -100}, LOGITS, None, 97),
    "probabilities": ({"inputs": "probs"}, LOGITS.sigmoid(), None, 116),
    "two probabilities": ({"inputs": "probs"}, torch.randn(ROWS, 2).softmax(1), None, 123),
    "labels": ({"inputs": "labels"}, TARGET, None, 54),
    "weights": ({}, LOGITS, torch.rand(ROWS), 151),
    "fine": ({"curves": "fine"}, LOGITS, None, 101),
    "exact": ({"curves": "exact", "capacity": 100}, LOGITS, None, 116),
}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.mark.fault(28)
@every_case
def test_an_update_takes_few_operations_and_none_that_waits(case: str) -> None:
    config, preds, weight, most = CASES[case]
    metrics = BinaryMetrics(**config, device="meta")  # on a CPU values may be looked at
    batch = preds.to("meta"), TARGET.to("meta"), None if weight is None else weight.to("meta")
    metrics.update(*batch)
    with Dispatched() as seen:
        metrics.update(*batch)
    assert len(seen.names) <= most, seen.names
    assert not set(SYNCS) & set(seen.names)


@pytest.mark.fault(28)
@every_case
def test_an_update_needs_no_values_at_all(case: str) -> None:
    config, preds, weight, _ = CASES[case]
    metrics = BinaryMetrics(**config, device="meta")
    metrics.update(
        preds.to("meta"), TARGET.to("meta"), None if weight is None else weight.to("meta")
    )
    assert all(cell.is_meta for cell in metrics.state_dict()["cells"].values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_softplus_of_a_cpu_has_all_its_digits(dtype: torch.dtype) -> None:
    ends = torch.tensor([torch.inf, -torch.inf, 0.0, -0.0])
    x = torch.cat((torch.linspace(-80, 80, 20_001), torch.linspace(-1, 1, 2001), ends)).to(dtype)
    expected = np.logaddexp(0, x.double().numpy())
    tolerance = 4 * torch.finfo(dtype).eps
    np.testing.assert_allclose(softplus(x).double().numpy(), expected, rtol=tolerance)


@pytest.mark.fault(28)
def test_a_huge_batch_is_taken_whole_where_each_operation_is_a_launch() -> None:
    metrics = BinaryMetrics(device="meta")
    preds, target = (
        torch.zeros(1_000_000, device="meta"),
        torch.zeros(1_000_000, device="meta", dtype=torch.int64),
    )
    with Dispatched() as seen:
        metrics.update(preds, target)
    assert len(seen.names) <= CASES["logits"][3]
