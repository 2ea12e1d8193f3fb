"""Yes-or-no batches with every fault, of one label a row or of many; and what is the same of two counts."""

import math

import torch
from oracles import Batch
from torch import Tensor

from ptmetrics.counts.score_histogram import tied_rows
from ptmetrics.metrics.base import Metrics

SIZES = (1e-40, 2.0**-24, 6e-8, 6.1e-5, 0.3, 1.0, 88.0, 65504.0, 65519.99, 65520.0, 1e9, math.inf)


def yes_no_batch(
    shape: tuple[int, ...],
    inputs: str,
    dtype: torch.dtype = torch.float32,
    *,
    weighted: bool = False,
    rows: int = 0,
) -> Batch:
    """Scores with ties, extremes, −0 and NaN; targets out of range; weights that cannot be.

    Args:
        shape: Of the predictions.
        inputs: Their kind.
        dtype: Their type, but for labels.
        weighted: Whether there are weights.
        rows: How many dimensions the weights have; 0 for those of the predictions.
    """
    g = torch.Generator().manual_seed(sum(shape) + len(inputs))
    target = (torch.rand(shape, generator=g) < 0.4).long()
    scores = torch.randn(shape, generator=g, dtype=torch.float64) + target
    kind = torch.randint(0, 60, shape, generator=g)
    scores[kind < 20] = scores[kind < 20].round()  # ties, 0 and −0 among them
    sizes = torch.tensor([-s for s in SIZES] + list(SIZES), dtype=torch.float64)
    odd = sizes[torch.randint(0, len(sizes), shape, generator=g)]
    if inputs == "probs":
        scores = scores.sigmoid()
        odd = odd.abs().reciprocal().clamp(max=1)
    scores = torch.where(kind == 20, odd, scores)
    if inputs == "labels":
        preds: Tensor = (scores >= 0).long()
        preds[kind == 21] = 3
        preds[kind == 22] = -1
    else:
        preds = scores.to(dtype)
        if dtype == torch.bfloat16:  # Triton's interpreter takes what is smaller for 0
            preds[preds.abs() < torch.finfo(dtype).tiny] = 0
        preds[kind == 21] = math.nan
        if inputs == "probs":
            preds[kind == 22] = 1.5
            preds[kind == 23] = -0.25
    target[kind == 24] = -1
    target[kind == 25] = 2
    target[(kind == 26) | (kind == 21) & (odd > 0)] = -100
    weight = None
    if weighted:
        of = shape[: rows or len(shape)]
        weight = torch.rand(of, generator=g, dtype=torch.float64)
        for i, value in enumerate((0.0, -1.0, math.nan, math.inf, 1e-300)):
            weight.view(-1)[3 + 7 * i :: 41] = value
    return Batch(preds, target, weight)


def two_columns(batch: Batch, inputs: str) -> Batch:
    """The same rows with a score for no as well, in dimension 1."""
    second = batch.preds
    first = torch.full_like(second, 0.25)
    if inputs == "probs":
        first = 1 - second
        first[::9] += 0.5  # not summing to 1
    return Batch(torch.stack((first, second), 1), batch.target, batch.weight)


def assert_same_cells(
    mine: Metrics, theirs: Metrics, loss: float = 1e-12, *, by_logarithm: bool = False
) -> None:
    """Integers are equal; sums to 1e-12, those of losses to `loss`, relative.

    Of a histogram of logits that each side took with a logarithm of its own (`by_logarithm`), last
    digits may differ, but not which rows hold equal scores.
    """
    found = mine.state_dict()["cells"]
    expected = theirs.state_dict()["cells"]
    assert list(found) == list(expected)
    for name, cell in expected.items():
        one = found[name].cpu()
        cell = cell.cpu()
        if by_logarithm and name.endswith("_ties"):
            n = expected[name.removesuffix("_ties")].cpu().sum(-1)
            for a, b in zip(tied_rows(n, one), tied_rows(n, cell), strict=True):
                assert torch.equal(a, b), name
        elif cell.dtype == torch.int64:
            assert torch.equal(one, cell), f"{name}: {one} for {cell}"
        else:
            limit = loss if "losses" in name else 1e-12
            largest = float(cell.nan_to_num(posinf=0, neginf=0).abs().amax())
            torch.testing.assert_close(
                one, cell, rtol=limit, atol=limit * largest, msg=lambda told, n=name: f"{n}: {told}"
            )
