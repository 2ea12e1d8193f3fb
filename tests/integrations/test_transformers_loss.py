"""How a loss is made of the number of items that a Trainer gives: seen, not guessed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ptmetrics.integrations.transformers_loss import LossOfItems

LOSSES = torch.tensor([1.0, 2.0, 6.0])  # of a batch of 3 labels and one that is ignored
LABELS = torch.tensor([0, 1, -100, 1])
FORMS: dict[str, Callable[[Any], Tensor]] = {
    "sum over items": lambda items: LOSSES.sum() / items,
    "product with its inverse": lambda items: LOSSES.sum() * (1 / torch.as_tensor(items)),
    "at least one": lambda items: LOSSES.sum() / max(items, 1),
    "mean": lambda items: LOSSES.mean(),
    "mean, given a device": lambda items: LOSSES.to(items.device).mean(),
}


def seen(form: Callable[[Any], Tensor], items: Any, processes: int) -> tuple[LossOfItems, Tensor]:
    look = LossOfItems(items)
    with look:
        loss = form(items)
        if processes > 1:
            loss *= processes  # as `Trainer.compute_loss` does
    look.computed(loss)
    return look, loss


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_the_mean_over_the_own_labels_is_found(form: str, processes: int) -> None:
    look, loss = seen(FORMS[form], torch.tensor(12), processes)
    assert look.factor == processes
    assert look.mean(loss, torch.tensor(12), LABELS).item() == pytest.approx(3.0)


@pytest.mark.parametrize("form", ["sum over items", "at least one", "mean"])
def test_a_number_of_items_may_be_a_plain_one(form: str) -> None:
    look, loss = seen(FORMS[form], 12, 2)
    assert look.mean(loss, 12, LABELS).item() == pytest.approx(3.0)


def test_a_product_within_the_model_is_no_factor_of_the_loss() -> None:
    look, loss = seen(lambda items: (LOSSES * 2).mean() / 2, torch.tensor(12), 1)
    assert (look.divided, look.factor) == (False, 1)
    assert look.mean(loss, torch.tensor(12), LABELS).item() == pytest.approx(3.0)
