"""Requests that are made up from the OpenAPI document, valid and invalid ones, by users of each level.

Law: no answer is a server's error or differs from the document, nothing hangs, and nothing is left behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import fuzzing, uids
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.remains import descriptors, memory_bytes
from tests.support.service import Service
from tests.support.uids import ALICE, BOB, needs_root
from tests.support.waiting import wait_until

ARCHIVE = archive({"saved_model.pb": b"\x08\x01\x12\x00"})
# Invented handles are refused by the name of their host: none is looked up.
NETWORK = 'allowed_hosts = ["127.0.0.1"]\n'


class Tally:
    """What was answered, by operation."""

    def __init__(self) -> None:
        self.statuses: dict[str, Counter[int]] = {}
        self.codes: dict[str, Counter[Any]] = {}

    def __call__(self, operation: str, status: int, code: str | None) -> None:
        self.statuses.setdefault(operation, Counter())[status] += 1
        self.codes.setdefault(operation, Counter())[code] += 1


def known(resolve: Callable[[], str]) -> dict[str, Callable[[], str]]:
    """The path parameters that exist: a module's key, of a module that is there (again)."""
    return {"key": resolve}


@pytest.mark.parametrize("examples", [8, pytest.param(200, marks=[pytest.mark.thorough, pytest.mark.timeout(900)])])
def test_an_administrators_made_up_requests_break_nothing(tmp_path: Path, origin: Origin, examples: int) -> None:
    handle, tally = origin.serve("/m/1", Answer(ARCHIVE)), Tally()
    with Daemon(tmp_path, config=f"[network]\nretries = 0\n{NETWORK}") as daemon:

        def play(examples: int) -> None:
            there = known(lambda: str(daemon.resolve(handle)[1]["key"]))
            fuzzing.play(daemon.socket, tally, examples=examples, known=there)

        play(2)
        files, memory = descriptors(daemon), memory_bytes(daemon)
        play(examples)
        wait_until(lambda: daemon.request("GET", "/v1/fetches")[1]["fetches"] == [])
        wait_until(lambda: descriptors(daemon) <= files)
        assert memory_bytes(daemon) < memory + (16 << 20)
        document = daemon.request("GET", "/v1/openapi.json")[1]
        assert len(tally.statuses) == sum(map(len, document["paths"].values()))
        never_done = [name for name, statuses in tally.statuses.items() if not any(status < 300 for status in statuses)]
        # Handles of the one host that may be asked are not invented by chance, nor are ids of fetches; and no fleet is
        # configured.
        fleets = {"GET /v1/fleet/modules", "POST /v1/fleet/push", "POST /v1/fleet/prune"}
        assert set(never_done) <= {"POST /v1/resolve", "GET /v1/fetches/{id}", "DELETE /v1/fetches/{id}"} | fleets
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.resolve(handle)[0] == 200
        assert daemon.stop() == 0


@needs_root
def test_another_users_made_up_requests_change_nothing(origin: Origin) -> None:
    handle, tally = origin.serve("/m/1", Answer(ARCHIVE)), Tally()
    with uids.directory_of(ALICE) as place, uids.directory_of(BOB) as bobs, Service(Path(place), NETWORK) as service:
        key = service.resolve(0, handle)[1]["key"]
        with uids.staying(BOB, lambda: fuzzing.relay(Path(bobs, "relay"), service.socket)) as relay:
            fuzzing.play(relay, tally, examples=8, known=known(lambda: str(key)))
        document = service.request(0, "GET", "/v1/openapi.json")[1]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                codes = tally.codes[f"{method.upper()} {path}"]
                if operation["x-access-level"] == "admin":
                    assert set(codes) == {"access-denied"}, path
                else:
                    assert set(codes) != {"access-denied"}, path
        assert service.resolve(0, handle)[1]["outcome"] == "hit"
        assert "Traceback" not in service.log.read_text()
        service.stop()
