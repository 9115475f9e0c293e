"""Whatever single connections do, one version of the archive arrives, each byte once."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hubclient.contract.errors import ArchiveTooLarge, UpstreamDenied, UpstreamTimeout, UpstreamUnavailable
from hubd.network.conditions import RangeRefused, Validators
from hubd.network.connections import Connections
from hubd.network.pace import Pace
from hubd.network.patience import Patience
from hubd.network.sources import Delivery
from hubd.network.terms import Changed, Hooks, Received, Terms
from hubd.network.transfer import Transfer

MIB = 1 << 20
BODY = os.urandom(16 * MIB)
STRONG = Validators('"a"')

Body = AsyncIterator[bytes]
Answer = Callable[[int, int | None], Body]


async def pieces(body: bytes, size_bytes: int = 100_000) -> Body:
    for start in range(0, len(body), size_bytes):
        yield body[start : start + size_bytes]
        await asyncio.sleep(0)


async def chunked(chunks: Iterable[bytes]) -> Body:
    for chunk in chunks:
        yield chunk


def quick() -> Patience:
    return Patience(3, lambda low, high: 0.0)


class Place:
    """Where parts can be had: `answer` gives the body of each, and the parts that were asked for are noted."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.asked: list[tuple[int, int | None]] = []
        self._answer = answer or (lambda start, end: pieces(BODY[start:end]))

    @asynccontextmanager
    async def part(self, start: int, end: int | None) -> AsyncIterator[Body]:
        self.asked.append((start, end))
        yield self._answer(start, end)


def delivery(
    body: Body, total_bytes: int | None = len(BODY), place: Place | None = None, from_bytes: int = 0
) -> Delivery:
    part = place.part if place is not None else None
    return Delivery(body, total_bytes, STRONG, "host", from_bytes, STRONG if part else None, part)


async def run(
    told: Delivery,
    tmp_path: Path,
    *,
    patience: Patience | None = None,
    terms: Terms | None = None,
    hooks: Hooks | None = None,
) -> Received:
    hooks = hooks or Hooks(lambda _: None, is_starving=lambda: True)
    terms = terms or Terms(10**9, connections=4)
    async with Connections(16, 16).first("host", lambda: True) as place:
        told = replace(told, extra=place.extra)
        return await Transfer(told, str(tmp_path / "part"), terms, hooks, patience).run()


def is_whole(received: Received, tmp_path: Path) -> bool:
    assert received == Received(len(BODY), hashlib.sha256(BODY).hexdigest())
    return (tmp_path / "part").read_bytes() == BODY


async def slowly(body: bytes) -> Body:
    """About 10 MB/s."""
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]
        await asyncio.sleep(0.01)


async def test_one_connection_is_enough_for_an_origin_without_parts(tmp_path: Path) -> None:
    assert is_whole(await run(delivery(pieces(BODY)), tmp_path), tmp_path)


async def test_several_connections_share_an_archive_that_comes_slowly(tmp_path: Path) -> None:
    place = Place(lambda start, end: slowly(BODY[start:end]))
    assert is_whole(await run(delivery(slowly(BODY), place=place), tmp_path), tmp_path)
    assert len(place.asked) >= 3
    asked = Counter(byte for start, end in place.asked for byte in range(start // MIB, (end or len(BODY)) // MIB))
    assert max(asked.values()) <= 2, "nothing but the seams is asked for twice"


async def test_what_our_own_limits_hold_back_takes_no_more_connections(tmp_path: Path) -> None:
    place, pace = Place(), Pace(20 * MIB)
    hooks = Hooks(
        lambda _: None, is_starving=lambda: True, pace=lambda size_bytes: pace.take(size_bytes, prefetch=lambda: False)
    )
    # Large ones: what a busy machine adds to each is little beside what the rate takes for it.
    told = delivery(pieces(BODY, 2 * MIB), place=place)
    assert is_whole(await run(told, tmp_path, hooks=hooks), tmp_path)
    assert place.asked == []


async def test_a_small_rest_is_left_to_one_connection(tmp_path: Path) -> None:
    place = Place()
    small = delivery(slowly(BODY[: 2 * MIB]), 2 * MIB, place)
    await run(small, tmp_path)
    assert place.asked == []


async def test_a_connection_that_fails_costs_its_segment_alone_another_try(tmp_path: Path) -> None:
    failed: list[int] = []

    async def failing(start: int, end: int | None) -> Body:
        async for piece in slowly(BODY[start:end]):
            yield piece
            if len(failed) < 3:
                failed.append(start)
                raise UpstreamUnavailable("cut")

    place = Place(failing)
    assert is_whole(await run(delivery(slowly(BODY), place=place), tmp_path, patience=quick()), tmp_path)
    assert failed, "something failed"
    assert (0, None) not in place.asked, "the archive was never begun anew"


async def test_a_cut_transfer_goes_on_where_it_was(tmp_path: Path) -> None:
    async def cut(body: bytes) -> Body:
        yield body[:MIB]
        if len(body) > MIB:
            raise UpstreamUnavailable("cut")

    place = Place(lambda start, end: cut(BODY[start:end]))
    told = delivery(cut(BODY), place=place)
    assert is_whole(await run(told, tmp_path, patience=quick(), terms=Terms(10**9)), tmp_path)
    assert [start for start, _ in place.asked] == [MIB * number for number in range(1, 16)]


async def test_one_that_brings_nothing_is_given_up(tmp_path: Path) -> None:
    async def nothing(start: int, end: int | None) -> Body:
        yield BODY[start : start + 1]
        raise UpstreamUnavailable("cut once more")

    place = Place(nothing)
    with pytest.raises(UpstreamUnavailable, match="once more"):
        await run(delivery(nothing(0, None), place=place), tmp_path, patience=quick())
    assert [start for start, _ in place.asked] == [1, 2, 3]


async def test_one_that_cannot_be_gone_on_with_says_so(tmp_path: Path) -> None:
    @asynccontextmanager
    async def refused(start: int, end: int | None) -> AsyncIterator[Body]:
        raise RangeRefused("with another ETag")
        yield pieces(b"")

    async def cut() -> Body:
        yield BODY[:MIB]
        raise UpstreamUnavailable("cut")

    told = Delivery(cut(), len(BODY), STRONG, "host", 0, STRONG, refused)
    with pytest.raises(Changed, match="another ETag"):
        await run(told, tmp_path, patience=quick())


async def test_an_origin_that_refuses_parts_goes_on_with_its_one_answer(tmp_path: Path) -> None:
    refusals: list[int] = []

    @asynccontextmanager
    async def refused(start: int, end: int | None) -> AsyncIterator[Body]:
        refusals.append(start)
        raise RangeRefused("from its first byte")
        yield pieces(b"")

    told = Delivery(slowly(BODY), len(BODY), STRONG, "host", 0, STRONG, refused)
    assert is_whole(await run(told, tmp_path), tmp_path)
    assert len(refusals) == 1


async def test_the_tail_is_taken_over_from_a_connection_that_is_stuck(tmp_path: Path) -> None:
    stuck: list[int] = []

    async def one_is_stuck(start: int, end: int | None) -> Body:
        if not stuck:
            stuck.append(start)
            await asyncio.sleep(600)
        async for piece in slowly(BODY[start:end]):
            yield piece

    place = Place(one_is_stuck)
    async with asyncio.timeout(60):
        assert is_whole(await run(delivery(slowly(BODY), place=place), tmp_path), tmp_path)
    assert [start for start, _ in place.asked].count(stuck[0]) == 2


async def test_a_rate_below_the_least_is_cut_off(tmp_path: Path) -> None:
    async def dripping(start: int, end: int | None) -> Body:
        while True:
            yield b"x"
            await asyncio.sleep(0.02)

    terms = Terms(10**9, min_rate=1000, window_seconds=0.5)
    with pytest.raises(UpstreamTimeout, match="min_rate"):
        await run(delivery(dripping(0, None), place=Place(dripping)), tmp_path, terms=terms)


async def test_what_our_own_limit_holds_back_is_not_the_origins_fault(tmp_path: Path) -> None:
    async def held(_: int) -> None:
        await asyncio.sleep(0.2)

    body = bytes(1000)
    hooks = Hooks(lambda _: None, pace=held)
    told = delivery(chunked([body[at : at + 100] for at in range(0, 1000, 100)]), 1000)
    transfer = Transfer(told, str(tmp_path / "part"), Terms(10**9, min_rate=10**6, window_seconds=0.5), hooks)
    assert (await transfer.run()).size_bytes == 1000


async def test_a_denial_is_told_at_once(tmp_path: Path) -> None:
    async def denied(start: int, end: int | None) -> Body:
        yield BODY[start : start + MIB]
        raise UpstreamDenied("no longer")

    with pytest.raises(UpstreamDenied):
        await run(delivery(denied(0, None), place=Place(denied)), tmp_path, patience=quick())


async def test_what_several_connections_are_denied_a_single_one_is_asked_for(tmp_path: Path) -> None:
    """An origin that lets in one may count those that have ended for a while, until none is left."""
    crowded, first_ended = True, asyncio.Event()

    def paused(low: float, high: float) -> float:
        nonlocal crowded
        crowded = False
        return 0.0

    async def part(start: int, end: int | None) -> Body:
        if crowded:
            await first_ended.wait()
            raise UpstreamDenied("too many")
        async for piece in pieces(BODY[start:end]):
            yield piece

    told = replace(delivery(slowly(BODY), place=Place(part)), close=first_ended.set)
    assert is_whole(await run(told, tmp_path, patience=Patience(1, paused)), tmp_path)
    assert not crowded


async def test_more_bytes_than_the_limit_are_refused_while_they_come(tmp_path: Path) -> None:
    came = 0

    async def endless() -> Body:
        nonlocal came
        while True:
            came += 1
            yield bytes(1000)

    with pytest.raises(ArchiveTooLarge):
        await run(delivery(endless(), None), tmp_path, terms=Terms(10_000))
    assert came == 11


@pytest.mark.parametrize("total_bytes", [5, 50])
async def test_a_body_of_another_length_than_announced_is_refused(tmp_path: Path, total_bytes: int) -> None:
    with pytest.raises(UpstreamUnavailable, match=f"announced {total_bytes} bytes"):
        await run(delivery(chunked([b"0123456789"]), total_bytes), tmp_path)


async def test_a_rest_that_is_too_long_or_too_short_is_refused(tmp_path: Path) -> None:
    for rest in (b"6789", b"6789012"):
        (tmp_path / "part").write_bytes(b"12345")
        with pytest.raises(UpstreamUnavailable, match="announced 10 bytes"):
            await run(delivery(chunked([rest]), 10, from_bytes=5), tmp_path)


async def test_the_limit_counts_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"12345")
    with pytest.raises(ArchiveTooLarge):
        await run(delivery(chunked([b"678901"]), None, from_bytes=5), tmp_path, terms=Terms(10))


async def test_a_body_without_a_length_may_be_gone_on_with_too(tmp_path: Path) -> None:
    async def cut() -> Body:
        yield BODY[:MIB]
        raise UpstreamUnavailable("cut")

    place = Place()
    received = await run(delivery(cut(), None, place), tmp_path, patience=quick())
    assert is_whole(received, tmp_path)
    assert place.asked == [(MIB, None)]
