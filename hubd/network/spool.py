"""The archive's file while it is received: pieces are written where they belong, and hashed in their order.

Law: a byte counts (in `written`, in the digest) only once it is written; and of the archive no more than
`_MOST_WAITING_BYTES` are ever in memory.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from types import TracebackType
from typing import Self

from hubclient.contract.errors import HubError
from hubd.network.segments import Ranges

_MOST_WAITING_BYTES = 1 << 20
_READ_BYTES = 1 << 20
_MOST_HASHED_BYTES = 8 << 20  # of what lies in the file, at one go: what arrives meanwhile waits


class SpoolWriter:
    """Writes and hashes in a thread, beside the receiving; what arrives meanwhile is the next piece.

    An async context manager. What it is left with is on the disk, and no thread works on the file any more.
    """

    def __init__(
        self,
        path: str,
        on_written: Callable[[Ranges], None],
        threads: Executor | None = None,
        *,
        from_bytes: int = 0,
    ) -> None:
        """A new file; or one that has just `from_bytes` bytes, which are an archive's first. Raises `OSError`.

        `on_written` is called in the event loop with what of the archive is in the file, again and again.
        """
        self._fd = _reopened(path, from_bytes) if from_bytes else _created(path)
        self._on_written = on_written
        self._threads = threads
        self._digest = hashlib.sha256()
        self._hashed_bytes = 0
        self.written = Ranges([(0, from_bytes)])
        self._waiting: list[tuple[int, bytes]] = []
        self._waiting_bytes = 0
        self._working: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        if self.written:
            self._on_written(self.written)
            self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Never leaves a thread behind that writes to a descriptor that is something else by then."""
        self._is_over = True
        if not isinstance(error, HubError):
            self._waiting = []  # else what came before a cut is worth to be kept
        while self._working is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self._working})
        os.close(self._fd)

    def put(self, offset: int, piece: bytes) -> None:
        """Takes a piece of the archive, to be written at its offset."""
        self._waiting.append((offset, piece))
        self._waiting_bytes += len(piece)
        self._start()

    async def drained(self) -> None:
        """Returns when more may be put. Raises the `OSError` of a write that failed."""
        while self._waiting_bytes >= _MOST_WAITING_BYTES and self._error is None:
            await self._worked()
        self._check()

    async def finish(self, size_bytes: int) -> str:
        """Waits until the whole archive is written and hashed; its sha256, hex."""
        while self._error is None and (self._working is not None or self._hashed_bytes < size_bytes):
            await self._worked()
        self._check()
        return self._digest.hexdigest()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _worked(self) -> None:
        assert self._working is not None
        await asyncio.wait({self._working})

    def _start(self) -> None:
        lags = self._hashed_bytes < self.written.frontier_bytes and not self._is_over
        if self._working is None and self._error is None and (self._waiting or lags):
            pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self._working = asyncio.get_running_loop().run_in_executor(self._threads, self._work, pieces)
            self._working.add_done_callback(self._done)

    def _work(self, pieces: list[tuple[int, bytes]]) -> None:
        """In a thread, one at a time."""
        for offset, piece in pieces:
            rest = memoryview(piece)
            while rest:
                written_bytes = os.pwrite(self._fd, rest, offset + len(piece) - len(rest))
                rest = rest[written_bytes:]
            if offset == self._hashed_bytes:  # while it is at hand; what came out of order is read again
                self._hash(piece)
        spans = Ranges([*self.written, *((offset, offset + len(piece)) for offset, piece in pieces)])
        until = min(spans.frontier_bytes, self._hashed_bytes + _MOST_HASHED_BYTES)
        while self._hashed_bytes < until:
            piece = os.pread(self._fd, min(_READ_BYTES, until - self._hashed_bytes), self._hashed_bytes)
            if not piece:
                raise OSError(errno.EIO, "the spool has become shorter")
            self._hash(piece)
        self.written = spans

    def _hash(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._hashed_bytes += len(piece)

    def _done(self, working: asyncio.Future[None]) -> None:
        self._working = None
        if (error := working.exception()) is not None:
            self._error = error
            return
        self._on_written(self.written)
        self._start()


def _created(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _reopened(path: str, from_bytes: int) -> int:
    """The spool of an earlier transfer, which has just these bytes."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != from_bytes:
            raise OSError(errno.EIO, "the spool has another size", path)
    except BaseException:
        os.close(fd)
        raise
    return fd
