"""`KerasLayer` in Keras 3: what it computes, for all kinds of modules, inputs and models."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.building import Modules
from tests.support.handmade_cache import HandmadeCache, is_leased

pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3 with numpy 2, for its own layers too.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras", minversion="3")

IMAGES = np.random.default_rng(1).random((4, 8, 8, 3), dtype="float32")
TEXTS = ["the quick fox", "brown", "nothing known"]


def equal(actual: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            equal(actual[name], value)
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def sequential(layer: Any) -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), layer])


def functional(layer: Any) -> Any:
    images = keras.Input((None, None, 3))
    return keras.Model(images, layer(images))


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras is untyped
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def call(self, images: Any) -> Any:
        return self.layer(images)


@pytest.mark.parametrize("build", [sequential, functional, Subclassed])
def test_a_model_gives_what_the_module_gives(modules: Modules, build: Callable[[Any], Any]) -> None:
    path = modules("tf2/image_feature_vector")
    model = build(hub.KerasLayer(path))
    equal(model.predict(IMAGES, verbose=0), hub.load(path)(IMAGES))
    equal(model(IMAGES), hub.load(path)(IMAGES))


def test_it_is_a_class_of_keras(modules: Modules) -> None:
    class Mine(hub.KerasLayer):  # type: ignore[misc]  # Keras is untyped
        def call(self, inputs: Any, training: bool | None = None) -> Any:
            return -super().call(inputs, training)

    layer = Mine(modules("tf2/image_feature_vector"), name="mine")
    assert isinstance(layer, hub.KerasLayer)
    assert isinstance(layer, keras.layers.Layer)
    equal(layer(IMAGES), -hub.KerasLayer(modules("tf2/image_feature_vector"))(IMAGES))


@pytest.mark.parametrize("form", [Path, lambda path: f"file://{path}", hub.load], ids=["pathlib", "file", "object"])
def test_a_handle_may_be_a_path_or_a_loaded_object(modules: Modules, form: Callable[[str], Any]) -> None:
    path = modules("tf2/image_feature_vector")
    layer = hub.KerasLayer(form(path), trainable=True)
    assert len(layer.trainable_weights) == 4
    equal(layer(IMAGES), hub.load(path)(IMAGES))


def test_a_callable_is_a_handle_too() -> None:
    layer = hub.KerasLayer(lambda x, scale=1.0: x * scale, arguments={"scale": 3.0})
    model = keras.Sequential([keras.Input((2,)), layer])
    equal(model.predict(np.ones((1, 2)), verbose=0), [[3.0, 3.0]])


def test_a_module_instance_is_a_handle_too(modules: Modules) -> None:
    module = hub.Module(modules("tf2/image_feature_vector"), trainable=True)
    layer = hub.KerasLayer(module, trainable=True)
    assert len(layer.trainable_weights) == 4
    equal(layer(IMAGES, training=False), module(IMAGES, training=False))


def test_texts_need_no_dtype(modules: Modules) -> None:
    path = modules("tf2/text_embedding")
    expected = hub.load(path)(tf.constant(TEXTS))
    layer = hub.KerasLayer(path)
    equal(layer(TEXTS), expected)
    equal(layer(np.array(TEXTS)), expected)
    unbuilt = keras.Sequential([hub.KerasLayer(path)])
    equal(unbuilt.predict(tf.constant(TEXTS), verbose=0), expected)
    built = keras.Sequential([keras.Input((), dtype="string"), layer])
    equal(built.predict(tf.constant(TEXTS), verbose=0), expected)


def test_the_usual_idiom_for_texts_works(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/text_embedding"), output_shape=[3], input_shape=[], dtype=tf.string)
    model = keras.Sequential([layer, keras.layers.Dense(1)])
    assert model.predict(tf.constant(TEXTS), verbose=0).shape == (3, 1)


def test_input_shape_builds_a_sequential_model(modules: Modules) -> None:
    model = keras.Sequential([hub.KerasLayer(modules("tf2/image_feature_vector"), input_shape=(8, 8, 3))])
    assert model.output_shape == (None, 5)


def test_dicts_go_in_and_come_out(modules: Modules) -> None:
    path = modules("tf2/multi")
    inputs = {name: keras.Input((2,), name=name) for name in ("a", "b")}
    given = {"a": np.ones((3, 2), "float32"), "b": np.full((3, 2), 2.0, "float32")}
    model = keras.Model(inputs, hub.KerasLayer(path)(inputs))
    equal(model.predict(given, verbose=0), hub.load(path)(given))
    of_one = keras.Model(inputs, hub.KerasLayer(path, output_key="product")(inputs))
    equal(of_one.predict(given, verbose=0), given["a"] * given["b"])


def test_a_signature_gives_one_output_or_all(modules: Modules) -> None:
    path, x = modules("tf2/plain"), np.ones((2, 3), "float32")
    expected = hub.load(path).signatures["serving_default"](x=tf.constant(x))
    one = hub.KerasLayer(path, signature="serving_default", output_key="y")
    equal(keras.Sequential([keras.Input((3,)), one]).predict(x, verbose=0), expected["y"])
    every = hub.KerasLayer(path, signature="serving_default", signature_outputs_as_dict=True)
    equal(every({"x": x}), expected)


def test_arguments_fill_inputs_of_a_signature(modules: Modules) -> None:
    layer = hub.KerasLayer(
        modules("tf2/multi"), signature="default", output_key="product", arguments={"b": [[2.0, 3.0]]}
    )
    equal(layer(np.ones((1, 2))), [[2.0, 3.0]])


def test_ragged_and_sparse_inputs(modules: Modules) -> None:
    rows = tf.ragged.constant([[1, 2], [3]], dtype=tf.int64)
    ids = keras.Input((None,), dtype="int64", ragged=True)
    layer = hub.KerasLayer(modules("tf2/ragged"))
    equal(keras.Model(ids, layer(ids))(rows), hub.load(modules("tf2/ragged"))(rows))
    matrix = tf.sparse.from_dense([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    values = keras.Input((3,), sparse=True)
    layer = hub.KerasLayer(modules("tf2/sparse"))
    equal(keras.Model(values, layer(values))(matrix), hub.load(modules("tf2/sparse"))(matrix))


def test_a_dense_input_that_keras_calls_sparse_is_dense(modules: Modules) -> None:
    images = keras.Input((8, 8, 3))
    doubled = images * 2
    assert doubled.sparse  # although neither factor is
    path = modules("tf2/image_feature_vector")
    equal(keras.Model(images, hub.KerasLayer(path)(doubled)).predict(IMAGES, verbose=0), hub.load(path)(2 * IMAGES))


def test_ragged_and_sparse_outputs(modules: Modules) -> None:
    rows = tf.ragged.constant([[1.0], [2.0, 3.0]])
    loaded = hub.load(modules("tf2/ragged"))
    layer = hub.KerasLayer(loaded.scaled)
    assert layer(keras.Input((None,), ragged=True)).ragged
    equal(layer(rows).values, loaded.scaled(rows).values)
    matrix = tf.sparse.from_dense([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    loaded = hub.load(modules("tf2/sparse"))
    layer = hub.KerasLayer(loaded.scaled)
    output = layer(keras.Input((3,), sparse=True))
    assert output.sparse
    assert len(output.shape) == 2
    equal(layer(matrix).values, loaded.scaled(matrix).values)


@pytest.mark.parametrize("name", ["tf1/variants", "tf1/text"])
def test_modules_in_the_tf1_format_apply_default(modules: Modules, name: str) -> None:
    path, inputs = modules(name), tf.constant(TEXTS) if name == "tf1/text" else tf.ones([3, 3])
    shape, dtype = ((), "string") if name == "tf1/text" else ((3,), "float32")
    model = keras.Sequential([keras.Input(shape, dtype=dtype), hub.KerasLayer(path)])
    equal(model.predict(inputs, verbose=0), hub.Module(path)(inputs))


def test_output_shapes_are_known_without_a_run(modules: Modules) -> None:
    assert hub.KerasLayer(modules("tf2/image_feature_vector")).compute_output_shape((None, 8, 8, 3)) == (None, 5)
    assert hub.KerasLayer(modules("tf2/text_embedding")).compute_output_shape((None,)) == (None, 3)
    shapes = hub.KerasLayer(modules("tf2/multi")).compute_output_shape({"a": (None, 2), "b": (None, 2)})
    assert shapes == {"sum": (None, 2), "product": (None, 2)}
    counter = hub.KerasLayer(modules("tf2/stateful"))
    counter.compute_output_shape((1,))
    equal(counter(np.zeros(1, "float32")), [1.0])


def test_output_shape_says_what_the_module_does_not() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 2])])  # type: ignore[untyped-decorator]
    def vague(x: Any) -> Any:
        return tf.py_function(lambda x: x, [x], tf.float32)

    with pytest.raises(hub.InputInvalid, match=r"give output_shape="):
        hub.KerasLayer(vague)(keras.Input((2,)))
    layer = hub.KerasLayer(vague, output_shape=[2])
    assert layer(keras.Input((2,))).shape == (None, 2)
    assert layer.compute_output_shape((5, 2)) == (5, 2)
    with pytest.raises(hub.InputInvalid, match=r"output_shape=\(3,\) is not what the module returns"):
        hub.KerasLayer(vague, output_shape=[3])(np.ones((1, 2)))


def test_a_mixed_policy_casts_at_both_ends_only(modules: Modules) -> None:
    path = modules("tf2/image_feature_vector")
    layer = hub.KerasLayer(path, trainable=True, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((8, 8, 3), dtype="bfloat16"), layer])
    output = model(tf.cast(IMAGES, tf.bfloat16))
    assert output.dtype == tf.bfloat16
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    np.testing.assert_allclose(tf.cast(output, tf.float32), hub.load(path)(IMAGES), rtol=0.05, atol=0.05)


def test_floats_are_cast_to_what_the_module_takes(modules: Modules) -> None:
    path = modules("tf2/image_feature_vector")
    equal(hub.KerasLayer(path)(IMAGES.astype("float64")), hub.load(path)(IMAGES))


def test_xla_is_left_out_of_models_with_a_module(modules: Modules) -> None:
    model = keras.Sequential([keras.Input((), dtype="string"), hub.KerasLayer(modules("tf2/text_embedding"))])
    model.compile(loss="mse", jit_compile="auto")
    assert not model.jit_compile


def test_the_lease_lives_as_long_as_the_layer(modules: Modules, cache: HandmadeCache) -> None:
    module = Path(modules("tf2/image_feature_vector"))
    files = {str(file.relative_to(module)): file.read_bytes() for file in module.rglob("*") if file.is_file()}
    digest = cache.add("https://example.org/m/1", files)
    layer = hub.KerasLayer("https://example.org/m/1")
    assert is_leased(cache.layout, digest)
    assert layer(IMAGES).shape == (4, 5)
    del layer
    gc.collect()
    assert not is_leased(cache.layout, digest)


def test_importing_hubclient_imports_no_keras() -> None:
    program = (
        "import sys, hubclient, hubclient.keras_layer\n"
        "print(sorted({'keras', 'tensorflow', 'tf_keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
