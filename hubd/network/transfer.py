"""Bytes from an answer's body into the spool, with their digest.

Law: a byte counts (in the frontier, in the digest) only once it is written, and never more than the limit arrive.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from hubclient.contract.errors import ArchiveTooLarge, UpstreamUnavailable
from hubd.network.digests import Checker, Expected

_MOST_WAITING_BYTES = 1 << 20
_READ_BYTES = 1 << 20
_MOST_READ_BYTES = 16 << 20  # at one go: so long may the end of a cancelled transfer take


@dataclass(frozen=True)
class Received:
    """An archive that is whole in its spool."""

    size_bytes: int
    digest: str


async def receive(
    chunks: AsyncIterator[bytes],
    spool: str,
    *,
    total_bytes: int | None,
    limit_bytes: int,
    on_frontier: Callable[[int], None],
    make_room: Callable[[int], Awaitable[None]] | None = None,
    threads: Executor | None = None,
    from_bytes: int = 0,
    expected: Expected | None = None,
) -> Received:
    """Writes the body to a new file `spool`; tells each new frontier (bytes ``[0, frontier)`` are there).

    With `from_bytes` the file is there already, has so many bytes, and the body goes on after them.
    `make_room` is awaited before the file grows to so many bytes (None: nobody is asked); it may raise.
    Raises `ArchiveTooLarge`, `UpstreamUnavailable` when the whole is not `total_bytes` long, `ArchiveCorrupt` when its
    digests are not the `expected` ones, and `OSError` of the disk.
    """
    checker = Checker(expected)
    writer = _Writer(spool, on_frontier, threads, from_bytes, checker)
    try:
        writer.begin()
        arrived = from_bytes
        async for chunk in chunks:
            arrived += len(chunk)
            if arrived > limit_bytes:
                raise ArchiveTooLarge(f"the archive is larger than limits.archive ({limit_bytes} bytes)")
            if make_room is not None:
                await make_room(arrived)
            await writer.write(chunk)
        await writer.finish()
    finally:
        await writer.close()
    if total_bytes is not None and arrived != total_bytes:
        raise UpstreamUnavailable(f"the origin announced {total_bytes} bytes and sent {arrived}")
    return Received(arrived, checker.finish())


def check_announced(total_bytes: int | None, limit_bytes: int) -> None:
    """Raises `ArchiveTooLarge` for an archive that is announced to be larger than the limit."""
    if total_bytes is not None and total_bytes > limit_bytes:
        raise ArchiveTooLarge(f"the archive has {total_bytes} bytes, more than limits.archive ({limit_bytes})")


class _Writer:
    """Writes and hashes in a thread, beside the receiving; what arrives meanwhile is the next piece."""

    def __init__(
        self,
        spool: str,
        on_frontier: Callable[[int], None],
        threads: Executor | None,
        from_bytes: int,
        checker: Checker,
    ) -> None:
        self._fd = _reopened(spool, from_bytes) if from_bytes else _created(spool)
        self._on_frontier = on_frontier
        self._threads = threads
        self._checker = checker
        self._frontier_bytes = from_bytes
        self._reading = _Reading(self._fd, threads, checker) if from_bytes else None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._writing: asyncio.Future[int] | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Tells of what is there already, if anything is."""
        if self._reading is not None:
            self._reading.reach(self._frontier_bytes)
            self._on_frontier(self._frontier_bytes)

    async def write(self, chunk: bytes) -> None:
        """Takes the chunk; waits while too much waits to be written."""
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        self._start()
        while self._waiting_bytes >= _MOST_WAITING_BYTES:
            await self._progress()

    async def finish(self) -> None:
        """Waits until all is written, and has passed the checker."""
        while self._writing is not None:
            await self._progress()
        if self._error is not None:
            raise self._error
        if self._reading is not None:
            await self._reading.finish()

    async def close(self) -> None:
        """Never leaves a thread behind that writes to a descriptor that is something else by then."""
        self._waiting, self._waiting_bytes = [], 0
        while self._writing is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self._writing})
        if self._reading is not None:
            await self._reading.close()
        os.close(self._fd)

    async def _progress(self) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing})
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        if self._writing is None and self._waiting and self._error is None:
            pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self._writing = asyncio.get_running_loop().run_in_executor(self._threads, self._write, pieces)
            self._writing.add_done_callback(self._written)

    def _write(self, pieces: list[bytes]) -> int:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if self._reading is None:
                self._checker.update(piece)
        return sum(map(len, pieces))

    def _written(self, writing: asyncio.Future[int]) -> None:
        self._writing = None
        if (error := writing.exception()) is not None:
            self._error = error
            return
        self._frontier_bytes += writing.result()
        if self._reading is not None:
            self._reading.reach(self._frontier_bytes)
        self._on_frontier(self._frontier_bytes)
        self._start()


class _Reading:
    """The digest of a spool that was begun before: read from its first byte in a thread, behind the writing.

    So a large beginning keeps neither the origin nor the unpacking waiting.
    """

    def __init__(self, fd: int, threads: Executor | None, checker: Checker) -> None:
        self._fd = fd
        self._threads = threads
        self._checker = checker
        self._read_bytes = 0
        self._frontier_bytes = 0
        self._running: asyncio.Future[int] | None = None
        self._error: BaseException | None = None

    def reach(self, frontier_bytes: int) -> None:
        """The bytes ``[0, frontier_bytes)`` are there to read."""
        self._frontier_bytes = frontier_bytes
        self._start()

    async def finish(self) -> None:
        """Waits until all is read."""
        while self._running is not None:
            await asyncio.wait({self._running})
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        self._frontier_bytes = 0
        while self._running is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self._running})

    def _start(self) -> None:
        if self._running is None and self._read_bytes < self._frontier_bytes and self._error is None:
            end = min(self._frontier_bytes, self._read_bytes + _MOST_READ_BYTES)
            self._running = asyncio.get_running_loop().run_in_executor(self._threads, self._read, self._read_bytes, end)
            self._running.add_done_callback(self._read_on)

    def _read(self, start: int, end: int) -> int:
        while start < end:
            piece = os.pread(self._fd, min(_READ_BYTES, end - start), start)
            if not piece:
                raise OSError(errno.EIO, "the spool has become shorter")
            self._checker.update(piece)
            start += len(piece)
        return end

    def _read_on(self, reading: asyncio.Future[int]) -> None:
        self._running = None
        if (error := reading.exception()) is not None:
            self._error = error
            return
        self._read_bytes = reading.result()
        self._start()


def _created(spool: str) -> int:
    return os.open(spool, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _reopened(spool: str, from_bytes: int) -> int:
    """The spool of an earlier transfer, which has just these bytes, open at its end."""
    fd = os.open(spool, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != from_bytes:
            raise OSError(errno.EIO, "the spool has another size", spool)
        os.lseek(fd, 0, os.SEEK_END)
    except BaseException:
        os.close(fd)
        raise
    return fd
