import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.finetune.config import Config, DataConfig, ModelConfig, RunGroupConfig, TrainConfig
from ptmetrics.finetune.models import build_model
from ptmetrics.finetune.source_task import cache_folder, source_facts, source_path, source_weights

CPU = torch.device("cpu")
MODEL = ModelConfig(
    "shufflenet_v2_x0_5", weights="source-task"
)  # small, and with batch normalisation
CONFIG = Config(
    task=DataConfig("digits", image_size=32),
    source=DataConfig("digits", image_size=32, train_limit=94, val_limit=47),
    model=MODEL,
    pretrain=TrainConfig(epochs=1, batch_size=31),  # 94 = 3 · 31 + 1: a last batch of one image
    run_groups=(RunGroupConfig("pretrained", MODEL, TrainConfig()),),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PTMETRICS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights, made once for the tests that only read or damage them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTMETRICS_CACHE", str(tmp_path_factory.mktemp("trained")))
        return source_weights(CONFIG, MODEL, CPU, lambda _: None)


def test_the_source_task_is_trained_once_and_then_found(cache: Path) -> None:
    lines: list[str] = []
    first = source_weights(CONFIG, MODEL, CPU, lines.append)
    assert first.parent == cache
    assert [line.split()[0] for line in lines] == ["pre-training", "epoch"]
    lines.clear()
    assert source_weights(CONFIG, MODEL, CPU, lines.append) == first
    assert lines == []
    assert list(cache.iterdir()) == [first]


def test_its_weights_start_a_model_and_say_what_they_took(trained: Path) -> None:
    model = build_model(MODEL, 10, trained)
    stored = torch.load(trained, weights_only=True)["model"]
    assert torch.equal(model.state_dict()["conv5.0.weight"], stored["conv5.0.weight"])
    assert stored["conv1.1.num_batches_tracked"] == 3
    facts = source_facts(trained)
    assert facts["train_s"] > 0
    assert 0 <= facts["val_accuracy"] <= 1


def test_pretraining_gives_the_same_weights_again_and_takes_no_random_number_of_the_caller(
    trained: Path,
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    again = torch.load(source_weights(CONFIG, MODEL, CPU, lambda _: None), weights_only=True)[
        "model"
    ]
    assert torch.equal(torch.rand(2), expected)
    before = torch.load(trained, weights_only=True)["model"]
    assert all(torch.equal(again[key], before[key]) for key in before)


@pytest.mark.parametrize(
    "damage", ["one bit", "cut short", "emptied", "hostile", "of another program"]
)
def test_a_damaged_file_is_made_anew_with_a_message(
    tmp_path: Path, cache: Path, trained: Path, damage: str
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "code_was_run"),)

    cache.mkdir()
    path, whole = source_path(CONFIG, MODEL), trained.read_bytes()
    middle = len(whole) // 2
    if damage == "hostile":
        torch.save(Payload(), path)
    elif damage == "of another program":
        torch.save({"model": {}}, path)
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"one bit": flipped, "cut short": whole[:middle], "emptied": b""}[damage])
    lines: list[str] = []
    assert source_weights(CONFIG, MODEL, CPU, lines.append) == path
    assert lines[0] == f"{path} is damaged; pre-training again"
    assert source_facts(path)["train_s"] > 0
    assert not (tmp_path / "code_was_run").exists()


def test_what_changes_the_weights_changes_their_file_and_nothing_else_does() -> None:
    path = source_path(CONFIG, MODEL)
    assert CONFIG.source is not None
    same = [
        (replace(CONFIG, seeds=(5,)), MODEL),
        (replace(CONFIG, pretrain=replace(CONFIG.pretrain, workers=1, device="cpu")), MODEL),
        (CONFIG, replace(MODEL, weights="none")),
    ]
    other = [
        (replace(CONFIG, pretrain=replace(CONFIG.pretrain, lr=0.01)), MODEL),
        (replace(CONFIG, source=replace(CONFIG.source, train_limit=95)), MODEL),
        (CONFIG, replace(MODEL, name="resnet18")),
        (CONFIG, replace(MODEL, skip_padding=True)),
    ]
    assert all(source_path(config, model) == path for config, model in same)
    assert len({path, *(source_path(config, model) for config, model in other)}) == 5


def test_no_half_file_stays_when_pretraining_is_interrupted(cache: Path) -> None:
    def interrupt(line: str) -> None:
        if "epoch 1" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source_weights(CONFIG, MODEL, CPU, interrupt)
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_named_before_anything_is_trained(
    cache: Path,
) -> None:
    cache.write_text("a file in its place")
    lines: list[str] = []
    rule = r"cache folder: expected a folder that can be written, got File exists at .*/cache\. Free some space"
    with pytest.raises(ConfigError, match=rule):
        source_weights(CONFIG, MODEL, CPU, lines.append)
    assert lines == []


def test_without_a_source_task_there_are_no_weights() -> None:
    groups = (RunGroupConfig("scratch", ModelConfig("resnet18"), TrainConfig()),)
    with pytest.raises(
        ConfigError, match=r"source: expected a data set for .*, got none\. Add \[source\]"
    ):
        source_weights(replace(CONFIG, source=None, run_groups=groups), MODEL, CPU)


def test_facts_are_in_files_of_the_source_task_only(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": {}}, path)
    with pytest.raises(
        StateError, match=r"other\.pt: expected a file of source_weights, got another one\. Pass"
    ):
        source_facts(path)


@pytest.mark.parametrize(
    ("own", "shared", "folder"),
    [
        ("/a", "/b", "/a"),
        ("", "/b", "/b/ptmetrics"),
        ("", "relative", "/home/me/.cache/ptmetrics"),
        ("", "", "/home/me/.cache/ptmetrics"),
    ],
)
def test_the_cache_is_where_the_user_wants_it(
    monkeypatch: pytest.MonkeyPatch, own: str, shared: str, folder: str
) -> None:
    monkeypatch.setenv("PTMETRICS_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", shared)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path(folder)
