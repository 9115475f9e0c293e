"""A bucket, or what is below a prefix of one, as the machines of a fleet work on it.

Law: paths are below the prefix, and nothing above it is read, written or told of; and how old an object is, the store's
own clock says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp

from hubclient.contract.errors import UpstreamNotFound
from hubd.failures import Hopeless, Refused
from hubd.network.conditions import ContentRange
from hubd.network.objects import answer, open_archive, remove
from hubd.network.session import Session, chunks
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.objects.failures import NoBucket
from hubd.objects.store import ObjectStore
from hubd.objects.urls import ObjectInfo, ObjectUrl, Version

_UNTOLD_SECONDS = 365 * 86400.0


class Small(NamedTuple):
    """A small object. `age_seconds`: since it was written, by the clock of the store."""

    data: bytes
    version: Version
    age_seconds: float


class StoreBucket:
    """What is below this URL. Methods raise upstream-*, handle-forbidden and address-forbidden errors."""

    def __init__(self, session: Session, store: ObjectStore, url: ObjectUrl) -> None:
        self._session = session
        self._store = store
        self._prefix = f"{url.path}/" if url.path else ""
        self.name = str(url)

    async def read(self, path: str, limit_bytes: int) -> Small | None:
        """The object; None if it is not there. A larger one than the limit is an error."""
        try:
            async with answer(self._session, self._store, self._prefix + path, {}) as response:
                host, data = response.url.raw_host or "", b""
                async for chunk in chunks(response, host):
                    data += chunk
                    if len(data) > limit_bytes:
                        raise Refused(f"{self.name}/{path} is larger than the {limit_bytes} bytes that it may have")
                headers = response.headers
                version = Version(headers.get("ETag"), headers.get("x-goog-generation"))
                return Small(data, version, age_seconds(headers.get("Date"), headers.get("Last-Modified")))
        except NoBucket:
            raise
        except UpstreamNotFound:
            return None

    async def create(self, path: str, data: bytes) -> Version | None:
        """See `ObjectStore.create`."""
        return await self._store.create(self._prefix + path, data)

    async def replace(self, path: str, data: bytes, version: Version) -> Version | None:
        """See `ObjectStore.replace`."""
        return await self._store.replace(self._prefix + path, data, version)

    async def remove(self, path: str) -> None:
        """The object; what is not there is removed already."""
        await remove(self._session, self._store, self._prefix + path)

    async def upload(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """See `ObjectStore.upload`."""
        await self._store.upload(self._prefix + path, chunks)

    async def size_bytes(self, path: str) -> int | None:
        """Of the object; None if it is not there."""
        try:
            async with answer(self._session, self._store, self._prefix + path, {"Range": "bytes=0-0"}) as response:
                size_bytes = _whole_bytes(response)
                response.close()  # of the body nothing is wanted
        except NoBucket:
            raise
        except UpstreamNotFound:
            return None
        if size_bytes is None:
            raise Hopeless(f"{self.name} does not tell how large an object is")
        return size_bytes

    async def listing(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """What is below the prefix, whole segments of a path; empty: all. Paths are as those that the others take."""
        async for found in self._store.listing((self._prefix + prefix).rstrip("/")):
            if found.path.startswith(self._prefix):
                yield found._replace(path=found.path[len(self._prefix) :])

    def open(self, path: str, request: ArchiveRequest) -> AbstractAsyncContextManager[Delivery]:
        """The object as an archive, in ranges if need be. Of the request its handle is not read."""
        return open_archive(self._session, self._store, self._prefix + path, request)


def _whole_bytes(response: aiohttp.ClientResponse) -> int | None:
    if response.status == 416 or response.content_length == 0:
        return 0  # its first byte was asked for, and there is none
    if response.status == 206:
        content_range = ContentRange.parse(response.headers.get("Content-Range"))
        return content_range.total_bytes if content_range is not None else None
    return response.content_length


def age_seconds(now: str | None, then: str | None) -> float:
    """By two headers of one answer; one that does not tell may be as old as anything."""
    try:
        answered: datetime = parsedate_to_datetime(now or "")
        modified: datetime = parsedate_to_datetime(then or "")
        return max(0.0, (answered - modified).total_seconds())
    except (ValueError, TypeError, OverflowError):  # no date, or only one of the two with a time zone
        return _UNTOLD_SECONDS
