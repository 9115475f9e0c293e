"""What happens, told over the real socket to whom may know of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import uids
from tests.support.archives import archive
from tests.support.daemon import Daemon, UnixConnection
from tests.support.origin import Answer, Asked, Origin
from tests.support.service import Service
from tests.support.uids import ALICE, BOB

ARCHIVE = archive()
TOKEN = "kN7"
CAROL = 54303


@contextmanager
def watching(socket: Path, path: str = "/v1/events", *, uid: int | None = None) -> Iterator[Iterator[dict[str, Any]]]:
    """The events from now on, but for the lines that only say that the daemon is alive, with the eyes of this user."""
    connection = UnixConnection(str(socket))
    try:
        if uid is not None:
            os.seteuid(uid)  # whoever connects is the peer, for good
        try:
            connection.connect()
        finally:
            if uid is not None:
                os.seteuid(0)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        told = (event for line in answer if (event := json.loads(line))["event"] != "waiting")
        assert next(told)["event"] == "watching"
        yield told
    finally:
        connection.close()


def test_a_fetch_and_its_removal_are_told_as_they_happen(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    with watching(daemon.socket) as told:
        key = daemon.resolve(handle)[1]["key"]
        started, ended = next(told), next(told)
        assert (started["event"], started["handle"], started["prefetch"]) == ("fetch-started", handle, False)
        assert (ended["event"], ended["id"], ended["outcome"]) == ("fetch-ended", started["id"], "fetched")
        assert (ended["bytes"], ended["failed"]) == (len(ARCHIVE), False)
        daemon.request("DELETE", f"/v1/modules/{key}")
        gone = next(told)
        assert (gone["event"], gone["handle"], gone["reason"]) == ("evicted", handle, "removed")


def test_a_reload_is_told(daemon: Daemon) -> None:
    with watching(daemon.socket) as told:
        daemon.signal(signal.SIGHUP)
        event = next(told)
        assert (event["event"], event["problem"], event["restart_needed"]) == ("reloaded", None, [])


def test_damage_and_its_repair_are_told(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    path = Path(daemon.resolve(handle)[1]["path"])
    (path / "saved_model.pb").write_bytes(b"damaged")
    with watching(daemon.socket) as told:
        assert daemon.resolve(handle)[1]["outcome"] == "fetched"
        names = [next(told) for _ in range(4)]
    assert {event["event"] for event in names} == {"damaged", "fetch-started", "repaired", "fetch-ended"}
    assert {event["handle"] for event in names} == {handle}


def test_the_end_of_the_daemon_and_of_the_time_end_the_events(daemon: Daemon) -> None:
    with watching(daemon.socket, "/v1/events?seconds=0") as told:
        assert list(told) == []
    with watching(daemon.socket) as told:
        daemon.stop()
        assert list(told) == []


def test_bad_seconds_are_request_invalid(shared_daemon: Daemon) -> None:
    for stated in ("-1", "ten", "86401", "%C2%B2", "9" * 5000):
        assert shared_daemon.request("GET", f"/v1/events?seconds={stated}")[1]["code"] == "request-invalid"


@uids.needs_root
def test_nobody_is_told_of_what_another_one_fetches_in_private(origin: Origin) -> None:
    def private(asked: Asked) -> Answer:
        return Answer(ARCHIVE, etag='"1"') if asked.headers.get("Authorization") else Answer(b"sign in", 401)

    hidden, open_to_all = origin.serve("/private/1", private), origin.serve("/m/1", Answer(ARCHIVE))
    with (
        uids.directory_of(ALICE) as directory,
        Service(Path(directory)) as service,
        watching(service.socket, uid=BOB) as his,
        watching(service.socket, uid=CAROL) as hers,
        watching(service.socket) as all_of_it,
    ):
        assert service.resolve(BOB, hidden, TOKEN)[0] == 200
        assert service.resolve(BOB, open_to_all)[0] == 200
        assert [next(all_of_it)["handle"] for _ in range(4)] == 2 * [hidden] + 2 * [open_to_all]
        assert [next(his)["handle"] for _ in range(4)] == 2 * [hidden] + 2 * [open_to_all]
        # Hers begin with what everyone may know: that the origin gave it to somebody.
        first = next(hers)
        assert (first["event"], first["handle"]) == ("fetch-ended", open_to_all)
