"""What the site shows beside docs/*.md, made when it is built, so that nothing stands in two places.

README.md and the other pages at the top, the examples, a page for each finding (texts of
`ptmetrics.verdict.pages`, measured rates of rules.md), the reference of the public names (a page
for each part of the package) and of the command line. Links are set to where things stand here.
"""

import argparse
import ast
import importlib
import inspect
import os
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

import ptmetrics as pm
from ptmetrics import cli
from ptmetrics.metrics import functional
from ptmetrics.verdict.pages import known_pages, profile_columns, threshold_row

ROOT = Path(__file__).parents[2]
TOP = {
    "README.md": "index.md",
    "BENCHMARKS.md": "benchmarks.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
EFFECTS = {
    "invalid": "nothing can be concluded from these numbers, `ptmetrics check` ends with 4",
    "fail": "the model is not ready, `check` ends with 1",
    "undetermined": "it cannot be told, `check` ends with 3",
    "warning": "it is told beside the verdict and does not decide it",
    "info": "it is told beside the verdict and does not decide it",
}
PARTS = {
    "metrics": ("Metrics and scores", ("metrics", "counts", "advice")),
    "monitor": ("Monitor, callbacks, records", ("monitor", "record")),
    "verdict": ("Verdict and report", ("verdict", "matrix", "show")),
    "leakage": ("Leaked data and hygiene", ("leakage",)),
    "integrations": ("Trackers and other libraries", ("integrations",)),
}
ERRS = (
    "A *false alarm* raises it where it should be silent, often at the very edge of what is "
    "tolerated; *power* is how often a planted flaw is found: "
    "[how this was measured](index.md#how-the-rates-were-measured).\n"
)
LINE = 80
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


# Pages that are made of something else


def on_config(config: Any) -> None:
    """Put the generated pages into the navigation."""
    generated = {
        "Findings": ["findings/index.md", *(f"findings/{code}.md" for code in finding_codes())],
        "Reference": [{title: uri} for uri, (title, _) in reference_pages().items()],
    }
    generated_examples = ["examples/index.md", *(f"examples/{path.stem}.md" for path in examples())]
    for entry in config.nav:
        for title in generated:
            if title in entry:
                entry[title] = generated[title]
        for item in entry.get("Start", ()):
            if "Examples" in item:
                item["Examples"] = generated_examples


def on_files(files: Any, config: Any) -> None:
    """Add every page that no file of docs/ holds."""
    for uri, text in generated_pages():
        files.append(File.generated(config, uri, content=text))


def generated_pages() -> Iterator[tuple[str, str]]:
    """Places on the site, and the Markdown there."""
    for name, uri in TOP.items():
        yield uri, (ROOT / name).read_text(encoding="utf-8")
    yield "examples/index.md", examples_page()
    for path in examples():
        text = path.read_text(encoding="utf-8")
        yield f"examples/{path.stem}.md", f"# {path.name}\n\n```python\n{text}```\n"
    yield "findings/index.md", findings_page()
    for code in finding_codes():
        yield f"findings/{code}.md", finding_page(code)
    for uri, (_, text) in reference_pages().items():
        yield uri, text


def examples() -> list[Path]:
    """The scripts of examples/."""
    return sorted((ROOT / "examples").glob("*.py"))


def examples_page() -> str:
    """What each script shows."""
    lines = ["# Examples\n", "Whole scripts, to read and to run.\n"]
    lines += ["| script | what it shows |", "|---|---|"]
    for path in examples():
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = told.split("\n\n")[0].replace("\n", " ")
        lines.append(f"| [{path.name}]({path.stem}.md) | {first} |")
    return "\n".join(lines) + "\n"


# Findings


def finding_codes() -> list[str]:
    """All codes, by the alphabet."""
    return sorted(known_pages())


def rules_sections() -> dict[str, str]:
    """The sections of docs/rules.md by their heads; that of the top is called ""."""
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    top, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    return {"": top, **{part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in rest}}


def findings_page() -> str:
    """How to read them, all codes, and how good they are together."""
    lines = [
        "# Findings\n",
        "What `ptmetrics check`, `judge` and `compare` can say, a page each: what was seen, why it "
        "matters, what to do, what decides it, and how often it is wrong. On a terminal `ptmetrics "
        "check --explain CODE` prints the same; `--select` and `--ignore` take these codes.\n",
        "| severity | what it does to the verdict |",
        "|---|---|",
    ]
    lines += [f"| {severity} | {effect} |" for severity, effect in EFFECTS.items()]
    lines += ["", "| code | severity | what was seen |", "|---|---|---|"]
    for code in finding_codes():
        page: Any = known_pages()[code]
        first = re.split(r"(?<=[.]) (?=[A-Z])", page.meaning)[0]
        lines.append(f"| [{code}]({code}.md) | {page.severity} | {first} |")
    sections = rules_sections()
    told = re.search(r"Rates are shares.*?\n\n.*?\n\n", sections[""], re.DOTALL)
    assert told is not None, "docs/rules.md: expected how the rates were measured, got none."
    lines += ["\n## How the rates were measured\n", told[0]]
    known = {"", *finding_codes()}
    for head, text in sections.items():
        if head not in known:
            lines.append(f"\n## {head}\n\n{text}\n")
    return "\n".join(lines)


def finding_page(code: str) -> str:
    """One page, from the text of the package and what was measured."""
    page: Any = known_pages()[code]
    measured = rules_sections().get(code, "").split("\n\n")
    shown = [part for part in measured if part.startswith(("> ", "Evidence, "))]
    rates = [part for part in measured if part.startswith("| rate")]
    severities = re.split(", | or ", page.severity)
    effects = [f"**{severity}**: {EFFECTS[severity]}" for severity in severities]
    lines = [f"# {code}\n", f"{'; '.join(effects)}.\n"]
    lines += ["## What was seen\n", page.meaning, ""]
    if shown:
        lines += ["For example:\n", *(f"{part}\n" for part in shown)]
    lines += ["## Why it matters\n", page.why, "", "## What to do\n", page.advice, ""]
    if page.thresholds:
        lines += ["## What decides it\n", "Thresholds of each profile; a TOML profile sets them.\n"]
        head = ("threshold", *profile_columns().values())
        lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        lines += [f"| {' | '.join(threshold_row(name))} |" for name in page.thresholds]
        lines.append("")
    lines.append("## How often it errs\n")
    if rates:
        lines += [ERRS, *rates]
    else:
        lines.append("There is no rate to measure: it is raised where an error was caught.")
    ignored = f'`ptmetrics check RUN --ignore {code}`, `pm.judge(run, ignore=["{code}"])`'
    if code != "rule-failed":
        lines.append(f"\nTo leave it out: {ignored}.")
    return "\n".join(lines) + "\n"


# Reference


def reference_pages() -> dict[str, tuple[str, str]]:
    """Titles and texts of the reference by their places."""
    pages = {"reference/index.md": ("All names", names_page())}
    for part, (title, _) in PARTS.items():
        members = [f"::: ptmetrics.{name}\n" for name in part_names(part)]
        pages[f"reference/{part}.md"] = (title, "\n".join([f"# {title}\n", *members]))
    pages["reference/functional.md"] = ("Functions of one score", functional_page())
    pages["reference/testing.md"] = ("Testing", module_page("Testing", "ptmetrics.testing"))
    pages["reference/errors.md"] = ("Errors", module_page("Errors", "ptmetrics.errors"))
    pages["reference/cli.md"] = ("Command line", commands_page())
    return pages


def part_names(part: str) -> list[str]:
    """Public names whose home is one of the part's rooms."""
    rooms = PARTS[part][1]
    homes = {name: home.split(".")[0] for name, home in pm._HOME.items()}
    return [name for name, room in homes.items() if room in rooms and name != "functional"]


def names_page() -> str:
    """Every public name with its first sentence."""
    lines = [
        "# All names\n",
        "`import ptmetrics as pm`; a name is imported when it is first used.\n",
    ]
    shown = {"functional", "PtmetricsError", "__version__"}
    for part, (title, _) in PARTS.items():
        lines += [f"\n## {title}\n", "| name | what it is |", "|---|---|"]
        for name in sorted(part_names(part), key=str.lower):
            summary = (inspect.getdoc(getattr(pm, name)) or "").split("\n\n")[0].replace("\n", " ")
            if isinstance(getattr(pm, name), tuple):
                summary = "The rules that come with the package."
            summary = summary.replace("|", "\\|")
            lines.append(f"| [`pm.{name}`]({part}.md#ptmetrics.{name}) | {summary} |")
            shown.add(name)
    missing = set(pm.__all__) - shown
    assert not missing, f"PARTS: expected a part for every name of __all__, got none for {missing}."
    lines += [
        "\n## Beside them\n",
        "| | |",
        "|---|---|",
        "| [`pm.functional`](functional.md) | one score as one call on whole tensors |",
        "| [`ptmetrics.testing`](testing.md) | laws and guards for metrics of your own |",
        "| [`pm.PtmetricsError`](errors.md) | the root of all errors |",
        "| [`ptmetrics`](cli.md) | the command |",
    ]
    return "\n".join(lines) + "\n"


def module_page(title: str, module: str) -> str:
    """Public classes and functions of a module that are defined there."""
    found = importlib.import_module(module)
    names = [
        name
        for name, value in vars(found).items()
        if getattr(value, "__module__", "") == module and not name.startswith("_")
    ]
    if module == "ptmetrics.testing":
        names = ["check_metric", "assert_no_sync", "Guard", "HostSync"]
    return "\n".join([f"# {title}\n", *(f"::: {module}.{name}\n" for name in names)])


def functional_page() -> str:
    """The functions of `pm.functional`, with their arguments and first sentences."""
    lines = [
        "# Functions of one score\n",
        inspect.getdoc(functional) or "",
        "",
    ]
    by_hand = ["multiclass", "binary", "multilabel", "regression"]
    for name in [*by_hand, *functional.SINGLES]:
        function = getattr(functional, name)
        summary = (inspect.getdoc(function) or "").split("\n\n")[0]
        arguments = [*map(argument_text, inspect.signature(function).parameters.values())]
        call = f"{name}({', '.join(arguments)})"
        if len(call) > LINE:
            call = "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), ")"])
        lines += [f"## {name}\n", f"```python\n{call}\n```\n", summary, ""]
    return "\n".join(lines)


def argument_text(parameter: inspect.Parameter) -> str:
    """An argument with its default, without its type."""
    name = str(parameter.replace(annotation=inspect.Parameter.empty))
    if parameter.kind == parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
        return f"{name}=…"
    return name


def commands_page() -> str:
    """The help of `ptmetrics` and of each command."""
    os.environ["COLUMNS"] = "88"
    parser = cli._parser()
    lines = ["# Command line\n", f"```text\n{parser.format_help()}```\n"]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                lines += [f"## ptmetrics {name}\n", f"```text\n{command.format_help()}```\n"]
    return "\n".join(lines)


# Links


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Set links to where things stand on the site; what does not stand there is named as code."""
    uri = page.file.src_uri
    sources = {target: source for source, target in TOP.items()}
    here = sources.get(uri, f"docs/{uri}")

    def moved(match: re.Match[str]) -> str:
        mark, words, link = match.groups()
        if "://" in link or link.startswith("#"):
            return match[0]
        path, sign, anchor = link.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        target = site_place(place, anchor)
        if target is None:
            return f"`{place}`"
        if place == "docs/rules.md" and anchor in known_pages():
            sign = anchor = ""
        if words.endswith(".md"):
            words = f"“{title_of(target)}”"
        relative = posixpath.relpath(target, posixpath.dirname(uri) or ".")
        return f"{mark}[{words}]({relative}{sign}{anchor})"

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def site_place(place: str, anchor: str) -> str | None:
    """Where on the site a file of the repository stands, or None."""
    if place == "docs/rules.md":
        if anchor in known_pages():
            return f"findings/{anchor}.md"
        return "findings/index.md"
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    if place.startswith("examples/") and place.endswith(".py"):
        return place.removesuffix(".py") + ".md"
    return TOP.get(place)


@cache
def title_of(uri: str) -> str:
    """The title of a page, for links whose words are the name of its file."""
    if uri.startswith("findings/"):
        return "Findings"
    sources = {target: source for source, target in TOP.items()}
    text = (ROOT / sources.get(uri, f"docs/{uri}")).read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ")
