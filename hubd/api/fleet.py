"""The fleet's routes: how its store is, what lies there, and what an administrator puts there or removes.

Law: nothing goes from the store but what the request's rule chose, and each removal is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid, RequestInvalid
from hubd.api import fleet_messages, messages
from hubd.api.access import Level
from hubd.api.errors import as_hub_error
from hubd.api.fleet_status import fleet_message
from hubd.api.routes import Route, answer, body, events
from hubd.fetching.means import Means
from hubd.fetching.pushing import Pushes

if TYPE_CHECKING:
    from hubd.fleet.tier import Tier

log = logging.getLogger(__name__)

_PUSHED_AT_ONCE = 4


class FleetRoutes:
    """The handlers."""

    def __init__(self, means: Means, pushes: Pushes) -> None:
        self._means = means
        self._pushes = pushes
        always = (messages.WaitingEvent, messages.FailedEvent)
        path = "/v1/fleet"
        self.routes: tuple[Route, ...] = (
            Route("GET", path, Level.USER, self.status, "How the fleet's store is", messages.Fleet),
            Route(
                "GET",
                f"{path}/modules",
                Level.ADMIN,
                self.modules,
                "What lies in the fleet's store; NDJSON",
                None,
                events=(fleet_messages.FleetModule, fleet_messages.FleetModulesDone, *always),
            ),
            Route(
                "POST",
                f"{path}/push",
                Level.ADMIN,
                self.push,
                "Put modules into the fleet's store; NDJSON",
                None,
                fleet_messages.FleetPushRequest,
                events=(fleet_messages.FleetPushed, fleet_messages.FleetPushDone, *always),
            ),
            Route(
                "POST",
                f"{path}/prune",
                Level.ADMIN,
                self.prune,
                "Remove from the fleet's store what is old; NDJSON",
                None,
                fleet_messages.FleetPruneRequest,
                events=(fleet_messages.FleetPruned, fleet_messages.FleetPruneDone, *always),
            ),
        )

    async def status(self, _: web.Request) -> web.StreamResponse:
        return answer(fleet_message(self._means))

    async def modules(self, request: web.Request) -> web.StreamResponse:
        return await events(request, _modules(self._tier()))

    async def push(self, request: web.Request) -> web.StreamResponse:
        asked = await body(request, fleet_messages.FleetPushRequest)
        self._tier(writes=True)
        return await events(request, self._pushed(list(dict.fromkeys(asked.handles))))

    async def prune(self, request: web.Request) -> web.StreamResponse:
        asked = await body(request, fleet_messages.FleetPruneRequest)
        tier = self._tier(writes=not asked.dry_run)
        return await events(request, self._pruned(tier, asked))

    def _tier(self, *, writes: bool = False) -> Tier:
        settings, fleet = self._means.settings, self._means.fleet
        if settings.fleet.store is None:
            raise RequestInvalid("no [fleet] store is configured")
        if fleet is None or fleet.tier is None:
            raise RequestInvalid("this daemon asks no network (network.offline), so it has no [fleet] store")
        if writes and settings.fleet.mode == "read-only":
            raise RequestInvalid('fleet.mode is "read-only": this machine writes nothing to the store')
        return fleet.tier

    async def _pushed(self, wanted: list[str]) -> AsyncGenerator[messages.Answer]:
        outcomes: Counter[str] = Counter()
        turns = asyncio.Semaphore(_PUSHED_AT_ONCE)

        async def one(handle: str) -> fleet_messages.FleetPushed:
            async with turns:
                return await self._push(handle)

        pushing = [asyncio.create_task(one(handle)) for handle in wanted]
        try:
            for ended in asyncio.as_completed(pushing):
                pushed = await ended
                outcomes[pushed.outcome] += 1
                yield pushed
        finally:
            for task in pushing:
                task.cancel()
        yield fleet_messages.FleetPushDone(
            uploaded=outcomes["uploaded"], there=outcomes["there"], failed=outcomes["failed"]
        )

    async def _push(self, handle: str) -> fleet_messages.FleetPushed:
        key = None
        with suppress(HandleInvalid):
            key = handles.key(handles.canonical(handle))
        try:
            record, is_new = await self._pushes.push(handle)
        except Exception as caught:
            error = as_hub_error(caught)
            return fleet_messages.FleetPushed(
                handle=handle,
                key=key,
                outcome="failed",
                digest=None,
                archive_bytes=None,
                code=error.code,
                detail=error.detail,
            )
        return fleet_messages.FleetPushed(
            handle=handle,
            key=key,
            outcome="uploaded" if is_new else "there",
            digest=record.digest,
            archive_bytes=record.archive_bytes,
            code=None,
            detail=None,
        )

    async def _pruned(self, tier: Tier, asked: fleet_messages.FleetPruneRequest) -> AsyncGenerator[messages.Answer]:
        from hubd.fleet.retention import Removed  # which is loaded already where there is a tier

        async for one in tier.prune(asked.older_than_seconds, dry_run=asked.dry_run):
            if isinstance(one, Removed):
                yield fleet_messages.FleetPruneDone(removed=one.removed, removed_bytes=one.removed_bytes)
                return
            if one.removed:
                log.info("pruned the %s %s from the fleet's store, %d bytes", one.kind, one.name, one.size_bytes)
            yield fleet_messages.FleetPruned(**one._asdict())


async def _modules(tier: Tier) -> AsyncGenerator[messages.Answer]:
    from hubd.fleet.retention import Totals

    async for one in tier.modules():
        if isinstance(one, Totals):
            yield fleet_messages.FleetModulesDone(**one._asdict())
            return
        record = one.record
        yield fleet_messages.FleetModule(
            handle=record.handle,
            key=record.key,
            digest=record.digest,
            archive_bytes=record.archive_bytes,
            age_seconds=one.age_seconds,
            has_archive=one.has_archive,
        )
