"""Archives of modules for tests, the hostile ones included: every field of a tar header can be what it must not be."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from collections.abc import Mapping
from typing import NamedTuple

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
_NUMBERS = itertools.count()


def varint(value: int) -> bytes:
    """A number in Protocol Buffers' wire format; a negative one in two's complement of 64 bits."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a Protocol Buffers message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor_info(name: str, dtype: int, *dimensions: int) -> bytes:
    """A dense ``TensorInfo``."""
    shape = b"".join(field(2, field(1, size)) for size in dimensions)
    return field(1, name) + field(2, dtype) + field(3, shape)


def saved_model(graph: bytes = b"") -> bytes:
    """A saved_model.pb with the tag "serve" and one signature: x, float32 of [?, 3], to y, string of []."""
    signature = (
        field(1, field(1, "x") + field(2, tensor_info("x:0", 1, -1, 3)))
        + field(2, field(1, "y") + field(2, tensor_info("y:0", 7)))
        + field(3, "tensorflow/serving/predict")
    )
    info = field(4, "serve") + field(5, "2.21.0")
    meta_graph = field(1, info) + field(2, graph) + field(5, field(1, "serving_default") + field(2, signature))
    return field(1, 1) + field(2, meta_graph)


MODULE: Mapping[str, bytes] = {
    "saved_model.pb": saved_model(),
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 40,
}


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def with_checksum(header: bytes) -> bytes:
    """The header with its checksum made right."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def header(
    name: bytes | str,
    size_bytes: int = 0,
    kind: bytes = b"0",
    *,
    prefix: bytes = b"",
    link: bytes = b"",
    size_field: bytes | None = None,
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """One tar header with the right checksum, whatever else is in it."""
    raw = name.encode() if isinstance(name, str) else name
    assert len(raw) <= 100
    data = (
        raw.ljust(100, b"\0")
        + octal(0o7777, 8)  # mode: nothing of it may come through
        + octal(12345, 8) * 2  # owner and group
        + (octal(size_bytes, 12) if size_field is None else size_field.ljust(12, b"\0"))
        + octal(1, 12)  # mtime
        + b" " * 8
        + kind
        + link.ljust(100, b"\0")
        + magic
        + b"someone".ljust(32, b"\0") * 2
        + octal(0, 8) * 2
        + prefix.ljust(155, b"\0")
        + bytes(12)
    )
    assert len(data) == BLOCK_BYTES
    return with_checksum(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK_BYTES)


def file(name: bytes | str, data: bytes = b"") -> bytes:
    return header(name, len(data)) + padded(data)


def directory(name: bytes | str) -> bytes:
    return header(name, kind=b"5")


def extended(kind: bytes, data: bytes) -> bytes:
    """A GNU long name (kind ``L``, data ending with NUL) or a pax header (``x``, ``g``) for the member behind it."""
    return header("././@LongLink", len(data), kind) + padded(data)


def pax(**records: str | bytes) -> bytes:
    """A pax header of these keywords; ``__`` stands for a dot."""
    data = b""
    for keyword, value in records.items():
        rest = b" %s=%s\n" % (keyword.replace("__", ".").encode(), value.encode() if isinstance(value, str) else value)
        length = len(rest) + 1
        while len(b"%d" % length) + len(rest) > length:
            length += 1
        data += b"%d" % length + rest
    return extended(b"x", data)


def members(files: Mapping[str, bytes]) -> bytes:
    """Entries of these files, without entries of directories, and without the end."""
    return b"".join(file(name, data) for name, data in files.items())


def compressed(tar: bytes) -> bytes:
    """The same gzipped, always to the same bytes."""
    return gzip.compress(tar, 6, mtime=0)


def archive(files: Mapping[str, bytes] = MODULE) -> bytes:
    """A .tar.gz of these files."""
    return compressed(members(files) + END)


class Made(NamedTuple):
    """An archive, and its sha256."""

    body: bytes
    digest: str


def made() -> Made:
    """An archive of a module that no other test has."""
    body = archive({**MODULE, "assets/number.txt": b"%d" % next(_NUMBERS)})
    return Made(body, hashlib.sha256(body).hexdigest())


def with_extra(*parts: bytes) -> bytes:
    """The archive of a good module with these raw parts behind its members."""
    return compressed(members(MODULE) + b"".join(parts) + END)
