"""The parts of a fine-tuning run: data, model, training, arm. Each checks its own values when it is made."""

import re
from dataclasses import dataclass
from pathlib import Path

from ptmetrics.errors import ConfigError
from ptmetrics.finetune.tables import above, at_least, one_of, share

SYNTHETIC = ("digits", "glyphs")  # made in memory, from no folder
WEIGHTS = ("none", "imagenet", "source-task")


@dataclass(frozen=True)
class DataConfig:
    """A data set: `[task]` or `[source]`.

    Args:
        name: "digits", "glyphs", "imagefolder", or the name of a class in torchvision.datasets.
        root: Folder of the files; not for "digits" and "glyphs".
        download: Whether torchvision may download into `root`.
        train_limit: Keep at most this many training images, equally many per class as far as they last.
        val_limit: The same for validation.
        val_fraction: Share held out for validation where the data set has no split of its own.
        image_size: Height and width that the model sees, pixels.
        augment: Whether training images are shifted, and mirrored where a mirror image means the same.
        normalization: "imagenet" (its mean and deviation), or "half" (mean 0.5, deviation 0.5). In a file the default
            follows the weights: "imagenet" where an arm starts from them.
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
            raise ConfigError("name", "the name of a data set", repr(self.name), _DATA_NAMES)
        if self.root is None and self.name not in SYNTHETIC:
            raise ConfigError(
                "root", f"a folder for {self.name}", "none", 'Add root = "path/to/images".'
            )
        for key in ("train_limit", "val_limit"):
            at_least(1, key, getattr(self, key))
        at_least(8, "image_size", self.image_size)
        share("val_fraction", self.val_fraction)
        one_of(("imagenet", "half"), "normalization", self.normalization)


_DATA_NAMES = (
    'Use "digits", "glyphs", "imagefolder" or a class of torchvision.datasets, such as "CIFAR10".'
)


@dataclass(frozen=True)
class ModelConfig:
    """A model of torchvision and where its weights come from: `[model]`.

    Args:
        name: A classification model of torchvision.models, such as "resnet18".
        stem: "default", or "cifar" for small images: a 3×3 first convolution of stride 1 and no max-pool (ResNets).
        weights: "none", "imagenet", "source-task", or the path of a checkpoint.
        skip_padding: Whether 3×3 convolutions leave out the taps that see nothing but padding. The result is the same
            to rounding; on images of 32 pixels a ResNet-18 trains twice as fast on a CPU.
    """

    name: str = "resnet18"
    stem: str = "default"
    weights: str = "none"
    skip_padding: bool = False

    def __post_init__(self) -> None:
        one_of(("default", "cifar"), "stem", self.stem)
        if self.weights == "imagenet" and self.stem != "default":
            cure = 'Set stem = "default", or other weights.'
            raise ConfigError("stem", '"default" with weights = "imagenet"', repr(self.stem), cure)
        if self.weights not in WEIGHTS and not Path(self.weights).expanduser().is_file():
            cure = "Correct the path; it counts from the folder that the command is started in."
            rule = f"one of {', '.join(map(repr, WEIGHTS))} or a file that exists"
            raise ConfigError("weights", rule, repr(self.weights), cure)


@dataclass(frozen=True)
class TrainConfig:
    """How to train: `[train]` for the arms, `[pretrain]` for the source task.

    Args:
        epochs: Passes over the training set.
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
        for key in ("epochs", "batch_size", "patience", "validations_per_epoch"):
            at_least(1, key, getattr(self, key))
        for key in ("weight_decay", "freeze_epochs", "workers"):
            at_least(0, key, getattr(self, key))
        above(0, "lr", self.lr)
        for key in ("momentum", "label_smoothing"):
            share(key, getattr(self, key), zero=True)
        one_of(("sgd", "adamw"), "optimizer", self.optimizer)
        one_of(("constant", "cosine", "onecycle"), "schedule", self.schedule)
        one_of(("none", "backbone"), "freeze", self.freeze)
        one_of(("auto", "cpu", "cuda"), "device", self.device)
        if self.amp and self.device == "cpu":
            raise ConfigError(
                "amp", 'false on device = "cpu"', "true", "Remove amp; it is for CUDA."
            )
        if self.freeze == "backbone" and self.freeze_epochs:
            raise ConfigError(
                "freeze_epochs",
                '0 with freeze = "backbone"',
                str(self.freeze_epochs),
                "Keep one of them.",
            )

    def freezes(self, epoch: int) -> bool:
        """Whether the backbone is frozen in this epoch, counted from 0."""
        return self.freeze == "backbone" or epoch < self.freeze_epochs


@dataclass(frozen=True)
class ArmConfig:
    """One way to train on the task, compared with the others: `[arms.NAME]`, merged over `[model]` and `[train]`."""

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
