"""A socket that somebody else holds outlives its daemons: whoever asks meanwhile waits, and is answered by the next."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hubclient.daemon
from hubclient import finding
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon, ask
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

_CLIENTS = 20


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[socket.socket]:
    """What hubd.socket holds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(tmp_path / "hubd.sock"))
        made.listen(4096)
        yield made


def test_who_asks_before_it_runs_is_answered_when_it_does(tmp_path: Path, passed: socket.socket) -> None:
    with ThreadPoolExecutor(_CLIENTS) as clients:
        asked = [clients.submit(ask, tmp_path / "hubd.sock", "GET", "/v1/status") for _ in range(_CLIENTS)]
        with Daemon(tmp_path, passed=passed) as daemon:
            answers = [one.result() for one in asked]
            assert {status for status, _ in answers} == {200}
            assert {answer["socket"] for _, answer in answers} == {str(daemon.socket)}
            assert os.readlink(f"{daemon.socket}.cache") == str(daemon.cache)


def test_the_socket_stays_after_a_stop_and_a_kill(tmp_path: Path, passed: socket.socket) -> None:
    with Daemon(tmp_path, passed=passed) as daemon:
        inode = daemon.socket.stat().st_ino
        assert daemon.request("GET", "/v1/status")[0] == 200
        assert daemon.stop() == 0
        for end in (daemon.stop, lambda: daemon.signal(signal.SIGKILL)):
            assert daemon.socket.stat().st_ino == inode
            assert daemon.answers(), "it still listens"
            daemon.start()
            assert daemon.request("GET", "/v1/status")[0] == 200
            end()
            daemon.wait()
        assert daemon.socket.stat().st_ino == inode


def test_no_client_notices_that_it_restarts(tmp_path: Path, origin: Origin, passed: socket.socket) -> None:
    """Clients that ask all the time, for what is there and for what is fetched meanwhile."""
    cached = origin.serve("/m/1", Answer(archive(MODULE)))
    slow = Answer(archive(MODULE), gate_after_bytes=10)
    waited = origin.serve("/slow/1", slow)
    over = threading.Event()
    with Daemon(tmp_path, passed=passed) as daemon, ThreadPoolExecutor(_CLIENTS) as clients:
        daemon.resolve(cached)
        place = finding.find(daemon.client_environ)

        def ask_on(number: int) -> int:
            answers = 0
            with hubclient.daemon.Daemon(place, environ=daemon.client_environ) as client:
                while not over.is_set():
                    assert client.resolve(cached)["outcome"] == "hit"
                    answers += 1
            return answers

        def wait_for_it() -> str:
            with hubclient.daemon.Daemon(place, environ=daemon.client_environ) as client:
                return str(client.resolve(waited)["outcome"])

        waiting = [clients.submit(wait_for_it) for _ in range(4)]
        asking = [clients.submit(ask_on, number) for number in range(_CLIENTS - 4)]
        origin.wait_until_asked("/slow/1")
        assert daemon.stop() == 0
        daemon.start()
        origin.wait_until_asked("/slow/1", 2)
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        daemon.start()
        origin.wait_until_asked("/slow/1", 3)
        slow.gate.set()
        outcomes = [one.result(60) for one in waiting]
        over.set()
        assert all(one.result(60) > 0 for one in asking)
        assert set(outcomes) <= {"fetched", "joined", "hit"}


def test_it_ends_when_the_path_is_no_longer_its_own_and_the_next_one_says_how_to_mend_that(
    tmp_path: Path, passed: socket.socket
) -> None:
    with Daemon(tmp_path, passed=passed) as daemon:
        assert daemon.request("GET", "/v1/status")[0] == 200
        daemon.socket.unlink()
        assert daemon.wait() == 0
        daemon.start(wait=False)
        assert daemon.wait() == 1
        assert "systemctl restart hubd.socket" in daemon.log.read_text()


def test_settings_that_name_another_socket_are_not_passed_over_in_silence(
    tmp_path: Path, passed: socket.socket
) -> None:
    other = tmp_path / "other.sock"
    with Daemon(tmp_path, arguments=["--socket", str(other)], passed=passed) as daemon:
        wait_until(lambda: "which was passed on, and not" in daemon.log.read_text())
        assert daemon.request("GET", "/v1/status")[1]["socket"] == str(daemon.socket)
        assert not other.exists()
