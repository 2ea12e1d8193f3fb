"""Torch's global modes, pinned around our own arithmetic: the user's settings change none of its digits."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

CPU = torch.device("cpu")
outside_inference = torch.inference_mode(False)
"""State is made outside inference mode, so that it may be changed inside and outside of it alike."""


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """No graph, no autocast, float32 as default type, no default device, whatever the user has set.

    Args:
        device: Where the arithmetic takes place.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.no_grad())
        known = torch.amp.is_autocast_available(device.type)  # "meta" is not
        if known and torch.is_autocast_enabled(device.type):
            modes.enter_context(torch.autocast(device.type, enabled=False))
        if torch.get_default_device() != CPU:
            modes.enter_context(CPU)
        default = torch.get_default_dtype()
        if default != torch.float32:
            torch.set_default_dtype(torch.float32)
            modes.callback(torch.set_default_dtype, default)
        yield


def capturing(values: torch.Tensor) -> bool:
    """Whether a CUDA graph is being captured: a replay repeats the kernels, and no step of the host."""
    return values.is_cuda and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
