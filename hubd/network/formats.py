"""The two formats of the tf-hub protocol: an archive, or a directory of an object store that the origin leads to.

With ``tf-hub-format=uncompressed`` an origin answers 303 and a location ``gs://bucket/path``
(https://www.tensorflow.org/hub/hosting). Law: a bucket is reached only as the settings say, and sees nothing of the
credential that a caller has for the origin; a location in answer to the other format stays refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid
from hubd.config import HostSettings
from hubd.failures import Hopeless, Unacceptable
from hubd.network.connections import Claim
from hubd.network.credentials import OwnCredential
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, Delivery, Source, asked_url
from hubd.objects.urls import ObjectUrl

#: Opens a directory of an object store; of the request its handle is not read.
OpenDirectory = Callable[[ObjectUrl, ArchiveRequest], AbstractAsyncContextManager[Delivery]]


class AnyFormat:
    """Origins, asked for archives, or for where their directories are: as the settings of the host say, or where it
    refuses archives (406, 415)."""

    def __init__(
        self, archives: Source, session: Session, hosts: Iterable[HostSettings], open_directory: OpenDirectory
    ) -> None:
        self._archives = archives
        self._session = session
        self._uncompressed = frozenset(host.name for host in hosts if host.format == "uncompressed")
        self._open_directory = open_directory

    @asynccontextmanager
    async def open(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """See `HttpSource.open`."""
        place = request.mirror or request.handle
        async with AsyncExitStack() as stack:
            if handles.is_kaggle(place):
                delivery = await stack.enter_async_context(self._archives.open(request))
            elif handles.host(place) in self._uncompressed:
                delivery = await stack.enter_async_context(self._directory(request))
            else:
                try:
                    delivery = await stack.enter_async_context(self._archives.open(request))
                except Unacceptable:
                    delivery = await stack.enter_async_context(self._directory(request))
            yield delivery

    @asynccontextmanager
    async def _directory(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        url = await self._location(request)
        async with self._open_directory(url, replace(request, credential=None, mirror=None)) as delivery:
            yield delivery

    async def _location(self, request: ArchiveRequest) -> ObjectUrl:
        """The directory that the origin leads to."""
        home = asked_url(request.mirror or request.handle, "uncompressed")
        own = OwnCredential(request.credential, home) if request.credential is not None else None
        named = home if request.mirror is not None else None
        # Without conditions: they are about the directory, and the origin only knows where that is.
        async with (
            Claim(self._session.connections, request.is_urgent, request.users) as claim,
            self._session.following(home, {}, claim, own, named=named, to_store=True) as response,
        ):
            host, location = response.url.raw_host or "", response.headers.get("Location", "")
            if response.status in (200, 304):
                raise Hopeless(f"{host} was asked for the uncompressed module, and leads to no object store")
            try:
                return ObjectUrl.parse(handles.canonical(location))
            except HandleInvalid:
                raise Hopeless(f"{host} redirects to what is no directory of an object store") from None
