"""Cases of what went through the model, and of losses that are another number than the metric's."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.studies.rule_case import Case, Setting
from tests.studies.synthetic import Curve, Random, Recorded, Scores, loss_score, run_of, shares

ROWS, BATCH, CLASSES = 2000, 64, 5
PLAIN = {"name": "CrossEntropyLoss", "reduction": "mean", "weighted": False, "label_smoothing": 0.0}
Batches = list[slice]
LossOf = Callable[[Random, Curve, Any], float]


def _batches(rows: int = ROWS) -> Batches:
    return [slice(start, start + BATCH) for start in range(0, rows, BATCH)]


def _mean_over_batches(each: list[float]) -> float:
    """As the record has it: each batch weighs by its rows, the last one less."""
    sizes = [min(part.stop, ROWS) - part.start for part in _batches()]
    return float(np.average(each, weights=sizes))


def _log_softmax(logits: Curve) -> Curve:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _likelihoods(logits: Curve, target: Any) -> Curve:
    return np.asarray(-_log_softmax(logits)[np.arange(len(target)), target])


def _softmax(logits: Curve) -> Curve:
    return np.asarray(np.exp(_log_softmax(logits)))


def _rounded(value: float) -> float:
    """As bfloat16 holds it, with 8 bits."""
    exponent = np.floor(np.log2(abs(value))) if value else 0.0
    return float(np.round(value / 2.0 ** (exponent - 7)) * 2.0 ** (exponent - 7))


def _learning(rng: Random, epochs: int) -> Iterator[tuple[Curve, Any]]:
    """Logits and targets of a classifier that gets better."""
    target = rng.integers(0, CLASSES, ROWS)
    for epoch in range(epochs):
        sure = rng.uniform(0.5, 1.0) * (epoch + 1)
        yield sure * np.eye(CLASSES)[target] + rng.normal(size=(ROWS, CLASSES)), target


def _classifier(
    loss_of: LossOf,
    *,
    epochs: int = 5,
    softmax: bool = False,
    split: str = "val",
    rows: int = ROWS,
    **seen: Any,
) -> Callable[[Random], Recorded]:
    """A run whose loss of a batch is `loss_of` its logits and targets; an evaluation of 2,000 rows."""

    def make(rng: Random) -> Recorded:
        columns: dict[str, list[Scores]] = {f"{split}/loss": [], f"{split}/nll": []}
        for logits, target in _learning(rng, epochs):
            scores = _softmax(logits) if softmax else logits
            each = [loss_of(rng, scores[part], target[part]) for part in _batches()]
            columns[f"{split}/loss"].append(loss_score(_mean_over_batches(each)))
            own = float(_likelihoods(scores, target).mean())
            columns[f"{split}/nll"].append(loss_score(own))
        columns["val/accuracy"] = shares(np.full(epochs, 1900), ROWS)
        run = run_of(columns)
        for record in run.epochs:
            told: dict[str, Any] = {
                "answers": 32,
                "answered_rows": rows,
                "counted_rows": rows,
                "unpaired_rows": 0,
            }
            told |= {"batch_rows": ROWS / 32, "losses": 32, "inputs": "logits"}
            record["seen"] = {split: {**told, "like_probabilities": softmax, **seen}}
        return run

    return make


def _regression(loss_of: LossOf, *, epochs: int = 3, **seen: Any) -> Callable[[Random], Recorded]:
    """Predicted numbers that get better."""

    def make(rng: Random) -> Recorded:
        target = rng.normal(rng.normal(), rng.uniform(0.5, 2), ROWS)
        names = ("loss", "mse", "mae", "rmse", "r2", "explained_variance", "pearson")
        columns: dict[str, list[Scores]] = {f"val/{name}": [] for name in names}
        for epoch in range(epochs):
            preds = 0.2 * (epoch + 1) * target + rng.normal(size=ROWS)
            each = [loss_of(rng, preds[part], target[part]) for part in _batches()]
            miss = target - preds
            mse = (miss**2).mean()
            values = (
                _mean_over_batches(each),
                mse,
                np.abs(miss).mean(),
                np.sqrt(mse),
                1 - mse / target.var(),
                1 - miss.var() / target.var(),
                np.corrcoef(preds, target)[0, 1],
            )
            for name, value in zip(names, values, strict=True):
                columns[f"val/{name}"].append(loss_score(float(value)))
        run = run_of(columns, header={"metrics": {"task": "regression"}})
        for record in run.epochs:
            record["seen"] = {"val": {"batch_rows": ROWS / 32, "losses": 32, **seen}}
        return run

    return make


# Losses of a batch


def _mean(rng: Random, logits: Curve, target: Any) -> float:
    return _rounded(float(_likelihoods(logits, target).mean()))


def _sum(rng: Random, logits: Curve, target: Any) -> float:
    return float(_likelihoods(logits, target).sum())


def _quarter(rng: Random, logits: Curve, target: Any) -> float:
    return float(_likelihoods(logits, target).mean() / 4)


def _focal(rng: Random, logits: Curve, target: Any) -> float:
    losses = _likelihoods(logits, target)
    return float(((1 - np.exp(-losses)) ** 2 * losses).mean())


def _smooth(rng: Random, logits: Curve, target: Any) -> float:
    even = -_log_softmax(logits).mean()
    return float(0.9 * _likelihoods(logits, target).mean() + 0.1 * even)


def _weighted(rng: Random, logits: Curve, target: Any) -> float:
    weights = np.arange(1.0, CLASSES + 1)[target]
    return float(np.average(_likelihoods(logits, target), weights=weights))


def _regularised(rng: Random, logits: Curve, target: Any) -> float:
    return float(_likelihoods(logits, target).mean() + 0.05 * (logits**2).sum(1).mean())


def _mixed(rng: Random, logits: Curve, target: Any) -> float:
    share = rng.beta(1, 1)
    own = _likelihoods(logits, target).mean()
    return float(share * own + (1 - share) * _likelihoods(logits, rng.permutation(target)).mean())


def _other_head(rng: Random, logits: Curve, target: Any) -> float:
    return float(_likelihoods(0.6 * logits + rng.normal(size=logits.shape), target).mean())


def _squared(rng: Random, preds: Curve, target: Any) -> float:
    return _rounded(float(((preds - target) ** 2).mean()))


def _huber(rng: Random, preds: Curve, target: Any) -> float:
    miss = np.abs(preds - target)
    return float(np.where(miss < 1, miss**2 / 2, miss - 0.5).mean())


def _decayed(rng: Random, preds: Curve, target: Any) -> float:
    return float(((preds - target) ** 2).mean() + 0.1 * (preds**2).mean())


def _each_with_each(rng: Random, preds: Curve, target: Any) -> float:
    return float(((preds[:, None] - target[None, :]) ** 2).mean())


# What went by


def _seen(**seen: Any) -> Callable[[Random], Recorded]:
    return _classifier(_mean, criterion=PLAIN, **seen)


def _nothing_counted(rng: Random) -> Recorded:
    run = _seen(counted_rows=0, unpaired_rows=ROWS, criterion_calls=0)(rng)
    for record in run.epochs:
        record["scores"] = {}
    return run


def _other_rows(rng: Random) -> Recorded:
    run = _seen()(rng)
    run.epochs[-1]["counts"]["val_samples"] = 450
    return run


MOST = 0.05
WHOLE = Setting("a criterion called for each of 2,000 rows, 5 epochs", _seen(), 0.0)
CASES = (
    Case(
        "not-counted",
        (
            WHOLE,
            Setting(
                "2,000 rows of a loader counted, 500 more answered without labels",
                _seen(answered_rows=2500, unpaired_rows=500, loader_rows=ROWS),
                0.0,
            ),
        ),
        (
            Setting(
                "300 of 2,000 rows not counted", _seen(unpaired_rows=300, counted_rows=1700), 1.0
            ),
            Setting("no criterion called in validation", _nothing_counted, 1.0),
        ),
    ),
    Case(
        "validation-changed",
        (
            WHOLE,
            Setting(
                "two passes of 2,000 rows an epoch", _seen(passes=2, pass_rows=[ROWS, ROWS]), 0.0
            ),
        ),
        (Setting("450 rows in the last epoch, 2,000 before", _other_rows, 1.0),),
    ),
    Case(
        "padded-duplicates",
        (
            WHOLE,
            Setting(
                "4 ranks, 3 rows of padding left out",
                _seen(ranks=4, rows_of_ranks=ROWS, expected_rows=ROWS, padding_left_out=3),
                0.0,
            ),
        ),
        (
            Setting(
                "3 of 2,000 rows of 4 ranks are padding",
                _seen(ranks=4, rows_of_ranks=ROWS, expected_rows=ROWS - 3, padding_rows=3),
                1.0,
            ),
            Setting(
                "2 ranks of 1,000 rows, the same ones",
                _seen(ranks=2, rows_of_ranks=ROWS, copies=2),
                1.0,
            ),
        ),
    ),
    Case(
        "split-changed",
        (
            WHOLE,
            Setting(
                "two passes of 2,000 rows an epoch", _seen(passes=2, pass_rows=[ROWS, ROWS]), 0.0
            ),
            Setting(
                "two augmented copies of each row",
                _seen(answered_rows=2 * ROWS, loader_rows=ROWS),
                0.0,
            ),
        ),
        (
            Setting(
                "a pass over 900 rows of training, then one over 200",
                _seen(passes=2, pass_rows=[900, 200], answered_rows=1100, counted_rows=1100),
                1.0,
            ),
        ),
    ),
    Case(
        "loss-disagrees",
        (
            Setting("cross entropy rounded to bfloat16", _classifier(_mean, criterion=PLAIN), 0.0),
            Setting(
                "label smoothing of 0.1, watched",
                _classifier(_smooth, criterion=PLAIN | {"label_smoothing": 0.1}),
                0.0,
            ),
            Setting(
                "class weights from 1 to 5, watched",
                _classifier(_weighted, criterion=PLAIN | {"weighted": True}),
                0.0,
            ),
            Setting(
                "focal loss, watched",
                _classifier(_focal, criterion=PLAIN | {"name": "FocalLoss"}),
                0.0,
            ),
            Setting("label smoothing of 0.1, given", _classifier(_smooth), MOST),
            Setting("class weights from 1 to 5, given", _classifier(_weighted), MOST),
            Setting("focal loss, given", _classifier(_focal), MOST),
            Setting("focal loss, given once", _classifier(_focal, epochs=1), MOST),
            Setting("regularised loss, given", _classifier(_regularised), MOST),
            Setting("regularised loss, given once", _classifier(_regularised, epochs=1), MOST),
            Setting(
                "mixup in training, watched",
                _classifier(_mixed, split="train", criterion=PLAIN),
                MOST,
            ),
            Setting("mixup in training, given", _classifier(_mixed, split="train"), MOST),
            Setting(
                "mean squared error rounded to bfloat16",
                _regression(_squared, criterion=PLAIN | {"name": "MSELoss"}),
                0.0,
            ),
            Setting("Huber's loss, given", _regression(_huber), MOST),
            Setting("squared error with decay, given", _regression(_decayed), MOST),
        ),
        (
            Setting("the sum over a batch, given", _classifier(_sum), 0.95),
            Setting("a quarter of the loss, given once", _classifier(_quarter, epochs=1), 0.95),
            Setting(
                "softmax in the model, cross entropy watched",
                _classifier(_mean, softmax=True, criterion=PLAIN),
                0.95,
            ),
            Setting(
                "another head's cross entropy, watched",
                _classifier(_other_head, criterion=PLAIN),
                0.95,
            ),
            Setting("targets broadcast, given", _regression(_each_with_each), 0.90),
            Setting("a quarter of the loss, given", _classifier(_quarter), 0.95),
        ),
    ),
)
