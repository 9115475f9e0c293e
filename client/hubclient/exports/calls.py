"""From what a person calls to a tf.function with all its traces: what becomes ``__call__`` of a module.

Law: nothing about inputs is guessed. A callable that does not say what it takes must be told.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from hubclient.exports.keras_models import keras_inputs
from hubclient.model_errors import ExportInvalid


class Call(NamedTuple):
    function: Any  #: a tf.function
    concrete_functions: list[Any]  #: its traces; the first is the one for inference


def call_of(obj: Any, inputs: Any, keras: Any, *, is_needed: bool) -> Call | None:
    """Trace the object; None for one that cannot be called but, not `is_needed`, has signatures.

    Raises `ExportInvalid` with the remedy where it is not known what the object takes.
    """
    import tensorflow as tf

    types = tf.types.experimental
    if keras is not None:
        return _of_callable(_keras_callable(obj), keras_inputs(obj, keras) if inputs is None else inputs, "the model")
    is_function = isinstance(obj, types.Callable | functools.partial) or inspect.isroutine(obj)
    what = obj if is_function else getattr(obj, "__call__", None)  # noqa: B004  # what it is counts, too
    if what is None or isinstance(obj, type):
        if is_needed:
            raise ExportInvalid(f"{_named(obj)} has neither a __call__ nor signatures to export")
        return None
    if isinstance(what, types.ConcreteFunction):
        return _of_concrete(what)
    if isinstance(what, types.PolymorphicFunction):
        if what.input_signature is not None and inputs is None:
            return Call(what, [_trace(what, (), {}, _named(obj))])
        if inputs is None and (traces := getattr(what, "concrete_functions", None)):
            return Call(what, sorted(traces, key=_is_for_training))
        if inputs is None and not is_needed:
            return None
    elif not callable(what):
        raise ExportInvalid(f"{_named(obj)} cannot be called")
    elif inputs is None and not is_needed:
        return None
    return _of_callable(what, inputs, _named(obj))


def _of_callable(what: Any, inputs: Any, name: str) -> Call:
    import tensorflow as tf

    if inputs is None:
        raise ExportInvalid(
            f"it is not known what {name} takes: say so by inputs=, such as inputs=tf.TensorSpec([None, 4], tf.float32)"
        )
    for leaf in tf.nest.flatten(inputs):
        if not isinstance(leaf, tf.TypeSpec):
            raise ExportInvalid(f"inputs= is made of tf.TensorSpec or other tf.TypeSpec objects, not {leaf!r:.100}")
    parameters = _parameters(what)
    args, kwargs = _bound(inputs, parameters, name)
    function = what if isinstance(what, tf.types.experimental.PolymorphicFunction) else tf.function(what)
    if "training" not in parameters:
        return Call(function, [_trace(function, args, kwargs, name)])
    return Call(function, [_trace(function, args, kwargs | {"training": training}, name) for training in (False, True)])


def _of_concrete(concrete: Any) -> Call:
    """A concrete function as a tf.function: other loaders know no concrete function for ``__call__``."""
    import tensorflow as tf

    args, kwargs = concrete.structured_input_signature
    leaves = tf.nest.flatten((args, kwargs))
    specs = [leaf for leaf in leaves if isinstance(leaf, tf.TypeSpec)]
    if len(specs) != 1:
        function = tf.function(lambda *args, **kwargs: concrete(*args, **kwargs))
        return Call(function, [_trace(function, args, kwargs, "the function")])

    def call(inputs: Any) -> Any:
        filled = [inputs if isinstance(leaf, tf.TypeSpec) else leaf for leaf in leaves]
        packed_args, packed_kwargs = tf.nest.pack_sequence_as((args, kwargs), filled)
        return concrete(*packed_args, **packed_kwargs)

    function = tf.function(call)
    return Call(function, [_trace(function, (specs[0],), {}, "the function")])


def _keras_callable(obj: Any) -> Any:
    parameters = _parameters(obj.call)
    if len(_required(parameters)) > 1:
        shown = inspect.Signature(
            [
                parameter.replace(default=False) if name == "training" else parameter
                for name, parameter in parameters.items()
            ]
        )

        def call_by_name(*args: Any, **kwargs: Any) -> Any:
            return obj(**shown.bind(*args, **kwargs).arguments)  # Keras takes nothing but tensors by position

        call_by_name.__signature__ = shown  # type: ignore[attr-defined]  # what inspect reads
        return call_by_name
    if "training" not in parameters:
        return lambda inputs: obj(inputs)

    def call(inputs: Any, training: Any = False) -> Any:
        return obj(inputs, training=training)

    return call


def _trace(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
    try:
        return function.get_concrete_function(*args, **kwargs)
    except Exception as error:
        taken = [*args, *(f"{key}={value}" for key, value in kwargs.items())]
        raise ExportInvalid(f"tracing {name}({', '.join(map(str, taken))}) failed: {error}") from error


def _parameters(what: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(what).parameters
    except (TypeError, ValueError):
        return {}


def _bound(
    inputs: Any, parameters: Mapping[str, inspect.Parameter], name: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments: `inputs` as a whole, or if it names or numbers several arguments, one by one."""
    required = _required(parameters)
    kinds = {parameter.kind for parameter in parameters.values()}
    if isinstance(inputs, Mapping):
        names_several = len(inputs) > 1 and set(required) <= set(inputs) <= set(parameters)
        if names_several or kinds == {inspect.Parameter.VAR_KEYWORD}:
            return (), dict(inputs)
    elif isinstance(inputs, list | tuple):
        takes_any_number = inspect.Parameter.VAR_POSITIONAL in kinds
        if not parameters or takes_any_number or 1 < len(required) == len(inputs):
            return tuple(inputs), {}
    if len(required) < 2:
        return (inputs,), {}
    raise ExportInvalid(f"{name} takes the arguments {', '.join(required)}: inputs= must give a spec for each")


def _required(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    return [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and key != "training"
    ]


def _is_for_training(concrete: Any) -> bool:
    args, kwargs = concrete.structured_input_signature
    names = list(concrete.function_type.parameters)
    return (dict(zip(names, args, strict=False)) | kwargs).get("training") is True


def _named(obj: Any) -> str:
    return getattr(obj, "__name__", None) or f"the {type(obj).__name__}"
