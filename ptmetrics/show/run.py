"""One recorded run as text: where it is, what it scored, what was wrong with it, and the verdict."""

from collections.abc import Iterator

from ptmetrics.record.reader import Run
from ptmetrics.show.opinion import verdict_text
from ptmetrics.show.paint import Paint, plain
from ptmetrics.show.tables import confusion_table, score_table
from ptmetrics.verdict.finding import Verdict

SHOWN = 5


def run_text(run: Run, verdict: Verdict, paint: Paint = plain) -> str:
    """Everything about a run on one page; its last epoch stands for it."""
    parts = [paint(str(run.path), "strong") + "\n" + "\n".join(_facts(run))]
    if run.epochs:
        parts += [score_table(run.epochs[-1], "val", paint), confusion_table(run.epochs[-1], "val", paint)]
    return "\n\n".join([*parts, verdict_text(verdict, paint)])


def _facts(run: Run) -> Iterator[str]:
    trained = run.epochs[-1].get("time", {}).get("train_cumulative_s") if run.epochs else None
    yield f"{len(run.epochs)} epochs" + (f", {trained:.1f} s of training" if trained is not None else "")
    yield f"ended: {run.end['reason']}" if run.end else "ended: no last line, it was cut off or still runs"
    for fault in run.faults[:SHOWN]:
        yield f"fault in {fault['where']}, {fault['count']} ×: {fault['message']}"
    for problem in run.problems[:SHOWN]:
        yield f"damage in the record: {problem}"
