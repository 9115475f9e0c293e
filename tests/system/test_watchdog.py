"""What a service manager hears: readiness when it is true, and signs of life only while the daemon serves."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, UnixConnection

_LIMIT_SECONDS = 60.0
_WATCHDOG_SECONDS = 2.0

# Runs the daemon that is named on the command line, which comes to grief when it gets SIGUSR1.
_GRIEF = """
import asyncio, gc, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from hubd.__main__ import main

def hang_the_loop():
    time.sleep(3600)

def close_the_door():
    [server] = [one for one in gc.get_objects() if isinstance(one, asyncio.Server)]
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())

def stick_the_threads():
    pools = [one for one in gc.get_objects() if isinstance(one, ThreadPoolExecutor)]
    [pool] = [one for one in pools if one._thread_name_prefix == "fetch"]
    for _ in range(pool._max_workers):
        pool.submit(threading.Event().wait)

signal.signal(signal.SIGUSR1, lambda *_: globals()[sys.argv[1]]())
sys.exit(main(sys.argv[sys.argv.index("hubd") + 1 :]))
"""


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(_WATCHDOG_SECONDS * 1e6))}

    def hear(self, seconds: float = _LIMIT_SECONDS) -> list[str]:
        """The next message; TimeoutError after so long without one."""
        self._socket.settimeout(seconds)
        return self._socket.recv(4096).decode().split("\n")

    def wait_for(self, assignment: str) -> list[str]:
        while assignment not in (message := self.hear()):
            pass
        return message

    def wait_for_silence(self) -> None:
        """Returns when the daemon would be restarted."""
        for _ in range(10):
            try:
                message = self.hear(_WATCHDOG_SECONDS)
            except TimeoutError:
                return
            assert message[0] == "WATCHDOG=1"
        pytest.fail("there are signs of life still")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_it_is_ready_when_it_serves_and_says_when_it_stops(tmp_path: Path, manager: Manager) -> None:
    with Daemon(tmp_path, environ=manager.environ) as daemon:
        assert manager.hear() == [f"STATUS=opening the cache {daemon.cache}"]
        ready, status = manager.hear()
        assert ready == "READY=1"
        assert status.startswith(
            "STATUS=0 fetches"
        )  # of connections there may be one: `Daemon` looks whether it answers
        assert daemon.request("GET", "/v1/status")[0] == 200
        assert manager.wait_for("WATCHDOG=1")[1].startswith("STATUS=0 fetches")
        assert daemon.stop() == 0
        assert manager.wait_for("STOPPING=1") == ["STOPPING=1", "STATUS=stopping: SIGTERM"]


def test_one_that_cannot_start_is_never_ready(tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "cache" / "trees").mkdir(parents=True)
    daemon = Daemon(tmp_path, environ=manager.environ)
    daemon.start(wait=False)
    assert daemon.wait() == 1
    assert manager.hear()[0].startswith("STATUS=opening")
    with pytest.raises(TimeoutError):
        manager.hear(0.0001)


@pytest.mark.parametrize("grief", ["hang_the_loop", "close_the_door", "stick_the_threads"])
def test_one_that_hangs_falls_silent_and_says_where_it_hung(grief: str, tmp_path: Path, manager: Manager) -> None:
    with Daemon(tmp_path, environ=manager.environ, wrapper=[sys.executable, "-c", _GRIEF, grief]) as daemon:
        manager.wait_for("READY=1")
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")
        daemon.signal(signal.SIGUSR1)
        manager.wait_for_silence()
        daemon.signal(signal.SIGABRT)  # as systemd does
        assert daemon.wait() == -signal.SIGABRT
        log = daemon.log.read_text()
        assert "Fatal Python error: Aborted" in log
        assert (grief == "hang_the_loop") == ("in hang_the_loop" in log)
        assert grief == "hang_the_loop" or "does not serve itself" in log, "a loop that turns says so before"


def test_neither_a_crowd_nor_work_keeps_it_from_signs_of_life(tmp_path: Path, manager: Manager) -> None:
    over = threading.Event()
    with Daemon(tmp_path, config="[api]\nconnections = 8\n", environ=manager.environ) as daemon, ExitStack() as stack:
        manager.wait_for("READY=1")
        crowd = [UnixConnection(str(daemon.socket)) for _ in range(8)]
        for client in crowd:
            client.connect()
            stack.callback(client.close)
        while daemon.request("GET", "/v1/status")[0] != 429:
            pass
        for _ in range(5):
            manager.wait_for("WATCHDOG=1")

        def work(client: UnixConnection) -> int:
            answers = 0
            while not over.is_set():
                client.request("GET", "/v1/status")
                answers += client.getresponse().read() != b""
            return answers

        with ThreadPoolExecutor(len(crowd)) as threads:
            working = [threads.submit(work, client) for client in crowd]
            for _ in range(5):
                manager.wait_for("WATCHDOG=1")
            over.set()
            assert all(one.result() > 0 for one in working)


def test_signs_of_life_are_no_use_that_keeps_it_from_being_idle(tmp_path: Path, manager: Manager) -> None:
    with Daemon(tmp_path, config='[api]\nidle_exit = "100ms"\n', environ=manager.environ) as daemon:
        assert daemon.wait() == 0
        assert manager.wait_for("STOPPING=1") == ["STOPPING=1", "STATUS=stopping: idle for 0 s"]
