"""Gate 1, continued: faults of the loop itself, as `LoopHygiene` has noted them or the record shows."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import ptmetrics as pm
from ptmetrics.record.printable import quantity
from ptmetrics.verdict.evidence import IN_TRAINING_MODE, Counts
from ptmetrics.verdict.rule import Page, Rule

LOOP_NOTE = "hygiene"
"""Code of the notes that `LoopHygiene` records."""
LEAST_EXPECTED = 10  # samples of a class whose absence is no chance
_FIRST_ONES = 5

WATCHED: dict[str, Page] = {
    "eval-in-train-mode": Page(
        "undetermined",
        "Validation was answered by the model in training mode, so that dropout was at work and "
        "batches were normalised by their own statistics: the scores are not those of the model. "
        "Said where the model has such layers.",
        "Call model.eval() before the validation loop, and model.train() before training goes on.",
        why=(
            "The model that will be used has dropout off and fixed statistics: these scores "
            "are those of another one, often a worse one."
        ),
    ),
    "batchnorm-updated": Page(
        "warning",
        "Layers with running statistics, such as BatchNorm, were in training mode in validation: "
        "each of its batches was taken into the statistics, so that the model has learned from "
        "validation data, and is another one behind it.",
        "Call model.eval() before the validation loop, behind whatever puts such layers into "
        "training mode.",
        why=(
            "Validation data are no longer unseen, the score depends on the order and size "
            "of its batches, and the saved model differs from the one that was trained."
        ),
    ),
    "grad-in-eval": Page(
        "info",
        "Validation was answered with gradients on, which takes about as much memory as training. "
        "Scores are the same.",
        "Put the validation loop into a block: with torch.no_grad():, or torch.inference_mode().",
        why=("The graph is kept for nothing, and batches have to be smaller than they could be."),
    ),
    "val-shuffled-or-augmented": Page(
        "warning or info",
        "The validation inputs of another epoch are other ones, by fingerprints of the first 8 "
        "batches (at most 128 rows of each, 64 values of a row), though as many rows of each class "
        "were validated. A warning where the values of the rows change, as by a random crop, flip "
        "or noise, or where that cannot be told from another order; for information where the same "
        "rows come in another order.",
        "Give the validation data set the transform without random parts, and its DataLoader "
        "shuffle=False.",
        why=(
            "Epochs are then compared on different inputs, so a part of each step in the "
            "curve is chance, and samples cannot be paired."
        ),
    ),
    "inputs-not-normalised-alike": Page(
        "warning",
        "The inputs of training and of validation differ grossly: of the first 8 batches of each, "
        "the values of a validation row spread 1.8 times as much or as little as those of a "
        "training row, or lie .9 of that spread apart, and the middle halves of the rows do not "
        "overlap. Only inputs of floating point are looked at, from 64 rows on.",
        "Use the same transforms.Normalize(mean, std) and the same scale, such as ToTensor(), in "
        "the transforms of both data sets.",
        why=(
            "The model is judged on inputs of a scale that it never saw in training, so the "
            "score says little about the model."
        ),
    ),
    "frozen-not-frozen": Page(
        "warning or info",
        "Parameters with requires_grad=False moved in training: a warning where the optimizer "
        "holds them, as with weight decay or momentum on a gradient from before the freezing; else "
        "for information, for an average of the weights moves so on purpose. For information too "
        "where the running statistics of frozen BatchNorm layers follow the training data, since "
        "they are in training mode: what was pre-trained is then no longer what it was.",
        "Freeze first and pass the optimizer what trains: AdamW([p for p in model.parameters() if "
        "p.requires_grad]). For statistics, call layer.eval() of the frozen layers behind each "
        "model.train().",
        why=(
            "A part that was meant to keep what pre-training taught it is changed, and a "
            "comparison of frozen and unfrozen layers compares something else."
        ),
    ),
    "nothing-trains": Page(
        "fail or warning",
        "In a whole epoch of training no parameter moved, by a checksum of at most 4,096 values of "
        "each at its first batch and its end, and neither the learning rate nor the optimizer's "
        "parameters tell why. It fails where that is so in most epochs. Weights of 16 bits do "
        "not move where a step is less than their last digit.",
        "Call loss.backward() and optimizer.step() in each step, compute the loss from the model's "
        "own answer (no .detach(), .item() or .data on the way), and keep trained weights in "
        "float32.",
        why=("The run looks alive, costs its time, and ends with the weights that it began with."),
    ),
    "optimizer-misses-parameters": Page(
        "warning or fail",
        "Parameters that require gradients are not among those of the attached optimizer, and did "
        "not move. It fails where the optimizer holds none of those that should train, as one made "
        "of another model's parameters, or of a copy's.",
        "Make the optimizer of all that is to train, AdamW(model.parameters()), behind whatever "
        "replaces layers; or freeze the others: parameter.requires_grad_(False).",
        why=(
            "Layers that should learn stay as they were initialised, often a new head, and "
            "the others have to make up for it."
        ),
    ),
    "lr-zero": Page(
        "fail or warning",
        "The learning rate is 0, at the first batch and at the end of an epoch in which none of "
        "its parameters moved. It fails where all parameters have it, in most epochs.",
        "Set lr above 0; where a scheduler sets it, check its number of steps and whether "
        "scheduler.step() is called once a step or once an epoch, as it counts.",
        why=(
            "Training costs its time and changes nothing: what is judged is the model that "
            "was loaded."
        ),
    ),
}


@pm.rule(codes=WATCHED, page=WATCHED)
def loop_hygiene(evidence: pm.Evidence) -> Iterator[pm.Finding]:
    """What the callback has noted: of each fault the last epoch, with the number of them."""
    noted: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for note in evidence.noted(LOOP_NOTE):
        noted.setdefault((note["finding"], note["sign"]), {})[note["epoch"]] = note
    total = len(evidence.curves.epochs)
    for (code, _), of_epochs in noted.items():
        # That another number of rows or classes was validated is told by `validation-changed`.
        if code == "val-shuffled-or-augmented" and evidence.curves.elsewhere:
            continue
        epochs = len(of_epochs)
        note = of_epochs[max(of_epochs)]
        severity = note["severity"]
        if severity == "fail" and 2 * epochs < total:
            severity = "warning"
        message = (
            f"{note['message']} So it was in {epochs} of {quantity(max(epochs, total), 'epoch')}."
        )
        numbers = {**note["evidence"], "epochs": epochs}
        yield pm.Finding(code, severity, message, numbers, WATCHED[code].advice)
    if ("eval-in-train-mode", "") in noted:
        return
    for fault in evidence.faults:
        if fault.kind == IN_TRAINING_MODE:
            advice = WATCHED["eval-in-train-mode"].advice
            numbers = {"fault": fault.words}
            message = f"Validation was answered in training mode ({fault.words.rstrip('.')})."
            yield pm.Finding("eval-in-train-mode", "undetermined", message, numbers, advice)


DROPPED = Page(
    "warning",
    "The DataLoader of validation leaves out the rows that fill no batch (drop_last=True), so that "
    "the scores are not of the whole set. Known of loaders that are wrapped, "
    "monitor.validate(loader).",
    "Write drop_last=False in the DataLoader of validation.",
    why=(
        "The rows that are left out are the same in each epoch where nothing is shuffled, so a "
        "part of the data is never judged."
    ),
)


@pm.rule(codes="dropped-last-batch", page=DROPPED)
def dropped_last_batch(evidence: pm.Evidence) -> Iterator[pm.Finding]:
    """The validation loader leaves out its last batch."""
    seen = evidence.curves.seen_in_judged("val")
    dropped = seen.get("dropped_rows", 0)
    if dropped:
        counted = seen.get("counted_rows", 0)
        message = f"val: {quantity(dropped, 'row')} of each pass left out (drop_last=True), {counted} count."
        numbers = {"dropped_rows": dropped, "counted_rows": counted}
        yield pm.Finding("dropped-last-batch", "warning", message, numbers, DROPPED.advice)


UNSEEN = Page(
    "warning",
    "Validation holds a class that training did not show in the judged epoch, though by its share "
    "of validation 10 or more samples of it were to be expected there: the model cannot know it.",
    "Compare the two maps of labels, train_set.class_to_idx and val_set.class_to_idx, and split by "
    "class: train_test_split(…, stratify=labels).",
    why="Every row of that class is lost from the start, and no training on these data can change it.",
)


@pm.rule(codes="labels-unseen", needs="classes", page=UNSEEN)
def unseen_labels(evidence: pm.Evidence) -> Iterator[pm.Finding]:
    """Classes of validation that training did not hold."""
    trained = evidence.train_support
    support = evidence.support
    if trained is None or support is None or len(trained) != len(support):
        return
    unseen = np.flatnonzero(
        (trained == 0) & (_by_share(evidence, trained, support) >= LEAST_EXPECTED)
    )
    classes = [label for label in unseen.tolist() if label != evidence.ignored]
    if classes:
        named = ", ".join(map(evidence.class_name, classes[:_FIRST_ONES]))
        rows = int(support[classes].sum())
        message = (
            f"{quantity(len(classes), 'class')} of validation not in training: {named}; "
            f"{quantity(rows, 'row')}."
        )
        numbers = {"classes": classes, "rows": rows, "train_rows": int(trained.sum())}
        yield pm.Finding("labels-unseen", "warning", message, numbers, UNSEEN.advice)


def _by_share(evidence: pm.Evidence, trained: Counts, support: Counts) -> np.ndarray:
    """Training samples of each class by its share of validation; tokens of a sample count as one."""
    rows = max(1, int(support.sum()))
    samples = min(evidence.val_samples or rows, rows)
    return np.asarray(support / rows * trained.sum() * (samples / rows))


HYGIENE_RULES: tuple[Rule, ...] = (loop_hygiene, dropped_last_batch, unseen_labels)
