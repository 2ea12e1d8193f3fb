from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptmetrics.errors import ConfigError
from ptmetrics.finetune.config import Config, TrainConfig, digest, load_config, packaged_config

DIGITS = """
seeds = [3, 4]
[task]
name = "digits"
image_size = 32
[source]
name = "glyphs"
[model]
name = "resnet18"
[train]
lr = 0.01
epochs = 5
workers = 2
[pretrain]
epochs = 1
[arms.pretrained]
weights = "source-task"
lr = 1
[arms.scratch]
weights = "none"
"""


def read(folder: Path, text: str) -> Config:
    path = folder / "mine.toml"
    path.write_text(text)
    return load_config(path)


def test_an_arm_lays_its_own_keys_over_those_of_every_arm(tmp_path: Path) -> None:
    config = read(tmp_path, DIGITS)
    pretrained, scratch = config.run_groups
    assert (pretrained.name, scratch.name) == ("pretrained", "scratch")
    assert (pretrained.train.lr, scratch.train.lr) == (1.0, 0.01)
    assert pretrained.train.epochs == scratch.train.epochs == 5
    assert (pretrained.model.weights, scratch.model.weights) == ("source-task", "none")


def test_pretraining_shares_the_machine_but_not_the_rest_of_train(tmp_path: Path) -> None:
    config = read(tmp_path, DIGITS)
    assert config.pretrain.workers == 2
    assert config.pretrain.lr == TrainConfig().lr


def test_what_the_source_leaves_out_is_the_tasks(tmp_path: Path) -> None:
    source = read(tmp_path, DIGITS).source
    assert source is not None
    assert source.image_size == 32


@pytest.mark.parametrize(
    ("weights", "normalization"), [("imagenet", "imagenet"), ("source-task", "half")]
)
def test_normalization_follows_the_weights(
    tmp_path: Path, weights: str, normalization: str
) -> None:
    config = read(tmp_path, DIGITS.replace('"source-task"', f'"{weights}"'))
    assert config.source is not None
    assert config.task.normalization == config.source.normalization == normalization


def test_the_run_folder_is_named_after_the_file_unless_it_is_told(tmp_path: Path) -> None:
    assert read(tmp_path, DIGITS).run == "runs/mine"
    assert read(tmp_path, 'run = "there"\n' + DIGITS).run == "there"


def test_the_digest_depends_on_values_and_not_on_their_order_in_the_file(tmp_path: Path) -> None:
    first = read(tmp_path, DIGITS)
    moved = DIGITS.replace("lr = 0.01\nepochs = 5", "epochs = 5\nlr = 0.01")
    assert moved != DIGITS
    changed = DIGITS.replace("0.01", "0.02")
    same, other = (digest(read(tmp_path, text).to_dict()) for text in (moved, changed))
    assert same == digest(first.to_dict()) != other


KEYS = st.text(max_size=5)


@given(st.dictionaries(KEYS, st.integers() | KEYS | st.none(), max_size=5))
def test_a_digest_is_that_of_the_content_in_any_order(content: dict[str, object]) -> None:
    backwards = dict(reversed(content.items()))
    assert digest(backwards) == digest(content)
    assert digest({**content, "": 0.5}) != digest(content)


@pytest.mark.parametrize("name", ["digits", "digits-quick", "imagefolder", "cifar10"])
def test_every_packaged_configuration_can_be_read(name: str) -> None:
    config = load_config(packaged_config(name))
    assert [arm.name for arm in config.run_groups][:2] == ["pretrained", "scratch"]


def test_an_unknown_packaged_configuration_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"^configuration: expected one of .*digits.*, got 'digit'\. Name one"
    ):
        packaged_config("digit")


WRONG = [
    (
        "lr = 0.01",
        "lrr = 0.01",
        "train.lrr: expected one of the keys amp, .*, got an unknown key. Did you mean lr?",
    ),
    (
        "seeds = [3, 4]",
        "sedes = [3, 4]",
        "sedes: expected one of the keys .*, got an unknown key. Did you mean seeds?",
    ),
    (
        "lr = 1\n",
        "workers = 1\n",
        "arms.pretrained.workers: expected one of the keys .*, got an unknown key.",
    ),
    (
        "[pretrain]",
        "[pretrain]\nfreeze_epochs = 1",
        "pretrain.freeze_epochs: expected one of the keys .*, got an unk",
    ),
    (
        "lr = 0.01",
        'lr = "fast"',
        "train.lr: expected a number, got 'fast'. Correct the value of lr.",
    ),
    ("epochs = 5", "epochs = 5.0", "train.epochs: expected a whole number, got 5.0. Correct"),
    ("epochs = 5", "epochs = true", "train.epochs: expected a whole number, got True. Correct"),
    ("epochs = 5", "epochs = 0", "train.epochs: expected at least 1, got 0. Correct"),
    ("lr = 0.01", "lr = 0", "train.lr: expected above 0, got 0.0. Correct"),
    ("lr = 0.01", "lr = nan", "train.lr: expected above 0, got nan. Correct"),
    ("lr = 0.01", "lr = inf", "train.lr: expected above 0, got inf. Correct"),
    (
        "lr = 0.01",
        "momentum = 1.0",
        "train.momentum: expected at least 0 and below 1, got 1.0. Correct",
    ),
    (
        "lr = 0.01",
        'optimizer = "adam"',
        "train.optimizer: expected one of 'sgd', 'adamw', got 'adam'. Did you mean 'ad",
    ),
    (
        "lr = 0.01",
        'device = "cpu"\namp = true',
        'train.amp: expected false on device = "cpu", got true. Remove amp',
    ),
    (
        "lr = 0.01",
        'freeze = "backbone"\nfreeze_epochs = 1',
        "train.freeze_epochs: expected 0 with freeze = .*, got 1. K",
    ),
    (
        '"none"',
        '"none"\nfreeze_epochs = 1',
        "arms.scratch.freeze: expected no freezing of random weights, got .* Put f",
    ),
    (
        '"none"',
        '"weights.pt"',
        "arms.scratch.weights: expected one of 'none', .* or a file that exists, got 'weights.pt'.",
    ),
    (
        'name = "resnet18"',
        'stem = "imagenet"',
        "model.stem: expected one of 'default', 'cifar', got 'imagenet'. Correct",
    ),
    (
        'name = "digits"',
        "",
        "task.name: expected a value, got none. Add name = … under \\[task\\].",
    ),
    (
        'name = "digits"',
        'name = "imagefolder"',
        "task.root: expected a folder for imagefolder, got none. Add root",
    ),
    (
        'name = "digits"',
        'name = "../x"',
        "task.name: expected the name of a data set, got '../x'. Use",
    ),
    (
        'name = "digits"',
        'name = "digits"\nval_fraction = 1.0',
        "task.val_fraction: expected above 0 and below 1, got 1.0.",
    ),
    ("image_size = 32", "image_size = 7", "task.image_size: expected at least 8, got 7."),
    (
        "[source]",
        "[sauce]",
        "sauce: expected one of the keys .*, got an unknown key. Did you mean source?",
    ),
    (
        '[source]\nname = "glyphs"',
        "",
        'source: expected a data set for weights = "source-task", got none. Add \\[source',
    ),
    (
        "seeds = [3, 4]",
        "seeds = [3, 3]",
        "seeds: expected different whole numbers from 0, got \\[3, 3\\]. Write",
    ),
    (
        "seeds = [3, 4]",
        "seeds = []",
        "seeds: expected different whole numbers from 0, got \\[\\]. Write",
    ),
    ("seeds = [3, 4]", "seeds = 3", "seeds: expected an array, got 3. Correct"),
    (
        "seeds = [3, 4]",
        'seeds = [3, "x"]',
        "seeds\\[1\\]: expected a whole number, got 'x'. Correct",
    ),
    ("seeds = [3, 4]", 'target = "good"', "target: expected a text such as .*, got 'good'."),
    ("seeds = [3, 4]", 'profile = "brave"', "profile: expected one of balanced, .*, got 'brave'."),
    ("seeds = [3, 4]", 'run = " "', "run: expected a folder, got ' '. Write"),
    (
        "[arms.scratch]",
        '[arms."a/b"]',
        "arms.a/b.name: expected 1 to 64 letters, digits, - or _, got 'a/b'. It becomes",
    ),
]


@pytest.mark.parametrize(
    ("right", "wrong", "message"), WRONG, ids=[row[1].replace("\n", " ") for row in WRONG]
)
def test_a_mistake_is_named_with_file_table_and_key(
    tmp_path: Path, right: str, wrong: str, message: str
) -> None:
    assert right in DIGITS
    with pytest.raises(ConfigError, match=rf"mine\.toml: {message}"):
        read(tmp_path, DIGITS.replace(right, wrong, 1))


def test_a_table_that_is_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"model: expected a table, got 3\. Write \[model\] and its keys below\."
    ):
        read(tmp_path, "model = 3\n" + DIGITS.replace('[model]\nname = "resnet18"\n', ""))


def test_a_run_without_arms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"arms: expected one or more, .*, got \[\]\. Write, for example, \[arms"
    ):
        read(tmp_path, DIGITS.partition("[arms")[0])


def test_a_cifar_stem_cannot_take_published_weights(tmp_path: Path) -> None:
    text = DIGITS.replace('name = "resnet18"', 'stem = "cifar"').replace(
        '"source-task"', '"imagenet"'
    )
    with pytest.raises(
        ConfigError,
        match=r"arms\.pretrained\.stem: expected \"default\" with .*, got 'cifar'\. Set stem",
    ):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"none\.toml: expected a file that can be read, got No such file.*\. Correct",
    ):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"expected a file that can be read, got Is a directory\. Correct the path",
    ):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "content", [b"[task\n", b"a = 1\na = 2\n", b"\xff\xfe"], ids=["open", "twice", "bytes"]
)
def test_what_is_not_toml_is_refused_with_its_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"bad\.toml: expected TOML, got .*(line|position).*\. Correct the file"
    ):
        load_config(path)


@pytest.mark.parametrize(
    ("train", "frozen"),
    [
        (TrainConfig(), [False, False]),
        (TrainConfig(freeze="backbone"), [True, True]),
        (TrainConfig(freeze_epochs=1), [True, False]),
    ],
)
def test_the_backbone_is_frozen_when_it_should_be(train: TrainConfig, frozen: list[bool]) -> None:
    assert [train.freezes(epoch) for epoch in range(2)] == frozen
