"""Waiting for what another process does, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable

_LIMIT_SECONDS = 60.0  # far beyond what a busy machine takes
_PAUSE_SECONDS = 0.01


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns as soon as the condition holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(_PAUSE_SECONDS)
