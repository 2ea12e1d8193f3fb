"""The command line: exit statuses, one JSON object, clear errors, and no torch where none is needed."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise, permutations
from pathlib import Path

import pytest

import ptmetrics.cli
from ptmetrics.cli import EXIT, main
from ptmetrics.show.annotations import annotations
from ptmetrics.verdict.finding import Finding, Verdict
from tests.recorded_runs import write_run
from tests.verdict.judged_sources import Recorded, epoch, written

LIGHT = ["--help", "report RUN", "compare RUN RUN", "check RUN", "check --explain overfitting"]
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
    assert "Traceback" in shown
    assert "please report it: ZeroDivisionError: a slip" in shown.splitlines()[-1]
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


def test_a_folder_above_the_runs_is_told_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "arm" / "seed0").mkdir(parents=True)
    (tmp_path / "arm" / "seed0" / "journal-rank0.jsonl").touch()
    assert main(["check", str(tmp_path)]) == 2
    assert f"Did you mean {tmp_path / 'arm'}?" in capsys.readouterr().err


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
