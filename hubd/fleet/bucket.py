"""What the fleet needs of an object store: few operations, two of them conditional.

Law: whether a write took place is the store's word alone. Times are ages by the store's own clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from hubd.network.bucket import Small
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.objects.urls import ObjectInfo, Version

__all__ = ["Bucket", "ObjectInfo", "Small", "Version"]


class Bucket(Protocol):
    """A part of one bucket; paths are below it.

    Everything raises `HubError`s: `Busy` where the store asks to be left alone for a while (429, 503 of the kind of
    SlowDown), `UpstreamDenied`, `UpstreamNotFound` for a bucket that is not there, `Refused` for one object that
    cannot be used (larger than the limit), else upstream-unavailable and upstream-timeout.
    """

    @property
    def name(self) -> str:
        """``s3://bucket/prefix``, for messages."""
        ...

    async def read(self, path: str, limit_bytes: int) -> Small | None:
        """The object; None: it is not there."""
        ...

    async def create(self, path: str, data: bytes) -> Version | None:
        """None: there is one already."""
        ...

    async def replace(self, path: str, data: bytes, version: Version) -> Version | None:
        """None: it is not of this version any more, or not there."""
        ...

    async def remove(self, path: str) -> None:
        """One that is not there is no error."""
        ...

    async def size_bytes(self, path: str) -> int | None:
        """None: it is not there."""
        ...

    async def upload(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """All of the chunks, as one object that appears at the end; in place of one that is there."""
        ...

    def listing(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """The objects whose paths begin so."""
        ...

    def open(self, path: str, request: ArchiveRequest) -> AbstractAsyncContextManager[Delivery]:
        """As `HttpSource.open`, of this object."""
        ...
