"""Near duplicates: rows that lie far closer to a row of training than their other neighbours let expect."""

from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.leakage.hashes import Indices
from ptmetrics.leakage.samples import SIDE, Fingerprints

Distances = npt.NDArray[np.float64]
NEIGHBOURS, OF_PICTURES = 50, 70
"""Nearest rows that a twin is held against; of pictures, which lie in no small clusters, more."""
CANDIDATES = 140
"""Nearest rows that are looked at again, in which pictures are held against each other moved."""
LEAST_NEIGHBOURS = 12
SHARE_FALSE = 0.05
"""Of the rows that are named so many may be none, in expectation."""
MOST_TIES = 0.1
"""Share of equal distances among the nearest from which they tell nothing."""
MOSTLY_TWINS = -3.0
"""Middle of the z-values below which most rows have a twin, so that they tell no null."""
HIGHEST_CENTRE = 1.0
LEAST_FOR_NULL = 100  # rows from which their own middle half tells the null
INDEXED = 200_000  # rows of training from which an index of faiss is used, where it is installed
_BASE_ROWS, _QUERIES, _OF_FORMS = 16_384, 256, 2048
_REFINED = 64
MOVES = 3
"""Small moves of a picture that make no other one: to the side, up or down, and a rotation."""
_OF_BOTH = torch.from_numpy(np.repeat([-1, 1], [MOVES, MOVES * MOVES]))
_RIDGE = 1e-4
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True)
class NearTwins:
    """Near duplicates of two sets.

    Attributes:
        pairs: (row of training, row of validation), by the row of validation.
        searched: Rows of validation that were searched.
        why_not: Why nothing can be said; empty where it can.
    """

    pairs: list[tuple[int, int]] = field(default_factory=list)
    searched: int = 0
    why_not: str = ""


def near_twins(train: Fingerprints, val: Fingerprints, known: Indices, *, most: int) -> NearTwins:
    """Rows of validation that are near duplicates of training, but for those that are `known`.

    Of more than `most` rows a random sample is searched. Pictures are compared by thumbnails whose
    mean is 0 and whose length is 1, texts likewise, rows of numbers by columns in units of their own.
    """
    base = torch.from_numpy(np.asarray(train.features()))
    queries = torch.from_numpy(np.asarray(val.features()))
    if len(base) <= LEAST_NEIGHBOURS:
        return NearTwins(why_not=f"fewer than {LEAST_NEIGHBOURS + 1} rows of training")
    if train.kind == "numbers" and not train.own_features:
        base, queries = _standardised(base, queries)
    else:
        base, queries = _unit(base), _unit(queries)
    rows = np.flatnonzero(~np.isin(val.read(), known) & (queries.norm(dim=1) > 0).numpy())
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    queries = queries[torch.from_numpy(rows)]
    kept = NEIGHBOURS
    if train.pictures:
        kept = OF_PICTURES
    found = nearest(queries, base, min(CANDIDATES, len(base)))
    distance, place = _looked_at(queries, base, found, train.pictures)
    distance = distance[:, : min(kept, len(base) - 1)]
    if ties(distance) > MOST_TIES:
        why = "too many rows lie equally far from each other: equal rows alone can be told"
        return NearTwins(why_not=why)
    flagged = false_share_below(calibrated(spacing_p(distance)), SHARE_FALSE)
    of_train = train.read()[place[flagged, 0]]
    of_val = val.read()[rows[flagged]]
    pairs = list(zip(of_train.tolist(), of_val.tolist(), strict=True))
    return NearTwins(pairs, len(rows) + len(known))


def _unit(rows: Tensor) -> Tensor:
    rows = rows - rows.mean(1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    blank = length < 1e-5 * (1 + length.max())
    return torch.where(blank, 0.0, rows / length.clamp_min(_LEAST_LENGTH))


def _standardised(base: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Columns in units of their own over the first set; missing numbers lie in the middle."""
    columns = []
    for column, asked in zip(base.T, queries.T, strict=True):
        known = column[torch.isfinite(column)].double().numpy()
        if not len(known):
            continue
        both = torch.cat([column, asked]).double()
        low, middle, high = np.percentile(known, (25, 50, 75))
        # Far ends count as by a logarithm, or a few rows would be all of the distance.
        if high > low:
            both = torch.asinh((both - middle) / (high - low))
            known = np.arcsinh((known - middle) / (high - low))
        mean = float(known.mean())
        spread = float(known.std())
        if spread <= 1e-6 * (1 + abs(mean)):
            continue
        unit = float(np.ptp(known))
        if high > low:
            unit = max(spread, unit / 4)
        # Of a column that mostly holds one value the range is the unit: a rare value is no outlier.
        columns.append(torch.nan_to_num((both - mean) / unit, 0.0, 0.0, 0.0).float())
    if not columns:
        return base[:, :1] * 0, queries[:, :1] * 0
    scaled = torch.stack(columns, 1)
    return scaled[: len(base)], scaled[len(base) :]


def nearest(queries: Tensor, base: Tensor, number: int) -> Tensor:
    """The nearest rows of the base for each query, of shape (queries, number), in no order.

    Example:
        >>> import torch
        >>> base = torch.tensor([[0.0], [1.0], [5.0]])
        >>> sorted(nearest(torch.tensor([[0.9]]), base, 2)[0].tolist())
        [0, 1]
    """
    if len(base) >= INDEXED and find_spec("faiss") is not None:
        return _by_index(queries, base, number)
    squares = base.square().sum(1)
    found = queries.new_empty(len(queries), min(number, len(base)), dtype=torch.int64)
    for start in range(0, len(queries), _QUERIES):
        part = queries[start : start + _QUERIES]
        best = part[:, :0]
        place = best.long()
        for first in range(0, len(base), _BASE_ROWS):
            rows = slice(first, first + _BASE_ROWS)
            away = torch.addmm(squares[rows].unsqueeze(0), part, base[rows].T, alpha=-2)
            near, at = away.topk(min(number, away.shape[1]), largest=False, sorted=False)
            best, order = torch.cat([best, near], 1).topk(
                min(number, best.shape[1] + near.shape[1]), largest=False
            )
            place = torch.cat([place, at + first], 1).gather(1, order)
        found[start : start + _QUERIES] = place
    return found


def _by_index(queries: Tensor, base: Tensor, number: int) -> Tensor:
    """As `nearest`, by an index of faiss: a few of the farther ones may be missed."""
    import faiss

    rows: Any = np.ascontiguousarray(base.numpy())
    lists = int(4 * len(rows) ** 0.5)
    index: Any = faiss.index_factory(rows.shape[1], f"IVF{lists},Flat")
    index.train(rows[:: max(1, len(rows) // (64 * lists))])
    index.add(rows)
    index.nprobe = 32
    _, place = index.search(np.ascontiguousarray(queries.numpy()), number)
    return torch.from_numpy(np.where(place < 0, place[:, :1], place))


def _looked_at(
    queries: Tensor, base: Tensor, found: Tensor, pictures: bool
) -> tuple[Distances, Indices]:
    """Distances to the rows that were found, the nearest first, and which rows those are.

    Between pictures what a small rotation or shift explains is taken out.
    """
    if pictures:
        own_base, own_queries = _forms_of(base), _forms_of(queries)
    distances = np.empty(found.shape)
    places = np.empty(found.shape, dtype=np.int64)
    for first in range(0, len(queries), _REFINED):
        rows = slice(first, first + _REFINED)
        part, at = queries[rows], found[rows]
        others = base[at]
        squares = (others - part.unsqueeze(1)).square().sum(2)
        if pictures:
            of_pairs = own_base[at] + own_queries[rows].unsqueeze(1) * _OF_BOTH
            of_pairs += others @ _crossed(part)
            squares = squares - _by_moves(of_pairs[..., :MOVES], of_pairs[..., MOVES:])
        distance, order = squares.clamp_min(0).sqrt().sort(1)
        distances[rows] = distance.numpy()
        places[rows] = at.gather(1, order).numpy()
    return distances, places


# How much of the difference of two thumbnails small moves explain. Each move is a matrix L, along
# which a thumbnail changes; two of them, x and y, change along L (x + y). Of x - y that explains
# c' G^-1 c, where c = (x - y)' L (x + y) for each move, and G = (x + y)' L' L (x + y) for each two:
# sums of a number of x, one of y, and a product of both. They are summed over the colours.
# Source: the tangent distance of Simard, LeCun and Denker, 1993.


def _by_moves(along: Tensor, gram: Tensor) -> Tensor:
    """What moves explain of squared distances, from c of shape (…, moves) and G of (…, moves²)."""
    gram = gram.reshape(*along.shape, MOVES)
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    diagonal += _RIDGE * diagonal.sum(-1, keepdim=True) + _LEAST_LENGTH
    explained: Tensor = along * torch.linalg.solve(gram, along)
    return explained.sum(-1)


def _forms_of(thumbnails: Tensor) -> Tensor:
    """The numbers x' F x of all forms, of shape (thumbnails, forms)."""
    made = []
    for part in torch.split(thumbnails, _OF_FORMS):
        products = _products(part, _forms())
        made.append((products * _colours(part).unsqueeze(2)).sum((1, 3)))
    return torch.cat(made)


def _crossed(thumbnails: Tensor) -> Tensor:
    """What an x is multiplied by for the products of x and each y, of shape (y, numbers, forms)."""
    both = _forms().mT + _forms() * _OF_BOTH.reshape(-1, 1, 1)
    return _products(thumbnails, both).transpose(2, 3).flatten(1, 2)


def _products(thumbnails: Tensor, forms: Tensor) -> Tensor:
    """All x' F, of shape (thumbnails, colours, forms, pixels)."""
    colours = _colours(thumbnails)
    products = colours @ forms.transpose(0, 1).flatten(1)
    return products.reshape(*colours.shape[:2], *forms.shape[:2])


def _colours(thumbnails: Tensor) -> Tensor:
    pixels = SIDE * SIDE
    return thumbnails.reshape(len(thumbnails), thumbnails.shape[1] // pixels, pixels)


@lru_cache(1)
def _forms() -> Tensor:
    """The matrices L of all moves, then L' L of each two, of shape (forms, 64, 64)."""
    pixels = torch.from_numpy(np.eye(SIDE * SIDE, dtype=np.float32)).reshape(-1, SIDE, SIDE)
    along_x = _slope(pixels)
    along_y = _slope(pixels.mT).mT
    place = torch.from_numpy(np.arange(SIDE, dtype=np.float32)) - (SIDE - 1) / 2
    turned = (place * along_y - place.unsqueeze(1) * along_x) / SIDE
    moves = torch.stack([along_x, along_y, turned]).flatten(2).mT
    return torch.cat([moves, (moves.mT.unsqueeze(1) @ moves).flatten(0, 1)])


def _slope(pictures: Tensor) -> Tensor:
    """The derivative from left to right, by the two pixels on each side."""
    wider = functional.pad(pictures, (2, 2), mode="replicate")
    near = wider[..., 3:-1] - wider[..., 1:-3]
    return (8 * near - wider[..., 4:] + wider[..., :-4]) / 12


# From distances to rows that are named.


def ties(distance: Distances) -> float:
    """Share of equal distances among the ten nearest of each row."""
    first = distance[:, :11]
    return float(np.mean(np.diff(first, axis=1) <= 1e-6 * first[:, 1:])) if len(first) else 0.0


def spacing_p(distance: Distances) -> Distances:
    """How likely the one or two nearest of the rows lie so much closer than the others.

    Where points lie with locally equal density, of whatever dimension m, the numbers
    j · m · ln(d[j + 1] / d[j]) are independent and exponential. So the mean of the first one or
    two over that of the others has an F distribution that does not depend on m.

    Args:
        distance: Of shape (rows, neighbours), rising in each row.

    Example:
        >>> import numpy as np
        >>> usual = np.arange(1.0, 41.0) ** 0.25
        >>> twin = np.concatenate([[0.1], usual[1:]])
        >>> [f"{p:.1g}" for p in spacing_p(np.stack([usual, twin]))]
        ['0.7', '0.0002']

    Source: Rényi spacings; Facco et al. 2017 use the first of them (TwoNN).
    """
    logs = np.log(np.maximum(distance, _LEAST_LENGTH))
    spacings = np.diff(logs, axis=1) * np.arange(1, distance.shape[1])
    p = np.ones(len(distance))
    for first in (1, 2):
        rest = spacings[:, first:].sum(1)
        share = rest / np.maximum(spacings.sum(1), 1e-300)
        power = spacings.shape[1] - first
        tail = share**power
        if first == 2:
            tail = tail * (1 + power * (1 - share))
        p = np.minimum(p, tail)
    return np.asarray(1 - (1 - p) ** 2)


def calibrated(p: Distances) -> Distances:
    """The values held against the null that their own middle tells.

    Its centre is the median of their z-values, its spread that of the quarter above, where no twin
    lies; centres above 1 and spreads below 1 are not believed. Of few rows, and where most have a
    twin, the values stay as they are.

    Source: Efron's empirical null, Journal of the American Statistical Association 2004.
    """
    z = torch.special.ndtri(torch.from_numpy(np.clip(p, 1e-300, 1 - 1e-16)))
    if len(z) < LEAST_FOR_NULL or z.median() < MOSTLY_TWINS:
        return p
    centre, high = torch.quantile(z, z.new_tensor([0.5, 0.75])).tolist()
    spread = max(1.0, (high - centre) / 0.6745)
    scaled = (z - min(centre, HIGHEST_CENTRE)) / spread
    return np.asarray(torch.special.ndtr(scaled).numpy())


def false_share_below(p: Distances, share: float) -> npt.NDArray[np.bool_]:
    """Which rows are named, so that in expectation at most this share of them is none.

    Example:
        >>> import numpy as np
        >>> false_share_below(np.array([0.001, 0.2, 0.02, 0.9]), 0.05).tolist()
        [True, False, True, False]

    Source: Benjamini and Hochberg 1995.
    """
    order = np.argsort(p)
    below = p[order] <= share * np.arange(1, len(p) + 1) / max(1, len(p))
    named = np.zeros(len(p), dtype=bool)
    named[order[: np.flatnonzero(below).max(initial=-1) + 1]] = True
    return named
