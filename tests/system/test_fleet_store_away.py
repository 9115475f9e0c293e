"""A fleet's store that is away, refuses, or is stopped in the middle: a machine is never worse off than alone."""

from __future__ import annotations

import hashlib
import itertools
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hubclient.contract import handles
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.dam import Dam
from tests.support.machines import BUCKET, Machines, fleet, staged
from tests.support.object_stores import S3Server
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

_NUMBERS = itertools.count()
BOUND_SECONDS = 15.0
WEIGHTS = Random(8).randbytes(3_000_000)
LARGE = archive({**MODULE, "variables/variables.data-00000-of-00001": WEIGHTS})
LARGE_DIGEST = hashlib.sha256(LARGE).hexdigest()


def made() -> bytes:
    """An archive that no other test has."""
    return archive({**MODULE, "assets/number.txt": b"%d" % next(_NUMBERS)})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("store")) as running:
        running.make(BUCKET)
        yield running


@pytest.fixture
def machines(tmp_path: Path, store: S3Server) -> Machines:
    return Machines(tmp_path, store)


@pytest.fixture
def dam(store: S3Server) -> Iterator[Dam]:
    with Dam(store.port) as running:
        yield running


def tier(daemon: Daemon, handle: str) -> str:
    status, answer = daemon.resolve(handle)
    assert status == 200, answer
    return str(answer["tier"])


def test_a_store_where_nobody_listens_costs_a_moment_once(machines: Machines, origin: Origin) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with machines.machine("a", endpoint=f"http://127.0.0.1:{bound.getsockname()[1]}") as alone:
            began = time.monotonic()
            assert tier(alone, origin.serve("/m/1", Answer(made()))) == "origin"
            assert time.monotonic() - began < BOUND_SECONDS
            wait_until(lambda: fleet(alone)["state"] == "away")
            assert fleet(alone)["retry_in_seconds"] > 0
            assert tier(alone, origin.serve("/m/2", Answer(made()))) == "origin"
            assert (fleet(alone)["alone"], fleet(alone)["claimed"]) == (2, 0)
            (told,) = (line for line in alone.log.read_text().splitlines() if "cannot be used" in line)
            assert f"s3://{BUCKET}/{machines.prefix}" in told
            status = alone.request("GET", "/v1/status")[1]
            assert (status["fleet"]["state"], "cannot be connected" in status["fleet"]["trouble"]) == ("away", True)


def test_a_store_that_stalls_is_given_up_within_its_bound(machines: Machines, origin: Origin, dam: Dam) -> None:
    with dam.rule("GET"), machines.machine("a", endpoint=dam.endpoint) as alone:
        began = time.monotonic()
        assert tier(alone, origin.serve("/m/1", Answer(made()))) == "origin"
        assert time.monotonic() - began < BOUND_SECONDS
        assert fleet(alone)["state"] == "away"


@pytest.mark.parametrize("fault", [{"cut_after_bytes": 1000}, {"status": 500}, {"status": 403}, {"status": 404}])
def test_a_store_that_fails_at_the_archive_costs_nobody_the_module(
    machines: Machines, origin: Origin, dam: Dam, fault: dict[str, Any]
) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with machines.machine("a", endpoint=dam.endpoint) as one, machines.machine("b", endpoint=dam.endpoint) as other:
        tier(one, handle)
        machines.wait_until_shared(handle)
        with dam.rule("GET", "archives/", **fault):
            assert tier(other, handle) == "origin"
        assert len(origin.asked("/m/1")) == 2
        assert "the fleet's archive cannot be used" in other.log.read_text()


def test_a_store_that_stalls_in_mid_archive_is_waited_for_once(machines: Machines, origin: Origin, dam: Dam) -> None:
    handle, network = origin.serve("/m/1", Answer(LARGE)), 'stall_timeout = "2s"'
    with (
        machines.machine("a") as one,
        machines.machine("b", endpoint=dam.endpoint, network=network) as other,
        dam.rule("GET", "archives/", cut_after_bytes=1_000_000, stalls=True),
    ):
        tier(one, handle)
        machines.wait_until_shared(handle)
        assert tier(other, handle) == "origin"
        asked = [target for method, target in dam.asked if method == "GET" and "archives/" in target]
        assert len(asked) == 1
        assert fleet(other)["state"] == "away"


def test_what_a_store_sent_of_an_archive_is_not_gone_on_from_at_the_origin(
    machines: Machines, origin: Origin, dam: Dam
) -> None:
    """Its digest would be compared with nothing; and that both name a version alike says nothing of the bytes."""
    damaged = bytes([*LARGE[:500_000], LARGE[500_000] ^ 1, *LARGE[500_001:]])
    etag = f'"{hashlib.md5(damaged).hexdigest()}"'
    handle, network = origin.serve("/m/1", Answer(LARGE, etag=etag, ranges=True)), 'stall_timeout = "2s"'
    with (
        machines.machine("a") as one,
        machines.machine("b", endpoint=dam.endpoint, network=network) as other,
        dam.rule("GET", "archives/", cut_after_bytes=1_000_000, stalls=True),
    ):
        tier(one, handle)
        machines.wait_until_shared(handle)
        machines.put(f"archives/{LARGE_DIGEST}", damaged)
        assert tier(other, handle) == "origin"
        assert origin.asked("/m/1")[-1].headers.get("Range") is None


def test_a_store_that_asks_for_patience_is_left_alone_within_a_bound(
    machines: Machines, origin: Origin, dam: Dam
) -> None:
    with (
        machines.machine("a", endpoint=dam.endpoint, claim_timeout="2s") as alone,
        dam.rule("GET", "handles/", 503),
    ):
        began = time.monotonic()
        assert tier(alone, origin.serve("/m/1", Answer(made()))) == "origin"
        assert time.monotonic() - began < 2 * BOUND_SECONDS


def test_a_store_that_is_too_busy_for_a_claim_is_asked_for_it_again(
    machines: Machines, origin: Origin, dam: Dam
) -> None:
    handle = origin.serve("/m/1", Answer(made()))
    with machines.machine("a", endpoint=dam.endpoint, claim_timeout="2s") as one, ThreadPoolExecutor() as pool:
        with dam.rule("PUT", "claims/", 503):
            answer = pool.submit(tier, one, handle)
            wait_until(lambda: [method for method, _ in dam.asked].count("PUT") >= 3)
        assert answer.result() == "origin"
        machines.wait_until_shared(handle)
        assert (fleet(one)["claimed"], fleet(one)["alone"]) == (1, 0)


@pytest.mark.parametrize("mode", ["read-write", "read-only"])
def test_a_bucket_that_is_not_there_is_told_and_nothing_waits_for_it(
    machines: Machines, origin: Origin, mode: str
) -> None:
    with machines.machine("a", bucket="nowhere", fleet=f'mode = "{mode}"') as alone:
        wait_until(lambda: fleet(alone)["state"] == "missing")
        assert "nowhere" in fleet(alone)["trouble"]
        assert tier(alone, origin.serve("/m/1", Answer(made()))) == "origin"


def test_a_store_that_denies_all_is_told_before_the_first_fetch(machines: Machines, origin: Origin, dam: Dam) -> None:
    with dam.rule("GET", status=403), machines.machine("a", endpoint=dam.endpoint) as alone:
        wait_until(lambda: fleet(alone)["state"] == "denied")
        assert tier(alone, origin.serve("/m/1", Answer(made()))) == "origin"
        assert fleet(alone)["alone"] == 1


def test_a_store_that_denies_writes_is_read(machines: Machines, origin: Origin, dam: Dam) -> None:
    handle = origin.serve("/m/1", Answer(made()))
    with machines.machine("a") as one:
        tier(one, handle)
        machines.wait_until_shared(handle)
    with dam.rule("PUT", status=403), machines.machine("b", endpoint=dam.endpoint) as reader:
        assert tier(reader, handle) == "fleet"
        assert tier(reader, origin.serve("/m/2", Answer(made()))) == "origin"
        wait_until(lambda: fleet(reader)["mode"] == "read-only")
        assert fleet(reader)["state"] == "denied"
        assert fleet(reader)["trouble"] is not None
        assert "cannot be used in full" in reader.log.read_text()


def test_an_upload_that_fails_is_one_warning_and_leaves_its_word(machines: Machines, origin: Origin, dam: Dam) -> None:
    handle, body = "/m/1", made()
    digest = hashlib.sha256(body).hexdigest()
    with dam.rule("PUT", f"archives/{digest}", 500), machines.machine("a", endpoint=dam.endpoint) as one:
        assert tier(one, origin.serve(handle, Answer(body))) == "origin"
        wait_until(lambda: "was not uploaded for the fleet" in one.log.read_text())
        wait_until(lambda: staged(one) == [] and (machines.claim(origin.url(handle)) or {}).get("phase") == "failed")
        assert machines.record(origin.url(handle)) is None
        assert one.log.read_text().count("was not uploaded for the fleet") == 1


def test_a_stop_in_mid_upload_takes_the_claim_along(machines: Machines, origin: Origin, dam: Dam) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with machines.machine("a", endpoint=dam.endpoint) as one, machines.machine("b") as other:
        with dam.rule("PUT", "archives/") as held:
            assert tier(one, handle) == "origin"
            held.wait_until_met()
            assert machines.claim(handle) is not None
            assert [upload["handle"] for upload in fleet(one)["uploads"]] == [handle]
            assert one.stop() == 0
        assert machines.claim(handle) is None
        assert staged(one) == []
        assert tier(other, handle) == "origin"
        machines.wait_until_shared(handle)


def test_a_stop_is_clean_although_the_store_stalls(machines: Machines, origin: Origin, dam: Dam) -> None:
    with machines.machine("a", endpoint=dam.endpoint) as one:
        with dam.rule("PUT", "archives/") as held:
            assert tier(one, origin.serve("/m/1", Answer(LARGE))) == "origin"
            held.wait_until_met()
            with dam.rule("GET"), dam.rule("PUT"), dam.rule("DELETE"):
                assert one.stop() == 0
        assert staged(one) == []
        one.start()
        assert "the last stop was not clean" not in one.log.read_text()


def test_a_kill_in_mid_upload_is_taken_over_and_cleared_away(machines: Machines, origin: Origin, dam: Dam) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with (
        machines.machine("a", endpoint=dam.endpoint) as one,
        machines.machine("b", claim_timeout="2s") as other,
    ):
        with dam.rule("PUT", "archives/") as held:
            assert tier(one, handle) == "origin"
            held.wait_until_met()
            one.kill()
        assert staged(one) != []
        one.start()
        assert staged(one) == []
        assert one.resolve(handle)[1]["outcome"] == "hit"
        assert machines.claim(handle) is not None
        assert tier(other, handle) == "origin"
        machines.wait_until_shared(handle)
        assert machines.object(f"archives/{LARGE_DIGEST}") == LARGE


def test_a_store_that_the_settings_leave_in_mid_upload_gets_no_record(
    machines: Machines, origin: Origin, dam: Dam
) -> None:
    handle = origin.serve("/m/1", Answer(LARGE))
    with machines.machine("a", endpoint=dam.endpoint) as one:
        with dam.rule("PUT", "archives/") as held:
            assert tier(one, handle) == "origin"
            held.wait_until_met()
            one.config.write_text(one.config.read_text().replace("\nstore = ", "\n# store = ", 1))
            wait_until(lambda: fleet(one)["state"] == "off")
        wait_until(lambda: "was not uploaded for the fleet" in one.log.read_text())
        assert staged(one) == []
        assert machines.record(handle) is None
        assert one.resolve(handle)[1]["outcome"] == "hit"


def test_an_upload_gives_way_to_a_fetch_that_finds_no_other_room(machines: Machines, origin: Origin, dam: Dam) -> None:
    first, second = origin.serve("/m/1", Answer(LARGE)), origin.serve("/m/2", Answer(archive({**MODULE, "w": WEIGHTS})))
    with machines.machine("a", endpoint=dam.endpoint, cache='max_size = "11MB"') as one:
        with dam.rule("PUT", "archives/") as held:
            assert tier(one, first) == "origin"
            held.wait_until_met()
            one.request("PUT", f"/v1/modules/{handles.key(first)}/pin")
            assert one.resolve(origin.serve("/m/3", Answer(bytes(9_000_000))))[1]["code"] == "cache-full"
            assert first in [upload["handle"] for upload in fleet(one)["uploads"]], "no room is made in vain"
            assert tier(one, second) == "origin", "with the spool there, it would not fit"
            assert first not in [upload["handle"] for upload in fleet(one)["uploads"]]
        assert "there was other need of its room" in one.log.read_text()


def test_a_cache_that_is_full_is_no_reason_to_ask_the_origin(machines: Machines, origin: Origin) -> None:
    first, second = origin.serve("/m/1", Answer(LARGE)), origin.serve("/m/2", Answer(archive({**MODULE, "w": WEIGHTS})))
    full = machines.machine("b", cache='max_size = "8MB"', fleet='mode = "read-only"')
    with machines.machine("a") as one, full:
        tier(one, second)
        machines.wait_until_shared(second)
        tier(full, first)
        full.request("PUT", f"/v1/modules/{handles.key(first)}/pin")
        assert full.resolve(second)[1]["code"] == "cache-full"
        assert len(origin.asked("/m/2")) == 1
        assert "the fleet's archive cannot be used" not in full.log.read_text()


def test_a_machine_without_a_fleet_loads_nothing_for_it(origin: Origin, daemon: Daemon) -> None:
    assert tier(daemon, origin.serve("/m/1", Answer(made()))) == "origin"
    assert fleet(daemon)["state"] == "off"
    mapped = Path(f"/proc/{daemon.pid}/maps").read_text()
    assert "obstore" not in mapped
    problem = daemon.request("GET", "/v1/fleet/modules")[1]
    assert (problem["code"], problem["detail"]) == ("request-invalid", "no [fleet] store is configured")
