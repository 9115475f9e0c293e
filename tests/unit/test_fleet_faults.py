"""A store that fails, stalls, denies, is too busy or has garbage: no machine is worse off than alone for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from hubclient.contract import handles
from hubclient.contract.errors import (
    HubError,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from hubd.failures import Busy
from hubd.fleet.claims import Alone
from hubd.fleet.records import archive_path, claim_path, record_path
from hubd.fleet.tier import Found
from hubd.fleet.turn import Turn
from hubd.network.sources import ArchiveRequest
from hubd.network.terms import Changed
from tests.support.fleet import (
    ARCHIVE,
    HANDLE,
    KEY,
    Fleet,
    chunks_of,
    fetching,
    in_virtual_time,
    record_of,
    seconds,
)

AWAY = UpstreamUnavailable("the store cannot be connected to")
FEW_SECONDS = 10.0

# Each kind of request of one question, and what it is for.
STEPS = [("read", "handles/"), ("read", "claims/"), ("create", "claims/")]


@pytest.mark.parametrize(("kind", "prefix"), STEPS)
@pytest.mark.parametrize("error", [AWAY, UpstreamTimeout("no answer"), None], ids=["away", "timeout", "stalls"])
def test_a_store_that_is_away_at_any_step_leaves_a_machine_alone_in_seconds(
    kind: str, prefix: str, error: HubError | None
) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            if error is not None:
                fleet.bucket.fails(kind, prefix, error)
            else:
                fleet.bucket.stalls(kind, prefix)
            machine = fleet.machine()
            assert isinstance(await machine.ask(), Alone)
            assert seconds() < FEW_SECONDS
            assert machine.tier.status.state == "away"
            asked = len(fleet.bucket.asked)
            assert isinstance(await machine.ask(), Alone)  # at once, and nobody is asked
            assert len(fleet.bucket.asked) == asked

    story()


@pytest.mark.parametrize("kind", ["read", "replace"])
def test_a_store_that_goes_away_while_one_waits_or_takes_over_leaves_it_alone(kind: str) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            holder, machine = fleet.machine(), fleet.machine()
            await holder.turn()
            holder.dies()
            waiting = asyncio.create_task(machine.ask())
            await asyncio.sleep(5.0)
            fleet.bucket.fails(kind, "", AWAY)
            assert isinstance(await waiting, Alone)
            assert seconds() < (FEW_SECONDS if kind == "read" else 50.0) + 10.0

    story()


@in_virtual_time
async def test_a_cut_that_passes_is_no_reason_to_go_alone() -> None:
    async with Fleet() as fleet:
        fleet.bucket.fails("read", "handles/", AWAY, times=1)
        turn = await fleet.machine().turn()
        await turn.abandoned()


@in_virtual_time
async def test_the_store_is_tried_by_one_once_its_pause_is_over() -> None:
    async with Fleet() as fleet:
        machine = fleet.machine()
        fleet.bucket.fails("*", "", AWAY)
        await machine.ask()
        fleet.bucket.faults.clear()
        fleet.bucket.stalls("read", "")
        fleet.bucket.asked.clear()
        await asyncio.sleep(machine.tier.status.retry_in_seconds)
        assert all(isinstance(outcome, Alone) for outcome in await asyncio.gather(*(machine.ask() for _ in range(9))))
        assert len(fleet.bucket.asked) == 1
        fleet.bucket.faults.clear()
        await asyncio.sleep(machine.tier.status.retry_in_seconds)
        turn = await machine.turn()
        assert machine.tier.status.state == "ok"
        await turn.abandoned()


@pytest.mark.parametrize(
    ("error", "state"), [(UpstreamDenied("denied"), "denied"), (UpstreamNotFound("no bucket"), "missing")]
)
def test_a_store_that_denies_or_is_not_there_says_so(error: HubError, state: str) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            fleet.bucket.fails("*", "", error)
            machine = fleet.machine()
            assert isinstance(await machine.ask(), Alone)
            status = machine.tier.status
            assert (status.state, status.trouble) == (state, error.detail)
            assert status.retry_in_seconds > 0
            assert error.detail in (await machine.ask()).reason, "also while it is left alone"

    story()


@in_virtual_time
async def test_a_store_that_may_only_be_read_is_read() -> None:
    async with Fleet() as fleet:
        machine = fleet.machine()
        fleet.bucket.fails("create", "", UpstreamDenied("no writing"))
        assert await machine.ask() == Alone("no writing")
        assert machine.tier.status.state == "denied"
        fleet.bucket.put(record_path(KEY), record_of().body())
        assert isinstance(await machine.ask(), Found)
        assert machine.tier.status.trouble == "no writing"


@in_virtual_time
async def test_a_look_at_the_store_writes_nothing_and_tells_how_it_is() -> None:
    async with Fleet() as fleet:
        machine = fleet.machine()
        await machine.tier.probe()
        assert [kind for kind, _ in fleet.bucket.asked] == ["read"]
        fleet.bucket.fails("read", "", Busy("later"), times=1)
        await machine.tier.probe()
        assert machine.tier.status[:2] == ("ok", None)  # it lives
        fleet.bucket.fails("read", "", UpstreamDenied("denied"))
        await machine.tier.probe()
        assert machine.tier.status[:2] == ("denied", "denied")


@in_virtual_time
async def test_a_busy_store_is_left_alone_and_not_the_origin_asked() -> None:
    async with Fleet() as fleet:
        fleet.bucket.fails("*", "", Busy("later"), times=5)
        turn = await fleet.machine().turn()
        assert seconds() > FEW_SECONDS
        await turn.abandoned()


@in_virtual_time
async def test_a_store_that_is_only_ever_busy_is_away() -> None:
    async with Fleet() as fleet:
        fleet.bucket.fails("*", "", Busy("later"))
        machine = fleet.machine()
        assert isinstance(await machine.ask(), Alone)
        assert 30.0 <= seconds() <= 50.0
        await asyncio.sleep(machine.tier.status.retry_in_seconds)
        began = seconds()
        assert isinstance(await machine.ask(), Alone)  # who tries whether it is well again does not wait for it
        assert seconds() - began < 1.0


@pytest.mark.parametrize(("kind", "prefix"), STEPS)
def test_a_cancelled_asker_leaves_no_claim(kind: str, prefix: str) -> None:
    """Cancelled before and after each request of its way to the claim."""

    @in_virtual_time
    async def story() -> None:
        for after_seconds in (0.0, 0.01, 0.019, 0.021):
            async with Fleet() as fleet:
                struck = asyncio.Event()

                async def strike(struck: asyncio.Event = struck) -> None:
                    struck.set()

                fleet.bucket.faults.append((kind, prefix, strike))
                asking = asyncio.create_task(fleet.machine().ask())
                await struck.wait()
                await asyncio.sleep(after_seconds)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                assert fleet.bucket.objects == {}

    story()


@pytest.mark.parametrize("takes_place", [True, False])
def test_a_claim_whose_making_was_cut_off_is_not_waited_for(takes_place: bool) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            create = fleet.bucket.create

            async def cut(path: str, data: bytes) -> None:
                fleet.bucket.create = create  # type: ignore[method-assign]
                if takes_place:
                    await create(path, data)
                raise AWAY

            fleet.bucket.create = cut  # type: ignore[method-assign]
            turn = await fleet.machine().turn()
            assert seconds() < FEW_SECONDS
            await turn.abandoned()
            assert fleet.bucket.objects == {}

    story()


@in_virtual_time
async def test_a_claim_that_another_made_meanwhile_is_left_to_it() -> None:
    async with Fleet() as fleet:

        async def made_and_cut() -> None:
            fleet.bucket.faults.clear()
            fleet.bucket.put(claim_path(KEY), b"another's")
            raise AWAY

        fleet.bucket.faults.append(("create", "claims/", made_and_cut))
        waiting = asyncio.create_task(fleet.machine().ask())
        await asyncio.sleep(FEW_SECONDS)
        assert fleet.bucket.objects[claim_path(KEY)].data == b"another's"
        assert not waiting.done()
        waiting.cancel()


@in_virtual_time
async def test_a_beat_whose_answer_was_lost_loses_no_turn() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        replace = fleet.bucket.replace

        async def cut(path: str, data: bytes, version: object) -> None:
            await replace(path, data, version)  # type: ignore[arg-type]
            fleet.bucket.replace = replace  # type: ignore[method-assign]
            raise AWAY

        fleet.bucket.replace = cut  # type: ignore[method-assign]
        await fetching(turn, 20.0)
        assert not turn.is_lost
        claim = fleet.bucket.claim()
        assert claim is not None
        assert claim.beat >= 3
        await turn.landed(record_of(), chunks_of())
        assert fleet.bucket.claim() is None


@in_virtual_time
async def test_garbage_in_place_of_a_claim_is_taken_over_after_the_timeout() -> None:
    async with Fleet() as fleet:
        fleet.bucket.put(claim_path(KEY), b"{")
        turn = await fleet.machine().turn()
        assert 30.0 <= seconds() <= 45.0
        await turn.abandoned()
        assert fleet.bucket.claim() is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        record_of().body().replace(b'"layout":1', b'"layout":2'),
        record_of(handle="https://modules.example.org/another/1").body(),
        record_of().body().replace(record_of().digest.encode(), b"../../etc/passwd"),
        record_of().body().replace(b'"archive_bytes":', b'"archive_bytes":1' + 400 * b"0"),
    ],
)
def test_garbage_in_place_of_a_record_counts_as_not_there_and_is_replaced(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            fleet.bucket.put(record_path(KEY), garbage)
            turn = await fleet.machine().turn()
            assert turn.stale is None
            assert await turn.landed(record_of(), chunks_of()) == "uploaded"
            assert isinstance(await fleet.machine().ask(), Found)

    with caplog.at_level(logging.WARNING):
        story()
    assert "is no record of that handle" in caplog.text


@in_virtual_time
async def test_a_huge_object_in_place_of_a_record_is_that_handles_trouble_alone() -> None:
    async with Fleet() as fleet:
        machine = fleet.machine()
        fleet.bucket.put(record_path(KEY), bytes(1 << 20))
        assert isinstance(await machine.ask(), Alone)
        assert machine.tier.status.state == "ok"


@pytest.mark.parametrize("mode", ["read-write", "read-only"])
def test_a_claim_that_could_not_be_removed_hides_the_record_for_its_timeout_at_most(mode: str) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            turn = await fleet.machine().turn()
            waiting = asyncio.create_task(fleet.machine(mode=mode).ask())  # type: ignore[arg-type]
            await asyncio.sleep(1.0)
            fleet.bucket.fails("remove", "claims/", AWAY)
            await turn.landed(record_of(), chunks_of())
            assert isinstance(await waiting, Found)
            assert seconds() < 45.0
            began = seconds()
            assert isinstance(await fleet.machine().ask(), Found)
            assert seconds() - began < 1.0

    story()


@in_virtual_time
async def test_an_upload_is_tried_again_and_its_record_written_last() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        fleet.bucket.fails("upload", "archives/", AWAY, times=2)
        fleet.bucket.fails("create", "handles/", AWAY, times=1)
        fleet.bucket.asked.clear()
        assert await turn.landed(record_of(), chunks_of()) == "uploaded"
        written = [(kind, path) for kind, path in fleet.bucket.asked if kind in ("upload", "create", "remove")]
        assert written == [
            *[("upload", archive_path(record_of().digest))] * 3,
            *[("create", record_path(KEY))] * 2,
            ("remove", claim_path(KEY)),
        ]


@in_virtual_time
async def test_an_upload_that_fails_for_good_leaves_no_record_and_nobody_waits_for_another_try() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        fleet.bucket.fails("upload", "archives/", AWAY)
        waiting = [asyncio.create_task(fleet.machine().ask()) for _ in range(9)]
        await asyncio.sleep(1.0)
        with pytest.raises(UpstreamUnavailable):
            await turn.landed(record_of(), chunks_of())
        assert all(isinstance(outcome, Alone) for outcome in await asyncio.gather(*waiting))
        assert sorted(fleet.bucket.objects) == [claim_path(KEY)]


@in_virtual_time
async def test_an_upload_that_stalls_ends() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        fleet.bucket.stalls("upload", "archives/")
        with pytest.raises(UpstreamTimeout):
            await turn.landed(record_of(), chunks_of())
        assert seconds() < 200.0


@in_virtual_time
async def test_an_upload_that_our_own_pace_holds_back_is_no_stall() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()

        async def paced() -> AsyncIterator[bytes]:
            for byte in ARCHIVE:
                await asyncio.sleep(90.0)
                yield bytes([byte])

        assert await turn.landed(record_of(), paced) == "uploaded"


@in_virtual_time
async def test_an_upload_that_is_given_up_ends_at_once_and_its_claim_goes_after_that() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        fleet.bucket.stalls("upload", "archives/")
        fleet.bucket.stalls("remove", "claims/")
        sharing = asyncio.create_task(turn.landed(record_of(), chunks_of()))
        await asyncio.sleep(5.0)
        began = seconds()
        sharing.cancel()
        await asyncio.wait({sharing})
        assert seconds() == began
        fleet.bucket.faults.clear()
        await turn.abandoned()
        assert fleet.bucket.objects == {}


@in_virtual_time
async def test_a_claim_is_let_go_of_even_if_that_is_given_up_at_first() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        fleet.bucket.stalls("remove", "claims/")
        sharing = asyncio.create_task(turn.landed(record_of(), chunks_of()))
        await asyncio.sleep(1.0)
        assert fleet.bucket.record() is not None
        sharing.cancel()
        await asyncio.wait({sharing})
        fleet.bucket.faults.clear()
        await turn.abandoned()
        assert fleet.bucket.claim() is None


@in_virtual_time
async def test_letting_a_claim_go_takes_a_store_that_is_slow_no_longer_than_a_stop_may() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        await asyncio.sleep(20.0)  # so that it is to be written before it is removed
        for kind in ("read", "replace", "remove"):
            fleet.bucket.faults.append((kind, "", lambda: asyncio.sleep(2.0)))
        began = seconds()
        await turn.abandoned()
        assert seconds() - began < 2.5
        asking = asyncio.create_task(fleet.machine().ask())
        fleet.bucket.stalls("create", "claims/")
        fleet.bucket.objects.clear()
        await asyncio.sleep(6.0)
        assert ("create", claim_path(KEY)) in fleet.bucket.asked
        began = seconds()
        asking.cancel()
        await asyncio.wait({asking})
        assert seconds() - began < 2.5


@in_virtual_time
async def test_who_only_waits_leaves_it_to_others_to_find_out_whether_the_store_takes_writes_again() -> None:
    async with Fleet() as fleet:
        machine = fleet.machine()
        fleet.bucket.fails("create", "", UpstreamDenied("no writing"), times=1)
        assert isinstance(await machine.ask(), Alone)
        await asyncio.sleep(machine.tier.status.retry_in_seconds)
        holder = await fleet.machine().turn()
        waiting = asyncio.create_task(machine.ask())
        await asyncio.sleep(5.0)
        other = "https://modules.example.org/other/1"
        turn = await machine.tier.ask(handles.key(other), is_immutable=True)
        assert isinstance(turn, Turn)
        await turn.abandoned()
        waiting.cancel()
        await holder.abandoned()


@in_virtual_time
async def test_ending_a_turn_raises_nothing_when_the_store_is_away() -> None:
    async with Fleet() as fleet:
        turns = [await fleet.machine().turn()]
        fleet.bucket.fails("*", "", AWAY)
        for turn in turns:
            await turn.renew()
            await turn.failed("upstream-not-found")
            await turn.abandoned()


@in_virtual_time
async def test_the_archive_is_demanded_to_have_the_records_digest_and_size() -> None:
    async with Fleet() as fleet:
        turn = await fleet.machine().turn()
        await turn.landed(record_of(), chunks_of())
        machine = fleet.machine()
        found = await machine.found()
        async with found.open(ArchiveRequest(HANDLE)) as delivery:
            assert [stated.value.hex() for stated in delivery.expected.digests] == [record_of().digest]
            assert delivery.body is not None
            assert b"".join([chunk async for chunk in delivery.body]) == ARCHIVE
        with pytest.raises(Changed):
            async with found.open(ArchiveRequest(HANDLE)):
                raise Changed("it was uploaded anew in the middle")
        assert machine.tier.status.trouble is None
        fleet.bucket.put(archive_path(record_of().digest), ARCHIVE[:-1])
        with pytest.raises(HubError, match="its record says"):
            async with found.open(ArchiveRequest(HANDLE)):
                pass
        del fleet.bucket.objects[archive_path(record_of().digest)]
        with pytest.raises(UpstreamNotFound):
            async with found.open(ArchiveRequest(HANDLE)):
                pass
        assert machine.tier.status.trouble is None  # it is the archive's
        fleet.bucket.fails("archive", "", AWAY)
        with pytest.raises(UpstreamUnavailable):
            async with found.open(ArchiveRequest(HANDLE)):
                pass
        assert machine.tier.status.state == "away"
