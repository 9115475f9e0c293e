"""The names of TensorFlow's element types.

Law: every number has a name; those that TensorFlow knows have the name that ``tf.DType.name`` gives.
"""

from __future__ import annotations

# tensorflow/core/framework/types.proto, by number
# fmt: off
NAMES = (
    "invalid", "float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64", "bool", "qint8",
    "quint8", "qint32", "bfloat16", "qint16", "quint16", "uint16", "complex128", "float16", "resource", "variant",
    "uint32", "uint64", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz",
    "int4", "uint4", "int2", "uint2", "float4_e2m1fn",
)
# fmt: on
_REFERENCE = 100  # added to a type for a reference to it


def dtype_name(number: int) -> str:
    """As ``tf.DType.name`` gives it: "float32", "float32_ref"."""
    base, suffix = (number - _REFERENCE, "_ref") if number > _REFERENCE else (number, "")
    return NAMES[base] + suffix if base < len(NAMES) else f"unknown_{number}"
