"""One recorded run as text: where it is, what it scored, what was wrong with it, and the verdict."""

from collections.abc import Iterator

from ptmetrics.record.reader import Run
from ptmetrics.show.opinion import verdict_text
from ptmetrics.show.paint import Paint, plain
from ptmetrics.show.tables import confusion_table, score_table
from ptmetrics.verdict.evidence import judged_row
from ptmetrics.verdict.finding import Verdict

SHOWN = 5


def run_text(run: Run, verdict: Verdict, paint: Paint = plain) -> str:
    """Everything about a run on one page."""
    head = paint(str(run.path), "strong") + "\n" + "\n".join(_facts(run))
    return "\n\n".join(
        [head, *([scores_text(run, paint)] if run.epochs else []), verdict_text(verdict, paint)]
    )


def scores_text(run: Run, paint: Paint = plain) -> str:
    """Score table and confusion matrix of the epoch that stands for the run: the one that is judged."""
    row, why = judged_row(run)
    epoch = run.epochs[row]
    head = f"epoch {epoch['epoch'] + 1} of {run.epochs[-1]['epoch'] + 1}, {why}"
    tables = [head, score_table(epoch, "val", paint)]
    numbers = (run.header.get("metrics") or {}).get("task") == "regression"
    if "logged" not in run.header and not numbers:  # other tools write no confusion matrix down
        tables.append(confusion_table(epoch, "val", paint))
    return "\n\n".join(tables)


def _facts(run: Run) -> Iterator[str]:
    trained = run.epochs[-1].get("time", {}).get("train_cumulative_s") if run.epochs else None
    yield f"{len(run.epochs)} epochs" + (
        f", {trained:.1f} s of training" if trained is not None else ""
    )
    yield (
        f"ended: {run.end['reason']}"
        if run.end
        else "ended: no last line, it was cut off or still runs"
    )
    for fault in run.faults[:SHOWN]:
        yield f"fault in {fault['where']}, {fault['count']} ×: {fault['message']}"
    for problem in run.problems[:SHOWN]:
        yield f"damage in the record: {problem}"
