"""The experiment: runs take turns without touching each other; every end leaves readable records."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ptmetrics.cli import main
from ptmetrics.errors import ConfigError, ShapeError
from ptmetrics.finetune.config import (
    DataConfig,
    ModelConfig,
    RunGroupConfig,
    TrainConfig,
    load_config,
)
from ptmetrics.finetune.data import Data, load_data
from ptmetrics.finetune.experiment import Finished, outcome_of, run_experiment
from ptmetrics.finetune.training import TrainingRun
from ptmetrics.record.reader import read_run
from ptmetrics.verdict.compare import compare

CONFIG = """
target = "val/accuracy>=0.2"
seeds = [0, 1]
[task]
name = "digits"
image_size = 8
train_limit = 40
val_limit = 60
[source]
name = "glyphs"
train_limit = 60
val_limit = 47
[model]
name = "shufflenet_v2_x0_5"
[pretrain]
epochs = 1
[train]
epochs = 2
batch_size = 20
[arms.pretrained]
weights = "source-task"
[arms.scratch]
"""


@dataclass(frozen=True)
class Done:
    """What a run of `ptmetrics finetune --json` left: a folder, and text on both streams."""

    config: Path
    root: Path
    out: str
    progress: str


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny experiment, and one cache for all tests: the source task is trained once."""
    folder = tmp_path_factory.mktemp("experiment")
    path = folder / "tiny.toml"
    path.write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTMETRICS_CACHE", str(folder / "cache"))
        yield path


@pytest.fixture(scope="module")
def done(config_file: Path) -> Done:
    root = config_file.parent / "runs"
    out, progress = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(progress):
        assert main(["finetune", str(config_file), "--run", str(root), "--json"]) == 0
    return Done(config_file, root, out.getvalue(), progress.getvalue())


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(DataConfig("digits", image_size=8, train_limit=40, val_limit=40), 0)


def small_net(outputs: int = 10) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        fc = torch.nn.Linear(3 * 64, outputs)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.2))
    net.add_module("fc", fc)
    return net


def make_run(
    data: Data, run: Path, *, name: str = "group", outputs: int = 10, seed: int = 0
) -> TrainingRun:
    config = RunGroupConfig(
        name, ModelConfig(), TrainConfig(epochs=2, batch_size=16, validations_per_epoch=2)
    )
    net = small_net(outputs)
    return TrainingRun(config, seed, net, data, run=run, header={}, device=torch.device("cpu"))


def scores_of(run: Path) -> list[dict[str, float]]:
    return [{k: v["value"] for k, v in e["scores"].items()} for e in read_run(run).epochs]


def test_a_run_learns_the_same_alone_and_taking_turns(data: Data, tmp_path: Path) -> None:
    alone = make_run(data, tmp_path / "alone")
    while not alone.done:
        alone.advance()
    runs = [
        make_run(data, tmp_path / name, seed=seed) for seed, name in enumerate(("first", "second"))
    ]
    torch.manual_seed(99)
    while not all(run.done for run in runs):
        torch.rand(7)  # somebody else's random numbers
        for run in runs:
            run.advance()
    assert scores_of(tmp_path / "alone") == scores_of(tmp_path / "first")
    assert scores_of(tmp_path / "alone") != scores_of(tmp_path / "second")


def test_taking_turns_leaves_the_callers_random_numbers_alone(data: Data, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_run(data, tmp_path / "run").advance()
    assert torch.equal(before, torch.get_rng_state())


def test_an_interval_is_a_part_of_an_epoch_and_all_samples_are_seen(
    data: Data, tmp_path: Path
) -> None:
    training = make_run(data, tmp_path / "run")
    while not training.done:
        training.advance()
    run = read_run(tmp_path / "run")
    assert [e["counts"]["train_samples"] for e in run.epochs] == [16, 24, 16, 24]
    assert [e["counts"]["val_samples"] for e in run.epochs] == [40] * 4
    assert run.end is not None
    assert run.end["reason"] == "completed"


def test_a_model_with_another_output_is_refused_before_training(data: Data, tmp_path: Path) -> None:
    with pytest.raises(
        ShapeError, match=r"model output: expected .*\(2, 10\), got shape \(2, 7\). Choose"
    ):
        make_run(data, tmp_path / "run", outputs=7)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_experiment_records_every_run_group_and_seed_and_is_judged(done: Done) -> None:
    assert done.progress.count("pre-training") == 1, "once for all seeds"
    folders = {
        name: [done.root / name / f"seed{seed}" for seed in (0, 1)]
        for name in ("pretrained", "scratch")
    }
    outcome = outcome_of(Finished(done.root, folders, load_config(done.config)))
    headers = [run.header for runs in outcome.run_groups.values() for run in runs]
    assert [(h["arm"], h["seed"]) for h in headers] == [
        ("pretrained", 0), ("pretrained", 1), ("scratch", 0), ("scratch", 1)
    ]  # fmt: skip
    assert len({h["val_fingerprint"] for h in headers}) == 1
    assert outcome.comparison is not None
    assert outcome.comparison.same_validation is True
    target = load_config(done.config).target
    pretrained, scratch = outcome.run_groups.values()
    wanted = compare(pretrained, scratch, target=target).to_dict()
    swapped = compare(scratch, pretrained, target=target).to_dict()
    assert repr(outcome.comparison.to_dict()) == repr(wanted) != repr(swapped)
    text = outcome.text()
    for part in (
        "pretrained, seed0 of 2 seeds",
        "scratch, seed0",
        "Training time to val/accuracy>=0.2",
        "Verdict:",
        str(done.root),
    ):
        assert part in text
    assert text.endswith(f"Report: {done.root / 'report.html'}")
    page = (done.root / "report.html").read_text(encoding="utf-8")
    assert "What pretrained bought over scratch" in page
    assert "val/accuracy&gt;=0.2" in page
    assert json.loads(done.out)["report"] == str(done.root / "report.html")


@pytest.mark.slow
def test_progress_names_data_model_and_groups_and_has_a_column_for_each_group(done: Done) -> None:
    lines = done.progress.splitlines()
    opening = "digits: 40 to train on, 60 to validate, 10 classes · shufflenet_v2_x0_5 · CPU, "
    assert lines[0].startswith(opening)
    assert lines[0].endswith(" · 2 arms × 2 seeds")
    head = "validation accuracy, lowest – highest of the seeds"
    table = lines[lines.index(head) + 1 :]
    assert table[0].split() == ["evaluation", "pretrained", "scratch"]
    rows = [line.split() for line in table[1:3]]
    assert [row[0] for row in rows] == ["1", "2"]
    judged = json.loads(done.out)["arms"]
    for place, runs in enumerate(judged.values()):
        last = {f"{run['scores']['val/accuracy']['value']:.3f}" for run in runs}
        spans = [row[1 + 3 * place : 4 + 3 * place] for row in rows]
        assert all(span[1] == "–" and float(span[0]) <= float(span[2]) for span in spans)
        assert any(value in span for span in spans for value in last)


@pytest.mark.slow
def test_json_of_an_experiment_is_one_object_with_ratio_and_verdict(done: Done) -> None:
    result = json.loads(done.out)
    assert set(result["time_ratio"]) >= {"value", "low", "high", "censored"}
    assert result["verdict"]["status"] in {"ready", "not ready", "undetermined", "invalid"}
    assert [run["scores"]["val/accuracy"]["n"] for run in result["arms"]["scratch"]] == [60, 60]


def test_a_folder_that_holds_something_is_refused_and_kept(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.txt").write_text("mine")
    assert main(["finetune", str(config_file), "--run", str(tmp_path / "runs")]) == 2
    assert "expected a folder that is new or empty" in capsys.readouterr().err
    assert (tmp_path / "runs" / "mine.txt").read_text() == "mine"


@pytest.mark.fault(48)
@pytest.mark.slow
def test_an_interrupt_seals_every_record_and_keeps_what_was_measured(
    config_file: Path, tmp_path: Path
) -> None:
    def interrupt(line: str) -> None:
        if line.split()[:1] == ["1"]:  # the first evaluation is done
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(load_config(config_file), run=str(tmp_path / "runs"), say=interrupt)
    for path in sorted((tmp_path / "runs").glob("*/seed*")):
        run = read_run(path)
        assert len(run.epochs) == 1
        assert run.end is not None
        assert run.end["reason"] == "interrupted"
        assert not run.problems


def test_a_folder_is_only_taken_when_it_is_new(tmp_path: Path, config_file: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder that is new or empty, got a file"):
        run_experiment(load_config(config_file), run=str(tmp_path / "file"))


@pytest.mark.slow
def test_the_sets_are_audited_before_training_and_it_is_said_what_that_cost(done: Done) -> None:
    (line,) = [line for line in done.progress.splitlines() if line.startswith("leakage: ")]
    assert line.startswith("leakage: val, 60 rows: ")
    assert line.endswith(" s")
    run = read_run(done.root / "pretrained" / "seed0")
    (note,) = [note for note in run.notes if note["code"] == "leakage-audit"]
    assert note["train_rows"] == 40
    assert note["message"] in line
