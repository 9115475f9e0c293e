"""Recency over the real socket: what clients answered themselves counts for the daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hubclient.contract import handles
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

REPORTS = 200


def request(keys: list[str]) -> bytes:
    body = json.dumps({"keys": keys})
    return f"POST /v1/uses HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def counted(daemon: Daemon) -> int:
    uses: int = daemon.request("GET", "/v1/status")[1]["counters"]["uses"]
    return uses


@pytest.fixture
def handle(origin: Origin, daemon: Daemon) -> str:
    """A cached module that was last used long ago."""
    served = origin.serve("/m/1", Answer(archive()))
    assert daemon.resolve(served)[0] == 200
    os.utime(record_of(daemon, served), (1000.0, 1000.0))
    return served


def record_of(daemon: Daemon, handle: str) -> Path:
    return daemon.cache / "handles" / f"{handles.key(handles.canonical(handle))}.json"


def was_used(daemon: Daemon, handle: str) -> bool:
    return record_of(daemon, handle).stat().st_mtime > 1000.0


@pytest.mark.parametrize("all_have_left", [False, True], ids=["meanwhile", "before the daemon looks"])
def test_every_report_counts_though_its_sender_hangs_up_at_once(
    daemon: Daemon, handle: str, all_have_left: bool
) -> None:
    data = request([handles.key(handle)])
    if all_have_left:
        daemon.signal(signal.SIGSTOP)
    try:
        for _ in range(REPORTS):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(daemon.socket))
                client.send(data)
    finally:
        daemon.signal(signal.SIGCONT)
    wait_until(lambda: counted(daemon) == REPORTS)
    assert was_used(daemon, handle)


def test_a_report_of_many_modules_counts_though_its_sender_hangs_up_at_once(daemon: Daemon, handle: str) -> None:
    keys = [f"{number:064x}" for number in range(999)]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.send(request([*keys, handles.key(handle)]))
    wait_until(lambda: counted(daemon) == 1)


def test_modules_that_are_not_there_do_not_count(daemon: Daemon, handle: str) -> None:
    key = handles.key(handle)
    assert daemon.request("POST", "/v1/uses", {"keys": [key, "0" * 64, key]}) == (202, {"counted": 1})


@pytest.mark.parametrize(
    "body", [{}, {"keys": []}, {"keys": ["../../x"]}, {"keys": ["0" * 64] * 1001}, {"keys": ["0" * 64], "more": 1}]
)
def test_what_is_no_report_is_refused(shared_daemon: Daemon, body: object) -> None:
    status, problem = shared_daemon.request("POST", "/v1/uses", body)
    assert (status, problem["code"]) == (400, "request-invalid")


def in_python(handle: str) -> list[str]:
    return [sys.executable, "-P", "-c", f"import hubclient; hubclient.resolve({handle!r})"]


def get(handle: str) -> list[str]:
    return [sys.executable, "-P", "-m", "hubclient.cli", "get", handle]


def get_json(handle: str) -> list[str]:
    return [*get(handle), "--json"]


@pytest.mark.parametrize("program", [in_python, get, get_json])
def test_a_direct_hit_makes_a_module_recent(daemon: Daemon, handle: str, program: Callable[[str], list[str]]) -> None:
    environ = {**os.environ, "HUBD_SOCKET": str(daemon.socket), "HUBD_AUTOSTART": "0"}
    subprocess.run(program(handle), env=environ, check=True, timeout=30, capture_output=True)
    wait_until(lambda: was_used(daemon, handle))
    assert counted(daemon) == 1
