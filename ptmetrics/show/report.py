"""`report`: one self-contained HTML file of one or more runs, from their records alone."""

import base64
import hashlib
import io
import os
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ptmetrics import __version__
from ptmetrics.digits import number, numbers
from ptmetrics.errors import DataError, DependencyError
from ptmetrics.metrics import threshold_search as search
from ptmetrics.record.atomic import replace
from ptmetrics.record.collector import without_collector
from ptmetrics.record.events import AUDIT_NOTE
from ptmetrics.record.printable import quantity
from ptmetrics.record.samples import NOT_STORED, StoredSamples, is_of_classes
from ptmetrics.show import charts
from ptmetrics.show.charts import Curve
from ptmetrics.show.html import TEMPLATES, cut, page_environment, part, picture, seconds, shown
from ptmetrics.show.run import NO_END
from ptmetrics.show.tables import OUTPUT_COLUMNS, headlines, last_audits, most_confused
from ptmetrics.verdict.compare import compare
from ptmetrics.verdict.finding import Verdict, float_of, percent
from ptmetrics.verdict.gathering import judged_row
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.picked import Epoch, evaluation_of, picked
from ptmetrics.verdict.run_groups import runs_of
from ptmetrics.verdict.samples import checksum
from ptmetrics.verdict.sources import OneRun

MOST_CURVES = 10  # curves of more classes hide one another
MOST_FULL = 4
MOST_SAMPLES = 30
MOST_PICTURES = 48
MOST_THRESHOLDS = 40
USUAL_RECALL = 0.95
MOST_SETTINGS = 200
MOST_TOLD = 20
BOUNDED = ("value", "low", "high")
"""Of a score, as its cell in a table shows them in one format."""
Frame = tuple[float, float, Mapping[str, float]]
"""Width and height in inches, and where the axes lie; nowhere to find that, which takes long."""
WIDE: Frame = (4.8, 3.1, {"left": 0.14, "right": 0.985, "bottom": 0.15, "top": 0.91})
SQUARE: Frame = (4.4, 4.3, {"left": 0.13, "right": 0.98, "bottom": 0.12, "top": 0.86})
BARE: Frame = (4.4, 4.0, {"left": 0.13, "right": 0.98, "bottom": 0.12, "top": 0.97})
"""Square as well, where no legend stands above."""
MATRIX: Frame = (4.8, 4.6, {})
BAR: Frame = (4.8, 1.2, {"left": 0.045, "right": 0.98, "bottom": 0.35, "top": 0.78})
PHASE_WORDS = {
    "data_wait_s": "waiting for data",
    "train_s": "forward and backward",
    "val_s": "validation",
    "other_s": "other",
}
"""Where the time of an epoch goes, by its name in the record."""
TOLD_ELSEWHERE = (AUDIT_NOTE, "hygiene", "planned")
"""Codes of notes that a section, findings or the heading tell of."""
SAMPLE_WORDS = {"target": "actual", "predicted": "predicted", "error": "error", "loss": "loss"}
"""Fields of a sample that is shown by its picture, in words."""
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
    with without_collector():
        found: list[Any] = [picked(run, epoch) for run in runs_of("runs", runs)]
        verdicts = [judge(run, split=split, **judging) for run in found]
        page = report_html(found, verdicts, split=split, target=target)
    goal = Path(path)
    replace(goal, lambda file: file.write(page.encode()))
    return goal


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
            told.update(_comparison_of(pages, target))
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    told["script"] = Markup(script)
    told["script_hash"] = f"sha256-{digest}"
    told["style"] = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return page_environment().get_template("report.html").render(version=__version__, **told)


class RunPage:
    """What a page says about one run.

    Args:
        place: Its number, from 1, in what is drawn of all runs.
        run: What was read back.
        verdict: The verdict on it.
        split: Split that is shown.
        several: Whether there are other runs on the page.
    """

    def __init__(self, place: int, run: Any, verdict: Verdict, split: str, several: bool) -> None:
        self.place = place
        self.run = run
        self.verdict = verdict
        self.split = split
        self.sections: list[dict[str, Any]] = []
        self._suffix = f"-{place}" if several else ""
        self.name = run.path.name or "run"
        self.arm: str | None = run.header.get("arm")
        if self.arm and several:
            self.name = f"{self.arm} {self.name}"
        self.told: Mapping[str, Any] = {"epoch": -1, "scores": {}}
        last: Mapping[str, Any] = self.told
        why = "there is none"
        if run.epochs:
            _, why = judged_row(run)
            self.told = evaluation_of(run, split)
            last = run.epochs[-1]
        self.epoch = self.told["epoch"] + 1
        self.why = f"epoch {self.epoch} of {last['epoch'] + 1}, {why}"
        if "why" in self.told:
            self.why = f"as evaluated in epoch {self.epoch}"
        self.trained_s = float_of((last.get("time") or {}).get("train_cumulative_s"))
        self.headlines = headlines(self.told, split, verdict.criteria, run.header)
        self.lead = next((name for name in self.headlines if name != "loss"), "loss")
        self.class_names: Sequence[str] = self.told.get("class_names", ())
        several_times = [told for told in run.evaluations if told["why"] == "several"]
        self._rows = sorted([*several_times, *run.epochs], key=lambda row: row["epoch"])
        self.x_name, self._x = charts.axis_of([row["epoch"] for row in self._rows])

    @property
    def done(self) -> str:
        """What was done, in a line."""
        epochs = len({epoch["epoch"] for epoch in self.run.epochs})
        words = [quantity(epochs, "epoch")]
        if not isnan(self.trained_s):
            words.append(f"{seconds(self.trained_s)} of training")
        words.append(f"ended: {self.run.end_reason or NO_END}")
        return " · ".join(words)

    @property
    def wanted_recall(self) -> float:
        """The recall that is asked for, else 95 %."""
        asked = (each.threshold for each in self.verdict.criteria if each.code == "low-recall")
        return next(asked, USUAL_RECALL)

    def of_split(self, what: str) -> Any:
        """What was recorded of the split beside its scores, such as "confusion"; None without."""
        return (self.told.get(what) or {}).get(self.split)

    def kept(self, what: str) -> StoredSamples:
        """What a file holds of the evaluation: "kept", "curves" or "reliability" of the run."""
        if self.split != "val" or not self.run.epochs:
            return NOT_STORED
        found: StoredSamples = getattr(self.run, what)(self.told)
        return found

    def told_of(self, row: Any) -> dict[str, Any]:
        """What became of a sample: what it is, what was predicted, and how far off that is."""
        told = {}
        names = dict(enumerate(self.class_names))
        for field, words in SAMPLE_WORDS.items():
            if field in row.dtype.names:
                value = row[field].item()
                if isinstance(value, int):
                    value = cut(names.get(value, str(value)))
                told[words] = shown(value)
        return told

    def line(self, name: str, label: str, **look: Any) -> list[Curve]:
        """A score over the run; none where it was never a number."""
        scores = [(x, row["scores"].get(name)) for x, row in zip(self._x, self._rows, strict=True)]
        known = [(x, score) for x, score in scores if score]
        for key in ("value", "low", "high"):
            look[key] = np.array([float_of(score.get(key)) for _, score in known])
        if not np.isfinite(look["value"]).any():
            return []
        return [Curve(label, [x for x, _ in known], look.pop("value"), **look)]

    def judged_at(self) -> tuple[float, str] | None:
        """Where the evaluation that is shown stands on the axis of the curves, in words too."""
        for x, row in zip(self._x, self._rows, strict=True):
            if row is self.told:
                return x, f"judged, {self.x_name} {x:g}"
        return None

    def fill(self) -> None:
        """Make the sections, those that there is something to show in."""
        for name, title, content_of in SECTIONS:
            content = content_of(self)
            if content:
                body = part("sections.html", name, {**content, "class_names": self.class_names})
                self.sections.append({"id": f"{name}{self._suffix}", "title": title, "body": body})


# The sections of a run: each is told by what it returns, and left out where that is nothing.


def _curves_section(page: RunPage) -> dict[str, Any]:
    drawn = []
    for score in dict.fromkeys((page.lead, "loss")):
        lines = page.line(f"{page.split}/{score}", page.split)
        lines += page.line(f"train/{score}", "train", colour="C1", style="--")
        if lines:
            label = f"{score} of {' and '.join(line.label for line in lines)}"
            if score in page.headlines:
                told = page.headlines[score]
                value, *_ = numbers(*(float_of(told.get(key)) for key in BOUNDED))
                label += f"; {value} where {page.split} is judged"
            what: dict[str, Any] = {"lines": lines, "x_name": page.x_name}
            what["marked"] = page.judged_at()
            drawn.append(_figure(WIDE, label, charts.draw_lines, y_name=score, **what))
    if not drawn:
        return {}
    return {"curve_charts": drawn}


def _scores_section(page: RunPage) -> dict[str, Any]:
    if not page.told["scores"]:
        return {}
    return {
        "headlines": page.headlines,
        "split": page.split,
        "why": page.why,
        "others": dict(page.told["scores"]),
        "slices": page.of_split("per_slice"),
    }


def _classes_section(page: RunPage) -> dict[str, Any]:
    content: dict[str, Any] = {}
    matrix = page.of_split("confusion") or _matrix_of_samples(page)
    if matrix:
        names = page.class_names
        pairs = most_confused(matrix)
        label = f"Confusion matrix of {len(matrix)} classes, rows actual"
        if pairs:
            count, actual, predicted = pairs[0]
            label += f"; most confused: {names[actual]} taken for {names[predicted]}, {count:,} ×"
        content["confusion_chart"] = _figure(
            MATRIX, label, charts.draw_confusion, matrix=matrix, names=names
        )
        content["pairs"] = pairs
    columns = page.of_split("per_class")
    if columns and page.class_names and "r2" not in columns:
        content["columns"] = columns
    return content


def _outputs_section(page: RunPage) -> dict[str, Any]:
    """Scores of each output, where several numbers are predicted."""
    columns = page.of_split("per_class") or {}
    if "r2" not in columns or not page.class_names:
        return {}
    return {"columns": {name: columns[name] for name in OUTPUT_COLUMNS if name in columns}}


def _matrix_of_samples(page: RunPage) -> list[list[int]] | None:
    """Counts of actual and predicted class of the samples that were kept, of many classes."""
    rows = page.kept("kept").rows
    classes = len(page.class_names)
    if rows is None or not classes or not is_of_classes(rows):
        return None
    matrix = np.zeros((classes, classes), dtype=np.int64)
    pairs = np.stack([rows["target"], rows["predicted"]])
    real = ((pairs >= 0) & (pairs < classes)).all(0)
    np.add.at(matrix, tuple(pairs[:, real]), 1)
    counts: list[list[int]] = matrix.tolist()
    return counts


def _thresholds_section(page: RunPage) -> dict[str, Any]:
    rows = page.kept("curves").rows
    if rows is None or not len(rows):
        return {}
    areas = dict(enumerate((page.of_split("per_class") or {}).get("auroc", {}).get("value", ())))
    heads = sorted(set(rows["head"].tolist()), key=lambda head: areas.get(head, 1.0))
    names = dict(enumerate(page.class_names))
    content: dict[str, Any] = {}
    drawn = {}
    told = ""
    if len(heads) > MOST_CURVES:
        told = f" of the {MOST_CURVES} of {len(heads)} with the least area below it"
    for head in heads[:MOST_CURVES]:
        drawn[str(names.get(head, head))] = rows[rows["head"] == head]
    if len(heads) == 1:
        rows = np.sort(rows, order="threshold")
        choices = _choices(rows, page)
        drawn = {"": rows}
        for aim, choice in choices.items():
            if choice.row is not None:
                drawn[aim] = rows[choice.row : choice.row + 1]
        content = _threshold_table(rows, choices)
    roc = []
    precision_recall = []
    for place, (name, of_head) in enumerate(drawn.items()):
        rates = _rates(of_head)
        recall = rates["recall"]
        colour = f"C{place}"
        roc.append(Curve(name, rates["false positive rate"], recall, colour=colour))
        precision_recall.append(Curve(name, recall, rates["precision"], colour=colour))
    areas_told = [_area(page, name) for name in ("auroc", "average_precision")]
    roc_label = f"ROC curve{told}{areas_told[0]}"
    label = f"Precision against recall{told}{areas_told[1]}"
    content["threshold_charts"] = [
        _figure(SQUARE, roc_label, charts.draw_roc, lines=roc),
        _figure(SQUARE, label, charts.draw_precision_recall, lines=precision_recall),
    ]
    return content


def _area(page: RunPage, name: str) -> str:
    """The area below a curve, that of a mean over several as well; nothing where it was not recorded."""
    for variant in (name, f"{name}/macro"):
        score = page.told["scores"].get(f"{page.split}/{variant}")
        if score:
            return f"; {variant} {number(score['value'])}"
    return ""


def _rates(rows: Any) -> dict[str, Any]:
    """Shares at each threshold, as `Run.curves` tells what its rows are; NaN where undefined."""
    with np.errstate(invalid="ignore"):
        return {
            "precision": rows["tp"] / (rows["tp"] + rows["fp"]),
            "recall": rows["tp"] / (rows["tp"] + rows["fn"]),
            "false positive rate": rows["fp"] / (rows["fp"] + rows["tn"]),
        }


def _choices(rows: Any, page: RunPage) -> dict[str, search.Choice]:
    """What is advised, by its aim."""
    cuts = search.Cuts.of(rows["threshold"], rows["tp"], rows["fp"])
    choices = {"best F1": search.best_fbeta(cuts, 1.0)}
    counted = sum(rows[0][name] for name in ("tp", "fp", "tn", "fn"))
    if counted == (page.told.get("counts") or {}).get("val_samples"):  # no sum of weights
        wanted = page.wanted_recall
        choices[f"recall of {100 * wanted:g} %"] = search.recall_at_least(cuts, wanted, 0.05)
    # Where it is best to call nothing positive, there is no threshold to show.
    return {aim: choice for aim, choice in choices.items() if choice.row != len(rows)}


def _threshold_table(rows: Any, choices: Mapping[str, search.Choice]) -> dict[str, Any]:
    """Thresholds that are advised, and a table around them."""
    advice = {}
    spread = np.linspace(0, len(rows) - 1, min(MOST_THRESHOLDS, len(rows)))
    shown = set(spread.astype(int).tolist())
    for aim, choice in choices.items():
        advice[aim] = choice.reason
        if choice.row is not None:
            shown.add(choice.row)
            row = rows[choice.row]
            where = f"threshold {row['threshold']:.6g} (probability {row['probability']:.4f})"
            advice[aim] = f"{where}: {choice.reason}"
    columns = {"threshold": rows["threshold"], "probability": rows["probability"], **_rates(rows)}
    return {
        "advice": advice,
        "columns": {name: column.tolist() for name, column in columns.items()},
        "shown": sorted(shown),
        "chosen": [choice.row for choice in choices.values()],
    }


def _calibration_section(page: RunPage) -> dict[str, Any]:
    bins = page.kept("reliability").rows
    if bins is None or not bins["weight"].any():
        return {}
    label = "How often predictions are right at each probability; on the diagonal it is kept"
    error = page.told["scores"].get("val/ece")
    if error:
        label += f". Expected calibration error (ece) {number(error['value'])}"
    return {"calibration_chart": _figure(BARE, label, charts.draw_calibration, bins=bins)}


def _samples_section(page: RunPage) -> dict[str, Any]:
    kept = page.kept("kept")
    if kept.rows is None or not len(kept.rows):
        return {}
    told = f"Samples kept: {len(kept.rows):,}."
    places, worst = kept.worst(MOST_SAMPLES)
    if is_of_classes(kept.rows):
        wrong_places, wrong = kept.misclassified()
        share = percent(len(wrong) / len(kept.rows))
        told += f" Misclassified: {len(wrong):,} of them, {share}."
        if not len(worst):  # no losses are known
            places, worst = wrong_places[:MOST_SAMPLES], wrong[:MOST_SAMPLES]
    rows = list(zip(places.tolist(), worst.tolist(), strict=True))
    gallery = []
    for row in _pictures(kept)[:MOST_PICTURES]:
        gallery.append(_in_gallery(page.told_of(kept.rows[row["place"]]), row))
    return {
        "samples": rows,
        "fields": worst.dtype.names,
        "samples_told": told,
        "gallery": gallery,
    }


def _pictures(kept: StoredSamples) -> Any:
    """Rows of pictures; none where none were kept."""
    if kept.inputs is None:
        return ()
    return kept.inputs


def _in_gallery(told: Mapping[str, Any], row: Any) -> dict[str, Any]:
    """A picture, with what became of its sample in words and in short."""
    lines = [f"{words} {value}" for words, value in told.items()]
    wrong = False
    tag = picture(row["picture"], f"sample {row['place']}: {_in_line(told)}")
    if "predicted" in told:
        wrong = told["actual"] != told["predicted"]
        lines[:2] = [f"{told['actual']} → {told['predicted']}"]
    return {"picture": tag, "lines": lines, "wrong": wrong}


def _leaks_section(page: RunPage) -> dict[str, Any]:
    if not page.run.epochs or "logged" in page.run.header:
        return {}
    return {"audits": [_audited(page, note) for note in last_audits(page.run)]}


def _audited(page: RunPage, note: Mapping[str, Any]) -> Sequence[Any]:
    """A note on leaked rows, with what the record tells of the rows that it names."""
    if note["split"] != page.split:
        return [note]
    gains: Mapping[str, Any] = {}
    for finding in page.verdict.findings:
        if finding.code.startswith("leakage-"):
            gains = finding.evidence.get("without", gains)
    kept = page.kept("kept")
    if kept.rows is None or checksum(kept.rows["target"]) != note["targets"]:
        return [note, {}, {}, gains]  # they came in another order
    pairs = [pair for found in note["parts"].values() for pair in found.get("pairs", ())]
    places = {pair[-1] for pair in pairs if pair and pair[-1] < len(kept.rows)}
    rows = {place: _in_line(page.told_of(kept.rows[place])) for place in places}
    pictures = {}
    for row in _pictures(kept):
        place = int(row["place"])
        if place in rows:
            pictures[place] = picture(row["picture"], f"sample {place}: {rows[place]}")
    return [note, pictures, rows, gains]


def _in_line(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{words} {value}" for words, value in told.items())


def _time_section(page: RunPage) -> dict[str, Any]:
    times = [epoch.get("time") or {} for epoch in page.run.epochs]
    parts = {}
    for name, words in PHASE_WORDS.items():
        spent = sum(time.get(name) or 0.0 for time in times)
        if spent > 0:
            parts[words] = spent
    if not parts:
        return {}
    whole = sum(parts.values())
    told = {words: (seconds(spent), percent(spent / whole)) for words, spent in parts.items()}
    label = "Shares of the time, as the table below tells them"
    chart = _figure(BAR, label, charts.draw_shares, captioned=False, parts=parts, unit="seconds")
    content: dict[str, Any] = {"time_chart": chart, "time": told}
    step = (page.told.get("time") or {}).get("step_ms")
    if step:
        content["step"] = (
            f"A training step: median {step['p50']:.3g} ms, 95th percentile {step['p95']:.3g} ms."
        )
    return content


def _environment_section(page: RunPage) -> dict[str, Any]:
    header = page.run.header
    facts: dict[str, Any] = {"run": str(page.run.path), **header.get("environment", {})}
    for name in ("created", "seed", "arm", "val_fingerprint"):
        if header.get(name) is not None:
            facts[name] = header[name]
    settings = _settings_in({name: header.get(name) or {} for name in ("metrics", "config")})
    return {"environment": facts, "settings": dict(islice(settings, MOST_SETTINGS))}


def _notes_section(page: RunPage) -> dict[str, Any]:
    told = [
        f"{fault['where']}, {fault['count']} ×: {fault['message']}" for fault in page.run.faults
    ]
    told += [str(problem) for problem in page.run.problems]
    told += [note["message"] for note in page.run.notes if note["code"] not in TOLD_ELSEWHERE]
    if not told:
        return {}
    return {"told": told[:MOST_TOLD]}


def _settings_in(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings within settings, by their names in a row."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _settings_in(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


SECTIONS = (
    ("curves", "Learning curves", _curves_section),
    ("scores", "Scores", _scores_section),
    ("classes", "Classes", _classes_section),
    ("outputs", "Outputs", _outputs_section),
    ("thresholds", "Thresholds", _thresholds_section),
    ("calibration", "Calibration", _calibration_section),
    ("samples", "Samples", _samples_section),
    ("leaks", "Leakage", _leaks_section),
    ("time", "Time", _time_section),
    ("notes", "Faults and notes", _notes_section),
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
    arms = Counter(page.arm for page in pages)
    if len(arms) < len(pages) and None not in arms:
        return " and ".join(f"{quantity(number, 'run')} of {arm}" for arm, number in arms.items())
    return f"{len(pages)} runs: {', '.join(page.name for page in pages)}"


def _overview(pages: Sequence[RunPage]) -> Iterator[Markup]:
    """Each score of all runs in one chart, of validation."""
    for score in dict.fromkeys((pages[0].lead, "loss")):
        name = f"{pages[0].split}/{score}"
        lines = []
        for page in pages:
            colour = f"C{(page.place - 1) % 10}"
            lines += page.line(name, "", colour=colour, group=f"run-{page.place}")
        if lines:
            label = f"{score} of {pages[0].split}, one line a run"
            x_name = pages[0].x_name
            yield _figure(WIDE, label, charts.draw_lines, lines=lines, x_name=x_name, y_name=score)


def _comparison_of(pages: Sequence[RunPage], target: str | None) -> dict[str, Any]:
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
    chart = _figure(WIDE, label, charts.draw_comparison, comparison=comparison, names=names)
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
    frame: Frame, label: str, draw: Callable[..., Any], *, captioned: bool = True, **what: Any
) -> Markup:
    """A chart with its caption, which a screen reader tells in its place.

    Args:
        frame: How large it is.
        label: What can be seen.
        draw: Draws into the axes that it is given.
        captioned: Whether the label is seen as well.
        **what: What it is to draw.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height, margins = frame
    figure = Figure((width, height))
    if margins:
        figure.subplots_adjust(**margins)
    else:
        figure.set_layout_engine("constrained")
    draw(figure.add_subplot(), **what)
    canvas: Any = FigureCanvasSVG(figure)
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of signs that the font lacks: the reader's has them
        canvas.print_svg(file, metadata={"Date": None})
    label = cut(label, 300)
    chart = Markup('<figure><svg role="img" aria-label="{}"').format(label)
    chart += Markup(_themed(file.getvalue()))
    if captioned:
        chart += Markup('<figcaption aria-hidden="true">{}</figcaption>').format(label)
    return chart + Markup("</figure>")


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
