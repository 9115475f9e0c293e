"""New files and directories that appear at their path whole, or not at all.

Law: what is made lies beside its place, under a random name, until all of it is on the disk; one rename shows it,
and never in the place of something that it may not replace. Every other way out of the block takes it away again.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from hubclient.contract.errors import AccessDenied, DiskFull, HubError
from hubclient.model_errors import ExportInvalid, PathExists

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
# What a kernel or a file system without RENAME_NOREPLACE answers.
_NOT_KNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def absolute(path: str | os.PathLike[str]) -> str:
    """The path in full, ``~`` resolved; raises `ExportInvalid` for what cannot name a new file or directory."""
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ExportInvalid(f"{path!r} is no path for a new file or directory")
    if "://" in text:
        raise ExportInvalid(f"{text} is a URL: a new file or directory is named by a path of this machine")
    return os.path.abspath(os.path.expanduser(text))


def refuse_existing(path: str) -> None:
    """Raise `PathExists` if anything, even a dangling link, is at the path."""
    if os.path.lexists(path):
        raise PathExists(f"{path} exists already, and is not overwritten")


@contextmanager
def new_directory(path: str) -> Iterator[str]:
    """An empty directory to fill, which becomes `path` at the end of the block. Missing parents are made.

    Raises `PathExists`, `DiskFull`, `AccessDenied`, `ExportInvalid` for other failures of writing.
    """
    refuse_existing(path)
    with writing(path):
        staged = _beside(path)
        try:
            os.mkdir(staged)
            yield staged
            _sync_tree(staged)
            _rename_to_nothing(staged, path)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        _sync(os.path.dirname(path))


@contextmanager
def new_file(path: str, *, replace: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` at the end of the block: in the place of a file if `replace`.

    Raises as `new_directory`.
    """
    if not replace or not _is_file(path):
        refuse_existing(path)
    with writing(path):
        staged = _beside(path)
        try:
            with open(staged, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.rename(staged, path)
            else:
                _rename_to_nothing(staged, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(staged)
            raise
        _sync(os.path.dirname(path))


def _is_file(path: str) -> bool:
    """Whether a file or a link is there: neither a directory nor a device."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and not os.path.isdir(path))


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Errors of the disk as hubclient's own: `DiskFull`, `AccessDenied`, `PathExists`, else `ExportInvalid`."""
    try:
        yield
    except HubError:
        raise
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(reason) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise AccessDenied(reason) from error
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise PathExists(f"{path} exists already, and is not overwritten") from error
        raise ExportInvalid(reason) from error


def _beside(path: str) -> str:
    parent, name = os.path.split(path)
    try:
        _make_directories(parent)
    except (FileExistsError, NotADirectoryError) as error:
        raise ExportInvalid(f"cannot write {path}: {parent} is not a directory, and cannot be made one") from error
    return os.path.join(parent, f".{name[:40]}.{secrets.token_hex(8)}.partial")


def _make_directories(path: str) -> None:
    """`os.makedirs` that outlives a power cut: what is synced in a directory is lost with that directory's name."""
    if not os.path.isdir(path):
        above = os.path.dirname(path)
        _make_directories(above)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):  # else somebody made it meanwhile
                raise
        _sync(above)


def _rename_to_nothing(source: str, target: str) -> None:
    """A rename that fails with EEXIST if there is a target: renameat2(2) with RENAME_NOREPLACE."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        names = os.fsencode(source), os.fsencode(target)
        if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NOT_KNOWN:
            raise OSError(number, os.strerror(number), source, None, target)
    # Between the two steps somebody could make the target: then a file or an empty directory would be replaced.
    refuse_existing(target)
    os.rename(source, target)


def _sync_tree(root: str) -> None:
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            _sync(os.path.join(directory, name))
        _sync(directory)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
