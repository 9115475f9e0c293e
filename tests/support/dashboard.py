"""Where a daemon's dashboard is, for tests that look at it."""

from __future__ import annotations

import socket

from tests.support.waiting import wait_until


def listening_on(port: int, more: str = "") -> str:
    """The section for the daemon's configuration; `more`: further lines of it."""
    return f'[web]\nlisten = "127.0.0.1:{port}"\n{more}\n'


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_open(port: int) -> None:
    """The daemon serves clients before its page is there."""
    wait_until(lambda: is_open(port))
