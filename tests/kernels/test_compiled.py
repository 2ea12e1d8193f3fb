"""Every variant of a kernel compiles for every generation of cards, without a GPU, and spills no register."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from batches import on
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, RegressionMetrics
from ptmetrics.counts import class_launch, moments_launch, part_launch, yesno_launch
from ptmetrics.counts.kernels import Launch, Operands
from ptmetrics.metrics.base import Metrics

if find_spec("triton") is None:
    pytest.skip("Triton is for Linux", allow_module_level=True)

TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int64: "*i64",
}
CARDS = (75, 80, 90, 100)  # compute capabilities: T4, A100, H100 and H200, B200
MOST_STACK = 64  # bytes of a thread: 16 registers spilled; all variants but one have 16 or less
MOST_SHARED = 4096  # of 48 KiB that every card has


def given_to(
    monkeypatch: pytest.MonkeyPatch,
    preds: Tensor,
    target: Tensor,
    weight: Tensor | None,
    **config: Any,
) -> tuple[Launch, tuple[Any, ...]]:
    """What the kernel of classes would be given for a batch without values."""
    metrics = MulticlassMetrics(preds.shape[1], device="meta", **config)
    return class_launch.class_arguments(
        *operands(monkeypatch, "count_classes", metrics, preds, target, weight)
    )


def operands(
    monkeypatch: pytest.MonkeyPatch, operation: str, metrics: Metrics, *batch: Any, **ids: Tensor
) -> tuple[Any, ...]:
    """What an operation would be given last for a batch without values."""
    seen: list[Any] = []
    monkeypatch.setattr(torch.ops.ptmetrics, operation, lambda *given: seen.append(given))
    with on("meta"):
        metrics.update(*batch, **ids)
    return Operands(*seen[-1][:8]), *seen[-1][8:]


def compiled(launch: Launch, given: tuple[Any, ...], card: int, kernel: Any = None) -> Any:
    """A kernel for a card, as its arguments specialize it; that of classes by default."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if kernel is None:
        kernel = class_launch._class_kernel_of(launch.plan)
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}

    def typed(value: Any, path: tuple[int, ...]) -> Any:
        if value is None or value is launch.plan:
            constants[path] = value
            return "constexpr"
        if isinstance(value, Tensor):
            attributes[path] = [["tt.divisibility", 16]]
            return TYPES[value.dtype]
        if isinstance(value, tuple):
            parts = [typed(part, (*path, i)) for i, part in enumerate(value)]
            if hasattr(value, "_fields"):
                return type(value)(*parts)
            return tuple(parts)
        return "i32"

    signature = {
        name: typed(value, (i,))
        for i, (name, value) in enumerate(zip(kernel.arg_names, given, strict=True))
    }
    source = ASTSource(kernel, signature, constants, attributes)
    target = GPUTarget("cuda", card, 32)
    return triton.compile(source, target=target, options={"num_warps": launch.warps})


def resources(kernel: Any, folder: Path) -> dict[str, int]:
    """Registers, bytes of stack, of shared and of local memory, as the binary says."""
    import triton

    binary = folder / "kernel.cubin"
    binary.write_bytes(kernel.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    told = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True)
    return {key: int(n) for key, n in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", told.stdout)}


def variant(
    classes: int, dtype: torch.dtype, *pixels: int, weighted: bool = False, **config: Any
) -> tuple[Any, ...]:
    """Arguments of a test: a batch and a configuration."""
    return (classes, dtype, pixels, weighted, config)


QUICK = [
    variant(10, torch.float32),
    variant(1000, torch.bfloat16, topk=(1, 5)),
    variant(21, torch.float32, 512, 512),
    variant(32_000, torch.bfloat16),
    variant(10, torch.float32, curves=True),
]
VARIANTS = []
for classes in (2, 10, 37, 512, 1000, 3000):
    VARIANTS.append(variant(classes, torch.float32))
    VARIANTS.append(variant(classes, torch.bfloat16, topk=(1, 2), ignore_index=-100))
    VARIANTS.append(variant(classes, torch.float64, weighted=True, inputs="probs", topk=(2,)))
for pixels in ((), (64,)):
    VARIANTS.append(variant(32_000, torch.float32, *pixels))
    VARIANTS.append(variant(50_257, torch.bfloat16, *pixels, topk=(1, 5), ignore_index=-100))
    VARIANTS.append(variant(5000, torch.float64, *pixels, weighted=True, inputs="probs"))
for classes in (21, 150):
    VARIANTS.append(variant(classes, torch.float16, 64, 64))
    VARIANTS.append(variant(classes, torch.float64, 64, 64, weighted=True))
    VARIANTS.append(variant(classes, torch.float32, 64, 64, losses=False))
for classes in (2, 10, 64, 512, 1000):
    VARIANTS.append(variant(classes, torch.float32, curves=True))
    VARIANTS.append(variant(classes, torch.float64, weighted=True, curves=True, inputs="probs"))
for classes in (10, 1000):
    VARIANTS.append(variant(classes, torch.bfloat16, temperature=True, topk=(1, 5)))
    VARIANTS.append(variant(classes, torch.float64, weighted=True, temperature=True, curves=True))
VARIANTS.append(variant(21, torch.float32, 64, 64, curves="fine", losses=False))
VARIANTS.append(variant(21, torch.float16, 64, 64, weighted=True, temperature=True))


def assert_fits(
    monkeypatch: pytest.MonkeyPatch, folder: Path, chosen: tuple[Any, ...], card: int
) -> None:
    classes, dtype, pixels, weighted, config = chosen
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / "cache"))
    preds = torch.empty(4096, classes, *pixels, dtype=dtype, device="meta")
    target = torch.empty(4096, *pixels, dtype=torch.int64, device="meta")
    weight = None
    if weighted:
        weight = torch.empty(4096, *pixels, device="meta")
    launch, given = given_to(monkeypatch, preds, target, weight, **config)
    assert_small(compiled(launch, given, card), launch, folder)


def assert_small(kernel: Any, launch: Launch, folder: Path) -> None:
    """Two programs fit on a multiprocessor, and nothing is spilled."""
    used = resources(kernel, folder)
    assert kernel.metadata.shared <= MOST_SHARED
    assert used["STACK"] <= MOST_STACK, "registers are spilled"
    assert used["LOCAL"] == 0
    assert used["REG"] * 32 * launch.warps <= 1 << 15, "two programs at a time, at least"


@pytest.mark.parametrize("chosen", QUICK, ids=str)
def test_kernels_compile_and_spill_no_register(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: tuple[Any, ...]
) -> None:
    assert_fits(monkeypatch, tmp_path, chosen, 90)


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("chosen", VARIANTS, ids=str)
def test_every_variant_compiles_for_every_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: tuple[Any, ...], card: int
) -> None:
    assert_fits(monkeypatch, tmp_path, chosen, card)


@pytest.mark.parametrize(
    "card", [90, *[pytest.param(card, marks=pytest.mark.slow) for card in CARDS]]
)
@pytest.mark.parametrize(
    ("kind", "weighted", "topk"), [("slices", True, (1, 5)), ("group", False, (1,))]
)
def test_kernels_of_parts_compile_for_every_card(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    weighted: bool,
    topk: tuple[int, ...],
    card: int,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    options = {"slices": {"slices": 12}, "group": {"groups": True}}[kind]
    metrics = MulticlassMetrics(10, device="meta", topk=topk, **options)
    target = torch.empty(4096, dtype=torch.int64, device="meta")
    preds = torch.empty(4096, 10, device="meta")
    weight = None
    if weighted:
        weight = torch.empty(4096, device="meta")
    batch = (preds, target, weight)
    seen = operands(monkeypatch, "count_parts", metrics, *batch, **{kind: target})
    launch, given = part_launch.part_arguments(*seen)
    assert_small(
        compiled(launch, given, card, part_launch._part_kernel_of(launch.plan)), launch, tmp_path
    )
    _, given = class_launch.class_arguments(
        *operands(monkeypatch, "count_classes", metrics, *batch)
    )
    assert isinstance(given[-2], Tensor), "notes are taken"


class Chosen(NamedTuple):
    """A variant of the kernels of yes-or-no predictions: labels, 0 for one, and columns."""

    labels: int
    dtype: torch.dtype
    config: dict[str, Any]
    weighted: bool = False
    columns: int = 1


def yes_no_variants() -> list[Chosen]:
    """Every way that the code of the kernels goes, and tiles of every form."""
    chosen = []
    for inputs in ("logits", "probs"):
        for dtype in (torch.float16, torch.float32, torch.float64):
            config = {"inputs": inputs}
            chosen.append(Chosen(0, dtype, config, weighted=dtype != torch.float16))
            chosen.append(Chosen(20, dtype, config, weighted=dtype != torch.float16))
        chosen.append(Chosen(0, torch.float64, {"inputs": inputs, "curves": "fine"}, True, 2))
        chosen.append(Chosen(0, torch.bfloat16, {"inputs": inputs, "ignore_index": -100}, False, 2))
        chosen.append(Chosen(0, torch.float32, {"inputs": inputs, "curves": None}))
    chosen.append(Chosen(0, torch.int64, {"inputs": "labels"}, weighted=True))
    chosen.append(Chosen(5, torch.int64, {"inputs": "labels"}))
    for labels in (1, 2, 5, 14, 40, 80, 128, 129, 1000, 4096):
        chosen.append(Chosen(labels, torch.float32, {"beta": 2.0, "ignore_index": -1}))
        chosen.append(Chosen(labels, torch.bfloat16, {"inputs": "probs"}, weighted=True))
    return chosen


QUICK_YES_NO = [
    Chosen(0, torch.float32, {}),
    Chosen(20, torch.float32, {}),
]


def compiled_yes_no(monkeypatch: pytest.MonkeyPatch, chosen: Chosen, card: int) -> Any:
    """A kernel of yes-or-no predictions, and its launch."""
    shape: tuple[int, ...] = (4096,)
    metrics: Metrics = BinaryMetrics(device="meta", **chosen.config)
    if chosen.labels:
        shape = (4096, chosen.labels)
        metrics = MultilabelMetrics(chosen.labels, device="meta", **chosen.config)
    preds = torch.empty(shape, dtype=chosen.dtype, device="meta")
    if chosen.columns == 2:
        preds = torch.empty(4096, 2, dtype=chosen.dtype, device="meta")
    target = torch.empty(shape, dtype=torch.int64, device="meta")
    weight = None
    if chosen.weighted:
        weight = torch.empty(4096, device="meta")
    seen = operands(monkeypatch, "count_yes_no", metrics, preds, target, weight)
    launch, given = yesno_launch.yes_no_arguments(*seen)
    return compiled(launch, given, card, yesno_launch._yesno_kernel_of(launch.plan)), launch


@pytest.mark.parametrize("chosen", QUICK_YES_NO, ids=str)
def test_kernels_of_yes_or_no_compile_and_spill_no_register(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: Chosen
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    kernel, launch = compiled_yes_no(monkeypatch, chosen, 90)
    assert_small(kernel, launch, tmp_path)
    code = kernel.asm["ptx"]
    assert "lg2.approx" not in code, "a logarithm near 1 would lose its digits"
    assert re.search(r"add\.\S*f32\s+\S+ \S+ 0f00000000;", code), "−0 is not turned into 0"
    if not chosen.labels:
        before_the_last_addition = code[: code.rindex("atom.global.gpu.relaxed")]
        assert "bar.sync" not in before_the_last_addition, "warps wait for each other in the loop"


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("chosen", yes_no_variants(), ids=str)
def test_every_variant_of_yes_or_no_compiles_for_every_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: Chosen, card: int
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    kernel, launch = compiled_yes_no(monkeypatch, chosen, card)
    assert_small(kernel, launch, tmp_path)


@pytest.mark.slow
def test_what_float64_is_compared_with_has_all_its_digits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    chosen = Chosen(0, torch.float64, {"inputs": "probs", "threshold": 0.3}, columns=2)
    kernel, _ = compiled_yes_no(monkeypatch, chosen, 90)
    constants = re.findall(r"arith.constant (?:dense<)?([-+0-9.eE]+)", kernel.asm["ttir"])
    assert {0.01, 0.3} <= set(map(float, constants))


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
def test_scores_below_the_least_float_are_no_zeros(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: int
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    chosen = Chosen(0, torch.float32, {"curves": "fine", "losses": False})
    kernel, _ = compiled_yes_no(monkeypatch, chosen, card)
    assert ".ftz" not in kernel.asm["ptx"], "the keys are numbers of that size"


POINTS = [
    (1, torch.float32, (), False),
    (1, torch.float64, (), True),
    (1, torch.bfloat16, (64, 64), True),
    (8, torch.float32, (), True),
    (8, torch.float16, (), False),
]


@pytest.mark.parametrize(
    ("chosen", "card"),
    [
        pytest.param(chosen, card, marks=[pytest.mark.slow] * ((place, card) != (1, 90)))
        for place, chosen in enumerate(POINTS)
        for card in CARDS
    ],
    ids=str,
)
def test_kernels_of_errors_compile_for_every_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: tuple[Any, ...], card: int
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    outputs, dtype, pixels, weighted = chosen
    shape = (4096, *(pixels or (outputs,)))
    points = torch.empty(shape, dtype=dtype, device="meta")
    weight = None
    if weighted:
        weight = torch.empty(shape if pixels else shape[:1], device="meta")
    metrics = RegressionMetrics(num_outputs=outputs, device="meta")
    seen = operands(monkeypatch, "count_points", metrics, points, points, weight)
    launch, given = moments_launch.point_arguments(*seen)
    kernel = compiled(launch, given, card, moments_launch._moments_kernel_of(launch.plan))
    assert_small(kernel, launch, tmp_path)
    assert "0.33333333333333331" in kernel.asm["ttir"], "a third has all digits of float64"


@pytest.mark.parametrize(
    ("chosen", "card"),
    [
        pytest.param(chosen, card, marks=[pytest.mark.slow] * ((place, card) != (1, 90)))
        for place, chosen in enumerate(POINTS)
        for card in CARDS
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["slices", "group"])
def test_kernels_of_parts_of_errors_compile_for_every_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, chosen: tuple[Any, ...], card: int
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    outputs, dtype, pixels, weighted = chosen
    rows = (4096, *pixels)
    points = torch.empty(rows if outputs == 1 else (4096, outputs), dtype=dtype, device="meta")
    weight = None
    if weighted:
        weight = torch.empty(rows, device="meta")
    metrics = RegressionMetrics(
        num_outputs=outputs, slices=3 * (kind == "slices"), groups=kind == "group", device="meta"
    )
    ids = torch.empty(rows, dtype=torch.int64, device="meta")
    seen = operands(monkeypatch, "count_points", metrics, points, points, weight, **{kind: ids})
    launch, given = moments_launch.point_arguments(*seen)
    assert isinstance(given[-2], Tensor), "it is given ids"
    kernel = compiled(launch, given, card, moments_launch._moments_kernel_of(launch.plan))
    assert_small(kernel, launch, tmp_path)


@pytest.mark.parametrize("classes", [512, 1000])
def test_scores_of_a_row_are_loaded_four_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, classes: int
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    preds = torch.empty(64, classes, device="meta")
    target = torch.empty(64, dtype=torch.int64, device="meta")
    launch, given = given_to(monkeypatch, preds, target, None)
    code = compiled(launch, given, 90).asm["ptx"]
    assert "ld.global.v4.b32" in code
    assert "lg2.approx" not in code, "a logarithm near 1 would lose its digits"
