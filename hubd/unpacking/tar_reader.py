"""Tar as a stream, strictly: only regular files and directories exist for it.

Law: nothing of the archive leaves this reader but checked names and the bytes of regular files; what two tar
programs could read in two ways is refused. Known are ustar (POSIX.1-1988), GNU long names and base-256 sizes
(the GNU tar manual, "Basic Tar Format"), and ``path`` and ``size`` of pax headers (POSIX.1-2001, pax).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hubclient.contract.errors import ArchiveCorrupt, ArchiveTooLarge, ArchiveUnsafe
from hubd.unpacking.gzip_stream import ReadPiece
from hubd.unpacking.names import ArchiveLimits, clean, shown

BLOCK_BYTES = 512
MAX_EXTENDED_HEADER_BYTES = 64 * 1024

_ZERO_BLOCK = bytes(BLOCK_BYTES)
_OCTAL_DIGITS = frozenset(b"01234567")
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"K": "a link with a long name",
    b"S": "a sparse file",
}


class Member(NamedTuple):
    path: str  #: relative to the root, clean; "" for the root's own entry
    is_directory: bool
    size_bytes: int


class _Extended(NamedTuple):
    """What headers before a member's own say about it."""

    name: bytes | None = None
    size_bytes: int | None = None


class TarReader:
    """The members of one archive, in its order: iterate `members`, and `content` for each file before the next."""

    def __init__(self, read: ReadPiece, limits: ArchiveLimits) -> None:
        self._stream = _Stream(read)
        self._limits = limits
        self._content_bytes = 0
        self._unread_bytes = 0
        self._padding_bytes = 0

    def members(self) -> Iterator[Member]:
        """Each member, until the end of the archive was seen and nothing but zeros followed it.

        Raises `ArchiveCorrupt`, `ArchiveUnsafe` or `ArchiveTooLarge`.
        """
        extended: _Extended | None = None
        while (header := self._stream.exactly(BLOCK_BYTES)) != _ZERO_BLOCK:
            _check(header)
            kind = header[156:157]
            if kind == b"g":
                self._extended_header(header)
            elif kind in (b"x", b"L"):
                if extended is not None:
                    raise ArchiveUnsafe(f"{shown(_name(header))} has two extended headers")
                data = self._extended_header(header)
                extended = _Extended(name=_terminated(data)) if kind == b"L" else _pax(data)
            else:
                yield self._member(header, kind, extended or _Extended())
                self._to_next_header()
                extended = None
        if extended is not None:
            raise ArchiveCorrupt("the tar archive ends after an extended header")
        self._stream.only_zeros_follow()

    def content(self) -> Iterator[memoryview]:
        """The bytes of the file that `members` gave last, in order, in pieces."""
        while self._unread_bytes:
            piece = self._stream.some(self._unread_bytes)
            self._unread_bytes -= len(piece)
            yield piece

    def _member(self, header: bytes, kind: bytes, extended: _Extended) -> Member:
        raw = _name(header) if extended.name is None else extended.name
        if kind not in (b"0", b"\0", b"5"):
            what = _REFUSED.get(kind, f"of the unknown type {kind!r}")
            raise ArchiveUnsafe(f"{shown(raw)} is {what}: only files and directories are allowed")
        path = clean(raw, self._limits)
        size_bytes = _number(header[124:136], "size") if extended.size_bytes is None else extended.size_bytes
        # Before ustar there was no type for directories: their names ended with a slash.
        is_directory = kind == b"5" or (kind == b"\0" and raw.endswith(b"/"))
        if is_directory:
            if size_bytes:
                raise ArchiveUnsafe(f"the directory {shown(raw)} has content")
        elif not path or raw.endswith(b"/"):
            raise ArchiveUnsafe(f"{shown(raw)} is no name for a file")
        self._content_bytes += size_bytes
        if self._content_bytes > self._limits.module_bytes:
            raise ArchiveTooLarge(f"the module is larger than the limit of {self._limits.module_bytes} bytes")
        self._unread_bytes = size_bytes
        self._padding_bytes = -size_bytes % BLOCK_BYTES
        return Member(path, is_directory, size_bytes)

    def _to_next_header(self) -> None:
        for _ in self.content():
            pass
        self._stream.exactly(self._padding_bytes)

    def _extended_header(self, header: bytes) -> bytes:
        size_bytes = _number(header[124:136], "size")
        if size_bytes > MAX_EXTENDED_HEADER_BYTES:
            raise ArchiveUnsafe(f"an extended header is larger than the limit of {MAX_EXTENDED_HEADER_BYTES} bytes")
        data = self._stream.exactly(size_bytes)
        self._stream.exactly(-size_bytes % BLOCK_BYTES)
        return data


class _Stream:
    """Exact counts of bytes from pieces of any size."""

    def __init__(self, read: ReadPiece) -> None:
        self._read = read
        self._piece = memoryview(b"")

    def some(self, count: int) -> memoryview:
        """From one to `count` bytes; `ArchiveCorrupt` at the end of the stream."""
        if not self._piece:
            self._piece = memoryview(self._read())
            if not self._piece:
                raise ArchiveCorrupt("the tar archive is cut off: it has no end-of-archive mark")
        taken, self._piece = self._piece[:count], self._piece[count:]
        return taken

    def exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = self.some(count)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def only_zeros_follow(self) -> None:
        rest = bytes(self._piece) or self._read()
        while rest:
            if rest.strip(b"\0"):
                raise ArchiveCorrupt("the tar archive goes on after its end-of-archive mark")
            rest = self._read()


def _check(header: bytes) -> None:
    # The sum of all bytes, those of the sum itself taken as spaces.
    expected = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if header[257:262] not in (b"ustar", b"\0\0\0\0\0") or _number(header[148:156], "checksum") != expected:
        raise ArchiveCorrupt("what came is no tar archive, or a damaged one")


def _number(field: bytes, what: str) -> int:
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise ArchiveCorrupt(f"a {what} in the tar archive is out of range")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not _OCTAL_DIGITS.issuperset(digits):
        raise ArchiveCorrupt(f"a {what} in the tar archive is no number")
    return int(digits or b"0", 8)


def _name(header: bytes) -> bytes:
    name = _terminated(header[:100])
    if header[257:263] == b"ustar\0" and (prefix := _terminated(header[345:500])):
        return prefix + b"/" + name
    return name


def _terminated(field: bytes) -> bytes:
    text = field.rstrip(b"\0")
    if b"\0" in text:
        raise ArchiveUnsafe(f"the name of {shown(text)} has a NUL character in it")
    return text


def _pax(data: bytes) -> _Extended:
    """``path`` and ``size`` of the records ``<length> <keyword>=<value>\\n``; the last of a keyword counts."""
    name: bytes | None = None
    size_bytes: int | None = None
    at = 0
    while at < len(data):
        length, space, _ = data[at : at + 8].partition(b" ")
        if not space or not length.isdigit():
            raise ArchiveCorrupt("a pax header is damaged")
        record = data[at + len(length) + 1 : at + int(length)]
        at += int(length)
        keyword, equals, value = record.partition(b"=")
        if at > len(data) or not equals or not value.endswith(b"\n"):
            raise ArchiveCorrupt("a pax header is damaged")
        value = value[:-1]
        if keyword == b"path":
            name = value
        elif keyword == b"size":
            if not value.isdigit() or len(value) > 20:
                raise ArchiveCorrupt("the size in a pax header is no number")
            size_bytes = int(value)
        elif keyword == b"linkpath" or keyword.startswith(b"GNU.sparse."):
            what = "link" if keyword == b"linkpath" else "sparse file"
            raise ArchiveUnsafe(f"a pax header describes a {what}: only files and directories are allowed")
    return _Extended(name, size_bytes)
