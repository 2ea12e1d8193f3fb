"""A callback's method that is no event and looks like one is told of; a helper is not."""

import logging
from typing import Any

import pytest
from loops import quiet

import ptmetrics as pm
from ptmetrics.monitor.callbacks import EVENTS, _misspelt

MISSPELT = {
    "on_epoch_finish": "on_epoch_end",
    "on_epochs_end": "on_epoch_end",
    "on_epoch_edn": "on_epoch_end",
    "on_epochend": "on_epoch_end",
    "onEpochEnd": "on_epoch_end",
    "on_end_epoch": "on_epoch_end",
    "on_epoch": "on_epoch_end",
    "on_epoch_start": "on_epoch_begin",
    "on_train_epoch_start": "on_epoch_begin",
    "on_train_epoch_end": "on_epoch_end",
    "on_train_begin": "on_run_begin",
    "on_train_start": "on_run_begin",
    "on_fit_start": "on_run_begin",
    "on_fit_end": "on_run_end",
    "on_training_end": "on_train_end",
    "on_train_batch_start": "on_batch_begin",
    "on_train_batch_end": "on_batch_end",
    "on_step_end": "on_batch_end",
    "on_bacth_end": "on_batch_end",
    "on_validation_start": "on_validation_end",
    "on_validation_epoch_end": "on_validation_end",
    "on_val_end": "on_validation_end",
    "on_test_end": "on_validation_end",
    "on_evaluate": "on_validation_end",
    "on_answers": "on_answer",
    "on_resumed": "on_resume",
}
HELPERS = (
    "on_improvement", "on_plateau", "on_new_best", "on_best_epoch", "on_bad_epoch", "on_best_epoch_end",
    "on_warmup_end", "on_print", "on_nan", "on_error", "on_stop", "on_alert", "on_resize", "on_request",
    "on_signal", "on_message", "on_change", "on_threshold", "on_device", "on_rank_zero", "once_per_epoch",
    "one_epoch", "only_on_rank_zero", "online", "_on_epoch_finish", "epoch_end", "numbers_of_epoch",
)  # fmt: skip


def do(self: Any, *_: Any) -> None:
    """A method."""


def told(*callbacks: pm.Callback, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a monitor says while it takes them."""
    with caplog.at_level(logging.WARNING, "ptmetrics"), quiet(*callbacks):
        return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_event_is_told_once_with_the_nearest(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = type("Mine", (pm.Callback,), {name: do})
    event = MISSPELT[name]
    assert told(kind(), kind(), caplog=caplog) == [
        f"callback Mine: expected events such as {event}, got {name}, which nobody calls. "
        f"Name it {event}, or a helper without on_."
    ]


@pytest.mark.parametrize("name", [*HELPERS, *EVENTS])
def test_events_and_helpers_are_not(name: str, caplog: pytest.LogCaptureFixture) -> None:
    kind = type("Mine", (pm.Callback,), {name: do})
    assert told(kind(), caplog=caplog) == []


def test_what_the_class_calls_itself_is_a_helper(caplog: pytest.LogCaptureFixture) -> None:
    class Calls(pm.Callback):
        def on_epoch_end(self, monitor: Any, scores: Any) -> None:
            self.on_epoch_finish()

        def on_epoch_finish(self) -> None:
            """A helper."""

    assert told(Calls(), type("Further", (Calls,), {"on_epoch_finish": do})(), caplog=caplog) == []


def test_an_event_of_another_base_is_that_ones(caplog: pytest.LogCaptureFixture) -> None:
    other = type("OfAnotherLibrary", (), {"on_train_epoch_end": do})
    both = type("Both", (pm.Callback, other), {"on_train_epoch_end": do, "on_epoch_finish": do})
    (line,) = told(both(), caplog=caplog)
    assert "on_epoch_finish" in line


def test_a_misspelt_event_of_a_base_of_ones_own_is_told(caplog: pytest.LogCaptureFixture) -> None:
    base = type("Base", (pm.Callback,), {"on_epoch_finish": do})
    (line,) = told(type("Mine", (base,), {})(), caplog=caplog)
    assert line.startswith("callback Mine: ")


def test_none_of_our_callbacks_has_one() -> None:
    exported = [getattr(pm, name) for name in pm.__all__]
    kinds = [one for one in exported if isinstance(one, type) and issubclass(one, pm.Callback)]
    assert len(kinds) > 10
    assert [found for kind in kinds for found in _misspelt(kind)] == []
