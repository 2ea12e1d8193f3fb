"""Nothing here waits for the disk, which is tested in its own room, and no test leaves its hooks on."""

import os
from collections.abc import Iterator

import pytest

from ptmetrics.monitor import hooks
from ptmetrics.record.journal import Journal


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setitem(Journal.__init__.__kwdefaults__, "fsync", lambda fd: None)


@pytest.fixture(autouse=True)
def _nothing_stays_attached() -> Iterator[None]:
    """What a monitor says depends on who else is attached in the same process."""
    yield
    for attachment in list(hooks._ATTACHMENTS):
        attachment.detach()
