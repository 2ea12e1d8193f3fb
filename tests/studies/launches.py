"""Operations that an update and a curve launch on CUDA, counted on tensors without values, and bounds of curves.

python -m tests.studies.launches
"""

from collections.abc import Callable
from typing import Literal

import torch

import ptmetrics as pm
from ptmetrics.bench.curves import rare_scores
from ptmetrics.metrics.base import Metrics
from ptmetrics.testing import Guard, fake_cuda

UPDATES = 512
SCORES = 10_000_000
OF_CURVES = ("binary, 256", "20 labels, 256")
Case = tuple[str, Callable[[], Metrics], tuple[int, ...], tuple[int, ...], torch.dtype]
CASES: tuple[Case, ...] = (
    ("64 x 10", lambda: pm.MulticlassMetrics(10, topk=(1, 5)), (64, 10), (64,), torch.int64),
    (
        "256 x 1000",
        lambda: pm.MulticlassMetrics(1000, topk=(1, 5)),
        (256, 1000),
        (256,),
        torch.int64,
    ),
    ("4096 x 10", lambda: pm.MulticlassMetrics(10, topk=(1, 5)), (4096, 10), (4096,), torch.int64),
    ("binary, 256", pm.BinaryMetrics, (256,), (256,), torch.int64),
    ("20 labels, 256", lambda: pm.MultilabelMetrics(20), (256, 20), (256, 20), torch.int64),
    ("regression, 256", pm.RegressionMetrics, (256,), (256,), torch.float32),
)


def launches(case: Case) -> tuple[int, float]:
    """Of an update that counts at once, and the mean of many that wait."""
    _, make, shape, truth, dtype = case
    with fake_cuda():
        metrics = make().to("cuda")
        batch = torch.zeros(shape, device="cuda"), torch.zeros(truth, dtype=dtype, device="cuda")
        seen = []
        for _ in range(UPDATES + 2):  # the second one makes room
            with Guard() as guard:
                metrics.update(*batch)
            seen.append(len(guard.names))
    return seen[0], sum(seen[2:]) / UPDATES


def summary_launches(case: Case) -> int:
    """Of the summary of its curves."""
    _, make, shape, truth, dtype = case
    with fake_cuda():
        metrics = make().to("cuda")
        preds = torch.zeros(shape, device="cuda")
        metrics.update(preds, torch.zeros(truth, dtype=dtype, device="cuda"))
        state = metrics.shared_state()
        with Guard() as guard:
            metrics.summarize(state)
    return len(guard.names)


def bound_of(curves: Literal["fp16", "fine"]) -> tuple[float, float]:
    """The certified error of AUROC of ten million scores, and the MiB that its counts take."""
    metrics = pm.BinaryMetrics(inputs="probs", losses=False, curves=curves)
    metrics.update(*rare_scores(SCORES))
    return metrics.compute()["auroc"].error_bound, metrics.state_bytes / 2**20


def main() -> None:
    """Print a line for each case."""
    for case in CASES:
        alone, waiting = launches(case)
        print(f"{case[0]:16}{alone:5} alone {waiting:6.2f} in the mean of {UPDATES}", flush=True)
    for case in CASES:
        if case[0] in OF_CURVES:
            print(f"{case[0]:16}{summary_launches(case):5} for its curves", flush=True)
    for curves in ("fp16", "fine"):
        bound, size = bound_of(curves)
        print(f"curves={curves!r:8} {bound:.1e} of AUROC of {SCORES:,} scores, {size:.1f} MiB")


if __name__ == "__main__":
    main()
