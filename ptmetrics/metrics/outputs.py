"""From the scores of each output of a regression to one."""

from ptmetrics.metrics.estimate import Estimate

SOME_OUTPUT = "undefined for at least one output"


def average(each: Estimate) -> Estimate:
    """Uniform mean over the outputs, the last dimension, as in scikit-learn; NaN where one of them is.

    Outputs of the same rows err together, in a way that is not counted: the mean of the ends is an interval
    for any correlation, and too wide for independent outputs.
    """
    n = each.n[..., 0] if each.n.ndim else each.n
    value, low, high = (x.mean(-1) for x in (each.value, each.low, each.high))
    bound = None if each.error_bound is None else each.error_bound.mean(-1)
    one = each.value.shape[-1] == 1
    method, reason = (
        ("mean-of-ends", f"{each.reason}, or {SOME_OUTPUT}")
        if not one
        else (each.method, each.reason)
    )
    return Estimate(value, low, high, n, method, reason, each.higher_is_better, bound)


def worst(each: Estimate) -> Estimate:
    """The largest value over the outputs."""
    top = each.value.argmax()
    bound = None if each.error_bound is None else each.error_bound.take(top)
    ends = (
        each.value.take(top),
        each.low.take(top),
        each.high.take(top),
    )  # [top] would look at the index
    return Estimate(*ends, each.n, each.method, each.reason, each.higher_is_better, bound)
