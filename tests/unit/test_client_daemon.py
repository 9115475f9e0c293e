"""What the client makes of a daemon's answers, and of its absence."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hubclient import connecting
from hubclient.contract.errors import (
    CacheUnreachable,
    CacheUntrusted,
    DaemonUnreachable,
    DigestMismatch,
    HubError,
    Internal,
    TooBusy,
    UpstreamNotFound,
)
from hubclient.daemon import Daemon
from hubclient.finding import Place
from hubclient.resolver import Resolver
from hubclient.warning import HubWarning, StaleModuleWarning
from tests.support.handmade_cache import HandmadeCache, is_leased
from tests.support.scripted_daemon import (
    Asked,
    ScriptedDaemon,
    answer,
    hang_up,
    problem,
    progress,
    resolved,
    stream,
)

HANDLE = "https://example.org/m/1"
PATH = "/somewhere/module"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hubd.sock"


def client(
    path: Path, *, timeout_seconds: float = 10.0, kind: str = "explicit", silence_seconds: float = 30.0
) -> Daemon:
    assert kind in ("explicit", "service")
    place = Place(str(path), None, "explicit" if kind == "explicit" else "service")
    return Daemon(place, environ={}, timeout_seconds=timeout_seconds, silence_seconds=silence_seconds)


def test_get_and_post_give_the_json(path: Path) -> None:
    with ScriptedDaemon(path, answer({"n": 1}), answer({"n": 2})) as daemon, client(path) as ours:
        assert ours.get("/v1/status") == {"n": 1}
        assert ours.post("/v1/prefetch", {"handles": [HANDLE]}) == {"n": 2}
        assert [(asked.method, asked.path, asked.body) for asked in daemon.asked] == [
            ("GET", "/v1/status", {}),
            ("POST", "/v1/prefetch", {"handles": [HANDLE]}),
        ]


def test_one_connection_serves_call_after_call(path: Path) -> None:
    with ScriptedDaemon(path, stream([resolved(PATH)])) as daemon, client(path) as ours:
        for _ in range(3):
            ours.resolve(HANDLE)
        assert daemon.connections == 1


def test_a_connection_is_used_again_after_a_problem(path: Path) -> None:
    with ScriptedDaemon(path, problem("not-found", 404)) as daemon, client(path) as ours:
        for _ in range(3):
            with pytest.raises(HubError):
                ours.get("/v1/modules/x")
        assert daemon.connections == 1


def test_a_connection_that_the_daemon_closed_while_idle_is_no_failure(path: Path) -> None:
    with ScriptedDaemon(path, answer({})) as daemon, client(path, timeout_seconds=0) as ours:
        ours.get("/")
        daemon.hang_up_idle()
        ours.get("/")
        assert daemon.connections == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_talk_on_its_parents_connection(path: Path) -> None:
    with ScriptedDaemon(path, answer({})) as daemon, client(path) as ours:
        ours.get("/")
        child = os.fork()
        if child == 0:
            try:
                ours.get("/")
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ours.get("/")
        assert daemon.connections == 2


def test_a_resolve_asks_only_for_what_was_wanted(path: Path) -> None:
    with ScriptedDaemon(path, stream([resolved(PATH)])) as daemon, client(path) as ours:
        ours.resolve(HANDLE)
        ours.resolve(HANDLE, digest="0" * 64, refresh=True, offline=True)
        assert [asked.body for asked in daemon.asked] == [
            {"handle": HANDLE},
            {"handle": HANDLE, "digest": "0" * 64, "refresh": True, "offline": True},
        ]


def test_progress_is_reported_fetch_by_fetch(path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with ScriptedDaemon(path, stream([progress(1), progress(2), resolved(PATH)])), client(path) as ours:
        assert ours.resolve(HANDLE, progress=heard.append)["path"] == PATH
    assert [fetch["received_bytes"] for fetch in heard] == [1, 2]


def test_unknown_events_and_fields_of_a_newer_daemon_are_ignored(path: Path) -> None:
    events = [{"event": "weather", "sun": True}, resolved(PATH, colour="blue")]
    with ScriptedDaemon(path, stream(events)), client(path) as ours:
        assert ours.resolve(HANDLE)["path"] == PATH


@pytest.mark.parametrize("streamed", [True, False])
def test_a_problem_is_raised_as_its_class(path: Path, streamed: bool) -> None:
    body = {"code": "upstream-not-found", "status": 404, "detail": "no such module", "retryable": False}
    script = stream([{"event": "failed", "problem": body}]) if streamed else problem("upstream-not-found", 404)
    with ScriptedDaemon(path, script), client(path) as ours, pytest.raises(UpstreamNotFound):
        ours.resolve(HANDLE)


def test_a_code_that_only_a_newer_daemon_knows_is_kept(path: Path) -> None:
    with ScriptedDaemon(path, problem("moon-eclipsed", 418)), client(path) as ours, pytest.raises(HubError) as caught:
        ours.resolve(HANDLE)
    assert (caught.value.code, caught.value.status) == ("moon-eclipsed", 418)


@pytest.mark.parametrize("last", [hang_up, stream([progress()], cut=True), problem("shutting-down", 503)])
def test_a_daemon_that_goes_away_is_asked_again(path: Path, last: Any) -> None:
    with ScriptedDaemon(path, last, stream([resolved(PATH)])) as daemon, client(path) as ours:
        assert ours.resolve(HANDLE)["path"] == PATH
        assert len(daemon.asked) == 2


def test_a_daemon_that_is_too_busy_for_a_module_is_asked_again_when_it_says(path: Path) -> None:
    busy = problem("too-busy", 429, retry_after_seconds=0)
    with ScriptedDaemon(path, busy, busy, stream([resolved(PATH)])) as daemon, client(path) as ours:
        assert ours.resolve(HANDLE)["path"] == PATH
        assert len(daemon.asked) == 3


def test_too_busy_is_told_when_the_time_is_over_and_at_once_where_nobody_waits_for_a_module(path: Path) -> None:
    busy = problem("too-busy", 429, detail="64 fetches", retry_after_seconds=600)
    with ScriptedDaemon(path, busy) as daemon, client(path, timeout_seconds=0.05) as ours:
        with pytest.raises(TooBusy, match="64 fetches"):
            ours.resolve(HANDLE)
        assert len(daemon.asked) == 2
        with pytest.raises(TooBusy) as caught:
            ours.post("/v1/verify", {})
        assert (len(daemon.asked), caught.value.retry_after_seconds) == (3, 600)


def test_a_daemon_that_dies_again_and_again_is_given_up(path: Path) -> None:
    # Each time it showed life, so time alone would never end this.
    with ScriptedDaemon(path, stream([progress()], cut=True)) as daemon, client(path, timeout_seconds=600) as ours:
        with pytest.raises(DaemonUnreachable, match="died 5 times"):
            ours.resolve(HANDLE)
        assert len(daemon.asked) == 5


@pytest.mark.parametrize("kind", ["explicit", "service"])
def test_a_socket_that_appears_in_time_is_waited_for(path: Path, kind: str) -> None:
    answers: list[dict[str, Any]] = []
    with client(path, timeout_seconds=30, kind=kind) as ours:
        asking = threading.Thread(target=lambda: answers.append(ours.get("/")))
        asking.start()
        with ScriptedDaemon(path, answer({"n": 1})):
            asking.join()
    assert answers == [{"n": 1}]


def test_a_socket_that_refuses_is_waited_for(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    answers: list[dict[str, Any]] = []
    with client(path, timeout_seconds=30) as ours:
        asking = threading.Thread(target=lambda: answers.append(ours.get("/")))
        asking.start()
        path.unlink()
        with ScriptedDaemon(path, answer({"n": 1})):
            asking.join()
    assert answers == [{"n": 1}]


def test_a_daemon_with_a_full_queue_is_waited_for(path: Path) -> None:
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener, client(path, timeout_seconds=30) as ours:
        listener.bind(str(path))
        listener.listen(0)
        with suppress(BlockingIOError):
            while len(waiting) < 100:
                waiting.append(connecting.connect(str(path)))
        assert len(waiting) < 100
        connecting_too = threading.Thread(target=ours.connect)
        connecting_too.start()
        for _ in (*waiting, ours):
            listener.accept()[0].close()
        connecting_too.join()
    for connection in waiting:
        connection.close()


def test_waiting_ends_after_the_timeout(path: Path) -> None:
    started = time.monotonic()
    with client(path, timeout_seconds=0.2) as ours, pytest.raises(DaemonUnreachable, match="HUBD_SOCKET"):
        ours.get("/")
    assert 0.2 <= time.monotonic() - started < 5


def test_an_absent_service_is_told_with_the_command_that_tells_more(path: Path) -> None:
    with (
        client(path, timeout_seconds=0, kind="service") as ours,
        pytest.raises(DaemonUnreachable, match="systemctl status hubd"),
    ):
        ours.get("/")


def test_a_named_socket_in_no_directory_is_not_waited_for(tmp_path: Path) -> None:
    ours = client(tmp_path / "absent" / "hubd.sock", timeout_seconds=600)
    with pytest.raises(DaemonUnreachable, match=r"there is no .*absent"):
        ours.get("/")


def test_a_path_that_is_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="107 bytes"):
        client(tmp_path / ("x" * 100)).get("/")


@pytest.mark.parametrize(
    ("kind", "advice"), [("explicit", "see its log, and restart it"), ("service", "`systemctl status hubd` says which")]
)
def test_a_daemon_that_is_silent_is_given_up_with_what_it_may_mean(path: Path, kind: str, advice: str) -> None:
    done = threading.Event()

    def silent(_: Asked, __: socket.socket) -> bool:
        return not done.wait(30)

    with ScriptedDaemon(path, silent), client(path, kind=kind, silence_seconds=0.1) as ours:
        with pytest.raises(DaemonUnreachable, match=f"has said nothing for .* {advice}"):
            ours.get("/")
        done.set()


@pytest.mark.parametrize("body", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"])
def test_something_else_on_the_socket_is_told(path: Path, body: bytes) -> None:
    def script(_: Asked, connection: socket.socket) -> bool:
        connection.sendall(body)
        return False

    daemon, ours = ScriptedDaemon(path, script), client(path, timeout_seconds=0)
    with daemon, ours, pytest.raises((Internal, DaemonUnreachable)):
        ours.get("/")


def test_ctrl_c_ends_a_resolve_at_once_and_hangs_up(path: Path) -> None:
    left = threading.Event()

    def endless(asked: Asked, connection: socket.socket) -> bool:
        stream([progress()], cut=True)(asked, connection)
        os.kill(os.getpid(), signal.SIGINT)
        connection.settimeout(30)
        with suppress(ConnectionResetError):  # it hung up on something unread
            assert connection.recv(1) == b""
        left.set()
        return False

    # Who runs the tests in the background has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ScriptedDaemon(path, endless), client(path) as ours:
            with pytest.raises(KeyboardInterrupt):
                ours.resolve(HANDLE)
            assert left.wait(30)
    finally:
        signal.signal(signal.SIGINT, before)


class TestResolver:
    """What `resolve` does with an answer."""

    @pytest.fixture
    def cache(self, tmp_path: Path) -> HandmadeCache:
        return HandmadeCache(tmp_path / "cache")

    @pytest.fixture
    def resolver(self, path: Path) -> Iterator[Resolver]:
        made = Resolver({"HUBD_SOCKET": str(path), "HUBD_TIMEOUT": "0"})
        yield made
        # An error's traceback holds it in a circle, where the order of ends is anybody's guess.
        if made._daemon is not None:
            made._daemon.close()

    def answered(self, cache: HandmadeCache, **fields: Any) -> tuple[str, Any]:
        digest = cache.add("https://example.org/other/1")
        return digest, stream([resolved(cache.layout.module(digest), **fields)])

    def test_an_answered_module_is_leased(self, path: Path, cache: HandmadeCache, resolver: Resolver) -> None:
        digest, script = self.answered(cache)
        with ScriptedDaemon(path, script):
            assert resolver.resolve(HANDLE) == cache.layout.module(digest)
        assert is_leased(cache.layout, digest)

    def test_the_cache_of_a_daemon_that_did_not_tell_it_is_learned(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        digest, script = self.answered(cache)
        with ScriptedDaemon(path, script):
            resolver.resolve(HANDLE)
        cache.point(HANDLE, digest)
        assert resolver.resolve(HANDLE) == cache.layout.module(digest)

    def test_the_link_beside_the_socket_names_the_cache(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        digest = cache.add(HANDLE)
        path.with_name(path.name + ".cache").symlink_to(cache.root)
        assert resolver.resolve(HANDLE) == cache.layout.module(digest)

    def test_a_module_that_was_evicted_meanwhile_is_asked_for_again(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        digest, there = self.answered(cache)
        gone = stream([resolved(cache.layout.module("0" * 64))])
        with ScriptedDaemon(path, gone, gone, there) as daemon:
            assert resolver.resolve(HANDLE) == cache.layout.module(digest)
            assert len(daemon.asked) == 3

    @pytest.mark.parametrize("root", ["/nowhere/at/all", "CACHE"])
    def test_a_cache_that_is_not_there_asks_for_a_mount_at_the_same_path(
        self, path: Path, cache: HandmadeCache, resolver: Resolver, root: str
    ) -> None:
        module = f"{cache.root if root == 'CACHE' else root}/trees/{'0' * 64}/module"
        with ScriptedDaemon(path, stream([resolved(module)])) as daemon:
            with pytest.raises(CacheUnreachable, match="mount the cache at the same path"):
                resolver.resolve(HANDLE)
            assert len(daemon.asked) == 3

    def test_a_damaged_module_is_never_answered(self, path: Path, cache: HandmadeCache, resolver: Resolver) -> None:
        digest, script = self.answered(cache)
        cache.file(digest).unlink()
        with ScriptedDaemon(path, script), pytest.raises(CacheUnreachable, match=r"saved_model\.pb"):
            resolver.resolve(HANDLE)

    @pytest.mark.parametrize("module", ["/etc", "trees/x/module", "", "/c/trees/../trees/module", "/c/trees/0/module"])
    def test_a_path_that_is_no_module_of_a_cache_is_refused(self, path: Path, resolver: Resolver, module: str) -> None:
        with ScriptedDaemon(path, stream([resolved(module)])), pytest.raises(Internal):
            resolver.resolve(HANDLE)

    def test_an_answer_in_a_cache_that_others_can_write_to_is_refused(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        _, script = self.answered(cache)
        os.chmod(cache.root, 0o777)
        with ScriptedDaemon(path, script), pytest.raises(CacheUntrusted, match="chmod go-w"):
            resolver.resolve(HANDLE)

    def test_an_old_copy_that_the_daemon_could_not_renew_warns(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        _, script = self.answered(cache, outcome="stale", warnings=["the origin is away"])
        with ScriptedDaemon(path, script), pytest.warns(StaleModuleWarning, match="the origin is away"):
            resolver.resolve(HANDLE)

    def test_a_warning_that_is_an_error_leaves_no_lease(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        digest, script = self.answered(cache, outcome="stale", warnings=["the origin is away"])
        with ScriptedDaemon(path, script), warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(StaleModuleWarning):
                resolver.hold(HANDLE)
        assert not is_leased(cache.layout, digest)

    def test_other_warnings_of_the_daemon_are_passed_on(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        _, script = self.answered(cache, warnings=["content changed"])
        with ScriptedDaemon(path, script), pytest.warns(HubWarning, match="content changed"):
            resolver.resolve(HANDLE)

    def test_a_digest_that_differs_on_a_hit_is_left_to_the_daemon(
        self, path: Path, cache: HandmadeCache, resolver: Resolver
    ) -> None:
        cache.add(HANDLE)
        path.with_name(path.name + ".cache").symlink_to(cache.root)
        with ScriptedDaemon(path, problem("digest-mismatch", 409)) as daemon:
            with pytest.raises(DigestMismatch):
                resolver.resolve(HANDLE, digest="0" * 64)
            assert daemon.asked[0].body["digest"] == "0" * 64

    def test_offline_a_running_daemon_is_asked_for_what_it_has(self, path: Path, cache: HandmadeCache) -> None:
        digest, script = self.answered(cache)
        resolver = Resolver({"HUBD_SOCKET": str(path), "HUBD_OFFLINE": "1"})
        with ScriptedDaemon(path, script) as daemon:
            assert resolver.resolve(HANDLE) == cache.layout.module(digest)
            assert daemon.asked[0].body == {"handle": HANDLE, "offline": True}

    def test_with_an_old_copy_at_hand_an_absent_daemon_is_not_waited_for_long(
        self, path: Path, cache: HandmadeCache
    ) -> None:
        digest = cache.add(HANDLE, direct_for_seconds=-1)
        path.with_name(path.name + ".cache").symlink_to(cache.root)
        resolver = Resolver({"HUBD_SOCKET": str(path), "HUBD_TIMEOUT": "600"})
        started = time.monotonic()
        with pytest.warns(StaleModuleWarning, match="no daemon answers"):
            assert resolver.resolve(HANDLE) == cache.layout.module(digest)
        assert time.monotonic() - started < 30

    def test_an_old_copy_is_renewed_by_the_daemon(self, path: Path, cache: HandmadeCache, resolver: Resolver) -> None:
        old = cache.add(HANDLE, direct_for_seconds=-1)
        new = cache.add("https://example.org/other/1", name="new")
        path.with_name(path.name + ".cache").symlink_to(cache.root)
        with ScriptedDaemon(path, stream([resolved(cache.layout.module(new))])):
            assert resolver.resolve(HANDLE) == cache.layout.module(new)
        assert is_leased(cache.layout, new)
        assert not is_leased(cache.layout, old)
