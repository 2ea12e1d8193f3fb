"""A user's script as type checkers see it: `make check` runs mypy --strict and pyright on it.

`assert_type` fails the check where a result is typed as something else, or as nothing.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import ptmetrics as pm


def margin(preds: Tensor, target: Tensor) -> Tensor:
    own = preds.gather(1, target.unsqueeze(1)).squeeze(1)
    return own - preds.mean(1)


class Tell(pm.Callback):
    def on_epoch_end(self, monitor: pm.MonitoredRun, scores: pm.EpochScores) -> None:
        if float(scores["val/loss"]) > 5:
            monitor.stop("diverged")


def metrics_alone(preds: Tensor, target: Tensor) -> pm.Scores:
    metrics = pm.MulticlassMetrics(num_classes=3, topk=(1, 2), scores=["kappa/quadratic"])
    metrics.update(preds, target)
    other = metrics.fresh()
    assert_type(other, pm.MulticlassMetrics)
    assert_type(metrics.merge_state([other]), pm.MulticlassMetrics)
    assert_type(metrics.to("cpu"), pm.MulticlassMetrics)
    scores = metrics.compute()
    assert_type(scores, pm.Scores)
    accuracy = scores["accuracy"]
    assert_type(accuracy, pm.Score)
    assert_type(accuracy.value, float)
    assert_type(accuracy.low + accuracy.high, float)
    assert_type(accuracy.n, int)
    assert_type(accuracy.reason, str | None)
    assert_type(accuracy.higher_is_better, bool | None)
    assert_type(list(scores), list[str])
    each = scores.per_class["recall"]
    assert_type(float(each[0]), float)
    macro_f1 = pm.functional.multiclass_f1_score(preds, target, num_classes=3)
    assert_type(macro_f1, pm.Score)
    each_f1 = pm.functional.multiclass_f1_score(preds, target, num_classes=3, average=None)
    assert_type(each_f1, tuple[pm.Score, ...])
    kept: list[pm.Metrics] = [
        pm.BinaryMetrics(inputs="probs", threshold=0.4),
        pm.MultilabelMetrics(4),
        pm.RegressionMetrics(),
        pm.RankingMetrics(),
        pm.Mean("margin", margin, higher_is_better=True),
    ]
    assert_type(kept[0].compute(), pm.Scores)
    return scores


def in_a_loop(folder: Path, loader: Iterable[tuple[Tensor, Tensor]]) -> pm.Monitor:
    model = nn.Linear(4, 3)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    callbacks: list[pm.Callback] = [
        pm.EarlyStopping("val/f1/macro", patience=3),
        pm.Checkpoint("val/f1/macro"),
        Tell(),
    ]
    metrics = pm.MulticlassMetrics(3)
    monitor = pm.Monitor(metrics, run=folder, callbacks=callbacks, progress=False)
    monitor.attach(model, criterion=criterion, optimizer=optimizer)
    for epoch in monitor.epochs(2):
        assert_type(epoch, int)
        model.train()
        for batch in monitor.train(loader):
            optimizer.zero_grad()
            criterion(model(batch[0]), batch[1]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for batch in monitor.validate(loader):
                assert_type(batch, tuple[Tensor, Tensor])
                criterion(model(batch[0]), batch[1])
    assert_type(monitor.should_stop, bool)
    assert_type(monitor.scores, pm.EpochScores)
    assert_type(monitor.scores["val/accuracy"].value, float)
    assert_type(monitor.history, pm.History)
    assert_type(len(monitor.history.epoch), int)
    assert_type(monitor.history["val/accuracy"], list[float])
    return monitor


def by_hand(preds: Tensor, target: Tensor) -> None:
    with pm.Monitor(pm.MulticlassMetrics(3), progress=False) as monitor:
        monitor.update(preds, target, loss=0.5, split="val")
        scores = monitor.end_epoch()
    assert_type(scores, pm.EpochScores)
    assert_type(scores["val/accuracy"], pm.Score)


def after_the_loop(folder: Path, scores: pm.Scores) -> str:
    verdict = pm.judge(folder, profile="balanced")
    assert_type(verdict, pm.Verdict)
    assert_type(verdict.ready, bool)
    tighter = pm.judge(folder, profile={"extends": "recall-first", "recall": 0.95})
    assert_type(tighter, pm.Verdict)
    for finding in verdict.findings:
        assert_type(finding, pm.Finding)
        print(finding.code, finding.severity, finding.message, finding.advice)
    comparison = pm.compare(folder, folder, target="val/accuracy>=0.1")
    assert_type(comparison, pm.Comparison)
    if comparison.time_ratio is not None:
        assert_type(comparison.time_ratio.value, float)
    assert_type(pm.judge_confusion([[90, 10], [15, 85]], positive=1), pm.Verdict)
    assert_type(pm.read_history(folder), pm.History)
    assert_type(pm.report(folder, folder / "report.html"), Path)
    print(pm.classification_report(scores))
    return verdict.status


def main(folder: Path) -> None:
    inputs = torch.randn(60, 4)
    target = torch.arange(60) % 3
    inputs[torch.arange(60), target] += 3
    scores = metrics_alone(inputs[:, :3], target)
    loader = [(inputs[:30], target[:30]), (inputs[30:], target[30:])]
    monitor = in_a_loop(folder, loader)
    by_hand(inputs[:, :3], target)
    assert_type(pm.audit(inputs, inputs, progress=False), pm.Audit)
    print(after_the_loop(folder, scores), monitor.stopping_reason)
