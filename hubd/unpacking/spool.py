"""The archive as the child reads it: a file that still grows, behind the frontier that the daemon tells.

Law: no byte at or past the frontier is ever read. The daemon tells it on a pipe in lines ``<bytes>\\n``, the last
``end <bytes>\\n``, and between them how much the tree may take on disk, ``room <bytes>\\n``; the end of the pipe while
something is waited for means that the daemon is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hubd.unpacking.gzip_stream import PIECE_BYTES

# Weights hardly compress: so much of them inflates to no more than one piece, and no small one comes after it.
_READ_BYTES = PIECE_BYTES * 7 // 8


class DaemonGone(Exception):
    """Nobody is left to unpack for."""


class Spool:
    """Reads one growing file from its start, once."""

    def __init__(
        self, path: str, frontier_fd: int, on_idle: Callable[[int], None], on_room: Callable[[int, int], None]
    ) -> None:
        """`on_idle` is called with the offset reached before each wait for more, `on_room` with the arguments of
        `await_room` before each wait for that."""
        self._path = path
        self._fd = -1
        self._frontier_fd = frontier_fd
        self._on_idle = on_idle
        self._on_room = on_room
        self._room_bytes = 0
        self._offset = 0
        self._frontier = 0
        self._is_whole = False
        self._line = b""

    def read(self) -> bytes:
        """The next piece, waiting for it if need be; b"" at the end of the whole archive.

        Raises `DaemonGone`, and `OSError` when the file cannot be read or is shorter than the daemon said.
        """
        while self._offset >= self._frontier:
            if self._is_whole:
                return b""
            self._on_idle(self._offset)
            self._wait()
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        piece = os.pread(self._fd, min(_READ_BYTES, self._frontier - self._offset), self._offset)
        if not piece:
            raise OSError(f"the spool ends at byte {self._offset}, before the frontier {self._frontier}")
        self._offset += len(piece)
        return piece

    def await_room(self, size_bytes: int, announced_bytes: int) -> None:
        """Returns when the tree may take so many bytes on disk; in the end it will take `announced_bytes` or more.

        Raises `DaemonGone`.
        """
        if size_bytes > self._room_bytes:
            self._on_room(size_bytes, announced_bytes)
        while size_bytes > self._room_bytes:
            self._wait()

    def _wait(self) -> None:
        told = os.read(self._frontier_fd, 65536)
        if not told:
            raise DaemonGone
        *lines, self._line = (self._line + told).split(b"\n")
        for line in lines:
            word, _, number = line.rpartition(b" ")
            if word == b"room":
                self._room_bytes = int(number)
            else:
                self._is_whole = word == b"end"
                self._frontier = int(number)
