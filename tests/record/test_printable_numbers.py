"""Nouns and verbs agree with their number, in every message of the package."""

import ast
import re
from pathlib import Path

import pytest

from ptmetrics.record.printable import agreeing, quantity

PACKAGE = Path(__file__).parents[2] / "ptmetrics"
COUNTED = re.compile(
    r"§( of (them|§))?( [a-z]+s\b( of §( [a-z]+s\b)?)?)? "
    r"(are|were|have|lack|lie|differ|need|hold|follow|stand)\b"
)
"""A number, or so many of so many, perhaps with a noun, and a verb in the plural."""
ALWAYS_SEVERAL = {
    # Line of the message without its numbers, each with why one of it cannot be.
    "§ calls of the criterion could belong to one answer": "two or more",
    "All § predictions are class §, which § of the targets are.": "asked of many alone",
    "Epochs § to § are not in the record: the run was killed while it could not be written.": "",
    "Scores of each of more than § classes are not recorded.": "a fixed limit",
    "The running statistics of § follow the training data, first §.": "statistics",
    "predictions of shape § were broadcast against targets of shape §, so that the loss is that of "
    "§ pairs": "no numbers",
    "§ Those of § are as much wider as that of § is.": "no numbers",
    "§ batches were counted since the last end_epoch() and are written as epoch §. Call "
    "monitor.end_epoch() at the end of each epoch.": "batches of several splits",
    "§ updates are left": "an assertion of a test",
    "§, where § are wanted": "percent",
    "§: the classes of the § differ in § from those that are judged.": "classes",
    "§: § passes of § rows in one epoch were counted as one.": "two or more passes",
    "§: § rows of § passes were counted as one validation (§). §": "two or more passes",
}


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 classes have no row"),
        (1, "1 class has no row"),
        (2, "2 classes have no row"),
    ],
)
def test_noun_and_verb_follow_the_number(count: int, words: str) -> None:
    assert f"{quantity(count, 'class')} {agreeing(count, 'have no row')}" == words


@pytest.mark.parametrize(
    ("words", "of_one"),
    [
        ("are equal to another row", "is equal to another row"),
        ("were", "was"),
        ("did not move", "did not move"),
        ("lie there", "lies there"),
    ],
)
def test_of_one_the_verb_stands_in_the_singular(words: str, of_one: str) -> None:
    assert agreeing(1, words) == of_one
    assert agreeing(2, words) == words


def messages_of(path: Path) -> set[str]:
    """The texts of a module with numbers in them, § for each."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "§" for part in node.values]
            found.add("".join(map(str, parts)))
    return found


def test_no_message_has_a_verb_that_one_number_of_it_would_make_wrong() -> None:
    wrong = [
        f"{path.name}: {message}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for message in messages_of(path)
        if COUNTED.search(message) and message not in ALWAYS_SEVERAL
    ]
    assert not wrong, "\n".join(wrong)
