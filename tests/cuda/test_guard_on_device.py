"""On a real GPU nothing waits that the guard of `ptmetrics.testing` lets pass."""

import pytest
from on_device import needs_gpu, no_wait
from test_testing import ALLOWED, Device, Snippet, ids


@needs_gpu
@pytest.mark.fault(29)
@pytest.mark.parametrize("snippet", ALLOWED, ids=ids(ALLOWED))
def test_what_the_guard_lets_pass_waits_for_nothing(snippet: Snippet) -> None:
    device = Device()
    with no_wait():
        snippet(device)
