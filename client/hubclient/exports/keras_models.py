"""What Keras models and layers, of Keras 3 and of tf_keras, say about their inputs and regularizers.

Law: Keras is never imported: an object of Keras brings its Keras with it.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from hubclient.model_errors import ExportInvalid


def keras_of(obj: Any) -> Any:
    """The Keras of a layer or model: the module ``keras`` or ``tf_keras``; None for any other object."""
    for name in ("keras", "tf_keras"):
        keras = sys.modules.get(name)
        if keras is not None and isinstance(obj, keras.layers.Layer):
            return keras
    return None


def keras_inputs(obj: Any, keras: Any) -> Any:
    """The specs of what the model takes, in its structure. Raises `ExportInvalid` if that is not known."""
    import tensorflow as tf

    if isinstance(obj, keras.Sequential):
        structure = _or_none(obj, "inputs")
        structure = structure[0] if structure and len(structure) == 1 else structure
    else:
        structure = _or_none(obj, "input") if isinstance(obj, keras.Model) and _or_none(obj, "inputs") else None
    if structure is not None:
        return tf.nest.map_structure(_spec, structure)
    config: Any = _or_none(obj, "get_build_config")
    shape = (config() or {}).get("input_shape") if config is not None and obj.built else None
    if isinstance(shape, tuple | list) and shape and all(size is None or isinstance(size, int) for size in shape):
        return tf.TensorSpec([None, *shape[1:]], tf.float32)
    raise ExportInvalid(
        f"the model {obj.name} does not say what it takes: begin it with keras.Input, call it once, or say so by "
        "inputs=, such as inputs=tf.TensorSpec([None, 4], tf.float32)"
    )


def keras_regularization_losses(layer: Any) -> list[Any]:
    """A callable for each regularizer that acts on a trainable weight, as Keras itself counts them."""
    parts = layer._flatten_layers()
    if keras_of(layer).__name__ == "tf_keras":
        # Its regularizers are known to closures only. tf_keras changes no more, so its private list will stay.
        return [loss for part in parts for loss in part._callable_losses]
    losses = [
        partial(variable.regularizer, variable)
        for variable in layer.trainable_variables
        if getattr(variable, "regularizer", None) is not None
    ]
    # A layer made of a module, such as hubclient's KerasLayer, has callables of its own.
    own = [loss for part in parts if part.trainable for loss in getattr(part, "regularization_losses", ())]
    return losses + own


def _spec(tensor: Any) -> Any:
    import tensorflow as tf

    spec = getattr(tensor, "type_spec", None)  # tf_keras
    if spec is not None and not isinstance(spec, tf.TensorSpec):
        return spec
    if getattr(tensor, "sparse", False):
        return tf.SparseTensorSpec(tensor.shape, tensor.dtype)
    if getattr(tensor, "ragged", False):
        return tf.RaggedTensorSpec(tensor.shape, tensor.dtype)
    # Keras 3 numbers the inputs that have no name: such a name would be another one in each process.
    name = None if tensor.name.startswith("keras_tensor") else tensor.name
    return tf.TensorSpec(tensor.shape, tensor.dtype, name)


def _or_none(obj: Any, name: str) -> Any:
    try:
        return getattr(obj, name)
    except (AttributeError, ValueError):  # Keras's way to say that it is not known yet
        return None
