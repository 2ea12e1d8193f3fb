"""Gate 1, continued: was what went through the model counted, and is it the same data throughout?"""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from ptmetrics.record.printable import agreeing, quantity
from ptmetrics.verdict.evidence import Evidence, LearningCurves
from ptmetrics.verdict.finding import Finding, Severity
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule

JUDGED = "val"
_MOST_SIZES = 4


@rule(codes="not-counted")
def not_counted(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The model answered rows that nothing counted."""
    curves = evidence.curves
    seen = curves.seen_of(JUDGED)
    lost = [row for row in range(len(seen)) if seen[row] and _uncounted(curves, JUDGED, row)]
    if lost and not any(isfinite(item.value) for item in evidence.val.values()):
        yield _nothing_counted(evidence, JUDGED, lost[-1], "invalid")
    elif lost:
        yield _other_epochs(evidence, lost)
    else:
        yield from _part(evidence)
    if curves.seen:
        for split in curves.seen[curves.judged]:
            if split != JUDGED and _uncounted(curves, split, curves.judged):
                yield _nothing_counted(evidence, split, curves.judged, "warning")
        yield from _not_of_training(evidence)


def _uncounted(curves: LearningCurves, split: str, row: int) -> bool:
    """Whether the model answered, and nothing was counted by whatever way in."""
    seen = curves.seen[row][split]
    if not (_answered(seen) or past_the_model(seen)) or seen.get("counted_rows", 0):
        return False
    scores = curves.epochs[row]
    return not any(name.startswith(f"{split}/") and scores[name].get("n") for name in scores)


def _answered(seen: Mapping[str, Any]) -> int:
    return int(seen.get("answers", 0) or seen.get("answered_rows", 0))


def past_the_model(seen: Mapping[str, Any]) -> str | None:
    """What to do where the criterion was called and the attached model was not; None elsewhere."""
    _, _, cure = str(seen.get("message") or "").partition(" Call ")
    if not cure or _answered(seen) or not seen.get("criterion_calls"):
        return None
    return f"Call {cure}"


def _nothing_counted(evidence: Evidence, split: str, row: int, severity: Severity) -> Finding:
    seen = evidence.curves.seen[row][split]
    message = f"{split}: the model answered {_rows_answered(seen)}, 0 were counted: {_cause(seen)}"
    advice = past_the_model(seen)
    if advice is not None:
        message = seen["message"].removesuffix(f" {advice}")
    numbers = _seen_numbers(evidence, split, row)
    return make_finding("not-counted", severity, message, numbers, advice)


def _other_epochs(evidence: Evidence, lost: list[int]) -> Finding:
    curves = evidence.curves
    last = lost[-1]
    message = (
        f"{JUDGED}: in {len(lost)} of {quantity(len(curves.epochs), 'epoch')} nothing was counted, though the "
        f"model answered {_rows_answered(curves.seen[last][JUDGED])} in epoch "
        f"{curves.numbers[last] + 1}. Judged is epoch {curves.numbers[curves.judged] + 1}."
    )
    return make_finding("not-counted", "warning", message, _seen_numbers(evidence, JUDGED, last))


def _part(evidence: Evidence) -> Iterator[Finding]:
    """A part of the validation that is judged was not counted."""
    seen = evidence.curves.seen_in_judged(JUDGED)
    unpaired = seen.get("unpaired_rows", 0)
    counted = seen.get("counted_rows", 0)
    whole = seen.get("loader_rows")
    if not unpaired or (whole is not None and counted >= whole):
        return
    message = (
        f"{JUDGED}: the model answered {_rows_answered(seen)}, {unpaired:,} of them "
        f"{agreeing(unpaired, 'were not counted')} ({counted:,} {agreeing(counted, 'were')}): {_cause(seen)}"
    )
    numbers = _seen_numbers(evidence, JUDGED, evidence.curves.judged)
    yield make_finding("not-counted", "warning", message, numbers)


_NOT_OF_TRAINING = {
    "behind_last_step": ("behind", "came after the last step of the optimizer"),
    "unlearned_rows": ("unlearned", "no backward pass reached before a step of the optimizer"),
}


def _not_of_training(evidence: Evidence) -> Iterator[Finding]:
    """Rows of a validation were counted as training."""
    seen = evidence.curves.seen_in_judged("train")
    for key, (name, what) in _NOT_OF_TRAINING.items():
        rows = seen.get(key, 0)
        if rows:
            message = (
                f"train: {rows:,} of {quantity(seen.get('counted_rows', 0), 'row')} {what}: counted "
                "as training is what may be a validation."
            )
            numbers = _seen_numbers(evidence, "train", evidence.curves.judged)
            yield make_finding("not-counted", "warning", message, {**numbers, name: rows})


def _rows_answered(seen: Mapping[str, Any]) -> str:
    if seen.get("answered_rows"):
        return quantity(seen["answered_rows"], "row")
    return quantity(seen.get("answers", 0), "batch")


def _cause(seen: Mapping[str, Any]) -> str:
    """Why, in the words that the console was told, else by what was called."""
    _, told, cause = str(seen.get("message") or "").partition(" were counted: ")
    if told:
        return cause.partition(" Use ")[0]  # what to do is the advice
    if not seen.get("criterion_calls"):
        return "no criterion was called."
    return "no call of the criterion could be tied to them."


def _seen_numbers(evidence: Evidence, split: str, row: int) -> dict[str, Any]:
    seen = evidence.curves.seen[row][split]
    keys = ("answers", "answered_rows", "counted_rows", "unpaired_rows", "criterion_calls")
    numbers = {key: seen[key] for key in keys if key in seen}
    return {"split": split, "epoch": evidence.curves.numbers[row], **numbers}


@rule(codes="split-changed")
def split_changed(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The rows of validation are more than the loader holds, or come from unlike passes."""
    yield from _several_passes(evidence)
    yield from _more_than_the_loader(evidence)


def _several_passes(evidence: Evidence) -> Iterator[Finding]:
    seen = evidence.curves.seen_in_judged(JUDGED)
    rows = seen.get("pass_rows", [])
    if seen.get("passes", 1) < 2 or not rows:
        return
    as_one = seen.get("counted_rows", 0) > max(rows)
    if not as_one and len(set(rows)) < 2:
        return
    # Hooks alone cannot tell a pass over other data; a wrapped loader was named by the user, and
    # what was validated in the middle of training was not one right after the other.
    severity: Severity = "undetermined"
    named = seen.get("loader_rows") is not None or _validated_by_step(evidence)
    if named and not as_one:
        severity = "warning"
    sizes = " and ".join(map(str, rows))
    message = f"{JUDGED}: {seen['passes']} passes of {sizes} rows in one epoch; the last counts."
    if as_one:
        message = (
            f"{JUDGED}: {seen['passes']} passes of {sizes} rows in one epoch were counted as one."
        )
    numbers = {"split": JUDGED, "passes": seen["passes"], "pass_rows": list(rows)}
    numbers["counted_rows"] = seen.get("counted_rows", 0)
    yield make_finding("split-changed", severity, message, numbers)


def _validated_by_step(evidence: Evidence) -> bool:
    """Whether the judged epoch was validated in its middle as well, between training steps."""
    curves = evidence.curves
    end = curves.counts_of("train_steps_cumulative")[curves.judged]
    epoch = curves.numbers[curves.judged]
    steps = [
        each["step"]
        for each in evidence.evaluations
        if each["why"] == "several" and each["split"] == JUDGED and each["epoch"] == epoch
    ]
    return bool(steps) and end not in steps


def _more_than_the_loader(evidence: Evidence) -> Iterator[Finding]:
    seen = evidence.curves.seen_in_judged(JUDGED)
    whole = seen.get("loader_rows")
    answered = seen.get("answered_rows", 0)
    counted = seen.get("counted_rows", 0)
    if not whole or seen.get("passes", 1) > 1:
        return
    # A multiple is one pass with several answers a row, as of augmented copies, or with as many
    # rows of targets, as of tokens.
    if min(answered, counted) <= whole or answered % whole == 0 or counted % whole == 0:
        return
    rows = f"{quantity(counted, 'row')} {agreeing(counted, 'were')} counted"
    message = f"{JUDGED}: {rows}, but the loader holds {whole:,}."
    numbers = {"split": JUDGED, "counted_rows": counted, "loader_rows": whole}
    yield make_finding("split-changed", "warning", message, numbers)


@rule(codes="validation-changed")
def validation_changed(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Another number of rows was validated in other epochs, or other classes."""
    curves = evidence.curves
    if not curves or not any(curves.validations):
        return
    judged = curves.validations[curves.judged]
    other = curves.elsewhere
    if judged is None or not other:
        return
    sizes = Counter(held[0] for held in curves.validations if held is not None)
    whole = len(curves.validations)
    message = (
        f"{JUDGED}: the classes of the {quantity(judged[0], 'row')} differ in "
        f"{quantity(len(other), 'epoch')} from those that are judged."
    )
    if len(sizes) > 1:
        listed = [
            f"{quantity(size, 'row')} in {quantity(n, 'epoch')}"
            for size, n in sizes.most_common(_MOST_SIZES)
        ]
        more = ""
        if len(sizes) > _MOST_SIZES:
            more = f" and {len(sizes) - _MOST_SIZES} other numbers"
        message = f"{JUDGED}: {', '.join(listed)}{more}; judged are {judged[0]:,}."
    message += f" Curves are compared over {whole - len(other)} of {quantity(whole, 'epoch')}."
    numbers = {"split": JUDGED, "rows": dict(sizes.most_common(_MOST_SIZES)), "judged": judged[0]}
    yield make_finding("validation-changed", "warning", message, numbers)


@rule(codes="padded-duplicates")
def padded_duplicates(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Several ranks counted the same rows of validation."""
    seen = evidence.curves.seen_in_judged(JUDGED)
    padding = seen.get("padding_rows", 0)
    copies = seen.get("copies", 1)
    rows = seen.get("rows_of_ranks", 0)
    numbers = {"split": JUDGED, "rows": rows, "ranks": seen.get("ranks", 1)}
    if copies > 1:
        message = (
            f"{JUDGED}: {copies} ranks validated the same {quantity(rows // copies, 'row')}, and each row "
            f"stands {copies} times in the scores: their intervals are too narrow."
        )
        numbers["copies"] = copies
        yield make_finding("padded-duplicates", "warning", message, numbers)
    elif padding:
        message = (
            f"{JUDGED}: {padding:,} of {rows:,} rows {agreeing(padding, 'are padding of the sampler')}, samples "
            "that another rank counted as well."
        )
        numbers["padding_rows"] = padding
        yield make_finding("padded-duplicates", "warning", message, numbers)


SEEN_RULES: tuple[Rule, ...] = (not_counted, split_changed, validation_changed, padded_duplicates)
