"""TensorFlow's element types (TF_DataType, tensorflow/core/framework/types.proto) as numpy's.

Law: a type has one numpy dtype, of the same size and the same bytes.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hubclient.model_errors import ModuleUnsupported

if TYPE_CHECKING:
    import numpy

FLOAT, INT64, STRING, RESOURCE, VARIANT = 1, 9, 7, 20, 21

_REFERENCE = 100  # added to a type for a reference to it
_NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
}
_BY_ML_DTYPES = frozenset((14, *range(24, 31)))


def base(dtype: int) -> int:
    """The type itself, for a reference to it too."""
    return dtype - _REFERENCE if dtype > _REFERENCE else dtype


def name(dtype: int) -> str:
    """As ``tf.DType.name`` gives it."""
    return _NAMES.get(dtype, f"unknown type {dtype}")


@cache
def numpy_dtype(dtype: int) -> numpy.dtype[Any]:
    """The numpy dtype: object (of bytes) for strings, the integer behind a quantized type, ml_dtypes' small floats.

    Raises `ModuleUnsupported` for what has none: resources and variants.
    """
    import numpy

    if dtype == STRING:
        return numpy.dtype(object)
    if dtype in (RESOURCE, VARIANT) or dtype not in _NAMES:
        raise ModuleUnsupported(f"a tensor of type {name(dtype)} has no form in numpy")
    if dtype not in _BY_ML_DTYPES:
        return numpy.dtype(_NAMES[dtype].removeprefix("q"))
    try:
        ml_dtypes = import_module("ml_dtypes")
    except ImportError:
        raise ModuleUnsupported(f"arrays of {name(dtype)} need the package ml_dtypes: pip install ml_dtypes") from None
    small: numpy.dtype[Any] = numpy.dtype(getattr(ml_dtypes, name(dtype)))
    return small
