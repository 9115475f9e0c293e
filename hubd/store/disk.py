"""The store's writing calls, each thin, in one place: what the crash tests record, cut short and let fail.

Law: the store changes the disk through a `Disk` and through nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from hubclient.contract.errors import DiskFull, HubError, Internal
from hubd.store import acl

_log = logging.getLogger(__name__)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_CAUSES = {
    errno.EXDEV: "it is on another file system than the rest of the cache",
    errno.EACCES: "the daemon may not write there",
    errno.EPERM: "the daemon may not write there",
    errno.EROFS: "the file system is read-only, which the kernel also does after an error of the disk: see dmesg",
    errno.EIO: "the disk has an error: see dmesg",
}


def from_os_error(error: OSError, doing: str) -> HubError:
    """The error to answer with: `DiskFull` for a full disk or quota, else `Internal` that names path and cause."""
    path = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{doing}: the disk or its quota is full{path}")
    cause = _CAUSES.get(error.errno or 0, "")
    return Internal(f"{doing} failed: {error.strerror or error}{path}{' (' + cause + ')' if cause else ''}")


@contextmanager
def storing(doing: str) -> Iterator[None]:
    """Turn every `OSError` inside into the error to answer with."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing) from error


def read_file(path: str, limit_bytes: int, *, dir_fd: int | None = None) -> bytes:
    """The bytes of a regular file. Raises `OSError`, and `ValueError` when it is longer or no regular file."""
    # O_NONBLOCK: opening a planted FIFO must not hang.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit_bytes:
            raise ValueError(f"no regular file of at most {limit_bytes} bytes: {path}")
        pieces = []
        while piece := os.read(fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


class Disk:
    """The real disk. Every method raises `OSError`; modes are exact, whatever the umask."""

    def create(self, path: str, mode: int) -> int:
        """A new file, open for writing."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, mode)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def truncate(self, path: str, size_bytes: int) -> None:
        """Cut the file to this size."""
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, size_bytes)
        finally:
            os.close(fd)

    def fdatasync(self, path: str) -> None:
        """What was written to this file, by whomever, is on the disk to stay, and its size."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def fsync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def syncfs(self, path: str) -> None:
        """All that was written to the file system that the path lies on is on the disk: syncfs(2)."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def exchange(self, one: str, other: str) -> None:
        """Two names change places in one step: renameat2(2) with RENAME_EXCHANGE."""
        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is None:
            raise OSError(errno.ENOSYS, "no renameat2 here", one)
        if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), one, None, other)

    def link(self, source: str, target: str) -> None:
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, 0o700)
        if mode != 0o700:
            os.chmod(path, mode)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path)

    def let_in(self, path: str, readers: Collection[int] | None, groups: Collection[int] = ()) -> None:
        """The directory is its owner's, and these uids (None: everyone) and gids may read and enter it, in one step."""
        try:
            os.setxattr(path, acl.ATTRIBUTE, acl.encode(readers, groups), follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENOTSUP or readers or groups:
                raise
            os.chmod(path, 0o755 if readers is None else 0o700)  # where there are no ACLs, a mode says that much

    def utime(self, path: str, times: tuple[float, float] | None) -> None:
        """Access and modification time in unix seconds (None: now), of a link itself."""
        os.utime(path, times, follow_symlinks=False)

    def remove_tree(self, path: str) -> None:
        """Delete what lies there, as far as that goes: never raises, never follows a link."""
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("cannot delete %s: %s", path, error)
            return
        if os.path.lexists(path):
            _log.warning("cannot delete all of %s", path)

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        """A new file with this content, on the disk to stay (its name is not, until the directory is fsynced)."""
        fd = self.create(path, mode)
        try:
            self.write(fd, data)
            self.fsync(fd)
        finally:
            os.close(fd)

    def replace_file(self, path: str, data: bytes, mode: int, temporary: str) -> None:
        """The file under this name is the old one or the whole new one, at every moment."""
        try:
            self.write_file(temporary, data, mode)
            self.rename(temporary, path)
        except OSError:
            with suppress(OSError):
                self.unlink(temporary)
            raise
        self.fsync_directory(os.path.dirname(path))
