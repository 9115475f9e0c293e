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
    if told := differing_keys(given, names):
        raise InputInvalid(f"the inputs of the signature {signature!r} are {sorted(names)}: {told}")
    return given


def differing_keys(given: Any, names: Any) -> str:
    """Which keys of a dict are missing and unexpected; "" for none, and where one of the two is no dict."""
    if not (isinstance(given, Mapping) and isinstance(names, Mapping)):
        return ""
    missing, unexpected = sorted(names.keys() - given.keys()), sorted(map(str, given.keys() - names.keys()))
    return ", ".join(
        f"{what} {listed}" for what, listed in (("missing", missing), ("unexpected", unexpected)) if listed
    )


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


def described(values: Any) -> str:
    """Tensors, or specs of them, in words."""
    import tensorflow as tf

    def word(value: Any) -> str:
        if isinstance(value, tf.TypeSpec):
            return describe(value)
        return describe(tf.type_spec_from_value(value)) if tf.is_tensor(value) else _kind(value)

    if isinstance(values, dict):
        return "{" + ", ".join(f"{key!r}: {described(values[key])}" for key in sorted(values, key=str)) + "}"
    if isinstance(values, list | tuple):
        return "[" + ", ".join(map(described, values)) + "]"
    return word(values)


def expected_inputs(function: Any) -> list[Any]:
    """For each way in which a loaded callable can be called, the nest of ``tf.TypeSpec``s of its first argument.

    Empty for a callable that was not loaded: it may take anything.
    """
    specs: list[Any] = []
    for owner in (function, getattr(function, "__call__", None)):  # noqa: B004 (the loaded function itself is wanted)
        for concrete in getattr(owner, "concrete_functions", None) or ():
            positional, _ = concrete.structured_input_signature
            if positional and positional[0] not in specs:
                specs.append(positional[0])
    return specs


def _kind(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    shape = f" of shape {value.shape}" if hasattr(value, "shape") else ""
    return type(value).__name__ + (f" of {getattr(dtype, 'name', dtype)}{shape}" if dtype is not None else "")
