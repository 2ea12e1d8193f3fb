"""The command line: exit statuses, one JSON object, clear errors, and no torch where none is needed."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise, permutations
from pathlib import Path

import pytest
import torch

import ptmetrics as pm
import ptmetrics.cli
from ptmetrics.cli import EXIT, main
from ptmetrics.record.journal import Journal
from ptmetrics.show.annotations import annotations
from ptmetrics.verdict.finding import Finding, Verdict
from tests.recorded_runs import write_run
from tests.verdict.judged_sources import Recorded, epoch, written

LIGHT = ["--help", "report RUN", "compare RUN RUN", "check RUN", "check --explain overfitting"]
LIGHT += ["watch RUN", "list RUN"]
STATUSES = ["unreadable", "invalid", "not ready", "undetermined", "ready"]  # the worst first


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each status of `check`."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "ready": write_run(folder / "ready"),
        "not ready": write_run(folder / "not-ready", [0.5, 0.55]),
        "undetermined": write_run(folder / "undetermined", [0.9, 0.9], samples=20),
        "invalid": folder / "invalid.csv",
        "unreadable": folder / "unreadable.csv",
    }
    made["invalid"].write_text("epoch,loss,accuracy\n0,0.5,0.99\n")
    made["unreadable"].write_text("epoch,loss\n0,1,2\n")
    return made


@pytest.fixture(scope="module")
def run(runs: dict[str, Path]) -> Path:
    return runs["ready"]


def test_commands_that_read_records_do_not_import_torch(run: Path) -> None:
    code = (
        "import sys, ptmetrics.cli\n"
        "for command in sys.argv[1:]:\n"
        "    try: ptmetrics.cli.main(command.split())\n"
        "    except SystemExit: pass\n"
        "    if 'torch' in sys.modules: sys.exit(command)\n"
    )
    commands = [command.replace("RUN", str(run)) for command in LIGHT]
    done = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Exit statuses


@pytest.mark.parametrize("status", STATUSES)
def test_check_tells_the_verdict_by_its_exit_status(
    runs: dict[str, Path], status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {"ready": 0, "not ready": 1, "undetermined": 3, "invalid": 4, "unreadable": 5}
    assert main(["check", str(runs[status])]) == expected[status]
    shown = capsys.readouterr()
    if status == "unreadable":
        assert shown.err.startswith("ptmetrics: ")
        assert "line 2: expected 2 cells as in the first line, got 3 cells." in shown.err
    else:
        assert f"Verdict: {status.upper()}" in shown.out


def test_of_several_runs_the_worst_counts_and_the_others_are_shown(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for worse, better in pairwise(STATUSES):
        for pair in permutations((worse, better)):
            assert main(["check", *(str(runs[status]) for status in pair)]) == EXIT[worse], pair
    capsys.readouterr()
    assert main(["check", str(runs["unreadable"]), str(runs["ready"])]) == 5
    assert "Verdict: READY" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere"], r"nowhere'?: expected a run folder, got nothing there\. Check the"),
        (["report", "nowhere"], "expected a run folder, got nothing there"),
        (["compare", "nowhere", "nowhere"], "expected a run folder, got nothing there"),
        (["check", "RUN", "--baseline", "nowhere"], "expected a run folder, got nothing there"),
        (["check"], r"RUN: expected at least one run, got none\. Name a run folder, or pass"),
        (["check", "RUN", "--profile", "strict"], "expected one of balanced.*recall-first"),
        (["check", "RUN", "--select", "low-acuracy"], "select: expected codes of findings"),
        (["check", "RUN", "--positive", "7"], "positive: expected a class index from 0 to 1"),
        (["compare", "RUN", "RUN", "--target", "0.9"], "target: expected a text such as"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_the_rule(
    run: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("RUN", str(run)) for argument in arguments]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_an_argument_that_argparse_refuses_exits_with_2(run: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(run), "--format", "xml"])
    assert stopped.value.code == 2


def test_what_cannot_be_read_exits_with_5_and_what_cannot_be_compared_with_4(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready, broken = str(runs["ready"]), str(runs["unreadable"])
    assert main(["report", broken]) == 5
    assert main(["compare", ready, broken]) == 5
    assert main(["check", ready, "--baseline", broken]) == 5
    assert main(["compare", ready, str(runs["invalid"])]) == 4  # a log without times
    capsys.readouterr()
    other = write_run(tmp_path / "other", samples=500)
    assert main(["compare", ready, str(other), "--json"]) == 4
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert "different-validation" in [finding["code"] for finding in findings]


def test_a_record_that_contradicts_itself_is_invalid_and_exits_with_4(tmp_path: Path) -> None:
    data = epoch(0, {}, matrix=[[90, 10], [10, 90]])
    data["confusion"]["val"] = [[90, 10], [10]]
    assert main(["check", str(written(tmp_path / "run", Recorded([data])))]) == 4


def test_an_error_inside_ptmetrics_exits_with_70_and_ctrl_c_with_130(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: BaseException) -> None:
        def command(arguments: object) -> int:
            raise error

        monkeypatch.setattr(ptmetrics.cli, "_check_runs", command)

    fails(ZeroDivisionError("a slip"))
    assert main(["check", str(run)]) == 70
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert "an error in ptmetrics itself (ZeroDivisionError: a slip; test_cli.py, line" in shown
    assert "Please report this line" in shown
    fails(KeyboardInterrupt())
    assert main(["check", str(run)]) == 130
    assert "what was recorded so far can be read" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_gets_no_traceback(run: Path) -> None:
    command = f"{sys.executable} -m ptmetrics check {run} {run} | true; exit ${{PIPESTATUS[0]}}"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", command], env=plain, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode in {0, 141}


@pytest.mark.parametrize("command", ["check", "report"])
def test_runs_below_a_folder_are_all_judged_and_the_worst_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    write_run(tmp_path / "pretrained" / "seed0")
    write_run(tmp_path / "scratch" / "deeper" / "seed1", [0.5, 0.55])
    wanted = {"check": 1, "report": 0}[command]
    assert main([command, str(tmp_path)]) == wanted
    shown = capsys.readouterr().out
    assert "pretrained/seed0" in shown
    assert "scratch/deeper/seed1" in shown


def test_a_folder_without_a_run_is_wrong_usage(tmp_path: Path) -> None:
    assert main(["check", str(tmp_path)]) == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("words", [["check"], ["report"], ["check", "--explain", "high-error"]])
@pytest.mark.slow
def test_no_console_makes_a_command_fail(run: Path, words: list[str], encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    if len(words) == 1:
        words = [*words, str(run)]
    done = subprocess.run(
        [sys.executable, "-m", "ptmetrics", *words], env=env, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_makes_no_command_fail(run: Path, closed: str) -> None:
    command = f"{sys.executable} -m ptmetrics check {run} {closed}"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0


def test_an_error_shows_no_control_characters_of_a_path(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "nowhere\x1b[2J\u202egnp"]) == 2
    shown = capsys.readouterr().err
    assert "nowhere" in shown
    assert not set("\x1b\u202e") & set(shown)


# Which epoch, which split, which level


@pytest.fixture(scope="module")
def four_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second of them is the best."""
    folder = tmp_path_factory.mktemp("four") / "run"
    epochs = []
    for number, accuracy in enumerate([0.7, 0.95, 0.8, 0.9]):
        right = round(500 * accuracy)
        wrong = 500 - right
        epochs.append(epoch(number, {}, matrix=[[right, wrong], [wrong, right]]))
    run = Recorded(epochs)
    return written(folder, run)


@pytest.mark.parametrize(
    ("chosen", "shown"), [("best", "0.9500"), ("last", "0.9000"), ("3", "0.8000")]
)
def test_a_named_epoch_is_shown_and_judged(
    chosen: str,
    shown: str,
    capsys: pytest.CaptureFixture[str],
    four_epochs: Path,
) -> None:
    assert main(["report", "--epoch", chosen, str(four_epochs)]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("accuracy "))
    assert row.split()[1] == shown
    assert "as asked for" in text
    assert main(["report", "--json", "--epoch", chosen, str(four_epochs)]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    value = told["judged"]["scores"]["val/accuracy"]["value"]
    assert f"{value:.4f}" == shown
    judged = {item["name"]: item["value"] for item in told["verdict"]["criteria"]}
    assert judged["accuracy"] == value


def test_another_split_is_shown_and_judged_by_its_last_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path
    journal = Journal(run)
    journal.append("header", {"metrics": {"task": "binary"}})
    journal.append("epoch", epoch(0, {}, matrix=[[480, 20], [20, 480]]))
    told = epoch(0, {}, matrix=[[300, 200], [200, 300]])
    for key in ("confusion", "per_class"):
        told[key] = {"test": told[key]["val"]}
    told["scores"] = {name.replace("val/", "test/"): s for name, s in told["scores"].items()}
    journal.append("evaluation", {**told, "split": "test", "step": 10, "why": "test"})
    journal.close()
    assert main(["check", str(run)]) == 0
    assert main(["check", str(run), "--split", "test"]) == 1
    assert "Judged split test" in capsys.readouterr().out
    assert main(["report", str(run), "--split", "test", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["runs"]
    assert shown["judged"]["scores"]["test/accuracy"]["value"] == 0.6
    assert main(["report", str(run), "--split", "test"]) == 0
    assert "accuracy              0.6000" in capsys.readouterr().out
    assert main(["check", str(run), "--split", "held-out"]) == 2
    assert "a split that was evaluated (test, val)" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", ["0", "worst", "-1", "5"])
def test_an_epoch_that_is_none_is_wrong_usage(
    chosen: str, four_epochs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["check", "--epoch", chosen, str(four_epochs)])
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert "epoch" in capsys.readouterr().err


def test_a_level_that_is_asked_for_is_a_criterion(run: Path) -> None:
    assert main(["check", str(run), "--target", "val/accuracy>=0.9"]) == 0
    assert main(["check", str(run), "--target", "val/accuracy>=0.99"]) == 1
    assert main(["check", str(run), "--target", "high"]) == 2


# What is printed


@pytest.mark.parametrize("command", ["check", "report", "compare"])
def test_json_is_one_object_and_nothing_else(
    run: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    main([command, str(run), str(run), "--json"])
    shown = capsys.readouterr()
    assert isinstance(json.loads(shown.out), dict)
    assert shown.err == ""


def test_check_in_json_has_status_and_findings(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(runs["ready"]), str(runs["unreadable"])]
    assert main(["check", *names, "--format", "json"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["exit"]) == ("unreadable", 5)
    assert (told["verdict"]["status"], told["verdict"]["findings"]) == ("ready", [])
    assert [one["run"] for one in told["runs"]] == names
    assert "expected 2 cells" in told["runs"][1]["error"]


def test_compare_in_json_names_the_time_ratio_of_arms_with_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        write_run(tmp_path / "pretrained" / f"seed{seed}", [0.95] * 4)
        write_run(tmp_path / "scratch" / f"seed{seed}", [0.5, 0.6, 0.95, 0.95])
    arms = [str(tmp_path / "pretrained"), str(tmp_path / "scratch")]
    assert main(["compare", *arms, "--target", "val/accuracy>=0.9", "--json"]) == 0
    ratio = json.loads(capsys.readouterr().out)["time_ratio"]
    assert set(ratio) >= {"value", "low", "high", "censored"}
    # The clock gives each epoch the same time: reached after the first epoch, after the third.
    assert ratio["value"] == pytest.approx(1 / 3, rel=0.1)
    assert ratio["censored"] is None
    assert main(["compare", *arms]) == 0
    assert "pretrained / scratch" in capsys.readouterr().out


def test_report_shows_scores_matrix_and_verdict(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run)]) == 0
    shown = capsys.readouterr().out
    for part in ("balanced_accuracy", "actual", "predicted", "cat", "Verdict:"):
        assert part in shown


def test_a_finding_is_explained_and_a_code_that_is_none_has_near_matches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "--explain", "overfitting"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("overfitting (fail, warning or info)\n")
    for part in ("What to do: Stop early by the score", "rise_moderate   0.1", "precision-first"):
        assert part in page
    assert main(["check", "--explain", "overfitting", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"code": "overfitting", "page": page[:-1]}
    assert main(["check", "--explain", "overfiting"]) == 2
    said = capsys.readouterr().err
    assert "code: expected the code of a finding, got 'overfiting'. Near: overfitting," in said


# Annotations of GitHub Actions


def test_check_in_githubs_format_is_one_annotation_a_line(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(runs["not ready"]), "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    starts = ("::error title=", "::warning title=", "::notice title=")
    assert all(line.startswith(starts) for line in lines)
    assert any(line.startswith("::error title=low-accuracy (") for line in lines)
    assert lines[-1].endswith("::Verdict: not ready")


def test_an_open_verdict_in_githubs_format_names_what_is_open(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(runs["undetermined"]), "--format", "github"]) == 3
    assert "::Verdict: undetermined (open: accuracy, precision/macro, " in capsys.readouterr().out


def test_no_text_of_a_record_starts_a_command_of_its_own() -> None:
    finding = Finding("weak-class", "warning", "class 'a\n::error::b', 100 %", {}, "Look.")
    verdict = Verdict("ready", (finding,), (), "balanced")
    first, last = annotations("runs/a:b,c", verdict)
    assert first == (
        "::warning title=weak-class (runs/a%3Ab%2Cc)::class 'a ::error::b', 100 %25 Look. See "
        "docs/rules.md#weak-class"
    )
    assert last == "::notice title=ptmetrics (runs/a%3Ab%2Cc)::Verdict: ready"


def test_a_run_that_never_validated_is_shown_with_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(2), run=tmp_path / "run")
    monitor.update(torch.eye(2), torch.tensor([0, 1]), loss=0.5, split="train")
    monitor.end_epoch()
    monitor.close()
    assert main(["report", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "accuracy              1.0000" in shown
    assert "not-validated" in shown
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "report.html")]) == 0
    assert "not-validated" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_threshold_is_advised_from_a_run_and_its_promise_is_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = torch.arange(400) % 2
    with pm.Monitor(pm.BinaryMetrics(), tmp_path / "run", progress=False) as monitor:
        monitor.update(4.0 * target - 2 + torch.linspace(-1, 1, 400), target, split="val")
        monitor.end_epoch()
    run = str(tmp_path / "run")
    assert main(["threshold", run, "--recall-at-least", "0.95"]) == 0
    advice = pm.advise_threshold(run, recall_at_least=0.95)
    assert capsys.readouterr().out == f"{advice}\n"
    asked = ["--recall-at-least", "0.95", "--confidence", "0.9", "--json"]
    assert main(["threshold", run, *asked]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["certified"], told["confidence"]) == (True, 0.9)
    assert main(["threshold", run, "--recall-at-least", "0.999"]) == 1
    assert "not certifiable" in capsys.readouterr().out
    assert main(["threshold", run]) == 2
    assert "Pass recall_at_least=0.95" in capsys.readouterr().err
