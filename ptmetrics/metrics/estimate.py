"""Estimates on the device, and the one copy that brings all of them to the host."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.metrics.score import Score


@dataclass(frozen=True)
class Estimate:
    """A scalar or a vector of values with their intervals, still on the device.

    Attributes:
        value: Float64 of shape () or (C,); NaN where undefined.
        low: Lower ends, same shape.
        high: Upper ends, same shape.
        n: Int64 number of samples, same shape or ().
        method: Name of the interval's method.
        reason: What to say where the value is NaN.
        higher_is_better: Direction.
        error_bound: Certified numerical error, same shape or (); None where exact.
    """

    value: Tensor
    low: Tensor
    high: Tensor
    n: Tensor
    method: str
    reason: str
    higher_is_better: bool = True
    error_bound: Tensor | None = None

    def columns(self) -> tuple[Tensor, ...]:
        """Value, low, high, error bound and n as rows of 64-bit patterns, so that one copy moves them all."""
        bound = torch.zeros_like(self.value) if self.error_bound is None else self.error_bound
        floats = (self.value, self.low, self.high, bound)
        n = self.n.expand(self.value.shape).long()
        return (
            *(f.double().expand(self.value.shape).reshape(-1).view(torch.int64) for f in floats),
            n.reshape(-1),
        )


def to_host(
    estimates: Mapping[str, Estimate], extra: Mapping[str, Tensor]
) -> tuple[dict[str, list[Score]], dict[str, Tensor]]:
    """Read everything in one device-to-host copy.

    Args:
        estimates: Named scalars or vectors.
        extra: Named int64 tensors that travel along (confusion matrix, fault ledger).

    Returns:
        For each estimate a list of scores (one for a scalar), and the extra tensors on the CPU.
    """
    parts = [column for estimate in estimates.values() for column in estimate.columns()]
    parts += [tensor.reshape(-1) for tensor in extra.values()]
    flat = torch.cat(parts).cpu()
    pieces = iter(torch.split(flat, [len(part) for part in parts]))
    scores = {}
    for name, e in estimates.items():
        value, low, high, bound = (next(pieces).view(torch.float64).tolist() for _ in range(4))
        rows = zip(value, low, high, next(pieces).tolist(), bound, strict=True)
        scores[name] = [
            Score(
                v, low=lo, high=hi, n=n, method=e.method, reason=e.reason,
                error_bound=b, higher_is_better=e.higher_is_better,
            )
            for v, lo, hi, n, b in rows
        ]  # fmt: skip
    return scores, {name: next(pieces).reshape(tensor.shape) for name, tensor in extra.items()}
