"""Hooks for a PyTorch fine-tuning loop: exact metrics on the device, and a verdict with evidence.

Names are imported on first use, so that reading a record or printing the command line's help needs
no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from ptmetrics.advice import advise_threshold as advise_threshold
    from ptmetrics.counts.batch import Batch as Batch
    from ptmetrics.counts.cell import Cell as Cell
    from ptmetrics.errors import PtmetricsError as PtmetricsError
    from ptmetrics.integrations.csv_file import CSVLogger as CSVLogger
    from ptmetrics.integrations.mlflow import MLFlowLogger as MLFlowLogger
    from ptmetrics.integrations.tensorboard import TensorBoardLogger as TensorBoardLogger
    from ptmetrics.integrations.torchmetrics import from_torchmetrics as from_torchmetrics
    from ptmetrics.integrations.torchmetrics import to_torchmetrics as to_torchmetrics
    from ptmetrics.integrations.trackio import TrackioLogger as TrackioLogger
    from ptmetrics.integrations.wandb import WandbLogger as WandbLogger
    from ptmetrics.leakage.audit import Audit as Audit
    from ptmetrics.leakage.audit import audit as audit
    from ptmetrics.leakage.callback import LeakageCheck as LeakageCheck
    from ptmetrics.leakage.hygiene import LoopHygiene as LoopHygiene
    from ptmetrics.matrix import judge_confusion as judge_confusion
    from ptmetrics.matrix import judge_predictions as judge_predictions
    from ptmetrics.metrics import functional as functional
    from ptmetrics.metrics.base import Metrics as Metrics
    from ptmetrics.metrics.binary import BinaryMetrics as BinaryMetrics
    from ptmetrics.metrics.dropins import AverageMeter as AverageMeter
    from ptmetrics.metrics.dropins import accuracy as accuracy
    from ptmetrics.metrics.dropins import classification_report as classification_report
    from ptmetrics.metrics.gaps import fairness_gaps as fairness_gaps
    from ptmetrics.metrics.gaps import slice_gap as slice_gap
    from ptmetrics.metrics.mean import Mean as Mean
    from ptmetrics.metrics.multiclass import MulticlassMetrics as MulticlassMetrics
    from ptmetrics.metrics.multilabel import MultilabelMetrics as MultilabelMetrics
    from ptmetrics.metrics.ranking import RankingMetrics as RankingMetrics
    from ptmetrics.metrics.regression import RegressionMetrics as RegressionMetrics
    from ptmetrics.metrics.score import Score as Score
    from ptmetrics.metrics.score import Scores as Scores
    from ptmetrics.metrics.score_spec import ScoreSpec as ScoreSpec
    from ptmetrics.metrics.threshold import Advice as Advice
    from ptmetrics.monitor.callbacks import Callback as Callback
    from ptmetrics.monitor.callbacks import MonitoredRun as MonitoredRun
    from ptmetrics.monitor.checkpoint import Checkpoint as Checkpoint
    from ptmetrics.monitor.epoch import EpochScores as EpochScores
    from ptmetrics.monitor.monitor import Monitor as Monitor
    from ptmetrics.monitor.stopping import EarlyStopping as EarlyStopping
    from ptmetrics.monitor.stopping import StopAtTarget as StopAtTarget
    from ptmetrics.monitor.stopping import TimeLimit as TimeLimit
    from ptmetrics.monitor.watching import DeviceMemory as DeviceMemory
    from ptmetrics.monitor.watching import GradNorm as GradNorm
    from ptmetrics.monitor.watching import LearningRate as LearningRate
    from ptmetrics.monitor.watching import Throughput as Throughput
    from ptmetrics.record.history import History as History
    from ptmetrics.record.history import read_history as read_history
    from ptmetrics.show.report import report as report
    from ptmetrics.verdict.compare import Comparison as Comparison
    from ptmetrics.verdict.compare import compare as compare
    from ptmetrics.verdict.evidence import Evidence as Evidence
    from ptmetrics.verdict.finding import Finding as Finding
    from ptmetrics.verdict.finding import Verdict as Verdict
    from ptmetrics.verdict.judge import RULES as RULES
    from ptmetrics.verdict.judge import judge as judge
    from ptmetrics.verdict.pages import explain as explain
    from ptmetrics.verdict.profile import Profile as Profile
    from ptmetrics.verdict.profile import Thresholds as Thresholds
    from ptmetrics.verdict.rule import rule as rule

_HOME = {
    "Advice": "metrics.threshold",
    "Audit": "leakage.audit",
    "AverageMeter": "metrics.dropins",
    "Batch": "counts.batch",
    "CSVLogger": "integrations.csv_file",
    "BinaryMetrics": "metrics.binary",
    "Callback": "monitor.callbacks",
    "Cell": "counts.cell",
    "Checkpoint": "monitor.checkpoint",
    "Comparison": "verdict.compare",
    "DeviceMemory": "monitor.watching",
    "EarlyStopping": "monitor.stopping",
    "EpochScores": "monitor.epoch",
    "Evidence": "verdict.evidence",
    "Finding": "verdict.finding",
    "GradNorm": "monitor.watching",
    "History": "record.history",
    "LeakageCheck": "leakage.callback",
    "LearningRate": "monitor.watching",
    "LoopHygiene": "leakage.hygiene",
    "MLFlowLogger": "integrations.mlflow",
    "Mean": "metrics.mean",
    "Metrics": "metrics.base",
    "Monitor": "monitor.monitor",
    "MonitoredRun": "monitor.callbacks",
    "MulticlassMetrics": "metrics.multiclass",
    "MultilabelMetrics": "metrics.multilabel",
    "Profile": "verdict.profile",
    "PtmetricsError": "errors",
    "RULES": "verdict.judge",
    "RankingMetrics": "metrics.ranking",
    "RegressionMetrics": "metrics.regression",
    "Score": "metrics.score",
    "ScoreSpec": "metrics.score_spec",
    "Scores": "metrics.score",
    "StopAtTarget": "monitor.stopping",
    "TensorBoardLogger": "integrations.tensorboard",
    "Thresholds": "verdict.profile",
    "Throughput": "monitor.watching",
    "TimeLimit": "monitor.stopping",
    "TrackioLogger": "integrations.trackio",
    "Verdict": "verdict.finding",
    "WandbLogger": "integrations.wandb",
    "accuracy": "metrics.dropins",
    "advise_threshold": "advice",
    "audit": "leakage.audit",
    "fairness_gaps": "metrics.gaps",
    "slice_gap": "metrics.gaps",
    "classification_report": "metrics.dropins",
    "compare": "verdict.compare",
    "explain": "verdict.pages",
    "from_torchmetrics": "integrations.torchmetrics",
    "functional": "metrics.functional",
    "judge": "verdict.judge",
    "judge_confusion": "matrix",
    "judge_predictions": "matrix",
    "read_history": "record.history",
    "report": "show.report",
    "rule": "verdict.rule",
    "to_torchmetrics": "integrations.torchmetrics",
}

__all__ = [
    "RULES",
    "Advice",
    "Audit",
    "AverageMeter",
    "Batch",
    "BinaryMetrics",
    "CSVLogger",
    "Callback",
    "Cell",
    "Checkpoint",
    "Comparison",
    "DeviceMemory",
    "EarlyStopping",
    "EpochScores",
    "Evidence",
    "Finding",
    "GradNorm",
    "History",
    "LeakageCheck",
    "LearningRate",
    "LoopHygiene",
    "MLFlowLogger",
    "Mean",
    "Metrics",
    "Monitor",
    "MonitoredRun",
    "MulticlassMetrics",
    "MultilabelMetrics",
    "Profile",
    "PtmetricsError",
    "RankingMetrics",
    "RegressionMetrics",
    "Score",
    "ScoreSpec",
    "Scores",
    "StopAtTarget",
    "TensorBoardLogger",
    "Thresholds",
    "Throughput",
    "TimeLimit",
    "TrackioLogger",
    "Verdict",
    "WandbLogger",
    "__version__",
    "accuracy",
    "advise_threshold",
    "audit",
    "classification_report",
    "compare",
    "explain",
    "fairness_gaps",
    "from_torchmetrics",
    "functional",
    "judge",
    "judge_confusion",
    "judge_predictions",
    "read_history",
    "report",
    "rule",
    "slice_gap",
    "to_torchmetrics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ptmetrics' has no attribute {name!r}")
    value: Any = import_module(f"ptmetrics.{_HOME[name]}")
    if name != "functional":
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
