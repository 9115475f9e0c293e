"""numpy arrays as TF_Tensors and back.

Law: memory is shared only where nobody else can write to it or free it; everything else is copied.

- An input shares the array's memory if it is large, contiguous and aligned as TensorFlow wants it: until the last one
  who holds the tensor, perhaps a thread of TensorFlow, gives it back, the array is kept.
- An output's array owns the tensor if it is large and TensorFlow has no other use for the same memory; it may be
  written to. (A fetched variable, constant or input is such a use, and is copied.)
"""

from __future__ import annotations

import ctypes
from itertools import count
from typing import TYPE_CHECKING, Any

from hubclient.capi import dtypes
from hubclient.capi.library import TSTRING_BYTES, Deallocator, Library
from hubclient.model_errors import RunFailed

if TYPE_CHECKING:
    from hubclient.capi.inputs import Port

Array = Any  # numpy.ndarray, which mypy would want imported

ALIGNMENT_BYTES = 64
#: below it, a copy costs less than the sharing
SHARED_FROM_BYTES = 64 * 1024
_SMALL_STRING_BYTES = 22  # they lie inside of the TF_TString


class Tensors:
    """Makes tensors, and arrays of tensors, for one library. Thread-safe."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lent: dict[int, Array] = {}
        self._tickets = count(1)
        # Kept here: C must find them for as long as a tensor is out.
        self._give_back = Deallocator(self._on_array_free)
        self._give_strings_back = Deallocator(self._on_strings_free)

    def from_array(self, array: Array, port: Port) -> int:
        """A new TF_Tensor, for the caller to delete. The array fits the port, as `inputs.as_array` made it."""
        library, shape = self._library, array.shape
        rank = len(shape)
        dims = (ctypes.c_int64 * rank)(*shape)
        if port.dtype == dtypes.STRING:
            return self._from_strings(array.ravel().tolist(), dims, rank)
        size_bytes: int = array.nbytes
        if size_bytes < SHARED_FROM_BYTES:
            return self._copied(array.tobytes(), port.dtype, dims, size_bytes)
        if not array.flags.c_contiguous:
            array = array.copy(order="C")
        address: int = array.ctypes.data
        if address % ALIGNMENT_BYTES:
            return self._copied(address, port.dtype, dims, size_bytes)
        ticket = next(self._tickets)
        self._lent[ticket] = array
        return _made(library.TF_NewTensor(port.dtype, dims, rank, address, size_bytes, self._give_back, ticket), shape)

    def from_bytes(self, items: list[bytes]) -> int:
        """A new vector of strings."""
        return self._from_strings(items, (ctypes.c_int64 * 1)(len(items)), 1)

    def from_text(self, text: str) -> int:
        """A new string scalar."""
        return self._from_strings([text.encode("utf-8", "surrogateescape")], (ctypes.c_int64 * 0)(), 0)

    def to_array(self, tensor: int, port: Port) -> Array:
        """What the tensor holds, which is given away: it is deleted here, or when the array is.

        Raises `RunFailed` if the graph's word about its type was wrong.
        """
        import numpy

        library = self._library
        keep = False
        try:
            if library.TF_TensorType(tensor) != port.dtype:
                given = dtypes.name(library.TF_TensorType(tensor))
                raise RunFailed(f"{port.label} came out as {given} instead of {dtypes.name(port.dtype)}")
            shape = tuple([library.TF_Dim(tensor, index) for index in range(library.TF_NumDims(tensor))])
            if port.dtype == dtypes.STRING:
                return self._strings(tensor, shape)
            size_bytes: int = library.TF_TensorByteSize(tensor)
            if not size_bytes:
                return numpy.empty(shape, port.numpy_dtype)
            address: int = library.TF_TensorData(tensor)
            if size_bytes >= SHARED_FROM_BYTES and library.TF_TensorMaybeMove(tensor):
                memory = _Memory(library, tensor, address, size_bytes)
                keep = True
                return numpy.asarray(memory).view(port.numpy_dtype).reshape(shape)
            return numpy.ndarray(shape, port.numpy_dtype, bytearray(ctypes.string_at(address, size_bytes)))
        finally:
            if not keep:
                library.TF_DeleteTensor(tensor)

    def _copied(self, source: bytes | int, dtype: int, dims: Any, size_bytes: int) -> int:
        """A new tensor with the bytes of `source`, an object or an address. Raises `RunFailed`."""
        library = self._library
        tensor = _made(library.TF_AllocateTensor(dtype, dims, len(dims), size_bytes), tuple(dims))
        if size_bytes:
            data = library.TF_TensorData(tensor)
            if not data:
                library.TF_DeleteTensor(tensor)
                raise RunFailed(f"there is no memory for a tensor of {size_bytes} bytes, of shape {tuple(dims)}")
            ctypes.memmove(data, source, size_bytes)
        return tensor

    def _from_strings(self, items: list[bytes], dims: Any, rank: int) -> int:
        library = self._library
        # Zeros are an empty TF_TString each, as TF_StringInit would make it.
        strings = ctypes.create_string_buffer(max(1, len(items)) * TSTRING_BYTES)
        address = ctypes.addressof(strings)
        copy = library.TF_StringCopy
        for index, item in enumerate(items):
            copy(address + index * TSTRING_BYTES, item, len(item))
        ticket = next(self._tickets)
        self._lent[ticket] = (
            strings,
            [index * TSTRING_BYTES for index, item in enumerate(items) if len(item) > _SMALL_STRING_BYTES],
        )
        size_bytes = len(items) * TSTRING_BYTES
        tensor = library.TF_NewTensor(dtypes.STRING, dims, rank, address, size_bytes, self._give_strings_back, ticket)
        return _made(tensor, tuple(dims))

    def _strings(self, tensor: int, shape: tuple[int, ...]) -> Array:
        import numpy

        library = self._library
        start: int = library.TF_TensorData(tensor) or 0
        get_data, get_size, string_at = (
            library.TF_StringGetDataPointer,
            library.TF_StringGetSize,
            ctypes.string_at,
        )
        array = numpy.empty(shape, dtype=object)
        flat = array.reshape(-1)
        for index in range(flat.size):
            string = start + index * TSTRING_BYTES
            flat[index] = string_at(get_data(string), get_size(string))
        return array

    def _on_array_free(self, data: int, size_bytes: int, ticket: int) -> None:
        self._lent.pop(ticket, None)

    def _on_strings_free(self, data: int, size_bytes: int, ticket: int) -> None:
        strings, long_ones = self._lent.pop(ticket)
        address = ctypes.addressof(strings)
        for offset in long_ones:
            self._library.TF_StringDealloc(address + offset)


class _Memory:
    """A tensor's memory, by numpy's array interface; the array that is made of it keeps this as its base."""

    __slots__ = ("__array_interface__", "_delete", "_tensor")

    def __init__(self, library: Library, tensor: int, address: int, size_bytes: int) -> None:
        self._delete, self._tensor = library.TF_DeleteTensor, tensor
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size_bytes,), "data": (address, False)}

    def __del__(self) -> None:
        self._delete(self._tensor)


def _made(tensor: int | None, shape: tuple[int, ...]) -> int:
    if not tensor:
        raise RunFailed(f"TensorFlow made no tensor of shape {shape}")
    return tensor
