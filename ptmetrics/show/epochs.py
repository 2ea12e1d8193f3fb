"""The table of a run that grows by one line an epoch, with what improved."""

from collections.abc import Iterator, Mapping
from math import isnan
from typing import Any

from ptmetrics.digits import number, numbers
from ptmetrics.show.paint import Line, Styled

Shown = Mapping[str, Any]
"""A score as the record holds it."""
SHOWN_LOSSES = ("train/loss", "val/loss")
_NUMBER = 12  # characters of a column without an interval
_INTERVAL = 30


class EpochTable:
    """Lines of the table: the losses and one score with its interval; a star marks the best so far.

    Args:
        lead: Full name of the score that tells what the run is about, such as "val/accuracy".

    Attributes:
        names: The scores that it shows, where they are there.

    Example:
        >>> from ptmetrics.show.paint import plain
        >>> table = EpochTable("val/accuracy")
        >>> score = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 400, "higher_is_better": True}
        >>> print(plain.join(table.lines(0, {"val/accuracy": score}, 1.5)))
        epoch  val/accuracy                  seconds   * best so far
            1  0.6000 [0.5000, 0.7000] *         1.5
    """

    def __init__(self, lead: str) -> None:
        self._shown: list[str] = []
        self._best: dict[str, float] = {}
        self.lead_by(lead)

    def lead_by(self, lead: str) -> None:
        """Show this score from now on in the place of the other."""
        self.names = (*SHOWN_LOSSES, lead)
        self._lead = lead

    def lines(self, epoch: int, scores: Mapping[str, Shown], seconds: float) -> Iterator[Line]:
        """One line, and the head of the table before the first or where other scores came up.

        Args:
            epoch: Its number, from 0; people count from 1.
            scores: By full name; those of other names are passed over.
            seconds: What it took.
        """
        shown = [name for name in dict.fromkeys(self.names) if name in scores]
        if set(shown) - set(self._shown):
            self._shown = shown
            yield self._head()
        line: list[str | Styled] = [f"{epoch + 1:>5}  "]
        for name in self._shown:
            line.extend(self._cell(name, scores.get(name)))
        line.append(f"{seconds:>7.1f}")
        yield line

    def _head(self) -> str:
        names = "".join(f"{name:<{self._width(name)}}" for name in self._shown)
        return f"epoch  {names}seconds   * best so far"

    def _width(self, name: str) -> int:
        if name == self._lead:
            return max(_INTERVAL, len(name) + 2)
        return _NUMBER

    def _cell(self, name: str, score: Shown | None) -> Iterator[str | Styled]:
        """The value, behind it its interval and a star, as wide as the column."""
        text = "–"
        improved = False
        if score is not None:
            text = number(score["value"])
            if name == self._lead and not isnan(score["low"]):
                text, low, high = numbers(score["value"], score["low"], score["high"])
                text += f" [{low}, {high}]"
            improved = self._improves(name, score)
        if improved:
            text += " *"
        shown = f"{text:<{self._width(name)}}"
        if improved:
            yield Styled(shown, "good")
        else:
            yield shown

    def _improves(self, name: str, score: Shown) -> bool:
        """Whether the value is the best so far, in the direction that the record tells."""
        rises = score.get("higher_is_better")
        if rises is None:
            return False
        value = score["value"]
        if not rises:
            value = -value
        if not value > self._best.get(name, -float("inf")):
            return False
        self._best[name] = value
        return True
