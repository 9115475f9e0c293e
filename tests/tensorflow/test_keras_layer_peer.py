"""What tensorflow_hub's `KerasLayer` left in files of tf_keras is read with hubclient's, in tf_keras and in Keras 3."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.building import Modules
from tests.support.peer import peer_python

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tf_keras"),
    # Keras 3 with numpy 2, for its own layers too.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras", minversion="3")
tf_keras: Any = pytest.importorskip("tf_keras")

IMAGES = np.random.default_rng(1).random((4, 8, 8, 3), dtype="float32")
TEXTS = tf.constant(["the quick fox", "brown"])

PROGRAM = """
import sys, numpy, tf_keras, tensorflow as tf, tensorflow_hub as hub
of_images, of_texts = sys.argv[1:]
images = numpy.load("images.npy")
layer = hub.KerasLayer(of_images, trainable=True)
model = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), layer, tf_keras.layers.Dense(1, name="top")])
model.compile("sgd", "mse")
model.fit(images, numpy.ones((4, 1)), verbose=0)
for name in ("images.keras", "images.h5", "images"):
    model.save(name)
model.save_weights("images.weights.h5")
model.save_weights("weights")
numpy.save("images.predicted.npy", model.predict(images, verbose=0))
layer = hub.KerasLayer(of_texts, output_shape=[3], input_shape=[], dtype=tf.string)
model = tf_keras.Sequential([layer, tf_keras.layers.Dense(1, name="top")])
for name in ("texts.keras", "texts.h5", "texts"):
    model.save(name)
numpy.save("texts.predicted.npy", model.predict(tf.constant(["the quick fox", "brown"]), verbose=0))
"""


@pytest.fixture(scope="module")
def files(modules: Modules, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of what tensorflow_hub's layer wrote, and what its models predicted."""
    directory = tmp_path_factory.mktemp("files")
    np.save(directory / "images.npy", IMAGES)
    done = subprocess.run(
        [peer_python(), "-c", PROGRAM, modules("tf2/image_feature_vector"), modules("tf2/text_embedding")],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return directory


@pytest.fixture(scope="module")
def layer_class() -> Any:
    from hubclient.keras_layers.legacy import KerasLayer

    return KerasLayer


@pytest.mark.parametrize("name", ["images.keras", "images.h5", "images", "texts.keras", "texts.h5", "texts"])
def test_tf_keras_loads_a_model(files: Path, layer_class: Any, name: str) -> None:
    kind = name.partition(".")[0]
    model = tf_keras.models.load_model(files / name, custom_objects={"KerasLayer": layer_class})
    assert isinstance(model.layers[0], layer_class)
    predicted = model.predict(IMAGES if kind == "images" else TEXTS, verbose=0)
    np.testing.assert_allclose(predicted, np.load(files / f"{kind}.predicted.npy"), rtol=1e-5)


@pytest.mark.parametrize("name", ["images.keras", "images.h5", "texts.keras", "texts.h5"])
def test_keras_3_loads_a_model(files: Path, name: str) -> None:
    kind = name.partition(".")[0]
    model = keras.models.load_model(files / name, custom_objects={"KerasLayer": hub.KerasLayer}, compile=False)
    assert isinstance(model.layers[0], hub.KerasLayer)
    predicted = model.predict(IMAGES if kind == "images" else TEXTS, verbose=0)
    np.testing.assert_allclose(predicted, np.load(files / f"{kind}.predicted.npy"), rtol=1e-5)


@pytest.mark.parametrize("name", ["images.weights.h5", "weights"])
def test_tf_keras_loads_weights(files: Path, layer_class: Any, modules: Modules, name: str) -> None:
    layer = layer_class(modules("tf2/image_feature_vector"), trainable=True)
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), layer, tf_keras.layers.Dense(1, name="top")])
    model.load_weights(files / name)
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), np.load(files / "images.predicted.npy"), rtol=1e-5)
