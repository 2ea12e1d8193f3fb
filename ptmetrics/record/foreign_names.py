"""What other tools call a column, and what it is here: tables of words, the same for all formats."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ptmetrics.record.direction import direction

SHOWN_NAMES = 10
KEPT_NAMES = 4096  # of which it is known whether they rise
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), "val"),
    **dict.fromkeys(("va", "validate", "validating", "holdout"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_GAP = r"[\s_/.:|()\[\]-]"  # what may stand between two words of a name
_SPLIT = re.compile(rf"(?:^|(?<={_GAP}))({'|'.join(SPLIT_WORDS)})(?=$|{_GAP})")
# trainLoss and lossVal: only beside a split, so that mAP stays one word.
_CAMEL = (
    (
        re.compile(
            r"^([Tt]rain(?:ing)?|[Vv]al(?:id(?:ation)?)?|[Tt]est(?:ing)?|[Ee]val(?:uation)?|dev)"
            r"(?=[A-Z])"
        ),
        r"\1_",
    ),
    (re.compile(r"(?<=[a-z0-9])(?=(?:Train(?:ing)?|Val(?:id(?:ation)?)?|Test|Eval)$)"), "_"),
)
_PERCENT = re.compile(
    r"(?<=.)[\s_]*[(\[]?\s*(?:in[\s_])?(?:%|\b(?:pct|percent)\b|_(?:pct|percent))\s*[)\]]?$", re.I
)
_OF_SET = re.compile(r"[\s_-]*(?:set|split|data|dataset)$")  # of a split that a cell names
_LOADER = re.compile(r"(.+?)[/_](dataloader_idx_\d+)")  # Lightning, with several validation sets
# XGBoost and LightGBM. Not with "_" behind the number, where the classes 0 and 1 stand elsewhere.
_NUMBERED = re.compile(r"(?:^|(?<=/))(?:validation|valid|eval)_(\d{1,9})[-:/](?=.)")
_CONTAINER = re.compile(
    rf"^(?:metrics?|scores?|logs?|history|results?|evals_result|trainer){_GAP}+(?=.)"
)
_PER = re.compile(r"(?<=.)[_/](?:epoch|step)$")  # Lightning: the mean of an epoch, or of a step

_SCORES = {
    **dict.fromkeys(("acc", "accuracy_score", "categorical_accuracy"), "accuracy"),
    **dict.fromkeys(("sparse_categorical_accuracy", "binary_accuracy"), "accuracy"),
    **dict.fromkeys(("multiclass_accuracy", "multiclassaccuracy"), "accuracy"),
    **dict.fromkeys(("top_k_categorical_accuracy", "topk_accuracy"), "top5_accuracy"),
    "sparse_top_k_categorical_accuracy": "top5_accuracy",
    **dict.fromkeys(("balanced_acc", "bal_acc"), "balanced_accuracy"),
    **dict.fromkeys(("auc", "roc_auc", "roc_auc_score", "auc_roc"), "auroc"),
    **dict.fromkeys(("matthews_correlation", "matthews_corrcoef"), "mcc"),
    "cohen_kappa": "kappa",
    "f1_score": "f1",
    "precision_score": "precision",
    "recall_score": "recall",
    "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
    "mean_absolute_error": "mae",
    **dict.fromkeys(("r2_score", "r_squared"), "r2"),
    "miou": "mean_iou",
}
_OF_PIXELS = {
    **dict.fromkeys(("aacc", "oa", "overall_accuracy", "pixel_acc", "pixel_accuracy"), "accuracy"),
    **dict.fromkeys(("macc", "mean_accuracy", "mean_acc"), "balanced_accuracy"),
    **dict.fromkeys(("mdice", "mean_dice"), "dice"),
    "mfscore": "f1/macro",
    "mprecision": "precision/macro",
    "mrecall": "recall/macro",
}
"""What such names are beside a mean IoU: the mean accuracy is one over classes there."""
_PLAIN_MEANS = re.compile(
    r"(?:(?:avg|mean|average|epoch|running)_)?(?:(loss(?:es)?)|acc(?:s|uracy|uracies)?)"
    r"(?:_(?:avg|mean|average))?"
)
_OF_LIST = re.compile(r"(?<=.)_(?:history|hist|list|values|curve|per_epoch)$")
_LOSS_CLASSES = re.compile(  # losses by the names of their classes
    r"(?:bce|bce_?with_?logits|ce|cross_?entropy|nll|mse|smooth_?l1|huber|focal)_?loss"
    r"|cross_?entropy|(?:binary_|multi_|m)?log_?loss"
)
_TOP_WORDS = re.compile(
    r"(?:(?:acc|accuracy|prec)[_/@-]?(?:top)?|top)[_@-]?(\d+)(?:[_-](?:acc|accuracy))?"
)
_AVERAGED = frozenset({"precision", "recall", "f1", "specificity"})
_AVERAGES = frozenset({"macro", "micro", "weighted"})

# What is no score: by a word anywhere in its name, at its beginning or end, or by all of it.
_ANYWHERE = """
    lr lrs epochs batch batches time times seconds secs minutes hours duration elapsed eta timestamp
    datetime date walltime runtime memory mem gpu cpu vram grad grads gradient gradients momentum
    iter iters iteration iterations seed params param parameters flos flops patience ci unnamed best
    threshold thresholds count counts num world dur
"""
_IN_FRONT = "n num number std stderr cumulative"
_NOT_AT_END = """
    step steps epoch low high lower upper std stderr sem sec hrs min max scale size weight decay
    remaining samples examples tokens seen bytes fps id idx len length
"""
_ALONE = """
    index samples examples total tokens throughput speed alpha beta gamma epsilon temperature version
    value percentage progress comment comments note notes device hostname pid rank done rung correct saved
    is_best total_flos hp_metric
"""
_NO_SCORE = re.compile(
    rf"(?:.*_)?(?:{'|'.join(_ANYWHERE.split())})(?:_.*)?|(?:{'|'.join(_IN_FRONT.split())})(?:_.*)?"
    rf"|(?:.*_)?(?:{'|'.join(_NOT_AT_END.split())})|{'|'.join(_ALONE.split())}"
    r"|(?:.*_)?(?:lr|pg)\d+|.*learning_rates?|.*(?:dropout|drop_path)_rate|.*(?:weight|update)_norm"
    r"|(?:.*_)?per_(?:second|sec|s)|.*_(?:min|max)|.*_vs_.*"
)
_IS_AVERAGE = re.compile(r"(?:.*_)?(?:f1|fbeta|precision|recall|jaccard|accuracy)_samples")
_ONLY_VALIDATION = re.compile(
    r"(?:.*[_/])?(?:m?a[pr](?:[lms]|[@_\d.(:-].*)?|bleu\w*|sacrebleu|rouge\w*|meteor|chrf\w*|cider"
    r"|spice|[wct]er|(?:ndcg|mrr)\b.*|exact_match)|(?:bbox|segm|keypoints)/.*"
    r"|(?:cosine|euclidean|manhattan|dot|max)[_-].*"
)

KEY_NAMES = ("metric", "tag", "key", "measure", "variable", "name")
EPOCH_NAMES = ("epoch", "epochs", "ep", "epoch_num", "epoch_number", "epoch_idx", "current_epoch")
STEP_NAMES = (
    "iter",
    "iteration",
    "iterations",
    "it",
    "global_step",
    "current_steps",
    "step",
    "steps",
)
SPLIT_NAMES = ("split", "phase", "mode", "stage", "subset", "partition", "set", "dataset")
RUN_NAMES = (
    *("model", "model_name", "arch", "architecture", "run", "run_id", "run_name", "experiment"),
    *("exp", "exp_name", "experiment_name", "trial", "trial_id", "fold", "seed"),
)
SAMPLES_NAMES = ("samples", "num_samples", "n_samples", "n", "examples", "num_examples")


class Name(NamedTuple):
    """What the name of a column tells.

    Attributes:
        split: The split that it names; None for none, empty where it names two.
        sort: Its words without the split, joined by "_".
        score: Our name of the score; empty where it is none.
    """

    split: str | None
    sort: str
    score: str


@dataclass
class LogColumns:
    """What the columns of a log are.

    Attributes:
        scores: Each column that holds a score, with its name, such as "val/accuracy".
        bare: Scores whose split stands in a column of its own, with their names without it.
        epoch: The column that tells the epoch.
        step: The column that tells the step.
        split: The column that tells the split of a row.
        runs: Columns that tell runs apart.
        samples: The column that tells how many samples a split has, by the split.
        of_pixels: Columns of a split that has a mean IoU, which one tool writes: all as shares, or
            all in percent.
        notes: What was decided, as sentences.
    """

    scores: dict[str, str] = field(default_factory=dict)
    bare: dict[str, str] = field(default_factory=dict)
    epoch: str | None = None
    step: str | None = None
    split: str | None = None
    runs: list[str] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)
    of_pixels: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def read_name(column: str) -> Name:
    """What a column's name tells.

    A name without an average keeps it open: "eval_f1" is "f1" of validation, since the log does
    not say whose mean it is.

    Example:
        >>> read_name("Validation Loss"), read_name("lr-Adam")
        (Name(split='val', sort='loss', score='loss'), Name(split=None, sort='lr_adam', score=''))
        >>> read_name("acc_train").score
        'accuracy'
    """
    text = _PERCENT.sub("", column.strip().lstrip("#_").strip())
    for pattern, gap in _CAMEL:
        text = pattern.sub(gap, text)
    text = re.sub(r"\s+", "_", text.lower())
    loader = _LOADER.fullmatch(text)
    if loader:
        text = f"{loader[2]}/{loader[1]}"
    numbered = _NUMBERED.search(text)
    if numbered:
        split: str | None = f"val_{numbered[1]}"
        rest = text[: numbered.start()] + text[numbered.end() :]
    else:
        split, rest = _parted(text)
    rest = _CONTAINER.sub("", rest)
    whole = _joined(rest)
    if split == "" or not whole or whole in (*EPOCH_NAMES, *STEP_NAMES):
        return Name(split, whole, "")
    rest = _PER.sub("", rest)
    sort = _joined(rest)
    if not sort or (_NO_SCORE.fullmatch(sort) and not _IS_AVERAGE.fullmatch(sort)):
        return Name(split, whole, "")
    return Name(split, whole, _score_of(rest))


def in_percent(column: str) -> bool:
    """Whether the name of a column says that its numbers are percentages.

    Example:
        >>> in_percent("Val Acc (%)"), in_percent("val_acc_pct"), in_percent("val_acc")
        (True, True, False)
    """
    return bool(_PERCENT.search(column.strip()))


@lru_cache(KEPT_NAMES)
def split_of(cell: str) -> str | None:
    """The split that a cell names; None for none that is known.

    Example:
        >>> split_of("Validation set"), split_of("ood")
        ('val', None)
    """
    return SPLIT_WORDS.get(_OF_SET.sub("", cell.strip().lower()))


def _joined(text: str) -> str:
    return re.sub(rf"{_GAP}+", "_", text).strip("_")


def _parted(text: str) -> tuple[str | None, str]:
    """The split that a name tells, and what is left of the name.

    Of an evaluation of several sets it is the set: "eval_test_loss".
    """
    words = _SPLIT.findall(text)
    if not words:
        return None, text
    found = [SPLIT_WORDS[word] for word in words]
    rest = _SPLIT.sub("", text).replace("()", "").replace("[]", "")
    rest = re.sub(rf"{_GAP}*([/.:|-]){_GAP}*|_{{2,}}", lambda gap: gap[1] or "_", rest)
    rest = rest.strip(" _/.:|-")
    if words == ["train", "eval"] or found == ["val", "train"]:  # training data, evaluated
        return "train_eval", rest
    if found[0] == "val" or len(set(found)) == 1:
        return found[-1], rest
    return "", rest


def _score_of(rest: str) -> str:
    rest = _OF_LIST.sub("", rest)
    name = _SCORES.get(rest, _SCORES.get(_joined(rest), rest))
    mean = _PLAIN_MEANS.fullmatch(name)
    if mean and mean[1]:
        return "loss"
    if mean:
        return "accuracy"
    top = _TOP_WORDS.fullmatch(name)
    if top and top[1] == "1":
        return "accuracy"
    if top:
        return f"top{top[1]}_accuracy"
    # One spelling of "macro_f1", "f1_macro", "f1_macro_score", "macro avg/f1-score" and "f1/macro".
    words = [word for word in re.split(r"[_/-]", name) if word not in ("score", "avg")]
    if len(words) == 2 and words[0] in _AVERAGES:
        words.reverse()
    if len(words) == 2 and words[0] in _AVERAGED and words[1] in _AVERAGES:
        return "/".join(words)
    return name


def columns_of(
    names: Iterable[str], *, evaluated: Collection[str] = (), bare_is_train: bool = False
) -> LogColumns:
    """Tell what each column of a log is.

    Of several columns for one score the first counts, and one per epoch before one per step.

    Args:
        names: All columns.
        evaluated: Columns that are known to stand in rows of evaluations alone.
        bare_is_train: Whether the tool is known to leave out the split of training, and no other.
    """
    told = {name: read_name(name) for name in names}
    notes = _name_last_set(told)
    of_pixels = _name_pixels(told)
    columns = _roles_of(told)
    columns.notes = notes
    columns.of_pixels = of_pixels
    taken = {columns.epoch, columns.step, columns.split, *columns.runs, *columns.samples.values()}
    held = {name: each for name, each in told.items() if each.score and name not in taken}
    splits: dict[str, str] = {}
    if columns.split is None:
        splits = _splits_of_bare(columns, held, evaluated, bare_is_train=bare_is_train)
    twice = []
    known: set[str] = set()
    for name in sorted(held, key=lambda name: name.lower().endswith("_step")):
        split = held[name].split or splits.get(name)
        score = held[name].score
        if is_loss(score) and _is_the_loss(held, name):
            score = "loss"
        if split is not None:
            score = f"{split}/{score}"
        if split is None:  # of several columns the first with a number in a row counts
            columns.bare[name] = score
        elif score in known:
            twice.append(name)
        else:
            columns.scores[name] = score
        known.add(score)
    others = [name for name in told if name not in taken and name not in held]
    if others:
        columns.notes.append(f"Columns that are no scores were not read: {listed(others)}.")
    if twice:
        columns.notes.append(f"Second spellings of a score were not read: {listed(twice)}.")
    return columns


def _is_the_loss(held: Mapping[str, Name], column: str) -> bool:
    """Whether a total is the loss of its split, or the only one there is, by the name of its class."""
    own = held[column]
    if own.score != "total_loss" and not _LOSS_CLASSES.fullmatch(own.score):
        return False
    others = [
        each.score for name, each in held.items() if each.split == own.split and name != column
    ]
    if own.score == "total_loss":
        return "loss" not in others
    return not any(map(is_loss, others))


def _name_last_set(told: dict[str, Name]) -> list[str]:
    """Call the last of numbered sets of validation "val", by which boosting stops; a note of that."""
    sets = {each.split for each in told.values() if re.fullmatch(r"val_\d+", each.split or "")}
    numbered = sorted(filter(None, sets), key=lambda split: int(split[4:]))
    if not numbered or any(each.split == "val" for each in told.values()):
        return []
    for name, each in told.items():
        if each.split == numbered[-1]:
            told[name] = each._replace(split="val")
    if len(numbered) == 1:
        return []
    others = ", ".join(numbered[:-1])
    return [f"Of {len(numbered)} sets of validation the last is val; the others are {others}."]


def _name_pixels(told: dict[str, Name]) -> frozenset[str]:
    """Name what stands beside a mean IoU as segmentation does; those columns with it."""
    splits = {each.split for each in told.values() if each.score == "mean_iou"}
    found = set()
    for name, each in told.items():
        if each.split not in splits:
            continue
        if each.score == "mean_iou":
            found.add(name)
        elif each.score and each.sort in _OF_PIXELS:
            told[name] = each._replace(score=_OF_PIXELS[each.sort])
            found.add(name)
    return frozenset(found)


def _roles_of(told: Mapping[str, Name]) -> LogColumns:
    """The columns that say what a row is about."""
    sorts: dict[str, str] = {}
    samples: dict[str, str] = {}
    for name, each in told.items():
        if each.split is None or (
            each.split == "train" and each.sort in (*EPOCH_NAMES, *STEP_NAMES)
        ):
            sorts.setdefault(each.sort, name)
        elif each.split and each.sort in SAMPLES_NAMES:
            samples.setdefault(each.split, name)
    epoch, step, split = (
        next((sorts[sort] for sort in wanted if sort in sorts), None)
        for wanted in (EPOCH_NAMES, STEP_NAMES, SPLIT_NAMES)
    )
    runs = [sorts[sort] for sort in RUN_NAMES if sort in sorts]
    return LogColumns(epoch=epoch, step=step, split=split, runs=runs, samples=samples)


def _splits_of_bare(
    columns: LogColumns,
    held: Mapping[str, Name],
    evaluated: Collection[str],
    *,
    bare_is_train: bool,
) -> dict[str, str]:
    """The split of each score whose name tells none.

    It is training's where its twin of validation stands beside it, or where the loss of training
    goes without a split as well; validation's where only that can be.
    """
    of = {name: each.score for name, each in held.items() if each.split is None}
    if not of:
        return {}
    named = {(each.split, each.score) for each in held.values() if each.split}
    losses = {name for name, score in of.items() if is_loss(score) and name not in evaluated}
    other = next((split for split in ("val", "test") if split in {s for s, _ in named}), None)
    steps = columns.step is not None and read_name(columns.step).sort == "steps"
    # The evaluators of sentence-transformers write files of their own, without a loss.
    evaluator = steps and columns.epoch is not None and not losses and not named
    splits: dict[str, str] = {}
    for name, score in of.items():
        split = "train"
        twin = ("val", score) in named or ("test", score) in named
        if bare_is_train or twin or name in losses:
            pass
        elif evaluator or name in evaluated or _ONLY_VALIDATION.fullmatch(score):
            split = "val"
        elif other is not None and not losses:
            split = other
        splits[name] = split
    _note_splits(columns, splits, [n for n, score in of.items() if n not in losses], named)
    return splits


def _note_splits(
    columns: LogColumns, splits: Mapping[str, str], bare: list[str], named: Collection[object]
) -> None:
    """Say of which scores the split was inferred."""
    for split in ("val", "test"):
        taken = [name for name in bare if splits[name] == split]
        if taken:
            note = f"Taken as {split}'s, though their names tell no split: {listed(taken)}."
            columns.notes.append(note)
    taken = [name for name in bare if splits[name] == "train"]
    if taken and not named:
        note = f"Taken as train's, as nothing tells a split: {listed(taken)}."
        columns.notes.append(f"{note} Name what was validated val_….")


def is_loss(score: str) -> bool:
    """Whether a score is a loss, or a part of one."""
    return "loss" in re.split(rf"{_GAP}+", score) or bool(_LOSS_CLASSES.fullmatch(score))


@lru_cache(KEPT_NAMES)
def rises(name: str) -> bool:
    """Whether a higher value of this score is better; so for one that nobody knows."""
    known = direction(name)
    if known is None:
        return not is_loss(name)
    return known


def listed(names: Iterable[str]) -> str:
    """The first few names, quoted and clipped."""
    shown = list(names)
    words = ", ".join(clipped(name) for name in shown[:SHOWN_NAMES])
    if len(shown) > SHOWN_NAMES:
        words += f", … ({len(shown)} in all)"
    return words


def clipped(text: str) -> str:
    """A text of a log for a message: quoted, and not long."""
    if len(text) > 40:
        text = text[:40] + "…"
    return repr(text)
