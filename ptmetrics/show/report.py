"""`report`: one self-contained HTML file of one or more runs, from their records alone."""

import base64
import gc
import hashlib
import io
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ptmetrics import __version__
from ptmetrics.errors import DataError, DependencyError
from ptmetrics.metrics import threshold_search as search
from ptmetrics.record.atomic import replace
from ptmetrics.record.run_folder import find_runs
from ptmetrics.record.samples import is_of_classes
from ptmetrics.show import charts
from ptmetrics.show.charts import Curve
from ptmetrics.show.html import TEMPLATES, cut, digits, page_environment, part, seconds
from ptmetrics.show.tables import headlines, most_confused
from ptmetrics.verdict.compare import compare
from ptmetrics.verdict.evidence import judged_row
from ptmetrics.verdict.finding import Verdict, percent
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.picked import Epoch, evaluation_of, picked
from ptmetrics.verdict.sources import OneRun, run_behind

MOST_CURVES = 10  # curves of more classes hide one another
MOST_FULL = 4
MOST_SAMPLES = 30
MOST_THRESHOLDS = 40
MOST_SETTINGS = 200
MOST_TOLD = 20
MARGINS = {"left": 0.14, "right": 0.985, "bottom": 0.15, "top": 0.91}
SQUARE = (4.4, 4.3)
TALL = {"left": 0.13, "right": 0.98, "bottom": 0.12, "top": 0.86}
BAR_MARGINS = {"left": 0.02, "right": 0.98, "bottom": 0.35, "top": 0.78}
"""Where the axes of a chart lie in it, and of one that is a bar alone."""
PHASE_WORDS = {
    "data_wait_s": "waiting for data",
    "train_s": "forward and backward",
    "val_s": "validation",
    "other_s": "other",
}
"""Where the time of an epoch goes, by its name in the record."""
COLOURS = ("ink", "muted", "line", "paper", *(f"c{place}" for place in range(10)))
"""What the style sheet calls the colours of a chart; number i is drawn as #0101ii."""
DRAWN_AS = {name: f"#0101{place:02x}" for place, name in enumerate(COLOURS)}


def report(
    runs: OneRun | Sequence[OneRun],
    path: str | os.PathLike[str] = "report.html",
    *,
    target: str | None = None,
    epoch: Epoch | None = None,
    split: str = "val",
    **judging: Any,
) -> Path:
    """Write one HTML file about runs: verdict, curves, classes, thresholds, samples, time.

    The file needs nothing else: no network, no folder beside it. Two arms of runs, such as
    pretrained and from scratch, are compared.

    Args:
        runs: A run folder, a folder with several of them, a log, a monitor or a history; or a
            sequence of these. The verdict of the first stands in front.
        path: The file.
        target: Level that both arms must reach, such as "val/accuracy>=0.9".
        epoch: Epoch that is judged and shown, as for `judge`.
        split: Split that is judged and shown.
        **judging: Further arguments of `judge`, such as `profile`.

    Returns:
        The path of the file.

    Raises:
        DependencyError: If matplotlib is not installed.
        ConfigError: If the epoch, the split or an argument of `judge` is unknown.
        DataError: If there is no run.
        RecordError: If a run cannot be read.

    Example:
        >>> import tempfile, torch
        >>> import ptmetrics as pm
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with pm.Monitor(pm.MulticlassMetrics(2, inputs="labels"), f"{folder}/run") as monitor:
        ...         monitor.update(torch.arange(90) % 2, torch.arange(90) % 2, split="val")
        ...         _ = monitor.end_epoch()
        ...     file = pm.report(f"{folder}/run", f"{folder}/report.html")
        ...     file.name, file.read_text(encoding="utf-8")[:15]
        ('report.html', '<!doctype html>')
    """
    given: Sequence[Any] = [runs]
    if isinstance(runs, Sequence) and not isinstance(runs, str):
        given = runs
    with _without_collector():
        found = [picked(run, epoch) for each in given for run in _runs_behind(each)]
    if not found:
        raise DataError("runs", "a run, or a sequence of runs", "none", "Name a run folder.")
    verdicts = [judge(run, split=split, **judging) for run in found]
    page = report_html(found, verdicts, split=split, target=target)
    goal = Path(path)
    replace(goal, lambda file: file.write(page.encode()))
    return goal


@contextmanager
def _without_collector() -> Iterator[None]:
    """Records are millions of objects without a cycle: to look for one takes a third of the time."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _runs_behind(source: Any) -> list[Any]:
    if isinstance(source, str | os.PathLike):
        return [run_behind(path) for path in find_runs(source)]
    run = run_behind(source)
    if run is None:
        cure = "Pass run folders, logs, monitors or histories."
        raise DataError("runs", "a run, or a sequence of runs", type(source).__name__, cure)
    return [run]


def report_html(
    runs: Sequence[Any], verdicts: Sequence[Verdict], *, split: str = "val", target: str | None
) -> str:
    """The page as text.

    Args:
        runs: What was read back, one or more.
        verdicts: The verdict on each.
        split: Split that is shown.
        target: Level that both arms must reach.
    """
    with _drawing():
        several = len(runs) > 1
        pages = [
            RunPage(place, run, verdict, split, several)
            for place, (run, verdict) in enumerate(zip(runs, verdicts, strict=True), 1)
        ]
        told: dict[str, Any] = {"runs": pages, "title": _title(pages)}
        for page in _told_in_full(pages):
            page.fill()
        if several:
            told["overview"] = list(_overview(pages))
            names = dict.fromkeys(name for page in pages for name in page.headlines)
            told["headlines"] = list(names)[:3]
            told.update(_compared(pages, target))
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    told["script"] = Markup(script)
    told["script_hash"] = f"sha256-{digest}"
    told["style"] = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return page_environment().get_template("report.html").render(version=__version__, **told)


@dataclass
class RunPage:
    """What a page says about one run.

    Args:
        place: Its number, from 1, in what is drawn of all runs.
        run: What was read back.
        verdict: The verdict on it.
        split: Split that is shown.
        several: Whether there are other runs on the page.
    """

    place: int
    run: Any
    verdict: Verdict
    split: str
    several: bool
    name: str = ""
    sections: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.run.path.name or "run"
        self.arm: str | None = self.run.header.get("arm")
        if self.arm and self.several:
            self.name = f"{self.arm} {self.name}"
        self.told: Mapping[str, Any] = {"scores": {}}
        self.why = ""
        if self.run.epochs:
            row, self.why = judged_row(self.run)
            self.told = evaluation_of(self.run, self.split)
            if self.told is self.run.epochs[row]:
                self.why = f"epoch {self.epoch} of {self.run.epochs[-1]['epoch'] + 1}, {self.why}"
            else:
                self.why = f"as evaluated in epoch {self.epoch}"
        self.headlines = headlines(self.told, self.split)
        self.class_names: Sequence[str] = self.told.get("class_names", ())
        self.course = Course(self.run)

    @property
    def epoch(self) -> int:
        """Number of the epoch that is shown, from 1."""
        return int(self.told.get("epoch", -1)) + 1

    @property
    def trained_s(self) -> float:
        """Seconds of training in all; NaN where they are not recorded."""
        last: Mapping[str, Any] = self.run.epochs[-1] if self.run.epochs else {}
        return charts.finite((last.get("time") or {}).get("train_cumulative_s"))

    @property
    def done(self) -> str:
        """What was done, in a line."""
        epochs = len({epoch["epoch"] for epoch in self.run.epochs})
        words = [f"{epochs} epochs"]
        if epochs == 1:
            words = ["1 epoch"]
        if not isnan(self.trained_s):
            words.append(f"{seconds(self.trained_s)} of training")
        words.append(f"ended: {self.run.end_reason or 'cut off, or still running'}")
        return " · ".join(words)

    @property
    def lead(self) -> str:
        """The score that curves are drawn of: the first of the headlines."""
        return next((name for name in self.headlines if name != "loss"), "loss")

    def fill(self) -> None:
        """Make the sections, those that there is something to show in."""
        for name, title, content_of in SECTIONS:
            content = content_of(self)
            if content:
                self.sections.append(
                    {
                        "id": f"{name}-{self.place}" if self.several else name,
                        "title": title,
                        "body": part("sections.html", name, content),
                    }
                )


class Course:
    """The evaluations of a run in their order, and where they stand on an axis.

    Args:
        run: What was read back.
    """

    def __init__(self, run: Any) -> None:
        rows = [(epoch["epoch"], _steps(epoch), 1, epoch) for epoch in run.epochs]
        for told in run.evaluations:
            if told["why"] == "several":
                rows.append((told["epoch"], told["step"], 0, told))
        rows.sort(key=lambda row: row[:3])
        self.rows = [row[3] for row in rows]
        self.x_name = "epoch"
        self.x: list[float] = [row[0] + 1 for row in rows]
        if len(set(self.x)) < len(rows):  # validated several times an epoch
            self.x_name = "training steps"
            self.x = [row[1] for row in rows]
            if 0 in self.x[1:]:
                self.x_name = "evaluation"
                self.x = list(range(1, len(rows) + 1))

    def line(self, name: str, label: str, **look: Any) -> Curve | None:
        """A score over the run; None where it was never a number."""
        scores = [row["scores"].get(name) or {} for row in self.rows]
        kept = [place for place, score in enumerate(scores) if score]
        value, low, high = (
            np.array([charts.finite(scores[place].get(key)) for place in kept])
            for key in ("value", "low", "high")
        )
        if not np.isfinite(value).any():
            return None
        return Curve(label, [self.x[place] for place in kept], value, low, high, **look)

    def place_of(self, told: Mapping[str, Any]) -> float:
        """Where an evaluation stands; NaN where it is none of these."""
        for x, row in zip(self.x, self.rows, strict=True):
            if row is told:
                return x
        return nan


def _steps(epoch: Mapping[str, Any]) -> int:
    counts: Mapping[str, int] = epoch.get("counts") or {}
    return counts.get("train_steps_cumulative") or 0


# The sections of a run: each is told by what it returns, and left out where that is nothing.


def _curves_section(page: RunPage) -> dict[str, Any]:
    drawn = []
    for score in dict.fromkeys((page.lead, "loss")):
        lines = [
            page.course.line(f"{page.split}/{score}", page.split),
            page.course.line(f"train/{score}", "train", colour="C1", style="--"),
        ]
        shown = [line for line in lines if line is not None]
        marked = page.course.place_of(page.told)
        if shown:
            label = f"{score} over the run, of {' and '.join(line.label for line in shown)}"
            label += f"; at the judged epoch {page.epoch} it is {_value_of(page, score)}"
            mark = None
            if not isnan(marked):
                mark = (marked, f"judged, {page.course.x_name} {marked:g}")
            draw = partial(
                charts.draw_lines, lines=shown, x_name=page.course.x_name, y_name=score, marked=mark
            )
            drawn.append(_figure(draw, label))
    if not drawn:
        return {}
    return {"curve_charts": drawn}


def _value_of(page: RunPage, score: str) -> str:
    told = page.told["scores"].get(f"{page.split}/{score}") or {}
    return digits(charts.finite(told.get("value")))


def _scores_section(page: RunPage) -> dict[str, Any]:
    if not page.told["scores"]:
        return {}
    return {
        "headlines": page.headlines,
        "split": page.split,
        "why": page.why,
        "others": dict(page.told["scores"]),
        "slices": (page.told.get("per_slice") or {}).get(page.split),
    }


def _classes_section(page: RunPage) -> dict[str, Any]:
    content: dict[str, Any] = {}
    matrix = (page.told.get("confusion") or {}).get(page.split)
    if not matrix:
        matrix = _matrix_of_samples(page)
    if matrix is not None and len(matrix):
        names = list(page.class_names) or list(map(str, range(len(matrix))))
        pairs = most_confused(matrix)
        label = f"Confusion matrix of {len(matrix)} classes, rows actual"
        if pairs:
            count, actual, predicted = pairs[0]
            label += f"; most confused: {names[actual]} taken for {names[predicted]}, {count} times"
        content["confusion_chart"] = _figure(
            partial(charts.draw_confusion, matrix=matrix, names=names), label, (4.8, 4.6), None
        )
        content["pairs"] = [(count, names[one], names[other]) for count, one, other in pairs]
    columns = (page.told.get("per_class") or {}).get(page.split)
    if content or (columns and page.class_names):
        content["columns"] = columns or {}
        content["class_names"] = page.class_names
    return content


def _matrix_of_samples(page: RunPage) -> Any:
    """Counts of actual and predicted class of the samples that were kept, of many classes."""
    rows = _kept_rows(page)
    classes = len(page.class_names)
    if rows is None or not is_of_classes(rows) or not classes:
        return None
    target = rows["target"]
    predicted = rows["predicted"]
    real = (predicted >= 0) & (predicted < classes) & (target >= 0) & (target < classes)
    places = target[real].astype(np.int64) * classes + predicted[real]
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def _kept_rows(page: RunPage) -> Any:
    if page.split != "val" or "epoch" not in page.told:
        return None
    return page.run.kept(page.told).rows


def _thresholds_section(page: RunPage) -> dict[str, Any]:
    rows = None
    if page.split == "val" and "epoch" in page.told:
        rows = page.run.curves(page.told).rows
    if rows is None or not len(rows):
        return {}
    heads = sorted(set(rows["head"].tolist()), key=_auroc_of(page))
    names = dict(enumerate(page.class_names))
    roc = []
    precision_recall = []
    for place, head in enumerate(heads[:MOST_CURVES]):
        label = ""
        if len(heads) > 1:
            label = str(names.get(head, head))
        of_head = rows[rows["head"] == head]
        roc.append(_roc_line(of_head, label, f"C{place}"))
        precision_recall.append(_precision_recall_line(of_head, label, f"C{place}"))
    content: dict[str, Any] = {}
    told = ""
    if len(heads) > MOST_CURVES:
        told = f" of the {MOST_CURVES} of {len(heads)} with the least area below it"
    if len(heads) == 1:
        rows = np.sort(rows, order="threshold")
        choices = _choices(rows, page)
        content = _threshold_table(rows, choices)
        for place, (aim, choice) in enumerate(choices.items(), 1):
            if choice.row is not None:
                one = rows[choice.row : choice.row + 1]
                roc.append(_roc_line(one, aim, f"C{place}"))
                precision_recall.append(_precision_recall_line(one, aim, f"C{place}"))
    content["threshold_charts"] = [
        _figure(partial(charts.draw_roc, lines=roc), f"ROC curve{told}", SQUARE, TALL),
        _figure(
            partial(charts.draw_precision_recall, lines=precision_recall),
            f"Precision against recall{told}",
            SQUARE,
            TALL,
        ),
    ]
    return content


def _auroc_of(page: RunPage) -> Callable[[int], float]:
    """What orders heads: the worst first, where that is recorded."""
    columns = (page.told.get("per_class") or {}).get(page.split) or {}
    areas = dict(enumerate(columns.get("auroc", {}).get("value", ())))
    return lambda head: areas.get(head, 1.0)


def _rate(part: Any, whole: Any) -> Any:
    return np.where(whole > 0, part / np.maximum(whole, 1e-300), nan)


def _roc_line(rows: Any, name: str, colour: str) -> Curve:
    """From no call at all to all called; as `Run.curves` tells what its rows are."""
    x = _rate(rows["fp"], rows["fp"] + rows["tn"])
    y = _rate(rows["tp"], rows["tp"] + rows["fn"])
    if len(rows) > 1:
        x = np.append(x, 0.0)
        y = np.append(y, 0.0)
    return Curve(name, x, y, colour=colour)


def _precision_recall_line(rows: Any, name: str, colour: str) -> Curve:
    x = _rate(rows["tp"], rows["tp"] + rows["fn"])
    y = _rate(rows["tp"], rows["tp"] + rows["fp"])
    if len(rows) > 1:
        x = np.append(x, 0.0)
        y = np.append(y, 1.0)
    return Curve(name, x, y, colour=colour)


def _choices(rows: Any, page: RunPage) -> dict[str, search.Choice]:
    """What is advised, by its aim."""
    cuts = search.Cuts.of(rows["threshold"], rows["tp"], rows["fp"])
    choices = {"best F1": search.best_fbeta(cuts, 1.0)}
    whole = float(sum(rows[0][name] for name in ("tp", "fp", "tn", "fn")))
    if whole == (page.told.get("counts") or {}).get("val_samples"):  # no sum of weights
        choices["recall of 95 %"] = search.recall_at_least(cuts, 0.95, 0.05)
    for aim, choice in list(choices.items()):
        if choice.row == len(rows):  # nothing is called positive
            del choices[aim]
    return choices


def _threshold_table(rows: Any, choices: Mapping[str, search.Choice]) -> dict[str, Any]:
    """Thresholds that are advised, and a table around them."""
    advice = {}
    chosen = []
    for aim, choice in choices.items():
        advice[aim] = choice.reason
        if choice.row is not None:
            row = rows[choice.row]
            advice[aim] = (
                f"threshold {row['threshold']:.6g} (probability {row['probability']:.4f}): "
                f"{choice.reason}"
            )
            chosen.append(choice.row)
    spread = np.linspace(0, len(rows) - 1, min(MOST_THRESHOLDS, len(rows))).astype(int)
    table = []
    for place in sorted({*spread.tolist(), *chosen}):
        row = rows[place]
        table.append(
            {
                "threshold": float(row["threshold"]),
                "probability": float(row["probability"]),
                "precision": float(_rate(row["tp"], row["tp"] + row["fp"])),
                "recall": float(_rate(row["tp"], row["tp"] + row["fn"])),
                **{name: f"{row[name]:,.6g}" for name in ("tp", "fp", "tn", "fn")},
                "chosen": place in chosen,
            }
        )
    return {"advice": advice, "thresholds": table}


def _calibration_section(page: RunPage) -> dict[str, Any]:
    if page.split != "val" or "epoch" not in page.told:
        return {}
    bins = page.run.reliability(page.told).rows
    if bins is None or not (bins["weight"] > 0).any():
        return {}
    label = "Share that is right against the mean confidence, in bins of equal width"
    ece = page.told["scores"].get("val/ece")
    if ece:
        label += f"; the expected calibration error is {digits(charts.finite(ece['value']))}"
    return {
        "calibration_chart": _figure(
            partial(charts.draw_calibration, bins=bins), label, SQUARE, TALL
        )
    }


def _samples_section(page: RunPage) -> dict[str, Any]:
    rows = _kept_rows(page)
    if rows is None or not len(rows):
        return {}
    kept = page.run.kept(page.told)
    names = dict(enumerate(page.class_names))
    told = f"{len(rows):,} samples were kept."
    places, worst = kept.worst(MOST_SAMPLES)
    if is_of_classes(rows):
        wrong_places, wrong = kept.misclassified()
        share = percent(len(wrong) / len(rows))
        told += f" {len(wrong):,} of them, {share}, were misclassified."
        if not len(worst):  # no losses are known
            places, worst = wrong_places[:MOST_SAMPLES], wrong[:MOST_SAMPLES]
    table = []
    for place, row in zip(places.tolist(), worst, strict=True):
        cells: dict[str, Any] = {"place": str(place)}
        for name in worst.dtype.names:
            value = row[name].item()
            if name in ("target", "predicted") and isinstance(value, int):
                value = names.get(value, str(value))
            cells[name] = value
        table.append(cells)
    return {"samples": table, "samples_told": told}


def _time_section(page: RunPage) -> dict[str, Any]:
    times = [epoch.get("time") or {} for epoch in page.run.epochs]
    parts = {
        words: sum(time.get(name) or 0.0 for time in times) for name, words in PHASE_WORDS.items()
    }
    parts = {words: spent for words, spent in parts.items() if spent > 0}
    whole = sum(parts.values())
    if not whole:
        return {}
    told = {words: f"{seconds(spent)}, {percent(spent / whole)}" for words, spent in parts.items()}
    label = "Where the time went: " + ", ".join(f"{words} {told[words]}" for words in parts)
    draw = partial(charts.draw_shares, parts=parts, unit="seconds")
    step = (page.told.get("time") or {}).get("step_ms")
    if step:
        told["a step, median"] = f"{step['p50']:.4g} ms"
        told["a step, 95 %"] = f"{step['p95']:.4g} ms"
    return {"time_chart": _figure(draw, label, (4.8, 1.2), BAR_MARGINS), "time": told}


def _environment_section(page: RunPage) -> dict[str, Any]:
    header = page.run.header
    facts: dict[str, Any] = {"run": str(page.run.path), **header.get("environment", {})}
    for name in ("created", "seed", "arm", "val_fingerprint"):
        if header.get(name) is not None:
            facts[name] = header[name]
    settings = _flattened({name: header.get(name) or {} for name in ("metrics", "config")})
    told = [
        f"{fault['where']}, {fault['count']} ×: {fault['message']}" for fault in page.run.faults
    ]
    told += [str(problem) for problem in page.run.problems]
    told += [note["message"] for note in page.run.notes]
    return {
        "environment": facts,
        "settings": dict(islice(settings, MOST_SETTINGS)),
        "told": told[:MOST_TOLD],
    }


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings within settings, by their names in a row."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


SECTIONS = (
    ("curves", "Learning curves", _curves_section),
    ("scores", "Scores", _scores_section),
    ("classes", "Classes", _classes_section),
    ("thresholds", "Thresholds", _thresholds_section),
    ("calibration", "Calibration", _calibration_section),
    ("samples", "Samples to look at", _samples_section),
    ("time", "Where the time went", _time_section),
    ("environment", "Environment", _environment_section),
)


# Several runs.


def _told_in_full(pages: Sequence[RunPage]) -> Sequence[RunPage]:
    """All of a few runs; of many the first of each arm, for nobody reads the others' sections."""
    if len(pages) <= MOST_FULL:
        return pages
    arms: dict[str | None, RunPage] = {}
    for page in pages:
        arms.setdefault(page.arm, page)
    return list(arms.values())


def _title(pages: Sequence[RunPage]) -> str:
    if len(pages) == 1:
        return pages[0].name
    return f"{len(pages)} runs: {', '.join(page.name for page in pages)}"


def _overview(pages: Sequence[RunPage]) -> Iterator[Markup]:
    """Each score of all runs in one chart, of validation."""
    for score in dict.fromkeys((pages[0].lead, "loss")):
        lines = []
        for page in pages:
            look = {"colour": f"C{(page.place - 1) % 10}", "group": f"run-{page.place}"}
            line = page.course.line(f"{page.split}/{score}", "", **look)
            if line is not None:
                lines.append(line)
        if lines:
            label = f"{score} of {pages[0].split}, one line a run"
            draw = partial(
                charts.draw_lines, lines=lines, x_name=pages[0].course.x_name, y_name=score
            )
            yield _figure(draw, label)


def _compared(pages: Sequence[RunPage], target: str | None) -> dict[str, Any]:
    """Two arms held against each other; each is one run, or the runs that name it."""
    arms: dict[str, list[Any]] = {}
    for page in pages:
        arms.setdefault(page.arm or page.name, []).append(page.run)
    if len(arms) != 2:
        return {}
    first, second = arms.values()
    try:
        comparison = compare(first, second, target=target)
    except DataError as error:
        return {"no_comparison": f"The two cannot be compared. {error}"}
    names = list(arms)
    label = f"Score of {names[0]} and {names[1]} against the time of training"
    draw = partial(charts.draw_comparison, comparison=comparison, names=names)
    chart = _figure(draw, label)
    return {"comparison": comparison, "comparison_chart": chart, "arms": names}


# How a chart becomes part of the page.


def _drawing() -> Any:
    """The settings of matplotlib under which charts of a page are drawn."""
    try:
        from cycler import cycler
        from matplotlib import rc_context
    except ImportError:
        cure = "Run pip install 'ptmetrics[report]'."
        raise DependencyError("matplotlib", "it for a report", "no such package", cure) from None
    ink = DRAWN_AS["ink"]
    muted = DRAWN_AS["muted"]
    colours = [DRAWN_AS[f"c{place}"] for place in range(10)]
    return rc_context(
        {
            "axes.prop_cycle": cycler(color=colours),
            "axes.edgecolor": muted,
            "axes.facecolor": "none",
            "axes.labelcolor": muted,
            "figure.facecolor": "none",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 9,
            "svg.fonttype": "none",
            "svg.hashsalt": "ptmetrics",
            "text.color": ink,
            "text.parse_math": False,
            "xtick.color": muted,
            "ytick.color": muted,
        }
    )


def _figure(
    draw: Callable[[Any], Any],
    label: str,
    size: tuple[float, float] = (4.8, 3.1),
    margins: Mapping[str, float] | None = MARGINS,
) -> Markup:
    """A chart with its caption, which a screen reader tells in its place.

    Args:
        draw: Draws into the axes that it is given.
        label: What can be seen.
        size: In inches.
        margins: As shares of the size; None to find them, which takes as long as to draw.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(size, layout=None if margins else "constrained")
    if margins:
        figure.subplots_adjust(**margins)
    draw(figure.add_subplot())
    canvas: Any = FigureCanvasSVG(figure)
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of signs that the font lacks: the reader's has them
        canvas.print_svg(file, metadata={"Date": None})
    label = cut(label, 300)
    chart = Markup('<figure><svg role="img" aria-label="{}"').format(label)
    chart += Markup(_themed(file.getvalue()))
    return chart + Markup('<figcaption aria-hidden="true">{}</figcaption></figure>').format(label)


def _themed(svg: str) -> str:
    """What matplotlib wrote, behind its "<svg": colours as the style sheet has them, ids of its own.

    Sizes are left to the page, and a hundredth of a point is as exact as anyone can see.
    """
    svg = svg[svg.index("<svg") + len("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    own = f"{zlib.crc32(svg.encode()):08x}-"
    svg = re.sub(r'\bid="(run-\d+)"', r'class="\1"', svg)
    svg = re.sub(r'(\bid="|"#|\(#)', rf"\g<1>{own}", svg)
    svg = re.sub(r"#0101([0-9a-f]{2})\b", lambda found: _variable(found[1]), svg)
    svg = re.sub(r"font: ([\d.]+px) 'DejaVu Sans'[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r' d="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)
    return re.sub(r">\s+<", "><", svg)


def _variable(place: str) -> str:
    return f"var(--{COLOURS[int(place, 16)]})"
