"""What callers pass to a signature, checked and turned into tensors.

Law: TensorFlow sees inputs only when names, dtypes, shapes and kinds are right; else the error says what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubclient.model_errors import InputInvalid


def by_name(inputs: Any, names: Mapping[str, Any], signature: str) -> dict[str, Any]:
    """The inputs under exactly these names: a bare value for a single one, nothing for none, else a dict.

    Raises `InputInvalid` that lists the names that are missing and those that were not expected.
    """
    if isinstance(inputs, Mapping):
        given = dict(inputs)
    elif inputs is None:
        given = {}
    elif len(names) == 1:
        given = {next(iter(names)): inputs}
    else:
        wanted = f"a dict with the keys {sorted(names)}" if names else "no inputs"
        raise InputInvalid(f"the signature {signature!r} takes {wanted}, not a bare {type(inputs).__name__}")
    missing, unexpected = sorted(names.keys() - given.keys()), sorted(map(str, given.keys() - names.keys()))
    if missing or unexpected:
        told = [f"{what} {listed}" for what, listed in (("missing", missing), ("unexpected", unexpected)) if listed]
        raise InputInvalid(f"the inputs of the signature {signature!r} are {sorted(names)}: " + ", ".join(told))
    return given


def to_tensors(inputs: Mapping[str, Any], specs: Mapping[str, Any], signature: str) -> dict[str, Any]:
    """Each input as the kind of tensor that its ``tf.TypeSpec`` asks for.

    Lists, numbers and arrays become tensors of the expected dtype unless that changes their kind (1.5 to an integer);
    a tensor of another dtype is an error, as in TensorFlow. Raises `InputInvalid`.
    """
    return {
        name: _to_tensor(value, specs[name], f"the input {name!r} of the signature {signature!r}")
        for name, value in inputs.items()
    }


def _to_tensor(value: Any, spec: Any, what: str) -> Any:
    import tensorflow as tf

    if isinstance(value, tf.compat.v1.SparseTensorValue):
        value = tf.SparseTensor.from_value(value)
    elif isinstance(value, tf.compat.v1.ragged.RaggedTensorValue):
        value = tf.ragged.constant(value.to_list(), dtype=value.dtype)
    is_dense = isinstance(spec, tf.TensorSpec)
    is_composite = isinstance(value, tf.SparseTensor | tf.RaggedTensor)
    if is_composite == is_dense:
        raise InputInvalid(f"{what} is {describe(spec)}, not a {_kind(value)}")
    if not is_composite:
        if not _can_become(value, spec.dtype):
            raise InputInvalid(f"{what} is {describe(spec)}, not {_kind(value)}")
        try:
            value = tf.convert_to_tensor(value, dtype=None if tf.is_tensor(value) else spec.dtype)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise InputInvalid(f"{what} is {describe(spec)}, which {_kind(value)} cannot become: {error}") from None
    if value.dtype != spec.dtype or not spec.shape.is_compatible_with(value.shape):
        raise InputInvalid(f"{what} is {describe(spec)}, not {value.dtype.name} of shape {value.shape}")
    if is_composite and not spec.is_compatible_with(value):
        raise InputInvalid(f"{what} is {describe(spec)}, not {describe(tf.type_spec_from_value(value))}")
    return value


def _can_become(value: Any, dtype: Any) -> bool:
    """Whether an array may be cast: tf.convert_to_tensor itself would silently cut 1.5 to the integer 1."""
    import numpy as np

    wanted = np.dtype(dtype.as_numpy_dtype)
    if not isinstance(value, np.ndarray | np.generic) or wanted.kind in "OV" or value.dtype.kind in "OV":
        return True
    return np.can_cast(value.dtype, wanted, "same_kind")


def describe(spec: Any) -> str:
    """A ``tf.TypeSpec`` in words: "float32 of shape (None, 3)", "a sparse int64 of shape (None, None)"."""
    kind = {"SparseTensorSpec": "a sparse ", "RaggedTensorSpec": "a ragged "}.get(type(spec).__name__, "")
    return f"{kind}{spec.dtype.name} of shape {spec.shape}"


def _kind(value: Any) -> str:
    import tensorflow as tf

    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__}" + (f" of {tf.as_dtype(dtype).name}" if dtype is not None else "")
