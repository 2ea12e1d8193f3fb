"""`advise_threshold`: a decision threshold from what a user has at hand."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.metrics.score_curve import ThresholdTable
from ptmetrics.metrics.threshold import Advice, HasThresholds, advise
from ptmetrics.record.events import EpochData
from ptmetrics.record.reader import Run, read_run
from ptmetrics.verdict.gathering import judged_row

_WANTED = (
    "Pass metrics.compute() of a metric that keeps scores, monitor.end_epoch(), a monitor, or the "
    "folder of a run that such a metric counted."
)


def advise_threshold(
    source: object,
    *,
    recall_at_least: float | None = None,
    precision_at_least: float | None = None,
    cost: tuple[float, float] | None = None,
    beta: float | None = None,
    confidence: float = 0.95,
    label: str | int | None = None,
) -> Advice:
    """The decision threshold for a promise on new data, or for the least cost or best F-beta.

    A threshold that just meets a recall on validation data keeps it on new data in less than half
    of all cases. The one advised here keeps it with the confidence asked for, whatever the
    distribution; where the data are too few for that, the advice says how many positives are
    missing.

    Args:
        source: Scores of a metric that keeps its curves; an epoch's scores, or a monitor for those
            of the epoch that was closed last, both of validation; or a run folder for its judged
            epoch, of which at most 200 thresholds are kept.
        recall_at_least: Recall to keep: the highest threshold that is shown to do so.
        precision_at_least: Precision to keep: the lowest threshold that is shown to do so. With
            both, the highest threshold for the recall, if it keeps the precision too, at half of the
            error each.
        cost: Cost of a false alarm and of a miss.
        beta: F-beta to make largest; recall counts `beta` times as much as precision.
        confidence: One-sided confidence of a certificate.
        label: Name or number of the label, or of the class against the rest, where there are
            several.

    Raises:
        ConfigError: If not exactly one aim is named, or one is out of its range, or the metric kept
            no scores.
        DataError: If nothing was counted, or the source has no curve.
        RecordError: If a run folder cannot be read.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> target = torch.arange(200) % 2
        >>> metrics = pm.BinaryMetrics(inputs="probs", curves="exact")
        >>> metrics.update(0.5 * target + 0.25, target)
        >>> advice = pm.advise_threshold(metrics.compute(), recall_at_least=0.95)
        >>> advice.threshold, advice.certified, advice.recall.value
        (0.75, True, 1.0)
    """
    return advise(
        _thresholds_of(source),
        recall_at_least=recall_at_least,
        precision_at_least=precision_at_least,
        cost=cost,
        beta=beta,
        confidence=confidence,
        label=label,
    )


def _thresholds_of(source: object) -> HasThresholds:
    """The scores behind a source that tell of every threshold."""
    if isinstance(source, str | os.PathLike):
        source = read_run(source)
    if isinstance(source, Run):
        return RecordedThresholds(source)
    epoch = getattr(source, "scores", source)  # a monitor's
    splits = getattr(epoch, "splits", None)
    if isinstance(splits, Mapping):
        source = splits.get("val")
    if isinstance(source, HasThresholds):
        return source
    got = type(source).__name__
    if source is None or epoch is None:
        got = "an epoch without validation"
    raise DataError("scores", "scores of a metric that keeps its curves", got, _WANTED)


class RecordedThresholds:
    """The threshold table of a run's judged epoch, as its record keeps it.

    Args:
        run: A run that was read back.

    Raises:
        DataError: If the record keeps none.
    """

    def __init__(self, run: Run) -> None:
        if not run.epochs:
            raise DataError("run", "a run with an epoch", "one without", _WANTED)
        epoch = run.epochs[judged_row(run)[0]]
        kept = run.curves(epoch)
        if kept.rows is None:
            got = f"a record in which {kept.reason}"
            raise DataError("run", "a record that keeps the curve of validation", got, _WANTED)
        self._rows = kept.rows
        self._names = epoch.get("class_names", [])
        self._n = _samples_of(epoch)

    @property
    def weighted(self) -> bool:
        """Whether counts are sums of weights: they are not those of the samples then."""
        first = self._rows[0]
        return bool(sum(first[name] for name in ("tp", "fp", "tn", "fn")) != self._n)

    def thresholds(self, label: str | int | None = None) -> ThresholdTable:
        """Counts at every threshold that was kept.

        Raises:
            ConfigError: If there is no such label.
        """
        heads = sorted(set(self._rows["head"].tolist()))
        head: Any = label
        if isinstance(label, str) and label in self._names:
            head = self._names.index(label)
        if label is None and len(heads) == 1:
            head = heads[0]
        if type(head) is not int or head not in heads:
            rule = f"the name or number of one of {len(heads)} labels whose curves were kept"
            raise ConfigError("label", rule, repr(label), "Name one of the first.")
        rows = self._rows[self._rows["head"] == head]
        missing = torch.full((len(rows),), torch.nan)
        columns = {
            name: torch.from_numpy(rows[name].copy()) if name in rows.dtype.names else missing
            for name in ThresholdTable._fields
        }
        return ThresholdTable(**columns)


def _samples_of(epoch: EpochData) -> int | None:
    """Validation samples that were counted; None where that is not recorded."""
    for name in ("val/accuracy", "val/auroc", "val/auroc/macro"):
        if name in epoch["scores"]:
            return epoch["scores"][name]["n"]
    return None
