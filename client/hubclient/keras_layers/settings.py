"""The arguments of a `KerasLayer` that say what it calls and what it returns, and their form in a Keras config.

Law: ``LayerSettings.make(**settings.config())`` are the same settings, and a config is plain JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from hubclient.model_errors import InputInvalid

_LOAD_OPTIONS = (
    "allow_partial_checkpoint",
    "experimental_io_device",
    "experimental_skip_checkpoint",
    "experimental_variable_policy",
    "experimental_load_function_aliases",
)


class LayerSettings(NamedTuple):
    """Immutable; Keras would turn the dicts and lists of a layer's own attributes into tracked ones."""

    arguments: Mapping[str, Any]
    tags: tuple[str, ...] | None
    signature: str | None
    signature_outputs_as_dict: bool
    output_key: str | None
    output_shape: Any  #: a nest of tuples without the batch dimension, each a shape; None: not given
    load_options: Any  #: ``tf.saved_model.LoadOptions``

    @classmethod
    def make(
        cls,
        *,
        arguments: Mapping[str, Any] | None = None,
        tags: Any = None,
        signature: str | None = None,
        signature_outputs_as_dict: bool | None = None,
        output_key: str | None = None,
        output_shape: Any = None,
        load_options: Any = None,
    ) -> LayerSettings:
        """From what a caller, or a config, gives. Raises `InputInvalid` for what can mean nothing."""
        if arguments is not None and not isinstance(arguments, Mapping):
            raise InputInvalid(f"arguments is a dict of keyword arguments, not {arguments!r}")
        if signature_outputs_as_dict and output_key is not None:
            raise InputInvalid(
                "output_key takes one output and signature_outputs_as_dict=True all: give one of the two"
            )
        return cls(
            arguments=dict(arguments or {}),
            tags=None if tags is None else (tags,) if isinstance(tags, str) else tuple(sorted(set(tags))),
            signature=signature,
            signature_outputs_as_dict=bool(signature_outputs_as_dict),
            output_key=output_key,
            output_shape=None if output_shape is None else shapes_of(output_shape),
            load_options=None if load_options is None else _load_options(load_options),
        )

    def config(self) -> dict[str, Any]:
        """For ``get_config()``. Raises `InputInvalid` for an argument that JSON cannot hold."""
        for key, value in self.arguments.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise InputInvalid(
                    f"arguments[{key!r}] is a {type(value).__name__}, and a config holds only JSON: {error}"
                ) from None
        return {
            "arguments": dict(self.arguments),
            "tags": None if self.tags is None else list(self.tags),
            "signature": self.signature,
            "signature_outputs_as_dict": self.signature_outputs_as_dict,
            "output_key": self.output_key,
            "output_shape": None if self.output_shape is None else _listed(self.output_shape),
            "load_options": None if self.load_options is None else _load_options_config(self.load_options),
        }


def shapes_of(given: Any) -> Any:
    """A nest of shapes (``[20]``, ``{"a": (3, None)}``, ``[[2], [3]]``) as a nest of tuples.

    Raises `InputInvalid` for anything else.
    """
    if isinstance(given, Mapping):
        return {key: shapes_of(value) for key, value in given.items()}
    if hasattr(given, "as_list"):
        given = given.as_list()  # a tf.TensorShape
    if isinstance(given, list | tuple):
        if all(size is None or (isinstance(size, int) and size >= 0) for size in given):
            return tuple(given)
        if not any(isinstance(size, int) for size in given):
            return [shapes_of(value) for value in given]
    raise InputInvalid(
        "output_shape is a shape without the batch dimension, such as [20], or a list or dict of such shapes, "
        f"not {given!r}"
    )


def map_shapes(function: Any, shapes: Any, *nests: Any) -> Any:
    """`function` of each shape and what stands in its place in the other nests; ValueError if they differ."""
    if isinstance(shapes, Mapping):
        if any(not isinstance(nest, Mapping) or nest.keys() != shapes.keys() for nest in nests):
            raise ValueError(f"a dict with the keys {sorted(shapes)}")
        return {key: map_shapes(function, shape, *(nest[key] for nest in nests)) for key, shape in shapes.items()}
    if isinstance(shapes, list):
        if any(not isinstance(nest, list | tuple) or len(nest) != len(shapes) for nest in nests):
            raise ValueError(f"a list of {len(shapes)}")
        return [map_shapes(function, *together) for together in zip(shapes, *nests, strict=True)]
    return function(shapes, *nests)


def _listed(shapes: Any) -> Any:
    return map_shapes(list, shapes)


def _load_options(given: Any) -> Any:
    import tensorflow as tf

    if isinstance(given, Mapping) and set(given) <= set(_LOAD_OPTIONS):
        return tf.saved_model.LoadOptions(**given)
    if isinstance(given, tf.saved_model.LoadOptions):
        return given
    raise InputInvalid(f"load_options is a tf.saved_model.LoadOptions, not {given!r}")


def _load_options_config(options: Any) -> dict[str, Any]:
    config = {name: getattr(options, name, None) for name in _LOAD_OPTIONS}
    policy = config["experimental_variable_policy"]
    config["experimental_variable_policy"] = getattr(policy, "value", policy)
    return {name: value for name, value in config.items() if value not in (None, False)}
