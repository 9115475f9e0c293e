"""`KerasLayer` in Keras 3, saved and loaded again: configs, weights, whole models, SavedModels."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.building import Modules

pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3 with numpy 2, for its own layers too.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras", minversion="3")

IMAGES = np.random.default_rng(1).random((4, 8, 8, 3), dtype="float32")
TEXTS = tf.constant(["the quick fox", "brown", "nothing known"])

Elsewhere = dict[str, tuple[Any, Any]]


@pytest.fixture(scope="module")
def tuned(modules: Modules) -> Any:
    """A model whose layer's weights are no longer the module's: to save, and not to change."""
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.ones((4, 2)), epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def predicted(tuned: Any) -> Any:
    return tuned.predict(IMAGES, verbose=0)


def by_export(model: Any, path: str) -> None:
    model.export(path, verbose=False)


TEXT_MODELS: dict[str, tuple[Callable[[Any, str], None], str]] = {
    "export-tf2": (by_export, "tf2/text_embedding"),
    "export-tf1": (by_export, "tf1/text"),
    "save-tf2": (tf.saved_model.save, "tf2/text_embedding"),
    "save-tf1": (tf.saved_model.save, "tf1/text"),
}

ELSEWHERE = """
import sys, numpy, hubclient as hub
hub.KerasLayer
import keras, tensorflow as tf
model = keras.models.load_model("model.keras")
numpy.save("model.keras.npy", model.predict(numpy.load("images.npy"), verbose=0))
texts = tf.constant(["the quick fox", "brown", "nothing known"])
for name in sys.argv[1:]:
    (output,) = tf.saved_model.load(name).signatures["serving_default"](texts).values()
    numpy.save(name + ".npy", output)
"""


@pytest.fixture(scope="module")
def elsewhere(tuned: Any, predicted: Any, modules: Modules, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """What models predict here, and what their files do in another process, to which no table of this one is known."""
    directory = tmp_path_factory.mktemp("elsewhere")
    tuned.save(directory / "model.keras")
    np.save(directory / "images.npy", IMAGES)
    given = {"model.keras": predicted}
    for name, (write, module) in TEXT_MODELS.items():
        texts = keras.Sequential([keras.Input((), dtype="string"), hub.KerasLayer(modules(module))])
        write(texts, str(directory / name))
        assert list((directory / name / "assets").iterdir())
        given[name] = texts.predict(TEXTS, verbose=0)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *TEXT_MODELS], cwd=directory, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return {name: (value, np.load(directory / f"{name}.npy")) for name, value in given.items()}


def test_the_config_keeps_all_arguments(modules: Modules) -> None:
    layer = hub.KerasLayer(
        modules("tf2/multi"),
        arguments={"b": [[1.0, 2.0]]},
        tags={"serve"},
        signature="default",
        output_key="product",
        output_shape=(2,),
        load_options=tf.saved_model.LoadOptions(experimental_io_device="/job:localhost"),
        name="products",
    )
    config = json.loads(json.dumps(layer.get_config()))
    again = hub.KerasLayer.from_config(config)
    assert again.get_config() == config
    assert {key: config[key] for key in ("arguments", "tags", "signature", "output_key", "output_shape", "name")} == {
        "arguments": {"b": [[1.0, 2.0]]},
        "tags": ["serve"],
        "signature": "default",
        "output_key": "product",
        "output_shape": [2],
        "name": "products",
    }
    assert config["load_options"] == {"experimental_io_device": "/job:localhost"}
    np.testing.assert_array_equal(again(np.ones((1, 2))), [[1.0, 2.0]])


def test_the_config_keeps_nests_of_shapes(modules: Modules) -> None:
    shapes = {"sum": (2,), "product": [None]}
    config = hub.KerasLayer(modules("tf2/multi"), trainable=True, output_shape=shapes).get_config()
    assert config["output_shape"] == {"sum": [2], "product": [None]}
    assert config["trainable"]


def test_a_config_can_hold_neither_objects_nor_tensors(modules: Modules) -> None:
    with pytest.raises(hub.ModuleUnsupported, match="make it of a URL or a path"):
        hub.KerasLayer(lambda x: x).get_config()
    layer = hub.KerasLayer(
        modules("tf2/multi"), signature="default", output_key="sum", arguments={"b": tf.ones([1, 2])}
    )
    with pytest.raises(hub.InputInvalid, match=r"arguments\['b'\] is a .*Tensor"):
        layer.get_config()


@pytest.mark.parametrize("custom_objects", [False, True], ids=["registered", "custom_objects"])
def test_a_fine_tuned_model_survives_a_keras_file(
    tuned: Any, predicted: Any, tmp_path: Path, custom_objects: bool
) -> None:
    tuned.save(tmp_path / "model.keras")
    named = {"custom_objects": {"KerasLayer": hub.KerasLayer}} if custom_objects else {}
    again = keras.models.load_model(tmp_path / "model.keras", **named)
    assert isinstance(again.layers[0], hub.KerasLayer)
    assert again.layers[0].trainable
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), predicted, rtol=1e-5)
    again.fit(IMAGES, np.ones((4, 2)), verbose=0)
    assert not np.array_equal(again.layers[0].get_weights()[0], tuned.layers[0].get_weights()[0])


def test_a_tf1_module_survives_a_keras_file(modules: Modules, tmp_path: Path) -> None:
    rows = np.ones((2, 3), "float32")
    model = keras.Sequential([keras.Input((3,)), hub.KerasLayer(modules("tf1/variants"), trainable=True)])
    model.compile("sgd", "mse")
    model.fit(rows, np.ones((2, 4)), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(rows, verbose=0), model.predict(rows, verbose=0), rtol=1e-5)


def test_a_keras_file_whose_module_has_moved_tells_where_it_was(modules: Modules, tmp_path: Path) -> None:
    was = tmp_path / "module"
    shutil.copytree(modules("tf2/image_feature_vector"), was)
    inner = keras.Sequential([keras.Input((8, 8, 3)), hub.KerasLayer(was)])
    keras.Sequential([keras.Input((8, 8, 3)), inner]).save(tmp_path / "model.keras")
    was.rename(tmp_path / "moved")
    with pytest.raises(hub.NotFound, match=re.escape(f"there is no directory {was}")):
        keras.models.load_model(tmp_path / "model.keras")


def test_another_process_loads_a_keras_file_once_the_layer_was_touched(elsewhere: Elsewhere) -> None:
    given, there = elsewhere["model.keras"]
    np.testing.assert_allclose(there, given, rtol=1e-5)


@pytest.mark.parametrize("name", ["model.weights.h5", "checkpoint"])
def test_weights_are_saved_and_restored(
    tuned: Any, predicted: Any, modules: Modules, tmp_path: Path, name: str
) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    other = keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Dense(2)])
    if name == "checkpoint":
        saved = tf.train.Checkpoint(model=tuned).write(str(tmp_path / name))
        tf.train.Checkpoint(model=other).read(saved).expect_partial()
    else:
        tuned.save_weights(tmp_path / name)
        other.load_weights(tmp_path / name)
    np.testing.assert_allclose(other.predict(IMAGES, verbose=0), predicted, rtol=1e-5)


def test_setting_weights_sets_the_modules(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"))
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    np.testing.assert_array_equal(layer(IMAGES), np.zeros((4, 5)))
    np.testing.assert_array_equal(layer.resolved_object(IMAGES), np.zeros((4, 5)))


def test_a_model_can_be_cloned_and_pickled(tuned: Any, predicted: Any) -> None:
    clone = keras.models.clone_model(tuned)
    clone.set_weights(tuned.get_weights())
    np.testing.assert_allclose(clone(IMAGES), predicted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(tuned))(IMAGES), predicted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_a_saved_model_takes_the_tables_along(elsewhere: Elsewhere, name: str) -> None:
    given, there = elsewhere[name]
    np.testing.assert_allclose(there, given, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("write", [by_export, tf.saved_model.save], ids=["export", "saved_model.save"])
def test_a_saved_model_has_the_fine_tuned_weights(
    tuned: Any, predicted: Any, tmp_path: Path, write: Callable[[Any, str], None]
) -> None:
    write(tuned, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    (output,) = loaded.signatures["serving_default"](tf.constant(IMAGES)).values()
    np.testing.assert_allclose(output, predicted, rtol=1e-5)
