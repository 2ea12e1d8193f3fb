"""How far each sample moves a score: against scikit-learn's weights, and in runs of every task."""

from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

import ptmetrics as pm
from ptmetrics.record.reader import read_run
from ptmetrics.record.samples import CLASS_ROW, POINT_ROW, Rows, StoredSamples
from ptmetrics.verdict.finding import Estimate
from ptmetrics.verdict.paired import Difference, Moves, _moves_of, paired_difference
from ptmetrics.verdict.run_groups import difference
from ptmetrics.verdict.samples import Sampled
from ptmetrics.verdict.time_to_target import trace

WEIGHTED_CLASS = np.dtype([*CLASS_ROW.descr, ("score", "<f4"), ("weight", "<f4")])
WEIGHTED_POINT = np.dtype([*POINT_ROW.descr, ("weight", "<f8")])
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def binary_rows(seed: int, n: int = 60) -> Rows:
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, WEIGHTED_CLASS)
    rows["target"] = rng.random(n) < 0.4
    rows["score"] = np.round(rng.normal(size=n) + rows["target"], 1)  # with ties
    rows["predicted"] = rows["score"] >= 0.5
    rows["weight"] = np.round(0.5 + rng.random(n), 2)
    return rows


def point_rows(seed: int, n: int = 60) -> Rows:
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, WEIGHTED_POINT)
    rows["target"] = 1e3 + rng.normal(size=n)
    rows["error"] = rng.normal(size=n) + 0.3
    rows["weight"] = 0.5 + rng.random(n)
    return rows


def moves(name: str, rows: Rows, value: float, beta: float | None = None) -> Moves:
    samples = StoredSamples(rows, beta=beta)
    run = Sampled(value, value, value, len(rows), score=name, samples=lambda: samples)
    return _moves_of(run, rows)


RANKED: dict[str, Score] = {
    "auroc": lambda t, s, w: sk.roc_auc_score(t, s, sample_weight=w),
    "average_precision": lambda t, s, w: sk.average_precision_score(t, s, sample_weight=w),
}
DECIDED: dict[str, Score] = {
    "accuracy": lambda t, p, w: sk.accuracy_score(t, p, sample_weight=w),
    "f1": lambda t, p, w: sk.f1_score(t, p, sample_weight=w),
    "fbeta": lambda t, p, w: sk.fbeta_score(t, p, beta=2.0, sample_weight=w),
    "specificity": lambda t, p, w: sk.recall_score(t, p, pos_label=0, sample_weight=w),
    "mcc": lambda t, p, w: sk.matthews_corrcoef(t, p, sample_weight=w),
    "kappa": lambda t, p, w: sk.cohen_kappa_score(t, p, sample_weight=w),
    "f1/macro": lambda t, p, w: sk.f1_score(t, p, average="macro", sample_weight=w),
}


def explained(t: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    return float(sk.explained_variance_score(t, p, sample_weight=w))


def pearson(t: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    covariance = np.cov(t, p, aweights=w, ddof=0)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


NUMBERS: dict[str, Score] = {
    "mse": lambda t, p, w: sk.mean_squared_error(t, p, sample_weight=w),
    "rmse": lambda t, p, w: np.sqrt(sk.mean_squared_error(t, p, sample_weight=w)),
    "mae": lambda t, p, w: sk.mean_absolute_error(t, p, sample_weight=w),
    "bias": lambda t, p, w: np.average(p - t, weights=w),
    "r2": lambda t, p, w: sk.r2_score(t, p, sample_weight=w),
    "explained_variance": explained,
    "pearson": pearson,
}


@pytest.mark.parametrize("name", [*RANKED, *DECIDED, *NUMBERS])
def test_moves_are_the_derivatives_by_the_weights_of_scikit_learns_score(name: str) -> None:
    if name in NUMBERS:
        rows, of = point_rows(3), NUMBERS[name]
        truth, said = rows["target"], rows["target"] + rows["error"]
    elif name in RANKED:
        rows, of = binary_rows(3), RANKED[name]
        truth, said = rows["target"], rows["score"].astype(float)
    else:
        rows, of = binary_rows(3), DECIDED[name]
        truth, said = rows["target"], rows["predicted"]
    weight = rows["weight"].astype(np.float64)
    value = of(truth, said, weight)
    got = moves(name, rows, value, beta=2.0)
    assert got.value == pytest.approx(value, rel=1e-7)
    assert got.each.sum() == pytest.approx(0, abs=1e-7)
    for i in range(8):
        step = np.zeros(len(rows))
        step[i] = 1e-5
        slope = (of(truth, said, weight + step) - of(truth, said, weight - step)) / 2e-5
        assert got.each[i] == pytest.approx(weight[i] * slope, rel=2e-3, abs=1e-6), i


CLASSES = 4


def class_rows(seed: int, n: int = 60) -> Rows:
    """The last class has no targets."""
    rng = np.random.default_rng(seed)
    margins = [(f"margin_{label}", "<f4") for label in range(CLASSES)]
    rows = np.zeros(n, [*CLASS_ROW.descr, *margins, ("weight", "<f4")])
    rows["target"] = rng.integers(0, CLASSES - 1, n)
    for label in range(CLASSES):
        noise = rng.normal(size=n) + (rows["target"] == label)
        rows[f"margin_{label}"] = np.round(noise, 1)
    rows["weight"] = np.round(0.5 + rng.random(n), 2)
    return rows


def averaged(name: str, rows: Rows, weight: np.ndarray) -> float:
    """By scikit-learn, over the classes that have targets; micro is over all."""
    base, _, average = name.partition("/")
    heads = CLASSES if average == "micro" else CLASSES - 1
    truth = np.eye(CLASSES)[rows["target"]][:, :heads]
    scores = np.stack([rows[f"margin_{label}"].astype(float) for label in range(heads)], 1)
    of = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[base]
    return float(of(truth, scores, average=average, sample_weight=weight))


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("base", ["auroc", "average_precision"])
def test_moves_of_the_curves_of_classes_are_derivatives_too(base: str, average: str) -> None:
    name, rows = f"{base}/{average}", class_rows(3)
    weight = rows["weight"].astype(np.float64)
    value = averaged(name, rows, weight)
    got = moves(name, rows, value)
    assert got.value == pytest.approx(value, rel=1e-7)
    assert got.each.sum() == pytest.approx(0, abs=1e-7)
    for i in range(8):
        step = np.zeros(len(rows))
        step[i] = 1e-5
        more, less = (averaged(name, rows, weight + sign * step) for sign in (1, -1))
        assert got.each[i] == pytest.approx(weight[i] * (more - less) / 2e-5, rel=2e-3, abs=1e-6), i


def test_a_class_alone_is_paired_too_and_what_has_no_scores_is_not() -> None:
    rows = class_rows(3)
    truth, score = rows["target"] == 1, rows["margin_1"].astype(float)
    value = float(sk.roc_auc_score(truth, score, sample_weight=rows["weight"].astype(float)))
    samples = StoredSamples(rows)
    run = Sampled(value, 0, 1, 60, score="auroc", label=1, samples=lambda: samples)
    assert isinstance(paired_difference(run, run), Difference)
    for score_name in ("auroc/ovo", "auroc"):
        other = Sampled(value, 0, 1, 60, score=score_name, samples=lambda: samples)
        assert paired_difference(other, other) == f"there is no paired test for {score_name}"
    rows = rows.copy()
    rows["margin_2"][0] = np.nan
    broken = Sampled(value, 0, 1, 60, score="auroc/macro", samples=lambda: StoredSamples(rows))
    assert paired_difference(broken, broken) == "some of its scores are NaN"


def test_the_variance_of_an_auroc_is_delongs() -> None:
    rows = binary_rows(5, 200)
    rows["weight"] = 1
    score, positive = rows["score"].astype(float), rows["target"] == 1
    got = moves("auroc", rows, sk.roc_auc_score(positive, score))
    wins = np.sign(score[positive][:, None] - score[~positive]) / 2 + 0.5
    variance = wins.mean(1).var() / positive.sum() + wins.mean(0).var() / (~positive).sum()
    assert got.each @ got.each == pytest.approx(variance, rel=1e-9)


def test_samples_that_do_not_give_the_recorded_curve_are_not_used() -> None:
    rows = binary_rows(5)
    run = Sampled(0.1, 0.0, 0.2, 60, score="auroc", samples=lambda: StoredSamples(rows))
    assert paired_difference(run, run) == "the kept samples do not give the recorded auroc"


# Runs of every task


def run_of(folder: Path, metrics: pm.Metrics, batches: Any) -> Any:
    monitor = pm.Monitor(metrics, run=folder, progress=False)
    for _ in range(2):
        for preds, target, *weight in batches:
            monitor.update(preds, target, split="train")
            monitor.update(preds, target, sample_weight=weight[0] if weight else None, split="val")
        monitor.end_epoch()
    monitor.close()
    return read_run(folder)


def drawn(task: str, skill: float, seed: int) -> list[Any]:
    """Batches of the same samples for every skill and seed of noise: what is hard is hard for all."""
    g = torch.Generator().manual_seed(0)
    noise = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(4):
        if task == "pixels":
            target = torch.randint(0, 3, (16, 8, 8), generator=g)
            hard = torch.rand(16, 1, 1, generator=g) < 0.5 * torch.rand(16, 8, 8, generator=g)
            luck = torch.rand(16, 8, 8, generator=noise) < 0.2 - skill
            batches.append((torch.where(hard | luck, (target + 1) % 3, target), target))
        elif task == "regression":
            target = torch.randn(64, generator=g)
            hard = torch.randn(64, generator=g)
            own = torch.randn(64, generator=noise)
            batches.append((target + hard * (0.8 - skill) + 0.05 * own, target))
        elif task in ("curves", "exact"):
            target = torch.randint(0, 3, (64,), generator=g)
            hard = 1.5 * torch.randn(64, 3, generator=g)
            own = torch.randn(64, 3, generator=noise)
            logits = hard + 0.3 * own + (1 + 2 * skill) * torch.eye(3)[target]
            batches.append((logits if task == "curves" else logits.softmax(1), target))
        elif task == "multilabel":
            target = (torch.rand(64, 4, generator=g) < 0.4).long()
            hard = 2 * torch.randn(64, 1, generator=g)
            own = torch.randn(64, 4, generator=noise)
            batches.append((hard + 0.4 * own + (2 + 3 * skill) * target - 1.5, target))
        else:
            target = (torch.rand(64, generator=g) < 0.4).long()
            hard = torch.randn(64, generator=g)
            own = torch.randn(64, generator=noise)
            weight = 0.5 + torch.rand(64, generator=g)
            score = 1.2 * hard + 0.3 * own + (2 + 2 * skill) * target - 1
            if task == "topk":
                other = torch.randn(64, 4, generator=g)
                batches.append((torch.cat((-score[:, None], score[:, None], other), 1), target))
            else:
                batches.append((score, target, weight))
    return batches


MAKE: dict[str, Callable[[], pm.Metrics]] = {
    "pixels": lambda: pm.MulticlassMetrics(3, inputs="labels"),
    "regression": pm.RegressionMetrics,
    "multilabel": lambda: pm.MultilabelMetrics(4),
    "binary": lambda: pm.BinaryMetrics(beta=2.0),
    "topk": lambda: pm.MulticlassMetrics(6, topk=(1, 3), beta=0.5),
    "curves": lambda: pm.MulticlassMetrics(3, topk=(1, 2), curves=True),
    "exact": lambda: pm.MulticlassMetrics(3, inputs="probs", curves="exact"),
}
EXPECTED = {
    "pixels": ("accuracy", "f1/macro", "mean_iou", "mcc"),
    "regression": ("r2", "rmse", "pearson", "explained_variance"),
    "multilabel": ("exact_match", "f1/macro", "f1/samples", "precision/micro"),
    "binary": ("auroc", "average_precision", "f1", "fbeta", "accuracy", "nll", "mcc"),
    "topk": ("top3_accuracy", "fbeta/macro", "fbeta/weighted", "f1/macro"),
    "curves": ("auroc/macro", "auroc/weighted", "average_precision/macro", "top2_accuracy"),
    "exact": ("auroc/micro", "average_precision/micro", "average_precision/weighted"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    base = tmp_path_factory.mktemp("runs")
    found = {}
    for task, make in MAKE.items():
        found[task] = [
            run_of(base / f"{task}-{skill}-{seed}", make(), drawn(task, skill, seed))
            for skill in (0.1, 0.0)
            for seed in (1, 2, 3)
        ]
    return found


def last(run: Any, name: str) -> Estimate:
    return trace(run, f"val/{name}").last


@pytest.mark.parametrize("task", EXPECTED)
@pytest.mark.slow
def test_scores_of_every_task_are_paired_and_narrower_than_independent_ones(
    runs: dict[str, list[Any]], task: str
) -> None:
    for name in EXPECTED[task]:
        first, second = last(runs[task][0], name), last(runs[task][3], name)
        got = difference([first], [second])
        assert got.paired, (name, got.unpaired)
        assert got.low <= got.value <= got.high
        bounds = sum(e.error_bound for e in (first, second) if isinstance(e, Sampled))
        assert got.value == pytest.approx(first.value - second.value, abs=1e-4 + bounds), name
        bare = [Estimate(**{f: getattr(e, f) for f in vars(Estimate(0.0, 0.0, 0.0, 0))})
                for e in (first, second)]  # fmt: skip
        apart = difference([bare[0]], [bare[1]])
        assert not apart.paired
        assert got.high - got.low < apart.high - apart.low, name
        assert 0 <= got.p <= 1


def test_seeds_add_their_spread_to_what_the_samples_leave(runs: dict[str, list[Any]]) -> None:
    for task in EXPECTED:
        name = EXPECTED[task][0]
        scores = [last(run, name) for run in runs[task]]
        one = difference(scores[:1], scores[3:4])
        several = difference(scores[:3], scores[3:])
        assert several.paired, several.unpaired
        assert several.method.endswith("and seeds")
        mean = np.mean([s.value for s in scores[:3]]) - np.mean([s.value for s in scores[3:]])
        assert several.value == pytest.approx(mean, abs=1e-4)  # scores are kept in float32
        assert isinstance(one, Difference)


def test_seeds_that_hold_the_true_difference() -> None:
    """Samples and seeds are drawn anew: the interval of the mean over seeds holds what is true of both."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        hard = rng.normal(size=150)
        sides = []
        for skill in (0.3, 0.0):
            side = []
            for _ in range(3):
                lift = skill + 0.15 * rng.normal()
                right = hard + 0.5 * rng.normal(size=150) < 0.8 + lift
                rows = np.zeros(150, CLASS_ROW)
                rows["predicted"] = ~right
                value = float(right.mean())
                kept = StoredSamples(rows)
                side.append(
                    Sampled(value, 0, 1, 150, score="accuracy", samples=lambda kept=kept: kept)
                )
            sides.append(side)
        got = paired_difference(*sides)
        assert isinstance(got, Difference)
        many = np.random.default_rng(1).normal(size=(2, 20000)) * np.array([[1.0], [0.5]])
        lifts = 0.15 * np.random.default_rng(2).normal(size=20000)
        total = many.sum(0) - lifts
        truth = (total < 1.1).mean() - (total < 0.8).mean()
        held += got.low <= truth <= got.high
    assert held >= 0.92 * 200


def test_buckets_of_other_samples_make_the_interval_wider_and_not_narrower(
    runs: dict[str, list[Any]], tmp_path: Path
) -> None:
    batches = drawn("pixels", 0.0, 1)
    shuffled = [(p[torch.arange(15, -1, -1)], t[torch.arange(15, -1, -1)]) for p, t in batches]
    other = run_of(tmp_path / "shuffled", MAKE["pixels"](), shuffled)
    same = difference([last(runs["pixels"][0], "accuracy")], [last(runs["pixels"][3], "accuracy")])
    got = difference([last(runs["pixels"][0], "accuracy")], [last(other, "accuracy")])
    assert got.high - got.low > same.high - same.low


def test_an_unpaired_score_says_why(runs: dict[str, list[Any]]) -> None:
    got = difference([last(runs["binary"][0], "ece")], [last(runs["binary"][3], "ece")])
    assert not got.paired
    assert got.unpaired == "there is no paired test for ece"
    assert not isnan(got.low)


# What a record keeps


def test_a_record_keeps_curves_and_reliability_of_the_last_validation(
    runs: dict[str, list[Any]],
) -> None:
    run = runs["binary"][0]
    epoch = run.epochs[-1]
    table = run.curves(epoch).rows
    assert table is not None
    assert len(table) <= 200
    assert (np.diff(table["threshold"]) > 0).all()
    preds, target, weight = (
        torch.cat(x).double().numpy() for x in zip(*drawn("binary", 0.1, 1), strict=True)
    )
    for row in (table[0], table[-1], table[len(table) // 2]):
        chosen = preds >= row["threshold"]
        assert row["tp"] == pytest.approx(weight[chosen & (target == 1)].sum(), rel=1e-6)
        assert row["fp"] == pytest.approx(weight[chosen & (target == 0)].sum(), rel=1e-6)
    assert table[0]["fn"] == table[0]["tn"] == 0
    reliability = run.reliability(epoch).rows
    assert reliability is not None
    assert reliability["weight"].sum() == pytest.approx(weight.sum(), rel=1e-6)
    some = reliability[reliability["weight"] > 0]
    assert ((some["confidence"] >= 0) & (some["accuracy"] <= 1)).all()
    assert run.curves(runs["pixels"][0].epochs[-1]).rows is None


def test_the_worst_and_the_misclassified_samples_are_told_with_their_places(
    runs: dict[str, list[Any]],
) -> None:
    run = runs["binary"][0]
    kept = run.kept(run.epochs[-1])
    preds, target, _ = (torch.cat(x) for x in zip(*drawn("binary", 0.1, 1), strict=True))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        preds.double(), target.double(), reduction="none"
    )
    places, rows = kept.worst(5)
    assert places.tolist() == loss.argsort(descending=True, stable=True)[:5].tolist()
    assert rows["loss"].tolist() == pytest.approx(loss[places].tolist(), rel=1e-6)
    places, rows = kept.misclassified()
    assert places.tolist() == ((preds >= 0).long() != target).nonzero().squeeze(1).tolist()
    places, _ = runs["regression"][0].kept(runs["regression"][0].epochs[-1]).worst(3)
    errors = torch.cat([p - t for p, t in drawn("regression", 0.1, 1)]).abs()
    assert places.tolist() == errors.argsort(descending=True)[:3].tolist()
    with pytest.raises(pm.PtmetricsError, match="samples: expected samples of classes"):
        runs["regression"][0].kept(runs["regression"][0].epochs[-1]).misclassified()
    with pytest.raises(pm.PtmetricsError, match="samples: expected samples that were kept"):
        StoredSamples(reason="of a test").worst()
