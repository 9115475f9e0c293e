"""``GET /v1/events``: what happens, line by line, while it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from aiohttp import web

from hubclient.contract.errors import RequestInvalid
from hubd.api import messages
from hubd.api.access import Level
from hubd.api.routes import Route, events, viewer
from hubd.events import Events, Watcher

_LONGEST_SECONDS = 86400


class EventRoutes:
    """The handler."""

    def __init__(self, happening: Events) -> None:
        self._events = happening
        self.routes: tuple[Route, ...] = (
            Route(
                "GET",
                "/v1/events",
                Level.USER,
                self.watch,
                "What happens from now on, until you leave or for so many `seconds`; NDJSON",
                None,
                query=("seconds",),
                events=(messages.WaitingEvent, messages.Happened, messages.FailedEvent),
            ),
        )

    async def watch(self, request: web.Request) -> web.StreamResponse:
        stated = request.query.get("seconds", str(_LONGEST_SECONDS))
        if not (stated.isascii() and stated.isdigit() and len(stated) <= 5 and int(stated) <= _LONGEST_SECONDS):
            raise RequestInvalid(f"seconds must be a whole number up to {_LONGEST_SECONDS}")
        with self._events.watching(viewer(request)) as watcher:
            end = asyncio.get_running_loop().call_later(int(stated), watcher.close)
            try:
                return await events(request, _told(watcher))
            finally:
                end.cancel()


async def _told(watcher: Watcher) -> AsyncGenerator[messages.Answer]:
    yield messages.Happened(event="watching", at=datetime.now(UTC))
    async for event in watcher:
        yield messages.Happened(event=event.name, at=event.at, **event.fields)
