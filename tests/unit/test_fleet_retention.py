"""What a fleet's store has, and what of it goes: records, then archives, then claims; and nothing foreign."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from hubclient.contract import handles
from hubclient.contract.errors import UpstreamDenied
from hubd.fleet.claims import Claim
from hubd.fleet.records import archive_path, claim_path, kind_of, record_path
from hubd.fleet.retention import Module, Old, Removed, Totals
from tests.support.fleet import ARCHIVE, HANDLE, KEY, Fleet, Machine, chunks_of, in_virtual_time, record_of

OTHER = "https://modules.example.org/other/1"
DAY = 86400.0


def put(fleet: Fleet, archive: bytes, handle: str = HANDLE) -> None:
    record = record_of(archive, handle=handle)
    fleet.bucket.put(archive_path(record.digest), archive)
    fleet.bucket.put(record_path(record.key), record.body())


def at_age(fleet: Fleet, paths: Iterable[str], age_seconds: float) -> None:
    for path in paths:
        fleet.bucket.objects[path].written_at -= age_seconds


async def pruned(machine: Machine, older_than_seconds: float, *, dry_run: bool = False) -> list[Old | Removed]:
    return [line async for line in machine.tier.prune(older_than_seconds, dry_run=dry_run)]


def told(lines: list[Old | Removed]) -> list[tuple[str, str, bool]]:
    return [(line.kind, line.name, line.removed) for line in lines if isinstance(line, Old)]


@in_virtual_time
async def test_a_listing_tells_each_module_and_what_else_is_there() -> None:
    async with Fleet() as fleet:
        put(fleet, b"one")
        put(fleet, b"another", OTHER)
        del fleet.bucket.objects[archive_path(record_of(b"another").digest)]
        fleet.bucket.put(claim_path("0" * 64), Claim(holder="a" * 16).body())
        fleet.bucket.put(record_path("1" * 64), b"garbage")
        fleet.bucket.put("README.txt", b"somebody's")
        fleet.bucket.put(record_path("4" * 64), bytes(1 << 20))
        fleet.bucket.put(claim_path("5" * 64), bytes(1 << 20))
        await asyncio.sleep(100.0)
        lines = [line async for line in fleet.machine().tier.modules()]
        found = {line.record.handle: line for line in lines if isinstance(line, Module)}
        assert {handle: line.has_archive for handle, line in found.items()} == {HANDLE: True, OTHER: False}
        assert 100.0 <= found[HANDLE].age_seconds <= 102.0
        assert lines[-1] == Totals(modules=2, archive_bytes=3, foreign=4, claims=1)


@in_virtual_time
async def test_records_go_first_then_what_nobody_names_and_all_by_the_stores_clock() -> None:
    async with Fleet() as fleet:
        put(fleet, b"old")
        put(fleet, b"young", OTHER)
        fleet.bucket.put(archive_path("2" * 64), b"left over")
        fleet.bucket.put(archive_path("3" * 64), b"just uploaded")
        fleet.bucket.put(claim_path("0" * 64), Claim(holder="a" * 16, phase="failed", code="disk-full").body())
        fleet.bucket.put("handles/of-somebody.json", b"{}")
        fleet.bucket.put(record_path("4" * 64), bytes(1 << 20))
        old = record_of(b"old").digest
        aged = [record_path(KEY), archive_path(old), archive_path("2" * 64), claim_path("0" * 64)]
        at_age(fleet, [*aged, archive_path(record_of(b"young").digest), "handles/of-somebody.json"], 91 * DAY)
        before = dict(fleet.bucket.objects)
        dry = await pruned(fleet.machine(), 90 * DAY, dry_run=True)
        assert fleet.bucket.objects == before
        lines = await pruned(fleet.machine(), 90 * DAY)
        names = [("record", KEY), *(("archive", name) for name in sorted([old, "2" * 64])), ("claim", "0" * 64)]
        assert told(dry) == [(*name, False) for name in names]
        assert told(lines) == [(*name, True) for name in names]
        total_bytes = sum(len(before[path].data) for path in aged)
        assert lines[-1] == dry[-1] == Removed(4, total_bytes)
        assert sorted(fleet.bucket.objects) == sorted(before.keys() - set(aged))


@in_virtual_time
async def test_what_is_being_made_stays_however_little_is_asked_for() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        fleet.bucket.put(archive_path("3" * 64), b"just uploaded")
        await asyncio.sleep(5.0)
        assert told(await pruned(fleet.machine(), 0.0)) == []
        await turn.abandoned()


@in_virtual_time
async def test_an_archive_that_gets_its_name_while_records_are_looked_at_stays() -> None:
    async with Fleet() as fleet:
        put(fleet, b"old", OTHER)
        named = archive_path(record_of().digest)
        fleet.bucket.put(named, ARCHIVE)
        at_age(fleet, list(fleet.bucket.objects), DAY)
        lines = fleet.machine().tier.prune(DAY / 2, dry_run=False)
        first = await anext(aiter(lines))
        assert isinstance(first, Old)
        assert first.kind == "record"
        turn = await fleet.machine().turn()
        assert await turn.landed(record_of(), chunks_of()) == "uploaded"
        assert fleet.bucket.requests.by_kind["upload"] == 0, "it was there"
        rest = [line async for line in lines]
        assert told(rest) == [("archive", record_of(b"old").digest, True)]
        assert sorted(fleet.bucket.objects) == [named, record_path(KEY)]


@in_virtual_time
async def test_archives_without_any_record_have_an_age_too_and_no_trace_of_the_question_stays() -> None:
    async with Fleet() as fleet:
        fleet.bucket.put(archive_path("2" * 64), b"left over")
        at_age(fleet, [archive_path("2" * 64)], DAY)
        assert told(await pruned(fleet.machine(), 2 * DAY)) == []
        assert told(await pruned(fleet.machine(), DAY / 2)) == [("archive", "2" * 64, True)]
        assert fleet.bucket.objects == {}


@in_virtual_time
async def test_an_archive_that_a_record_of_a_newer_version_names_stays() -> None:
    async with Fleet() as fleet:
        put(fleet, b"one")
        newer = record_of(b"one").body().replace(b'"layout":1', b'"layout":2')
        fleet.bucket.put(record_path(KEY), newer)
        at_age(fleet, list(fleet.bucket.objects), 91 * DAY)
        assert told(await pruned(fleet.machine(), 90 * DAY)) == []


@in_virtual_time
async def test_a_machine_that_only_reads_removes_nothing() -> None:
    async with Fleet() as fleet:
        reader = fleet.machine(mode="read-only")
        with pytest.raises(UpstreamDenied):
            await pruned(reader, 0.0)


@in_virtual_time
async def test_a_machine_that_only_reads_writes_nothing_to_tell_what_would_go() -> None:
    async with Fleet() as fleet:
        reader = fleet.machine(mode="read-only")
        for digest, age_seconds in (("2" * 64, 3 * DAY), ("3" * 64, DAY)):
            fleet.bucket.put(archive_path(digest), b"left over")
            at_age(fleet, [archive_path(digest)], age_seconds)
        assert told(await pruned(reader, DAY, dry_run=True)) == [("archive", "2" * 64, False)]
        fleet.bucket.put(claim_path("0" * 64), Claim(holder="a" * 16).body())
        everything = [("archive", "2" * 64, False), ("archive", "3" * 64, False)]
        assert told(await pruned(reader, DAY / 2, dry_run=True)) == everything
        assert {kind for kind, _ in fleet.bucket.asked} == {"list", "read"}


@pytest.mark.parametrize(
    "path",
    [
        "README.txt",
        "handles/x.json",
        f"handles/{'A' * 64}.json",
        f"handles/{'a' * 64}",
        f"archives/{'a' * 64}.json",
        f"archives/{'a' * 64}/x",
        f"x/archives/{'a' * 64}",
        f"archives/{'a' * 64}\n",
        f"handles/../claims/{'a' * 64}.json",
    ],
)
def test_all_other_names_are_foreign(path: str) -> None:
    assert kind_of(path) is None


def test_names_tell_kinds() -> None:
    key = handles.key(HANDLE)
    assert kind_of(record_path(key)) == ("record", key)
    assert kind_of(claim_path(key)) == ("claim", key)
    assert kind_of(archive_path(key)) == ("archive", key)
