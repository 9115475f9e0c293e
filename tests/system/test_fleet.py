"""Machines that share one bucket: daemons with caches of their own, and a store that speaks S3."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hubclient.contract import handles
from tests.support.archives import MODULE, archive, made
from tests.support.daemon import Daemon
from tests.support.front import Front
from tests.support.machines import BUCKET, Machines, came, fleet, staged
from tests.support.origin import Answer, Asked, Origin
from tests.support.waiting import wait_until

SECRET = "kN7-tell_nobody"
OWN = {"type": "bearer", "value": SECRET}
READ_ONLY = 'mode = "read-only"'


@pytest.fixture(scope="module")
def third(machines: Machines) -> Iterator[Daemon]:
    with machines.machine("third") as running:
        yield running


def share(machines: Machines, daemon: Daemon, handle: str) -> None:
    """The machine fetches it for all."""
    assert came(daemon, handle).tier == "origin"
    machines.wait_until_shared(handle)


def test_what_one_machine_fetched_the_next_has_without_the_origin(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon
) -> None:
    body, digest = made()
    handle = origin.serve("/m/1", Answer(body, etag='"e"', ranges=True))
    before, before_other = fleet(one), fleet(other)
    share(machines, one, handle)
    origin.serve("/m/1", Answer(status=404))
    assert came(other, handle) == ("fetched", "fleet", digest)
    assert came(other, handle) == ("hit", "local", digest)
    assert len(origin.asked("/m/1")) == 1
    assert machines.object(f"archives/{digest}") == body
    told = other.request("GET", f"/v1/modules/{handles.key(handle)}")[1]
    assert (told["origin"], told["etag"]) == ("127.0.0.1", '"e"'), "as the origin said"
    wait_until(lambda: staged(one) == [] and fleet(one)["uploads"] == [])

    def more(name: str, now: dict[str, int], then: dict[str, int]) -> int:
        return now[name] - then[name]

    assert [more(name, fleet(one), before) for name in ("claimed", "uploaded")] == [1, 1]
    assert more("uploaded_bytes", fleet(one), before) == len(body)
    assert more("found", fleet(other), before_other) == 1
    assert more("downloaded_bytes", fleet(other), before_other) == len(body)


def test_a_directory_to_which_an_origin_leads_is_not_shared(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon
) -> None:
    for path, data in MODULE.items():
        machines.store.put(BUCKET, f"elsewhere/m/1/{path}", data, public=True)
    handle = origin.serve("/m/1", leads_to_a_bucket)
    digests = set()
    for machine in (one, other):
        digests.add(came(machine, handle).digest)
        wait_until(lambda: (machines.claim(handle) or {}).get("phase") == "failed")  # and nobody waits for it
    assert len(digests) == 1
    assert machines.record(handle) is None
    assert machines.object(f"archives/{digests.pop()}") is None


def leads_to_a_bucket(asked: Asked) -> Answer:
    if "tf-hub-format=uncompressed" in asked.target:
        return Answer(status=303, headers={"Location": f"s3://{BUCKET}/elsewhere/m/1"})
    return Answer(status=406)


def test_machines_that_ask_together_ask_the_origin_once(machines: Machines, origin: Origin, one: Daemon) -> None:
    body, digest = made()
    answer = Answer(body, gate_after_bytes=len(body) // 2)
    handle = origin.serve("/m/1", answer)
    with machines.machine("a", network="concurrent_fetches = 1") as waiting, ThreadPoolExecutor() as pool:
        first = pool.submit(came, one, handle)
        origin.wait_until_asked("/m/1")
        second = pool.submit(came, waiting, handle)
        wait_until(lambda: [f["state"] for f in waiting.request("GET", "/v1/fetches")[1]["fetches"]] == ["waiting"])
        assert came(waiting, origin.serve("/quick/1", Answer(made().body))).tier == "origin", "who waits has no turn"
        answer.gate.set()
        assert first.result() == ("fetched", "origin", digest)
        assert second.result() == ("fetched", "fleet", digest)
        assert fleet(waiting)["waited"] == 1
    assert len(origin.asked("/m/1")) == 1


def test_a_client_does_not_wait_for_another_machines_slow_prefetch(
    machines: Machines, origin: Origin, other: Daemon
) -> None:
    body = archive({**MODULE, "assets/large": random.Random(1).randbytes(6_000_000)})
    handle = origin.serve("/m/1", Answer(body))
    with machines.machine("a", network='prefetch_max_rate = "100KB/s"') as slow:
        slow.request("POST", "/v1/prefetch", {"handles": [handle]})
        wait_until(lambda: (machines.claim(handle) or {}).get("prefetch", False))
        assert came(other, handle).tier == "origin", "the prefetch takes a minute"
        machines.wait_until_shared(handle)
        assert [fetch["handle"] for fetch in slow.request("GET", "/v1/fetches")[1]["fetches"]] == [handle], "it goes on"
    assert len(origin.asked("/m/1")) == 2


@pytest.mark.parametrize("damage", ["a byte", "short", "gone"])
def test_a_damaged_archive_costs_nobody_the_module_and_is_replaced(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon, third: Daemon, damage: str
) -> None:
    body, digest = made()
    handle, path = origin.serve("/m/1", Answer(body)), f"archives/{digest}"
    share(machines, one, handle)
    match damage:
        case "a byte":  # of gzip's header, by which no unpacker notices: the digest alone tells
            machines.put(path, bytes([*body[:9], body[9] ^ 1, *body[10:]]))
        case "short":
            machines.put(path, body[:-9])
        case _:
            machines.remove(path)
    assert came(other, handle) == ("fetched", "origin", digest)
    wait_until(lambda: machines.object(path) == body)
    machines.wait_until_shared(handle)
    assert came(third, handle) == ("fetched", "fleet", digest)
    assert len(origin.asked("/m/1")) == 2
    assert f"{handle}: the fleet's archive cannot be used" in other.log.read_text()


def test_a_demanded_digest_that_the_fleet_has_not_is_told_without_a_download(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon
) -> None:
    body, digest = made()
    handle = origin.serve("/m/1", Answer(body))
    share(machines, one, handle)
    before = fleet(other)["downloaded_bytes"]
    status, problem = other.resolve(handle, digest=made().digest)
    assert (status, problem["code"], digest in problem["detail"]) == (409, "digest-mismatch", True)
    assert fleet(other)["downloaded_bytes"] == before
    assert came(other, handle, digest=digest).tier == "fleet"
    assert len(origin.asked("/m/1")) == 1


def test_a_demanded_digest_of_what_may_change_is_asked_of_the_origin(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon, third: Daemon
) -> None:
    handle, (newer, digest) = origin.serve("/m", Answer(made().body)), made()
    share(machines, one, handle)
    origin.serve("/m", Answer(newer))
    assert came(other, handle, digest=digest) == ("fetched", "origin", digest)
    wait_until(lambda: (machines.record(handle) or {}).get("digest") == digest)
    assert came(third, handle, digest=digest) == ("fetched", "fleet", digest)


def test_a_version_keeps_the_content_that_is_here(machines: Machines, origin: Origin, one: Daemon) -> None:
    body, digest = made()
    handle, wrong = origin.serve("/m/1", Answer(body, etag='"1"')), made()
    with machines.machine("a", fleet=READ_ONLY) as alone:
        assert came(alone, handle).digest == digest
        origin.serve("/m/1", Answer(wrong.body, etag='"2"'))
        share(machines, one, handle)
        status, problem = alone.resolve(handle, digest=wrong.digest)
        assert (status, problem["code"]) == (409, "digest-mismatch")
        assert came(alone, handle) == ("hit", "local", digest)


def test_what_is_fresh_in_the_fleet_confirms_a_copy_that_is_not(
    machines: Machines, origin: Origin, other: Daemon
) -> None:
    body, digest = made()
    handle = origin.serve("/m", Answer(body, etag='"1"'))
    with machines.machine("a", network='revalidate_after = "0s"') as eager:
        share(machines, eager, handle)
        record = machines.record(handle)
        assert came(eager, handle) == ("hit", "local", digest)
        assert len(origin.asked("/m")) == 2
        wait_until(lambda: machines.claim(handle) is None)
        assert machines.record(handle) == record, "nothing but its age has changed"
    assert came(other, handle).tier == "fleet"
    file = other.cache / "handles" / f"{handles.key(handle)}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "fetched_at": "2026-01-01T00:00:00Z"}))
    found = fleet(other)["found"]
    assert came(other, handle) == ("hit", "local", digest)
    assert (fleet(other)["found"], len(origin.asked("/m"))) == (found + 1, 2)
    assert came(other, handle) == ("hit", "local", digest)
    assert fleet(other)["found"] == found + 1, "the copy is fresh again"


def test_what_the_fleet_has_is_asked_about_where_it_is_old(machines: Machines, origin: Origin, one: Daemon) -> None:
    """A machine that has no copy asks with the validators of the fleet's, and takes that."""
    (body, digest), newer, always = made(), made(), 'revalidate_after = "0s"'
    handle = origin.serve("/m", Answer(body, etag='"1"'))
    share(machines, one, handle)
    with machines.machine("a", network=always) as first, machines.machine("b", network=always) as second:
        assert came(first, handle) == ("fetched", "fleet", digest)
        assert [asked.headers.get("If-None-Match") for asked in origin.asked("/m")] == [None, '"1"']
        machines.wait_until_shared(handle)
        origin.serve("/m", Answer(newer.body, etag='"2"'))
        assert came(second, handle) == ("fetched", "origin", newer.digest)
        wait_until(lambda: (machines.record(handle) or {}).get("digest") == newer.digest)


def test_a_damaged_archive_that_is_still_the_origins_is_replaced(
    machines: Machines, origin: Origin, one: Daemon
) -> None:
    body, digest = made()
    handle, path = origin.serve("/m", Answer(body, etag='"1"')), f"archives/{digest}"
    share(machines, one, handle)
    machines.put(path, bytes([*body[:99], body[99] ^ 1, *body[100:]]))
    with machines.machine("a", network='revalidate_after = "0s"') as first:
        assert came(first, handle) == ("fetched", "origin", digest)
        assert [asked.headers.get("If-None-Match") for asked in origin.asked("/m")] == [None, '"1"', None]
        wait_until(lambda: machines.object(path) == body)


def test_what_a_callers_credential_opens_is_never_in_the_fleet(machines: Machines, origin: Origin, one: Daemon) -> None:
    body, digest = made()

    def private(asked: Asked) -> Answer:
        return Answer(body) if asked.headers.get("Authorization") == f"Bearer {SECRET}" else Answer(status=401)

    handle, claimed = origin.serve("/private/1", private), fleet(one)["claimed"]
    assert came(one, handle, credential=OWN).outcome == "fetched"
    assert fleet(one)["claimed"] == claimed
    assert machines.record(handle) is None
    assert machines.object(f"archives/{digest}") is None


@pytest.mark.parametrize("shares", [False, True])
def test_what_the_machines_credential_opens_is_shared_where_the_settings_say_so(
    machines: Machines, origin: Origin, other: Daemon, tmp_path: Path, shares: bool
) -> None:
    body, digest = made()
    file = tmp_path / "token"
    file.write_text(SECRET)
    file.chmod(0o600)
    more = f'[[credential]]\nhost = "127.0.0.1:{origin.port}"\ntype = "bearer"\nfile = "{file}"\n'
    handle = origin.serve("/m/1", Answer(body))
    with machines.machine("a", fleet=f"share_credentialed = {str(shares).lower()}", more=more) as trusted:
        assert came(trusted, handle) == ("fetched", "origin", digest)
        if shares:
            machines.wait_until_shared(handle)
        else:
            wait_until(lambda: (machines.claim(handle) or {}).get("phase") == "failed")
            assert machines.record(handle) is None
        assert came(other, handle) == ("fetched", "fleet" if shares else "origin", digest)


def test_an_object_store_s_own_modules_are_not_put_into_another_one(machines: Machines, one: Daemon) -> None:
    body, digest = made()
    machines.put("elsewhere/m.tar.gz", body)
    claimed = fleet(one)["claimed"]
    assert came(one, f"s3://{BUCKET}/{machines.prefix}/elsewhere/m.tar.gz") == ("fetched", "origin", digest)
    assert fleet(one)["claimed"] == claimed


def test_a_machine_that_only_reads_writes_nothing(machines: Machines, origin: Origin, one: Daemon) -> None:
    (body, digest), unshared = made(), made()
    handle = origin.serve("/m/1", Answer(body))
    share(machines, one, handle)
    with (
        Front(machines.store.port) as front,
        machines.machine("a", endpoint=front.endpoint, fleet=READ_ONLY) as reader,
    ):
        assert came(reader, handle) == ("fetched", "fleet", digest)
        assert came(reader, origin.serve("/m/2", Answer(unshared.body))) == ("fetched", "origin", unshared.digest)
        assert (fleet(reader)["mode"], fleet(reader)["state"]) == ("read-only", "ok")
        problem = reader.request("POST", "/v1/fleet/push", {"handles": [handle]})[1]
        assert (problem["code"], "read-only" in problem["detail"]) == ("request-invalid", True)
        assert reader.stop() == 0
        assert {request.method for request in front.asked} == {"GET"}


def test_a_reload_switches_the_fleet_off_and_on(machines: Machines, origin: Origin) -> None:
    with machines.machine("a") as one:
        settings, name = one.config.read_text(), f'store = "s3://{BUCKET}/{machines.prefix}"\nclaim'
        assert name in settings
        share(machines, one, origin.serve("/m/1", Answer(made().body)))
        one.config.write_text(settings.replace(name, "claim"))
        wait_until(lambda: fleet(one)["state"] == "off")
        unshared = origin.serve("/m/2", Answer(made().body))
        assert came(one, unshared).tier == "origin"
        one.config.write_text(settings)
        wait_until(lambda: fleet(one)["state"] == "ok")
        share(machines, one, origin.serve("/m/3", Answer(made().body)))
        assert machines.record(unshared) is None
        assert fleet(one)["claimed"] == 2, "figures go on"


def test_status_figures_and_log_tell_of_the_fleet(machines: Machines, origin: Origin, one: Daemon) -> None:
    handle = origin.serve("/m/1", Answer(made().body))
    share(machines, one, handle)
    with machines.machine("a", more='[log]\nformat = "json"\n') as other:
        came(other, handle)
        status = other.request("GET", "/v1/status")[1]
        assert (status["fleet"]["state"], status["fleet"]["found"]) == ("ok", 1)
        assert status["counters"]["answers_by_tier"] == {"fleet": 1}
        entries = [json.loads(line) for line in other.log.read_text().splitlines()]
        (ended,) = (entry for entry in entries if entry["message"] == "fetch ended")
        assert (ended["tier"], ended["host"]) == ("fleet", "127.0.0.1")
