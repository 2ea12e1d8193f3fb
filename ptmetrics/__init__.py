"""Hooks for a PyTorch fine-tuning loop: exact metrics on the device, and a verdict with evidence.

Names are imported on first use, so that reading a record or printing the command line's help needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ptmetrics import functional as functional
    from ptmetrics.adapters.torchmetrics import from_torchmetrics as from_torchmetrics
    from ptmetrics.adapters.torchmetrics import to_torchmetrics as to_torchmetrics
    from ptmetrics.errors import PtmetricsError as PtmetricsError
    from ptmetrics.loop.callbacks import Callback as Callback
    from ptmetrics.loop.callbacks import EarlyStopping as EarlyStopping
    from ptmetrics.loop.checkpoint import Checkpoint as Checkpoint
    from ptmetrics.loop.epoch import EpochScores as EpochScores
    from ptmetrics.loop.monitor import Monitor as Monitor
    from ptmetrics.matrix import judge_confusion as judge_confusion
    from ptmetrics.record.history import History as History
    from ptmetrics.record.history import read_history as read_history
    from ptmetrics.scores.binary_metrics import BinaryMetrics as BinaryMetrics
    from ptmetrics.scores.dropins import AverageMeter as AverageMeter
    from ptmetrics.scores.dropins import accuracy as accuracy
    from ptmetrics.scores.multiclass_metrics import MulticlassMetrics as MulticlassMetrics
    from ptmetrics.scores.multilabel_metrics import MultilabelMetrics as MultilabelMetrics
    from ptmetrics.scores.regression_metrics import RegressionMetrics as RegressionMetrics
    from ptmetrics.scores.report import classification_report as classification_report
    from ptmetrics.scores.score import Score as Score
    from ptmetrics.scores.score import Scores as Scores
    from ptmetrics.threshold import Advice as Advice
    from ptmetrics.threshold import advise_threshold as advise_threshold
    from ptmetrics.verdict.compare import Comparison as Comparison
    from ptmetrics.verdict.compare import compare as compare
    from ptmetrics.verdict.finding import Finding as Finding
    from ptmetrics.verdict.finding import Verdict as Verdict
    from ptmetrics.verdict.judge import judge as judge

_HOME = {
    "Advice": "threshold",
    "AverageMeter": "scores.dropins",
    "BinaryMetrics": "scores.binary_metrics",
    "Callback": "loop.callbacks",
    "Checkpoint": "loop.checkpoint",
    "Comparison": "verdict.compare",
    "EarlyStopping": "loop.callbacks",
    "EpochScores": "loop.epoch",
    "Finding": "verdict.finding",
    "History": "record.history",
    "Monitor": "loop.monitor",
    "MulticlassMetrics": "scores.multiclass_metrics",
    "MultilabelMetrics": "scores.multilabel_metrics",
    "PtmetricsError": "errors",
    "RegressionMetrics": "scores.regression_metrics",
    "Score": "scores.score",
    "Scores": "scores.score",
    "Verdict": "verdict.finding",
    "accuracy": "scores.dropins",
    "advise_threshold": "threshold",
    "classification_report": "scores.report",
    "compare": "verdict.compare",
    "from_torchmetrics": "adapters.torchmetrics",
    "functional": "functional",
    "judge": "verdict.judge",
    "judge_confusion": "matrix",
    "read_history": "record.history",
    "to_torchmetrics": "adapters.torchmetrics",
}

__all__ = [
    "Advice",
    "AverageMeter",
    "BinaryMetrics",
    "Callback",
    "Checkpoint",
    "Comparison",
    "EarlyStopping",
    "EpochScores",
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
    "from_torchmetrics",
    "functional",
    "judge",
    "judge_confusion",
    "read_history",
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
