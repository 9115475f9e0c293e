"""The fleet's bucket as one machine reaches it.

Law: each small operation has its end within a few seconds, and what is known to be wrong with the store is known in one
place. A store that may be read but not written to is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, TypeVar

from hubclient.contract.errors import HubError, Offline, UpstreamDenied, UpstreamNotFound, UpstreamTimeout
from hubd.fleet.breaker import Breaker
from hubd.fleet.bucket import Bucket, ObjectInfo, Small, Version
from hubd.fleet.records import MAX_SMALL_BYTES
from hubd.network.sources import ArchiveRequest, Delivery

OPERATION_SECONDS = 4.0
_STALL_SECONDS = 60.0  # without one chunk of an upload

T = TypeVar("T")
Reach = Callable[[], AbstractAsyncContextManager[Bucket | None]]
State = Literal["off", "ok", "away", "denied", "missing"]


class WriteDenied(UpstreamDenied):
    """The store denies a write, or has refused writes for too long. It may still be read."""


class Remote:
    """`reach` gives the bucket by the settings that hold now, for a block; None: there is none. It is that bucket for
    good: where they name another one by now, what was begun with this one goes on nowhere.
    """

    def __init__(self, reach: Reach, clock: Callable[[], float], uniform: Callable[[float, float], float]) -> None:
        self._reach = reach
        self._breaker = Breaker(clock, uniform)
        self._writes = Breaker(clock, uniform)
        self._error: HubError | None = None
        self._name: str | None = None  # of the bucket, once it is known

    @property
    def state(self) -> State:
        if self._error is None:
            return "ok"
        if isinstance(self._error, UpstreamDenied):
            return "denied"
        return "missing" if isinstance(self._error, UpstreamNotFound) else "away"

    @property
    def trouble(self) -> str | None:
        return self._error.detail if self._error is not None else None

    @property
    def retry_in_seconds(self) -> float:
        return self._breaker.retry_in_seconds or self._writes.retry_in_seconds

    @property
    def is_read_only(self) -> bool:
        """Whether the store denied the last write, and is not asked to take another one for a while."""
        return isinstance(self._error, WriteDenied)

    @property
    def is_doubted(self) -> bool:
        """Whether it failed, and has not answered since."""
        return not self._breaker.is_closed

    def admits(self) -> bool:
        """Whether the store may be asked; see `Breaker`."""
        return self._breaker.admits()

    def may_write(self) -> bool:
        """Whether a write may be tried; see `Breaker`."""
        return self._writes.admits()

    def gave_up(self, error: HubError) -> None:
        """A caller did, with this error: the store is left alone for a while."""
        if not isinstance(error, WriteDenied):
            self._error = error
            self._breaker.failed()

    def gave_up_writing(self, error: HubError) -> None:
        """The same of writes alone, with what denied or refused them."""
        self._error = WriteDenied(error.detail)
        self._writes.failed()

    async def read(self, path: str) -> Small | None:
        """See `Bucket`, as for all that follow."""
        return await self._small(lambda bucket: bucket.read(path, MAX_SMALL_BYTES))

    async def size_bytes(self, path: str) -> int | None:
        return await self._small(lambda bucket: bucket.size_bytes(path))

    async def create(self, path: str, data: bytes) -> Version | None:
        return await self._write(self._small(lambda bucket: bucket.create(path, data)))

    async def replace(self, path: str, data: bytes, version: Version) -> Version | None:
        return await self._write(self._small(lambda bucket: bucket.replace(path, data, version)))

    async def remove(self, path: str) -> None:
        await self._write(self._small(lambda bucket: bucket.remove(path)))

    async def upload(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Raises `UpstreamTimeout` when the store takes nothing for a minute."""
        await self._write(self._upload(path, chunks))

    async def listing(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        async with self._bucket() as bucket:
            async for info in bucket.listing(prefix):
                yield info
        self._answered()

    @asynccontextmanager
    async def open(self, path: str, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        async with self._bucket() as bucket, bucket.open(path, request) as delivery:
            self._answered()
            yield delivery

    async def _small(self, operation: Callable[[Bucket], Awaitable[T]]) -> T:
        async with self._bucket() as bucket:
            try:
                async with asyncio.timeout(OPERATION_SECONDS):
                    result = await operation(bucket)
            except TimeoutError:
                raise UpstreamTimeout(f"{bucket.name} did not answer within {OPERATION_SECONDS:.0f} s") from None
        self._answered()
        return result

    async def _upload(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        loop = asyncio.get_running_loop()

        async def watched(limit: asyncio.Timeout) -> AsyncIterator[bytes]:
            limit.reschedule(None)
            async for chunk in chunks:
                limit.reschedule(loop.time() + _STALL_SECONDS)
                yield chunk
                limit.reschedule(None)  # what our own pace holds back is not the store's fault
            limit.reschedule(loop.time() + _STALL_SECONDS)

        async with self._bucket() as bucket:
            try:
                async with asyncio.timeout(_STALL_SECONDS) as limit:
                    await bucket.upload(path, watched(limit))
            except TimeoutError:
                raise UpstreamTimeout(f"{bucket.name} took nothing for {_STALL_SECONDS:.0f} s") from None
        self._answered()

    async def _write(self, writing: Awaitable[T]) -> T:
        try:
            result = await writing
        except UpstreamDenied as error:
            self.gave_up_writing(error)
            raise WriteDenied(error.detail) from None
        self._writes.succeeded()
        if isinstance(self._error, WriteDenied):
            self._error = None
        return result

    def _answered(self) -> None:
        self._breaker.succeeded()
        if not isinstance(self._error, WriteDenied):
            self._error = None

    @asynccontextmanager
    async def _bucket(self) -> AsyncIterator[Bucket]:
        async with self._reach() as bucket:
            if bucket is None:
                raise Offline("no [fleet] store is configured")
            self._name = self._name or bucket.name
            if bucket.name != self._name:
                raise Offline(f"{self._name} is not the [fleet] store any more")
            yield bucket
