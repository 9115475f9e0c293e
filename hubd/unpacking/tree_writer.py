"""From members to files on disk: created afresh, hashed, and durable when `finish` returns.

Law: every path is opened one segment at a time, relative to the descriptor of its parent and with O_NOFOLLOW,
and every file with O_EXCL: nothing that is there already is ever followed, opened or written.

Pieces of big files go to one helper thread, which writes and hashes them while the caller inflates on. Small
files are written in place: handing them over would cost more than writing them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from queue import Queue
from threading import Thread

from hubclient.contract.errors import ArchiveUnsafe
from hubd.unpacking.kernel import start_writeback
from hubd.unpacking.names import shown

#: Called with path, size in bytes and hex sha256 of each file; from either thread.
Report = Callable[[str, int, str], None]

_BIG_FILE_BYTES = 512 * 1024
_BACKLOG_PIECES = 16  # of at most 512 KB each
_WRITEBACK_BYTES = 16 * 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeWriter:
    """Fills one fresh directory: `add_directory`, or `begin_file`, `write` per piece, `end_file`; last `finish`."""

    def __init__(self, root: str, report: Report) -> None:
        """Make the directory `root`, which must not exist."""
        os.mkdir(root, 0o755)
        self._root_fd = os.open(root, _DIRECTORY)
        os.fchmod(self._root_fd, 0o755)
        self._report = report
        self._parent = ("", self._root_fd)
        self._current: _File | None = None
        self._small_files: list[str] = []
        self._helper = _Helper(report)

    @property
    def root_fd(self) -> int:
        return self._root_fd

    def add_directory(self, path: str) -> None:
        """Make one directory, whose parent exists."""
        parent, _, name = path.rpartition("/")
        parent_fd = self._directory(parent)
        try:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
        except FileExistsError:
            raise _collision(path) from None
        fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
        try:
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)

    def begin_file(self, path: str, size_bytes: int) -> None:
        """Create a file, whose directory exists."""
        parent, _, name = path.rpartition("/")
        try:
            fd = os.open(name, _NEW_FILE, 0o644, dir_fd=self._directory(parent))
        except FileExistsError:
            raise _collision(path) from None
        os.fchmod(fd, 0o644)
        self._current = _File(path, fd, is_big=size_bytes >= _BIG_FILE_BYTES)

    def write(self, piece: memoryview) -> None:
        assert self._current is not None
        if self._current.is_big:
            self._helper.put(self._current, piece)
        else:
            self._current.write(piece)

    def end_file(self) -> None:
        assert self._current is not None
        if self._current.is_big:
            self._helper.put(self._current, None)
        else:
            self._current.close(durably=False)
            self._small_files.append(self._current.path)
            self._report(self._current.path, self._current.size_bytes, self._current.sha256)
        self._current = None

    def finish(self, directories: list[str]) -> None:
        """Wait for the helper, then make the small files and the given directories durable."""
        self._helper.finish()
        # Their writing to disk began when they were closed. Syncing each there and then would cost a commit of
        # the file system's journal per file; now the first sync commits for nearly all of them.
        for path in self._small_files:
            parent, _, name = path.rpartition("/")
            _sync(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory(parent)))
        for path in reversed(directories):
            _sync(self._open_directory(path))

    def _directory(self, path: str) -> int:
        """A descriptor of the directory, kept open until another is asked for."""
        if path == "":
            return self._root_fd
        if path != self._parent[0]:
            fd = self._open_directory(path)
            if self._parent[1] != self._root_fd:
                os.close(self._parent[1])
            self._parent = (path, fd)
        return self._parent[1]

    def _open_directory(self, path: str) -> int:
        fd = os.dup(self._root_fd)
        for segment in path.split("/") if path else ():
            try:
                fd, parent_fd = os.open(segment, _DIRECTORY, dir_fd=fd), fd
            except BaseException:
                os.close(fd)
                raise
            os.close(parent_fd)
        return fd


class _File:
    """One file that is being written, with its digest so far."""

    def __init__(self, path: str, fd: int, is_big: bool) -> None:
        self.path = path
        self.is_big = is_big
        self.size_bytes = 0
        self._fd = fd
        self._digest = hashlib.sha256()
        self._written_back_bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, piece: memoryview) -> None:
        rest = piece
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._digest.update(piece)
        self.size_bytes += len(piece)
        if self.size_bytes - self._written_back_bytes >= _WRITEBACK_BYTES:
            self._start_writeback()

    def close(self, durably: bool) -> None:
        if durably:
            os.fsync(self._fd)
        else:
            self._start_writeback()
        os.close(self._fd)

    def _start_writeback(self) -> None:
        start_writeback(self._fd, self._written_back_bytes, self.size_bytes - self._written_back_bytes)
        self._written_back_bytes = self.size_bytes


class _Helper:
    """One thread behind a bounded queue. Its first error is raised to the caller, by the next `put` or by `finish`."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._queue: Queue[tuple[_File, memoryview | None] | None] = Queue(_BACKLOG_PIECES)
        self._error: BaseException | None = None
        self._thread: Thread | None = None

    def put(self, file: _File, piece: memoryview | None) -> None:
        """Hand over a piece of a file; None is its end."""
        if self._error is not None:
            raise self._error
        if self._thread is None:
            # A daemon thread: after an error of the caller's nothing waits for it.
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        self._queue.put((file, piece))

    def finish(self) -> None:
        """Wait until everything is written, hashed and durable."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue  # go on taking, or the caller would wait for ever at a full queue
            try:
                self._work(*item)
            except BaseException as error:  # it is raised in the other thread
                self._error = error

    def _work(self, file: _File, piece: memoryview | None) -> None:
        if piece is not None:
            file.write(piece)
        else:
            file.close(durably=True)
            self._report(file.path, file.size_bytes, file.sha256)


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _collision(path: str) -> ArchiveUnsafe:
    # Every name was checked to be new, so this file system takes two names for one (it ignores case, say).
    return ArchiveUnsafe(f"{shown(path)} is the same file as another member on this file system")
