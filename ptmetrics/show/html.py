"""How results become HTML: one set of templates for the report and the notebook, one border for text."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from ptmetrics.digits import number, numbers
from ptmetrics.record.events import AUDIT_PARTS
from ptmetrics.record.history import History
from ptmetrics.record.printable import printable, quantity
from ptmetrics.show.opinion import (
    MARKS,
    STYLES,
    estimate_text,
    level_text,
    ratio_text,
    saved,
    saving,
)
from ptmetrics.show.tables import headlines
from ptmetrics.verdict.finding import float_of, percent, plain

TEMPLATES = Path(__file__).parent / "templates"
MOST_TEXT = 2000
MOST_NAME = 60
MOST_EVIDENCE = 400
MOST_EPOCHS, WIDEST = 50, 8
MEANINGS = {
    "ready": "Every criterion is met, and nothing that was found stands in the way.",
    "not ready": "At least one criterion is failed, or something found must be mended first.",
    "undetermined": "Nothing failed, but at least one criterion cannot be decided from these data.",
    "invalid": "The numbers cannot be trusted, so they say nothing about the model.",
}
"""What a status means, in a sentence."""


def shown(value: Any) -> Any:
    """The one border that every value passes on its way into a page; what follows escapes it.

    Numbers as a person reads them; of text what can be seen, and not without end.
    """
    if isinstance(value, Markup):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _signed(number(value))
    return cut(str(value), MOST_TEXT).replace(" %", "\N{NO-BREAK SPACE}%")


def _signed(text: str) -> str:
    return text.replace("nan", "–").replace("inf", "∞")


def bounded_cell(
    value: float | None, low: float | None, high: float | None, *beside: float
) -> Markup:
    """A number with its bounds, in one format, for a cell; without them where there are none.

    Args:
        value: The number; None, which stands for NaN in JSON, is NaN.
        low: Its lower bound.
        high: Its upper bound.
        *beside: What it is held against.
    """
    told, *ends = map(_signed, numbers(*map(float_of, (value, low, high, *beside))))
    if ends[0] == "–":
        return Markup(told)
    return Markup(f"{told} <small>[{ends[0]}, {ends[1]}]</small>")


def cut(text: Any, size: int = MOST_NAME) -> Any:
    """A text of at most so many signs that can be seen; what is none stays as it is."""
    if not isinstance(text, str):
        return text
    if len(text) > size:
        text = f"{text[: size - 1]}…"
    return printable(text)


def _in_a_line(value: Any) -> str:
    """Evidence or configuration of any shape as one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, str):
        value = json.dumps(plain(value), ensure_ascii=False)
    return str(cut(value, MOST_EVIDENCE))


def _style(word: str) -> str:
    """The class of a status, of a severity or of the state of a criterion."""
    if word in MARKS:
        return MARKS[word][1]
    return STYLES.get(word, "")


def picture(pixels: Any, words: str) -> Markup:
    """A small picture of shape (1 or 3, height, width), 8 bits a channel, as data of the page.

    Args:
        pixels: What is seen.
        words: What it is, for those who do not see it.
    """
    from PIL import Image

    three = np.repeat(pixels, 3 // len(pixels), axis=0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(three.transpose(1, 2, 0))).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    tag = Markup('<img class="picture" alt="{}" src="data:image/png;base64,{}">')
    return tag.format(cut(words, 300), data)


def seconds(value: float) -> str:
    """A time in the unit that fits it."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 90:
        return f"{value:.1f} s"
    if value < 5400:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"


@cache
def page_environment() -> Environment:
    """The templates, with what they may call."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(audit_parts=AUDIT_PARTS, bounded_cell=bounded_cell)
    made.filters.update(
        clipped=cut,
        estimate=estimate_text,
        level=level_text,
        meaning=MEANINGS.__getitem__,
        percent=percent,
        quantity=quantity,
        ratio=ratio_text,
        saved=saved,
        saving=saving,
        seconds=seconds,
        short=_in_a_line,
        style=_style,
    )
    return made


def part(template: str, name: str, *arguments: Any) -> Markup:
    """What a macro of a template makes of its arguments."""
    module: Any = page_environment().get_template(template).module
    made: Markup = getattr(module, name)(*arguments)
    return made


def for_notebook(name: str, *arguments: Any) -> str:
    """A part of the report as a notebook shows it, with its style."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return f'<style>{style}</style><div class="ptm">{part("parts.html", name, *arguments)}</div>'


def scores_html(told: Mapping[str, Any], caption: str) -> str:
    """The scores of one evaluation for a notebook: those wanted first, all, and of each class.

    Args:
        told: What `to_dict` of scores gives.
        caption: What they are of.
    """
    named = {f"val/{name}": score for name, score in told["scores"].items()}
    rows = headlines({"scores": named, "counts": {"val_samples": told["n"]}}, "val")
    columns = told["per_class"]
    names = told["class_names"]
    return for_notebook("evaluation", caption, rows, told["scores"], names, columns)


def epoch_html(epoch: Mapping[str, Any], caption: str) -> str:
    """The scores of one epoch for a notebook: those of each split that are wanted first, and all."""
    rows = {}
    for split in dict.fromkeys(name.partition("/")[0] for name in epoch["scores"]):
        for name, score in headlines(epoch, split).items():
            rows[f"{split}/{name}"] = score
    return for_notebook("evaluation", caption, rows, epoch["scores"])


def history_html(history: History) -> str:
    """The epochs of a run for a notebook, the last ones of many: the scores that are wanted first."""
    if not history.epoch:
        return for_notebook("notes", ["No epoch was closed yet."])
    beside = ("time/", "counts/")
    scores: dict[str, Any] = {name: {} for name in history if not name.startswith(beside)}
    told = {"scores": scores}
    splits = dict.fromkeys(["val", *(name.partition("/")[0] for name in scores if "/" in name)])
    leading = [f"{split}/{name}" for split in splits for name in headlines(told, split)]
    losses = [name for name in scores if name.endswith("/loss")]
    names = list(dict.fromkeys([*losses, *(leading or scores)]))[:WIDEST]
    columns = [history[name] for name in names]
    rows = list(zip(history.epoch, *columns, strict=True))
    caption = quantity(len(rows), "epoch")
    if len(rows) > MOST_EPOCHS:
        caption = f"The last {MOST_EPOCHS} of {len(rows)} epochs"
    if len(scores) > len(names):
        caption += f", {len(names)} of {len(scores)} scores"
    return for_notebook("history", caption, names, rows[-MOST_EPOCHS:])


def audit_html(
    told: Mapping[str, Any], pictures: Mapping[int, Sequence[Any]], labels: Sequence[Any]
) -> str:
    """An audit for a notebook.

    Args:
        told: What `to_record` of an audit gives.
        pictures: Those of some pairs, first that of training, by their rows of validation.
        labels: Those of the validation rows.
    """
    pairs = {}
    for row, both in pictures.items():
        words = (f"training, twin of validation row {row}", f"validation row {row}")
        seen = [picture(*one) for one in zip(both, words, strict=True) if one[0] is not None]
        pairs[row] = Markup("").join(seen)
    known = {row: f"label {label}" for row, label in enumerate(labels) if label is not None}
    return for_notebook("audit", told, pairs, known)
