"""An update of an ordinary batch is one launch: shown on fake CUDA tensors. Without Triton all goes as before."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, RegressionMetrics
from ptmetrics.counts import kernels
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.part_launch import row_parts
from ptmetrics.counts.small_batches import ROOM_BY_DEVICE
from ptmetrics.metrics.base import Metrics
from ptmetrics.testing import Guard, fake_cuda

SWITCH = "PTMETRICS_KERNELS"
ONE = ["ptmetrics.count_classes.default"]
YES_NO = ["ptmetrics.count_yes_no.default"]
pytestmark = pytest.mark.skipif(not kernels.has_triton(), reason="Triton is for Linux")


@pytest.fixture(autouse=True)
def _on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "KERNEL_DEVICES", {"cuda"})
    monkeypatch.delitem(ROOM_BY_DEVICE, "cuda")  # what no kernel counts does not wait either


def launches(
    metrics: MulticlassMetrics, *shape: int, dtype: torch.dtype = torch.float32, **given: Any
) -> list[str]:
    """What the second update of a form launches; the first makes room."""
    preds = torch.zeros(*shape, dtype=dtype, device="cuda")
    target = torch.zeros(shape[0], *shape[2:], dtype=torch.int64, device="cuda")
    given = {name: make(target) for name, make in given.items()}
    metrics.update(preds, target, **given)
    with Guard() as seen:
        metrics.update(preds, target, **given)
    return seen.names


def ones(target: Tensor) -> Tensor:
    return torch.ones_like(target, dtype=torch.float32)


@pytest.mark.fault(28)
@pytest.mark.parametrize("dtype", kernels.KERNEL_TYPES, ids=str)
@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("classes", [2, 10, 1000, 4096, 32_000])
def test_an_update_is_one_launch(classes: int, inputs: Any, dtype: torch.dtype) -> None:
    with fake_cuda():
        metrics = MulticlassMetrics(classes, inputs=inputs, topk=(1, 2), ignore_index=-100)
        assert launches(metrics, 64, classes, dtype=dtype) == ONE
        assert launches(metrics, 64, classes, dtype=dtype, sample_weight=ones) == ONE
        assert launches(metrics, 64, classes, dtype=dtype) == ONE, "weights were seen before"


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize(("classes", "curves"), [(2, True), (8, "fine"), (1024, "fp16")])
def test_curves_of_classes_and_temperatures_are_no_launch_more(
    classes: int, curves: Any, inputs: Any
) -> None:
    with fake_cuda():
        metrics = MulticlassMetrics(
            classes, inputs=inputs, curves=curves, temperature=inputs == "logits"
        )
        assert launches(metrics, 64, classes) == ONE
        assert launches(metrics, 64, classes, sample_weight=ones) == ONE


@pytest.mark.fault(28)
@pytest.mark.parametrize("shape", [(8, 21, 64, 64), (2, 21, 9), (2, 21, 3, 4, 5)], ids=str)
def test_pixels_are_one_launch_and_no_copy(shape: tuple[int, ...]) -> None:
    with fake_cuda():
        metrics = MulticlassMetrics(21, class_dim=1)
        assert launches(metrics, *shape) == ONE
        assert launches(metrics, *shape, sample_weight=ones) == ONE
        assert MulticlassMetrics(21, groups=False)._kernel is not None


@pytest.mark.parametrize("shape", [(64, 5), (64, 5000), (4, 5, 9)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("given", [("slices",), ("group",), ("slices", "group")], ids=str)
def test_parts_of_the_rows_are_a_launch_more_each(
    given: tuple[str, ...], weighted: bool, shape: tuple[int, ...]
) -> None:
    options: dict[str, Any] = {}
    if "slices" in given:
        options["slices"] = 3
    if "group" in given:
        options["groups"] = True
    ids: dict[str, Any] = dict.fromkeys(given, torch.zeros_like)
    if weighted:
        ids["sample_weight"] = ones
    with fake_cuda():
        metrics = MulticlassMetrics(shape[1], class_dim=1, **options)
        names = launches(metrics, *shape, **ids)
    launched = [name for name in names if name != "aten.empty.memory_format"]
    assert launched == ONE + ["ptmetrics.count_parts.default"] * len(given)


def test_buckets_of_samples_are_no_ids_of_groups() -> None:
    ids = torch.zeros(3, dtype=torch.int64)
    batch = Batch(torch.zeros(3, 4), ids, group=ids)
    assert row_parts(MulticlassMetrics(4)._accumulator, batch) is None
    parts = row_parts(MulticlassMetrics(4, groups=True)._accumulator, batch)
    assert parts is not None
    assert [part.kind for part in parts] == ["group"]


def test_where_the_kernel_of_parts_does_not_compile_nothing_is_counted_by_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise kernels.KernelError("no compiler")

    seen: list[Any] = []
    monkeypatch.setattr(kernels, "KERNEL_DEVICES", {"meta"})
    monkeypatch.setattr(torch.ops.ptmetrics, "count_classes", lambda *given: seen.append(given))
    monkeypatch.setattr(torch.ops.ptmetrics, "count_parts", fails)
    monkeypatch.setattr(kernels, "_FAILED", {})
    metrics = MulticlassMetrics(4, slices=2, device="meta")
    for _ in range(2):
        target = torch.zeros(2, dtype=torch.int64, device="meta")
        metrics.update(torch.zeros(2, 4, device="meta"), target, slices=target)
    assert not seen
    assert kernels._FAILED


def yes_no_launches(
    metrics: Metrics, *shape: int, rows: int = 1, weighted: bool = False, **of: torch.dtype
) -> list[str]:
    """The same for yes-or-no batches, whose weights have the first `rows` dimensions."""
    preds = torch.zeros(shape, dtype=of.get("preds", torch.float32), device="cuda")
    target = torch.zeros(shape, dtype=of.get("target", torch.int64), device="cuda")
    weight = None
    if weighted:
        weight = torch.ones(shape[:rows], dtype=of.get("weight", torch.float32), device="cuda")
    metrics.update(preds, target, weight)
    with Guard() as seen:
        metrics.update(preds, target, weight)
    return seen.names


@pytest.mark.fault(28)
@pytest.mark.parametrize("dtype", kernels.KERNEL_TYPES, ids=str)
@pytest.mark.parametrize("inputs", ["logits", "probs", "labels"])
def test_an_update_of_yes_or_no_is_one_launch(inputs: Any, dtype: torch.dtype) -> None:
    if inputs == "labels":
        dtype = torch.int32
    with fake_cuda():
        one = BinaryMetrics(inputs=inputs, ignore_index=-100)
        many = MultilabelMetrics(80, inputs=inputs, beta=2.0)
        for weighted in (False, True, False):
            assert yes_no_launches(one, 640, weighted=weighted, preds=dtype) == YES_NO
            assert yes_no_launches(many, 64, 80, weighted=weighted, preds=dtype) == YES_NO
        pixels = yes_no_launches(BinaryMetrics(inputs=inputs), 4, 32, 32, preds=dtype)
        assert pixels == YES_NO
        if inputs != "labels":
            columns = torch.zeros(64, 2, dtype=dtype, device="cuda")
            target = torch.zeros(64, dtype=torch.int64, device="cuda")
            with Guard() as seen:
                one.update(columns, target)
            assert seen.names == YES_NO


def test_labels_of_pixels_are_laid_out_row_by_row_first() -> None:
    with fake_cuda():
        names = yes_no_launches(MultilabelMetrics(5, class_dim=1), 4, 5, 8, 8)
    copies = [name for name in names if name.startswith(("aten.clone", "clone"))]
    assert len(copies) == 2
    assert names[-1:] == YES_NO
    assert len(names) == 3


@pytest.mark.parametrize(
    ("config", "given"),
    [
        ({"curves": "exact"}, {}),
        ({"scores": ["dice/image"]}, {}),
        ({}, {"weighted": True, "weight": torch.int64}),
        ({"num_labels": 4097, "curves": None}, {}),
        ({"num_labels": 3, "curves": "exact", "capacity": 10}, {}),
    ],
    ids=str,
)
def test_what_no_kernel_of_yes_or_no_counts_is_left_to_the_tensor_operations(
    config: Any, given: Any
) -> None:
    with fake_cuda():
        if "num_labels" in config:
            names = yes_no_launches(MultilabelMetrics(**config), 8, config["num_labels"], **given)
        else:
            names = yes_no_launches(BinaryMetrics(**config), 8, 3, rows=2, **given)
    assert len(names) > 10
    assert not set(YES_NO) & set(names)


@pytest.mark.parametrize("name", ["slices", "group"])
def test_parts_of_yes_or_no_are_left_to_the_tensor_operations(name: str) -> None:
    with fake_cuda():
        metrics = BinaryMetrics(slices=2, groups=True)
        target = torch.zeros(8, dtype=torch.int64, device="cuda")
        with Guard() as seen:
            metrics.update(torch.zeros(8, device="cuda"), target, **{name: target})
    assert len(seen.names) > 10
    assert not set(YES_NO) & set(seen.names)


def test_weights_of_scores_in_deterministic_mode_are_left_to_the_tensor_operations() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with fake_cuda():
            assert yes_no_launches(BinaryMetrics(), 8) == YES_NO
            assert not set(YES_NO) & set(yes_no_launches(BinaryMetrics(), 8, weighted=True))
            alone = BinaryMetrics(curves=None)
            assert yes_no_launches(alone, 8, weighted=True) == YES_NO
            assert yes_no_launches(MultilabelMetrics(3), 8, 3) == YES_NO
            labels = MultilabelMetrics(3, curves=None)
            assert not set(YES_NO) & set(yes_no_launches(labels, 8, 3, weighted=True))
    finally:
        torch.use_deterministic_algorithms(False)


WITHOUT_KERNEL: list[tuple[dict[str, Any], Callable[[Tensor], Tensor] | None]] = [
    ({"slices": 2000}, torch.zeros_like),
    ({"curves": "exact"}, None),
    ({"topk": tuple(range(1, 40))}, None),
]


@pytest.mark.parametrize(("config", "ids"), WITHOUT_KERNEL, ids=["slices", "curves", "topk"])
def test_what_no_kernel_counts_is_left_to_the_tensor_operations(config: Any, ids: Any) -> None:
    with fake_cuda():
        metrics = MulticlassMetrics(50, **config)
        given = {}
        if ids is not None:
            given = {"slices": ids}
        names = launches(metrics, 64, 50, **given)
    assert len(names) > 10
    assert not set(ONE) & set(names)


POINTS = ["ptmetrics.count_points.default"]


def launches_of_errors(metrics: RegressionMetrics, *shape: int, **given: Any) -> list[str]:
    """What the second update of a form launches; the first makes room."""
    points = torch.zeros(shape, dtype=given.pop("dtype", torch.float32), device="cuda")
    metrics.update(points, points, **given)
    with Guard() as seen:
        metrics.update(points, points, **given)
    return seen.names


@pytest.mark.parametrize("dtype", kernels.KERNEL_TYPES, ids=str)
@pytest.mark.parametrize("shape", [(256,), (4096, 5), (3, 20, 30)], ids=str)
def test_an_update_of_errors_is_one_launch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    outputs = 5 if len(shape) == 2 else 1
    with fake_cuda():
        metrics = RegressionMetrics(num_outputs=outputs)
        assert launches_of_errors(metrics, *shape, dtype=dtype) == POINTS
        weight = torch.ones(shape if outputs == 1 else shape[:1], device="cuda")
        assert launches_of_errors(metrics, *shape, dtype=dtype, sample_weight=weight) == POINTS


@pytest.mark.parametrize(
    "config",
    [{"scores": ["mape"]}, {"scores": ["spearman"]}, {"scores": ["nrmse/range"]}, {"slices": 1024}],
    ids=str,
)
def test_errors_that_no_kernel_counts_are_left_to_the_tensor_operations(config: Any) -> None:
    with fake_cuda():
        names = launches_of_errors(RegressionMetrics(**config), 64)
    assert len(names) > 10
    assert not set(POINTS) & set(names)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(256,), (64, 5), (3, 20, 30)], ids=str)
@pytest.mark.parametrize("given", [("slices",), ("group",), ("slices", "group")], ids=str)
def test_parts_of_errors_are_a_launch_more_each(
    given: tuple[str, ...], shape: tuple[int, ...], weighted: bool
) -> None:
    outputs = 5 if len(shape) == 2 else 1
    rows = shape[:1] if outputs > 1 else shape
    with fake_cuda():
        metrics = RegressionMetrics(
            num_outputs=outputs, slices=3 * ("slices" in given), groups="group" in given
        )
        more: dict[str, Any] = dict.fromkeys(given, torch.zeros(rows, device="cuda").long())
        if weighted:
            more["sample_weight"] = torch.ones(rows, device="cuda")
        assert launches_of_errors(metrics, *shape, **more) == POINTS * (1 + len(given))


def test_slices_of_more_outputs_than_programs_are_left_to_the_tensor_operations() -> None:
    with fake_cuda():
        some = launches_of_errors(RegressionMetrics(num_outputs=64, slices=15), 8, 64)
        many = launches_of_errors(RegressionMetrics(num_outputs=64, slices=16), 8, 64)
    assert set(POINTS) <= set(some)
    assert not set(POINTS) & set(many)


def test_errors_of_slices_are_counted_once_where_their_kernel_does_not_compile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def fails(*given: Any) -> None:
        seen.append(given[-2])
        if given[-2]:
            raise kernels.KernelError("no compiler")

    monkeypatch.setattr(kernels, "KERNEL_DEVICES", {"meta"})
    monkeypatch.setattr(torch.ops.ptmetrics, "count_points", fails)
    monkeypatch.setattr(kernels, "_FAILED", {})
    metrics = RegressionMetrics(slices=2, device="meta")
    for _ in range(2):
        points = torch.zeros(2, device="meta")
        metrics.update(points, points, slices=points.long())
    assert seen == ["slice"], "all rows wait until that is known"


def test_whole_numbers_and_many_outputs_are_left_to_the_tensor_operations() -> None:
    with fake_cuda():
        whole = launches_of_errors(RegressionMetrics(), 64, dtype=torch.int64)
        many = launches_of_errors(RegressionMetrics(num_outputs=65), 64, 65)
    assert not set(POINTS) & {*whole, *many}


def test_a_subclass_that_counts_otherwise_is_left_to_itself() -> None:
    class Mine(MulticlassMetrics):
        def count(self, batch: Any) -> Any:
            return super().count(batch)

    with fake_cuda():
        assert not set(ONE) & set(launches(Mine(4), 8, 4))


def test_soft_targets_are_left_to_the_tensor_operations() -> None:
    with fake_cuda():
        metrics = MulticlassMetrics(4)
        preds = torch.zeros(8, 4, device="cuda")
        with Guard() as seen:
            metrics.update(preds, torch.zeros(8, 4, device="cuda"))
    assert not set(ONE) & set(seen.names)


def test_weights_in_deterministic_mode_are_left_to_the_tensor_operations() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with fake_cuda():
            assert launches(MulticlassMetrics(4), 8, 4) == ONE
            assert not set(ONE) & set(launches(MulticlassMetrics(4), 8, 4, sample_weight=ones))
    finally:
        torch.use_deterministic_algorithms(False)


def test_where_the_kernel_does_not_compile_the_batch_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise kernels.KernelError("no compiler")

    monkeypatch.setattr(kernels, "KERNEL_DEVICES", {"meta"})
    monkeypatch.setattr(torch.ops.ptmetrics, "count_classes", fails)
    monkeypatch.setattr(kernels, "_FAILED", {})
    metrics = MulticlassMetrics(4, device="meta")
    for _ in range(2):
        metrics.update(
            torch.zeros(2, 4, 3, device="meta"),
            torch.zeros(2, 3, dtype=torch.int64, device="meta"),
        )
    assert list(kernels._FAILED.items()) == [(torch.device("meta"), "no compiler")]


def test_without_triton_the_tensor_operations_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "has_triton", lambda: False)
    with fake_cuda():
        names = launches(MulticlassMetrics(4, class_dim=1), 8, 4, 3, 3)
    assert len(names) > 30
    assert not set(ONE) & set(names)


def test_triton_is_imported_by_no_update_on_a_cpu() -> None:
    code = """
import sys, torch, ptmetrics as pm
had = "triton" in sys.modules
metrics = pm.MulticlassMetrics(3)
metrics.update(torch.randn(9000, 3), torch.zeros(9000, dtype=torch.int64))
metrics.compute()
assert had or "triton" not in sys.modules, "triton"
assert "ptmetrics.counts.class_kernel" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("told", "read"), [("1", {"cuda"}), ("0", set()), (None, set())])
@pytest.mark.slow
def test_a_kernel_reads_batches_only_where_the_environment_says_so(
    told: str | None, read: set[str]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != SWITCH}
    if told is not None:
        environment[SWITCH] = told
    script = "from ptmetrics.counts import kernels; print(sorted(kernels.KERNEL_DEVICES))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(sorted(read))
