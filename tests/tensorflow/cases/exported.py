"""Cases of modules that hubclient has exported and packed: they are anybody's to load."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tests.tensorflow.cases.examples import apply

keras: Any = tf.keras

X = [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]

# Of TensorFlow 1, exported by hubclient with other weights from the eager world, with what they take.
EAGER: dict[str, Any] = {"ref_variables": X, "text": ["the quick", "fox"], "variants": X}
# Exported by hubclient with other weights from a graph.
GRAPH = ("tf1/ref_variables", "tf1/variants", "tf2/image_feature_vector")


def case_an_exported_tf_module(hub: Any, modules: Any) -> Any:
    path = modules("exported/tf_module")
    module = hub.load(path)
    return {
        "call": module(tf.constant(X)),
        "signatures": {key: apply(module.signatures[key]) for key in sorted(module.signatures)},
        "losses": [loss() for loss in module.regularization_losses],
        "trainable": len(module.trainable_variables),
        "layer": hub.KerasLayer(path, trainable=True)(tf.constant(X)),
    }


def case_an_exported_keras_model(hub: Any, modules: Any) -> Any:
    path = modules("exported/keras_model")
    module, layer = hub.load(path), hub.KerasLayer(path, trainable=True)
    model = keras.Sequential([keras.Input((3,)), layer])
    before = {
        "call": module(tf.constant(X)),
        "signatures": {key: apply(module.signatures[key]) for key in sorted(module.signatures)},
        "predict": model.predict(tf.constant(X), verbose=0),
        "losses": sum(float(loss) for loss in layer.losses),
        "trainable": [weight.numpy() for weight in layer.trainable_weights],
    }
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(tf.constant(X), tf.zeros([2, 1]), verbose=0)
    return {**before, "trained": layer.trainable_weights}


def case_exported_variants(hub: Any, modules: Any) -> Any:
    path = modules("exported/variants")
    return [apply(hub.load(path, tags=tags).signatures["default"]) for tags in ([], ["train"])]


def case_modules_exported_eagerly(hub: Any, modules: Any) -> Any:
    def of(path: str, inputs: Any) -> Any:
        layer = hub.KerasLayer(path, trainable=True)
        return {
            "call": hub.load(path)(tf.constant(inputs)),
            "signature": apply(hub.load(path).signatures["default"]),
            "layer": layer(tf.constant(inputs)),
            "trainable": [list(weight.shape) for weight in layer.trainable_weights],
            "losses": sum(float(loss) for loss in layer.losses),
        }

    return {name: of(modules(f"exported/eager_{name}"), inputs) for name, inputs in EAGER.items()}


def case_modules_exported_from_a_graph(hub: Any, modules: Any) -> Any:
    paths = {name: modules(f"exported/graph_{name.rpartition('/')[2]}") for name in GRAPH}
    return {
        "inference": {name: apply(hub.load(path).signatures["default"]) for name, path in paths.items()},
        "layer": hub.KerasLayer(paths["tf1/ref_variables"])(tf.constant(X)),
        "train": list(apply(hub.load(paths["tf1/ref_variables"], tags=["train"]).signatures["default"])),
    }
