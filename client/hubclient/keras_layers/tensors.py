"""What goes into a module and comes out of it, made to fit: Python values, floating dtypes, output shapes.

Law: only floating dtypes are cast, for they are what a precision policy is about; all else reaches the module as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubclient.instances.inputs import described
from hubclient.keras_layers.settings import map_shapes
from hubclient.model_errors import InputInvalid


def as_tensors(inputs: Any, dtype: str | None) -> Any:
    """A text, a number, or a list of them, as a tensor of `dtype`, or of its own; all else as it is."""
    import tensorflow as tf

    if not _is_plain(inputs):
        return inputs
    try:
        return tf.constant(inputs, dtype)
    except (TypeError, ValueError) as error:
        raise InputInvalid(f"these inputs make no tensor{f' of {dtype}' if dtype else ''}: {error}") from None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_is_plain, value))
    return isinstance(value, str | bytes | int | float)


def cast_inputs(inputs: Any, expected: Sequence[Any], otherwise: str) -> Any:
    """The inputs with their floats in the dtype of the first of the `expected` nests that they can be made to fit.

    Where they fit none they are as they were, and the module will refuse them. With nothing expected, floats become
    `otherwise`.
    """
    import tensorflow as tf

    if not expected:
        return tf.nest.map_structure(lambda value: cast_float(value, otherwise), inputs)
    for exactly in (True, False):
        for specs in expected:
            if fit(inputs, specs, exactly):
                return tf.nest.map_structure(lambda value, spec: cast_float(value, spec.dtype), inputs, specs)
    return inputs


def fit(inputs: Any, specs: Any, exactly: bool = True) -> bool:
    """Whether tensors have the structure, shapes and dtypes of the specs; not `exactly`: floats of any precision."""
    import tensorflow as tf

    try:
        tf.nest.assert_same_structure(inputs, specs, check_types=False)
    except (TypeError, ValueError):
        return False
    for value, spec in zip(tf.nest.flatten(inputs), tf.nest.flatten(specs), strict=True):
        if not (tf.is_tensor(value) and isinstance(spec, tf.TypeSpec) and spec.shape.is_compatible_with(value.shape)):
            return False
        if value.dtype != spec.dtype and (exactly or not (value.dtype.is_floating and spec.dtype.is_floating)):
            return False
    return True


def cast_float(value: Any, dtype: Any) -> Any:
    """A floating tensor, also a sparse or ragged one, in this dtype; anything else as it is."""
    import tensorflow as tf

    dtype = tf.as_dtype(dtype)
    if tf.is_tensor(value) and value.dtype.is_floating and dtype.is_floating and value.dtype != dtype:
        return tf.cast(value, dtype)
    return value


def with_shapes(outputs: Any, shapes: Any, inputs: Any) -> Any:
    """The outputs, known to have these shapes behind the batch dimension of the first input.

    Raises `InputInvalid` when they have other shapes or another structure.
    """
    import tensorflow as tf

    batch = tf.TensorShape(tf.nest.flatten(inputs)[0].shape)
    batch_size = batch[:1] if batch.rank else tf.TensorShape([None])

    def shaped(shape: Any, output: Any) -> Any:
        if not isinstance(output, tf.Tensor):
            raise ValueError("dense tensors")
        return tf.ensure_shape(output, batch_size.concatenate(shape))

    try:
        return map_shapes(shaped, shapes, outputs)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise InputInvalid(
            f"output_shape={shapes!r} is not what the module returns ({described(outputs)}): {error}"
        ) from None
