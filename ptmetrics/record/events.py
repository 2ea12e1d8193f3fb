"""What stands in the `data` of each kind of journal line; `schema` checks that it does."""

from collections.abc import Mapping
from typing import Any, TypedDict


class ScoreData(TypedDict):
    """One number with its interval; `value` is NaN, with a `reason`, where the score is undefined."""

    value: float
    low: float
    high: float
    n: int
    method: str
    reason: str | None
    error_bound: float
    higher_is_better: bool


class PerClassData(TypedDict):
    """One score for each class, in the order of the class names."""

    value: list[float]
    low: list[float]
    high: list[float]
    n: list[int]
    method: str


class PerSliceData(TypedDict):
    """Scores of the worst slices, one number a slice in the order of `names`.

    The worst by the score `by` stands first. `filled` is how many slices held a row, which may be
    more than stand here.
    """

    by: str
    names: list[str]
    filled: int
    scores: dict[str, PerClassData]


class StepTimeData(TypedDict):
    """Quantiles of the time from step to step, in milliseconds."""

    p50: float
    p95: float
    max: float


class TimeData(TypedDict, total=False):
    """Where the time of an epoch went, in seconds.

    `train_cumulative_s` is without validation, callbacks and checkpoints, with the warm-up step
    replaced by the median step.
    """

    train_s: float
    val_s: float
    data_wait_s: float
    other_s: float
    train_device_s: float | None
    train_cumulative_s: float
    wall_cumulative_s: float
    step_ms: StepTimeData | None


class CountsData(TypedDict, total=False):
    """Samples and steps of an epoch, and training's so far over all epochs."""

    train_samples: int
    train_steps: int
    val_samples: int
    val_steps: int
    train_samples_cumulative: int
    train_steps_cumulative: int


class FaultCount(TypedDict):
    """How often one kind of fault was seen in an epoch, and where first."""

    count: int
    first_step: int
    message: str


class SamplesData(TypedDict, total=False):
    """A file of an evaluation's rows: their number and its checksum; or the reason why there is none.

    Where several ranks validated, `shares` are the files of all of them, in their order.
    """

    rows: int
    crc: str
    reason: str
    shares: list["SamplesData"]


class CriterionData(TypedDict, total=False):
    """What is known of the criterion that was watched; an empty name where there was none."""

    name: str
    reduction: str
    weighted: bool
    label_smoothing: float


class SeenData(TypedDict, total=False):
    """What of a split went by in an epoch, whether it was counted or not.

    `answers` are calls of the model with `answered_rows` rows, of which nothing counted
    `unpaired_rows`. `passes` are passes over the split, of which only the last stands in the
    scores, with the rows of each, at most 8, in `pass_rows`. `loader_rows` is the length that the
    loader itself tells, `dropped_rows` what it leaves out as no full batch, `batch_rows` the mean
    number of targets that a loss stands for. `like_probabilities` says that all scores that were
    looked at lie in [0, 1], and those of classes add up to 1, although logits were announced;
    `batch_norm` that the model holds layers of BatchNorm, and is absent where no model was
    attached. `behind_last_step` rows of training came after the last step of the optimizer, and
    are none; no backward pass reached `unlearned_rows` that a step followed. `message` is the line
    that the console was told, empty where it was told nothing.

    All this is of the rank that records. Where `ranks` were merged, `rows_of_ranks` were counted
    on all of them, of `expected_rows` that there are; `padding_left_out` of what a sampler repeats
    so that all ranks have as many rows were left out, `padding_of_rank` of them here, and
    `padding_rows` were counted. `copies` is how many ranks validated the same rows, where they did.
    """

    answers: int
    answered_rows: int
    unpaired_rows: int
    counted_rows: int
    criterion_calls: int
    losses: int
    passes: int
    pass_rows: list[int]
    loader_rows: int | None
    dropped_rows: int
    ranks: int
    rows_of_ranks: int
    expected_rows: int
    padding_left_out: int
    padding_of_rank: int
    padding_rows: int
    copies: int
    batch_rows: float
    like_probabilities: bool
    batch_norm: bool
    criterion: CriterionData
    inputs: str
    message: str
    optimizer_steps: int
    behind_last_step: int
    unlearned_rows: int


class _EpochNumber(TypedDict):
    epoch: int
    scores: Mapping[str, ScoreData]


class EpochData(_EpochNumber, total=False):
    """An epoch, counted from 0; `unfinished` where the run was left before it was closed.

    A confusion matrix (rows = actual class) is absent for too many classes. `numbers` are what
    callbacks have measured beside the scores; their names have no "/".
    """

    per_class: Mapping[str, Mapping[str, PerClassData]]
    per_slice: dict[str, PerSliceData]
    confusion: dict[str, list[list[int]]]
    class_names: list[str]
    time: TimeData
    counts: CountsData
    numbers: dict[str, float]
    faults: dict[str, dict[str, FaultCount]]
    notes: dict[str, list[str]]
    sample_axes: dict[str, int]
    samples: SamplesData
    files: dict[str, SamplesData]
    unfinished: bool
    seen: dict[str, SeenData]


class EvaluationData(EpochData):
    """An evaluation beside those that close an epoch, with what an epoch tells.

    `epoch` is the number of the epoch under way, from 0, and `step` how many training steps were
    done. `why` is "several" for one of several validations in an epoch, "before-training",
    "after-training", or "test".
    """

    split: str
    step: int
    why: str


class EnvironmentData(TypedDict, total=False):
    """The machine and the versions, from an allow-list; `device` is the loop's to add."""

    ptmetrics: str
    python: str
    platform: str
    machine: str
    cpu_count: int | None
    torch: str | None
    cuda: str | None
    device: str


class _Logged(TypedDict):
    by: str
    notes: list[str]


class LoggedData(_Logged, total=False):
    """Who wrote a log that is not ours, and what was decided while reading it, as sentences.

    `sizes` tells how many samples stand behind each split, where that is known, and `follows` the
    score by which the tool chose its best checkpoint.
    """

    sizes: dict[str, int]
    follows: str


class HeaderData(TypedDict, total=False):
    """What an attempt was started with; `created` is an ISO 8601 time, `config` the user's own mapping.

    `logged` stands only where the run was read from another tool's log, `rank` and `world_size` only
    where several ranks trained together, `profile` only where the run was given one to be judged by.
    """

    ptmetrics: str
    created: str
    name: str
    config: dict[str, Any]
    environment: EnvironmentData
    metrics: dict[str, Any]
    seed: int | None
    arm: str | None
    val_fingerprint: str | None
    step_flops: float | None
    rank: int
    world_size: int
    profile: dict[str, Any]
    logged: LoggedData


class _Fault(TypedDict):
    where: str
    message: str
    count: int
    epoch: int | None
    step: int | None


class FaultData(_Fault, total=False):
    """A fault that was contained: where, what, how often so far; and in which split, if known."""

    split: str | None


AUDIT_NOTE = "leakage-audit"
"""Code of the notes that tell of rows of validation that training has seen."""
AUDIT_PARTS = {
    "ids": "the same sample by its id or file",
    "groups": "of a group, such as a patient, that is in both",
    "exact": "equal to a training sample",
    "near": "nearly equal to a training sample",
    "duplicates": "equal to an earlier sample of validation",
    "conflicts": "pairs of equal samples with other labels",
}
"""What such a note tells of, in words."""


class NoteData(TypedDict):
    """Something worth knowing that is no fault; further keys depend on the code."""

    code: str
    message: str


class _CheckpointPath(TypedDict):
    path: str


class CheckpointData(_CheckpointPath, total=False):
    """A checkpoint that was written.

    `why` is "best", "last" or "top" (among the best), or "saved" for one of the script's own that
    is not its best. `by` is "script" for those that the script itself wrote. `score` is what the
    best is best by. `step` tells which of several validations of the epoch it belongs to, where
    another tool logged the run.
    """

    epoch: int
    step: int
    why: str
    by: str
    score: str


class _EndReason(TypedDict):
    reason: str
    epochs: int | None
    stopping: str | None


class EndData(_EndReason, total=False):
    """Why the attempt ended: "completed", "early stopping", "interrupted", "error: …".

    `epochs` is None if unknown. `restored` is the epoch whose weights the model has at the end,
    where they are not the last ones.
    """

    restored: int
