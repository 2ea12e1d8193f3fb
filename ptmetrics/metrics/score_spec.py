"""`ScoreSpec`: a score is one entry of a table; the scores of a table are computed together, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from ptmetrics.errors import ConfigError
from ptmetrics.metrics import delta
from ptmetrics.metrics.estimate import UNDEFINED, Array, Estimate, Key
from ptmetrics.metrics.intervals import mean_interval, mover, wilson

ROUNDED_FROM = 2**53  # rows: float64 does not tell such numbers from their neighbours
Numbers = tuple[Array, Array, Array, Array]
"""Value, low, high and n of a score."""
IntervalMethod = str | Callable[["ScoreSpec", Any, bool], Estimate]


@dataclass(frozen=True)
class ScoreSpec:
    """A score: its name, its formula over what was counted, its interval, and what is to be said of it.

    Args:
        name: What results and records call it, such as "f1/macro".
        formula: From counts to the score. What it is given has arrays `hits`, `actual`, `predicted`
            and `others` (rows of other classes), each of shape (…, C), for scores of classes; the
            cells by name for other metrics. What it returns is told by `interval`.
        interval: Name of the method, which says what `formula` returns:
            "wilson" a pair (part, whole) of which the score is the ratio;
            "mover" such a pair of each class, of which the score is the mean;
            "delta" the score as a smooth function of hits, actual and predicted;
            "normal" the six sums of a cell with merge "mean";
            "none" the score itself, without an interval;
            or a function of (spec, counts, whether intervals are wanted) that returns an
            `Estimate`.
        higher_is_better: Direction.
        range: The least and the largest value.
        doc: What it is, in one sentence.
        undefined: Why the score is NaN where it is.
        source: Where the formula comes from.
        each: Whether it is a score of each class, label or output: it stands in `scores.per_class`
            then.
        gradient: For "delta": from the same counts to the score and its derivatives by hits, actual
            and predicted, each of shape (…, C). Without it, they are found by differences.
        through: A monotone function that a ratio or a mean goes through, such as x / (2 − x).
        absent: Whether the metric's `absent` stands in for it where it is undefined.
        method: What results call the interval; the name of the method where it is empty.
        scale: The scale on which the interval by groups is made: "atanh" for a correlation,
            "log-log" for the exponential of a loss; else it follows from `range`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> youden = pm.ScoreSpec(
        ...     "youden",
        ...     lambda c: c.hits[..., 1] / c.actual[..., 1] + c.hits[..., 0] / c.actual[..., 0] - 1,
        ...     interval="delta",
        ...     range=(-1, 1),
        ... )
        >>> metrics = pm.MulticlassMetrics(2, inputs="labels", scores=[youden])
        >>> metrics.update(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 0]))
        >>> metrics.compute()["youden"].value
        0.5
    """

    name: str
    formula: Any = None
    interval: IntervalMethod = "none"
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    doc: str = ""
    undefined: str = "nothing was counted"
    source: str = ""
    each: bool = False
    gradient: Callable[[Any], tuple[Array, Array, Array, Array]] | None = None
    through: Callable[[Array], Array] | None = None
    absent: bool = False
    method: str = ""
    scale: str = ""
    key: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_score(self.name, self.higher_is_better, self.range)
        check_interval(self.interval)
        same = (self.interval, self.formula, self.gradient, *self.range, self.through)
        object.__setattr__(self, "key", (*same, self.absent, self.each))
        if isinstance(self.interval, str) and not self.method:
            object.__setattr__(self, "method", self.interval)

    def estimate(self, value: Array, low: Array, high: Array, n: Array) -> Estimate:
        """Numbers with all that is to be said of them."""
        return Estimate(value, low, high, n, self.method, self.undefined, self.higher_is_better)


def check_interval(interval: object) -> None:
    """Refuse what is neither a method nor a function."""
    known = interval in INTERVALS if isinstance(interval, str) else callable(interval)
    if not known:
        rule = f"one of {', '.join(INTERVALS)}, or a function"
        raise ConfigError("interval", rule, repr(interval), 'Pass interval="none".')


def check_score(name: object, higher_is_better: object, bounds: object) -> None:
    """Refuse what cannot be the name, the direction or the range of a score."""
    if not isinstance(name, str) or not name:
        cure = 'Pass a name, such as pm.ScoreSpec("margin", formula).'
        raise ConfigError("name", "a name of the score", repr(name), cure)
    if not isinstance(higher_is_better, bool):
        cure = "Say which way is better: it is never guessed."
        raise ConfigError("higher_is_better", "True or False", repr(higher_is_better), cure)
    rule = "the least and the largest value, such as (0.0, 1.0)"
    cure = "Pass range=(-math.inf, math.inf) for any."
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ConfigError("range", rule, repr(bounds), cure)
    for end in bounds:
        if not isinstance(end, int | float) or isinstance(end, bool):
            raise ConfigError("range", rule, repr(bounds), cure)
    if not bounds[0] < bounds[1]:
        raise ConfigError("range", rule, repr(bounds), cure)


NOTHING_KNOWN = 1e-6  # samples: the interval of a 0 of which nothing is known is [0, 1]


class View(Protocol):
    """What formulas are given: counts that can be asked for as sums of weights and as whole numbers."""

    absent: float

    @property
    def weights(self) -> Any:
        """Σw, float64, for formulas without an interval."""

    @property
    def sums(self) -> Any:
        """Σw, Σw² and numbers of rows, float64 with a leading dimension of 3."""

    @property
    def counts(self) -> Any:
        """Numbers of rows, int64."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the same counts.

    Attributes:
        view: From a metric and the host's counts to what the formulas are given; None where it does
            not apply.
        specs: The scores, in the order of a report.
        title: What the printed documentation calls it.
        stacks: Whether view and formulas take the counts of several splits in a leading dimension.
    """

    view: Callable[[Any, Any], Any]
    specs: tuple[ScoreSpec, ...]
    title: str = ""
    stacks: bool = False


def as_tables(given: Sequence[Any]) -> tuple[ScoreTable, ...]:
    """Specs that stand alone in a table of their own, whose formulas are given the cells by name.

    Raises:
        ConfigError: If there is something else among them.
    """
    tables = []
    alone = []
    for item in given:
        if isinstance(item, ScoreTable):
            tables.append(item)
        elif isinstance(item, ScoreSpec):
            alone.append(item)
        else:
            cure = "Write score_tables = (pm.ScoreSpec(...), ...)."
            raise ConfigError("score_tables", "pm.ScoreSpec", type(item).__name__, cure)
    if alone:
        tables.append(ScoreTable(_cells_by_name, tuple(alone)))
    return tuple(tables)


def check_names(tables: Sequence[ScoreTable]) -> None:
    """Refuse two scores of one name, of which results would hold the last.

    Raises:
        ConfigError: If there are such.
    """
    known = set()
    for table in tables:
        for spec in table.specs:
            key = (spec.name, spec.each)
            if key in known:
                rule = "a name that no other score of the metric has"
                cure = f'Pass another name, such as pm.ScoreSpec("my_{spec.name}", …).'
                raise ConfigError(f"score {spec.name}", rule, "one that is taken", cure)
            known.add(key)


def _cells_by_name(metrics: Any, counts: Any) -> Any:
    return counts


class FormulaError(ConfigError):
    """A score whose formula fails, which the others can do without.

    Attributes:
        key: Its name, and whether it is a score of each class.
    """

    key: Key = ("", False)


def formula_error(key: Key, expected: str, got: str) -> FormulaError:
    """The error of a score of this name."""
    error = FormulaError(f"score {key[0]}", expected, got, RIGHT)
    error.key = key
    return error


def evaluate(
    specs: Sequence[ScoreSpec], view: Any, *, intervals: bool = True
) -> dict[tuple[str, bool], Estimate]:
    """All scores of a table at once, those with one method of an interval stacked.

    Args:
        specs: The scores.
        view: What their formulas are given.
        intervals: Whether intervals are wanted; else the ends are the value itself, which takes far
            less.

    Returns:
        Name and `each` of a score to its estimate, in the order of the specs.

    Raises:
        FormulaError: If a formula fails, or returns something else than its interval asks for.
    """
    found: dict[tuple[str, bool], Estimate] = {}
    by_method: dict[str, dict[Any, ScoreSpec]] = {}  # what several scores share is computed once
    numbers: dict[Any, Numbers] = {}
    try:
        for spec in specs:
            if isinstance(spec.interval, str):
                by_method.setdefault(spec.interval, {})[spec.key] = spec
                found[spec.name, spec.each] = UNDEFINED  # keeps its place
            else:
                found[spec.name, spec.each] = _made_by_hand(spec.interval, spec, view, intervals)
        for method, some in by_method.items():
            numbers.update(INTERVALS[method](list(some.values()), view, intervals))
    except Exception as error:
        raise _misfit(specs, view, intervals, error) from error
    fill = bool(numbers) and not math.isnan(view.absent)
    for spec in specs:
        if isinstance(spec.interval, str):
            said = (spec.method, spec.undefined, spec.higher_is_better)
            estimate = Estimate(*numbers[spec.key], *said)
            if fill and spec.absent and spec.interval != "mover":
                estimate = estimate.filled(view.absent)
            found[spec.name, spec.each] = estimate
    return found


def _made_by_hand(
    interval: Callable[..., Any], spec: ScoreSpec, view: Any, intervals: bool
) -> Estimate:
    estimate = interval(spec, view, intervals)
    if not isinstance(estimate, Estimate):
        raise TypeError(f"it returned {type(estimate).__name__}")
    return estimate


def _misfit(
    specs: Sequence[ScoreSpec], view: Any, intervals: bool, error: Exception
) -> ConfigError:
    """What a formula that fails raises: the first that fails alone, or has another shape, by its name."""
    got = f"{type(error).__name__}: {error}"
    if len(specs) == 1:
        rule = "a function that returns an Estimate"
        if isinstance(specs[0].interval, str):
            returned = RETURNS[specs[0].interval]
            rule = f'a formula that returns {returned}, for interval="{specs[0].interval}"'
        return formula_error((specs[0].name, specs[0].each), rule, got)
    for spec in specs:
        for estimate in evaluate([spec], view, intervals=intervals).values():
            shape = np.shape(estimate.value)
            if len(shape) != np.ndim(view.n) + spec.each:
                return formula_error((spec.name, spec.each), ONE_NUMBER, f"shape {shape}")
    names = ", ".join(spec.name for spec in specs)
    return ConfigError(f"scores {names}", "formulas that return one shape", got, RIGHT)


def _proportions(
    specs: Sequence[ScoreSpec], view: Any
) -> Iterator[tuple[list[ScoreSpec], Array, Array, Array, Array]]:
    """Ratios of sums, those of one shape stacked.

    Of each p, n, where it is a 0 of which nothing is known, and its number of rows.
    """
    by_shape: dict[tuple[int, ...], list[Any]] = {}
    for spec in specs:
        part, whole = spec.formula(view.sums)
        zero = np.full(np.shape(part[0]), getattr(spec.formula, "zero_division", False))
        by_shape.setdefault(zero.shape, []).append((spec, part[0], *whole, zero))
    for rows in by_shape.values():
        some, *columns = zip(*rows, strict=True)
        part, whole, square, count, zero = map(np.stack, columns)
        empty = (part == 0) & (whole == 0) & zero
        # Sums of weights in another order may differ in the last digit.
        p = np.where(empty, 0.0, np.clip(part / whole, 0, 1))
        yield list(some), p, whole**2 / square, empty, count.astype(np.int64)


def _wilson(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> dict[Any, Numbers]:
    found = {}
    for some, p, n, empty, counted in _proportions(specs, view):
        low, high = p, p
        if intervals:
            low, high = wilson(p, n)
            low, high = np.where(empty, 0.0, low), np.where(empty, 1.0, high)
        rounded = counted.max() >= ROUNDED_FROM
        for spec, count, *ends in zip(some, counted, p, low, high, strict=True):
            if spec.through is not None:
                value, *ends = spec.through(np.stack(ends))
                ends = [value, np.fmin(*ends), np.fmax(*ends)]  # it may fall
            if rounded:
                count = np.asarray(spec.formula(view.counts)[1])
            found[spec.key] = (*ends, count)
    return found


def _mover(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> dict[Any, Numbers]:
    found = {}
    for some, p, n, empty, _ in _proportions(specs, view):
        n = np.where(empty, NOTHING_KNOWN, n)
        for row, spec in enumerate(some):
            if spec.absent and not math.isnan(view.absent):
                undefined = np.isnan(p[row])
                n[row][undefined] = 0.0  # a constant has no doubt
                p[row][undefined] = view.absent
        if intervals:
            ends = mover(p, n)
        else:
            defined = ~np.isnan(p)
            ends = (np.where(defined, p, 0.0).sum(-1) / defined.sum(-1),) * 3
        for spec, *numbers in zip(some, *ends, strict=True):
            found[spec.key] = (*numbers, view.n)
    return found


def _delta(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> dict[Any, Numbers]:
    n = view.n
    view = view.in_mean_weights
    if not intervals:
        values = [np.clip(spec.formula(view.weights), *spec.range) for spec in specs]
        return {spec.key: (x, x, x, n) for spec, x in zip(specs, values, strict=True)}
    parts = map(attrgetter("formula", "gradient", "range"), specs)
    formulas, gradients, bounds = zip(*parts, strict=True)
    values, lows, highs = delta.delta_intervals(formulas, gradients, bounds, view)
    # All classes weigh the same in these, and one may be rare.
    some = [place for place, formula in enumerate(formulas) if hasattr(formula, "shares")]
    if some:
        means = [formulas[place] for place in some]
        _, low, high = mover(*means[0].shares(means, view))
        lows[some] = np.fmin(lows[some], low)
        highs[some] = np.fmax(highs[some], high)
    sums = view.weights
    lacking = ((sums.actual == 0) | (sums.predicted == 0) | (sums.others == 0)).any()
    for place, formula in enumerate(formulas):
        if lacking and getattr(formula, "doubtful", False):
            highs[place] = np.minimum(highs[place] + formula.doubt(sums), bounds[place][1])
    found: dict[Any, Numbers] = {}
    for spec, *ends in zip(specs, values, lows, highs, strict=True):
        found[spec.key] = (*ends, n)
    return found


def _normal(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> dict[Any, Numbers]:
    sums = np.stack([spec.formula(view) for spec in specs], 1)
    # What goes through a function is a mean of numbers of 0 or more, such as losses.
    ranges = np.array([spec.range if spec.through is None else (0, math.inf) for spec in specs])
    least, most = ranges.T.reshape(2, -1, *[1] * (sums.ndim - 2))
    found = {}
    for spec, n, *ends in zip(specs, sums[0], *mean_interval(sums, least, most), strict=True):
        if spec.through is not None:
            ends = spec.through(np.stack(ends))
        low, high = np.maximum(ends[1], spec.range[0]), np.minimum(ends[2], spec.range[1])
        found[spec.key] = (ends[0], low, high, n.astype(np.int64))
    return found


def _none(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> dict[Any, Numbers]:
    found = {}
    for spec in specs:
        value = np.asarray(spec.formula(view.weights), dtype=np.float64)
        nothing = np.full_like(value, np.nan)
        n = np.asarray(view.n)
        if spec.each:
            n = n[..., None]
        found[spec.key] = (value, nothing, nothing, np.broadcast_to(n, value.shape))
    return found


INTERVALS: Mapping[str, Callable[[Sequence[ScoreSpec], Any, bool], dict[Any, Numbers]]] = {
    "wilson": _wilson,
    "mover": _mover,
    "delta": _delta,
    "normal": _normal,
    "none": _none,
}
RETURNS: Mapping[str, str] = {
    "wilson": "a pair (part, whole)",
    "mover": "a pair (part, whole) of each class",
    "delta": "the score, smooth in hits, actual and predicted",
    "normal": 'the six sums of a cell with merge="mean"',
    "none": "the score",
}
ONE_NUMBER = "a formula that returns one number, or with each=True one a class"
RIGHT = "Index from the right, as slices stand in front; pm.ScoreSpec says what it is given."
