"""What ends a run: early stopping against a simulation of its rules, a time limit, a target."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from loops import CLASSES, fit, quiet
from test_callbacks import play
from torch import nn

import ptmetrics as pm
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.record.reader import read_run

# Early stopping


@dataclass(frozen=True)
class Rules:
    """What the run is stopped by; `epochs` tells that patience counts epochs."""

    rises: bool = False
    patience: int = 2
    epochs: bool = False
    min_delta: float = 0.0
    beyond: bool = False
    good_enough: float | None = None
    too_bad: float | None = None

    def callback(self, **options: Any) -> pm.EarlyStopping:
        return pm.EarlyStopping(
            "val/x",
            f"{self.patience}ep" if self.epochs else self.patience,
            self.min_delta,
            beyond_interval=self.beyond,
            stopping_threshold=self.good_enough,
            divergence_threshold=self.too_bad,
            **options,
        )


Seen = tuple[int, bool, float, float, float]  # epoch, whether it closes it; value, low, high


def simulated(seen: list[Seen], rules: Rules) -> tuple[int | None, int]:
    """The epoch in which a run stops, or None, and the best one by then, by the words of the docstring."""
    sign = 1 if rules.rises else -1
    bests: list[tuple[float, int]] = []  # the improvements, in their order
    since = 0
    stopped = None
    for epoch, closes, value, low, high in seen:
        if stopped is not None and epoch > stopped:
            break
        better = not math.isnan(value)
        if better and bests:
            before = bests[-1][0]
            better = sign * (value - before) > rules.min_delta
            near_end = low if rules.rises else high
            if rules.beyond and sign * (near_end - before) <= 0:
                better = False
        since += 1
        if better:
            bests.append((value, epoch))
            since = 0
        closed = epoch + 1 if closes else epoch
        if rules.epochs and not better:
            behind_best = bests[-1][1] + 1 if bests else 0
            since = max(0, closed - behind_best)
        good = rules.good_enough is not None and sign * (value - rules.good_enough) >= 0
        bad = rules.too_bad is not None and not sign * (value - rules.too_bad) >= 0
        if (since >= rules.patience or good or bad) and stopped is None:
            stopped = epoch
    return stopped, bests[-1][1] if bests else -1


def run(rules: Rules, epochs: list[list[float]], *callbacks: pm.Callback, **options: Any) -> Any:
    """Train and validate as often in each epoch as it has values; what was seen, and when it stopped."""
    metric = pm.Mean("x", lambda preds, target: preds, higher_is_better=rules.rises)
    seen: list[Seen] = []

    class Log(pm.Callback):
        def on_validation_end(self, monitor: Any, split: str, scores: pm.EpochScores) -> None:
            score = scores["val/x"]
            seen.append((scores.epoch, bool(scores.time), score.value, score.low, score.high))

    stopped = None
    noise = torch.tensor([-0.25, 0.25, -0.125, 0.125], dtype=torch.float64)
    with quiet(Log(), *callbacks, metrics=metric, **options) as monitor:
        for values in epochs:
            monitor.update(noise, noise, split="train")
            for value in values:
                for _ in range(2):  # one batch of each in turn would be one validation
                    monitor.update(noise, noise, split="train")
                monitor.update(noise + value, noise, split="val")
            monitor.end_epoch()
            if monitor.should_stop:
                stopped = monitor.epoch - 1
                break
    return seen, stopped, monitor


values = st.one_of(st.just(math.nan), st.integers(-4, 4).map(lambda eighths: eighths / 8))
several = st.lists(st.lists(values, max_size=3), max_size=8)
rules_of_all = st.builds(
    Rules,
    rises=st.booleans(),
    patience=st.integers(1, 4),
    epochs=st.booleans(),
    min_delta=st.sampled_from([0.0, 0.125, 0.5]),
    beyond=st.booleans(),
    good_enough=st.sampled_from([None, None, 0.375, -0.375]),
    too_bad=st.sampled_from([None, None, 0.5, -0.5]),
)


@settings(max_examples=60, deadline=None)
@given(rules_of_all, several)
@example(Rules(), [[0.5], [0.5], [0.5], [0.25]])
@example(Rules(min_delta=0.125), [[0.5], [0.375], [0.375], [0.25]])
def test_a_run_stops_where_a_simulation_of_the_rules_does(
    rules: Rules, epochs: list[list[float]]
) -> None:
    stopping = rules.callback()
    seen, stopped, _ = run(rules, epochs, stopping)
    assert (stopped, stopping.best_epoch) == simulated(seen, rules)


@settings(max_examples=20, deadline=None)
@given(rules_of_all, several)
@example(Rules(), [[0.125, 0.5], [0.25], [0.375]])
def test_with_restore_best_the_last_validation_of_an_epoch_counts_alone(
    rules: Rules, epochs: list[list[float]]
) -> None:
    stopping = rules.callback(restore_best=True)
    seen, stopped, _ = run(rules, epochs, stopping)
    closing = [one for one in seen if one[1]]
    assert (stopped, stopping.best_epoch) == simulated(closing, rules)


@pytest.mark.parametrize("epochs_count", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_resumed_run_stops_where_it_would_have_stopped(
    seed: int, epochs_count: bool, tmp_path: Path
) -> None:
    """From the record alone, validations within epochs included."""
    chance = random.Random(seed)
    values = [[chance.random() for _ in range(chance.randint(0, 3))] for _ in range(12)]
    rules = Rules(rises=True, patience=3, epochs=epochs_count)
    whole = rules.callback()
    seen, stopped, _ = run(rules, values, whole)
    assert stopped is not None
    assert stopped >= 1
    cut = stopped  # the last epoch is of the second half
    folder = tmp_path / "run"
    _, _, first = run(rules, values[:cut], rules.callback(), run=folder)
    again = rules.callback()
    _, later, _ = run(rules, values[cut:], again, run=folder, if_exists="resume")
    assert (later, again.best_epoch) == (stopped, whole.best_epoch)
    again = rules.callback()
    with quiet(again, metrics=first.metrics, run=folder, if_exists="resume") as ended:
        best = max(seen, key=lambda one: one[2])
        since = len(seen) - 1 - seen.index(best)
        if epochs_count:
            since = stopped - best[0]
        # Behind a validation that came before the end of the epoch and was the best, it goes on.
        assert ended.should_stop is (since >= 3)


def test_a_state_in_an_epoch_with_its_best_validation_is_one_that_can_be_stored() -> None:
    stopping = Rules(epochs=True).callback()

    class Store(pm.Callback):
        def on_batch_end(self, monitor: Any, split: str, batch: int) -> None:
            Rules(epochs=True).callback().load_state_dict(stopping.state_dict())

    seen, _, _ = run(Rules(), [[0.5], [0.25, 0.5, 0.5]], stopping, Store())
    assert [closes for _, closes, *_ in seen] == [True, False, False, True]
    assert stopping.best_epoch == 1


def test_epochs_of_patience_and_validations_differ_where_not_every_epoch_validates() -> None:
    every_second = [[0.5], [], [0.6], [], [0.6], [], [0.6], []]
    for patience, last in ((2, 4), ("2ep", 2)):
        stopping = pm.EarlyStopping("val/x", patience)
        _, stopped, monitor = run(Rules(), every_second, stopping)
        assert stopped == last
        assert "for 2 " in str(monitor.stopping_reason)


def test_a_validation_before_or_behind_training_is_none_of_the_run(tmp_path: Path) -> None:
    stopping = pm.EarlyStopping("val/loss", patience=1)
    told = []

    class Log(pm.Callback):
        def on_validation_end(self, monitor: Any, split: str, scores: pm.EpochScores) -> None:
            told.append((scores["val/loss"].value, bool(scores.time)))

    x, y = torch.eye(CLASSES), torch.arange(CLASSES)
    with quiet(stopping, Log(), run=tmp_path / "run") as monitor:
        for trained, loss, closes in (
            (False, 0.1, False),
            (True, 0.5, True),
            (True, 0.4, True),
            (False, 9.0, False),
        ):
            if trained:
                monitor.update(x, y, split="train")
            for _ in monitor.validate([0]):
                monitor.update(x, y, loss=loss)
            if closes:
                monitor.end_epoch()
                assert stopping.best_epoch == monitor.epoch - 1
                assert stopping.best_value == pytest.approx(loss)
    assert [value for value, _ in told] == pytest.approx([0.1, 0.5, 0.4, 9.0])
    assert [closes for _, closes in told] == [False, True, True, False]
    evaluations = read_run(tmp_path / "run").evaluations
    assert [each["step"] for each in evaluations] == [0, 2]
    assert evaluations[1]["why"] == "after-training"
    assert monitor.stopping_reason is None


@pytest.mark.parametrize(
    ("options", "losses", "words"),
    [
        ({"stopping_threshold": 0.25}, [0.5, 0.25, 0.1], "val/loss is 0.25, as good as 0.25"),
        ({"divergence_threshold": 2.0}, [0.5, 2.0, 2.5], "val/loss is 2.5, worse than 2"),
        ({"divergence_threshold": 2.0}, [0.5, math.nan], "val/loss is nan, worse than 2"),
        ({"divergence_threshold": 2.0}, [math.inf], "val/loss is nan, worse than 2"),
    ],
)
def test_thresholds_stop_at_once_and_say_so(
    options: dict[str, float], losses: list[float], words: str
) -> None:
    with quiet(pm.EarlyStopping("val/loss", **options)) as monitor:  # type: ignore[arg-type]
        assert len(play(monitor, losses)) == len(losses) - (words.startswith("val/loss is 0.25"))
        assert monitor.stopping_reason == words


def test_an_improvement_within_the_interval_counts_unless_it_is_told_not_to() -> None:
    ran = {}
    for beyond in (False, True):
        stopping = pm.EarlyStopping("val/accuracy", patience=3, beyond_interval=beyond)
        with quiet(stopping) as monitor:
            ran[beyond] = (play(monitor, [0.5, 0.48, 0.46, 0.44, 0.3]), stopping.best_epoch)
    # Of 100 rows an accuracy has an interval of some 0.1 to each side.
    assert ran == {False: ([0, 1, 2, 3, 4], 4), True: ([0, 1, 2, 3], 0)}


def test_a_run_that_a_threshold_stopped_goes_on_with_another_threshold() -> None:
    def made(level: float) -> pm.Monitor:
        return quiet(pm.EarlyStopping("val/loss", stopping_threshold=level))

    with made(0.3) as first:
        play(first, [0.5, 0.3])
        state = first.state_dict()
    for level, stops in ((0.3, True), (0.1, False)):
        with made(level) as second:
            second.load_state_dict(state)
            assert second.should_stop is stops


@pytest.mark.parametrize("patience", [0, -1, True, "0ep", "ep", "three", "3", "1.5ep", 2.0])
def test_a_patience_that_cannot_be_is_refused(patience: Any) -> None:
    with pytest.raises(
        ConfigError, match="patience: expected 1 or more validations, or epochs such"
    ):
        pm.EarlyStopping("val/loss", patience)


@pytest.mark.parametrize("name", ["stopping_threshold", "divergence_threshold"])
def test_a_threshold_that_no_score_can_pass_is_refused(name: str) -> None:
    options: dict[str, Any] = {name: math.nan}
    with pytest.raises(ConfigError, match=f"{name}: expected a finite value"):
        pm.EarlyStopping("val/loss", **options)


@pytest.mark.parametrize(("key", "value"), [("waited", -1), ("last", "x"), ("steps", None)])
def test_a_state_that_cannot_be_is_refused(key: str, value: Any) -> None:
    state = pm.EarlyStopping("val/loss").state_dict() | {key: value}
    with pytest.raises(StateError, match=key):
        pm.EarlyStopping("val/loss").load_state_dict(state)


# A target


@pytest.mark.parametrize(("hold", "stops"), [(1, 1), (2, 4), (3, None)])
def test_a_target_is_met_by_so_many_validations_in_a_row(hold: int, stops: int | None) -> None:
    losses = [0.5, 0.1, 0.2, 0.05, 0.1, 0.2]
    for target in ("val/accuracy>=0.9", "val/loss<=0.1", " val/accuracy >= 0.9 "):
        with quiet(pm.StopAtTarget(target, hold=hold)) as monitor:
            ran = play(monitor, losses)
        assert ran[-1] == (5 if stops is None else stops)
        assert monitor.should_stop is (stops is not None)


def test_the_record_that_it_leaves_has_reached_the_target_for_compare(tmp_path: Path) -> None:
    for name, losses in (("quick", [0.5, 0.05, 0.05]), ("slow", [0.5, 0.4, 0.3, 0.05, 0.05])):
        now = iter(range(0, 10**12, 10**9))
        target = pm.StopAtTarget("val/accuracy>=0.9")
        with quiet(target, run=tmp_path / name, clock=lambda now=now: next(now)) as monitor:
            for loss in losses:
                monitor.update(torch.eye(CLASSES), torch.arange(CLASSES), split="train")
                play(monitor, [loss])
            assert str(monitor.stopping_reason).startswith("val/accuracy>=0.9 is met: 0.95 in")
    ratio = pm.compare(tmp_path / "quick", tmp_path / "slow", target="val/accuracy>=0.9").time_ratio
    assert ratio.censored is None
    assert ratio.high < 1


def test_a_run_that_is_resumed_at_its_target_stops_at_once_and_at_a_higher_one_goes_on(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    with quiet(pm.StopAtTarget("val/accuracy>=0.9"), run=folder) as monitor:
        play(monitor, [0.1, 0.1])
        state = monitor.state_dict()
    for target, stops in (("val/accuracy>=0.9", True), ("val/accuracy>=0.95", False)):
        with quiet(pm.StopAtTarget(target)) as loaded:
            loaded.load_state_dict(state)
            assert loaded.should_stop is stops
        with quiet(pm.StopAtTarget(target), run=folder, if_exists="resume") as resumed:
            assert resumed.should_stop is stops


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("val/accuracy", "target: expected a text such as"),
        ("val/accuracy<=0.9", "target: expected the side on which val/accuracy is better"),
        ("val/loss>=0.9", "target: expected the side on which val/loss is better"),
        ("val/acuracy>=0.9", "Did you mean 'val/accuracy'"),
    ],
)
def test_a_target_that_cannot_be_met_is_refused_as_the_monitor_is_made(
    target: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        quiet(pm.StopAtTarget(target))


@pytest.mark.parametrize("hold", [0, True, 1.5])
def test_a_hold_that_cannot_be_is_refused(hold: Any) -> None:
    with pytest.raises(ConfigError, match="hold: expected 1 or more validations"):
        pm.StopAtTarget("val/accuracy>=0.9", hold=hold)


# A time limit


def seconds(*times: float) -> Callable[[], int]:
    """A clock that shows these seconds in turn, and then the last of them."""
    left = list(times)
    return lambda: int(1e9 * (left.pop(0) if len(left) > 1 else left[0]))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("2h", 7200),
        ("1h 30m", 5400),
        ("1h30min", 5400),
        ("1d", 86400),
        ("0.5h", 1800),
        ("90s", 90),
        (90, 90),
        (0.5, 0.5),
        (timedelta(minutes=3), 180),
    ],
)
def test_a_limit_is_read_in_each_spelling(limit: Any, expected: float) -> None:
    for late, ran in ((0.0, 1), (-0.25, 2)):
        clock = seconds(0, expected + late, expected + late, expected)
        with quiet(pm.TimeLimit(limit, clock=clock)) as monitor:
            play(monitor, [0.5, 0.4, 0.3])
            assert monitor.epoch == ran
            assert monitor.stopping_reason == f"the time limit of {expected:g} s is over"


@pytest.mark.parametrize(
    "limit", ["", "2", "2x", "h", "-2h", 0, -1, math.nan, math.inf, None, "2h!"]
)
def test_what_is_no_time_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigError, match='limit: expected a time above 0, such as "2h"'):
        pm.TimeLimit(limit)


def test_a_loop_may_stop_behind_the_batch_in_which_the_time_is_over() -> None:
    limit = pm.TimeLimit(10, clock=seconds(0, 4, 8, 12))
    x, y = torch.eye(CLASSES), torch.arange(CLASSES)
    asked = []
    with quiet(limit) as monitor:
        for _ in monitor.train([0] * 6):
            monitor.update(x, y)
            asked.append(monitor.should_stop)
            if monitor.should_stop:
                break
        monitor.end_epoch()
    assert asked == [False, False, True]
    assert monitor.history.epoch == [0]


def test_a_run_that_ran_out_of_time_is_resumed_with_all_of_it() -> None:
    with quiet(pm.TimeLimit(10, clock=seconds(0, 12))) as first:
        play(first, [0.5, 0.4])
        assert first.epoch == 1
        state = first.state_dict()
    with quiet(pm.TimeLimit(10, clock=seconds(100, 105, 111))) as second:
        second.load_state_dict(state)
        assert not second.should_stop
        play(second, [0.3, 0.2])
        assert second.should_stop


def test_the_training_is_bit_for_bit_the_same_with_all_callbacks(tmp_path: Path) -> None:
    plain = fit(None)
    for way in ("loaders", "hooks", "update"):
        callbacks = (
            pm.EarlyStopping("val/loss", "9ep", beyond_interval=True, divergence_threshold=1e9),
            pm.Checkpoint("val/loss", folder=tmp_path / way, top_k=2),
            pm.StopAtTarget("val/accuracy>=1"),
            pm.TimeLimit("2h"),
            pm.LearningRate(),
            pm.GradNorm(),
            pm.Throughput(),
            pm.DeviceMemory(),
        )
        with quiet(*callbacks) as monitor:
            watched = fit(way, monitor)
        assert watched.traces() == plain.traces()
        assert {"lr", "grad_norm", "rows_per_s"} <= set(monitor.history)
        assert isinstance(watched.model, nn.Module)
