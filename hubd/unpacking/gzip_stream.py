"""Gzip as a stream (RFC 1952): every member, checked to its last byte, in pieces of bounded size.

Law: no call returns more than `PIECE_BYTES`, whatever the data; and the end is reported only after each
member's CRC32 and length were right and nothing but zeros followed the last. ISA-L checks both trailer fields;
the headers are read here, because ISA-L loses its way in one of several optional fields that comes in pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from isal.igzip_lib import DECOMP_GZIP_NO_HDR_VER, IgzipDecompressor, IsalError

from hubclient.contract.errors import ArchiveCorrupt, ArchiveTooLarge

#: Returns the next bytes of a stream, at least one; b"" at its end, and only there.
ReadPiece = Callable[[], bytes]

PIECE_BYTES = 512 * 1024
_FIRST_BYTES = 4096
_MAGIC = b"\x1f\x8b\x08"
_HEADER_BYTES = 10
_HAS_CRC, _HAS_EXTRA, _HAS_NAME, _HAS_COMMENT, _RESERVED_FLAGS = 0x02, 0x04, 0x08, 0x10, 0xE0
_MAX_TEXT_BYTES = 64 * 1024  # of a file's name or a comment; the format sets no bound
_SNIFFED_BYTES = 512

_LOOKS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"<?xml", "XML"),
    (b"<", "HTML"),
    (b"{", "JSON"),
    (b"[", "JSON"),
)


def inflate(read: ReadPiece, max_bytes: int) -> ReadPiece:
    """What a .tar.gz holds, also if it was gzipped once more on its way (``Content-Encoding: gzip``).

    `max_bytes` bounds what each layer may inflate to. Raises `ArchiveCorrupt` for what is no gzip data, damaged,
    cut off or followed by anything but zeros, and `ArchiveTooLarge` past the bound.
    """
    outer = _Unread(GzipStream(read, max_bytes).read)
    if outer.peek(len(_MAGIC)).startswith(_MAGIC):
        return GzipStream(outer.read, max_bytes).read
    return outer.read


class GzipStream:
    """One layer of gzip."""

    def __init__(self, read: ReadPiece, max_bytes: int) -> None:
        self._source = _Unread(read)
        self._max_bytes = max_bytes
        self._inflated_bytes = 0
        self._member: IgzipDecompressor | None = None
        self._members = 0

    def read(self) -> bytes:
        """The next inflated piece; b"" when everything was read and found right."""
        take_bytes = PIECE_BYTES
        while True:
            if self._member is None:
                # What is left over at a member's end is copied: with all of a piece for each, an archive of very
                # many tiny members would take for ever.
                take_bytes = _FIRST_BYTES
                if not self._another_member():
                    return b""
                self._member = IgzipDecompressor(DECOMP_GZIP_NO_HDR_VER)
                self._members += 1
            data = b""
            if self._member.needs_input:
                data = self._source.some(take_bytes)
                take_bytes = PIECE_BYTES
                if not data:
                    raise ArchiveCorrupt("the archive is cut off: its gzip data have no end")
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance of Exception
                raise ArchiveCorrupt(f"the archive's gzip data are damaged ({error})") from None
            if self._member.eof:
                self._source.unread(len(self._member.unused_data))
                self._member = None
            if piece:
                self._inflated_bytes += len(piece)
                if self._inflated_bytes > self._max_bytes:
                    raise ArchiveTooLarge(f"the archive inflates to more than the limit of {self._max_bytes} bytes")
                return piece

    def _another_member(self) -> bool:
        magic = self._source.peek(2)
        if magic == _MAGIC[:2]:
            self._read_header()
            return True
        if self._members:
            return self._only_zeros_follow()
        if not magic:
            raise ArchiveCorrupt("the answer is empty")
        raise ArchiveCorrupt(f"the answer is no gzip archive{_looks_like(self._source.peek(_SNIFFED_BYTES))}")

    def _read_header(self) -> None:
        header = self._source.exactly(_HEADER_BYTES)
        flags = header[3]
        if not header.startswith(_MAGIC) or flags & _RESERVED_FLAGS:
            raise ArchiveCorrupt("the archive's gzip header is damaged")
        if flags & _HAS_EXTRA:
            length = self._source.exactly(2)
            header += length + self._source.exactly(int.from_bytes(length, "little"))
        for flag in (_HAS_NAME, _HAS_COMMENT):
            if flags & flag:
                header += self._source.text()
        if flags & _HAS_CRC and self._source.exactly(2) != (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little"):
            raise ArchiveCorrupt("the archive's gzip header is damaged")

    def _only_zeros_follow(self) -> bool:
        while piece := self._source.read():
            if piece.strip(b"\0"):
                raise ArchiveCorrupt("the archive is followed by data that do not belong to it")
        return False


class _Unread:
    """A stream that takes bytes back."""

    def __init__(self, read: ReadPiece) -> None:
        self._read = read
        self._kept = b""
        self._at = 0  # what lies before was taken

    def read(self) -> bytes:
        return self.some(PIECE_BYTES)

    def some(self, count: int) -> bytes:
        """From one to `count` bytes; none at the end of the stream."""
        if self._at == len(self._kept):
            self._kept, self._at = self._read(), 0
        taken = self._kept[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def unread(self, count: int) -> None:
        """Give back the last bytes of what the last call took."""
        self._at -= count

    def peek(self, count: int) -> bytes:
        """The next `count` bytes without taking them; fewer only at the end of the stream."""
        while len(self._kept) - self._at < count:
            piece = self._read()
            if not piece:
                break
            self._kept, self._at = self._kept[self._at :] + piece, 0
        return self._kept[self._at : self._at + count]

    def exactly(self, count: int) -> bytes:
        """Take the next `count` bytes of a header."""
        data = self.peek(count)
        if len(data) < count:
            raise ArchiveCorrupt("the archive is cut off: its gzip header is incomplete")
        self._at += count
        return data

    def text(self) -> bytes:
        """Take the bytes up to the next NUL, with it."""
        size_bytes = 64
        while (end := (data := self.peek(size_bytes)).find(b"\0")) < 0:
            if len(data) < size_bytes:
                raise ArchiveCorrupt("the archive is cut off: its gzip header is incomplete")
            if size_bytes > _MAX_TEXT_BYTES:
                raise ArchiveCorrupt(f"a name in a gzip header is longer than {_MAX_TEXT_BYTES} bytes")
            size_bytes *= 2
        return self.exactly(end + 1)


def _looks_like(start: bytes) -> str:
    if start[257:262] == b"ustar":
        return " (it looks like an uncompressed tar archive)"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in _LOOKS:
        if text.startswith(magic):
            return f" (it looks like {name})"
    return ""
