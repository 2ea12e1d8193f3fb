"""Laws and guards for metrics, ours and yours: `check_metric` and `assert_no_sync`; neither needs a GPU.

A `with fake_cuda():` block makes CUDA tensors without values and without a GPU. Inside it,
`assert_no_sync(step)` refuses at once what would synchronise on a real one, names the line that
asked for it, and counts what would be launched.
"""

import copy
import io
import math
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ptmetrics.metrics.base import Metrics

LIBRARIES = (
    str(Path(torch.__file__).parent),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib")),
)
FOREIGN = (*LIBRARIES, __file__, "<frozen", "<string>", "<__array")
NO_KERNEL = ("_unsafe_view", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty")
COPIES = ("_to_copy", "copy_", "to", "clone")
INDEXING = ("index", "index_put", "_unsafe_index", "_unsafe_index_put", "_index_put_impl")
# Beside torch's core and pointwise operations: looked up, none of their CUDA kernels reads a value
# back.
KNOWN = (
    "all arange baddbmm bucketize count_nonzero cummax cummin cumprod dot eye floor_divide frexp"
    " index_add isin linalg_vector_norm logsumexp mv native_batch_norm new_full new_ones new_zeros nll_loss_forward"
    " ones ones_like roll searchsorted stack take zero zeros zeros_like"
    # Random numbers: the generator's state is the host's. Not `normal` of a tensor, which is checked.
    " bernoulli exponential normal_ rand rand_like randint randint_like randn randn_like random uniform"
    # What models, their losses and optimizers are made of.
    " _cudnn_rnn _fused_adam _fused_adamw _fused_rms_norm _fused_sgd _safe_softmax"
    " _scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention"
    " _scaled_dot_product_flash_attention _thnn_fused_gru_cell _thnn_fused_lstm_cell"
    " binary_cross_entropy binary_cross_entropy_with_logits diag_embed huber_loss im2col linspace"
    " mse_loss multi_margin_loss nll_loss2d_forward norm smooth_l1_loss trace tril triu"
)
ON_LISTS = "_foreach_"  # an operation on each tensor of a list; a copy may come from the host
READERS = {
    Tensor.__repr__: "repr",
    Tensor.__format__: "format",
    Tensor.numpy: "numpy",
    Tensor.__array__: "array",
}
WAITS = (
    (torch.cuda, "synchronize"),
    (torch.cuda.Event, "synchronize"),
    (torch.cuda.Stream, "synchronize"),
    (torch.accelerator, "synchronize"),
)
Kwargs = Mapping[str, Any]


class HostSync(Exception):  # noqa: N818 — it is what happened
    """Something would have made the host wait: which rule it broke, which operation, where."""

    def __init__(self, rule: str, operation: str) -> None:
        self.rule = rule
        self.operation = operation
        self.file, self.line = asked_by()
        super().__init__(f"{self.file}:{self.line}: {operation} makes the host wait ({rule})")


def asked_by() -> tuple[str, int]:
    """File and line of the innermost frame that is neither torch's nor this module's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(FOREIGN):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


@cache
def name_of(func: Any) -> str:
    """The operation without its overload, and without the mark of one that works in place."""
    return str(func.overloadpacket).removeprefix("aten.")


@cache
def launches(func: Any) -> bool:
    """Whether an operation runs a kernel: one that gives a view, or memory as it is, does not."""
    if name_of(func) in NO_KERNEL:
        return False
    alias = func._schema.returns[0].alias_info if func._schema.returns else None
    return alias is None or bool(alias.is_write)


def tensors(args: Any) -> list[Tensor]:
    """Every tensor among the arguments, however deep."""
    return [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]


def reads_value(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """A number on the host that depends on values of the device: item, bool, equal, allclose."""
    return torch.Tag.data_dependent_output in func.tags and _on_device(args)


def reads_shape(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """A shape that depends on values of the device: nonzero, unique, bincount, masked_select."""
    by_value = torch.Tag.dynamic_output_shape in func.tags and name_of(func) not in INDEXING
    return by_value and _on_device(args)


def _on_device(args: Any) -> bool:
    return any(tensor.device.type == "cuda" for tensor in tensors(args))


def indexes_by_mask(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """A boolean index is a nonzero in disguise, in reading and in writing."""
    indexing = name_of(func).removesuffix("_") in INDEXING
    return indexing and any(t.dtype in (torch.bool, torch.uint8) for t in tensors(args[1]))


def copies_to_host(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """From the device to the host: waits, or, if told not to, hands out numbers that are not there yet."""
    source, goal = _copy_devices(func, args, kwargs)
    return source == "cuda" and goal == "cpu"


def copies_from_host(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """From pageable memory to the device: waits, unless told not to."""
    if _copy_devices(func, args, kwargs) != ("cpu", "cuda"):
        return False
    return not (kwargs.get("non_blocking") or args[2:3] == (True,))


def mixes_host_in(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """Index and where move a tensor from the host to the others by themselves; blocking."""
    if name_of(func).removesuffix("_") not in (*INDEXING, "where"):
        return False
    return {"cpu", "cuda"} <= {t.device.type for t in tensors((args, kwargs))}


def is_unknown(func: Any, args: Any, kwargs: Kwargs) -> bool:
    """An operation that nobody has looked at.

    See whether its CUDA kernel reads a value. If it does not, add it to KNOWN.
    """
    return not _is_known(func)


@cache
def _is_known(func: Any) -> bool:
    own_name = name_of(func)
    name = own_name.removesuffix("_")
    if (
        func.namespace != "aten"
        or not launches(func)
        or not {own_name, name}.isdisjoint(KNOWN.split())
    ):
        return True
    if name.startswith(ON_LISTS) and name != "_foreach_copy":
        return True
    packet = getattr(torch.ops.aten, name, func.overloadpacket)
    tags = {tag for overload in packet.overloads() for tag in getattr(packet, overload).tags}
    return bool(tags & {torch.Tag.core, torch.Tag.pointwise})


def _copy_devices(func: Any, args: Any, kwargs: Kwargs) -> tuple[str, str]:
    if name_of(func) == "copy_":
        return args[1].device.type, args[0].device.type
    if name_of(func) not in COPIES:
        return "", ""
    source = tensors(args)[0].device
    return source.type, torch.device(kwargs.get("device") or source).type


SyncRule = Callable[[Any, Any, Kwargs], bool]
SYNC_RULES: dict[str, SyncRule] = {
    rule.__name__: rule
    for rule in (
        reads_value, reads_shape, indexes_by_mask, copies_to_host, copies_from_host, mixes_host_in, is_unknown,
    )
}  # fmt: skip
SYNC_RULE_NAMES = (*SYNC_RULES, "reads_words", "waits")


class Operations(TorchDispatchMode):
    """Notes the name of every operation and the largest number of elements and bytes that one returned."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.largest = 0
        self.largest_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "prim":
            return result
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        if launches(func):
            self.names.append(str(func).removeprefix("aten."))
        if alias is None:  # in place there is nothing new
            for tensor in tensors(result):
                self.largest = max(self.largest, tensor.numel())
                self.largest_bytes = max(self.largest_bytes, tensor.numel() * tensor.element_size())
        return result


class _Readers(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READERS and args[0].device.type == "cuda":
            raise HostSync("reads_words", READERS[func])
        return func(*args, **(kwargs or {}))


class Guard(Operations):
    """Refuses what would make the host wait.

    Args:
        without: Rules to leave out, by name: only the test of the rules themselves needs that.
        fake: Whether tensors in it are without values.

    Raises:
        HostSync: From the operation itself, with the line that asked for it.
    """

    def __init__(self, without: tuple[str, ...] = (), *, fake: bool = False) -> None:
        super().__init__()
        self._fake = fake
        self._rules = {name: rule for name, rule in SYNC_RULES.items() if name not in without}
        self._without = without
        self._stack = ExitStack()

    def __enter__(self) -> "Guard":
        if self._fake:
            self._stack.enter_context(fake_cuda())
        if "reads_words" not in self._without:
            self._stack.enter_context(_Readers())
        if "waits" not in self._without:
            for owner, name in WAITS:
                self._stack.enter_context(patch.object(owner, name, _refuse_to_wait))
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for name, rule in self._rules.items():
            if rule(func, args, kwargs or {}):
                raise HostSync(name, str(func))
        return super().__torch_dispatch__(func, types, args, kwargs)


def _refuse_to_wait(*_: Any, **__: Any) -> None:
    raise HostSync("waits", "synchronize")


@contextmanager
def fake_cuda() -> Iterator[None]:
    """CUDA tensors without values: no shape may depend on one, as there is no ShapeEnv.

    In a block of the same kind it does nothing.
    """
    with ExitStack() as stack:
        if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is None:
            stack.enter_context(FakeTensorMode())
        yield


def assert_no_sync(step: Callable[[], object] | None = None) -> Guard:
    """Make CUDA tensors without values, and refuse whatever would make the host wait for the device.

    What is built in `fake_cuda()` can be used in it. A backward pass needs a GPU, whose threads it
    runs in.

    Args:
        step: What to call; None for a `with` block.

    Returns:
        The guard, which counts what would be launched: `len(guard.names)`.

    Raises:
        HostSync: From the operation itself, with the file and line that asked for it.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> from ptmetrics.testing import assert_no_sync, fake_cuda
        >>> metrics = pm.MulticlassMetrics(3)
        >>> with assert_no_sync():
        ...     logits = torch.zeros(8, 3, device="cuda")
        ...     metrics.update(logits, torch.zeros(8, dtype=torch.int64, device="cuda"))
        >>> with fake_cuda(), torch.device("cuda"):
        ...     model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        ...     x = torch.randn(8, 4)
        ...     guard = assert_no_sync(lambda: model(x).mean())
        >>> guard.names[-1]
        'mean.default'
    """
    guard = Guard(fake=True)
    if step is not None:
        with guard:
            step()
    return guard


MakeBatch = Callable[[int, int], Any]
UpdateArguments = dict[str, Any]


def check_metric(
    metric: Metrics, make_batch: MakeBatch, *, rows: int = 30, seeds: tuple[int, ...] = (0, 1)
) -> None:
    """Hold a metric to the laws that all metrics keep: merging, storing, arguments, no wait for the device.

    Args:
        metric: A metric of any configuration; it is not changed.
        make_batch: From a number of rows and a seed to what `update` is given: (preds, target), or
            a dictionary of its arguments. The same rows and seed give the same batch.
        rows: Rows of the larger batches.
        seeds: Seeds of the batches.

    Raises:
        AssertionError: If a law is broken: its name, and what was seen.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> from ptmetrics.testing import check_metric
        >>> def make_batch(rows, seed):
        ...     generator = torch.Generator().manual_seed(seed)
        ...     return torch.randn(rows, generator=generator), torch.randn(rows, generator=generator)
        >>> distance = pm.Mean("distance", lambda p, t: (p - t).abs(), higher_is_better=False)
        >>> check_metric(distance, make_batch)
    """
    for seed in seeds:
        batches = [_arguments(make_batch(n, seed + 97 * n)) for n in (rows, rows // 2, 1)]
        for law in LAWS:
            try:
                law(metric, batches)
            except AssertionError as error:
                name = law.__name__.removeprefix("_law_").replace("_", " ")
                raise AssertionError(f"law broken: {name} (seed {seed}): {error}") from error


def _arguments(batch: Any) -> UpdateArguments:
    if isinstance(batch, Mapping):
        return dict(batch)
    preds, target = batch
    return {"preds": preds, "target": target}


def _counted(metric: Metrics, batches: list[UpdateArguments]) -> Metrics:
    fresh = metric.fresh()
    for batch in batches:
        fresh.update(**batch)
    return fresh


def _some_rows(batch: UpdateArguments, rows: Any) -> UpdateArguments:
    return {
        key: value[rows] if isinstance(value, Tensor) else value for key, value in batch.items()
    }


def _cells(metric: Metrics) -> dict[str, Tensor]:
    cells: dict[str, Tensor] = metric.state_dict()["cells"]
    return cells


def _same_cells(ours: Metrics, theirs: Metrics, *, steps: bool = True) -> None:
    """Integers bit for bit, float sums to 1e-12; first steps only where updates were numbered alike."""
    mine = _cells(ours)
    other = _cells(theirs)
    assert mine.keys() == other.keys(), f"cells {sorted(mine)} and {sorted(other)}"
    if not steps and not ours.config.get("groups"):
        mine = _without_order_of_samples(ours, mine)
        other = _without_order_of_samples(theirs, other)
    for name, cell in mine.items():
        if name == "fault_first_step" and not steps:
            continue
        if cell.dtype == torch.int64:
            assert torch.equal(cell, other[name]), f"cell {name}: {cell} is not {other[name]}"
        else:
            scale = cell.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if cell.numel() else 0.0
            same = torch.allclose(cell, other[name], rtol=1e-9, atol=1e-12 * scale, equal_nan=True)
            assert same, f"cell {name}: {cell} is not {other[name]}"


def _without_order_of_samples(metric: Metrics, cells: dict[str, Tensor]) -> dict[str, Tensor]:
    """Samples that are groups fall into buckets in turn: what all buckets hold does not depend on the order."""
    plain: dict[str, Tensor] = {}
    for name, cell in cells.items():
        if not name.startswith("group."):
            plain[name] = cell
        elif metric.layout[name].merge == "sum":
            plain[name] = cell.sum(0)
    return plain


def _law_nothing_counted_is_the_identity_of_merging(
    metric: Metrics, batches: list[UpdateArguments]
) -> None:
    counted = _counted(metric, batches)
    merged = _counted(metric, batches).merge_state([metric.fresh(), metric.fresh()])
    _same_cells(merged, counted)
    _same_cells(metric.fresh().merge_state([counted]), counted)


def _law_any_partition_in_any_order_is_the_whole(
    metric: Metrics, batches: list[UpdateArguments]
) -> None:
    batch = batches[0]
    rows = len(batch["target"])
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(rows))
    parts = [metric.fresh() for _ in range(3)]
    for place, some in enumerate(order.tensor_split([0, 1, rows // 3, rows // 3, rows - 1])):
        parts[place % 3].update(**_some_rows(batch, some))
    first, *others = parts
    before = [_cells(other) for other in others]
    first.merge_state(others)
    _same_cells(first, _counted(metric, [batch]), steps=False)
    for other, cells in zip(others, before, strict=True):
        for name, cell in _cells(other).items():
            assert cell.equal(cells[name]) or cell.isnan().any(), "merging changed what was merged"


def _law_a_stored_state_goes_on_as_if_never_stored(
    metric: Metrics, batches: list[UpdateArguments]
) -> None:
    file = io.BytesIO()
    torch.save(_counted(metric, batches[:1]).state_dict(), file)
    file.seek(0)
    resumed = metric.fresh()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for batch in batches[1:]:
        resumed.update(**batch)
    _same_cells(resumed, _counted(metric, batches))
    assert resumed.updates == len(batches), f"{resumed.updates} updates for {len(batches)}"
    for twin in (copy.deepcopy(resumed), _pickled(resumed)):
        _same_cells(twin, resumed)


def _pickled(metric: Metrics) -> Metrics:
    try:
        twin: Metrics = pickle.loads(pickle.dumps(metric))
    except (pickle.PicklingError, AttributeError, TypeError):
        twin = metric  # a function in it that has no name, such as a lambda, is the user's choice
    return twin


def _law_arguments_stay_as_they_are(metric: Metrics, batches: list[UpdateArguments]) -> None:
    batch = copy.deepcopy(batches[0])
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
    versions = {key: value._version for key, value in tensors.items()}
    _counted(metric, [batch]).compute()
    for key, value in tensors.items():
        assert value._version == versions[key], f"{key} was written to"


def _law_the_caller_may_edit_a_batch_afterwards(
    metric: Metrics, batches: list[UpdateArguments]
) -> None:
    expected = _counted(metric, batches[:1])
    batch = copy.deepcopy(batches[0])
    if batch["preds"].is_floating_point():
        batch["preds"] = batch["preds"].requires_grad_() * 1
    metrics = _counted(metric, [batch])
    with torch.no_grad():
        for value in batch.values():
            if isinstance(value, Tensor):
                value.zero_()
    _same_cells(metrics, expected)
    graph = [name for name, cell in _cells(metrics).items() if cell.requires_grad]
    assert not graph, f"cells {graph} keep a graph"


def _law_compute_changes_nothing_and_repeats_itself(
    metric: Metrics, batches: list[UpdateArguments]
) -> None:
    metrics = _counted(metric, batches[:1])
    first = repr(metrics.compute().to_dict())
    assert repr(metrics.compute().to_dict()) == first, "the second result differs"
    for batch in batches[1:]:
        metrics.update(**batch)
    _same_cells(metrics, _counted(metric, batches))


def _law_reset_forgets_everything(metric: Metrics, batches: list[UpdateArguments]) -> None:
    metrics = _counted(metric, batches)
    metrics.reset()
    _same_cells(metrics, metric.fresh())
    assert not metrics.updates, f"{metrics.updates} updates are left"


def _law_an_empty_batch_counts_nothing(metric: Metrics, batches: list[UpdateArguments]) -> None:
    empty = _some_rows(batches[0], slice(0, 0))
    empty.pop("sample_weight", None)
    _same_cells(_counted(metric, [empty]), metric.fresh())


def _law_rows_without_weights_weigh_one(metric: Metrics, batches: list[UpdateArguments]) -> None:
    plain = {key: value for key, value in batches[0].items() if key != "sample_weight"}
    given = batches[0].get("sample_weight")
    if given is None:
        given = torch.ones(metric.row_shape(plain["target"]))
    ones = {**plain, "sample_weight": torch.ones_like(given)}
    _same_cells(_counted(metric, [plain, ones]), _counted(metric, [ones, plain]), steps=False)


def _law_rows_of_weight_0_change_no_score(metric: Metrics, batches: list[UpdateArguments]) -> None:
    plain = batches[0]
    if "sample_weight" in plain:
        return  # for batches whose weights are not part of what they say
    shape = metric.row_shape(plain["target"])
    counts = torch.arange(shape[0]) < shape[0] // 2
    weight = counts.double().reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    whole = _counted(metric, [{**plain, "sample_weight": weight}]).compute()
    alone = _counted(metric, [_some_rows(plain, slice(0, shape[0] // 2))]).compute()
    for name, score in whole.items():
        bound = 1e-9 + score.error_bound + alone[name].error_bound
        same = math.isclose(score.value, alone[name].value, rel_tol=1e-9, abs_tol=bound)
        both_nan = math.isnan(score.value) and math.isnan(alone[name].value)
        assert same or both_nan, f"{name} is {score.value} and not {alone[name].value}"


def _law_a_score_lies_in_its_interval_or_says_why_not(
    metric: Metrics, batches: list[UpdateArguments]
) -> None:
    for some in (batches, batches[2:], []):
        scores = _counted(metric, some).compute()
        for name, score in scores.items():
            if any(map(math.isnan, (score, score.low, score.high))):
                assert score.reason, f"{name} or an end of it is NaN without a reason"
            if not math.isnan(score):
                inside = not score.low > score.value and not score.high < score.value
                assert inside, f"{name}: {score}"
                assert score.n >= 0, f"{name}: n={score.n}"


def _law_the_users_modes_change_no_digit(metric: Metrics, batches: list[UpdateArguments]) -> None:
    expected = repr(_counted(metric, batches[:1]).compute().to_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert repr(_counted(metric, batches[:1]).compute().to_dict()) == expected, "autocast does"
    with torch.inference_mode():
        assert repr(_counted(metric, batches[:1]).compute().to_dict()) == expected, "inference does"
    torch.set_default_dtype(torch.bfloat16)
    try:
        seen = repr(_counted(metric, batches[:1]).compute().to_dict())
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen == expected, "the default dtype does"


def _law_nothing_waits_for_the_device(metric: Metrics, batches: list[UpdateArguments]) -> None:
    shapes = {}
    for key, value in batches[0].items():
        if isinstance(value, Tensor):
            shapes[key] = (value.shape, value.dtype)
    with assert_no_sync():
        metrics = metric.fresh()
        fake: UpdateArguments = dict(batches[0])
        for key, (shape, dtype) in shapes.items():
            fake[key] = torch.zeros(shape, dtype=dtype, device="cuda")
        try:
            metrics.update(**fake)
        except HostSync as error:
            raise AssertionError(str(error)) from error


LAWS: tuple[Callable[[Metrics, list[UpdateArguments]], None], ...] = (
    _law_nothing_counted_is_the_identity_of_merging,
    _law_any_partition_in_any_order_is_the_whole,
    _law_a_stored_state_goes_on_as_if_never_stored,
    _law_arguments_stay_as_they_are,
    _law_the_caller_may_edit_a_batch_afterwards,
    _law_compute_changes_nothing_and_repeats_itself,
    _law_reset_forgets_everything,
    _law_an_empty_batch_counts_nothing,
    _law_rows_without_weights_weigh_one,
    _law_rows_of_weight_0_change_no_score,
    _law_a_score_lies_in_its_interval_or_says_why_not,
    _law_the_users_modes_change_no_digit,
    _law_nothing_waits_for_the_device,
)
