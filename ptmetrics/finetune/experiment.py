"""The experiment: all arms and seeds side by side, so that a machine that slows down slows every arm."""

import datetime
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from ptmetrics.errors import RecordError
from ptmetrics.finetune.arm import Arm
from ptmetrics.finetune.config import ArmConfig, Config
from ptmetrics.finetune.data import Data, load_data
from ptmetrics.finetune.models import build_model
from ptmetrics.finetune.source_task import source_weights

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """Where an experiment left its records.

    Attributes:
        root: Folder of the experiment.
        arms: Name of an arm to the run folders of its seeds.
        config: What was run.
    """

    root: Path
    arms: dict[str, list[Path]]
    config: Config


def run_experiment(config: Config, *, run: str | None = None, say: Say = print) -> Finished:
    """Train every arm with every seed, taking turns after each evaluation.

    Args:
        config: What to train on what.
        run: Folder for the records; default from the configuration, with the time of day.
        say: Gets each line of progress.

    Raises:
        RecordError: If the folder exists already.
        DataError, ConfigError: Before anything is trained.
        KeyboardInterrupt: When interrupted; every record is closed and readable then.
    """
    root = _new_folder(run or _default_folder(config))
    device = _device(config)
    data = load_data(config.task)
    say(_opening(config, data, device))
    with ExitStack() as stack:
        plan = _Plan(config, data, root, device, say)
        arms = [_arm(arm, seed, plan) for arm in config.arms for seed in config.seeds]
        for arm in arms:
            stack.enter_context(arm.monitor)
        _take_turns(arms, say)
    runs = {c.name: [arm.run for arm in arms if arm.name == c.name] for c in config.arms}
    return Finished(root, runs, config)


def _take_turns(arms: list[Arm], say: Say) -> None:
    names = list(dict.fromkeys(arm.name for arm in arms))
    say(
        "\nvalidation accuracy of each seed\n"
        + "evaluation  "
        + "".join(f"{name:<28}" for name in names)
    )
    latest = dict.fromkeys(arms, float("nan"))
    turn = 0
    while any(not arm.done for arm in arms):
        turn += 1
        for arm in arms:
            if not arm.done:
                latest[arm] = float(arm.advance()["val/accuracy"])
        cells = [
            "  ".join(f"{latest[arm]:.3f}" for arm in arms if arm.name == name) for name in names
        ]
        say(f"{turn:>10}  " + "".join(f"{cell:<28}" for cell in cells).rstrip())


def _arm(config: ArmConfig, seed: int, plan: "_Plan") -> Arm:
    whole, data = plan.config, plan.data
    weights = None
    if config.model.weights == "source-task":
        weights = source_weights(whole, config.model, plan.device, plan.say)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config.model, data.num_classes, weights)
    header = {
        "arm": config.name,
        "seed": seed,
        "val_fingerprint": data.fingerprint,
        "experiment": whole.to_dict(),
    }
    run = plan.root / config.name / f"seed{seed}"
    return Arm(config, seed, model, data, run=run, header=header, device=plan.device)


@dataclass(frozen=True)
class _Plan:
    """What all arms share."""

    config: Config
    data: Data
    root: Path
    device: torch.device
    say: Say


def _opening(config: Config, data: Data, device: torch.device) -> str:
    place = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {os.cpu_count()} cores"
    )
    return (
        f"{config.task.name}: {len(data.train):,} to train on, {len(data.val):,} to validate, "
        f"{data.num_classes} classes · {config.arms[0].model.name} · {place} · "
        f"{len(config.arms)} arms × {len(config.seeds)} seeds"
    )


def _device(config: Config) -> torch.device:
    name = config.device
    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    )


def _default_folder(config: Config) -> str:
    return f"{config.run}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _new_folder(name: str) -> Path:
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        cure = "Choose another with --run, or remove it."
        fact = "one that holds something" if folder.is_dir() else "a file"
        raise RecordError(f"run {name!r}", "a folder that is new or empty", fact, cure)
    return folder
