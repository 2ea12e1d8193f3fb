"""How good the probabilities of a yes are: negative log-likelihood and squared error, with all that intervals need."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from ptmetrics.counts.binary import BinaryRows
from ptmetrics.counts.cells import Cell, State


@dataclass(frozen=True)
class BinaryLosses:
    """Σ v·vᵀ, Σw v·vᵀ and Σw² v·vᵀ of v = (1, negative log-likelihood, squared error): float64 of shape (3, 3).

    One matrix product holds the sums of both losses and of their squares. Losses are computed in float32, in
    float64 where the model emits it; they are 0 for rows that are left out.
    """

    def layout(self) -> Mapping[str, Cell]:
        """Nine sums each."""
        size = (3, 3)
        weight = Cell(size, torch.float64, weights_of="loss")
        return {"loss": Cell(size, torch.float64), "loss_weight": weight, "loss_square": weight}

    def add_(self, state: State, batch: BinaryRows) -> None:
        """A row is as sure of the wrong class as its logit, turned to that class, is high."""
        logit = batch.score if batch.raw.dtype == torch.float64 else batch.score.float()
        wrong = logit * torch.rsub(batch.target, 1, alpha=2)
        # An infinite loss of weight 0 is nothing.
        none = batch.out
        if batch.weight is not None:
            none = batch.weight.eq(0) if none is None else none | batch.weight.eq(0)
        if none is not None:
            wrong.masked_fill_(none, -torch.inf)
        v = torch.stack((batch.one, functional.softplus(wrong), wrong.sigmoid().square())).double()
        state["loss"].addmm_(v, v.t())
        if "loss_weight" in state:
            weighed = v if batch.weight is None else v * batch.weight
            state["loss_weight"].addmm_(weighed, v.t())
            state["loss_square"].addmm_(weighed, weighed.t())
