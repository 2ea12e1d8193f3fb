"""One recorded run as text: where it is, what it scored, what was wrong with it, and the verdict."""

from collections.abc import Iterator, Sequence
from typing import Any

from ptmetrics.record.printable import quantity
from ptmetrics.record.reader import Run
from ptmetrics.show.opinion import verdict_lines
from ptmetrics.show.paint import Line, Paint, Styled, plain
from ptmetrics.show.tables import confusion_lines, headline_lines, last_audits, score_lines
from ptmetrics.verdict.finding import Criterion, Verdict
from ptmetrics.verdict.gathering import judged_row
from ptmetrics.verdict.picked import evaluation_of

SHOWN_PROBLEMS = 5
NO_END = "not yet, or it was cut off"
WORDS = {
    "before-training": "evaluated before training",
    "after-training": "evaluated after training",
    "test": "tested",
}
"""Why an evaluation was made, in words."""


def run_text(run: Run, verdict: Verdict, paint: Paint = plain, split: str = "val") -> str:
    """Everything about a run on one page; the scores of the split that is judged first."""
    return paint.join(_run_lines(run, verdict, split))


def run_scores_text(run: Run, paint: Paint = plain) -> str:
    """Scores and confusion matrix of the epoch that stands for the run: the one that is judged."""
    return paint.join(_scores_lines(run))


def _run_lines(run: Run, verdict: Verdict, split: str) -> Iterator[Line]:
    yield [Styled(str(run.path), "strong")]
    done = quantity(len({epoch["epoch"] for epoch in run.epochs}), "epoch")
    if run.epochs:
        trained = run.epochs[-1].get("time", {}).get("train_cumulative_s")
        if trained is not None:
            done += f", {trained:.1f} s of training"
    yield done
    yield f"ended: {run.end_reason or NO_END}"
    yield from _fault_lines(run)
    for note in last_audits(run):
        yield f"leaked rows: {note['message']}"
    for problem in run.problems[:SHOWN_PROBLEMS]:
        yield f"skipped in the record: {problem}"
    yield ""
    if run.epochs:
        yield from _scores_lines(run, split, verdict.criteria)
        yield ""
        yield from _other_split_lines(run, split)
    yield from _evaluation_lines(run)
    yield from verdict_lines(verdict)


def _fault_lines(run: Run) -> Iterator[Line]:
    kinds = run.faults
    for fault in kinds[:SHOWN_PROBLEMS]:
        yield f"fault in {fault['where']}, {fault['count']} ×: {fault['message']}"
    more = kinds[SHOWN_PROBLEMS:]
    if more:
        kinds_more = quantity(len(more), "more kind")
        yield f"{kinds_more} of fault, {sum(fault['count'] for fault in more)} ×"


def _scores_lines(
    run: Run, split: str = "val", criteria: Sequence[Criterion] = ()
) -> Iterator[Line]:
    row, why = judged_row(run)
    told: Any = evaluation_of(run, split)
    recorded = [name.partition("/")[0] for name in told["scores"]]
    if recorded and split not in recorded:  # it never validated
        split = recorded[0]
    if told is run.epochs[row]:
        yield f"epoch {told['epoch'] + 1} of {run.epochs[-1]['epoch'] + 1}, {why}"
    else:
        yield f"split {split}, as evaluated in epoch {told['epoch'] + 1}"
    yield ""
    yield from score_lines(told, split, criteria, run.header)
    # Other tools write no confusion matrix down, and for numbers there is none.
    numbers = run.header.get("metrics", {}).get("task") == "regression"
    if "logged" not in run.header and not numbers:
        yield ""
        yield from confusion_lines(told, split)


def _other_split_lines(run: Run, shown: str) -> Iterator[Line]:
    """Headline scores of the other splits of that epoch, such as training and a test set."""
    row, _ = judged_row(run)
    epoch = run.epochs[row]
    splits = dict.fromkeys(name.partition("/")[0] for name in epoch["scores"])
    for split in splits:
        if split != shown:
            yield from headline_lines(epoch, split, title=split)
            yield ""


def _evaluation_lines(run: Run) -> Iterator[Line]:
    """Evaluations beside those of the epochs, each as a part of its own."""
    several = [evaluation for evaluation in run.evaluations if evaluation["why"] == "several"]
    if several:
        often = quantity(len(several), "more time")
        yield f"validated {often} within epochs, by step: see the history"
        yield ""
    for evaluation in run.evaluations:
        if evaluation["why"] != "several":
            split = evaluation["split"]
            done = f"epoch {evaluation['epoch'] + 1}, {quantity(evaluation['step'], 'step')} done"
            yield f"{WORDS.get(evaluation['why'], evaluation['why'])}, split {split} ({done})"
            yield ""
            yield from headline_lines(evaluation, split, title=split)
            yield ""
