"""One archive into its spool, over as many connections and tries as it takes.

Law: whatever single connections do, the bytes of one version of the archive end up where they belong, each once; and a
transfer ends only whole, or with what was wrong with its last try.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass

from hubclient.contract.errors import ArchiveTooLarge, HubError, UpstreamTimeout, UpstreamUnavailable
from hubd.failures import Hopeless
from hubd.network.conditions import RangeRefused
from hubd.network.connections import Place
from hubd.network.digests import Checker, Unchecked
from hubd.network.patience import Patience, TooSlow
from hubd.network.ramp import Ramp
from hubd.network.segments import ENDLESS, Plan, Segment, segment_bytes
from hubd.network.sources import Delivery
from hubd.network.speed import Held, Speed
from hubd.network.spool import SpoolWriter
from hubd.network.terms import Changed, Hooks, Received, Terms

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_WORTH_BYTES = 8 << 20  # with less left, more connections gain nothing


@dataclass(eq=False)
class _Connection:
    """What one connection does, and by what right; None: the fetch's own."""

    segment: Segment
    place: Place | None


_Work = asyncio.Task[HubError | RangeRefused | None]


class Transfer:
    """Of one delivery. To be run once."""

    def __init__(
        self,
        delivery: Delivery,
        spool: str,
        terms: Terms,
        hooks: Hooks,
        patience: Patience | None = None,
        threads: Executor | None = None,
    ) -> None:
        """`spool`: a new file, or with `delivery.from_bytes` one that has just so many bytes."""
        self._delivery = delivery
        self._spool = spool
        self._terms = terms
        self._hooks = hooks
        self._patience = patience or Patience(0)
        self._patience.begin(delivery.from_bytes)
        self._threads = threads
        self._plan = Plan(delivery.from_bytes, delivery.total_bytes)
        self._ramp = Ramp(terms.connections, time.monotonic())
        self._working: dict[_Work, _Connection] = {}
        self.received_bytes = self.most_connections = 0  #: by this transfer, over the network; and at a time
        self._end_bytes = delivery.total_bytes  # of the whole archive, as soon as it is known
        self._due_bytes = delivery.from_bytes  # in the spool or on the way there, each byte once or more
        self._held = Held()
        self._may_have_holes = False
        self._is_alone = True  # one connection, since the last pause
        self._no_ranges = delivery.part is None
        self._speed = Speed(terms.window_seconds)

    async def run(self) -> Received:
        """Raises `ArchiveTooLarge`, upstream-* errors, `Changed`, what the hooks raise, and `OSError` of the disk."""
        hooks, at = self._hooks, self._delivery.from_bytes
        checker = Unchecked() if self._delivery.is_tree else Checker(self._delivery.expected)
        writer = SpoolWriter(self._spool, hooks.on_written, self._threads, from_bytes=at, checker=checker)
        async with writer:
            self._writer = writer
            try:
                await self._receive()
            finally:
                await self._dismiss(*self._working)
            assert self._end_bytes is not None
            return Received(self._end_bytes, await writer.finish(self._end_bytes))

    async def _receive(self) -> None:
        segment = self._plan.take(ENDLESS, time.monotonic())
        if segment is not None:
            self._launch(segment, self._delivery.body)
        while self._working:
            ended, _ = await asyncio.wait(self._working, timeout=_TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            error = None
            for task in ended:
                del self._working[task]
                error = task.result() or error  # what is no HubError is raised
            if self._working:
                if error is not None:
                    self._no_ranges = self._no_ranges or isinstance(error, RangeRefused)
                    self._ramp.refused(len(self._working), self.received_bytes, time.monotonic())
                    log.debug("a connection fewer: %s", error)
                error = await self._adjust()
            if self._working or (error is None and not self._plan.left_bytes):
                continue
            if error is not None:
                await self._pause(error)
            self._speed = Speed(self._terms.window_seconds)
            self._ramp = Ramp(self._terms.connections, time.monotonic())
            if (segment := self._plan.take(ENDLESS, time.monotonic())) is not None:
                self._launch(segment)

    async def _pause(self, error: HubError | RangeRefused) -> None:
        """Waits before the next try, or raises why there is none."""
        if isinstance(error, RangeRefused):
            raise Changed(f"the rest was asked for, and the answer came {error}") from None
        if self._delivery.part is None:
            raise error
        alone, self._is_alone = self._is_alone, True
        # What an origin that limits connections tells one of several, it need not tell a single one.
        judged = error if alone or isinstance(error, UpstreamTimeout) else UpstreamUnavailable(error.detail)
        try:
            seconds = self._patience.pause_seconds(judged, self._delivery.from_bytes + self.received_bytes)
        except HubError:
            raise error from None
        self._hooks.on_pause(error, seconds)
        await asyncio.sleep(seconds)

    async def _adjust(self) -> HubError | None:
        """More connections or fewer; the error with which all ended, if they bring too little."""
        now, plan = time.monotonic(), self._plan
        self._speed.sample(now, self.received_bytes, is_held=self._held.is_now)
        if self._speed.is_below(self._terms.min_rate):
            await self._dismiss(*self._working)
            return TooSlow(f"the origin sends less than network.min_rate ({self._terms.min_rate} bytes per second)")
        if self._held.is_most_of_the_time(now):  # each more brings nothing, and has a buffer
            self._ramp.held(len(self._working), self.received_bytes, now)
            await self._dismiss(*list(self._working)[self._ramp.wanted :])
            return None
        wanted = self._ramp.step(self.received_bytes, self._hooks.is_starving(), now)
        if self._no_ranges or plan.is_endless or len(self._working) >= wanted:
            return None
        if not self._may_have_holes:
            if plan.left_bytes < _WORTH_BYTES:
                return None
            self._may_have_holes = await self._hooks.before_holes()
            if not self._may_have_holes:
                return None
        for running in list(plan.running):
            plan.bound(running, self._segment_bytes())
        while len(self._working) < wanted:
            segment = plan.take(self._segment_bytes(), now) or await self._relieve(now)
            if segment is None:
                break
            if not self._launch(segment):
                plan.leave(segment)
                break
            self._is_alone = False
        return None

    async def _relieve(self, now: float) -> Segment | None:
        if (found := self._plan.relieve(self._usual_rate(), now)) is None:
            return None
        segment, ended = found
        await self._dismiss(*(task for task, connection in self._working.items() if connection.segment is ended))
        return segment

    def _segment_bytes(self) -> int:
        return segment_bytes(self._plan.left_bytes, self._ramp.wanted, self._usual_rate())

    def _usual_rate(self) -> float:
        """Bytes per second of a usual connection."""
        return self._speed.lately() / max(1, len(self._working))

    def _launch(self, segment: Segment, body: AsyncIterator[bytes] | None = None) -> bool:
        """Whether there is a place for one more connection; the first has the fetch's own."""
        is_first = all(connection.place is not None for connection in self._working.values())
        place = None if is_first else self._delivery.extra()
        if place is None and not is_first:
            return False
        connection = _Connection(segment, place)
        task = asyncio.create_task(self._work(connection, body))
        self._working[task] = connection
        self.most_connections = max(self.most_connections, len(self._working))
        if place is not None:
            task.add_done_callback(lambda _: place.release())
        return True

    async def _dismiss(self, *tasks: _Work) -> None:
        for task in tasks:
            self._working.pop(task, None)
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, connection: _Connection, body: AsyncIterator[bytes] | None) -> HubError | RangeRefused | None:
        """Receives segment after segment, until there is none, or this connection is one too many."""
        plan = self._plan
        while True:
            segment = connection.segment
            try:
                if body is not None:
                    try:
                        await self._take_in(segment, body, is_whole=True)
                    finally:
                        self._delivery.close()  # others may have the rest of it
                else:
                    assert self._delivery.part is not None
                    end = segment.end if segment.end < ENDLESS else None
                    async with self._delivery.part(segment.at, end) as part:
                        await self._take_in(segment, part, is_whole=False)
            except (RangeRefused, HubError) as error:
                return error
            finally:
                plan.leave(segment)
            body = None
            if len(self._working) > self._ramp.wanted or (connection.place is not None and connection.place.is_wanted):
                return None
            if (following := plan.take(self._segment_bytes(), time.monotonic())) is None:
                return None
            connection.segment = following

    async def _take_in(self, segment: Segment, body: AsyncIterator[bytes], *, is_whole: bool) -> None:
        """Up to the segment's end, wherever that is by then; an answer with all that follows may get more of it."""
        limit_bytes, writer = self._terms.limit_bytes, self._writer
        async for chunk in body:
            with self._held.back():
                await self._hooks.pace(len(chunk))
            if segment.end >= ENDLESS and segment.at + len(chunk) > limit_bytes:
                raise ArchiveTooLarge(f"the archive is larger than limits.archive ({limit_bytes} bytes)")
            self._due_bytes = min(self._due_bytes + len(chunk), self._end_bytes or ENDLESS)
            await self._hooks.make_room(self._due_bytes)
            while chunk:
                if not segment.left_bytes and not (is_whole and self._plan.extend(segment, ENDLESS)):
                    if segment.end == self._end_bytes:
                        raise Hopeless(f"the origin announced {self._end_bytes} bytes and sent more")
                    return
                piece, chunk = chunk[: segment.left_bytes], chunk[segment.left_bytes :]
                writer.put(segment.at, piece)
                segment.at += len(piece)
                self.received_bytes += len(piece)
            await writer.drained()
        if segment.end >= ENDLESS:
            self._end_bytes = segment.end = segment.at
        elif segment.left_bytes:
            raise UpstreamUnavailable(f"the origin announced {self._end_bytes} bytes and sent {segment.at}")
