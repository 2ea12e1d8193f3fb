"""What a column of another tool's log is: names × splits × places of the split × formats."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ptmetrics as pm
from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_csv import read_csv
from ptmetrics.record.foreign_epochs import ForeignLog, read_log
from ptmetrics.record.foreign_json import read_json
from ptmetrics.record.foreign_names import columns_of, read_name, rises

SPLITS = {
    "train": ("train", "Train", "training", "Training", "TRAIN"),
    "val": ("val", "valid", "Validation", "eval", "dev", "VAL", "va", "validate", "holdout"),
    "test": ("test", "Test", "testing"),
}
SCORES = {
    "loss": ("loss", "Loss", "avg_loss", "losses", "loss_history"),
    "accuracy": (
        *("accs", "accuracies", "mean_acc", "acc_mean", "accuracy_list"),
        "acc",
        "Accuracy",
        "acc1",
        "top1",
        "binary_accuracy",
        "Prec@1",
        "acc@1",
    ),
    "top5_accuracy": ("acc5", "top5", "top-5", "top_k_categorical_accuracy"),
    "f1/macro": ("f1_macro", "macro_f1", "f1/macro", "macro_f1_score"),
    "recall/weighted": ("recall_weighted", "weighted_recall"),
    "auroc": ("auc", "AUROC", "roc_auc"),
    "mcc": ("mcc", "matthews_correlation"),
    "wer": ("wer", "WER"),
    "my_own": ("my_own", "My Own"),
}
PLACES: tuple[Callable[[str, str], str], ...] = (
    lambda split, score: f"{split}_{score}",
    lambda split, score: f"{split}/{score}",
    lambda split, score: f"{split} {score}",
    lambda split, score: f"{split}.{score}",
    lambda split, score: f"{score}_{split}",
    lambda split, score: f"{score}/{split}",
    lambda split, score: f"{score} ({split})",
    lambda split, score: f"metrics/{split}/{score}",
    lambda split, score: f" {split}_{score} ",
)
NO_SCORES = """
    lr, learning_rate, lr-Adam/pg1, x/lr0, train_lr, grad_norm, grad_norm_mean, time, epoch_time, runtime,
    eval_runtime, eval_samples_per_second, steps_per_second, batch_size, seconds, val_time, gpu_mem_gb,
    memory, total_flos, num_tokens, n_parameters, eta_seconds, data_time, val_acc_ci_low, val_acc_ci_high,
    val_acc_std, val_loss_min, val_loss_max, weight_decay, momentum, loss_scale, Unnamed: 0, percentage,
    eval_gen_len, prompt_length, dur,
    best_val_acc, val_acc_best, cosine_accuracy_threshold, patience, elapsed_time, num_correct, hp_metric,
    train_val_gap, iteration, global_step, seed, timestamp, evaluation_loss_vs_iterations
"""


@st.composite
def names(draw: st.DrawFn) -> tuple[str, str]:
    """A column's name, and the score that it holds."""
    split = draw(st.sampled_from(sorted(SPLITS)))
    score = draw(st.sampled_from(sorted(SCORES)))
    place = draw(st.sampled_from(PLACES))
    written = place(
        draw(st.sampled_from(SPLITS[split])),
        draw(st.sampled_from(SCORES[score])),
    )
    return written, f"{split}/{score}"


@given(names())
def test_a_split_may_stand_in_front_behind_or_within_and_a_score_have_any_of_its_names(
    named: tuple[str, str],
) -> None:
    column, score = named
    told = read_name(column)
    assert f"{told.split}/{told.score}" == score


def csv_log(columns: dict[str, list[float]]) -> ForeignLog:
    lines = [",".join(f'"{name}"' for name in columns)]
    lines += [",".join(map(repr, row)) for row in zip(*columns.values(), strict=True)]
    return read_log(read_csv("log", "\n".join(lines)))


def semicolon_log(columns: dict[str, list[float]]) -> ForeignLog:
    lines = [";".join(columns)]
    rows = zip(*columns.values(), strict=True)
    lines += [";".join(f"{value}".replace(".", ",") for value in row) for row in rows]
    return read_log(read_csv("log", "\n".join(lines)))


def tab_log(columns: dict[str, list[float]]) -> ForeignLog:
    lines = ["\t".join(columns)]
    lines += ["\t".join(map(repr, row)) for row in zip(*columns.values(), strict=True)]
    return read_log(read_csv("log", "\r\n".join(lines)))


def columns_log(columns: dict[str, list[float]]) -> ForeignLog:
    return read_log(read_json("log", json.dumps(columns)))


def objects(columns: dict[str, list[float]]) -> list[dict[str, float]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def rows_log(columns: dict[str, list[float]]) -> ForeignLog:
    return read_log(read_json("log", json.dumps(objects(columns))))


def lines_log(columns: dict[str, list[float]]) -> ForeignLog:
    return read_log(read_json("log", "\n".join(map(json.dumps, objects(columns)))))


def tidy_log(columns: dict[str, list[float]]) -> ForeignLog:
    """One number a row, all of one score before the next."""
    lines = ["epoch,metric,value"]
    for name, values in columns.items():
        if name != "epoch":
            lines += [
                f'{e:g},"{name}",{v!r}' for e, v in zip(columns["epoch"], values, strict=True)
            ]
    return read_log(read_csv("log", "\n".join(lines)))


def nested_log(columns: dict[str, list[float]]) -> ForeignLog:
    """The columns as objects within objects, where their names have a slash."""
    held: dict[str, Any] = {}
    for name, values in columns.items():
        head, _, tail = name.partition("/")
        if tail:
            inner = held.setdefault(head, {})
            inner[tail] = values
        else:
            held[name] = values
    return read_log(read_json("log", json.dumps(held)))


FORMATS = (csv_log, semicolon_log, tab_log, columns_log, rows_log, lines_log, tidy_log)


@given(
    st.lists(names(), min_size=1, max_size=6, unique_by=lambda named: named[1]),
    st.integers(2, 6),
    st.integers(0, 1),
    st.sampled_from(FORMATS),
    st.data(),
)
def test_what_was_written_is_read_in_every_format(
    named: list[tuple[str, str]],
    epochs: int,
    first: int,
    read: Callable[[dict[str, list[float]]], ForeignLog],
    data: st.DataObject,
) -> None:
    values = st.lists(st.integers(1, 999), min_size=epochs, max_size=epochs)
    columns = {"epoch": [float(first + epoch) for epoch in range(epochs)]}
    for column, _ in named:
        columns[column] = [number / 1000 for number in data.draw(values)]
    log = read(columns)
    assert [epoch["epoch"] for epoch in log.epochs] == list(range(epochs))
    for column, score in named:
        got = [epoch["scores"][score]["value"] for epoch in log.epochs]
        assert got == columns[column], (column, score)
    assert {name for epoch in log.epochs for name in epoch["scores"]} == {s for _, s in named}


@pytest.mark.parametrize("read", [columns_log, nested_log])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("acc/Test", "auc/Test"),
        ("my_own/val", "wer/val"),
        ("recall/macro", "f1/macro"),
        ("val_recall/weighted", "val_precision/weighted"),
        ("train/loss", "val/loss"),
    ],
)
def test_scores_and_splits_that_share_the_rest_of_their_names_are_of_one_model(
    read: Callable[[dict[str, list[float]]], ForeignLog], first: str, second: str
) -> None:
    log = read({"epoch": [0.0, 1.0], first: [0.5, 0.6], second: [0.7, 0.8]})
    assert len(log.epochs[-1]["scores"]) == 2
    assert [score["value"] for score in log.epochs[-1]["scores"].values()] == [0.6, 0.8]


@pytest.mark.parametrize("read", [columns_log, nested_log])
@pytest.mark.parametrize("tail", ["val_acc", "val/loss", "accuracy"])
def test_two_models_in_one_log_are_refused(
    read: Callable[[dict[str, list[float]]], ForeignLog], tail: str
) -> None:
    columns = {"epoch": [0.0, 1.0], f"resnet18/{tail}": [0.5, 0.6], f"vit/{tail}": [0.7, 0.8]}
    with pytest.raises(RecordError, match="one model"):
        read(columns)


SET_NAMES = {
    "xgboost": "validation_{}-{}",
    "with a colon": "validation_{}:{}",
    "json": "validation_{}/{}",
    "lightgbm": "valid_{}/{}",
    "nested": "evals_result/eval_{}/{}",
}


@pytest.mark.parametrize("name", SET_NAMES.values(), ids=SET_NAMES)
@pytest.mark.parametrize("read", [*FORMATS[:-1], nested_log])
@pytest.mark.parametrize("sets", [1, 2, 11])
def test_the_last_of_numbered_sets_is_validation_and_the_others_have_their_numbers(
    name: str, read: Callable[[dict[str, list[float]]], ForeignLog], sets: int
) -> None:
    columns = {"epoch": [0.0, 1.0]}
    for number in reversed(range(sets)):
        columns[name.format(number, "auc")] = [0.5, 0.6 + number / 100]
        columns[name.format(number, "logloss")] = [0.8, 0.7 + number / 100]
    log = read(columns)
    scores = log.epochs[-1]["scores"]
    assert len(scores) == 2 * sets
    for number in range(sets):
        split = "val" if number == sets - 1 else f"val_{number}"
        assert scores[f"{split}/auroc"]["value"] == 0.6 + number / 100
        assert scores[f"{split}/loss"]["value"] == 0.7 + number / 100
        assert not scores[f"{split}/loss"]["higher_is_better"]
    assert any("the last is val" in note for note in log.notes) is (sets > 1)


def test_a_number_that_is_a_class_or_stands_beside_a_plain_set_is_no_such_set() -> None:
    told = columns_of(["val_0_precision", "validation_1_precision", "val/0/precision"]).scores
    assert list(told.values()) == ["val/0_precision", "val/1_precision", "val/0/precision"]
    told = columns_of(["val_auc", "validation_0-auc"]).scores
    assert list(told.values()) == ["val/auroc", "val_0/auroc"]


PIXELS = {
    "mean_iou": ("mIoU", "eval_mean_iou", "val/mIoU"),
    "accuracy": ("aAcc", "eval_overall_accuracy", "val/pixel_acc"),
    "balanced_accuracy": ("mAcc", "eval_mean_accuracy", "val/mAcc"),
    "dice": ("mDice", "eval_mean_dice", "val/mDice"),
}


@pytest.mark.parametrize("tool", range(3), ids=["MMSegmentation", "Hugging Face", "by hand"])
@pytest.mark.parametrize("percent", [True, False], ids=["percent", "shares"])
@pytest.mark.parametrize("worst", [0.009, 0.3], ids=["below 1 %", "ordinary"])
def test_beside_a_mean_iou_names_are_those_of_segmentation_in_percent_or_not(
    tool: int, percent: bool, worst: float
) -> None:
    values = {"mean_iou": [worst] * 3, "accuracy": [0.5, 0.6, 0.9123]}
    values |= {"balanced_accuracy": [0.4, 0.5, 0.7012], "dice": [0.4, 0.6, 0.7999]}
    rows = objects(
        {PIXELS[n][tool]: [100 * v if percent else v for v in each] for n, each in values.items()}
    )
    lines = []
    for step, row in enumerate(rows, 1):
        lines += [{"loss": 0.5, "iter": 10 * step, "data_time": 0.1}, {**row, "step": 10 * step}]
    log = read_log(read_json("log", "\n".join(map(json.dumps, lines))))
    got = log.epochs[-1]
    for name, each in values.items():
        assert got["scores"][f"val/{name}"]["value"] == pytest.approx(each[-1]), name
    assert got["sample_axes"] == {"val": 2}
    assert log.sizes == {}  # digits of shares of pixels tell no number of pictures
    assert any("Taken as percentages" in note for note in log.notes) is percent


def test_without_a_mean_iou_a_mean_accuracy_is_one_over_batches() -> None:
    told = columns_of(["val_loss", "val_mean_accuracy"]).scores
    assert told["val_mean_accuracy"] == "val/accuracy"
    log = csv_log({"epoch": [0, 1], "val_mean_accuracy": [0.5, 0.6]})
    assert "sample_axes" not in log.epochs[-1]


def test_a_log_of_segmentation_is_judged_by_overlap(tmp_path: Path) -> None:
    path = tmp_path / "scalars.json"
    rows = [{"loss": 0.5, "iter": 10, "data_time": 0.1}, {"aAcc": 91.2, "mIoU": 61.5, "step": 10}]
    path.write_text("\n".join(map(json.dumps, rows)))
    verdict = pm.judge(path)
    assert verdict.profile == "pixels"
    assert "mean_iou" in " ".join(criterion.name for criterion in verdict.criteria)


@pytest.mark.parametrize("column", [name.strip() for name in NO_SCORES.split(",")])
def test_what_is_no_score_is_none_and_is_said(column: str) -> None:
    assert read_name(column).score == ""
    lines = [f"epoch,val_loss,{column}", "0,0.5,0.25", "1,0.4,0.25"]
    log = read_log(read_csv("log", "\n".join(lines)))
    assert set(log.epochs[-1]["scores"]) == {"val/loss"}
    steps = {"iteration", "global_step", "seed"}
    assert column in steps or any(repr(column) in note for note in log.notes)


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("metrics/mAP50-95(B)", "map50-95(b)"),
        ("train_loss_epoch", "loss"),
        ("train_loss_step", "loss"),
        ("eval_f1", "f1"),
        ("val_mean_iou", "mean_iou"),
        ("val_jaccard_index", "jaccard_index"),
        ("acc_norm", "acc_norm"),
        ("f1_samples", "f1_samples"),
        ("macro avg/f1-score", "f1/macro"),
        ("trainLoss", "loss"),
        ("accVal", "accuracy"),
        ("val_loss/dataloader_idx_1", "dataloader_idx_1/loss"),
        ("", ""),
        ("/", ""),
        ("val", ""),
    ],
)
def test_names_that_are_easily_mistaken(column: str, name: str) -> None:
    assert read_name(column).score == name


@pytest.mark.parametrize(
    ("column", "split"),
    [
        ("eval_test_loss", "test"),
        ("eval_train_loss", "train_eval"),
        ("train_eval_loss", "train_eval"),
        ("eval_clean_wer", "val"),
        ("train/train_loss", "train"),
    ],
)
def test_of_an_evaluation_of_several_sets_the_set_counts(column: str, split: str) -> None:
    assert read_name(column).split == split


@pytest.mark.parametrize(
    ("column", "split"),
    [
        *(("TrainingLoss", "train"), ("ValidationLoss", "val"), ("ValidLoss", "val")),
        *(("lossValidation", "val"), ("lossTraining", "train"), ("TestLoss", "test")),
        *(("VALID_LOSS", "val"), ("TRAINING_LOSS", "train")),
    ],
)
def test_words_that_are_written_together_are_parted(column: str, split: str) -> None:
    assert read_name(column)[::2] == (split, "loss")


@pytest.mark.parametrize("unit", ["{} (%)", "{} [%]", "{}%", "{}_pct", "{}_percent", "{} in %"])
def test_a_name_may_say_that_its_numbers_are_percentages(unit: str) -> None:
    """Less than one percent is no share: of a rare error all values lie below 1."""
    told = {"val_acc": [61.5, 72.25, 99.0], "val_error_rate": [0.9, 0.5, 0.25]}
    log = csv_log({unit.format(name): values for name, values in told.items()})
    scores = [epoch["scores"] for epoch in log.epochs]
    assert [row["val/accuracy"]["value"] for row in scores] == [0.615, 0.7225, 0.99]
    errors = [row["val/error_rate"]["value"] for row in scores]
    assert errors == pytest.approx([0.009, 0.005, 0.0025])
    assert any("Taken as percentages" in note for note in log.notes)


def test_a_sign_in_the_cells_counts_once() -> None:
    table = read_csv("log", "epoch,val_acc (%)\n0,61.5%\n1,72.25 %\n")
    assert read_log(table).epochs[0]["scores"]["val/accuracy"]["value"] == 0.615


def test_an_error_rate_in_percent_is_a_share_as_well() -> None:
    log = csv_log({"val_error_rate": [42.0, 23.5, 12.25], "val_loss": [3.0, 2.0, 1.0]})
    assert log.epochs[1]["scores"]["val/error_rate"]["value"] == 0.235
    with pytest.raises(RecordError, match="a share from 0 to 1"):
        csv_log({"val_error_rate": [0.4, 0.3, 12.25]})


def test_the_only_loss_of_a_split_is_its_loss_whatever_its_class() -> None:
    for name in ("bce_loss", "CrossEntropyLoss", "nll_loss", "total_loss", "log_loss"):
        told = columns_of([f"train_{name}", f"val_{name}"]).scores
        assert list(told.values()) == ["train/loss", "val/loss"], name
    told = columns_of(["val_ce_loss", "val_dice_loss", "train_loss", "train_ce_loss"]).scores
    assert list(told.values()) == ["val/ce_loss", "val/dice_loss", "train/loss", "train/ce_loss"]


def test_our_own_names_stay_as_they_are() -> None:
    for name in (
        "val/accuracy",
        "train/loss",
        "val/top5_accuracy",
        "val/recall/weighted",
        "val/auroc/macro",
    ):
        told = read_name(name)
        assert f"{told.split}/{told.score}" == name


@pytest.mark.parametrize(
    ("header", "scores"),
    [
        # Keras: the twin of validation stands beside it.
        ("epoch,accuracy,loss,val_accuracy,val_loss", {"accuracy": "train", "loss": "train"}),
        # fastai, a model card, Ultralytics: training's are named.
        ("epoch,train_loss,valid_loss,accuracy,time", {"accuracy": "val"}),
        ("Training Loss,Epoch,Step,Validation Loss,F1", {"f1": "val"}),
        ("epoch,train/box_loss,metrics/recall(B),val/box_loss", {"recall(b)": "val"}),
        # sentence-transformers: a file of evaluations.
        ("epoch,steps,cosine_pearson,accuracy", {"cosine_pearson": "val", "accuracy": "val"}),
        # detectron2: only validation has an average precision.
        ("iteration,total_loss,fast_rcnn/cls_accuracy,bbox/AP50",
         {"bbox/ap50": "val", "fast_rcnn/cls_accuracy": "train", "loss": "train"}),
        ("epoch,loss,bleu", {"bleu": "val", "loss": "train"}),
        ("epoch,train_loss,test_loss,accuracy", {"accuracy": "test"}),
        # Nothing tells: what is not known to be validation's is training's.
        ("epoch,loss,accuracy", {"accuracy": "train"}),
        ("epoch,train_loss,accuracy", {"accuracy": "train"}),
    ],
)  # fmt: skip
def test_a_score_without_a_split_is_vals_only_where_it_can_be_nothing_else(
    header: str, scores: dict[str, str]
) -> None:
    told = columns_of(header.split(","))
    for score, split in scores.items():
        assert f"{split}/{score}" in told.scores.values(), told


def test_where_the_split_was_inferred_it_is_said() -> None:
    told = columns_of(["epoch", "train_loss", "valid_loss", "accuracy", "error_rate"])
    assert told.notes == [
        "Taken as val's, though their names tell no split: 'accuracy', 'error_rate'."
    ]
    told = columns_of(["epoch", "loss", "accuracy"])
    assert told.notes == [
        "Taken as train's, as nothing tells a split: 'accuracy'. Name what was validated val_…."
    ]


@given(st.lists(st.text(max_size=20), unique=True))
def test_no_two_columns_are_one_score_and_any_text_may_be_a_column(columns: list[str]) -> None:
    told = columns_of(columns)
    assert set(told.scores) <= set(columns)
    assert len(set(told.scores.values())) == len(told.scores)


def test_losses_and_errors_fall_and_the_rest_rises() -> None:
    falling = ["val/loss", "val/mse", "train/my_loss", "val/max_error", "train/loss_box_reg"]
    falling += ["val/l2", "val/poisson-nloglik", "val/0:mlogloss", "val/error@0.7"]
    assert not any(map(rises, falling))
    assert all(map(rises, ["val/accuracy", "val/f1/macro", "val/r2", "val/my_own"]))


@pytest.mark.parametrize("column", ["split", "phase", "Mode", "subset"])
@pytest.mark.parametrize("order", ["by epoch", "by split"])
def test_a_column_of_splits_never_mixes_them(tmp_path: Path, column: str, order: str) -> None:
    rows = [(epoch, split) for epoch in range(4) for split in ("train", "valid", "test")]
    if order == "by split":
        rows.sort(key=lambda row: ["train", "valid", "test"].index(row[1]))
    shift = {"train": 0.0, "valid": 0.25, "test": 0.5}
    lines = [f"{e},{split},{4 - e + shift[split]}" for e, split in rows]
    path = tmp_path / "log.csv"
    path.write_text("\n".join([f"epoch,{column},loss", *lines]))
    history = pm.read_history(path)
    assert history["train/loss"] == [4, 3, 2, 1]
    assert history["val/loss"] == [4.25, 3.25, 2.25, 1.25]
    assert history["test/loss"] == [4.5, 3.5, 2.5, 1.5]


@pytest.mark.parametrize(
    ("first", "second"),
    [("train_set", "val_set"), ("Training set", "Validation data"), ("tr", "va")],
)
def test_a_cell_may_call_a_split_a_set(first: str, second: str) -> None:
    text = f"epoch,phase,loss\n0,{first},3.0\n0,{second},2.0\n1,{first},1.0\n1,{second},1.5\n"
    scores = [epoch["scores"] for epoch in read_log(read_csv("log", text)).epochs]
    assert [row["val/loss"]["value"] for row in scores] == [2.0, 1.5]
    assert [row["train/loss"]["value"] for row in scores] == [3.0, 1.0]


def test_rows_of_a_split_that_nobody_knows_are_left_out_with_its_name() -> None:
    text = "epoch,split,loss\n0,train,1\n0,calib,7\n0,val,2\n"
    log = read_log(read_csv("log", text))
    assert {name: s["value"] for name, s in log.epochs[0]["scores"].items()} == {
        "train/loss": 1,
        "val/loss": 2,
    }
    assert any("'calib'" in note for note in log.notes)
