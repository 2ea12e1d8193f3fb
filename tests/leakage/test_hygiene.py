"""Each fault of a loop is found where it is committed, and nothing is said of its healthy twin."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hygiene_scripts import (
    CLASSES,
    EPOCHS,
    AllFrozen,
    AugmentedTraining,
    AugmentedValidation,
    BatchNormInTrainMode,
    DroppedLastBatch,
    Frozen,
    FrozenStatisticsFollow,
    FrozenTooLate,
    GradualUnfreezing,
    HalfNormalized,
    Healthy,
    InTrainMode,
    LargeAugmentedValidation,
    LargeShuffledValidation,
    LongAccumulation,
    NeverSteps,
    NotCentered,
    OptimizerOfACopy,
    OptimizerOfTheHead,
    RareLabel,
    RarelyDrawn,
    RateOfZero,
    RateOfZeroForSome,
    RawTraining,
    SeveralValidations,
    ShuffledValidation,
    StepsInBfloat16,
    TwoOptimizers,
    UnseenLabel,
    UnusedHead,
    WarmUp,
    WiderValidation,
    WithGrad,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.leakage import hygiene
from ptmetrics.leakage.rules_hygiene import HYGIENE_RULES
from ptmetrics.testing import Guard, fake_cuda

CODES = [code for rule in HYGIENE_RULES for code in rule.codes]


FAULTS: dict[type[Healthy], set[str]] = {
    InTrainMode: {"eval-in-train-mode", "batchnorm-updated"},
    BatchNormInTrainMode: {"batchnorm-updated"},
    WithGrad: {"grad-in-eval"},
    AugmentedValidation: {"val-shuffled-or-augmented"},
    ShuffledValidation: {"val-shuffled-or-augmented"},
    LargeAugmentedValidation: {"val-shuffled-or-augmented"},
    LargeShuffledValidation: {"val-shuffled-or-augmented"},
    DroppedLastBatch: {"dropped-last-batch"},
    UnseenLabel: {"labels-unseen"},
    FrozenTooLate: {"frozen-not-frozen"},
    FrozenStatisticsFollow: {"frozen-not-frozen"},
    NeverSteps: {"nothing-trains"},
    StepsInBfloat16: {"nothing-trains"},
    AllFrozen: {"nothing-trains"},
    OptimizerOfTheHead: {"optimizer-misses-parameters"},
    OptimizerOfACopy: {"optimizer-misses-parameters"},
    RateOfZero: {"lr-zero"},
    RateOfZeroForSome: {"lr-zero"},
    RawTraining: {"inputs-not-normalised-alike"},
    NotCentered: {"inputs-not-normalised-alike"},
    HalfNormalized: {"inputs-not-normalised-alike"},
}
HEALTHY = (
    Healthy, Frozen, WarmUp, UnusedHead, TwoOptimizers, GradualUnfreezing, RareLabel,
    AugmentedTraining, WiderValidation, RarelyDrawn, SeveralValidations, LongAccumulation,
)  # fmt: skip
LOADERS_ALONE = {InTrainMode, DroppedLastBatch}  # hooks alone cannot tell
SEVERITIES = {
    InTrainMode: "undetermined", BatchNormInTrainMode: "warning", WithGrad: "info",
    AugmentedValidation: "warning", ShuffledValidation: "info",
    LargeAugmentedValidation: "warning", LargeShuffledValidation: "info",
    DroppedLastBatch: "warning", UnseenLabel: "warning", FrozenTooLate: "warning",
    FrozenStatisticsFollow: "info", NeverSteps: "fail", StepsInBfloat16: "fail", AllFrozen: "fail",
    OptimizerOfTheHead: "warning", OptimizerOfACopy: "fail", RateOfZero: "fail",
    RateOfZeroForSome: "warning", RawTraining: "warning", NotCentered: "warning",
    HalfNormalized: "warning",
}  # fmt: skip


def quiet(**options: Any) -> pm.Monitor:
    options = {"on_fault": "raise", "progress": False} | options
    return pm.Monitor(pm.MulticlassMetrics(CLASSES), **options)


def found(source: Any) -> list[pm.Finding]:
    return list(pm.judge(source, select=CODES).findings)


WAYS = [
    (kind, way)
    for kind in FAULTS
    for way in ("hooks", "loaders")
    if way == "loaders" or kind not in LOADERS_ALONE
]


@pytest.mark.parametrize(("kind", "way"), WAYS, ids=lambda it: getattr(it, "__name__", it))
def test_a_fault_is_found_and_nothing_else(kind: type[Healthy], way: str) -> None:
    monitor = quiet(on_fault="contain")
    kind(way).run(monitor)
    findings = found(monitor)
    assert {finding.code for finding in findings} == FAULTS[kind]
    assert findings[0].severity == SEVERITIES[kind], findings
    assert all(finding.advice and finding.evidence for finding in findings)


@pytest.mark.parametrize("way", ["hooks", "loaders"])
@pytest.mark.parametrize("kind", HEALTHY, ids=lambda it: it.__name__)
def test_nothing_is_said_of_a_healthy_loop(
    kind: type[Healthy], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = quiet()
    with caplog.at_level(logging.INFO):
        kind(way).run(monitor)
    assert found(monitor) == []
    assert caplog.messages == []


def test_every_code_has_a_loop_that_commits_its_fault() -> None:
    assert set().union(*FAULTS.values()) == set(CODES)


@pytest.mark.parametrize("kind", [LargeAugmentedValidation, LargeShuffledValidation, RateOfZero])
def test_the_record_tells_what_the_monitor_does(kind: type[Healthy], tmp_path: Path) -> None:
    monitor = quiet(run=tmp_path / "run")
    kind("loaders").run(monitor)
    (finding,) = found(tmp_path / "run")
    assert finding.code in FAULTS[kind]
    assert finding.evidence["epochs"] == EPOCHS - (finding.code != "lr-zero")
    assert f"{finding.evidence['epochs']} of {EPOCHS} epochs" in finding.message


@pytest.mark.parametrize("kind", [Healthy, *FAULTS], ids=lambda it: it.__name__)
def test_training_is_bitwise_the_same_with_it_and_without(kind: type[Healthy]) -> None:
    states = []
    for watched in (False, True):
        script = kind("loaders")
        script.run(quiet(on_fault="contain", hygiene=watched))
        values = [value.tolist() for value in script.model.state_dict().values()]
        states.append(str([values, torch.get_rng_state().tolist()]))
    assert states[0] == states[1]


def test_hygiene_can_be_left_out_and_one_that_is_passed_is_the_only_one() -> None:
    off = quiet(hygiene=False)
    RateOfZero("hooks").run(off)
    assert found(off) == []
    mine = pm.LoopHygiene()
    monitor = quiet(callbacks=[mine])
    RateOfZero("hooks").run(monitor)
    assert len(found(monitor)) == 1
    assert [note["code"] for note in monitor.history.notes] == ["hygiene"] * EPOCHS


def test_what_nobody_asked_for_has_no_part_in_a_stored_state() -> None:
    monitor = quiet()
    assert monitor.state_dict()["callbacks"] == []
    monitor.load_state_dict(quiet(hygiene=False).state_dict())


def test_an_error_in_it_never_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise OSError("mine")

    without = Healthy("hooks")
    without.run(quiet(hygiene=False))
    monkeypatch.setattr(hygiene, "look_at", fail)
    monkeypatch.setattr(hygiene, "sums_of", fail)
    monitor = quiet(on_fault="contain")
    script = Healthy("hooks")
    script.run(monitor)
    assert {fault.where for fault in monitor.faults.all()} == {"callback LoopHygiene"}
    for ours, theirs in zip(script.model.parameters(), without.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_looking_at_a_batch_and_at_parameters_waits_for_no_device() -> None:
    with fake_cuda(), Guard():
        for shape in ((8, 1), (8, 3), (8, 3, 32, 32)):
            x = torch.zeros(shape, device="cuda")
            hygiene.look_at(x, moments=True)
            hygiene.look_at(x.long(), moments=True)
        hygiene.sums_of({"x": x.view(torch.int32), "y": x.view(torch.int32)[::3]})


@pytest.mark.parametrize("way", ["hooks", "loaders"])
def test_the_end_of_an_epoch_alone_waits(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Healthy(way)
    waits: list[str] = []
    for name in ("tolist", "item", "cpu", "numpy", "__bool__"):
        own = getattr(Tensor, name)

        def told(self: Tensor, *args: Any, _own: Any = own, _name: str = name) -> Any:
            waits.append(_name)
            return _own(self, *args)

        monkeypatch.setattr(Tensor, name, told)
    callback = pm.LoopHygiene()
    monitor = quiet(hygiene=False)
    monitor.attach(script.model, optimizer=script.optimizer)
    for split in ("train", "val"):
        for number, (x, _) in enumerate(list(DataLoader(script.val_set, 40))):
            waits.clear()
            callback.on_answer(monitor, split, number, ((x,), {}), script.model(x))
            assert waits == []
    monitor.close()


# Laws of the fingerprints


def hashes(x: Tensor) -> list[int]:
    return list(hygiene.look_at(x, moments=False).hashes.tolist())


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64,
              torch.bool],
)  # fmt: skip
def test_a_fingerprint_is_of_the_row_alone(dtype: torch.dtype) -> None:
    x = 10 * torch.randn(90, 3, 40, generator=torch.Generator().manual_seed(0))
    if dtype == torch.bool:
        x = x.clamp(min=0)
    x = x.to(dtype)
    whole = hashes(x)
    assert len(set(whole)) == 90
    assert [each for part in x.split(7) for each in hashes(part)] == whole
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    assert hashes(x[order]) == [whole[place] for place in order.tolist()]
    assert hashes(x.clone()) == whole


@pytest.mark.parametrize("shape", [(4, 3, 224, 224), (4, 3, 32, 32), (4, 1000), (4, 64), (4, 5)])
def test_a_changed_picture_has_another_fingerprint(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for changed in (x + 1e-3, x.flip(-1), x.roll(1, -1), 1.01 * x):
        assert not set(hashes(x)) & set(hashes(changed))


def test_memory_formats_copy_nothing() -> None:
    x = torch.randn(4, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    weight = nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last).weight
    probe = hygiene.probe_of(weight)
    assert probe is not None
    assert probe.data_ptr() == weight.data_ptr()
    assert len(set(hashes(x))) == 4


@pytest.mark.parametrize("size", [1, 3, 63, 64, 65, 150_528, 10**7])
@pytest.mark.parametrize("most", [64, 4096])
def test_a_sample_is_bounded_and_no_smaller_than_a_third_of_its_bound(size: int, most: int) -> None:
    taken = len(range(0, size, hygiene.step_of(size, most)))
    assert taken <= most
    assert taken >= min(size, most) / 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_last_digit_of_one_value_is_seen_in_a_checksum(dtype: torch.dtype) -> None:
    parameter = nn.Parameter(torch.ones(60, 60, dtype=dtype))
    probe = hygiene.probe_of(parameter)
    assert probe is not None
    before = hygiene.sums_of({"": probe})
    with torch.no_grad():
        parameter[3, 4] = torch.nextafter(parameter[3, 4], torch.tensor(2.0, dtype=dtype))
    assert hygiene.sums_of({"": probe}) != before


def test_what_cannot_be_looked_at_is_passed_over() -> None:
    sparse = torch.eye(3).to_sparse()
    assert not hygiene.is_plain(sparse)
    assert not hygiene.is_plain(torch.zeros(0))
    assert not hygiene.is_plain(torch.zeros(2, device="meta"))
    assert not hygiene.is_plain(torch.zeros(2, dtype=torch.complex64))
    assert hygiene.probe_of(torch.ones(4, 6)[:, :3]) is None


# As the other findings


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_known_to_all_that_take_codes(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "What to do: " in pm.explain(code)
    assert main(["check", "--explain", code]) == 0
    assert capsys.readouterr().out.startswith(f"{code} (")
    with quiet(run=tmp_path / "run") as monitor:
        monitor.update(torch.eye(3), torch.arange(3), split="val")
        monitor.end_epoch()
    assert pm.judge(monitor, ignore=[code]).status == pm.judge(monitor).status


def test_the_command_line_tells_a_fault_and_ignores_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = quiet(run=tmp_path / "run")
    RateOfZero("hooks").run(monitor)
    main(["check", str(tmp_path / "run")])
    assert "lr-zero" in capsys.readouterr().out
    main(["check", str(tmp_path / "run"), "--ignore", "lr-zero"])
    assert "lr-zero" not in capsys.readouterr().out


def test_a_validation_in_training_mode_that_hooks_alone_see_is_told_once(tmp_path: Path) -> None:
    monitor = quiet(run=tmp_path / "run", on_fault="contain")
    InTrainMode("hooks").run(monitor)
    codes = [finding.code for finding in pm.judge(tmp_path / "run").findings]
    assert codes.count("eval-in-train-mode") == 1
    assert "metric-faults" not in codes


def test_another_number_of_rows_is_told_by_one_finding(tmp_path: Path) -> None:
    class Shrinking(Healthy):
        def epoch(self, train: Any, val: Any) -> None:
            super().epoch(train, val)
            val.dataset.tensors = tuple(each[:70].flip(0) for each in self.val_set.tensors)

    monitor = quiet(run=tmp_path / "run")
    Shrinking("hooks").run(monitor)
    codes = {finding.code for finding in pm.judge(tmp_path / "run").findings}
    assert "validation-changed" in codes
    assert "val-shuffled-or-augmented" not in codes


class RaisesInMidEpoch(Healthy):
    """Its second epoch ends with an error behind the training, before `end_epoch()`."""

    steps = True
    epochs = 0

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        if self.steps or not self.epochs:
            self.optimizer.step()

    def epoch(self, train: Any, val: Any) -> None:
        if self.epochs:
            super().epoch(train, ())
            raise RuntimeError("of the user")
        super().epoch(train, val)
        self.epochs += 1


@pytest.mark.parametrize("steps", [True, False])
def test_weights_that_are_put_back_in_the_middle_of_an_epoch_have_moved(steps: bool) -> None:
    monitor = quiet(callbacks=[pm.EarlyStopping("val/accuracy", restore_best=steps)])
    script = RaisesInMidEpoch("hooks")
    script.steps = steps
    with pytest.raises(RuntimeError, match="of the user"), monitor:
        script.run(monitor)
    codes = [finding.code for finding in found(monitor)]
    assert ("nothing-trains" in codes) is not steps


def test_a_fault_of_a_few_epochs_is_a_warning() -> None:
    class LateStart(Healthy):
        def step(self, loss: Tensor) -> None:
            self.optimizer.zero_grad()
            loss.backward()
            if self.started:
                self.optimizer.step()

        def epoch(self, train: Any, val: Any) -> None:
            super().epoch(train, val)
            self.started = True

        started = False

    monitor = quiet()
    LateStart("hooks").run(monitor)
    (finding,) = found(monitor)
    assert (finding.code, finding.severity) == ("nothing-trains", "warning")
    assert "1 of 3 epochs" in finding.message


class WeightsBecomeNan(Healthy):
    """All of them in the first step, as after a loss that overflowed."""

    def step(self, loss: Tensor) -> None:
        super().step(loss * math.nan)


class StepsAreSkipped(Healthy):
    """The loss is NaN, and what scales gradients leaves out each step."""

    def epoch(self, train: Any, val: Any) -> None:
        super().epoch([(x * math.nan, y) for x, y in train], val)

    def step(self, loss: Tensor) -> None:
        loss.backward()


@pytest.mark.parametrize("kind", [WeightsBecomeNan, StepsAreSkipped, NeverSteps])
def test_where_loss_or_weights_are_nan_nothing_trains_is_not_said_of_them(
    kind: type[Healthy],
) -> None:
    monitor = quiet(on_fault="contain")
    kind("hooks").run(monitor)
    assert ("nothing-trains" in {each.code for each in found(monitor)}) == (kind is NeverSteps)
