"""What a `KerasLayer` applies: a module, and which part of it with which arguments. It knows nothing of Keras.

Law: what can be known of a mistake when the module is loaded is told then, and not in the middle of training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from hubclient.instances import inputs as inputs_of
from hubclient.instances.instance import DEFAULT
from hubclient.keras_layers import tensors
from hubclient.keras_layers.loaded import load_handle
from hubclient.keras_layers.settings import LayerSettings
from hubclient.model_errors import InputInvalid, ModuleUnsupported, OutputNotFound, SignatureNotFound
from hubclient.opening import import_tensorflow
from hubclient.warning import HubWarning, warn


class AppliedModule:
    """A module, or any object with a part of the reusable interface, as one function of tensors with variables.

    Raises what `load` raises, `SignatureNotFound`, `OutputNotFound`, and `InputInvalid` for settings that contradict
    each other or the module.
    """

    def __init__(self, handle: Any, settings: LayerSettings, trainable: bool) -> None:
        tf = import_tensorflow("KerasLayer")
        self.handle = handle
        loaded = load_handle(handle, settings)
        self._instance = loaded.instance
        #: what the handle resolved to
        self.resolved = loaded.object
        if loaded.is_tf1 and settings.signature is None:
            settings = settings._replace(signature=DEFAULT)
        if loaded.is_tf1 and not settings.signature_outputs_as_dict and settings.output_key is None:
            settings = settings._replace(output_key=DEFAULT)
        self.settings = settings
        self._check_signature()
        if settings.signature is None:
            #: nests of ``tf.TypeSpec``s that the module takes; empty: unknown
            self.expected_inputs = inputs_of.expected_inputs(self.resolved)
        variables = tf.__internal__.tracking.AutoTrackable()
        variables.all = _distinct(self._instance.variables)  # Keras's own lists of weights are unknown to TensorFlow
        #: what a layer must have as attributes to be saved with the module's variables and tables
        self.trackables = [*loaded.trackables, variables]
        self._own_dtype = self._float_dtype()
        if trainable:
            self.check_trainable()
            if not self.trainable_variables:
                warn(
                    f"the KerasLayer of {handle} is trainable, but its module names no trainable variables", HubWarning
                )

    @property
    def trainable_variables(self) -> list[Any]:
        """Those that the publisher made trainable, each once."""
        return _distinct(self._instance.trainable_variables)

    @property
    def other_variables(self) -> list[Any]:
        trainable = {id(variable) for variable in self.trainable_variables}
        return [variable for variable in _distinct(self._instance.variables) if id(variable) not in trainable]

    @property
    def regularization_losses(self) -> list[Callable[[], Any]]:
        return self._instance.regularization_losses

    def config(self) -> dict[str, Any]:
        """The handle and the settings for ``get_config()``. Raises `ModuleUnsupported` if the handle is an object."""
        if not isinstance(self.handle, str | os.PathLike):
            # This kind of exception is what Keras 2 expects of a layer without a config when it saves a SavedModel.
            raise ModuleUnsupported(
                f"a KerasLayer of an object ({type(self.handle).__name__}) has no config: make it of a URL or a path"
            )
        return {"handle": os.fspath(self.handle), **self.settings.config()}

    def input_dtypes(self) -> list[str]:
        """Of the module's inputs in the order of ``tf.nest``; empty: unknown."""
        import tensorflow as tf

        return [spec.dtype.name for spec in tf.nest.flatten(self.expected_inputs[0])] if self.expected_inputs else []

    def may_take_sparse(self) -> bool:
        """Whether an input may be sparse: one of the module's is, or nothing is known of them."""
        import tensorflow as tf

        specs = tf.nest.flatten(self.expected_inputs)
        return not specs or any(isinstance(spec, tf.SparseTensorSpec) for spec in specs)

    def as_tensors(self, inputs: Any) -> Any:
        """A text, a number, or a list of them as a tensor: Keras would take a list for several inputs.

        Raises `InputInvalid` where they make no tensor of the dtype that the module takes.
        """
        dtypes = self.input_dtypes()
        return tensors.as_tensors(inputs, dtypes[0] if len(dtypes) == 1 else None)

    def dtype_of_layer(self, given: Any) -> Any:
        """What a layer takes for `dtype`; for None, the one of a module that takes a text, or integers, alone."""
        import tensorflow as tf

        if isinstance(given, tf.DType):
            return given.name
        if given is None:
            dtypes = self.input_dtypes()
            if len(dtypes) == 1 and not tf.as_dtype(dtypes[0]).is_floating:
                return dtypes[0]
        return given

    def check_trainable(self) -> None:
        """Refuse to train through a signature where the module has a call of its own, made for training."""
        if self.settings.signature is not None and self._instance.call is not None:
            raise InputInvalid(
                f"a trainable KerasLayer cannot use the signature {self.settings.signature!r}, which has neither "
                "training mode nor updates: leave signature= out, and the module's own call is trained"
            )

    def __call__(self, inputs: Any, training: Any, trainable: bool, compute_dtype: str, variable_dtype: str) -> Any:
        """The outputs that the settings choose; `training`, which may be a tensor, counts in a trainable layer only.

        Raises `InputInvalid` when the module does not take these inputs, and `OutputNotFound`.
        """
        import tensorflow as tf

        if trainable:
            self.check_trainable()
        training = training if trainable and training is not None else False
        otherwise = self._own_dtype or variable_dtype
        if tf.is_tensor(training):
            outputs = tf.cond(
                tf.cast(training, tf.bool),
                lambda: self._apply(inputs, True, otherwise),
                lambda: self._apply(inputs, False, otherwise),
            )
        else:
            outputs = self._apply(inputs, bool(training), otherwise)
        if self.settings.output_shape is not None:
            outputs = tensors.with_shapes(outputs, self.settings.output_shape, inputs)
        if compute_dtype != "float32":  # a float32 policy is what nobody chose: the module's own dtypes stay
            outputs = tf.nest.map_structure(lambda value: tensors.cast_float(value, compute_dtype), outputs)
        return outputs

    def output_specs(self, inputs: Any, training: Any, trainable: bool, compute_dtype: str, variable_dtype: str) -> Any:
        """The nest of ``tf.TypeSpec``s of the outputs for such a nest of inputs, found by tracing; nothing is run."""
        import tensorflow as tf

        def apply(inputs: Any) -> Any:
            return self(inputs, training, trainable, compute_dtype, variable_dtype)

        traced = tf.function(apply, autograph=False).get_concrete_function(inputs).structured_outputs
        return tf.nest.map_structure(
            lambda output: output if isinstance(output, tf.TypeSpec) else tf.type_spec_from_value(output), traced
        )

    def _check_signature(self) -> None:
        """Also what the signature has no output for, and arguments that it has no input for."""
        settings, signatures = self.settings, self._instance.signatures
        if settings.signature is None:
            if self._instance.call is None:
                told = f": give signature=, one of {sorted(signatures)}" if signatures else ", and has none"
                raise SignatureNotFound(f"{self.handle} cannot be called without a signature{told}")
            if settings.signature_outputs_as_dict:
                raise InputInvalid("signature_outputs_as_dict is about a signature, and signature= names none")
            if "training" in settings.arguments and getattr(self._instance, "has_training", False):
                raise InputInvalid("arguments cannot hold 'training': the module's follows the layer's")
            return
        if settings.signature not in signatures:
            raise SignatureNotFound(
                f"{self.handle} has no signature {settings.signature!r}; it has {sorted(signatures)}"
            )
        info = signatures[settings.signature]
        outputs, unknown = sorted(info.outputs), sorted(settings.arguments.keys() - info.inputs.keys())
        if not settings.signature_outputs_as_dict and settings.output_key is None:
            raise InputInvalid(
                f"what to return of the signature {settings.signature!r}? Give output_key=, one of {outputs}, "
                "or signature_outputs_as_dict=True"
            )
        if settings.output_key is not None and settings.output_key not in outputs:
            raise OutputNotFound(
                f"the signature {settings.signature!r} has no output {settings.output_key!r}; it has {outputs}"
            )
        if unknown:
            raise InputInvalid(
                f"the signature {settings.signature!r} has the inputs {sorted(info.inputs)}; arguments names {unknown}"
            )
        self.expected_inputs = _nests_of(info.inputs, settings.arguments)

    def _float_dtype(self) -> str | None:
        """The floating dtype of the module's variables when they have one in common."""
        dtypes = {variable.dtype for variable in self._instance.variables if variable.dtype.is_floating}
        return dtypes.pop().base_dtype.name if len(dtypes) == 1 else None

    def _apply(self, inputs: Any, training: bool, otherwise: str) -> Any:
        cast = tensors.cast_inputs(inputs, self.expected_inputs, otherwise)
        settings = self.settings
        if settings.signature is not None:
            outputs = self._apply_signature(settings.signature, cast, training)
        else:
            outputs = self._call(cast, training)
        if isinstance(outputs, Mapping):
            outputs = dict(outputs)
        if settings.output_key is None:
            return outputs
        if not isinstance(outputs, dict):
            raise OutputNotFound(
                f"the module returns {inputs_of.described(outputs)}: output_key is for outputs by name"
            )
        if settings.output_key not in outputs:
            raise OutputNotFound(f"the module has no output {settings.output_key!r}; it has {sorted(outputs)}")
        return outputs[settings.output_key]

    def _apply_signature(self, signature: str, inputs: Any, training: bool) -> dict[str, Any]:
        info, arguments = self._instance.signatures[signature], self.settings.arguments
        free = {name: spec for name, spec in info.inputs.items() if name not in arguments}
        given = {**arguments, **inputs_of.by_name(inputs, free, signature)}
        return self._instance.apply(signature, inputs_of.to_tensors(given, info.inputs, signature), training)

    def _call(self, inputs: Any, training: bool) -> Any:
        call = self._instance.call
        assert call is not None
        try:
            return call(inputs, training=training, **self.settings.arguments)
        except (TypeError, ValueError) as error:
            if not self.expected_inputs:
                raise
            wanted = " or ".join(map(inputs_of.described, self.expected_inputs))
            if self.settings.arguments and any(tensors.fit(inputs, specs) for specs in self.expected_inputs):
                names = sorted(self.settings.arguments)
                raise InputInvalid(f"{self.handle} cannot be called with the arguments {names}: {error}") from error
            raise InputInvalid(f"{self.handle} takes {wanted}, not {inputs_of.described(inputs)}") from error


def _nests_of(specs: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[Any]:
    """The dict of a signature's inputs that no argument fills; a single one may also be given bare."""
    free = {name: spec for name, spec in specs.items() if name not in arguments}
    return [free, *free.values()] if len(free) == 1 else [free]


def _distinct(variables: list[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())


def refuse_layer(handle: Any, layer_class: Any) -> None:
    """A Keras layer inside of a `KerasLayer` would have each of its variables twice."""
    if isinstance(handle, layer_class):
        raise ModuleUnsupported(f"{handle!r} is a Keras layer already: use it as it is")
