"""The prefetch files of a directory, as they are now. Reads; changes nothing.

Law: only what root or the daemon's own user wrote, and nobody else can change, means anything. A file that is broken
keeps the meaning that it had before, so that a slip of the pen unpins nothing; and it spoils no other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hubclient.contract import lock_file, prefetch_file
from hubclient.contract.prefetch_file import PrefetchFile

MAX_FILES = 1000
_MAX_LOCK_BYTES = 4 << 20  # room for the modules that a file may want; to read more would keep others waiting

_Stamp = tuple[tuple[int, ...] | None, ...]  # of the file and of its lock file; another one: it may say something else


@dataclass(frozen=True)
class ReadFile:
    """A file. `plan` is what it says; where there is a `problem`, what it said last, if anything."""

    name: str
    plan: PrefetchFile | None
    problem: str | None
    stamp: _Stamp
    lock: str | None = None


@dataclass(frozen=True)
class Listing:
    """All files by name, and what is wrong with the directory itself."""

    files: Mapping[str, ReadFile] = field(default_factory=dict)
    problem: str | None = None


def read_directory(directory: str, before: Listing, *, must_exist: bool = True) -> Listing:
    """What is there now. Files that have not changed since `before` are not read again; of a directory that cannot be
    looked at, all stays as it was. Where there is none there are no files: a problem if it `must_exist`."""
    try:
        # Kubernetes mounts it with mode 0777, read-only. Only a mount of its own is so for everybody: a service manager
        # shows the daemon all of /etc read-only, and to others it is what it was.
        is_open = not (os.path.ismount(directory) and os.statvfs(directory).f_flag & os.ST_RDONLY)
        if (fault := _fault(os.stat(directory), "directory", is_open=is_open)) is not None:
            return Listing(before.files, f"{directory} {fault}")
        names = _names(directory)
        found = _read_all(directory, names, before.files)
        if not found.keys() >= names | before.files.keys():
            # Of a file that was renamed meanwhile, one look can miss both names, or find the one that it had.
            names |= (others := _names(directory) - found.keys())
            found |= _read_all(directory, others, before.files)
    except (FileNotFoundError, NotADirectoryError):
        return Listing(problem=f"{directory} is no directory" if must_exist else None)
    except OSError as error:
        return Listing(before.files, f"{directory} cannot be read: {error.strerror}")
    files = dict(sorted(found.items())[:MAX_FILES])
    if len(names) > MAX_FILES:
        return Listing(files, f"{directory} has more than {MAX_FILES} files: the first of them count")
    return Listing(files)


def is_prefetch_file(name: str) -> bool:
    """Whether a file of this name is one: ``*.toml``, but nothing hidden, nor what editors leave beside it."""
    return name.endswith(".toml") and name[0] not in ".#" and name.isprintable()


def _names(directory: str) -> set[str]:
    return {name for name in os.listdir(directory) if is_prefetch_file(name)}


def _read_all(directory: str, names: Collection[str], before: Mapping[str, ReadFile]) -> dict[str, ReadFile]:
    """Those of the files that are there."""
    chosen = sorted(names)[:MAX_FILES]
    return {name: file for name in chosen if (file := _read(directory, name, before.get(name))) is not None}


def _read(directory: str, name: str, before: ReadFile | None) -> ReadFile | None:
    """The file; None when it is gone."""
    if not os.path.lexists(f"{directory}/{name}"):
        return None
    if before is not None and before.stamp == _stamp(directory, name, before.lock):
        return before
    lock, stamp = None, _stamp(directory, name, None)  # before it is read: what changes meanwhile is read once more
    try:
        plan = prefetch_file.parse(_trusted(directory, name, prefetch_file.MAX_BYTES))
        if (lock := plan.lock) is not None:
            stamp = _stamp(directory, name, lock)
            plan = prefetch_file.with_lock(plan, _locked(directory, lock))
        return ReadFile(name, plan, None, stamp, lock)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
    except ValueError as error:
        problem = str(error)
    return ReadFile(name, before.plan if before is not None else None, problem, stamp, lock)


def _locked(directory: str, name: str) -> list[lock_file.Locked]:
    try:
        return list(lock_file.parse(_trusted(directory, name, _MAX_LOCK_BYTES)).values())
    except OSError as error:
        raise ValueError(f"its lock file {name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its lock file {name}: {error}") from None


def _trusted(directory: str, name: str, limit_bytes: int) -> bytes:
    """The bytes of a file that nobody else can have changed. Raises `OSError`, `ValueError`."""
    # Links within the directory are how Kubernetes puts files there, all at once.
    real, inside = os.path.realpath(f"{directory}/{name}"), os.path.realpath(directory)
    if not real.startswith(f"{inside}/"):
        raise ValueError("it is a link that leads out of the directory")
    fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not keep us waiting
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if (fault := _fault(status, "file")) is not None:
            raise ValueError(f"it {fault}")
        if status.st_size > limit_bytes:
            raise ValueError(f"it has more than {limit_bytes} bytes")
        with open(fd, "rb", closefd=False) as file:
            return file.read(limit_bytes + 1)
    finally:
        os.close(fd)


def _fault(status: os.stat_result, what: str, *, is_open: bool = True) -> str | None:
    """Who else could have written it; None: nobody."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {status.st_uid}: chown this {what} to root or to the daemon's user"
    if is_open and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod go-w this {what}"
    return None


def _stamp(directory: str, name: str, lock: str | None) -> _Stamp:
    return tuple(_stamp_of(f"{directory}/{one}") for one in (name, lock) if one is not None)


def _stamp_of(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
