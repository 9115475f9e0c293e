"""Exported and packed modules in other hands: tensorflow_hub, over HTTP as from a path, and the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hubclient
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.peer import peer_python

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")

X = [[1.0, 2.0], [3.0, -4.0]]
SPEC = tf.TensorSpec([None, 2], tf.float32)

PROGRAM = """
import json, sys
import tensorflow as tf, tensorflow_hub as hub, tf_keras
handle, variants, x = json.load(sys.stdin)
x = tf.constant(x)
loaded = hub.load(handle)
layer = hub.KerasLayer(handle, trainable=True)
model = tf_keras.Sequential([tf_keras.Input((2,)), layer])
before = [v.numpy().tolist() for v in layer.trainable_weights]
regularization = float(sum(layer.losses))
predicted = model.predict(x, verbose=0).tolist()
model.compile(tf_keras.optimizers.SGD(0.1), "mse")
model.fit(x, tf.zeros([2, 2]), epochs=1, verbose=0)
print(json.dumps({
    "call": loaded(x).numpy().tolist(),
    "signature": loaded.signatures["default"](x)["default"].numpy().tolist(),
    "predict": predicted,
    "losses": regularization,
    "trainable": before,
    "trained": [v.numpy().tolist() for v in layer.trainable_weights],
    "inference": hub.load(variants, tags=[]).signatures["default"](x)["default"].numpy().tolist(),
    "train": hub.load(variants, tags=["train"]).signatures["default"](x)["default"].numpy().tolist(),
}))
"""


@pytest.fixture(scope="module")
def model() -> Any:
    made = keras.Sequential(
        [
            keras.Input((2,), name="x"),
            keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.25)),
            keras.layers.BatchNormalization(),
        ]
    )
    made.layers[-1].moving_mean.assign([1.0, -1.0])
    made.layers[-1].moving_variance.assign([4.0, 0.5])
    return made


@pytest.fixture(scope="module")
def archive(model: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("packed")
    packed = hubclient.pack(hubclient.export(model, directory / "model"), directory / "model.tar.gz")
    return Path(packed.path).read_bytes()


def test_tensorflow_hub_loads_calls_and_trains_what_was_exported_and_packed(
    model: Any, archive: bytes, origin: Origin, tmp_path: Path
) -> None:
    weight = tf.Variable([[2.0, 3.0]])
    variants = hubclient.export(
        lambda x: x * weight, tmp_path / "variants", tags=(), inputs=SPEC, variants={"train": lambda x: -x * weight}
    )
    environ = {"TFHUB_CACHE_DIR": str(tmp_path / "cache"), "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [peer_python(), "-c", PROGRAM],
        input=json.dumps([origin.serve("/m/1", Answer(archive)), variants, X]),
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    wanted = model(tf.constant(X), training=False).numpy()
    for way in ("call", "signature", "predict"):
        assert tf.constant(told[way]).numpy() == pytest.approx(wanted), way
    assert told["losses"] == pytest.approx(float(sum(model.losses)))
    for ours, theirs in zip(model.trainable_variables, told["trainable"], strict=True):
        assert tf.constant(theirs).numpy() == pytest.approx(ours.numpy())
    assert told["trained"] != told["trainable"]
    assert told["inference"] == [[2, 6], [6, -12]]
    assert told["train"] == [[-2, -6], [-6, 12]]


def test_the_daemon_fetches_it_and_the_client_loads_it(
    model: Any, archive: bytes, origin: Origin, daemon: Daemon
) -> None:
    handle = origin.serve("/m/1", Answer(archive))
    status, answer = daemon.resolve(handle)
    assert status == 200, answer
    wanted = model(tf.constant(X), training=False).numpy()
    assert hubclient.load(answer["path"])(tf.constant(X)).numpy() == pytest.approx(wanted)
    program = "import sys, hubclient; print(*hubclient.load(sys.argv[1]).signatures)"
    environ = {**os.environ, "HUBD_SOCKET": str(daemon.socket), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program, handle], env=environ, capture_output=True, text=True, timeout=100, check=True
    )
    assert sorted(done.stdout.split()) == ["default", "serving_default"]
