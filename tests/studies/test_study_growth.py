"""The page on growth: every part is measured on tiny sizes, and lost bytes are told."""

from functools import partial
from pathlib import Path

import pytest

import ptmetrics as pm
from ptmetrics.bench import peers
from ptmetrics.bench.curves import tensor_bytes
from ptmetrics.bench.updates import class_batch
from tests.studies import growth


@pytest.mark.slow
def test_a_quick_run_writes_the_page_with_a_table_and_a_plot_of_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PEERS", {})  # the others take seconds to import
    assert growth.main(["--quick", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "docs" / "growth.md").read_text()
    pictures = sorted(path.name for path in (tmp_path / "docs").glob("*.png"))
    assert len(pictures) == 7
    assert all(f"({name})" in page for name in pictures)
    sections = page.split("\n## ")[1:]
    assert len(sections) == 7
    for section in sections:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) >= 4, section


def test_packed_parts_that_are_not_the_whole_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    make = partial(pm.MulticlassMetrics, 10)
    batch = class_batch(40, 10)
    assert growth.merged_bytes(make, batch, 1) > tensor_bytes(make().state_dict()["cells"])
    unpack = growth.distributed.unpack
    monkeypatch.setattr(
        growth.distributed, "unpack", lambda vector, *rest: unpack(vector * 2, *rest)
    )
    with pytest.raises(ArithmeticError, match="4 parts, packed and added up, are not the whole"):
        growth.merged_bytes(make, batch, 1)
