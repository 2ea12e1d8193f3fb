"""Does a validation loss rise beyond its noise? One question, asked of the curve alone."""

from dataclasses import dataclass

import numpy as np

from ptmetrics.verdict.evidence import NOT_KNOWN
from ptmetrics.verdict.finding import Estimate
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.samples import Floats
from ptmetrics.verdict.stats import jitter, rising_p, running_median

LONG, VERY_LONG = 10, 30  # epochs
FEW_NOISE = 3.0  # times the jitter, which so few epochs tell badly


@dataclass(frozen=True)
class Rise:
    """A rise of the validation loss after its minimum.

    Args:
        best: Row of the minimum, of the smoothed curve where there are 10 epochs.
        size: Rise over that minimum at the end, relative to it.
        p: Mann–Kendall p-value of the rise since the minimum.
        noise: Jitter from epoch to epoch, relative to the minimum.
        tested: False where the run is too short for a trend test and the size alone speaks.
    """

    best: int
    size: float
    p: float
    noise: float
    tested: bool = True


def loss_rise(
    val: Floats,
    train: Floats,
    limits: Thresholds,
    change: Estimate = NOT_KNOWN,
    *,
    worse: bool = False,
) -> Rise | None:
    """Find a rise of the validation loss while the training loss falls; None when there is none.

    From 10 epochs on: at least 3 epochs after the smoothed minimum, a rise above 2 % and above
    twice the jitter, a Mann–Kendall trend since the minimum, and a training loss lower than then.
    From 30 epochs on the second half must rise too: it is fixed beforehand, whereas the minimum is
    chosen by looking, and correlated noise around a minimum looks like a trend.
    Below 10 epochs: four epochs after the minimum with an exact trend, or twice a severe rise at
    the end, or where something else got worse too, two rises in a row or a severe one.

    Where the losses of the samples were kept, the rise must be one of the samples at large as well,
    and not of a few by chance. Below 10 epochs, too few for a trend, that decides: with it, twice a
    rise of half `rise_moderate` and of three times the jitter is enough.

    Args:
        val: Validation loss, one value per epoch, finite.
        train: Training loss at the same epochs.
        limits: Named thresholds.
        change: What the mean loss grew by from its minimum to the end, sample by sample, with a
            one-sided 95 % bound as `low`; without bounds where the samples were not kept.
        worse: Whether a score fell too, or lies far below that of training.

    Source: Prechelt 1998 for the generalisation loss; the combination is this project's, its false
        alarms and power are measured by `make bench-rules`.
    """
    if val.size < 3 or not val.min() > 0:
        return None  # a relative rise over zero or less has no meaning
    if change.bounded and not change.low > 0:
        return None
    if val.size >= LONG:
        return _long_rise(val, train, limits)
    return _short_rise(val, train, limits, shown=change.bounded, worse=worse)


def _long_rise(val: Floats, train: Floats, limits: Thresholds) -> Rise | None:
    smooth = running_median(val)
    best = int(np.argmin(smooth))
    after = val.size - 1 - best
    if after < 3:
        return None
    window = min(max(after // 2 + 1, 2), 5)
    size = float(np.median(val[-window:])) / smooth[best] - 1.0
    noise = jitter(val) / smooth[best]
    p = rising_p(val[best:])
    if size <= max(limits.rise, limits.rise_noise * noise) or p >= limits.trend_p:
        return None
    if val.size >= VERY_LONG and rising_p(val[val.size // 2 :]) >= limits.trend_p:
        return None
    if not np.median(train[-window:]) < running_median(train)[best]:
        return None
    return Rise(best, float(size), p, noise)


def _short_rise(
    val: Floats, train: Floats, limits: Thresholds, *, shown: bool, worse: bool
) -> Rise | None:
    best = int(np.argmin(val))
    rises = val[best + 1 :] / val[best] - 1.0
    if not rises.size or not train[-1] < train[best]:
        return None
    # The minimum was chosen by looking, so the trend is tested on what came after it.
    p = rising_p(val[best + 1 :])
    last = float(rises[-1])
    severe = last >= limits.rise_severe
    if rises.size == 1:
        if worse and severe:
            return Rise(best, last, p, 0.0, tested=False)
        return None
    half = limits.rise_moderate / 2
    tested = bool(rises.size >= 4 and p < limits.trend_p and last > half)
    twice = severe and rises[-2] >= limits.rise_moderate
    noise = jitter(val) / float(val[best])
    clear = shown and rises[-2:].min() > max(half, FEW_NOISE * noise)
    in_a_row = worse and last >= limits.rise_moderate and last > rises[-2] > 0
    if not (tested or twice or clear or in_a_row):
        return None
    return Rise(best, last, p, noise, tested)
