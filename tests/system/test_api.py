"""The socket API: its contract, its limits, and junk that disturbs nobody."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from hubclient.contract.errors import BY_CODE
from hubd.api.access import Level
from hubd.api.bodies import MAX_BODY_BYTES
from tests.support.archives import archive
from tests.support.daemon import Daemon, UnixConnection
from tests.support.origin import Answer, Origin

ARCHIVE = archive({"saved_model.pb": b"\x08\x01\x12\x00"})


def raw(daemon: Daemon, data: bytes) -> bytes:
    """What the daemon answers first to these bytes; nothing when it just hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(str(daemon.socket))
        try:
            connection.sendall(data)
            return connection.recv(65536)
        except ConnectionError:
            return b""


def healthy(daemon: Daemon) -> bool:
    return daemon.request("GET", "/v1/status")[0] == 200


def test_a_caller_who_hangs_up_at_once_is_no_error(daemon: Daemon) -> None:
    for number in range(20):
        body = b'{"handle": "http://127.0.0.1:1/%d/1"}' % number
        head = b"POST /v1/resolve HTTP/1.1\r\nHost: hubd\r\nAccept: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(daemon.socket))
            connection.sendall(head % len(body) + body)
    assert healthy(daemon)
    assert "Traceback" not in daemon.log.read_text()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"handle": 5}',
        b'{"handle": ""}',
        b'{"handle": "https://h/m/1", "surprise": 1}',
        b'{"handle": "https://h/m/1", "digest": "abc"}',
        b'{"handle": "https://h/m/1", "refresh": "yes"}',
        b'{"handle": "' + b"h" * 5000 + b'"}',
        b"[" * 100_000,
    ],
)
def test_a_bad_body_is_request_invalid(shared_daemon: Daemon, body: bytes) -> None:
    connection = UnixConnection(str(shared_daemon.socket))
    connection.request("POST", "/v1/resolve", body)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(answer.read())
    connection.close()
    assert (answer.status, problem["code"]) == (400, "request-invalid")
    assert healthy(shared_daemon)


def test_an_unknown_field_names_the_daemons_version(shared_daemon: Daemon) -> None:
    problem = shared_daemon.resolve("https://h/m/1", surprise=True)[1]
    assert problem["code"] == "request-invalid"
    assert "surprise" in problem["detail"]
    assert "(hubd 0." in problem["detail"]


def test_an_unknown_parameter_names_the_daemons_version(shared_daemon: Daemon) -> None:
    status, problem = shared_daemon.request("GET", "/v1/modules?sort=size&limit=3")
    assert (status, problem["code"]) == (400, "request-invalid")
    assert "?sort" in problem["detail"]
    assert "(hubd 0." in problem["detail"]


@pytest.mark.parametrize("handle", ["ftp://h/m/1", "https://u:p@h/m/1", "https://h/../m/1", "https:///m", "no-url"])
def test_a_bad_handle_is_handle_invalid(shared_daemon: Daemon, handle: str) -> None:
    assert shared_daemon.resolve(handle)[1]["code"] == "handle-invalid"
    status, answer = shared_daemon.request("POST", "/v1/prefetch", {"handles": [handle]})
    (told,) = answer["fetches"]
    assert (status, told["id"], told["key"], told["problem"]["code"]) == (202, None, None, "handle-invalid")


def test_a_body_of_10_mb_is_refused(shared_daemon: Daemon) -> None:
    head = b"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
    assert b"request-too-large" in raw(shared_daemon, head)
    chunk = b"%x\r\n%b\r\n" % (MAX_BODY_BYTES + 1, b" " * (MAX_BODY_BYTES + 1))
    chunked = b"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    assert b"request-too-large" in raw(shared_daemon, chunked)
    assert healthy(shared_daemon)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        b"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"\x00" * 4096 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_disturbs_nobody(shared_daemon: Daemon, junk: bytes) -> None:
    answer = raw(shared_daemon, junk)
    assert answer == b"" or answer.split()[1] == b"400"
    assert healthy(shared_daemon)


def test_half_requests_disturb_nobody(shared_daemon: Daemon, origin: Origin) -> None:
    halves = []
    for data in (b"POST /v1/res", b"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"):
        for _ in range(50):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(str(shared_daemon.socket))
            connection.sendall(data)
            halves.append(connection)
    assert shared_daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[0] == 200
    for connection in halves:
        connection.close()
    assert healthy(shared_daemon)


def test_a_wrong_method_is_told_the_right_ones(shared_daemon: Daemon) -> None:
    connection = UnixConnection(str(shared_daemon.socket))
    connection.request("PUT", "/v1/resolve")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert json.loads(answer.read())["code"] == "request-invalid"
    connection.close()


def test_an_unknown_route_is_not_found(shared_daemon: Daemon) -> None:
    assert shared_daemon.request("GET", "/v2/resolve")[1]["code"] == "not-found"


def test_connections_past_the_limit_are_refused_politely(tmp_path: Path) -> None:
    with Daemon(tmp_path, config="[api]\nconnections = 3\n") as daemon:
        idle = []
        for _ in range(3):
            connection = UnixConnection(str(daemon.socket))
            connection.request("GET", "/v1/status")
            connection.getresponse().read()
            idle.append(connection)
        status, problem = daemon.request("GET", "/v1/status")
        assert (status, problem["code"]) == (429, "too-busy")
        for connection in idle:
            connection.close()


def test_modules_are_listed_in_pages(daemon: Daemon, origin: Origin) -> None:
    urls = [origin.serve(f"/m/{number}", Answer(ARCHIVE)) for number in range(5)]
    for url in urls:
        daemon.resolve(url)
    seen, after = [], ""
    for _ in range(3):
        page = daemon.request("GET", f"/v1/modules?limit=2&after={after}")[1]
        seen += [module["handle"] for module in page["modules"]]
        after = page["next"]
    assert sorted(seen) == sorted(urls)
    assert after is None
    assert daemon.request("GET", "/v1/modules?limit=0")[1]["code"] == "request-invalid"
    assert daemon.request("GET", "/v1/modules?after=..%2f")[1]["code"] == "request-invalid"


def test_a_module_tells_its_files_and_signatures(daemon: Daemon, origin: Origin) -> None:
    key = daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[1]["key"]
    module = daemon.request("GET", f"/v1/modules/{key}")[1]
    assert list(module["files"]) == ["saved_model.pb"]
    assert module["format"] == "saved_model"
    assert daemon.request("GET", f"/v1/modules/{'0' * 64}")[1]["code"] == "not-found"
    assert daemon.request("GET", "/v1/modules/xyz")[1]["code"] == "request-invalid"


def test_status_tells_how_the_daemon_is(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    daemon.resolve(handle)
    daemon.resolve(handle)
    status = daemon.request("GET", "/v1/status")[1]
    assert (status["pid"], status["uid"]) == (daemon.pid, os.geteuid())
    assert (status["cache"]["modules"], status["counters"]["fetched"], status["counters"]["hits"]) == (1, 1, 1)
    assert status["counters"]["received_bytes"] == len(ARCHIVE)


def test_the_openapi_document_has_every_route_and_level(shared_daemon: Daemon) -> None:
    document = shared_daemon.request("GET", "/v1/openapi.json")[1]
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {"/v1/resolve", "/v1/prefetch", "/v1/fetches", "/v1/modules", "/v1/status"}
    assert {"/v1/uses", "/v1/prune", "/v1/modules/{key}/pin"} <= set(document["paths"])
    assert set(document["paths"]["/v1/modules/{key}"]) == {"get", "delete"}
    levels = {level.name.lower() for level in Level}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["x-access-level"] in levels
    json_type, lines = "application/json", "application/x-ndjson"
    for path, kinds in (
        ("resolve", {json_type, lines}),
        ("prefetch", {json_type}),
        ("prune", {lines}),
        ("verify", {lines}),
    ):
        (answer,) = (
            said for status, said in document["paths"][f"/v1/{path}"]["post"]["responses"].items() if status[0] == "2"
        )
        assert set(answer["content"]) == kinds, path
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])


def test_every_code_has_one_class_with_a_status() -> None:
    assert len(BY_CODE) > 20
    assert all(400 <= error.status < 600 for error in BY_CODE.values())


def test_the_socket_of_a_user_is_the_users_alone(shared_daemon: Daemon) -> None:
    assert stat.S_IMODE(os.lstat(shared_daemon.socket).st_mode) == 0o600
    assert os.readlink(f"{shared_daemon.socket}.cache") == str(shared_daemon.cache)


@pytest.mark.parametrize("limit", ["0", "1001", "00000000199999", "9" * 5009, "-1", "ten", "%C2%B2"])
def test_a_bad_limit_is_request_invalid(shared_daemon: Daemon, limit: str) -> None:
    status, problem = shared_daemon.request("GET", f"/v1/modules?limit={limit}")
    assert (status, problem["code"]) == (400, "request-invalid")


def test_a_body_that_is_not_encoded_as_it_says_is_request_invalid(shared_daemon: Daemon) -> None:
    connection = UnixConnection(str(shared_daemon.socket))
    connection.request("POST", "/v1/resolve", b"no gzip", {"Content-Encoding": "gzip"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (400, "request-invalid")
    connection.close()
    assert "Traceback" not in shared_daemon.log.read_text()


def test_few_open_files_mean_few_connections_and_a_warning(tmp_path: Path, origin: Origin) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))

    with Daemon(tmp_path, preexec=few) as daemon:
        assert any("open files" in warning for warning in daemon.request("GET", "/v1/status")[1]["warnings"])
        with ExitStack() as stack:
            for _ in range(80):
                connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                connection.connect(str(daemon.socket))
            assert daemon.request("GET", "/v1/status")[1]["code"] == "too-busy"
        handle = origin.serve("/m/1", Answer(ARCHIVE))
        deadline = time.monotonic() + 20
        while daemon.resolve(handle)[0] != 200:
            assert time.monotonic() < deadline
        assert daemon.log.stat().st_size < 10_000


def test_status_names_what_is_not_hubds_in_the_view_for_tensorflow_hub(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    with daemon:
        assert daemon.request("GET", "/v1/status")[1]["warnings"] == []
        daemon.stop()
        (daemon.cache / "tfhub" / "left-by-tensorflow-hub").mkdir()
        daemon.start()
        (warning,) = daemon.request("GET", "/v1/status")[1]["warnings"]
        assert "(1 in all): left-by-tensorflow-hub;" in warning
