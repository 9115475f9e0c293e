"""The daemon's page for people: what the cache holds and what happens, as it happens.

Law: it shows and changes nothing: every route is GET or HEAD, and what it shows is an `Overview`, in which nothing is
that is not for everybody. Only who asks for it by a name of this machine is answered. Who watches is sent what is new
each second, and keeps no queue: who reads slowly skips what has passed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

from aiohttp import HttpVersion10, web
from markupsafe import Markup

from hubclient.contract.errors import HubError, TooBusy
from hubd.api.errors import as_hub_error
from hubd.publishing import charts, wording
from hubd.publishing.history import summed
from hubd.publishing.lookout import Lookout, Overview
from hubd.publishing.rebinding import is_allowed, is_foreign
from hubd.publishing.site import HEADERS, Site, response

log = logging.getLogger(__name__)

MAX_WATCHERS = 16  # of so many more connections, that pages are answered all the same
EVENTS = "/-/events"

_SECTIONS = ("now", "cache", "traffic", "fetches", "errors", "modules")
_EACH_SECONDS = 1.0
_QUIET_ROUNDS = 15  # then a line goes out all the same: who has left is noticed by it
_SEND_SECONDS = 30.0
_AGAIN_MS = 1000  # after which a browser that lost us asks anew

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Shown = Mapping[str, Markup]


class Dashboard:
    """Of one port, which may come and go with the settings."""

    def __init__(self, lookout: Lookout) -> None:
        self._lookout = lookout
        self._site = Site()
        self._drawing = asyncio.Lock()
        self._drawn: tuple[Overview, Shown] | None = None
        self._watchers = 0
        self._closing = asyncio.Event()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded])
        app.add_routes([web.get("/", self._page), web.get(EVENTS, self._events, allow_head=False)])
        app.add_routes(self._site.routes())
        app.on_response_prepare.append(_with_headers)
        app.on_shutdown.append(self._close)
        return app

    async def _page(self, _: web.Request) -> web.StreamResponse:
        shown = await self._shown()
        page = response(self._site.render("dashboard.html", sections=shown, events=EVENTS))
        page.headers["Cache-Control"] = "no-store"
        return page

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the sections that are new, each as its HTML.
        https://html.spec.whatwg.org/multipage/server-sent-events.html"""
        if self._watchers >= MAX_WATCHERS:
            raise TooBusy(f"{self._watchers} watch this page already")
        self._watchers += 1
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        try:
            await answer.prepare(request)
            await answer.write(b"retry: %d\n\n" % _AGAIN_MS)
            await self._follow(answer)
        except (OSError, TimeoutError):
            answer.force_close()  # nobody reads, or not fast enough; or the disk cannot be asked, which the page tells
        finally:
            self._watchers -= 1
        return answer

    async def _follow(self, answer: web.StreamResponse) -> None:
        sent: Shown = {}
        quiet = 0
        while not self._closing.is_set():
            shown = await self._shown()
            news = [_event(name, html) for name, html in shown.items() if sent.get(name) != html]
            quiet = 0 if news else quiet + 1
            if news or quiet % _QUIET_ROUNDS == 0:
                async with asyncio.timeout(_SEND_SECONDS):
                    await answer.write("".join(news or [":\n\n"]).encode())
            sent = shown
            with suppress(TimeoutError):
                async with asyncio.timeout(_EACH_SECONDS):
                    await self._closing.wait()

    async def _shown(self) -> Shown:
        """The sections, drawn once for all who look."""
        async with self._drawing:
            overview = await self._lookout.now()
            if self._drawn is None or self._drawn[0] is not overview:
                self._drawn = overview, await asyncio.to_thread(self._draw, overview)
            return self._drawn[1]

    def _draw(self, overview: Overview) -> Shown:
        cache = overview.status.cache
        rest = cache.used_bytes - cache.in_flight_bytes - cache.partial_bytes - cache.pinned_bytes
        parts = (
            ("pinned", cache.pinned_bytes),
            ("modules", rest),
            ("downloads", cache.in_flight_bytes + cache.partial_bytes),
        )
        values = {
            "now": overview,
            "words": wording,
            "parts": parts,
            "shares": charts.shares(parts, overview.capacity_bytes),
            "answers": charts.stacked([m.hits for m in overview.minutes], [m.misses for m in overview.minutes]),
            "bytes": charts.stacked([m.received_bytes for m in overview.minutes]),
            "hour": summed(overview.minutes),
        }
        return MappingProxyType(
            {name: Markup(self._site.render(f"dashboard/{name}.html", **values)) for name in _SECTIONS}  # noqa: S704
        )

    async def _close(self, _: web.Application) -> None:
        self._closing.set()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if (refusal := self._refusal(request)) is not None:
                return refusal
            return await handler(request)
        except web.HTTPException as error:
            return _plain(error.status, error.reason)
        except OSError as error:
            log.debug("the cache could not be looked at for the dashboard: %s", error)
            return _plain(503, f"The cache cannot be looked at: {os.strerror(error.errno or 0)}.")
        except Exception as error:
            if request.writer.output_size > 0:
                raise  # an answer has begun: to end its connection is all that can be told
            problem: HubError = as_hub_error(error)
            return _plain(problem.status, str(problem))

    def _refusal(self, request: web.Request) -> web.Response | None:
        hosts = request.headers.getall("Host", [])
        reached = request.get_extra_info("sockname") or ("",)
        if request.version < HttpVersion10 or len(hosts) != 1:
            return _plain(400, "This is no request that names one host.")
        if not is_allowed(hosts[0], str(reached[0]), self._lookout.settings.hosts):
            return _plain(421, "This name is not one of hubd's. Whoever administrates it can add it to [web] hosts.")
        if request.method not in ("GET", "HEAD"):
            refusal = _plain(405, "This page only shows: hubctl is what changes something.")
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        if is_foreign(request.headers):
            return _plain(403, "This is not for the pages of other sites.")
        return None


def _event(name: str, html: str) -> str:
    # However a line ends in the HTML, each begins with what makes it data.
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"


async def _with_headers(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update({**HEADERS, "Cross-Origin-Resource-Policy": "same-origin"})


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={"Cache-Control": "no-store"})
