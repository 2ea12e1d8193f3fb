"""The command line: exit statuses, one JSON object, clear errors, and no torch where none is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptmetrics.cli import main
from ptmetrics.show.annotations import annotations
from ptmetrics.verdict.finding import Finding, Verdict
from tests.runs import write_run

LIGHT = [["--help"], ["report", "RUN"], ["compare", "RUN", "RUN"], ["check", "RUN"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "good")


@pytest.mark.parametrize("arguments", LIGHT, ids=lambda a: a[0])
def test_commands_that_read_records_do_not_import_torch(run: Path, arguments: list[str]) -> None:
    arguments = [str(run) if a == "RUN" else a for a in arguments]
    code = (
        "import sys, ptmetrics.cli\n"
        f"try: ptmetrics.cli.main({arguments!r})\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_check_exits_0_for_a_ready_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(run)]) == 0
    assert "Verdict: READY" in capsys.readouterr().out


def test_check_exits_1_for_a_run_that_is_not_ready(tmp_path: Path) -> None:
    assert main(["check", str(write_run(tmp_path / "bad", [0.5, 0.55, 0.6, 0.6]))]) == 1


def test_check_exits_2_for_a_run_too_small_to_tell(tmp_path: Path) -> None:
    assert (
        main(["check", str(write_run(tmp_path / "small", [0.8, 0.9, 0.9, 0.9], samples=20))]) == 2
    )


def test_check_of_several_runs_exits_with_the_worst(run: Path, tmp_path: Path) -> None:
    assert main(["check", str(run), str(write_run(tmp_path / "bad", [0.5] * 4))]) == 1


def test_check_exits_2_for_what_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    shown = capsys.readouterr().err
    assert "nowhere" in shown
    assert "expected a run folder, got nothing there. Check the path" in shown


def test_a_folder_above_the_runs_is_told_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "arm" / "seed0")
    assert main(["check", str(tmp_path)]) == 2
    assert f"Did you mean {tmp_path / 'arm'}?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "report", "compare"])
def test_json_is_one_object_and_nothing_else(
    run: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    main([command, str(run), str(run), "--json"])
    shown = capsys.readouterr()
    assert isinstance(json.loads(shown.out), dict)
    assert shown.err == ""


def test_check_in_json_has_status_and_findings(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", str(run), "--json"])
    verdict = json.loads(capsys.readouterr().out)["verdict"]
    assert verdict["status"] == "ready"
    assert isinstance(verdict["findings"], list)


def test_compare_in_json_names_the_time_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = write_run(tmp_path / "fast", [0.95] * 8)
    slow = write_run(tmp_path / "slow", [0.5, 0.5, 0.5, 0.5, 0.95, 0.95, 0.95, 0.95])
    assert main(["compare", str(fast), str(slow), "--target", "val/accuracy>=0.9", "--json"]) == 0
    ratio = json.loads(capsys.readouterr().out)["time_ratio"]
    assert set(ratio) >= {"value", "low", "high", "censored"}
    # The clock gives each epoch the same time: reached after the first epoch against after the fifth.
    assert ratio["value"] == pytest.approx(1 / 5, rel=0.1)
    assert ratio["censored"] is None


def test_an_arm_with_several_seeds_is_named_by_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        write_run(tmp_path / "pretrained" / f"seed{seed}", [0.95] * 6)
        write_run(tmp_path / "scratch" / f"seed{seed}", [0.5, 0.6, 0.7, 0.95, 0.95, 0.95])
    assert main(["compare", str(tmp_path / "pretrained"), str(tmp_path / "scratch")]) == 0
    assert "pretrained / scratch" in capsys.readouterr().out


def test_report_shows_scores_matrix_and_verdict(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run)]) == 0
    shown = capsys.readouterr().out
    for part in ("balanced_accuracy", "actual", "predicted", "cat", "Verdict:"):
        assert part in shown


def test_an_unknown_profile_names_the_known_ones(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(run), "--profile", "strict"]) == 2
    assert "recall-first" in capsys.readouterr().err


def test_check_in_githubs_format_is_one_annotation_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_run(tmp_path / "bad", [0.5, 0.55, 0.6, 0.6])
    assert main(["check", str(bad), "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(
        line.startswith(("::error title=", "::warning title=", "::notice title=")) for line in lines
    )
    assert any(line.startswith("::error title=low-accuracy (") for line in lines)
    assert lines[-1].endswith("::Verdict: not ready")


def test_an_open_verdict_in_githubs_format_names_what_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,val_accuracy\n0,0.5,0.90\n1,0.4,0.95\n")
    assert main(["check", str(log), "--format", "github"]) == 2
    assert "::Verdict: undetermined (open: accuracy, precision/macro, " in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_gets_no_traceback(run: Path) -> None:
    command = f"{sys.executable} -m ptmetrics.cli check {run} {run} | true; exit ${{PIPESTATUS[0]}}"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", command], env=plain, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode in {0, 141}


def test_no_text_of_a_record_starts_a_command_of_its_own() -> None:
    finding = Finding("weak-class", "warning", "class 'a\n::error::b', 100 %", {}, "Look.")
    verdict = Verdict("ready", (finding,), (), "balanced")
    first, last = annotations("runs/a:b,c", verdict)
    assert first == (
        "::warning title=weak-class (runs/a%3Ab%2Cc)::class 'a ::error::b', 100 %25 Look. See "
        "docs/rules.md#weak-class"
    )
    assert last == "::notice title=ptmetrics (runs/a%3Ab%2Cc)::Verdict: ready"
