"""An unclean stop: what was published shortly before is checked before anyone gets it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.archives import MODULE, archive
from tests.support.clients import Client
from tests.support.daemon import Daemon
from tests.support.modules import change_silently
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive(MODULE)
_WEIGHTS = "variables/variables.data-00000-of-00001"


def _fetched(daemon: Daemon, origin: Origin) -> tuple[str, Path]:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    return handle, Path(daemon.resolve(handle)[1]["path"])


@pytest.mark.parametrize("asker", ["daemon", "client"])
def test_what_changed_unseen_around_a_kill_is_fetched_again(daemon: Daemon, origin: Origin, asker: str) -> None:
    handle, module = _fetched(daemon, origin)
    daemon.kill()
    change_silently(module / _WEIGHTS)
    daemon.start()
    if asker == "daemon":
        assert daemon.resolve(handle)[1]["path"] == str(module)
    else:
        with Client(handle, {**daemon.client_environ, "TFHUB_CACHE_DIR": str(daemon.cache)}) as client:
            assert client.answer() == str(module)
    assert (module / _WEIGHTS).read_bytes() == MODULE[_WEIGHTS]
    assert len(origin.asked("/m/1")) == 2
    counters = daemon.request("GET", "/v1/status")[1]["counters"]
    assert (counters["damaged"], counters["repaired"]) == (1, 1)


def test_what_is_intact_after_a_kill_is_served_again_without_a_download(daemon: Daemon, origin: Origin) -> None:
    handle, module = _fetched(daemon, origin)
    for _ in range(2):
        daemon.kill()
        daemon.start()
        view = daemon.cache / "handles" / daemon.resolve(handle)[1]["key"]
        wait_until(view.is_symlink)
    assert (module / _WEIGHTS).read_bytes() == MODULE[_WEIGHTS]
    assert len(origin.asked("/m/1")) == 1
    assert daemon.request("GET", "/v1/status")[1]["counters"]["damaged"] == 0


def test_views_come_back_behind_the_serving_daemon(daemon: Daemon, origin: Origin) -> None:
    _, module = _fetched(daemon, origin)
    daemon.kill()
    daemon.start()
    wait_until(lambda: any(entry.is_symlink() for entry in (daemon.cache / "handles").iterdir()))
    assert (module.parent / "files").exists()


def test_after_an_orderly_stop_nothing_is_checked(daemon: Daemon, origin: Origin) -> None:
    """What changes then, size and mtime kept, is for `hubctl verify` to find."""
    handle, module = _fetched(daemon, origin)
    wait_until(lambda: '"clean_point"' in (daemon.cache / "daemon.lock").read_text())
    assert daemon.stop() == 0
    assert '"stopped": true' in (daemon.cache / "daemon.lock").read_text()
    change_silently(module / _WEIGHTS)
    daemon.start()
    assert daemon.resolve(handle)[1]["outcome"] == "hit"
    assert (module / _WEIGHTS).read_bytes() != MODULE[_WEIGHTS]
