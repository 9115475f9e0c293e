"""A disk that becomes read-only, or has no inodes left: hits go on, the rest is told clearly, and all of it passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import fickle_disk
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not fickle_disk.can_be_made(), reason="no namespaces here")


def module(content: bytes = b"") -> Answer:
    return Answer(archive({"saved_model.pb": b"\x08\x01\x12\x00", "assets/a": content}))


def warnings(daemon: Daemon) -> str:
    return "\n".join(daemon.request("GET", "/v1/status")[1]["warnings"])


def test_a_disk_that_becomes_read_only_is_told_and_survived(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, wrapper=fickle_disk.wrapper(tmp_path / "cache")) as daemon:
        old, new = origin.serve("/old/1", module()), origin.serve("/new/1", module(b"new"))
        key = daemon.resolve(old)[1]["key"]
        trash = Path(f"/proc/{daemon.pid}/root{daemon.cache}/trash")
        wait_until(lambda: not os.listdir(trash))  # what the fetch leaves is cleared away behind it
        wait_until(lambda: "ready on" in daemon.log.read_text())
        fickle_disk.make_read_only(daemon)
        told_before = daemon.log.read_text()
        for number in range(20):
            assert daemon.resolve(old)[1]["outcome"] == "hit"
            # Each is another spelling of it, which is to be written down.
            assert daemon.resolve(old.replace("http", "HTTP") + f"#{number}")[1]["outcome"] == "hit"
        wait_until(lambda: daemon.log.read_text() != told_before)  # nobody waits for what is written down
        told = daemon.log.read_text().removeprefix(told_before)
        assert told.count("\n") == 1
        assert "the file system is read-only" in told
        assert "read-only" in warnings(daemon)

        status, problem = daemon.resolve(new)
        assert (status, problem["code"]) == (500, "internal")
        assert "the file system is read-only" in problem["detail"]
        for method, path in ("PUT", f"/v1/modules/{key}/pin"), ("DELETE", f"/v1/modules/{key}?force=true"):
            status, problem = daemon.request(method, path)
            assert (status, problem["code"]) == (500, "internal")
            assert "the file system is read-only" in problem["detail"]
        assert daemon.request("POST", "/v1/uses", {"keys": [key]})[1]["counted"] == 1
        assert [line["event"] for line in daemon.lines("POST", "/v1/verify", {})][-2:] == ["checked", "done"]

        fickle_disk.make_writable(daemon)
        assert daemon.resolve(new)[1]["outcome"] == "fetched"
        assert daemon.resolve(old)[1]["outcome"] == "hit"
        assert warnings(daemon) == ""
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.stop() == 0


def test_a_start_on_a_read_only_disk_says_so(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, wrapper=fickle_disk.wrapper(tmp_path / "cache", "size=1m,ro"))
    daemon.start(wait=False)
    assert daemon.wait() == 1
    assert "is read-only" in daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()


def test_a_disk_without_inodes_is_full_and_status_says_of_what(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, wrapper=fickle_disk.wrapper(tmp_path / "cache", "nr_inodes=60")) as daemon:
        old = origin.serve("/old/1", module())
        assert daemon.resolve(old)[0] == 200
        others = daemon.cache / "others"
        fill = f"mkdir {others}; i=0; while touch {others}/$i 2> /dev/null; do i=$((i + 1)); done"
        fickle_disk.run(daemon, fill)
        status, problem = daemon.resolve(origin.serve("/new/1", module(b"new")))
        assert (status, problem["code"]) == (507, "disk-full")
        assert daemon.resolve(old)[1]["outcome"] == "hit"
        assert "no inodes" in warnings(daemon)
        fickle_disk.run(daemon, f"rm -r {others}")
        assert daemon.resolve(origin.serve("/new/1", module(b"new")))[1]["outcome"] == "fetched"
        assert warnings(daemon) == ""
        assert "Traceback" not in daemon.log.read_text()
