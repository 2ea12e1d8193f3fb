"""A verdict as workflow commands of GitHub Actions, shown beside the change that they are about."""

from collections.abc import Iterator, Mapping

from ptmetrics.record.printable import printable
from ptmetrics.show.paint import Paint, plain
from ptmetrics.verdict.finding import Verdict

LEVELS: Mapping[str, str] = {
    "invalid": "error",
    "fail": "error",
    "not ready": "error",
    "undetermined": "warning",
    "warning": "warning",
    "info": "notice",
    "ready": "notice",
}
"""What GitHub calls a severity, or a status."""


def annotations(run: str, verdict: Verdict, paint: Paint = plain) -> Iterator[str]:
    """One line a finding, and one for the verdict; no text of a record can start a command.

    Source: "Workflow commands for GitHub Actions": `::error title=TITLE::MESSAGE`, escaped as its
    toolkit does.
    """
    for finding in verdict.findings:
        message = f"{finding.message} {finding.advice} See {finding.page}"
        yield _command(LEVELS[finding.severity], f"{finding.code} ({run})", message, paint)
    message = f"Verdict: {verdict.status}"
    undecided = [item.name for item in verdict.criteria if item.state == "undetermined"]
    if undecided and verdict.status == "undetermined":
        message += f" (open: {', '.join(undecided)})"
    yield _command(LEVELS[verdict.status], f"ptmetrics ({run})", message, paint)


def _command(level: str, title: str, message: str, paint: Paint) -> str:
    title = _escaped(printable(title, paint.encoding), "%:,")
    message = _escaped(printable(message, paint.encoding), "%")
    return f"::{level} title={title}::{message}"


def _escaped(text: str, signs: str) -> str:
    for sign in signs:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
