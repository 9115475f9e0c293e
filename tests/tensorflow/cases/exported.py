"""Cases of modules that hubclient has exported and packed: they are anybody's to load."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tests.tensorflow.cases.examples import apply

X = [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]


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
    module = hub.load(path)
    return {
        "call": module(tf.constant(X)),
        "signatures": {key: apply(module.signatures[key]) for key in sorted(module.signatures)},
        "layer": hub.KerasLayer(path)(tf.constant(X)),
        "trainable": len(module.trainable_variables),
    }


def case_a_module_fine_tuned_in_eager_mode(hub: Any, modules: Any) -> Any:
    return apply(hub.load(modules("exported/fine_tuned_eager")).signatures["default"])


def case_a_module_fine_tuned_in_graph_mode(hub: Any, modules: Any) -> Any:
    path = modules("exported/fine_tuned_graph")
    return {
        "inference": apply(hub.load(path).signatures["default"]),
        "layer": hub.KerasLayer(path)(tf.constant(X)),
        "train": list(apply(hub.load(path, tags=["train"]).signatures["default"])),
    }
