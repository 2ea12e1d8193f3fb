"""Profiles: by name, from a file, and what is said about a wrong one."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from judged_sources import payload

from ptmetrics.errors import ConfigError
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import PROFILES, Profile, Thresholds, profile_of


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
