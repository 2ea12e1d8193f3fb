"""What the constructor of `MulticlassMetrics` refuses."""

import math
from collections.abc import Sequence

from ptmetrics.counts.label_histogram import keys_for
from ptmetrics.counts.multiclass import KINDS
from ptmetrics.errors import ConfigError


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def check_counting(num_classes: int, inputs: str, topk: Sequence[int], most: int) -> None:
    """Refuse classes, inputs and k that cannot work; `most` is the largest number of classes."""
    if not _whole(num_classes, 2, most):
        raise ConfigError("num_classes", f"a whole number from 2 to {most}", repr(num_classes),
                          "Pass the number of outputs of the model's last layer.")  # fmt: skip
    if inputs not in KINDS:
        raise ConfigError("inputs", f"one of {', '.join(KINDS)}", repr(inputs),
                          "Say what the model returns; it is never guessed.")  # fmt: skip
    if not isinstance(topk, Sequence) or not all(_whole(k, 1, num_classes) for k in topk):
        raise ConfigError(
            "topk", f"whole numbers from 1 to {num_classes}", repr(topk), "Pass topk=(1, 5)."
        )
    if inputs == "labels" and any(k > 1 for k in topk):
        raise ConfigError("topk", '(1,) beside inputs="labels"', repr(topk),
                          "Labels have no ranks: pass scores to the metric, or leave topk out.")  # fmt: skip


def check_extras(
    num_classes: int,
    inputs: str,
    beta: float | None,
    *,
    curves: bool,
    temperature: bool,
    losses: bool,
) -> None:
    """Refuse scores that cannot be reported."""
    if beta is not None and not (isinstance(beta, int | float) and 0 < beta < math.inf):
        raise ConfigError("beta", "a number above 0, or None", repr(beta),
                          "Pass beta=2 to count recall twice as much as precision.")  # fmt: skip
    if curves and (inputs == "labels" or keys_for(num_classes) is None):
        raise ConfigError("curves", "False for labels, and above 1,024 classes",
                          f"True for {num_classes} classes of {inputs}",
                          "Leave it out, or look at fewer classes.")  # fmt: skip
    if temperature and not (losses and inputs == "logits"):
        raise ConfigError("temperature", 'False, or inputs="logits" and losses=True',
                          f'True beside inputs="{inputs}" and losses={losses}',
                          "A temperature divides logits: pass those, with losses.")  # fmt: skip


def check_options(
    num_classes: int, ignore_index: int | None, class_names: Sequence[str] | None, absent: float
) -> None:
    """Refuse what cannot be left out, named or filled in."""
    if ignore_index is not None and not _whole(ignore_index, -(2**63), 2**63 - 1):
        raise ConfigError("ignore_index", "a whole number or None", repr(ignore_index),
                          "Pass the target value to leave out, such as -100.")  # fmt: skip
    if class_names is not None and len(class_names) != num_classes:
        raise ConfigError(
            "class_names", f"{num_classes} names", f"{len(class_names)}", "Pass one name a class."
        )
    if not isinstance(absent, int | float) or not (math.isnan(absent) or 0 <= absent <= 1):
        raise ConfigError("absent", "NaN or a number from 0 to 1", repr(absent),
                          "NaN leaves the class out of averages, 0 and 1 count it so.")  # fmt: skip
