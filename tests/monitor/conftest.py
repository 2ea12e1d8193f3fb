"""What a disk does when it is told to make things durable is tested with the record; here nothing waits for it."""

import os

import pytest

from ptmetrics.record.journal import Journal


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setitem(Journal.__init__.__kwdefaults__, "fsync", lambda fd: None)
