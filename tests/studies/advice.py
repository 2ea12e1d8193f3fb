"""Is advice good advice? Real runs on handwriting, whose truth a large test set tells; printed, and in `docs/rules.md`.

python -m tests.studies.advice [--runs N]
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import ptmetrics as pm
from ptmetrics.metrics.intervals import wilson
from ptmetrics.verdict.finding import Estimate, decide, needed_samples
from ptmetrics.verdict.profile import Thresholds

RUNS = 60
EPOCHS = 40
VALIDATED = 400
POINT = 0.01  # of accuracy on some 1,000 test rows: better, or worse
WORTH = 0.02
NOISES = (0.0, 0.2, 0.4)  # shares of the training labels that are wrong
SIZES = (60, 150, 300)
NEVER_SO = (
    *("no-skill", "accuracy-paradox", "collapsed", "missing-class", "non-finite", "too-good"),
    *("validation-changed", "contradiction", "loss-disagrees", "not-validated", "underfitting"),
)
"""Codes of what none of these runs has."""
SHARES = ((0.90, 0.85), (0.80, 0.85), (0.95, 0.90), (0.60, 0.50), (0.30, 0.20))
DRAWN = 1000


ACCURACY, PRECISION, RECALL = "accuracy < 0.85", "precision/macro < 0.8", "recall/macro < 0.8"
WEAK = "some class with recall < 0.5"
RISES = "the loss is more than 2 % above its minimum"
TOLD_BY = {
    ACCURACY: frozenset({"low-accuracy"}),
    PRECISION: frozenset({"low-precision"}),
    RECALL: frozenset({"low-recall"}),
    WEAK: frozenset({"weak-class"}),
    RISES: frozenset({"overfitting", "over-confident", "val-loss-rising"}),
}
"""What can be told of a run, with the codes that say it."""


@dataclass(frozen=True)
class Advised:
    """One run, and what going back would have been worth.

    Args:
        noise: Share of the training labels that are wrong.
        codes: Codes of the verdict's findings.
        given: Whether it is advised to restore an epoch.
        gain: Test accuracy of the epoch that is advised, or else of the one with the best
            validation accuracy, less that of the last.
        truth: Whether what a row of `TOLD_BY` says is so, by all rows that are left.
    """

    noise: float
    codes: frozenset[str]
    given: bool
    gain: float
    truth: Mapping[str, bool]


def main(argv: Sequence[str] | None = None) -> int:
    """Train, judge, and print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    args = parser.parse_args(argv)
    print("\n".join(lines(args.runs)))
    return 0


def lines(runs: int = RUNS) -> Iterator[str]:
    """The section of the page."""
    yield "## Is the advice good?\n"
    yield (
        f"{runs} runs of a small network on scikit-learn's handwritten digits, {EPOCHS} epochs each, of "
        f"{', '.join(map(str, SIZES))} training rows of whose labels "
        f"{', '.join(f'{100 * noise:.0f} %' for noise in NOISES)} are wrong; {VALIDATED} rows validate, and "
        "the true accuracy is that of all rows that are left. The last epoch is judged.\n"
    )
    found = [advised(seed) for seed in range(runs)]
    yield "| wrong labels | runs | overfitting | over-confident | restore advised | better by a point | equal | worse |"
    yield "|---|---|---|---|---|---|---|---|"
    for noise in NOISES:
        some = [run for run in found if run.noise == noise]
        given = [run.gain for run in some if run.given]
        yield (
            f"| {100 * noise:.0f} % | {len(some)} | {_count(some, 'overfitting')} | "
            f"{_count(some, 'over-confident')} | {len(given)} | {sum(g >= POINT for g in given)} | "
            f"{sum(abs(g) < POINT for g in given)} | {sum(g <= -POINT for g in given)} |"
        )
    worth = [run for run in found if run.gain >= WORTH]
    yield (
        f"\nWhere going back to the best epoch is truly worth {100 * WORTH:.0f} points or more "
        f"({len(worth)} runs), it was advised in {sum(run.given for run in worth)}.\n"
    )
    yield from _told_lines(found)
    yield "How often as many samples as a verdict asks for settle it, if the truth is what was measured:\n"
    yield "| value | threshold | samples asked for, of 100 | settled |"
    yield "|---|---|---|---|"
    for value, threshold in SHARES:
        asked, settled = settles(value, threshold)
        yield f"| {value} | {threshold} | {asked} | {100 * settled:.1f} % of {DRAWN} |"


def _told_lines(found: Sequence[Advised]) -> Iterator[str]:
    """False alarms and power of each rule that these runs can tell of."""
    yield (
        "What the rules say of the last epoch, and what is so by all rows that are left. A value near "
        "its threshold may be told neither way.\n"
    )
    yield "| finding | what it says | so in | told | not so in | false alarms |"
    yield "|---|---|---|---|---|---|"
    for words, codes in TOLD_BY.items():
        so = [run for run in found if run.truth[words]]
        others = [run for run in found if not run.truth[words]]
        told, alarms = (sum(bool(run.codes & codes) for run in runs) for runs in (so, others))
        names = ", ".join(f"`{code}`" for code in sorted(codes))
        yield f"| {names} | {words} | {len(so)} | {told} | {len(others)} | {alarms} |"
    spoke = {code: _count(found, code) for code in NEVER_SO}
    heard = ", ".join(f"{code} in {count}" for code, count in spoke.items() if count) or "none"
    yield (
        f"\nFalse alarms among the {len(found)} runs of rules of which nothing was so "
        f"({', '.join(NEVER_SO)}): {heard}.\n"
    )


def _count(runs: Sequence[Advised], code: str) -> int:
    return sum(code in run.codes for run in runs)


def advised(seed: int) -> Advised:
    """Train once, and hold the advice against the truth."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    noise = NOISES[seed % len(NOISES)]
    size = SIZES[seed // len(NOISES) % len(SIZES)]
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    x = torch.tensor(digits.data[order] / 16, dtype=torch.float32)
    y = torch.tensor(digits.target[order])
    train = slice(0, size)
    val = slice(size, size + VALIDATED)
    labels = y[train].clone()
    wrong = torch.tensor(rng.random(size) < noise)
    labels[wrong] = torch.tensor(rng.integers(0, 10, int(wrong.sum())))
    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    truth = []
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        monitor = pm.Monitor(pm.MulticlassMetrics(10), run=run, progress=False)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(size), 16):
                preds = model(x[train][rows])
                loss = criterion(preds, labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.update(preds.detach(), labels[rows], loss=loss.detach(), split="train")
            with torch.no_grad():
                preds = model(x[val])
                monitor.update(preds, y[val], loss=criterion(preds, y[val]), split="val")
                rest = slice(size + VALIDATED, None)
                preds = model(x[rest])
                truth.append(float((preds.argmax(1) == y[rest]).float().mean()))
                losses.append(float(criterion(preds, y[rest])))
            monitor.end_epoch()
        monitor.close()
        verdict = pm.judge(run)
        accuracy = pm.read_history(run)["val/accuracy"]
    restore = [f.evidence["restore"]["epoch"] for f in verdict.findings if "restore" in f.evidence]
    epoch = restore[0] if restore else int(np.argmax(accuracy))
    codes = frozenset(finding.code for finding in verdict.findings)
    so = _what_is_so(preds, y[rest], losses)
    return Advised(noise, codes, bool(restore), truth[epoch] - truth[-1], so)


def _what_is_so(
    preds: torch.Tensor, target: torch.Tensor, losses: Sequence[float]
) -> dict[str, bool]:
    """What the last epoch is like, by plain counts of many rows."""
    limits = Thresholds()
    cells = torch.bincount(target * 10 + preds.argmax(1), minlength=100).reshape(10, 10).double()
    recall = cells.diag() / cells.sum(1)
    precision = cells.diag() / cells.sum(0)
    assert limits.accuracy is not None
    assert limits.precision is not None
    assert limits.recall is not None
    return {
        ACCURACY: bool(cells.diag().sum() / cells.sum() < limits.accuracy),
        PRECISION: bool(precision.nanmean() < limits.precision),
        RECALL: bool(recall.mean() < limits.recall),
        WEAK: bool(recall.min() < limits.class_recall),
        RISES: losses[-1] > (1 + limits.rise) * min(losses),
    }


def settles(value: float, threshold: float) -> tuple[int, float]:
    """Samples asked for after 100, and how often so many settle it."""
    asked = needed_samples(_share(round(100 * value), 100), threshold)
    assert asked is not None
    hits = np.random.default_rng(7).binomial(asked, value, DRAWN)
    states = [decide("x", _share(int(count), asked), threshold).state for count in hits]
    right = "met" if value > threshold else "failed"
    return asked, sum(state == right for state in states) / DRAWN


def _share(hits: int, n: int) -> Estimate:
    low, high = wilson(np.array(hits / n), np.array(float(n)))
    return Estimate(hits / n, float(low), float(high), n, "wilson")


if __name__ == "__main__":
    raise SystemExit(main())
