"""Profiles: by name, from a file, and what is said about a wrong one."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from judged_sources import payload

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.errors import ConfigError
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import PROFILES, Profile, Thresholds, profile_of, profile_of_run


def write(folder: Path, text: str) -> Path:
    path = folder / "strict.toml"
    path.write_text(text)
    return path


def test_balanced_holds_the_stated_aims() -> None:
    limits = profile_of("balanced").thresholds
    assert (limits.accuracy, limits.accuracy_bad) == (0.85, 0.70)
    assert (limits.precision, limits.recall, limits.speedup) == (0.80, 0.80, 0.5)


def test_every_threshold_is_documented() -> None:
    documented = set(re.findall(r"^        (\w+): ", Thresholds.__doc__ or "", re.M))
    assert documented == {item.name for item in fields(Thresholds)}


def test_a_file_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    profile = profile_of(
        write(tmp_path, 'extends = "recall-first"\nrecall = 0.95\nclass_support = 50\n')
    )
    assert (profile.name, profile.thresholds.recall, profile.thresholds.class_support) == (
        "strict",
        0.95,
        50,
    )
    assert profile.thresholds.precision == PROFILES["recall-first"].thresholds.precision


def test_false_drops_a_criterion(tmp_path: Path) -> None:
    path = write(tmp_path, "accuracy = false\nbalance = false\n")
    names = {c.name for c in judge(payload([[85, 15], [10, 90]]), profile=str(path)).criteria}
    assert names == {"accuracy above majority class", "precision/macro", "recall/macro"}


def test_a_mapping_is_read_as_a_file_of_the_same_keys(tmp_path: Path) -> None:
    keys = {"extends": "recall-first", "recall": 0.95, "precision": None}
    profile = profile_of(keys)
    path = write(tmp_path, 'extends = "recall-first"\nrecall = 0.95\nprecision = false\n')
    assert profile.name == "custom"
    assert profile.thresholds == profile_of(path).thresholds
    assert keys == {"extends": "recall-first", "recall": 0.95, "precision": None}
    assert judge(payload([[85, 15], [10, 90]]), profile={"accuracy": 0.99}).status == "not ready"
    monitor = pm.Monitor(pm.BinaryMetrics(), profile=keys, progress=False)
    for _ in range(50):
        monitor.update(torch.tensor([4.0, -4.0]), torch.tensor([1, 0]), split="val")
    monitor.end_epoch()
    recall = [each for each in pm.judge(monitor).criteria if each.name.startswith("recall")]
    assert [each.threshold for each in recall] == [0.95]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"recal": 0.9}, r"recal: expected a threshold out of .*, got an unknown key\. Remove"),
        ({3: 0.9}, r"3: expected a threshold out of .*, got an unknown key\. Remove"),
        ({"recall": 1.5}, r"recall: expected a share from 0 to 1, .*, got 1\.5\. Write"),
        ({"extends": "strict"}, r"extends: expected one of balanced, .*, got 'strict'\. Name"),
    ],
)
def test_a_mapping_that_holds_no_thresholds_is_refused(keys: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        profile_of(keys)


def test_a_profile_is_itself() -> None:
    profile = Profile("mine", Thresholds(recall=0.99))
    assert profile_of(profile) is profile
    assert profile_of(profile.thresholds) == Profile("custom", profile.thresholds)


def test_an_unknown_profile_names_the_known_ones() -> None:
    known = "balanced, regression, recall-first, precision-first, tokens, pixels"
    message = rf"profile: expected one of {known}, or a \.toml file, got 'balenced'\. Name"
    with pytest.raises(ConfigError, match=message):
        profile_of("balenced")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "acuracy = 0.9",
            r"acuracy: expected a threshold out of accuracy, .*, got an unknown key\. Remove or",
        ),
        (
            "accuracy = 85",
            r"accuracy: expected a share from 0 to 1, or false to drop the criterion, got 85\. Write",
        ),
        (
            "recall = 'high'",
            r"recall: expected a share from 0 to 1, or false .*, got 'high'\. Write .*recall = 0\.8",
        ),
        (
            "accuracy = true",
            r"accuracy: expected a share from 0 to 1, or false .*, got True\. Write",
        ),
        ("trend_p = false", r"trend_p: expected a share from 0 to 1, got False\. Write"),
        ("rise_noise = -1", r"rise_noise: expected a number >= 0, got -1\. Write"),
        ("accuracy = nan", r"accuracy: expected a share from 0 to 1, .*, got nan\. Write"),
        (
            "baseline = 'none'",
            r"baseline: expected 'accuracy' or 'balanced accuracy', got 'none'\. Write one",
        ),
        (
            "extends = 'strict'",
            r"extends: expected one of balanced, .*, got 'strict'\. Name a profile",
        ),
        ("extends = 3", r"extends: expected one of balanced, .*, got 3\. Name a profile"),
        (
            "accuracy == 1",
            r"profile: expected TOML, got .* in .*strict\.toml\. Write lines like: accuracy = 0\.9",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        profile_of(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"profile: expected a readable file, got No such file .*none\.toml\. Check",
    ):
        profile_of(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="profile: expected TOML, got "):
        profile_of(path)


# The profile that a run was given.


def run_of(folder: Path | None, profile: object, **options: object) -> pm.Monitor:
    options = {"progress": False} | options
    monitor = pm.Monitor(pm.BinaryMetrics(inputs="labels"), folder, profile=profile, **options)  # type: ignore[arg-type]
    target = torch.arange(400) % 2
    preds = target.clone()
    preds[:60] = 1  # of 200 negatives 30 are taken for positives
    monitor.update(preds, target, split="val")
    monitor.end_epoch()
    monitor.close()
    return monitor


OWN = Profile("mine", Thresholds(accuracy=None, recall=0.97, mae=2.0))
GIVEN = [
    ("recall-first", PROFILES["recall-first"]),
    (OWN, OWN),
    (OWN.thresholds, Profile("custom", OWN.thresholds)),
    (Profile("balanced", Thresholds(recall=0.3)), Profile("custom", Thresholds(recall=0.3))),
    (None, PROFILES["balanced"]),
]


@pytest.mark.parametrize(("given", "expected"), GIVEN)
def test_a_run_is_judged_by_the_profile_that_it_was_given(
    given: object, expected: Profile, tmp_path: Path
) -> None:
    by_monitor = judge(run_of(None, given))
    run_of(tmp_path / "run", given)
    by_record = judge(tmp_path / "run")
    asked = judge(tmp_path / "run", profile=expected)
    assert by_monitor.profile == by_record.profile == asked.profile == expected.name
    assert by_monitor.criteria == by_record.criteria == asked.criteria


def test_a_file_with_thresholds_is_read_as_the_run_begins(tmp_path: Path) -> None:
    path = write(tmp_path, "accuracy = 0.99\nrecall = false\n")
    run_of(tmp_path / "run", path)
    path.unlink()
    verdict = judge(tmp_path / "run")
    assert verdict.profile == "strict"
    assert {item.name: item.threshold for item in verdict.criteria}["accuracy"] == 0.99


def test_who_asks_for_another_profile_gets_it(tmp_path: Path) -> None:
    run_of(tmp_path / "run", "recall-first")
    assert judge(tmp_path / "run", profile="balanced").profile == "balanced"


def test_the_console_and_the_command_line_take_the_profile_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(tmp_path / "run", "precision-first", progress="plain")
    assert "(profile precision-first)" in capsys.readouterr().err
    main(["check", str(tmp_path / "run")])
    assert "(profile precision-first)" in capsys.readouterr().out
    main(["check", str(tmp_path / "run"), "--profile", "balanced"])
    assert "(profile balanced)" in capsys.readouterr().out


def test_a_profile_that_cannot_be_is_refused_as_the_run_begins() -> None:
    with pytest.raises(ConfigError, match="profile: expected one of balanced"):
        run_of(None, "balenced")


def test_a_forged_profile_does_not_change_what_a_name_stands_for(tmp_path: Path) -> None:
    forged = {"profile": {"name": "balanced", "thresholds": {"accuracy": 0.0}}}
    assert profile_of_run(forged) == PROFILES["balanced"]
    with pytest.raises(ConfigError, match="accuracy: expected a share from 0 to 1"):
        profile_of_run({"profile": {"name": "mine", "thresholds": {"accuracy": -3}}})
    later = {"profile": {"name": "mine", "thresholds": {"unheard_of": 1.0, "recall": 0.5}}}
    assert profile_of_run(later) == Profile("mine", Thresholds(recall=0.5))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("balanced", ("accuracy", "precision")),
        ("recall-first", ("recall", "precision")),
        ("precision-first", ("precision", "recall")),
        ("regression", ("r2",)),
        ("tokens", ("perplexity",)),
        ("pixels", ("mean_iou",)),
    ],
)
def test_the_readme_tells_what_a_profile_asks_for(name: str, asked: tuple[str, ...]) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [row] = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    told = [float(number) for number in re.findall(r"\d[\d.]*", row.split("|")[2])]
    assert told == [getattr(PROFILES[name].thresholds, each) for each in asked]
