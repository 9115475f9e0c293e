"""A directory of files as one tar archive that nobody ever made: which bytes it has, and whose they are. Pure.

Law: the archive follows from the list of its files alone, so that any part of it can be had at any time, by any
daemon, and fits all others. Headers are ustar (POSIX.1-1988), with GNU long names and base-256 sizes (the GNU tar
manual, "Basic Tar Format").
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

_BLOCK_BYTES = 512
_END = bytes(2 * _BLOCK_BYTES)
_NAME_BYTES = 100
_LEAST_BASE_256 = 8**11  # where eleven octal digits end
_MOST_BYTES = 64 * 1024  # of what lies between files, in one piece: there may be very many without a byte
# Another one where the same files come to other bytes: nobody goes on with what was received of those.
_LAYOUT = b"tar 1\n"


class File(NamedTuple):
    """One file of the directory. `name`: relative to it; `etag`: as its store gave it, of this version of it."""

    name: str
    size_bytes: int
    etag: str


class Extent(NamedTuple):
    """Bytes ``[start, end)`` of a file."""

    file: File
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start


class VirtualTar:
    """The archive of files whose names are clean and each there once."""

    def __init__(self, files: Iterable[File], origin: str = "") -> None:
        """`origin`: where the files are, since an ETag says nothing elsewhere."""
        self.files = sorted(files)
        ends = accumulate(_member_bytes(file) for file in self.files)
        self._starts = [0, *ends]  # of each file's header; the last is where the end-of-archive mark begins
        self.size_bytes = self._starts[-1] + len(_END)
        listing = hashlib.sha256(_LAYOUT + origin.encode() + b"\n")
        for file in self.files:
            listing.update(f"{file.name}\n{file.size_bytes} {file.etag}\n".encode())
        self.etag = f'"{listing.hexdigest()}"'  #: strong: archives with this one are equal, byte by byte

    def pieces(self, start: int, end: int) -> Iterator[bytes | Extent]:
        """What bytes ``[start, end)`` of the archive are: bytes, and parts of files, in order. None is empty."""
        between = b""
        at = max(0, bisect_right(self._starts, start) - 1)
        for position, piece in self._parts(at):
            size_bytes = piece.size_bytes if isinstance(piece, Extent) else len(piece)
            if position >= end:
                break
            first, last = max(0, start - position), min(size_bytes, end - position)
            if first >= last:
                continue
            if isinstance(piece, bytes):
                between += piece[first:last]
                if len(between) < _MOST_BYTES:
                    continue
            if between:
                yield between
                between = b""
            if isinstance(piece, Extent):
                yield Extent(piece.file, first, last)
        if between:
            yield between

    def _parts(self, at: int) -> Iterator[tuple[int, bytes | Extent]]:
        """From the header of this file on: where each part of the archive begins, and what it is."""
        for index in range(at, len(self.files)):
            start, file = self._starts[index], self.files[index]
            header = _headers(file)
            yield start, header
            yield start + len(header), Extent(file, 0, file.size_bytes)
            yield start + len(header) + file.size_bytes, bytes(-file.size_bytes % _BLOCK_BYTES)
        yield self._starts[-1], _END


def _member_bytes(file: File) -> int:
    name_bytes = len(file.name.encode())
    long_name_bytes = _BLOCK_BYTES + _in_blocks(name_bytes + 1) if name_bytes > _NAME_BYTES else 0
    return long_name_bytes + _BLOCK_BYTES + _in_blocks(file.size_bytes)


def _in_blocks(size_bytes: int) -> int:
    return size_bytes + -size_bytes % _BLOCK_BYTES


def _headers(file: File) -> bytes:
    name = file.name.encode()
    before = b""
    if len(name) > _NAME_BYTES:
        before = _header(b"././@LongLink", len(name) + 1, b"L") + name.ljust(_in_blocks(len(name) + 1), b"\0")
    return before + _header(name[:_NAME_BYTES], file.size_bytes)


def _header(name: bytes, size_bytes: int, kind: bytes = b"0") -> bytes:
    size = b"%011o\0" % size_bytes if size_bytes < _LEAST_BASE_256 else b"\x80" + size_bytes.to_bytes(11, "big")
    before = name.ljust(_NAME_BYTES, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0"
    behind = (kind + bytes(100) + b"ustar\x0000").ljust(_BLOCK_BYTES - len(before) - 8, b"\0")
    checksum = sum(before) + 8 * ord(" ") + sum(behind)  # its own field counts as spaces
    return before + b"%06o\0 " % checksum + behind
