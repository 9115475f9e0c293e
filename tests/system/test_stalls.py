"""A server that stands still, in whatever phase, costs a caller the set time and the daemon nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.raw_origin import deaf_origin, raw_origin, until_hung_up
from tests.support.remains import assert_nothing_remains, most_memory_bytes, thread_count

ARCHIVE = archive()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(ARCHIVE)
CONNECT_SECONDS, STALL_SECONDS, RETRIES = 0.4, 0.4, 1
LONGEST_PAUSE_SECONDS = 0.5
# A head has the time of a connection and of a silence; then each try has as much again for its body. And a busy machine
# has its own, which is far from the minute of the usual settings.
LIMIT_SECONDS = (RETRIES + 1) * (CONNECT_SECONDS + 2 * STALL_SECONDS) + LONGEST_PAUSE_SECONDS + 30.0


@pytest.fixture(scope="module")
def patient_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    config = (
        f'[network]\nconnect_timeout = "{CONNECT_SECONDS * 1000:.0f}ms"\n'
        f'stall_timeout = "{STALL_SECONDS * 1000:.0f}ms"\nretries = {RETRIES}\n'
    )
    with Daemon(tmp_path_factory.mktemp("daemon"), config=config) as running:
        yield running


def silent_after(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(data)
        until_hung_up(connection)

    return answer


def dripping(head: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    """Never silent for as long as the stall timeout."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            time.sleep(0.05)
            connection.sendall(drop)

    return answer


PHASES: dict[str, tuple[Callable[[], AbstractContextManager[str]], str]] = {
    "connect": (deaf_origin, "could not be connected to in time"),
    "tls": (lambda: raw_origin(until_hung_up, scheme="https", hears=False), "could not be connected to in time"),
    "silence": (lambda: raw_origin(until_hung_up), "stopped sending"),
    "mid-status": (lambda: raw_origin(silent_after(b"HTTP/1.1 2")), "stopped sending"),
    "mid-header": (lambda: raw_origin(silent_after(HEAD + b"ETag: ")), "stopped sending"),
    "body": (lambda: raw_origin(silent_after(HEAD + b"\r\n")), "stopped sending"),
    "mid-body": (lambda: raw_origin(silent_after(HEAD + b"\r\n" + ARCHIVE[:-1])), "stopped sending"),
    "dripping-head": (lambda: raw_origin(dripping(HEAD, b"X: y\r\n")), "stopped sending"),
    "dripping-body": (lambda: raw_origin(dripping(HEAD + b"\r\n", b"x")), "less than network.min_rate"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_stall_is_upstream_timeout_within_the_set_time(patient_daemon: Daemon, phase: str) -> None:
    stalling, told = PHASES[phase]
    with stalling() as url:
        before = time.monotonic()
        status, problem = patient_daemon.resolve(url)
        assert time.monotonic() - before < LIMIT_SECONDS
        assert (status, problem["code"]) == (504, "upstream-timeout"), problem
        assert told in problem["detail"]
        assert_nothing_remains(patient_daemon, url, kept_connections=0)


@pytest.mark.parametrize("phase", PHASES)
def test_whoever_leaves_in_a_stall_leaves_nothing_behind(shared_daemon: Daemon, phase: str) -> None:
    """This daemon has the usual patience: what ends within moments is ended by the leaving."""
    stalling, _ = PHASES[phase]
    with stalling() as url:
        with shared_daemon.events(url) as events:
            next(event for event in events if event["fetch"]["state"] in ("connecting", "transferring"))
        assert_nothing_remains(shared_daemon, url, kept_connections=0)


FLOODS = {
    "trailers": (b"0\r\n", b"X-Trailer: " + b"y" * 1000 + b"\r\n"),
    "long-trailer": (b"0\r\nX-Trailer: ", b"y" * 1000),
    "chunk-extension": (b"1;", b"y" * 1000),
    "chunk-size": (b"", b"0" * 1000),
    "chunks-of-a-byte": (b"", b"1\r\nx\r\n" * 1000),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_that_is_no_archive_ends_and_fills_no_memory(patient_daemon: Daemon, flood: str) -> None:
    first, again = FLOODS[flood]

    def answer(connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%b\r\n" % (len(ARCHIVE), ARCHIVE) + first)
        while True:
            connection.sendall(again)

    most_before = most_memory_bytes(patient_daemon.pid)
    with raw_origin(answer) as url:
        before = time.monotonic()
        status, problem = patient_daemon.resolve(url)
        assert time.monotonic() - before < LIMIT_SECONDS
        assert problem["code"] in ("upstream-unavailable", "upstream-timeout", "archive-corrupt"), (status, problem)
        assert_nothing_remains(patient_daemon, url, kept_connections=0)
    assert most_memory_bytes(patient_daemon.pid) - most_before < 32 << 20


def test_stalls_leave_no_threads(patient_daemon: Daemon) -> None:
    with raw_origin(silent_after(HEAD + b"\r\n" + ARCHIVE[:-1])) as url:
        counts: list[int] = []
        # Pools grow until they have what they need; a thread that each stall leaves behind makes it one more each time.
        while counts[-3:] != sorted(counts[-3:], reverse=True) or len(counts) < 3:
            assert len(counts) < 16, f"it never comes to rest: {counts}"
            assert patient_daemon.resolve(url)[0] == 504
            counts.append(thread_count(patient_daemon.pid))
