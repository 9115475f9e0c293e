"""An object with the reusable SavedModel interface, or with signatures alone, as an instance in the eager world.

Law: nothing of the interface is demanded: what an object does not have counts as empty.

Source of the interface: tensorflow.org/hub/reusable_saved_models.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from hubclient.instances.inputs import described, differing_keys, expected_inputs
from hubclient.instances.instance import DEFAULT, SignatureInfo
from hubclient.model_errors import InputInvalid

SERVING_DEFAULT = "serving_default"


class Reusable:
    """Also for objects that were not loaded from anywhere: whatever has a part of the interface."""

    def __init__(self, loaded: Any, trainable: bool) -> None:
        self._object = loaded
        self._trainable = trainable

    @cached_property
    def _functions(self) -> Mapping[str, Any]:
        return dict(getattr(self._object, "signatures", None) or {})

    @cached_property
    def signatures(self) -> Mapping[str, SignatureInfo]:
        """Those of the SavedModel; where it has no "default", that is its "serving_default"."""
        infos = {
            name: SignatureInfo(function.structured_input_signature[1], function.structured_outputs)
            for name, function in self._functions.items()
        }
        if DEFAULT not in infos and SERVING_DEFAULT in infos:
            inputs, outputs = infos[SERVING_DEFAULT]
            infos[DEFAULT] = SignatureInfo(inputs, _named_default(outputs))
        return infos

    @cached_property
    def call(self) -> Callable[..., Any] | None:
        function = self._object
        if not callable(function):
            return None
        parameter = _training_parameter(function)

        def call(inputs: Any, training: bool | None = None, **arguments: Any) -> Any:
            if parameter is not None and (training is not None or parameter.default is inspect.Parameter.empty):
                arguments["training"] = bool(training)
            try:
                return function(inputs, **arguments)
            except (TypeError, ValueError) as error:
                # A callable that was not loaded may raise them for reasons of its own.
                if not (expected := expected_inputs(function)):
                    raise
                wanted = " or ".join(map(described, expected))
                differing = differing_keys(inputs, expected[0])
                told = f"the module takes {wanted}, not {described(inputs)}" + (f": {differing}" if differing else "")
                raise InputInvalid(told) from error

        return call

    @property
    def has_training(self) -> bool:
        """Whether the object's ``__call__`` follows an argument `training`."""
        return callable(self._object) and _training_parameter(self._object) is not None

    def apply(self, signature: str, inputs: Mapping[str, Any], training: bool | None) -> dict[str, Any]:
        if signature == DEFAULT and DEFAULT not in self._functions:
            return dict(_named_default(self._functions[SERVING_DEFAULT](**inputs)))
        return dict(self._functions[signature](**inputs))

    @cached_property
    def variables(self) -> list[Any]:
        own = getattr(self._object, "variables", None)
        return list(own) if own is not None else self._of_functions("variables")

    @property
    def variable_map(self) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for variable in self.variables:
            name = stem = variable.name.removesuffix(":0")
            number = 0
            while name in named:  # names need not be unique in TensorFlow 2
                number += 1
                name = f"{stem}_{number}"
            named[name] = variable
        return named

    @property
    def trainable_variables(self) -> list[Any]:
        if not self._trainable:
            return []
        own = getattr(self._object, "trainable_variables", None)
        return list(own) if own is not None else self._of_functions("trainable_variables")

    @property
    def regularization_losses(self) -> list[Any]:
        return list(getattr(self._object, "regularization_losses", None) or ()) if self._trainable else []

    @property
    def update_ops(self) -> list[Any]:
        return []

    def attached_message(self, key: str) -> bytes | None:
        return None

    def export(self, path: str, session: Any) -> None:
        from hubclient.exporting import export

        export(self._object, path)

    def _of_functions(self, attribute: str) -> list[Any]:
        """The variables that any signature reaches, each once, for an object that has no list of its own."""
        reached = {
            variable.ref(): variable
            for _, function in sorted(self._functions.items())
            for variable in getattr(function, attribute)
        }
        return list(reached.values())


def _training_parameter(function: Any) -> inspect.Parameter | None:
    """The parameter `training` of a callable, also of one that was loaded, whose class takes anything."""
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        return inspect.signature(target).parameters.get("training")
    except (TypeError, ValueError):
        return None


def _named_default(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """A single output is what a bare call gives, whatever "serving_default" calls it."""
    return outputs if DEFAULT in outputs or len(outputs) != 1 else {DEFAULT: next(iter(outputs.values()))}
