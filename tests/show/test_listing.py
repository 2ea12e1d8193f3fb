"""`ptmetrics list` and `ptmetrics watch`: how runs stand, from their records alone."""

import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.errors import RecordError
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import Run, read_run
from ptmetrics.show.listing import CLEAR_LINE, follow
from ptmetrics.show.paint import WIDTH, Paint, colour, plain
from ptmetrics.show.run_state import RunState, duration, state_at, watch
from tests.record.record_makers import score
from tests.recorded_runs import write_run

NOW = 1e9


def epoch_data(number: int, accuracy: float, seconds: float = 10.0) -> dict[str, Any]:
    time = {"train_s": seconds - 3, "val_s": 2.0, "other_s": 1.0}
    time["wall_cumulative_s"] = (number + 1) * seconds
    loss = {**score(1 - accuracy), "higher_is_better": False}
    scores = {"val/loss": loss, "val/accuracy": score(accuracy)}
    return {"epoch": number, "scores": scores, "time": time}


class Growing:
    """A run that somebody writes while it is watched: a step each time that the watcher sleeps.

    The clock is the watcher's own, and so are the times of the files.
    """

    def __init__(self, folder: Path, steps: list[Callable[["Growing"], object] | None]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(folder)
        self.steps = iter(steps)
        self.now = NOW
        self.slept: list[float] = []
        self.touch()

    def add(self, kind: str, data: dict[str, Any]) -> None:
        self.journal.append(kind, data)
        self.touch()

    def touch(self) -> None:
        os.utime(self.folder / "journal-rank0.jsonl", (self.now, self.now))

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        step = next(self.steps, "over")
        if step == "over":
            raise KeyboardInterrupt
        if step is not None:
            step(self)

    def views(self) -> Iterator[tuple[Run | None, RunState]]:
        return watch(self.folder, now=lambda: self.now, sleep=self.sleep)


def header(run: Growing) -> None:
    run.add("header", {"config": {}})


def planned(count: int) -> Callable[[Growing], object]:
    return lambda run: run.add("note", {"code": "planned", "message": "x", "epochs": count})


def epoch(number: int, accuracy: float) -> Callable[[Growing], object]:
    return lambda run: run.add("epoch", epoch_data(number, accuracy))


def waits(seconds: float) -> Callable[[Growing], object]:
    return lambda run: setattr(run, "now", run.now + seconds)


def ends(run: Growing, reason: str = "completed") -> None:
    run.add("end", {"reason": reason, "epochs": 2, "stopping": None})


RUN = [header, epoch(0, 0.5), None, epoch(1, 0.75), ends]


# The state of a run


def test_a_run_is_followed_from_its_empty_journal_to_its_end(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", RUN)
    states = [state for _, state in run.views()]
    assert [state.status for state in states] == ["not begun", *["running"] * 4, "completed"]
    assert [state.epochs for state in states] == [0, 0, 1, 1, 2, 2]
    assert run.slept == [1.0] * 5
    last = states[-1]
    assert (last.score, last.best.value, last.best_epoch) == ("val/accuracy", 0.75, 1)
    assert (last.time_s, last.epoch_s) == (20.0, 10.0)


def test_the_record_is_read_again_only_when_it_has_grown(tmp_path: Path) -> None:
    views = list(Growing(tmp_path / "run", RUN).views())
    assert views[2][0] is views[3][0]
    assert views[3][0] is not views[4][0]


def test_a_record_that_is_long_to_read_is_looked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Growing(tmp_path / "run", [header, None])
    read = read_run

    def slowly(path: Path) -> Any:
        run.now += 0.7
        return read(path)

    monkeypatch.setattr("ptmetrics.show.run_state.read_run", slowly)
    with pytest.raises(KeyboardInterrupt):
        list(run.views())
    assert run.slept == [1.0, pytest.approx(7.0), pytest.approx(7.0)]


def test_a_silent_run_is_stalled_until_it_goes_on(tmp_path: Path) -> None:
    steps = [header, epoch(0, 0.5), waits(58), waits(2), epoch(1, 0.6), ends]
    states = [state for _, state in Growing(tmp_path / "run", steps).views()]
    words = ["not begun", "running", "running", "running", "stalled", "running", "completed"]
    assert [state.status for state in states] == words
    assert states[4].silent_s == 62


def test_a_run_of_long_epochs_may_be_silent_for_three_of_them(tmp_path: Path) -> None:
    slow = epoch_data(0, 0.5, seconds=100.0)
    run = Growing(tmp_path / "run", [])
    header(run)
    assert state_at(run.folder, lambda: NOW + 599).status == "running", "no epoch is known"
    assert state_at(run.folder, lambda: NOW + 601).status == "stalled"
    run.add("epoch", slow)
    assert state_at(run.folder, lambda: NOW + 299).status == "running"
    assert state_at(run.folder, lambda: NOW + 301).status == "stalled"


def test_what_is_left_comes_from_the_plan_and_the_last_epochs(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", [])

    def to_go(seconds: float = 0.0) -> str:
        return standing(run.folder, NOW + seconds).partition("about ")[2]

    run.add("header", {"config": {"epochs": 3}})
    epoch(0, 0.5)(run)
    assert to_go() == "0:00:20 to go", "as the user's configuration has it"
    planned(5)(run)
    epoch(1, 0.5)(run)
    assert to_go(4) == "0:00:26 to go"
    assert to_go(59) == "0:00:00 to go"
    planned(2)(run)
    assert to_go() == "0:00:00 to go", "the last plan counts"
    ends(run)
    assert to_go() == ""


def test_a_loop_over_epochs_tells_its_plan(tmp_path: Path) -> None:
    monitor = pm.Monitor(pm.BinaryMetrics(), tmp_path / "run", progress=False)
    for _ in monitor.epochs(2):
        monitor.update(torch.tensor([0.5, -1.0]), torch.tensor([1, 0]), split="val")
    assert state_at(tmp_path / "run").planned == 2
    assert state_at(tmp_path / "run").status == "completed"


def test_the_best_is_by_the_score_that_selection_follows(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", [])
    header(run)
    for number, accuracy in enumerate((0.5, 0.9, 0.7)):
        epoch(number, accuracy)(run)
    assert state_at(run.folder, lambda: NOW).score == "val/accuracy"
    told = {"path": "x", "epoch": 1, "why": "best", "score": "val/loss"}
    run.add("checkpoint", told)
    state = state_at(run.folder, lambda: NOW)
    assert (state.score, state.best_epoch) == ("val/loss", 1)
    assert state.best.value == pytest.approx(0.1)


def stopped_run(folder: Path, min_delta: float) -> pm.Monitor:
    """Epochs 2 to 4 are a little better each; the weights of what counted as best are put back."""
    stopping = pm.EarlyStopping("val/accuracy", 2, min_delta, restore_best=True)
    best = pm.Checkpoint("val/accuracy", last=False)
    monitor = pm.Monitor(
        pm.BinaryMetrics(inputs="labels"), folder, [stopping, best], progress=False
    )
    target = torch.arange(400) % 2
    model = torch.nn.Linear(2, 2)
    with monitor.attach(model):
        for wrong in (200, 100, 98, 96):
            preds = torch.where(torch.arange(400) < wrong, 1 - target, target)
            monitor.update(preds, target, split="val")
            monitor.end_epoch()
    monitor.close()
    return monitor


def test_the_best_epoch_is_the_one_that_the_verdict_judges(tmp_path: Path) -> None:
    stopped_run(tmp_path / "run", min_delta=0.02)
    state = state_at(tmp_path / "run")
    assert (state.best_epoch, state.best.value) == (1, 0.75)
    notes = pm.judge(tmp_path / "run").notes
    assert notes[0] == "Judged epoch 2 of 4, the best, whose weights the model has at the end."
    assert (
        "val/accuracy is better in epoch 4, 0.7600 against 0.7500, which is less than min_delta=0.02."
    ) in notes
    stopped_run(tmp_path / "other", min_delta=0.0)
    assert state_at(tmp_path / "other").best_epoch == 3
    assert not any("is better in epoch" in note for note in pm.judge(tmp_path / "other").notes)


def test_a_script_may_hold_another_epoch_for_its_best(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", [])
    header(run)
    for number, accuracy in enumerate((0.6, 0.9, 0.8)):
        run.add("epoch", epoch_data(number, accuracy))
    run.add("checkpoint", {"path": "x", "epoch": 2, "why": "best", "by": "script"})
    ends(run)
    assert state_at(tmp_path / "run").best_epoch == 2
    told = "val/accuracy is better in epoch 2, 0.9000 against 0.8000."
    assert told in pm.judge(tmp_path / "run").notes


def test_a_loss_is_the_best_score_where_there_is_no_other(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", [])
    header(run)
    for number, loss in enumerate((0.5, 0.2, 0.4)):
        falls = {**score(loss), "higher_is_better": False}
        run.add("epoch", {"epoch": number, "scores": {"val/loss": falls}})
    state = state_at(run.folder, lambda: NOW)
    assert (state.score, state.best.value, state.best_epoch) == ("val/loss", 0.2, 1)
    assert math.isnan(state.epoch_s)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0:00:00"),
        (59.6, "0:01:00"),
        (86399, "23:59:59"),
        (86400 * 99, "99 days, 0:00:00"),
        (math.nan, "–"),
        (math.inf, "–"),
        (-1, "–"),
    ],
)
def test_a_duration_is_hours_minutes_and_seconds(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# watch


def written(
    views: Iterable[tuple[Run | None, RunState]], *, live: bool = False, paint: Paint = plain
) -> list[str]:
    """What is written, one text a view, and behind them the end."""
    texts: list[str] = []
    follow(views, texts.append, paint, live=live)
    return texts


def standing(folder: Path, now: float) -> str:
    """The line that says how a run stands."""
    (*_, end) = written([next(watch(folder, now=lambda: now))])
    return end.splitlines()[0]


def test_each_epoch_is_a_line_as_it_comes_and_what_became_of_the_run_the_last(
    tmp_path: Path,
) -> None:
    texts = written(Growing(tmp_path / "run", RUN).views())
    assert [len(text.splitlines()) for text in texts[:-1]] == [0, 0, 2, 0, 1, 0]
    head, first = texts[2].splitlines()
    assert head.split()[:3] == ["epoch", "val/loss", "val/accuracy"]
    assert first.split()[0] == "1"
    assert texts[4].split()[0] == "2"
    assert texts[4].count("*") == 2, "it is the best so far"
    assert texts[-1].splitlines()[:3] == [
        "completed, 2 epochs, 10.0 s each, 0:00:20 in all",
        "best val/accuracy: 0.7500 [0.6500, 0.8500] in epoch 2",
        "Verdict: UNDETERMINED  (profile balanced)",
    ]
    assert "All of it: ptmetrics report" in texts[-1]


def test_faults_are_shown_with_their_number(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", [])
    header(run)
    fault = {"where": "x", "message": "y", "count": 12, "epoch": 0, "step": None}
    run.add("fault", fault)
    assert written([next(run.views())])[-1].endswith("faults contained: 12\n")


def test_epochs_that_are_written_again_are_shown_again(tmp_path: Path) -> None:
    steps = [header, epoch(0, 0.5), epoch(1, 0.6), epoch(0, 0.7), epoch(1, 0.8), ends]
    texts = written(Growing(tmp_path / "run", steps).views())
    assert [text.splitlines()[-1].split()[0] for text in texts[2:6]] == ["1", "2", "1", "2"]


def test_another_run_in_the_folder_begins_anew(tmp_path: Path) -> None:
    def again(run: Growing) -> None:
        run.journal.close()
        run.journal.path.unlink()
        run.journal = Journal(run.folder)
        header(run)
        epoch(0, 0.4)(run)

    steps = [header, epoch(0, 0.5), epoch(1, 0.6), again, ends]
    texts = written(Growing(tmp_path / "run", steps).views())
    head, first = texts[4].splitlines()
    assert head.startswith("epoch ")
    assert first.startswith("    1  ")
    assert first.count("*") == 2, "what the other run had is forgotten"


def test_a_run_that_goes_away_is_an_error_that_says_so(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", [header, lambda run: run.journal.path.unlink()])
    with pytest.raises(RecordError, match="expected a folder with a file journal-rank0"):
        list(run.views())


def test_on_a_terminal_a_line_below_says_how_the_run_stands(tmp_path: Path) -> None:
    steps = [header, planned(2), epoch(0, 0.5), waits(61), epoch(1, 0.75), ends]
    texts = written(Growing(tmp_path / "run", steps).views(), live=True, paint=colour)
    assert all(text.startswith(CLEAR_LINE) for text in texts[:-1])
    lines = [text.removeprefix(CLEAR_LINE).splitlines() for text in texts[:-1]]
    assert [line[-1] for line in lines[:-1]] == [
        "not begun, 0 epochs",
        "running, 0 epochs",
        "running, 0 of 2 epochs",
        "running, 1 of 2 epochs, 10.0 s each, 0:00:10 in all, about 0:00:10 to go",
        "stalled for 0:01:02, 1 of 2 epochs, 10.0 s each, 0:00:10 in all",
        "running, 2 of 2 epochs, 10.0 s each, 0:00:20 in all, about 0:00:00 to go",
        "completed, 2 of 2 epochs, 10.0 s each, 0:00:20 in all",
    ]
    assert texts[-2] == CLEAR_LINE
    assert "Verdict: \x1b[33mUNDETERMINED" in texts[-1]


def test_an_interrupted_watch_takes_its_line_away(tmp_path: Path) -> None:
    texts: list[str] = []
    run = Growing(tmp_path / "run", [header])
    with pytest.raises(KeyboardInterrupt):
        follow(run.views(), texts.append, plain, live=True)
    assert texts[-1] == CLEAR_LINE


@pytest.mark.parametrize("live", [True, False])
def test_what_a_run_died_of_can_neither_break_the_line_nor_be_obeyed(
    tmp_path: Path, live: bool
) -> None:
    run = Growing(tmp_path / "run", [])
    header(run)
    ends(run, "error: \x1b[2J\u202e\n" + "x" * 10_000)
    texts = written(run.views(), live=live)
    assert not any("\x1b[2J" in text or "\u202e" in text for text in texts)
    if live:
        assert "\n" not in texts[0]
        assert len(texts[0].removeprefix(CLEAR_LINE)) <= 79


# The commands


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_watch_prints_once_or_to_the_end_and_live_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_run(tmp_path / "run"))
    assert main(["watch", path, "--once"]) == 0
    once = capsys.readouterr().out
    assert main(["watch", path]) == 0
    assert capsys.readouterr().out == once
    assert len(once.splitlines()) >= 9
    assert "Verdict: READY" in once
    assert "\x1b" not in once
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["watch", path]) == 0
    assert terminal.getvalue().count(CLEAR_LINE) == 2


def test_a_watch_that_is_interrupted_exits_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Growing(tmp_path / "run", [header])
    monkeypatch.setattr("ptmetrics.show.run_state.watch", lambda path: run.views())
    assert main(["watch", str(run.folder)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_watch_needs_one_run_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, [0.5])
    assert main(["watch", str(tmp_path)]) == 2
    assert "expected one run, got a folder with 2 runs" in capsys.readouterr().err
    assert main(["watch", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "a" / "journal-rank0.jsonl").write_text("nonsense\n")
    assert main(["watch", str(tmp_path / "a")]) == 5
    assert "expected at least one whole record" in capsys.readouterr().err


def test_json_of_both_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run")
    assert main(["watch", str(tmp_path / "run"), "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert main(["list", str(tmp_path), "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    del one["silent_s"], listed["silent_s"]
    assert one == listed
    assert (one["status"], one["score"], one["best"]["value"]) == (
        "completed",
        "val/accuracy",
        0.96,
    )
    assert set(one) == {*RunState("x", "running").to_dict()} - {"silent_s"}


def test_list_shows_every_run_below_a_folder_by_its_own_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("arm/seed0", "arm/seed1", "other"):
        write_run(tmp_path / name)
    write_run(tmp_path / "other", [0.7, 0.6])  # the first one is set aside
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "journal-rank0.jsonl").write_text("nonsense\n")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "journal-rank0.jsonl").write_text("")
    assert main(["list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == [
        "arm/seed0",
        "arm/seed1",
        "begun",
        "broken",
        "other",
    ]
    best = "val/accuracy  0.9600 [0.9460, 0.9705]"
    assert lines[1].split("  ")[:2] == ["arm/seed0", "completed"]
    assert best in lines[1]
    assert lines[1].split()[-2:] == ["4", "0:00:28"]
    assert "not begun" in lines[3]
    assert "unreadable" in lines[4]
    assert "0.7000 [" in lines[5]
    assert lines[6].startswith("broken cannot be read: expected at least one whole record, got")
    monkeypatch.chdir(tmp_path / "other")
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("other  completed")


def test_a_long_or_hostile_name_neither_breaks_the_table_nor_is_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / ("x" * 100) / ("y" * 100) / "seed7")
    evil = tmp_path / "a\x1b[2J\u202e<b>\n=HYPERLINK(1)"
    evil.mkdir()
    (first / "journal-rank0.jsonl").rename(evil / "journal-rank0.jsonl")
    write_run(first)
    monitor = pm.Monitor(pm.BinaryMetrics(), tmp_path / "z")
    monitor.update(torch.tensor([0.5]), torch.tensor([1]), split="val")
    monitor.close("error: ZeroDivisionError: division by zero")
    assert main(["list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() and len(line) <= WIDTH for line in lines)
    assert len(lines) == 4
    assert lines[2].split()[0].startswith("…")
    assert lines[2].split()[0].endswith("y/seed7")
    assert "error: ZeroDivi…" in lines[3]


def test_a_folder_without_a_run_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", str(tmp_path)]) == 2
    assert "expected a folder with a journal" in capsys.readouterr().err


def test_event_files_beside_a_journal_hide_no_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, [0.5])
        (tmp_path / name / "events.out.tfevents.1.host").write_bytes(b"")
    from ptmetrics.record.run_folder import find_runs

    assert find_runs(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def test_the_states_of_a_run_are_those_of_its_record_whoever_asks(tmp_path: Path) -> None:
    run = Growing(tmp_path / "run", RUN)
    watched = [state for _, state in islice(run.views(), 5)]
    assert state_at(run.folder, lambda: run.now).to_dict() == watched[-1].to_dict()
