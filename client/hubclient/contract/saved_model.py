"""Tags and signatures of a ``saved_model.pb``, read without TensorFlow and without loading the graph.

Law: whatever the bytes are, reading ends soon, in bounded memory, with an answer or a `SavedModelError`. What is
not needed is skipped by its length; only small windows of the file are ever read. (They are read, not mapped: a
mapped file that something else cuts short would kill the process with SIGBUS.)

The format is Protocol Buffers' wire format (protobuf.dev/programming-guides/encoding) of TensorFlow's
``saved_model.proto``, ``meta_graph.proto`` and ``tensor_shape.proto``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_FIELDS = 200_000
MAX_TEXT_BYTES = 1024 * 1024

_WINDOW_BYTES = 4096
_MAX_VARINT_BYTES = 10
_UINT64 = (1 << 64) - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# tensorflow/core/framework/types.proto, by the names of tf.DType.name
# fmt: off
_DTYPES = (
    "invalid", "float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64", "bool", "qint8",
    "quint8", "qint32", "bfloat16", "qint16", "quint16", "uint16", "complex128", "float16", "resource", "variant",
    "uint32", "uint64", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz",
    "int4", "uint4", "int2", "uint2", "float4_e2m1fn",
)
# fmt: on
_REFERENCE = 100  # added to a type for a reference to it


class SavedModelError(ValueError):
    """The bytes are no saved_model.pb, a damaged one, or one beyond all measure."""


class TensorSpec(NamedTuple):
    name: str  #: the tensor's name in the graph; "" unless the encoding is dense
    dtype: str  #: as ``tf.DType.name`` gives it: "float32", "string"
    shape: tuple[int | None, ...] | None  #: None for an unknown size; None as a whole for an unknown rank
    encoding: str  #: "dense", "sparse" or "composite"


class Signature(NamedTuple):
    method_name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class MetaGraph(NamedTuple):
    tags: tuple[str, ...]  #: sorted
    signatures: dict[str, Signature]


def read(path: str) -> list[MetaGraph]:
    """The meta graphs of the file, at least one. Raises `SavedModelError`, and `OSError` as opening does."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_fd(fd)
    finally:
        os.close(fd)


def read_fd(fd: int) -> list[MetaGraph]:
    """`read` for an open file."""
    size_bytes = os.fstat(fd).st_size
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # reading ahead would fetch the graph that is skipped
    message = _Message(fd, size_bytes)
    graphs = [_meta_graph(message, span) for number, span in message.fields((0, size_bytes)) if number == 2]
    if not graphs:
        raise SavedModelError("it holds no graph")
    return graphs


def to_json(graphs: list[MetaGraph]) -> list[dict[str, Any]]:
    """The same in lists and dicts that ``json.dumps`` takes."""

    def tensors(specs: dict[str, TensorSpec]) -> dict[str, Any]:
        return {
            key: spec._asdict() | {"shape": None if spec.shape is None else list(spec.shape)}
            for key, spec in specs.items()
        }

    def signature(of: Signature) -> dict[str, Any]:
        return {"method_name": of.method_name, "inputs": tensors(of.inputs), "outputs": tensors(of.outputs)}

    return [
        {"tags": list(graph.tags), "signatures": {name: signature(of) for name, of in graph.signatures.items()}}
        for graph in graphs
    ]


_Span = tuple[int, int]  # from (inclusive) and to (exclusive), offsets in the file


class _Message:
    """Fields and scalars at given places of a file, with a budget for all of them together."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self._window = b""
        self._window_start = 0
        self._fields_left = MAX_FIELDS
        self._text_bytes_left = MAX_TEXT_BYTES

    def fields(self, span: _Span) -> Iterator[tuple[int, _Span]]:
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

    def text(self, span: _Span) -> str:
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


def _is_bytes(span: _Span) -> bool:
    return span[0] >= 0


def _meta_graph(message: _Message, span: _Span) -> MetaGraph:
    if not _is_bytes(span):
        raise SavedModelError("a graph is no message")
    tags: list[str] = []
    signatures: dict[str, Signature] = {}
    for number, place in message.fields(span):
        if number == 1 and _is_bytes(place):  # meta_info_def
            tags += [message.text(tag) for field, tag in message.fields(place) if field == 4 and _is_bytes(tag)]
        elif number == 5 and _is_bytes(place):  # signature_def
            name, value = _map_entry(message, place)
            signatures[name] = _signature(message, value)
    return MetaGraph(tuple(sorted(tags)), signatures)


def _map_entry(message: _Message, span: _Span) -> tuple[str, _Span]:
    """A map's entry is a message of a key (1) and a value (2); either may be missing, which means empty."""
    key, value = "", (0, 0)
    for number, place in message.fields(span):
        if number == 1 and _is_bytes(place):
            key = message.text(place)
        elif number == 2 and _is_bytes(place):
            value = place
    return key, value


def _signature(message: _Message, span: _Span) -> Signature:
    method_name = ""
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    for number, place in message.fields(span):
        if number in (1, 2) and _is_bytes(place):
            key, value = _map_entry(message, place)
            (inputs if number == 1 else outputs)[key] = _tensor(message, value)
        elif number == 3 and _is_bytes(place):
            method_name = message.text(place)
    return Signature(method_name, inputs, outputs)


def _tensor(message: _Message, span: _Span) -> TensorSpec:
    name, dtype, encoding = "", 0, "dense"
    dimensions: list[int | None] = []
    is_rank_known = True
    for number, place in message.fields(span):
        if number == 1 and _is_bytes(place):
            name, encoding = message.text(place), "dense"
        elif number == 2 and not _is_bytes(place):
            dtype = place[1]
        elif number == 3 and _is_bytes(place):  # tensor_shape
            for field, dimension in message.fields(place):
                if field == 2 and _is_bytes(dimension):
                    dimensions.append(_dimension(message, dimension))
                elif field == 3 and not _is_bytes(dimension):
                    is_rank_known = not dimension[1]
        elif number in (4, 5) and _is_bytes(place):
            name, encoding = "", "sparse" if number == 4 else "composite"
    return TensorSpec(name, _dtype_name(dtype), tuple(dimensions) if is_rank_known else None, encoding)


def _dimension(message: _Message, span: _Span) -> int | None:
    size = 0
    for number, place in message.fields(span):
        if number == 1 and not _is_bytes(place):
            size = place[1]
    return size if size < 1 << 63 else None  # a negative size, in two's complement, stands for an unknown one


def _dtype_name(number: int) -> str:
    base, suffix = (number - _REFERENCE, "_ref") if number > _REFERENCE else (number, "")
    return _DTYPES[base] + suffix if base < len(_DTYPES) else f"unknown_{number}"
