"""Small pictures of the validation samples with the highest loss, chosen on their device."""

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.samples import MAX_REASON, SampleBuffer
from ptmetrics.record.samples import MAX_PICTURES, MAX_SIDE, PICTURE_CHANNELS, Rows, picture_row

MAX_WAITING = 1 << 14  # rows whose losses are not known yet; the metric holds back fewer
NO_PICTURES = "its inputs are no pictures of shape (N, 1 or 3, height, width)"


class PictureBuffer:
    """A fixed number of slots: pictures of the samples with the highest loss so far. No host sync.

    Beside the slots, which take at most 3 KiB each, wait the pictures of the batches that the
    metric has not counted yet.

    Args:
        slots: How many pictures are kept.
        stored: What becomes of each sample; its losses choose.
    """

    def __init__(self, slots: int, stored: SampleBuffer) -> None:
        self._slots = slots
        self._stored = stored
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self._first = 0  # place of the first sample that waits
        self._reason: str | None = None
        self._waiting: list[Tensor] = []  # of the batches that come next
        self._kept: tuple[Tensor, ...] | None = None  # pictures, losses, places

    def refuse(self, reason: str) -> None:
        """Give out none, and say why."""
        self._reason = reason
        self._waiting = []
        self._kept = None

    def add(self, inputs: Any, rows: int) -> None:
        """Take the inputs of a batch that the metric was given.

        Args:
            inputs: What the model was given, or a weak reference to it; anything but pictures is a reason to keep none.
            rows: Number of samples in the batch.
        """
        if self._reason is not None:
            return
        if isinstance(inputs, weakref.ref):
            inputs = inputs()
        try:
            self._take(inputs, rows)
        except Exception as error:  # the rows are counted: what goes wrong here must not cost them
            text = f"keeping them failed with {type(error).__name__}: {error}"
            self.refuse(text[:MAX_REASON])

    def rows(self) -> tuple[Rows | None, str | None]:
        """The pictures on the host, those of the highest loss first, or why there are none."""
        columns, reason = self._stored.columns()
        if columns is None or self._reason is not None:
            return None, self._reason or reason
        self._settle()
        if self._kept is None:
            return None, "no batch came with its inputs"
        pictures, badness, places = (each.cpu().numpy() for each in self._kept)
        known = badness > -np.inf
        rows = np.zeros(int(known.sum()), picture_row(pictures.shape[1:]))
        rows["place"] = places[known]
        rows["picture"] = pictures[known]
        return rows, None

    def _take(self, inputs: Any, rows: int) -> None:
        if not is_pictures(inputs) or inputs.shape[0] != rows:
            self.refuse(NO_PICTURES)
            return
        size = small_size(inputs)
        before = self._waiting[:1]
        if self._kept is not None:
            before = [self._kept[0]]
        if before:
            size = tuple(before[0].shape[1:])
        if size[0] != inputs.shape[1]:
            self.refuse("its inputs have one channel here and three there")
            return
        self._waiting.append(small_pictures(inputs, size[1:]))
        self._settle()

    def _settle(self) -> None:
        """Merge the batches whose losses are known into the slots."""
        columns, _ = self._stored.columns()
        while columns is not None and self._waiting:
            pictures = self._waiting[0]
            last = self._first + len(pictures)
            if last > columns.shape[1]:
                break
            badness = badness_of(columns[:, self._first : last]).to(pictures.device)
            found: tuple[Tensor, ...] = (
                pictures,
                badness,
                torch.arange(self._first, last, device=pictures.device),
            )
            if self._kept is not None:
                found = tuple(map(torch.cat, zip(self._kept, found, strict=True)))
            best = found[1].argsort(descending=True, stable=True)[: self._slots]
            self._kept = tuple(each[best] for each in found)
            self._first = last
            del self._waiting[0]
        if sum(map(len, self._waiting)) > MAX_WAITING:
            self.refuse("its samples are counted too late")


def is_pictures(inputs: Any) -> bool:
    """Whether inputs are pictures of one or three channels, as numbers or bytes."""
    if not isinstance(inputs, Tensor) or inputs.layout != torch.strided or inputs.ndim != 4:
        return False
    kind = inputs.is_floating_point() or inputs.dtype == torch.uint8
    return kind and inputs.shape[1] in PICTURE_CHANNELS and inputs[:1].numel() > 0


def small_size(inputs: Tensor) -> tuple[int, ...]:
    """Channels, height and width of a small picture: no side over `MAX_SIDE`, in its proportions."""
    channels, height, width = inputs.shape[1:]
    scale = min(1.0, MAX_SIDE / max(height, width))
    return channels, max(1, round(height * scale)), max(1, round(width * scale))


def small_pictures(inputs: Tensor, size: Sequence[int]) -> Tensor:
    """Pictures of some height and width in 8 bits.

    Bytes stay what they are, and numbers from 0 to 1 are shares of 255; of any other picture, as of
    one that was normalised, the least value is black and the largest white.
    """
    height, width = size
    finite = inputs.detach().float().nan_to_num(0, 0, 0)
    small = torch.nn.functional.adaptive_avg_pool2d(finite, (height, width))
    if inputs.dtype == torch.uint8:
        return small.round().to(torch.uint8)
    low = small.amin((1, 2, 3))
    high = small.amax((1, 2, 3))
    shares = (low >= 0) & (high <= 1)
    low = torch.where(shares, 0.0, low)[:, None, None, None]
    high = torch.where(shares, 1.0, high)[:, None, None, None]
    spread = torch.where(high > low, high - low, 1.0)
    return ((small - low) / spread * 255).round().to(torch.uint8)


def badness_of(columns: Tensor) -> Tensor:
    """What samples are chosen by: their loss or |error|, −∞ for a sample that is not to be shown.

    Args:
        columns: As a `SampleBuffer` keeps them.
    """
    if columns.dtype != torch.int32:
        return columns[0].abs().nan_to_num(-torch.inf, torch.inf).float()
    predicted = columns[0]
    loss = columns[2].view(torch.float32)
    wrong = predicted != columns[1]
    loss = torch.where(loss.isnan() & wrong, 0.0, loss)  # of labels alone: those that are wrong
    return torch.where(loss.isnan() | (predicted < 0), -torch.inf, loss)


def check_keep_inputs(slots: object) -> None:
    """Refuse what is no number of pictures.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(slots, bool) or not isinstance(slots, int) or not 0 <= slots <= MAX_PICTURES:
        cure = "Pass how many pictures to keep, such as 24, or 0 for none."
        raise ConfigError(
            "keep_inputs", f"a whole number from 0 to {MAX_PICTURES}", repr(slots), cure
        )
