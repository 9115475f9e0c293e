"""SavedModels of TensorFlow 2 in the eager world, reusable ones and those with signatures alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.weights import weights

pytestmark = pytest.mark.tensorflow

tf: Any = pytest.importorskip("tensorflow")

ROWS = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], "float32")
IMAGES = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("image_feature_vector", IMAGES),
        ("text_embedding", np.array(["the quick", "fox"])),
        ("constants", np.ones([2, 600], "float32")),
    ],
)
def test_a_bare_call_is_the_call_of_the_object(modules: Callable[[str], str], name: str, inputs: Any) -> None:
    path = modules(f"tf2/{name}")
    module, inputs = hub.Module(path), tf.constant(inputs)
    expected = tf.saved_model.load(path)(inputs)
    np.testing.assert_allclose(module(inputs), expected, rtol=1e-6)
    np.testing.assert_allclose(tf.function(lambda given: module(given))(inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("control_flow", {"x": ROWS, "steps": np.int32(2)}), ("keras3", {"x": np.ones([2, 4], "float32")})],
)
def test_a_signature_answers_what_tensorflow_answers(modules: Callable[[str], str], name: str, inputs: Any) -> None:
    path = modules(f"tf2/{name}")
    given = {key: tf.constant(value) for key, value in inputs.items()}
    expected = tf.saved_model.load(path).signatures["serving_default"](**given)
    answer = hub.Module(path)(inputs, signature="serving_default", as_dict=True)
    np.testing.assert_allclose(answer["output_0"], expected["output_0"], rtol=1e-6)


def test_several_inputs_and_outputs_go_by_name(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf2/multi"))
    a, b = tf.constant(ROWS[:, :2]), tf.constant(ROWS[:, 1:])
    for signature in (None, "default"):
        outputs = module({"a": a, "b": b}, signature=signature, as_dict=True)
        assert sorted(outputs) == ["product", "sum"]
        np.testing.assert_allclose(outputs["sum"], a @ weights("w", [2, 2]) + b, rtol=1e-5)
    with pytest.raises(hub.OutputNotFound, match=r"it has \['product', 'sum'\]"):
        module({"a": a, "b": b})


def test_signatures_alone_make_a_module(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf2/plain"), trainable=True)
    assert module.get_signature_names() == ["default", "serving_default", "square"]
    np.testing.assert_allclose(module(ROWS), ROWS @ weights("w", [3, 2]) + weights("b", [2]), rtol=1e-5)
    with pytest.raises(hub.InputInvalid, match=r"float32 of shape \(None, 3\), not float32 of shape \(2, 2\)"):
        module(ROWS[:, :2])
    with pytest.raises(hub.SignatureNotFound, match=r"it has \['default', 'serving_default', 'square'\]"):
        module(ROWS, signature="no")
    assert len(module.trainable_variables) == 2


@pytest.mark.parametrize("kind", ["ragged", "sparse"])
def test_composite_inputs_are_taken_by_the_call(modules: Callable[[str], str], kind: str) -> None:
    module = hub.Module(modules(f"tf2/{kind}"))
    if kind == "ragged":
        answer = module(tf.ragged.constant([[0, 1], [4]], dtype=tf.int64))
        embedding = weights("embedding", [5, 3])
        np.testing.assert_allclose(answer, [embedding[0] + embedding[1], embedding[4]], rtol=1e-6)
    else:
        np.testing.assert_allclose(module(tf.sparse.from_dense(ROWS)), ROWS @ weights("w", [3, 2]), rtol=1e-5)


def test_a_module_that_is_not_trainable_has_nothing_to_train(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf2/image_feature_vector"))
    assert (module.trainable_variables, module.regularization_losses, module.update_ops) == ([], [], [])
    assert len(module.variables) == 6
    assert len(hub.Module(modules("tf2/image_feature_vector"), trainable=True).regularization_losses) == 2


def test_variables_have_their_names(modules: Callable[[str], str]) -> None:
    named = hub.Module(modules("tf2/image_feature_vector")).variable_map
    assert sorted(named) == [
        "conv/kernel", "dense/kernel", "norm/beta", "norm/gamma", "norm/moving_mean", "norm/moving_variance",
    ]  # fmt: skip
    np.testing.assert_array_equal(named["dense/kernel"], weights("dense/kernel", [4, 5]))


def test_dropout_and_batch_norm_follow_training(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf2/image_feature_vector"), trainable=True)
    mean = module.variable_map["norm/moving_mean"]
    before = mean.numpy()
    np.testing.assert_array_equal(module(IMAGES), module(IMAGES, training=False))
    np.testing.assert_array_equal(mean, before)
    outputs = module(IMAGES, training=True).numpy()
    assert np.any(outputs == 0)
    assert np.any(mean.numpy() != before)


@pytest.mark.parametrize(
    ("name", "inputs", "match"),
    [
        ("multi", ROWS, r"takes \{'a': float32 of shape \(None, 2\), 'b': .*\}, not ndarray of float32"),
        ("multi", {"a": ROWS, "c": ROWS}, r"missing \['b'\], unexpected \['c'\]"),
        ("text_embedding", ROWS, r"takes string of shape \(None,\), not ndarray of float32 of shape \(2, 3\)"),
        ("text_embedding", None, "not NoneType"),
        ("image_feature_vector", tf.ones([1, 8, 8, 4]), r"not float32 of shape \(1, 8, 8, 4\)"),
        ("ragged", tf.constant([[1]], tf.int64), "takes a ragged int64"),
    ],
)
def test_a_wrong_call_says_what_the_module_takes(
    modules: Callable[[str], str], name: str, inputs: Any, match: str
) -> None:
    with pytest.raises(hub.InputInvalid, match=match):
        hub.Module(modules(f"tf2/{name}"))(inputs)
