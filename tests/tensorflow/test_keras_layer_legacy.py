"""`KerasLayer` in Keras 2: by its own name in this process, and as `hubclient.KerasLayer` where TensorFlow says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.building import Modules

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore::DeprecationWarning:tf_keras")]
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("tf_keras")

IMAGES = np.random.default_rng(1).random((16, 8, 8, 3), dtype="float32")
ROWS = np.random.default_rng(2).normal(size=(16, 3)).astype("float32")
TARGETS = np.linspace(-1, 1, 16, dtype="float32")[:, None]


@pytest.fixture(scope="module")
def layer_class() -> Any:
    from hubclient.keras_layers.legacy import KerasLayer

    return KerasLayer


def values(layer: Any) -> dict[str, Any]:
    return {weight.name: weight.numpy() for weight in layer.weights}


def changed(before: dict[str, Any], layer: Any) -> set[str]:
    return {name for name, value in values(layer).items() if not np.array_equal(value, before[name])}


def trained(layer: Any, x: Any, epochs: int = 1) -> tuple[Any, list[float]]:
    dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), layer, dense])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    history = model.fit(x, TARGETS[: len(x)], epochs=epochs, batch_size=16, shuffle=False, verbose=0)
    return model, list(history.history["loss"])


@pytest.mark.parametrize("name", ["tf2/image_feature_vector", "tf1/variants"])
def test_fit_trains_the_module(modules: Modules, layer_class: Any, name: str) -> None:
    layer = layer_class(modules(name), trainable=True)
    assert isinstance(layer, keras.layers.Layer)
    before = values(layer)
    _, losses = trained(layer, IMAGES if name.startswith("tf2") else ROWS, epochs=60)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:3])
    # A bias in front of a batch normalization has no effect in training, and may stay as it is.
    assert changed(before, layer) | {"dense/bias:0"} >= before.keys()


@pytest.mark.parametrize("name", ["tf2/image_feature_vector", "tf1/variants"])
def test_a_frozen_layer_stays_as_it_is(modules: Modules, layer_class: Any, name: str) -> None:
    layer, x = layer_class(modules(name)), IMAGES if name.startswith("tf2") else ROWS
    before = values(layer)
    model, losses = trained(layer, x, epochs=5)
    assert losses[-1] < losses[0]
    assert changed(before, layer) == set()
    assert sum(float(loss) for loss in model.losses) == 0.0
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    np.testing.assert_allclose(layer(x), hub.Module(modules(name))(x, training=False), rtol=1e-5, atol=1e-6)


def test_moving_averages_move_and_dropout_drops_in_training_only(modules: Modules, layer_class: Any) -> None:
    layer = layer_class(modules("tf2/image_feature_vector"), trainable=True)
    before = values(layer)
    np.testing.assert_array_equal(layer(IMAGES), layer(IMAGES, training=False))
    assert changed(before, layer) == set()
    assert np.count_nonzero(layer(IMAGES, training=True)) < 0.8 * 16 * 5
    assert changed(before, layer) == {"norm/moving_mean:0", "norm/moving_variance:0"}


def test_regularization_counts_once_however_often_the_layer_is_called(modules: Modules, layer_class: Any) -> None:
    layer = layer_class(modules("tf2/image_feature_vector"), trainable=True)
    module = hub.Module(modules("tf2/image_feature_vector"), trainable=True)
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    model = keras.Model([left, right], layer(left) + layer(right))
    model([IMAGES, IMAGES], training=True)
    expected = [loss().numpy() for loss in module.regularization_losses]
    assert [loss.numpy() for loss in model.losses] == pytest.approx(expected)


def test_the_usual_idiom_for_texts_works(modules: Modules, layer_class: Any) -> None:
    path, texts = modules("tf2/text_embedding"), tf.constant(["the quick fox", "brown"])
    layer = layer_class(path, output_shape=[3], input_shape=[], dtype=tf.string, trainable=True)
    model = keras.Sequential([layer, keras.layers.Dense(1)])
    assert model.layers[0].output_shape == (None, 3)
    model.compile("sgd", "mse")
    model.fit(texts, np.ones((2, 1)), verbose=0)
    plain = layer_class(path)
    np.testing.assert_array_equal(plain(["the quick fox", "brown"]), hub.load(path)(texts))
    assert tuple(plain.compute_output_shape((None,))) == (None, 3)


def test_dicts_go_in_and_come_out(modules: Modules, layer_class: Any) -> None:
    inputs = {name: keras.Input((2,), name=name) for name in ("a", "b")}
    given = {"a": np.ones((3, 2), "float32"), "b": np.full((3, 2), 2.0, "float32")}
    layer = layer_class(modules("tf2/multi"))
    outputs = keras.Model(inputs, layer(inputs)).predict(given, verbose=0)
    np.testing.assert_array_equal(outputs["product"], given["b"])
    shapes = layer.compute_output_shape({"a": (None, 2), "b": (None, 2)})
    assert {name: tuple(shape) for name, shape in shapes.items()} == {"sum": (None, 2), "product": (None, 2)}


def test_a_mixed_policy_casts_at_both_ends_only(modules: Modules, layer_class: Any) -> None:
    layer = layer_class(modules("tf2/image_feature_vector"), trainable=True, dtype="mixed_bfloat16")
    output = layer(tf.cast(IMAGES, tf.bfloat16))
    assert output.dtype == tf.bfloat16
    assert {weight.dtype for weight in layer.weights} == {tf.float32}


@pytest.mark.parametrize("name", ["model.keras", "saved_model"])
def test_a_fine_tuned_model_is_saved_and_loaded(modules: Modules, layer_class: Any, tmp_path: Path, name: str) -> None:
    """With the layer's class by its old name, or by the one under which it is registered."""
    model, _ = trained(layer_class(modules("tf2/image_feature_vector"), trainable=True), IMAGES)
    if name == "saved_model":
        model.save(tmp_path / name, save_format="tf")
    else:
        model.save(tmp_path / name)
    named = {"custom_objects": {"KerasLayer": layer_class}} if name == "saved_model" else {}
    again = keras.models.load_model(tmp_path / name, **named)
    assert isinstance(again.layers[0], layer_class)
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), rtol=1e-5)


def test_a_file_whose_module_has_moved_tells_where_it_was(modules: Modules, layer_class: Any, tmp_path: Path) -> None:
    was = tmp_path / "module"
    shutil.copytree(modules("tf2/image_feature_vector"), was)
    keras.Sequential([keras.Input((8, 8, 3)), layer_class(was)]).save(tmp_path / "model.keras")
    was.rename(tmp_path / "moved")
    with pytest.raises(hub.NotFound, match=re.escape(f"there is no directory {was}")):
        keras.models.load_model(tmp_path / "model.keras")


def test_a_layer_of_an_object_is_saved_as_a_saved_model(modules: Modules, layer_class: Any, tmp_path: Path) -> None:
    layer = layer_class(hub.load(modules("tf2/text_embedding")))
    with pytest.raises(NotImplementedError, match="make it of a URL or a path"):
        layer.get_config()
    model = keras.Sequential([keras.Input((), dtype=tf.string), layer])
    tf.saved_model.save(model, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded(tf.constant(["fox"])), layer(["fox"]))


@pytest.mark.thorough  # test_same_as_tensorflow_hub has all its layers so
def test_hubclient_follows_the_keras_of_tensorflow(modules: Modules) -> None:
    program = (
        "import sys, numpy as np, hubclient as hub, tensorflow as tf, tf_keras\n"
        "layer = hub.KerasLayer(sys.argv[1], trainable=True)\n"
        "assert isinstance(layer, hub.KerasLayer) and isinstance(layer, tf_keras.layers.Layer)\n"
        "model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), layer, tf.keras.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(np.ones((2, 8, 8, 3)), np.ones((2, 1)), verbose=0)\n"
        "model.save(sys.argv[2])\n"
        "tf.keras.models.load_model(sys.argv[2])\n"
        "assert 'keras' not in sys.modules\n"
    )
    path = modules("tf2/image_feature_vector")
    done = subprocess.run(
        [sys.executable, "-c", program, path, "model.keras"],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        cwd=os.path.dirname(path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
