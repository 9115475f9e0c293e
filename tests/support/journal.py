"""Disks for crash tests: one that is killed at a chosen call, and one whose calls can be replayed after a power cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from hubd.store.disk import Disk


class KilledDisk(Disk):
    """The process dies by SIGKILL before its `fatal`-th call, or half through it where it has halves."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal

    def _step(self) -> None:
        self.fatal -= 1
        if self.fatal == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def create(self, path: str, mode: int) -> int:
        self._step()
        return super().create(path, mode)

    def write(self, fd: int, data: bytes) -> None:
        if self.fatal == 1:
            super().write(fd, data[: len(data) // 2])
        self._step()
        super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self._step()
        super().fsync(fd)

    def truncate(self, path: str, size_bytes: int) -> None:
        self._step()
        super().truncate(path, size_bytes)

    def fdatasync(self, path: str) -> None:
        self._step()
        super().fdatasync(path)

    def fsync_directory(self, path: str) -> None:
        self._step()
        super().fsync_directory(path)

    def syncfs(self, path: str) -> None:
        self._step()
        super().syncfs(path)

    def rename(self, source: str, target: str) -> None:
        self._step()
        super().rename(source, target)

    def exchange(self, one: str, other: str) -> None:
        self._step()
        super().exchange(one, other)

    def link(self, source: str, target: str) -> None:
        self._step()
        super().link(source, target)

    def unlink(self, path: str) -> None:
        self._step()
        super().unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        if self.fatal == 1:
            os.mkdir(path, 0o700)
        self._step()
        super().mkdir(path, mode)

    def symlink(self, target: str, path: str) -> None:
        self._step()
        super().symlink(target, path)

    def let_in(self, path: str, readers: Collection[int] | None, groups: Collection[int] = ()) -> None:
        self._step()
        super().let_in(path, readers, groups)

    def utime(self, path: str, times: tuple[float, float] | None) -> None:
        self._step()
        super().utime(path, times)

    def remove_tree(self, path: str) -> None:
        self._step()
        super().remove_tree(path)


def killed(fatal: int, action: Callable[[Disk], None]) -> bool:
    """Whether a forked child that did this to its disk was killed before its call number `fatal`."""
    child = os.fork()
    if child == 0:
        try:
            action(KilledDisk(fatal))
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


class Call(NamedTuple):
    """A call that reached the disk."""

    kind: str  # "entry" (a name came or went), "data" or "fsync"
    lasts_with: tuple[str, ...]  # it is there for good once one of these paths is fsynced
    made: str  # the path that came to be, or the file that was written
    moved: tuple[str, ...]  # the paths that were there before and must have been
    replay: Callable[[Disk], None]


class RecordingDisk(Disk):
    """The real disk, with a record of all calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._open: dict[int, str] = {}

    def opened(self, fd: int, path: str) -> None:
        """A file that was there before, and is written to from here on."""
        self._open[fd] = path

    def _entry(self, made: str, moved: tuple[str, ...], replay: Callable[[Disk], None]) -> None:
        directories = tuple(os.path.dirname(path) for path in (made, *moved))
        self.calls.append(Call("entry", directories, made, moved, replay))

    def _data(self, path: str, replay: Callable[[Disk], None]) -> None:
        self.calls.append(Call("data", (path,), path, (), replay))

    def _fsync(self, path: str) -> None:
        self.calls.append(Call("fsync", (path,), "", (), lambda disk: None))

    def create(self, path: str, mode: int) -> int:
        fd = super().create(path, mode)
        self._open[fd] = path
        self._entry(path, (), lambda disk: os.close(disk.create(path, mode)))
        return fd

    def write(self, fd: int, data: bytes) -> None:
        super().write(fd, data)
        path = self._open[fd]
        self._data(path, lambda disk: _append(disk, path, data))

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self._fsync(self._open[fd])

    def truncate(self, path: str, size_bytes: int) -> None:
        super().truncate(path, size_bytes)
        self._data(path, lambda disk: disk.truncate(path, size_bytes))

    def fdatasync(self, path: str) -> None:
        super().fdatasync(path)
        self._fsync(path)

    def fsync_directory(self, path: str) -> None:
        super().fsync_directory(path)
        self._fsync(path)

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self._entry(target, (source,), lambda disk: disk.rename(source, target))

    def exchange(self, one: str, other: str) -> None:
        super().exchange(one, other)
        self._entry(other, (one,), lambda disk: disk.exchange(one, other))

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        self._entry(target, (), lambda disk: disk.link(source, target))

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._entry(path, (), lambda disk: disk.unlink(path))

    def mkdir(self, path: str, mode: int) -> None:
        super().mkdir(path, mode)
        self._entry(path, (), lambda disk: disk.mkdir(path, mode))

    def symlink(self, target: str, path: str) -> None:
        super().symlink(target, path)
        self._entry(path, (), lambda disk: disk.symlink(target, path))

    def let_in(self, path: str, readers: Collection[int] | None, groups: Collection[int] = ()) -> None:
        super().let_in(path, readers, groups)
        self._data(path, lambda disk: disk.let_in(path, readers, groups))

    def utime(self, path: str, times: tuple[float, float] | None) -> None:
        super().utime(path, times)
        self._data(path, lambda disk: disk.utime(path, times))

    def remove_tree(self, path: str) -> None:
        super().remove_tree(path)
        self._entry(path, (), lambda disk: disk.remove_tree(path))


def replay(calls: list[Call], survives: Callable[[Call], bool]) -> None:
    """Do to the disk what a power cut after these calls may have left of them.

    What was fsynced afterwards is there. Of the rest, each call is there if `survives` says so, and if a rename that
    is there needs what it made: a name that lasts leads to a file that does, with or without its data.
    """
    kept: list[Call] = []
    fsynced: set[str] = set()
    needed: set[str] = set()
    for call in reversed(calls):
        if call.kind == "fsync":
            fsynced.update(call.lasts_with)
        elif (
            not fsynced.isdisjoint(call.lasts_with) or survives(call) or (call.kind == "entry" and call.made in needed)
        ):
            kept.append(call)
            for path in call.moved:
                while path not in needed and path != "/":
                    needed.add(path)
                    path = os.path.dirname(path)
    for call in reversed(kept):
        with suppress(OSError):
            call.replay(Disk())


def _append(disk: Disk, path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        disk.write(fd, data)
    finally:
        os.close(fd)
