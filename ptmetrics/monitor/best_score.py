"""The best value of a score so far: whoever stops or saves by a score asks it."""

import difflib
import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.metrics.score import Score
from ptmetrics.monitor.callbacks import MonitoredRun
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import LOGGER
from ptmetrics.monitor.run import is_epoch
from ptmetrics.record.direction import direction
from ptmetrics.record.events import EpochData

OTHER_FILE = "The file is damaged: use another checkpoint."


class BestScore:
    """The best value of one score so far, in the score's own direction.

    Args:
        name: Score name with its split, such as "val/f1/macro".
        min_delta: An improvement smaller than this does not count.
        mode: "max" or "min" where neither the score nor its name tells the direction.
        beyond_interval: Whether the best value must lie outside of the interval of a better one.

    Attributes:
        value: The best value; NaN before the first.
        epoch: Number of its epoch; −1 before the first.
        declared: Whether higher is better, as the score itself says; None if it does not, or is not
            known yet.

    Raises:
        ConfigError: If `mode` is another word.
    """

    def __init__(
        self,
        name: str,
        min_delta: float = 0.0,
        mode: str | None = None,
        beyond_interval: bool = False,
    ) -> None:
        if mode not in (None, "max", "min"):
            cure = "Leave it out where the score declares its direction."
            raise ConfigError("mode", '"max" or "min"', repr(mode), cure)
        self.name = name
        self.min_delta = min_delta
        self.mode = mode
        self.beyond_interval = beyond_interval
        self.value = math.nan
        self.epoch = -1
        self.declared: bool | None = None
        self._run: weakref.ref[MonitoredRun] | None = None
        self._waits_for: str | None = name  # until it is seen, or it was said that it is not

    def begin(self, monitor: MonitoredRun) -> None:
        """Belong to this run: a best value of another one would decide over it.

        Raises:
            ConfigError: As `check` has it, or if another run had this object.
        """
        self.check(monitor)
        if self._run is not None and self._run() is not monitor:
            got = f"one for {self.name} of another run"
            cure = "Make a new callback for each run."
            raise ConfigError("callbacks", "callbacks of one run", got, cure)
        self._run = weakref.ref(monitor)

    def check(self, monitor: MonitoredRun) -> None:
        """Refuse a run that will not have the score.

        Raises:
            ConfigError: If it will not, or the direction of the score is not known.
        """
        known = monitor.score_names
        split, _, score = self.name.partition("/")
        if not split or score not in known:
            raise _unknown_score(self.name, [f"{s}/{n}" for s in ("val", "train") for n in known])
        declared = self.declared = monitor.score_directions.get(score)
        rises = self.rises(declared)
        if declared is not None and declared != rises:
            right = "min" if rises else "max"
            rule = f"{right!r} or none for {self.name}, which declares its direction"
            raise ConfigError("mode", rule, repr(self.mode), "Leave it out.")

    def seen_in(self, scores: EpochScores) -> bool:
        """Whether the epoch has the score; one without a validation has none, and is waited for.

        A split of another name with the score in it is told once: the name may be a slip. So is a
        split that was evaluated without the score, as where no loss is seen.
        """
        if self.name in scores:
            self._waits_for = None
            return True
        if self._waits_for is not None:
            _, _, score = self.name.partition("/")
            ends = f"/{score}"
            split = self.name.removesuffix(score)
            others = [n for n in scores if n.endswith(ends) and not n.startswith("train/")]
            beside = [n for n in scores if n.startswith(split)]
            if others or beside:
                self._waits_for = None
                has = ", ".join((others or beside)[:4])
                LOGGER.warning(
                    "waiting for %s, which this epoch has not; it has %s", self.name, has
                )
        return False

    def improves(self, scores: EpochScores) -> bool:
        """Whether this epoch, which has the score, is better than all before; NaN never is.

        Raises:
            ConfigError: If the direction is not known.
        """
        return self.better(scores[self.name])

    def keep(self, scores: EpochScores) -> None:
        """This epoch is the best one; to be called when what hangs on it is done."""
        self.take(scores[self.name], scores.epoch)

    def take(self, score: Score, epoch: int) -> None:
        """This one is the best."""
        self.value = score.value
        self.epoch = epoch

    def replay(self, epochs: Sequence[EpochData]) -> None:
        """Take the best of recorded epochs."""
        self.value = math.nan
        self.epoch = -1
        for epoch in epochs:
            score = self.recorded_in(epoch)
            if score is not None and self.better(score):
                self.take(score, epoch["epoch"])

    def recorded_in(self, epoch: EpochData) -> Score | None:
        """The score as the record has it; None where the epoch lacks it."""
        told = epoch["scores"].get(self.name)
        if told is None:
            return None
        return Score(
            told["value"],
            low=told.get("low", math.nan),
            high=told.get("high", math.nan),
            higher_is_better=told.get("higher_is_better"),
        )

    def state_dict(self) -> dict[str, Any]:
        """Value and epoch."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again.

        Raises:
            StateError: If they cannot be.
        """
        value = state["value"]
        if type(value) not in (int, float):
            raise StateError("value", "a number", repr(value), OTHER_FILE)
        self.epoch = stored_epoch("epoch", state["epoch"])
        self.value = float(value)

    def better(self, score: Score) -> bool:
        """Whether it is better than the best so far; NaN never is.

        Raises:
            ConfigError: If the direction is not known.
        """
        if math.isnan(score.value):
            return False
        self.declared = score.higher_is_better
        rises = self.rises(score.higher_is_better)
        if math.isnan(self.value):
            return True
        gain = score.value - self.value
        sure = score.low - self.value
        if not rises:
            gain = -gain
            sure = self.value - score.high
        if self.beyond_interval and sure <= 0:  # NaN where the score has no interval
            return False
        return gain > self.min_delta

    def rises(self, declared: bool | None) -> bool:
        """Whether higher is better: as told, as declared, or as the field has it."""
        if self.mode is not None:
            return self.mode == "max"
        if declared is None:
            declared = direction(self.name)
        if declared is None:
            rule = f"a direction for {self.name}, which declares none"
            raise ConfigError("mode", rule, "none", 'Pass mode="max" or mode="min".')
        return declared


def stored_epoch(name: str, value: object) -> int:
    """A stored epoch number; −1 for none.

    Raises:
        StateError: If it can be none.
    """
    if value != -1 and not is_epoch(value):
        raise StateError(name, "the number of an epoch, or -1", repr(value), OTHER_FILE)
    return int(str(value))


def _unknown_score(name: str, known: list[str]) -> ConfigError:
    cure = "Name the split too: 'val/accuracy'."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if near:
        cure = f"Did you mean {near[0]!r}?"
    return ConfigError("monitor", f"one of {', '.join(known)}", repr(name), cure)
