"""A run is never lost, doubled or overwritten: folders that hold one, resuming, ranks, notebooks."""

import gc
import logging
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import CLASSES, quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.errors import ConfigError, PtmetricsError, RecordError
from ptmetrics.monitor.best_score import BestScore
from ptmetrics.monitor.run import rank_and_world_size
from ptmetrics.record.reader import read_run
from ptmetrics.verdict.gathering import judged_row

Y = torch.arange(60) % CLASSES


def batch(wrong: int = 0) -> tuple[Tensor, Tensor]:
    preds = nn.functional.one_hot(Y, CLASSES).float() * 4
    preds[:wrong] = preds[:wrong].roll(1, 1)
    return preds, Y


def validate(monitor: pm.Monitor, *wrong: int) -> None:
    """An epoch for each number of wrong rows; the model's weight says which it was."""
    for number in wrong:
        if isinstance(monitor.model, nn.Linear):
            monitor.model.weight.data.fill_(number)
        monitor.update(*batch(number), split="val")
        monitor.end_epoch()
        if monitor.should_stop:
            break


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def weight_in(path: Path) -> float:
    return float(torch.load(path, weights_only=True)["model"]["weight"][0, 0])


def accuracies(folder: Path) -> list[float]:
    return [round(value, 4) for value in pm.read_history(folder)["val/accuracy"]]


# A folder that holds a run


@pytest.mark.parametrize(
    ("progress", "level"), [(None, "WARNING"), ("plain", "WARNING"), (False, "INFO")]
)
def test_by_default_the_earlier_run_is_moved_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, progress: Any, level: str
) -> None:
    caplog.set_level(logging.INFO)
    run = tmp_path / "mine"
    with quiet(pm.Checkpoint("val/accuracy"), run=run) as first:
        first.attach(nn.Linear(1, 1))
        validate(first, 6, 3)
    assert not caplog.records  # the first time nothing is said
    with quiet(pm.Checkpoint("val/accuracy"), run=run, progress=progress) as second:
        second.attach(nn.Linear(1, 1))
        validate(second, 30)
    assert [record.levelname for record in caplog.records] == [level]
    assert str(run / "earlier" / "1") in caplog.text
    assert accuracies(run) == [0.5]
    assert accuracies(run / "earlier" / "1") == [0.9, 0.95]
    assert weight_in(run / "earlier" / "1" / "checkpoints" / "best.pt") == 3
    assert weight_in(run / "checkpoints" / "best.pt") == 30


@pytest.mark.parametrize("old", [False, True])
def test_resume_goes_on_with_the_record(tmp_path: Path, old: bool) -> None:
    with quiet(run=tmp_path / "run") as first:
        validate(first, 6)
    options: dict[str, Any] = {"resume": True} if old else {"if_exists": "resume"}
    with quiet(run=tmp_path / "run", **options) as second:
        assert second.epoch == 1
        validate(second, 3)
    assert accuracies(tmp_path / "run") == [0.9, 0.95]
    assert not (tmp_path / "run" / "earlier").exists()


def test_error_and_overwrite_do_what_they_say_and_other_words_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with quiet(run=run) as first:
        validate(first, 6, 3)
    with pytest.raises(RecordError, match=r"a folder without a run.*if_exists"):
        quiet(run=run, if_exists="error")
    for word in ("replace", "", None, "Keep"):
        with pytest.raises(ConfigError, match='"keep", "error", "overwrite" or "resume"'):
            quiet(run=run, if_exists=word)
    assert accuracies(run) == [0.9, 0.95]
    with quiet(run=run, if_exists="overwrite") as second:
        validate(second, 0)
    assert accuracies(run) == [1.0]
    assert not (run / "earlier").exists()
    with quiet(run=tmp_path / "new", if_exists="error") as third:
        validate(third, 0)


def test_the_open_run_of_a_notebook_is_closed_before_a_new_one_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, model = tmp_path / "run", nn.Linear(1, 1)
    first = quiet(run=run)
    first.attach(model)
    validate(first, 6)
    with pytest.raises(RecordError):
        quiet(run=run, if_exists="error")
    validate(first, 3)  # refused: the first goes on
    second = quiet(run=run, progress=None)
    assert not model._forward_hooks
    assert [str(run) in line for line in lines(caplog)] == [True, True]
    second.attach(model)
    validate(second, 0)
    second.close()
    assert accuracies(run) == [1.0]
    earlier = read_run(run / "earlier" / "1")
    assert [len(earlier.epochs), earlier.end and earlier.end["reason"]] == [2, "completed"]


def test_a_run_of_another_folder_stays_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = quiet(run=tmp_path / "a"), quiet(run=tmp_path / "b")
    validate(first, 6)
    validate(second, 3)
    validate(first, 0)
    first.close()
    second.close()
    assert [accuracies(tmp_path / name) for name in "ab"] == [[0.9, 1.0], [0.95]]
    assert not caplog.records


# Resuming without the state


def killed_behind_its_last_epoch(folder: Path) -> Path:
    """A run whose process went before it wrote the last line."""
    with quiet(run=folder / "whole") as monitor:
        validate(monitor, 30, 20)
        shutil.copytree(
            folder / "whole", folder / "killed", ignore=shutil.ignore_patterns("*lock*")
        )
    assert read_run(folder / "killed").end_reason is None
    return folder / "killed"


@pytest.mark.fault(41)
@pytest.mark.parametrize("left_by", ["with", "close"])
def test_a_run_that_lacks_its_last_line_alone_gets_it_when_it_is_started_again(
    tmp_path: Path, left_by: str
) -> None:
    folder = killed_behind_its_last_epoch(tmp_path)
    monitor = quiet(run=folder, if_exists="resume")
    if left_by == "with":
        with monitor:
            assert monitor.epoch == 2  # of 2: the loop has nothing to do
    else:
        monitor.close()
    run = read_run(folder)
    assert (run.end_reason, len(run.epochs), run.problems) == ("completed", 2, [])


def test_a_run_that_is_only_looked_at_or_fails_is_not_completed_by_that(tmp_path: Path) -> None:
    folder = killed_behind_its_last_epoch(tmp_path)
    monitor = quiet(run=folder, if_exists="resume")
    del monitor  # nobody closed it
    assert read_run(folder).end_reason is None
    with pytest.raises(KeyError), quiet(run=folder, if_exists="resume"):
        raise KeyError("of a setup that failed")
    assert read_run(folder).end_reason is None


def stopping(patience: int = 2) -> pm.EarlyStopping:
    return pm.EarlyStopping("val/accuracy", patience=patience)


@pytest.mark.fault(41)
@pytest.mark.parametrize("cut", range(1, 7))
def test_early_stopping_and_the_best_file_go_on_from_the_record(tmp_path: Path, cut: int) -> None:
    """Wherever the run is cut, it stops where the uninterrupted one does."""
    wrong = (9, 6, 7, 3, 3, 5, 0)
    ran = 0
    for name, parts in (("whole", (wrong,)), ("cut", (wrong[:cut], wrong[cut:]))):
        for part in parts:
            stop, checkpoint = stopping(), pm.Checkpoint("val/accuracy")
            with quiet(stop, checkpoint, run=tmp_path / name, if_exists="resume") as monitor:
                monitor.attach(nn.Linear(1, 1))
                if not monitor.should_stop:
                    validate(monitor, *part)
            ran = monitor.epoch
        assert (ran, stop.best_epoch, stop.best_value) == (6, 3, pytest.approx(0.95))
        assert weight_in(tmp_path / name / "checkpoints" / "best.pt") == 3
        assert (
            monitor.stopping_reason
            == "no better val/accuracy than 0.9500 of epoch 4 for 2 validations"
        )
        assert len(accuracies(tmp_path / name)) == 6


def test_more_patience_goes_on_and_the_same_stays_stopped(tmp_path: Path) -> None:
    with quiet(stopping(2), run=tmp_path / "run") as first:
        validate(first, 3, 4, 4)
        state = first.state_dict()
    assert first.should_stop
    for patience, load in ((2, False), (2, True), (3, False), (3, True)):
        run = tmp_path / f"{patience}-{load}"
        shutil.copytree(tmp_path / "run", run)
        with quiet(stopping(patience), run=run, if_exists="resume", on_fault="contain") as again:
            if load:
                again.load_state_dict(state)
            assert again.should_stop == (patience == 2)
            assert list(again.epochs(4)) == ([] if patience == 2 else [3])
    with quiet(stopping(9)) as monitor:  # a stop that the user asked for stays
        monitor.stop("enough")
        stored = monitor.state_dict()
    with quiet(stopping(9)) as monitor:
        monitor.load_state_dict(stored)
        assert monitor.stopping_reason == "enough"


def test_a_best_file_that_is_gone_is_written_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with quiet(pm.Checkpoint("val/accuracy"), run=run) as first:
        first.attach(nn.Linear(1, 1))
        validate(first, 3)
    (run / "checkpoints" / "best.pt").unlink()
    with quiet(pm.Checkpoint("val/accuracy"), run=run, if_exists="resume") as second:
        second.attach(nn.Linear(1, 1))
        validate(second, 30)
    assert weight_in(run / "checkpoints" / "best.pt") == 30
    assert not (run / "checkpoints" / "earlier").exists()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (pm.MulticlassMetrics(5), pm.MulticlassMetrics(7), ("num_classes 5", "7")),
        (pm.MulticlassMetrics(5), pm.RegressionMetrics(), ("multiclass", "regression")),
        (
            pm.MulticlassMetrics(2, class_names=["cat", "dog"]),
            pm.MulticlassMetrics(2, class_names=["dog", "cat"]),
            ("'cat'", "'dog'"),
        ),
        (
            pm.MulticlassMetrics(5),
            [pm.MulticlassMetrics(5), pm.MulticlassMetrics(5, topk=(2,))],
            ("1 in all", "2 in all"),
        ),
    ],
    ids=["classes", "task", "names", "number"],
)
def test_other_metrics_are_refused_with_both_values_and_the_folder_stays_free(
    tmp_path: Path, before: Any, after: Any, told: tuple[str, str]
) -> None:
    run = tmp_path / "run"
    with quiet(metrics=before, run=run) as first:
        first.attach(nn.Linear(1, 1))
    if isinstance(after, list):
        after = {"": after[0], "second": after[1]}
    content = (run / "journal-rank0.jsonl").read_bytes()
    with pytest.raises(RecordError) as caught:
        quiet(metrics=after, run=run, if_exists="resume")
    assert caught.value.name == "metrics"
    assert told[0] in caught.value.expected
    assert told[1] in caught.value.got
    assert (run / "journal-rank0.jsonl").read_bytes() == content
    with quiet(metrics=before, run=run, if_exists="resume") as again:  # the same ones
        again.attach(nn.Linear(1, 1))


def test_totals_go_on_from_the_record(tmp_path: Path) -> None:
    for _ in range(2):
        with quiet(run=tmp_path / "run", if_exists="resume") as monitor:
            monitor.update(*batch(), split="train")
            monitor.end_epoch()
    assert monitor.history["counts/train_samples_cumulative"] == [60, 120]
    seconds = monitor.history["time/wall_cumulative_s"]
    assert 0 < seconds[0] < seconds[1]


# A loop that counts its own epochs


def test_the_loops_own_number_supersedes_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with quiet(stopping(3), run=run) as first:
        for epoch, wrong in enumerate((9, 6, 7, 8)):
            first.update(*batch(wrong), split="val")
            assert first.end_epoch(epoch=epoch).epoch == epoch
    assert not caplog.records
    stop = stopping(3)
    with quiet(stop, run=run, if_exists="resume") as second:
        for epoch, wrong in ((2, 8), (3, 6), (6, 3)):  # its own checkpoint was of epoch 1
            second.update(*batch(wrong), split="val")
            assert second.end_epoch(epoch).epoch == epoch
        assert second.epoch == 7
        assert (stop.best_epoch, stop.best_value) == (6, pytest.approx(0.95))
    assert lines(caplog) == [
        "Epochs 3 to 4 of the record are superseded: the run goes on with epoch 3."
    ]
    assert pm.read_history(run).epoch == [0, 1, 2, 3, 6]
    assert [epoch["epoch"] for epoch in read_run(run).superseded] == [2, 3]
    assert "superseded" in pm.judge(run).notes[1]


@pytest.mark.parametrize("epoch", [-1, 1.0, "3", True, 10**30, math.nan])
def test_what_is_no_number_of_an_epoch_is_a_fault_and_the_epoch_is_kept(epoch: Any) -> None:
    with quiet(on_fault="contain") as monitor:
        validate(monitor, 3)
        monitor.update(*batch(6), split="val")
        assert monitor.end_epoch(epoch).epoch == 1
        assert [fault.where for fault in monitor.faults.all()] == ["end_epoch"]
        assert monitor.history.epoch == [0, 1]


# The weights that count


def judged(folder: Path) -> tuple[int, str]:
    run = read_run(folder)
    row, why = judged_row(run)
    return int(run.epochs[row]["epoch"]), why


def test_the_judged_epoch_is_of_the_weights_else_the_scripts_best_else_a_callbacks(
    tmp_path: Path,
) -> None:
    wrong = (9, 6, 3, 4, 5)
    restore = pm.EarlyStopping("val/accuracy", patience=2, restore_best=True)
    made: dict[str, list[pm.Callback]] = {"restored": [restore], "told": [], "plain": []}
    for name, callbacks in made.items():
        checkpoint = pm.Checkpoint("val/ece", last=False)
        with quiet(checkpoint, *callbacks, run=tmp_path / name) as monitor:
            monitor.attach(nn.Linear(1, 1))
            for epoch, number in enumerate(wrong):
                monitor.update(*batch(number), split="val")
                monitor.end_epoch()
                monitor.saved(tmp_path / "mine.pt", best=name != "plain" and epoch <= 1)
    best = [
        told["epoch"] for told in read_run(tmp_path / "plain").checkpoints if told["why"] == "best"
    ]
    assert judged(tmp_path / "restored") == (2, "the best, whose weights the model has at the end")
    assert judged(tmp_path / "told") == (1, "the best by the script itself")
    assert judged(tmp_path / "plain") == (best[-1], "the best by its own checkpoint")
    saved = [told for told in read_run(tmp_path / "told").checkpoints if told.get("by") == "script"]
    assert saved[0] == {
        "path": str(tmp_path / "mine.pt"),
        "why": "best",
        "by": "script",
        "epoch": 0,
    }
    assert [told["why"] for told in saved] == ["best", "best", "saved", "saved", "saved"]


def test_saved_in_the_middle_of_an_epoch_is_of_that_epoch(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        monitor.saved("before.pt")
        validate(monitor, 3)
        monitor.update(*batch(6), split="val")
        monitor.saved(tmp_path / "mid.pt", best=True)
        monitor.end_epoch()
        validate(monitor, 9)
    told = read_run(tmp_path / "run").checkpoints
    assert [checkpoint.get("epoch") for checkpoint in told] == [None, 1]
    assert judged(tmp_path / "run")[0] == 1


@pytest.mark.parametrize("way", ["epochs", "break", "attach", "monitor", "stop"])
@pytest.mark.slow
def test_the_best_weights_are_back_where_the_loop_ends(tmp_path: Path, way: str) -> None:
    model = nn.Linear(1, 1)
    patience = 2 if way == "stop" else 9
    best = pm.EarlyStopping("val/accuracy", patience=patience, restore_best=True)
    monitor = quiet(best, run=tmp_path / "run")

    def loop() -> Iterator[int]:
        for epoch in monitor.epochs(5):
            validate(monitor, (9, 3, 6, 6, 9)[epoch])
            yield epoch

    if way == "attach":
        with monitor.attach(model):
            validate(monitor, 9, 3, 6, 6, 9)
        assert model.weight.item() == 3
        monitor.close()
    elif way == "monitor":
        with monitor:
            monitor.attach(model)
            validate(monitor, 9, 3, 6, 6, 9)
            assert model.weight.item() == 9
    else:
        monitor.attach(model)
        for epoch in loop():
            if way == "break" and epoch == 3:
                break
    gc.collect()
    assert model.weight.item() == 3
    end = read_run(tmp_path / "run").end
    assert end is not None
    assert end.get("restored") == 1
    model.weight.data.fill_(7)  # what the user does next stays
    monitor.close()
    assert model.weight.item() == 7


def test_an_open_run_is_judged_by_the_weights_that_the_model_has_now(tmp_path: Path) -> None:
    best = pm.EarlyStopping("val/accuracy", patience=2, restore_best=True)
    with quiet(best, run=tmp_path / "run") as monitor:
        monitor.attach(nn.Linear(1, 1))
        validate(monitor, 3, 6)
        assert judged(tmp_path / "run")[0] == 1
        validate(monitor, 9)
        assert judged(tmp_path / "run")[0] == 0
        validate(monitor, 0)  # the loop goes on all the same
        assert judged(tmp_path / "run")[0] == 3


def test_a_run_that_was_copied_knows_its_checkpoints(tmp_path: Path) -> None:
    with quiet(pm.Checkpoint("val/accuracy"), run=tmp_path / "run") as first:
        first.attach(nn.Linear(1, 1))
        validate(first, 3)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    with quiet(pm.Checkpoint("val/accuracy"), run=tmp_path / "moved", if_exists="resume") as second:
        second.attach(nn.Linear(1, 1))
        validate(second, 9)
    assert weight_in(tmp_path / "moved" / "checkpoints" / "best.pt") == 3


def test_without_restore_best_nothing_is_said_of_weights(tmp_path: Path) -> None:
    with quiet(stopping(), run=tmp_path / "run") as monitor:
        monitor.attach(nn.Linear(1, 1))
        validate(monitor, 3, 6, 9)
    end = read_run(tmp_path / "run").end
    assert end is not None
    assert "restored" not in end


def test_best_weights_from_before_a_resume_are_said_to_be_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in ((3, 6), (9,)):
        best = pm.EarlyStopping("val/accuracy", patience=9, restore_best=True)
        with quiet(best, run=tmp_path / "run", if_exists="resume") as monitor:
            monitor.attach(nn.Linear(1, 1))
            validate(monitor, *wrong)
    assert ["the weights of epoch 1, the best" in line for line in lines(caplog)] == [True]


def test_a_checkpoint_folder_of_another_run_is_set_aside_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, wrong in (("first", (3,)), ("second", (30, 20)), ("third", (9,))):
        with quiet(pm.Checkpoint("val/accuracy", folder=tmp_path / "w"), run=tmp_path / name) as m:
            m.attach(nn.Linear(1, 1))
            validate(m, *wrong)
    assert weight_in(tmp_path / "w" / "earlier" / "1" / "best.pt") == 3
    assert weight_in(tmp_path / "w" / "earlier" / "2" / "last.pt") == 20
    assert weight_in(tmp_path / "w" / "best.pt") == 9
    assert ["checkpoints of another run" in line for line in lines(caplog)] == [True, True]


def test_top_k_keeps_the_best_epochs_under_names_with_their_score(tmp_path: Path) -> None:
    wrong = (9, 3, 30, 6, 0, 3)
    for cut in (6, 3):
        folder = tmp_path / f"run-{cut}"
        for part in (wrong[:cut], wrong[cut:]):
            checkpoint = pm.Checkpoint("val/accuracy", top_k=2, last=False)
            with quiet(checkpoint, run=folder, if_exists="resume") as monitor:
                monitor.attach(nn.Linear(1, 1))
                validate(monitor, *part)
        names = sorted(path.name for path in (folder / "checkpoints").iterdir())
        assert names == [
            "best.pt",
            "epoch2-val-accuracy-0.9500.pt",
            "epoch5-val-accuracy-1.0000.pt",
        ]
        assert [weight_in(folder / "checkpoints" / name) for name in names] == [0, 3, 0]
    for bad in (0, 1.5, "2", True):
        with pytest.raises(ConfigError, match="top_k"):
            pm.Checkpoint(top_k=bad)  # type: ignore[arg-type]


# Directions


class Rows(pm.Metrics):
    """A metric of the user's own whose scores are plain numbers: they declare no direction."""

    def cells(self) -> list[pm.Cell]:
        return [pm.Cell("seen")]

    def count(self, batch: pm.Batch) -> dict[str, Tensor]:
        return {"seen": torch.ones_like(batch.target, dtype=torch.bool)}

    def scores(self, counts: Any) -> dict[str, float]:
        return {"my_index": 0.5, "wer": 0.25}


@pytest.mark.parametrize(
    ("name", "mode", "declared", "rises"),
    [
        ("wer", None, None, False),
        ("cer", None, None, False),
        ("val_ppl", None, None, False),
        ("bleu", None, None, True),
        ("my_index", "max", None, True),
        ("my_index", "min", None, False),
        ("wer", "max", None, True),
        ("anything", None, True, True),
        ("anything", None, False, False),
    ],
)
def test_the_direction_is_told_or_declared_or_the_fields(
    name: str, mode: str | None, declared: bool | None, rises: bool
) -> None:
    best = BestScore(f"val/{name}", mode=mode)
    for epoch, value in enumerate((0.5, 0.9, 0.1)):
        score = pm.Score(value, higher_is_better=declared)
        scores = pm.EpochScores(epoch, {"val": pm.Scores({name: score}, task="t", n=1)}, {})
        if best.improves(scores):
            best.keep(scores)
    assert best.value == (0.9 if rises else 0.1)


@pytest.mark.parametrize("make", [pm.EarlyStopping, pm.Checkpoint])
def test_a_direction_that_nobody_knows_is_asked_for_before_the_first_batch(
    tmp_path: Path, make: Any
) -> None:
    metrics = Rows()
    with pytest.raises(ConfigError) as caught:
        pm.Monitor(metrics, tmp_path / "a", [make("val/my_index")])
    assert caught.value.name == "mode"
    assert "val/my_index" in caught.value.expected
    assert 'mode="max"' in caught.value.cure
    with pm.Monitor(metrics, tmp_path / "b", [make("val/my_index", mode="max")]) as monitor:
        monitor.attach(nn.Linear(1, 1))
    with pm.Monitor(metrics, tmp_path / "d", [make("val/wer")]) as monitor:  # the field's name
        monitor.attach(nn.Linear(1, 1))
        monitor.update(torch.ones(3), torch.ones(3), split="val")
        record = monitor.end_epoch().to_record()["scores"]
    assert record["val/wer"]["higher_is_better"] is False
    assert "higher_is_better" not in record["val/my_index"]
    for wrong in ("up", "Max", 1):
        with pytest.raises(ConfigError, match='expected "max" or "min"'):
            make("val/loss", mode=wrong)
    with pytest.raises(ConfigError, match="which declares its direction"):
        quiet(make("val/loss", mode="max"), run=tmp_path / "c")


# Several ranks


def test_rank_and_world_size_come_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, size, told in (
        ("1", "4", (1, 4)),
        ("0", "1", (0, 1)),
        ("4", "4", (0, 1)),
        ("x", "4", (0, 1)),
        ("1", None, (0, 1)),
        (None, "4", (0, 1)),
    ):
        for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        assert rank_and_world_size() == told


def test_rank_0_records_and_tells_its_share_and_the_others_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with quiet(run=run) as earlier:
        validate(earlier, 30)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monitors = []
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monitor = quiet(pm.Checkpoint("val/accuracy"), run=run)
        monitor.attach(nn.Linear(1, 1))
        monitors.append((rank, monitor))
    for rank, monitor in monitors:
        validate(monitor, 9 + rank, rank)
        assert monitor.path == run
        assert len(monitor.history["val/accuracy"]) == 2
        monitor.close()
    told = read_run(run)
    assert (told.header["rank"], told.header["world_size"]) == (0, 3)
    assert accuracies(run) == [0.85, 1.0]
    assert weight_in(run / "checkpoints" / "best.pt") == 0
    assert [path.name for path in run.glob("journal*")] == ["journal-rank0.jsonl"]
    assert sorted(path.name for path in (run / "earlier").iterdir()) == ["1"]
    assert sum("Rank 0 of 3" in line for line in lines(caplog)) == 1
    assert any("Rank 0 of 3" in note for note in pm.judge(run).notes)


def test_a_rank_with_a_folder_of_its_own_records_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "12")
    for rank, name in ((1, "rank1"), (11, "rank11"), (1, "rank_12")):
        monkeypatch.setenv("RANK", str(rank))
        with quiet(run=tmp_path / name) as monitor:
            validate(monitor, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank1", "rank11"]
    assert read_run(tmp_path / "rank11").header["rank"] == 11


def test_the_other_ranks_begin_at_the_same_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quiet(run=tmp_path / "run") as first:
        validate(first, 3, 6)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with quiet(run=tmp_path / "run", if_exists="resume") as monitor:
        assert monitor.epoch == 2
    with quiet(run=tmp_path / "new", if_exists="resume") as monitor:
        assert monitor.epoch == 0


def test_a_journal_of_another_run_is_not_another_rank(tmp_path: Path) -> None:
    for name in ("mine", "strange"):
        with quiet(run=tmp_path / name) as monitor:
            validate(monitor, 3)
            monitor.record("note", {"code": "mine", "message": name})
    (tmp_path / "strange" / "journal-rank0.jsonl").rename(tmp_path / "mine" / "journal-rank1.jsonl")
    run = read_run(tmp_path / "mine")
    assert [note["message"] for note in run.notes] == [
        "mine",
        "journal-rank1.jsonl is of another run, and was passed over.",
    ]
    assert run.notes[1]["message"] in pm.judge(tmp_path / "mine").notes


# Left open


def test_a_half_epoch_is_written_at_the_end_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        for _ in range(3):
            monitor.update(*batch(3), split="train")
            monitor.update(*batch(6), split="val")
    assert accuracies(tmp_path / "run") == [0.9]
    assert lines(caplog) == [
        "3 of train, 3 of val batches were counted since the last end_epoch() and are written as "
        "epoch 1. Call monitor.end_epoch() at the end of each epoch."
    ]
    assert lines(caplog)[0] in pm.judge(tmp_path / "run").notes
    with quiet(run=tmp_path / "run", if_exists="resume") as again:
        assert again.epoch == 1


def test_an_unfinished_epoch_is_not_judged_and_is_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        validate(monitor, 3)
        monitor.update(*batch(30), split="val")
    assert [epoch.get("unfinished") for epoch in read_run(tmp_path / "run").epochs] == [None, True]
    assert judged(tmp_path / "run")[0] == 0
    caplog.clear()
    with quiet(run=tmp_path / "run", if_exists="resume") as again:
        assert again.epoch == 1
        validate(again, 6)
    assert accuracies(tmp_path / "run") == [0.95, 0.9]
    assert not caplog.records


def test_an_interrupted_epoch_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), quiet(run=tmp_path / "run") as monitor:  # noqa: PT012
        validate(monitor, 3)
        monitor.update(*batch(30), split="val")
        raise KeyboardInterrupt
    assert accuracies(tmp_path / "run") == [0.95]


def ended(folder: Path) -> str:
    end = read_run(folder).end
    assert end is not None
    return end["reason"]


@pytest.mark.parametrize(
    ("interactive", "half", "earlier", "reason"),
    [
        (False, False, True, "completed"),
        (False, False, False, "error: NameError: name 'mdoel' is not defined"),
        (True, False, False, "completed"),  # of some cell behind the loop
        (True, True, False, "error: NameError: name 'mdoel' is not defined"),
        (True, True, True, "not closed"),
    ],
)
@pytest.mark.slow
def test_an_error_is_the_runs_only_if_it_came_while_it_ran(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interactive: bool,
    half: bool,
    earlier: bool,
    reason: str,
) -> None:
    if interactive:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    else:
        monkeypatch.delattr(sys, "ps1", raising=False)
    error = NameError("name 'mdoel' is not defined")
    monkeypatch.setattr(sys, "last_value", error if earlier else None, raising=False)
    monitor = quiet(run=tmp_path / "run")
    validate(monitor, 3)
    if half:
        monitor.update(*batch(3), split="train")
    monkeypatch.setattr(sys, "last_value", error, raising=False)
    del monitor
    gc.collect()
    assert ended(tmp_path / "run") == reason


def test_weights_that_nobody_put_back_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Linear(1, 1)
    best = pm.EarlyStopping("val/accuracy", patience=9, restore_best=True)
    monitor = quiet(best, run=tmp_path / "run")
    monitor.attach(model)
    validate(monitor, 3, 9)
    weight = model.weight
    del monitor, model
    gc.collect()
    assert weight.item() == 9  # never behind the user's back
    assert ["weights of epoch 1 were not put back" in line for line in lines(caplog)] == [True]
    assert "close()" in caplog.text


# Faults


def test_at_most_a_hundred_kinds_of_fault_and_then_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(pm.Callback):
        def on_batch_end(self, monitor: Any, split: str, batch: int) -> None:
            raise type(f"Odd{batch % 250}", (RuntimeError,), {})("mine")

    monitor = quiet(Fails(), run=tmp_path / "run", on_fault="contain")
    for _ in range(700):
        monitor.update(*batch(3), split="val")
    monitor.end_epoch()
    del monitor  # nobody closes it
    gc.collect()
    faults = read_run(tmp_path / "run").faults
    assert len(faults) == 101
    assert sum(fault["count"] for fault in faults) == 700
    assert (faults[-1]["where"], faults[-1]["count"]) == ("others", 700 - 300)
    assert "Odd100" in faults[-1]["message"]
    assert len(caplog.records) < 110


def test_counts_of_a_fault_add_up_over_attempts(tmp_path: Path) -> None:
    for count in (23, 5, 12):
        with quiet(run=tmp_path / "run", if_exists="resume", on_fault="contain") as monitor:
            validate(monitor, 3)
            for _ in range(count):
                monitor.update(torch.ones(2, 9), torch.zeros(2).long())
    run = read_run(tmp_path / "run")
    assert [fault["count"] for fault in run.faults] == [40]
    assert "(40 times)" in " ".join(finding.message for finding in pm.judge(run).findings)


# Impossible states


@pytest.mark.parametrize("bad", [-5, "3", 1e30, None, True, 2**62])
@pytest.mark.parametrize(
    "place",
    [
        ("status", "epochs"),
        ("callbacks", 0, "waited"),
        ("callbacks", 0, "epoch"),
        ("callbacks", 1, "last_epoch"),
        ("callbacks", 1, "epoch"),
    ],
    ids=str,
)
def test_a_number_of_an_epoch_that_cannot_be_is_refused(
    tmp_path: Path, place: tuple[Any, ...], bad: Any
) -> None:
    def made() -> pm.Monitor:
        return quiet(stopping(), pm.Checkpoint("val/accuracy", folder=tmp_path))

    with made() as first:
        first.attach(nn.Linear(1, 1))
        validate(first, 6, 3)
        state = first.state_dict()
    inner: Any = state
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = bad
    with made() as second:
        before = repr(second.state_dict())
        with pytest.raises(PtmetricsError):
            second.load_state_dict(state)
        assert repr(second.state_dict()) == before
        second.attach(nn.Linear(1, 1))
        validate(second, 9)
