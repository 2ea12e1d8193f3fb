"""Threads that use one metric at once: every row counts once, and what is read is of one moment."""

import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from ptmetrics import BinaryMetrics, MulticlassMetrics, RegressionMetrics
from ptmetrics.errors import PtmetricsError, StateError
from ptmetrics.metrics.base import Metrics

EACH = 60
ROWS = 16


@pytest.fixture(autouse=True)
def _threads_change_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def at_once(*works: Callable[[], None]) -> None:
    """Run all in threads; what one raises is raised here."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "threads wait for each other"
    if errors:
        raise errors[0]


def binary(metrics: Metrics) -> None:
    preds = torch.linspace(-2, 2, ROWS)
    metrics.update(preds, (preds > 0.5).long())


def classes(metrics: Metrics) -> None:
    metrics.update(torch.eye(4).repeat(ROWS // 4, 1), torch.arange(ROWS) % 4)


def numbers(metrics: Metrics) -> None:
    preds = torch.linspace(0, 1, ROWS)
    metrics.update(preds, preds + 0.25)


KINDS = [
    (lambda: BinaryMetrics(), binary),
    (lambda: MulticlassMetrics(4), classes),
    (lambda: RegressionMetrics(), numbers),
]
each_kind = pytest.mark.parametrize(
    ("make", "feed"), KINDS, ids=["binary", "multiclass", "regression"]
)


@each_kind
def test_each_row_of_each_thread_counts_once(
    make: Callable[[], Metrics], feed: Callable[[Metrics], None]
) -> None:
    metrics, alone = make(), make()

    def many() -> None:
        for _ in range(EACH):
            feed(metrics)

    at_once(many, many, many)
    for _ in range(3 * EACH):
        feed(alone)
    assert metrics.updates == 3 * EACH
    assert metrics.compute().n == 3 * EACH * ROWS
    assert str(metrics.compute()) == str(alone.compute())


@each_kind
def test_what_is_read_while_others_update_is_of_one_moment(
    make: Callable[[], Metrics], feed: Callable[[Metrics], None]
) -> None:
    metrics, taken = make(), make()

    def many() -> None:
        for _ in range(EACH):
            feed(metrics)

    def read() -> None:
        for _ in range(10):
            scores = metrics.compute()
            assert scores.n % ROWS == 0
            taken.load_state_dict(metrics.state_dict())  # which refuses cells that do not fit
            assert taken.compute().n % ROWS == 0

    at_once(many, many, read)
    assert metrics.compute().n == 2 * EACH * ROWS


def test_refused_batches_of_one_thread_cost_no_row_of_another() -> None:
    metrics = BinaryMetrics()

    def good() -> None:
        for _ in range(EACH):
            binary(metrics)

    def bad() -> None:
        for _ in range(EACH):
            with pytest.raises(PtmetricsError):
                metrics.update(torch.ones(3), torch.ones(4, dtype=torch.int64))

    at_once(good, bad, good)
    assert metrics.compute().n == 2 * EACH * ROWS


def test_two_metrics_that_merge_into_each_other_never_wait_for_each_other() -> None:
    one, other = MulticlassMetrics(4), MulticlassMetrics(4)
    classes(one)
    classes(other)

    def merge(mine: Metrics, theirs: Metrics) -> Callable[[], None]:
        def work() -> None:
            for _ in range(8):
                mine.merge_state([theirs])

        return work

    at_once(merge(one, other), merge(other, one))
    assert one.compute().n >= 9 * ROWS


@each_kind
def test_a_metric_among_those_that_are_merged_into_it_is_read_before_anything_is_added(
    make: Callable[[], Metrics], feed: Callable[[Metrics], None]
) -> None:
    one, other = make(), make()
    for _ in range(3):
        feed(one)
    feed(other)
    one.merge_state([other, one, other])
    assert one.compute().n == (3 + 1 + 3 + 1) * ROWS
    assert one.updates == 8
    assert other.compute().n == ROWS
    one.merge_state(iter([one]))
    assert one.compute().n == 16 * ROWS
    one.merge_state([])
    assert one.compute().n == 16 * ROWS


def test_where_one_of_several_is_refused_nothing_is_merged() -> None:
    one, other = MulticlassMetrics(4), MulticlassMetrics(4)
    classes(one)
    classes(other)
    without_values = MulticlassMetrics(4, device="meta")
    for wrong in (MulticlassMetrics(5), BinaryMetrics(), without_values, None, "other"):
        with pytest.raises(StateError):
            one.merge_state([other, one, wrong])  # type: ignore[list-item]
        assert (one.compute().n, one.updates) == (ROWS, 1)


def test_copies_have_a_lock_of_their_own() -> None:
    metrics = MulticlassMetrics(4)
    classes(metrics)
    for other in (copy.deepcopy(metrics), pickle.loads(pickle.dumps(metrics)), metrics.fresh()):
        with metrics._lock:
            at_once(partial(classes, other))
        assert other.updates >= 1
