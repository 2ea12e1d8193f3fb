"""Hooks on the user's model, criterion and optimizer: they look, return None, and leave nothing behind."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ptmetrics.errors import ConfigError, HookError


class Hook:
    """A hook that works on the module it was put on and nowhere else: its copies do nothing.

    A model is copied for an average of its weights, or pickled; the copy must not count a second time.
    """

    __slots__ = ("act",)

    def __init__(self, act: Callable[..., None]) -> None:
        self.act = act

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Act, and return None: nothing of the module's call changes."""
        self.act(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Hook":
        return Hook(_nothing)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def _nothing(*_: Any, **__: Any) -> None:
    """What a copied hook does."""


# The task of autograd that runs, −1 for none: a forward within one is activation checkpointing, which repeats a
# forward that was counted.
backward_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


class Attachment:
    """The hooks of one `Monitor.attach`; a context manager that detaches.

    Args:
        events: What to call, with all that torch tells: `on_forward_begin(model, args)`,
            `on_forward(model, args, output)`, `on_criterion(criterion, args, kwargs, loss)`,
            `on_step(optimizer, args, kwargs)`.
        life: Told when the context begins and ends, with `enter()` and `leave(error)`.
        model: The object that the loop calls.
        criterion: The module that computes the loss, if it is to be watched.
        optimizer: The optimizer, if its steps are to be watched.
    """

    def __init__(
        self,
        events: Any,
        life: Any,
        model: nn.Module,
        criterion: nn.Module | None,
        optimizer: Optimizer | None,
    ) -> None:
        self._life = life
        self._handles = [
            model.register_forward_pre_hook(Hook(events.on_forward_begin)),
            model.register_forward_hook(Hook(events.on_forward)),
        ]
        if criterion is not None:
            self._handles.append(
                criterion.register_forward_hook(Hook(events.on_criterion), with_kwargs=True)
            )
        if optimizer is not None:
            self._handles.append(optimizer.register_step_post_hook(Hook(events.on_step)))

    def detach(self) -> None:
        """Take every hook off; the model is as it was before. A second call does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def attached(self) -> bool:
        """Whether the hooks are on."""
        return bool(self._handles)

    def __enter__(self) -> "Attachment":
        self._life.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()
        self._life.leave(error)


def check_hookable(
    model: Any, criterion: Any, optimizer: Any, before: Attachment | None = None
) -> None:
    """Refuse what cannot take hooks.

    Raises:
        ConfigError: If one of them is of the wrong type.
        HookError: If the model is attached already, or the monitor, by the attachment `before`.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            "model",
            "a torch.nn.Module",
            type(model).__name__,
            "Pass the object that the loop calls.",
        )
    if any(
        isinstance(hook, Hook) and hook.act is not _nothing
        for hook in model._forward_hooks.values()
    ):
        raise HookError("model", "a model that no monitor watches", "one that is attached already",
                        "Call detach() on the first attachment, or leave its with block.")  # fmt: skip
    if before is not None and before.attached:
        cure = "Call detach() on the first attachment, or leave its with block."
        raise HookError("attach", "a monitor that is not attached", "one that is", cure)
    if criterion is not None and not isinstance(criterion, nn.Module):
        raise ConfigError("criterion", "a torch.nn.Module such as nn.CrossEntropyLoss()", repr(criterion),
                          "A function takes no hooks: use the module, or monitor.update().")  # fmt: skip
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise ConfigError("optimizer", "a torch.optim.Optimizer", type(optimizer).__name__,
                          "Pass the optimizer whose step() the loop calls.")  # fmt: skip
    if before is not None and before.attached:
        raise HookError("attach", "a monitor that is not attached", "one that is",
                        "Call detach() on the first attachment, or leave its with block.")  # fmt: skip
