"""Slices that are weak where the whole is good, found by an exact test over all of them."""

from typing import Any

from judged_sources import GOOD, codes, payload

from ptmetrics.verdict.judge import judge


def sliced(
    hits: list[int], n: list[int], name: str = "accuracy", filled: int | None = None
) -> dict[str, Any]:
    """The evaluation of a good matrix with these slices in its record."""
    value = [h / k if k else float("nan") for h, k in zip(hits, n, strict=True)]
    column = {
        "value": value,
        "low": [0.0] * len(n),
        "high": [1.0] * len(n),
        "n": n,
        "method": "wilson",
    }
    names = [f"camera {i}" for i in range(len(n))]
    slices = {
        "by": "accuracy",
        "names": names,
        "filled": filled or len(n),
        "scores": {name: column},
    }
    return payload(GOOD) | {"per_slice": slices}


def weak(source: dict[str, Any], **options: Any) -> list[str]:
    found = [f for f in judge(source, **options).findings if f.code == "weak-slice"]
    return [f.evidence["slice"] for f in found]


def test_a_weak_slice_sinks_the_verdict_of_a_good_whole() -> None:
    verdict = judge(sliced([30, 95, 96], [60, 100, 100]), positive=1)
    assert verdict.status == "not ready"
    (finding,) = verdict.findings
    assert (finding.code, finding.severity) == ("weak-slice", "fail")
    assert finding.message.startswith("Slice 'camera 0' is weak: its accuracy is 50.0 % [")
    assert finding.message.endswith("of 60 samples, wanted at least 70.0 %.")
    assert finding.evidence["p"] < 0.05 / 3
    assert (finding.evidence["threshold"], finding.evidence["n"]) == (0.7, 60)
    assert finding.advice


def test_few_samples_show_nothing() -> None:
    assert weak(sliced([1, 95, 0], [3, 100, 0])) == []


def test_the_test_is_corrected_for_all_slices_also_those_that_were_not_recorded() -> None:
    source = sliced([58, 95], [100, 100])  # p = 0.0072
    assert weak(source) == ["camera 0"]
    assert weak(sliced([58, 95], [100, 100], filled=40)) == []


def test_a_profile_without_accuracy_judges_the_recall_of_the_positive_class() -> None:
    assert weak(sliced([20], [60], name="recall"), profile="recall-first", positive=1) == [
        "camera 0"
    ]
    assert weak(sliced([20], [60], name="recall"), profile="precision-first", positive=1) == []
    assert weak(sliced([20], [60]), profile="recall-first") == ["camera 0"]


def test_slices_without_such_a_score_are_skipped_and_none_at_all_is_no_word() -> None:
    verdict = judge(sliced([5], [60], name="mae"))
    assert any("no accuracy of each slice" in note for note in verdict.notes)
    assert "weak-slice" not in codes(judge(payload(GOOD)))
    assert not any("slice" in note for note in judge(payload(GOOD)).notes)


def test_slices_to_which_no_row_came_are_said_not_to_be_checked() -> None:
    notes = judge(sliced([0, 0], [0, 0])).notes
    assert "Not checked: weak-slice (no row came with its slice)." in notes
