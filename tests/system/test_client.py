"""`hubclient` and a real daemon on a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract.errors import DaemonUnreachable, DigestMismatch, NotAModule, UpstreamNotFound
from hubclient.contract.layout import CacheLayout
from hubclient.daemon import reach
from hubclient.resolver import Resolver
from tests.support.archives import MODULE, archive
from tests.support.clients import Client
from tests.support.daemon import Daemon
from tests.support.handmade_cache import is_leased
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

CLIENTS = 16


@pytest.fixture
def environ(daemon: Daemon) -> dict[str, str]:
    return {**os.environ, "HUBD_SOCKET": str(daemon.socket), "HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": "20"}


@pytest.fixture
def resolver(environ: dict[str, str]) -> Resolver:
    return Resolver(environ)


def digest_of(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def wait_until_waiting(daemon: Daemon, waiters: int) -> None:
    wait_until(lambda: daemon.request("GET", "/v1/status")[1]["waiters"] >= waiters)


def test_sixteen_processes_and_one_cold_handle_make_one_get_and_hold_sixteen_leases(
    origin: Origin, daemon: Daemon, environ: dict[str, str]
) -> None:
    answer = Answer(archive(), gate_after_bytes=100)
    handle = origin.serve("/m/1", answer)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(handle, environ)) for _ in range(CLIENTS)]
        wait_until_waiting(daemon, CLIENTS)
        answer.gate.set()
        paths = {client.answer() for client in clients}
        assert len(origin.asked("/m/1")) == 1
        (path,) = paths
        lease = CacheLayout(str(daemon.cache)).lease(digest_of(path))
        for client in clients:
            opened = Path(f"/proc/{client.process.pid}/fd")
            assert lease in {os.readlink(fd) for fd in opened.iterdir()}
        daemon.stop()
        assert is_leased(CacheLayout(str(daemon.cache)), digest_of(path))
    assert not is_leased(CacheLayout(str(daemon.cache)), digest_of(path))


def test_a_resolved_module_is_what_was_published(origin: Origin, daemon: Daemon, resolver: Resolver) -> None:
    path = Path(resolver.resolve(origin.serve("/m/1", Answer(archive()))))
    assert path.is_relative_to(daemon.cache)
    assert {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()} == MODULE


def test_a_cached_handle_resolves_with_the_daemon_stopped(
    origin: Origin, daemon: Daemon, environ: dict[str, str], resolver: Resolver
) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    path = resolver.resolve(handle)
    daemon.stop()
    assert resolver.resolve(handle) == path
    # A stopped daemon takes its links along, so a new process must be told where the cache is.
    environ |= {"HUBD_SOCKET": "", "TFHUB_CACHE_DIR": str(daemon.cache)}
    assert Resolver(environ).resolve(handle) == path


def test_a_second_process_needs_no_daemon_for_a_hit(origin: Origin, daemon: Daemon, environ: dict[str, str]) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    path = Resolver(environ).resolve(handle)
    daemon.signal(signal.SIGSTOP)
    try:
        assert Resolver(environ).resolve(handle) == path
    finally:
        daemon.signal(signal.SIGCONT)


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_a_damaged_module_is_fetched_again_on_the_next_use(
    origin: Origin, resolver: Resolver, environ: dict[str, str], damage: str
) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    path = Path(resolver.resolve(handle))
    if damage == "remove":
        (path / "saved_model.pb").unlink()
    else:
        os.truncate(path / "saved_model.pb", 1)
    for asking in (resolver, Resolver(environ)):
        assert asking.resolve(handle) == str(path)
        assert (path / "saved_model.pb").read_bytes() == MODULE["saved_model.pb"]
    assert len(origin.asked("/m/1")) == 2


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.stop], ids=["killed", "stopped"])
def test_a_daemon_that_ends_in_mid_fetch_and_comes_back_costs_time_and_not_the_answer(
    origin: Origin, daemon: Daemon, resolver: Resolver, end: Callable[[Daemon], object]
) -> None:
    answer = Answer(archive(), gate_after_bytes=100)
    handle = origin.serve("/m/1", answer)
    paths: list[str] = []
    asking = threading.Thread(target=lambda: paths.append(resolver.resolve(handle)))
    asking.start()
    origin.wait_until_asked("/m/1")
    end(daemon)
    answer.gate.set()
    daemon.start()
    asking.join()
    assert (Path(paths[0]) / "saved_model.pb").read_bytes() == MODULE["saved_model.pb"]


def test_progress_is_reported_while_the_fetch_goes_on(origin: Origin, environ: dict[str, str]) -> None:
    answer = Answer(archive(), gate_after_bytes=100)
    handle = origin.serve("/m/1", answer)
    heard: list[dict[str, Any]] = []

    def progress(fetch: dict[str, Any]) -> None:
        heard.append(fetch)
        if fetch["state"] == "transferring":
            answer.gate.set()

    with reach(environ) as ours:
        assert ours.resolve(handle, progress=progress)["outcome"] == "fetched"
    assert heard[0]["handle"] == handle
    assert heard[-1]["total_bytes"] == len(answer.body)


def test_leaving_withdraws_the_waiter(origin: Origin, daemon: Daemon, environ: dict[str, str]) -> None:
    answer = Answer(archive(), gate_after_bytes=100)
    handle = origin.serve("/m/1", answer)
    code = f"import hubclient; hubclient.resolve({handle!r})"
    with subprocess.Popen([sys.executable, "-P", "-c", code], env=environ, stderr=subprocess.PIPE) as client:
        wait_until_waiting(daemon, 1)
        client.send_signal(signal.SIGINT)
        _, complaint = client.communicate(timeout=30)
    assert client.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in complaint
    wait_until(lambda: not daemon.request("GET", "/v1/fetches")[1]["fetches"])


def test_the_origins_no_is_an_exception_of_its_own(origin: Origin, resolver: Resolver) -> None:
    with pytest.raises(UpstreamNotFound):
        resolver.resolve(origin.url("/absent/1"))


def test_what_is_no_module_is_refused(origin: Origin, resolver: Resolver) -> None:
    with pytest.raises(NotAModule):
        resolver.resolve(origin.serve("/m/1", Answer(archive({"readme.txt": b"hello"}))))


def test_the_demanded_digest_is_compared(origin: Origin, resolver: Resolver) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with pytest.raises(DigestMismatch):
        resolver.resolve(handle, digest="0" * 64)
    path = resolver.resolve(handle)
    assert resolver.resolve(handle, digest=digest_of(path)) == path
    with pytest.raises(DigestMismatch):
        resolver.resolve(handle, digest="0" * 64)


def test_a_stopped_daemon_is_told_after_the_timeout(daemon: Daemon, environ: dict[str, str]) -> None:
    daemon.stop()
    environ["HUBD_TIMEOUT"] = "0.2"
    with pytest.raises(DaemonUnreachable):
        Resolver(environ).resolve("https://example.org/m/1")
