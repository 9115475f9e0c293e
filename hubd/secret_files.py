"""Files with a secret of the machine's, as they are now: one that changed is read again at its next use.

Law: such a file counts only if root or the daemon's own user put it there and nobody else can read it, and what is in
it is never repeated.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

log = logging.getLogger(__name__)

Secret = TypeVar("Secret")


class _Stamp(NamedTuple):
    """Another one means that the file may say something else."""

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int  # a change of owner or mode too


class SecretFile(Generic[Secret]):
    """A credential for `whose`, in this file.

    `parse` makes it of what is in the file; its `ValueError` repeats nothing of that. Raises `ValueError`, which names
    the file and the remedy, for a file that cannot be used.
    """

    def __init__(self, path: str, whose: str, parse: Callable[[bytes], Secret], *, max_bytes: int) -> None:
        self._path = path
        self._whose = whose
        self._parse = parse
        self._max_bytes = max_bytes
        self._read: tuple[_Stamp | None, Secret | None]
        try:
            self._read = self._load()
        except (OSError, ValueError) as error:
            raise ValueError(self._complaint(error)) from None

    def now(self) -> Secret | None:
        """None if the file cannot be used any more; the log says why."""
        stamp, secret = self._read
        if (now := _stamp_of(self._path)) == stamp:
            return secret
        try:
            self._read = self._load()
            log.info("the credential for %s was read again", self._whose)
        except (OSError, ValueError) as error:
            log.warning("there is no credential for %s: %s", self._whose, self._complaint(error))
            self._read = now, None
        return self._read[1]

    def _load(self) -> tuple[_Stamp, Secret]:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe keeps nobody waiting
        try:
            status = os.fstat(fd)
            if (fault := _fault(status)) is not None:
                raise ValueError(fault)
            data = os.read(fd, self._max_bytes + 1)
        finally:
            os.close(fd)
        if len(data) > self._max_bytes:
            raise ValueError("is too long")
        return _stamp(status), self._parse(data)

    def _complaint(self, error: OSError | ValueError) -> str:
        return f"{self._path} " + (f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error))


def _fault(status: os.stat_result) -> str | None:
    """Why others could know, or could have put there, what is in the file."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {status.st_uid}: chown it to root or to the daemon's user"
    if status.st_mode & 0o037:
        return f"can be read or written by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod it to 0600 or 0640"
    return None


def _stamp_of(file: str) -> _Stamp | None:
    try:
        return _stamp(os.stat(file))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
