"""Hooks on model, criterion and optimizer: they look, return None, and leave nothing behind."""

from functools import partial
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ptmetrics.errors import ConfigError, HookError
from ptmetrics.monitor.faults import FaultLog, contained
from ptmetrics.monitor.recorder import BatchRecorder
from ptmetrics.monitor.run import RunLifecycle

DETACH = "Call detach() on the first attachment, or leave its with block."


class Hook(partial[None]):
    """A hook that works on the module it was put on and nowhere else: its copies do nothing.

    A model is copied for an average of its weights, or pickled; the copy must not count a second
    time.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "Hook":
        return Hook(_do_nothing)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_do_nothing,)


def _do_nothing(*_: Any, **__: Any) -> None:
    """What a copied hook does."""


class Attachment:
    """The hooks of one `Monitor.attach`; a context manager that detaches.

    Args:
        recorder: Its events are called with all that torch tells.
        lifecycle: Told when the context begins and ends.
        model: The object that the loop calls.
        criterion: The module that computes the loss, if it is to be watched.
        optimizer: The optimizer, if its steps are to be watched.
    """

    def __init__(
        self,
        recorder: BatchRecorder,
        lifecycle: RunLifecycle,
        model: nn.Module,
        criterion: nn.Module | None,
        optimizer: Optimizer | None,
    ) -> None:
        self.faults: FaultLog = recorder.faults
        self._lifecycle = lifecycle
        self._handles: list[Any] = []
        put = self._handles.append
        try:
            put(model.register_forward_pre_hook(Hook(recorder.on_forward_begin)))
            put(model.register_forward_hook(Hook(recorder.on_forward)))
            if criterion is not None:
                on_criterion = Hook(recorder.on_criterion)
                put(criterion.register_forward_hook(on_criterion, with_kwargs=True))
            if optimizer is not None:
                put(optimizer.register_step_post_hook(Hook(recorder.on_step)))
        except BaseException:
            self.detach()
            raise

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
        self._lifecycle.inside += 1
        return self

    @contained("close")
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()
        self._lifecycle.leave_block(error)


def check_hookable(
    model: Any, criterion: Any, optimizer: Any, before: Attachment | None = None
) -> None:
    """Refuse what cannot take hooks.

    Raises:
        ConfigError: If one of them is of the wrong type.
        HookError: If the model is attached already, or the monitor, by the attachment `before`.
    """
    if not isinstance(model, nn.Module):
        cure = "Pass the object that the loop calls."
        raise ConfigError("model", "a torch.nn.Module", type(model).__name__, cure)
    for hook in model._forward_hooks.values():
        if isinstance(hook, Hook) and hook.func is not _do_nothing:
            rule = "a model that no monitor watches"
            raise HookError("model", rule, "one that is attached already", DETACH)
    if before is not None and before.attached:
        raise HookError("attach", "a monitor that is not attached", "one that is", DETACH)
    if criterion is not None and not isinstance(criterion, nn.Module):
        rule = "a torch.nn.Module such as nn.CrossEntropyLoss()"
        cure = "A function takes no hooks: use the module, or monitor.update()."
        raise ConfigError("criterion", rule, repr(criterion), cure)
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        cure = "Pass the optimizer whose step() the loop calls."
        raise ConfigError("optimizer", "a torch.optim.Optimizer", type(optimizer).__name__, cure)
