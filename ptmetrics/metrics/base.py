"""`Metrics`: what every task shares. A task says what it keeps, how a batch is checked and counted, and its scores."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from ptmetrics import distributed
from ptmetrics.counts import checks, kernels
from ptmetrics.counts.accumulator import OF_GROUPS, Accumulator
from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.counts.cell import Cell, State, check_cells
from ptmetrics.counts.modes import capturing, exact_arithmetic
from ptmetrics.counts.small_batches import SmallBatchBuffer, form_of, is_as_given
from ptmetrics.counts.stored_sums import StoredSums
from ptmetrics.counts.subgroups import (
    BAD_SLICE,
    BAD_SLICE_WORDS,
    BUCKETS,
    MOST_BYTES,
    Subgroups,
    bucket_of_each_sample,
)
from ptmetrics.errors import ShapeError, StateError
from ptmetrics.metrics import host
from ptmetrics.metrics.estimate import (
    Array,
    Estimate,
    Key,
    NamedScores,
    ScoreColumns,
    add_parts,
    estimate_of,
    stacked,
    worst_first,
)
from ptmetrics.metrics.groups import all_by_groups
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.samples import SampleBuffer
from ptmetrics.metrics.score import FaultReport, Scores
from ptmetrics.metrics.score_spec import (
    ONE_NUMBER,
    FormulaError,
    ScoreSpec,
    ScoreTable,
    as_tables,
    check_names,
    evaluate,
    formula_error,
)

BAD_WEIGHT = "bad-weight"
BAD_WEIGHT_WORDS = (
    "sample weight that is negative, NaN or infinite, or beyond 1e-140 to 1e140, row refused"
)
SLICES_BY_ROWS = "Intervals of slices take rows for independent."
Estimates = dict[Key, Estimate]
NONE_KNOWN: Mapping[Any, Any] = {}
Self = TypeVar("Self", bound="Metrics")


class Metrics:
    """Counts batches on their device and turns the counts into scores; the base of all metrics, yours too.

    A metric of your own gives `cells()`, what is kept; `count(batch)`, numbers a row; and its
    scores, as a table (`score_tables`) or by `scores(counts)`. Weights, slices, groups, merging,
    storing and moving come with it.

    Args:
        slices: Parts of the data to score by themselves, such as hospitals or cameras: their names,
            or how many; `update(…, slices=ids)` takes the slice of each row. See
            `scores.per_slice`.
        groups: Whether rows come in groups, such as the frames of a patient: `update(…, group=ids)`
            takes the group of each row, and intervals allow for what rows of a group have in
            common. False takes rows for independent. None, the default of the tasks whose targets
            may be images or sequences: where a sample holds several rows, the pixels of an image or
            the tokens of a text, the sample is the group of its rows, and the name of the
            interval's method says so.
        device: Where to count; a metric that has counted nothing yet follows its first batch.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> class Within(pm.Metrics):
        ...     "Share of predictions within a distance of the target."
        ...
        ...     def __init__(self, distance, **options):
        ...         self.distance = distance
        ...         super().__init__(**options)
        ...
        ...     def cells(self):
        ...         return [pm.Cell("near")]
        ...
        ...     def count(self, batch):
        ...         return {"near": (batch.preds - batch.target).abs() <= self.distance}
        ...
        ...     def scores(self, counts):
        ...         return {"within": counts["near"] / counts["rows"]}
        >>> metrics = Within(0.5)
        >>> metrics.update(torch.tensor([1.0, 2.0]), torch.tensor([1.2, 3.0]))
        >>> metrics.compute()["within"].value
        0.5
    """

    task: ClassVar[str] = ""
    """What records call the metric; the name of the class where it is empty."""
    score_tables: tuple[ScoreTable | ScoreSpec, ...] = ()
    """Its scores: specs, whose formulas are given the cells by name, or tables with a view of their own."""
    fault_kinds: Mapping[str, str] = {}
    """Kinds of bad values that `count` refuses or reports, and the words for a person."""
    note_kinds: ClassVar[frozenset[str]] = frozenset()
    """Those of them that are no fault: they stand in `scores.notes`."""
    headline: str = ""
    """Name of the score that orders slices; the first score where it is empty."""
    rows_at_once: int = 0
    """Rows of a batch on the CPU that are counted at a time, so that they stay in its cache; 0 for all."""
    whole_samples: bool = False
    """Whether `count` is given all rows of a sample at once, and `batch.sample_rows`, their number."""
    waits: ClassVar[bool] = False
    """Whether small batches may be counted later, together with those that come after them."""
    absent: float = math.nan
    """Value of an undefined score of a class."""
    optional_tables: tuple[ScoreTable, ...] = ()
    """Scores that are there only where `scores=` asks for them by name."""
    asked: frozenset[str] = frozenset()
    """The names that were asked for, as `options.own_specs` tells them; set before `super().__init__()`."""
    class_names: tuple[str, ...] = ()
    _kernel: kernels.BatchKernel | None = None  # what reads ordinary batches on CUDA in one launch

    def __init__(
        self,
        *,
        slices: Sequence[str] | int = (),
        groups: bool | None = False,
        device: torch.device | str = "cpu",
    ) -> None:
        config: dict[str, Any] = {"task": self.task or type(self).__qualname__}
        config.update(self.counted_arguments())
        self._subgroups = Subgroups.checked(slices, groups)
        if self._subgroups.slices or groups:
            config["slices"] = len(self._subgroups.slices)
            config["groups"] = bool(groups)
        if "score_tables" not in vars(self):
            self.score_tables = self.tables()
        self._score_tables = self._all_tables()
        check_names(self._score_tables)
        cells = [*self.cells(), Cell("rows")]
        check_cells(cells)
        if groups is None and self._subgroups.bytes_of(cells) > MOST_BYTES:
            self._subgroups = replace(self._subgroups, groups=False)  # nobody asked for them
        self._subgroups.check_size(cells)
        kinds = self._fault_words()
        where = checks.with_float64(device)
        self._accumulator = Accumulator(cells, config, self._subgroups, kinds, where)
        self._buffer = SmallBatchBuffer()
        self._samples: SampleBuffer | None = None
        self._sample_axes = 0
        self._only_paired = False  # whether buckets are for holding two models against each other
        self._flat_form: tuple[Any, ...] | None = (
            None  # of a batch that passed the checks as it was
        )
        self._lock = threading.RLock()  # one thread at a time; a hook or a signal may come again
        self._by_criterion = False  # a batch is what a torch criterion was called with

    # What a task says.
    def cells(self) -> Sequence[Cell]:
        """What is kept; called once, from `__init__`."""
        raise NotImplementedError

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what shapes, types and devices tell, on the host; changes nothing.

        Args:
            preds: As `update` was given it.
            target: As `update` was given it.
            sample_weight: As `update` was given it.

        Returns:
            The batch with one row in each place of the first dimension.

        Raises:
            ShapeError, DtypeError, DeviceError: If the batch cannot be counted.
        """
        checks.as_tensor("preds", preds)
        checks.as_tensor("target", target)
        if not preds.ndim or not target.ndim or preds.shape[0] != target.shape[0]:
            fact = f"shapes {tuple(preds.shape)} and {tuple(target.shape)}"
            raise ShapeError(
                "preds, target", "as many rows in each", fact, "Pass one target a row."
            )
        checks.same_device(self.device, preds=preds, target=target)
        weight = None
        if sample_weight is not None:
            weight = checks.row_weights(self.device, sample_weight, (preds.shape[0],), "of shape")
        return Batch(preds, target, weight)

    def count(self, batch: Batch) -> Mapping[str, Counted]:
        """Read a batch on its device: for each cell a number a row, places, or their sum.

        No host sync: nothing like `.item()`, `if tensor:` or a boolean index.

        Args:
            batch: Rows that passed `check`; `batch.refuse` says which do not count.

        Returns:
            By the name of the cell: numbers of shape (rows, *cell), which the metric adds up,
            weighted, for all rows and for each slice and group; `batch.at(index)` to count at
            places of the cell; or a sum of the cell's shape, which is not weighted and has no
            slices.
        """
        raise NotImplementedError

    def read_ahead(self, batch: Batch) -> None:
        """Put what is read of predictions in their place, where they are too many to wait and that is not.

        `count` is then given a batch that `is_read`. Changes nothing of the metric.
        """

    def scores(self, counts: Counts) -> Mapping[str, Any]:
        """Scores that no table holds.

        Args:
            counts: NumPy arrays by the name of the cell, and `counts["rows"]`, the number of rows.
                `counts.weight(name)` is the sum of the weights for a cell that counts rows.

        Returns:
            By name a number, or a `Score` with its interval.
        """
        return {}

    def tables(self) -> tuple[ScoreTable | ScoreSpec, ...]:
        """The score tables of this metric, where its arguments have a say; called from `__init__` and by copies."""
        return type(self).score_tables

    def asked_tables(self) -> tuple[ScoreTable, ...]:
        """Scores that are there only where `scores=` asks for them by name, where arguments have a say."""
        return self.optional_tables

    def summarize(self, state: State) -> State:
        """What of the cells goes to the host: large ones can be summed up on the device first."""
        return state

    def stored_relations(self, sums: StoredSums) -> Iterable[tuple[str, Tensor]]:
        """What must hold among stored cells, so that a damaged state is refused.

        Args:
            sums: The cells by name: of all rows, or of each part of them in a leading dimension.

        Returns:
            Pairs: what must hold, in words, and whether it does, a tensor of bools.
        """
        return ()

    def details(self, state: State, counts: Counts) -> dict[str, Any]:
        """What `Scores` gets beside the scores, by the name of its argument."""
        return {}

    def row_shape(self, target: Tensor) -> tuple[int, ...]:
        """Shape of the rows behind a checked target."""
        return (target.shape[0],)

    def counted_arguments(self) -> dict[str, Any]:
        """The plain values that fix what is counted: every public one that was set before `super().__init__()`."""
        plain = (bool, int, float, str, tuple, list, type(None))
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if not name.startswith("_") and isinstance(value, plain)
        }

    # What comes with it.
    def update(
        self,
        preds: Tensor,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        slices: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        """Count one batch. No host sync; nothing is kept of the arguments, nothing in them changes.

        Apple's MPS has no float64: there counts stay on the CPU, and each batch is copied to it,
        which waits. While a CUDA graph is captured, each replay counts what it reads; `updates`
        does not see replays, and `reset()` keeps the tensors that they write to.

        Args:
            preds: Predictions, as the class docstring says.
            target: Truth of the same rows.
            sample_weight: Non-negative weights, one a row.
            slices: The slice of each row, signed integers: 0 to K − 1, and −1 for none. Anything
                else is counted as a fault, and the row in the whole only.
            group: The group of each row, such as its patient: signed integers of any value but
                −2⁶³.

        Raises:
            ShapeError, DtypeError, DeviceError: At once, with nothing counted.
            ConfigError: If there are ids that the metric was not built for.
        """
        form = form_of(preds, target, sample_weight)
        with self._lock:
            accumulator = self._accumulator
            flat = form is not None and form == self._flat_form
            if flat and slices is None and group is None and self._buffer.ready:
                self._buffer.add(preds, target, sample_weight, accumulator.updates)
            else:
                self._update_checked(form, preds, target, sample_weight, slices, group)
            if self._buffer.full:
                self._count_waiting()
            accumulator.updates += 1

    def _update_checked(
        self, form: Any, preds: Any, target: Any, weight: Any, slices: Any, group: Any
    ) -> None:
        """Count a batch, or have it wait; those of its form may need no further check."""
        if form is not None and form == self._flat_form and slices is None and group is None:
            batch = Batch(preds, target, weight, step=self.updates)
            flat = True
        else:
            self._flat_form = None
            batch = self._checked(preds, target, weight, slices, group)
            flat = is_as_given(batch, preds, target, weight) and not self._only_paired
        self.read_ahead(batch)
        if not self._buffer.put(batch, form):
            batch.let_go_of_graphs()
            self._count_now(batch, form)
        if flat:
            self._flat_form = form

    @contextmanager
    def called_by_criterion(self) -> Iterator[None]:
        """While it lasts, batches are what a criterion of torch was called with: classes in dimension 1.

        For whoever hands over what a criterion saw. `check` and `update` then ask for no
        `class_dim` where the shapes leave it open.
        """
        before = self._by_criterion
        self._by_criterion = True
        try:
            yield
        finally:
            self._by_criterion = before

    def compute(self) -> Scores:
        """All scores of what was counted so far; local, changes nothing, one device-to-host copy."""
        return compute_together([self])[0]

    def merge_state(self: Self, metrics: Iterable[object]) -> Self:
        """Add what other metrics of the same configuration counted; they do not change.

        Raises:
            StateError: If a configuration differs; nothing is merged.
        """
        if isinstance(metrics, Metrics):
            raise _not_a_list_of_metrics(metrics)
        others: list[Metrics] = []
        for other in metrics:
            if not isinstance(other, Metrics):
                raise _not_a_list_of_metrics(other)
            others.append(other)
        # All is read before anything is added: this metric may be among the others, and two
        # threads that merge two metrics into each other never hold both locks.
        added = self._accumulator.fresh()
        axes = 0
        for one in others:
            with one._lock:
                one._count_waiting()
                added.merge([one._accumulator])
                axes = max(axes, one._sample_axes)
        with self._lock:
            self._count_waiting()
            self._accumulator.merge([added])
            self._sample_axes = max(axes, self._sample_axes)
        return self

    def sync(self: Self, *, timeout_s: float = distributed.TIMEOUT_S) -> Self:
        """A copy that holds what all ranks of `torch.distributed` counted; this one stays as it is.

        Every rank has to call it. Whole numbers are exact however the data was shared out, and the
        copy is the same on all ranks, those without data too. A process that is alone gets a copy
        of its own counts. To add up several metrics at once: `sync_together`.

        Args:
            timeout_s: How long to wait for the other ranks, in seconds.

        Raises:
            RanksError: If a rank did not come in time, which it names, or counts something else.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> metrics = pm.MulticlassMetrics(2)
            >>> metrics.update(torch.eye(2), torch.tensor([0, 1]))
            >>> metrics.sync().compute()["accuracy"].value
            1.0
        """
        return sync_together([self], timeout_s=timeout_s)[0]

    def fresh(self: Self) -> Self:
        """A metric of the same configuration and device that has counted nothing."""
        other = copy.copy(self)
        other._score_tables = self._score_tables  # the same: those of both are computed together
        other._accumulator = self._accumulator.fresh()
        other._buffer = SmallBatchBuffer()
        other._kernel = copy.copy(self._kernel)
        other._samples = None
        other._only_paired = False
        return other

    def reset(self) -> None:
        """Forget everything counted."""
        with self._lock:
            self._buffer.clear()
            self._accumulator.reset()
            if self._samples is not None:
                self._samples.reset()

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the counts to a device; their 64-bit types stay. In place of one without them, to the CPU."""
        with self._lock:
            self._count_waiting()
            self._buffer = SmallBatchBuffer()
            self._accumulator.to(checks.with_float64(device))
        return self

    def state_dict(self) -> dict[str, Any]:
        """The counts and a digest of the configuration; `torch.load(weights_only=True)` reads it back."""
        with self._lock:
            self._count_waiting()
            state = self._accumulator.state_dict()
            if self._sample_axes:
                state["sample_axes"] = self._sample_axes
            return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            StateError: If it is foreign, of another configuration or impossible; the current one is
                kept.
        """
        axes: Any = 0
        if isinstance(state, Mapping):  # else it is refused below
            axes = state.get("sample_axes", 0)
        if type(axes) is not int or axes < 0:
            cure = "The file is damaged: use another checkpoint."
            raise StateError("sample_axes", "a whole number of 0 or more", repr(axes), cure)
        with self._lock:
            self._accumulator.load_state_dict(state, self.stored_relations)
            self._sample_axes = axes
            self._buffer = SmallBatchBuffer()

    @property
    def digest(self) -> str:
        """A short hash of the configuration and of what is kept."""
        return self._accumulator.digest

    @property
    def layout(self) -> Mapping[str, Cell]:
        """All cells by the name of their tensor in the state, those of weights, slices and groups too."""
        return self._accumulator.layout

    def shared_state(self, *, weighted: bool = False) -> State:
        """The tensors themselves, for a library that merges them; with those of weights where `weighted`."""
        with self._lock:
            self._count_waiting()
            if weighted:
                self._accumulator.weigh()
            return self._accumulator.state

    def adopt_state(self, state: State, updates: int) -> None:
        """Count on in the tensors of a library that keeps them; what was counted here is forgotten."""
        with self._lock:
            self._buffer = SmallBatchBuffer()
            self._accumulator.adopt(state, updates)

    def store_samples(self, capacity: int) -> SampleBuffer:
        """Keep what becomes of each sample from now on, for two models to be held against each other.

        Args:
            capacity: Room, in samples: 12 to 20 bytes each for classes, 16 to 24 for real values.
        """
        self._samples = SampleBuffer(capacity, self.sample_fields)
        # Samples that are no single row of columns are told apart by buckets.
        self._only_paired = not self.sample_fields and self._subgroups.groups is None
        self._flat_form = None
        return self._samples

    @property
    def sample_fields(self) -> tuple[str, ...]:
        """Names of the columns that `count` gives under the name "samples"; none where a sample is no single row."""
        return ()

    @property
    def keeps_samples(self) -> bool:
        """Whether `count` should say what became of each row, under the name "samples"."""
        return self._samples is not None

    @property
    def device(self) -> torch.device:
        """Where the counts live."""
        return self._accumulator.device

    @property
    def updates(self) -> int:
        """Number of batches counted."""
        return self._accumulator.updates

    @property
    def state_bytes(self) -> int:
        """Bytes of the state; they do not depend on the number of samples."""
        return self._accumulator.state_bytes

    @property
    def config(self) -> dict[str, Any]:
        """The plain values that fix what is counted."""
        return dict(self._accumulator.config)

    def describe(self) -> dict[str, Any]:
        """The configuration in plain values, with the names of classes and slices if there are any, for a record."""
        described = self.config
        beta = getattr(self, "beta", None)
        if beta is not None:
            described["beta"] = beta
        if self.class_names:
            described["class_names"] = list(self.class_names)
        if self._subgroups.slices:
            described["slice_names"] = list(self._subgroups.slices)
        return described

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            self._count_waiting()
            state = {**self.__dict__, "_buffer": SmallBatchBuffer()}
        del state["_lock"]
        del state["_score_tables"]  # formulas are code, which no pickle holds
        if type(self).tables is not Metrics.tables:
            state.pop("score_tables", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        if "score_tables" not in state:
            self.score_tables = self.tables()
        self._score_tables = self._all_tables()

    def _with_counts(self: Self, accumulator: Accumulator) -> Self:
        """A copy that holds what all ranks counted."""
        other = self.fresh()
        other._accumulator = accumulator
        return other

    def _of_all_ranks(self) -> Accumulator:
        """What goes to the other ranks: without buckets that only pair the samples of this one."""
        accumulator = self._accumulator
        if not self._only_paired or not accumulator.grouped:
            return accumulator
        whole = accumulator.fresh()
        state = {n: t for n, t in accumulator.state.items() if not n.startswith(OF_GROUPS)}
        whole.adopt(state, accumulator.updates)
        return whole

    def _all_tables(self) -> tuple[ScoreTable, ...]:
        tables = [*self.score_tables]
        for table in self.asked_tables():
            asked = [spec for spec in table.specs if spec.name in self.asked]
            specs = tuple(spec for spec in asked if self.class_names or not spec.each)
            if specs:
                tables.append(replace(table, specs=specs))
        return as_tables(tables)

    # From what update is given to counts.
    def _checked(
        self,
        preds: Any,
        target: Any,
        sample_weight: Any,
        slices: Any,
        group: Any,
    ) -> Batch:
        preds = checks.countable(preds)
        target = checks.countable(target)
        sample_weight = checks.countable(sample_weight)
        slices = checks.countable(slices)
        group = checks.countable(group)
        home = self.device
        given = {"preds": preds, "target": target, "sample_weight": sample_weight}
        for name, value in {**given, "slices": slices, "group": group}.items():
            if isinstance(value, Tensor):
                checks.dense_numbers(name, value)
        moved = False
        if not self.updates and isinstance(preds, Tensor) and preds.device != home:
            checks.with_values("preds", preds, home)
            self.to(preds.device)
            moved = True
        try:
            batch = self.check(preds, target, sample_weight)
            batch.step = self.updates
            if self.whole_samples:
                batch.sample_rows = math.prod(self.row_shape(target)[1:])
            if self._subgroups or slices is not None or group is not None or moved:
                shape = self.row_shape(target)
                batch.slices, batch.group = self._subgroups.check_ids(
                    shape, self.device, slices, group
                )
                self._group_by_sample(batch, shape)
            if not self._reads_in_place(batch):
                self._lay_flat(batch)
        except Exception:
            if self.device != home:  # a batch that is refused leaves no trace
                self.to(home)
            raise
        return batch

    def _group_by_sample(self, batch: Batch, shape: tuple[int, ...]) -> None:
        """Samples are the groups of their rows where nobody says otherwise."""
        pixels = self._subgroups.are_samples(shape)
        if math.prod(shape[1:]) > 1:
            self._sample_axes = len(shape) - 1
        if pixels or batch.group is not None:
            self._only_paired = False  # pixels: by samples anyway
        if pixels or self._only_paired:
            batch.sample_shape = shape

    def _reads_in_place(self, batch: Batch) -> bool:
        """Whether a kernel may read scores as they lie in memory."""
        return self._kernel is not None and self._samples is None and kernels.may_read(batch.preds)

    def _counted_in_place(self, batch: Batch) -> bool:
        """Count a batch in one launch, where a kernel can."""
        if self._kernel is None or not self._reads_in_place(batch):
            return False
        return self._kernel.add_(self._accumulator, batch)

    def _lay_flat(self, batch: Batch) -> None:
        """What a kernel does not need: scores row by row, and the group of each row."""
        if batch.sample_shape and batch.group is None:
            batch.group = bucket_of_each_sample(batch.sample_shape, self.device, int(batch.step))
        if self._kernel is not None and batch.preds.ndim > 2:
            batch.preds = batch.preds.reshape(-1, batch.preds.shape[-1])

    def _count_now(self, batch: Batch, form: object) -> None:
        """Count a batch that does not wait; those of its form may from now on."""
        if capturing(batch.preds):  # a replay repeats its operations, and not those of what waits
            self._count(batch)
            return
        self._count_waiting()
        self._count(batch)
        if not self.waits or self._reads_in_place(batch):
            form = None
        self._buffer.expect(form)

    def _count_waiting(self) -> None:
        waiting = self._buffer.take()
        if waiting is not None:
            self._count(waiting)

    def _count(self, batch: Batch) -> None:
        size = batch.target.shape[0]
        if not size:
            return
        accumulator = self._accumulator
        if batch.preds.is_cuda and capturing(batch.preds):
            accumulator.captured = True
        if batch.preds.device.type in kernels.KERNEL_DEVICES and self._counted_in_place(batch):
            return
        with exact_arithmetic(accumulator.device):
            if batch.sample_shape or batch.preds.ndim > 2:
                self._lay_flat(batch)
            if batch.weight is not None:
                batch.weight = batch.weight.double()
            if not self.rows_at_once or size <= self.rows_at_once or not batch.preds.is_cpu:
                self._count_piece(batch)
                return
            some = max(1, self.rows_at_once // batch.sample_rows) * batch.sample_rows
            for start in range(0, size, some):
                self._count_piece(batch.rows(start, start + some))

    def _count_piece(self, piece: Batch) -> None:
        accumulator = self._accumulator
        piece.fault_kinds = accumulator.fault_kinds
        counts = dict(self.count(piece))
        if piece.weight is not None:
            piece.refuse(BAD_WEIGHT, checks.out_of_range(piece.weight))
        counts["rows"] = self._row_numbers(piece)
        samples = counts.pop("samples", None)
        accumulator.add_(piece, counts)
        if self._samples is not None and (samples is None or isinstance(samples, Tensor)):
            self._samples.add(piece, samples)

    def _row_numbers(self, batch: Batch) -> Tensor:
        """1 for each row, or their number where no row needs to be told from another."""
        device = batch.target.device
        unweighted = batch.weight is None and not self._accumulator.weighted
        alone = batch.slices is None and batch.group is None
        if batch.counted is None and unweighted and alone:
            return torch.full((), len(batch), device=device)
        return torch.ones(len(batch), dtype=torch.bool, device=device)

    # From counts to scores.
    def _scores_of(self, counts: Counts, known: Mapping[int, Estimates]) -> Scores:
        """All scores of what was read; `known` has those of tables that are evaluated."""
        estimates = self._estimates(counts, known=known)
        notes: list[str] = []
        per_slice: dict[str, NamedScores] = {}
        per_slice_class: dict[str, ScoreColumns] = {}
        if self._subgroups.slices:
            per_slice, per_slice_class = self._slice_scores(counts)
        without: dict[str, Array] = {}
        if self._accumulator.grouped:
            estimates, notes, without = self._with_group_intervals(counts, estimates)
        details = self.details(self._accumulator.state, counts)
        faults: FaultReport = {}
        if counts["fault_count"].any():
            faults = host.fault_report(self._fault_words(), counts)
            told = [kind for kind in faults if kind in self.note_kinds]
            notes.extend(faults.pop(kind)["message"] for kind in told)
        details["notes"] = [*details.get("notes", ()), *notes]
        named: dict[str, Estimate] = {}
        per_class: dict[str, Estimate] = {}
        for (name, each), estimate in estimates.items():
            if each:
                per_class[name] = estimate
            else:
                named[name] = estimate
        return Scores(
            NamedScores(named),
            task=self.task or type(self).__qualname__,
            n=int(counts["rows"]),
            per_class=ScoreColumns(per_class),
            class_names=self.class_names,
            faults=faults,
            per_slice=per_slice,
            per_slice_class=per_slice_class,
            headline=self._headline(list(named)),
            sample_axes=self._sample_axes,
            without_buckets=without,
            **details,
        )

    def _estimates(
        self,
        counts: Counts,
        *,
        intervals: bool = True,
        parts: int | None = None,
        known: Mapping[int, Estimates] = NONE_KNOWN,
    ) -> Estimates:
        """All scores, of all rows or of each of some parts of them, which stand in a leading dimension."""
        estimates: Estimates = {}
        for table in self._score_tables:
            if id(table) in known:
                estimates.update(known[id(table)])
                continue
            view = table.view(self, counts)
            if view is not None:
                estimates.update(evaluate(table.specs, view, intervals=intervals))
        if type(self).scores is Metrics.scores:
            return estimates
        if parts is None:
            for name, score in self.scores(counts).items():
                estimates[name, False] = estimate_of(score, counts.n)
            return estimates
        each = [self.scores(counts.of_part(part)) for part in range(parts)]
        for name in each[0]:
            some = [estimate_of(scores[name], counts.n[i]) for i, scores in enumerate(each)]
            estimates[name, False] = stacked(some)
        return estimates

    def _slice_scores(
        self, arrays: Mapping[str, Array]
    ) -> tuple[dict[str, NamedScores], dict[str, ScoreColumns]]:
        """Slices by name, the worst first: of each its scores, and its scores of each class."""
        names = self._subgroups.slices
        counts = host.counts_of_parts("slice", arrays, self.absent)
        estimates = self._estimates(counts, parts=len(names))
        lead = self._headline([name for name, each in estimates if not each])
        if not estimates:
            return {}, {}
        return worst_first(names, estimates, lead)

    def _with_group_intervals(
        self, arrays: Mapping[str, Array], estimates: Estimates
    ) -> tuple[Estimates, list[str], dict[str, Array]]:
        """Intervals by groups where all rows have one, what is to be said of them, and scores without buckets."""
        filled = host.counts_of_parts("group", arrays, self.absent).n > 0
        alone = host.rows_of_none("group", arrays)
        if alone:
            note = f"Rows without a group: {alone}. All intervals take rows for independent."
            return estimates, [note], {}
        if not filled.any():
            return estimates, [], {}
        cells = {cell.name: cell for cell in self._accumulator.cells}
        counts = host.counts_without_each("group", arrays, cells, self.absent)
        without = self._estimates(counts, intervals=False, parts=BUCKETS)
        specs = [spec for table in self._score_tables for spec in table.specs]
        lead = self._headline([name for name, each in estimates if not each])
        by_sample = not self._subgroups.groups
        found, notes, moved = all_by_groups(
            estimates, without, filled, specs, lead, by_sample=by_sample
        )
        if self._only_paired:
            return estimates, [], moved
        if self._subgroups.slices and filled.sum() >= 2:
            notes.append(SLICES_BY_ROWS)
        return found, notes, moved

    def _headline(self, names: Sequence[str]) -> str:
        if self.headline in names or not names:
            return self.headline
        return names[0]

    def _fault_words(self) -> dict[str, str]:
        words = dict(self.fault_kinds)
        words[BAD_WEIGHT] = BAD_WEIGHT_WORDS
        if self._subgroups.slices:
            words[BAD_SLICE] = BAD_SLICE_WORDS
        return words


def compute_together(metrics: Sequence[Metrics]) -> list[Scores]:
    """Scores of several metrics, which stay as they are, with one device-to-host copy for all."""
    with ExitStack() as held:
        for metric in metrics:
            held.enter_context(metric._lock)
            metric._count_waiting()
        for device in {metric._accumulator.device for metric in metrics}:
            held.enter_context(exact_arithmetic(device))
        held.enter_context(np.errstate(all="ignore"))
        states = [metric.summarize(metric._accumulator.state) for metric in metrics]
        read = host.to_host(states)
        alike: dict[Any, list[int]] = {}  # metrics of one configuration, which `fresh` made
        for place, metric in enumerate(metrics):
            key: tuple[Any, ...] = (id(metric._score_tables), *read[place])
            if max(map(np.size, read[place].values())) > host.MOST_COPIED:
                key = (place,)  # two evaluations cost less than a copy
            alike.setdefault(key, []).append(place)
        scores: dict[int, Scores] = {}
        for places in alike.values():
            first = metrics[places[0]]
            counts = host.together([read[place] for place in places], first.absent)
            known: list[dict[int, Estimates]] = [{} for _ in places]
            for table in first._score_tables:
                if table.stacks and len(places) > 1:
                    view = table.view(first, counts)
                    if view is not None:
                        add_parts(known, id(table), evaluate(table.specs, view))
            for part, place in enumerate(places):
                scores[place] = metrics[place]._scores_of(counts.of_part(part), known[part])
        return [scores[place] for place in range(len(metrics))]


def check_shapes(computed: list[Scores]) -> list[Scores]:
    """The same; refuses a score that is no number, or of each class and no column.

    Raises:
        FormulaError: If there is one: no record can hold it.
    """
    for scores in computed:
        for each, named in enumerate((scores._scores, scores.per_class)):
            for name, estimate in getattr(named, "estimates", NONE_KNOWN).items():
                if np.ndim(estimate.value) != each:
                    got = f"numbers of shape {np.shape(estimate.value)}"
                    raise formula_error((name, bool(each)), ONE_NUMBER, got)
    return computed


def compute_without_failing(metric: Metrics, tell: Callable[[FormulaError], None]) -> Scores:
    """The scores of a metric whose formulas work; `tell` is given the error of each other one."""
    with metric._lock:
        while True:
            try:
                return check_shapes([metric.compute()])[0]
            except FormulaError as error:
                tables = []
                for table in metric._score_tables:
                    specs = [spec for spec in table.specs if (spec.name, spec.each) != error.key]
                    tables.append(replace(table, specs=tuple(specs)))
                if tuple(tables) == metric._score_tables:
                    raise
                metric = copy.copy(metric)
                metric._score_tables = tuple(tables)
                tell(error)


def sync_together(
    metrics: Sequence[Self], *, timeout_s: float = distributed.TIMEOUT_S
) -> list[Self]:
    """Copies of several metrics that hold what all ranks counted: one header and one reduce for all.

    Args:
        metrics: The same ones in the same order on every rank.
        timeout_s: How long to wait for the other ranks, in seconds.

    Raises:
        RanksError: As `Metrics.sync` does.
    """
    return merged_over_ranks({"": metrics}, metrics, timeout_s=timeout_s)[0][""]


def merged_over_ranks(
    places: Mapping[str, Sequence[Self]], like: Sequence[Self], **options: Any
) -> tuple[dict[str, list[Self]], distributed.Merged]:
    """Copies that hold what all ranks counted, by place, and what else they told.

    Args:
        places: Metrics of this rank by place, such as a split; another rank may have other places.
        like: What counts at each place.
        options: For `distributed.sync`.

    Raises:
        RanksError: As `Metrics.sync` does.
    """
    with ExitStack() as held:
        own: dict[str, list[Accumulator]] = {}
        for place, metrics in places.items():
            own[place] = []
            for metric in metrics:
                held.enter_context(metric._lock)
                metric._count_waiting()
                own[place].append(metric._of_all_ranks())
        merged = distributed.sync(own, [one._accumulator for one in like], **options)
        copies: dict[str, list[Self]] = {}
        for place, counts in merged.places.items():
            pairs = zip(places.get(place) or like, counts, strict=True)
            copies[place] = [metric._with_counts(accumulator) for metric, accumulator in pairs]
    return copies, merged


def _not_a_list_of_metrics(value: object) -> StateError:
    cure = "Pass a list of metrics: metrics.merge_state([other])."
    return StateError("metrics", "metrics of the same configuration", type(value).__name__, cure)
