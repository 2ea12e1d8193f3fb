"""Validations that hooks alone see, several of them by the very same line of the script."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import pytest
import torch
from loops import quiet
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler
from torch.utils.data import TensorDataset as Rows

import ptmetrics as pm

CLASSES, FEATURES = 3, 4


def data(count: int, seed: int = 0) -> Rows:
    drawn = torch.Generator().manual_seed(seed)
    return Rows(
        torch.randn(count, FEATURES, generator=drawn),
        torch.randint(0, CLASSES, (count,), generator=drawn),
    )


class Script:
    """Two epochs of training by hooks alone; `validate` is another one's."""

    def __init__(self, monitor: pm.Monitor) -> None:
        torch.manual_seed(0)
        self.monitor = monitor
        self.model = nn.Linear(FEATURES, CLASSES)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.train = DataLoader(data(32), 8, shuffle=True)
        self.val = DataLoader(data(20, 1), 8)
        self.other = DataLoader(data(14, 2), 7)
        self.small = DataLoader(data(5, 3), 8)
        monitor.attach(self.model, criterion=self.criterion, optimizer=self.optimizer)

    def evaluate(self, loader: Any) -> None:
        self.model.eval()
        with torch.no_grad():
            for x, y in loader:
                self.criterion(self.model(x), y)
        self.model.train()

    def run(self, validate: Callable[["Script"], None]) -> dict[str, Any]:
        for _ in range(2):
            for x, y in self.train:
                self.optimizer.zero_grad()
                self.criterion(self.model(x), y).backward()
                self.optimizer.step()
            validate(self)
            scores = self.monitor.end_epoch()
        seen: dict[str, Any] = scores.to_record()["seen"]["val"]
        return seen


# Each with the rows of its passes.


def over_two(own: Script) -> None:
    for loader in (own.val, own.other):
        own.evaluate(loader)


def over_three(own: Script) -> None:
    for loader in (own.small, own.val, own.other):
        own.evaluate(loader)


def with_a_small_one_last(own: Script) -> None:
    for loader in {"val": own.val, "small": own.small}.values():
        own.evaluate(loader)


def in_one_loop(own: Script) -> None:
    own.model.eval()
    with torch.no_grad():
        for loader in [own.val, own.other]:
            for x, y in loader:
                own.criterion(own.model(x), y)
    own.model.train()


def by_map(own: Script) -> None:
    list(map(own.evaluate, [own.val, own.other]))


def over_one_twice(own: Script) -> None:
    for _ in range(2):
        own.evaluate(own.val)


def with_copies_of_a_row(own: Script) -> None:
    own.model.eval()
    with torch.no_grad():
        for loader in (own.val, own.other):
            for x, y in loader:
                own.criterion((own.model(x) + own.model(-x)) / 2, y)
    own.model.train()


def by_iterators(own: Script) -> None:
    own.model.eval()
    with torch.no_grad():
        for loader in (own.val, own.other):
            batches = iter(loader)
            for _ in range(len(loader)):
                x, y = next(batches)
                own.criterion(own.model(x), y)
    own.model.train()


def by_workers(own: Script) -> None:
    for rows in (20, 14):
        own.evaluate(DataLoader(data(rows), 8, num_workers=1))


MERGED = {
    over_two: [20, 14],
    over_three: [5, 20, 14],
    with_a_small_one_last: [20, 5],
    in_one_loop: [20, 14],
    by_map: [20, 14],
    over_one_twice: [20, 20],
    with_copies_of_a_row: [40, 28],
    by_iterators: [20, 14],
    by_workers: [20, 14],
}


@pytest.mark.parametrize(
    ("validate", "rows"), MERGED.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_passes_over_loaders_from_one_line_are_told(
    validate: Callable[[Script], None], rows: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        own = Script(monitor)
        seen = own.run(validate)
        found = [f for f in pm.judge(monitor).findings if f.code == "split-changed"]
    [line] = caplog.messages
    assert f"{sum(rows)} rows of {len(rows)} passes were counted as one validation" in line
    for each in rows:
        assert f"{each} from line " in line
    assert "monitor.split(" in line
    assert (seen["passes"], seen["pass_rows"]) == (len(rows), rows)
    assert [finding.evidence["pass_rows"] for finding in found] == [rows]


# One validation, and whatever else is iterated meanwhile.


def once(own: Script) -> None:
    own.evaluate(own.val)


def named(own: Script) -> None:
    for name, loader in {"val": own.val, "test": own.other}.items():
        with own.monitor.split(name):
            own.evaluate(loader)


def left_out(own: Script) -> None:
    once(own)
    with own.monitor.pause():
        over_two(own)


def wrapped(own: Script) -> None:
    for name, loader in {"val": own.val, "test": own.other}.items():
        own.evaluate(own.monitor.validate(loader, split=name))


def beside_another(own: Script) -> None:
    own.model.eval()
    with torch.no_grad():
        for (x, y), _ in zip(own.val, DataLoader(data(99), 9), strict=False):
            own.criterion(own.model(x), y)
    own.model.train()


def with_support(own: Script) -> None:
    """Another loader is walked for each batch."""
    own.model.eval()
    with torch.no_grad():
        for x, y in own.val:
            centre = torch.cat([each for each, _ in own.other]).mean(0)
            own.criterion(own.model(x - centre), y)
    own.model.train()


def begun_again(own: Script) -> None:
    """An iterator is made anew when it is exhausted: twice eight rows and a rest, and four more."""
    batches = iter(own.small)
    own.model.eval()
    with torch.no_grad():
        for x, y in own.val:
            try:
                few, _ = next(batches)
            except StopIteration:
                batches = iter(own.small)
                few, _ = next(batches)
            own.criterion(own.model(x - few.mean(0)), y)
    own.model.train()


def before_it_is_looked_at(own: Script) -> None:
    for x, _ in own.other:
        x.mean()
    own.evaluate(own.val)
    for x, _ in own.other:
        x.mean()


def one_batch_is_peeked_at(own: Script) -> None:
    next(iter(own.val))
    own.evaluate(own.val)


def of_its_first_rows(own: Script) -> None:
    """Five batches of a longer loader, and another one that is walked for each."""
    own.model.eval()
    with torch.no_grad():
        for x, y in islice(DataLoader(data(90), 4), 5):
            centre = torch.cat([each for each, _ in own.other]).mean(0)
            own.criterion(own.model(x - centre), y)
    own.model.train()


def several_an_epoch(own: Script) -> None:
    for x, y in own.train:
        own.evaluate(own.val)
        own.optimizer.zero_grad()
        own.criterion(own.model(x), y).backward()
        own.optimizer.step()
    own.evaluate(own.val)


def of_a_stream(own: Script) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(data(20))

        def __len__(self) -> int:
            raise AssertionError("nobody is to ask for it")

    own.evaluate(DataLoader(Stream(), 8))


def of_a_sampler_of_its_own(own: Script) -> None:
    class Batches(BatchSampler):
        def __len__(self) -> int:
            raise AssertionError("nobody is to ask for it")

    rows = data(20)
    own.evaluate(DataLoader(rows, batch_sampler=Batches(SequentialSampler(rows), 8, False)))


ONE = (
    once, named, left_out, wrapped, beside_another, with_support, begun_again,
    of_its_first_rows, before_it_is_looked_at, one_batch_is_peeked_at, several_an_epoch, of_a_stream,
    of_a_sampler_of_its_own,
)  # fmt: skip


@pytest.mark.parametrize("validate", ONE)
def test_of_one_pass_nothing_is_told(
    validate: Callable[[Script], None], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        seen = Script(monitor).run(validate)
    assert not caplog.messages
    assert "passes" not in seen
    assert seen["counted_rows"] == 20


@pytest.mark.parametrize("how", ["detach", "close", "with"])
def test_loaders_are_looked_at_as_long_as_somebody_is_attached(how: str) -> None:
    gc.collect()  # monitors that other tests have left
    own = DataLoader.__iter__
    model = nn.Linear(FEATURES, CLASSES)
    monitor = quiet()
    block: AbstractContextManager[Any] = nullcontext()
    attachment = monitor.attach(model)
    if how == "with":
        block = attachment
    with block:
        assert DataLoader.__iter__ is not own
        assert [len(y) for _, y in DataLoader(data(20), 8)] == [8, 8, 4]
        if how == "detach":
            attachment.detach()
    if how == "close":
        monitor.close()
    assert DataLoader.__iter__ is own
    monitor.close()


def test_a_loader_whose_class_iterates_by_itself_is_left_alone() -> None:
    class Own(DataLoader[Any]):
        def __iter__(self) -> Any:
            return iter([[torch.randn(2, FEATURES), Tensor([0, 1]).long()]])

    with quiet() as monitor:
        own = Script(monitor)
        own.evaluate(Own(data(3)))
        assert monitor.end_epoch().counts["val_samples"] == 2


# A pass that is left and begun again.


def tried_again(own: Script) -> None:
    """An error in the middle; the loop begins once more."""
    for attempt in range(2):
        own.model.eval()
        try:
            with torch.no_grad():
                for number, (x, y) in enumerate(own.val):
                    if attempt == 0 and number == 2:
                        raise OSError("mine")
                    own.criterion(own.model(x), y)
        except OSError:
            continue
    own.model.train()


def some_of_each(own: Script) -> None:
    """Two batches of each of two loaders."""
    for loader in (DataLoader(data(90), 9), DataLoader(data(80), 8)):
        own.evaluate(islice(loader, 2))


@pytest.mark.parametrize(("validate", "rows"), [(tried_again, [16, 20]), (some_of_each, [18, 16])])
def test_a_validation_that_is_begun_again_is_told(
    validate: Callable[[Script], None], rows: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        seen = Script(monitor).run(validate)
    [line] = caplog.messages
    assert f"{sum(rows)} rows of 2 passes were counted as one validation" in line
    assert seen["pass_rows"] == rows


# What the model is called for beside a validation that is counted whole.


def shows_some(own: Script) -> None:
    once(own)
    own.model.eval()
    with torch.no_grad():
        own.model(torch.randn(4, FEATURES)).argmax(1)
    own.model.train()


def draws_a_matrix(own: Script) -> None:
    once(own)
    own.model.eval()
    with torch.no_grad():
        for x, y in own.val:
            own.model(x).argmax(1) - y
    own.model.train()


def is_summed_up_first(own: Script) -> None:
    own.model.eval()
    with torch.no_grad():
        own.model(torch.randn(2, FEATURES))
    once(own)


@pytest.mark.parametrize("validate", [shows_some, draws_a_matrix, is_summed_up_first])
def test_of_answers_beside_a_whole_validation_nothing_is_told(
    validate: Callable[[Script], None], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet() as monitor:
        seen = Script(monitor).run(validate)
        found = {finding.code for finding in pm.judge(monitor).findings}
    assert not caplog.messages
    assert seen["counted_rows"] == 20
    assert not found & {"not-counted", "split-changed"}


def scores_few_and_asks_many(own: Script) -> None:
    """The loss is that of a few rows; of the validation only what is right is asked."""
    own.evaluate(own.small)
    own.model.eval()
    with torch.no_grad():
        for x, _ in own.val:
            own.model(x)
    own.model.train()


def half_of_each(own: Script) -> None:
    """In one loop, half of the batches have no loss."""
    own.model.eval()
    with torch.no_grad():
        for number, (x, y) in enumerate(own.val):
            if number % 2:
                own.model(x)
            else:
                own.criterion(own.model(x), y)
    own.model.train()


@pytest.mark.parametrize(
    ("validate", "counted", "answered"),
    [(scores_few_and_asks_many, 5, 25), (half_of_each, 12, 20)],
)
def test_a_part_of_the_validation_that_is_not_counted_is_told(
    validate: Callable[[Script], None],
    counted: int,
    answered: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with quiet() as monitor:
        Script(monitor).run(validate)
    [line] = caplog.messages
    assert f"the model answered {answered} rows, {counted} were counted" in line


# The same of training.


def learn(own: Script, batches: Any) -> None:
    for x, y in batches:
        own.optimizer.zero_grad()
        own.criterion(own.model(x), y).backward()
        own.optimizer.step()


def finds_a_rate(own: Script) -> None:
    learn(own, islice(own.train, 3))
    learn(own, own.train)


def restarts(own: Script) -> None:
    for attempt in range(2):
        for number, batch in enumerate(own.train):
            if attempt == 0 and number == 3:
                break
            learn(own, [batch])


def whole(own: Script) -> None:
    learn(own, own.train)


def twice(own: Script) -> None:
    learn(own, own.train)
    learn(own, own.train)


def in_phases(own: Script) -> None:
    learn(own, DataLoader(data(24), 8))
    learn(own, own.train)


def peeks(own: Script) -> None:
    next(iter(own.train))
    for number, batch in enumerate(own.train):
        learn(own, [batch])
        if number == 1:
            next(iter(own.train))


def validates_meanwhile(own: Script) -> None:
    """Twice, the second time over as many batches as then are left of the training data."""
    for number, batch in enumerate(own.train):
        learn(own, [batch])
        if number < 2:
            own.evaluate(own.other)


@pytest.mark.parametrize(
    "train", [finds_a_rate, restarts, whole, twice, in_phases, peeks, validates_meanwhile]
)
def test_a_pass_of_training_that_is_left_and_begun_again_is_told(
    train: Callable[[Script], None], caplog: pytest.LogCaptureFixture
) -> None:
    left = train in (finds_a_rate, restarts)
    with quiet() as monitor:
        own = Script(monitor)
        for _ in range(2):
            train(own)
            own.evaluate(own.val)
            counts = monitor.end_epoch().counts
    assert len(caplog.messages) == left
    if left:
        assert counts["train_samples"] == 32 + 24
        assert "left after 3 batches and another begun" in caplog.messages[0]
