"""Bytes that are no request, on the real socket.

Law: whatever comes, each answer is whole HTTP that names its problem; nobody else notices, and nothing stays behind.
"""

from __future__ import annotations

import json
import random
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.daemon import Daemon
from tests.support.remains import descriptors, memory_bytes
from tests.support.waiting import wait_until

GET = b"GET /v1/status HTTP/1.1\r\nHost: hubd\r\n"
POST = b"POST /v1/uses HTTP/1.1\r\nHost: hubd\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = GET + b"\r\n"

# Each is refused, and its connection ended: what follows on it could be anything.
NO_HTTP = {
    "a greeting of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /v1/status\r\n\r\n",
    "a version to come": b"GET /v1/status HTTP/9.9\r\n\r\n",
    "an invented method": b"BREW /v1/status HTTP/1.1\r\nHost: hubd\r\n\r\n",
    "a shell's line": b"cat /etc/passwd; id\n",
    "JSON alone": b'{"jsonrpc": "2.0", "method": "status"}\n',
    "only NULs": b"\x00" * 4096,
    "a NUL in the path": b"GET /v1/st\x00atus HTTP/1.1\r\nHost: hubd\r\n\r\n",
    "a NUL in a header": GET + b"A: b\x00c\r\n\r\n",
    "bytes in the path": b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: hubd\r\n\r\n",
    "no path": b"GET v1/status HTTP/1.1\r\nHost: hubd\r\n\r\n",
    "half an address": b"GET http://[::1/v1/status HTTP/1.1\r\nHost: hubd\r\n\r\n",
    "bare line feeds": b"GET /v1/status HTTP/1.1\nHost: hubd\n\n",
    "no host": b"GET /v1/status HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: other\r\n\r\n",
    "a space before the colon": GET + b"A : b\r\n\r\n",
    "a folded header": GET + b"A: b\r\n c\r\n\r\n",
    "a huge header": GET + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
    "a huge path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: hubd\r\n\r\n",
    "a thousand headers": GET + b"A: b\r\n" * 1000 + b"\r\n",
    "a length that is no number": POST + b"Content-Length: ten\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length beyond all numbers": POST + b"Content-Length: 99999999999999999999999999\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + ASK,
    "a length beside chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ASK,
    "chunks of chunks": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + ASK,
    "an invented coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + ASK,
    "a chunk without a size": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-1\r\n{}\r\n0\r\n\r\n",
    "a chunk beyond all numbers": CHUNKED + b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n" + ASK,
    "what follows a refused upgrade": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nGARBAGE\r\n\r\n",
}


class Told(NamedTuple):
    """One answer."""

    status: int
    content_type: str
    body: bytes


def sent(daemon: Daemon, data: bytes) -> list[Told]:
    """The answers to these bytes, when the daemon has ended the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(str(daemon.socket))
        came = b""
        with suppress(ConnectionError):  # it has heard enough; what it said is still to be read
            connection.sendall(data)
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                came += piece
        return told(came)


def told(came: bytes) -> list[Told]:
    """The answers one after the other; AssertionError for what is none."""
    answers = []
    while came:
        head, end, rest = came.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        version, status = first.split()[:2]
        assert end, f"half an answer: {came!r}"
        assert version.startswith("HTTP/")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        assert len(rest) >= length
        answers.append(Told(int(status), headers["content-type"], rest[:length]))
        came = rest[length:]
    return answers


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP.keys())
def test_what_is_no_http_is_told_so_and_hung_up_on(shared_daemon: Daemon, data: bytes) -> None:
    *_, last = sent(shared_daemon, data)
    assert (last.status, last.content_type) == (400, "application/problem+json")
    assert json.loads(last.body)["code"] == "request-invalid"


def test_an_expectation_that_is_not_known_is_request_invalid(shared_daemon: Daemon) -> None:
    for path in (b"/v1/uses", b"/nowhere"):
        head = b"POST %b HTTP/1.1\r\nHost: hubd\r\nConnection: close\r\nContent-Length: 2\r\n" % path
        (answer,) = sent(shared_daemon, head + b"Expect: the moon\r\n\r\n{}")
        assert (answer.status, answer.content_type) == (400, "application/problem+json")
        assert json.loads(answer.body)["code"] == "request-invalid"


def test_requests_that_come_together_are_answered_in_their_order(shared_daemon: Daemon) -> None:
    other = b"POST /v1/uses HTTP/1.1\r\nHost: hubd\r\nContent-Length: 2\r\n\r\n{}"
    last = GET + b"Connection: close\r\n\r\n"
    answers = sent(shared_daemon, ASK + other + ASK * 98 + last)
    assert [answer.status for answer in answers] == [200, 400, *[200] * 99]


def test_noise_disturbs_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    # Bytes alone seldom get past the first line: requests that were damaged get further.
    noise = random.Random(6)
    sane = [ASK, POST + b"Content-Length: 2\r\n\r\n{}", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", *NO_HTTP.values()]

    def damaged() -> bytes:
        data = bytearray(b"".join(noise.choices(sane, k=noise.randint(1, 3))))
        for _ in range(noise.randint(1, 8)):
            at = noise.randrange(len(data))
            data[at : at + noise.randint(0, 3)] = noise.randbytes(noise.randint(0, 3))
        return bytes(data[: noise.randint(1, len(data))])

    def shout(times: int) -> None:
        for number in range(times):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(str(daemon.socket))
                connection.settimeout(20)
                with suppress(ConnectionError):
                    connection.sendall(damaged() if number % 4 else noise.randbytes(noise.randint(1, 5000)))
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

    with Daemon(tmp_path) as daemon:
        shout(300)
        before, descriptors_before = memory_bytes(daemon), descriptors(daemon)
        shout(1200)
        assert daemon.request("GET", "/v1/status")[0] == 200
        wait_until(lambda: descriptors(daemon) <= descriptors_before)
        assert memory_bytes(daemon) < before + (8 << 20)
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.log.stat().st_size < 10_000
        assert daemon.stop() == 0
