"""Pages that are written from tables: `python -m tests.studies.pages` writes scores.md, faults.md and functional.pyi.

A test holds them to what this module would write.
"""

import inspect
import math
from pathlib import Path

import ptmetrics as pm
from ptmetrics.metrics import functional
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.score_spec import ScoreSpec, as_tables
from tests import fault_rows
from tests.studies.peer_differences import differences_section

ROOT = Path(__file__).parents[2]
SCORES_PAGE = ROOT / "docs" / "scores.md"
FAULTS_PAGE = ROOT / "docs" / "faults.md"
STUB = ROOT / "ptmetrics" / "metrics" / "functional.pyi"
TASKS: tuple[tuple[str, Metrics], ...] = (
    ("Single-label classification", pm.MulticlassMetrics(6, topk=(1, 5), curves=True, temperature=True, beta=2)),
    ("Yes-or-no classification", pm.BinaryMetrics(beta=2, temperature=True)),
    ("Multilabel classification", pm.MultilabelMetrics(3, beta=2)),
    ("Regression", pm.RegressionMetrics()),
    ("Ranking", pm.RankingMetrics()),
)  # fmt: skip
HEAD = """# Scores

What `compute()` returns, from the tables that compute it; `make pages` writes this page. All
intervals are two-sided, 95 %. A score of each class, label or output stands in `scores.per_class`.
With `groups=True`, and by default over the images or texts whose pixels or tokens are the rows, the
interval is a jackknife over groups (`jackknife-groups`). How often the
intervals hold the truth is in [intervals.md](intervals.md); how to add a score, in
[extending.md](extending.md).
"""
ASKED = """
Those below are there where they are asked for by name, `scores=["NAME"]`:

| score | what it is | direction, range | interval | source |
|---|---|---|---|---|"""


def score_line(spec: ScoreSpec) -> str:
    """One row of the table."""
    name = f"`{spec.name}`"
    if spec.each:
        name = f"{name} (each)"
    direction = "rises" if spec.higher_is_better else "falls"
    low, high = (
        bound if math.isfinite(bound) else f"{bound:+}".replace("inf", "∞") for bound in spec.range
    )
    numbers = [f"{x:g}" if isinstance(x, float | int) else x for x in (low, high)]
    what = f"{spec.doc} NaN: {spec.undefined}."
    return f"| {name} | {what} | {direction}, {numbers[0]} to {numbers[1]} | {spec.method or '–'} | {spec.source} |"


def scores_page() -> str:
    """docs/scores.md."""
    parts = [HEAD]
    for title, metrics in TASKS:
        parts.append(f"\n## {title}: `{type(metrics).__name__}`\n")
        parts.append(
            "| score | what it is | direction, range | interval | source |\n|---|---|---|---|---|"
        )
        seen = set()
        for table in as_tables(metrics.score_tables):
            for spec in table.specs:
                if (spec.name, spec.each) not in seen:
                    parts.append(score_line(spec))
                    seen.add((spec.name, spec.each))
        if metrics.asked_tables():
            parts.append(ASKED)
        for table in metrics.asked_tables():
            parts.extend(map(score_line, table.specs))
    return "\n".join(parts) + "\n" + differences_section()


def parameter_text(parameter: inspect.Parameter) -> str:
    """One argument with its type, as a stub writes it."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        annotation = getattr(annotation, "__name__", str(annotation))
        if annotation in ("Optional", "Union", "UnionType"):
            annotation = str(parameter.annotation)
    annotation = annotation.replace("torch.Tensor", "Tensor").replace("collections.abc.", "")
    for score in ("ptmetrics.metrics.score.", "typing.", "torch."):
        annotation = annotation.replace(score, "")
    if annotation in ("Tensor", "Tensor | None"):
        annotation = annotation.replace("Tensor", "Tensor | NDArray[Any]")
    if annotation == "Inputs":
        annotation = 'Literal["logits", "probs", "labels"]'
    if "Curves" in annotation:
        annotation = annotation.replace("Curves", 'Literal["fp16", "fine", "exact"]')
    text = f"{parameter.name}: {annotation}"
    if parameter.kind == parameter.VAR_KEYWORD:
        return f"**{text}"
    if parameter.default is not parameter.empty:
        text = f"{text} = ..."
    return text


def stub_of(name: str) -> str:
    """One function of `ptmetrics.functional`."""
    signature = inspect.signature(getattr(functional, name))
    if name not in functional.SINGLES or not functional.SINGLES[name].averages:
        result = signature.return_annotation
        return signature_text(name, signature, getattr(result, "__name__", str(result)))
    averaged = signature_text(name, signature, "Score").replace(
        "average: str | None = ...", "average: str = ..."
    )
    each = signature_text(name, signature, "tuple[Score, ...]").replace(
        "average: str | None = ...", "average: None"
    )
    return f"@overload\n{averaged}\n@overload\n{each}"


def signature_text(name: str, signature: inspect.Signature, result: str) -> str:
    """A function as a stub writes it."""
    lines = [f"def {name}("]
    keyword = False
    for parameter in signature.parameters.values():
        if parameter.kind == parameter.KEYWORD_ONLY and not keyword:
            lines.append("    *,")
            keyword = True
        lines.append(f"    {parameter_text(parameter)},")
    lines.append(f") -> {result}: ...")
    return "\n".join(lines)


def functional_stub() -> str:
    """functional.pyi: what an editor shows."""
    by_hand = [
        name
        for name, value in vars(functional).items()
        if inspect.isfunction(value) and not name.startswith("_") and name not in functional.SINGLES
        and value.__module__ == functional.__name__
    ]  # fmt: skip
    head = (
        '"""Written by `make pages` from the tables; do not edit."""\n\n'
        "from collections.abc import Callable, Mapping, Sequence\n"
        "from typing import Any, Literal, NamedTuple, overload\n\n"
        "from numpy.typing import NDArray\n"
        "from torch import Tensor\n\n"
        "from ptmetrics.metrics.base import Metrics\n"
        "from ptmetrics.metrics.score import Score, Scores\n\n"
        "class Single(NamedTuple):\n"
        "    task: str\n"
        "    score: str\n"
        "    averages: tuple[str, ...] = ...\n\n"
        "SINGLES: Mapping[str, Single]\n"
        "TASKS: Mapping[str, tuple[Callable[..., Scores], type[Metrics]]]\n"
    )
    return head + "\n" + "\n".join(stub_of(name) for name in (*by_hand, *functional.SINGLES)) + "\n"


def main() -> None:
    """Write all of them."""
    SCORES_PAGE.write_text(scores_page())
    FAULTS_PAGE.write_text(fault_rows.page())
    STUB.write_text(functional_stub())


if __name__ == "__main__":
    main()
