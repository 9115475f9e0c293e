"""The watch of a real daemon, by the kernel's events."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

_NO_INOTIFY = "echo 0 > /proc/sys/user/max_inotify_instances"


def test_removal_by_others_is_noticed_without_a_use(daemon: Daemon, origin: Origin) -> None:
    archives = [archive({**MODULE, "assets/number": b"%d" % number}) for number in range(2)]
    answers = [daemon.resolve(origin.serve(f"/m/{n}", Answer(body)))[1] for n, body in enumerate(archives)]
    tree, view = Path(answers[0]["path"]).parent, daemon.cache / "handles" / answers[1]["key"]
    assert daemon.request("GET", "/v1/status")[1]["cache"]["watch"] == "inotify"
    shutil.rmtree(tree)
    view.unlink()
    wait_until(lambda: view.is_symlink() and len(daemon.request("GET", "/v1/modules")[1]["modules"]) == 1)
    assert daemon.request("GET", "/v1/status")[1]["counters"]["damaged"] == 1
    assert daemon.stop() == 0


def _can_unshare() -> bool:
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", _NO_INOTIFY]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


def test_where_inotify_is_short_status_says_so(tmp_path: Path) -> None:
    if not _can_unshare():
        pytest.skip("no user namespace can be made here, in which to take inotify away")
    with Daemon(
        tmp_path, wrapper=["unshare", "--user", "--map-root-user", "sh", "-c", f'{_NO_INOTIFY}; exec "$@"', "-"]
    ) as daemon:
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["cache"]["watch"] == "sweep")
        assert any("inotify" in warning for warning in daemon.request("GET", "/v1/status")[1]["warnings"])
        assert daemon.stop() == 0
