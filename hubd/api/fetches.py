"""One fetch: how far it is, and its end before the time.

Law: a user ends only the user's own waiting. A fetch goes on while anybody else waits for it; what it has received is
kept as that of any fetch which was cut short.
"""

from __future__ import annotations

from aiohttp import web

from hubclient.contract.errors import AccessDenied, NotFound
from hubd.api import messages
from hubd.api.access import Level
from hubd.api.progress import fetch_message
from hubd.api.routes import Route, answer, viewer
from hubd.fetching.resolver import Resolver, UnderWay


class FetchRoutes:
    """The handlers."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        path = "/v1/fetches/{id}"
        self.routes: tuple[Route, ...] = (
            Route("GET", path, Level.USER, self.look, "How far a fetch is", messages.Fetch),
            Route(
                "DELETE",
                path,
                Level.USER,
                self.cancel,
                "Withdraw your waiters from a fetch; an administrator's request withdraws all",
                messages.Withdrawn,
            ),
        )

    async def look(self, request: web.Request) -> web.StreamResponse:
        return answer(fetch_message(self._flight(request), self._resolver, viewer(request)))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        flight, uid = self._flight(request), viewer(request)
        withdrawn = self._resolver.waiters.withdraw(flight.work.progress.id, uid)
        if not withdrawn and uid is not None:
            raise AccessDenied("others wait for this fetch, and you do not")
        return answer(messages.Withdrawn(id=flight.work.progress.id, withdrawn=withdrawn))

    def _flight(self, request: web.Request) -> UnderWay:
        for flight in self._resolver.fetches(viewer(request)):
            if flight.work.progress.id == request.match_info["id"]:
                return flight
        raise NotFound("no fetch of this id is under way")
