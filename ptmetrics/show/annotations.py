"""A verdict as workflow commands of GitHub Actions, which show beside the change that they are about."""

from collections.abc import Iterator, Mapping

from ptmetrics.verdict.finding import Severity, Verdict

LEVEL: Mapping[Severity, str] = {
    "invalid": "error",
    "fail": "error",
    "undetermined": "warning",
    "warning": "warning",
    "info": "notice",
}


def annotations(run: str, verdict: Verdict) -> Iterator[str]:
    """One line a finding, and one for the verdict; no text of a record can start a command of its own.

    Source: "Workflow commands for GitHub Actions": `::error title=TITLE::MESSAGE`, escaped as its toolkit does.
    """
    for finding in verdict.findings:
        words = f"{finding.message} {finding.advice} See {finding.page}"
        yield _command(LEVEL[finding.severity], f"{finding.code} ({run})", words)
    level = {"ready": "notice", "undetermined": "warning"}.get(verdict.status, "error")
    undecided = [
        criterion.name for criterion in verdict.criteria if criterion.state == "undetermined"
    ]
    more = (
        f" (open: {', '.join(undecided)})" if undecided and verdict.status == "undetermined" else ""
    )
    yield _command(level, f"ptmetrics ({run})", f"Verdict: {verdict.status}{more}")


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_escaped(title, property=True)}::{_escaped(message)}"


def _escaped(text: str, *, property: bool = False) -> str:  # noqa: A002 — the toolkit's own word
    for character in "%\r\n" + ":," * property:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
