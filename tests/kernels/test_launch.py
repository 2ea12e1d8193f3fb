"""How the host launches a kernel, up to the driver: shown with a driver that only notes what it is given."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from batches import on, without_buffer

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, RegressionMetrics
from ptmetrics.counts import kernels

if find_spec("triton") is None:
    pytest.skip("Triton is for Linux", allow_module_level=True)


class Driver:
    """In the place of Triton's driver of CUDA: compiles for an H100, and launches nothing."""

    def __init__(self) -> None:
        self.launched: list[tuple[Any, ...]] = []
        self.loaded = 0
        self.utils = self
        self.launcher_cls = self.launcher

    def launcher(self, source: Any, metadata: Any) -> Any:
        def run(*given: Any) -> None:
            self.launched.append(given)

        return run

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> Any:
        self.loaded += 1
        return "module", "function", 64, 0, 1024

    def unload_module(self, module: Any) -> None:
        """Nothing was loaded."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 1 << 16}

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 7


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Driver]:
    from triton.runtime import driver as active

    from ptmetrics.counts import class_kernel, moments_kernel, part_kernel, yesno_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernels, "_KEPT", {})
    monkeypatch.setattr(kernels, "_FAILED", {})
    noting = Driver()
    active.set_active(noting)  # and it stays: kernels unload themselves when they are collected
    jitted = (
        class_kernel.count_classes,
        part_kernel.count_parts,
        moments_kernel.count_points,
        yesno_kernel.count_yes_no,
        yesno_kernel.count_labels,
    )
    for kernel in jitted:
        kernel.device_caches.clear()
    with on("cpu"):
        yield noting
    for kernel in jitted:
        kernel.device_caches.clear()


def rows(number: int, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(number, classes), torch.zeros(number, dtype=torch.int64)


def test_one_compiled_kernel_serves_batches_of_any_size(driver: Driver) -> None:
    metrics = without_buffer(MulticlassMetrics(10))
    for number in (64, 64, 1, 16, 5000):
        metrics.update(*rows(number))
    assert not kernels._FAILED
    assert driver.loaded == 1
    assert len(kernels._KEPT) == 1
    assert [given[0] for given in driver.launched] == [1, 1, 1, 1, 40]
    first, second = driver.launched[0], driver.launched[1]
    assert first[3] == second[3] == 7, "the stream that is the current one"
    assert first[9] is not second[9]
    assert first[12].confusion[0] is second[12].confusion[0]
    assert [given[15] for given in driver.launched] == [0, 1, 2, 3, 4], "the steps"


@pytest.mark.slow
def test_another_type_layout_or_weights_are_another_kernel(driver: Driver) -> None:
    metrics = without_buffer(MulticlassMetrics(10))
    preds, target = rows(64)
    metrics.update(preds, target)
    metrics.update(preds.half(), target)
    metrics.update(preds, target.int())
    metrics.update(preds.t().contiguous().t(), target)
    metrics.update(preds, target, torch.ones(64))
    metrics.update(preds, target)
    assert not kernels._FAILED
    assert len(driver.launched) == len(kernels._KEPT) == 6


def test_what_is_not_aligned_is_specialized_by_triton_itself(driver: Driver) -> None:
    metrics = without_buffer(MulticlassMetrics(10))
    preds, target = rows(64)
    odd = torch.zeros(641)[1:].view(64, 10)
    assert odd.data_ptr() % 16
    for scores in (odd, preds, odd, preds):
        metrics.update(scores, target)
    assert len(driver.launched) == 4
    assert len(kernels._KEPT) == 1
    assert driver.loaded == 2


def test_pixels_are_handed_over_where_they_lie(driver: Driver) -> None:
    metrics = without_buffer(MulticlassMetrics(21))
    preds = torch.zeros(8, 21, 64, 64)
    metrics.update(preds, torch.zeros(8, 64, 64, dtype=torch.int64))
    assert not kernels._FAILED
    (given,) = driver.launched
    assert given[9].data_ptr() == preds.data_ptr()
    assert given[16:21] == (8, 4096, 21 * 4096, 1, 4096)
    assert given[0] == 8 * 32  # a program for each tile of each image


def test_one_compiled_kernel_serves_yes_and_no_of_any_number(driver: Driver) -> None:
    metrics = without_buffer(BinaryMetrics())
    for number in (64, 64, 1, 16, 5000):
        metrics.update(torch.zeros(number), torch.zeros(number, dtype=torch.int64))
    labels = without_buffer(MultilabelMetrics(20))
    for number in (64, 1, 5000):
        labels.update(torch.zeros(number, 20), torch.zeros(number, 20, dtype=torch.int64))
    assert not kernels._FAILED
    assert driver.loaded == len(kernels._KEPT) == 2
    assert [given[0] for given in driver.launched] == [1, 1, 1, 1, 20, 16, 1, 1250]
    first, second = driver.launched[0], driver.launched[1]
    assert first[9] is not second[9]
    assert first[12].curve[0] is second[12].curve[0]
    assert [given[15] for given in driver.launched] == [0, 1, 2, 3, 4, 0, 1, 2], "the steps"


def test_a_kernel_that_does_not_load_is_asked_once(
    driver: Driver,
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no such device function")

    driver.load_binary = fails  # type: ignore[method-assign]
    metrics = without_buffer(MulticlassMetrics(10))
    for _ in range(2):
        metrics.update(*rows(64))
    assert list(kernels._FAILED.values()) == ["no such device function"]
    assert metrics.compute().n == 128


def test_slices_are_a_launch_more_once_that_was_tried_without_rows(driver: Driver) -> None:
    metrics = without_buffer(MulticlassMetrics(10, slices=2))
    preds, target = rows(1000)
    for _ in range(2):
        metrics.update(preds, target, slices=torch.zeros_like(target))
    assert not kernels._FAILED
    assert driver.loaded == len(kernels._KEPT) == 2
    grids = [given[0] for given in driver.launched]
    assert grids == [3, 8, 3 * 8, 8, 3 * 8], "three parts, the one of rows of none among them"
    metrics.update(preds, target, slices=torch.zeros(2000, dtype=torch.int64)[::2])
    assert driver.loaded == 2


def test_errors_of_any_number_of_rows_are_one_compiled_kernel(driver: Driver) -> None:
    metrics = without_buffer(RegressionMetrics(num_outputs=2))
    for number in (64, 1, 16, 5000):
        points = torch.zeros(number, 2)
        metrics.update(points, points)
    assert not kernels._FAILED
    assert driver.loaded == len(kernels._KEPT) == 1
    grids = [given[0] for given in driver.launched]
    assert grids == [2, 2, 2, 2 * 40], "of each output as many as there are tiles of 128 rows"


def test_slices_of_errors_are_the_same_kernel_compiled_again(driver: Driver) -> None:
    metrics = without_buffer(RegressionMetrics(slices=2))
    for number in (1000, 64):
        points = torch.zeros(number)
        metrics.update(points, points, slices=torch.zeros(number, dtype=torch.int64))
    assert not kernels._FAILED
    assert driver.loaded == len(kernels._KEPT) == 2
    grids = [given[0] for given in driver.launched]
    assert grids == [3, 8, 3 * 3, 1, 3], "tried without rows; a program for some tiles of each part"
