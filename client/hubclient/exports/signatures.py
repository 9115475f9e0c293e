"""The signatures of a module: those that were given, and "serving_default" and "default" made of its call.

Law: a signature's names come from the caller: argument names, the keys of dicts, the names of specs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hubclient.exports.calls import Call
from hubclient.model_errors import ExportInvalid

_SERVING_DEFAULT, _DEFAULT = "serving_default", "default"
# Of such names are TensorFlow's own signatures, by which loaders initialise a module.
_TENSORFLOWS = "__saved_model_"


def with_defaults(given: Mapping[str, Any], call: Call | None) -> dict[str, Any]:
    """All signatures as concrete functions. Raises `ExportInvalid` for what can be none."""
    for name in given:
        if not isinstance(name, str) or not name or name.startswith(_TENSORFLOWS):
            raise ExportInvalid(f"a signature cannot have the name {name!r}")
    signatures = {name: _concrete(name, function) for name, function in given.items()}
    if call is not None:
        for name in (_SERVING_DEFAULT, _DEFAULT):
            if name not in signatures:
                signatures[name] = _flat(call.function, call.concrete_functions[0], name)
    elif _DEFAULT in signatures:
        signatures.setdefault(_SERVING_DEFAULT, signatures[_DEFAULT])
    elif (serving := signatures.get(_SERVING_DEFAULT)) is not None:
        signatures[_DEFAULT] = _flat(serving, serving, _DEFAULT)
    return signatures


def _concrete(name: str, function: Any) -> Any:
    import tensorflow as tf

    types = tf.types.experimental
    if isinstance(function, types.ConcreteFunction):
        return function
    if isinstance(function, types.PolymorphicFunction) and function.input_signature is not None:
        try:
            return function.get_concrete_function()
        except Exception as error:
            raise ExportInvalid(f"tracing the signature {name!r} failed: {error}") from error
    raise ExportInvalid(
        f"the signature {name!r} must be a tf.function with an input_signature, or a concrete function, "
        f"not {type(function).__name__}"
    )


def _flat(function: Any, concrete: Any, name: str) -> Any:
    """A concrete function of named tensors that calls `function` the way `concrete` was traced."""
    import tensorflow as tf

    args, kwargs = concrete.structured_input_signature
    named = [*zip(concrete.function_type.parameters, args, strict=False), *sorted(kwargs.items())]
    if len(args) > len(concrete.function_type.parameters):  # a function of *args
        named = [*((f"inputs_{number}", arg) for number, arg in enumerate(args)), *sorted(kwargs.items())]
    specs: dict[str, Any] = {}
    places: list[str | None] = []  # for each leaf of the arguments: the input that it is, or None for a constant
    for parameter, value in named:
        for key, leaf in _leaves(parameter, value):
            is_input = isinstance(leaf, tf.TypeSpec) and not _is_switch(parameter, leaf)
            places.append(_unique(key, specs) if is_input else None)
            if is_input:
                specs[places[-1] or ""] = _renamed(leaf, places[-1])
    leaves = tf.nest.flatten((args, kwargs))

    def flat(**tensors: Any) -> Any:
        filled = [
            tensors[place] if place is not None else False if isinstance(leaf, tf.TypeSpec) else leaf
            for place, leaf in zip(places, leaves, strict=True)
        ]
        packed_args, packed_kwargs = tf.nest.pack_sequence_as((args, kwargs), filled)
        return _outputs(function(*packed_args, **packed_kwargs), name)

    try:
        return tf.function(flat, autograph=False).get_concrete_function(**specs)
    except ExportInvalid:
        raise
    except Exception as error:
        raise ExportInvalid(f"the signature {name!r} cannot be made: {error}") from error


def _outputs(outputs: Any, name: str) -> Any:
    """What TensorFlow takes as outputs of a signature; in "default" a single one is called "default"."""
    import tensorflow as tf

    if isinstance(outputs, Mapping):
        values = dict(outputs)
        if name == _DEFAULT and len(values) == 1 and _DEFAULT not in values:
            values = {_DEFAULT: next(iter(values.values()))}
    elif isinstance(outputs, list | tuple):
        values = {f"output_{number}": value for number, value in enumerate(outputs)}
    else:
        values = {_DEFAULT if name == _DEFAULT else "output_0": outputs}
    for key, value in values.items():
        if not isinstance(key, str) or not tf.is_tensor(value):
            raise ExportInvalid(
                f"the output {key!r} of type {type(value).__name__} cannot be in a signature: return a tensor or a "
                "flat dict of tensors, or give the signatures 'serving_default' and 'default' yourself"
            )
    return values


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a nested structure, in the order of ``tf.nest``, each with its name."""
    import tensorflow as tf

    if isinstance(value, Mapping):
        for key in sorted(value):
            for below, leaf in _leaves(str(key), value[key]):
                yield (below if tf.nest.is_nested(value[key]) else str(key)), leaf  # the key, whatever the spec's name
    elif tf.nest.is_nested(value) and not isinstance(value, tf.TypeSpec):
        for number, item in enumerate(tf.nest.flatten(value)):
            yield (getattr(item, "name", None) or f"{name}_{number}"), item
    else:
        yield (getattr(value, "name", None) or name), value


def _is_switch(parameter: str, leaf: Any) -> bool:
    """Whether it is an argument `training` that is a tensor: signatures are for inference."""
    return parameter == "training" and leaf.shape.rank == 0 and leaf.dtype.is_bool


def _renamed(spec: Any, name: str | None) -> Any:
    import tensorflow as tf

    return tf.TensorSpec(spec.shape, spec.dtype, name) if isinstance(spec, tf.TensorSpec) else spec


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or one like it, that TensorFlow does not change in its turn."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", name)
    name = name if name[:1].isalpha() else f"input_{name.lstrip('_')}"
    number = 0
    while (candidate := name if not number else f"{name}_{number}") in taken:
        number += 1
    return candidate
