"""Drop-in replacements: scikit-learn's classification report, and helpers of training scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.score_passes import rank_of_target
from ptmetrics.errors import ConfigError, ShapeError
from ptmetrics.metrics import functional
from ptmetrics.metrics.options import classes_of
from ptmetrics.metrics.score import Scores, report_dict, report_text


def classification_report(
    preds: Scores | Tensor,
    target: Tensor | None = None,
    *,
    labels: Sequence[int | str] | None = None,
    digits: int = 2,
    output_dict: bool = False,
    sample_weight: Tensor | None = None,
    **options: Any,
) -> str | dict[str, Any]:
    """The report of `sklearn.metrics.classification_report`, to the last blank.

    As there, a class that is neither in the targets nor in the predictions has no line, and one
    that was never predicted has a precision of 0.

    Args:
        preds: Scores of a classification, or predictions; these come first, unlike in scikit-learn.
        target: Truth of the same rows, beside predictions.
        labels: Classes that are reported and averaged over, beside predictions of `num_classes`; one
            that does not occur counts as 0, or as `absent`.
        digits: Digits after the point.
        output_dict: Whether to return plain numbers instead of a text, as scikit-learn's
            dictionary.
        sample_weight: Non-negative weights, beside predictions.
        options: Beside predictions the arguments of `MulticlassMetrics` with num_classes, of
            `MultilabelMetrics` with num_labels, else of `BinaryMetrics`; such as inputs,
            class_names or absent.

    Raises:
        ConfigError: If the scores are not those of a classification, or anything stands beside
            scores.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds, target = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2])
        >>> print(pm.classification_report(preds, target, num_classes=3, inputs="labels"))
                      precision    recall  f1-score   support
        <BLANKLINE>
                   0       1.00      1.00      1.00         1
                   1       0.50      1.00      0.67         1
                   2       1.00      0.50      0.67         2
        <BLANKLINE>
            accuracy                           0.75         4
           macro avg       0.83      0.83      0.78         4
        weighted avg       0.88      0.75      0.75         4
        <BLANKLINE>
    """
    if isinstance(preds, Scores):
        scores = preds
        if target is not None or sample_weight is not None or labels or options:
            rule = "nothing but digits and output_dict beside Scores"
            cure = "Give the options to the metrics that compute the scores."
            raise ConfigError("classification_report", rule, "more", cure)
    else:
        if labels is not None:
            options = {"absent": 0.0, "labels": labels, **options}
        scores = _scores_of(preds, target, sample_weight, options)
    if "support" not in scores.per_class:
        fact = f"those of a {scores.task}"
        cure = "Print them: print(scores)."
        raise ConfigError("scores", "scores of a classification", fact, cure)
    rows = None
    if labels is not None:
        rows = classes_of(labels, scores.class_names)
    if output_dict:
        return report_dict(scores, rows)
    return report_text(scores, digits, rows)


def _scores_of(
    preds: Tensor, target: Tensor | None, weight: Tensor | None, options: dict[str, Any]
) -> Scores:
    if target is None:
        cure = "Pass classification_report(preds, target, num_classes=…), or the Scores alone."
        raise ConfigError("target", "the truth beside predictions", "None", cure)
    if "num_classes" in options:
        return functional.multiclass(preds, target, sample_weight=weight, **options)
    if "num_labels" in options:
        return functional.multilabel(preds, target, sample_weight=weight, **options)
    return functional.binary(preds, target, sample_weight=weight, **{"curves": "fp16", **options})


@torch.no_grad()
def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[Tensor]:
    """Share of targets among the k highest scores, in percent, as torchvision's reference scripts compute it.

    Rises, [0, 100], NaN for an empty batch. Of equal scores the lowest class comes first. No host
    sync.

    Args:
        output: Scores of shape (N, C).
        target: Classes of shape (N,), or scores of shape (N, C) whose highest is the class.
        topk: The k to compute; a k above C counts as C.

    Returns:
        One tensor of shape () for each k, on the device of `output`.

    Raises:
        ShapeError: If the shapes do not fit.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
        >>> top1, top2 = pm.accuracy(scores, torch.tensor([1, 2]), topk=(1, 2))
        >>> top1.item(), top2.item()
        (50.0, 100.0)
    """
    if target.ndim == 2:
        target = target.argmax(1)
    if output.ndim != 2 or target.shape != output.shape[:1]:
        fact = f"{tuple(output.shape)} and {tuple(target.shape)}"
        cure = "Pass one row of scores a target."
        raise ShapeError("output, target", "shapes (N, C) and (N,)", fact, cure)
    scores = output
    if scores.dtype != torch.float64:
        scores = scores.float()
    target = target.unsqueeze(1)
    classes = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
    buffers = [torch.empty_like(scores) for _ in range(3)]
    own = scores.gather(1, target)
    out = scores.new_empty(scores.shape[0])
    rank = rank_of_target(scores, own, target, classes, buffers, out=out)
    return [(rank < k).float().mean() * 100 for k in topk]


class AverageMeter:
    """Keeps the latest value, the sum and the average of a number that comes batch by batch.

    Takes tensors without reading them: the sum stays on the device in float64 until `avg` or `sum`
    is asked for.

    Args:
        name: What `str(meter)` calls it.
        fmt: Format of a number, such as ":.4f".

    Example:
        >>> import ptmetrics as pm
        >>> meter = pm.AverageMeter("loss", ":.2f")
        >>> meter.update(0.5, n=32)
        >>> meter.update(0.2, n=8)
        >>> print(meter)
        loss 0.20 (0.44)
    """

    def __init__(self, name: str = "", fmt: str = ":f") -> None:
        self.name = name
        self.fmt = fmt
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._latest: float | Tensor = 0.0
        self._sum: float | Tensor = 0.0
        self.count = 0

    def update(self, val: float | Tensor, n: int = 1) -> None:
        """Add a value that is the mean over `n` samples.

        Raises:
            ShapeError: If it is a tensor of more than one element.
        """
        if isinstance(val, Tensor):
            if val.numel() != 1:
                fact = f"shape {tuple(val.shape)}"
                raise ShapeError("val", "one number", fact, "Pass val.mean().")
            val = val.detach().reshape(()).double()
        self._latest = val
        self._sum = self._sum + val * n
        self.count += n

    @property
    def val(self) -> float:
        """The latest value."""
        return float(self._latest)

    @property
    def sum(self) -> float:
        """Sum over all samples."""
        return float(self._sum)

    @property
    def avg(self) -> float:
        """Mean over all samples; 0.0 before the first, as in the scripts that this replaces."""
        if not self.count:
            return 0.0
        return self.sum / self.count

    def __str__(self) -> str:
        template = "{name} {val" + self.fmt + "} ({avg" + self.fmt + "})"
        return template.format(name=self.name, val=self.val, avg=self.avg)
