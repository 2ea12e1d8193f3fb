"""Whether a record is durable is tested in its own room; here nothing waits for the disk."""

import os

import pytest

from ptmetrics.record.journal import Journal


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setitem(Journal.__init__.__kwdefaults__, "fsync", lambda fd: None)
