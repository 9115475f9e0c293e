"""What a simulated fleet works with: a line that is shared, an object store in memory, and an origin behind a line.

Law: the store keeps the promises of a real one: each conditional write is decided at one moment, and what is read is
what was written last.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random

from hubclient.contract.errors import UpstreamNotFound, UpstreamUnavailable
from hubd.failures import Busy, Refused
from hubd.fleet.bucket import ObjectInfo, Small, Version
from hubd.network.conditions import Validators
from hubd.network.sources import ArchiveRequest, Delivery

_MAX_KEPT_BYTES = 64 * 1024  # of an archive
_EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class Line:
    """A line whose bytes per second are shared evenly by all transfers on it, each of which has a limit of its own.

    As all get the same, one number says what each has got since the line began; a transfer ends when that number has
    grown by its size.
    """

    def __init__(self, bytes_per_second: float, each_bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._each_rate = each_bytes_per_second
        self._got = self._at = 0.0
        self._ends: list[tuple[float, int, asyncio.Future[None]]] = []
        self._running = self._begun = 0
        self._timer: asyncio.TimerHandle | None = None

    async def transfer(self, size_bytes: float) -> None:
        self._pass()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun += 1
        self._running += 1
        heapq.heappush(self._ends, (self._got + size_bytes, self._begun, done))
        self._plan()
        try:
            await done
        finally:
            if done.cancelled():
                self._pass()
                self._running -= 1
                self._plan()

    def _rate_of_each(self) -> float:
        return min(self._each_rate, self._rate / max(1, self._running))

    def _pass(self) -> None:
        now = asyncio.get_running_loop().time()
        self._got += (now - self._at) * self._rate_of_each()
        self._at = now

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        while self._ends and self._ends[0][2].cancelled():
            heapq.heappop(self._ends)
        if self._ends:
            seconds = max(0.0, self._ends[0][0] - self._got) / self._rate_of_each()
            self._timer = asyncio.get_running_loop().call_later(seconds, self._end, self._ends[0][0])

    def _end(self, got: float) -> None:
        self._pass()
        self._got = max(self._got, got)  # what was lost by rounding
        while self._ends and (self._ends[0][2].cancelled() or self._ends[0][0] <= self._got):
            done = heapq.heappop(self._ends)[2]
            if not done.cancelled():
                done.set_result(None)
                self._running -= 1
        self._plan()


@dataclass(frozen=True)
class StoreTerms:
    """How a store is. Requests are limited for each of its prefixes, as S3 does; latencies are log-normal."""

    latency_seconds: float = 0.02  # the median
    latency_sigma: float = 0.5
    reads_per_second: float = inf
    writes_per_second: float = inf
    bytes_per_second: float = inf
    each_bytes_per_second: float = 500e6
    away: tuple[float, float] = (inf, inf)  # from when until when it does not answer


@dataclass
class _Object:
    data: bytes
    size_bytes: int
    version: int
    written_at: float


@dataclass
class Requests:
    """What the store was asked."""

    by_kind: Counter[str] = field(default_factory=Counter)
    by_second: Counter[int] = field(default_factory=Counter)
    refused: int = 0

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())

    @property
    def peak_per_second(self) -> int:
        return max(self.by_second.values(), default=0)


class MemoryBucket:
    """A bucket in memory. `began` is what the store's own clock shows at the loop's time 0."""

    name = "s3://simulated/fleet"

    def __init__(self, terms: StoreTerms, random: Random, began: datetime = _EPOCH) -> None:
        self.requests = Requests()
        self.objects: dict[str, _Object] = {}
        self.line = Line(terms.bytes_per_second, terms.each_bytes_per_second)
        self._terms = terms
        self._random = random
        self._began = began
        self._written = 0
        self._second: Counter[tuple[str, int]] = Counter()

    async def read(self, path: str, limit_bytes: int) -> Small | None:
        await self._request("read", path)
        if (found := self.objects.get(path)) is None:
            return None
        if found.size_bytes > limit_bytes:
            raise Refused(f"{path} is larger than {limit_bytes} bytes")
        age_seconds = float(int(self._now() - found.written_at))  # of headers in whole seconds
        return Small(found.data, Version(f'"{found.version}"'), age_seconds)

    async def create(self, path: str, data: bytes) -> Version | None:
        await self._request("create", path)
        return None if path in self.objects else self._put(path, data, len(data))

    async def replace(self, path: str, data: bytes, version: Version) -> Version | None:
        await self._request("replace", path)
        found = self.objects.get(path)
        if found is None or version != Version(f'"{found.version}"'):
            return None
        return self._put(path, data, len(data))

    async def remove(self, path: str) -> None:
        await self._request("remove", path)
        self.objects.pop(path, None)

    async def size_bytes(self, path: str) -> int | None:
        await self._request("head", path)
        return found.size_bytes if (found := self.objects.get(path)) is not None else None

    async def upload(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        await self._request("upload", path)
        size_bytes, kept = 0, bytearray()
        async for chunk in chunks:
            await self._carry(len(chunk))
            size_bytes += len(chunk)
            if size_bytes <= _MAX_KEPT_BYTES:
                kept += chunk
        self._put(path, bytes(kept), size_bytes)

    async def listing(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._request("list", prefix)
        for path, found in sorted(self.objects.items()):
            if not prefix or path.startswith(prefix.rstrip("/") + "/"):
                at = self._began + timedelta(seconds=int(found.written_at))
                yield ObjectInfo(path, found.size_bytes, f'"{found.version}"', at)

    @asynccontextmanager
    async def open(self, path: str, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        await self._request("archive", path)
        if (found := self.objects.get(path)) is None:
            raise UpstreamNotFound(f"{self.name} has no {path}")
        yield Delivery(self._body(found), found.size_bytes, Validators(f'"{found.version}"'), "simulated")

    async def _body(self, found: _Object) -> AsyncIterator[bytes]:
        """All of it; of a large one the time that it takes, and not its bytes."""
        await self._carry(found.size_bytes)
        yield found.data

    async def _carry(self, size_bytes: int) -> None:
        """What is under way when the store goes away is cut."""
        self._require_reachable()
        goes_at = self._terms.away[0]
        try:
            async with asyncio.timeout_at(goes_at if self._now() < goes_at < inf else None):
                await self.line.transfer(size_bytes)
        except TimeoutError:
            raise UpstreamUnavailable("the store cut the transfer") from None

    async def _request(self, kind: str, path: str) -> None:
        """Takes the time of a request; raises what a store that is away or has too much to do answers."""
        now = int(self._now())
        self.requests.by_kind[kind] += 1
        self.requests.by_second[now] += 1
        limited = ("write " if kind in ("create", "replace", "remove", "upload") else "read ") + path.partition("/")[0]
        limit = self._terms.writes_per_second if limited[0] == "w" else self._terms.reads_per_second
        self._second[limited, now] += 1
        is_refused = self._second[limited, now] > limit
        await asyncio.sleep(self._random.lognormvariate(0.0, self._terms.latency_sigma) * self._terms.latency_seconds)
        self._require_reachable()
        if is_refused:
            self.requests.refused += 1
            raise Busy("the store asks to be left alone")

    def _require_reachable(self) -> None:
        if self._terms.away[0] <= self._now() < self._terms.away[1]:
            raise UpstreamUnavailable("the store cannot be connected to")

    def _put(self, path: str, data: bytes, size_bytes: int) -> Version:
        self._written += 1
        self.objects[path] = _Object(data, size_bytes, self._written, self._now())
        return Version(f'"{self._written}"')

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
