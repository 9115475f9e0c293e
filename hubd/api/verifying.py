"""A verification as a stream of NDJSON events: every byte of the modules compared with what was published.

Law: each tree is checked once, however many handles name it; a line goes out at least every few seconds; and when
the asker leaves, the checks end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from hubclient.contract.errors import HubError, NotFound, TooBusy, UpstreamDenied
from hubd.api import messages
from hubd.api.access import Level
from hubd.api.errors import as_hub_error
from hubd.api.progress import CONTENT_TYPE, send
from hubd.api.routes import Route, body
from hubd.fetching.means import Means
from hubd.fetching.resolver import Ask, Resolver
from hubd.fetching.verifier import GONE
from hubd.store.records import Record

_PROGRESS_SECONDS = 0.5
_MOST_WAITING_EVENTS = 64
_TOLD_FILES = 20


@dataclass(frozen=True)
class Target:
    """A tree to be checked, and the records that name it."""

    digest: str
    size_bytes: int
    records: tuple[Record, ...]


class Verifying:
    """The handler."""

    def __init__(self, means: Means, resolver: Resolver) -> None:
        self._means = means
        self._resolver = resolver
        self._running = asyncio.Lock()
        self.routes: tuple[Route, ...] = (
            Route(
                "POST",
                "/v1/verify",
                Level.ADMIN,
                self.verify,
                "Compare every byte of modules with what was published; NDJSON",
                None,
                messages.VerifyRequest,
                events=(
                    messages.VerifyProgressEvent,
                    messages.CheckedEvent,
                    messages.VerifiedEvent,
                    messages.FailedEvent,
                ),
            ),
        )

    async def verify(self, request: web.Request) -> web.StreamResponse:
        asked = await body(request, messages.VerifyRequest)
        if self._running.locked():
            raise TooBusy("a verification is running already")
        async with self._running:
            keys = None if asked.keys is None else [await self._means.meant(key, None) for key in asked.keys]
            chosen = await asyncio.to_thread(targets, self._means, keys)
            return await stream(request, self._means, self._resolver, chosen, repair=asked.repair)


def targets(means: Means, keys: Sequence[str] | None) -> list[Target]:
    """The trees of these modules, or of all. In a thread. Raises `NotFound` for a key that the cache does not have."""
    named: dict[str, list[Record]] = {}
    for key in means.records.keys() if keys is None else dict.fromkeys(keys):
        if (record := means.records.get(key)) is not None:
            named.setdefault(record.digest, []).append(record)
        elif keys is not None:
            raise NotFound(f"the cache has no module of the key {key}")
    return [Target(digest, records[0].size_bytes, tuple(records)) for digest, records in named.items()]


async def stream(
    request: web.Request, means: Means, resolver: Resolver, chosen: Sequence[Target], *, repair: bool
) -> web.StreamResponse:
    """Answers with the events of one verification."""
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
    await response.prepare(request)
    verification = _Verification(means, resolver, chosen, repair=repair)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(verification.run())
        try:
            told_at = float("-inf")
            event: messages.Answer | None = None
            while not isinstance(event, messages.VerifiedEvent | messages.FailedEvent):
                if time.monotonic() - told_at >= _PROGRESS_SECONDS:
                    await send(response, verification.progress())
                    told_at = time.monotonic()
                if (event := await verification.next_event(_PROGRESS_SECONDS)) is not None:
                    await send(response, event)
        except (ConnectionError, TimeoutError):
            # Nobody listens, or not fast enough. The connection ends with its request.
            response.force_close()
        finally:
            running.cancel()
    return response


class _Verification:
    def __init__(self, means: Means, resolver: Resolver, chosen: Sequence[Target], *, repair: bool) -> None:
        self._means = means
        self._resolver = resolver
        self._targets = chosen
        self._repair = repair
        # So few that a slow reader holds up the checks and not the daemon's memory.
        self._events: asyncio.Queue[messages.Answer] = asyncio.Queue(_MOST_WAITING_EVENTS)
        self._modules = self._bytes = self._damaged = self._repaired = 0
        self._read_bytes: Callable[[], int] = _nothing
        self._under_way_bytes = 0

    async def next_event(self, within_seconds: float) -> messages.Answer | None:
        try:
            async with asyncio.timeout(within_seconds):
                return await self._events.get()
        except TimeoutError:
            return None

    def progress(self) -> messages.VerifyProgressEvent:
        return messages.VerifyProgressEvent(
            done_bytes=self._bytes + min(self._read_bytes(), self._under_way_bytes),
            total_bytes=sum(target.size_bytes for target in self._targets),
            modules_done=self._modules,
            modules_total=len(self._targets),
        )

    async def run(self) -> None:
        """Fills the events; the last one is ``done`` or ``failed``."""
        started = time.monotonic()
        try:
            for target in self._targets:
                if (event := await self._check(target)) is not None:
                    await self._events.put(event)
            last: messages.Answer = messages.VerifiedEvent(
                modules=self._modules,
                size_bytes=self._bytes,
                damaged=self._damaged,
                repaired=self._repaired,
                seconds=time.monotonic() - started,
            )
        except Exception as error:
            last = messages.FailedEvent(problem=messages.Problem(**as_hub_error(error).problem()))
        await self._events.put(last)

    async def _check(self, target: Target) -> messages.CheckedEvent | None:
        """None for a module that was removed or has moved on meanwhile."""
        self._under_way_bytes = target.size_bytes
        finding = await self._means.verifier.check(target.digest, self._watch)
        self._read_bytes = _nothing
        self._modules += 1
        self._bytes += target.size_bytes
        if finding.damage == GONE:
            if not self._is_named(target):
                return None
            self._means.trees.health.found_damaged(target.digest, *GONE)
        outcome: messages.CheckOutcome = "intact"
        problem = None
        if finding.damage:
            self._damaged += 1
            outcome = "damaged"
            if self._repair:
                problem = await self._fetch_again(target)
                outcome = "unrepaired" if problem is not None else "repaired"
                self._repaired += problem is None
        return messages.CheckedEvent(
            digest=target.digest,
            handles=sorted(record.handle for record in target.records),
            size_bytes=target.size_bytes,
            outcome=outcome,
            files=list(finding.damage[:_TOLD_FILES]),
            problem=problem,
        )

    def _watch(self, read_bytes: Callable[[], int]) -> None:
        self._read_bytes = read_bytes

    def _is_named(self, target: Target) -> bool:
        records = map(self._means.records.get, (record.key for record in target.records))
        return any(record is not None and record.digest == target.digest for record in records)

    async def _fetch_again(self, target: Target) -> messages.Problem | None:
        """Why it could not be, if so. Of several handles the first one's fetch serves all, if its content is equal."""
        everyones = [record for record in target.records if record.reader is None]
        if not everyones:
            return messages.Problem(**UpstreamDenied("it is private: its reader's next use repairs it").problem())
        for record in everyones:
            try:
                await self._resolver.fetch(Ask(record.spellings[-1] if record.spellings else record.handle))
            except HubError as error:
                return messages.Problem(**error.problem())
        return None


def _nothing() -> int:
    return 0
