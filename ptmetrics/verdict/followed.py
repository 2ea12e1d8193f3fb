"""The validation score that a run is about: which one it is, and how it stands from epoch to epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ptmetrics.digits import numbers
from ptmetrics.record.direction import direction
from ptmetrics.verdict.evidence import Evidence, LearningCurves
from ptmetrics.verdict.finding import Estimate
from ptmetrics.verdict.run_groups import difference
from ptmetrics.verdict.samples import Floats
from ptmetrics.verdict.stats import rising_p, theil_sen

Change = Literal["better", "held", "worse", "not known"]
LIKE_A_LOSS = frozenset(
    [
        "loss",
        "nll",
        "perplexity",
        "ppl",
        "brier",
        "ece",
        "over_confidence",
        "temperature",
        "log_loss",
        "cross_entropy",
    ]
)
"""Scores that say what the loss says, or how sure the model is."""
LEAST_TREND = 4  # epochs
COMPARED = ("accuracy", "r2", "f1/macro", "mean_iou", "auroc", "mae", "mse", "loss")
"""Scores by which epochs or runs are compared where none is named; the first that they have."""


@dataclass(frozen=True)
class FollowedScore:
    """A validation score with a direction.

    Args:
        name: Its name without the split.
        sign: 1.0 where more is better, −1.0 where less is.
        curves: Where it stands.
    """

    name: str
    sign: float
    curves: LearningCurves

    def rows(self) -> list[int]:
        """Rows in which it was measured on the same validation data as in the judged one."""
        return self.curves.comparable(self.curves.rows(f"val/{self.name}"))

    def values(self, rows: list[int]) -> Floats:
        """Its values, more being better."""
        return self.sign * self.curves.values(f"val/{self.name}", rows)

    def value(self, row: int) -> float:
        """Its recorded value in a row; NaN where there is none."""
        return self.curves.at(f"val/{self.name}", row).value

    def gain(self, row: int, other: int) -> Estimate:
        """How much better it is in one row than in another, sample by sample where they were kept."""
        found = difference(
            [self.curves.at(f"val/{self.name}", row)], [self.curves.at(f"val/{self.name}", other)]
        )
        if self.sign > 0:
            return found
        return Estimate(-found.value, -found.high, -found.low, found.n, found.method)

    def best(self) -> int:
        """The row in which it is best, the first of several."""
        rows = self.rows()
        return rows[int(np.argmax(self.values(rows)))]

    def since(self, row: int, level: float, margin: float) -> Change:
        """What became of it from a row to the judged one, by its interval or by a trend.

        Args:
            row: Where to start.
            level: Largest p-value of a trend.
            margin: Change that is tolerated whatever its trend, relative to the score.
        """
        rows = [each for each in self.rows() if row <= each <= self.curves.judged]
        if len(rows) < 2 or rows[0] != row or rows[-1] != self.curves.judged:
            return "not known"
        gain = self.gain(self.curves.judged, row)
        values = self.values(rows)
        most = margin * abs(values[0])
        moved = theil_sen(values) * (len(rows) - 1)
        falls = moved < -most and rising_p(-values) < level
        rises = moved > 0 and rising_p(values) < level
        found: Change = "held"
        if gain.high < 0 or (not gain.low > 0 and falls):
            found = "worse"
        elif gain.low > 0 or rises:
            found = "better"
        if found == "held" and not gain.bounded:
            found = _by_its_steps(values, most)
        return found


def _by_its_steps(values: Floats, most: float) -> Change:
    """Few epochs of a log: a change that is more than tolerated is taken at its word."""
    if values.size >= LEAST_TREND or abs(values[-1] - values[0]) <= most:
        return "held"
    if values[-1] < values[0]:
        return "worse"
    return "better"


def followed_score(evidence: Evidence, *, losses: bool = False) -> FollowedScore | None:
    """The score that selection follows, else the task's headline, else one that has a direction.

    Args:
        evidence: Of the run.
        losses: Whether what says the same as the loss counts too.
    """
    curves = evidence.curves
    for name in _candidates(evidence):
        sign = _sign(evidence, name, losses=losses)
        score = FollowedScore(name, sign, curves)
        if sign and score.rows():
            return score
    return None


def best_row(evidence: Evidence, score: FollowedScore) -> int:
    """The row of the best epoch: the judged one where the run chose it, else where the score is best."""
    judged = evidence.curves.judged
    if evidence.chosen and judged in score.rows():
        return judged
    return score.best()


def passed_over(evidence: Evidence) -> Iterator[str]:
    """The epoch whose score is better than that of the one that the run chose, in words."""
    score = followed_score(evidence, losses=True)
    if score is None or best_row(evidence, score) == score.best():
        return
    judged = evidence.curves.judged
    values = score.value(score.best()), score.value(judged)
    why = ""
    for note in evidence.noted("min-delta"):
        delta = note.get("min_delta")
        if note.get("score") != f"val/{score.name}" or not isinstance(delta, int | float):
            continue
        if abs(values[0] - values[1]) <= delta:
            why = f", which is less than min_delta={delta:g}"
    where = evidence.curves.named(score.best())
    best, own = numbers(*values)
    yield f"val/{score.name} is better in {where}, {best} against {own}{why}."


def _candidates(evidence: Evidence) -> Iterator[str]:
    yield from evidence.selected_by
    yield {"regression": "r2", "multilabel": "f1/micro"}.get(evidence.task, evidence.fitted)
    yield from COMPARED
    yield from evidence.val


def _sign(evidence: Evidence, name: str, *, losses: bool) -> float:
    """1.0 or −1.0; 0.0 for a score that has no direction, or is like a loss and may not be."""
    if not losses and name.split("/")[-1].lower() in LIKE_A_LOSS:
        return 0.0
    known = evidence.curves.rises(f"val/{name}")
    if known is None:
        known = direction(name)
    if known is None:
        return 0.0
    if known:
        return 1.0
    return -1.0
