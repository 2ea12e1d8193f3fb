"""Slices of an evaluation, such as hospitals or cameras: the same scores of each, the worst slice first."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ptmetrics.metrics.score import Score

PerSlice = dict[str, dict[str, Score]]


def worst_first(
    columns: Mapping[str, Sequence[Score]], names: Sequence[str], headline: str
) -> PerSlice:
    """Slices by name, the worst by its `headline` score first; those where it is undefined last.

    Args:
        columns: Name of a score to one `Score` a slice.
        names: One name a slice.
        headline: Name of the score that orders them.
    """
    lead = columns[headline]

    def badness(i: int) -> tuple[bool, float]:
        value = lead[i].value
        return math.isnan(value), value if lead[i].higher_is_better else -value

    return {
        names[i]: {name: scores[i] for name, scores in columns.items()}
        for i in sorted(range(len(names)), key=badness)
    }


def slices_to_dict(per_slice: Mapping[str, Mapping[str, Score]], headline: str) -> dict[str, Any]:
    """Plain columns, the worst slice first, as they stand in a record; empty without slices."""
    if not per_slice:
        return {}
    rows = list(per_slice.values())
    fields = ("value", "low", "high", "n")
    return {
        "by": headline,
        "names": list(per_slice),
        "filled": sum(row[headline].n > 0 for row in rows),
        "scores": {
            name: {field: [getattr(row[name], field) for row in rows] for field in fields}
            | {"method": rows[0][name].method}
            for name in rows[0]
        },
    }


def worst(slices: Mapping[str, Any], most: int) -> dict[str, Any]:
    """The first rows of what `slices_to_dict` gives; `filled` goes on to tell how many slices there are."""
    cut = {
        name: {
            key: value[:most] if isinstance(value, list) else value for key, value in column.items()
        }
        for name, column in slices.get("scores", {}).items()
    }
    return dict(slices) | ({"names": slices["names"][:most], "scores": cut} if slices else {})
