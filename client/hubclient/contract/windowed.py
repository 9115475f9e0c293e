"""Protocol Buffers messages in a file, of which only small windows are read.

Law: what is not needed is skipped by its length, and fields and names are counted: reading is bounded whatever the
bytes are. (They are read, not mapped: a mapped file that something else cuts short would kill the process with SIGBUS.)

The wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

MAX_FIELDS = 200_000
MAX_TEXT_BYTES = 1024 * 1024

_WINDOW_BYTES = 4096
_MAX_VARINT_BYTES = 10
_UINT64 = (1 << 64) - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class SavedModelError(ValueError):
    """The bytes are no saved_model.pb, a damaged one, or one beyond all measure."""


Span = tuple[int, int]  #: from (inclusive) and to (exclusive), offsets in the file


class Message:
    """Fields and scalars at given places of a file, with a budget for all of them together."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self._window = b""
        self._window_start = 0
        self._fields_left = MAX_FIELDS
        self._text_bytes_left = MAX_TEXT_BYTES

    def fields(self, span: Span) -> Iterator[tuple[int, Span]]:
        """Number and place of each length-delimited or varint field of a message.

        For a varint the place is ``(-1, value)``; no length-delimited field starts there.
        """
        at, end = span
        while at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise SavedModelError(f"it has more than {MAX_FIELDS} fields to look at")
            tag, at = self._varint(at, end)
            kind = tag & 7
            if kind == _VARINT:
                value, at = self._varint(at, end)
                yield tag >> 3, (-1, value)
            elif kind == _BYTES:
                length, at = self._varint(at, end)
                if length > end - at:
                    raise SavedModelError(f"a field at byte {at} is cut off")
                yield tag >> 3, (at, at + length)
                at += length
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
                if at > end:
                    raise SavedModelError(f"a number at byte {at} is cut off")
            else:
                raise SavedModelError(f"a field before byte {at} is of the unknown wire type {kind}")

    def text(self, span: Span) -> str:
        start, end = span
        self._text_bytes_left -= end - start
        if self._text_bytes_left < 0:
            raise SavedModelError(f"its names are longer than {MAX_TEXT_BYTES} bytes")
        if not self._window_start <= start <= end <= self._window_start + len(self._window):
            self._move_window(start, end - start)
        try:
            return self._window[start - self._window_start : end - self._window_start].decode()
        except UnicodeDecodeError:
            raise SavedModelError(f"a name at byte {start} is not UTF-8") from None

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        index = at - self._window_start
        if not 0 <= index <= len(self._window) - _MAX_VARINT_BYTES:
            self._move_window(at, _WINDOW_BYTES)
            index = 0
        window = self._window
        value = shift = 0
        for byte in window[index : index + min(_MAX_VARINT_BYTES, end - at)]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value & _UINT64, at + shift // 7
        raise SavedModelError(f"a number at byte {at} is cut off or too long")

    def _move_window(self, start: int, size_bytes: int) -> None:
        size_bytes = min(max(size_bytes, _WINDOW_BYTES), self._size_bytes - start)
        self._window, self._window_start = os.pread(self._fd, size_bytes, start), start
        if len(self._window) < size_bytes:
            raise SavedModelError(f"the file was cut off at byte {start + len(self._window)} while it was read")


def is_bytes(span: Span) -> bool:
    return span[0] >= 0
