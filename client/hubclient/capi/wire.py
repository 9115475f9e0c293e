"""Protocol Buffers' wire format, read in place and written piecewise.

Law: whatever the bytes are, reading them takes time in proportion to their number, and ends in values or in a
`ModuleBroken` that names the byte. Nothing is copied but what is asked for.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from hubclient.model_errors import ModuleBroken

_MAX_VARINT_BYTES = 10
_UINT64 = (1 << 64) - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: number, start, end of a length-delimited field; number, -1, value of a varint; number, -2, 0 of a fixed-width one
Field = tuple[int, int, int]
Span = tuple[int, int]  #: from (inclusive) and to (exclusive), offsets in the data


def broken(at: int, what: str) -> ModuleBroken:
    return ModuleBroken(f"saved_model.pb is damaged: {what} at byte {at}")


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    for byte in data[at : min(at + _MAX_VARINT_BYTES, end)]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & _UINT64, at + shift // 7
    raise broken(at, "a number is cut off or too long")


def field(data: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """The field at `at`, as in `Field`, and where it ends."""
    tag, at = varint(data, at, end)
    number, kind = tag >> 3, tag & 7
    if kind == _BYTES:
        length, at = varint(data, at, end)
        if length > end - at:
            raise broken(at, "a field is cut off")
        return number, at, at + length, at + length
    if kind == _VARINT:
        value, at = varint(data, at, end)
        return number, -1, value, at
    if kind not in (_FIXED32, _FIXED64):
        raise broken(at, f"a field of the unknown wire type {kind}")
    at += 4 if kind == _FIXED32 else 8
    if at > end:
        raise broken(at, "a number is cut off")
    return number, -2, 0, at


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message between `start` and `end`, in their order."""
    at = start
    while at < end:
        tag = data[at]
        last = at + 2 + data[at + 1] if at + 1 < end and data[at + 1] < 0x80 else -1
        if tag & 0x87 == _BYTES and 0 <= last <= end:  # a short one, of a low number: most are
            yield tag >> 3, at + 2, last
            at = last
        else:
            number, first, last, at = field(data, at, end)
            yield number, first, last


def messages(data: bytes, span: Span, number: int) -> Iterator[Span]:
    """The places of the length-delimited fields of that number."""
    for each, start, end in fields(data, *span):
        if each == number and start >= 0:
            yield start, end


def texts(data: bytes, span: Span, number: int) -> list[str]:
    return [text(data, *place) for place in messages(data, span, number)]


def last_text(data: bytes, span: Span, number: int) -> str:
    """The string field of that number; "" if there is none. The last one counts."""
    found = texts(data, span, number)
    return found[-1] if found else ""


def text(data: bytes, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise broken(start, "a name is not UTF-8") from None


def last_number(data: bytes, span: Span, number: int) -> int:
    """The varint field of that number; 0 if there is none. The last one counts."""
    value = 0
    for each, start, end in fields(data, *span):
        if each == number and start == -1:
            value = end
    return value


def numbers(data: bytes, span: Span, number: int) -> list[int]:
    """A repeated varint field of that number, packed or not, as unsigned 64-bit numbers."""
    values = []
    for each, start, end in fields(data, *span):
        if each == number and start == -1:
            values.append(end)
        elif each == number and start >= 0:
            while start < end:
                value, start = varint(data, start, end)
                values.append(value)
    return values


def map_entry(data: bytes, start: int, end: int) -> tuple[bytes, Span]:
    """A map's entry is a message of a key (1) and a value (2); either may be missing, which means empty."""
    key, value = b"", (end, end)
    for number, first, last in fields(data, start, end):
        if number == 1 and first >= 0:
            key = data[first:last]
        elif number == 2 and first >= 0:
            value = (first, last)
    return key, value


def encode_varint(value: int) -> bytes:
    """A number that is not negative."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_head(number: int, size_bytes: int) -> bytes:
    """What precedes the payload of a length-delimited field."""
    return encode_varint(number << 3 | _BYTES) + encode_varint(size_bytes)


def encode(number: int, payload: bytes | int) -> bytes:
    """A whole field: length-delimited, or a varint."""
    if isinstance(payload, int):
        return encode_varint(number << 3 | _VARINT) + encode_varint(payload)
    return encode_head(number, len(payload)) + payload
