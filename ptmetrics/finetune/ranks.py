"""The ranks of an experiment that `torchrun` has started: one process each, one run of all of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler


@contextmanager
def joined_ranks() -> Iterator[None]:
    """A process group, if torchrun has started several processes and there is none yet."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank_of_now() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def wait_for_all() -> None:
    """Go on when all ranks are here: what one does for all may take long."""
    if dist.is_initialized():
        dist.barrier()


def word_of_first(word: str) -> str:
    """What rank 0 says, on all ranks."""
    if dist.is_initialized():
        words = [word]
        dist.broadcast_object_list(words, 0, device=torch.device("cpu"))
        word = words[0]
    return word


def wrapped(model: nn.Module, *, freezes: bool) -> nn.Module:
    """The model under DDP where there are several ranks.

    Args:
        model: On its device.
        freezes: Whether parts of it get no gradient in some steps.
    """
    if rank_of_now()[1] == 1:
        return model
    return DistributedDataParallel(model, find_unused_parameters=freezes)


def sampler_of(
    data: Dataset[object], seed: int, *, shuffle: bool
) -> DistributedSampler[object] | None:
    """What deals the data out to several ranks; None for a process that is alone."""
    rank, ranks = rank_of_now()
    if ranks == 1:
        return None
    return DistributedSampler(data, ranks, rank, shuffle=shuffle, seed=seed)
