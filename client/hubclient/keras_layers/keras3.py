"""`KerasLayer` as a layer of Keras 3.

Law: the layer's weights are the module's own variables, so that whatever trains, saves or restores one does the other.

Importing this imports Keras 3, which must run on TensorFlow.
"""

from __future__ import annotations

from typing import Any

from hubclient.keras_layers.applying import AppliedModule, refuse_layer
from hubclient.keras_layers.settings import LayerSettings, map_shapes
from hubclient.model_errors import InputInvalid, ModuleUnsupported, TensorFlowUnusable
from hubclient.opening import import_tensorflow


def _layer_class() -> Any:
    tf = import_tensorflow("KerasLayer")
    keras = keras_on_tensorflow()
    base_layer: Any = keras.layers.Layer
    base_variable: Any = keras.Variable

    class ModuleWeight(base_variable):  # type: ignore[misc]  # Keras is untyped
        """A variable of the module, which may carry the module's losses.

        Keras asks each weight that is trainable now for its regularization, once, however often the layer was called.
        The first of them answers for the whole module.
        """

        _loss: Any = None
        _candidates: Any = ()

        def carry(self, loss: Any, candidates: list[Any]) -> None:
            self._loss, self._candidates = loss, candidates

        @property
        def regularizer(self) -> Any:
            first = next((weight for weight in self._candidates if weight.trainable), None)
            return self._loss if self is first else None

    class KerasLayer(base_layer):  # type: ignore[misc]  # Keras is untyped
        """A module as a layer: ``KerasLayer(handle)`` in any model of Keras 3.

        `handle` is a URL, or a path or ``file://`` URL of a directory, loaded now; or a loaded object or any callable
        with (parts of) the reusable SavedModel interface, and then the layer has no config. `arguments` are keyword
        arguments for the module's call, or inputs of its signature. `tags` names a variant, as for `load`.

        `signature` applies a signature in place of the module's own call; `output_key` then takes one of its outputs,
        `signature_outputs_as_dict` all. Modules in the TF1 format apply "default" and take "default" unless told.
        `output_shape` is the shape without the batch dimension, or a nest of shapes, where the module does not say it.
        `load_options` is a ``tf.saved_model.LoadOptions``.

        `trainable` lets fit() change what the publisher made trainable, brings the regularization losses as one loss,
        and passes `training` on to modules that follow it: in a frozen layer it is False, as in BatchNormalization.

        Under a policy of another compute dtype than float32 the module still computes in its own dtypes: inputs and
        outputs are cast. Without `dtype`, a module that takes a text or integers has a layer of that dtype.
        The module is leased as long as the layer lives. ``load_model`` loads the module that a file names: load only
        files whose modules you would load.

        Raises what `load` raises, `SignatureNotFound`, `OutputNotFound`, `InputInvalid`, `ModuleUnsupported`.
        """

        def __init__(
            self,
            handle: Any,
            trainable: bool = False,
            arguments: Any = None,
            *,
            tags: Any = None,
            signature: str | None = None,
            signature_outputs_as_dict: bool | None = None,
            output_key: str | None = None,
            output_shape: Any = None,
            load_options: Any = None,
            **kwargs: Any,
        ) -> None:
            refuse_layer(handle, base_layer)
            settings = LayerSettings.make(
                arguments=arguments,
                tags=tags,
                signature=signature,
                signature_outputs_as_dict=signature_outputs_as_dict,
                output_key=output_key,
                output_shape=output_shape,
                load_options=load_options,
            )
            applied = AppliedModule(handle, settings, bool(trainable))
            dtype = applied.dtype_of_layer(kwargs.pop("dtype", None))
            input_shape = kwargs.pop("input_shape", None)
            super().__init__(trainable=bool(trainable), dtype=dtype, autocast=False, **kwargs)
            if input_shape is not None and tf.as_dtype(self.compute_dtype).is_floating:
                # What Sequential makes an Input of float32 from. Without it, it makes one from the first call.
                self._input_shape_arg = tuple(input_shape)
            self._applied = applied
            for number, trackable in enumerate(applied.trackables):
                setattr(self, f"_module_{number}", trackable)  # TensorFlow saves attributes
            # Tables, strings and shapes that depend on values cannot be compiled by XLA, and nobody knows before.
            self.supports_jit = False
            with keras.name_scope(self.name):
                trained = [self._alias(variable, trainable=True) for variable in applied.trainable_variables]
                for variable in applied.other_variables:
                    self._alias(variable, trainable=False)
            losses = applied.regularization_losses
            weights = [weight for weight in trained if weight is not None]
            if losses:
                for weight in weights:
                    weight.carry(lambda _: tf.add_n([loss() for loss in losses]), weights)
            self.built = type(self).build is base_layer.build

        @property
        def resolved_object(self) -> Any:
            """What the handle resolved to."""
            return self._applied.resolved

        @property
        def handle(self) -> Any:
            return self._applied.handle

        def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(self._applied.as_tensors(inputs), *args, **kwargs)

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def call(self, inputs: Any, training: bool | None = None) -> Any:
            self._refuse_stateless()
            return self._applied(inputs, training, self.trainable, self.compute_dtype, self.variable_dtype)

        def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
            """``KerasTensor``s for the outputs, found by tracing the module with tensors of such shapes."""
            may_be_sparse = self._applied.may_take_sparse()
            specs = keras.tree.map_structure(lambda value: _to_type_spec(value, may_be_sparse), inputs)
            traced = self._applied.output_specs(
                specs, training, self.trainable, self.compute_dtype, self.variable_dtype
            )
            return tf.nest.map_structure(self._to_keras_tensor, traced)

        def compute_output_shape(self, input_shape: Any) -> Any:
            shapes = self._applied.settings.output_shape
            if shapes is not None:
                batch = keras.tree.flatten(
                    keras.tree.map_shape_structure(lambda shape: keras.KerasTensor(shape), input_shape)
                )
                return map_shapes(lambda shape: (batch[0].shape[0], *shape), shapes)
            dtypes = iter(self._applied.input_dtypes())
            inputs = keras.tree.map_shape_structure(
                lambda shape: keras.KerasTensor(shape, next(dtypes, self.compute_dtype)), input_shape
            )
            outputs = self.compute_output_spec(inputs)
            return keras.tree.map_structure(lambda output: tuple(output.shape), outputs)

        def get_config(self) -> dict[str, Any]:
            """All arguments. Raises `ModuleUnsupported` for a layer of an object, which no config can name."""
            return {**super().get_config(), **self._applied.config()}

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            """The layer with these arguments. Raises what the constructor raises; Keras alone would say TypeError."""
            arguments = {name: value for name, value in config.items() if name != "batch_input_shape"}  # of tf_keras
            if isinstance(config.get("dtype"), dict):
                arguments["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
            return cls(**arguments)

        def _alias(self, variable: Any, trainable: bool) -> Any:
            """A Keras variable that is the module's; None for what Keras can neither train nor save."""
            numeric = variable.dtype.is_floating or variable.dtype.is_integer or variable.dtype.is_bool
            if not ((numeric or variable.dtype.is_complex) and variable.shape.is_fully_defined()):
                return None
            name = variable.name.removesuffix(":0").replace("/", "_").replace(":", "_")
            weight = ModuleWeight(
                variable, dtype=variable.dtype.base_dtype.name, trainable=trainable, autocast=False, name=name
            )
            self._track_variable(weight)
            return weight

        def _refuse_stateless(self) -> None:
            """A module reads its own variables: the values of a ``stateless_call`` would not be seen."""
            if self.weights and not isinstance(self.weights[0].value, tf.Variable):
                raise ModuleUnsupported("a module cannot be called with other values for its weights (stateless_call)")

        def _to_keras_tensor(self, spec: Any) -> Any:
            if spec.shape.rank is None:
                raise InputInvalid(f"{self.handle} does not say the rank of its output: give output_shape=")
            kind = {"SparseTensorSpec": "sparse", "RaggedTensorSpec": "ragged"}.get(type(spec).__name__)
            return keras.KerasTensor(tuple(spec.shape), spec.dtype.name, **({kind: True} if kind else {}))

    def _to_type_spec(value: Any, may_be_sparse: bool) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return tf.type_spec_from_value(value)
        # Keras calls a dense tensor sparse once it was multiplied by a number.
        if value.sparse and may_be_sparse:
            return tf.SparseTensorSpec(value.shape, value.dtype)
        if getattr(value, "ragged", False):
            return tf.RaggedTensorSpec(value.shape, value.dtype)
        return tf.TensorSpec(value.shape, value.dtype)

    KerasLayer.__qualname__ = "KerasLayer"
    return keras.saving.register_keras_serializable(package="hubclient")(KerasLayer)


def keras_on_tensorflow() -> Any:
    """The package keras. Raises `TensorFlowUnusable` if it is missing, older than 3, or runs on something else."""
    try:
        import keras
    except ImportError as error:
        raise TensorFlowUnusable(f"KerasLayer needs Keras 3 (pip install 'keras>=3'): {error}") from error
    if int(keras.__version__.partition(".")[0]) < 3:
        raise TensorFlowUnusable(f"this KerasLayer needs Keras 3, and Keras {keras.__version__} is installed")
    if keras.backend.backend() != "tensorflow":
        raise TensorFlowUnusable(
            f"KerasLayer needs Keras to run on TensorFlow, and it runs on {keras.backend.backend()}: "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    return keras


KerasLayer: Any = _layer_class()
