"""Real-valued predictions, row by row: what is refused and why, and bins for the magnitudes of errors."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.errors import ShapeError

LIMIT = 1e37  # the product of two fourth powers, which a cell keeps, does not overflow
BAD_PREDICTION = "prediction-not-finite"
BAD_VALUE = "target-not-finite"
POINT_FAULT_KINDS = {
    BAD_PREDICTION: "row with a prediction that is NaN, infinite or beyond 1e37, refused",
    BAD_VALUE: "row with a target that is NaN, infinite or beyond 1e37, refused",
}
NO_RATIO = "no-relative-error"
NO_RATIO_WORDS = (
    "row whose target is 0, or where a logarithm is asked for a value of -1 or less: it has no"
    " relative error, and is left out of the mean of those"
)
MAGNITUDE_BINS = 1 << 16  # 8 bits of exponent, 8 of mantissa: 0.4 % wide, whatever the scale
DROPPED_BITS = 52 - 8
FIRST_MAGNITUDE = (1023 - 127) << 8  # key of 2⁻¹²⁷; all that is smaller shares bin 0


def check_points(
    outputs: int, device: torch.device, preds: Tensor, target: Tensor, sample_weight: Tensor | None
) -> Batch:
    """Check on the host what shapes, types and devices tell.

    Args:
        outputs: D, the number of values a row.
        device: Where the metric counts.
        preds: Real numbers of shape (N, D), or (N,) or (N, d1, d2, …) where D is 1.
        target: Likewise.
        sample_weight: Non-negative weights of shape (N,), or (N, d1, d2, …); or None.

    Raises:
        ShapeError, DtypeError, DeviceError: Before anything is counted.
    """
    for name, value in (("preds", preds), ("target", target)):
        checks.as_tensor(name, value)
        checks.real_numbers(name, value)
    rows = preds.shape[0] if preds.ndim else 0
    allowed: list[tuple[int, ...]] = [(rows, outputs)]
    rule = f"(N, {outputs})"
    images = ""
    if outputs == 1:
        allowed.append((rows,))
        rule = f"(N,) or {rule}"
        images = ", or both (N, d1, d2, …)"
    dense = is_dense(target, outputs) and preds.shape == target.shape
    if dense:
        allowed.append(tuple(target.shape))
    if tuple(preds.shape) not in allowed or tuple(target.shape) not in allowed:
        raise ShapeError(
            "preds, target",
            f"both of shape {rule}, with the same N{images}",
            f"preds of shape {tuple(preds.shape)}, target of shape {tuple(target.shape)}",
            "Pass one row a sample, or build the metric with the right num_outputs.",
        )
    checks.same_device(device, preds=preds, target=target)
    weight = None
    if sample_weight is not None:
        like: tuple[int, ...] = (rows,)
        if dense:
            like = tuple(target.shape)
        weight = checks.row_weights(device, sample_weight, like, "one a row, of shape")
    if dense:
        return Batch(preds.reshape(-1), target.reshape(-1), weight)
    return Batch(preds, target, weight)


def is_dense(target: Tensor, outputs: int) -> bool:
    """Whether each sample of the targets is an image or a sequence, whose elements are the rows."""
    return outputs == 1 and target.ndim > 2


def read_points(batch: Batch, outputs: int) -> Tensor:
    """Read what values tell, leave out rows of weight 0, and refuse rows that cannot be; no host sync.

    Returns:
        Error (prediction − target), prediction and target, float64 of shape (rows, D, 3).
    """
    preds = batch.preds.reshape(-1, outputs)
    target = batch.target.reshape(-1, outputs)
    exact = None
    if not preds.dtype.is_floating_point and not target.dtype.is_floating_point:
        exact = (preds.long() - target.long()).double()  # beyond 2⁵³ too
    preds = preds.double()
    target = target.double()
    if batch.weight is not None:
        batch.ignore(batch.weight == 0)
    for kind, values in ((BAD_PREDICTION, preds), (BAD_VALUE, target)):
        fits = (values.abs() <= LIMIT).all(1)  # NaN fits nothing
        batch.refuse(kind, fits.logical_not())
    error = preds - target if exact is None else exact
    return torch.stack((error, preds, target), 2)


def percentage(error: Tensor, preds: Tensor, target: Tensor) -> Tensor:
    """|error| over |target|; infinite or NaN where the target is 0."""
    return (error / target).abs()


def symmetric_percentage(error: Tensor, preds: Tensor, target: Tensor) -> Tensor:
    """|error| over the mean of |prediction| and |target|; 0 where both are 0."""
    return torch.where(error == 0, 0.0, 2 * error.abs() / (preds.abs() + target.abs()))


def squared_log(error: Tensor, preds: Tensor, target: Tensor) -> Tensor:
    """Squared error of ln(1 + x); infinite or NaN from -1 down."""
    return (preds.log1p() - target.log1p()).square()


def size(error: Tensor, preds: Tensor, target: Tensor) -> Tensor:
    """|target|."""
    return target.abs()


def error_and_size(error: Tensor, preds: Tensor, target: Tensor) -> Tensor:
    """|error| + |target|, whose square tells how the two go together."""
    return error.abs() + target.abs()


ROW_ERRORS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mape": percentage,
    "smape": symmetric_percentage,
    "msle": squared_log,
    "size": size,
    "error_and_size": error_and_size,
}
"""Numbers a row that are kept where they are asked for, by the name of their cell."""


def row_errors(batch: Batch, names: Sequence[str], points: Tensor) -> dict[str, Counted]:
    """Some of `ROW_ERRORS`; NaN, and told, where there is none.

    Args:
        batch: Where it is told.
        names: Which ones.
        points: As `read_points` gives them.
    """
    found: dict[str, Counted] = {}
    missing = torch.zeros_like(points[:, 0, 0], dtype=torch.bool)
    for name in names:
        numbers = ROW_ERRORS[name](*points.unbind(2))
        fits = numbers <= LIMIT  # NaN fits nothing
        missing = missing | fits.logical_not().any(1)
        found[name] = torch.where(fits, numbers, torch.nan)
    if batch.counted is not None:
        missing = missing & batch.counted
    batch.report(NO_RATIO, missing)
    return found


def magnitude_bin(x: Tensor) -> Tensor:
    """Bin of each magnitude, increasing in it.

    Args:
        x: Float64, 0 or more; some bin for NaN.

    Returns:
        Int64 of the same shape, from 0 (below 2⁻¹²⁷ · (1 + 1/256)) to the last bin (just below 2¹²⁹
        and above).
    """
    return ((x.view(torch.int64) >> DROPPED_BITS) - FIRST_MAGNITUDE).clamp_(0, MAGNITUDE_BINS - 1)


def magnitude_edges() -> Tensor:
    """The smallest magnitude of each bin, 0 for the first, and infinity behind the last: float64."""
    edges = ((torch.arange(MAGNITUDE_BINS + 1) + FIRST_MAGNITUDE) << DROPPED_BITS).view(
        torch.float64
    )
    edges[0] = 0.0
    edges[-1] = torch.inf
    return edges
