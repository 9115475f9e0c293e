"""Who may ask, and what one user may have of the daemon, with real users on a real socket.

The daemon is ALICE's and serves others, as the service does; BOB and CAROL use it, and root administrates.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hubclient.cache import Cache
from hubclient.contract import handles
from tests.support import as_user, uids
from tests.support.archives import MODULE, archive
from tests.support.daemon import UnixConnection, ask
from tests.support.origin import Answer, Asked, Origin
from tests.support.service import Service
from tests.support.uids import ALICE, BOB
from tests.support.waiting import wait_until

pytestmark = uids.needs_root

CAROL = 54303
DAVE = 54304
STAFF = 54350
ROOT = 0
RESTRICTED = f"[access]\nusers = [{BOB}]\ngroups = [{STAFF}]\n"


@contextmanager
def serving(sections: str = "", network: str = "") -> Iterator[Service]:
    """`network`: lines of that section; `sections`: others."""
    directory = Path(tempfile.mkdtemp(prefix="hubd-access-"))
    try:
        os.chown(directory, ALICE, ALICE)
        directory.chmod(0o755)
        with Service(directory, f"{network}\n{sections}") as service:
            yield service
    finally:
        shutil.rmtree(directory)


def code(answer: tuple[int, Any]) -> str:
    return str(answer[1]["code"])


def status_of(service: Service, uid: int) -> dict[str, Any]:
    status, answer = service.request(uid, "GET", "/v1/status")
    assert status == 200, answer
    return dict(answer)


class Gated:
    """Handles whose archives stall, after some bytes or before any, until they are let go."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._answers: list[Answer] = []

    def serve(self, name: str, *, after_bytes: int = 0, size_bytes: int = 0) -> str:
        body = archive({**MODULE, "assets/name.txt": name.encode(), "assets/random": Random(1).randbytes(size_bytes)})
        answer = Answer(body, gate_after_bytes=after_bytes)
        self._answers.append(answer)
        return self._origin.serve(f"/m/{name}", answer)

    def let_go(self) -> None:
        for answer in self._answers:
            answer.gate.set()


@pytest.fixture
def gated(origin: Origin) -> Iterator[Gated]:
    gated = Gated(origin)
    yield gated
    gated.let_go()


@contextmanager
def asking(gated: Gated) -> Iterator[Callable[..., Future[Any]]]:
    """Starts requests that wait; all are let go at the end."""
    with ThreadPoolExecutor(16) as threads:
        try:
            yield threads.submit
        finally:
            gated.let_go()


def test_levels_and_limits_are_told_to_whom_they_are_about(gated: Gated) -> None:
    with serving() as service, asking(gated) as start:
        handle = gated.serve("one", after_bytes=100)
        waiting = start(service.resolve, BOB, handle)
        wait_until(lambda: service.request(ROOT, "GET", "/v1/fetches")[1]["fetches"] != [])
        also = start(service.resolve, CAROL, handle)
        wait_until(lambda: service.request(ROOT, "GET", "/v1/fetches")[1]["fetches"][0]["users"] == [BOB, CAROL])
        assert service.request(BOB, "GET", "/v1/fetches")[1]["fetches"][0]["users"] == [BOB]
        mine = status_of(service, BOB)
        assert mine["access"] == {"level": "user", "restricted": False}
        assert [(line["uid"], line["fetches"], line["answers"]) for line in mine["users"]] == [(BOB, 1, 0)]
        wait_until(lambda: status_of(service, BOB)["users"][0]["in_flight_bytes"] > 0)
        gated.let_go()
        assert waiting.result()[0] == also.result()[0] == 200
        assert service.resolve(CAROL, handle)[0] == 200
        told = status_of(service, ROOT)
        assert told["access"] == {"level": "admin", "restricted": False}
        lines = {line["uid"]: line for line in told["users"]}
        assert (lines[BOB]["fetches"], lines[BOB]["hits"], lines[BOB]["answers"]) == (0, 0, 1)
        assert (lines[CAROL]["hits"], lines[CAROL]["answers"], lines[CAROL]["in_flight_bytes"]) == (1, 2, 0)


def test_one_more_fetch_than_a_user_may_start_is_too_busy_and_joining_is_free(origin: Origin, gated: Gated) -> None:
    with serving("[limits]\nuser_fetches = 2\nuser_prefetches = 1\n") as service, asking(gated) as start:
        first, second, third, fourth = (gated.serve(str(number)) for number in range(4))
        for handle in (first, second):
            start(service.resolve, BOB, handle)
        wait_until(lambda: len(service.request(ROOT, "GET", "/v1/fetches")[1]["fetches"]) == 2)

        def resolve() -> tuple[int, str | None, Any]:
            connection = UnixConnection(str(service.socket))
            connection.request("POST", "/v1/resolve", json.dumps({"handle": third}))
            answer: http.client.HTTPResponse = connection.getresponse()
            return answer.status, answer.getheader("Retry-After"), json.loads(answer.read())

        status, retry_after, problem = uids.as_user(BOB, resolve)
        assert (status, retry_after, problem["code"], problem["retry_after_seconds"]) == (429, "2", "too-busy", 2)
        assert "limits.user_fetches" in problem["detail"]
        prefetched = service.request(BOB, "POST", "/v1/prefetch", {"handles": [third, fourth]})[1]["fetches"]
        assert [one["problem"] and one["problem"]["code"] for one in prefetched] == [None, "too-busy"]
        joined = start(service.resolve, BOB, third)  # which is the prefetch's
        others = start(service.resolve, CAROL, fourth)
        administrators = [start(service.resolve, ROOT, gated.serve(f"root{number}")) for number in range(3)]
        wait_until(lambda: len(service.request(ROOT, "GET", "/v1/fetches")[1]["fetches"]) == 7)
        gated.let_go()
        for outcome in (joined, others, *administrators):
            assert outcome.result()[0] == 200
        assert service.resolve(BOB, origin.serve("/m/afterwards", Answer(archive())))[0] == 200


def test_whoever_fills_its_turns_with_servers_that_stall_keeps_nobody_else_waiting(
    origin: Origin, gated: Gated
) -> None:
    with serving() as service, asking(gated) as start:
        for number in range(8):
            start(service.resolve, BOB, gated.serve(str(number)))
        wait_until(lambda: status_of(service, ROOT)["queue"] == 5)  # of 4 turns one is kept for others
        quick = origin.serve("/m/quick", Answer(archive()))
        assert service.resolve(CAROL, quick)[1]["outcome"] == "fetched"
        assert status_of(service, BOB)["users"][0]["queued"] == 5


def test_nor_does_whoever_joins_what_an_administrator_prefetches(origin: Origin, gated: Gated) -> None:
    with serving(network="concurrent_fetches = 2") as service, asking(gated) as start:
        start(service.resolve, BOB, gated.serve("0"))
        origin.wait_until_asked("/m/0")
        wanted = gated.serve("1")
        service.request(ROOT, "POST", "/v1/prefetch", {"handles": [wanted]})
        start(service.resolve, BOB, wanted)
        wait_until(lambda: status_of(service, ROOT)["waiters"] == 3)
        assert status_of(service, ROOT)["queue"] == 1
        assert service.resolve(CAROL, origin.serve("/m/quick", Answer(archive())))[1]["outcome"] == "fetched"


def test_a_user_may_have_so_many_bytes_in_flight_whatever_a_server_announces(origin: Origin, gated: Gated) -> None:
    limits = '[limits]\nuser_bytes = "4MB"\n'
    with serving(limits) as service, asking(gated) as start:
        # What is announced is what counts, before anything of it comes, or anything goes for it.
        announced = origin.serve("/m/announced", Answer(archive(), announced_bytes=50_000_000, gate_after_bytes=100))
        assert code(service.resolve(BOB, announced)) == "archive-too-large"
        first = gated.serve("first", after_bytes=100, size_bytes=2_500_000)
        second = origin.serve("/m/second", Answer(archive({**MODULE, "assets/random": Random(2).randbytes(1_700_000)})))
        start(service.resolve, BOB, first)
        wait_until(lambda: status_of(service, BOB)["users"][0]["in_flight_bytes"] > 1_000_000)
        refused = service.resolve(BOB, second)
        assert (refused[0], code(refused)) == (429, "too-busy")
        assert "limits.user_bytes" in refused[1]["detail"]
        # It says nothing of the module: others may have it, at once.
        assert service.resolve(CAROL, second)[0] == 200


def test_a_limit_of_whoever_started_it_is_nobody_elses(origin: Origin, gated: Gated) -> None:
    limits = '[limits]\nuser_bytes = "1MB"\n'
    with serving(limits) as service, asking(gated) as start:
        body = archive({**MODULE, "assets/random": Random(3).randbytes(3_000_000)})
        gate = threading.Event()

        def late(_: Asked) -> Answer:
            gate.wait(20)
            return Answer(body)

        handle = origin.serve("/m/large", late)
        bobs = start(service.resolve, BOB, handle)
        origin.wait_until_asked("/m/large")
        roots = start(service.resolve, ROOT, handle)
        wait_until(lambda: service.request(ROOT, "GET", "/v1/fetches")[1]["fetches"][0]["waiters"] == 2)
        gate.set()
        assert code(bobs.result()) == "archive-too-large"
        assert roots.result()[0] == 200


def finds(service: Service, uid: int, handle: str, groups: Sequence[int] = ()) -> bool:
    """Whether this user gets the module from the cache alone."""

    def look() -> bool:
        tree = Cache(str(service.cache), frozenset({ROOT, ALICE})).look(handles.key(handle))
        return tree is not None and os.path.exists(f"{tree.path}/saved_model.pb")

    return uids.as_user(uid, look, groups)


def test_whom_the_settings_name_may_ask_and_use_the_cache_and_nobody_else(origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    body = {"handle": handle}
    with serving(RESTRICTED) as service:
        assert service.resolve(BOB, handle)[0] == 200
        assert service.request(CAROL, "POST", "/v1/resolve", body, groups=[STAFF])[1]["outcome"] == "hit"
        for method, path in (
            ("POST", "/v1/resolve"),
            ("POST", "/v1/prefetch"),
            ("GET", "/v1/modules"),
            ("GET", "/v1/status"),
            ("GET", "/v1/openapi.json"),
            ("DELETE", f"/v1/modules/{handles.key(handle)}"),
        ):
            status, problem = service.request(DAVE, method, path, body if method == "POST" else None)
            assert (status, problem["code"]) == (403, "access-denied"), path
        assert code(service.request(CAROL, "GET", "/v1/status")) == "access-denied", "the group is gone"
        assert service.log.read_text().count(f"uid {DAVE} (pid ") == 1
        assert status_of(service, BOB)["access"] == {"level": "user", "restricted": True}
        assert code(service.request(BOB, "DELETE", f"/v1/modules/{handles.key(handle)}")) == "access-denied"

        assert service.stop() == 0
        assert finds(service, BOB, handle)
        assert finds(service, CAROL, handle, [STAFF])
        assert not finds(service, DAVE, handle)
        assert not finds(service, CAROL, handle)


def test_who_is_not_named_hears_from_the_client_whom_to_ask(origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    program = f"""
import hubclient
try:
    hubclient.resolve({handle!r})
except hubclient.AccessDenied as error:
    print(error)
"""
    with serving(RESTRICTED) as service:
        assert service.resolve(BOB, handle)[0] == 200
        told = subprocess.run(
            as_user.command(DAVE, sys.executable, "-W", "error", "-c", program),
            cwd=as_user.REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.defpath, "HOME": "/", "HUBD_SOCKET": str(service.socket), "HUBD_TIMEOUT": "5"},
        )
    assert "ask an administrator to name you" in told.stdout, told.stderr


def test_what_was_restricted_is_open_again_at_the_next_start_without_the_setting(origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with serving(RESTRICTED) as service:
        assert service.resolve(BOB, handle)[0] == 200
        assert not finds(service, DAVE, handle)
        assert service.stop() == 0
        service.config.write_text(service.config.read_text().replace(RESTRICTED, ""))
        service.start()
        assert finds(service, DAVE, handle)
        assert service.resolve(DAVE, handle)[1]["outcome"] == "hit"


def test_who_is_taken_out_of_the_settings_is_kept_out_from_the_reload_on(origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with serving() as service, ThreadPoolExecutor(1) as threads:
        everybody = service.config.read_text()

        def ask_until_refused() -> tuple[Any, Any]:
            """All over one connection."""
            connection = UnixConnection(str(service.socket))
            answers: list[Any] = []

            def is_refused() -> bool:
                connection.request("GET", "/v1/status")
                answers.append(json.loads(connection.getresponse().read()))
                return "code" in answers[-1]

            wait_until(is_refused)
            return answers[0]["access"], answers[-1]["code"]

        assert service.resolve(BOB, handle)[0] == 200
        assert finds(service, BOB, handle)
        asking = threads.submit(uids.as_user, BOB, ask_until_refused)
        wait_until(lambda: bool(status_of(service, ROOT)["connections"] >= 2))
        service.config.write_text(f"{everybody}[access]\nusers = [{CAROL}]\n")
        assert asking.result() == ({"level": "user", "restricted": False}, "access-denied")
        assert not finds(service, BOB, handle)
        assert service.resolve(CAROL, handle)[1]["outcome"] == "hit"
        service.config.write_text(everybody)
        wait_until(lambda: service.resolve(BOB, handle)[0] == 200)
        assert finds(service, BOB, handle)


def test_named_administrators_may_change_what_others_may_only_use(origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with serving(f"[access]\nadmin_users = [{BOB}]\nadmin_groups = [{STAFF}]\n") as service:
        assert service.resolve(DAVE, handle)[0] == 200
        pin = "PUT", f"/v1/modules/{handles.key(handle)}/pin"
        assert code(service.request(DAVE, *pin)) == "access-denied"
        assert service.request(BOB, *pin)[0] == 200
        assert service.request(CAROL, *pin, groups=[STAFF])[0] == 200
        assert status_of(service, BOB)["access"] == {"level": "admin", "restricted": False}


def test_one_user_leaves_connections_to_the_others() -> None:
    with serving("[api]\nconnections = 8\n") as service:
        kept = []

        def fill() -> tuple[int, Any]:
            for _ in range(6):
                connection = UnixConnection(str(service.socket))
                connection.connect()
                kept.append(connection)
            return ask(service.socket, "GET", "/v1/status")

        with uids.staying(BOB, fill) as refused:
            assert (refused[0], code(refused)) == (429, "too-busy")
            assert status_of(service, CAROL)["connections"] == 7
