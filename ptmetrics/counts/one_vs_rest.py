"""Each class against the rest: the histograms from which a multiclass AUROC and average precision come."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.class_rows import ClassPiece
from ptmetrics.counts.keys import FloatKeys
from ptmetrics.counts.label_histogram import LabelHistogram
from ptmetrics.counts.multiclass import ClassSpec, read_rows


@dataclass(frozen=True)
class OneVsRest:
    """One histogram a class, of the logit of its probability: as wide as that of `LabelHistogram`.

    Attributes:
        spec: How to judge rows.
        keys: As `keys_for(num_classes)` gives them: 64 MiB in all, up to 1,024 classes.
    """

    spec: ClassSpec
    keys: FloatKeys
    histogram: LabelHistogram = field(init=False)

    def __post_init__(self) -> None:
        histogram = LabelHistogram(
            self.spec.num_classes, self.keys, probs=False, name="one_vs_rest"
        )
        object.__setattr__(self, "histogram", histogram)

    def layout(self) -> Mapping[str, Cell]:
        """Those of the histogram."""
        return self.histogram.layout()

    def add_(self, state: State, piece: ClassPiece) -> None:
        """Rows that peak at +inf have no margins and are left out, as from the likelihood."""
        batch = read_rows(self.spec, piece.rows)
        margin = margins(piece.scores) if self.spec.inputs == "logits" else _logits(piece.scores)
        counted = batch.finite.unsqueeze(1).expand(margin.shape)
        classes = torch.arange(self.spec.num_classes, device=margin.device)
        actual = counted & (batch.target.unsqueeze(1) == classes)
        self.histogram.count_(state, margin, counted, actual, batch.weight)


def margins(logits: Tensor) -> Tensor:
    """z_k − logsumexp of the other z, the logit of the softmax, with all digits where that is close to 1.

    Args:
        logits: Float32 or float64 of shape (rows, C).
    """
    peak, label = logits.max(1, keepdim=True)
    log_p = logits - logits.logsumexp(1, keepdim=True)
    others = logits.scatter(1, label, -torch.inf).logsumexp(1, keepdim=True)
    return (log_p - torch.log(-torch.expm1(log_p))).scatter(1, label, peak - others)


def _logits(probs: Tensor) -> Tensor:
    return torch.logit(
        probs.double().clamp(0, 1)
    )  # sums within 1 ± 0.01 are taken for probabilities
