"""`Score`: a number with its interval; `Scores`: all of one evaluation, and how they print.

The table of classes is that of scikit-learn's classification report, digit for digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ptmetrics.digits import number, numbers
from ptmetrics.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from ptmetrics.metrics.score_curve import (
        PrecisionRecallCurve,
        RocCurve,
        ScoreCurve,
        ThresholdTable,
    )

FaultReport = dict[str, dict[str, Any]]
ReportRow = tuple[str, list[float], float]  # name; precision, recall and F1; support
HEADERS = ("precision", "recall", "f1-score", "support")
REPORT_COLUMNS = ("precision", "recall", "f1")
MOST_LINES = 4096  # of classes: a longer table is no report
MOST_SLICES = 20
MOST_DRAWN = 10  # curves in one chart
SLICE_FIELDS = ("value", "low", "high", "n")


class Score(float):
    """A float that also knows its interval.

    Attributes:
        value: The number itself; NaN where it is undefined.
        low: Lower end of the two-sided 95 % interval.
        high: Upper end.
        n: Number of samples that the value rests on.
        method: Name of the interval's method.
        reason: Why the value is NaN or has no interval, else None.
        error_bound: Certified bound on the numerical error; 0.0 where the value is exact.
        higher_is_better: Direction of the metric; None where nobody has declared it.

    Example:
        >>> score = Score(0.9, low=0.85, high=0.94, n=200, method="wilson")
        >>> print(score)
        0.9000 [0.8500, 0.9400] n=200
        >>> score > 0.8
        True
    """

    __slots__ = ("error_bound", "high", "higher_is_better", "low", "method", "n", "reason")

    low: float
    high: float
    n: int
    method: str
    reason: str | None
    error_bound: float
    higher_is_better: bool | None

    def __new__(  # noqa: D102 — the class docstring names the fields
        cls,
        value: float,
        *,
        low: float = math.nan,
        high: float = math.nan,
        n: int = 0,
        method: str = "none",
        reason: str | None = None,
        error_bound: float = 0.0,
        higher_is_better: bool | None = None,
    ) -> Score:
        self = super().__new__(cls, value)
        self.low = low
        self.high = high
        self.n = n
        self.method = method
        self.reason = None
        if math.isnan(value) or math.isnan(low) or math.isnan(high):
            self.reason = reason_of(value, n, method, reason)
        self.error_bound = error_bound
        self.higher_is_better = higher_is_better
        return self

    @property
    def value(self) -> float:
        """The number as a plain float."""
        return float(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a record."""
        plain: dict[str, Any] = {
            "value": float(self),
            "error_bound": self.error_bound,
            "high": self.high,
            "higher_is_better": self.higher_is_better,
            "low": self.low,
            "method": self.method,
            "n": self.n,
            "reason": self.reason,
        }
        if self.higher_is_better is None:
            del plain["higher_is_better"]
        return plain

    def __reduce__(self) -> tuple[Any, ...]:
        fields = self.to_dict()
        return _rebuild, (fields.pop("value"), fields)

    def __str__(self) -> str:
        if self.reason:
            return f"{number(self)} ({self.reason})"
        value, low, high = numbers(self, self.low, self.high)
        return f"{value} [{low}, {high}] n={self.n}"

    def __repr__(self) -> str:
        return f"Score({self})"

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import for_notebook

        return for_notebook("notes", [str(self)])


def reason_of(value: float, n: int, method: str, undefined: str | None) -> str | None:
    """Why a value is NaN, which is given, or why it has no interval."""
    if math.isnan(value):
        return undefined
    if method == "none":
        return "no interval is made for it"
    if math.isinf(value):
        return "no interval: the value is infinite"
    if n < 2:
        return "no interval: one row does not tell how rows differ"
    return "no interval: too few rows or groups that differ, or a value at the end of what is told"


def _rebuild(value: float, fields: dict[str, Any]) -> Score:
    return Score(value, **fields)


class ConfusedPair(NamedTuple):
    """Rows of class `actual` that were taken for `predicted`: their number is from `low` to `high`, certified."""

    actual: int
    predicted: int
    low: int
    high: int


class Scores(Mapping[str, Score]):
    """All scores of one evaluation by name, with the counts that they came from.

    Attributes:
        per_class: Name of a per-class score to one `Score` for each class.
        confusion: Int64 counts of shape (C, C) on the CPU, rows are the actual class; of shape
            (L, 2, 2), one for each of L labels; None where not kept.
        weighted_confusion: Sums of weights in its place, float64: the counts where there are none.
        class_names: One name for each class.
        n: Number of samples counted.
        faults: Kind of bad value to its count, first update and message; empty when all was well.
        notes: What to know about these scores, in sentences.
        confused: The most confused pairs of classes where no matrix is kept, most first; else
            empty.
        per_slice: Name of a slice to its scores, the worst by the score `headline` first; empty
            without slices.
        per_slice_class: Name of a slice to the same as `per_class`, of its rows.
        headline: Name of the score that orders the slices.
        sample_axes: Axes of a sample's targets: 1 where it is a text of tokens, 2 for the pixels of
            a picture, 0 where it is one row.
        without_buckets: Where rows come in groups, or samples hold several: each score by name
            without each of some buckets of them, of shape (buckets,), or (buckets, classes) for
            those of each class.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.MulticlassMetrics(2, inputs="labels", class_names=["ham", "spam"])
        >>> metrics.update(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]))
        >>> scores = metrics.compute()
        >>> scores["accuracy"].n, float(scores["accuracy"])
        (4, 0.75)
        >>> scores.confusion.tolist()
        [[2, 1], [0, 1]]
        >>> "f1/macro" in scores, scores.class_names[1]
        (True, 'spam')
    """

    def __init__(
        self,
        scores: Mapping[str, Score],
        *,
        task: str,
        n: int,
        per_class: Mapping[str, Sequence[Score]] | None = None,
        confusion: Tensor | Callable[[], Tensor] | None = None,
        weighted_confusion: Tensor | Callable[[], Tensor] | None = None,
        class_names: Sequence[str] = (),
        faults: FaultReport | None = None,
        notes: Sequence[str] = (),
        curve: ScoreCurve | None = None,
        confused: Sequence[ConfusedPair] = (),
        per_slice: Mapping[str, Mapping[str, Score]] | None = None,
        headline: str = "",
        sample_axes: int = 0,
        reliability: Callable[[], Any] | None = None,
        without_buckets: Mapping[str, Any] | None = None,
        per_slice_class: Mapping[str, Mapping[str, Sequence[Score]]] | None = None,
    ) -> None:
        self._scores = scores
        self.task = task
        self.n = n
        self.per_class: Mapping[str, Sequence[Score]] = {}
        if per_class is not None:
            self.per_class = per_class
        self._confusion = confusion
        self._weighted_confusion = weighted_confusion
        self.class_names = tuple(class_names)
        self.faults: FaultReport = faults or {}
        self.notes: tuple[str, ...] = tuple(notes)
        self._curve = curve
        self.confused = tuple(confused)
        self.per_slice: Mapping[str, Mapping[str, Score]] = per_slice or {}
        self.per_slice_class: Mapping[str, Mapping[str, Sequence[Score]]] = per_slice_class or {}
        self.headline = headline
        self.sample_axes = sample_axes
        self._reliability = reliability
        self.without_buckets: Mapping[str, Any] = without_buckets or {}

    def __getitem__(self, name: str) -> Score:
        try:
            return self._scores[name]
        except KeyError:
            names = ", ".join(self._scores) or "no score at all"
            raise KeyError(f"{name!r}: expected one of {names}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, name: object) -> bool:
        return name in self._scores

    @property
    def weighted(self) -> bool:
        """Whether the counts of the curves are sums of weights, and not of samples.

        Raises:
            ConfigError: If the metric kept no scores.
        """
        return self._drawn_of_all().weighted

    @property
    def confusion(self) -> Tensor | None:
        """The confusion matrix, rows actual; a large one is made when it is first asked for."""
        if callable(self._confusion):
            self._confusion = self._confusion()
        return self._confusion

    @property
    def weighted_confusion(self) -> Tensor | None:
        """The confusion matrix of weights."""
        if callable(self._weighted_confusion):
            self._weighted_confusion = self._weighted_confusion()
        if self._weighted_confusion is None and self.confusion is not None:
            return self.confusion.double()
        return self._weighted_confusion

    @property
    def reliability(self) -> Any:
        """Weight, mean confidence and share of right rows in 15 bins of confidence of equal width.

        A structured array; None where no confidences are kept.
        """
        if self._reliability is None:
            return None
        return self._reliability()

    def roc_curve(self, label: str | int | None = None) -> RocCurve:
        """False and true positive rate at every threshold.

        Args:
            label: Name or number of a label, or of a class against the rest; "macro" for the mean
                over all of them, which has no thresholds.

        Raises:
            ConfigError: If the metric kept no scores, or there is no such label.
        """
        if label == "macro" and label not in self.class_names:
            return self._drawn_of_all().macro_roc()
        return self._drawn(label).roc()

    def pr_curve(self, label: str | int | None = None) -> PrecisionRecallCurve:
        """Precision and recall at every threshold.

        Args:
            label: Name or number of a label, or of a class against the rest.

        Raises:
            ConfigError: If the metric kept no scores, or there is no such label.
        """
        return self._drawn(label).precision_recall()

    def thresholds(self, label: str | int | None = None) -> ThresholdTable:
        """Counts, precision, recall and more at every threshold; of a class, its probability.

        Args:
            label: Name or number of a label, or of a class against the rest.

        Raises:
            ConfigError: If the metric kept no scores, or there is no such label.
        """
        return self._drawn(label).table()

    def _drawn_of_all(self) -> ScoreCurve:
        if self._curve is None:
            cure = 'Build the metric from "logits" or "probs" with curves="fp16".'
            fact = f"{self.task} counts without them"
            raise ConfigError("curves", "a metric that keeps scores", fact, cure)
        return self._curve

    def _drawn(self, label: str | int | None) -> ScoreCurve:
        curve = self._drawn_of_all()
        if not curve.heads and label is None:
            return curve
        place: Any = label
        if isinstance(label, str) and label in self.class_names:
            place = self.class_names.index(label)
        if type(place) is not int or not 0 <= place < curve.heads:
            rule = f"the name or number of one of {curve.heads} labels"
            if not curve.heads:
                rule = "None: there is one curve"
            raise ConfigError("label", rule, repr(label), "Look at scores.class_names.")
        return curve.of_head(place)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, of all but the curve."""
        return self.plain()

    def plain(
        self,
        most_classes: float = math.inf,
        most_in_matrix: float = math.inf,
        most_slices: int | None = None,
    ) -> dict[str, Any]:
        """The same, of the worst slices, without what is of each class where there are more, or the matrix."""
        confusion = None
        if len(self.class_names) <= most_in_matrix:
            matrix = self.confusion
            if matrix is not None and matrix.ndim == 2 and len(matrix) <= most_in_matrix:
                confusion = matrix.tolist()
        per_class: dict[str, Any] = {}
        if len(self.class_names) <= most_classes:
            per_class = _plain_rows(self.per_class, _plain_column)
        return {
            "task": self.task,
            "n": self.n,
            "scores": _plain_rows(self._scores, Score.to_dict),
            "per_class": per_class,
            "confusion": confusion,
            "class_names": list(self.class_names),
            "faults": self.faults,
            "notes": list(self.notes),
            "confused": [pair._asdict() for pair in self.confused],
            "per_slice": self._slices_to_dict(most_slices),
            "sample_axes": self.sample_axes,
        }

    def _slices_to_dict(self, most: int | None) -> dict[str, Any]:
        """Plain columns, the worst slice first; empty without slices."""
        if not self.per_slice:
            return {}
        first: Any = next(iter(self.per_slice.values()))
        columns = first.columns
        return {
            "by": self.headline,
            "names": list(self.per_slice)[:most],
            "filled": int((columns.estimates[self.headline].n > 0).sum()),
            "scores": columns.to_dict(most),
        }

    def plot_confusion(self, ax: Any = None) -> Any:
        """Draw the confusion matrix, rows actual.

        Args:
            ax: Axes of matplotlib to draw in; None for new ones.

        Returns:
            The axes.

        Raises:
            ConfigError: If there is no one matrix of all classes.
            DependencyError: If matplotlib is not installed.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> from matplotlib.figure import Figure
            >>> metrics = pm.MulticlassMetrics(2, inputs="labels")
            >>> metrics.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
            >>> metrics.compute().plot_confusion(Figure().add_subplot()).get_xlabel()
            'predicted'
        """
        from ptmetrics.show import charts

        if self.confusion is None or self.confusion.ndim != 2:
            cure = "Look at scores.per_class, or scores.confused."
            raise ConfigError("confusion", "one matrix of all classes", "none", cure)
        return charts.draw_confusion(charts.axes_of(ax), self.confusion.numpy(), self.class_names)

    def plot_roc(self, ax: Any = None, label: str | int | None = None) -> Any:
        """Draw the ROC curve; of several labels or classes those of the first ten, or of one.

        Args:
            ax: Axes of matplotlib to draw in; None for new ones.
            label: Name or number of a label, or of a class against the rest.

        Returns:
            The axes.

        Raises:
            ConfigError: If the metric kept no scores, or there is no such label.
            DependencyError: If matplotlib is not installed.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> from matplotlib.figure import Figure
            >>> metrics = pm.BinaryMetrics(inputs="probs")
            >>> metrics.update(torch.tensor([0.2, 0.9, 0.6]), torch.tensor([0, 1, 0]))
            >>> metrics.compute().plot_roc(Figure().add_subplot()).get_ylabel()
            'true positive rate'
        """
        from ptmetrics.show import charts

        lines: list[charts.Curve] = []
        for name, place in self._heads(label):
            fpr, tpr, _ = self.roc_curve(place)
            colour = f"C{len(lines)}"
            lines.append(charts.Curve(name, fpr.numpy(), tpr.numpy(), colour=colour))
        return charts.draw_roc(charts.axes_of(ax), lines)

    def plot_precision_recall(self, ax: Any = None, label: str | int | None = None) -> Any:
        """Draw precision against recall; arguments and errors as of `plot_roc`.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> from matplotlib.figure import Figure
            >>> metrics = pm.BinaryMetrics(inputs="probs")
            >>> metrics.update(torch.tensor([0.2, 0.9, 0.6]), torch.tensor([0, 1, 0]))
            >>> metrics.compute().plot_precision_recall(Figure().add_subplot()).get_xlabel()
            'recall'
        """
        from ptmetrics.show import charts

        lines: list[charts.Curve] = []
        for name, place in self._heads(label):
            precision, recall, _ = self.pr_curve(place)
            colour = f"C{len(lines)}"
            lines.append(charts.Curve(name, recall.numpy(), precision.numpy(), colour=colour))
        return charts.draw_precision_recall(charts.axes_of(ax), lines)

    def plot_calibration(self, ax: Any = None) -> Any:
        """Draw how often predictions come true against their probability, in 15 bins of equal width.

        Args:
            ax: Axes of matplotlib to draw in; None for new ones.

        Returns:
            The axes.

        Raises:
            ConfigError: If no confidences are kept.
            DependencyError: If matplotlib is not installed.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> from matplotlib.figure import Figure
            >>> metrics = pm.BinaryMetrics(inputs="probs")
            >>> metrics.update(torch.tensor([0.2, 0.9, 0.6]), torch.tensor([0, 1, 0]))
            >>> metrics.compute().plot_calibration(Figure().add_subplot()).get_xlabel()
            'mean predicted probability'
        """
        from ptmetrics.show import charts

        bins = self.reliability
        if bins is None:
            cure = 'Build the metric from "logits" or "probs".'
            raise ConfigError("calibration", "a metric that keeps confidences", "none kept", cure)
        return charts.draw_calibration(charts.axes_of(ax), bins)

    def _heads(self, label: str | int | None) -> list[tuple[str, str | int | None]]:
        """Name and place of each curve that is drawn."""
        heads = self._drawn_of_all().heads
        if label is not None or not heads:
            return [("", label)]
        return [(self.class_names[place], place) for place in range(min(heads, MOST_DRAWN))]

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import scores_html

        return scores_html(self.to_dict(), f"{self.n:,} samples")

    def __str__(self) -> str:
        return scores_text(self)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={number(score)}" for name, score in self.items())
        return f"Scores({self.task}, n={self.n}, {shown})"


def _plain_rows(
    named: Mapping[str, Any], to_dict: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """All at once from their arrays where those are kept, else one by one."""
    from_arrays: Callable[[], dict[str, Any]] | None = getattr(named, "to_dict", None)
    if from_arrays is not None:
        return from_arrays()
    return {name: to_dict(each) for name, each in named.items()}


def _plain_column(column: Sequence[Score]) -> dict[str, Any]:
    plain: dict[str, Any] = {f: [getattr(s, f) for s in column] for f in SLICE_FIELDS}
    plain["method"] = column[0].method if column else "none"
    return plain


def scores_text(scores: Scores) -> str:
    """What `print(scores)` shows."""
    parts = []
    if scores.per_class and len(scores.class_names) <= MOST_LINES:
        if "support" in scores.per_class:
            parts.append(report_text(scores))
        else:
            parts.append(_outputs_table(scores))
    parts.append(_intervals_table(scores))
    if scores.per_slice:
        parts.append(_slices_table(scores))
    parts.extend(f"{fault['message']}\n" for fault in scores.faults.values())
    parts.extend(f"{note}\n" for note in scores.notes)
    if scores.confused:
        lines = ["most confused:\n"]
        for pair in scores.confused:
            actual = scores.class_names[pair.actual]
            predicted = scores.class_names[pair.predicted]
            lines.append(f"  {actual} taken for {predicted}: {pair.low} to {pair.high} times\n")
        parts.append("".join(lines))
    return "\n".join(parts)


def report_text(scores: Scores, digits: int = 2, labels: Sequence[int] | None = None) -> str:
    """`sklearn.metrics.classification_report` as text, to the last blank; of some classes, or of those there are."""
    support = scores.per_class["support"]
    weighted = any(s.value != s.n for s in support)
    rows = list(_class_rows(scores, labels))
    longest = max((len(row[0]) for row in rows), default=0)
    width = max(longest, len("weighted avg"), digits)
    lines = [f"{'':>{width}s} " + "".join(f" {h:>9}" for h in HEADERS), ""]
    lines.extend(_report_line(row, width, digits, weighted) for row in rows)
    lines.append("")
    averages = _average_rows(scores, labels)
    lines.extend(_report_line(row, width, digits, weighted) for row in averages)
    return "\n".join(lines) + "\n"


def report_dict(scores: Scores, labels: Sequence[int] | None = None) -> dict[str, Any]:
    """The same as plain numbers, as scikit-learn's dictionary."""
    report: dict[str, Any] = {}
    for name, values, support in (*_class_rows(scores, labels), *_average_rows(scores, labels)):
        numbers = [float(value) for value in (*values, support)]
        report[name] = dict(zip(HEADERS, numbers, strict=False))
        if len(values) == 1:
            report[name] = numbers[0]
    return report


def _class_rows(scores: Scores, labels: Sequence[int] | None) -> Iterator[ReportRow]:
    columns = [list(scores.per_class[name]) for name in REPORT_COLUMNS]
    support = list(scores.per_class["support"])
    rows = labels
    if rows is None:
        rows = range(len(support))
    for i in rows:
        # A class on neither side has no line, unless it was asked for; a label always has one.
        if labels is not None or "accuracy" not in scores or not math.isnan(columns[-1][i]):
            yield scores.class_names[i], [column[i] for column in columns], support[i]


def _average_rows(scores: Scores, labels: Sequence[int] | None) -> Iterator[ReportRow]:
    support = list(scores.per_class["support"])
    averages = ["micro", "macro", "weighted", "samples"]
    all_of_them = True  # then the micro average is the accuracy
    if labels is not None and scores.confusion is not None:
        support = [support[i] for i in labels]
        chosen = list(labels)
        inside = scores.confusion[chosen][:, chosen].sum()
        all_of_them = bool(inside == scores.confusion.sum())
        averages = ["micro", "macro", "weighted"]
    total = float(sum(support))
    if "accuracy" in scores and all_of_them:
        yield "accuracy", [scores["accuracy"]], total
        averages = ["macro", "weighted"]
    for average in averages:
        yield f"{average} avg", [scores[f"{name}/{average}"] for name in REPORT_COLUMNS], total


def _report_line(row: ReportRow, width: int, digits: int, weighted: bool) -> str:
    name, values, support = row
    blank = " " * 10 * (len(REPORT_COLUMNS) - len(values))  # the accuracy stands below F1
    cells = blank + "".join(f" {value:>9.{digits}f}" for value in values)
    count = f"{support:.0f}"
    if weighted:
        count = f"{float(support)}"
    return f"{name:>{width}s} {cells} {count:>9}"


def _intervals_table(scores: Scores) -> str:
    """One line a score: value, 95 % interval, n and how the interval was made."""
    rows = []
    for name, score in scores.items():
        value, low, high = numbers(score, score.low, score.high)
        rows.append((name, value, f"[{low}, {high}]", score))
    width = max((len(row[0]) for row in rows), default=0)
    value_width = max((len(row[1]) for row in rows), default=5)
    ends_width = max((len(row[2]) for row in rows), default=0)
    head = f"{'':<{width}}  {'value':>{value_width}}   {'95 % interval':<{ends_width}}"
    lines = [f"{head}  {'n':>6}  method"]
    for name, value, ends, score in rows:
        rest = score.reason
        if not rest:
            rest = f"{ends:<{ends_width}}  {score.n:>6}  {score.method}"
        lines.append(f"{name:<{width}}  {value:>{value_width}}   {rest}")
    return "\n".join(lines) + "\n"


def _outputs_table(scores: Scores) -> str:
    """One line a score, one column an output of a regression."""
    rows = [("", list(scores.class_names))]
    for name, values in scores.per_class.items():
        rows.append((name, [number(score) for score in values]))
    width = max(len(name) for name, _ in rows)
    columns = zip(*(cells for _, cells in rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for name, cells in rows:
        line = "".join(f"  {c:>{w}}" for c, w in zip(cells, widths, strict=True))
        lines.append(f"{name:<{width}}{line}\n")
    return "".join(lines)


def _slices_table(scores: Scores) -> str:
    """One line a slice, the worst first: its headline score with interval and n."""
    names = list(scores.per_slice)[:MOST_SLICES]
    width = max(map(len, names))
    lines = [f"slices by {scores.headline}, worst first:"]
    for name in names:
        lines.append(f"  {name:<{width}}  {scores.per_slice[name][scores.headline]}")
    more = len(scores.per_slice) - len(names)
    if more:
        lines.append(f"  and {more} more")
    return "\n".join(lines) + "\n"
