"""The experiment: all run groups and seeds side by side, and what it showed.

They take turns, so that a machine that slows down slows every one. Scores, comparison and verdict
are read back from the records.
"""

import datetime
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DependencyError
from ptmetrics.finetune.config import Config, RunGroupConfig
from ptmetrics.finetune.data import Data, load_data
from ptmetrics.finetune.models import build_model
from ptmetrics.finetune.ranks import joined_ranks, rank_of_now, wait_for_all, word_of_first
from ptmetrics.finetune.source_task import source_weights
from ptmetrics.finetune.training import TrainingRun, step_flops
from ptmetrics.leakage.callback import tell_once
from ptmetrics.record.printable import quantity
from ptmetrics.record.reader import Run, read_run
from ptmetrics.show.opinion import comparison_text, verdict_text
from ptmetrics.show.paint import Paint, plain
from ptmetrics.show.report import report
from ptmetrics.show.run import run_scores_text
from ptmetrics.verdict.compare import Comparison, compare
from ptmetrics.verdict.finding import Verdict
from ptmetrics.verdict.gathering import judged_row
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.time_to_target import Target

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """Where an experiment left its records.

    Attributes:
        root: Folder of the experiment.
        run_groups: Name of a run group to the run folders of its seeds.
        config: What was run.
        rank: Number of this process, where several train together: that of rank 0 tells.
    """

    root: Path
    run_groups: dict[str, list[Path]]
    config: Config
    rank: int = 0


def run_experiment(config: Config, *, run: str | None = None, say: Say = print) -> Finished:
    """Train every run group with every seed, taking turns after each evaluation.

    Under torchrun all processes train every run together, and the first one tells and records.

    Args:
        config: What to train on what.
        run: Folder for the records; default from the configuration, with the time of day.
        say: Gets each line of progress.

    Raises:
        DataError, ConfigError: Before anything is trained; the latter too where the folder holds
            something already.
        KeyboardInterrupt: When interrupted; every record is closed and readable then.
    """
    with joined_ranks():
        return _run_on_ranks(config, run, say)


def _say_nothing(line: str) -> None:
    """What the other ranks say."""


def _run_on_ranks(config: Config, run: str | None, say: Say) -> Finished:
    rank, _ = rank_of_now()
    root = Path(run or f"{config.run}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    if rank:
        say = _say_nothing
    else:
        _check_folder(root)
    root = Path(word_of_first(str(root)))
    device = _chosen_device(config.train.device)
    data = load_data(config.task)
    say(_opening(config, data, device))
    audit = None
    if config.audit and not rank:
        audit = pm.audit(data.train_view, data.val)
        tell_once(audit, say, f"; took {audit.seconds:.1f} s")
    wait_for_all()
    with ExitStack() as stack:
        runs = [
            _make_run(config, group, seed, data, audit, root=root, device=device, say=say)
            for group in config.run_groups
            for seed in config.seeds
        ]
        for training in runs:
            stack.enter_context(training.monitor)
        _take_turns(runs, say)
    folders: dict[str, list[Path]] = {}
    for training in runs:
        folders.setdefault(training.group, []).append(training.run)
    return Finished(root, folders, config, rank)


def _check_folder(folder: Path) -> None:
    got = ""
    if folder.is_dir():
        if any(folder.iterdir()):
            got = "one that holds something"
    elif folder.exists():
        got = "a file"
    if got:
        cure = "Choose another with --run, or remove it."
        raise ConfigError(f"run {str(folder)!r}", "a folder that is new or empty", got, cure)


def _chosen_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _opening(config: Config, data: Data, device: torch.device) -> str:
    place = f"CPU, {os.cpu_count()} cores"
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    return (
        f"{config.task.name}: {len(data.train):,} to train on, {len(data.val):,} to validate, "
        f"{data.num_classes} classes · {config.run_groups[0].model.name} · {place} · "
        f"{quantity(len(config.run_groups), 'arm')} × {quantity(len(config.seeds), 'seed')}"
    )


def _make_run(
    config: Config,
    group: RunGroupConfig,
    seed: int,
    data: Data,
    audit: pm.Audit | None,
    *,
    root: Path,
    device: torch.device,
    say: Say,
) -> TrainingRun:
    weights = None
    if group.model.weights == "source-task":
        if rank_of_now()[0]:  # the first one makes them
            wait_for_all()
            weights = source_weights(config, group.model, device, say)
        else:
            weights = source_weights(config, group.model, device, say)
            wait_for_all()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(group.model, data.num_classes, weights)
    header = {
        "arm": group.name,
        "seed": seed,
        "val_fingerprint": data.fingerprint,
        "step_flops": step_flops(model, group.train, data),
        "experiment": config.to_dict(),
    }
    run = root / group.name / f"seed{seed}"
    target = Target.parse(config.target)
    callbacks: list[pm.Callback] = []
    if audit is not None:
        callbacks.append(pm.LeakageCheck(audit))
    return TrainingRun(
        group,
        seed,
        model,
        data,
        run=run,
        header=header,
        device=device,
        target=target,
        callbacks=callbacks,
        profile=config.profile,
    )


def _take_turns(runs: list[TrainingRun], say: Say) -> None:
    columns: dict[str, list[TrainingRun]] = {}
    for run in runs:
        columns.setdefault(run.group, []).append(run)
    head = "".join(f"{name:<24}" for name in columns)
    say(f"\nvalidation accuracy, lowest – highest of the seeds\nevaluation  {head}")
    latest = dict.fromkeys(runs, float("nan"))
    turn = 0
    told = max(run.evaluations_a_pass for run in runs)
    hidden = True if rank_of_now()[0] else None
    with tqdm(total=len(runs), unit="run", leave=False, disable=hidden) as bar:
        while not all(run.done for run in runs):
            turn += 1
            bar.set_description(f"evaluation {turn}")
            for run in runs:
                if not run.done:
                    latest[run] = float(run.advance()["val/accuracy"])
                    bar.update(run.done)
            # One line for each pass over the data, and one for the last evaluation.
            if turn % told == 0 or all(run.done for run in runs):
                with tqdm.external_write_mode():
                    say(_line_of_turn(turn, columns.values(), latest))


def _line_of_turn(
    turn: int, columns: Iterable[list[TrainingRun]], latest: Mapping[TrainingRun, float]
) -> str:
    line = f"{turn:>10}  "
    for column in columns:
        reached = [latest[run] for run in column]
        cell = f"{min(reached):.3f} – {max(reached):.3f}"
        if len(column) == 1:
            cell = f"{reached[0]:.3f}"
        line += f"{cell:<24}"
    return line.rstrip()


@dataclass(frozen=True)
class ExperimentOutcome:
    """The end of an experiment.

    Attributes:
        root: Folder of the experiment.
        run_groups: Name of a run group to its runs, one a seed.
        comparison: First run group against second; None with one.
        verdict: On the first seed of the first run group: the model that would be used.
        report: The file for a browser; None where matplotlib is missing.
    """

    root: Path
    run_groups: dict[str, list[Run]]
    comparison: Comparison | None
    verdict: Verdict
    report: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        comparison: dict[str, Any] | None = None
        time_ratio = None
        if self.comparison is not None:
            comparison = self.comparison.to_dict()
            time_ratio = comparison["time_ratio"]
        return {
            "run": str(self.root),
            "report": str(self.report) if self.report else None,
            "time_ratio": time_ratio,
            "verdict": self.verdict.to_dict(),
            "comparison": comparison,
            "arms": {
                name: [_judged_epoch(run) for run in runs] for name, runs in self.run_groups.items()
            },
        }

    def text(self, paint: Paint = plain) -> str:
        """Everything a person wants to see at the end."""
        parts = [""]
        for name, runs in self.run_groups.items():
            run = runs[0]
            trained = f"{run.epochs[-1]['time']['train_cumulative_s']:.1f} s of training"
            head = paint(f"{name}, {run.path.name} of {len(runs)} seeds, {trained}", "strong")
            parts.append(f"{head}\n{run_scores_text(run, paint)}")
        names = list(self.run_groups)
        if self.comparison is not None:
            title = paint("What pre-training bought", "strong")
            text = comparison_text(self.comparison, names[0], names[1], paint)
            parts.append(f"{title}\n{text}")
        first = self.run_groups[names[0]][0]
        title = paint(f"Is it good enough? {names[0]}, {first.path.name}", "strong")
        parts.append(f"{title}\n{verdict_text(self.verdict, paint)}")
        parts.append(f"Records: {self.root}   (ptmetrics report {first.path})")
        if self.report is not None:
            parts.append(f"Report: {self.report}")
        return "\n\n".join(parts)


def outcome_of(finished: Finished) -> ExperimentOutcome:
    """Read the records of an experiment and judge them.

    Raises:
        RecordError: If a record cannot be read.
    """
    config = finished.config
    groups = {name: list(map(read_run, paths)) for name, paths in finished.run_groups.items()}
    first, *others = groups.values()
    comparison = None
    if others:
        comparison = compare(first, others[0], target=config.target)
    verdict = judge(first[0], profile=config.profile)
    return ExperimentOutcome(
        finished.root, groups, comparison, verdict, _report_of(finished, groups)
    )


def _report_of(finished: Finished, groups: dict[str, list[Run]]) -> Path | None:
    """The report of all runs beside their folders."""
    config = finished.config
    runs = [run for group in groups.values() for run in group]
    try:
        return report(
            runs, finished.root / "report.html", target=config.target, profile=config.profile
        )
    except DependencyError:
        return None


def _judged_epoch(run: Run) -> dict[str, Any]:
    epoch = run.epochs[judged_row(run)[0]]
    shown = {"run": str(run.path), "evaluations": len(run.epochs)}
    for key in ("epoch", "scores", "per_class", "confusion", "class_names", "time"):
        shown[key] = epoch.get(key)
    return shown
