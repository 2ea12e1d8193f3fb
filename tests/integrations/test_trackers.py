"""Trackers against the local back ends of the real libraries; what is not installed is skipped.

`make trackers` installs them all.
"""

import csv
import importlib
import importlib.util
import logging
import math
import re
import sqlite3
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DependencyError
from ptmetrics.integrations.csv_file import CSVLogger
from ptmetrics.integrations.tensorboard import TensorBoardLogger
from ptmetrics.integrations.tracker import Tracker
from ptmetrics.record.reader import read_run

HOSTILE = ['=HYPERLINK("x")', "<img src=x onerror=alert(1)>", "\u202egro.live\x1b[2J", "x" * 10_000]


def needs(library: str) -> Any:
    return pytest.mark.skipif(
        importlib.util.find_spec(library) is None, reason=f"{library} is not installed"
    )


def fail(*trackers: Tracker, error: BaseException) -> None:
    with pm.Monitor(pm.BinaryMetrics(), callbacks=trackers) as monitor:
        monitor.update(torch.tensor([0.3]), torch.tensor([1]), split="val")
        raise error


def train(
    *trackers: Tracker,
    run: Path | None = None,
    epochs: int = 3,
    metrics: Any = None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> pm.Monitor:
    """Two batches of training and one of validation an epoch, better from epoch to epoch."""
    target = torch.arange(20) % 2
    monitor = pm.Monitor(
        metrics or pm.BinaryMetrics(), run, callbacks=trackers, config=config, **options
    )
    with monitor:
        for number in range(epochs):
            wrong = torch.arange(20) < 6 - 2 * number
            logits = (2 * torch.where(wrong, 1 - target, target) - 1) * torch.linspace(0.1, 3, 20)
            for _ in range(2):
                monitor.update(logits, target, loss=1.0 - number / 4, split="train")
            monitor.update(logits, target, loss=math.nan if number else 0.5, split="val")
            monitor.end_epoch()
    return monitor


class Keep(Tracker):
    """Keeps what it is told."""

    def __init__(self, scores: Any = ("*",), raises: str = "") -> None:
        super().__init__(scores)
        self.told: list[Any] = []
        self.raises = raises

    def start(self, monitor: Any) -> None:
        self._did("start")

    def log(self, step: int, numbers: dict[str, float], scores: pm.EpochScores) -> None:
        self._did((step, numbers))

    def finish(self, *, failed: bool) -> None:
        self._did(("finish", failed))

    def _did(self, what: Any) -> None:
        self.told.append(what)
        if self.raises and str(what).startswith(self.raises):
            raise OSError("no network")


# What all of them share


def test_an_epoch_is_told_with_its_number_steps_and_samples_as_data() -> None:
    keep = Keep(["val/accuracy", "train/l*"])
    train(keep, epochs=2)
    second = {"epoch": 1, "step": 4, "samples": 80, "train/loss": 0.75, "val/accuracy": 0.8}
    first = {"epoch": 0, "step": 2, "samples": 40, "train/loss": 1.0, "val/accuracy": 0.7}
    assert keep.told == ["start", (2, first), (4, second), ("finish", False)]


def test_by_default_every_score_is_told_as_the_history_has_it() -> None:
    keep = Keep()
    monitor = train(keep)
    for row, (_, numbers) in enumerate(keep.told[1:-1]):
        known = monitor.history[row]
        scores = {name: known[name] for name in known if name.startswith(("train/", "val/"))}
        assert len(scores) > 40
        assert {n: v for n, v in numbers.items() if "/" in n} == pytest.approx(scores, nan_ok=True)


def test_where_no_training_is_seen_the_epoch_stands_for_the_step() -> None:
    keep = Keep(["val/accuracy"])
    with pm.Monitor(pm.BinaryMetrics(), callbacks=[keep]) as monitor:
        for _ in range(2):
            monitor.update(torch.tensor([0.3, -1.0]), torch.tensor([1, 0]), split="val")
            monitor.end_epoch()
    assert [(step, numbers["epoch"]) for step, numbers in keep.told[1:-1]] == [(0, 0), (1, 1)]


def test_each_of_several_validations_is_told_once_at_its_step() -> None:
    keep = Keep(["val/accuracy", "test/accuracy"])
    logits = torch.tensor([0.3, -1.0])
    loader = [(logits, torch.tensor([1, 0]))]
    model = torch.nn.Identity()
    with (
        pm.Monitor(pm.BinaryMetrics(), callbacks=[keep], progress=False) as monitor,
        monitor.attach(model),
    ):
        for _ in monitor.epochs(2):
            for _ in range(2):
                for x, _ in monitor.train(loader):
                    model.train()(x)
                for x, _ in monitor.validate(loader):
                    model.eval()(x)
        for x, _ in monitor.test(loader):
            model.eval()(x)
    assert [step for step, _ in keep.told[1:-1]] == [1, 2, 3, 4, 4]
    assert all("val/accuracy" in numbers for _, numbers in keep.told[1:5])
    assert keep.told[5][1]["test/accuracy"] == 1.0


def test_only_rank_0_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        keep = Keep()
        train(keep, run=tmp_path / f"rank{rank}")
        assert bool(keep.told) == (rank == 0)


@pytest.mark.parametrize(("raises", "faults"), [("start", 1), ("(", 4), ("('finish", 1)])
def test_what_a_tracker_does_on_failure_is_counted_and_told_once_and_never_reaches_the_loop(
    raises: str, faults: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = Keep(raises=raises), Keep(["val/accuracy"])
    with caplog.at_level(logging.WARNING, "ptmetrics"):
        monitor = train(broken, other, run=tmp_path / "run")
    assert len(monitor.history.epoch) == 3
    assert [numbers["val/accuracy"] for _, numbers in other.told[1:-1]] == [0.7, 0.8, 0.9]
    (fault,) = read_run(tmp_path / "run").faults
    assert (fault["where"], fault["count"]) == ("callback Keep", faults)
    told = [line for line in caplog.messages if "no network" in line]
    assert told == ["callback Keep: OSError: no network; training goes on"]
    assert broken.told.count(("finish", False)) == (raises != "start")
    assert len(broken.told) == {"start": 1}.get(raises, 5)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_a_run_that_fails_is_told_as_failed(error: BaseException) -> None:
    keep = Keep()
    with pytest.raises(type(error)):
        fail(keep, error=error)
    assert keep.told[-1] == ("finish", True)


def test_names_that_a_user_made_up_reach_no_tracker_as_codes() -> None:
    keep = Keep()
    with pm.Monitor(pm.BinaryMetrics(), callbacks=[keep]) as monitor:
        for name in HOSTILE[2:]:
            monitor.update(torch.tensor([0.3]), torch.tensor([1]), split=name.replace("/", ""))
        monitor.end_epoch()
    names = keep.told[1][1]
    assert all(name.isprintable() and len(name) <= 250 for name in names)


def test_one_name_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scores: expected a list of names, got 'val/\*'\. Pass"):
        CSVLogger(scores="val/*")


TRACKERS = {
    "tensorboard": ("tensorboard", "TensorBoardLogger", "torch.utils.tensorboard"),
    "mlflow": ("mlflow", "MLFlowLogger", "mlflow"),
    "wandb": ("wandb", "WandbLogger", "wandb"),
    "trackio": ("trackio", "TrackioLogger", "trackio"),
}


@pytest.mark.parametrize("library", TRACKERS)
def test_a_library_that_is_missing_is_said_with_the_pip_line_when_its_tracker_is_built(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, imported = TRACKERS[library]
    monkeypatch.setitem(sys.modules, imported, None)
    build = getattr(importlib.import_module(f"ptmetrics.integrations.{module}"), name)
    with pytest.raises(
        DependencyError, match=rf"{library}: expected an installed {library}, got"
    ) as e:
        build("project") if library == "trackio" else build()
    assert str(e.value).endswith(f"Run pip install {library}.")


# CSV


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_csv_file_reads_back_as_the_history(tmp_path: Path) -> None:
    monitor = train(CSVLogger(), run=tmp_path / "run")
    history = pm.read_history(tmp_path / "run" / "metrics.csv")
    assert history.epoch == [0, 1, 2]
    for name in ("val/accuracy", "val/f1", "train/loss"):
        assert history[name] == monitor.history[name], name
    rows = list(csv.DictReader(lines_of(tmp_path / "run" / "metrics.csv")))
    assert [(row["epoch"], row["step"], row["samples"]) for row in rows] == [
        ("0", "2", "40"),
        ("1", "4", "80"),
        ("2", "6", "120"),
    ]
    assert rows[1]["val/loss"] == "nan"


def test_a_score_that_comes_later_gets_a_column(tmp_path: Path) -> None:
    target = torch.tensor([1, 0])
    path = tmp_path / "new" / "scores.csv"
    with pm.Monitor(
        pm.BinaryMetrics(), callbacks=[CSVLogger(path, scores=["*/accuracy"])]
    ) as monitor:
        for splits in (["train"], ["train", "val"], ["train"]):
            for split in splits:
                monitor.update(torch.tensor([0.3, 0.2]), target, split=split)
            monitor.end_epoch()
    lines = lines_of(path)
    assert lines[0] == "epoch,step,samples,train/accuracy,val/accuracy"
    assert [line.split(",")[3:] for line in lines[1:]] == [["0.5", ""], ["0.5", "0.5"], ["0.5", ""]]


def test_a_resumed_run_goes_on_in_its_csv_file_and_another_one_begins_anew(tmp_path: Path) -> None:
    for if_exists, rows in (("keep", 2), ("resume", 4), ("keep", 2)):
        train(
            CSVLogger(scores=["val/accuracy"]), run=tmp_path / "run", epochs=2, if_exists=if_exists
        )
        lines = lines_of(tmp_path / "run" / "metrics.csv")
        assert len(lines) == 1 + rows
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1"]


@pytest.mark.fault(45)
def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with pm.Monitor(pm.BinaryMetrics(), callbacks=[CSVLogger(path)]) as monitor:
        for name in HOSTILE:
            monitor.update(torch.tensor([0.3]), torch.tensor([1]), split=name.replace("/", ""))
        monitor.end_epoch()
    for row in csv.reader(lines_of(path)):
        assert not any(cell.startswith(("=", "+", "@", "-h")) for cell in row)
    assert """'=HYPERLINK(""x"")/accuracy""" in path.read_text(encoding="utf-8")


def test_a_run_without_a_folder_needs_a_path() -> None:
    with pytest.raises(ConfigError, match=r"path: expected a path, for a run without a folder"):
        train(CSVLogger())


# TensorBoard


def events_of(folder: Path) -> Any:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder), {"tensors": 0, "images": 0, "scalars": 0})
    events.Reload()
    return events


@needs("tensorboard")
def test_scalars_of_tensorboard_are_those_of_the_history(tmp_path: Path) -> None:
    monitor = train(TensorBoardLogger(), run=tmp_path / "run")
    events = events_of(tmp_path / "run" / "tensorboard")
    for name in ("val/accuracy", "train/loss", "val/auroc", "val/loss"):
        told = events.Scalars(name)
        assert [event.step for event in told] == [2, 4, 6]
        values = [event.value for event in told]
        assert values == pytest.approx(monitor.history[name], rel=1e-6, nan_ok=True)
    for name, values in {"epoch": [0, 1, 2], "samples": [40, 80, 120]}.items():
        assert [event.value for event in events.Scalars(name)] == values
    history = pm.read_history(tmp_path / "run" / "tensorboard")
    assert history["val/f1"] == pytest.approx(monitor.history["val/f1"], rel=1e-6)


def counts_by_definition(probability: Any, positive: Any) -> list[Any]:
    """The six rows of TensorBoard's curve, a threshold at a time."""
    columns = []
    for threshold in np.linspace(0, 1, 127):
        predicted = probability >= threshold
        tp = (predicted & positive).sum()
        fp = (predicted & ~positive).sum()
        fn = (~predicted & positive).sum()
        tn = (~predicted & ~positive).sum()
        columns.append((tp, fp, tn, fn, tp / max(1e-7, tp + fp), tp / max(1e-7, tp + fn)))
    return list(np.array(columns).T)


def curve_at(events: Any, tag: str) -> Any:
    from tensorboard.util import tensor_util

    return tensor_util.make_ndarray(events.Tensors(tag)[-1].tensor_proto)


@needs("tensorboard")
def test_curves_of_tensorboard_are_counts_by_definition(tmp_path: Path) -> None:
    torch.manual_seed(0)
    target = torch.arange(400) % 3
    logits = torch.randn(400, 3) + torch.nn.functional.one_hot(target, 3)
    logits[:9, 1] = 0.0  # of two classes on a threshold, 0.5
    names = ["cat", "dog", "<img>"]
    for metrics, preds, truth, tags in (
        (pm.BinaryMetrics(curves="exact", capacity=400), logits[:, 1], target == 1, {"": None}),
        (
            pm.MulticlassMetrics(3, class_names=names, curves="exact", capacity=400),
            logits,
            target,
            {"/cat": 0, "/dog": 1, "/<img>": 2},
        ),
    ):
        folder = tmp_path / metrics.task
        tracker = TensorBoardLogger(folder, confusion=False)
        with pm.Monitor(metrics, callbacks=[tracker]) as monitor:
            monitor.update(preds, truth.long(), split="val")
            monitor.update(preds, truth.long(), split="train")
            monitor.end_epoch()
        events = events_of(folder)
        curves = [tag for tag in events.Tags()["tensors"] if "pr_curve" in tag]
        assert sorted(curves) == sorted(f"val/pr_curve{end}" for end in tags), "none of training"
        for end, head in tags.items():
            probability = torch.sigmoid(preds) if head is None else preds.softmax(1)[:, head]
            positive = truth if head is None else truth == head
            expected = counts_by_definition(probability.double().numpy(), positive.numpy())
            got = curve_at(events, f"val/pr_curve{end}")
            assert got == pytest.approx(np.array(expected), abs=1e-6), end


@needs("tensorboard")
def test_a_metric_without_scores_has_no_curve_and_none_is_missed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    tracker = TensorBoardLogger(folder, confusion=False)
    with pm.Monitor(pm.RegressionMetrics(), callbacks=[tracker], on_fault="raise") as monitor:
        monitor.update(torch.randn(8), torch.randn(8), split="val")
        monitor.end_epoch()
    assert {tag.partition("/")[0] for tag in events_of(folder).Tags()["scalars"]} == {
        "epoch", "step", "samples", "val",
    }  # fmt: skip
    assert events_of(folder).Tags()["tensors"] == []


@needs("tensorboard")
@needs("matplotlib")
def test_the_confusion_matrix_is_a_picture_of_each_validation(tmp_path: Path) -> None:
    train(TensorBoardLogger(), run=tmp_path / "run", on_fault="raise")
    events = events_of(tmp_path / "run" / "tensorboard")
    assert events.Tags()["images"] == ["val/confusion"]
    pictures = events.Images("val/confusion")
    assert [picture.step for picture in pictures] == [2, 4, 6]
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")
    assert pictures[0].encoded_image_string != pictures[2].encoded_image_string


@needs("tensorboard")
def test_a_new_run_in_the_folder_is_shown_alone_and_a_resumed_one_goes_on(tmp_path: Path) -> None:
    for if_exists, steps in (("keep", [2, 4]), ("keep", [2, 4]), ("resume", [2, 4, 6, 8])):
        tracker = TensorBoardLogger(confusion=False, pr_curves=False)
        train(tracker, run=tmp_path / "run", epochs=2, if_exists=if_exists)
        events = events_of(tmp_path / "run" / "tensorboard")
        assert [event.step for event in events.Scalars("val/accuracy")] == steps


@needs("tensorboard")
def test_hostile_names_make_no_fault_in_tensorboard(tmp_path: Path) -> None:
    names = [name.replace("/", "") for name in HOSTILE]
    metrics = pm.MulticlassMetrics(4, class_names=names)
    tracker = TensorBoardLogger(tmp_path / "log", confusion=False)
    with pm.Monitor(metrics, callbacks=[tracker], on_fault="raise") as monitor:
        for split in names:
            monitor.update(torch.eye(4), torch.arange(4), split=split)
        monitor.end_epoch()
    tags = events_of(tmp_path / "log").Tags()
    assert all(map(str.isprintable, tags["scalars"] + tags["tensors"]))


# MLflow


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow with a store of files."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow
    mlflow.end_run()
    mlflow.set_tracking_uri(None)


ODD = {"lr": 0.1, "=a(b)": [1, 2]}


def test_mlflow_has_the_scores_of_a_run_of_its_own(mlflow: Any, tmp_path: Path) -> None:
    from ptmetrics.integrations.mlflow import MLFlowLogger

    metrics = pm.BinaryMetrics(at=["recall@precision>=0.9"])
    tracker = MLFlowLogger(run_name="mine")
    monitor = train(tracker, metrics=metrics, config=ODD, on_fault="raise")
    assert mlflow.active_run() is None
    (found,) = mlflow.search_runs(output_format="list")
    assert (found.info.status, found.info.run_name) == ("FINISHED", "mine")
    assert found.data.params == {"lr": "0.1", "_a_b_": "[1, 2]"}
    told = mlflow.MlflowClient().get_metric_history(found.info.run_id, "val/accuracy")
    assert [(each.step, each.value) for each in told] == [(2, 0.7), (4, 0.8), (6, 0.9)]
    known = {name for name in monitor.history if name.startswith(("train/", "val/"))}
    own = {"epoch", "step", "samples"}
    assert set(found.data.metrics) == own | {
        re.sub("[@>=]", "_", name).replace("/", ".").replace(".", "/", 1) for name in known
    }
    assert math.isnan(found.data.metrics["val/loss"])


def test_mlflow_goes_on_in_the_run_that_is_active(mlflow: Any) -> None:
    from ptmetrics.integrations.mlflow import MLFlowLogger

    with mlflow.start_run() as run:
        train(MLFlowLogger(scores=["val/accuracy"]), on_fault="raise")
        assert mlflow.active_run() is not None
    assert mlflow.get_run(run.info.run_id).data.metrics["val/accuracy"] == 0.9


def test_a_run_that_failed_is_failed_in_mlflow(mlflow: Any) -> None:
    from ptmetrics.integrations.mlflow import MLFlowLogger

    with pytest.raises(ValueError, match="mine"):
        fail(MLFlowLogger(), error=ValueError("mine"))
    assert [run.info.status for run in mlflow.search_runs(output_format="list")] == ["FAILED"]


# Weights & Biases


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes it, behind wandb's own 7 bytes: in blocks of 32 KiB."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        _, size, kind = struct.unpack_from("<IHB", content, at)
        if 2**15 - at % 2**15 < 7 or kind == 0:  # the rest of a block is empty
            at += 2**15 - at % 2**15
            continue
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def wandb_rows(folder: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What the file of an offline run holds: its rows, and its configuration."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # all is written then
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows, config = [], {}
    for content in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        if record.history.item:
            keys = [item.key or "/".join(item.nested_key) for item in record.history.item]
            rows.append(dict(zip(keys, [i.value_json for i in record.history.item], strict=True)))
        config |= {item.key: item.value_json for item in record.run.config.update}
    return rows, config


@needs("wandb")
def test_wandb_has_the_scores_in_its_offline_file(tmp_path: Path) -> None:
    import wandb

    from ptmetrics.integrations.wandb import WandbLogger

    settings = wandb.Settings(silent=True, x_disable_stats=True, x_disable_meta=True)
    tracker = WandbLogger("digits", mode="offline", dir=str(tmp_path), settings=settings)
    monitor = train(tracker, config=ODD, on_fault="raise")
    assert wandb.run is None
    rows, config = wandb_rows(tmp_path)
    assert config["lr"] == "0.1"
    told = [(row["epoch"], row["step"], row["samples"], row["val/accuracy"]) for row in rows]
    assert told == [("0", "2", "40", "0.7"), ("1", "4", "80", "0.8"), ("2", "6", "120", "0.9")]
    known = {name for name in monitor.history if name.startswith(("train/", "val/"))}
    assert known <= set(rows[0])


@needs("wandb")
def test_wandb_goes_on_in_the_run_that_is_there(tmp_path: Path) -> None:
    import wandb

    from ptmetrics.integrations.wandb import WandbLogger

    settings = wandb.Settings(silent=True, x_disable_stats=True, x_disable_meta=True)
    with wandb.init(project="p", mode="offline", dir=str(tmp_path), settings=settings) as run:
        train(WandbLogger(scores=["val/accuracy"]), on_fault="raise")
        assert wandb.run is run
    assert [row["val/accuracy"] for row in wandb_rows(tmp_path)[0]] == ["0.7", "0.8", "0.9"]


# trackio


@needs("trackio")
def test_trackio_has_the_scores_in_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptmetrics.integrations.trackio import TrackioLogger

    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path)
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
    tracker = TrackioLogger("digits", name="mine", auto_log_cpu=False, auto_log_gpu=False)
    train(tracker, config=ODD, on_fault="raise")
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs("digits", "mine")
    assert [(row["step"], row["epoch"], row["samples"]) for row in rows] == [
        (2, 0, 40),
        (4, 1, 80),
        (6, 2, 120),
    ]
    assert [row["val/accuracy"] for row in rows] == [0.7, 0.8, 0.9]
    assert list(tmp_path.glob("digits.db"))
    with sqlite3.connect(tmp_path / "digits.db") as store:
        assert store.execute("select count(*) from metrics").fetchone() == (3,)
