"""`StoredSums`: what must hold among the cells of a stored state, so that a damaged one is refused.

Some relations follow from how rows are counted, whatever the task: each row goes to one part, and
sums of weights and of their squares go together. Others only the task knows; `Metrics.stored_relations`
tells them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ptmetrics.counts.cell import DAMAGED, LARGEST_COUNT, NEVER, Cell, State
from ptmetrics.counts.moments import joint_centre, joint_sums
from ptmetrics.errors import StateError

Measure = Literal["count", "weight", "square"]
MEASURES: tuple[Measure, ...] = ("count", "weight", "square")
WEIGHT_ROUNDING = 1e-6  # of sums of many weights, in another order
UNDERFLOW = 1e-150  # what is smaller has a square that float64 cannot hold
ORDERS = 4  # moments up to this order are read


class StoredSums(dict[str, Tensor]):
    """The cells of all rows, or of each part of them in a leading dimension, by name.

    Cells that count rows are float64 numbers of rows, or sums of weights or of squared weights, as
    `measure` says. Cells of means and joint moments are as they are kept; so are sums of values.

    Args:
        tensors: Tensors by name of the cell.
        kind: "" for all rows, "slice" or "group" for their parts.
        measure: "count", "weight" or "square".
        weighted: Whether there are sums of weights beside those of rows.

    Example:
        >>> import torch
        >>> sums = StoredSums({"rows": torch.tensor(3.0), "hits": torch.tensor(4.0)})
        >>> bool(sums.at_most(sums["hits"], sums["rows"]).all())
        False
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        kind: str = "",
        measure: Measure = "count",
        *,
        weighted: bool = False,
    ) -> None:
        super().__init__(tensors)
        self.kind = kind
        self.measure = measure
        self._weighted = weighted

    @classmethod
    def of(
        cls, cells: Sequence[Cell], state: State, kind: str, measure: Measure, *, weighted: bool
    ) -> "StoredSums":
        """Read a stored state."""
        front = ""
        if kind:
            front = f"{kind}."
        tensors: dict[str, Tensor] = {}
        for cell in cells:
            if not cell.is_kept_of(kind or "whole"):
                continue
            name = f"{front}{cell.name}"
            if measure != "count" and cell.counts_rows:
                name = f"{name}.{measure}"
            tensor = state[name]
            if cell.merge == "sum" and cell.dtype == torch.int64:
                tensor = tensor.double()
            tensors[cell.name] = tensor
        return cls(tensors, kind, measure, weighted=weighted)

    def are(self, measure: Measure) -> bool:
        """Whether rows count here as in a cell of this measure; without weights all are the same."""
        return self.measure == measure or not self._weighted

    def of_mean(self, sums: Tensor) -> Tensor:
        """Of the six sums of a mean, shape (…, 6, K), those of this measure, shape (…, K)."""
        return sums[..., MEASURES.index(self.measure), :]

    def at_most(self, less: Tensor, more: Tensor) -> Tensor:
        """Whether a sum is no larger than another one, up to what rounding does to weights."""
        if self.measure == "count":
            return less <= more
        return less <= more * (1 + WEIGHT_ROUNDING)

    def same(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether two sums of 0 or more are the same, up to what rounding does to weights."""
        return self.at_most(one, other) & self.at_most(other, one)


Relations = Callable[[StoredSums], Iterable[tuple[str, Tensor]]]
"""From the sums to pairs: what must hold, in words, and whether it does, a tensor of bools."""


def losses_relations(losses: Tensor, most_brier: float) -> Iterator[tuple[str, Tensor]]:
    """What must hold of the six sums of negative log-likelihood, Brier score and confidence − hit.

    Args:
        losses: The cell, of shape (…, 6, 3).
        most_brier: The largest Brier score of a row.
    """
    weight = losses[..., 1, :]
    nll, brier, gap = losses[..., 3, :].unbind(-1)
    most = weight[..., 1] * (1 + WEIGHT_ROUNDING)
    yield "a likelihood of at most 1", nll >= -WEIGHT_ROUNDING * weight[..., 0]
    yield f"a Brier score from 0 to {most_brier:g}", (brier >= 0) & (brier <= most_brier * most)
    yield "a confidence from 0 to 1", gap.abs() <= weight[..., 2] * (1 + WEIGHT_ROUNDING)


def no_relations(sums: StoredSums) -> Iterable[tuple[str, Tensor]]:
    """A metric that knows of no relation."""
    return ()


def check_relations(views: Iterable[StoredSums], relations: Relations) -> None:
    """Refuse a state whose cells contradict one another.

    Raises:
        StateError: If one of the relations does not hold.
    """
    for sums in views:
        for rule, holds in relations(sums):
            if not bool(holds.all()):
                name = "state_dict"
                if sums.kind:
                    name = f"state_dict, {sums.kind}s"
                raise StateError(name, rule, f"{sums.measure}s that contradict this", DAMAGED)


def general_relations(
    cells: Sequence[Cell], state: State, kinds: Iterable[str]
) -> Iterator[tuple[str, str, Tensor]]:
    """What holds in the state of any metric.

    Args:
        cells: What it keeps.
        state: The stored tensors, those of weights and parts among them.
        kinds: The kinds of parts of the rows, such as "slice".

    Returns:
        Name of a cell, what must hold, in words, and whether it does.
    """
    for name, square in state.items():
        if name.endswith(".square"):
            counts = name.removesuffix(".square")
            weight = state[f"{counts}.weight"]
            holds = _fit_together(state[counts].double(), weight, square)
            yield counts, "sums of weights that go with those of their squares", holds
    for kind in ("", *kinds):
        for cell in cells:
            name = f"{kind}.{cell.name}".removeprefix(".")
            if name in state and cell.merge in ("mean", "joint"):
                yield from _relations_of_moments(cell, state, kind)
    for kind in kinds:
        for cell in cells:
            of_both = cell.name in state and f"{kind}.{cell.name}" in state
            if of_both and cell.merge in ("sum", "mean"):
                yield from _parts_make_the_whole(cell, state, kind)
    never = state["fault_first_step"] == NEVER
    yield "fault_first_step", "a step of each fault", never == (state["fault_count"] == 0)
    early = never | (state["fault_first_step"] <= LARGEST_COUNT)
    yield "fault_first_step", f"steps up to {LARGEST_COUNT}", early


def check_general(cells: Sequence[Cell], state: State, kinds: Iterable[str]) -> None:
    """Refuse a state that no metric can have.

    Raises:
        StateError: If one of the relations does not hold.
    """
    for name, rule, holds in general_relations(cells, state, tuple(kinds)):
        if not bool(holds.all()):
            fact = "sums that contradict this"
            raise StateError(f"state_dict[{name!r}]", rule, fact, DAMAGED)


def _fit_together(n: Tensor, weight: Tensor, square: Tensor) -> Tensor:
    """Whether numbers of rows, Σw and Σw² can be of the same rows."""
    root = square.sqrt()
    more = 1 + WEIGHT_ROUNDING
    return (root <= weight * more) & (weight <= n.sqrt() * root * more)


def _parts_make_the_whole(cell: Cell, state: State, kind: str) -> Iterator[tuple[str, str, Tensor]]:
    name = f"{kind}.{cell.name}"
    rule = f"sums over the parts that make the whole {cell.name}"
    if cell.merge == "mean":
        n = state[name][:, 0].sum(0)
        yield name, rule, n == state[cell.name][0]
    elif cell.dtype == torch.int64:
        yield name, rule, state[name].double().sum(0) == state[cell.name].double()
        for twin in ("weight", "square"):
            whole = state.get(f"{cell.name}.{twin}")
            if whole is not None:
                total = state[f"{name}.{twin}"].sum(0)
                yield f"{name}.{twin}", rule, (total - whole).abs() <= WEIGHT_ROUNDING * whole


def _relations_of_moments(cell: Cell, state: State, kind: str) -> Iterator[tuple[str, str, Tensor]]:
    rows = "rows"
    name = cell.name
    if kind:
        rows = f"{kind}.rows"
        name = f"{kind}.{name}"
    if cell.merge == "joint":
        yield name, "moments that real numbers can have", _joint_holds(state[name])
        return
    sums = state[name].movedim(1 if kind else 0, 0)
    yield name, "sums that a weighted mean can have", _mean_holds(sums)
    if rows in state:
        most = state[rows].double()
        most = most.reshape((*most.shape, *[1] * (sums.ndim - 1 - most.ndim)))
        yield name, "no more numbers than rows", sums[0] <= most
    if f"{rows}.weight" not in state:
        unweighted = (sums[1] == sums[0]) & (sums[2] == sums[0])
        yield name, "weights of 1 where none was ever seen", unweighted


def _mean_holds(sums: Tensor) -> Tensor:
    """Whether n, Σw, Σw², Σw·x, Σw²·x and Σw²·x² can be of the same numbers, by Cauchy and Schwarz."""
    n, weight, square, first, square_first, square_second = sums.unbind(0)
    more = 1 + WEIGHT_ROUNDING
    whole = (n >= 0) & (n <= LARGEST_COUNT) & (n == n.floor()) & (weight >= 0) & (square >= 0)
    spread = square_second.clamp(min=0).sqrt()
    holds = whole & _fit_together(n, weight, square) & weight.isfinite() & square.isfinite()
    holds &= square_second >= 0
    holds &= first.abs() <= n.sqrt() * spread * more + n * UNDERFLOW
    holds &= square_first.abs() <= square.sqrt() * spread * more + weight * UNDERFLOW
    nothing = (first == 0) & (square_first == 0) & (square_second == 0)
    return holds & ((weight > 0) | nothing)


def _joint_holds(joint: Tensor) -> Tensor:
    """Whether moments up to the fourth order can be of the same points; bool of shape (…)."""
    order = torch.arange(ORDERS + 1, device=joint.device)
    low = (order.unsqueeze(1) + order) <= ORDERS
    sums = torch.where(low, joint_sums(joint), 0.0)
    more = 1 + WEIGHT_ROUNDING
    none, second, fourth = sums[..., 0, 0], 2 * sums[..., 2, 0], 24 * sums[..., 4, 0]
    target_second, target_fourth = 2 * sums[..., 0, 2], 24 * sums[..., 0, 4]
    both = 4 * sums[..., 2, 2]
    holds = none >= 0
    for even in (second, fourth, target_second, target_fourth, both):
        holds &= even >= 0
    for middle, one, other in (
        (second, none, fourth),
        (target_second, none, target_fourth),
        (both, fourth, target_fourth),
        (sums[..., 1, 1].abs(), second, target_second),
        (sums[..., 1, 0].abs(), none, second),
        (sums[..., 0, 1].abs(), none, target_second),
    ):
        limit = one.clamp(min=0).sqrt() * other.clamp(min=0).sqrt()
        holds &= middle <= limit * more + UNDERFLOW * (1 + none)
    # Both clouds have the same weights and targets.
    target = sums[..., 0, ::2]
    other = target.flip(-2)
    holds &= ((target - other).abs() <= WEIGHT_ROUNDING * target.abs()).all(-1)
    finite = sums.isfinite().flatten(-4).all(-1) & joint_centre(joint).isfinite().all(-1)
    return holds.flatten(-2).all(-1) & finite


def share_memory(tensors: Iterable[Tensor]) -> bool:
    """Whether two contiguous tensors overlap in memory."""
    spans = []
    for tensor in tensors:
        if tensor.numel() and not tensor.is_meta:
            start = tensor.data_ptr()
            stop = start + tensor.numel() * tensor.element_size()
            spans.append((str(tensor.device), start, stop))
    spans.sort()
    beside = pairwise(spans)
    return any(one[0] == other[0] and other[1] < one[2] for one, other in beside)
