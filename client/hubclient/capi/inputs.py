"""What a caller gives for an input, as a numpy array of the expected dtype and shape.

Law: no value is changed on the way, but for the rounding of floats. An array must have the dtype that is expected;
Python's own numbers and lists become it if every one of them fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hubclient.capi import dtypes
from hubclient.model_errors import InputInvalid

if TYPE_CHECKING:
    import numpy

Shape = tuple[int | None, ...] | None

# Which kinds of numbers (numpy.dtype.kind) Python's numbers may become: bool, integer, float, complex.
_WIDENS_TO = {"b": "b", "u": "iufc", "i": "iufc", "f": "fc", "c": "c"}


class Port(NamedTuple):
    """A tensor that goes into a graph or comes out of one."""

    label: str  #: as messages name it
    dtype: int  #: a DataType of types.proto
    numpy_dtype: numpy.dtype[Any]
    shape: Shape  #: None for an unknown size; None as a whole for an unknown rank

    @property
    def expected(self) -> str:
        return f"{dtypes.name(self.dtype)} {shape_text(self.shape)}"


def shape_text(shape: Shape) -> str:
    """A shape in the words of a message."""
    if shape is None:
        return "of any shape"
    return "of shape (" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def as_array(value: Any, port: Port) -> numpy.ndarray[Any, Any]:
    """The value as an array that fits the port; a 0-d array stays 0-d. Raises `InputInvalid`."""
    import numpy

    if type(value) is not numpy.ndarray or value.dtype is not port.numpy_dtype:
        try:
            value = _strings(value, port) if port.dtype == dtypes.STRING else _numbers(value, port)
        except (ValueError, TypeError, OverflowError) as error:
            if isinstance(error, InputInvalid):
                raise
            raise InputInvalid(f"{port.label} cannot be made {port.expected}: {error}") from error
    elif port.dtype == dtypes.STRING:
        value = _strings(value, port)
    expected, shape = port.shape, value.shape
    if expected is not None and expected != shape:
        fits = len(expected) == len(shape) and all(
            size in (None, given) for size, given in zip(expected, shape, strict=True)
        )
        if not fits:
            raise InputInvalid(f"{port.label} must be {shape_text(expected)}, not {shape}")
    array: numpy.ndarray[Any, Any] = value
    return array


def _numbers(value: Any, port: Port) -> numpy.ndarray[Any, Any]:
    import numpy

    wanted = port.numpy_dtype
    array = numpy.asarray(value)
    if array.dtype == wanted:
        return array
    if hasattr(value, "dtype"):  # an array, a numpy scalar, a tensor: its dtype is its owner's choice
        if array.dtype.kind in "biufc" and array.dtype == wanted.newbyteorder():
            return array.astype(wanted)
        raise _wrong_dtype(port, str(array.dtype))
    if array.size == 0 and array.dtype.kind == "f":  # an empty list has no dtype of its own
        return array.astype(wanted)
    if array.dtype.kind not in _WIDENS_TO or _kind(wanted) not in _WIDENS_TO[array.dtype.kind]:
        raise _wrong_dtype(port, _given(array))
    if _kind(wanted) not in "iu":
        with numpy.errstate(over="ignore"):  # too large for a half is infinite there, as in TensorFlow
            return array.astype(wanted)
    converted = array.astype(wanted)
    back = converted.astype(array.dtype)
    if not (back == array).all() or ((array < 0) != (converted < 0)).any():
        raise InputInvalid(f"{port.label} must be {port.expected}: {_range(array)} does not fit into it")
    return converted


def _given(array: numpy.ndarray[Any, Any]) -> str:
    if array.dtype.kind != "O":
        return "text" if array.dtype.kind in "US" else str(array.dtype)
    odd = next((item for item in array.flat if not isinstance(item, float)), None)
    return "an integer of more than 64 bits" if isinstance(odd, int) else f"a Python {type(odd).__name__}"


def _range(array: numpy.ndarray[Any, Any]) -> str:
    low, high = array.min(), array.max()
    return str(low) if low == high else f"a number of {low} to {high}"


def _kind(dtype: numpy.dtype[Any]) -> str:
    """Its `kind`; ml_dtypes' own types have none of numpy's."""
    if dtype.kind in _WIDENS_TO:
        return dtype.kind
    return {"u": "u", "i": "i"}.get(dtype.name[0], "f")


def _strings(value: Any, port: Port) -> numpy.ndarray[Any, Any]:
    """An object array of bytes; text becomes UTF-8."""
    import numpy

    # Not by numpy's own "S" and "U", which end at the last byte that is not NUL.
    if isinstance(value, str | bytes | bytearray | memoryview):
        array = numpy.empty((), dtype=object)
        array[()] = value
    else:
        array = numpy.asarray(value) if hasattr(value, "dtype") else numpy.array(value, dtype=object)
    if array.dtype.kind not in "OSUT":
        raise _wrong_dtype(port, str(array.dtype))
    flat = array.ravel().tolist()
    if array.dtype.kind == "O" and all(type(item) is bytes for item in flat):
        return array
    converted = numpy.empty(len(flat), dtype=object)
    for index, item in enumerate(flat):
        if isinstance(item, str):
            converted[index] = item.encode()
        elif isinstance(item, bytes | bytearray | memoryview):
            converted[index] = bytes(item)
        else:
            raise _wrong_dtype(port, f"{type(item).__name__} among the strings, or lists of different lengths")
    return converted.reshape(array.shape)


def _wrong_dtype(port: Port, given: str) -> InputInvalid:
    return InputInvalid(f"{port.label} must be {port.expected}, and not {given}")
