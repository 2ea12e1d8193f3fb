"""Every threshold of every rule by its name, and the profiles that set them."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any, Literal

from ptmetrics.errors import ConfigError
from ptmetrics.verdict.finding import Plain

_toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


@dataclass(frozen=True)
class Thresholds(Plain):
    """The numbers that the rules decide by. Shares are in [0, 1]; None drops that criterion.

    The task decides which of them apply: `r2`, `mae`, `mse`, `rmse` where numbers are predicted,
    `accuracy` down to `class_support` where classes are.

    Args:
        accuracy: Good from here; the lower bound must reach it.
        accuracy_bad: Bad below; between the two a model is mediocre, which is not ready either.
        precision: Wanted precision, of the positive class or the mean over classes.
        recall: Wanted recall, likewise.
        balance: Largest |precision − recall| that still counts as close.
        balance_far: From here they are called far apart.
        baseline: What beats the majority class must show: "accuracy" (paired mid-p McNemar test),
            or "balanced accuracy" above 1/classes where missing the rare class is what costs.
        skill_p: Largest mid-p at which the model beats the majority class.
        imbalance: Largest class over smallest above which data are imbalanced.
        paradox_accuracy: Accuracy from which a useless model looks good.
        paradox_recall: Recall of the rarest class that unmasks it.
        paradox_mcc: Matthews correlation that unmasks it.
        class_recall: A class with recall below is not learned.
        class_alpha: Family-wise error of the test over all classes (Holm).
        class_support: A class with fewer samples is called thinly covered when it cannot be
            decided.
        slice_score: A slice with less accuracy is weak; with less recall of the positive class
            where `accuracy` is dropped.
        slice_alpha: Family-wise error of the test over all slices (Holm).
        train_gap: Lower bound of training minus validation accuracy that warns of overfitting.
        train_gap_fail: The same that fails.
        rise: Smallest relative rise of the validation loss over its minimum.
        rise_moderate: Relative rise from which it sinks the verdict.
        rise_severe: Relative rise that counts without a trend test, in runs too short for one.
        rise_noise: The rise must be this many times the jitter of the loss.
        trend_p: Level of the trend tests.
        slope: Relative fall of the training loss per epoch that still counts as progress.
        diverged: Training loss over its own minimum that counts as diverged.
        speedup: Largest ratio of training times that counts as halved.
        speedup_none: Ratio of training times from which the two are called similar.
        single_run_margin: With one run per arm the ratio must clear `speedup` by this factor, which
            covers seeds that spread by 15 %.
        margin: Loss of accuracy, precision, recall or R² against scratch or a baseline that is
            tolerated.
        error_margin: Growth of an error against a baseline that is tolerated, relative to the
            baseline's.
        r2: Wanted share of the targets' variance that is explained. How much can be depends on the
            data: set your own.
        mae: Largest mean absolute error, in the unit of the target; likewise `mse`, in its square,
            and `rmse`.
        mse: Largest mean squared error.
        rmse: Largest root mean squared error.
        mean_iou: Wanted mean over classes of the overlap of areas, intersection over union.
        dice: Wanted mean over classes of Dice's overlap.
        perplexity: Largest perplexity. What can be reached depends on vocabulary and text: set your
            own.
        regression_support: With fewer samples no R² or error is decided: their intervals are too
            narrow then.
        leaked_share: Share of validation rows that training may have seen.
        leaked_gain: What a score may gain by them, shown by the lower bound of its paired interval.
        ratio_gap: Relative disagreement of time ratio and sample ratio that is flagged.

    Example:
        >>> import ptmetrics as pm
        >>> strict = pm.Thresholds(accuracy=0.99)
        >>> pm.judge_confusion([[970, 30], [45, 955]], profile=strict).status
        'not ready'

    Source: accuracy, precision, recall and speedup are the project's stated aims; the rest are its
        proposals.
    """

    accuracy: float | None = 0.85
    accuracy_bad: float = 0.70
    precision: float | None = 0.80
    recall: float | None = 0.80
    balance: float | None = 0.10
    balance_far: float = 0.30
    baseline: Literal["accuracy", "balanced accuracy"] = "accuracy"
    skill_p: float = 0.05
    imbalance: float = 3.0
    paradox_accuracy: float = 0.85
    paradox_recall: float = 0.50
    paradox_mcc: float = 0.30
    class_recall: float = 0.50
    class_alpha: float = 0.05
    class_support: int = 30
    slice_score: float = 0.70
    slice_alpha: float = 0.05
    train_gap: float = 0.05
    train_gap_fail: float = 0.10
    rise: float = 0.02
    rise_moderate: float = 0.10
    rise_severe: float = 0.30
    rise_noise: float = 2.0
    trend_p: float = 0.05
    slope: float = 0.005
    diverged: float = 2.0
    speedup: float = 0.5
    speedup_none: float = 0.8
    single_run_margin: float = 1.5
    margin: float = 0.01
    error_margin: float = 0.05
    r2: float | None = 0.50
    mae: float | None = None
    mse: float | None = None
    rmse: float | None = None
    mean_iou: float | None = None
    dice: float | None = None
    perplexity: float | None = None
    regression_support: int = 30
    leaked_share: float = 0.01
    leaked_gain: float = 0.005
    ratio_gap: float = 0.25


@dataclass(frozen=True)
class Profile:
    """Thresholds under a name.

    Args:
        name: As it stands in the verdict.
        thresholds: The numbers.

    Example:
        >>> import ptmetrics as pm
        >>> mine = pm.Profile("mine", pm.Thresholds(accuracy=0.99))
        >>> pm.judge_confusion([[970, 30], [45, 955]], profile=mine).profile
        'mine'
    """

    name: str
    thresholds: Thresholds

    def to_record(self) -> dict[str, Any]:
        """Plain values for a run's header: of a profile that comes with ptmetrics the name alone."""
        if PROFILES.get(self.name) == self:
            return {"name": self.name}
        name = self.name
        if name in PROFILES:
            name = "custom"
        usual = asdict(Thresholds())
        own = asdict(self.thresholds)
        changed = {key: value for key, value in own.items() if value != usual[key]}
        return {"name": name, "thresholds": changed}


# Missing a case costs most, and cases are rare: accuracy says little; half of the alarms may be
# false.
_RECALL_FIRST = Thresholds(
    accuracy=None, recall=0.90, precision=0.50, balance=None, baseline="balanced accuracy"
)
# A false alarm costs most: what is flagged must be right, half of the cases may slip through.
_PRECISION_FIRST = Thresholds(
    accuracy=None,
    recall=0.50,
    precision=0.90,
    balance=None,
    baseline="balanced accuracy",
    slice_score=0.30,
)
# Rows of one picture or text are alike: what counts single rows as independent is left out, and
# classes that fill most of the rows say little by accuracy.
_PIXELS = Thresholds(
    accuracy=None,
    precision=None,
    recall=None,
    balance=None,
    baseline="balanced accuracy",
    class_recall=0.0,
    class_support=0,
    mean_iou=0.50,
)
_TOKENS = replace(_PIXELS, baseline="accuracy", mean_iou=None, perplexity=50.0)
PROFILES = {
    "balanced": Profile("balanced", Thresholds()),
    # The same numbers: the task decides which apply. The name settles it for a log that does not
    # tell its task.
    "regression": Profile("regression", Thresholds()),
    "recall-first": Profile("recall-first", _RECALL_FIRST),
    "precision-first": Profile("precision-first", _PRECISION_FIRST),
    "tokens": Profile("tokens", _TOKENS),
    "pixels": Profile("pixels", _PIXELS),
}
_IN_UNITS = {"mae", "mse", "rmse", "perplexity"}
_OPTIONAL = {"accuracy", "precision", "recall", "balance", "r2", "mean_iou", "dice", *_IN_UNITS}
_ABOVE_ONE = {
    "imbalance",
    "rise_noise",
    "diverged",
    "single_run_margin",
    "class_support",
    "regression_support",
    "error_margin",
    *_IN_UNITS,
}


ProfileLike = str | Path | Profile | Thresholds | Mapping[str, Any]
"""The name of a profile, a TOML file or what one would hold, a profile or its numbers."""


def profile_of(profile: ProfileLike) -> Profile:
    """The profile by its name, from a TOML file, or as it is.

    Args:
        profile: A known name, a path that ends in ".toml", a mapping with what such a file holds, a
            `Profile`, or bare `Thresholds`.

    Raises:
        ConfigError: If the name is unknown, or the file or mapping does not hold thresholds.

    Example:
        >>> profile_of({"extends": "recall-first", "recall": 0.95}).thresholds.recall
        0.95
    """
    if isinstance(profile, Profile):
        return profile
    if isinstance(profile, Thresholds):
        return Profile("custom", profile)
    if isinstance(profile, Mapping):
        return _extended("custom", profile)
    if str(profile).endswith(".toml"):
        return read_profile(Path(profile))
    if str(profile) not in PROFILES:
        rule = f"one of {', '.join(PROFILES)}, or a .toml file"
        cure = "Name one of them, or pass a TOML file with your own thresholds."
        raise ConfigError("profile", rule, repr(str(profile)), cure)
    return PROFILES[str(profile)]


def profile_of_run(header: Mapping[str, Any]) -> Profile | None:
    """The profile that a run was given, as its header tells; None where it was given none.

    Raises:
        ConfigError: If a threshold in it cannot be.
    """
    told = header.get("profile")
    if not told:
        return None
    if told["name"] in PROFILES:
        return PROFILES[told["name"]]
    known = {item.name for item in fields(Thresholds)}
    changes = {}
    for key, value in (told.get("thresholds") or {}).items():
        if key in known:
            changes[key] = _threshold_value(key, value is not None and value)
    return Profile(told["name"], Thresholds(**changes))


def read_profile(path: Path) -> Profile:
    """One's own profile: thresholds by name, over those of the profile that `extends` names.

    `extends = "recall-first"` and `recall = 0.95` make a file; `accuracy = false` drops that
    criterion.

    Raises:
        ConfigError: If the file cannot be read, a key is unknown, or a value is out of its range.
    """
    try:
        keys = _toml.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        got = f"{problem.strerror} for {path}"
        cure = "Check the path of the profile."
        raise ConfigError("profile", "a readable file", got, cure) from None
    except ValueError as problem:
        cure = "Write lines like: accuracy = 0.9"
        raise ConfigError("profile", "TOML", f"{problem} in {path}", cure) from None
    return _extended(path.stem, keys)


def _extended(name: str, keys: Mapping[str, Any]) -> Profile:
    """The thresholds of these keys over those of another profile."""
    changes = dict(keys)
    extends = changes.pop("extends", "balanced")
    if extends not in PROFILES:
        cure = "Name a profile that comes with ptmetrics."
        raise ConfigError("extends", f"one of {', '.join(PROFILES)}", repr(extends), cure)
    known = sorted(item.name for item in fields(Thresholds))
    unknown = sorted(map(str, changes.keys() - set(known)))
    if unknown:
        rule = f"a threshold out of {', '.join(known)}"
        raise ConfigError(unknown[0], rule, "an unknown key", "Remove or correct it.")
    for key, value in changes.items():
        changes[key] = _threshold_value(key, value is not None and value)
    return Profile(name, replace(PROFILES[extends].thresholds, **changes))


def _threshold_value(key: str, value: Any) -> Any:
    """The value of a key in a file, if it may be; None for false, which drops a criterion."""
    if key == "baseline":
        if value in {"accuracy", "balanced accuracy"}:
            return value
        rule = "'accuracy' or 'balanced accuracy'"
        raise ConfigError(key, rule, repr(value), "Write one of the two.")
    if value is False and key in _OPTIONAL:
        return None
    most, rule = 1.0, "a share from 0 to 1"
    if key in _ABOVE_ONE:
        most, rule = inf, "a number >= 0"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0.0 <= value <= most:
        return value
    if key in _OPTIONAL:
        rule += ", or false to drop the criterion"
    example = getattr(Thresholds(), key)
    if key in _IN_UNITS:
        example = 2.5
    elif example is None:
        example = 0.5
    raise ConfigError(key, rule, repr(value), f"Write for example: {key} = {example!r}")
