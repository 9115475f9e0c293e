"""What an administrator puts into the fleet's store, sees there and removes: over the real socket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract import handles
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.machines import BUCKET, Machines, fleet, staged
from tests.support.object_stores import S3Server
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive()
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_ARCHIVE = archive({**MODULE, "assets/other.txt": b"other"})


@pytest.fixture
def machines(tmp_path: Path, s3: S3Server) -> Machines:
    return Machines(tmp_path, s3)


@pytest.fixture
def one(machines: Machines) -> Iterator[Daemon]:
    with machines.machine("one", claim_timeout="2s") as running:  # what is younger is not pruned
        yield running


def push(daemon: Daemon, *wanted: str) -> list[dict[str, Any]]:
    """The lines but for the last, which adds them up."""
    *pushed, done = daemon.lines("POST", "/v1/fleet/push", {"handles": list(wanted)})
    outcomes = [line["outcome"] for line in pushed]
    assert done == {"event": "done", "done": True} | {
        outcome: outcomes.count(outcome) for outcome in ("uploaded", "there", "failed")
    }
    return pushed


def prune(daemon: Daemon, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *chosen, done = daemon.lines("POST", "/v1/fleet/prune", fields)
    return chosen, done


def test_what_is_cached_is_pushed_from_its_origin(machines: Machines, origin: Origin, one: Daemon) -> None:
    handle, fresh = origin.url("/m/1"), origin.serve("/fresh/1", Answer(OTHER_ARCHIVE))
    settings = one.config.read_text()
    one.config.write_text(settings.replace("claim_timeout", 'mode = "read-only"\nclaim_timeout'))
    wait_until(lambda: fleet(one)["mode"] == "read-only")
    origin.serve("/m/1", Answer(ARCHIVE))
    one.resolve(handle)
    one.config.write_text(settings)
    wait_until(lambda: fleet(one)["mode"] == "read-write")
    by_handle = {line["handle"]: line for line in push(one, handle, fresh)}
    assert by_handle[handle] == {
        "event": "pushed",
        "handle": handle,
        "key": handles.key(handle),
        "outcome": "uploaded",
        "digest": DIGEST,
        "archive_bytes": len(ARCHIVE),
        "code": None,
        "detail": None,
    }
    assert by_handle[fresh]["outcome"] == "uploaded"
    assert machines.object(f"archives/{DIGEST}") == ARCHIVE
    assert len(origin.asked("/m/1")) == 2
    assert [line["outcome"] for line in push(one, handle)] == ["there"]
    assert len(origin.asked("/m/1")) == 2
    machines.remove(f"archives/{DIGEST}")
    assert [line["outcome"] for line in push(one, handle)] == ["uploaded"], "a record alone is not enough"
    assert machines.object(f"archives/{DIGEST}") == ARCHIVE
    assert one.resolve(fresh)[1]["outcome"] == "hit", "what is pushed is here too"
    wait_until(lambda: staged(one) == [])


def test_a_push_is_under_way_as_any_fetch(machines: Machines, origin: Origin, one: Daemon) -> None:
    held = Answer(ARCHIVE, gate_after_bytes=100)
    handle = origin.serve("/m/1", held)
    with one.stream("/v1/fleet/push", {"handles": [handle]}) as lines:
        wait_until(lambda: any(fetch["received_bytes"] for fetch in one.request("GET", "/v1/fetches")[1]["fetches"]))
        (fetch,) = one.request("GET", "/v1/fetches")[1]["fetches"]
        assert (fetch["handle"], fetch["state"], fetch["waiters"]) == (handle, "transferring", 1)
        assert one.request("GET", "/v1/status")[1]["fetches"] == 1
        held.gate.set()
        assert next(lines)["outcome"] == "uploaded"
    assert one.request("GET", "/v1/fetches")[1]["fetches"] == []


def test_each_handle_that_cannot_be_pushed_is_told_why(machines: Machines, origin: Origin, one: Daemon) -> None:
    missing, bad = origin.serve("/m/1", Answer(status=404)), "https://user@host/m/1"
    by_handle = {line["handle"]: line for line in push(one, missing, bad, f"s3://{BUCKET}/m")}
    assert {line["outcome"] for line in by_handle.values()} == {"failed"}
    assert (by_handle[missing]["code"], by_handle[bad]["code"]) == ("upstream-not-found", "handle-invalid")
    assert by_handle[bad]["key"] is None
    assert by_handle[f"s3://{BUCKET}/m"]["code"] == "request-invalid"
    assert machines.record(missing) is None


def test_a_version_that_has_changed_is_not_pushed(machines: Machines, origin: Origin, one: Daemon) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    one.resolve(handle)
    machines.wait_until_shared(handle)
    machines.remove(f"handles/{handles.key(handle)}.json")
    origin.serve("/m/1", Answer(OTHER_ARCHIVE))
    (line,) = push(one, handle)
    assert (line["outcome"], line["code"]) == ("failed", "digest-mismatch")
    assert machines.record(handle) is None


def test_other_content_of_a_version_in_the_store_is_told(machines: Machines, origin: Origin, one: Daemon) -> None:
    handle, other = origin.serve("/m/1", Answer(ARCHIVE)), origin.serve("/m/2", Answer(OTHER_ARCHIVE))
    push(one, handle, other)
    record = machines.record(other)
    assert record is not None
    machines.put(f"handles/{handles.key(handle)}.json", json.dumps({**record, "handle": handle}).encode())
    (line,) = push(one, handle)
    assert (line["outcome"], line["code"]) == ("failed", "digest-mismatch")
    assert "both stay" in line["detail"]


def test_what_lies_in_the_store_is_told(machines: Machines, origin: Origin, one: Daemon) -> None:
    first, second = origin.serve("/m/1", Answer(ARCHIVE)), origin.serve("/m/2", Answer(OTHER_ARCHIVE))
    push(one, first, second)
    machines.put("readme.txt", b"somebody's")
    machines.put(f"handles/{'0' * 64}.json", b"no record")
    machines.remove(f"archives/{DIGEST}")
    *modules, done = one.lines("GET", "/v1/fleet/modules")
    assert {module["handle"]: module["has_archive"] for module in modules} == {first: False, second: True}
    assert [module["key"] for module in modules] == sorted(map(handles.key, (first, second)))
    assert all(0 <= module["age_seconds"] < 60 for module in modules)
    assert done == {
        "event": "done",
        "done": True,
        "modules": 2,
        "archive_bytes": len(OTHER_ARCHIVE),
        "foreign": 2,
        "claims": 0,
    }


def test_what_is_old_goes_record_first_and_what_is_not_hubds_stays(
    machines: Machines, origin: Origin, one: Daemon
) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    push(one, handle)
    machines.put("readme.txt", b"somebody's")
    record, path = f"handles/{handles.key(handle)}.json", f"archives/{DIGEST}"
    assert prune(one, older_than_seconds=3600) == (
        [],
        {"event": "done", "done": True, "removed": 0, "removed_bytes": 0},
    )

    def would_go() -> list[str]:
        return [line["kind"] for line in prune(one, older_than_seconds=1, dry_run=True)[0]]

    wait_until(lambda: would_go() == ["record", "archive"])
    assert machines.object(record) is not None
    chosen, done = prune(one, older_than_seconds=1)
    assert [(line["kind"], line["handle"], line["removed"]) for line in chosen] == [
        ("record", handle, True),
        ("archive", None, True),
    ]
    assert (done["removed"], done["removed_bytes"]) == (2, sum(line["size_bytes"] for line in chosen))
    assert (machines.object(record), machines.object(path)) == (None, None)
    assert machines.object("readme.txt") is not None
    assert one.resolve(handle)[1]["outcome"] == "hit"


def test_without_a_store_the_routes_say_so(daemon: Daemon) -> None:
    assert fleet(daemon) | {"mode": ""} == {
        "store": None,
        "mode": "",
        "state": "off",
        "trouble": None,
        "retry_in_seconds": None,
        "uploads": [],
        **dict.fromkeys(("found", "waited", "claimed", "alone", "uploaded", "downloaded_bytes", "uploaded_bytes"), 0),
    }
    asked = [
        daemon.request("GET", "/v1/fleet/modules"),
        daemon.request("POST", "/v1/fleet/push", {"handles": ["https://tfhub.dev/m/1"]}),
        daemon.request("POST", "/v1/fleet/prune", {"older_than_seconds": 1}),
    ]
    assert {(status, problem["code"], problem["detail"]) for status, problem in asked} == {
        (400, "request-invalid", "no [fleet] store is configured")
    }
