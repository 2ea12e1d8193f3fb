"""One recorded run as text: where it is, what it scored, what was wrong with it, and the verdict."""

from collections.abc import Iterator

from ptmetrics.record.reader import Run
from ptmetrics.show.opinion import verdict_lines
from ptmetrics.show.paint import Line, Paint, Styled, plain
from ptmetrics.show.tables import confusion_lines, score_lines
from ptmetrics.verdict.evidence import judged_row
from ptmetrics.verdict.finding import Verdict

SHOWN_PROBLEMS = 5


def run_text(run: Run, verdict: Verdict, paint: Paint = plain) -> str:
    """Everything about a run on one page."""
    return paint.join(_run_lines(run, verdict))


def run_scores_text(run: Run, paint: Paint = plain) -> str:
    """Scores and confusion matrix of the epoch that stands for the run: the one that is judged."""
    return paint.join(_scores_lines(run))


def _run_lines(run: Run, verdict: Verdict) -> Iterator[Line]:
    yield [Styled(str(run.path), "strong")]
    done = f"{len(run.epochs)} epochs"
    if run.epochs:
        trained = run.epochs[-1].get("time", {}).get("train_cumulative_s")
        if trained is not None:
            done += f", {trained:.1f} s of training"
    yield done
    if run.end:
        yield f"ended: {run.end['reason']}"
    else:
        yield "ended: no last line, it was cut off or still runs"
    for fault in run.faults[:SHOWN_PROBLEMS]:
        yield f"fault in {fault['where']}, {fault['count']} ×: {fault['message']}"
    for problem in run.problems[:SHOWN_PROBLEMS]:
        yield f"skipped in the record: {problem}"
    yield ""
    if run.epochs:
        yield from _scores_lines(run)
        yield ""
    yield from verdict_lines(verdict)


def _scores_lines(run: Run) -> Iterator[Line]:
    row, why = judged_row(run)
    epoch = run.epochs[row]
    yield f"epoch {epoch['epoch'] + 1} of {run.epochs[-1]['epoch'] + 1}, {why}"
    yield ""
    yield from score_lines(epoch, "val")
    # Other tools write no confusion matrix down, and for numbers there is none.
    numbers = run.header.get("metrics", {}).get("task") == "regression"
    if "logged" not in run.header and not numbers:
        yield ""
        yield from confusion_lines(epoch, "val")
