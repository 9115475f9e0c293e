"""Modules that are put into the fleet's store because an administrator says so.

Law: one comes from its origin even where the cache has it, for archives are not kept; and it is published as what any
fetch brings, so that a version with other content than before is found out here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from hubclient.contract import handles
from hubclient.contract.errors import (
    AccessDenied,
    DigestMismatch,
    HubError,
    RequestInvalid,
    ShuttingDown,
    UpstreamNotFound,
    UpstreamUnavailable,
)
from hubd.fetching.fetch import Fetch
from hubd.fetching.flights import Flights
from hubd.fetching.landing import Landed
from hubd.fetching.means import Means
from hubd.store.records import Record

if TYPE_CHECKING:
    from hubd.fetching.sharing import Sharing
    from hubd.fleet.records import FleetRecord


class Pushed(NamedTuple):
    """What the store has now. `is_new`: this push brought it there."""

    record: FleetRecord
    is_new: bool


class PushFlight(NamedTuple):
    """The fetch of one, with what a `Flight` of it would tell."""

    work: Fetch
    waiters: int
    urgent_waiters: int = 0
    is_urgent: bool = False


class Pushes:
    """Those under way: one of a handle, however many want it."""

    def __init__(self, means: Means, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._means = means
        self._flights: Flights[str, Push, Pushed] = Flights(spawn)

    async def push(self, handle: str) -> Pushed:
        """Raises `HubError`s. A cancelled caller leaves; the last one ends it, but for an upload that has begun."""
        canonical = handles.canonical(handle)
        key = handles.key(canonical)
        async with self._flights.board(key, lambda: Push(self._means, canonical, key, handle)) as (flight, _):
            return await flight.outcome()

    def fetches(self) -> list[PushFlight]:
        """Those under way; an upload is told of by `Uploads`."""
        running = [flight for flight in self._flights.running() if flight.work.is_fetching]
        return [PushFlight(flight.work.fetch, flight.waiters) for flight in running]

    def stop(self) -> None:
        self._flights.close(ShuttingDown("hubd is shutting down; try again"))


class Push:
    """The work of one flight."""

    def __init__(self, means: Means, handle: str, key: str, spelling: str) -> None:
        self.is_fetching = True
        self._means = means
        self.fetch = _FetchForAll(means, handle, key, spelling=spelling, refresh=True, is_urgent=lambda: False)

    async def run(self) -> Pushed:
        """Raises `HubError`s."""
        fleet, fetch = self._means.fleet, self.fetch
        if (error := self._means.source.offline(fetch.progress.handle, demanded=False)) is not None:
            raise error
        sharing = fleet.sharing(fetch.progress, fetch.client_waits) if fleet is not None else None
        if sharing is None:
            raise RequestInvalid("the fleet has no part in this module, which is in an object store already")
        try:
            found = await self._ask(sharing)
        except BaseException:
            sharing.end()
            raise
        if found is not None:
            await self._means.to_its_end(lambda: self._require_same(found))
            return Pushed(found, False)
        if sharing.alone is not None:
            raise UpstreamUnavailable(f"the fleet's store cannot be used: {sharing.alone}")
        await fetch.run_with(sharing)
        self.is_fetching = False
        if sharing.errand is not None:
            shared = await asyncio.shield(sharing.errand.outcome)
            return Pushed(sharing.errand.record, shared == "uploaded")
        if sharing.kept is not None:
            return Pushed(sharing.kept, False)
        raise AccessDenied(f"the module is here, and was not uploaded: {sharing.alone}")

    def _require_same(self, found: FleetRecord) -> None:
        """A version that is here with other content is not there, whatever the store has of that name. For a thread."""
        before = self._means.records.get(found.key)
        if before is None or not before.immutable or before.digest == found.digest:
            return
        here = self._means.trees.manifest(before.digest)
        if here is not None and here.content_digest != found.content_digest:
            raise DigestMismatch(
                f"the fleet's store has other content of this version ({found.content_digest[:12]}) than this machine "
                f"({here.content_digest[:12]}); both stay"
            )

    async def _ask(self, sharing: Sharing) -> FleetRecord | None:
        """What the store has, archive and all."""
        means = self._means
        assert means.fleet is not None
        async with means.slots.turn(lambda: False) as slot:
            while (found := await sharing.ask(slot)) is not None:
                if await sharing.has_archive(found):
                    return found.record
                sharing.refuse(UpstreamNotFound("the fleet's store has only the record of it"))
        return None


class _FetchForAll(Fetch):
    """From the origin, whatever is here."""

    async def run_with(self, sharing: Sharing) -> Landed:
        self._sharing = sharing
        return await self.run()

    def _is_enough(self, before: Record) -> bool:
        return False

    def _goes_on_after(self, error: HubError, before: Record) -> bool:
        return False

    async def _ask(self) -> Landed:
        landed = await self._ask_in_turn(None, self._confirmed)
        assert landed is not None
        return landed
