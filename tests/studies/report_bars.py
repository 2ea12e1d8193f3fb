"""What a report costs: 1,000 classes × 200 epochs, and 10 runs × 1,000 epochs, in processor seconds.

Run it on a quiet machine: python -m tests.studies.report_bars
"""

import shutil
import tempfile
import time
from pathlib import Path

import torch

import ptmetrics as pm

MOST_BYTES = 3 * 2**20


def written(folder: Path, classes: int, epochs: int, rows: int) -> Path:
    """A run of so many classes and epochs."""
    generator = torch.Generator().manual_seed(0)
    with pm.Monitor(pm.MulticlassMetrics(classes), folder, progress=False) as monitor:
        target = torch.randint(0, classes, (rows,), generator=generator)
        ones = torch.nn.functional.one_hot(target, classes)
        for epoch in range(epochs):
            for split in ("train", "val"):
                logits = torch.randn(rows, classes, generator=generator) + 6 * epoch / epochs * ones
                loss = torch.nn.functional.cross_entropy(logits, target)
                monitor.update(logits, target, loss=loss, split=split)
            monitor.end_epoch()
    return folder


def measured(name: str, runs: list[Path], page: Path, most_s: float) -> str:
    """A line: the best of three reports, beside its bar."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        pm.report(runs, page)
        spent.append(time.process_time() - start)
    size = page.stat().st_size
    return (
        f"{name:32}{min(spent):6.2f} s (bar {most_s:g} s)  {size / 2**20:5.2f} MiB "
        f"(bar {MOST_BYTES / 2**20:g} MiB)"
    )


def main() -> None:
    """Write the runs, report on them, print both lines."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        many = written(root / "many", 1000, 200, 2000)
        print(measured("1,000 classes × 200 epochs", [many], root / "many.html", 3.0), flush=True)
        first = written(root / "run0", 10, 1000, 64)
        copies = [shutil.copytree(first, root / f"run{place}") for place in range(1, 10)]
        runs = [first, *copies]
        print(measured("10 runs × 1,000 epochs", runs, root / "runs.html", 5.0), flush=True)


if __name__ == "__main__":
    main()
