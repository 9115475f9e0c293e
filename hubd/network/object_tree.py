"""A directory of an object store as one archive: its headers are made here, its files are asked for by ranges.

Law: what is put together is one version of the directory, the one that was listed: a file that is another one by then,
or gone, ends it. Nothing is asked for ahead while the fetch has as many connections as it may have.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

import aiohttp

from hubclient.contract.errors import UpstreamNotFound, UpstreamUnavailable
from hubd.failures import Hopeless
from hubd.network.conditions import ContentRange, RangeRefused
from hubd.network.connections import Place
from hubd.network.session import chunks
from hubd.network.virtual_tar import Extent, VirtualTar

#: GET of a file, by its name in the directory, with these headers.
Get = Callable[[str, dict[str, str]], AbstractAsyncContextManager[aiohttp.ClientResponse]]

_SMALL_BYTES = 256 * 1024  # what takes hardly longer than to ask for it is asked for ahead
_AHEAD_BYTES = 1 << 20  # of small files, in each part
_AHEAD_PIECES = 64
_JOINED_BYTES = 128 * 1024


class ObjectTree:
    """One version of a directory. `extra` is the right to one more connection to its store, if there is one now."""

    def __init__(self, tar: VirtualTar, get: Get, most_connections: int, extra: Callable[[], Place | None]) -> None:
        self.tar = tar
        self._get = get
        self._most_connections = most_connections
        self._extra = extra
        self.connections = 0  #: of the parts that are read, and of what they ask for ahead

    @asynccontextmanager
    async def part(self, start: int, end: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Delivery`."""
        async with aclosing(self.reading(start, end).chunks()) as part:
            yield part

    def reading(self, start: int, end: int | None = None) -> Reading:
        """To read the bytes ``[start, end)`` once."""
        return Reading(self, self.tar.pieces(start, self.tar.size_bytes if end is None else end))

    def one_more(self) -> Place | None:
        """The right to one more connection, for a part that has its own."""
        return self._extra() if self.connections < self._most_connections else None

    @asynccontextmanager
    async def asked(self, extent: Extent) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer that has just these bytes. Raises `RangeRefused` when the file is not as it was listed."""
        file, first, last = extent.file, extent.start, extent.end - 1
        async with AsyncExitStack() as stack:
            headers = {"Range": f"bytes={first}-{last}", "If-Match": file.etag}
            try:
                response = await stack.enter_async_context(self._get(file.name, headers))
            except UpstreamNotFound:
                raise RangeRefused("that a file of the directory is gone") from None
            _check(response, extent)
            yield response


class Reading:
    """A part of the archive, read in its order, small files ahead of their turn."""

    def __init__(self, tree: ObjectTree, pieces: Iterator[bytes | Extent]) -> None:
        self._tree = tree
        self._pieces = pieces
        self._next = next(pieces, None)
        self._due: deque[bytes | asyncio.Task[bytes]] = deque()
        self._places: dict[asyncio.Task[bytes], Place | None] = {}  # of those that run; None: the part's own
        self._ahead_bytes = 0
        self._response: aiohttp.ClientResponse | None = None  # of what is read in its turn, over the part's own
        self._is_closed = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they come. Raises upstream-* errors and `RangeRefused`."""
        joined = bytearray()  # small ones make one chunk: each costs its reader the same
        self._tree.connections += 1
        try:
            while self._look_ahead():
                if self._due:
                    piece = self._due.popleft()
                    if joined and not _is_here(piece):
                        yield bytes(joined)  # what has come is not kept back by what has not
                        joined.clear()
                    joined += piece if isinstance(piece, bytes) else await self._taken(piece)
                    if len(joined) < _JOINED_BYTES:
                        continue
                if joined:
                    yield bytes(joined)
                    joined.clear()
                if not self._due and isinstance(self._next, Extent):
                    extent, self._next = self._next, next(self._pieces, None)
                    async with self._tree.asked(extent) as self._response:
                        async for chunk in _exactly(self._response, extent):
                            yield chunk
                    self._response = None
            if joined:
                yield bytes(joined)
        finally:
            begun = [*self._places, *(piece for piece in self._due if isinstance(piece, asyncio.Task))]
            self.close()
            await asyncio.gather(*begun, return_exceptions=True)
            self._tree.connections -= 1

    def close(self) -> None:
        """Gives up the rest: its connections are others' to have."""
        self._is_closed = True
        for task in self._places:
            task.cancel()
        if self._response is not None:
            self._response.close()

    def _look_ahead(self) -> bool:
        """Asks for small files that are due soon, as far as there are connections; whether there is anything left."""
        while self._next is not None and len(self._due) < _AHEAD_PIECES and not self._is_closed:
            piece = self._next if isinstance(self._next, bytes) else self._begun(self._next)
            if piece is None:
                break
            self._due.append(piece)
            self._next = next(self._pieces, None)
        return bool(self._due) or (self._next is not None and not self._is_closed)

    def _begun(self, extent: Extent) -> asyncio.Task[bytes] | None:
        """Asks for it, over the part's own connection, if nothing else does, or over one more; None: it has to wait."""
        if extent.size_bytes > min(_SMALL_BYTES, _AHEAD_BYTES - self._ahead_bytes):
            return None
        is_own_taken = self._response is not None or None in self._places.values()
        place = self._tree.one_more() if is_own_taken else None
        if place is None and is_own_taken:
            return None
        task = asyncio.create_task(self._small(extent))
        self._places[task] = place
        self._tree.connections += place is not None
        self._ahead_bytes += extent.size_bytes
        task.add_done_callback(self._ended)
        return task

    async def _small(self, extent: Extent) -> bytes:
        async with self._tree.asked(extent) as response:
            return b"".join([chunk async for chunk in _exactly(response, extent)])

    async def _taken(self, task: asyncio.Task[bytes]) -> bytes:
        data = await task
        self._ended(task)  # which may be before it is called back
        self._ahead_bytes -= len(data)
        return data

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        if task in self._places:
            if (place := self._places.pop(task)) is not None:
                place.release()
                self._tree.connections -= 1
            self._look_ahead()  # the next need not wait until this one's turn has come


def _is_here(piece: bytes | asyncio.Task[bytes]) -> bool:
    return isinstance(piece, bytes) or (piece.done() and not piece.cancelled() and piece.exception() is None)


def _check(response: aiohttp.ClientResponse, extent: Extent) -> None:
    host, file = response.url.raw_host or "", extent.file
    if response.status == 412:
        raise RangeRefused("that a file of the directory has changed")
    if response.status == 200:
        raise Hopeless(f"{host} sends files from their first byte, whatever part of them is asked for")
    if response.status != 206:
        raise RangeRefused("that a file of the directory has no such bytes")
    expected = ContentRange(extent.start, extent.end, file.size_bytes)
    if ContentRange.parse(response.headers.get("Content-Range")) != expected:
        raise RangeRefused("with other bytes of a file than it has by the listing")
    if response.headers.get("ETag", file.etag) != file.etag:
        raise RangeRefused("with another version of a file")


async def _exactly(response: aiohttp.ClientResponse, extent: Extent) -> AsyncIterator[bytes]:
    """Raises `UpstreamUnavailable` when it is fewer bytes, after all that came, or more."""
    host, left_bytes = response.url.raw_host or "", extent.size_bytes
    async for chunk in chunks(response, host):
        if chunk := chunk[:left_bytes]:
            left_bytes -= len(chunk)
            yield chunk
        else:
            raise Hopeless(f"{host} sent more than it announced")
    if left_bytes:
        raise UpstreamUnavailable(f"{host} sent less than it announced")
