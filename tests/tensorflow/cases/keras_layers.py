"""Cases of `KerasLayer`: its arguments, in models, with and without training."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tests.support.weights import weights
from tests.tensorflow.cases.examples import raised_by

keras: Any = tf.keras

SENTENCES = ["the quick fox", "", "nothing known"]
X = [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]
PAIRS = [[1.0, 2.0], [3.0, -4.0]]


def case_called_directly(hub: Any, modules: Any) -> Any:
    return {
        "text": hub.KerasLayer(modules("tf2/text_embedding"))(tf.constant(SENTENCES)),
        "image": hub.KerasLayer(modules("tf2/image_feature_vector"))(tf.ones([2, 8, 8, 3])),
        "dict": hub.KerasLayer(modules("tf2/multi"))({"a": tf.constant(PAIRS), "b": tf.constant(PAIRS)}),
        "tf1": hub.KerasLayer(modules("tf1/affine"))(tf.constant(X)),
        "tf1_text": hub.KerasLayer(modules("tf1/text"))(tf.constant(SENTENCES)),
    }


def case_in_a_functional_model(hub: Any, modules: Any) -> Any:
    sentences = keras.Input(shape=(), dtype="string")
    embedded = hub.KerasLayer(modules("tf2/text_embedding"), name="embedding")(sentences)
    model = keras.Model(sentences, keras.layers.Lambda(lambda x: x * 2.0)(embedded))
    return {"call": model(tf.constant(SENTENCES)), "predict": model.predict(tf.constant(SENTENCES), verbose=0)}


def case_in_a_sequential_model(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=False)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.ReLU()])
    return {"predict": model.predict(tf.ones([3, 8, 8, 3]), verbose=0), "weights": len(model.weights)}


def case_as_the_tutorials_write_it(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(
        modules("tf2/text_embedding"), output_shape=[3], input_shape=[], dtype=tf.string, trainable=True
    )
    model = keras.Sequential([layer, keras.layers.ReLU()])
    return {"predict": model.predict(tf.constant(SENTENCES), verbose=0), "weights": len(model.trainable_weights)}


def case_of_a_loaded_object_or_a_function(hub: Any, modules: Any) -> Any:
    loaded = hub.load(modules("tf2/with_arguments"))
    layer = hub.KerasLayer(loaded, trainable=True)
    function = hub.KerasLayer(tf.function(lambda x: x * 2.0))
    return {
        "object": layer(tf.constant(PAIRS)),
        "weights": len(layer.trainable_weights),
        "function": function(tf.constant(PAIRS)),
    }


def case_sparse_and_ragged_inputs(hub: Any, modules: Any) -> Any:
    return {
        "sparse": hub.KerasLayer(modules("tf2/sparse"))(tf.sparse.from_dense([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])),
        "ragged": hub.KerasLayer(modules("tf2/ragged"))(tf.ragged.constant([[0, 1], [], [4]], dtype=tf.int64)),
    }


def case_the_object_behind_a_layer(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/text_embedding"))
    return layer.resolved_object(tf.constant(SENTENCES))


def case_mixed_with_other_layers_in_a_subclass(hub: Any, modules: Any) -> Any:
    class Model(keras.Model):  # type: ignore[misc]  # TensorFlow is untyped
        def __init__(self) -> None:
            super().__init__()
            self.embedding = hub.KerasLayer(modules("tf2/text_embedding"), trainable=True)
            self.top = keras.layers.Dense(1, kernel_initializer="ones")

        def call(self, sentences: Any) -> Any:
            return self.top(self.embedding(sentences))

    model = Model()
    return {"output": model(tf.constant(SENTENCES)), "weights": len(model.trainable_weights)}


def case_arguments(hub: Any, modules: Any) -> Any:
    path = modules("tf2/with_arguments")
    return {
        "default": hub.KerasLayer(path)(tf.constant(PAIRS)),
        "factor": hub.KerasLayer(path, arguments={"factor": 3.0})(tf.constant(PAIRS)),
    }


def case_training_follows_the_layer_and_the_call(hub: Any, modules: Any) -> Any:
    path, x = modules("tf2/with_arguments"), tf.constant(PAIRS)
    frozen, trainable = hub.KerasLayer(path), hub.KerasLayer(path, trainable=True)
    return [layer(x, training=training) for layer in (frozen, trainable) for training in (False, True)]


def case_signatures_and_keys(hub: Any, modules: Any) -> Any:
    plain, many, x = modules("tf2/plain"), modules("tf1/many"), tf.constant(X)
    two = {"a": tf.constant(PAIRS), "b": tf.constant(PAIRS)}
    return {
        "key": hub.KerasLayer(plain, signature="serving_default", output_key="y")(x),
        "dict": hub.KerasLayer(plain, signature="serving_default", signature_outputs_as_dict=True)(x),
        "tags": hub.KerasLayer(plain, tags=["serve"], signature="serving_default", output_key="y")(x),
        "inputs": hub.KerasLayer(many, signature="two_inputs", output_key="product")(two),
        "tf1_default": hub.KerasLayer(many, signature="two_inputs")(two),
        "tf1_dict": hub.KerasLayer(many, signature="two_inputs", signature_outputs_as_dict=True)(two),
        "tf1_extra": hub.KerasLayer(many, signature="extra", output_key="hidden")(tf.constant(PAIRS)),
        "tf1_tags": hub.KerasLayer(modules("tf1/ref_variables"), tags=["train"])(x),
    }


def case_output_shape(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/text_embedding"), output_shape=[3])
    sentences = keras.Input(shape=(), dtype="string")
    return {
        "computed": list(layer.compute_output_shape((None,))),
        "symbolic": list(layer(sentences).shape),
        "without": list(hub.KerasLayer(modules("tf2/text_embedding"))(sentences).shape),
    }


def case_weights_and_losses(hub: Any, modules: Any) -> Any:
    def of(trainable: bool) -> Any:
        layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=trainable)
        layer(tf.ones([1, 8, 8, 3]))
        return {
            "weights": sorted(list(weight.shape) for weight in layer.weights),
            "trainable": sorted(list(weight.shape) for weight in layer.trainable_weights),
            "losses": sum((float(loss) for loss in layer.losses), 0.0),
        }

    return [of(False), of(True)]


def case_losses_count_once_however_often_it_is_called(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/with_arguments"), trainable=True)
    x = keras.Input((2,))
    model = keras.Model(x, layer(layer(x)))
    model(tf.constant(PAIRS))
    return sum(float(loss) for loss in model.losses)


def case_trainable_can_change(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/with_arguments"), trainable=True)
    counts = []
    for trainable in (True, False, True):
        layer.trainable = trainable
        counts.append((len(layer.trainable_weights), len(layer.non_trainable_weights)))
    return counts


def case_fit(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/text_embedding"), trainable=True)
    dense = keras.layers.Dense(1)
    sentences = keras.Input(shape=(), dtype="string")
    model = keras.Model(sentences, dense(layer(sentences)))
    dense.set_weights([weights("kernel", [3, 1]), weights("bias", [1])])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(
        tf.constant(SENTENCES), tf.constant([[1.0], [2.0], [3.0]]), epochs=4, batch_size=3, shuffle=False, verbose=0
    )
    return {"loss": history.history["loss"], "weights": [layer.weights[0], *dense.get_weights()]}


def case_fit_with_a_regularization_loss(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/with_arguments"), trainable=True)
    x = keras.Input((2,))
    model = keras.Model(x, layer(x))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    history = model.fit(tf.constant(PAIRS), tf.zeros([2, 2]), epochs=3, batch_size=2, shuffle=False, verbose=0)
    return {"loss": history.history["loss"], "w": layer.weights[0]}


def case_what_is_frozen_stays(hub: Any, modules: Any) -> Any:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=False)
    before = [weight.numpy() for weight in layer.weights]
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Dense(1)(layer(images)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(tf.ones([2, 8, 8, 3]), tf.ones([2, 1]), verbose=0)
    return [bool((weight.numpy() == was).all()) for weight, was in zip(layer.weights, before, strict=True)]


def case_config(hub: Any, modules: Any) -> Any:
    path = modules("tf2/plain")
    layer = hub.KerasLayer(path, signature="serving_default", output_key="y", output_shape=[2], name="hub")
    config = layer.get_config()
    again = hub.KerasLayer.from_config(config)
    return {
        "config": {key: config[key] for key in ("name", "handle", "signature", "output_key")},
        "again": again(tf.constant(X)),
    }


def case_errors_of_layers(hub: Any, modules: Any) -> Any:
    plain = modules("tf2/plain")
    return {
        "no_signature": raised_by(lambda: hub.KerasLayer(plain)(tf.constant(X))),
        "unknown_signature": raised_by(lambda: hub.KerasLayer(plain, signature="nope", output_key="y")),
        "key_missing": raised_by(lambda: hub.KerasLayer(plain, signature="serving_default")),
        "key_unknown": raised_by(
            lambda: hub.KerasLayer(plain, signature="serving_default", output_key="nope")(tf.constant(X))
        ),
        "dict_without_signature": raised_by(
            lambda: hub.KerasLayer(modules("tf2/multi"), signature_outputs_as_dict=True)
        ),
        "no_default": raised_by(
            lambda: hub.KerasLayer(modules("tf1/many"), signature="no_default")(tf.constant(PAIRS))
        ),
    }
