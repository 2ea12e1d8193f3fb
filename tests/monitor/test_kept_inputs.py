"""Small pictures of the samples with the highest loss: only when asked for, of the right samples, in bounded room."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loops import CLASSES, quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.errors import ConfigError
from ptmetrics.monitor.pictures import NO_PICTURES, small_pictures, small_size
from ptmetrics.monitor.split import SplitCounts
from ptmetrics.record.reader import read_run
from ptmetrics.record.samples import StoredSamples
from ptmetrics.testing import Guard, fake_cuda

SIZES = (8, 8, 8, 3)


class Flat(nn.Module):
    """A classifier of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def pictures(seed: int, rows: int, shape: tuple[int, ...] = (3, 40, 20)) -> Tensor:
    """Each of one colour of its own, so that a small one is told from all others."""
    generator = torch.Generator().manual_seed(seed)
    shade = torch.rand(rows, shape[0], 1, 1, generator=generator)
    return shade.expand(rows, *shape).contiguous()


def batches(shape: tuple[int, ...] = (3, 40, 20)) -> list[tuple[Tensor, Tensor]]:
    found = []
    for seed, rows in enumerate(SIZES):
        target = torch.arange(rows) % CLASSES
        found.append((pictures(seed, rows, shape), target))
    return found


def logits(inputs: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(int(inputs.sum() * 1000))
    return torch.randn(len(inputs), CLASSES, generator=generator)


def handed_over(folder: Path | None, some: Any = None, **options: Any) -> Any:
    """An epoch by `update`; its stored samples."""
    with quiet(run=folder, **options) as monitor:
        for inputs, target in some or batches():
            scores = logits(inputs)
            monitor.update(scores, target, split="train", inputs=inputs)
            monitor.update(scores, target, split="val", inputs=inputs)
        return monitor.end_epoch().samples


def kept(folder: Path) -> StoredSamples:
    run = read_run(folder)
    return run.kept(run.epochs[-1])


def test_pictures_are_those_of_the_samples_with_the_highest_loss(tmp_path: Path) -> None:
    told = handed_over(tmp_path / "run", keep_inputs=5)
    found = kept(tmp_path / "run")
    assert found.inputs is not None
    assert found.inputs.tobytes() == told.inputs.tobytes()
    places, _ = found.worst(5)
    assert found.inputs["place"].tolist() == places.tolist()
    everything = torch.cat([inputs for inputs, _ in batches()])
    for place, picture in zip(places, found.inputs["picture"], strict=True):
        assert picture.shape == (3, 32, 16)
        shade = (everything[place, :, 0, 0] * 255).round().numpy()
        assert np.abs(picture - shade[:, None, None]).max() <= 1
    loaded = np.load(tmp_path / "run" / "inputs-0.npy")  # without torch and without us
    assert loaded["picture"].tobytes() == found.inputs["picture"].tobytes()


def test_hooks_see_the_same_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, criterion = Flat(), nn.CrossEntropyLoss()
    model(batches()[0][0])
    with quiet(run=tmp_path / "run", keep_inputs=40) as monitor:
        monitor.attach(model.eval(), criterion=criterion)
        for mode, some in ((torch.inference_mode, slice(2)), (torch.no_grad, slice(2, None))):
            with mode():
                for inputs, target in batches()[some]:
                    criterion(model(inputs), target)
        monitor.end_epoch()
    found = kept(tmp_path / "run")
    assert found.inputs is not None
    assert len(found.inputs) == sum(SIZES)  # no more than there are
    everything = torch.cat([inputs for inputs, _ in batches()])
    losses = nn.functional.cross_entropy(
        model(everything), torch.cat([target for _, target in batches()]), reduction="none"
    )
    assert found.inputs["place"].tolist() == losses.argsort(descending=True).tolist()
    shades = (everything[found.inputs["place"].tolist(), :, 0, 0] * 255).numpy()
    assert np.abs(found.inputs["picture"][:, :, 0, 0] - shades).max() <= 1


def test_none_are_kept_unless_asked_for(tmp_path: Path) -> None:
    handed_over(tmp_path / "run")
    found = kept(tmp_path / "run")
    assert found.inputs is None
    assert found.no_inputs == "none of it were kept"
    assert not list((tmp_path / "run").glob("inputs*"))


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((5, 8, 8), {}, NO_PICTURES),
        ((3, 8), {}, NO_PICTURES),
        (
            (3, 40, 20),
            {"keep_samples": 9},
            "27 samples came where Monitor(keep_samples=9) has room",
        ),
    ],
)
def test_the_record_says_why_there_are_none(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, int], words: str
) -> None:
    some = [(torch.zeros(len(y), *shape), y) for _, y in batches()]
    handed_over(tmp_path / "run", some, keep_inputs=4, **options)
    assert kept(tmp_path / "run").no_inputs == words


def test_a_batch_without_its_inputs_leaves_none(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run", keep_inputs=4) as monitor:
        for step, (inputs, target) in enumerate(batches()):
            given = None if step == 2 else inputs
            monitor.update(logits(inputs), target, inputs=given)
        monitor.end_epoch()
    assert kept(tmp_path / "run").no_inputs == NO_PICTURES


def test_an_epoch_that_is_resumed_half_done_says_so(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run", keep_inputs=4) as monitor:
        inputs, target = batches()[0]
        monitor.update(logits(inputs), target, inputs=inputs)
        state = monitor.state_dict()
        monitor.load_state_dict(state)
        monitor.update(logits(inputs), target, inputs=inputs)
        monitor.end_epoch()
        assert "before the run was resumed" in str(kept(tmp_path / "run").no_inputs)
        monitor.update(logits(inputs), target, inputs=inputs)
        monitor.end_epoch()
    assert kept(tmp_path / "run").inputs is not None


def test_other_sizes_are_brought_to_that_of_the_first(tmp_path: Path) -> None:
    some = [
        (pictures(0, 8), torch.zeros(8).long()),
        (pictures(1, 8, (3, 9, 50)), torch.ones(8).long()),
    ]
    found = handed_over(tmp_path / "run", some, keep_inputs=16)
    assert found.inputs["picture"].shape == (16, 3, 32, 16)


def test_labels_alone_show_what_is_wrong(tmp_path: Path) -> None:
    metrics = pm.MulticlassMetrics(CLASSES, inputs="labels")
    with quiet(run=tmp_path / "run", metrics=metrics, keep_inputs=9) as monitor:
        inputs, target = batches()[0]
        monitor.update(target.roll(1) * (target > 0), target, inputs=inputs)
        monitor.end_epoch()
    found = kept(tmp_path / "run")
    assert found.inputs is not None
    assert found.inputs["place"].tolist() == found.misclassified()[0].tolist()


def test_numbers_show_the_largest_error(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run", metrics=pm.RegressionMetrics(), keep_inputs=2) as monitor:
        error = torch.tensor([0.1, -3.0, 0.2, torch.nan])
        monitor.update(error, torch.zeros(4), inputs=pictures(0, 4, (1, 5, 5)))
        monitor.end_epoch()
    found = kept(tmp_path / "run")
    assert found.inputs is not None
    assert found.inputs["place"].tolist() == [1, 2]
    assert found.inputs["picture"].shape == (2, 1, 5, 5)


@pytest.mark.parametrize("given", [-1, 257, True, 2.0, "all"])
def test_what_is_no_number_of_pictures_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="keep_inputs: expected a whole number from 0 to 256"):
        quiet(keep_inputs=given)


@pytest.mark.parametrize(
    ("shape", "small"),
    [((3, 224, 224), (3, 32, 32)), ((1, 28, 28), (1, 28, 28)), ((3, 4000, 2), (3, 32, 1))],
)
def test_sizes(shape: tuple[int, ...], small: tuple[int, ...]) -> None:
    assert small_size(torch.empty(1, *shape)) == small


def test_bytes_and_shares_keep_their_shade_and_other_numbers_span_the_range() -> None:
    one = torch.arange(256).reshape(1, 1, 16, 16)
    size = (16, 16)
    assert torch.equal(small_pictures(one.to(torch.uint8), size), one.to(torch.uint8))
    assert torch.equal(small_pictures(one / 255, size), one.to(torch.uint8))
    assert torch.equal(small_pictures((one / 255 - 0.48) / 0.2, size), one.to(torch.uint8))
    flat = torch.full((2, 3, 4, 4), -7.0)
    assert not small_pictures(flat, (4, 4)).any()
    broken = torch.tensor([torch.nan, torch.inf, 0.5, 1.0]).reshape(1, 1, 2, 2)
    assert small_pictures(broken, (2, 2)).flatten().tolist() == [0, 0, 128, 255]


def test_nothing_waits_for_the_device() -> None:
    with fake_cuda(), Guard():
        counts = SplitCounts({"": [pm.MulticlassMetrics(CLASSES)]}, 100, 4)
        for rows in SIZES:
            inputs = torch.zeros(rows, 3, 40, 20, device="cuda")
            target = torch.zeros(rows, dtype=torch.int64, device="cuda")
            counts.add(torch.zeros(rows, CLASSES, device="cuda"), target, inputs=inputs)
        held = counts.pictures
        assert held is not None
        assert held._reason is None
        assert held._kept is not None
        assert held._kept[0].shape == (4, 3, 32, 16)
        assert held._kept[0].is_cuda
