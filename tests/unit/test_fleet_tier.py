"""One fetch for a whole fleet: who gets the turn, who waits, and what becomes of the turns of those that die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubclient.contract.errors import DigestMismatch, Offline
from hubd.fleet.claims import Alone, Claim
from hubd.fleet.records import archive_path, record_path
from hubd.fleet.tier import Found
from hubd.fleet.turn import Turn
from tests.support.fleet import (
    ARCHIVE,
    KEY,
    Fleet,
    Machine,
    ScriptedBucket,
    chunks_of,
    fetching,
    in_virtual_time,
    record_of,
    seconds,
)


async def fetches(machine: Machine, takes_seconds: float = 5.0) -> Any:
    """Does as it is told; a turn is fetched and shared. What it was told."""
    outcome = await machine.ask()
    if isinstance(outcome, Turn):
        await fetching(outcome, takes_seconds)
        await outcome.landed(record_of(), chunks_of())
    return outcome


async def dead_holder(fleet: Fleet) -> None:
    holder = fleet.machine()
    await holder.turn()
    holder.dies()


def kinds(outcomes: list[Any]) -> list[str]:
    return sorted(type(outcome).__name__ for outcome in outcomes)


@in_virtual_time
async def test_of_many_who_ask_at_once_one_gets_the_turn_and_all_others_what_it_brought() -> None:
    async with Fleet() as fleet:
        outcomes = await asyncio.gather(*(fetches(fleet.machine()) for _ in range(50)))
        assert kinds(outcomes) == ["Found"] * 49 + ["Turn"]
        assert {found.record.digest for found in outcomes if isinstance(found, Found)} == {record_of().digest}
        assert sorted(fleet.bucket.objects) == [archive_path(record_of().digest), record_path(KEY)]


@in_virtual_time
async def test_what_the_fleet_has_costs_one_request() -> None:
    async with Fleet() as fleet:
        await fetches(fleet.machine())
        fleet.bucket.asked.clear()
        await fleet.machine().found()
        assert fleet.bucket.asked == [("read", record_path(KEY))]


@in_virtual_time
async def test_a_machine_that_waits_is_told_how_far_the_other_one_is() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        told: list[Claim | None] = []
        waiting = asyncio.create_task(fleet.machine().tier.ask(KEY, is_immutable=True, on_wait=told.append))
        await fetching(turn, 20.0)
        await turn.landed(record_of(), chunks_of())
        assert isinstance(await waiting, Found)
        shown = [claim.received_bytes for claim in told if claim is not None]
        assert len(shown) > 1
        assert shown == sorted(shown)
        assert 0 < shown[-1] <= 1_000_000_000


@pytest.mark.parametrize("clock_began", [-86400.0, 0.0, 300.0])
def test_a_dead_holders_claim_is_taken_over_by_the_watchers_own_clock(clock_began: float) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            await dead_holder(fleet)
            died_at = seconds()
            turn = await fleet.machine(clock_began=clock_began).turn()
            assert 30.0 <= seconds() - died_at <= 30.0 * 1.25 + 2.0
            await turn.abandoned()

    story()


@in_virtual_time
async def test_a_dead_holders_claim_is_taken_over_by_exactly_one_of_many() -> None:
    async with Fleet() as fleet:
        await dead_holder(fleet)
        outcomes = await asyncio.gather(*(fetches(fleet.machine()) for _ in range(50)))
        assert kinds(outcomes) == ["Found"] * 49 + ["Turn"]


@in_virtual_time
async def test_a_slow_holder_that_lives_is_not_taken_over() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        waiting = asyncio.create_task(fleet.machine().ask())
        await fetching(turn, 500.0)
        assert not waiting.done()
        assert not turn.is_lost
        await turn.landed(record_of(), chunks_of())
        assert isinstance(await waiting, Found)


@in_virtual_time
async def test_a_holder_that_makes_no_progress_is_taken_over_and_learns_it() -> None:
    async with Fleet() as fleet:
        stalled = await fleet.machine().turn()
        await fetching(stalled, 3.0)
        other = await fleet.machine().turn()
        assert not stalled.is_lost  # it has nothing to say, and has not looked
        await fetching(stalled, 20.0)
        assert stalled.is_lost
        await other.abandoned()


@in_virtual_time
async def test_a_holder_that_was_taken_over_goes_on_and_leaves_the_others_claim() -> None:
    async with Fleet() as fleet:
        stalled = await fleet.machine().turn()
        other = await fleet.machine().turn()
        claim = fleet.bucket.claim()
        for end in (stalled.abandoned(), stalled.failed("upstream-timeout")):
            await end
            assert fleet.bucket.claim() == claim
        assert await stalled.landed(record_of(), chunks_of()) == "uploaded"
        assert fleet.bucket.claim() == claim
        assert await other.landed(record_of(), chunks_of()) == "there"
        assert fleet.bucket.claim() is None


@in_virtual_time
async def test_a_turn_that_is_given_up_is_the_next_ones_at_once() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        waiting = asyncio.create_task(fleet.machine().ask())
        await asyncio.sleep(1.0)
        await turn.abandoned()
        gave_up_at = seconds()
        following = await waiting
        assert isinstance(following, Turn)
        assert seconds() - gave_up_at < 3.0
        await following.abandoned()
        assert fleet.bucket.objects == {}


@in_virtual_time
async def test_what_the_origin_told_the_holder_sends_all_who_waited_to_the_origin_each_in_its_time() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        ended: list[float] = []

        async def waits() -> Alone:
            outcome = await fleet.machine().ask()
            ended.append(seconds())
            assert isinstance(outcome, Alone)
            return outcome

        waiting = [asyncio.create_task(waits()) for _ in range(20)]
        await asyncio.sleep(5.0)
        await turn.failed("upstream-unavailable")
        reasons = {outcome.reason for outcome in await asyncio.gather(*waiting)}
        assert reasons == {"the machine that fetched it for all failed with upstream-unavailable"}
        assert max(ended) - min(ended) > 5.0
        later = await fleet.machine().turn()  # who comes later tries again for all
        await later.abandoned()


@in_virtual_time
async def test_a_holder_with_a_full_disk_is_replaced_by_one_of_those_who_wait() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        waiting = [asyncio.create_task(fetches(fleet.machine())) for _ in range(20)]
        await asyncio.sleep(5.0)
        await turn.failed("disk-full")
        assert kinds(await asyncio.gather(*waiting)) == ["Found"] * 19 + ["Turn"]


@in_virtual_time
async def test_nobody_waits_longer_than_max_wait() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        waiting = asyncio.create_task(fleet.machine(max_wait=60.0).ask())
        began = seconds()
        alive = asyncio.create_task(fetching(turn, 300.0))
        assert isinstance(await waiting, Alone)
        assert 60.0 <= seconds() - began <= 62.0
        await alive
        await turn.abandoned()


@in_virtual_time
async def test_a_machine_that_only_reads_never_writes() -> None:
    async with Fleet() as fleet:
        reader = fleet.machine(mode="read-only")
        assert isinstance(await reader.ask(), Alone)
        turn = await fleet.machine().turn()
        waiting = asyncio.create_task(reader.ask())
        await fetching(turn, 10.0)
        await turn.landed(record_of(), chunks_of())
        fleet.bucket.asked.clear()
        assert isinstance(await waiting, Found)
        assert {kind for kind, _ in fleet.bucket.asked} == {"read"}


@in_virtual_time
async def test_a_machine_that_only_reads_does_not_wait_for_the_dead() -> None:
    async with Fleet() as fleet:
        await dead_holder(fleet)
        claim = fleet.bucket.claim()
        assert isinstance(await fleet.machine(mode="read-only").ask(), Alone)
        assert 30.0 <= seconds() <= 40.0
        assert fleet.bucket.claim() == claim


@in_virtual_time
async def test_a_record_that_is_too_old_is_renewed_by_one() -> None:
    async with Fleet() as fleet:
        await fetches(fleet.machine())
        await asyncio.sleep(100.0)
        assert isinstance(await fleet.machine().ask(max_age_seconds=150.0), Found)
        turn = await fleet.machine().ask(max_age_seconds=60.0)
        assert isinstance(turn, Turn)
        assert turn.stale is not None
        assert turn.stale.digest == record_of().digest
        waiting = asyncio.create_task(fleet.machine().ask(max_age_seconds=60.0))
        await asyncio.sleep(0.1)
        await turn.renew(turn.stale.model_copy(update={"etag": '"2"'}))
        found = await waiting
        assert isinstance(found, Found)
        assert found.age_seconds < 5.0
        assert found.record.etag == '"2"'
        assert fleet.bucket.requests.by_kind["upload"] == 1
        assert fleet.bucket.claim() is None


@in_virtual_time
async def test_an_archive_that_was_found_damaged_is_uploaded_again_by_one() -> None:
    async with Fleet() as fleet:
        await fetches(fleet.machine())
        fleet.bucket.put(archive_path(record_of().digest), ARCHIVE[::-1])
        bad = (await fleet.machine().found()).record

        async def finds_it_damaged() -> Any:
            outcome = await fleet.machine().ask(damaged=bad)
            if isinstance(outcome, Turn):
                assert outcome.stale is None
                await outcome.landed(record_of(), chunks_of())
            return outcome

        outcomes = await asyncio.gather(*(finds_it_damaged() for _ in range(10)))
        assert kinds(outcomes) == ["Found"] * 9 + ["Turn"]
        assert fleet.bucket.objects[archive_path(record_of().digest)].data == ARCHIVE
        assert isinstance(await fleet.machine().ask(damaged=bad), Found)


@in_virtual_time
async def test_what_was_uploaded_to_one_store_is_told_of_in_no_other() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        other = ScriptedBucket()
        other.name = "s3://simulated/another"

        async def chunks() -> AsyncIterator[bytes]:
            fleet.bucket = other  # by settings that are new
            yield ARCHIVE

        with pytest.raises(Offline, match="not the \\[fleet\\] store any more"):
            await turn.landed(record_of(), chunks)
        assert not turn.is_lost
        assert other.asked == []


@in_virtual_time
async def test_two_with_equal_content_agree_on_the_record_that_came_first() -> None:
    async with Fleet() as fleet:
        stalled, other = await fleet.machine().turn(), await fleet.machine().turn()
        assert await stalled.landed(record_of(b"packed so", b"content"), chunks_of(b"packed so")) == "uploaded"
        first = fleet.bucket.record()
        assert await other.landed(record_of(b"or so", b"content"), chunks_of(b"or so")) == "there"
        assert fleet.bucket.record() == first


@in_virtual_time
async def test_other_content_of_an_immutable_handle_is_told_and_the_first_stays() -> None:
    async with Fleet() as fleet:
        stalled, other = await fleet.machine().turn(), await fleet.machine().turn()
        await stalled.landed(record_of(), chunks_of())
        first = fleet.bucket.record()
        with pytest.raises(DigestMismatch):
            await other.landed(record_of(b"another"), chunks_of(b"another"))
        assert fleet.bucket.record() == first
        assert fleet.bucket.claim() is None


@in_virtual_time
async def test_an_archive_that_is_there_is_not_uploaded_again() -> None:
    async with Fleet() as fleet:
        await fetches(fleet.machine())
        del fleet.bucket.objects[record_path(KEY)]
        await fetches(fleet.machine())
        assert fleet.bucket.requests.by_kind["upload"] == 1


@in_virtual_time
async def test_figures_count_each_question_once_by_how_it_ended() -> None:
    async with Fleet() as fleet:
        first, second = fleet.machine(), fleet.machine()
        await asyncio.gather(fetches(first), asyncio.sleep(1.0))
        await second.found()
        assert (first.tier.figures.claimed, first.tier.figures.uploaded) == (1, 1)
        assert first.tier.figures.uploaded_bytes == len(ARCHIVE)
        assert (second.tier.figures.found, second.tier.figures.waited, second.tier.figures.alone) == (1, 0, 0)
        assert first.tier.status.state == "ok"
