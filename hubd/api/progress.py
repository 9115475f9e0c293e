"""A resolve as a stream of NDJSON events, for clients that want to see it happen.

Law: a line goes out at least every 5 s, so that a slow download differs from a dead daemon, and the last line is
``resolved`` or ``failed``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from hubd.api import messages
from hubd.api.errors import as_hub_error
from hubd.fetching.resolver import Ask, FetchFlight, Resolution, Resolver, UnderWay

CONTENT_TYPE = "application/x-ndjson"

_FASTEST_SECONDS = 0.2
_SLOWEST_SECONDS = 4.0
_LINES_PER_SECOND = 250  # of one fetch, to all who watch it together
_SEND_SECONDS = 30.0  # that a client may leave a line unread
_WAITING = messages.WaitingEvent()


def fetch_message(flight: UnderWay, resolver: Resolver, viewer: int | None) -> messages.Fetch:
    """As the viewer (a uid; None: an administrator) may see it."""
    progress = flight.work.progress
    return messages.Fetch(
        id=progress.id,
        key=progress.key,
        handle=progress.handle,
        state=progress.state,
        tier=progress.tier,
        received_bytes=progress.received_bytes,
        total_bytes=progress.total_bytes,
        unpacked_bytes=progress.unpacked_bytes,
        rate_bytes_per_second=progress.rate_bytes_per_second,
        eta_seconds=progress.eta_seconds,
        trouble=progress.trouble,
        waiters=flight.waiters,
        is_prefetch=not flight.is_urgent,
        users=resolver.waiters.uids(progress.id, viewer),
        started_at=progress.started_at,
        seconds_by_phase=progress.seconds_by_phase,
    )


def resolved_message(resolution: Resolution) -> messages.Resolved:
    record = resolution.record
    return messages.Resolved(
        handle=record.handle,
        key=record.key,
        digest=record.digest,
        path=resolution.path,
        size_bytes=record.size_bytes,
        outcome=resolution.outcome,
        tier=resolution.tier,
        immutable=record.immutable,
        fetched_at=record.fetched_at,
        warnings=list(resolution.warnings),
    )


async def stream(request: web.Request, resolver: Resolver, ask: Ask, viewer: int | None) -> web.StreamResponse:
    """Answers with the events of one resolve; what the cache has is told in a single line at once."""
    if (found := await resolver.look(ask)) is not None:
        event = messages.ResolvedEvent(result=resolved_message(found))
        return web.Response(body=_line(event), content_type=CONTENT_TYPE)
    flights: list[FetchFlight] = []
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
    try:
        await response.prepare(request)
    except ConnectionError:
        return response  # nobody listens any more, and nothing was begun
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(_outcome(resolver, ask, flights.append))
        try:
            # One step, so that whoever boards at once is told of a flight first.
            await asyncio.wait({fetching}, timeout=0)
            while not fetching.done():
                flight = flights[-1] if flights else None
                told = messages.ProgressEvent(fetch=fetch_message(flight, resolver, viewer)) if flight else _WAITING
                await send(response, told)
                watchers = flight.waiters if flight is not None else 0
                pause = min(_SLOWEST_SECONDS, max(_FASTEST_SECONDS, watchers / _LINES_PER_SECOND))
                await asyncio.wait({fetching}, timeout=pause)
            await send(response, fetching.result())
        except (ConnectionError, TimeoutError):
            # Nobody listens, or not fast enough. The connection ends with its request.
            response.force_close()
        finally:
            fetching.cancel()
    return response


async def _outcome(
    resolver: Resolver, ask: Ask, watch: Callable[[FetchFlight], None]
) -> messages.ResolvedEvent | messages.FailedEvent:
    try:
        return messages.ResolvedEvent(result=resolved_message(await resolver.fetch(ask, watch)))
    except Exception as error:
        return messages.FailedEvent(problem=messages.Problem(**as_hub_error(error).problem()))


async def send(response: web.StreamResponse, event: messages.Answer) -> None:
    """One line. Raises `TimeoutError` when the client leaves it unread for long, and `ConnectionError`."""
    async with asyncio.timeout(_SEND_SECONDS):
        await response.write(_line(event))


def _line(event: messages.Answer) -> bytes:
    return event.model_dump_json().encode() + b"\n"
