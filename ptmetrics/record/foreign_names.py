"""What other tools call a score, and what it is called here: one table for all formats."""

import re
from collections.abc import Iterable

from ptmetrics.record.direction import direction

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "test": "test",
}
_SCORES = {
    "acc": "accuracy",
    "acc1": "accuracy",
    "top1": "accuracy",
    "categorical_accuracy": "accuracy",
    "sparse_categorical_accuracy": "accuracy",
    "binary_accuracy": "accuracy",
    "multiclass_accuracy": "accuracy",
    "acc5": "top5_accuracy",
    "top5": "top5_accuracy",
    "top_5_accuracy": "top5_accuracy",
    "top_k_categorical_accuracy": "top5_accuracy",
    "sparse_top_k_categorical_accuracy": "top5_accuracy",
    "balanced_acc": "balanced_accuracy",
    "bal_acc": "balanced_accuracy",
    "f1_score": "f1",
    "auc": "auroc",
    "roc_auc": "auroc",
    "matthews_correlation": "mcc",
    "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
    "mean_absolute_error": "mae",
    "r2_score": "r2",
}
_AVERAGED = frozenset({"precision", "recall", "f1", "specificity"})
_AVERAGES = frozenset({"macro", "micro", "weighted"})
_NO_SCORE = frozenset(
    {
        "epoch",
        "step",
        "lr",
        "learning_rate",
        "grad_norm",
        "runtime",
        "samples_per_second",
        "steps_per_second",
        "jit_compilation_time",
        "model_preparation_time",
        "num_tokens",
        "num_input_tokens_seen",
        "total_flos",
        "time",
        "epoch_time",
    }
)


def score_names(columns: Iterable[str]) -> dict[str, str]:
    """The score that each column holds, by our name; columns that hold none are absent.

    Of several columns for one score the first counts, and one per epoch before one per step.
    """
    chosen: dict[str, str] = {}  # our name to the column
    for column in sorted(columns, key=lambda name: name.lower().endswith("_step")):
        name = score_name(column)
        if name is not None:
            chosen.setdefault(name, column)
    return {column: name for name, column in chosen.items()}


def score_name(column: str) -> str | None:
    """Our name of a column, None for what is no score.

    "val_acc" is "val/accuracy", and a bare "loss" is that of training. A name without an average
    keeps it open: "eval_f1" is "val/f1", since the log does not say whose mean it is.
    """
    words = re.sub(r"_(epoch|step)$", "", column.strip().lower().replace(" ", "_"))
    head, *rest = re.split(r"[_/]", words, maxsplit=1)
    split = "train"
    bare = words
    if rest and rest[0] and head in _SPLITS:
        split = _SPLITS[head]
        bare = rest[0]
    if not bare or bare in _NO_SCORE or re.match(r"lr[-/]|time/|counts/", words):
        return None
    name = _SCORES.get(bare, bare)
    # One spelling of "macro_f1", "f1_macro", "f1_macro_score" and "f1/macro".
    parts = re.split(r"[_/]", name.removesuffix("_score"))
    if len(parts) == 2 and parts[0] in _AVERAGES:
        parts.reverse()
    if len(parts) == 2 and parts[0] in _AVERAGED and parts[1] in _AVERAGES:
        name = "/".join(parts)
    return f"{split}/{name}"


def rises(name: str) -> bool:
    """Whether a higher value of this score is better; so for one that nobody knows."""
    return direction(name) is not False
