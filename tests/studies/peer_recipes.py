"""Answers that a user puts together: `pm.Mean` of a number a row, as docs/recipes.md does, and sums of such means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ptmetrics as pm
from tests.studies.peer_call import Call, NotOfferedError, as_tensor
from tests.studies.peer_metrics import (
    Batch,
    Reader,
    flat,
    kind_of,
    multilabel_decisions,
    rows_of,
    score,
)

RowFunction = Callable[[Tensor, Tensor], Tensor]


def mean_over(call: Call, batches: Sequence[Batch], function: RowFunction) -> float:
    """`pm.Mean` of a function of predictions and targets."""
    call.recipe = True
    metrics = pm.Mean("mean", function, higher_is_better=False)
    for preds, target, weight in batches:
        metrics.update(preds.double(), target.double(), weight)
    return float(score(call, metrics.compute(), "mean"))


def of_recipe(function: RowFunction) -> Reader:
    """`pm.Mean` of a function; its sum is the mean times the rows."""

    def read(call: Call) -> Any:
        reduction = call.get("reduction", "mean")
        if reduction == "none":
            raise NotOfferedError("one number a row")
        value = mean_over(call, rows_of(call), function)
        if reduction == "sum":
            return value * sum(len(target) for _, target, _ in rows_of(call))
        return value

    return read


def log_cosh(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    off = (preds - target).abs()
    return off + torch.nn.functional.softplus(-2 * off) - math.log(2)


def tweedie_of(call: Call) -> Any:
    """Tweedie deviance of any power."""
    return mean_over(call, flat(rows_of(call)), tweedie_rows(call))


def deviance(power: float, preds: Tensor, target: Tensor) -> Tensor:
    """Tweedie deviance of each row."""
    if power == 0:
        return (preds - target) ** 2
    if power == 1:
        return 2 * (torch.xlogy(target, target / preds) - target + preds)
    if power == 2:
        return 2 * (target / preds - 1 - (target / preds).log())
    a, b = 1 - power, 2 - power
    gain = target.clamp(min=0) ** b / (a * b)
    return 2 * (gain - target * preds**a / a + preds**b / b)


def log_cosh_of(call: Call) -> Any:
    """Of one output or of each."""
    outputs = call.get("num_outputs", 1)
    if outputs == 1:
        return mean_over(call, flat(rows_of(call)), log_cosh)
    values = []
    for place in range(outputs):
        column = [(preds[:, place], target[:, place], None) for preds, target, _ in rows_of(call)]
        values.append(mean_over(call, column, log_cosh))
    return values


def cosine(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    return torch.nn.functional.cosine_similarity(preds, target, 1)


def kl(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    return (torch.xlogy(preds, preds) - torch.xlogy(preds, target)).sum(1)


def js(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    middle = (preds + target) / 2
    both = torch.xlogy(preds, preds) + torch.xlogy(target, target)
    return both.sum(1) / 2 - torch.xlogy(middle, middle).sum(1)


def of_distributions(function: RowFunction) -> Reader:
    """Torchmetrics' p and q, which it divides by their sums; logarithms are undone."""

    def read(call: Call) -> Any:
        batches = []
        for batch in call.batches:
            first = as_tensor(batch.get("p", batch.get("preds"))).double()
            second = as_tensor(batch.get("q", batch.get("target"))).double()
            if call.get("log_prob", False):
                first, second = first.exp(), second.exp()
            first = first / first.sum(-1, keepdim=True)
            second = second / second.sum(-1, keepdim=True)
            batches.append({"preds": first, "target": second})
        one = replace(call, batches=batches)
        value = of_recipe(function)(one)
        call.recipe = one.recipe
        return value

    return read


def crps(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    place = torch.arange(preds.shape[1])
    spread = (preds.sort(1).values * (2 * place - preds.shape[1] + 1)).sum(1) / preds.shape[1] ** 2
    return (preds - target.unsqueeze(1)).abs().mean(1) - spread


def pinball_of(call: Call) -> Any:
    """Pinball loss of one quantile."""
    q = float(call.get("alpha", 0.5))

    def loss(preds: Tensor, target: Tensor) -> Tensor:
        off = target - preds
        return torch.maximum(q * off, (q - 1) * off)

    rows = rows_of(call)
    if rows[0][1].ndim == 1:
        return mean_over(call, rows, loss)
    values = []
    for place in range(rows[0][1].shape[1]):
        column = [(preds[:, place], target[:, place], weight) for preds, target, weight in rows]
        values.append(mean_over(call, column, loss))
    multioutput = call.get("multioutput", "uniform_average")
    if isinstance(multioutput, str):
        return values if multioutput == "raw_values" else np.mean(values)
    return np.average(values, weights=multioutput)


def saved(function: RowFunction, known: float) -> RowFunction:
    """One less each loss over a known one."""
    return lambda preds, target: 1 - function(preds, target) / known


def d2_of(loss: Callable[[Call], RowFunction], guess: Callable[[Call, Tensor], Tensor]) -> Reader:
    """D²: the mean of one less each loss over the mean loss of a guess, as docs/recipes.md does."""

    def read(call: Call) -> Any:
        rows = rows_of(call)
        wide = rows[0][1].ndim > 1
        values = []
        for place in range(rows[0][1].shape[1] if wide else 1):
            column = rows
            if wide:
                column = [(preds[:, place], target[:, place], w) for preds, target, w in rows]
            targets = torch.cat([target.double() for _, target, _ in column])
            function = loss(call)
            weights = column[0][2]
            if weights is not None:
                targets = targets.repeat_interleave(weights.long())
            known = function(guess(call, targets).expand_as(targets), targets).mean()
            values.append(mean_over(call, column, saved(function, float(known))))
        multioutput = call.get("multioutput", "uniform_average")
        if isinstance(multioutput, str):
            return values if multioutput == "raw_values" and wide else np.mean(values)
        return np.average(values, weights=multioutput)

    return read


def pinball_rows(call: Call) -> RowFunction:
    """Of one quantile."""
    q = float(call.get("alpha", 0.5))
    return lambda p, t: torch.maximum(q * (t - p), (q - 1) * (t - p))


def quantile_of(call: Call, targets: Tensor) -> Tensor:
    """The same quantile of the targets."""
    return targets.quantile(float(call.get("alpha", 0.5)))


def relative_of(function: Callable[[Tensor], Tensor], finish: Callable[[float], float]) -> Reader:
    """Of errors over those of the mean of all targets, which is known beforehand."""

    def read(call: Call) -> Any:
        batches = flat(rows_of(call))
        mean = torch.cat([target.double() for _, target, _ in batches]).mean()

        def ratio(preds: Tensor, target: Tensor) -> Tensor:
            return function((target - preds).abs() / (target - mean).abs())

        return finish(mean_over(call, batches, ratio))

    return read


def median_relative_of(call: Call) -> Any:
    """The median of the same ratios: that of errors of a prediction that is off by them."""
    batches = flat(rows_of(call))
    mean = torch.cat([target.double() for _, target, _ in batches]).mean()
    metrics = pm.RegressionMetrics()
    for preds, target, _ in batches:
        ratio = (target.double() - preds) / (target - mean)
        metrics.update(ratio, torch.zeros_like(ratio))
    call.recipe = True
    return score(call, metrics.compute(), "median_absolute_error")


def tweedie_rows(call: Call) -> RowFunction:
    """Tweedie deviance of any power."""
    return lambda preds, target: deviance(float(call.get("power", 0.0)), preds, target)


def hinge_rows(call: Call) -> list[Batch]:
    """Scores of rows, as torchmetrics takes them: probabilities where some are no logits."""
    ignored = call.get("ignore_index")
    found: list[Batch] = []
    for preds, target, weight in rows_of(call):
        if preds.ndim > target.ndim:
            preds = preds.movedim(1, -1).flatten(0, -2)
        else:
            preds = preds.flatten()
        target = target.flatten()
        if ignored is not None:
            preds, target = preds[target != ignored], target[target != ignored]
        if call.library == "torchmetrics" and kind_of(call) == "logits":
            preds = preds.softmax(1) if preds.ndim > 1 else preds.sigmoid()
        found.append((preds, target, weight))
    return found


def hinge_of(call: Call) -> Any:
    """Hinge losses: of yes-or-no scores, Crammer and Singer's of classes, and one against all."""
    power = 2 if call.get("squared", False) else 1
    rows = hinge_rows(call)

    def binary(preds: Tensor, target: Tensor) -> Tensor:
        return (1 - preds * (2 * target - 1)).clamp(min=0) ** power

    def crammer_singer(preds: Tensor, target: Tensor) -> Tensor:
        place = target.long().unsqueeze(1)
        own = preds.gather(1, place)
        others = preds.scatter(1, place, -torch.inf)
        return (1 - own[:, 0] + others.amax(1)).clamp(min=0) ** power

    if rows[0][0].ndim == 1:
        return mean_over(call, rows, binary)
    if call.get("multiclass_mode", "crammer-singer") == "crammer-singer":
        return mean_over(call, rows, crammer_singer)
    values = []
    for place in range(rows[0][0].shape[1]):
        one = [(preds[:, place], target == place, weight) for preds, target, weight in rows]
        values.append(mean_over(call, one, binary))
    return values


def power_mean_of(call: Call) -> Any:
    """Minkowski's distance: the sum of powers of errors, and its root."""
    power = float(call.get("p", 2.0))
    batches = flat(rows_of(call))
    rows = sum(len(target) for _, target, _ in batches)
    mean = mean_over(call, batches, lambda preds, target: (preds - target).abs() ** power)
    return (mean * rows) ** (1 / power)


def relative(preds: Tensor, target: Tensor) -> Tensor:
    """Error by target."""
    return (target - preds) / target


def fractional(preds: Tensor, target: Tensor) -> Tensor:
    """Error by the mean of both."""
    return 2 * (target - preds) / (target + preds)


def wave_hedges(preds: Tensor, target: Tensor) -> Tensor:
    """Distance by the larger one."""
    return (target - preds).abs() / torch.maximum(preds, target)


def canberra(preds: Tensor, target: Tensor) -> Tensor:
    """Distance by the sum of sizes."""
    return (target - preds).abs() / (preds.abs() + target.abs() + 1e-15)


def distance(preds: Tensor, target: Tensor) -> Tensor:
    """Of two numbers."""
    return (target - preds).abs()


def log_distance(preds: Tensor, target: Tensor) -> Tensor:
    """The logarithm, of which the geometric mean is made."""
    return (target - preds).abs().log()


def of_rows(function: RowFunction, *, summed: bool = False, exponential: bool = False) -> Reader:
    """Ignite's means and sums of a number of each pair of numbers."""

    def read(call: Call) -> Any:
        batches = flat(rows_of(call))
        value = mean_over(call, batches, function)
        if exponential:
            return math.exp(value)
        if summed:
            return value * sum(len(target) for _, target, _ in batches)
        return value

    return read


def overlaps(preds: Tensor, target: Tensor) -> Tensor:
    """Whether a row has a label right, or none to be right about."""
    return ((preds * target).amax(1) > 0) | ((preds + target).amax(1) == 0)


def contains(preds: Tensor, target: Tensor) -> Tensor:
    """Whether all labels of a row were predicted."""
    return (preds >= target).all(1)


def belongs(preds: Tensor, target: Tensor) -> Tensor:
    """Whether only labels of a row were predicted."""
    return (preds <= target).all(1)


def matches(preds: Tensor, target: Tensor) -> Tensor:
    """Whether a row is right altogether."""
    return (preds == target).all(1)


CRITERIA: Mapping[str, RowFunction] = {
    "exact_match": matches,
    "overlap": overlaps,
    "contain": contains,
    "belong": belongs,
    "hamming": lambda preds, target: (preds == target).double().mean(1),
}
"""Torcheval's accuracies of rows of labels."""


def criteria_of(call: Call) -> Any:
    """Its accuracy of labels, of those above the threshold or of the k best ones."""
    k = call.get("top_k", 0)
    batches: list[Batch] = []
    for preds, target, weight in rows_of(call):
        if k:
            best = preds.topk(k, dim=1).indices
            decided = torch.zeros_like(preds, dtype=torch.float64).scatter(1, best, 1.0)
        else:
            decided = multilabel_decisions(call, preds)
        batches.append((decided, target.double(), weight))
    return mean_over(call, batches, CRITERIA[call.get("criteria", "exact_match")])


def tasks_of(call: Call) -> list[list[Batch]]:
    """Torcheval's tasks: rows of predictions, each by itself."""
    found: list[list[Batch]] = []
    for batch in call.batches:
        preds = as_tensor(batch["preds"]).double()
        preds = preds.reshape(-1, preds.shape[-1])
        target = batch.get("target")
        target = preds if target is None else as_tensor(target).double().reshape(preds.shape)
        weight = batch.get("weights", batch.get("weight"))
        weight = as_tensor(1.0 if weight is None else weight).double().expand(preds.shape)
        found = found or [[] for _ in preds]
        for place, rows in enumerate(found):
            rows.append((preds[place], target[place], weight[place]))
    return found


def first(preds: Tensor, target: Tensor) -> Tensor:
    """The predictions."""
    return preds


def second(preds: Tensor, target: Tensor) -> Tensor:
    """The targets."""
    return target


def click_through_of(call: Call) -> Any:
    """The weighted mean of clicks."""
    return [mean_over(call, rows, first) for rows in tasks_of(call)]


def weighted_calibration_of(call: Call) -> Any:
    """Mean prediction over mean target."""
    found = []
    for rows in tasks_of(call):
        found.append(mean_over(call, rows, first) / mean_over(call, rows, second))
    return found


def normalized_entropy_of(call: Call) -> Any:
    """The loss over that of knowing how many are positive."""
    values = []
    for rows in tasks_of(call):
        logits = call.get("from_logits", False)
        metrics = pm.BinaryMetrics(inputs="logits" if logits else "probs", curves=None)
        for preds, target, weight in rows:
            metrics.update(preds, target.long(), weight)
        share = mean_over(call, rows, second)
        known = -share * math.log(share) - (1 - share) * math.log(1 - share)
        values.append(score(call, metrics.compute(), "nll") / known)
    return np.array(values)


def mean_of(call: Call) -> Any:
    """A weighted mean of numbers."""
    if call.get("nan_strategy", "warn") not in ("warn", "ignore", "error"):
        raise NotOfferedError("a number in the place of NaN")
    metrics = pm.Mean("mean", lambda preds, target: preds, higher_is_better=True)
    for batch in call.batches:
        value = batch.get("value", batch.get("input", batch.get("preds")))
        weight = batch.get("weight", batch.get("target"))
        if weight is None:
            weight = 1.0
        values = torch.as_tensor(value, dtype=torch.float64)
        weights = torch.broadcast_to(torch.as_tensor(weight).double(), values.shape).flatten()
        values = values.flatten()
        if len(values):
            metrics.update(values, values, weights)
    scores = metrics.compute()
    return score(call, scores, "mean")
