"""Decision thresholds of a yes-or-no task, and what each of them would have counted. No torch."""

from dataclasses import dataclass

import numpy as np

from ptmetrics.verdict.trends import Curve


@dataclass(frozen=True)
class Cuts:
    """Every threshold with its counts, lowest first; a score of `threshold` or more is called positive.

    Args:
        threshold: Ascending; the last is infinite, where nothing is called positive.
        tp: Positives called positive, falling from all of them to 0.
        fp: Negatives called positive, likewise.
    """

    threshold: Curve
    tp: Curve
    fp: Curve

    @classmethod
    def of(cls, threshold: Curve, tp: Curve, fp: Curve) -> "Cuts":
        """Add the last cut, which calls nothing positive."""
        ends = ((threshold, np.inf), (tp, 0.0), (fp, 0.0))
        return cls(*(np.append(np.asarray(column, dtype=np.float64), end) for column, end in ends))

    @property
    def positives(self) -> float:
        """Positives in all."""
        return float(self.tp[0])

    @property
    def negatives(self) -> float:
        """Negatives in all."""
        return float(self.fp[0])

    @property
    def fn(self) -> Curve:
        """Positives missed."""
        return self.positives - self.tp

    @property
    def called(self) -> Curve:
        """Samples called positive."""
        return self.tp + self.fp

    def confusion(self, row: int) -> Curve:
        """Counts of shape (2, 2) at one threshold, rows are the actual class."""
        tp, fp = self.tp[row], self.fp[row]
        return np.array([[self.negatives - fp, fp], [self.positives - tp, tp]])

    def halves(self, seed: int = 0) -> tuple["Cuts", "Cuts"]:
        """Two random halves of the samples, at the same thresholds.

        Samples that share a score and a class are alike, so to draw counts without replacement is to draw
        samples. Counts must be whole. The same seed gives the same halves.
        """
        rng = np.random.default_rng(seed)
        first: list[Curve] = []
        second: list[Curve] = []
        for column in (self.tp, self.fp):
            cells = np.rint(-np.diff(column, append=0.0)).astype(np.int64)
            drawn = rng.multivariate_hypergeometric(
                cells, int(cells.sum()) // 2, method="marginals"
            )
            for half, part in ((first, drawn), (second, cells - drawn)):
                half.append(np.cumsum(part[::-1])[::-1].astype(np.float64))
        return Cuts(self.threshold, *first), Cuts(self.threshold, *second)
