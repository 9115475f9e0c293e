"""The dashboard of a real daemon: it shows what everybody may know, to whom asks by a name of this machine."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.support import uids
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.dashboard import is_open, listening_on, wait_until_open
from tests.support.origin import Answer, Asked, Origin
from tests.support.ports import reserved_port
from tests.support.service import Service
from tests.support.uids import ALICE, BOB
from tests.support.waiting import wait_until

ARCHIVE = archive()
LARGE = archive({**MODULE, "assets/random": Random(7).randbytes(1 << 20)})
TOKEN = "kN7"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Daemon]:
    """A running daemon with a dashboard, for all tests that leave its settings as they were."""
    with Daemon(tmp_path_factory.mktemp("daemon"), config=listening_on(port)) as running:
        wait_until_open(port)
        yield running


def ask(
    port: int, path: str = "/", method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def page(port: int) -> str:
    status, _, text = ask(port)
    assert status == 200, text
    return text


@contextmanager
def watching(port: int) -> Iterator[Iterator[tuple[str, str]]]:
    """The sections as they are sent, each with its name; it ends with the stream."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/-/events")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream"), answer.read()
        yield _sections(answer)
    finally:
        connection.close()


def _sections(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    name, data = "", list[str]()
    for line in answer:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif name:
            yield name, "\n".join(data)
            name, data = "", []


def test_the_page_tells_what_is_cached_and_what_happened(shown: Daemon, port: int, origin: Origin) -> None:
    handle = origin.serve("/page/told/1", Answer(ARCHIVE)) + "?token=s3cret"
    shown.resolve(handle)
    shown.resolve(handle)
    shown.resolve(origin.serve("/none/1", Answer(status=404)))

    def tells() -> bool:
        text = page(port)
        assert "s3cret" not in text
        return "/page/told/1?…" in text and "upstream-not-found" in text and "in use" in text and "50 %" in text

    wait_until(tells)


def test_a_fetch_moves_while_one_watches_and_becomes_a_module(shown: Daemon, port: int, origin: Origin) -> None:
    answer = Answer(LARGE, gate_after_bytes=600_000)
    handle = origin.serve("/moving/1", answer)
    with watching(port) as sections:
        fetching = threading.Thread(target=shown.resolve, args=(handle,))
        fetching.start()
        moving = next(html for name, html in sections if name == "fetches" and handle in html)
        assert f'max="{len(LARGE)}"' in moving
        answer.gate.set()
        assert next(html for name, html in sections if name == "fetches" and handle not in html)
        assert next(html for name, html in sections if name == "modules" and handle in html)
        fetching.join()


def test_it_serves_nothing_that_changes_anything(shown: Daemon, port: int) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/", "/-/events", "/v1/resolve", "/v1/modules/x"):
            status, headers, _ = ask(port, path, method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD"), (method, path)
    for path in ("/v1/status", "/v1/modules", "/metrics", "/-/static/../x", "/-/static/0/hubd.css"):
        assert ask(port, path)[0] == 404, path
    status, headers, text = ask(port, "/", "HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


def test_every_answer_has_the_policy(shown: Daemon, port: int) -> None:
    for path in ("/", "/nothing"):
        headers = ask(port, path)[1]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self';")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
    with watching(port):
        pass


def test_only_names_of_this_machine_are_answered(shown: Daemon, port: int) -> None:
    for host in (f"localhost:{port}", "127.0.0.1", f"127.0.0.1:{port}", "[::1]:1"):
        assert ask(port, headers={"Host": host})[0] == 200, host
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "192.0.2.1", ""):
        for path in ("/", "/-/events", "/nothing"):
            status, _, text = ask(port, path, headers={"Host": host})
            assert status == 421, (host, path)
            assert "[web] hosts" in text
            assert "hubd</title>" not in text


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
def test_a_request_names_one_host(shown: Daemon, port: int, hosts: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
        assert raw.makefile("rb").readline().split()[1] == b"400"


def test_pages_of_other_sites_may_link_here_and_no_more(shown: Daemon, port: int) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(port, headers=link)[0] == 200
    for site in ("cross-site", "same-site"):
        assert ask(port, "/-/events", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"})[0] == 403


def test_who_watches_has_a_place_of_few_and_pages_are_answered_all_the_same(shown: Daemon, port: int) -> None:
    with ExitStack() as stack:
        watchers = [stack.enter_context(watching(port)) for _ in range(16)]
        assert all(next(sections) for sections in watchers)
        assert ask(port, "/-/events")[0] == 429
        assert page(port)
    wait_until(lambda: _is_let_in(port))


def _is_let_in(port: int) -> bool:
    try:
        with watching(port):
            return True
    except AssertionError:
        return False


def test_the_port_and_the_names_follow_the_settings(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon, socket.create_server(("127.0.0.1", 0)) as other, reserved_port() as port:
        settings = daemon.config.read_text()

        def reload(more: str) -> None:
            daemon.config.write_text(settings + more)
            daemon.signal(signal.SIGHUP)

        reload(listening_on(port))
        wait_until_open(port)
        assert ask(port, headers={"Host": "box.lan"})[0] == 421
        reload(listening_on(port, 'hosts = ["box.lan"]'))
        wait_until(lambda: ask(port, headers={"Host": "box.lan"})[0] == 200)

        with watching(port) as sections:
            assert next(sections)
            reload(f'[web]\nlisten = "127.0.0.1:{other.getsockname()[1]}"\n')
            assert list(sections)  # the stream ends
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["warnings"] != [])
        (warning,) = daemon.request("GET", "/v1/status")[1]["warnings"]
        assert warning.startswith("web.listen: cannot listen on 127.0.0.1:")
        assert not is_open(port)


def test_a_port_that_is_taken_at_the_start_is_a_warning_and_clients_are_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with Daemon(tmp_path, config=listening_on(taken)) as daemon:
            wait_until(lambda: daemon.request("GET", "/v1/status")[1]["warnings"] != [])
            (warning,) = daemon.request("GET", "/v1/status")[1]["warnings"]
            assert warning == f"web.listen: cannot listen on 127.0.0.1:{taken}: Address already in use"


def test_a_stop_does_not_wait_for_who_watches(tmp_path: Path) -> None:
    with reserved_port() as port, Daemon(tmp_path, config=listening_on(port)) as daemon:
        wait_until_open(port)
        with watching(port) as sections:
            assert next(sections)
            assert daemon.stop() == 0
            assert list(sections)


def test_a_cache_that_cannot_be_looked_at_ends_the_stream_and_is_an_error_on_the_page(tmp_path: Path) -> None:
    with reserved_port() as port, Daemon(tmp_path, config=listening_on(port)) as daemon:
        wait_until_open(port)
        with watching(port) as sections:
            assert next(sections)
            daemon.cache.rename(tmp_path / "elsewhere")
            assert all("HTTP/1.1" not in html for _, html in sections)
        status, _, text = ask(port)
        assert (status, text) == (503, "The cache cannot be looked at: No such file or directory.\n")
        assert "Traceback" not in daemon.log.read_text()
        (tmp_path / "elsewhere").rename(daemon.cache)
        assert page(port)


@uids.needs_root
def test_nothing_of_what_is_private_is_shown(origin: Origin) -> None:
    cut = Answer(LARGE, cut_after_bytes=600_000)
    answers = {"/private-module/1": Answer(ARCHIVE), "/private-failure/1": cut}
    gated = Answer(LARGE, gate_after_bytes=600_000)

    def handle(path: str, answer: Answer) -> str:
        def answered(asked: Asked) -> Answer:
            return answer if asked.headers.get("Authorization") else Answer(b"sign in", 401)

        return origin.serve(path, answered)

    with (
        reserved_port() as port,
        uids.directory_of(ALICE) as directory,
        Service(Path(directory), listening_on(port)) as service,
    ):
        wait_until_open(port)
        for path, answer in answers.items():
            service.resolve(BOB, handle(path, answer), TOKEN)
        fetching = threading.Thread(target=service.resolve, args=(BOB, handle("/private-fetch/1", gated), TOKEN))
        with watching(port) as sections:
            fetching.start()
            told = ""
            for _, html in sections:
                told += html
                if "1 other fetch of which nothing is shown" in html:
                    break
            text = page(port)
            gated.gate.set()
            for name, html in sections:
                told += html
                if name == "fetches" and "None." in html:
                    break
        fetching.join()
        status, modules = service.request(0, "GET", "/v1/modules")
        assert (status, len(modules["modules"])) == (200, 2)
        for shown in (told, text, page(port)):
            assert "private-" not in shown
            assert str(BOB) not in shown
        assert "The cache has none yet that is for everybody." in text


@uids.needs_root
def test_where_only_some_may_ask_it_is_figures_alone(origin: Origin) -> None:
    access = f"[access]\nusers = [{BOB}]\n"
    with (
        reserved_port() as port,
        uids.directory_of(ALICE) as directory,
        Service(Path(directory), listening_on(port, access)) as service,
    ):
        wait_until_open(port)
        assert service.resolve(BOB, origin.serve("/some-module/1", Answer(ARCHIVE)))[0] == 200
        service.resolve(BOB, origin.serve("/none/1", Answer(status=404)))
        text = page(port)
        assert "for some of its users only" in text
        assert "upstream-not-found" in text
        for named in ("some-module", "127.0.0.1", str(BOB), directory):
            assert named not in text


def test_who_shows_no_page_does_without_templates() -> None:
    program = "import sys; from hubd import service; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert "hubd.publishing.lookout" in loaded
    assert {"jinja2", "markupsafe", "markdown_it", "nh3", "hubd.publishing.dashboard"}.isdisjoint(loaded)
