"""A SavedModel's directory in an object store, delivered as the archive that it would be.

Law: before a byte of a file is asked for, the listing is known to be that of a module within the limits; and what is
delivered is the version that was listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from yarl import URL

from hubclient.contract.errors import ArchiveTooLarge, HubError, UpstreamNotFound
from hubclient.contract.listing import MAX_CHARACTERS
from hubd.config import LimitSettings
from hubd.network.conditions import Validators
from hubd.network.connections import Claim, Connections, Place
from hubd.network.object_tree import Get, ObjectTree
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.network.tree_listing import files_of, too_many
from hubd.network.virtual_tar import File, VirtualTar
from hubd.objects.store import ObjectStore
from hubd.objects.urls import ObjectInfo, ObjectUrl


@asynccontextmanager
async def open_directory(
    connections: Connections,
    store: ObjectStore,
    url: ObjectUrl,
    request: ArchiveRequest,
    get: Get,
    limits: LimitSettings,
    most_connections: int,
) -> AsyncIterator[Delivery]:
    """As `HttpSource.open`, of the directory at this URL; of the request its handle is not read.

    Its ETag is of its listing. Raises also what is wrong with the listing: see `files_of`.
    """
    host = store.place.host
    async with Claim(connections, request.is_urgent, request.users) as claim:
        await claim.move(host)
        files = await without_markers(await _listed(store, url, limits), get, most_connections, claim.extra)
        end = URL(store.place.object_url(url.path), encoded=True)
        tar = await asyncio.to_thread(VirtualTar, files, str(end))
        stated = Validators(tar.etag)
        if request.known is not None and request.known.etag == tar.etag:
            yield Delivery(None, None, stated, host, url=end)
            return
        resume = request.resume
        goes_on = resume is not None and resume.validators.etag == tar.etag and resume.from_bytes < tar.size_bytes
        from_bytes = resume.from_bytes if resume is not None and goes_on else 0
        tree = ObjectTree(tar, get, most_connections, claim.extra)
        reading = tree.reading(from_bytes)
        async with aclosing(reading.chunks()) as body:
            yield Delivery(
                body,
                tar.size_bytes,
                stated,
                host,
                from_bytes,
                stated,
                tree.part,
                reading.close,
                claim.extra,
                url=end,
                is_tree=True,
            )


async def _listed(store: ObjectStore, url: ObjectUrl, limits: LimitSettings) -> list[File]:
    listed: list[ObjectInfo] = []
    characters = 0
    async for info in store.listing(url.path):
        listed.append(info)
        characters += len(info.path)
        if characters > MAX_CHARACTERS:
            raise ArchiveTooLarge(f"the names in the directory have more than {MAX_CHARACTERS} characters together")
        if len(listed) > limits.files + 1:  # a directory counts like its marker, but for the module's own
            raise too_many(limits)
    # In a thread, as is what comes of it: of a hundred thousand names each takes a second.
    return await asyncio.to_thread(files_of, listed, url, limits)


async def without_markers(
    files: list[File], get: Get, most_connections: int, extra: Callable[[], Place | None]
) -> list[File]:
    """The files without those empty ones that are markers of directories. The caller has a place for one connection;
    `extra` is the right to one more, if there is one now.

    An object ``assets/`` that marks an empty directory is listed as ``assets`` by some stores: whether it is a file
    of that name only the store can say.
    """
    empty = [file for file in files if not file.size_bytes]
    doubtful = iter(empty)
    markers: set[File] = set()

    async def ask() -> None:
        for file in doubtful:  # which all share
            try:
                async with get(file.name, {}):
                    pass
            except UpstreamNotFound:
                markers.add(file)

    places: list[Place] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            while len(places) + 1 < min(most_connections, len(empty)) and (place := extra()) is not None:
                places.append(place)
                group.create_task(ask())
    except BaseExceptionGroup as failures:
        raise next((error for error in failures.exceptions if isinstance(error, HubError)), failures) from None
    finally:
        for place in places:
            place.release()
    return [file for file in files if file not in markers]
