"""What ptmetrics answers to a call of another library's metric: one table, from their names and arguments to ours.

A row of `TABLE` says which family a metric belongs to and how ours is read: names of scores by their `average=`, or a
function of the call. A name with `each:` in front is the list of the classes' scores; with `1-`, one minus the score. A
score that ptmetrics does not have makes the case "not offered".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

import ptmetrics as pm
from tests.studies import peer_dialects
from tests.studies.peer_call import (
    Call,
    NotAValueError,
    NotOfferedError,
    Outcome,
    brief,
    compared,
    numbers,
)
from tests.studies.peer_counts import (
    balanced_of,
    calibration_of,
    confusion_of,
    fscore_support_of,
    kappa_of,
    label_accuracy_of,
    label_hamming_of,
    multilabel_confusion_of,
    of_counts,
    of_loss,
    perplexity_of,
    report_of,
    stat_scores_of,
)
from tests.studies.peer_curves import (
    counts_at_thresholds_of,
    det_curve_of,
    eer_of,
    of_curve,
    of_point,
    pr_curve_of,
    roc_of,
)
from tests.studies.peer_metrics import Reader, averages, missing
from tests.studies.peer_numbers import (
    accuracy_gap_of,
    bias_of,
    fairness_of,
    gaps_of,
    kendall_of,
    median_percentage_of,
    nrmse_of,
    of_columns,
    of_errors,
    of_outputs,
    relative_squared_of,
    selection_rate_of,
)
from tests.studies.peer_pictures import dice_of, exact_match_of, generalized_dice_of, mean_iou_of
from tests.studies.peer_rankings import (
    fall_out_of,
    of_hits,
    of_label_ranking,
    of_lists,
    of_queries,
    query_auroc_of,
    query_curve,
    query_point_of,
    r_precision_of,
)
from tests.studies.peer_recipes import (
    canberra,
    click_through_of,
    cosine,
    criteria_of,
    crps,
    d2_of,
    distance,
    fractional,
    hinge_of,
    js,
    kl,
    log_cosh_of,
    log_distance,
    mean_of,
    median_relative_of,
    normalized_entropy_of,
    of_distributions,
    of_recipe,
    of_rows,
    pinball_of,
    pinball_rows,
    power_mean_of,
    quantile_of,
    relative,
    relative_of,
    tweedie_of,
    tweedie_rows,
    wave_hedges,
    weighted_calibration_of,
)

COUNTS = "counts of classes"
LABELS = "counts of labels"
CURVES = "curves"
FIXED = "points of curves"
CALIBRATION = "calibration and losses"
GROUPS = "group gaps"
REGRESSION = "regression"
MEANS = "means of a loss"
RANKING = "retrieval and ranking"
SEGMENTATION = "Dice, IoU, exact match of pictures"
FAMILIES = (
    COUNTS,
    LABELS,
    CURVES,
    FIXED,
    CALIBRATION,
    GROUPS,
    REGRESSION,
    MEANS,
    RANKING,
    SEGMENTATION,
)
"""What is counted; whatever else the suites test has a family that begins with `BEYOND`."""
BEYOND = "beyond: "
AGGREGATION = f"{BEYOND}aggregation of numbers"
BEYOND_FAMILIES = {
    **dict.fromkeys(
        (
            "sum", "max", "min", "cat", "throughput", "epoch_metric", "metric_group", "metric_collection",
            "metrics_lambda", "loss", "frequency", "covariance", "wrapped_min_metric", "wrapped_max_metric",
            "running_average", "average", "geometric_average", "variable_accumulation",
        ),
        "aggregation of numbers",
    ),
    **dict.fromkeys(
        (
            "windowed", "windowed_binary_auroc", "windowed_click_through_rate",
            "windowed_binary_normalized_entropy", "windowed_weighted_calibration",
        ),
        "windows over updates",
    ),
    **dict.fromkeys(("ssim", "psnr"), "image quality"),
    **dict.fromkeys(
        (
            "hsic", "entropy", "mutual_information", "maximum_mean_discrepancy", "mean_pairwise_distance",
            "wasserstein1_d",
        ),
        "information and distances of samples",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A metric of theirs: its family, and how ours is read."""

    family: str
    read: Reader


def judge(call: Call, expected: Any, *, atol: float, rtol: float) -> Outcome:
    """How our answer stands to the one expected; `expected` may be a function that finds it."""
    family = AGGREGATION
    if call.metric in peer_dialects.WATCHED.get(call.library, ()):
        family = COUNTS
    try:
        call = peer_dialects.canonical(call)
        if call.metric not in TABLE:
            if family == AGGREGATION:
                family = BEYOND + BEYOND_FAMILIES.get(call.metric, call.metric)
            raise NotOfferedError(call.metric)
        family = TABLE[call.metric].family
        ours = numbers(TABLE[call.metric].read(call))
    except Exception as error:
        return without_answer(family, call, error)
    try:
        theirs = numbers(expected() if callable(expected) else expected)
    except Exception as error:  # their reference may not run beside newer libraries
        return Outcome(family, "not applicable", f"no reference: {error}"[:120])
    if call.repeats:
        theirs = theirs[: len(ours)]
    points = family == FIXED
    status, why = compared(ours, theirs, atol, rtol, call.bound, points=points)
    if status == "equal":
        return Outcome(family, status, why, recipe=call.recipe)
    if call.told:
        why = f"{why}; told: {call.told}"[:200]
    return Outcome(family, status, why, brief(ours), brief(theirs))


def without_answer(family: str, call: Call, error: Exception) -> Outcome:
    """Why there is no number of ours."""
    if isinstance(error, NotAValueError):
        return Outcome(family, "not applicable", str(error))
    if isinstance(error, NotOfferedError):
        return Outcome(family, "not offered", str(error)[:80])
    if isinstance(error, pm.PtmetricsError):
        return Outcome(family, "different", f"refused: {error}"[:200])
    return Outcome(family, "error", f"{call.metric}: {type(error).__name__}: {error}"[:300])


def classes(name: str, ours: str, *, one: str = "") -> dict[str, Row]:
    """A metric of counts in all three tasks: `ours` with its averages."""
    multi = {average: one + text for average, text in averages(ours).items()}
    return {
        f"binary_{name}": Row(
            COUNTS, of_counts({**multi, "none": one + ours, "binary": one + ours})
        ),
        f"multiclass_{name}": Row(COUNTS, of_counts(multi)),
        f"multilabel_{name}": Row(LABELS, of_counts(multi)),
    }


def by_task(family: str, letters: str, name: str, read: Reader) -> dict[str, Row]:
    """A row for each task: b, c and l are binary, classes and labels."""
    tasks = {"b": "binary", "c": "multiclass", "l": "multilabel"}
    return {f"{tasks[letter]}_{name}": Row(family, read) for letter in letters}


def all_missing(family: str, *names: str) -> dict[str, Row]:
    """Metrics that ptmetrics does not have."""
    return {name: Row(family, missing(name)) for name in names}


def opposite(names: dict[str, str]) -> dict[str, str]:
    """One minus each."""
    return {average: f"1-{name}" for average, name in names.items()}


TABLE: dict[str, Row] = {
    **classes("precision", "precision"),
    **classes("recall", "recall"),
    **classes("f1_score", "f1"),
    **classes("fbeta_score", "fbeta"),
    **classes("specificity", "specificity"),
    **classes("negative_predictive_value", "npv"),
    **classes("jaccard_index", "jaccard"),
    "binary_accuracy": Row(COUNTS, of_counts("accuracy")),
    "multiclass_accuracy": Row(COUNTS, of_counts(averages("recall", "accuracy"))),
    "multilabel_accuracy": Row(LABELS, label_accuracy_of),
    "binary_hamming_distance": Row(COUNTS, of_counts("1-accuracy")),
    "multiclass_hamming_distance": Row(COUNTS, of_counts(opposite(averages("recall", "accuracy")))),
    "multilabel_hamming_distance": Row(LABELS, label_hamming_of),
    "multilabel_hamming_loss": Row(LABELS, of_counts("hamming_loss")),
    "multiclass_hamming_loss": Row(COUNTS, of_counts("hamming_loss")),
    "multiclass_zero_one_loss": Row(COUNTS, of_counts("hamming_loss")),
    "multilabel_zero_one_loss": Row(LABELS, of_counts("1-exact_match")),
    "multiclass_balanced_accuracy": Row(COUNTS, balanced_of),
    **by_task(COUNTS, "bc", "matthews_corrcoef", of_counts("mcc")),
    "multilabel_matthews_corrcoef": Row(LABELS, of_counts("mcc")),
    **by_task(COUNTS, "bc", "cohen_kappa", kappa_of),
    **by_task(COUNTS, "bc", "confusion_matrix", confusion_of),
    **by_task(LABELS, "l", "confusion_matrix", confusion_of),
    **by_task(COUNTS, "bc", "stat_scores", stat_scores_of),
    **by_task(LABELS, "l", "stat_scores", stat_scores_of),
    "multilabel_multilabel_confusion_matrix": Row(LABELS, multilabel_confusion_of),
    "multiclass_multilabel_confusion_matrix": Row(LABELS, multilabel_confusion_of),
    **by_task(COUNTS, "bc", "precision_recall_fscore_support", fscore_support_of),
    **by_task(LABELS, "l", "precision_recall_fscore_support", fscore_support_of),
    "classification_report": Row(COUNTS, report_of),
    "multilabel_exact_match": Row(LABELS, of_counts("exact_match")),
    "multiclass_exact_match": Row(SEGMENTATION, exact_match_of),
    "multilabel_criteria": Row(LABELS, criteria_of),
    **by_task(CURVES, "bcl", "auroc", of_curve("auroc")),
    **by_task(CURVES, "bcl", "average_precision", of_curve("average_precision")),
    **by_task(CURVES, "bcl", "roc", roc_of),
    **by_task(CURVES, "bcl", "precision_recall_curve", pr_curve_of),
    **by_task(CURVES, "bcl", "binned_precision_recall_curve", pr_curve_of),
    **by_task(CURVES, "b", "det_curve", det_curve_of),
    **by_task(CURVES, "b", "confusion_at_thresholds", counts_at_thresholds_of),
    **by_task(CURVES, "bcl", "binned_auroc", of_curve("auroc")),
    **by_task(CURVES, "bcl", "binned_average_precision", of_curve("average_precision")),
    **by_task(CURVES, "bcl", "logauc", missing("logauc")),
    **all_missing(CURVES, "mean_average_precision"),
    "selection_rate": Row(GROUPS, selection_rate_of),
    **all_missing(CALIBRATION, "multilabel_log_loss"),
    **by_task(FIXED, "bcl", "eer", eer_of),
    **by_task(FIXED, "bcl", "recall_at_fixed_precision", of_point("precision", "recall")),
    **by_task(FIXED, "bcl", "precision_at_fixed_recall", of_point("recall", "precision")),
    **by_task(FIXED, "bcl", "sensitivity_at_specificity", of_point("specificity", "sensitivity")),
    **by_task(FIXED, "bcl", "specificity_at_sensitivity", of_point("sensitivity", "specificity")),
    **by_task(CALIBRATION, "bc", "calibration_error", calibration_of),
    **by_task(CALIBRATION, "bc", "log_loss", of_loss("nll")),
    **by_task(CALIBRATION, "bc", "brier", of_loss("brier")),
    "binary_normalized_entropy": Row(CALIBRATION, normalized_entropy_of),
    "weighted_calibration": Row(CALIBRATION, weighted_calibration_of),
    "click_through_rate": Row(MEANS, click_through_of),
    "perplexity": Row(CALIBRATION, perplexity_of),
    **by_task(MEANS, "bc", "hinge_loss", hinge_of),
    "binary_fairness": Row(GROUPS, fairness_of),
    "demographic_parity": Row(
        GROUPS, lambda call: gaps_of(call, "demographic_parity_ratio")
    ),
    "equal_opportunity": Row(
        GROUPS, lambda call: gaps_of(call, "equal_opportunity_ratio")
    ),
    "demographic_parity_difference": Row(
        GROUPS, lambda call: gaps_of(call, "demographic_parity_difference")
    ),
    "subgroup_accuracy_difference": Row(GROUPS, accuracy_gap_of),

    **by_task(RANKING, "l", "coverage_error", of_label_ranking("coverage_error")),
    **by_task(RANKING, "l", "ranking_average_precision", of_label_ranking("label_ranking_average_precision")),
    **by_task(RANKING, "l", "ranking_loss", of_label_ranking("label_ranking_loss")),
    "mean_squared_error": Row(REGRESSION, of_errors("mse")),
    "root_mean_squared_error": Row(REGRESSION, of_errors("rmse")),
    "mean_absolute_error": Row(REGRESSION, of_errors("mae")),
    "max_error": Row(REGRESSION, of_errors("max_error")),
    "median_absolute_error": Row(REGRESSION, of_errors("median_absolute_error")),
    "ignite_mean_error": Row(REGRESSION, bias_of),
    "mean_absolute_percentage_error": Row(REGRESSION, of_errors("mape")),
    "sklearn_mape": Row(REGRESSION, of_errors("mape")),
    "symmetric_mean_absolute_percentage_error": Row(REGRESSION, of_errors("smape")),
    "weighted_mean_absolute_percentage_error": Row(REGRESSION, of_errors("wmape")),
    "mean_squared_log_error": Row(REGRESSION, of_errors("msle")),
    "root_mean_squared_log_error": Row(REGRESSION, of_errors("rmsle")),
    "normalized_root_mean_squared_error": Row(REGRESSION, nrmse_of),
    "r2_score": Row(REGRESSION, of_outputs("r2")),
    "explained_variance": Row(REGRESSION, of_outputs("explained_variance")),
    "pearson_corrcoef": Row(REGRESSION, of_columns("pearson")),
    "spearman_corrcoef": Row(REGRESSION, of_columns("spearman", capacity=10_000)),
    "kendall_rank_corrcoef": Row(REGRESSION, kendall_of),
    "continuous_ranked_probability_score": Row(REGRESSION, of_recipe(crps)),
    "mean_pinball_loss": Row(REGRESSION, pinball_of),
    "relative_squared_error": Row(REGRESSION, relative_squared_of),
    "minkowski_distance": Row(REGRESSION, power_mean_of),
    "mean_absolute_relative_error": Row(REGRESSION, of_errors("mape")),
    "median_absolute_percentage_error": Row(REGRESSION, median_percentage_of),
    "fractional_absolute_error": Row(REGRESSION, of_errors("smape")),
    "fractional_bias": Row(REGRESSION, of_rows(fractional)),
    "mean_normalized_bias": Row(REGRESSION, of_rows(relative)),
    "geometric_mean_absolute_error": Row(REGRESSION, of_rows(log_distance, exponential=True)),
    "canberra_metric": Row(REGRESSION, of_rows(canberra, summed=True)),
    "manhattan_distance": Row(REGRESSION, of_rows(distance, summed=True)),
    "wave_hedges_distance": Row(REGRESSION, of_rows(wave_hedges, summed=True)),
    "concordance_corrcoef": Row(REGRESSION, of_columns("concordance")),
    "d2_absolute_error_score": Row(REGRESSION, d2_of(pinball_rows, quantile_of)),
    "d2_pinball_score": Row(REGRESSION, d2_of(pinball_rows, quantile_of)),
    "d2_tweedie_score": Row(REGRESSION, d2_of(tweedie_rows, lambda call, targets: targets.mean())),
    "median_relative_absolute_error": Row(REGRESSION, median_relative_of),
    "geometric_mean_relative_absolute_error": Row(REGRESSION, relative_of(torch.log, math.exp)),
    **all_missing(REGRESSION, "critical_success_index"),
    "log_cosh_error": Row(MEANS, log_cosh_of),
    "tweedie_deviance_score": Row(MEANS, tweedie_of),
    "mean_poisson_deviance": Row(MEANS, tweedie_of),
    "mean_gamma_deviance": Row(MEANS, tweedie_of),
    "cosine_similarity": Row(MEANS, of_recipe(cosine)),
    "kl_divergence": Row(MEANS, of_distributions(kl)),
    "jensen_shannon_divergence": Row(MEANS, of_distributions(js)),
    "retrieval_mrr": Row(RANKING, of_queries("mrr", at_k=False)),
    "retrieval_reciprocal_rank": Row(RANKING, of_queries("mrr", at_k=False)),
    "retrieval_hit_rate": Row(RANKING, of_queries("hit_rate")),
    "retrieval_normalized_dcg": Row(RANKING, of_queries("ndcg")),
    "retrieval_map": Row(RANKING, of_queries("label_ranking_average_precision", at_k=False)),
    "retrieval_average_precision": Row(
        RANKING, of_queries("label_ranking_average_precision", at_k=False)
    ),
    "retrieval_precision": Row(RANKING, of_queries("precision")),
    "retrieval_recall": Row(RANKING, of_queries("recall")),
    "retrieval_fall_out": Row(RANKING, fall_out_of),
    "retrieval_r_precision": Row(RANKING, r_precision_of),
    "retrieval_auroc": Row(RANKING, query_auroc_of),
    "retrieval_precision_recall_curve": Row(RANKING, query_curve),
    "retrieval_recall_at_fixed_precision": Row(RANKING, query_point_of),
    "hit_rate": Row(RANKING, of_hits("hit_rate")),
    "reciprocal_rank": Row(RANKING, of_hits("mrr")),
    "multilabel_ndcg": Row(RANKING, of_label_ranking("ndcg")),
    "ignite_hit_rate": Row(RANKING, of_lists("hit_rate")),
    "ignite_ndcg": Row(RANKING, of_lists("ndcg")),
    "dice_score": Row(SEGMENTATION, dice_of),
    "mean_iou": Row(SEGMENTATION, mean_iou_of),
    "generalized_dice_score": Row(SEGMENTATION, generalized_dice_of),
    "mean_metric": Row(AGGREGATION, mean_of),
    "mean": Row(AGGREGATION, mean_of),
    **all_missing(
        AGGREGATION, "auc", "sum_metric", "max_metric", "min_metric", "cat_metric", "running_mean",
        "running_sum",
    ),
    **all_missing(f"{BEYOND}surface distances", "hausdorff_distance"),
}  # fmt: skip


def watched(library: str) -> set[str]:
    """Names of the library's functions that are cases when a test calls them."""
    return set(TABLE) | peer_dialects.WATCHED.get(library, set())
