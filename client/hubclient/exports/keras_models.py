"""What Keras models and layers, of Keras 3 and of tf_keras, say about their inputs and regularizers.

Law: Keras is never imported: an object of Keras brings its Keras with it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
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
        # Without an Input it took over the shape of its first call, whose batch size means nothing.
        make_spec: Any = _spec_of_any_batch
    else:
        structure = _or_none(obj, "input") if isinstance(obj, keras.Model) and _or_none(obj, "inputs") else None
        make_spec = _spec
    if structure is not None:
        return tf.nest.map_structure(make_spec, structure)
    config: Any = _or_none(obj, "get_build_config")
    shapes = ((config() if config is not None and obj.built else None) or {}).get("input_shape")
    specs = _specs_of_shapes(shapes) if shapes else None
    if specs is not None:
        return specs
    raise ExportInvalid(
        f"the model {obj.name} does not say what it takes: begin it with keras.Input, call it once, or say so by "
        "inputs=, such as inputs=tf.TensorSpec([None, 4], tf.float32)"
    )


def keras_regularization_losses(layers: list[Any]) -> list[Any]:
    """A callable for each regularizer that acts on a trainable weight, as Keras itself counts them.

    Each counts once, however many of the layers hold it: a Sequential of Keras 3, say, and the model inside it.
    """
    parts = _each_once(part for layer in layers for part in layer._flatten_layers())
    variables = _each_once(variable for layer in layers for variable in layer.trainable_variables)
    return [
        *(
            partial(variable.regularizer, variable)
            for variable in variables
            if getattr(variable, "regularizer", None) is not None
        ),
        # tf_keras's regularizers are known to closures only. It changes no more, so its private list will stay.
        *(loss for part in parts for loss in getattr(part, "_callable_losses", ())),
        # A layer made of a module, such as hubclient's KerasLayer, has callables of its own.
        *(loss for part in parts if part.trainable for loss in getattr(part, "regularization_losses", ())),
    ]


def _each_once(items: Iterable[Any]) -> list[Any]:
    return list({id(item): item for item in items}.values())


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


def _spec_of_any_batch(tensor: Any) -> Any:
    import tensorflow as tf

    spec = _spec(tensor)
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name) if isinstance(spec, tf.TensorSpec) else spec


def _specs_of_shapes(shapes: Any) -> Any:
    """Specs in the structure of the shapes that a model was built with; None if there is something else in it."""
    import tensorflow as tf

    if isinstance(shapes, Mapping):
        below = {key: _specs_of_shapes(shape) for key, shape in shapes.items()}
        return None if None in below.values() else below
    if not isinstance(shapes, list | tuple) or not shapes:
        return None
    if all(size is None or isinstance(size, int) for size in shapes):
        return tf.TensorSpec([None, *shapes[1:]], tf.float32)
    items = [_specs_of_shapes(shape) for shape in shapes]
    return None if None in items else items


def _or_none(obj: Any, name: str) -> Any:
    try:
        return getattr(obj, name)
    except (AttributeError, ValueError):  # Keras's way to say that it is not known yet
        return None
