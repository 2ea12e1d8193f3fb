"""Gate 3 where a sample holds several rows, as pixels of a picture or tokens of a text."""

from collections.abc import Iterator

from ptmetrics.digits import numbers
from ptmetrics.verdict.evidence import Evidence
from ptmetrics.verdict.finding import Bound
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule

_LEAST = {">=": "at least", "<=": "at most"}
_HELD: tuple[tuple[str, Bound, str], ...] = (
    ("mean_iou", ">=", "low-overlap"),
    ("dice", ">=", "low-overlap"),
    ("perplexity", "<=", "high-perplexity"),
)


@rule(codes=("low-overlap", "high-perplexity"), needs="classes")
def positions(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The overlap of areas, or the perplexity, is shown to miss what was asked for."""
    for name, bound, code in _HELD:
        wanted = getattr(evidence.thresholds, name)
        if wanted is None:
            continue
        criterion = evidence.criterion(name, wanted, rule=bound, code=code)
        yield criterion
        if criterion.state == "failed":
            value, low, high = numbers(*criterion.triple)
            message = (
                f"{name} is {value} [{low}, {high}] over {criterion.n:,} rows, wanted {_LEAST[bound]} "
                f"{wanted:.4g}."
            )
            yield make_finding(code, "fail", message, criterion.facts(score=name))


POSITION_RULES: tuple[Rule, ...] = (positions,)
