"""Batches of a regression with every fault in them, and scikit-learn's answer in float64."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from oracles import Batch
from sklearn import metrics as sk


def regression_batch(outputs: int, rows: int, seed: int, weighted: bool) -> Batch:
    """Correlated values; about every ninth row has a fault or, where weights are given, weighs nothing."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(rows, outputs, generator=g)
    preds = 0.8 * target + 0.5 * torch.randn(rows, outputs, generator=g) + 0.1
    weight = torch.rand(rows, generator=g, dtype=torch.float64) if weighted else None
    kind = torch.randint(0, 40, (rows,), generator=g)
    preds[kind == 0, -1], preds[kind == 1, 0] = math.nan, math.inf
    target[kind == 2, 0], target[kind == 3, -1] = math.nan, -math.inf
    if weight is not None:
        weight[kind == 5], weight[kind == 6], weight[kind == 7] = 0.0, -1.0, math.nan
    return Batch(preds, target, weight) if outputs > 1 else Batch(preds[:, 0], target, weight)


def regression_rows(
    batches: Sequence[Batch], outputs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, targets and weights of the rows that count, in float64."""
    preds = np.concatenate(
        [b.preds.detach().double().numpy().reshape(-1, outputs) for b in batches]
    )
    target = np.concatenate([b.target.double().numpy().reshape(-1, outputs) for b in batches])
    ones = [
        np.ones(len(b.target)) if b.weight is None else b.weight.double().numpy() for b in batches
    ]
    weight = np.concatenate(ones)
    kept = (
        np.isfinite(preds).all(1) & np.isfinite(target).all(1) & (weight > 0) & np.isfinite(weight)
    )
    return preds[kept], target[kept], weight[kept]


def regression_columns(
    preds: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> dict[str, list[float]]:
    """Each score with one value an output."""
    if not len(preds):
        nan = [math.nan] * preds.shape[1]
        return dict.fromkeys(("mse", "rmse", "mae", "max_error", "bias", "r2", "pearson"), nan)
    how = {"sample_weight": weight, "multioutput": "raw_values"}
    columns = {
        "mse": sk.mean_squared_error(target, preds, **how),
        "rmse": sk.root_mean_squared_error(target, preds, **how),
        "mae": sk.mean_absolute_error(target, preds, **how),
        "max_error": np.abs(preds - target).max(0),
        "bias": np.average(preds - target, axis=0, weights=weight),
    }
    if len(preds) > 1:
        columns["r2"] = sk.r2_score(target, preds, force_finite=False, **how)
        columns["explained_variance"] = sk.explained_variance_score(
            target, preds, force_finite=False, **how
        )
        columns["pearson"] = np.array(
            [correlation(*c, weight) for c in zip(preds.T, target.T, strict=True)]
        )
    return {name: [float(v) for v in values] for name, values in columns.items()}


def relative_columns(
    preds: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> dict[str, list[float]]:
    """The scores that are asked for by name, from their definitions, one value an output."""
    names = ("mape", "smape", "wmape", "msle", "rmsle", "nrmse", "nrmse/std", "nrmse/l2")
    if not len(preds):
        return {name: [math.nan] * preds.shape[1] for name in names}
    error = np.abs(preds - target)

    def mean(numbers: np.ndarray) -> list[float]:
        rows = [(c[np.isfinite(c)], weight[np.isfinite(c)]) for c in numbers.T]
        return [float(np.average(c, weights=w)) if len(c) else math.nan for c, w in rows]

    with np.errstate(all="ignore"):
        msle = mean((np.log1p(preds) - np.log1p(target)) ** 2)
        rmse = np.sqrt(mean(error**2))
        centre = np.average(target, axis=0, weights=weight)
        size = np.sqrt(np.average((target - centre) ** 2, axis=0, weights=weight))
        sum_of_squares = weight @ target**2
        both = np.abs(preds) + np.abs(target)
        found = {
            "mape": mean(error / np.abs(target)),
            "smape": mean(np.where(both > 0, 2 * error / both, 0.0)),
            "wmape": (weight @ error) / np.where(target.any(0), weight @ np.abs(target), math.nan),
            "msle": msle,
            "rmsle": np.sqrt(msle),
            "nrmse": np.where(centre == 0, math.nan, rmse / np.abs(centre)),
            "nrmse/std": np.where(size > 0, rmse / size, math.nan),
            "nrmse/l2": rmse / np.sqrt(np.where(target.any(0), sum_of_squares, math.nan)),
        }
    return {name: [float(v) for v in values] for name, values in found.items()}


def correlation(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Weighted Pearson correlation."""
    matrix = np.cov(x, y, aweights=weight)
    return float(matrix[0, 1] / math.sqrt(matrix[0, 0] * matrix[1, 1]))


def regression_oracle(config: Mapping[str, Any], batches: Sequence[Batch]) -> dict[str, Any]:
    """Named scores, and per-output lists as "class:NAME"."""
    outputs = config.get("num_outputs", 1)
    rows = regression_rows(batches, outputs)
    columns = regression_columns(*rows)
    asked = relative_columns(*rows)
    columns |= {k: v for k, v in asked.items() if k in config.get("scores", ())}
    share = np.array(config.get("output_weights", [1] * outputs))
    named = {k: max(v) if k == "max_error" else v @ share / share.sum() for k, v in columns.items()}
    return named | ({f"class:{k}": v for k, v in columns.items()} if outputs > 1 else {})
