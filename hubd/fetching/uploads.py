"""What this machine uploads for its fleet, behind those who have their module already.

Law: an upload costs nobody a module. Its spool goes when a fetch finds no other room, and whatever goes wrong with it
is a warning.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from hubclient.contract.errors import HubError
from hubd.network.pace import Pace
from hubd.store.staging import Staging

log = logging.getLogger(__name__)

_AT_ONCE = 3
_MOST = 64  # under way or waiting; each has its spool on the disk
_CHUNK_BYTES = 1 << 20

Chunks = Callable[[], AsyncIterator[bytes]]


class Errand(Protocol):
    """What an archive is for: `carry` uploads it, and raises `HubError`s; `drop` tells that nobody will."""

    async def carry(self, chunks: Chunks) -> None: ...

    async def drop(self) -> None: ...


class Spool(Protocol):
    """Where the archive lies; see `Keeping`."""

    def surrender(self) -> None: ...

    def hand_over(self) -> Staging: ...

    def discard(self) -> None: ...


@dataclass(eq=False)
class Upload:
    """One archive on its way, or waiting for its turn."""

    handle: str
    key: str
    total_bytes: int
    sent_bytes: int = 0
    scope: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    over: asyncio.Event = field(default_factory=asyncio.Event)  # and its spool is in the trash


class Uploads:
    """Those of one daemon. For the event loop. `spawn` starts a task in the group that owns all work."""

    def __init__(
        self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]], litter: asyncio.Event, pace: Pace
    ) -> None:
        """`litter` is set when something lies in the trash."""
        self.pace = pace
        self.failures = 0
        self._spawn = spawn
        self._litter = litter
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._under_way: list[Upload] = []
        self._is_closed = False

    def under_way(self) -> list[Upload]:
        return list(self._under_way)

    def total_bytes(self) -> int:
        """What `give_way` would free, at least."""
        return sum(upload.total_bytes for upload in self._under_way)

    def start(self, upload: Upload, errand: Errand, spool: Spool) -> bool:
        """Of the archive in the `spool`, which is surrendered, and gone when this is over. False: there are too many
        already, and nothing has begun."""
        if self._is_closed or len(self._under_way) >= _MOST:
            return False
        spool.surrender()
        self._under_way.append(upload)
        self._spawn(self._run(upload, errand, spool))
        return True

    async def give_way(self) -> bool:
        """Gives all of them up; whether there were any. What they took of the disk is in the trash then."""
        found = self.under_way()
        await asyncio.sleep(0)  # each of them has begun
        now = asyncio.get_running_loop().time()
        for upload in found:
            with suppress(RuntimeError):  # its block is over already
                upload.scope.reschedule(now)
        for upload in found:
            await upload.over.wait()
        return bool(found)

    async def close(self) -> None:
        """The same, for good: none starts any more."""
        self._is_closed = True
        await self.give_way()

    async def _run(self, upload: Upload, errand: Errand, spool: Spool) -> None:
        is_done = False
        try:
            try:
                async with upload.scope:
                    # Before its turn: until then what was set aside for the whole fetch is missing elsewhere.
                    staging = await asyncio.to_thread(spool.hand_over)
                    async with self._turns:
                        await errand.carry(lambda: self._chunks(upload, staging))
                        is_done = True
            finally:
                await asyncio.to_thread(spool.discard)
                self._under_way.remove(upload)
                self._litter.set()
                upload.over.set()
        except Exception as error:
            self._failed(upload, error)
        if not is_done:
            await errand.drop()

    def _failed(self, upload: Upload, error: Exception) -> None:
        what = f"the archive of {upload.handle.partition('?')[0]} was not uploaded for the fleet"
        if upload.scope.expired():
            log.info("%s: there was other need of its room, or of the end", what)
            return
        self.failures += 1
        if isinstance(error, HubError | OSError):
            log.warning("%s: %s", what, error)
        else:
            log.error("%s", what, exc_info=error)

    async def _chunks(self, upload: Upload, staging: Staging) -> AsyncIterator[bytes]:
        """From the beginning, each time that it is called."""
        upload.sent_bytes = 0
        archive = await asyncio.to_thread(os.open, staging.archive, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            while piece := await asyncio.to_thread(os.pread, archive, _CHUNK_BYTES, upload.sent_bytes):
                await self.pace.take(len(piece), prefetch=lambda: False)
                yield piece
                upload.sent_bytes += len(piece)
        finally:
            os.close(archive)
