"""The end of an epoch: counts become scores, laps become times, both start again."""

from ptmetrics.metrics.score import Score, Scores
from ptmetrics.monitor.capture import Capture
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.monitor.flaws import NOTHING_SEEN
from ptmetrics.monitor.totals import Totals
from ptmetrics.record.samples import Kept


def close_epoch(epoch: int, capture: Capture, totals: Totals, faults: FaultLog) -> EpochScores:
    """Compute every split that saw a batch; what fails is a fault, and missing in the result."""
    capture.close_epoch()
    seen = {name: split for name, split in capture.splits.items() if split.batches}
    if not seen:
        faults.flaw("epoch", *NOTHING_SEEN)
    counts = totals.counts(seen)
    splits: dict[str, Scores] = {}
    losses: dict[str, Score] = {}
    kept: Kept | None = None
    for name, split in seen.items():
        with faults.contain(f"compute {name}"):
            splits[name], loss, samples = split.close()
            kept = samples or kept
            if loss is not None:
                losses[name] = loss
    times = totals.time(capture.phases)
    return EpochScores(epoch, splits, losses, times, counts, kept)
