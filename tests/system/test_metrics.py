"""Figures over the real socket, and over a TCP port that has nothing else."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support import uids
from tests.support.archives import archive
from tests.support.daemon import Daemon, UnixConnection
from tests.support.origin import Answer, Asked, Origin
from tests.support.ports import reserved_port
from tests.support.service import Service
from tests.support.uids import ALICE, BOB
from tests.support.waiting import wait_until

ARCHIVE = archive()
TOKEN = "kN7"


def page(connection: http.client.HTTPConnection) -> str:
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return text
    finally:
        connection.close()


def figures(text: str) -> dict[str, float]:
    """By name and, where there is one, the value of the label: ``hubd_answers_total hit``."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


def now(socket_path: Path) -> dict[str, float]:
    return figures(page(UnixConnection(str(socket_path))))


def on(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=20)


def listening_on(port: int) -> str:
    return f'[metrics]\nlisten = "127.0.0.1:{port}"\n'


def test_what_happened_is_counted_and_nobody_is_named(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/secret-name/1", Answer(ARCHIVE))
    module = daemon.resolve(handle)[1]
    daemon.resolve(handle)
    daemon.resolve(origin.serve("/none/1", Answer(status=404)))
    daemon.request("POST", "/v1/uses", {"keys": [module["key"]]})
    text = page(UnixConnection(str(daemon.socket)))
    told = figures(text)
    assert (told["hubd_answers_total fetched"], told["hubd_answers_total hit"]) == (1, 1)
    assert (told["hubd_errors_total upstream-not-found"], told["hubd_direct_hits_total"]) == (1, 1)
    assert (told["hubd_fetches_total fetched"], told["hubd_fetches_total failed"]) == (1, 1)
    assert told["hubd_received_bytes_total"] == len(ARCHIVE)
    assert told["hubd_fetch_seconds_count"] == 2
    assert told["hubd_fetch_phase_seconds_count publishing"] == 1
    assert (told["hubd_modules"], told["hubd_leased_trees"]) == (1, 1)
    assert told["hubd_cache_leased_bytes"] > 0
    assert told["hubd_connections"] == 1
    for name in ("secret-name", "127.0.0.1", module["key"], module["digest"], str(daemon.cache)):
        assert name not in text


def test_fetches_under_way_and_who_waits_are_told(daemon: Daemon, origin: Origin) -> None:
    half = len(ARCHIVE) // 2
    answer = Answer(ARCHIVE, gate_after_bytes=half)
    with daemon.events(origin.serve("/m/1", answer)) as events:
        next(event for event in events if event.get("fetch", {}).get("received_bytes") == half)
        (fetch,) = daemon.request("GET", "/v1/fetches")[1]["fetches"]
        assert list(fetch["seconds_by_phase"]) == ["queued", "connecting", "transferring"]
        told = now(daemon.socket)
        assert (told["hubd_fetches_under_way transferring"], told["hubd_waiters"]) == (1, 1)
        assert told["hubd_cache_in_flight_bytes"] > 0
        assert told["hubd_received_bytes_total"] == half, "or a rate of it is right when a fetch ends, and else 0"
        answer.gate.set()
        assert list(events)[-1]["event"] == "resolved"


def test_a_prefetch_is_under_way_and_no_request_waits_for_it(daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=10)
    daemon.request("POST", "/v1/prefetch", {"handles": [origin.serve("/m/1", slow)]})
    told = now(daemon.socket)
    assert sum(value for name, value in told.items() if name.startswith("hubd_fetches_under_way")) == 1
    assert told["hubd_waiters"] == 0, "or an alert about who waits would be about a night of prefetching"
    slow.gate.set()


def test_a_broken_prefetch_file_and_a_configuration_that_was_not_taken_are_told(tmp_path: Path) -> None:
    directory = tmp_path / "prefetch.d"
    directory.mkdir()
    (directory / "broken.toml").write_text("no toml")
    (directory / "empty.toml").write_text("handles = []\n")
    with Daemon(tmp_path, config=f'[prefetch]\ndir = "{directory}"\n') as daemon:
        wait_until(lambda: now(daemon.socket)["hubd_prefetch_files broken"] == 1)
        assert now(daemon.socket)["hubd_config_last_reload_successful"] == 1
        daemon.config.write_text("[network")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: now(daemon.socket)["hubd_config_last_reload_successful"] == 0)
        told = now(daemon.socket)
        assert (told["hubd_config_reloads_total ok"], told["hubd_config_reloads_total failed"]) == (0, 1)
        assert told["hubd_warnings"] >= 1


def test_the_port_has_the_figures_and_nothing_else(tmp_path: Path) -> None:
    with reserved_port() as port, Daemon(tmp_path, config=listening_on(port)):
        assert "hubd_build_info" in page(on(port))
        for method, path, status in (
            ("HEAD", "/metrics", 200),
            ("POST", "/metrics", 405),
            ("GET", "/v1/status", 404),
            ("POST", "/v1/resolve", 404),
            ("GET", "/", 404),
        ):
            connection = on(port)
            connection.request(method, path)
            assert connection.getresponse().status == status, path
            connection.close()


def test_the_port_follows_the_settings_and_one_that_is_taken_is_a_warning(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon, socket.create_server(("127.0.0.1", 0)) as other, reserved_port() as port:
        settings = daemon.config.read_text()

        def reload(more: str) -> None:
            daemon.config.write_text(settings + more)
            daemon.signal(signal.SIGHUP)

        reload(listening_on(port))
        wait_until(lambda: _is_open(port))
        assert "hubd_build_info" in page(on(port))

        taken = other.getsockname()[1]
        reload(listening_on(taken))
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["warnings"] != [])
        (warning,) = daemon.request("GET", "/v1/status")[1]["warnings"]
        assert warning == f"metrics.listen: cannot listen on 127.0.0.1:{taken}: Address already in use"
        assert not _is_open(port)

        reload("")
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["warnings"] == [])
        wait_until(lambda: now(daemon.socket)["hubd_config_reloads_total ok"] >= 3)


def test_idle_connections_to_the_port_cost_the_socket_nothing(tmp_path: Path) -> None:
    with reserved_port() as port, Daemon(tmp_path, config=listening_on(port)) as daemon, ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        connection = on(port)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (429, "too-busy")
        connection.close()
        assert now(daemon.socket)["hubd_connections"] == 1


@uids.needs_root
def test_what_is_private_is_not_among_the_modules_that_are_counted(origin: Origin) -> None:
    def private(asked: Asked) -> Answer:
        return Answer(ARCHIVE, etag='"1"') if asked.headers.get("Authorization") else Answer(b"sign in", 401)

    handle = origin.serve("/m/1", private)
    with uids.directory_of(ALICE) as directory, Service(Path(directory)) as service:
        assert service.resolve(BOB, handle, TOKEN)[0] == 200
        assert now(service.socket)["hubd_modules"] == 0
        assert uids.as_user(BOB, lambda: now(service.socket))["hubd_modules"] == 0


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_document_says_that_it_is_text(shared_daemon: Daemon) -> None:
    operation = shared_daemon.request("GET", "/v1/openapi.json")[1]["paths"]["/metrics"]["get"]
    assert operation["x-access-level"] == "user"
    assert list(operation["responses"]["200"]["content"]) == ["text/plain"]
