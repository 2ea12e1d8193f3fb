"""The command line: parse, call, print. Everything heavy is imported inside its command."""

import argparse
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ptmetrics import __version__
from ptmetrics.errors import ConfigError, DataError, DependencyError, PtmetricsError, RecordError
from ptmetrics.record.collector import without_collector

Arguments = argparse.Namespace
EXIT = {"ready": 0, "not ready": 1, "undetermined": 3, "invalid": 4, "unreadable": 5}
"""Exit status of `check`; 2 is wrong usage."""
WORST_FIRST = ("unreadable", "invalid", "not ready", "undetermined", "ready")
PATHS = {"CONFIG.toml", "DIR", "FILE", "FOLDER", "RUN", "TRAIN", "VAL"}
"""What an argument is called whose value is a path; a shell completes it so."""
USAGE, CANNOT_COMPARE, UNREADABLE, INTERNAL, INTERRUPTED, BROKEN_PIPE = 2, 4, 5, 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    _open_streams()
    arguments = _parser().parse_args(argv)
    command: Callable[[Arguments], int] = arguments.command
    try:
        status = command(arguments)
        sys.stdout.flush()
    except RecordError as error:
        return _failed(error, UNREADABLE)
    except PtmetricsError as error:
        return _failed(error, USAGE)
    except BrokenPipeError:
        # The reader, such as head, has seen enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _failed("interrupted; what was recorded so far can be read and judged", INTERRUPTED)
    except Exception as error:
        return _failed(_internal(error), INTERNAL)
    return status


def _open_streams() -> None:
    """Make both streams such that no text can fail there, nor where one of them is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _failed(why: object, status: int) -> int:
    from ptmetrics.record.printable import printable

    print(f"ptmetrics: {printable(str(why))}", file=sys.stderr)
    return status


def _internal(error: Exception) -> str:
    """An error of ours in one line, with its place; `python -X dev` shows all of it."""
    if sys.flags.dev_mode:
        traceback.print_exc()
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}, line {last.lineno}"
    return (
        f"this is an error in ptmetrics itself ({type(error).__name__}: {error}; {where}). Please "
        "report this line with the command to those who gave you ptmetrics; python -X dev -m "
        "ptmetrics shows where it came from."
    )


def _parser() -> argparse.ArgumentParser:
    text = "Is this fine-tune any good, and what did it buy?"
    parser = argparse.ArgumentParser(prog="ptmetrics", description=text)
    parser.add_argument("--version", action="version", version=f"ptmetrics {__version__}")
    text = "print what completes commands, options and paths in this shell"
    parser.add_argument(
        "--print-completion", action=_Completion, choices=("bash", "zsh", "tcsh"), help=text
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[Arguments], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        text = "print one JSON object, and nothing else, on stdout"
        sub.add_argument("--json", action="store_true", help=text)
        return sub

    text = "fine-tune against from-scratch on real handwriting, offline, in about two minutes"
    demo = add("demo", _demo, text)
    text = "fewer glyphs, epochs and seeds: a check that all works"
    demo.add_argument("--quick", action="store_true", help=text)
    demo.add_argument("--run", help="folder for the runs (default: a new one below runs/)")

    finetune = add("finetune", _finetune, "the same on your own data, model and weights")
    finetune.add_argument("config", metavar="CONFIG.toml", type=Path)
    finetune.add_argument("--run", help="folder for the runs (default: from the configuration)")

    report = add("report", _report, "scores, confusion matrix and verdict of recorded runs")
    _add_report(report)

    text = "training time to a target, and quality, of two runs or arms with several seeds"
    compare = add("compare", _compare, text)
    compare.add_argument("first", metavar="RUN", help="the one expected to be quicker")
    compare.add_argument("second", metavar="RUN")
    compare.add_argument("--target", help="level to reach, such as 'val/accuracy>=0.9'")

    text = (
        "verdict as an exit status: 0 ready, 1 not ready, 2 wrong usage, 3 cannot tell, 4 invalid, "
        "5 unreadable; of several runs the worst: 5, 4, 1, 3, 0"
    )
    check = add("check", _check_runs, text)
    check.add_argument("runs", metavar="RUN", nargs="*")
    _add_judging(check)
    text = "run or log that no RUN may be worse than by more than a margin"
    check.add_argument("--baseline", metavar="RUN", help=text)
    text = "a level that must be shown as well, such as 'val/f1/macro>=0.8'"
    check.add_argument("--target", help=text)
    text = "github: annotations of GitHub Actions"
    formats = ("text", "github", "json")
    check.add_argument("--format", choices=formats, default="text", help=text)
    text = "print what a finding means and what to do, and judge nothing"
    check.add_argument("--explain", metavar="CODE", help=text)

    _add_sets(add("audit", _audit, "samples of validation that stand in training, or nearly so"))
    _add_looking(add)

    text = "what it costs, side by side with the peers that are installed"
    _add_bench(add("bench", _bench, text))
    return parser


class _Completion(argparse.Action):
    """Prints the shell's script, by shtab, and ends."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Arguments, values: Any, *_: object
    ) -> None:
        """As argparse calls an action."""
        try:
            import shtab
        except ImportError:
            cure = "Run pip install 'ptmetrics[completion]'."
            error = DependencyError("completion", "an installed shtab", "no such package", cure)
            parser.exit(_failed(error, USAGE))
        for action in _actions_of(parser):
            if action.metavar in PATHS:
                vars(action)["complete"] = shtab.FILE  # which argparse knows nothing of
        print(shtab.complete(parser, values))
        parser.exit()


def _actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of all commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions_of(command)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+")
    text = "write one HTML file with charts, such as report.html, instead of text"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=text)
    text = "level that two arms of runs must reach in FILE, such as 'val/accuracy>=0.9'"
    parser.add_argument("--target", help=text)
    _add_judging(parser)


def _add_judging(parser: argparse.ArgumentParser) -> None:
    text = (
        "balanced, recall-first, precision-first, regression, tokens, pixels or a TOML file; "
        "default: that of the run, Monitor(profile=…), else balanced"
    )
    parser.add_argument("--profile", help=text)
    text = (
        "epoch to judge: best, last or a number from 1; default: the one that the model stands at"
    )
    parser.add_argument("--epoch", type=_epoch_number, metavar="best|last|N", help=text)
    text = "split to judge, such as test: its last evaluation"
    parser.add_argument("--split", default="val", help=text)
    text = "validation samples, for the log of another tool that does not tell them"
    parser.add_argument("--n", type=int, metavar="N", help=text)
    text = "index of the class whose precision and recall count"
    parser.add_argument("--positive", type=int, help=text)
    text = "only these codes, separated by commas"
    parser.add_argument("--select", type=_codes, metavar="CODES", help=text)
    parser.add_argument("--ignore", type=_codes, metavar="CODES", help="all but these codes")


def _add_threshold(add: Callable[..., argparse.ArgumentParser]) -> None:
    text = (
        "decision threshold that keeps a promise on new data, of a run's judged epoch; exit status 0 "
        "where it is certified, 1 where it is not"
    )
    parser = add("threshold", _threshold, text)
    parser.add_argument("run", metavar="RUN")
    text = "recall to keep, such as 0.95"
    parser.add_argument("--recall-at-least", type=float, metavar="SHARE", help=text)
    text = "precision to keep; with both, the highest threshold that keeps both"
    parser.add_argument("--precision-at-least", type=float, metavar="SHARE", help=text)
    text = "one-sided confidence of the promise (default: 0.95)"
    parser.add_argument("--confidence", type=float, default=0.95, metavar="SHARE", help=text)
    text = "name of the label, or of the class against the rest, where there are several"
    parser.add_argument("--label", help=text)


def _add_sets(parser: argparse.ArgumentParser) -> None:
    text = "folder of pictures, or a file that ends in .csv, .tsv, .jsonl or .parquet"
    parser.add_argument("train", metavar="TRAIN", type=Path, help=text)
    parser.add_argument("val", metavar="VAL", type=Path, help="the same, held against it")
    parser.add_argument("--label", metavar="COLUMN", help="column of the label")
    parser.add_argument("--ids", metavar="COLUMN", help="column that tells samples apart")
    text = "column that tells what belongs together, such as a patient"
    parser.add_argument("--groups", metavar="COLUMN", help=text)
    text = "equal samples alone"
    parser.add_argument("--no-near", action="store_true", help=text)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    text = "cuda: the part for a GPU"
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help=text)
    text = "small sizes: a check that all works"
    parser.add_argument("--quick", action="store_true", help=text)
    text = "updates, curves and memory alone"
    parser.add_argument("--metrics", action="store_true", help=text)
    text = "write BENCHMARKS.md and docs/ there"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--threads", type=int, help="threads of torch; default: as torch has them")


def _epoch_number(text: str) -> int | str:
    """The number from 0 of an epoch that a person counts from 1; or a word."""
    if text in {"best", "last"}:
        return text
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected best, last or a number from 1, got {text!r}")
    return number - 1


def _codes(text: str) -> list[str]:
    return [code.strip() for code in text.split(",") if code.strip()]


def _add_looking(add: Callable[..., argparse.ArgumentParser]) -> None:
    _add_threshold(add)
    text = "a run that goes on, live: its last epochs, its pace, its verdict when it ends"
    watch = add("watch", _watch, text)
    watch.add_argument("run", metavar="RUN")
    watch.add_argument("--once", action="store_true", help="print how it stands now and exit")

    text = "all runs below a folder: status, best score, epochs, time"
    listing = add("list", _list, text)
    listing.add_argument("folder", metavar="DIR", nargs="?", default=".", type=Path)


# Training


def _demo(arguments: Arguments) -> int:
    from ptmetrics.finetune.config import packaged_config

    name = "digits"
    if arguments.quick:
        name = "digits-quick"
    return _experiment(packaged_config(name), arguments)


def _finetune(arguments: Arguments) -> int:
    return _experiment(arguments.config, arguments)


def _experiment(config: Path, arguments: Arguments) -> int:
    from ptmetrics.finetune.config import load_config
    from ptmetrics.finetune.experiment import outcome_of, run_experiment
    from ptmetrics.record.printable import printable
    from ptmetrics.show.paint import paint_for

    stream = sys.stdout
    if arguments.json:
        stream = sys.stderr
    paint = paint_for(stream)

    def say(text: str) -> None:
        lines = [printable(line, paint.encoding) for line in text.split("\n")]
        print("\n".join(lines), file=stream, flush=True)

    finished = run_experiment(load_config(config), run=arguments.run, say=say)
    if finished.rank:
        return 0
    outcome = outcome_of(finished)
    if arguments.json:
        _print_json(outcome.to_dict())
    else:
        print(outcome.text(paint))
    return 0


# Records


@without_collector()
def _report(arguments: Arguments) -> int:
    from ptmetrics.record.reader import read_run
    from ptmetrics.show.paint import paint_for
    from ptmetrics.show.run import run_text
    from ptmetrics.verdict.judge import judge
    from ptmetrics.verdict.picked import evaluation_of, picked

    options = _judge_options(arguments)
    if arguments.out is not None:
        return _report_file(arguments, options)
    epoch = options.pop("epoch")
    runs: list[Any] = [picked(read_run(path), epoch) for path in _found(arguments.runs)]
    verdicts = [judge(run, **options) for run in runs]
    split = arguments.split
    if not arguments.json:
        both = zip(runs, verdicts, strict=True)
        print("\n\n".join(run_text(run, verdict, paint_for(), split) for run, verdict in both))
        return 0
    told = []
    for run, verdict in zip(runs, verdicts, strict=True):
        judged: Mapping[str, Any] = {}
        if run.epochs:
            judged = evaluation_of(run, split)
        keys = ("epoch", "scores", "per_class", "confusion", "class_names", "time")
        told.append(
            {
                "run": str(run.path),
                "epochs": len(run.epochs),
                "end": run.end,
                "evaluations": run.evaluations,
                "judged": {key: judged.get(key) for key in keys},
                "verdict": verdict.to_dict(),
            }
        )
    _print_json({"runs": told})
    return 0


@without_collector()
def _report_file(arguments: Arguments, options: dict[str, Any]) -> int:
    from ptmetrics.show.report import report

    try:
        path = report(_found(arguments.runs), arguments.out, target=arguments.target, **options)
    except OSError as error:
        cure = "Name a file in a folder that is there."
        got = error.strerror or str(error)
        raise ConfigError(str(arguments.out), "a file that can be written", got, cure) from None
    if arguments.json:
        _print_json({"report": str(path)})
    else:
        print(f"Report: {path}")
    return 0


@without_collector()
def _check_runs(arguments: Arguments) -> int:
    from ptmetrics.record.reader import read_run

    if arguments.explain is not None:
        return _explain(arguments)
    if not arguments.runs:
        cure = "Name a run folder, or pass --explain CODE."
        raise ConfigError("RUN", "at least one run", "none", cure)
    options = _judge_options(arguments)
    if arguments.baseline is not None:
        options["baseline"] = read_run(_one("baseline", arguments.baseline))
    if arguments.target is not None:
        options["rules"] = _with_target(arguments.target)
    told = [_verdict_of(path, options) for path in _found(arguments.runs)]
    statuses = [one["verdict"].status if "verdict" in one else "unreadable" for one in told]
    worst = min(statuses, key=WORST_FIRST.index)
    if arguments.json or arguments.format == "json":
        _print_json(
            {
                "status": worst,
                "exit": EXIT[worst],
                "verdict": told[0].get("verdict"),
                "runs": told,
            }
        )
    else:
        _print_verdicts(told, arguments.format)
    return EXIT[worst]


def _verdict_of(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The run and its verdict, or why it cannot be read, which is said at once."""
    from ptmetrics.record.reader import read_run
    from ptmetrics.verdict.judge import judge

    try:
        run = read_run(path)
        return {"run": str(run.path), "verdict": judge(run, **options)}
    except (RecordError, DataError) as error:
        _failed(error, UNREADABLE)
        return {"run": str(path), "error": str(error)}


def _print_verdicts(told: Sequence[dict[str, Any]], style: str) -> None:
    """The verdicts of the runs that could be read, as text or as annotations."""
    from ptmetrics.show.annotations import annotations
    from ptmetrics.show.opinion import verdict_text
    from ptmetrics.show.paint import paint_for

    read = [(one["run"], one["verdict"]) for one in told if "verdict" in one]
    if style == "github":
        for run, verdict in read:
            print(*annotations(run, verdict), sep="\n")
    else:
        texts = [f"{run}\n{verdict_text(verdict, paint_for())}" for run, verdict in read]
        print("\n\n".join(texts))


def _explain(arguments: Arguments) -> int:
    from ptmetrics.verdict.pages import explain

    page = explain(arguments.explain)
    if arguments.json or arguments.format == "json":
        _print_json({"code": arguments.explain, "page": page})
    else:
        print(page)
    return 0


@without_collector()
def _compare(arguments: Arguments) -> int:
    from ptmetrics.show.opinion import comparison_text
    from ptmetrics.show.paint import paint_for
    from ptmetrics.verdict.compare import compare

    first = _found([arguments.first])
    second = _found([arguments.second])
    try:
        comparison = compare(first, second, target=arguments.target)
    except DataError as error:
        return _failed(error, CANNOT_COMPARE)
    if arguments.json:
        _print_json(comparison.to_dict())
    else:
        names = Path(arguments.first).name, Path(arguments.second).name
        print(comparison_text(comparison, *names, paint_for()))
    if any(finding.severity == "invalid" for finding in comparison.findings):
        return CANNOT_COMPARE
    return 0


def _watch(arguments: Arguments) -> int:
    from ptmetrics.show.listing import follow
    from ptmetrics.show.paint import paint_for
    from ptmetrics.show.run_state import watch

    def say(text: str) -> None:
        print(text, end="", flush=True)

    views = watch(_one("run", arguments.run))
    if arguments.json:
        _print_json(next(views)[1].to_dict())
    elif arguments.once:
        follow([next(views)], say, paint_for(), live=False)
    else:
        follow(views, say, paint_for(), live=sys.stdout.isatty())
    return 0


def _list(arguments: Arguments) -> int:
    from ptmetrics.show.listing import listing_text
    from ptmetrics.show.paint import paint_for
    from ptmetrics.show.run_state import state_at

    states = list(map(state_at, _found([arguments.folder])))
    if arguments.json:
        _print_json({"runs": [state.to_dict() for state in states]})
    else:
        print(listing_text(states, arguments.folder, paint_for()))
    return 0


def _found(names: Sequence[str | Path]) -> list[Path]:
    """The runs that a person names; a path without a run is wrong usage, not a damaged record."""
    from ptmetrics.record.run_folder import find_runs

    try:
        return [path for name in names for path in find_runs(name)]
    except RecordError as error:
        raise ConfigError(*error.args) from None


def _one(name: str, path: str) -> Path:
    """The one run that a person names."""
    from ptmetrics.record.run_folder import find_run

    try:
        return find_run(name, path)
    except RecordError as error:
        raise ConfigError(*error.args) from None


def _judge_options(arguments: Arguments) -> dict[str, Any]:
    names = ("profile", "n", "positive", "epoch", "split", "select", "ignore")
    return {name: getattr(arguments, name) for name in names}


def _with_target(text: str) -> list[Any]:
    """All rules, and one that holds a score against a level."""
    from ptmetrics.verdict.judge import RULES
    from ptmetrics.verdict.time_to_target import Target

    target = Target.parse(text)

    def reaches_target(evidence: Any) -> Any:
        name = target.metric.removeprefix("val/")
        return evidence.criterion(name, target.level, rule=target.rule)

    return [*RULES, reaches_target]


def _threshold(arguments: Arguments) -> int:
    from ptmetrics.advice import advise_threshold

    advice = advise_threshold(
        _one("run", arguments.run),
        recall_at_least=arguments.recall_at_least,
        precision_at_least=arguments.precision_at_least,
        confidence=arguments.confidence,
        label=arguments.label,
    )
    if arguments.json:
        _print_json(advice.to_dict())
    else:
        print(advice)
    return int(not advice.certified)


def _audit(arguments: Arguments) -> int:
    from ptmetrics.leakage.audit import audit
    from ptmetrics.leakage.files import TableFile, row_sample, set_of

    train = set_of(arguments.train, arguments.label)
    val = set_of(arguments.val, arguments.label)
    sample = None
    if isinstance(train, TableFile) and isinstance(val, TableFile):
        sample = row_sample(train, val, (arguments.ids, arguments.groups))
    found = audit(
        train,
        val,
        sample=sample,
        ids=arguments.ids,
        groups=arguments.groups,
        near=not arguments.no_near,
    )
    if arguments.json:
        _print_json(found.to_dict())
    else:
        print(found.summary())
    return 0


def _bench(arguments: Arguments) -> int:
    from ptmetrics.bench.run import bench

    return bench(arguments)


def _print_json(value: dict[str, Any]) -> None:
    from ptmetrics.verdict.finding import plain

    print(json.dumps(plain(value), indent=2))


if __name__ == "__main__":
    sys.exit(main())
