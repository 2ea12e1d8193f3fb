"""Callbacks: a user's own, early stopping in the score's own direction, the live history."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import CLASSES, WAYS, Keep, Net, fit, quiet
from torch import nn

import ptmetrics as pm
from ptmetrics.errors import ConfigError
from ptmetrics.monitor.best_score import BestScore
from ptmetrics.monitor.recorder import TOLD_ANSWERS
from ptmetrics.record.reader import read_run

Y = torch.arange(100) % CLASSES


def play(monitor: pm.Monitor, losses: list[float]) -> list[int]:
    """An epoch for each loss, until the run is to stop; an accuracy of 1 − loss goes along."""
    ran = []
    for loss in losses:
        wrong = 0 if math.isnan(loss) else round(100 * min(max(loss, 0), 1))
        preds = torch.where(torch.arange(100) < wrong, (Y + 1) % CLASSES, Y)
        monitor.update(nn.functional.one_hot(preds, CLASSES).float(), Y, loss=loss)
        ran.append(monitor.epoch)
        monitor.end_epoch()
        if monitor.should_stop:
            break
    return ran


def test_a_callback_of_ones_own_takes_five_lines(capsys: pytest.CaptureFixture[str]) -> None:
    class Tell(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            print(f"{scores['val/accuracy']:.2f}")  # noqa: T201 — what a user would write

    with quiet(Tell()) as monitor:
        play(monitor, [0.5, 0.25])
    assert capsys.readouterr().out == "0.50\n0.75\n"


def test_events_come_in_order_and_the_model_is_known_from_the_first() -> None:
    seen: list[Any] = []

    class Log(pm.Callback):
        def on_run_begin(self, monitor: pm.Monitor) -> None:
            seen.append(("begin", type(monitor.model).__name__))

        def on_batch_end(self, monitor: pm.Monitor, split: str, batch: int) -> None:
            seen.append((split, batch))

        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            seen.append(("epoch", scores.epoch, monitor.epoch))

        def on_run_end(self, monitor: pm.Monitor) -> None:
            seen.append("end")

    for way in ("loaders", "hooks", "update"):
        seen.clear()
        with quiet(Log()) as monitor:
            fit(way, monitor, epochs=1)
        train, val = [("train", i) for i in range(7)], [("val", i) for i in range(4)]
        assert seen == [("begin", "Net"), *train, *val, ("epoch", 0, 1), "end"]


@pytest.mark.parametrize("way", ["loaders", "hooks", "update", "epochs"])
def test_the_beginning_of_an_epoch_comes_before_its_first_batch(way: str) -> None:
    seen: list[Any] = []

    class Log(pm.Callback):
        def on_epoch_begin(self, monitor: pm.Monitor) -> None:
            seen.append(("begin", monitor.epoch))

        def on_batch_end(self, monitor: pm.Monitor, split: str, batch: int) -> None:
            if split == "train" and not batch:
                seen.append("batch")

        def on_validation_end(self, monitor: pm.Monitor, split: str, scores: Any) -> None:
            seen.append((split, scores.epoch, scores[f"{split}/accuracy"].n))

        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            seen.append(("end", scores.epoch))

    with quiet(Log()) as monitor:
        if way == "epochs":
            for number in monitor.epochs(2):
                assert seen[-1] == ("begin", number)
                monitor.update(torch.eye(CLASSES), torch.arange(CLASSES), split="train")
                for _ in range(10):
                    monitor.update(torch.eye(CLASSES), torch.arange(CLASSES), split="val")
        else:
            fit(way, monitor, epochs=2)
    one, two = ([("begin", i), "batch", ("val", i, 30), ("end", i)] for i in range(2))
    assert seen == [*one, *two]


def test_each_validation_is_told_and_one_by_step_with_its_own_scores() -> None:
    seen: list[Any] = []

    class Log(pm.Callback):
        def on_validation_end(self, monitor: pm.Monitor, split: str, scores: Any) -> None:
            seen.append((split, scores[f"{split}/accuracy"].n, "train/accuracy" in scores))

    x, y = torch.eye(CLASSES), torch.arange(CLASSES)
    with quiet(Log()) as monitor:
        for rows in (1, 2):
            for _ in range(2):
                monitor.update(x, y, split="train")
            monitor.update(x[:rows], y[:rows], split="val")
        monitor.update(x, y, split="hard")
        monitor.end_epoch()
        assert seen == [("val", 1, False), ("val", 2, True), ("hard", 3, True)]
        monitor.update(x, y, split="test")
    assert seen[3:] == [("test", 3, False)]


@pytest.mark.parametrize("way", WAYS)
def test_the_first_answers_of_each_pass_are_shown_with_what_they_were_given(way: str) -> None:
    class Shown(pm.Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[str, int]] = []

        def on_answer(
            self, monitor: pm.Monitor, split: str, number: int, given: Any, output: Any
        ) -> None:
            (inputs,), named = given
            assert (len(inputs), named) == (len(output), {})
            assert output.requires_grad is (split == "train")
            assert monitor.model is not None
            self.seen.append((split, number))

    shown = Shown()
    with quiet(shown) as monitor:
        fit(way, monitor, rows=90)  # 12 batches of training, 4 of validation
    epoch = [("train", number) for number in range(TOLD_ANSWERS)]
    epoch += [("val", number) for number in range(4)]
    assert shown.seen == epoch * 2


def test_each_validation_in_an_epoch_has_its_own_first_answers() -> None:
    class Shown(pm.Callback):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def on_answer(
            self, monitor: pm.Monitor, split: str, number: int, given: Any, output: Any
        ) -> None:
            self.seen.append(number)

    shown = Shown()
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    with quiet(shown) as monitor:
        monitor.attach(model, criterion=criterion)
        for _ in range(2):
            for x in monitor.validate([torch.randn(4, 6)] * 3):
                criterion(model(x), torch.zeros(4).long())
        with monitor.pause():
            model(torch.randn(4, 6))
        monitor.end_epoch()
    assert shown.seen == [0, 1, 2] * 2


def test_a_validation_behind_further_training_has_all_of_its_answers() -> None:
    seen: list[tuple[str, int]] = []

    class Shown(pm.Callback):
        def on_answer(
            self, monitor: pm.Monitor, split: str, number: int, given: Any, output: Any
        ) -> None:
            seen.append((split, number))

    model, criterion = Net(), nn.CrossEntropyLoss()
    with quiet(Shown()) as monitor:
        monitor.attach(model, criterion=criterion)
        for _ in range(2):
            for training, batches in ((True, 2), (False, 3)):
                model.train(training)
                for _ in range(batches):
                    criterion(model(torch.randn(4, 6)), torch.zeros(4).long())
        told = monitor.end_epoch()
    went_by = told.to_record()["seen"]["val"]
    assert (went_by["answers"], went_by["counted_rows"]) == (3, 12)
    val = [("val", number) for number in range(3)]
    assert seen == [("train", 0), ("train", 1), *val, ("train", 2), ("train", 3), *val]


def test_an_epoch_that_is_closed_by_steps_begins_with_its_first_batch() -> None:
    seen: list[int] = []

    class Log(pm.Callback):
        def on_epoch_begin(self, monitor: pm.Monitor) -> None:
            seen.append(monitor.epoch)

    model, criterion = nn.Linear(2, CLASSES), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with quiet(Log()) as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        monitor.every(steps=2)
        for _ in range(5):
            criterion(model(torch.ones(4, 2)), Y[:4]).backward()
            optimizer.step()
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "best"), [("val/loss", 2), ("val/nll", 2), ("val/accuracy", 2), ("val/mcc", 2)]
)
def test_the_direction_comes_from_the_score(name: str, best: int) -> None:
    stopping = pm.EarlyStopping(name, patience=2)
    with quiet(stopping) as monitor:
        assert play(monitor, [0.5, 0.4, 0.1, 0.2, 0.3, 0.05]) == [0, 1, 2, 3, 4]
        assert stopping.best_epoch == best
        assert name in str(monitor.stopping_reason)
        assert "epoch 3" in str(monitor.stopping_reason)
        assert "2 validations" in str(monitor.stopping_reason)


@pytest.mark.parametrize(("patience", "ran"), [(1, 3), (2, 4), (3, 5), (4, 6)])
def test_patience_is_the_number_of_epochs_without_improvement(patience: int, ran: int) -> None:
    with quiet(pm.EarlyStopping("val/loss", patience=patience)) as monitor:
        assert len(play(monitor, [0.5, 0.3, 0.3, 0.4, 0.5, 0.6, 0.7])) == ran


def test_an_improvement_below_min_delta_does_not_count_but_small_ones_add_up() -> None:
    stopping = pm.EarlyStopping("val/loss", patience=2, min_delta=0.1)
    with quiet(stopping) as monitor:
        assert len(play(monitor, [0.9, 0.85, 0.79, 0.75, 0.71])) == 5
        assert stopping.best_value == 0.79


def test_nan_is_never_an_improvement_and_never_the_best() -> None:
    stopping = pm.EarlyStopping("val/loss", patience=3)
    with quiet(stopping) as monitor:
        assert (
            len(play(monitor, [math.nan, 0.5, math.nan, 0.4, math.nan, math.nan, math.nan, 0.1]))
            == 7
        )
        assert (stopping.best_value, stopping.best_epoch) == (0.4, 3)


def test_a_loss_that_is_always_nan_stops_the_run() -> None:
    with quiet(pm.EarlyStopping("val/loss", patience=2)) as monitor:
        assert len(play(monitor, [math.nan] * 5)) == 2
        assert "nan" in str(monitor.stopping_reason)


values = st.lists(st.one_of(st.just(math.nan), st.floats(-100, 100)), max_size=20)


@given(values, st.booleans())
def test_the_best_is_the_first_extreme_of_all_values_that_are_numbers(
    values: list[float], rises: bool
) -> None:
    best = BestScore("val/x")
    for epoch, value in enumerate(values):
        score = pm.Score(value, higher_is_better=rises)
        scores = pm.EpochScores(epoch, {"val": pm.Scores({"x": score}, task="t", n=1)}, {})
        if best.improves(scores):
            best.keep(scores)
            assert best.epoch == epoch
    numbers = [value for value in values if not math.isnan(value)]
    if numbers:
        assert best.value == (max if rises else min)(numbers)
        assert best.epoch == values.index(best.value)
    else:
        assert best.epoch == -1


class Grow(nn.Module):
    """Its weight says which epoch it is of; it carries a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = "nothing"

    def get_extra_state(self) -> Any:
        return {"seen": self.seen}

    def set_extra_state(self, state: Any) -> None:
        self.seen = state["seen"]


@pytest.mark.parametrize("restore", [False, True])
def test_restore_best_puts_back_the_weights_of_the_best_epoch_when_stopping_is_decided(
    restore: bool, tmp_path: Path
) -> None:
    model = Grow()
    best = (1, "epoch 1") if restore else (3, "epoch 3")
    stopping = pm.EarlyStopping("val/loss", patience=2, restore_best=restore)
    checkpoint = pm.Checkpoint("val/loss", folder=tmp_path)
    with quiet(stopping, checkpoint) as monitor:
        monitor.attach(model)
        for loss in (0.5, 0.2, 0.3, 0.4):
            model.weight.data.fill_(monitor.epoch)
            model.seen = f"epoch {monitor.epoch}"
            play(monitor, [loss])
        assert monitor.should_stop
        assert (model.weight.item(), model.seen) == best
    assert (model.weight.item(), model.seen) == best
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert last["model"]["weight"].item() == 3  # written before the best came back


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("val/acuracy", "Did you mean 'val/accuracy'?"),
        ("accuracy", "Did you mean 'val/accuracy'?"),
        ("val_loss", "Did you mean 'val/loss'?"),
        ("val/f1", "Did you mean 'val/f1/"),
        ("/loss", "Did you mean 'val/loss'?"),
        ("zzzzzz", "Name the split too"),
    ],
)
@pytest.mark.parametrize("make", [pm.EarlyStopping, pm.Checkpoint])
def test_a_score_that_there_will_never_be_is_refused_as_the_monitor_is_made(
    make: Any, name: str, cure: str, tmp_path: Path
) -> None:
    for _ in range(2):  # a second try is refused as well
        with pytest.raises(ConfigError) as caught:
            pm.Monitor(pm.MulticlassMetrics(3), run=tmp_path / "run", callbacks=[make(name)])
        assert caught.value.name == "monitor"
        assert "val/loss" in caught.value.expected
        assert caught.value.got == repr(name)
        assert cure in caught.value.cure
    assert not (tmp_path / "run").exists(), "the name is not used up"


def test_a_direction_that_a_score_contradicts_is_refused_as_the_monitor_is_made() -> None:
    with pytest.raises(ConfigError, match="mode: expected 'max' or none for val/accuracy"):
        pm.Monitor(
            pm.MulticlassMetrics(3), callbacks=[pm.EarlyStopping("val/accuracy", mode="min")]
        )


def test_a_metric_that_cannot_name_its_scores_yet_is_no_reason_to_refuse_a_monitor() -> None:
    class Late(pm.MulticlassMetrics):
        def fresh(self) -> Any:
            raise RuntimeError("not yet")

    pm.Monitor(Late(3), callbacks=[pm.EarlyStopping("val/accuracy")])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"patience": 0}, "patience"),
        ({"min_delta": -0.1}, "min_delta"),
        ({"min_delta": math.nan}, "min_delta"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pm.EarlyStopping("val/loss", **arguments)
    assert caught.value.name == name
    assert "or more" in caught.value.expected
    assert caught.value.got == str(arguments[name])
    assert caught.value.cure


def test_what_is_no_callback_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"callbacks: expected pm\.Callback objects, got int, str\. Derive your"
    ):
        quiet(3, "tell")


@pytest.mark.parametrize("alone", [pm.Callback(), pm.Callback, 3])
def test_a_callback_that_stands_in_no_list_is_refused(alone: Any) -> None:
    message = rf"callbacks: expected pm\.Callback objects in a list, got {type(alone).__name__}\."
    with pytest.raises(ConfigError, match=rf"{message} Pass callbacks=\[mine\]"):
        pm.Monitor(pm.MulticlassMetrics(CLASSES), callbacks=alone)


def test_callbacks_may_come_one_by_one() -> None:
    told = []

    class Tell(pm.Callback):
        def on_epoch_end(self, monitor: pm.MonitoredRun, scores: pm.EpochScores) -> None:
            told.append(scores.epoch)

    each: Any = (Tell() for _ in range(2))
    monitor = pm.Monitor(pm.MulticlassMetrics(CLASSES), callbacks=each)
    monitor.update(torch.randn(100, CLASSES), Y, split="val")
    monitor.end_epoch()
    assert told == [0, 0]


def test_an_epoch_without_validation_is_waited_out_and_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = pm.EarlyStopping("val/loss", patience=2)
    checkpoint = pm.Checkpoint("val/loss", folder=tmp_path)
    with quiet(stopping, checkpoint) as monitor:
        monitor.attach(nn.Linear(1, 1))
        for epoch in range(7):
            if epoch in (2, 4, 6):
                play(monitor, [0.3])
            else:
                monitor.update(torch.randn(100, CLASSES), Y, split="train")
                monitor.end_epoch()
            assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == epoch
            assert monitor.should_stop == (epoch == 6)  # two validations without a better one
        assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == 2
        assert not monitor.faults
    assert not caplog.records


def test_a_split_of_another_name_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(pm.EarlyStopping("valid/loss")) as monitor:
        play(monitor, [0.3, 0.2])
    assert [r.getMessage() for r in caplog.records] == [
        "waiting for valid/loss, which this epoch has not; it has val/loss"
    ]


def test_one_callback_that_fails_does_not_keep_the_next_from_its_turn() -> None:
    class Broken(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            raise OSError("mine")

    keep = Keep()
    with quiet(Broken(), keep, on_fault="contain") as monitor:
        play(monitor, [0.3, 0.2])
        assert len(keep.epochs) == 2
        assert [fault.where for fault in monitor.faults.all()] == ["callback Broken"]


def test_the_live_history_is_the_one_that_is_read_back(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        fit("hooks", monitor, epochs=3)
        monitor.update(torch.full((4, CLASSES), math.nan), Y[:4])
        monitor.end_epoch()
        live = monitor.history
    read = pm.read_history(tmp_path / "run")
    assert (read.epoch, list(read)) == (live.epoch, list(live))
    assert {name: repr(read[name]) for name in read} == {name: repr(live[name]) for name in live}
    assert read[-2, "val/accuracy"] == live[-2, "val/accuracy"]


def test_epoch_scores_are_a_mapping_that_names_what_it_has() -> None:
    with quiet() as monitor:
        monitor.update(torch.randn(100, CLASSES), Y, loss=1.0, split="val")
        monitor.update(torch.randn(100, CLASSES), Y, split="test")
        scores = monitor.end_epoch()
    assert len(list(scores)) == len(scores) == len(dict(scores))
    assert set(scores) >= {"val/loss", "val/accuracy", "test/f1/macro"}
    assert "epoch 0: val/loss 1.0000" in str(scores)
    for name in ("test/loss", "val/x", "loss", ""):
        assert name not in scores
        with pytest.raises(KeyError, match="expected one of val/loss"):
            scores[name]


def test_a_large_matrix_stays_out_of_the_record() -> None:
    with quiet(metrics=pm.MulticlassMetrics(200)) as monitor:
        monitor.update(torch.randn(100, 200), Y)
        record = monitor.end_epoch().to_record()
    assert record["confusion"] == {}
    assert len(record["per_class"]["val"]["recall"]["value"]) == 200


@pytest.mark.parametrize("way", ["loader", "hooks", "update"])
def test_a_batch_is_shown_before_it_is_answered_and_its_time_is_nobodys(way: str) -> None:
    seen: list[Any] = []
    now = [0]

    class Look(pm.Callback):
        def on_batch_begin(self, monitor: pm.Monitor, split: str, inputs: Any) -> None:
            now[0] += 5_000_000_000
            seen.append((split, inputs))
            monitor.model(inputs[0])  # what is asked in here is not the loop's

    model = Net()
    batch = torch.randn(8, 6), torch.arange(8) % CLASSES
    with quiet(Look(), clock=lambda: now[0]) as monitor, monitor.attach(model.eval()):
        if way == "loader":
            for x, _ in monitor.validate([batch]):
                model(x)
        elif way == "hooks":
            model(batch[0])
        else:
            monitor.update(torch.randn(8, CLASSES), batch[1])
        scores = monitor.end_epoch()
    wanted = {"loader": [("val", batch)], "hooks": [("val", (batch[0],))], "update": []}[way]
    assert [(split, tuple(map(id, each))) for split, each in seen] == [
        (split, tuple(map(id, each))) for split, each in wanted
    ]
    assert scores.time.get("val_s", 0.0) == 0.0
    if way == "loader":
        assert scores["val/accuracy"].n == 8


def test_what_a_callback_records_reaches_a_rule_from_file_and_memory(tmp_path: Path) -> None:
    def rule(evidence: pm.Evidence) -> Any:
        for line in evidence.noted("mine"):
            yield pm.Finding("mine", "warning", f"{evidence.split} {line['value']}", line)

    class Mine(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            monitor.record("note", {"code": "mine", "message": "m", "value": scores.epoch})

    for run in (None, tmp_path / "run"):
        with quiet(Mine(), run=run) as monitor:
            play(monitor, [0.5, 0.25])
            monitor.update(nn.functional.one_hot(Y, CLASSES).float(), Y, split="test")
        found = pm.judge(monitor, rules=[rule]).findings
        assert [finding.message for finding in found] == ["val 0", "val 1"]
    on_test = pm.judge(tmp_path / "run", rules=[rule], split="test").findings
    assert [finding.message for finding in on_test] == ["test 0", "test 1"]


# The loop goes on though stopping was decided.


def losses_of(monitor: pm.Monitor, losses: list[float]) -> None:
    for loss in losses:
        monitor.update(torch.eye(3), torch.arange(3), loss=loss, split="val")
        monitor.end_epoch()


def test_a_loop_that_goes_on_though_it_was_to_stop_is_told_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = quiet(pm.EarlyStopping("val/loss", patience=1), run=tmp_path / "run")
    losses_of(monitor, [0.3, 0.4])
    assert monitor.should_stop
    assert not caplog.messages
    losses_of(monitor, [0.5, 0.6, 0.7])
    monitor.close()
    assert len(caplog.messages) == 1
    assert "stopping was decided behind epoch 2" in caplog.messages[0]
    assert "no better val/loss than 0.3000 of epoch 1" in caplog.messages[0]
    assert "if monitor.should_stop: break" in caplog.messages[0]
    codes = [note["code"] for note in read_run(tmp_path / "run").notes]
    assert codes.count("goes-on") == 1


def test_an_epoch_in_which_stopping_is_asked_for_may_be_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    monitor = quiet()
    losses_of(monitor, [0.3])
    monitor.update(torch.eye(3), torch.arange(3), loss=0.2, split="val")
    monitor.stop("diverged")
    monitor.end_epoch()
    assert not caplog.messages
    losses_of(monitor, [0.1])
    assert len(caplog.messages) == 1


def test_monitored_epochs_stop_by_themselves_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    monitor = quiet(pm.EarlyStopping("val/loss", patience=1))
    for epoch in monitor.epochs(9):
        monitor.update(torch.eye(3), torch.arange(3), loss=float(epoch), split="val")
    assert len(monitor.history.epoch) == 2
    assert not caplog.messages
