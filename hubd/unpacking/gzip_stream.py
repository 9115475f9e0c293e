"""Gzip as a stream (RFC 1952): every member, checked to its last byte, in pieces of bounded size.

Law: no call returns more than `PIECE_BYTES`, whatever the data; and the end is reported only after each
member's CRC32 and length were right and nothing but zeros followed the last (ISA-L checks both trailer fields).
"""

from __future__ import annotations

from collections.abc import Callable

from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError

from hubclient.contract.errors import ArchiveCorrupt, ArchiveTooLarge

#: Returns the next bytes of a stream, at least one; b"" at its end, and only there.
ReadPiece = Callable[[], bytes]

PIECE_BYTES = 256 * 1024
_MAGIC = b"\x1f\x8b\x08"
_RESERVED_FLAGS = 0xE0
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
        while True:
            if self._member is None:
                if not self._another_member():
                    return b""
                self._member = IgzipDecompressor(DECOMP_GZIP)
                self._members += 1
            data = b""
            if self._member.needs_input:
                data = self._source.read()
                if not data:
                    raise ArchiveCorrupt("the archive is cut off: its gzip data have no end")
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance of Exception
                raise ArchiveCorrupt(f"the archive's gzip data are damaged ({error})") from None
            if self._member.eof:
                self._source.unread(self._member.unused_data)
                self._member = None
            if piece:
                self._inflated_bytes += len(piece)
                if self._inflated_bytes > self._max_bytes:
                    raise ArchiveTooLarge(f"the archive inflates to more than the limit of {self._max_bytes} bytes")
                return piece

    def _another_member(self) -> bool:
        header = self._source.peek(4)
        if self._members and not header.startswith(_MAGIC[:2]):
            return self._only_zeros_follow()
        if not header:
            raise ArchiveCorrupt("the answer is empty")
        if not header.startswith(_MAGIC[:2]):
            raise ArchiveCorrupt(f"the answer is no gzip archive{_looks_like(self._source.peek(_SNIFFED_BYTES))}")
        if len(header) < 4:
            raise ArchiveCorrupt("the archive is cut off: its gzip header is incomplete")
        if not header.startswith(_MAGIC) or header[3] & _RESERVED_FLAGS:
            raise ArchiveCorrupt("the archive's gzip header is damaged")
        return True

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

    def read(self) -> bytes:
        if self._kept:
            kept, self._kept = self._kept, b""
            return kept
        return self._read()

    def unread(self, data: bytes) -> None:
        self._kept = data + self._kept

    def peek(self, count: int) -> bytes:
        """The next `count` bytes without taking them; fewer only at the end of the stream."""
        while len(self._kept) < count:
            piece = self._read()
            if not piece:
                break
            self._kept += piece
        return self._kept[:count]


def _looks_like(start: bytes) -> str:
    if start[257:262] == b"ustar":
        return " (it looks like an uncompressed tar archive)"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in _LOOKS:
        if text.startswith(magic):
            return f" (it looks like {name})"
    return ""
