"""What is counted for one split of one epoch: its metrics, its loss, samples, batches and steps."""

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ptmetrics.counts.checks import countable
from ptmetrics.errors import ConfigError, DtypeError, StateError
from ptmetrics.metrics.base import (
    Metrics,
    check_shapes,
    compute_together,
    compute_without_failing,
)
from ptmetrics.metrics.samples import SampleBuffer
from ptmetrics.metrics.score import FaultReport, Score, Scores
from ptmetrics.metrics.score_spec import FormulaError
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.monitor.pictures import PictureBuffer
from ptmetrics.monitor.samples import kept_samples, kept_share, look_at_targets, with_shares
from ptmetrics.monitor.split_loss import SplitLoss
from ptmetrics.record.samples import StoredSamples

OUTSIDE_ALL_CLASSES = 2**31 - 1  # as a sample's record can hold it
SUM_TO_ONE = 1e-2  # as far as half precision lets probabilities be from it
LOOKED_AT = 2  # batches of an epoch whose scores are looked at
OneOrMore: TypeAlias = Metrics | Sequence[Metrics]
ByOutput: TypeAlias = Mapping[str, Sequence[Metrics]]
"""The metrics of each output of the model, by the name that stands in front of their scores."""


class SplitCounts:
    """Counts of one split, until `reset`.

    Args:
        metrics: Metrics of each output to copy the configuration of; they are not touched.
        room: Samples whose rows are kept as well; 0 keeps none.
        pictures: Small pictures of inputs that are kept beside them.

    Attributes:
        metrics: Metrics of each output that count here.
        of_classes: Whether all metrics take classes, of tokens and pixels too.
        loss: The loss.
        samples: Rows counted.
        batches: Batches counted.
        steps: Steps of the optimizer.
        stepped_samples: Rows counted before the last one.
        trained_before: What was trained before its last batch, by the recorder's count.
        train_batches: Batches of training when its last one was counted.
        pictures: The small pictures of inputs; None where none are kept.
        in_a_row: Whether there were several batches without training between them.
        trained_steps: Training steps of the epoch before its last validation.
        looks: At scores: whether they are probabilities.
    """

    def __init__(self, metrics: ByOutput, room: int = 0, pictures: int = 0) -> None:
        self.metrics = {name: [metric.fresh() for metric in metrics[name]] for name in metrics}
        self._main_output = next(iter(self.metrics))
        if "" in self.metrics:
            self._main_output = ""
        self._main = self.metrics[self._main_output][0]
        self._alone = list(self.metrics.values()) == [[self._main]] and not self._main_output
        self._takes_floats = _takes_floats(self._main)
        tasks = {m.config.get("task") for each in self.metrics.values() for m in each}
        self.of_classes = tasks == {"multiclass"}
        self.inputs = str(self._main.config.get("inputs", ""))
        self._device: torch.device | None = None  # of the last batch
        self.loss = SplitLoss(self._main.config.get("ignore_index"))
        self._stored: SampleBuffer | None = None
        self._shares: Sequence[Sequence[int]] = ()  # of several ranks
        self._copies = 1
        if room:
            self._stored = self._main.store_samples(room)
        self.pictures: PictureBuffer | None = None
        if self._stored is not None and pictures:
            self.pictures = PictureBuffer(pictures, self._stored)
        self.samples = 0
        self.batches = 0
        self.steps = 0
        self.stepped_samples = 0
        self.trained_before = 0
        self.trained_steps = 0
        self.train_batches = 0
        self.in_a_row = False
        # Targets of the batch that was counted last, whose loss may come later; they are not kept.
        self._last_target: weakref.ref[Tensor] | None = None
        self._last_shape = torch.Size([0])
        self.looks: list[Tensor] = []

    def add(
        self,
        preds: Any,
        target: Any,
        loss: Tensor | float | None = None,
        reduction: str = "mean",
        *,
        by_criterion: bool = False,
        inputs: Any = None,
        **beside: Any,
    ) -> None:
        """Count one batch where its predictions are: a model may move.

        What the host can refuse is refused before anything is counted.

        Args:
            preds: As the metric takes them; for several outputs a mapping by their names.
            target: Likewise; classes 0 and 1 also as floats, as torch's losses want them.
            loss: A mean over the targets, their sum, or one value a target.
            reduction: By torch's word: "sum" for a sum.
            by_criterion: Whether a criterion of torch was called with it, for which classes always
                stand in dimension 1.
            inputs: What the model was given, or a weak reference to it, for pictures.
            beside: Weights, slices and groups, as the metrics' `update` takes them.
        """
        rows = target
        if not isinstance(target, Tensor):
            rows = self.main_target(target)
        if loss is not None:
            self.loss.check(loss, rows)
        if self.batches < LOOKED_AT and self.inputs == "logits":
            self.looks.append(_like_probabilities(preds))
        problem = None
        found = isinstance(preds, Tensor)
        in_rows = not by_criterion or not found or preds.ndim <= 2
        if self._alone and in_rows:
            if found and preds.device != self._device:
                self._main.to(preds.device)
                self._device = preds.device
            if self._takes_floats:
                target = _classes(target)
            self._main.update(preds, target, **beside)
        else:
            problem = self._update_others(preds, target, beside, in_rows=in_rows)
        self._last_target = weakref.ref(rows)
        self._last_shape = shape = rows.shape
        if loss is not None:
            self.loss.update(loss, rows, reduction)
        samples = shape[0] if shape else 1
        self.samples += samples
        self.batches += 1
        if self._stored is not None:
            self._keep(self._stored, inputs, rows, samples)
        if problem is not None:
            raise problem

    def _keep(self, stored: SampleBuffer, inputs: Any, rows: Any, samples: int) -> None:
        if self.pictures is not None:
            self.pictures.add(inputs, samples)
        look_at_targets(stored, rows)

    def add_loss(self, loss: Tensor | float, reduction: str = "mean") -> None:
        """Count a loss of the batch that was counted last.

        Raises:
            StateError: If no batch was counted.
        """
        if self._last_target is None:
            cure = "Call it behind what counts the batch."
            raise StateError("loss", "a batch that was counted", "none", cure)
        target = self._last_target()
        if target is None:  # nobody holds them any more: none of them was to be ignored, then
            target = torch.zeros((), dtype=torch.int64).expand(self._last_shape)
        self.loss.check(loss, target)
        self.loss.update(loss, target, reduction)

    def loss_target(self, loss: Tensor, target: Any) -> Tensor:
        """The targets that a loss stands for, of those that a criterion was given.

        Raises:
            DtypeError: If there are none.
            ShapeError: If the loss does not fit them.
        """
        if isinstance(target, Mapping):
            target = self.main_target(target)
        if not isinstance(target, Tensor):
            cure = "Hand them over with monitor.update()."
            raise DtypeError("target", "a tensor", type(target).__name__, cure)
        self.loss.check(loss, target)
        return target

    @property
    def like_probabilities(self) -> bool:
        """Whether all scores that were looked at lie in [0, 1] and, of classes, sum to 1."""
        return bool(self.looks) and all(map(bool, self.looks))

    def main_target(self, target: Any) -> Tensor:
        """The targets that samples and losses are counted by, of those of all outputs."""
        if isinstance(target, list):
            return torch.zeros(len(target))  # boxes or texts in a list: so many rows
        return self._of_output("target", target, self._main_output)

    def counted(self) -> list[Metrics]:
        """Its metrics, and the mean of its loss, of those that have counted something."""
        found: list[Metrics] = []
        if self.batches:
            found.extend(metric for metrics in self.metrics.values() for metric in metrics)
        if self.loss.seen:
            found.append(self.loss.mean())
        return found

    def all_metrics(self) -> list[Metrics]:
        """Its metrics and the mean of its loss, with all batches counted."""
        found: list[Metrics] = [metric for each in self.metrics.values() for metric in each]
        found.append(self.loss.mean())
        for metric in found:
            metric.shared_state()  # batches may wait
        return found

    @property
    def share(self) -> tuple[int, int]:
        """What is kept of its samples, as other ranks are told of it."""
        return kept_share(self._stored, self.samples)

    def of_all_ranks(
        self,
        merged: Sequence[Metrics],
        numbers: Any,
        shares: Sequence[Sequence[int]] = (),
        copies: int = 1,
    ) -> "SplitCounts":
        """The same of all ranks; this one stays as it is.

        Args:
            merged: What `all_metrics` became.
            numbers: Samples, batches, losses and targets of all ranks.
            shares: The `share` of each rank.
            copies: How many ranks counted the same rows.
        """
        other = copy.copy(self)
        *metrics, loss = merged
        each = iter(metrics)
        other.metrics = {name: [next(each) for _ in own] for name, own in self.metrics.items()}
        other.loss = self.loss.of_all_ranks(loss, numbers.losses, numbers.targets)
        other.samples = numbers.samples
        other.batches = numbers.batches
        if self._stored is not None and numbers.samples != self.samples:
            other._shares = shares
            other._copies = copies
            other.pictures = None
        return other

    def put(
        self,
        name: str,
        computed: Iterator[Scores | None],
        splits: dict[str, Scores],
        losses: dict[str, Score],
    ) -> StoredSamples | None:
        """Put scores and mean loss in their places, all of them or none; what became of each sample.

        Args:
            name: Name of the split.
            computed: The scores of what is `counted`; None for one that cannot be computed.
            splits: Scores by the name of the split and, behind a "/", of the output.
            losses: Mean losses by the name of the split.
        """
        outputs = {}
        if self.batches:
            for output, metrics in self.metrics.items():
                outputs[output] = _joined_scores([next(computed) for _ in metrics])
        main = outputs.get(self._main_output)
        samples = None
        if main is not None and self._stored is not None:
            samples = kept_samples(self._stored, main, self.pictures)
            if self._shares:
                samples = with_shares(samples, self._shares, self._copies)
        if self.loss.seen:
            of_loss = next(computed)
            if of_loss is not None:
                losses[name] = of_loss["loss"]
                if main is not None:
                    main.faults.update(of_loss.faults)
        for output, scores in outputs.items():
            if scores is not None:
                splits[f"{name}/{output}".rstrip("/")] = scores
        return samples

    def reset(self) -> None:
        """Start again."""
        for metrics in self.metrics.values():
            for metric in metrics:
                metric.reset()
        self.loss.reset()
        if self._stored is not None:
            self._stored.reset()
        if self.pictures is not None:
            self.pictures.reset()
        self.samples = 0
        self.batches = 0
        self.steps = 0
        self.stepped_samples = 0
        self.trained_steps = 0
        self.in_a_row = False
        self._last_target = None
        self.looks = []

    def state_dict(self) -> dict[str, Any]:
        """Counts of a half-done epoch."""
        metrics = [
            metric.state_dict() for metrics in self.metrics.values() for metric in metrics
        ]  # first: it counts rows that wait, and shows them to what is stored
        state = {
            "metrics": metrics,
            "loss": self.loss.state_dict(),
            "counts": {"samples": self.samples, "batches": self.batches, "steps": self.steps},
        }
        if self._stored is not None:
            state["samples"] = self._stored.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a half-done epoch up again."""
        metrics = [metric for metrics in self.metrics.values() for metric in metrics]
        if len(state["metrics"]) != len(metrics):
            cure = "Pass the same metrics in the same order as in the stored run."
            got = f"{len(state['metrics'])} states"
            raise StateError("metrics", f"a state for each of {len(metrics)} metrics", got, cure)
        for metric, stored in zip(metrics, state["metrics"], strict=True):
            metric.load_state_dict(stored)
        self.loss.load_state_dict(state["loss"])
        self.samples = _whole_number("samples", state["counts"])
        self.batches = _whole_number("batches", state["counts"])
        self.steps = _whole_number("steps", state["counts"])
        if self._stored is not None:
            self._stored.load_state_dict(state.get("samples"), self.samples)
        if self.pictures is not None:
            self.pictures.reset()
            if self.samples:
                self.pictures.refuse("a part of them came before the run was resumed")

    def _update_others(
        self, preds: Any, target: Any, beside: dict[str, Any], *, in_rows: bool
    ) -> Exception | None:
        if in_rows:
            return self._update_each(preds, target, beside)
        with ExitStack() as stack:
            for metrics in self.metrics.values():
                for metric in metrics:
                    stack.enter_context(metric.called_by_criterion())
            return self._update_each(preds, target, beside)

    def _update_each(self, preds: Any, target: Any, beside: dict[str, Any]) -> Exception | None:
        """Several metrics: none counts a batch that one of them refuses.

        One that fails all the same, in code of its own, costs the others nothing; returned is its
        error.
        """
        calls = []
        for name, metrics in self.metrics.items():
            own_preds = self._of_output("preds", preds, name)
            own_target = self._of_output("target", target, name)
            for metric in metrics:
                arguments = self._beside(metric, name, beside)
                truth = own_target
                if _takes_floats(metric):
                    truth = _classes(truth)
                if own_preds.device != metric.device:
                    metric.to(own_preds.device)
                weight = arguments.get("sample_weight")
                metric.check(countable(own_preds), countable(truth), countable(weight))
                calls.append((metric, own_preds, truth, arguments))
        problem = None
        for metric, own_preds, truth, arguments in calls:
            try:
                metric.update(own_preds, truth, **arguments)
            except Exception as error:
                problem = problem or error
        return problem

    def _of_output(self, argument: str, values: Any, name: str) -> Tensor:
        found = values
        if isinstance(values, Mapping):
            found = values.get(name)
        elif len(self.metrics) > 1:
            found = None
        if not isinstance(found, Tensor):
            got = type(values).__name__
            if isinstance(values, Mapping):
                got = f"keys {sorted(map(str, values))}"
            rule = f"a dict of tensors with the keys {', '.join(map(repr, self.metrics))}"
            cure = (
                "Pass one for each output, or leave criterion= out: attach(preds=…, target=…) find "
                "them in what the model returns and in the batches of monitor.train(loader) and "
                "monitor.validate(loader), and monitor.update_loss(loss) takes the loss."
            )
            raise DtypeError(argument, rule, got, cure)
        return found

    def _beside(self, metric: Metrics, name: str, beside: dict[str, Any]) -> dict[str, Any]:
        """The weights and ids for one of several metrics: ids for those built for them."""
        arguments = {}
        for argument, values in beside.items():
            own = values
            if isinstance(values, Mapping):
                own = values.get(name)
            built = metric is self._main or bool(metric.config.get(_BUILT_FOR.get(argument, "")))
            if built or argument == "sample_weight":
                arguments[argument] = own
        return arguments


_BUILT_FOR = {"slices": "slices", "group": "groups"}  # an argument, and the option it calls for


def _takes_floats(metric: Metrics) -> bool:
    return metric.config.get("task") in ("binary", "multilabel")


def _like_probabilities(preds: Any) -> Tensor:
    """Whether scores lie in [0, 1] and, where there are several a row, sum to 1; no host sync."""
    if not isinstance(preds, Tensor) or not preds.is_floating_point() or not preds.numel():
        return torch.zeros((), dtype=torch.bool)
    values = preds.detach().float()
    alike = ((values >= 0) & (values <= 1)).all()
    if values.ndim > 1 and values.shape[1] > 1:
        first = ((values.sum(1) - 1).abs() < SUM_TO_ONE).all()
        last = ((values.sum(-1) - 1).abs() < SUM_TO_ONE).all()
        alike = alike & (first | last)
    return alike


def _whole_number(name: str, counts: Mapping[str, Any]) -> int:
    value = counts[name]
    if type(value) is not int or value < 0:
        cure = "The file is damaged: use another checkpoint."
        raise StateError(name, "a whole number of 0 or more", repr(value), cure)
    return value


def _classes(target: Any) -> Any:
    """Classes that a loss such as `BCEWithLogitsLoss` takes as floats, as int64; no host sync.

    One between two classes, as of smoothed labels, becomes one that there is not, so that the
    metrics refuse it.
    """
    if not isinstance(target, Tensor) or not target.is_floating_point():
        return target
    whole = target.long()
    return whole.masked_fill(whole != target, OUTSIDE_ALL_CLASSES)


def _joined_scores(computed: list[Scores | None]) -> Scores | None:
    """The scores of several metrics of one output; classes are those of the first that has any."""
    if len(computed) == 1:
        return computed[0]
    each = [scores for scores in computed if scores is not None]
    if not each:
        return None

    def first(has: Callable[[Scores], object]) -> Scores:
        return next(filter(has, each), each[0])

    names = first(lambda scores: scores.class_names).class_names
    sliced = first(lambda scores: scores.per_slice)
    # Labels have a matrix each.
    confused = first(lambda scores: scores.confusion is not None and scores.confusion.ndim == 2)
    values: dict[str, Score] = {}
    per_class: dict[str, Sequence[Score]] = {}
    faults: FaultReport = {}
    notes: list[str] = []
    for scores in each:
        values.update(scores)
        if scores.class_names == names:
            per_class.update(scores.per_class)
        for kind, fault in scores.faults.items():
            faults.setdefault(kind, fault)
        notes.extend(note for note in scores.notes if note not in notes)
    return Scores(
        values,
        task=each[0].task,
        n=each[0].n,
        per_class=per_class,
        confusion=confused.confusion,
        class_names=names,
        faults=faults,
        notes=notes,
        curve=first(lambda scores: scores._curve is not None)._curve,
        reliability=first(lambda scores: scores._reliability is not None)._reliability,
        without_buckets=each[0].without_buckets,
        confused=confused.confused,
        per_slice=sliced.per_slice,
        per_slice_class=sliced.per_slice_class,
        headline=sliced.headline,
    )


def compute_splits(
    seen: Mapping[str, SplitCounts],
    splits: dict[str, Scores],
    losses: dict[str, Score],
    faults: FaultLog | None = None,
) -> StoredSamples | None:
    """Put scores and losses of what was seen in their places; the samples of validation.

    One copy to the host for all, another one of samples, a third one of looks. With `faults`, each
    metric is computed by itself, and what fails is noted there and left out.
    """
    counted = [metric for counts in seen.values() for metric in counts.counted()]
    computed: Iterator[Scores | None]
    if faults is not None:
        split = next(iter(seen))
        computed = iter([_computed_alone(metric, split, faults) for metric in counted])
    elif {type(metric).compute for metric in counted} <= {Metrics.compute}:
        computed = iter(check_shapes(compute_together(counted)))
    else:  # one has a way of its own
        computed = iter(check_shapes([metric.compute() for metric in counted]))
    looks = [look for counts in seen.values() for look in counts.looks]
    if looks:
        looked = iter(torch.stack([look.to(looks[0].device) for look in looks]).cpu())
    samples = None
    for name, counts in seen.items():
        counts.looks = [next(looked) for _ in counts.looks]
        samples = counts.put(name, computed, splits, losses) or samples
    return samples


def compute_each(
    seen: Mapping[str, SplitCounts],
    splits: dict[str, Scores],
    losses: dict[str, Score],
    faults: FaultLog,
) -> StoredSamples | None:
    """What `compute_splits` does, behind its failure: a formula that fails costs its score alone."""
    samples = None
    for name, counts in seen.items():
        with faults.containing(f"compute {name}"):
            samples = compute_splits({name: counts}, splits, losses, faults) or samples
    return samples


def _computed_alone(metric: Metrics, split: str, faults: FaultLog) -> Scores | None:
    """The scores of a metric that can be computed; None where there is none."""

    def tell(error: FormulaError) -> None:
        name, _ = error.key
        with faults.containing(f"compute {split}/{name}"):
            raise error

    found = []
    with faults.containing(f"compute {split}"):
        found.append(compute_without_failing(metric, tell))
    return next(iter(found), None)


def check_split(name: object) -> None:
    """Refuse what cannot be the name of a split.

    Raises:
        ConfigError: If it is none.
    """
    if not isinstance(name, str) or not name or "/" in name:
        cure = 'Pass split="train" or split="val".'
        raise ConfigError("split", 'a name without "/"', repr(name), cure)


def metrics_by_output(metrics: object) -> dict[str, list[Metrics]]:
    """The metrics that a monitor is given, in the one form that the rest of the room knows.

    Args:
        metrics: A metric; a list of metrics of the same batch; or a mapping of either by the name
            of the output.

    Raises:
        ConfigError: If one is no metric of ours, a name cannot stand in front of a score's, or two
            scores would have the same name.
    """
    by_name: Mapping[Any, Any] = {"": metrics}
    if isinstance(metrics, Mapping):
        by_name = metrics
    found: dict[str, list[Metrics]] = {}
    for name, given in by_name.items():
        if not isinstance(name, str) or name.strip("/") != name or "//" in name:
            cure = 'Name the output in words: {"": …, "depth": …}.'
            raise ConfigError("metrics", "names of outputs", repr(name), cure)
        each = [given]
        if isinstance(given, Sequence) and not isinstance(given, str):
            each = list(given)
        if not each:
            raise _no_metric("none at all", "")
        for metric in each:
            if not isinstance(metric, Metrics):
                raise _no_metric(type(metric).__name__, type(metric).__module__)
        found[name] = each
    if not found:
        raise _no_metric("none at all", "")
    if sum(map(len, found.values())) > 1:
        _check_names(found)
    return found


def described(metrics: ByOutput) -> dict[str, Any]:
    """The configuration of all metrics, as the header of a record holds it."""
    first, *more = [
        {"output": output, **metric.describe()}
        for output, each in metrics.items()
        for metric in each
    ]
    if more:
        first["further"] = more
    return first


def names_of_scores(metrics: ByOutput) -> list[str]:
    """The names of all scores of a split, its loss first."""
    names = ["loss"]
    for output, each in metrics.items():
        for metric in each:
            names.extend(f"{output}/{name}".lstrip("/") for name in metric.fresh().compute())
    return names


def _check_names(metrics: ByOutput) -> None:
    names = names_of_scores(metrics)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        cure = 'Pass a dict, whose names stand in front: {"": first, "second": second}.'
        raise ConfigError("metrics", "scores of different names", ", ".join(twice) + " twice", cure)


def _no_metric(got: str, module: str) -> ConfigError:
    call = "MulticlassMetrics(num_classes=…)"
    if module.startswith("torchmetrics"):
        call = "from_torchmetrics(metric)"
    return ConfigError("metrics", "metrics of ptmetrics", got, f"Pass pm.{call}.")
