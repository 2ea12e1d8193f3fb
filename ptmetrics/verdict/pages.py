"""What each finding means and what to do: the texts behind `--explain` and docs/rules.md."""

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ptmetrics.errors import ConfigError
from ptmetrics.extensions import EXTENDING_RULES, offered
from ptmetrics.verdict.finding import Finding, Severity
from ptmetrics.verdict.profile import PROFILES, Thresholds
from ptmetrics.verdict.rule import Page, RuleFunction, as_rule

PAGE_WIDTH = 96


PAGES: Mapping[str, Page] = {
    "not-validated": Page(
        "invalid",
        "No score was measured on validation data.",
        "Validate at least once before the run ends; training scores say nothing about new data. "
        "Where the script does validate, say so: model.eval() before the validation loop, by which "
        "hooks tell it from training, or for x, y in monitor.validate(loader): ….",
        why=(
            "Training scores are those of rows that the model was fitted to, and rise even "
            "where nothing is learned that carries over."
        ),
    ),
    "non-finite": Page(
        "invalid, undetermined or warning",
        "A loss is NaN or infinite although it had samples, or predictions were NaN. Invalid where "
        "it stands in what is judged or before it, undetermined where only some losses of the "
        "validation that is judged were left out, else a warning: the model itself broke later, or "
        "in training.",
        "Lower the learning rate, clip gradients, check inputs for NaN and half precision for "
        "overflow.",
        why=(
            "A comparison with NaN is always false, so code that looks for a best epoch or a "
            "threshold goes wrong without a word."
        ),
    ),
    "missing-class": Page(
        "invalid or info",
        "A class of the model has no sample in the validation data, so nothing is known about it. "
        "For information where that is no surprise: of tokens, pixels and more than 20 classes, "
        "where the training data, or as many classes as there are, let fewer than 10 samples be "
        "expected, and of more than 1,000 classes, as of a vocabulary. A target that is ignored is "
        "no class.",
        "Draw the validation data by class (stratified), or leave these classes out of the model.",
        why=(
            "A mean over the classes leaves it out in silence, and the first such case in "
            "use is the first test."
        ),
    ),
    "metric-faults": Page(
        "undetermined or warning",
        "Values were refused (labels out of range, NaN rows) or a metric failed, so the scores "
        "stand on less than all the data. A warning where this is known to have happened in "
        "another split than validation, such as training: what is judged is whole then.",
        "Mend the data or the call that the message names, and run again.",
        why=(
            "The rows that were refused may be the hard ones, so the scores are those of a "
            "selection."
        ),
    ),
    "too-good": Page(
        "warning",
        "The first validation is perfect: accuracy, or R², of 1 on 100 samples or more. Some tasks "
        "are so easy; more often the targets are in the inputs, or validation rows were trained "
        "on.",
        "Look for validation rows in the training data and for the target among the inputs before "
        "you believe it.",
        why=(
            "A score without an error is more often a fault of the data than a perfect "
            "model, and it is found late: in use."
        ),
    ),
    "selected-on-val": Page(
        "info",
        "The judged epoch was chosen as the best of several on the data that judge it. The best of "
        "T epochs that are alike lies about √(2 ln T) standard errors above them.",
        "Judge the chosen epoch once on data that chose nothing: a test split, "
        "monitor.test(loader).",
        why=("The luck of the best epoch stands in its score; on new data that part is missing."),
    ),
    "contradiction": Page(
        "invalid",
        "A line of the record is whole, by its checksum, and says what cannot be: a score outside "
        "of its range or of its own interval, an accuracy that its confusion matrix does not give, "
        "a count below 0. The place is named; the line was skipped.",
        "Look at that line: somebody changed the record by hand, or a metric of your own gives such "
        "values.",
        why="If one number of a record cannot be, none of the others can be trusted unseen.",
    ),
    "damaged-record": Page(
        "warning",
        "Lines of the journal could not be read and were skipped.",
        "Epochs may be missing; a line cut off at the end comes from a killed process and is "
        "harmless.",
        why="An epoch that is missing cannot be judged, and may have been the best one.",
    ),
    "not-counted": Page(
        "invalid or warning",
        "The model answered rows that nothing counted: no criterion was called for them, or none "
        "that could be tied to their answers. Invalid where nothing of the validation that is "
        "judged was counted; a warning where a part of it was not, where another epoch was not, "
        "where it is another split that has neither loss nor scores, or where rows of training came "
        "after the last step of the optimizer, or before one and no backward pass reached them, as "
        "those of a validation without model.eval() and torch.no_grad() do.",
        "Wrap the loader, for batch in monitor.validate(loader), or call the criterion that is "
        "attached, or hand each batch over: monitor.update(preds, target). A validation that only "
        "hooks see says that it is one by model.eval() and torch.no_grad().",
        why=(
            "The scores stand on a part of the data, or on nothing, and look as if they "
            "stood on all of it."
        ),
    ),
    "split-changed": Page(
        "warning or undetermined",
        "The rows of validation are more than the loader holds, or one epoch holds several passes, "
        "of which the last one stands in the scores though their sizes differ, or all of them were "
        "counted as one. Undetermined where they were, and where such passes followed each other "
        "and nothing but the hooks told their split: then which of them was validation is not "
        "known.",
        'Name what is no validation: with monitor.split("train_eval"):, with monitor.pause():, '
        "or monitor.test(loader).",
        why=("Scores of several passes, or of training rows, stand under the name of validation."),
    ),
    "padded-duplicates": Page(
        "warning",
        "Several ranks counted the same rows of validation: those that a sampler repeats so that "
        "all ranks have as many, or all of them, where each rank validates the whole data. Told by "
        "the positions that the sampler gives out, or by losses or sums of the model's scores that "
        "are the same on all ranks; labels alone do not tell.",
        "Wrap the loader, for batch in monitor.validate(loader), which leaves padding out; give it "
        "a DistributedSampler, so that each rank validates its share; or let rank 0 validate alone "
        "beside Monitor(sync=False).",
        why=(
            "Rows that count twice move the score and make its interval too narrow, and the "
            "score depends on the number of ranks."
        ),
    ),
    "validation-changed": Page(
        "warning",
        "In other epochs another number of rows was validated than in the judged one, or another "
        "number of rows of some class. Curves are then not compared with those epochs.",
        "Validate on the same data in every epoch: no shuffled subset, no limit of batches that "
        "changes, no drop_last with shuffling.",
        why=(
            "A curve over different rows rises and falls with the rows; the best epoch may "
            "be the one with the easiest ones."
        ),
    ),
    "loss-disagrees": Page(
        "warning or info",
        "The loss that was given or watched is another number than the metric's own likelihood "
        "(`nll`), or mean squared error, of the same rows, beyond rounding; or both were computed "
        "from probabilities taken for logits. The message names what fits the numbers: a sum, a "
        "share, softmax or sigmoid inside the model, a criterion that takes something else, "
        "targets that were broadcast, another head. For information where nothing fits and the "
        "criterion is not known, which may be meant so: weights, smoothing, regularisation. "
        "Criteria that have class weights or smooth labels, and those of one's own, are not held "
        "against it.",
        "Hand over the mean over the rows, of the predictions that are counted.",
        why=(
            "A loss that is a sum or a fraction trains with another learning rate than the "
            "one that was set, and curves of two runs cannot be compared by it."
        ),
    ),
    "no-skill": Page(
        "fail or undetermined",
        "The model is not shown to beat the class that is most frequent anyway, by a paired "
        "test on the same samples. It fails where there is no gain at all and stays "
        "undetermined where the gain is not shown.",
        "Weight the loss or sample by class, and look at the recall of each class before the "
        "accuracy.",
        (
            "baseline",
            "skill_p",
        ),
        why="A constant answer would do as well and costs nothing.",
    ),
    "accuracy-paradox": Page(
        "fail",
        "Accuracy looks good only because one class is frequent: the model does not beat the "
        "majority class, or the recall of the rarest class or Matthews' correlation is shown to "
        "be low.",
        "Judge by balanced accuracy, MCC and the recall of each class; accuracy says nothing here.",
        (
            "imbalance",
            "paradox_accuracy",
            "paradox_recall",
            "paradox_mcc",
        ),
        why=(
            "Such a model would be put to use on the strength of one number, and never find "
            "what it was made for."
        ),
    ),
    "low-accuracy": Page(
        "fail",
        "The whole interval of the accuracy lies below what is wanted; below `accuracy_bad` it "
        "is called bad, else mediocre.",
        "Train longer, unfreeze more layers, or find out which classes are confused.",
        (
            "accuracy",
            "accuracy_bad",
        ),
        why=(
            "Even at the favourable end of what the data allow, the model is right less "
            "often than was asked for."
        ),
    ),
    "low-precision": Page(
        "fail",
        "The whole interval of the precision, of the positive class or the mean over classes, "
        "lies below what is wanted.",
        "Raise the decision threshold, as pm.advise_threshold(run, precision_at_least=0.8) says, or "
        "add negatives that look like the positives.",
        ("precision",),
        why="Too many alarms are false: who has to look at each will stop to look.",
    ),
    "low-recall": Page(
        "fail",
        "The whole interval of the recall, of the positive class or the mean over classes, lies "
        "below what is wanted.",
        "Lower the decision threshold, as pm.advise_threshold(run, recall_at_least=0.8) says, weight "
        "the loss by class, or add samples of what is missed.",
        ("recall",),
        why=(
            "Too many of the cases that are looked for are missed, even at the favourable "
            "end of what the data allow."
        ),
    ),
    "precision-recall-gap": Page(
        "fail",
        "Precision and recall are shown to lie further apart than is tolerated; the interval "
        "accounts for the hits that they share.",
        "Move the decision threshold towards the lower one, as pm.advise_threshold(run, beta=1) "
        "says, or weight the loss by class.",
        (
            "balance",
            "balance_far",
        ),
        why=(
            "The threshold stands where one of the two pays for the other; often a better "
            "one costs nothing."
        ),
    ),
    "collapsed": Page(
        "fail",
        "Every prediction is the same class, though the targets are not. One finding in place of "
        "one for each class that was never predicted.",
        "Look at the loss: a learning rate that is too high, labels that do not belong to their "
        "inputs, or one class that is nearly all of the training data do this.",
        why=("The model ignores its input; whatever its accuracy is, it is that of a constant."),
    ),
    "weak-class": Page(
        "fail",
        "A class is shown not to be learned: an exact binomial test of its recall, corrected "
        "for testing every class (Holm).",
        "Add samples of this class, weight it, or check its labels.",
        (
            "class_recall",
            "class_alpha",
        ),
        why=(
            "A mean over many classes hides one that fails nearly always, and to those whom "
            "it concerns it is the whole of the model."
        ),
    ),
    "weak-slice": Page(
        "fail",
        "A slice of the validation data is shown to be weak: an exact binomial test of its "
        "accuracy, or of its recall of the positive class where the profile drops the accuracy, "
        "corrected for testing every slice (Holm).",
        "Look at samples of this slice, train on more like them, or leave the slice out of what "
        "the model is for.",
        (
            "slice_score",
            "slice_alpha",
        ),
        why=(
            "A good score of all rows hides a group of them, such as a hospital or a "
            "language, for which the model does not work."
        ),
    ),
    "too-few-samples": Page(
        "undetermined or warning",
        "An interval contains its threshold, so the criterion is undetermined, with the rows that "
        "would settle it in four of five cases if the truth is the value that was measured; or "
        "classes have too few samples to be judged (a warning). For the recall of a class the "
        "samples of that class count, and as many rows as hold them.",
        "Validate on as many more samples as the finding says; where it names classes, on samples of "
        "these classes.",
        (
            "class_support",
            "class_recall",
        ),
        why=(
            "Neither yes nor no would be an honest answer: the same model, validated on "
            "other rows, could land on either side."
        ),
    ),
    "not-measured": Page(
        "undetermined",
        "A criterion of the profile cannot be decided: its score was not recorded, is undefined, or "
        "came without the number of samples behind it. The finding names each with its reason.",
        "Record what is missing, or judge by a profile that does not ask for it.",
        why="A criterion that nobody measured would count as met if it were left out.",
    ),
    "regression-no-skill": Page(
        "fail or undetermined",
        "The model is not shown to beat always predicting the mean of the targets, whose R² is "
        "0. It fails where R² is shown to be below 0 and stays undetermined where 0 lies in its "
        "interval.",
        "Check that targets and predictions are in the same unit and order, and scale the "
        "targets for training.",
        ("regression_support",),
        why="A constant would predict as well and costs nothing.",
    ),
    "low-r2": Page(
        "fail",
        "The whole interval of R², the share of the targets' variance that is explained, lies "
        "below what is wanted.",
        "Train longer, unfreeze more layers, or look at the samples with the largest errors.",
        (
            "r2",
            "regression_support",
        ),
        why=("Too little of what makes one target differ from another is explained by the inputs."),
    ),
    "high-error": Page(
        "fail",
        "The whole interval of the mean absolute, mean squared or root mean squared error lies "
        "above what was asked for, in the unit of the target (squared for `mse`). Measured with "
        "`rmse = 1`.",
        "Train longer, unfreeze more layers, or look at the samples with the largest errors.",
        (
            "mae",
            "mse",
            "rmse",
            "regression_support",
        ),
        why="The errors that users will see are larger than what was called tolerable.",
    ),
    "one-row": Page(
        "warning",
        "A single row carries half of the squared error or more, so that mean squared error and R² "
        "tell of that row and not of the model.",
        "Look at that row: a wrong target, another unit, or an outlier. The mean absolute error and "
        "the percentiles of the error tell of the others.",
        why=(
            "A squared error follows a single row, so that two models differ by how they "
            "treat it and by nothing else."
        ),
    ),
    "low-overlap": Page(
        "fail",
        "The upper bound of the mean overlap of areas over classes, intersection over union or "
        "Dice's, lies below what was asked for.",
        "Look at the classes with the least overlap: small areas need a loss that weighs them, such "
        "as Dice's, or larger pictures.",
        ("mean_iou", "dice"),
        why=(
            "Areas are found too coarsely, though the share of right pixels, which the "
            "background fills, may look fine."
        ),
    ),
    "high-perplexity": Page(
        "fail",
        "The lower bound of the perplexity lies above what was asked for.",
        "Train longer, start from a model of the same language, or set a threshold that fits "
        "vocabulary and text.",
        ("perplexity",),
        why="The model spreads its probability over more tokens than was called tolerable.",
    ),
    "worse-than-baseline": Page(
        "fail",
        "A score that the profile holds against a threshold is shown to be worse than that of "
        "the baseline that was named, by more than the margin: `margin` for shares and R², "
        "`error_margin` relative to the baseline's for errors. Both must have been validated on "
        "the same data.",
        "Keep the baseline, or find out what changed between the two: data, learning rate, epochs.",
        (
            "margin",
            "error_margin",
        ),
        why="The change that is on trial would make worse what is in use.",
    ),
    "overfitting": Page(
        "fail, warning or info",
        "The validation loss has turned and lies, at the judged epoch, a tenth or more above its "
        "minimum beyond its noise, while the training loss falls and the followed score got worse "
        "(evidence `sign: loss`); the score is the one that selection follows, else accuracy or R², "
        "else any other with a direction. Or validation accuracy is shown to lie far below training "
        "accuracy, and that gap widens or the validation loss rises (`sign: gap`). A warning where "
        "no score was recorded that tells whether the model got worse; for information where the "
        "judged checkpoint is from before the rise. Where the losses of the samples were kept, the "
        "rise must be one of the samples at large and not of a few.",
        "Stop early by the score that matters; augment, regularise, freeze more layers, or get more "
        "training data. A checkpoint is named only where its score is shown to be better.",
        (
            "rise",
            "rise_moderate",
            "rise_severe",
            "rise_noise",
            "trend_p",
            "train_gap",
            "train_gap_fail",
        ),
        why=(
            "The model learns its training rows by heart: longer training makes it worse on "
            "new ones, and an earlier checkpoint may be better."
        ),
    ),
    "generalization-gap": Page(
        "warning",
        "Validation accuracy, or R², is shown to lie far below that of training, but the gap does "
        "not widen since validation stopped improving and the validation loss does not rise. Of a "
        "log that does not tell its number of samples, a gap of `train_gap_fail`. The training "
        "score is that of the split `train_eval` where there is one.",
        "Look for wrong validation labels, validation data of another kind, samples of training "
        "data that are alike, and augmentation that only one side has.",
        (
            "train_gap",
            "train_gap_fail",
        ),
        why=(
            "Training and validation disagree for a reason that stopping earlier will not "
            "mend: labels, a shift between the two, or copies within training."
        ),
    ),
    "val-loss-rising": Page(
        "warning or info",
        "The same rise of the validation loss, too small to be called overfitting, or, where "
        "numbers are predicted, of any size while the followed score has held.",
        "Watch the score that matters; it tells whether the model got worse.",
        (
            "rise",
            "rise_moderate",
            "rise_noise",
            "trend_p",
        ),
        why=(
            "It is how overfitting begins, and often no more than a model that becomes sure "
            "of the errors which it makes anyway."
        ),
    ),
    "over-confident": Page(
        "warning",
        "The validation loss rises by a tenth or more but the followed score has held or got "
        "better: the model gets too sure of itself, not worse. In place of overfitting.",
        "Scale the logits by a temperature fitted on validation data, or smooth the labels.",
        (
            "rise_moderate",
            "trend_p",
        ),
        why=(
            "A probability that is taken at its word, for a threshold or a price, is wrong "
            "although the class is right as often as before."
        ),
    ),
    "underfitting": Page(
        "warning",
        "Training accuracy itself stays below what is wanted, validation accuracy is close to it "
        "and not shown to be enough, and the training loss no longer falls. Evidence `cause` tells "
        "the three kinds apart: it has hardly left its start, it rose above it, or it is flat well "
        "below it.",
        "Unfreeze more layers, use a larger model, or change the learning rate.",
        (
            "accuracy",
            "train_gap",
            "slope",
            "trend_p",
        ),
        why=(
            "More epochs will not help here: the model, the learning rate or what is frozen "
            "keeps it from fitting even its training rows."
        ),
    ),
    "undertrained": Page(
        "warning",
        "Training accuracy itself stays below what is wanted, validation accuracy is close to it "
        "and not shown to be enough, but the training loss still falls: more epochs are worth "
        "trying.",
        "Train for more epochs.",
        (
            "accuracy",
            "train_gap",
            "slope",
            "trend_p",
        ),
        why=(
            "The run was stopped while it was getting better, so its scores are no measure "
            "of what the model can do."
        ),
    ),
    "diverged": Page(
        "fail or warning",
        "The training loss, smoothed, stood above twice its own minimum and above its start for "
        "three epochs in a row.",
        "Lower the learning rate, warm it up, clip gradients.",
        ("diverged",),
        why=(
            "The weights have left the region that was being optimised; what they score "
            "from there on is mostly chance."
        ),
    ),
    "different-validation": Page(
        "invalid",
        "The runs that are compared were validated on different data, by the fingerprint or the "
        "size that they recorded, or by the targets that they kept.",
        "Validate both arms on the same data set; nothing here can be compared.",
        why=(
            "A difference between two scores then mixes two models with two sets of data, "
            "and nobody can tell them apart."
        ),
    ),
    "no-speedup": Page(
        "fail",
        "The lower bound of the time ratio lies above what is called similar: pre-training "
        "saved no time.",
        "Check that the pre-trained weights were loaded, and lower the learning rate of the "
        "fine-tune.",
        ("speedup_none",),
        why="To save training time is what the pre-trained weights were taken for.",
    ),
    "scratch-is-better": Page(
        "fail",
        "The first arm's final score is shown to be worse than the second's by more than the "
        "margin.",
        "Tune the learning rate of the fine-tune, unfreeze more layers, or take a closer source "
        "task.",
        ("margin",),
        why="Time that was saved in training would be paid for by a worse model in use.",
    ),
    "time-samples-disagree": Page(
        "warning",
        "The ratio in time and the ratio in samples tell different stories: one arm's steps are "
        "slower.",
        "One arm's steps are slower: frozen layers, data loading, or another job on the machine.",
        ("ratio_gap",),
        why=(
            "The ratio of times then tells of the machine or the loader as much as of "
            "pre-training, and may not hold elsewhere."
        ),
    ),
    "rule-failed": Page(
        "undetermined",
        "A rule raised an exception, so what it looks for was not checked. The verdict stays open: "
        "such a run is never ready. This code can be neither selected nor ignored.",
        "Mend the rule, or leave it out of `rules=`.",
        why="What was not looked for may be there.",
    ),
}


def make_finding(
    code: str,
    severity: Severity,
    message: str,
    evidence: Mapping[str, Any],
    advice: str | None = None,
) -> Finding:
    """A finding with the advice of its page, unless there is better advice."""
    if advice is None:
        advice = PAGES[code].advice
    return Finding(code, severity, message, evidence, advice)


def known_pages(rules: Iterable[RuleFunction] = ()) -> dict[str, Page | str]:
    """Pages by their code: the package's own, those of what extends it, and those of these rules."""
    found: dict[str, Page | str] = {}
    for item in (*rules, *offered(EXTENDING_RULES)):
        found.update(as_rule(item).pages)
    return {**found, **PAGES}


def explain(code: str, *, rules: Iterable[RuleFunction] = ()) -> str:
    """What a finding means, how grave it is, what to do, and the thresholds that decide it.

    Args:
        code: The finding's code.
        rules: Rules of one's own, whose pages are known then as well.

    Raises:
        ConfigError: If no finding has this code; the near ones are named.

    Example:
        >>> import ptmetrics as pm
        >>> print(pm.explain("damaged-record"))
        damaged-record (warning)
        <BLANKLINE>
        Lines of the journal could not be read and were skipped.
        <BLANKLINE>
        Why it matters: An epoch that is missing cannot be judged, and may have been the best one.
        <BLANKLINE>
        What to do: Epochs may be missing; a line cut off at the end comes from a killed process and is
        harmless.
    """
    known = known_pages(rules)
    if code not in known:
        near = difflib.get_close_matches(code, known, n=3, cutoff=0.5)
        cure = f"The codes are {', '.join(sorted(known))}."
        if near:
            cure = f"Near: {', '.join(near)}."
        raise ConfigError("code", "the code of a finding", repr(code), cure)
    page = known[code]
    if isinstance(page, str):
        return f"{code}\n\n{page}"
    parts = [
        f"{code} ({page.severity})",
        textwrap.fill(page.meaning, PAGE_WIDTH),
    ]
    if page.why:
        parts.append(textwrap.fill(f"Why it matters: {page.why}", PAGE_WIDTH))
    parts.append(textwrap.fill(f"What to do: {page.advice}", PAGE_WIDTH))
    if page.thresholds:
        rows = [("threshold", *profile_columns().values()), *map(threshold_row, page.thresholds)]
        parts.append("\n".join(_aligned(rows)))
    return "\n\n".join(parts)


def profile_columns() -> dict[Thresholds, str]:
    """Thresholds to the names of the profiles that have them."""
    names: dict[Thresholds, str] = {}
    for profile in PROFILES.values():
        if profile.thresholds in names:
            names[profile.thresholds] += f", {profile.name}"
        else:
            names[profile.thresholds] = profile.name
    return names


def threshold_row(name: str) -> tuple[str, ...]:
    """A threshold's name, and its value in each of these columns; "off" where it is not used."""
    row = [name]
    for thresholds in profile_columns():
        value = getattr(thresholds, name)
        if value is None:
            value = "off"
        row.append(str(value))
    return tuple(row)


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()
