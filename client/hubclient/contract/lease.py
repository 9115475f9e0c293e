"""Leases: whoever uses a tree holds a shared open-file-description lock on its ``lease`` file.

Law: while a lease is held its tree is not removed, because removing takes the write side of the same lock.
The kernel frees the lock when the last copy of the descriptor goes, however the process dies; a forked child
shares it. The file is opened read-only, and the write side needs a descriptor open for writing, so a mere
reader can never take it (with ``flock`` it could).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from types import TracebackType

_ROUNDS = 3
# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid (0: what OFD locks demand)
_FLOCK = struct.Struct("hhqqi4x")
_READ_LOCK = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
_WRITE_LOCK = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class Lease:
    """An open, locked descriptor. Release it once; releasing again does nothing."""

    __slots__ = ("_fd", "inode")

    def __init__(self, fd: int, inode: tuple[int, int]) -> None:
        self._fd = fd
        #: ``(st_dev, st_ino)`` of the lease file: the identity of the tree that is held
        self.inode = inode

    @classmethod
    def share(cls, path: str) -> Lease:
        """Take the read side.

        Raises `FileNotFoundError` when there is no such tree, or no lease in it, `BlockingIOError` when it is being
        removed (or replaced again and again).
        """
        return cls._take(path, os.O_RDONLY, _READ_LOCK)

    @classmethod
    def exclusive(cls, path: str) -> Lease:
        """Take the write side without waiting; `BlockingIOError` when anyone holds a lease."""
        return cls._take(path, os.O_RDWR, _WRITE_LOCK)

    @staticmethod
    def is_held(path: str) -> bool:
        """Whether anyone holds a lease, without taking one: who asks gets in nobody's way. Raises `OSError`."""
        fd = _open(path, os.O_RDONLY)
        try:
            conflict = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WRITE_LOCK)
        finally:
            os.close(fd)
        return bool(_FLOCK.unpack(conflict)[0] != fcntl.F_UNLCK)

    @classmethod
    def _take(cls, path: str, mode: int, lock: bytes) -> Lease:
        for _ in range(_ROUNDS):
            fd = _open(path, mode)
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
                held = os.fstat(fd)
                if not stat.S_ISREG(held.st_mode):
                    raise _no_lease(path)
                # Between the open and the lock an eviction may have moved the tree away, or a repair put
                # another in its place: then this descriptor guards a file that no path leads to.
                there = os.stat(path)
            except BaseException:
                os.close(fd)
                raise
            if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
                return cls(fd, (held.st_dev, held.st_ino))
            os.close(fd)
        raise BlockingIOError(errno.EAGAIN, "the tree is being replaced", path)

    def fileno(self) -> int:
        return self._fd

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _open(path: str, mode: int) -> int:
    try:
        # O_NONBLOCK: for a regular file it means nothing, and nobody waits at a pipe.
        return os.open(path, mode | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENXIO):  # a directory or a socket
            raise _no_lease(path) from None
        raise


def _no_lease(path: str) -> FileNotFoundError:
    """A tree whose lease was replaced by something else has none: nobody can hold it, and it may be replaced."""
    return FileNotFoundError(errno.ENOENT, "what is there is no lease", path)
