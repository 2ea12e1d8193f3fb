"""What a run shows while it goes on: bars by tqdm, a line an epoch, the verdict in the end.

All of it goes to standard error, from rank 0 alone.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

from torch.utils.data import IterableDataset

from ptmetrics.errors import ConfigError
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import FaultLog, contained
from ptmetrics.show.epochs import EpochTable
from ptmetrics.show.opinion import verdict_lines
from ptmetrics.show.paint import Line, Paint, paint_for, plain
from ptmetrics.show.tables import judged_score
from ptmetrics.verdict.judge import judge

Show = bool | Literal["plain"] | None
NO_VERDICT = ("error", "interrupted")
"""Begins of the reasons for which a run ends without a verdict on the console."""


class Console:
    """Bars of a run, one over its epochs, one over the batches of the phase under way; its table.

    A bar or a line that fails, because nobody reads what is written say, is the last one.

    Args:
        show: True, False, or "plain" for lines without bars and colour; None shows all of it on a
            terminal and in a notebook only.
        name: What the bar of the epochs is called.
        faults: Where a failure is noted.
        rank: All but rank 0 show nothing.

    Raises:
        ConfigError: If `show` is nothing of these.
    """

    def __init__(self, show: object, name: str, faults: FaultLog, rank: int) -> None:
        if show is not None and show != "plain" and not isinstance(show, bool):
            cure = 'Pass progress="plain" for lines without bars, or False for silence.'
            raise ConfigError("progress", 'True, False, None or "plain"', repr(show), cure)
        self._show = show
        if rank:
            self._show = False
        self._name = name
        self._epochs: Any = None
        self._bars: WeakSet[Any] = WeakSet()
        self._table: EpochTable | None = None
        self._validated = False
        self._failed = False
        self.faults = faults

    @contained("progress")
    def begin_epochs(self, numbers: range) -> Any:
        """A bar over epochs; None where none is shown."""
        start, stop = numbers.start, numbers.stop
        self._epochs = self._draw(
            self._bar, desc=self._name, unit="epoch", initial=start, total=stop
        )
        return self._epochs

    @contained("progress")
    def begin_batches(self, loader: Iterable[Any], split: str) -> Any:
        """A bar over the batches of one phase, gone when it is over; None where none is shown."""
        total = length_of(loader)
        return self._draw(self._bar, desc=f"  {split}", unit="batch", leave=False, total=total)

    @contained("progress")
    def advance(self, bar: Any) -> None:
        """One more is done."""
        self._draw(bar.update)

    @contained("progress")
    def end(self, bar: Any) -> None:
        """All are done, or the loop was left."""
        if bar is self._epochs:
            self._epochs = None
        self._draw(bar.close)

    def epoch(self, monitor: Any, scores: EpochScores) -> None:
        """Show the line of an epoch."""
        if not self._shown():
            return
        if self._table is None:
            self._table = EpochTable("")
        if not self._validated:
            self._table.lead_by(_lead(monitor, scores))
            self._validated = "val" in scores.splits
        told = {name: scores[name].to_dict() for name in self._table.names if name in scores}
        time = scores.time
        seconds = sum(time.get(phase, 0.0) for phase in ("train_s", "val_s", "other_s"))
        self._draw(self._write, self._table.lines(scores.epoch, told, seconds))

    def verdict(self, monitor: Any, path: Path | None) -> None:
        """Show what is thought of the run that ended."""
        if not self._shown() or self._table is None:
            return
        lines = ["", *verdict_lines(judge(monitor))]
        if path is not None:
            lines.append(f"All of it: ptmetrics report {path}")
        self._draw(self._write, lines)

    def _draw(self, draw: Any, *args: Any, **options: Any) -> Any:
        if self._failed:
            return None
        try:
            return draw(*args, **options)
        except Exception:
            self._failed = True
            for bar in self._bars:
                bar.disable = True  # or it would try again when it is thrown away
            raise

    def _bar(self, **options: Any) -> Any:
        if self._show == "plain" or not self._shown():
            return None
        from tqdm.auto import tqdm

        bar = tqdm(dynamic_ncols=True, **options)
        self._bars.add(bar)
        return bar

    def _shown(self) -> bool:
        stream = sys.__dict__["stderr"]  # None in a process without a console
        if stream is None or self._failed:
            return False
        if self._show is None:
            return stream.isatty() or _in_notebook()
        return bool(self._show)

    def _write(self, lines: Iterable[Line]) -> None:
        """Above the bars, so that they stay the last on the screen."""
        paint: Paint = plain
        if self._show != "plain":
            paint = paint_for(sys.stderr)
        from tqdm.auto import tqdm

        tqdm.write(paint.join(lines), file=sys.stderr)


def _lead(monitor: Any, scores: EpochScores) -> str:
    """The score that the run is judged by, else validation's headline, else that of another split."""
    for split in ("val", *scores.splits):
        if split in scores.splits:
            found = scores.splits[split]
            lead = found.headline
            if split == "val":
                lead = judged_score(judge(monitor).criteria, found) or lead
            return f"{split}/{lead}"
    return "val/loss"


def _in_notebook() -> bool:
    """Whether a notebook shows what is written."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def length_of(data: Any) -> int | None:
    """How much a loader or set holds; None for a stream, whose loader warns of a wrong length."""
    if isinstance(getattr(data, "dataset", data), IterableDataset):
        return None
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None
