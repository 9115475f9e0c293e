"""`KerasLayer` as a layer of Keras 2: of tf_keras, or of the Keras of TensorFlow before 2.16.

Law: the layer's weights are the module's own variables, so that whatever trains, saves or restores one does the other.

Importing this imports that Keras: ``tf.keras`` where it is a Keras 2, else tf_keras.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from hubclient.keras_layers.applying import AppliedModule, refuse_layer
from hubclient.keras_layers.settings import LayerSettings, map_shapes
from hubclient.model_errors import TensorFlowUnusable
from hubclient.opening import import_tensorflow


def _layer_class() -> Any:
    tf = import_tensorflow("KerasLayer")
    keras = _keras_2(tf)
    base_layer: Any = keras.layers.Layer

    @keras.utils.register_keras_serializable(package="hubclient")
    class KerasLayer(base_layer):  # type: ignore[misc]  # Keras is untyped
        """A module as a layer of Keras 2; arguments and promises are those of the layer of Keras 3.

        Further keyword arguments are ``tf.keras.layers.Layer``'s, `input_shape` and `dtype` among them. Each
        regularization loss of a trainable module is one of the layer's losses.
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
            kwargs["dtype"] = applied.dtype_of_layer(kwargs.get("dtype"))
            kwargs["autocast"] = False  # the module's inputs are cast to its own dtypes
            super().__init__(trainable=bool(trainable), **kwargs)
            self._applied = applied
            #: the name that tensorflow_hub's layer gives it: each reads the other's checkpoints and SavedModels
            self._func = applied.resolved
            for number, trackable in enumerate(applied.trackables):
                setattr(self, f"_module_{number}", trackable)  # TensorFlow saves attributes
            for variable in applied.trainable_variables:
                self._adopt(variable, trainable=True)
            for variable in applied.other_variables:
                self._adopt(variable, trainable=False)
            for loss in applied.regularization_losses:
                self.add_loss(self._unless_frozen(loss))

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
        def call(self, inputs: Any, training: Any = None) -> Any:
            if training is None:
                training = keras.backend.learning_phase()
            return self._applied(inputs, training, self.trainable, self.compute_dtype, self.variable_dtype)

        def compute_output_shape(self, input_shape: Any) -> Any:
            """``tf.TensorShape``s of the outputs, found by tracing unless `output_shape` tells."""
            inputs = _shapes(input_shape)
            shapes = self._applied.settings.output_shape
            if shapes is not None:
                batch_size = tf.nest.flatten(inputs)[0][:1]
                return map_shapes(batch_size.concatenate, shapes)
            dtypes = iter(self._applied.input_dtypes())
            specs = tf.nest.map_structure(lambda shape: tf.TensorSpec(shape, next(dtypes, self.compute_dtype)), inputs)
            traced = self._applied.output_specs(specs, False, self.trainable, self.compute_dtype, self.variable_dtype)
            return tf.nest.map_structure(lambda spec: spec.shape, traced)

        def get_config(self) -> dict[str, Any]:
            """All arguments. Raises `ModuleUnsupported` for a layer of an object, which no config can name."""
            return {**super().get_config(), **self._applied.config()}

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            """The layer with these arguments. Raises what the constructor raises; Keras alone would say TypeError."""
            return cls(**config)

        def _adopt(self, variable: Any, trainable: bool) -> None:
            """Make the module's variable a weight of the layer, by the way in which Keras lets a caller make it."""
            self.add_weight(
                name=variable.name,
                shape=variable.shape,
                dtype=variable.dtype,
                trainable=trainable,
                experimental_autocast=False,
                getter=lambda *_, **__: variable,
            )

        def _unless_frozen(self, loss: Callable[[], Any]) -> Callable[[], Any]:
            """Keras asks for the value of such a loss once per step, however often the layer was called."""
            return lambda: loss() if self.trainable else tf.zeros([])

    def _shapes(given: Any) -> Any:
        """A nest of shapes, as Keras passes them, as a nest of ``tf.TensorShape``s."""
        if isinstance(given, dict):
            return {key: _shapes(value) for key, value in given.items()}
        if isinstance(given, list | tuple) and any(isinstance(each, list | tuple | tf.TensorShape) for each in given):
            return [_shapes(each) for each in given]
        return tf.TensorShape(given)

    KerasLayer.__qualname__ = "KerasLayer"
    return KerasLayer


def _keras_2(tf: Any) -> Any:
    try:
        package = import_module(tf.keras.layers.Layer.__module__.partition(".")[0])
        if package.__version__.startswith("2."):
            return tf.keras
    except (ImportError, AttributeError):
        pass  # TensorFlow itself finds no Keras at all; tf_keras may yet be there
    try:
        import tf_keras
    except ImportError as error:
        raise TensorFlowUnusable(f"a KerasLayer of Keras 2 needs tf_keras (pip install tf_keras): {error}") from error
    return tf_keras


KerasLayer: Any = _layer_class()
