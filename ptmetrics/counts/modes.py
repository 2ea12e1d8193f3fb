"""Torch's global modes, pinned around our own arithmetic: the user's settings change none of its digits."""

from contextlib import AbstractContextManager, ExitStack

import torch

CPU = torch.device("cpu")
outside_inference = torch.inference_mode(False)
"""State is made outside inference mode, so that it may be changed inside and outside of it alike."""


def exact_arithmetic(device: torch.device) -> AbstractContextManager[object]:
    """No graph, no autocast, float32 as default type, no default device, whatever the user has set.

    Args:
        device: Where the arithmetic takes place.
    """
    known = torch.amp.is_autocast_available(device.type)  # "meta" is not
    autocast = known and torch.is_autocast_enabled(device.type)
    moved = torch.empty(0).device != CPU  # get_default_device() may copy to it
    default = torch.get_default_dtype()
    if not autocast and not moved and default == torch.float32:
        return torch.no_grad()
    modes = ExitStack()
    modes.enter_context(torch.no_grad())
    if autocast:
        modes.enter_context(torch.autocast(device.type, enabled=False))
    if moved:
        modes.enter_context(CPU)
    torch.set_default_dtype(torch.float32)
    modes.callback(torch.set_default_dtype, default)
    return modes


def capturing(values: torch.Tensor) -> bool:
    """Whether a CUDA graph is being captured: a replay repeats the kernels, and no step of the host."""
    return values.is_cuda and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
