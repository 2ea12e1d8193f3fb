"""What the constructor of `BinaryMetrics` refuses."""

import math
from collections.abc import Sequence

from ptmetrics.counts.binary import KINDS
from ptmetrics.errors import ConfigError


def check_counting(
    inputs: str, threshold: float, curves: str | None, capacity: int, known: Sequence[str]
) -> None:
    """Refuse what cannot be counted; `known` are the kinds of curves."""
    if inputs not in KINDS:
        raise ConfigError("inputs", f"one of {', '.join(KINDS)}", repr(inputs),
                          "Say what the model returns; it is never guessed.")  # fmt: skip
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigError("threshold", "a probability from 0 to 1", repr(threshold),
                          "For logits pass the probability too: threshold=0.5 is logit 0.")  # fmt: skip
    if curves is not None and curves not in known:
        raise ConfigError("curves", f"one of {', '.join(known)}, or None", repr(curves),
                          'Leave it out for "fp16", 1 MiB.')  # fmt: skip
    if not whole(capacity, 1, 2**40):
        raise ConfigError("capacity", "a whole number of 1 or more", repr(capacity),
                          "Pass the number of validation samples.")  # fmt: skip


def check_temperature(temperature: bool, inputs: str, losses: bool, curves: str | None) -> None:
    """Refuse a temperature that nothing would report."""
    if temperature and (inputs == "labels" or not losses or curves is None):
        raise ConfigError("temperature", "False, or scores with losses and curves",
                          f'True beside inputs="{inputs}", losses={losses}, curves={curves!r}',
                          "It is read off the curves: leave losses and curves as they are.")  # fmt: skip


def check_options(
    ignore_index: int | None, beta: float | None, class_names: Sequence[str] | None, absent: float
) -> None:
    """Refuse what cannot be left out, named or filled in."""
    if ignore_index is not None and not whole(ignore_index, -(2**63), 2**63 - 1):
        raise ConfigError("ignore_index", "a whole number or None", repr(ignore_index),
                          "Pass the target value to leave out, such as -100.")  # fmt: skip
    if beta is not None and not (isinstance(beta, int | float) and 0 < beta < math.inf):
        raise ConfigError("beta", "a number above 0, or None", repr(beta),
                          "Pass beta=2 to count recall twice as much as precision.")  # fmt: skip
    if class_names is not None and (isinstance(class_names, str) or len(class_names) != 2):
        raise ConfigError("class_names", "2 names", repr(class_names),
                          'Name class 0 and class 1, such as ("ham", "spam").')  # fmt: skip
    if not isinstance(absent, int | float) or not (math.isnan(absent) or 0 <= absent <= 1):
        raise ConfigError("absent", "NaN or a number from 0 to 1", repr(absent),
                          "NaN leaves the class out of averages, 0 and 1 count it so.")  # fmt: skip


def whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number from `low` to `high`, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
