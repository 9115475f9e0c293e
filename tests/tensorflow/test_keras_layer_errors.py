"""What is wrong about a `KerasLayer` is told when it is made, or when its model is, in hubclient's own classes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras", minversion="3")


@pytest.mark.parametrize(
    ("name", "arguments", "error", "told"),
    [
        ("tf2/plain", {}, hub.SignatureNotFound, r"give signature=, one of \['default', 'serving_default', 'square'\]"),
        ("tf2/plain", {"signature": "no"}, hub.SignatureNotFound, r"no signature 'no'; it has \['default'"),
        ("tf2/plain", {"signature": "serving_default"}, hub.InputInvalid, r"Give output_key=, one of \['y'\], or"),
        (
            "tf2/plain",
            {"signature": "serving_default", "output_key": "y", "signature_outputs_as_dict": True},
            hub.InputInvalid,
            "give one of the two",
        ),
        ("tf2/plain", {"signature": "serving_default", "output_key": "z"}, hub.OutputNotFound, r"it has \['y'\]"),
        ("tf2/multi", {"signature_outputs_as_dict": True}, hub.InputInvalid, "signature= names none"),
        (
            "tf2/multi",
            {"signature": "default", "output_key": "sum", "arguments": {"c": 1.0}},
            hub.InputInvalid,
            r"has the inputs \['a', 'b'\]; arguments names \['c'\]",
        ),
        ("tf2/image_feature_vector", {"arguments": {"training": True}}, hub.InputInvalid, "follows the layer's"),
        ("tf2/multi", {"arguments": [1]}, hub.InputInvalid, "arguments is a dict"),
        ("tf2/multi", {"load_options": {"fast": True}}, hub.InputInvalid, "is a tf.saved_model.LoadOptions, not"),
        ("tf2/multi", {"output_shape": "many"}, hub.InputInvalid, "output_shape is a shape without the batch"),
        ("tf2/multi", {"output_shape": [1, [2]]}, hub.InputInvalid, "output_shape is a shape without the batch"),
        ("tf2/multi", {"tags": ["gpu"]}, hub.VariantNotFound, r"it has \{'serve'\}"),
        ("tf1/variants", {"tags": ["gpu"]}, hub.VariantNotFound, r"it has \{\}, \{'train'\}"),
        ("tf1/many", {"output_key": "no"}, hub.OutputNotFound, "no output 'no'; it has"),
    ],
)
def test_a_mistake_is_told_at_construction(
    modules: Modules, name: str, arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    assert issubclass(error, ValueError)  # as in tensorflow_hub
    with pytest.raises(error, match=told):
        hub.KerasLayer(modules(name), **arguments)


def test_an_object_has_neither_tags_nor_load_options(modules: Modules) -> None:
    loaded = hub.load(modules("tf2/multi"))
    for arguments in ({"tags": ["serve"]}, {"load_options": tf.saved_model.LoadOptions()}):
        with pytest.raises(hub.InputInvalid, match="this handle is an object"):
            hub.KerasLayer(loaded, **arguments)


def test_an_object_without_anything_to_call_is_refused() -> None:
    with pytest.raises(hub.SignatureNotFound, match="cannot be called without a signature, and has none"):
        hub.KerasLayer(object())


def test_a_layer_of_a_layer_is_refused() -> None:
    with pytest.raises(hub.ModuleUnsupported, match="is a Keras layer already"):
        hub.KerasLayer(keras.layers.Dense(1))


def test_a_directory_that_is_no_module_is_told(tmp_path: Any) -> None:
    with pytest.raises(hub.NotAModule):
        hub.KerasLayer(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (
            keras.Input((8, 8, 4)),
            r"takes float32 of shape \(None, None, None, 3\), not float32 of shape \(None, 8, 8, 4\)",
        ),
        (keras.Input((8, 8, 3), dtype="int32"), r"takes float32 .*, not int32"),
        ([keras.Input((8, 8, 3)), keras.Input((8, 8, 3))], r"takes float32 .*, not \[float32 .*, float32"),
    ],
    ids=["shape", "dtype", "structure"],
)
def test_inputs_that_do_not_fit_are_told_when_the_model_is_made(modules: Modules, inputs: Any, told: str) -> None:
    with pytest.raises(hub.InputInvalid, match=told):
        hub.KerasLayer(modules("tf2/image_feature_vector"))(inputs)


def test_inputs_of_a_signature_that_do_not_fit_are_told(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/multi"), signature="default", output_key="sum")
    with pytest.raises(hub.InputInvalid, match=r"missing \['b'\]"):
        layer({"a": np.ones((1, 2))})
    with pytest.raises(hub.InputInvalid, match=r"is float32 of shape \(None, 2\), not"):
        layer({"a": np.ones((1, 3)), "b": np.ones((1, 2))})


def test_arguments_that_the_module_does_not_take_are_told(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/with_arguments"), arguments={"fctor": 2.0})
    with pytest.raises(hub.InputInvalid, match=r"cannot be called with the arguments \['fctor'\]"):
        layer(np.ones((1, 2), "float32"))


def test_a_module_of_tensorflow_1_cannot_be_distributed(modules: Modules) -> None:
    with (
        tf.distribute.MirroredStrategy(["CPU:0"]).scope(),
        pytest.raises(hub.ModuleUnsupported, match="only modules of TensorFlow 2 can be distributed"),
    ):
        hub.KerasLayer(modules("tf1/variants"))
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        assert hub.KerasLayer(modules("tf1/variants"))(np.ones((1, 3))).shape == (1, 4)


def test_values_that_make_no_tensor_are_told(modules: Modules) -> None:
    with pytest.raises(hub.InputInvalid, match="make no tensor of string"):
        hub.KerasLayer(modules("tf2/text_embedding"))([["a"], ["b", "c"]])


def test_an_output_key_needs_outputs_by_name(modules: Modules) -> None:
    with pytest.raises(hub.OutputNotFound, match="output_key is for outputs by name"):
        hub.KerasLayer(modules("tf2/image_feature_vector"), output_key="y")(keras.Input((8, 8, 3)))
    inputs = {name: keras.Input((2,)) for name in ("a", "b")}
    with pytest.raises(hub.OutputNotFound, match=r"it has \['product', 'sum'\]"):
        hub.KerasLayer(modules("tf2/multi"), output_key="y")(inputs)


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from hubclient.keras_layers import keras3

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")  # another backend would need another process, and jax
    with pytest.raises(hub.TensorFlowUnusable, match="it runs on jax: set KERAS_BACKEND=tensorflow"):
        keras3.keras_on_tensorflow()


@pytest.mark.parametrize(
    ("program", "environment", "told"),
    [
        pytest.param(
            "",
            {"KERAS_BACKEND": "numpy"},
            "TensorFlowUnusable: .*with KERAS_BACKEND=numpy, cannot be imported",
            marks=pytest.mark.thorough,
        ),
        ("sys.modules['tensorflow'] = None", {}, r"TensorFlowMissing: .*pip install 'hubclient\[tensorflow\]'"),
        ("sys.modules['keras'] = None", {}, r"TensorFlowUnusable: .*pip install 'keras>=3'"),
        pytest.param(
            "sys.modules['tf_keras'] = None",
            {"TF_USE_LEGACY_KERAS": "1"},
            "TensorFlowUnusable: .*pip install tf_keras",
            marks=pytest.mark.thorough,
        ),
    ],
    ids=["backend", "tensorflow", "keras", "tf_keras"],
)
def test_what_the_environment_lacks_is_told(program: str, environment: dict[str, str], told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\nimport hubclient\nhubclient.KerasLayer"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.search(told, done.stderr), done.stderr
