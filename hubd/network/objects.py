"""Handles of object stores: an archive in a bucket, or a directory, as an origin's archive.

Law: what is in a bucket is asked for in our own session, by a URL that obstore has signed for this one request and that
is told to nobody. So it passes the guard, is paced, and goes on where it was, as everything that is fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace

import aiohttp
from yarl import URL

from hubclient.contract.errors import HandleForbidden, HubError, UpstreamNotFound
from hubd.config import LimitSettings
from hubd.failures import REDIRECTS, Hopeless
from hubd.network.connections import Claim
from hubd.network.object_directory import open_directory
from hubd.network.session import Session, chunks, refusal
from hubd.network.sources import ArchiveRequest, Delivery, delivered
from hubd.objects.failures import NoBucket, says_expired, says_no_bucket, says_other_region
from hubd.objects.store import ObjectStore
from hubd.objects.stores import Stores
from hubd.objects.urls import ObjectUrl

_ARCHIVES = (".tar.gz", ".tgz")
_REMOVED = frozenset({200, 202, 204})
_TOLD = frozenset({400, 401, 403, 404})  # in whose bodies a code may say more
_MAX_ERROR_BYTES = 4096
_TOLD_SECONDS = 5.0


class ObjectSource:
    """The modules in all buckets, asked for in this session."""

    def __init__(self, session: Session, stores: Stores, limits: LimitSettings, most_connections: int) -> None:
        """`limits` and `most_connections` are of directories: what one may hold, and how it may be fetched."""
        self._session = session
        self._stores = stores
        self._limits = limits
        self._most_connections = most_connections

    @asynccontextmanager
    async def open(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """As `HttpSource.open`, of a handle ``s3://``, ``gs://`` or ``az://``."""
        if request.credential is not None:
            raise HandleForbidden("object stores are shown the daemon's own [[credential]], and none of a caller's")
        url = ObjectUrl.parse(request.handle)
        is_archive = url.path.endswith(_ARCHIVES)
        opened = self._open_archive(url, request) if is_archive else self.open_directory(url, request)
        async with opened as delivery:
            yield delivery

    @asynccontextmanager
    async def open_directory(self, url: ObjectUrl, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """A SavedModel's directory as the archive that it would be."""
        store = self._stores.of(url)

        def get(name: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return answer(self._session, store, f"{url.path}/{name}", headers)

        opened = open_directory(
            self._session.connections, store, url, request, get, self._limits, self._most_connections
        )
        async with opened as delivery:
            yield delivery

    def _open_archive(self, url: ObjectUrl, request: ArchiveRequest) -> AbstractAsyncContextManager[Delivery]:
        return open_archive(self._session, self._stores.of(url), url.path, request)


@asynccontextmanager
async def open_archive(
    session: Session, store: ObjectStore, path: str, request: ArchiveRequest
) -> AsyncIterator[Delivery]:
    """One object, as `HttpSource.open` has an origin's archive; of the request its handle is not read."""
    async with (
        Claim(session.connections, request.is_urgent, request.users) as claim,
        answer(session, store, path, request.headers(), claim) as response,
    ):
        plain = URL(store.place.object_url(path), encoded=True)
        found = delivered(response, request, claim, lambda resume: answer(session, store, path, resume.headers()))
        yield replace(found, url=plain)


@asynccontextmanager
async def answer(
    session: Session, store: ObjectStore, path: str, headers: Mapping[str, str], claim: Claim | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to a GET of an object: with status 200, 304, or to a request with Range 206, 412 or 416.

    Raises upstream-*, handle-forbidden and address-forbidden errors; `NoBucket` where the bucket itself is missing.
    """
    url = await store.url(path)
    named = url if store.is_named else None
    async with session.following(
        url, {**store.place.headers, **headers}, claim, named=named, is_signed=True
    ) as response:
        await _require_usable(response, store, path, ranged="Range" in headers)
        yield response


async def remove(session: Session, store: ObjectStore, path: str) -> None:
    """What is not there is removed already. Raises as `answer`, and is in our own session for the same reasons: obstore
    would go wherever the store redirects to.
    """
    url = await store.url(path, "DELETE")
    named = url if store.is_named else None
    async with session.following(url, store.place.headers, named=named, is_signed=True, method="DELETE") as response:
        if response.status in _REMOVED:
            return
        try:
            await _require_usable(response, store, path, ranged=False)
        except NoBucket:
            raise
        except UpstreamNotFound:
            return


async def _require_usable(response: aiohttp.ClientResponse, store: ObjectStore, path: str, *, ranged: bool) -> None:
    subject, host = store.subject, response.url.raw_host or ""
    if response.status in REDIRECTS:
        raise Hopeless(subject.elsewhere().detail)
    if response.status in _TOLD:
        told = await _told(response, host)
        if response.status == 404 and says_no_bucket(told):
            raise subject.no_bucket()
        if response.status != 404 and says_expired(told):
            raise subject.expired(response.status)
        if says_other_region(told):
            raise Hopeless(subject.other_region().detail)
    if response.status in (404, 410):
        raise UpstreamNotFound(f"{subject.root} has no {path} (HTTP {response.status})")
    if response.status in (401, 403):
        raise subject.denied(response.status)
    if (failure := refusal(response, host, ranged)) is not None:
        raise failure


async def _told(response: aiohttp.ClientResponse, host: str) -> bytes:
    """The beginning of what a store says of an error, to look for codes in it."""
    body = response.headers.get("x-ms-error-code", "").encode()
    with suppress(TimeoutError, HubError):  # the status tells enough, and nobody waits for what comes in drips
        async with asyncio.timeout(_TOLD_SECONDS):
            async for chunk in chunks(response, host):
                body += chunk
                if len(body) > _MAX_ERROR_BYTES:
                    break
    return body
