"""A run as numbers per epoch: `history["val/accuracy"]` is a list, `history[-1]` an epoch."""

import difflib
import math
import os
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, overload

from ptmetrics.errors import DependencyError
from ptmetrics.record.events import EpochData, EvaluationData, HeaderData, NoteData
from ptmetrics.record.foreign_epochs import LoggedScores
from ptmetrics.record.foreign_rows import LoggedRows
from ptmetrics.record.reader import Run, read_run

_STEPS = "counts/train_steps_cumulative"
_SECONDS = "time/wall_cumulative_s"


class History(Mapping[str, list[float]]):
    """A mapping from score name to one value per epoch; NaN where an epoch lacks the score.

    `history["val/accuracy"]` is the list over epochs, `history[-1]` the last epoch as a mapping
    from name to value, `history[-1, "val/accuracy"]` one value. Rows count from 0; `epoch` holds
    the epoch numbers of the rows. Where an epoch was validated several times, each of these stands
    in a row of its own in front of that of the epoch, once it is closed; `step` tells them apart.
    Numbers of callbacks, such as "lr", stand under their own names, times under "time/train_s" and
    so on, counts under "counts/train_samples". As of any mapping of columns, the length is the number
    of names; there are `len(history.epoch)` rows.

    Attributes:
        path: Where the run is recorded; None for one that is in memory alone.
        header: What a run in memory was started with.
        notes: What a script or callback has noted of a run in memory.

    Example:
        >>> history = History()
        >>> for number, value in enumerate([0.5, 0.75]):
        ...     history.append({"epoch": number, "scores": {"val/accuracy": {"value": value}}})
        >>> history["val/accuracy"]
        [0.5, 0.75]
        >>> history[-1]
        {'val/accuracy': 0.75}
        >>> history.epoch
        [0, 1]
    """

    def __init__(self) -> None:
        self._epochs = array("q")
        self._rows: list[Mapping[str, float]] | LoggedRows = []
        self._waiting: list[EvaluationData] = []  # of the epoch under way
        self._last: EpochData | None = None
        self.path: Path | None = None
        self.header: HeaderData = {}
        self.notes: list[NoteData] = []

    @classmethod
    def of(cls, run: Run) -> "History":
        """Take the epochs of a run that count; those superseded are left out."""
        history = cls()
        history.path = run.path
        if "logged" in run.header:
            history._rows = LoggedRows()
            for epoch in run.epochs:
                history._last = epoch
                history._add(epoch["epoch"], _numbers_of(epoch))
            return history
        evaluations = deque(run.evaluations)
        for epoch in run.epochs:
            while evaluations and evaluations[0]["epoch"] <= epoch["epoch"]:
                history.append_evaluation(evaluations.popleft())
            history.append(epoch)
        return history

    @property
    def epoch(self) -> list[int]:
        """The epoch number of each row; it never falls."""
        return list(self._epochs)

    @property
    def step(self) -> list[float]:
        """The training steps that were done by each row; NaN where that was not recorded."""
        return [row.get(_STEPS, math.nan) for row in self._rows]

    def run(self) -> Run:
        """The run behind the numbers, read back; of one in memory the values, the last epoch whole.

        Raises:
            RecordError: If its record cannot be read.
        """
        if self.path is not None:
            return read_run(self.path)
        rows = dict(zip(self._epochs, self._rows, strict=True))  # the last row of an epoch is its
        epochs = [_epoch_of(number, row) for number, row in rows.items()]
        if self._last is not None:
            epochs[-1] = self._last
        return Run(Path(), "", [self.header], epochs, notes=self.notes)

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`: epoch, step, seconds of the run so far, and each score.

        What callbacks have measured stands behind the scores; what a row lacks is NaN.

        Raises:
            DependencyError: If pandas is not installed.

        Example:
            >>> history = History()
            >>> history.append({"epoch": 0, "scores": {"val/accuracy": {"value": 0.5}}})
            >>> try:
            ...     columns = list(history.to_pandas())
            ... except DependencyError:
            ...     columns = ["epoch", "step", "seconds", "val/accuracy"]
            >>> columns
            ['epoch', 'step', 'seconds', 'val/accuracy']
        """
        try:
            pandas: Any = import_module("pandas")
        except ImportError:
            cure = "Run pip install pandas."
            rule = "it for a data frame"
            raise DependencyError("pandas", rule, "no such package", cure) from None
        columns: dict[str, list[Any]] = {"epoch": self.epoch, "step": self.step}
        columns["seconds"] = [row.get(_SECONDS, math.nan) for row in self._rows]
        for name in self:
            if not name.startswith(("time/", "counts/")):
                columns[name] = self[name]
        return pandas.DataFrame(columns)

    def plot(self, *names: str, ax: Any = None) -> Any:
        """Draw scores over the run.

        Args:
            *names: Full names of scores; none for the loss of all splits, or what else there is
                first.
            ax: Axes of matplotlib to draw in; None for new ones.

        Returns:
            The axes.

        Raises:
            KeyError: If there is no score of such a name.
            DependencyError: If matplotlib is not installed.

        Example:
            >>> from matplotlib.figure import Figure
            >>> history = History()
            >>> history.append({"epoch": 0, "scores": {"val/accuracy": {"value": 0.5}}})
            >>> history.plot("val/accuracy", ax=Figure().add_subplot()).get_ylabel()
            'val/accuracy'
        """
        from ptmetrics.show import charts

        return charts.draw_history(charts.axes_of(ax), self, names)

    def append(self, epoch: EpochData) -> None:
        """Add an epoch; the same or later ones are superseded, as when a run was resumed."""
        while self._epochs and self._epochs[-1] >= epoch["epoch"]:
            self._epochs.pop()
            self._rows.pop()
        for evaluation in self._waiting:
            if evaluation["epoch"] == epoch["epoch"]:
                self._add_evaluation(evaluation)
        self._waiting = []
        self._last = epoch
        self._add_or_merge(epoch["epoch"], _numbers_of(epoch))

    def epoch_of_best(self, name: str, *, rises: bool) -> int:
        """The epoch whose own row, its last one, has the best value; −1 if the score was not seen."""
        values: dict[int, float] = {}
        for epoch, row in zip(self._epochs, self._rows, strict=True):
            values[epoch] = row.get(name, math.nan)
            if math.isnan(values[epoch]):
                del values[epoch]
        best = max if rises else min
        return best(values, key=values.__getitem__, default=-1)

    def append_evaluation(self, evaluation: EvaluationData) -> None:
        """Add one of several validations of the epoch under way; others are no rows.

        It becomes a row when the epoch is appended, so that the last row is an epoch's.
        """
        if evaluation["why"] == "several":
            self._waiting.append(evaluation)

    def _add_evaluation(self, evaluation: EvaluationData) -> None:
        row = {name: score["value"] for name, score in evaluation["scores"].items()}
        row.update(_numbers("counts", evaluation.get("counts", {})))
        row[_STEPS] = evaluation["step"]
        self._add_or_merge(evaluation["epoch"], row)

    def _add_or_merge(self, epoch: int, row: dict[str, float]) -> None:
        """Add a row; what was measured at the same step is one row."""
        if self._epochs and self._epochs[-1] == epoch:
            before = self._rows[-1]
            if before.get(_STEPS) == row.get(_STEPS):
                self._epochs.pop()
                self._rows.pop()
                row = {**before, **row}
        self._add(epoch, row)

    def _add(self, epoch: int, row: dict[str, float]) -> None:
        self._epochs.append(epoch)
        self._rows.append(row)

    @overload
    def __getitem__(self, key: str) -> list[float]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, key: tuple[int, str]) -> float: ...
    def __getitem__(
        self, key: str | int | tuple[int, str]
    ) -> list[float] | dict[str, float] | float:
        if isinstance(key, tuple):
            row, name = key
            self._check_name(name)
            return self._row(row).get(name, math.nan)
        if isinstance(key, int):
            values = self._row(key)
            return {name: values.get(name, math.nan) for name in self}
        self._check_name(key)
        return [row.get(key, math.nan) for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for row in self._rows for name in row))

    def __len__(self) -> int:
        return len(dict.fromkeys(self))

    def __contains__(self, key: object) -> bool:
        return any(key in row for row in self._rows)

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import history_html

        return history_html(self)

    def __repr__(self) -> str:
        return f"History({len(self)} names, epochs {self.epoch})"

    def _row(self, row: int) -> Mapping[str, float]:
        if not -len(self._rows) <= row < len(self._rows):
            rule = f"one of {len(self._rows)} epochs"
            raise IndexError(f"row: expected {rule}, got {row}. See history.epoch.")
        return self._rows[row]

    def _check_name(self, name: str) -> None:
        for row in self._rows:
            if name in row:
                return
        near = difflib.get_close_matches(name, self, n=3, cutoff=0.4)
        cure = "list(history) shows the names."
        if near:
            cure = f"Near: {', '.join(map(repr, near))}."
        raise KeyError(f"history: expected the name of a score in this run, got {name!r}. {cure}")


def read_history(path: str | os.PathLike[str]) -> History:
    r"""Read the numbers per epoch of a run folder, a journal, or a log that another tool wrote.

    Logs are CSV files and what is like them, JSON as columns, rows or lines, Hugging Face's
    trainer_state.json, and event files of TensorBoard where that is installed. Several validations
    of an epoch are a row each.

    Raises:
        RecordError: If nothing there can be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> log = Path(tempfile.mkdtemp()) / "metrics.csv"
        >>> _ = log.write_text("epoch,loss,val_acc\n0,0.9,0.5\n1,0.6,0.75\n")
        >>> read_history(log)["val/accuracy"][-1]
        0.75
    """
    return History.of(read_run(path))


def _numbers_of(epoch: EpochData) -> dict[str, float]:
    """All numbers of an epoch by their names."""
    scores = epoch["scores"]
    if isinstance(scores, LoggedScores):
        row = dict(scores.plain)
    else:
        row = {name: score["value"] for name, score in scores.items()}
    row.update(epoch.get("numbers", {}))
    row.update(_numbers("time", epoch.get("time", {})))
    row.update(_numbers("counts", epoch.get("counts", {})))
    return row


def _numbers(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Flatten numbers; what was not measured (None) stays absent, and so reads as NaN."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_numbers(f"{prefix}/{name}", value))
        elif value is not None:
            flat[f"{prefix}/{name}"] = value
    return flat


def _epoch_of(number: int, row: Mapping[str, float]) -> EpochData:
    """An epoch as a record has it, of its numbers alone."""
    epoch: Any = {"epoch": number, "scores": {}, "numbers": {}, "time": {}, "counts": {}}
    for name, value in row.items():
        group, _, rest = name.partition("/")
        if not rest:
            epoch["numbers"][name] = value
        elif group not in {"time", "counts"}:
            epoch["scores"][name] = {"value": value}
        elif "/" not in rest:  # all but the quantiles of a step
            epoch[group][rest] = value
    data: EpochData = epoch
    return data
