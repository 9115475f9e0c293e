"""A fleet of machines in virtual time: the real tier on each, and one store in memory whose failures are scripted.

Law: a fault strikes the requests that it names, and no others; all else is as a real store does it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any, Literal, ParamSpec

from benchmarks import virtual_time
from benchmarks.fleet_world import MemoryBucket, StoreTerms
from hubclient.contract import handles
from hubd.config_stores import FleetSettings
from hubd.fleet.claims import Claim
from hubd.fleet.records import FleetRecord, claim_path, record_path
from hubd.fleet.tier import Found, Tier
from hubd.fleet.turn import Turn

HANDLE = "https://modules.example.org/m/1"
KEY = handles.key(HANDLE)
ARCHIVE = b"the archive of a module"
LIMIT_SECONDS = 3600.0  # of virtual time, for one test

P = ParamSpec("P")
Fault = Callable[[], Awaitable[None]]


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test in a loop of its own, in which waiting takes no time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT_SECONDS):
                await test(*args, **kwargs)

        virtual_time.run(bounded())

    return run


def record_of(archive: bytes = ARCHIVE, content: bytes | None = None, handle: str = HANDLE) -> FleetRecord:
    """As a fetch of this archive would make it; `content`: what it unpacks to, if not itself."""
    return FleetRecord(
        handle=handle,
        digest=sha256(archive).hexdigest(),
        content_digest=sha256(content if content is not None else archive).hexdigest(),
        archive_bytes=len(archive),
        etag='"1"',
    )


def chunks_of(archive: bytes = ARCHIVE) -> Callable[[], AsyncIterator[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    return chunks


class ScriptedBucket(MemoryBucket):
    """`faults` strike in their order, the first that fits; what they raise is what the store answers."""

    def __init__(self) -> None:
        super().__init__(StoreTerms(latency_sigma=0.0), Random(1))
        self.faults: list[tuple[str, str, Fault]] = []
        self.asked: list[tuple[str, str]] = []

    def fails(self, kind: str, prefix: str, error: Exception, *, times: int | None = None) -> None:
        """Requests of this kind (``*``: of any) for paths that begin so raise the error."""
        left = [times]

        async def fail() -> None:
            if left[0] is not None:
                if not left[0]:
                    return
                left[0] -= 1
            raise error

        self.faults.append((kind, prefix, fail))

    def stalls(self, kind: str, prefix: str) -> None:
        self.faults.append((kind, prefix, lambda: asyncio.sleep(LIMIT_SECONDS)))

    def put(self, path: str, data: bytes) -> None:
        """Whoever wrote it."""
        self._put(path, data, len(data))

    def claim(self, key: str = KEY) -> Claim | None:
        found = self.objects.get(claim_path(key))
        return Claim.model_validate_json(found.data) if found is not None else None

    def record(self, key: str = KEY) -> FleetRecord | None:
        found = self.objects.get(record_path(key))
        return FleetRecord.model_validate_json(found.data) if found is not None else None

    async def _request(self, kind: str, path: str) -> None:
        self.asked.append((kind, path))
        for of_kind, prefix, fault in list(self.faults):
            if of_kind in ("*", kind) and path.startswith(prefix):
                await fault()
        await super()._request(kind, path)


@dataclass
class Machine:
    """One of the fleet."""

    tier: Tier
    tasks: list[asyncio.Task[None]]

    def dies(self) -> None:
        """Nothing that it began is gone on with."""
        for task in self.tasks:
            task.cancel()

    async def ask(self, **terms: Any) -> Any:
        """`terms`: as of `Tier.ask`."""
        return await self.tier.ask(KEY, is_immutable=True, **terms)

    async def turn(self, **terms: Any) -> Turn:
        turn = await self.ask(**terms)
        assert isinstance(turn, Turn)
        return turn

    async def found(self) -> Found:
        found = await self.ask()
        assert isinstance(found, Found)
        return found


class Fleet:
    """Machines that share one bucket. An async context manager: at its end all of them die."""

    def __init__(self) -> None:
        self.bucket = ScriptedBucket()
        self.machines: list[Machine] = []

    def machine(
        self,
        *,
        mode: Literal["read-write", "read-only"] = "read-write",
        claim_timeout: float = 30.0,
        max_wait: float = 600.0,
        clock_began: float = 0.0,
    ) -> Machine:
        """`clock_began`: what its clock shows at the loop's time 0."""
        settings = FleetSettings.model_validate(
            {
                "store": self.bucket.name,
                "mode": mode,
                "claim_timeout": f"{claim_timeout:.0f}s",
                "max_wait": f"{max_wait:.0f}s",
            }
        )

        @asynccontextmanager
        async def reach() -> AsyncIterator[MemoryBucket]:
            yield self.bucket

        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []

        def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            tasks.append(asyncio.create_task(work))
            return tasks[-1]

        tier = Tier(
            reach,
            lambda: settings,
            spawn,
            clock=lambda: loop.time() + clock_began,
            random=Random(len(self.machines)),
        )
        self.machines.append(Machine(tier, tasks))
        return self.machines[-1]

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *error: Any) -> None:
        for machine in self.machines:
            machine.dies()
            for ended in await asyncio.gather(*machine.tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended


async def fetching(turn: Turn, seconds: float, *, total_bytes: int = 1_000_000_000) -> None:
    """A fetch from the origin that takes so long and brings something each second."""
    for second in range(int(seconds)):
        turn.moved(int(total_bytes * (second + 1) / seconds), total_bytes)
        await asyncio.sleep(1.0)


def seconds() -> float:
    return asyncio.get_running_loop().time()
