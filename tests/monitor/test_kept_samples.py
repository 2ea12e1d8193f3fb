"""Which samples a run folder holds; no kill, resume or fault makes them wrong."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loops import CLASSES, WAYS, fit, quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.metrics.samples import SampleBuffer
from ptmetrics.record.reader import Run, read_run
from ptmetrics.record.samples import CLASS_ROW, Rows, StoredSamples

LOSSES = [0.5, 0.3, 0.4, 0.35, 0.45]


def batch(seed: int, rows: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, CLASSES, generator=generator), torch.randint(
        CLASSES, (rows,), generator=generator
    )


def epoch(monitor: pm.Monitor, loss: float = 1.0, *, seed: int = 0, **options: Any) -> None:
    for step in (0, 1):
        preds, target = batch(seed + step)
        monitor.update(preds, target, loss=loss, split="train")
        monitor.update(preds, target, loss=loss, split="val", **options)
    monitor.end_epoch()


def kept(run: Run, number: int) -> StoredSamples:
    return next(run.kept(e) for e in run.epochs if e["epoch"] == number)


def rows(run: Run, number: int) -> Rows:
    found = kept(run, number).rows
    assert found is not None
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("samples*"))


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_are_those_of_the_recorded_confusion_matrix_in_the_order_of_validation(
    tmp_path: Path, way: str
) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        fit(way, monitor, ignore=-100, epochs=1) if way == "update" else fit(way, monitor, epochs=1)
    run = read_run(tmp_path / "run")
    found, matrix = rows(run, 0), np.array(run.epochs[0]["confusion"]["val"])
    counted = found[found["predicted"] >= 0]
    again = np.zeros_like(matrix)
    np.add.at(again, (counted["target"], counted["predicted"]), 1)
    assert again.tolist() == matrix.tolist()
    assert len(found) == 30
    loss = run.epochs[0]["scores"]["val/nll"]["value"]
    assert counted["loss"].astype(np.float64).mean() == pytest.approx(loss, rel=1e-6)


def files_of(*epochs: int) -> list[str]:
    return sorted(f"samples-{number}.npy" for number in set(epochs))


def best_accuracy(run: Path) -> int:
    accuracy = pm.read_history(run)["val/accuracy"]
    return accuracy.index(max(accuracy))


def test_files_of_the_lowest_loss_the_best_score_and_the_last_epoch_stay(tmp_path: Path) -> None:
    seen = []
    with quiet(run=tmp_path / "run") as monitor:
        for number, loss in enumerate(LOSSES):
            epoch(monitor, loss, seed=10 * number)
            seen.append(files(tmp_path / "run"))
    best = best_accuracy(tmp_path / "run")
    assert best == 0
    assert seen[0] == files_of(0)
    assert seen[4] == files_of(1, best, 4)
    run = read_run(tmp_path / "run")
    assert rows(run, 1)["target"][:8].tolist() == batch(10)[1].tolist()
    assert rows(run, 4)["target"][8:].tolist() == batch(41)[1].tolist()
    assert "samples-2.npy is gone" in str(kept(run, 2).reason)


def test_the_epoch_of_the_best_checkpoint_stays_too(tmp_path: Path) -> None:
    with quiet(pm.Checkpoint("val/accuracy"), run=tmp_path / "run") as monitor:
        monitor.attach(nn.Linear(1, 1))
        for number, loss in enumerate(LOSSES):
            preds, target = batch(0)
            sure = nn.functional.one_hot(target, CLASSES).float() if number == 2 else preds
            monitor.update(sure, target, loss=loss)
            monitor.end_epoch()
    assert files(tmp_path / "run") == ["samples-1.npy", "samples-2.npy", "samples-4.npy"]
    with quiet(
        run=tmp_path / "run", resume=True
    ) as monitor:  # another attempt knows it from the record
        monitor._status.epochs = 5
        epoch(monitor)
    assert files(tmp_path / "run") == ["samples-1.npy", "samples-2.npy", "samples-5.npy"]


def test_regression_keeps_errors(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run", metrics=pm.RegressionMetrics()) as monitor:
        monitor.update(torch.tensor([1.0, 2.5, torch.nan]), torch.tensor([1.5, 2.0, 0.0]))
        monitor.end_epoch()
    found = rows(read_run(tmp_path / "run"), 0)
    assert found["target"].tolist() == [1.5, 2.0, 0.0]
    assert found["error"][:2].tolist() == [-0.5, 0.5]
    assert np.isnan(found["error"][2])


def test_the_epochs_scores_hold_them_for_callbacks(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        monitor.update(*batch(0))
        scores = monitor.end_epoch()
    assert scores.samples is not None
    assert scores.samples.rows is not None
    assert scores.samples.rows["target"].tolist() == batch(0)[1].tolist()


def reason(
    folder: Path, *batches: tuple[Tensor, Tensor], metrics: Any = None, **options: Any
) -> str:
    monitor_options = (
        {"keep_samples": options.pop("keep_samples")} if "keep_samples" in options else {}
    )
    with quiet(run=folder, metrics=metrics, **monitor_options) as monitor:
        for preds, target in batches:
            monitor.update(preds, target, **options)
        monitor.end_epoch()
    assert files(folder) == []
    return str(kept(read_run(folder), 0).reason)


def test_weights_are_kept_beside_the_rows_from_the_batch_on_that_has_them(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        monitor.update(*batch(0), split="val")
        monitor.update(*batch(1), sample_weight=torch.arange(8) / 4, split="val")
        monitor.end_epoch()
        weight = rows(read_run(tmp_path / "run"), 0)["weight"].tolist()
        assert weight == [1.0] * 8 + (torch.arange(8) / 4).tolist()
        monitor.update(*batch(0), split="val")
        monitor.end_epoch()
    assert rows(read_run(tmp_path / "run"), 1).dtype == CLASS_ROW


def test_what_is_not_kept_is_not_written_and_the_record_says_why(tmp_path: Path) -> None:
    grouped = reason(
        tmp_path / "groups",
        batch(0),
        metrics=pm.MulticlassMetrics(CLASSES, groups=True),
        group=torch.arange(8) // 2,
    )
    assert grouped == "its samples come in groups, which are not independent of each other inside"
    full = reason(tmp_path / "full", batch(0), batch(1), keep_samples=15)
    assert full == "16 samples came where Monitor(keep_samples=15) has room"
    dense = torch.zeros(2, CLASSES, 4), torch.zeros(2, 4).long()
    assert reason(tmp_path / "dense", dense) == "its targets hold several values a sample, (4,)"
    labels = torch.zeros(2, 1), torch.zeros(2, 1).long()
    many = reason(tmp_path / "multilabel", labels, metrics=pm.MultilabelMetrics(1))
    assert many == "its metrics do not show them"
    assert reason(tmp_path / "off", batch(0), keep_samples=0) == "no samples of it were kept"


def test_just_enough_room_is_enough(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run", keep_samples=16) as monitor:
        for loss in LOSSES:
            epoch(monitor, loss)
    assert len(rows(read_run(tmp_path / "run"), 4)) == 16


def test_without_a_run_folder_and_in_training_nothing_is_kept(tmp_path: Path) -> None:
    with quiet() as monitor:
        epoch(monitor)
        assert all(split._stored is None for split in monitor._recorder.splits.values())
    with quiet(run=tmp_path / "run") as monitor:
        epoch(monitor)
        assert {name for name, split in monitor._recorder.splits.items() if split._stored} == {
            "val"
        }


@pytest.mark.parametrize("given", [-1, True, 1.5, "all", None, 10**7 + 1])
def test_room_must_be_a_number_of_samples(tmp_path: Path, given: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        quiet(run=tmp_path / "run", keep_samples=given)
    assert caught.value.expected == "a whole number from 0 to 10000000"
    assert caught.value.got == repr(given)
    assert "or 0 to keep none" in caught.value.cure
    assert not (tmp_path / "run").exists()


@pytest.mark.fault(40)
def test_a_file_that_cannot_be_written_costs_nothing_but_itself(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        epoch(monitor, 0.5)
        (tmp_path / "run" / "samples-1.npy").mkdir()
        epoch(monitor, 0.6)
        assert not monitor.faults
    run = read_run(tmp_path / "run")
    assert "they could not be written" in str(kept(run, 1).reason)
    assert rows(run, 0).size == 16


@pytest.mark.fault(33)
def test_a_fault_in_keeping_costs_neither_the_counts_nor_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*given: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(SampleBuffer, "_place", odd)
    with quiet(run=tmp_path / "run") as monitor:
        epoch(monitor, 0.5)
        assert monitor.history[-1, "val/loss"] == 0.5
        assert monitor.history[-1, "counts/val_samples"] == 16
    found = kept(read_run(tmp_path / "run"), 0)
    assert found.reason == "keeping them failed with RuntimeError: out of memory"


@pytest.mark.fault(41)
def test_an_epoch_that_was_killed_and_resumed_keeps_all_its_rows(tmp_path: Path) -> None:
    def half(monitor: pm.Monitor, step: int) -> None:
        monitor.update(*batch(step), loss=0.5)

    with quiet(run=tmp_path / "whole") as monitor:
        half(monitor, 0)
        half(monitor, 1)
        monitor.end_epoch()
    with quiet(run=tmp_path / "run") as first:
        half(first, 0)
        state = copy.deepcopy(first.state_dict())
        half(first, 1)
        first.close("interrupted")
    torch.save(state, tmp_path / "state.pt")
    with quiet(run=tmp_path / "run", resume=True) as second:
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        half(second, 1)
        second.end_epoch()
    expected = rows(read_run(tmp_path / "whole"), 0)
    assert rows(read_run(tmp_path / "run"), 0).tobytes() == expected.tobytes()


@pytest.mark.fault(41)
def test_a_half_epoch_whose_rows_were_not_stored_is_not_written(tmp_path: Path) -> None:
    with quiet() as first:  # no folder, no rows
        first.update(*batch(0), loss=0.5)
        state = first.state_dict()
    with quiet(run=tmp_path / "run") as second:
        second.load_state_dict(state)
        second.update(*batch(1), loss=0.5)
        second.end_epoch()
        epoch(second, 0.4)
    run = read_run(tmp_path / "run")
    assert kept(run, 0).reason == "a part of them came before the run was resumed"
    assert rows(run, 1).size == 16


@pytest.mark.fault(41)
def test_an_epoch_written_again_has_its_own_rows(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run") as first:
        epoch(first, 0.5, seed=0)
        state = first.state_dict()
        epoch(first, 0.2, seed=10)
        epoch(first, 0.3, seed=20)
    assert files(tmp_path / "run") == files_of(1, 2, best_accuracy(tmp_path / "run"))
    with quiet(run=tmp_path / "run", resume=True) as second:
        second.load_state_dict(state)
        epoch(second, 0.4, seed=30)
    run = read_run(tmp_path / "run")
    assert rows(run, 1)["target"][:8].tolist() == batch(30)[1].tolist()
    assert files(tmp_path / "run") == files_of(1, best_accuracy(tmp_path / "run"))


@pytest.mark.fault(41)
def test_a_kill_between_the_file_and_its_line_is_told_from_the_checksum(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "run") as first:
        epoch(first, 0.5, seed=0)
        epoch(first, 0.4, seed=10)
    from ptmetrics.record.samples import write_samples

    write_samples(
        tmp_path / "run", 1, rows(read_run(tmp_path / "run"), 1)[:3]
    )  # as a second attempt would
    assert "its checksum does not fit" in str(kept(read_run(tmp_path / "run"), 1).reason)


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    "odd", [torch.zeros(3, 7).int(), torch.zeros(2, 8).int(), torch.zeros(3, 8), [1, 2]], ids=repr
)
def test_rows_that_cannot_be_such_are_refused(tmp_path: Path, odd: Any) -> None:
    with quiet(run=tmp_path / "run") as monitor:
        monitor.update(*batch(0), loss=0.5)
        state = copy.deepcopy(monitor.state_dict())
        state["splits"]["val"]["samples"]["rows"] = odd
        with pytest.raises(StateError) as caught:
            monitor.load_state_dict(state)
        assert (caught.value.expected, caught.value.name) == (
            "a column for each of 8 samples",
            "samples",
        )
        assert "another checkpoint" in caught.value.cure
        monitor.end_epoch()
    assert rows(read_run(tmp_path / "run"), 0).size == 8


def test_rows_follow_the_model_to_its_device() -> None:
    metrics = pm.MulticlassMetrics(CLASSES)
    stored = metrics.store_samples(20)
    metrics.update(*batch(0))
    metrics.to("meta").update(*(t.to("meta") for t in batch(1)))
    columns, reason = stored.columns()
    assert (reason, stored.state_dict()["seen"]) == (None, 16)
    assert columns is not None
    assert columns.device.type == "meta"


@pytest.mark.fault(36)
def test_inference_mode_and_its_absence_may_alternate() -> None:
    metrics = pm.MulticlassMetrics(CLASSES)
    stored = metrics.store_samples(40)
    for number, mode in enumerate([True, False, True]):
        with torch.inference_mode(mode):
            metrics.update(*batch(number))
            assert metrics.shared_state()  # what waits is counted
    columns, _ = stored.columns()
    assert columns is not None
    assert columns.shape[1] == 24


def test_each_split_and_each_metric_keeps_its_own(tmp_path: Path) -> None:
    metrics = pm.MulticlassMetrics(CLASSES)
    runs = [quiet(run=tmp_path / name, metrics=metrics) for name in ("a", "b")]
    for number, monitor in enumerate(runs):
        epoch(monitor, seed=10 * number)
        monitor.close()
    for number, name in enumerate(("a", "b")):
        assert (
            rows(read_run(tmp_path / name), 0)["target"][:8].tolist()
            == batch(10 * number)[1].tolist()
        )
    assert metrics.updates == 0


@pytest.mark.fault(41)
def test_a_half_epoch_of_more_samples_than_there_is_room_for_goes_on(tmp_path: Path) -> None:
    with quiet(run=tmp_path / "first", keep_samples=4) as first:
        for step in (0, 1):
            first.update(*batch(step, rows=4), loss=0.5)
            state = first.state_dict()  # what waits is counted, and its rows are kept
    with quiet(run=tmp_path / "second", keep_samples=100) as second:
        second.load_state_dict(state)
        second.update(*batch(1), loss=0.5)
        second.end_epoch()
    assert kept(read_run(tmp_path / "second"), 0).reason == "a part of them was not stored"
