"""The command line: parse, call, print. Everything heavy is imported inside its command."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ptmetrics import __version__
from ptmetrics.errors import PtmetricsError

EXIT = {"ready": 0, "not ready": 1, "undetermined": 2, "invalid": 2}
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        status = command(arguments)
        sys.stdout.flush()
        return status
    except PtmetricsError as error:
        print(f"ptmetrics: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as head, has seen enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print(
            "ptmetrics: interrupted; what was recorded so far can be read and judged",
            file=sys.stderr,
        )
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ptmetrics", description="Is this fine-tune any good, and what did it buy?"
    )
    parser.add_argument("--version", action="version", version=f"ptmetrics {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument(
            "--json", action="store_true", help="print one JSON object, and nothing else, on stdout"
        )
        return sub

    demo = add(
        "demo",
        _demo,
        "fine-tune against from-scratch on real handwriting, offline, in about a minute",
    )
    demo.add_argument(
        "--quick",
        action="store_true",
        help="fewer glyphs, epochs and seeds: a check that all works",
    )
    demo.add_argument("--run", help="folder for the runs (default: a new one below runs/)")
    finetune = add("finetune", _finetune, "the same on your own data, model and weights")
    finetune.add_argument("config", metavar="CONFIG.toml", type=Path)
    finetune.add_argument("--run", help="folder for the runs (default: from the configuration)")
    report = add("report", _report, "scores, confusion matrix and verdict of recorded runs")
    report.add_argument("runs", metavar="RUN", nargs="+")
    _judging(report)
    compare = add(
        "compare",
        _compare,
        "training time to a target, and quality, of two runs or arms with several seeds",
    )
    compare.add_argument("first", metavar="RUN", help="the one expected to be quicker")
    compare.add_argument("second", metavar="RUN")
    compare.add_argument("--target", help="level to reach, such as 'val/accuracy>=0.9'")
    check = add("check", _check, "verdict as an exit status: 0 ready, 1 not ready, 2 cannot tell")
    check.add_argument("runs", metavar="RUN", nargs="+")
    _judging(check, "text", "github")
    _benching(add("bench", _bench, "what it costs, side by side with the peers that are installed"))
    return parser


def _benching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: the part for a GPU"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: a check that all works")
    parser.add_argument("--metrics", action="store_true", help="updates, curves and memory alone")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write BENCHMARKS.md and docs/ there"
    )
    parser.add_argument("--threads", type=int, help="threads of torch; default: as torch has them")


def _judging(parser: argparse.ArgumentParser, *formats: str) -> None:
    if formats:
        parser.add_argument(
            "--format",
            choices=formats,
            default=formats[0],
            help="github: annotations of GitHub Actions",
        )
        parser.add_argument(
            "--baseline",
            metavar="RUN",
            help="run or log that no RUN may be worse than by more than a margin",
        )
    parser.add_argument(
        "--profile",
        default="balanced",
        help="balanced, recall-first, precision-first, regression or a TOML file",
    )
    parser.add_argument(
        "--positive", type=int, help="index of the class whose precision and recall count"
    )
    parser.add_argument(
        "--select", type=_codes, metavar="CODES", help="only these codes, separated by commas"
    )
    parser.add_argument("--ignore", type=_codes, metavar="CODES", help="all but these codes")


def _codes(text: str) -> list[str]:
    return [code.strip() for code in text.split(",") if code.strip()]


def _demo(arguments: argparse.Namespace) -> int:
    from ptmetrics.finetune.config import packaged_config

    return _experiment(packaged_config("digits-quick" if arguments.quick else "digits"), arguments)


def _finetune(arguments: argparse.Namespace) -> int:
    return _experiment(arguments.config, arguments)


def _experiment(config: Path, arguments: argparse.Namespace) -> int:
    from ptmetrics.finetune.config import load_config
    from ptmetrics.finetune.experiment import outcome_of, run_experiment
    from ptmetrics.show.paint import paint_for

    stream = sys.stderr if arguments.json else sys.stdout
    paint = paint_for(stream)
    finished = run_experiment(
        load_config(config),
        run=arguments.run,
        say=lambda line: print(line, file=stream, flush=True),
    )
    outcome = outcome_of(finished)
    if arguments.json:
        _print_json(outcome.to_dict())
    else:
        print(outcome.text(paint))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from ptmetrics.show.paint import paint_for
    from ptmetrics.show.run import run_text

    judged = list(_judged(arguments))
    if arguments.json:
        _print_json({"runs": [_run_dict(run, verdict) for run, verdict in judged]})
    else:
        print("\n\n".join(run_text(run, verdict, paint_for()) for run, verdict in judged))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from ptmetrics.show.annotations import annotations
    from ptmetrics.show.opinion import verdict_text
    from ptmetrics.show.paint import paint_for

    judged = list(_judged(arguments))
    # Worst first: a run that failed outranks one that cannot be told, and both outrank a ready one.
    worst = max(
        (verdict.status for _, verdict in judged),
        key=["ready", "undetermined", "invalid", "not ready"].index,
    )
    if arguments.json:
        verdicts = [{"run": str(run.path), "verdict": verdict.to_dict()} for run, verdict in judged]
        _print_json(
            {
                "status": worst,
                "exit": EXIT[worst],
                "verdict": verdicts[0]["verdict"],
                "runs": verdicts,
            }
        )
    elif arguments.format == "github":
        print(
            "\n".join(
                line for run, verdict in judged for line in annotations(str(run.path), verdict)
            )
        )
    else:
        print(
            "\n\n".join(
                f"{run.path}\n{verdict_text(verdict, paint_for())}" for run, verdict in judged
            )
        )
    return EXIT[worst]


def _compare(arguments: argparse.Namespace) -> int:
    from ptmetrics.record.find import find_runs
    from ptmetrics.show.opinion import comparison_text
    from ptmetrics.show.paint import paint_for
    from ptmetrics.verdict.compare import compare

    comparison = compare(
        find_runs(arguments.first), find_runs(arguments.second), target=arguments.target
    )
    if arguments.json:
        _print_json(comparison.to_dict())
    else:
        names = Path(arguments.first).name, Path(arguments.second).name
        print(comparison_text(comparison, *names, paint_for()))
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from ptmetrics.bench.run import bench

    return bench(arguments)


def _judged(arguments: argparse.Namespace) -> Any:
    from ptmetrics.record.find import find_run, find_runs
    from ptmetrics.record.reader import read_run
    from ptmetrics.verdict.judge import judge

    options = {
        name: getattr(arguments, name) for name in ("profile", "positive", "select", "ignore")
    }
    if getattr(arguments, "baseline", None) is not None:
        options["baseline"] = read_run(find_run("baseline", arguments.baseline))
    for path in [run for named in arguments.runs for run in find_runs(named)]:
        run = read_run(path)
        yield run, judge(run, **options)


def _run_dict(run: Any, verdict: Any) -> dict[str, Any]:
    last = run.epochs[-1] if run.epochs else {}
    kept = {
        key: last.get(key)
        for key in ("epoch", "scores", "per_class", "confusion", "class_names", "time")
    }
    return {
        "run": str(run.path),
        "epochs": len(run.epochs),
        "end": run.end,
        "judged": kept,
        "verdict": verdict.to_dict(),
    }


def _print_json(value: dict[str, Any]) -> None:
    from ptmetrics.verdict.finding import plain

    print(json.dumps(plain(value), indent=2))


if __name__ == "__main__":
    sys.exit(main())
