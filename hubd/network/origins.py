"""All origins as one: a module comes from the first of its places that gives it.

Law: a place's answer is used or the next place is asked; nothing of one answer is mixed with another's, and what no
place gives ends with an error that names them all.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace

from hubclient.contract.errors import (
    ArchiveCorrupt,
    ArchiveUnsafe,
    DigestMismatch,
    HubError,
    NotAModule,
    Offline,
    UpstreamNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from hubclient.contract.handles import is_object
from hubd.config import Mirror
from hubd.config_urls import is_directory
from hubd.failures import Refused
from hubd.network.archive_directory import ArchiveDirectory
from hubd.network.mirrors import Health, Place, places, verdict
from hubd.network.objects import ObjectSource
from hubd.network.sources import ArchiveRequest, Delivery, Source

log = logging.getLogger(__name__)

_BY_SETTINGS = "and this daemon asks no network: network.offline, or HUBD_OFFLINE where it was started, says so"

# Blamed on the place, unless it refused this one request: or anybody could take its turn away with a strange handle.
_AWAY = (UpstreamUnavailable, UpstreamTimeout)
_WRONG = (ArchiveCorrupt, ArchiveUnsafe, NotAModule, DigestMismatch)  # blamed on what it has of one module


class Origins:
    """Mirrors and origins. With `offline` only directories of this machine are asked: they need no network."""

    def __init__(
        self,
        http: Source,
        mirrors: Sequence[Mirror] = (),
        *,
        objects: ObjectSource | None = None,
        offline: bool = False,
    ) -> None:
        self._http = http
        self._objects = objects
        self._mirrors = mirrors
        self._offline = offline
        self._health = Health()
        self._directories = {
            url: ArchiveDirectory(url) for mirror in mirrors for url in mirror.urls if is_directory(url)
        }

    def offline(self, handle: str, *, demanded: bool) -> Offline | None:
        """Why no place may be asked for a canonical handle that is not cached, if none may.

        `demanded`: whoever asks wants it so.
        """
        if not self._places(handle):
            return Offline(f"the module is not in the cache, {_BY_SETTINGS}")
        if demanded:
            return Offline("the module is not in the cache, and hubd was told not to ask the network")
        return None

    @asynccontextmanager
    async def open(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """As `HttpSource.open`, of the first place that has the module; raises `Offline` too.

        What goes wrong in the block is held against the place, so that the next try begins with another one.
        """
        found = self._health.in_order(self._places(request.handle))
        if request.credential is not None:
            # It is for the handle's own host, whose word decides what this user may have.
            found = [place for place in found if not place.is_mirror]
        has_choice = len(found) > 1
        if has_choice and request.resume is not None and request.resume.validators.etag is None:
            # Two places may have different archives of one second.
            request = replace(request, resume=None)
        failures: list[tuple[Place, HubError]] = []
        for place in found:
            async with AsyncExitStack() as stack:
                try:
                    with self._watched(place, has_choice):
                        delivery = await stack.enter_async_context(self._ask(place, request))
                except HubError as error:
                    failures.append((place, error))
                    if has_choice:
                        level = logging.WARNING if isinstance(error, _AWAY) else logging.DEBUG
                        log.log(level, "%s gives no module: %s", place.name, error)
                    continue
                with self._watched(place, has_choice):
                    yield replace(delivery, tier="mirror") if place.is_mirror else delivery
                self._health.works(place)
                return
        if (self._offline or not found) and all(isinstance(error, UpstreamNotFound) for _, error in failures):
            raise Offline(f"no directory of this machine has the module, {_BY_SETTINGS}")
        raise verdict(failures)

    def _ask(self, place: Place, request: ArchiveRequest) -> AbstractAsyncContextManager[Delivery]:
        if place.is_directory:
            return self._directories[place.name].open(request, place.url.removeprefix(place.name))
        if self._objects is not None and is_object(request.handle):  # which has no mirrors
            return self._objects.open(request)
        return self._http.open(replace(request, mirror=place.url) if place.is_mirror else request)

    def _places(self, handle: str) -> list[Place]:
        found = places(handle, self._mirrors)
        return [place for place in found if place.is_directory] if self._offline else found

    @contextmanager
    def _watched(self, place: Place, has_choice: bool) -> Iterator[None]:
        try:
            yield
        except (*_AWAY, *_WRONG) as error:
            if has_choice:
                is_away = isinstance(error, _AWAY) and not isinstance(error, Refused)
                self._health.failed(place.name if is_away else place.url)
            raise
