"""Gate 1: can the numbers be trusted at all?"""

from collections.abc import Iterator
from math import inf, isfinite

import numpy as np

from ptmetrics.record.foreign_rows import METHOD
from ptmetrics.verdict.evidence import Evidence, estimate
from ptmetrics.verdict.finding import Estimate, Finding, Severity
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rule import Outcome, Rule, Skipped

_SHOWN = 5
_NAN = ("nan-score", "prediction-not-finite")


def not_validated(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Nothing was measured on validation data."""
    if not any(isfinite(item.value) for item in evidence.val.values()):
        yield Finding(
            "not-validated",
            "invalid",
            "No score was measured on validation data.",
            {"scores": len(evidence.val)},
            "Validate at least once before the run ends; training scores say nothing about new data.",
        )


def non_finite(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """A loss is NaN or infinite although it had samples, or predictions were NaN."""
    nan_rows = [fault.words for fault in evidence.faults if fault.kind in _NAN and fault.judged]
    if nan_rows:
        yield _non_finite(
            f"Predictions that are judged hold NaN ({nan_rows[0]}).", True, {"faults": nan_rows}
        )
    lost = sorted(name for name, item in evidence.val.items() if _lost(name, item))
    if lost:
        yield _non_finite(
            f"{', '.join(lost)} on validation data is not finite.", True, {"scores": lost}
        )
    curves = evidence.curves
    for row, scores in enumerate(curves.epochs if curves else ()):
        names = sorted(
            name for name, item in scores.items() if _is_loss(name) and _lost(name, estimate(item))
        )
        if names and curves and not (lost and row == curves.judged):
            epoch = curves.numbers[row]
            message = f"{', '.join(names)} of epoch {epoch + 1} is not finite."
            yield _non_finite(message, row <= curves.judged, {"scores": names, "epoch": epoch})
            return  # the first such epoch is the cause, those after it the consequence


def _non_finite(message: str, touches_judged: bool, evidence: dict[str, object]) -> Finding:
    severity: Severity = "invalid" if touches_judged else "warning"
    advice = "Lower the learning rate, clip gradients, check inputs for NaN and half precision for overflow."
    return Finding("non-finite", severity, message, evidence, advice)


def _lost(name: str, item: Estimate) -> bool:
    """A loss that had samples but is no number; other scores may be undefined for good reasons.

    What another tool wrote down was measured on samples, though their number is not known.
    """
    measured = item.n > 0 or item.method == METHOD
    return abs(item.value) == inf or (_is_loss(name) and measured and not isfinite(item.value))


def _is_loss(name: str) -> bool:
    return name.endswith(("loss", "nll"))


def missing_class(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """A class has no sample in the validation data, so nothing is known about it."""
    support = evidence.support
    if support is None:
        yield Skipped("no confusion matrix")
        return
    absent = np.flatnonzero(support == 0).tolist()
    if absent and support.any():
        names = ", ".join(map(evidence.class_name, absent[:_SHOWN])) + (
            ", …" if len(absent) > _SHOWN else ""
        )
        yield Finding(
            "missing-class",
            "invalid",
            f"{len(absent)} of {len(support)} classes have no validation sample: {names}.",
            {"classes": absent, "n": int(support.sum())},
            "Draw the validation data by class (stratified), or leave these classes out of the model.",
        )


def metric_faults(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Values were refused or a metric failed, so the numbers stand on less than all the data."""
    if evidence.faults:
        listed = [fault.words for fault in evidence.faults]
        yield Finding(
            "metric-faults",
            "undetermined",
            f"{len(listed)} kinds of fault were counted, first: {listed[0].rstrip('.')}.",
            {"faults": listed[:_SHOWN], "count": len(listed)},
            "Mend the data or the call that the message names, and run again.",
        )


def damaged_record(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Lines of the journal could not be read."""
    if evidence.problems:
        yield Finding(
            "damaged-record",
            "warning",
            f"{evidence.problems} lines of the journal could not be read and were skipped.",
            {"count": evidence.problems},
            "Epochs may be missing; a line cut off at the end comes from a killed process and is harmless.",
        )


RULES = (
    Rule(("not-validated",), not_validated),
    Rule(("non-finite",), non_finite),
    Rule(("missing-class",), missing_class, "classes"),
    Rule(("metric-faults",), metric_faults),
    Rule(("damaged-record",), damaged_record),
)
