"""Recency: a direct hit is told to the daemon once, in few bytes and without waiting, or lost without a word."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hubclient
from hubclient.contract import handles
from hubclient.contract.places import user_socket
from hubclient.finding import Place
from hubclient.resolver import Resolver
from hubclient.uses import GATHER_SECONDS, MAX_KEYS, Uses
from tests.support.handmade_cache import HandmadeCache
from tests.support.uids import ALICE, BOB, as_user, directory_of, needs_root, staying

HANDLES = [f"https://example.org/{name}/1" for name in "abcd"]
KEYS = [handles.key(handle) for handle in HANDLES]
CLIENT = Path(hubclient.__file__).parent.parent


class Listener:
    """A daemon's socket on which nobody answers; what was sent waits in it."""

    def __init__(self, path: str, backlog: int = 64) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(backlog)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def told(self) -> list[list[str]]:
        """The keys of each request that came; each was sent in one piece, and its connection closed."""
        requests: list[list[str]] = []
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return requests
            with connection:
                connection.setblocking(False)
                head, _, body = connection.recv(1 << 20).partition(b"\r\n\r\n")
                assert connection.recv(1) == b""
            first, *lines = head.decode().split("\r\n")
            assert first == "POST /v1/uses HTTP/1.1"
            headers = dict(line.split(": ") for line in lines)
            assert int(headers["Content-Length"]) == len(body)
            requests.append(json.loads(body)["keys"])


@pytest.fixture
def cache(tmp_path: Path) -> HandmadeCache:
    made = HandmadeCache(tmp_path / "cache")
    for handle in HANDLES:
        made.add(handle, name=handle)
    return made


@pytest.fixture
def listener(tmp_path: Path, cache: HandmadeCache) -> Iterator[Listener]:
    (tmp_path / "s.cache").symlink_to(cache.root)
    made = Listener(str(tmp_path / "s"))
    yield made
    made.close()


@pytest.fixture
def environ(listener: Listener) -> dict[str, str]:
    return {"HUBD_SOCKET": listener.path, "HUBD_TIMEOUT": "0", "PATH": os.defpath}


@pytest.fixture
def place(listener: Listener, cache: HandmadeCache) -> Place:
    return Place(listener.path, cache.root, "explicit")


def run(code: str, environ: dict[str, str]) -> str:
    """What a program of its own prints; it complains of nothing."""
    program = [sys.executable, "-P", "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(CLIENT)!r})\n{code}"]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


def test_a_direct_hit_is_told_once_however_often_it_is_used(listener: Listener, environ: dict[str, str]) -> None:
    resolver = Resolver(environ)
    for _ in range(3):
        resolver.resolve(HANDLES[0])
        for held in (resolver.hold(HANDLES[0]), resolver.look(HANDLES[0])):
            assert held is not None
            assert held.lease is not None
            held.lease.release()
    resolver.uses.flush()
    assert listener.told() == [[KEYS[0]]]


@pytest.mark.parametrize("ask", ["resolve", "hold", "look"])
def test_every_way_to_a_hit_is_told(listener: Listener, environ: dict[str, str], ask: str) -> None:
    answer = getattr(Resolver(environ), ask)(HANDLES[0])
    assert listener.told() == [[KEYS[0]]]
    if ask != "resolve":
        answer.lease.release()


def test_what_is_used_within_a_second_is_told_together(listener: Listener, place: Place) -> None:
    now = 100.0
    uses = Uses({}, clock=lambda: now)
    for key in KEYS[:3]:
        uses.report(place, key)
    assert listener.told() == [KEYS[:1]]
    now += GATHER_SECONDS
    uses.report(place, KEYS[3])
    assert listener.told() == [KEYS[1:]]


def test_what_is_gathered_is_told_when_the_process_ends(listener: Listener, environ: dict[str, str]) -> None:
    run(f"import hubclient\nfor handle in {HANDLES}: hubclient.resolve(handle)", environ)
    assert listener.told() == [KEYS[:1], KEYS[1:]]


def test_a_forked_child_tells_of_its_own_uses_and_never_of_its_parents(
    listener: Listener, environ: dict[str, str]
) -> None:
    code = f"""
import hubclient, os
a, b, c, _ = {HANDLES}
hubclient.resolve(a), hubclient.resolve(b)
if os.fork() == 0:
    hubclient.resolve(c)
    sys.exit()
os.wait()
"""
    run(code, environ)
    assert listener.told() == [KEYS[:1], KEYS[2:3], KEYS[1:2]]


def test_a_hit_imports_neither_http_nor_json_nor_sockets_to_tell(listener: Listener, environ: dict[str, str]) -> None:
    loaded = run(f"import hubclient; hubclient.resolve({HANDLES[0]!r}); print(*sys.modules)", environ).split()
    assert not {"http.client", "json", "socket", "subprocess", "threading"} & set(loaded)
    assert listener.told() == [KEYS[:1]]


def test_without_a_daemon_a_use_is_lost_without_a_word(listener: Listener, environ: dict[str, str]) -> None:
    listener.close()
    run(f"import hubclient\nfor handle in {HANDLES}: hubclient.resolve(handle)", environ)
    os.unlink(listener.path)
    run(f"import hubclient\nfor handle in {HANDLES}: hubclient.resolve(handle)", environ)


def test_a_daemon_that_lets_nobody_in_is_not_waited_for(tmp_path: Path, cache: HandmadeCache) -> None:
    full = Listener(str(tmp_path / "full"), backlog=0)
    uses = Uses({}, clock=iter(range(0, 1000, 10)).__next__)
    for key in KEYS:
        uses.report(Place(full.path, cache.root, "explicit"), key)
    assert full.told() == [KEYS[:1]]
    uses.flush()
    assert full.told() == [KEYS[1:]]
    full.close()


def test_what_nobody_takes_is_bounded(listener: Listener, place: Place, tmp_path: Path) -> None:
    uses = Uses({})
    nobody = Place(str(tmp_path / "nobody"), place.cache, "explicit")
    for number in range(3 * MAX_KEYS):
        uses.report(nobody, f"{number:064x}")
    os.link(listener.path, nobody.socket)
    uses.flush()
    uses.flush()
    (keys,) = listener.told()
    assert keys == [f"{number:064x}" for number in range(2 * MAX_KEYS, 3 * MAX_KEYS)]


def test_the_daemon_of_another_environment_is_told_at_the_end(cache: HandmadeCache, tmp_path: Path) -> None:
    elsewhere = Listener(str(tmp_path / "elsewhere"))
    cache.write_daemon_lock(elsewhere.path)
    uses = Uses({})
    uses.report(Place(user_socket(cache.root, {}), cache.root, "user"), KEYS[0])
    assert elsewhere.told() == []
    uses.flush()
    assert elsewhere.told() == [KEYS[:1]]
    elsewhere.close()


@needs_root
def test_nobody_is_told_who_may_not_be_talked_to() -> None:
    with directory_of(ALICE) as directory:
        run_directory = f"{directory}/run"
        socket_path = f"{run_directory}/s"
        os.mkdir(run_directory, 0o755)  # not private
        os.chown(run_directory, ALICE, ALICE)
        place = Place(socket_path, directory, "user")

        def report() -> None:
            Uses({}).report(place, KEYS[0])

        own = Listener(socket_path)
        os.chmod(socket_path, 0o666)
        as_user(ALICE, report)
        assert own.told() == []
        os.chmod(run_directory, 0o700)
        as_user(ALICE, report)
        assert own.told() == [KEYS[:1]]
        own.close()
        os.unlink(socket_path)
        with socket.socket(socket.AF_UNIX) as planted:
            planted.bind(socket_path)
            os.chmod(socket_path, 0o666)
            with staying(BOB, lambda: planted.listen()):  # whoever listens is who the kernel names
                as_user(ALICE, report)
                planted.setblocking(False)
                connection, _ = planted.accept()
                with connection:
                    assert connection.recv(1) == b""
