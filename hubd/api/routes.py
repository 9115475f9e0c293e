"""The routes, each beside the access level that it needs.

Law: there is no way to register a route without a level (`Route` demands it), and nothing else serves the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from hubclient.contract import handles
from hubclient.contract.errors import HubError, RequestInvalid
from hubd import __version__
from hubd.api import messages, progress
from hubd.api.access import Caller, Gate, Level
from hubd.api.bodies import MAX_BODY_BYTES, Bodies
from hubd.api.connection import Connection
from hubd.api.errors import as_hub_error, problems
from hubd.api.inventory import Inventory
from hubd.api.openapi import encoded
from hubd.fetching.resolver import Ask, Resolver

_WAITING_SECONDS = 4.0  # a line goes out so often, so that a long work differs from a dead daemon

M = TypeVar("M", bound=BaseModel)

_CALLER, _VIEWER = "caller", "viewer"
_BODIES = web.AppKey("bodies", Bodies)


@dataclass(frozen=True)
class Route:
    """One route of the API, and what its OpenAPI document says of it."""

    method: str
    path: str
    level: Level
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answer: type[BaseModel] | None
    request: type[BaseModel] | None = None
    status: int = 200
    query: tuple[str, ...] = ()
    events: tuple[type[BaseModel], ...] = ()  # what it answers, or can answer, as lines of NDJSON
    content_type: str = "application/json"  # of an answer that is no such lines


def application(routes: Sequence[Route], gate: Gate) -> web.Application:
    """The routes as a web application that knows its callers from the kernel, and lets in whom the gate does."""
    app = web.Application(middlewares=[problems], client_max_size=MAX_BODY_BYTES)
    app[_BODIES] = Bodies()
    for route in routes:
        app.router.add_route(route.method, route.path, _guarded(route, gate))
    return app


def _guarded(route: Route, gate: Gate) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        who = _caller_of(request.protocol)
        level = gate.admit(who, route.level)
        if unknown := set(request.query) - set(route.query):
            raise RequestInvalid(f"{route.path} takes no ?{min(unknown)[:80]} (hubd {__version__})")
        request[_CALLER] = who
        request[_VIEWER] = None if level >= Level.ADMIN else who.uid
        return await route.handler(request)

    return handler


def _caller_of(connection: web.RequestHandler) -> Caller:
    assert isinstance(connection, Connection)  # nothing else serves these routes
    return connection.caller


def viewer(request: web.Request) -> int | None:
    """Whose eyes the answer is for: a uid that sees what it may read, or None for an administrator, who sees all."""
    uid: int | None = request[_VIEWER]
    return uid


def caller(request: web.Request) -> Caller:
    """Who asks, whom the gate has let in."""
    found: Caller = request[_CALLER]
    return found


class Api:
    """The handlers. `routes` are their own and `others`, and the document tells of all."""

    def __init__(self, resolver: Resolver, inventory: Inventory, others: Sequence[Route] = ()) -> None:
        self._resolver = resolver
        self._inventory = inventory
        self.routes: tuple[Route, ...] = (
            Route(
                "POST",
                "/v1/resolve",
                Level.USER,
                self.resolve,
                "The path of a module, fetched first if need be",
                messages.Resolved,
                messages.ResolveRequest,
                events=(messages.WaitingEvent, messages.ProgressEvent, messages.ResolvedEvent, messages.FailedEvent),
            ),
            Route(
                "POST",
                "/v1/prefetch",
                Level.USER,
                self.prefetch,
                "Start fetches without waiting for them",
                messages.Prefetched,
                messages.PrefetchRequest,
                status=202,
            ),
            Route(
                "POST",
                "/v1/uses",
                Level.USER,
                self.uses,
                "Report what was used without asking",
                messages.Used,
                messages.UsesRequest,
                status=202,
            ),
            Route("GET", "/v1/fetches", Level.USER, self.fetches, "The fetches under way", messages.Fetches),
            Route(
                "GET",
                "/v1/modules",
                Level.USER,
                self.modules,
                "The cached modules, paged by key",
                messages.Modules,
                query=("after", "limit", "filter"),
            ),
            Route("GET", "/v1/modules/{key}", Level.USER, self.module, "One module", messages.Signatures),
            Route("GET", "/v1/status", Level.USER, self.status, "How the daemon is", messages.Status),
            Route("GET", "/v1/openapi.json", Level.USER, self.openapi, "This document", None),
            *others,
        )

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        asked = await body(request, messages.ResolveRequest)
        ask = Ask(
            asked.handle,
            asked.hex_digest,
            asked.refresh,
            asked.offline,
            uid=caller(request).uid,
            credential=asked.credential.credential if asked.credential is not None else None,
            is_limited=viewer(request) is not None,
        )
        if progress.CONTENT_TYPE in request.headers.get("Accept", ""):
            return await progress.stream(request, self._resolver, ask, viewer(request))
        resolution = await self._resolver.look(ask) or await self._resolver.fetch(ask)
        return answer(progress.resolved_message(resolution))

    async def prefetch(self, request: web.Request) -> web.StreamResponse:
        asked = await body(request, messages.PrefetchRequest)
        fetches = [await self._prefetch(handle, request) for handle in dict.fromkeys(asked.handles)]
        return answer(messages.Prefetched(fetches=fetches), 202)

    async def _prefetch(self, handle: str, request: web.Request) -> messages.PrefetchAccepted:
        key = fetch = problem = None
        try:
            key = handles.key(handles.canonical(handle))
            is_limited = viewer(request) is not None
            fetch = await self._resolver.prefetch(handle, caller(request).uid, is_limited=is_limited)
        except HubError as error:
            problem = messages.Problem(**error.problem())
        return messages.PrefetchAccepted(handle=handle, key=key, id=fetch, problem=problem)

    async def uses(self, request: web.Request) -> web.StreamResponse:
        # Reported by clients that hang up at once. That cancels what is awaited here, and comes at the earliest one
        # turn of the loop after the request: by then its body, which came with it, has been passed on.
        uid = caller(request).uid
        asked = await body(request, messages.UsesRequest)
        return answer(messages.Used(counted=await self._resolver.used_by(uid, asked.keys)), 202)

    async def fetches(self, request: web.Request) -> web.StreamResponse:
        who, resolver = viewer(request), self._resolver
        flights = [progress.fetch_message(flight, resolver, who) for flight in resolver.fetches(who)]
        return answer(messages.Fetches(fetches=flights))

    async def modules(self, request: web.Request) -> web.StreamResponse:
        limit = request.query.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= 1000):
            raise RequestInvalid("limit must be a number from 1 to 1000")
        filters = request.query.getall("filter", [])
        page = await self._inventory.modules(request.query.get("after", ""), int(limit), filters, viewer(request))
        return answer(page)

    async def module(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._inventory.module(request.match_info["key"], viewer(request)))

    async def status(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._inventory.status(self._resolver, viewer(request)))

    async def openapi(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=encoded(self.routes), content_type="application/json")


async def events(request: web.Request, told: AsyncGenerator[messages.Answer]) -> web.StreamResponse:
    """Answers with what is told, line by line, and with ``waiting`` while there is nothing to tell; what `told` raises
    is the last line. A client that leaves ends it."""
    response = web.StreamResponse(headers={"Content-Type": progress.CONTENT_TYPE, "Cache-Control": "no-store"})
    await response.prepare(request)
    following = asyncio.ensure_future(anext(told))
    try:
        while True:
            if not (await asyncio.wait({following}, timeout=_WAITING_SECONDS))[0]:
                await progress.send(response, messages.WaitingEvent())
                continue
            try:
                event = following.result()
            except StopAsyncIteration:
                return response
            except Exception as error:
                event = messages.FailedEvent(problem=messages.Problem(**as_hub_error(error).problem()))
            await progress.send(response, event)
            following = asyncio.ensure_future(anext(told))
    except (ConnectionError, TimeoutError):
        response.force_close()  # nobody listens, or not fast enough
        return response
    finally:
        following.cancel()
        await asyncio.wait({following})
        await told.aclose()


def answer(message: messages.Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=message.model_dump_json().encode(), content_type="application/json")


async def body(request: web.Request, model: type[M]) -> M:
    """The request's body as a message. A body that does not come in time costs its sender the connection."""
    body = await request.app[_BODIES].read(request, caller(request).uid)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, mistake['loc'])) or 'body'}: {mistake['msg']}"
            for mistake in error.errors(include_url=False, include_context=False, include_input=False)[:5]
        )
        raise RequestInvalid(f"{mistakes[:500]} (hubd {__version__})") from None
