"""Recency over the real socket: what clients answered themselves counts for the daemon."""

from __future__ import annotations

import json
import os
import socket
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


def test_every_report_counts_though_its_sender_hangs_up_at_once(daemon: Daemon, handle: str) -> None:
    data = request([handles.key(handle)])
    for _ in range(REPORTS):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(daemon.socket))
            client.send(data)
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
