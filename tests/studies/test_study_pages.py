"""Pages that are written from the package are as it would write them now."""

from pathlib import Path

import pytest

import ptmetrics as pm
from ptmetrics.metrics.score_spec import as_tables
from tests import fault_rows
from tests.studies import pages


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (pages.SCORES_PAGE, pages.scores_page),
        (pages.FAULTS_PAGE, fault_rows.page),
        (pages.STUB, pages.functional_stub),
    ],
)
def test_a_page_is_what_the_package_says(file: Path, text: object) -> None:
    assert callable(text)
    assert file.read_text() == text(), "run `make pages`"


def test_every_score_is_documented() -> None:
    for _, metrics in pages.TASKS:
        for table in as_tables((*metrics.score_tables, *metrics.asked_tables())):
            for spec in table.specs:
                assert spec.doc.endswith("."), f"{spec.name}: {spec.doc!r}"
                assert spec.undefined, spec.name
        known = {spec.name for table in as_tables(metrics.score_tables) for spec in table.specs}
        assert set(metrics.compute()) <= known


def test_every_public_metric_is_on_the_page_of_scores() -> None:
    public = {getattr(pm, name) for name in pm.__all__ if isinstance(getattr(pm, name), type)}
    tasks = {each for each in public if issubclass(each, pm.Metrics)}
    assert tasks - {pm.Metrics, pm.Mean} == {type(metrics) for _, metrics in pages.TASKS}
