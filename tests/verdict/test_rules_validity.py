"""Classes without a validation sample: where that is a fault, and where it is chance."""

from typing import Any

import numpy as np
import pytest
from judged_sources import Recorded, epoch, payload

from ptmetrics.verdict.judge import judge


def counts_of(support: list[int]) -> np.ndarray:
    """A confusion matrix of a good model with so many samples of each class."""
    return np.diag(np.array(support))


def trained(
    support: list[int], train: list[int] | None = None, *, samples: int, ignored: int | None = None
) -> Recorded:
    """A run of one epoch; `samples` are images or sequences, whose places the matrix counts."""
    made = payload(counts_of(support))
    data: dict[str, Any] = epoch(0, {}, matrix=counts_of(support))
    data["scores"] = {f"val/{name}": score for name, score in made["scores"].items()}
    data["confusion"] = {"val": counts_of(support).tolist()}
    if train is not None:
        data["confusion"]["train"] = counts_of(train).tolist()
    data["counts"]["val_samples"] = samples
    metrics = {"task": "multiclass", "ignore_index": ignored}
    return Recorded([data], header={"metrics": metrics})


def severity(source: Any) -> str:
    found = [f.severity for f in judge(source).findings if f.code == "missing-class"]
    assert len(found) <= 1
    return "".join(found)


def of_words(classes: int, *, absent: int, each: int = 40) -> list[int]:
    return [0] * absent + [each] * (classes - absent)


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        # Ordinary classification: each of a few classes is to be there.
        (trained([30, 30, 0], [100, 100, 100], samples=60), "invalid"),
        (trained([30, 30, 0], [100, 100, 0], samples=60), "invalid"),
        (trained(of_words(20, absent=1, each=2), samples=38), "invalid"),
        (trained([30, 30, 30], [100, 100, 0], samples=90), ""),
        # Padding is no class where it is ignored, and another one is.
        (trained([0, 30, 30], samples=60, ignored=0), ""),
        (trained([0, 30, 0], samples=30, ignored=0), "invalid"),
        (trained([30, 0, 30], samples=60, ignored=-100), "invalid"),
        # Tokens: words that training does not have either, or hardly.
        (trained(of_words(12, absent=3), of_words(12, absent=3, each=900), samples=24), "info"),
        (trained(of_words(64, absent=9), of_words(64, absent=9, each=900), samples=90), "info"),
        (trained(of_words(64, absent=2), [2, 3] + [900] * 62, samples=90), "info"),
        (trained(of_words(64, absent=9), samples=90), "info"),
        (trained(of_words(64, absent=1), [50_000] + [900] * 63, samples=90), "invalid"),
        # Pixels: a class that was learned and is not validated.
        (trained([9000, 9000, 0], [800, 800, 400], samples=200), "invalid"),
        (trained([9000, 9000, 0], samples=200), "invalid"),
        (trained([9000, 9000, 0], [800_000, 800_000, 40], samples=200), "info"),
        # Many classes: by the samples that each may expect.
        (trained(of_words(200, absent=60, each=2), samples=280), "info"),
        (trained(of_words(200, absent=1, each=50), samples=199 * 50), "invalid"),
        (trained(of_words(1200, absent=30, each=60), samples=1170 * 60), "info"),
    ],
)
def test_a_missing_class_is_invalid_where_it_was_to_be_there(run: Recorded, wanted: str) -> None:
    assert severity(run) == wanted


def test_a_single_evaluation_of_a_vocabulary_is_judged_by_its_size() -> None:
    assert severity(payload(counts_of(of_words(80, absent=20, each=3)))) == "info"
    assert severity(payload(counts_of(of_words(80, absent=1, each=30)))) == "invalid"


def test_only_classes_that_were_to_be_there_are_named() -> None:
    run = trained([0, 0, *[40] * 30], [30_000, 0, *[900] * 30], samples=60)
    (finding,) = (f for f in judge(run).findings if f.code == "missing-class")
    assert (finding.severity, finding.evidence["classes"]) == ("invalid", [0])
    assert "1 of 32 classes" in finding.message
