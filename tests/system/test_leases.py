"""Leases over a daemon's life: a program keeps its module while the daemon comes and goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hubclient.contract.layout import CacheLayout
from tests.support.archives import MODULE, archive
from tests.support.clients import Client
from tests.support.daemon import Daemon
from tests.support.handmade_cache import is_leased
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def wait_until_recovered(daemon: Daemon, times: int) -> None:
    wait_until(lambda: daemon.log.read_text().count("recovery:") == times)


@pytest.mark.parametrize(
    ("end", "recorded"),
    [
        pytest.param(Daemon.stop, True, id="recorded-stopped", marks=pytest.mark.thorough),
        pytest.param(Daemon.kill, True, id="recorded-killed"),
        pytest.param(Daemon.stop, False, id="no record left-stopped"),
        pytest.param(Daemon.kill, False, id="no record left-killed", marks=pytest.mark.thorough),
    ],
)
def test_a_program_keeps_its_lease_and_its_path_while_the_daemon_restarts(
    origin: Origin, daemon: Daemon, end: Callable[[Daemon], object], recorded: bool
) -> None:
    """Even a tree that the next daemon takes for garbage stays until its holder is gone."""
    layout = CacheLayout(str(daemon.cache))
    handle = origin.serve("/m/1", Answer(archive()))
    environ = {**os.environ, "HUBD_SOCKET": str(daemon.socket), "HUBD_AUTOSTART": "0"}
    with Client(handle, environ) as client:
        path = Path(client.answer())
        wait_until_recovered(daemon, 1)
        digest = path.parent.name
        end(daemon)
        assert is_leased(layout, digest)
        if not recorded:
            for name in (daemon.cache / "handles").iterdir():
                name.unlink()
        before = path.stat().st_ino
        daemon.start()
        wait_until_recovered(daemon, 2)
        assert is_leased(layout, digest)
        assert path.stat().st_ino == before
        assert files(path) == MODULE
    daemon.kill()
    assert not is_leased(layout, digest)
    daemon.start()
    wait_until_recovered(daemon, 3)
    assert path.exists() == recorded
