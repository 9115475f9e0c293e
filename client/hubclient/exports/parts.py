"""From any TensorFlow object to the parts of a reusable SavedModel.

Law: an object is asked and traced, never changed. State is what its functions use and what it says that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hubclient.exports.calls import call_of
from hubclient.exports.keras_models import keras_of, keras_regularization_losses
from hubclient.exports.signatures import with_defaults
from hubclient.model_errors import ExportInvalid


class Parts(NamedTuple):
    call: Any  #: the tf.function for ``__call__``; None: the object has signatures only
    signatures: dict[str, Any]
    variables: list[Any]  #: tf.Variables, each once
    trainable_variables: list[Any]
    regularization_losses: list[Any]  #: tf.functions without arguments
    resources: list[Any]  #: tables and assets
    children: dict[str, Any]  #: what else the object has by name


def parts_of(obj: Any, inputs: Any, signatures: Mapping[str, Any]) -> Parts:
    """Trace the object. `inputs` says what it takes, where it does not say so itself. Raises `ExportInvalid`."""
    import tensorflow as tf

    keras = keras_of(obj)
    is_function = isinstance(obj, tf.types.experimental.Callable)
    is_trackable = isinstance(obj, tf.__internal__.tracking.Trackable) and not is_function
    own = getattr(obj, "signatures", None)
    given = {**(own if isinstance(own, Mapping) else {}), **signatures}
    call = call_of(obj, inputs, keras, is_needed=not given)
    # Asked after tracing: a function may make its variables when it is first traced.
    layers = [obj] if keras is not None else _keras_layers(tf, obj) if is_trackable else []
    losses = _losses(obj, layers)
    all_signatures = with_defaults(given, call)
    functions = [
        *(call.concrete_functions if call is not None else ()),
        *(loss.get_concrete_function() for loss in losses),
        *all_signatures.values(),
    ]
    of_layers = [_tensorflow_variables(layer.variables) for layer in layers]
    stated = union(_tensorflow_variables(getattr(obj, "variables", ())), *of_layers)
    variables = union(stated, *(function.variables for function in functions))
    # Of a variable that a strategy distributes, functions capture one component: it is stored with the whole.
    components = {id(v) for whole in stated if isinstance(whole, tf.distribute.DistributedValues) for v in whole.values}
    variables = [v for v in variables if id(v) not in components]
    trainable = _trainable_variables(tf, obj, layers)
    if trainable is None:
        trainable = [v for v in variables if v.trainable]
    return Parts(
        call.function if call is not None else None,
        all_signatures,
        union(variables, trainable),
        union(trainable),
        losses,
        _resources(tf, obj) if is_trackable else [],
        _children(tf, obj) if is_trackable and keras is None else {},
    )


def union(*lists: Iterable[Any] | None) -> list[Any]:
    """All that is in the lists, each object once; variables compare by value, so by identity."""
    return list({id(item): item for items in lists if items is not None for item in items}.values())


def _keras_layers(tf: Any, obj: Any) -> list[Any]:
    """The Keras layers in the object, without those that are in another one."""
    layers = [node for node in tf.train.TrackableView(obj).descendants() if keras_of(node) is not None]
    inner = {id(part) for layer in layers for part in layer._flatten_layers(include_self=False)}
    return [layer for layer in layers if id(layer) not in inner]


def _losses(obj: Any, layers: list[Any]) -> list[Any]:
    """The object's own `regularization_losses`, else those of the Keras layers in it, as functions."""
    own = getattr(obj, "regularization_losses", None)
    own = own() if callable(own) else own
    if own is None:
        return [_without_arguments(loss) for loss in keras_regularization_losses(layers)]
    if isinstance(own, str | bytes) or not isinstance(own, Iterable):
        raise ExportInvalid(f"the object's regularization_losses must be a list, not {type(own).__name__}")
    return [_without_arguments(loss) for loss in own]


def _trainable_variables(tf: Any, obj: Any, layers: list[Any]) -> list[Any] | None:
    """What the object says; a tf.Module as such does not see Keras layers in it. None: it says nothing."""
    stated = _tensorflow_variables(getattr(obj, "trainable_variables", None))
    if stated is not None and getattr(type(obj), "trainable_variables", None) is tf.Module.trainable_variables:
        return union(stated, *(_tensorflow_variables(layer.trainable_variables) for layer in layers))
    return stated


def _tensorflow_variables(variables: Any) -> list[Any] | None:
    """The tf.Variables of a list of them, or of Keras's own; None if it is no list.

    tf_keras lists tables there too, each in a wrapper: those are resources.
    """
    import tensorflow as tf

    if isinstance(variables, str | bytes) or not isinstance(variables, Iterable):
        return None
    variables = [v for v in variables if not hasattr(v, "get_tensors")]
    found = [v if isinstance(v, tf.Variable) else getattr(v, "value", None) for v in variables]
    for v, original in zip(found, variables, strict=True):
        if not isinstance(v, tf.Variable):
            raise ExportInvalid(f"the object's variables must be tf.Variables, not {type(original).__name__}")
    return found


def _without_arguments(loss: Any) -> Any:
    import tensorflow as tf

    if not callable(loss):
        raise ExportInvalid(
            f"regularization_losses must be callables without arguments, not {type(loss).__name__}: "
            "a value that was computed once would not follow the weights"
        )
    function = loss if isinstance(loss, tf.types.experimental.PolymorphicFunction) else tf.function(lambda: loss())
    try:
        function.get_concrete_function()
    except Exception as error:
        raise ExportInvalid(f"a regularization loss cannot be computed: {error}") from error
    return function


def _resources(tf: Any, obj: Any) -> list[Any]:
    kinds = (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
    return [node for node in tf.train.TrackableView(obj).descendants() if isinstance(node, kinds)]


def _children(tf: Any, obj: Any) -> dict[str, Any]:
    """Attributes that can be saved. Not those with Keras layers in them: Keras 3 stores their weights twice."""
    children = tf.train.TrackableView.children(obj, save_type="savedmodel", cache={})
    return {
        name: child
        for name, child in children.items()
        if not any(keras_of(node) is not None for node in tf.train.TrackableView(child).descendants())
    }
