"""Hooks for a PyTorch fine-tuning loop: exact metrics on the device, and a verdict with evidence.

Names are imported on first use, so that reading a record or printing the command line's help needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ptmetrics import functional as functional
    from ptmetrics.errors import PtmetricsError as PtmetricsError
    from ptmetrics.integrations.torchmetrics import from_torchmetrics as from_torchmetrics
    from ptmetrics.integrations.torchmetrics import to_torchmetrics as to_torchmetrics
    from ptmetrics.matrix import judge_confusion as judge_confusion
    from ptmetrics.metrics.binary import BinaryMetrics as BinaryMetrics
    from ptmetrics.metrics.dropins import AverageMeter as AverageMeter
    from ptmetrics.metrics.dropins import accuracy as accuracy
    from ptmetrics.metrics.multiclass_metrics import MulticlassMetrics as MulticlassMetrics
    from ptmetrics.metrics.multilabel_metrics import MultilabelMetrics as MultilabelMetrics
    from ptmetrics.metrics.regression_metrics import RegressionMetrics as RegressionMetrics
    from ptmetrics.metrics.report import classification_report as classification_report
    from ptmetrics.metrics.score import Score as Score
    from ptmetrics.metrics.score import Scores as Scores
    from ptmetrics.monitor.callbacks import Callback as Callback
    from ptmetrics.monitor.callbacks import EarlyStopping as EarlyStopping
    from ptmetrics.monitor.checkpoint import Checkpoint as Checkpoint
    from ptmetrics.monitor.epoch import EpochScores as EpochScores
    from ptmetrics.monitor.monitor import Monitor as Monitor
    from ptmetrics.record.history import History as History
    from ptmetrics.record.history import read_history as read_history
    from ptmetrics.metrics.threshold import Advice as Advice
    from ptmetrics.metrics.threshold import advise_threshold as advise_threshold
    from ptmetrics.verdict.compare import Comparison as Comparison
    from ptmetrics.verdict.compare import compare as compare
    from ptmetrics.verdict.evidence import Evidence as Evidence
    from ptmetrics.verdict.finding import Finding as Finding
    from ptmetrics.verdict.finding import Verdict as Verdict
    from ptmetrics.verdict.judge import RULES as RULES
    from ptmetrics.verdict.judge import judge as judge
    from ptmetrics.verdict.pages import explain as explain
    from ptmetrics.verdict.rule import rule as rule

_HOME = {
    "Advice": "metrics.threshold",
    "AverageMeter": "metrics.dropins",
    "BinaryMetrics": "metrics.binary",
    "Callback": "monitor.callbacks",
    "Checkpoint": "monitor.checkpoint",
    "Comparison": "verdict.compare",
    "EarlyStopping": "monitor.callbacks",
    "EpochScores": "monitor.epoch",
    "Evidence": "verdict.evidence",
    "Finding": "verdict.finding",
    "History": "record.history",
    "Monitor": "monitor.monitor",
    "MulticlassMetrics": "metrics.multiclass_metrics",
    "MultilabelMetrics": "metrics.multilabel_metrics",
    "PtmetricsError": "errors",
    "RULES": "verdict.judge",
    "RegressionMetrics": "metrics.regression_metrics",
    "Score": "metrics.score",
    "Scores": "metrics.score",
    "Verdict": "verdict.finding",
    "accuracy": "metrics.dropins",
    "advise_threshold": "metrics.threshold",
    "classification_report": "metrics.report",
    "compare": "verdict.compare",
    "explain": "verdict.pages",
    "from_torchmetrics": "integrations.torchmetrics",
    "functional": "functional",
    "judge": "verdict.judge",
    "judge_confusion": "matrix",
    "read_history": "record.history",
    "rule": "verdict.rule",
    "to_torchmetrics": "integrations.torchmetrics",
}

__all__ = [
    "RULES",
    "Advice",
    "AverageMeter",
    "BinaryMetrics",
    "Callback",
    "Checkpoint",
    "Comparison",
    "EarlyStopping",
    "EpochScores",
    "Evidence",
    "Finding",
    "History",
    "Monitor",
    "MulticlassMetrics",
    "MultilabelMetrics",
    "PtmetricsError",
    "RegressionMetrics",
    "Score",
    "Scores",
    "Verdict",
    "__version__",
    "accuracy",
    "advise_threshold",
    "classification_report",
    "compare",
    "explain",
    "from_torchmetrics",
    "functional",
    "judge",
    "judge_confusion",
    "read_history",
    "rule",
    "to_torchmetrics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ptmetrics' has no attribute {name!r}")
    home = import_module(f"ptmetrics.{_HOME[name]}")
    value = home if _HOME[name] == name else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
