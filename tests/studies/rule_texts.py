"""What each code says and rests on, and its thresholds: for the page of rules."""

from typing import NamedTuple


class RuleText(NamedTuple):
    """What a code says.

    Attributes:
        meaning: What it says, and what it rests on.
        thresholds: Names in `Thresholds` that it decides by.
    """

    meaning: str
    thresholds: tuple[str, ...] = ()


RULE_TEXTS = {
    "not-validated": RuleText(
        "No score was measured on validation data.",
        (),
    ),
    "non-finite": RuleText(
        "A loss is NaN or infinite although it had samples, or predictions that are judged "
        "were NaN. Invalid where it stands at or before the judged epoch, else a warning.",
        (),
    ),
    "missing-class": RuleText(
        "A class of the model has no sample in the validation data, so nothing is known about it.",
        (),
    ),
    "metric-faults": RuleText(
        "Values were refused (labels out of range, NaN rows) or a metric failed, so the "
        "scores stand on less than all the data.",
        (),
    ),
    "damaged-record": RuleText(
        "Lines of the journal could not be read and were skipped.",
        (),
    ),
    "no-skill": RuleText(
        "The model is not shown to beat the class that is most frequent anyway, by a paired "
        "test on the same samples. It fails where there is no gain at all and stays "
        "undetermined where the gain is not shown.",
        ("baseline", "skill_p"),
    ),
    "accuracy-paradox": RuleText(
        "Accuracy looks good only because one class is frequent: the model does not beat the "
        "majority class, or the recall of the rarest class or Matthews' correlation is shown "
        "to be low.",
        ("imbalance", "paradox_accuracy", "paradox_recall", "paradox_mcc"),
    ),
    "low-accuracy": RuleText(
        "The whole interval of the accuracy lies below what is wanted; below `accuracy_bad` "
        "it is called bad, else mediocre.",
        ("accuracy", "accuracy_bad"),
    ),
    "low-precision": RuleText(
        "The whole interval of the precision, of the positive class or the mean over classes,"
        " lies below what is wanted.",
        ("precision",),
    ),
    "low-recall": RuleText(
        "The whole interval of the recall, of the positive class or the mean over classes, "
        "lies below what is wanted.",
        ("recall",),
    ),
    "precision-recall-gap": RuleText(
        "Precision and recall are shown to lie further apart than is tolerated; the interval "
        "accounts for the hits that they share.",
        ("balance", "balance_far"),
    ),
    "weak-class": RuleText(
        "A class is shown not to be learned: an exact binomial test of its recall, corrected "
        "for testing every class (Holm).",
        ("class_recall", "class_alpha"),
    ),
    "weak-slice": RuleText(
        "A slice of the validation data is shown to be weak: an exact binomial test of its "
        "accuracy, or of its recall of the positive class where the profile drops the "
        "accuracy, corrected for testing every slice (Holm).",
        ("slice_score", "slice_alpha"),
    ),
    "too-few-samples": RuleText(
        "An interval contains its threshold, so the criterion is undetermined, with the "
        "samples that would settle it; or classes have too few samples to be judged (a "
        "warning).",
        ("class_support", "class_recall"),
    ),
    "regression-no-skill": RuleText(
        "The model is not shown to beat always predicting the mean of the targets, whose R² "
        "is 0. It fails where R² is shown to be below 0 and stays undetermined where 0 lies "
        "in its interval.",
        ("regression_support",),
    ),
    "low-r2": RuleText(
        "The whole interval of R², the share of the targets' variance that is explained, lies"
        " below what is wanted.",
        ("r2", "regression_support"),
    ),
    "high-error": RuleText(
        "The whole interval of the mean absolute, mean squared or root mean squared error "
        "lies above what was asked for, in the unit of the target (squared for `mse`). "
        "Measured with `rmse = 1`.",
        ("mae", "mse", "rmse", "regression_support"),
    ),
    "worse-than-baseline": RuleText(
        "A score that the profile holds against a threshold is shown to be worse than that of"
        " the baseline that was named, by more than the margin: `margin` for shares and R², "
        "`error_margin` relative to the baseline's for errors. Both must have been validated "
        "on the same data.",
        ("margin", "error_margin"),
    ),
    "overfitting": RuleText(
        "The validation loss has turned and rises beyond its noise by a tenth or more while "
        "the training loss falls (evidence `sign: loss`), or validation accuracy is shown to "
        "lie far below training accuracy (`sign: gap`). A warning where accuracy has held; "
        "for information where the judged checkpoint is from before the rise. Where the "
        "losses of the samples were kept, the rise must be one of the samples at large and "
        "not of a few.",
        (
            "rise",
            "rise_moderate",
            "rise_severe",
            "rise_noise",
            "trend_p",
            "train_gap",
            "train_gap_fail",
        ),
    ),
    "val-loss-rising": RuleText(
        "The same rise of the validation loss, too small to be called overfitting; larger "
        "rises count as found.",
        ("rise", "rise_moderate", "rise_noise", "trend_p"),
    ),
    "over-confident": RuleText(
        "The validation loss rises by a tenth or more but the accuracy does not fall: the "
        "model gets too sure of itself, not worse.",
        ("rise_moderate", "trend_p"),
    ),
    "underfitting": RuleText(
        "Training accuracy itself stays below what is wanted, validation accuracy is close to"
        " it, and the training loss no longer falls.",
        ("accuracy", "train_gap", "slope", "trend_p"),
    ),
    "undertrained": RuleText(
        "The same, but the training loss still falls: more epochs are worth trying.",
        ("accuracy", "train_gap", "slope", "trend_p"),
    ),
    "diverged": RuleText(
        "The training loss, smoothed, stood above twice its own minimum and above its start "
        "for three epochs in a row.",
        ("diverged",),
    ),
    "different-validation": RuleText(
        "The runs that are compared were validated on different data, by the fingerprint or "
        "the size that they recorded, or by the targets that they kept.",
        (),
    ),
    "no-speedup": RuleText(
        "The lower bound of the time ratio lies above what is called similar: pre-training "
        "saved no time.",
        ("speedup_none",),
    ),
    "scratch-is-better": RuleText(
        "The first arm's final score is shown to be worse than the second's by more than the "
        "margin.",
        ("margin",),
    ),
    "time-samples-disagree": RuleText(
        "The ratio in time and the ratio in samples tell different stories: one arm's steps "
        "are slower.",
        ("ratio_gap",),
    ),
}
