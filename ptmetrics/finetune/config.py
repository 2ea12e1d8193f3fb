"""A whole fine-tuning run, and reading it from TOML; configs/ holds worked examples.

Nothing here imports torch, so a mistake in a file is reported at once.
"""

import hashlib
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ptmetrics.errors import ConfigError
from ptmetrics.finetune.settings import ArmConfig, DataConfig, ModelConfig, TrainConfig
from ptmetrics.finetune.tables import as_table, known_keys, read_table, typed, within
from ptmetrics.verdict.profile import profile_of
from ptmetrics.verdict.time_to_target import Target

__all__ = [
    "ArmConfig",
    "Config",
    "DataConfig",
    "ModelConfig",
    "TrainConfig",
    "digest",
    "load_config",
    "packaged_config",
]

# What every arm shares, so that their training times can be compared.
_SHARED = ("device", "workers", "amp", "validations_per_epoch")
_TRAIN = tuple(key.name for key in fields(TrainConfig))
_ARM = (*(key for key in _TRAIN if key not in _SHARED), "weights")
_PRETRAIN = tuple(
    key for key in _ARM if key not in ("weights", "freeze", "freeze_epochs", "patience")
)


@dataclass(frozen=True)
class Config:
    """One run of `ptmetrics finetune`: every arm, once per seed.

    Args:
        task: The data set to fine-tune on.
        arms: The ways to train that are compared.
        source: The data set of the source task, for arms with weights = "source-task".
        model: The model of every arm.
        train: How every arm trains, unless it says otherwise.
        pretrain: How the source task is trained, once.
        seeds: One run of each arm per seed.
        target: Score to reach, such as "val/accuracy>=0.9".
        profile: What the verdict asks for: "balanced", "recall-first", "precision-first" or a TOML file.
        run: Folder of the records.
    """

    task: DataConfig
    arms: tuple[ArmConfig, ...]
    source: DataConfig | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    pretrain: TrainConfig = field(default_factory=TrainConfig)
    seeds: tuple[int, ...] = (0,)
    target: str = "val/accuracy>=0.9"
    profile: str = "balanced"
    run: str = "runs/finetune"

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            cure = 'Write, for example, [arms.pretrained] and below it weights = "imagenet".'
            raise ConfigError("arms", "one or more, each with its own name", str(names), cure)
        if self.source is None and any(arm.model.weights == "source-task" for arm in self.arms):
            cure = 'Add [source] with name = "glyphs", or choose other weights.'
            raise ConfigError("source", 'a data set for weights = "source-task"', "none", cure)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            cure = "Write, for example, seeds = [0, 1, 2]."
            raise ConfigError(
                "seeds", "different whole numbers from 0", str(list(self.seeds)), cure
            )
        if not self.run.strip():
            raise ConfigError(
                "run", "a folder", repr(self.run), 'Write, for example, run = "runs/digits".'
            )
        Target.parse(self.target)
        profile_of(self.profile)

    @property
    def device(self) -> str:
        """The device of every arm: "auto", "cpu" or "cuda"."""
        return self.train.device

    def to_dict(self) -> dict[str, Any]:
        """Everything, as a mapping that JSON can hold."""
        as_json: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return as_json

    def digest(self) -> str:
        """A name for these settings: SHA-256, in hex, of their canonical JSON."""
        return digest(self.to_dict())


def digest(value: object) -> str:
    """SHA-256, in hex, of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def packaged_config(name: str) -> Path:
    """The file of a configuration that comes with ptmetrics, such as "digits".

    Raises:
        ConfigError: If there is none of that name.
    """
    here = Path(__file__).parent / "configs"
    folder = (
        here if here.is_dir() else Path(__file__).parents[2] / "configs"
    )  # installed, or a checkout
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        raise ConfigError(
            "configuration", f"one of {known}", repr(name), "Name one of them, or pass a path."
        )
    return path


def load_config(path: str | Path) -> Config:
    """Read a TOML file; folders and checkpoints in it count from the folder that the command is started in.

    Raises:
        ConfigError: If the file is missing or is not TOML, or a key or value in it cannot work.
    """
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table = toml.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        cure = "Correct the path, or start from one of the files in configs/."
        raise ConfigError(
            str(path), "a file that can be read", error.strerror or str(error), cure
        ) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(
            str(path), "TOML", str(error), "Correct the file at that place."
        ) from error
    with within(f"{path}: "):
        return _config(table, default_run=f"runs/{Path(path).stem}")


def _config(table: Mapping[str, Any], default_run: str) -> Config:
    known_keys(table, [key.name for key in fields(Config)], "")
    part = {
        name: as_table(table.get(name, {}), name) for name in ("model", "train", "pretrain", "arms")
    }
    # In this order a mistake in [model] or [train] is not blamed on the first arm.
    model, train = (
        read_table(ModelConfig, part["model"], "model"),
        read_table(TrainConfig, part["train"], "train"),
    )
    arms = tuple(
        _arm(name, arm, part["model"], part["train"]) for name, arm in part["arms"].items()
    )
    task, source = _data(table, arms)
    known_keys(part["pretrain"], _PRETRAIN, "pretrain")
    shared = {key: part["train"][key] for key in _SHARED if key in part["train"]}
    return Config(
        task=task,
        arms=arms,
        source=source,
        model=model,
        train=train,
        pretrain=read_table(TrainConfig, {**shared, **part["pretrain"]}, "pretrain"),
        run=typed(str, table.get("run", default_run), "run"),
        **{key: typed(hint, table[key], key) for key, hint in _TOP.items() if key in table},
    )


_TOP: dict[str, Any] = {"seeds": tuple[int, ...], "target": str, "profile": str}


def _arm(name: str, table: object, model: Mapping[str, Any], train: Mapping[str, Any]) -> ArmConfig:
    """The arm's own keys laid over those of every arm."""
    where = f"arms.{name}"
    own = as_table(table, where)
    known_keys(own, _ARM, where)
    weights = {key: own[key] for key in own if key == "weights"}
    training = {key: own[key] for key in own if key != "weights"}
    model_config = read_table(ModelConfig, {**model, **weights}, where)
    train_config = read_table(TrainConfig, {**train, **training}, where)
    with within(f"{where}."):
        return ArmConfig(name, model_config, train_config)


def _data(
    table: Mapping[str, Any], arms: tuple[ArmConfig, ...]
) -> tuple[DataConfig, DataConfig | None]:
    """Task and source; what the source leaves out of size and normalization is the task's."""
    imagenet = any(arm.model.weights == "imagenet" for arm in arms)
    default: dict[str, Any] = {"normalization": "imagenet" if imagenet else "half"}
    task = read_table(DataConfig, {**default, **as_table(table.get("task", {}), "task")}, "task")
    if "source" not in table:
        return task, None
    default = {"normalization": task.normalization, "image_size": task.image_size}
    return task, read_table(
        DataConfig, {**default, **as_table(table["source"], "source")}, "source"
    )
