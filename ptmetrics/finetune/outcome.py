"""What an experiment showed, read back from its records: scores, comparison, verdict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptmetrics.finetune.experiment import Finished
from ptmetrics.record.reader import Run, read_run
from ptmetrics.show.opinion import comparison_text, verdict_text
from ptmetrics.show.paint import Paint, plain
from ptmetrics.show.run import scores_text
from ptmetrics.verdict.compare import Comparison, compare
from ptmetrics.verdict.evidence import judged_row
from ptmetrics.verdict.finding import Verdict
from ptmetrics.verdict.judge import judge


@dataclass(frozen=True)
class Outcome:
    """The end of an experiment.

    Attributes:
        root: Folder of the experiment.
        arms: Name of an arm to its runs, one a seed.
        comparison: First arm against second; None with one arm.
        verdict: On the first seed of the first arm: the model that would be used.
    """

    root: Path
    arms: dict[str, list[Run]]
    comparison: Comparison | None
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        comparison = None if self.comparison is None else self.comparison.to_dict()
        return {
            "run": str(self.root),
            "time_ratio": comparison["time_ratio"] if comparison else None,
            "verdict": self.verdict.to_dict(),
            "comparison": comparison,
            "arms": {name: [_judged(run) for run in runs] for name, runs in self.arms.items()},
        }

    def text(self, paint: Paint = plain) -> str:
        """Everything a person wants to see at the end."""
        parts = [
            self._arm_text(name, runs[0], len(runs), paint) for name, runs in self.arms.items()
        ]
        if self.comparison is not None:
            first, second = list(self.arms)[:2]
            title = paint("What pre-training bought", "strong")
            parts.append(title + "\n" + comparison_text(self.comparison, first, second, paint))
        name, runs = next(iter(self.arms.items()))
        title = paint(f"Is it good enough? {name}, {runs[0].path.name}", "strong")
        parts.append(title + "\n" + verdict_text(self.verdict, paint))
        parts.append(f"Records: {self.root}   (ptmetrics report {runs[0].path})")
        return "\n\n".join(["", *parts])

    def _arm_text(self, name: str, run: Run, seeds: int, paint: Paint) -> str:
        trained = f"{run.epochs[-1]['time']['train_cumulative_s']:.1f} s of training"
        head = paint(f"{name}, {run.path.name} of {seeds} seeds, {trained}", "strong")
        return f"{head}\n{scores_text(run, paint)}"


def outcome_of(finished: Finished) -> Outcome:
    """Read the records of an experiment and judge them.

    Raises:
        RecordError: If a record cannot be read.
    """
    config = finished.config
    arms = {name: [read_run(path) for path in paths] for name, paths in finished.arms.items()}
    sides = list(arms.values())
    comparison = compare(sides[0], sides[1], target=config.target) if len(sides) > 1 else None
    return Outcome(finished.root, arms, comparison, judge(sides[0][0], profile=config.profile))


def _judged(run: Run) -> dict[str, Any]:
    epoch = run.epochs[judged_row(run)[0]]
    kept = ("epoch", "scores", "per_class", "confusion", "class_names", "time")
    return {
        "run": str(run.path),
        "evaluations": len(run.epochs),
        **{key: epoch.get(key) for key in kept},
    }
