"""What systemd passes on is taken once, and only by the process that it is meant for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hubd import systemd
from hubd.api.listening import SocketUnusable, path_of

_TAKE = """
import os, sys
from hubd import systemd
if sys.argv[1]:
    os.environ["LISTEN_PID"] = sys.argv[1].replace("own", str(os.getpid()))
os.environ["LISTEN_FDNAMES"] = "hubd.socket"
try:
    passed = systemd.listening_socket()
except systemd.Unusable as error:
    print(error)
else:
    left = [name for name in os.environ if name.startswith("LISTEN_")]
    print(passed and (passed.getsockname(), passed.get_inheritable()), systemd.listening_socket(), left)
"""


def taken(fd: int, pid: str, count: str) -> str:
    """What a process says that gets this descriptor as its third one."""

    def place() -> None:
        os.dup2(fd, 3)

    program = [sys.executable, "-c", _TAKE, pid]
    run = subprocess.run(
        program,
        env={**os.environ, "LISTEN_FDS": count},
        preexec_fn=place,
        close_fds=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def listening(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(path)
    made.listen()
    return made


def test_the_socket_that_was_passed_is_taken_once_and_by_no_child(path: str) -> None:
    with listening(path) as made:
        assert taken(made.fileno(), "own", "1") == f"('{path}', False) None []"


@pytest.mark.parametrize(("pid", "count"), [("", "1"), ("1", "1"), ("own", "0"), ("own", ""), ("own", "x")])
def test_what_is_not_meant_for_this_process_is_left(path: str, pid: str, count: str) -> None:
    with listening(path) as made:
        assert taken(made.fileno(), pid, count) == "None None []"


def test_several_are_refused_and_so_is_what_is_no_socket(path: str) -> None:
    with listening(path) as made:
        assert "2 sockets were passed on" in taken(made.fileno(), "own", "2")
    with Path(path + ".txt").open("w") as file:
        assert "is none: " in taken(file.fileno(), "own", "1")


def test_only_a_listening_unix_stream_socket_with_a_path_can_be_served(path: str) -> None:
    with listening(path) as made:
        assert path_of(made) == path
        assert not made.getblocking()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, pytest.raises(SocketUnusable, match="no Unix"):
        path_of(other)
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SocketUnusable, match="no Unix"):
        path_of(other)
    with socket.socket(socket.AF_UNIX) as other, pytest.raises(SocketUnusable, match="does not listen"):
        path_of(other)
    with listening("\0hubd-test-" + path) as other, pytest.raises(SocketUnusable, match="no path"):
        path_of(other)


def test_what_is_told_arrives_by_path_and_by_abstract_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for address, named in ((path, path), ("\0hubd-test-" + path, "@hubd-test-" + path)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            monkeypatch.setenv("NOTIFY_SOCKET", named)
            systemd.notify("READY=1", "STATUS=serving")
            assert manager.recv(100) == b"READY=1\nSTATUS=serving"


def test_a_service_manager_that_is_away_or_deaf_costs_a_line_in_the_log(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    systemd.notify("READY=1")
    assert caplog.text == "", "none is meant"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    systemd.notify("READY=1")
    assert "does not hear" in caplog.text


@pytest.mark.parametrize(
    ("pid", "microseconds", "seconds"),
    [(None, "30000000", 30.0), ("own", "500000", 0.5), ("1", "30000000", None), (None, "0", None), (None, "x", None)],
)
def test_the_watchdogs_time_is_for_the_process_that_it_names(
    pid: str | None, microseconds: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert systemd.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert systemd.watchdog_seconds() == seconds
