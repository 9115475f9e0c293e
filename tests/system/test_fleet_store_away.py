"""A fleet's store that is away, refuses, or is stopped in the middle: a machine is never worse off than alone."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from hubclient.contract import handles
from tests.support.archives import MODULE, archive, made
from tests.support.daemon import Daemon
from tests.support.front import UNAVAILABLE, Fault, Front
from tests.support.machines import BUCKET, Machines, came, fleet, staged
from tests.support.object_stores import S3Server
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

BOUND_SECONDS = 15.0
WEIGHTS = Random(8).randbytes(3_000_000)
LARGE = archive({**MODULE, "variables/variables.data-00000-of-00001": WEIGHTS})
LARGE_DIGEST = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def machines(tmp_path: Path, s3: S3Server) -> Machines:
    return Machines(tmp_path, s3)


@pytest.fixture
def front(s3: S3Server) -> Iterator[Front]:
    with Front(s3.port) as running:
        yield running


def test_a_store_where_nobody_listens_costs_a_moment_once(machines: Machines, origin: Origin) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with machines.machine("a", endpoint=f"http://127.0.0.1:{bound.getsockname()[1]}") as alone:
            began = time.monotonic()
            assert came(alone, origin.serve("/m/1", Answer(made().body))).tier == "origin"
            assert time.monotonic() - began < BOUND_SECONDS
            wait_until(lambda: fleet(alone)["state"] == "away")
            assert fleet(alone)["retry_in_seconds"] > 0
            assert came(alone, origin.serve("/m/2", Answer(made().body))).tier == "origin"
            assert (fleet(alone)["alone"], fleet(alone)["claimed"]) == (2, 0)
            (told,) = (line for line in alone.log.read_text().splitlines() if "cannot be used" in line)
            assert f"s3://{BUCKET}/{machines.prefix}" in told
            status = alone.request("GET", "/v1/status")[1]
            assert (status["fleet"]["state"], "cannot be connected" in status["fleet"]["trouble"]) == ("away", True)


def test_a_store_that_stalls_is_given_up_within_its_bound(machines: Machines, origin: Origin, front: Front) -> None:
    with front.rule("GET"), machines.machine("a", endpoint=front.endpoint) as alone:
        began = time.monotonic()
        assert came(alone, origin.serve("/m/1", Answer(made().body))).tier == "origin"
        assert time.monotonic() - began < BOUND_SECONDS
        assert fleet(alone)["state"] == "away"


@pytest.mark.parametrize(
    "fault",
    [Fault(cut_after_bytes=1000), Fault(status=500), Fault(status=403), Fault(status=404)],
    ids=["cut", "500", "403", "404"],
)
def test_a_store_that_fails_at_the_archive_costs_nobody_the_module(
    machines: Machines, origin: Origin, front: Front, fault: Fault
) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with machines.machine("a", endpoint=front.endpoint) as one, machines.machine("b", endpoint=front.endpoint) as other:
        came(one, handle)
        machines.wait_until_shared(handle)
        with front.rule("GET", "archives/", fault):
            assert came(other, handle).tier == "origin"
        assert len(origin.asked("/m/1")) == 2
        assert "the fleet's archive cannot be used" in other.log.read_text()


def test_a_store_that_stalls_in_mid_archive_is_waited_for_once(
    machines: Machines, origin: Origin, front: Front
) -> None:
    handle, network = origin.serve("/m/1", Answer(LARGE)), 'stall_timeout = "2s"'
    with (
        machines.machine("a") as one,
        machines.machine("b", endpoint=front.endpoint, network=network) as other,
        front.rule("GET", "archives/", Fault(stall_after_bytes=1_000_000)),
    ):
        came(one, handle)
        machines.wait_until_shared(handle)
        assert came(other, handle).tier == "origin"
        asked = [request for request in front.asked if (request.method, request.kind) == ("GET", "archives")]
        assert len(asked) == 1
        assert fleet(other)["state"] == "away"


def test_what_a_store_sent_of_an_archive_is_not_gone_on_from_at_the_origin(
    machines: Machines, origin: Origin, front: Front
) -> None:
    """Its digest would be compared with nothing; and that both name a version alike says nothing of the bytes."""
    damaged = bytes([*LARGE[:500_000], LARGE[500_000] ^ 1, *LARGE[500_001:]])
    etag = f'"{hashlib.md5(damaged).hexdigest()}"'
    handle, network = origin.serve("/m/1", Answer(LARGE, etag=etag, ranges=True)), 'stall_timeout = "2s"'
    with (
        machines.machine("a") as one,
        machines.machine("b", endpoint=front.endpoint, network=network) as other,
        front.rule("GET", "archives/", Fault(stall_after_bytes=1_000_000)),
    ):
        came(one, handle)
        machines.wait_until_shared(handle)
        machines.put(f"archives/{LARGE_DIGEST}", damaged)
        assert came(other, handle).tier == "origin"
        assert origin.asked("/m/1")[-1].headers.get("Range") is None


def test_a_store_that_asks_for_patience_is_left_alone_within_a_bound(
    machines: Machines, origin: Origin, front: Front
) -> None:
    with (
        machines.machine("a", endpoint=front.endpoint, claim_timeout="2s") as alone,
        front.rule("GET", "handles/", Fault(status=503)),
    ):
        began = time.monotonic()
        assert came(alone, origin.serve("/m/1", Answer(made().body))).tier == "origin"
        assert time.monotonic() - began < 2 * BOUND_SECONDS


def test_a_store_that_is_too_busy_for_a_claim_is_asked_for_it_again(
    machines: Machines, origin: Origin, front: Front
) -> None:
    handle = origin.serve("/m/1", Answer(made().body))
    with machines.machine("a", endpoint=front.endpoint, claim_timeout="8s") as one, ThreadPoolExecutor() as pool:
        with front.rule("PUT", "claims/", UNAVAILABLE):
            answer = pool.submit(came, one, handle)
            wait_until(lambda: [request.method for request in front.asked].count("PUT") >= 3)
        assert answer.result().tier == "origin"
        machines.wait_until_shared(handle)
        assert (fleet(one)["claimed"], fleet(one)["alone"]) == (1, 0)


@pytest.mark.parametrize("mode", ["read-write", "read-only"])
def test_a_bucket_that_is_not_there_is_told_and_nothing_waits_for_it(
    machines: Machines, origin: Origin, mode: str
) -> None:
    with machines.machine("a", bucket="nowhere", fleet=f'mode = "{mode}"') as alone:
        wait_until(lambda: fleet(alone)["state"] == "missing")
        assert "nowhere" in fleet(alone)["trouble"]
        assert came(alone, origin.serve("/m/1", Answer(made().body))).tier == "origin"


def test_a_store_that_denies_all_is_told_before_the_first_fetch(
    machines: Machines, origin: Origin, front: Front
) -> None:
    with front.rule("GET", fault=Fault(status=403)), machines.machine("a", endpoint=front.endpoint) as alone:
        wait_until(lambda: fleet(alone)["state"] == "denied")
        assert came(alone, origin.serve("/m/1", Answer(made().body))).tier == "origin"
        assert fleet(alone)["alone"] == 1


def test_a_store_that_denies_writes_is_read(machines: Machines, origin: Origin, front: Front) -> None:
    handle = origin.serve("/m/1", Answer(made().body))
    with machines.machine("a") as one:
        came(one, handle)
        machines.wait_until_shared(handle)
    with front.rule("PUT", fault=Fault(status=403)), machines.machine("b", endpoint=front.endpoint) as reader:
        assert came(reader, handle).tier == "fleet"
        assert came(reader, origin.serve("/m/2", Answer(made().body))).tier == "origin"
        wait_until(lambda: fleet(reader)["mode"] == "read-only")
        assert fleet(reader)["state"] == "denied"
        assert fleet(reader)["trouble"] is not None
        assert "cannot be used in full" in reader.log.read_text()


def test_an_upload_that_fails_is_one_warning_and_leaves_its_word(
    machines: Machines, origin: Origin, front: Front
) -> None:
    handle, (body, digest) = "/m/1", made()
    with (
        front.rule("PUT", f"archives/{digest}", Fault(status=500)),
        machines.machine("a", endpoint=front.endpoint) as one,
    ):
        assert came(one, origin.serve(handle, Answer(body))).tier == "origin"
        wait_until(lambda: "was not uploaded for the fleet" in one.log.read_text())
        wait_until(lambda: staged(one) == [] and (machines.claim(origin.url(handle)) or {}).get("phase") == "failed")
        assert machines.record(origin.url(handle)) is None
        assert one.log.read_text().count("was not uploaded for the fleet") == 1


def test_a_stop_in_mid_upload_takes_the_claim_along(machines: Machines, origin: Origin, front: Front) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with machines.machine("a", endpoint=front.endpoint) as one, machines.machine("b") as other:
        with front.rule("PUT", "archives/") as held:
            assert came(one, handle).tier == "origin"
            wait_until(held.is_set)
            assert machines.claim(handle) is not None
            assert [upload["handle"] for upload in fleet(one)["uploads"]] == [handle]
            assert one.stop() == 0
        assert machines.claim(handle) is None
        assert staged(one) == []
        assert came(other, handle).tier == "origin"
        machines.wait_until_shared(handle)


def test_a_stop_is_clean_although_the_store_stalls(machines: Machines, origin: Origin, front: Front) -> None:
    with machines.machine("a", endpoint=front.endpoint) as one:
        with front.rule("PUT", "archives/") as held:
            assert came(one, origin.serve("/m/1", Answer(LARGE))).tier == "origin"
            wait_until(held.is_set)
            with front.rule("GET"), front.rule("PUT"), front.rule("DELETE"):
                assert one.stop() == 0
        assert staged(one) == []
        one.start()
        assert fleet(one)["uploads"] == []  # it is told before the first answer
        assert "the last stop was not clean" not in one.log.read_text()


def test_a_kill_in_mid_upload_is_taken_over_and_cleared_away(machines: Machines, origin: Origin, front: Front) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with (
        machines.machine("a", endpoint=front.endpoint) as one,
        machines.machine("b", claim_timeout="2s") as other,
    ):
        with front.rule("PUT", "archives/") as held:
            assert came(one, handle).tier == "origin"
            wait_until(held.is_set)
            assert machines.record(handle) is None, "it names what is there"
            one.kill()
        assert staged(one) != []
        one.start()
        assert staged(one) == []
        assert one.resolve(handle)[1]["outcome"] == "hit"
        assert machines.claim(handle) is not None
        assert came(other, handle).tier == "origin"
        machines.wait_until_shared(handle)
        assert machines.object(f"archives/{LARGE_DIGEST}") == LARGE


def test_a_store_that_the_settings_leave_in_mid_upload_gets_no_record(
    machines: Machines, origin: Origin, front: Front
) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with machines.machine("a", endpoint=front.endpoint) as one:
        with front.rule("PUT", "archives/") as held:
            assert came(one, handle).tier == "origin"
            wait_until(held.is_set)
            one.config.write_text(one.config.read_text().replace("\nstore = ", "\n# store = ", 1))
            wait_until(lambda: fleet(one)["state"] == "off")
        wait_until(lambda: "was not uploaded for the fleet" in one.log.read_text())
        assert staged(one) == []
        assert machines.record(handle) is None
        assert one.resolve(handle)[1]["outcome"] == "hit"


def test_an_upload_gives_way_to_a_fetch_that_finds_no_other_room(
    machines: Machines, origin: Origin, front: Front
) -> None:
    first, second = origin.serve("/m/1", Answer(LARGE)), origin.serve("/m/2", Answer(archive({**MODULE, "w": WEIGHTS})))
    with machines.machine("a", endpoint=front.endpoint, cache='max_size = "11MB"') as one:
        with front.rule("PUT", "archives/") as held:
            assert came(one, first).tier == "origin"
            wait_until(held.is_set)
            one.request("PUT", f"/v1/modules/{handles.key(first)}/pin")
            assert one.resolve(origin.serve("/m/3", Answer(bytes(9_000_000))))[1]["code"] == "cache-full"
            assert first in [upload["handle"] for upload in fleet(one)["uploads"]], "no room is made in vain"
            assert came(one, second).tier == "origin", "with the spool there, it would not fit"
            assert first not in [upload["handle"] for upload in fleet(one)["uploads"]]
        assert "there was other need of its room" in one.log.read_text()


def test_a_cache_that_is_full_is_no_reason_to_ask_the_origin(machines: Machines, origin: Origin) -> None:
    first, second = origin.serve("/m/1", Answer(LARGE)), origin.serve("/m/2", Answer(archive({**MODULE, "w": WEIGHTS})))
    full = machines.machine("b", cache='max_size = "8MB"', fleet='mode = "read-only"')
    with machines.machine("a") as one, full:
        came(one, second)
        machines.wait_until_shared(second)
        came(full, first)
        full.request("PUT", f"/v1/modules/{handles.key(first)}/pin")
        assert full.resolve(second)[1]["code"] == "cache-full"
        assert len(origin.asked("/m/2")) == 1
        assert "the fleet's archive cannot be used" not in full.log.read_text()


def test_a_machine_without_a_fleet_loads_nothing_for_it(origin: Origin, daemon: Daemon) -> None:
    assert came(daemon, origin.serve("/m/1", Answer(made().body))).tier == "origin"
    assert fleet(daemon)["state"] == "off"
    mapped = Path(f"/proc/{daemon.pid}/maps").read_text()
    assert "obstore" not in mapped
    problem = daemon.request("GET", "/v1/fleet/modules")[1]
    assert (problem["code"], problem["detail"]) == ("request-invalid", "no [fleet] store is configured")
