"""A directory of archives as an origin: what follows the mirror's prefix in a handle is a path in it.

The archive of ``google/nnlm/1`` is the regular file ``google/nnlm/1.tar.gz``, ``1.tgz`` or ``1``, the first that is
there. Law: a handle never climbs out. Each segment is opened on its own, no link is followed, and nothing but a
directory or a regular file is read.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote_to_bytes

from hubclient.contract.errors import HubError, UpstreamDenied, UpstreamNotFound, UpstreamUnavailable
from hubd.config_urls import directory
from hubd.network.conditions import Validators
from hubd.network.sources import ArchiveRequest, Delivery

_ENDINGS = (b".tar.gz", b".tgz", b"")
_PIECE_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe without a writer blocks nobody
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_HOST = "localhost"  # RFC 8089: a file URL without a host is of this machine


def segments(rest: str) -> list[bytes] | None:
    """The names on the way to what follows the prefix in a handle; None for what no file can be.

    Percent-decoded one by one, so that an encoded slash is no separator. A query has no place in a name.
    """
    if "?" in rest:
        return None
    names = [unquote_to_bytes(segment) for segment in rest.split("/")]
    climbs = any(name in (b"", b".", b"..") or b"/" in name or b"\0" in name for name in names)
    return None if climbs else names


class ArchiveDirectory:
    """The mirror of a ``file://`` URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._root = directory(url)

    @asynccontextmanager
    async def open(self, request: ArchiveRequest, rest: str) -> AsyncIterator[Delivery]:
        """The archive of what follows the prefix, for the block.

        Raises `UpstreamNotFound`, `UpstreamDenied`, and `UpstreamUnavailable` also out of the block when the file
        changes while it is read.
        """
        names = segments(rest)
        if names is None:
            raise self._absent()
        opening = asyncio.ensure_future(asyncio.to_thread(self._find, names))
        try:
            archive = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise
        try:
            yield archive.delivery(request)
        finally:
            archive.close()

    def _find(self, names: list[bytes]) -> _Archive:
        try:
            at = os.open(self._root, _DIRECTORY)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            for name in names[:-1]:
                below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            for ending in _ENDINGS:
                if (archive := self._regular(names[-1] + ending, at)) is not None:
                    return archive
        except OSError as error:
            raise self._named(error) from None
        finally:
            os.close(at)
        raise self._absent()

    def _regular(self, name: bytes, at: int) -> _Archive | None:
        try:
            fd = os.open(name, _FILE, dir_fd=at)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return _Archive(fd, self._url)

    def _absent(self) -> HubError:
        return UpstreamNotFound(f"{self._url} has no such module")

    def _named(self, error: OSError) -> HubError:
        if error.errno in _ABSENT:
            return self._absent()
        if error.errno in _DENIED:
            return UpstreamDenied(f"{self._url}: hubd may not read this module's archive")
        return self._unusable(error)

    def _unusable(self, error: OSError) -> HubError:
        return UpstreamUnavailable(f"{self._url} cannot be read ({error.strerror})")


class _Archive:
    """An open file, which is one version of the archive for as long as size, time and inode stay."""

    def __init__(self, fd: int, url: str) -> None:
        self._fd: int | None = fd
        self._url = url
        self._reading = threading.Lock()
        self._is_over = False
        self._version = _version(os.fstat(fd))
        self._size_bytes = os.fstat(fd).st_size
        self._etag = '"{:x}-{:x}-{:x}"'.format(*self._version)

    def delivery(self, request: ArchiveRequest) -> Delivery:
        stated = Validators(self._etag)
        if request.known is not None and request.known.etag == self._etag:
            return Delivery(None, None, stated, _HOST, is_local=True)
        resume = request.resume
        goes_on = resume is not None and resume.validators.etag == self._etag and resume.from_bytes < self._size_bytes
        from_bytes = resume.from_bytes if resume is not None and goes_on else 0
        body = self._body(from_bytes)
        return Delivery(body, self._size_bytes, stated, _HOST, from_bytes, stated, is_local=True)

    def close(self) -> None:
        """Closes it, or lets the thread that reads a piece do so after it: a disk that hangs holds up nobody else, and
        no thread reads what the descriptor is next."""
        self._is_over = True
        if self._reading.acquire(blocking=False):
            try:
                fd, self._fd = self._fd, None
                if fd is not None:
                    os.close(fd)
            finally:
                self._reading.release()

    async def _body(self, from_bytes: int) -> AsyncIterator[bytes]:
        while from_bytes < self._size_bytes:
            piece = await asyncio.to_thread(self._read, from_bytes)
            from_bytes += len(piece)
            yield piece

    def _read(self, start: int) -> bytes:
        try:
            return self._piece(start)
        finally:
            if self._is_over:  # asked after the lock is free: whoever could not have it has said so before
                self.close()

    def _piece(self, start: int) -> bytes:
        with self._reading:
            if self._fd is None:
                raise UpstreamUnavailable(f"{self._url}: nobody reads this archive any more")
            try:
                piece = os.pread(self._fd, min(_PIECE_BYTES, self._size_bytes - start), start)
            except OSError as error:
                raise UpstreamUnavailable(f"{self._url} cannot be read ({error.strerror})") from None
            if not piece or _version(os.fstat(self._fd)) != self._version:
                raise UpstreamUnavailable(f"{self._url}: the archive changed while it was read")
            return piece


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _close(opening: asyncio.Future[_Archive]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
