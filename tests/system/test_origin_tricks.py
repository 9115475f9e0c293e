"""Whatever an origin answers, the caller gets an error that it can act on, and the daemon lives on."""

from __future__ import annotations

import socket
import threading

import pytest

from hubclient.contract.errors import UpstreamTimeout
from hubd.config import NetworkSettings
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, HttpSource
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.raw_origin import raw_origin, sending

ARCHIVE = archive()
SECRET = "Sn0oze"  # what the origin writes, and no detail repeats
OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"Content-Length: %d\r\n\r\n" % len(ARCHIVE) + ARCHIVE
ENDLESS = b"HTTP/1.1 103 Early Hints\r\n\r\n"


@pytest.mark.parametrize(
    "validator",
    ['"é\xff"', '"\x80"', '"' + "x" * 2000 + '"'],
    ids=["latin-1", "control", "long"],
)
def test_a_validator_that_cannot_be_kept_counts_as_not_sent(shared_daemon: Daemon, validator: str) -> None:
    stated = validator.encode("latin-1")
    with sending(OK + b"ETag: " + stated + b"\r\nLast-Modified: " + stated + b"\r\n" + BODY) as url:
        status, answer = shared_daemon.resolve(url)
        assert (status, answer["outcome"]) == (200, "fetched"), answer
        listed = shared_daemon.request("GET", "/v1/modules/" + answer["key"])
    assert listed[0] == 200
    assert "x" * 2000 not in str(listed)
    assert "\\ud" not in ascii(listed)


@pytest.mark.parametrize(
    "location",
    [
        b"http://a b/" + SECRET.encode(),
        b"http://127.0.0.1:99999/" + SECRET.encode(),
        b"http://127.0.0.1:port/" + SECRET.encode(),
        b"http://\xff" + SECRET.encode(),
        b"http://m\xc3\xbcnchen/" + SECRET.encode(),
        b"http:///" + SECRET.encode(),
        b"//[::1/" + SECRET.encode(),
        b"http://[fe80::1%25lo]/" + SECRET.encode(),
        b"http://" + SECRET.encode() + b"a" * 64 + b".example/",
        b"http://a..b/" + SECRET.encode(),
        b"",
    ],
    ids=["space", "port", "word-port", "bytes", "utf-8", "no-host", "bracket", "scope", "label", "dots", "empty"],
)
def test_a_redirect_to_what_is_no_url_is_blamed_on_who_redirects(shared_daemon: Daemon, location: bytes) -> None:
    with sending(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n") as url:
        status, answer = shared_daemon.resolve(url)
    assert (status, answer["code"]) == (503, "upstream-unavailable")
    assert answer["detail"].startswith("127.0.0.1: a redirect ")
    assert SECRET not in str(answer)


def test_a_redirect_beyond_the_length_of_a_url_is_refused(shared_daemon: Daemon) -> None:
    # Two that are short enough, each relative to the other: only the whole is too long.
    with sending(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + b"a" * 8000 + b"/\r\n\r\n") as url:
        status, answer = shared_daemon.resolve(url)
    assert (status, answer["code"]) == (503, "upstream-unavailable")
    assert "no URL" in answer["detail"]


@pytest.mark.parametrize("location", ["ftp://h/x", "file:///etc/passwd", "javascript:x", "http://me:word@127.0.0.1/"])
def test_a_redirect_to_where_hubd_may_not_go_is_forbidden(shared_daemon: Daemon, origin: Origin, location: str) -> None:
    handle = origin.serve("/m/1", Answer(status=302, headers={"Location": location}))
    status, answer = shared_daemon.resolve(handle)
    assert (status, answer["code"]) == (403, "handle-forbidden")
    assert "word" not in answer["detail"]


def test_a_signed_url_arrives_as_it_was_signed(shared_daemon: Daemon, origin: Origin) -> None:
    signed = "/signed/m.tar.gz?X-Sig=a%2Fb%2f+c=:@!$'()*,;~&&empty&e=%zz"
    handle = origin.serve("/m/1", Answer(status=302, headers={"Location": origin.url(signed) + "#part"}))
    origin.serve("/signed/m.tar.gz", Answer(ARCHIVE))
    assert shared_daemon.resolve(handle)[0] == 200
    assert [asked.target for asked in origin.asked("/signed/m.tar.gz")] == [signed]


def test_what_is_not_ascii_in_a_redirects_path_is_percent_encoded(shared_daemon: Daemon, origin: Origin) -> None:
    with sending(
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
        + origin.url("/\xc3\xa9 \xff").encode("latin-1")
        + b"\r\n\r\n"
    ) as url:
        origin.serve("/%C3%A9%20%FF", Answer(ARCHIVE))
        assert shared_daemon.resolve(url)[0] == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        SECRET.encode() * 1000,
        b"\x16\x03\x01" + bytes(range(256)),
        b"HTTP/1.1 999999 " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n" + BODY,
        OK + b"X-Long: " + SECRET.encode() * 3000 + b"\r\n" + BODY,
        OK + b"".join(b"X-%d: %s\r\n" % (number, SECRET.encode()) for number in range(200)) + BODY,
        OK + b"Content-Length: " + SECRET.encode() + b"\r\n\r\n",
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + SECRET.encode() + b"\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        OK + b"Bad Name\x00: " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + SECRET.encode() + b"\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 206 " + SECRET.encode() + b"\r\nContent-Range: bytes 0-1/9\r\n" + BODY,
        b"HTTP/1.1 304 " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 500 " + SECRET.encode() + b"\r\n" + BODY,
    ],
    ids=[
        "nothing",
        "empty-lines",
        "junk",
        "tls",
        "status",
        "version",
        "long-header",
        "200-headers",
        "length",
        "huge-length",
        "length-and-chunked",
        "chunk-size",
        "cut-chunk",
        "header-name",
        "101",
        "100-alone",
        "204",
        "206",
        "304",
        "500",
    ],
)
def test_an_answer_that_cannot_be_used_is_upstream_unavailable(shared_daemon: Daemon, answer: bytes) -> None:
    logged_before = len(shared_daemon.log.read_text())
    with sending(answer) as url:
        status, told = shared_daemon.resolve(url)
    assert (status, told["code"]) == (503, "upstream-unavailable")
    assert told["detail"].startswith("127.0.0.1")
    assert SECRET not in str(told)
    assert "Traceback" not in shared_daemon.log.read_text()[logged_before:]


def test_answers_of_1xx_before_the_real_one_are_passed_over(shared_daemon: Daemon) -> None:
    with sending(b"HTTP/1.1 100 Continue\r\n\r\n" + ENDLESS + OK + BODY) as url:
        assert shared_daemon.resolve(url)[0] == 200


def settings(connect_timeout: str) -> NetworkSettings:
    return NetworkSettings.model_validate(
        {
            "allow_http": True,
            "allow_private_addresses": True,
            "connect_timeout": connect_timeout,
            "stall_timeout": "300ms",
        }
    )


async def test_a_head_that_never_ends_times_out() -> None:
    over = threading.Event()

    def trickle(connection: socket.socket) -> None:
        while not over.wait(0.05):
            connection.sendall(ENDLESS)

    with raw_origin(trickle) as url:
        try:
            async with Session(settings("200ms")) as session:
                source = HttpSource(session)
                with pytest.raises(UpstreamTimeout):
                    async with source.open(ArchiveRequest(url)):
                        pass
        finally:
            over.set()


async def test_a_name_that_is_never_resolved_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def resolve(*_: object, **__: object) -> list[object]:
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no server answers")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with Session(settings("200ms")) as session:
        try:
            with pytest.raises(UpstreamTimeout, match="connected to in time"):
                async with HttpSource(session).open(ArchiveRequest("http://models.example/m/1")):
                    pass
        finally:
            over.set()  # the session's end waits for it
