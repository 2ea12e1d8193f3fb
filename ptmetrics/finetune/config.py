"""A whole fine-tuning run and its parts, and reading it from TOML; configs/ holds worked examples.

Each part checks its own values when it is made. Nothing here imports torch, so a mistake in a file
is reported at once.
"""

import hashlib
import importlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ptmetrics.errors import ConfigError
from ptmetrics.finetune.tables import (
    as_table,
    check_above,
    check_at_least,
    check_known_keys,
    check_one_of,
    check_share,
    read_table,
    typed,
    within,
)
from ptmetrics.verdict.profile import profile_of
from ptmetrics.verdict.time_to_target import Target

SYNTHETIC = ("digits", "glyphs")  # made in memory, from no folder
WEIGHTS = ("none", "imagenet", "source-task")


@dataclass(frozen=True)
class DataConfig:
    """A data set: `[task]` or `[source]`.

    Args:
        name: "digits", "glyphs", "imagefolder", or the name of a class in torchvision.datasets.
        root: Folder of the files; not for "digits" and "glyphs".
        download: Whether torchvision may download into `root`.
        train_limit: Keep at most this many training images, equally many per class as far as they
            last.
        val_limit: The same for validation.
        val_fraction: Share held out for validation where the data set has no split of its own.
        image_size: Height and width that the model sees, pixels.
        augment: Whether training images are shifted, and mirrored where a mirror image means the
            same.
        normalization: "imagenet" (its mean and deviation), or "half" (mean 0.5, deviation 0.5). In
            a file the default follows the weights: "imagenet" where a run group starts from them.
    """

    name: str
    root: str | None = None
    download: bool = False
    train_limit: int | None = None
    val_limit: int | None = None
    val_fraction: float = 0.2
    image_size: int = 224
    augment: bool = False
    normalization: str = "half"

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            cure = (
                'Use "digits", "glyphs", "imagefolder" or a class of torchvision.datasets, '
                'such as "CIFAR10".'
            )
            raise ConfigError("name", "the name of a data set", repr(self.name), cure)
        if self.root is None and self.name not in SYNTHETIC:
            cure = 'Add root = "path/to/images".'
            raise ConfigError("root", f"a folder for {self.name}", "none", cure)
        check_at_least(1, "train_limit", self.train_limit)
        check_at_least(1, "val_limit", self.val_limit)
        check_at_least(8, "image_size", self.image_size)
        check_share("val_fraction", self.val_fraction)
        check_one_of(("imagenet", "half"), "normalization", self.normalization)


@dataclass(frozen=True)
class ModelConfig:
    """A model of torchvision and where its weights come from: `[model]`.

    Args:
        name: A classification model of torchvision.models, such as "resnet18".
        stem: "default", or "cifar" for small images: a 3×3 first convolution of stride 1 and no
            max-pool (ResNets).
        weights: "none", "imagenet", "source-task", or the path of a checkpoint.
        skip_padding: Whether 3×3 convolutions leave out the taps that see nothing but padding. The
            result is the same to rounding; on images of 32 pixels a ResNet-18 trains twice as fast
            on a CPU.
    """

    name: str = "resnet18"
    stem: str = "default"
    weights: str = "none"
    skip_padding: bool = False

    def __post_init__(self) -> None:
        check_one_of(("default", "cifar"), "stem", self.stem)
        if self.weights == "imagenet" and self.stem != "default":
            cure = 'Set stem = "default", or other weights.'
            raise ConfigError("stem", '"default" with weights = "imagenet"', repr(self.stem), cure)
        if self.weights not in WEIGHTS and not Path(self.weights).expanduser().is_file():
            cure = "Correct the path; it counts from the folder that the command is started in."
            rule = f"one of {', '.join(map(repr, WEIGHTS))} or a file that exists"
            raise ConfigError("weights", rule, repr(self.weights), cure)


@dataclass(frozen=True)
class TrainConfig:
    """How to train: `[train]` for the run groups, `[pretrain]` for the source task.

    Args:
        epochs: Passes over the training set, at least.
        max_epochs: Where the target is not held by then, train on until it is, up to this many
            passes; none: `epochs`.
        batch_size: Images per step.
        optimizer: "sgd" or "adamw".
        lr: Learning rate; the peak where there is a schedule.
        weight_decay: Of the optimizer.
        momentum: Of "sgd"; Nesterov's form where above 0.
        label_smoothing: Of the cross entropy.
        schedule: "constant", "cosine" or "onecycle", stepped once per batch.
        freeze: "none", or "backbone" to train the head alone to the end.
        freeze_epochs: Train the head alone for this many epochs first.
        patience: Stop when validation has not improved for this many evaluations; none: never.
        validations_per_epoch: Evaluations per pass; more give a finer time to target.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        amp: Whether CUDA uses automatic mixed precision; the CPU never does.
        workers: Loader processes; 0 loads in the main process.
    """

    epochs: int = 10
    max_epochs: int | None = None
    batch_size: int = 32
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    label_smoothing: float = 0.0
    schedule: str = "constant"
    freeze: str = "none"
    freeze_epochs: int = 0
    patience: int | None = None
    validations_per_epoch: int = 1
    device: str = "auto"
    amp: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        for key in ("epochs", "max_epochs", "batch_size", "patience", "validations_per_epoch"):
            check_at_least(1, key, getattr(self, key))
        for key in ("weight_decay", "freeze_epochs", "workers"):
            check_at_least(0, key, getattr(self, key))
        for key in ("momentum", "label_smoothing"):
            check_share(key, getattr(self, key), zero=True)
        check_above(0, "lr", self.lr)
        check_one_of(("sgd", "adamw"), "optimizer", self.optimizer)
        check_one_of(("constant", "cosine", "onecycle"), "schedule", self.schedule)
        check_one_of(("none", "backbone"), "freeze", self.freeze)
        check_one_of(("auto", "cpu", "cuda"), "device", self.device)
        if self.max_epochs is not None:
            check_at_least(self.epochs, "max_epochs", self.max_epochs)
            if self.schedule != "constant":
                rule = 'schedule = "constant", as others need the number of steps'
                cure = 'Remove max_epochs, or set schedule = "constant".'
                raise ConfigError("max_epochs", rule, repr(self.schedule), cure)
        if self.amp and self.device == "cpu":
            cure = "Remove amp; it is for CUDA."
            raise ConfigError("amp", 'false on device = "cpu"', "true", cure)
        if self.freeze == "backbone" and self.freeze_epochs:
            rule = '0 with freeze = "backbone"'
            raise ConfigError("freeze_epochs", rule, str(self.freeze_epochs), "Keep one of them.")

    def freezes(self, epoch: int) -> bool:
        """Whether the backbone is frozen in this epoch, counted from 0."""
        return self.freeze == "backbone" or epoch < self.freeze_epochs


@dataclass(frozen=True)
class RunGroupConfig:
    """One way to train on the task, compared with the others.

    It is written as `[arms.NAME]`, merged over `[model]` and `[train]`.

    Args:
        name: Of its folder.
        model: With its weights.
        train: How it trains.
    """

    name: str
    model: ModelConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", self.name):
            cure = "It becomes a folder; use letters, digits, - and _."
            raise ConfigError("name", "1 to 64 letters, digits, - or _", repr(self.name), cure)
        if self.model.weights == "none" and self.train.freezes(0):
            cure = "Put freeze under the arm that is pre-trained."
            raise ConfigError("freeze", "no freezing of random weights", "a frozen backbone", cure)


@dataclass(frozen=True)
class Config:
    """One run of `ptmetrics finetune`: every run group, once per seed.

    Args:
        task: The data set to fine-tune on.
        run_groups: The ways to train that are compared.
        source: The data set of the source task, for run groups with weights = "source-task".
        model: The model of every run group.
        train: How every run group trains, unless it says otherwise.
        pretrain: How the source task is trained, once.
        seeds: One run of each run group per seed.
        target: Score to reach, such as "val/accuracy>=0.9".
        profile: What the verdict asks for: "balanced", "recall-first", "precision-first" or a TOML
            file.
        run: Folder of the records.
        audit: Whether validation images are looked for in training first: equal and near ones.
    """

    task: DataConfig
    run_groups: tuple[RunGroupConfig, ...]
    source: DataConfig | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    pretrain: TrainConfig = field(default_factory=TrainConfig)
    seeds: tuple[int, ...] = (0,)
    target: str = "val/accuracy>=0.9"
    profile: str = "balanced"
    run: str = "runs/finetune"
    audit: bool = True

    def __post_init__(self) -> None:
        names = [group.name for group in self.run_groups]
        if not names or len(set(names)) < len(names):
            cure = 'Write, for example, [arms.pretrained] and below it weights = "imagenet".'
            raise ConfigError("arms", "one or more, each with its own name", str(names), cure)
        if any(group.model.weights == "source-task" for group in self.run_groups):
            self.source_task()
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            cure = "Write, for example, seeds = [0, 1, 2]."
            got = str(list(self.seeds))
            raise ConfigError("seeds", "different whole numbers from 0", got, cure)
        if not self.run.strip():
            cure = 'Write, for example, run = "runs/digits".'
            raise ConfigError("run", "a folder", repr(self.run), cure)
        Target.parse(self.target)
        profile_of(self.profile)

    def source_task(self) -> DataConfig:
        """The data set of the source task.

        Raises:
            ConfigError: If there is none.
        """
        if self.source is None:
            cure = 'Add [source] with name = "glyphs", or choose other weights.'
            raise ConfigError("source", 'a data set for weights = "source-task"', "none", cure)
        return self.source

    def to_dict(self) -> dict[str, Any]:
        """Everything, as a mapping that JSON can hold."""
        as_json: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return as_json


def digest(value: object) -> str:
    """SHA-256, in hex, of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def packaged_config(name: str) -> Path:
    """The file of a configuration that comes with ptmetrics, such as "digits".

    Raises:
        ConfigError: If there is none of that name.
    """
    folder = Path(__file__).parent / "configs"
    if not folder.is_dir():  # not installed, but a checkout
        folder = Path(__file__).parents[2] / "configs"
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        cure = "Name one of them, or pass a path."
        raise ConfigError("configuration", f"one of {known}", repr(name), cure)
    return path


# What every run group shares, so that their training times can be compared.
_SHARED_KEYS = ("device", "workers", "amp", "validations_per_epoch")
_GROUP_KEYS = [key.name for key in fields(TrainConfig) if key.name not in _SHARED_KEYS]
_NOT_OF_SOURCE = ("freeze", "freeze_epochs", "patience", "max_epochs")
_PRETRAIN_KEYS = [key for key in _GROUP_KEYS if key not in _NOT_OF_SOURCE]


def load_config(path: str | Path) -> Config:
    """Read a TOML file.

    Folders and checkpoints in it count from the folder that the command is started in.

    Raises:
        ConfigError: If the file is missing or is not TOML, or a key or value in it cannot work.
    """
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table = toml.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        cure = "Correct the path, or start from one of the files in configs/."
        got = error.strerror or str(error)
        raise ConfigError(str(path), "a file that can be read", got, cure) from error
    except ValueError as error:  # not TOML, or not UTF-8
        cure = "Correct the file at that place."
        raise ConfigError(str(path), "TOML", str(error), cure) from error
    with within(f"{path}: "):
        return _read_config(table, default_run=f"runs/{Path(path).stem}")


def _read_config(table: Mapping[str, Any], default_run: str) -> Config:
    known = [key.name for key in fields(Config) if key.name != "run_groups"]
    check_known_keys(table, [*known, "arms"], "")
    model_table = as_table(table.get("model", {}), "model")
    train_table = as_table(table.get("train", {}), "train")
    pretrain_table = as_table(table.get("pretrain", {}), "pretrain")
    groups_table = as_table(table.get("arms", {}), "arms")
    # In this order a mistake in [model] or [train] is not blamed on the first run group.
    model = read_table(ModelConfig, model_table, "model")
    train = read_table(TrainConfig, train_table, "train")
    groups = tuple(
        _read_run_group(name, group, model_table, train_table)
        for name, group in groups_table.items()
    )
    task, source = _read_data(table, groups)
    check_known_keys(pretrain_table, _PRETRAIN_KEYS, "pretrain")
    shared = {key: train_table[key] for key in _SHARED_KEYS if key in train_table}
    options = {}
    hints = {"seeds": tuple[int, ...], "target": str, "profile": str, "audit": bool}
    for key, hint in hints.items():
        if key in table:
            options[key] = typed(hint, table[key], key)
    return Config(
        task=task,
        run_groups=groups,
        source=source,
        model=model,
        train=train,
        pretrain=read_table(TrainConfig, {**shared, **pretrain_table}, "pretrain"),
        run=typed(str, table.get("run", default_run), "run"),
        **options,
    )


def _read_run_group(
    name: str, table: object, model: Mapping[str, Any], train: Mapping[str, Any]
) -> RunGroupConfig:
    """The group's own keys laid over those of every group."""
    where = f"arms.{name}"
    own = dict(as_table(table, where))
    check_known_keys(own, [*_GROUP_KEYS, "weights"], where)
    model = dict(model)
    if "weights" in own:
        model["weights"] = own.pop("weights")
    model_config = read_table(ModelConfig, model, where)
    train_config = read_table(TrainConfig, {**train, **own}, where)
    with within(f"{where}."):
        return RunGroupConfig(name, model_config, train_config)


def _read_data(
    table: Mapping[str, Any], groups: tuple[RunGroupConfig, ...]
) -> tuple[DataConfig, DataConfig | None]:
    """Task and source; what the source leaves out of size and normalization is the task's."""
    normalization = "half"
    if any(group.model.weights == "imagenet" for group in groups):
        normalization = "imagenet"
    own = as_table(table.get("task", {}), "task")
    task = read_table(DataConfig, {"normalization": normalization, **own}, "task")
    if "source" not in table:
        return task, None
    own = as_table(table["source"], "source")
    default = {"normalization": task.normalization, "image_size": task.image_size}
    return task, read_table(DataConfig, {**default, **own}, "source")
