"""What hubclient and tensorflow_hub have in common gives the same: one list of cases, two libraries, equal results.

Law: both see the same modules, each in a process of its own; tensorflow_hub knows tf_keras alone, hubclient both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hubclient
from tests.support.building import Modules
from tests.support.daemon import Daemon
from tests.support.host import Host
from tests.support.library import put
from tests.support.peer import differences, peer_python, run
from tests.support.weights import weights

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(600)]
tf: Any = pytest.importorskip("tensorflow")
pytest.importorskip("tf_keras")
from tests.tensorflow.cases.exported import EAGER, GRAPH  # noqa: E402  # which needs TensorFlow

v1: Any = tf.compat.v1


def change_and_export_eagerly(source: str, path: str) -> None:
    module = hubclient.Module(source, trainable=True)
    for variable in module.variables:
        variable.assign(variable * 1.5)
    module.export(path)


def change_and_export_from_a_graph(source: str, path: str) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        module = hubclient.Module(source, trainable=True)
        changes = [v1.assign_add(variable, tf.fill(variable.shape, 0.25)) for variable in module.trainable_variables]
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        session.run(changes)
        module.export(path, session)


def export_a_tf_module(path: str) -> None:
    module = tf.Module()
    module.w = tf.Variable(weights("w", [3, 2]), name="w")
    module.__call__ = tf.function(lambda x: x @ module.w, input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    module.regularization_losses = [tf.function(lambda: tf.nn.l2_loss(module.w), input_signature=[])]
    hubclient.export(module, path)


def export_variants(path: str) -> None:
    w, spec = tf.Variable(weights("w", [3])), tf.TensorSpec([None, 3], tf.float32)
    hubclient.export(lambda x: x * w, path, tags=(), inputs=spec, variants={"train": lambda x: -x * w})


def export_a_keras_model(path: str) -> None:
    import keras

    dense = keras.layers.Dense(2, "tanh", kernel_regularizer=keras.regularizers.L2(0.25))
    model = keras.Sequential(
        [keras.Input((3,), name="x"), dense, keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    for variable in model.variables:
        variable.assign(1.0 + 0.5 * weights(variable.path, variable.shape))  # a variance is positive
    hubclient.export(model, path)


@pytest.fixture(scope="session")
def shared(modules: Modules) -> Modules:
    """All modules of the cases, hubclient's exports among them, so that no process builds any."""
    from tests.support.tf1_modules import MODULES as TF1
    from tests.support.tf2_modules import MODULES as TF2

    for name in [*(f"tf1/{name}" for name in TF1), *(f"tf2/{name}" for name in TF2)]:
        modules(name)
    exported = os.path.join(modules.root, "exported")
    os.mkdir(exported)
    export_a_tf_module(f"{exported}/tf_module")
    export_a_keras_model(f"{exported}/keras_model")
    export_variants(f"{exported}/variants")
    for name in EAGER:
        change_and_export_eagerly(modules(f"tf1/{name}"), f"{exported}/eager_{name}")
    for name in GRAPH:
        change_and_export_from_a_graph(modules(name), f"{exported}/graph_{os.path.basename(name)}")
    return modules


@pytest.fixture(scope="session")
def handle(shared: Modules, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a module that `hubd host` serves."""
    root, name = Path(shared("tf2/text_embedding")), "lab/text_embedding/1"
    with Host(tmp_path_factory.mktemp("host")) as host:
        files = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        put(host.library, name, files)
        host.await_version(name)
        yield f"{host.url}/{name}"


@pytest.fixture(scope="session")
def of_tensorflow_hub(shared: Modules, handle: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environ = {
        "TF_USE_LEGACY_KERAS": "1",
        "HUBD_TEST_HANDLE": handle,
        "TFHUB_CACHE_DIR": str(tmp_path_factory.mktemp("tfhub")),
    }
    return run(peer_python(), "tensorflow_hub", shared.root, environ)


@pytest.mark.parametrize("keras", ["keras3", "tf_keras"])
def test_hubclient_gives_what_tensorflow_hub_gives(
    keras: str,
    shared: Modules,
    handle: str,
    of_tensorflow_hub: dict[str, Any],
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    """In tf_keras only its layers: the rest is the same code with either."""
    with Daemon(tmp_path) as daemon:
        environ = {
            "TF_USE_LEGACY_KERAS": str(int(keras == "tf_keras")),
            "HUBD_TEST_HANDLE": handle,
            "HUBD_SOCKET": str(daemon.socket),
        }
        files = ["keras_layers"] if keras == "tf_keras" else []
        own = run(sys.executable, "hubclient", shared.root, environ, *files)
    assert own.keys() == {name for name in of_tensorflow_hub if not files or name.partition(".")[0] in files}
    for case, ours in own.items():
        peers = of_tensorflow_hub[case]
        with subtests.test(case):
            assert "failed" not in peers, peers["failed"]
            assert "failed" not in ours, ours["failed"]
            assert not list(differences(ours["result"], peers["result"]))


def test_a_difference_is_found() -> None:
    """The comparison itself: what it must not let pass."""
    is_value_error = {"raised": ["builtins.ValueError", "builtins.Exception"]}
    for own, peers in (
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.001]}),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}),
        ([1.0], [1.0, 2.0]),
        ("x", "y"),
        (1, 1.0),
        ({"raised": ["hubclient.model_errors.Closed", "builtins.RuntimeError"]}, is_value_error),
        (1.0, is_value_error),
    ):
        assert list(differences(own, peers))
    assert not list(differences({"a": [1.0, float("nan"), 3]}, {"a": [1.0000001, float("nan"), 3]}))
    assert not list(differences({"raised": ["x.VariantNotFound", "builtins.ValueError"]}, is_value_error))
