"""Inputs for whatever a signature asks for, and what a mistake ends in: the same in every process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tests.support.weights import weights

_WORDS = ("the", "fox", "unheard", "red", "cat", "")


def example(name: str, spec: Any) -> Any:
    """A tensor that fits the spec; an unknown size is 3. A sparse one has three parts, named after it."""
    if name.endswith("_dense_shape"):
        return tf.constant([3] * spec.shape[0], tf.int64)
    if name.endswith("_indices"):
        return tf.constant([[i] * spec.shape[1] for i in range(3)], tf.int64)
    shape = [2, 3] if spec.shape.rank is None else [3 if size is None else size for size in spec.shape]
    count = tf.TensorShape(shape).num_elements()
    dtype = tf.as_dtype(spec.dtype)
    if dtype == tf.string:
        return tf.reshape(tf.constant([_WORDS[i % len(_WORDS)] for i in range(count)]), shape)
    if dtype == tf.bool:
        return tf.reshape(tf.constant([i % 3 == 0 for i in range(count)]), shape)
    if dtype.is_integer:
        return tf.cast(tf.reshape(tf.range(count) % 5 if shape else 3, shape), dtype)
    return tf.cast(tf.constant(weights(name, shape)), dtype)


def apply(signature: Any) -> dict[str, Any]:
    """The outputs of a loaded signature for examples of its inputs."""
    inputs = {name: example(name, spec) for name, spec in signature.structured_input_signature[1].items()}
    return dict(signature(**inputs))


def raised_by(call: Callable[[], Any]) -> dict[str, Any]:
    """The classes of the error that a call ends in, the error's own first."""
    try:
        call()
    except Exception as error:
        return {"raised": [f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__]}
    raise AssertionError("nothing was raised")
