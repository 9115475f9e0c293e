"""Clients that do not read, do not finish, or are half gone: they pin neither memory nor tasks, and hold up nobody."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.remains import assert_nothing_remains, descriptors, memory_bytes
from tests.support.waiting import wait_until

ARCHIVE = archive({"saved_model.pb": b"\x08\x01\x12\x00"})
DOCUMENT = b"GET /v1/openapi.json HTTP/1.1\r\nHost: hubd\r\n\r\n"


def connected(daemon: Daemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(str(daemon.socket))
    return connection


def resolving(handle: str, *, lines: bool = False) -> bytes:
    body = json.dumps({"handle": handle}).encode()
    accept = b"Accept: application/x-ndjson\r\n" if lines else b""
    return b"POST /v1/resolve HTTP/1.1\r\nHost: hubd\r\n%bContent-Length: %d\r\n\r\n%b" % (accept, len(body), body)


def test_answers_pile_up_for_nobody_who_does_not_read(daemon: Daemon) -> None:
    with ExitStack() as stack:
        before = 0
        for number in range(10):
            connection = stack.enter_context(connected(daemon))
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):  # it listens no more
                connection.sendall(DOCUMENT * 100_000)
            assert daemon.request("GET", "/v1/status")[0] == 200
            before = before if number else memory_bytes(daemon)
        assert memory_bytes(daemon) < before + (16 << 20)
    wait_until(lambda: daemon.request("GET", "/v1/status")[1]["connections"] == 1)


def test_who_leaves_in_mid_answer_leaves_nothing(daemon: Daemon) -> None:
    daemon.request("GET", "/v1/status")
    before = descriptors(daemon)
    for _ in range(100):
        with connected(daemon) as connection:
            connection.sendall(DOCUMENT * 10)
            connection.recv(1)
    wait_until(lambda: descriptors(daemon) <= before)
    assert "Traceback" not in daemon.log.read_text()


@pytest.mark.parametrize("lines", [False, True])
def test_who_closes_one_direction_has_left(daemon: Daemon, origin: Origin, lines: bool) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE, gate_after_bytes=10))
    with connected(daemon) as connection:
        connection.sendall(resolving(handle, lines=lines))
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["waiters"] == 1)
        connection.shutdown(socket.SHUT_WR)
        assert_nothing_remains(daemon, handle)
        assert daemon.request("GET", "/v1/status")[1]["connections"] == 1


def test_a_stopped_client_holds_up_nobody_and_gets_its_answer_when_it_goes_on(daemon: Daemon, origin: Origin) -> None:
    answer = Answer(ARCHIVE, gate_after_bytes=10)
    handle = origin.serve("/m/1", answer)
    program = f"import hubclient; print(hubclient.resolve({handle!r}))"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program], env=daemon.client_environ, stdout=subprocess.PIPE, text=True
    ) as client:
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["waiters"] == 1)
        client.send_signal(signal.SIGSTOP)
        answer.gate.set()
        path = daemon.resolve(handle)[1]["path"]
        client.send_signal(signal.SIGCONT)
        assert client.communicate(timeout=20)[0].strip() == path


def test_large_bodies_that_never_end_take_little_memory(daemon: Daemon) -> None:
    head = b"POST /v1/uses HTTP/1.1\r\nHost: hubd\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as stack:
        daemon.request("GET", "/v1/status")
        before = memory_bytes(daemon)
        for _ in range(150):
            connection = stack.enter_context(connected(daemon))
            connection.settimeout(0.01)
            with suppress(TimeoutError):
                connection.sendall(head + b" " * 999_000)
        assert memory_bytes(daemon) < before + (60 << 20)
        assert daemon.request("GET", "/v1/status")[0] == 200


@pytest.mark.thorough
def test_who_does_not_read_is_let_go_after_half_a_minute(daemon: Daemon) -> None:
    with connected(daemon) as connection:
        connection.sendall(DOCUMENT * 20)
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["connections"] == 2)
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["connections"] == 1)
