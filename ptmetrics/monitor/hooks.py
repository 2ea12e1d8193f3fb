"""Who is told of the calls of model, criterion and optimizer: they look, and leave nothing behind.

Nothing is put on the model itself. While somebody listens, a stand-in is found where the call is
looked up: as `__call__` of the model's class, or as the function's name in its module. So whatever
the model is saved, copied, scripted or exported to knows nothing of us, and only calls of the very
object that was attached are told.
"""

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from types import FunctionType, MethodType, ModuleType, SimpleNamespace, TracebackType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor
from torch.compiler import is_compiling, is_dynamo_compiling
from torch.fx import Proxy
from torch.nn.modules.lazy import LazyModuleMixin
from torch.optim import LBFGS, Optimizer
from torch.utils.data import DataLoader

from ptmetrics.errors import ConfigError, HookError
from ptmetrics.monitor.faults import FaultLog, contained, say
from ptmetrics.monitor.recorder import BatchRecorder
from ptmetrics.monitor.run import RunLifecycle
from ptmetrics.monitor.seen import BLIND

DETACH = "Call detach() on the first attachment, or leave its with block."

LossFunction: TypeAlias = Callable[..., Any]
"""A module, a function of a module, or an object of a class with a `__call__` of its own."""
Criteria: TypeAlias = LossFunction | tuple[LossFunction, LossFunction] | None
"""What `attach` takes: one, or one for training and one for validation."""

# Whether a tracer or a transform of functions runs: what it calls is no step of the loop.
_tracer: Callable[[], object] = torch._C._get_tracing_state
_transform: Callable[[], object] = peek_interpreter_stack


def _true(*_: Any) -> bool:
    """What is counted where nobody can tell."""
    return True


class Listener:
    """Who is told of the calls of one object. Who listens holds it, the stand-ins do not.

    Args:
        target: The module, function or optimizer.
        begin: Called with target, args and kwargs; None for nobody.
        end: Called with target, args, kwargs and what was returned.
        faults: Contains what goes wrong.
        real: Whether what has no values (a meta tensor, a fake one) is no answer of the loop's.

    Attributes:
        inside: Of a wrapper and what it wraps, the one that is called, by thread: calls of the others
            are part of that call. None where nothing is wrapped.
    """

    inside: dict[int, Any] | None = None

    def __init__(
        self,
        target: Any,
        begin: Callable[..., Any] | None,
        end: Callable[..., Any],
        faults: FaultLog,
        *,
        real: bool,
    ) -> None:
        self.target = target
        self.begin = begin
        self.end = end
        self.faults = faults
        self.real = real

    @contained("hook", _true)
    def counts(self, values: Any) -> bool:
        """Whether values that come in or out of a call are those of a step of the loop."""
        return not is_compiling() and (not self.real or _hold_values(values))

    def is_part(self) -> bool:
        """Whether another one is being called, of which a call of this one is part."""
        if self.inside is None:
            return False
        return self.inside.get(threading.get_ident(), self.target) is not self.target

    def call_around(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """A call of a wrapper, or of what it wraps: calls of the others are part of it meanwhile."""
        if self.inside is None:
            return call(*args, **kwargs)
        thread = threading.get_ident()
        self.inside[thread] = self.target
        try:
            return call(*args, **kwargs)
        finally:
            self.inside.pop(thread, None)


def _hold_values(values: Any) -> bool:
    """Whether the first tensor in there, if there is any, can be read."""
    while not isinstance(values, Tensor | Proxy):
        if isinstance(values, Mapping):
            values = list(values.values())
        if not isinstance(values, list | tuple) or not values:
            return True
        values = values[0]
    return not isinstance(values, FakeTensor | Proxy) and not values.is_meta


class StandIn:
    """Stands in the place of a call and passes it on, as long as somebody listens.

    Listeners come and go in any order. What somebody else has put in its place since stays there.

    Args:
        owner: The class or module where the call is looked up.
        name: Its name there.
        make: Makes the stand-in, of this and of what it stands for: None where that is inherited.

    Attributes:
        stands_for: What it stands for.
        function: What is found in its place.
        listeners: Those that are told.
    """

    def __init__(self, owner: Any, name: str, make: "Callable[[StandIn], Any]") -> None:
        self.owner = owner
        self._name = name
        self.stands_for: Any = vars(owner).get(name)
        self.listeners: tuple[weakref.ref[Listener], ...] = ()
        self.function = make(self)
        setattr(owner, name, self.function)

    @property
    def there(self) -> bool:
        """Whether it is what is found."""
        return vars(self.owner).get(self._name) is self.function

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle of the class itself, by value as cloudpickle makes it, holds one that tells
        # nobody and needs nothing of ours.
        return SimpleNamespace, (), {"listeners": ()}

    def add(self, listener: Listener) -> None:
        """One more is told."""
        self.listeners = (*self.listeners, weakref.ref(listener, self._keep_others))
        if not self.there:  # whoever listened before was collected meanwhile, and took it off
            setattr(self.owner, self._name, self.function)

    def remove(self, listener: Listener) -> None:
        """One less is told."""
        with _LOCK:
            for reference in self.listeners:
                if reference() is listener:
                    self._keep_others(reference)

    def _keep_others(self, gone: "weakref.ref[Listener]") -> None:
        with _LOCK:
            self.listeners = tuple(
                ref for ref in self.listeners if ref is not gone and ref() is not None
            )
            if self.listeners or not self.there:
                return
            if self.stands_for is None:
                delattr(self.owner, self._name)
            else:
                setattr(self.owner, self._name, self.stands_for)


_LOCK = threading.RLock()
_STAND_INS: dict[tuple[int, str], StandIn] = {}  # by the identity of the owner, and the name


def listen(listener: Listener) -> StandIn:
    """Have a listener told, by the one stand-in of that place."""
    owner: Any = type(listener.target)
    name = "__call__"
    make = _call_of_class
    if listener.target is DataLoader:
        owner = DataLoader
        name = "__iter__"
        make = _iter_of_loaders
    elif isinstance(listener.target, FunctionType):
        owner = _home(listener.target)
        name = listener.target.__name__
        make = _call_of_function
    with _LOCK:
        stand_in = _STAND_INS.get((id(owner), name))
        if stand_in is None or not stand_in.there:
            stand_in = StandIn(owner, name, make)
            _STAND_INS[id(owner), name] = stand_in
        stand_in.add(listener)
    return stand_in


def original(function: Any) -> Any:
    """The function that a stand-in stands for, which is what another monitor finds by its name."""
    for stand_in in list(_STAND_INS.values()):
        if stand_in.function is function:
            return stand_in.stands_for
    return function


def _home(function: FunctionType) -> ModuleType | None:
    """The module where a function is looked up by its name; None where it is not found."""
    name = function.__name__
    for module in (nn.functional, sys.modules.get(function.__module__)):
        found = getattr(module, name, None)
        stand_in = _STAND_INS.get((id(module), name))
        if stand_in is not None and stand_in.there:
            found = stand_in.stands_for
        if found is function:
            return module
    return None


def _call_of_class(stand_in: StandIn) -> Callable[..., Any]:
    """The `__call__` of a class that tells the listeners of the object that is called."""
    owner = stand_in.owner
    own = stand_in.stands_for

    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 — it is one
        # What is inherited is looked up at each call: tracers replace it.
        call: Any = super(owner, self).__call__ if own is None else partial(own, self)
        # A compiler reads this too, up to here: what is compiled tells nobody.
        listeners = () if is_dynamo_compiling() else stand_in.listeners
        told = []
        for reference in listeners:
            listener = reference()
            if (
                listener is None
                or listener.target is not self
                or (listener.inside and listener.is_part())
                or _tracer()
                or _transform()
            ):
                continue
            told.append(listener)
            if listener.inside is not None:
                call = partial(listener.call_around, call)
            first = args[0] if args else kwargs
            plain = type(first) is Tensor and not first.is_meta
            try:
                if listener.begin is not None and (plain or listener.counts(first)):
                    listener.begin(self, args, kwargs)
            except listener.faults.kept_in as error:
                listener.faults.strays.append(error)
        output = call(*args, **kwargs)
        for listener in told:
            try:
                if (type(output) is Tensor and not output.is_meta) or listener.counts(output):
                    listener.end(self, args, kwargs, output)
            except listener.faults.kept_in as error:
                listener.faults.strays.append(error)
        return output

    return __call__


def _call_of_function(stand_in: StandIn) -> Callable[..., Any]:
    """A function that tells of the calls of another one, but of those that torch itself makes."""
    target = stand_in.stands_for
    inside: set[int] = set()  # threads: what a function calls by its own name is part of the call

    @wraps(target)
    def function(*args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            return target(*args, **kwargs)
        thread = threading.get_ident()
        caller = sys._getframe(1).f_globals.get("__name__") or ""
        unseen = thread in inside or caller.startswith("torch.")
        if unseen or _tracer() is not None or _transform() is not None:
            return target(*args, **kwargs)
        inside.add(thread)
        try:
            output = target(*args, **kwargs)
        finally:
            inside.discard(thread)
        plain = type(output) is Tensor and not output.is_meta
        for reference in stand_in.listeners:
            listener = reference()
            if listener is None:
                continue
            try:
                if plain or listener.counts(output):
                    listener.end(target, args, kwargs, output)
            except listener.faults.kept_in as error:
                listener.faults.strays.append(error)
        return output

    function.__dict__["__prepare_scriptable__"] = lambda: target  # torch.jit.script takes this
    return function


def _iter_of_loaders(stand_in: StandIn) -> Callable[..., Any]:
    """The `__iter__` of torch's loaders that tells who goes through one of them."""
    own = stand_in.stands_for

    @wraps(own)
    def iterate(self: Any) -> Any:
        for reference in stand_in.listeners:
            listener = reference()
            if listener is None:
                continue
            try:
                listener.end(self)
            except listener.faults.kept_in as error:
                listener.faults.strays.append(error)
        return own(self)

    return iterate


def _hooks_of_steps(listener: Listener) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The hooks around `optimizer.step` that tell a listener, as long as somebody holds it."""
    reference = weakref.ref(listener)

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        listener = reference()
        alone = len(args) < 2 and not kwargs  # without a closure there is nothing to tell
        if alone or listener is None or listener.begin is None:
            return None
        try:
            return listener.begin(optimizer, args, kwargs)
        except listener.faults.kept_in as error:
            listener.faults.strays.append(error)
            return None

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        listener = reference()
        if listener is None:
            return
        try:
            listener.end(optimizer, args, kwargs)
        except listener.faults.kept_in as error:
            listener.faults.strays.append(error)

    return before, after


def _with_hooks(optimizer: Optimizer) -> Optimizer:
    """The optimizer that has hooks: of a wrapper that has none, such as Accelerate's, the one inside."""
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer) and not hasattr(optimizer, "_optimizer_step_post_hooks"):
        return inner
    return optimizer


def _with_wrapped(model: nn.Module) -> list[nn.Module]:
    """A model and, where it is distributed, what it wraps: its only child, by the name `module`."""
    found = [model]
    while [getattr(found[-1], "module", None)] == list(found[-1].children()):
        found.extend(found[-1].children())
    return found


class Attachment:
    """The hooks of one `Monitor.attach`; a context manager that detaches.

    Args:
        recorder: Its events are called with all that torch tells.
        lifecycle: Told when the context begins and ends.
        model: The object that the loop calls; calls of what it wraps (`model.module`) count as well.
        criteria: What computes the loss, if it is to be watched.
        optimizer: The optimizer, if its steps are to be watched.
        path: The run folder of the monitor.

    Attributes:
        listeners: Of the model and what it wraps, the criteria, loaders and the optimizer, in this
            order.

    Raises:
        HookError: If the calls of one of them cannot be watched; then none is.
    """

    def __init__(
        self,
        recorder: BatchRecorder,
        lifecycle: RunLifecycle,
        model: nn.Module,
        criteria: tuple[LossFunction, ...],
        optimizer: Optimizer | None,
        path: Path | None = None,
    ) -> None:
        self.faults: FaultLog = recorder.faults
        self.model = model
        self.path = path
        self._lifecycle = lifecycle
        self.listeners: list[Listener] = []
        self._stand_ins: list[StandIn] = []
        self._handles: list[Any] = []
        real = _hold_values(list(model.parameters())[:1])
        try:
            models = _with_wrapped(model)
            inside: dict[int, Any] = {}
            for each in models:
                self._watch(each, recorder.on_forward_begin, recorder.on_forward, real)
                if len(models) > 1:
                    self.listeners[-1].inside = inside
            for criterion in criteria:
                self._watch(criterion, None, recorder.on_criterion, real)
            self._watch(DataLoader, None, recorder.on_loader, real)
            if optimizer is not None:
                optimizer = _with_hooks(optimizer)
                steps = Listener(
                    optimizer, recorder.on_step_begin, recorder.on_step, self.faults, real=real
                )
                self.listeners.append(steps)
                before, after = _hooks_of_steps(steps)
                kind = type(optimizer)
                # Those of torch call their closure once: then there is nothing to tell before it.
                if kind is LBFGS or not kind.__module__.startswith("torch.optim."):
                    self._handles.append(optimizer.register_step_pre_hook(before))
                self._handles.append(optimizer.register_step_post_hook(after))
        except BaseException:
            self.detach()
            raise
        _ATTACHMENTS.add(self)

    def _watch(
        self, target: Any, begin: Callable[..., Any] | None, end: Callable[..., Any], real: bool
    ) -> None:
        listener = Listener(target, begin, end, self.faults, real=real)
        try:
            self._stand_ins.append(listen(listener))
        except (TypeError, AttributeError) as error:  # a class of C, or one that forbids it
            cure = "Use a torch.nn.Module or a function of a module, or call monitor.update()."
            rule = "an object whose calls can be watched"
            got = f"a {type(target).__name__}: {error}"
            raise HookError("attach", rule, got, cure) from error
        self.listeners.append(listener)

    def detach(self) -> None:
        """Take every hook off; all is as it was before. A second call does nothing."""
        for stand_in, listener in zip(self._stand_ins, self.listeners, strict=False):
            stand_in.remove(listener)
        for handle in self._handles:
            handle.remove()
        self._stand_ins = []
        self._handles = []
        self.listeners = []

    @property
    def attached(self) -> bool:
        """Whether the hooks are on."""
        return bool(self.listeners)

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


_ATTACHMENTS: "weakref.WeakSet[Attachment]" = weakref.WeakSet()


def take_over(model: nn.Module, path: Path | None) -> None:
    """Take off what earlier monitors left on a model, and say so: a notebook's cell was run again.

    That are the hooks of a monitor on the same run folder, and of one that nobody holds any more. A
    monitor with another folder, or one without that is still held, counts beside the new one.
    """
    before = len(_attachments_of(model))
    if not before:
        return
    gc.collect()  # what nobody holds any more is taken off as it goes
    for attachment in _attachments_of(model):
        if path is not None and attachment.path == path:
            attachment.detach()
    if len(_attachments_of(model)) < before:
        say(
            "attach: the model was still attached by an earlier monitor of the same run, or by one "
            "that is gone; its hooks were taken off"
        )


def _attachments_of(model: nn.Module) -> list[Attachment]:
    watched = {id(each) for each in _with_wrapped(model)}
    found = []
    for one in list(_ATTACHMENTS):
        if any(id(listener.target) in watched for listener in one.listeners):
            found.append(one)
    return found


def several_attached() -> bool:
    """Whether several monitors are attached: what one of them does not count another one may."""
    return sum(one.attached for one in list(_ATTACHMENTS)) > 1


def check_hookable(
    model: Any, criterion: Any, optimizer: Any, before: Attachment | None = None
) -> tuple[LossFunction, ...]:
    """Refuse what cannot be watched; what computes the loss, each once.

    Raises:
        ConfigError: If one of them is of the wrong type.
        HookError: If the monitor is attached already, by the attachment `before`, or the model has
            no parameters yet.
    """
    if not isinstance(model, nn.Module):
        cure = "Pass the object that the loop calls."
        raise ConfigError("model", "a torch.nn.Module", type(model).__name__, cure)
    if isinstance(model, LazyModuleMixin) and model.has_uninitialized_params():
        cure = "Call it once with a batch before it is attached."
        raise HookError("model", "one whose parameters exist", "a lazy module", cure)
    if before is not None and before.attached:
        raise HookError("attach", "a monitor that is not attached", "one that is", DETACH)
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        cure = "Pass the optimizer whose step() the loop calls."
        raise ConfigError("optimizer", "a torch.optim.Optimizer", type(optimizer).__name__, cure)
    if criterion is None:
        return ()
    if not isinstance(criterion, tuple | list):
        criterion = (criterion, criterion)
    if len(criterion) != 2:
        cure = "Pass one, or a pair: criterion=(train_criterion, val_criterion)."
        raise ConfigError("criterion", "one criterion or two", f"{len(criterion)} of them", cure)
    criterion = [original(each) for each in criterion]
    for each in criterion:
        _check_criterion(each)
    if criterion[0] is criterion[1]:
        return (criterion[0],)
    return tuple(criterion)


def why_unseen(criteria: tuple[LossFunction, ...]) -> str:
    """Why no call of them may be seen, for a person who does call them."""
    for criterion in criteria:
        if isinstance(criterion, FunctionType):
            home = criterion.__module__
            name = criterion.__name__
            return f"{name} was not called as {home}.{name}; a name imported before is not seen"
    return BLIND


def _check_criterion(criterion: Any) -> None:
    found = callable(criterion)
    if isinstance(criterion, FunctionType):
        found = _home(criterion) is not None
    if not found or isinstance(criterion, type | MethodType):
        rule = "a module such as nn.CrossEntropyLoss(), or a function such as F.cross_entropy"
        cure = (
            "A function is watched where it is called by its name in a module: pass such a one or "
            "a module, or call monitor.update()."
        )
        raise ConfigError("criterion", rule, repr(criterion), cure)
