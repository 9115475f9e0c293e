"""Cases of `load` and `resolve`: what is loaded, from where, and which variant."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import tensorflow as tf

from tests.support.tf1_modules import MODULES as TF1
from tests.support.tf2_modules import MODULES as TF2
from tests.tensorflow.cases.examples import apply, raised_by


def case_signatures_of_tf1_modules(hub: Any, modules: Any) -> Any:
    loaded = {name: hub.load(modules(f"tf1/{name}")) for name in TF1}
    return {
        name: {key: apply(module.signatures[key]) for key in sorted(module.signatures)}
        for name, module in loaded.items()
    }


def case_signatures_of_tf2_modules(hub: Any, modules: Any) -> Any:
    loaded = {name: hub.load(modules(f"tf2/{name}")) for name in TF2}
    return {
        name: {key: apply(module.signatures[key]) for key in sorted(module.signatures)}
        for name, module in loaded.items()
    }


def case_calls_of_tf2_modules(hub: Any, modules: Any) -> Any:
    def load(name: str) -> Any:
        return hub.load(modules(f"tf2/{name}"))

    ragged, sparse = load("ragged"), load("sparse")
    a, b = tf.constant([[1.0, 2.0]]), tf.constant([[3.0, -4.0]])
    ids = tf.ragged.constant([[0, 1], [], [4]], dtype=tf.int64)
    matrix = tf.sparse.from_dense([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])
    return {
        "text": load("text_embedding")(["the quick fox", "", "nothing known"]),
        "image": load("image_feature_vector")(tf.ones([2, 8, 8, 3])),
        "multi": load("multi")({"a": a, "b": b}),
        "arguments": load("with_arguments")(a, tf.constant(3.0)),
        "ragged": ragged(ids),
        "ragged_output": ragged.scaled(tf.cast(ids, tf.float32)),
        "sparse": sparse(matrix),
        "sparse_output": sparse.scaled(matrix),
        "is_callable": {name: callable(load(name)) for name in TF2},
    }


def case_what_a_tf2_module_offers_for_training(hub: Any, modules: Any) -> Any:
    module = hub.load(modules("tf2/image_feature_vector"))
    return {
        "variables": list(module.variables),
        "trainable": [variable.shape.as_list() for variable in module.trainable_variables],
        "losses": [loss() for loss in module.regularization_losses],
    }


def case_gradients_of_a_tf2_module(hub: Any, modules: Any) -> Any:
    module = hub.load(modules("tf2/image_feature_vector"))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(module(tf.ones([2, 8, 8, 3]), training=False) ** 2)
        loss = y + tf.add_n([each() for each in module.regularization_losses])
    return tape.gradient(loss, module.trainable_variables)


def case_updates_of_a_tf2_module(hub: Any, modules: Any) -> Any:
    module = hub.load(modules("tf2/image_feature_vector"))
    module(tf.ones([2, 8, 8, 3]), training=True)
    return list(module.variables)


def case_state_stays_with_the_loaded_object(hub: Any, modules: Any) -> Any:
    one, other = hub.load(modules("tf2/stateful")), hub.load(modules("tf2/stateful"))
    return [one([0.0]), one([0.0]), other([0.0])]


def case_variants_by_tags(hub: Any, modules: Any) -> Any:
    module = modules("tf1/ref_variables")
    return {
        str(tags): apply(hub.load(module, tags=tags).signatures["default"])
        for tags in (None, [], set(), ["train"], {"train"})
    } | {"serve": apply(hub.load(modules("tf1/plain"), tags=["serve"]).signatures["serving_default"])}


def case_options_reach_tensorflow(hub: Any, modules: Any) -> Any:
    options = tf.saved_model.LoadOptions(allow_partial_checkpoint=True)
    return hub.load(modules("tf2/text_embedding"), options=options)(["the fox"])


def case_resolve_answers_a_directory_with_itself(hub: Any, modules: Any) -> Any:
    path = modules("tf2/multi")
    return hub.resolve(path) == path


def case_paths_of_every_form(hub: Any, modules: Any) -> Any:
    path = modules("tf2/text_embedding")
    forms = {"relative": os.path.relpath(path), "slash": path + "/", "file": "file://" + path}
    return {form: hub.load(handle)(["the fox"]) for form, handle in forms.items()}


def case_a_hosted_module_is_fetched(hub: Any, modules: Any) -> Any:
    handle = os.environ["HUBD_TEST_HANDLE"]
    root = pathlib.Path(hub.resolve(handle))
    return {
        "files": sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()),
        "output": hub.load(handle)(["the quick fox"]),
        "newest": hub.load(handle.rpartition("/")[0])(["the quick fox"]),
        "layer": hub.KerasLayer(handle)(tf.constant(["the quick fox"])),
    }


def case_errors_of_load(hub: Any, modules: Any) -> Any:
    nothing = os.path.join(modules("tf2/multi"), "assets")
    return {
        "wrong_tags_tf1": raised_by(lambda: hub.load(modules("tf1/variants"), tags=["nope"])),
        "wrong_tags_tf2": raised_by(lambda: hub.load(modules("tf2/multi"), tags=["nope"])),
        "no_directory": raised_by(lambda: hub.load(nothing + "/no/such")),
        "no_module": raised_by(lambda: hub.load(nothing)),
    }
