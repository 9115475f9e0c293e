"""A wall clock that is wrong, for a daemon of its own: libfaketime, preloaded (Debian: faketime)."""

from __future__ import annotations

from pathlib import Path

import pytest


def wrong_by(minutes: int) -> dict[str, str]:
    """The environment of a program whose clock is so far ahead. Skips the test where libfaketime is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed (apt-get install faketime)")
    # Durations are of the monotonic clock, which is right on a machine whose wall clock is wrong.
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": f"{minutes:+d}m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
