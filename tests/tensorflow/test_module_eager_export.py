"""`Module.export` from the eager world: what comes out is a reusable SavedModel, for hubclient and for others."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]

tf: Any = pytest.importorskip("tensorflow")

ROWS = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], "float32")
IMAGES = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype("float32")


def _change(module: hub.Module) -> None:
    for variable in module.variables:
        variable.assign(variable * 1.5)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        pytest.param("tf1/affine", ROWS, marks=pytest.mark.thorough),
        ("tf1/variants", ROWS),
        ("tf1/text", np.array(["the quick", "fox"])),
        ("tf1/ref_variables", ROWS),
        ("tf1/partitioned", np.array([0, 3, 6])),
        ("tf1/while_v1", {"x": ROWS, "steps": np.int32(2)}),
        pytest.param("tf1/cond_v1", ROWS, marks=pytest.mark.thorough),
        pytest.param("tf1/control_flow_v2", {"x": ROWS, "steps": np.int32(2)}, marks=pytest.mark.thorough),
        pytest.param("tf1/many", ROWS[:, :2], marks=pytest.mark.thorough),
        pytest.param("tf1/no_variables", np.array([1.0, 2.0], "float32"), marks=pytest.mark.thorough),
        ("tf1/plain", np.array(["fox", "unknown"])),
        ("tf2/image_feature_vector", IMAGES),
        ("tf2/text_embedding", np.array(["the quick", "fox"])),
    ],
)
def test_an_exported_module_answers_the_same_with_its_present_weights(
    modules: Callable[[str], str], tmp_path: Path, name: str, inputs: Any
) -> None:
    source = str(tmp_path / "source")
    shutil.copytree(modules(name), source)
    module = hub.Module(source)
    _change(module)
    expected = module(inputs)
    module.export(tmp_path / "exported")
    shutil.rmtree(source)  # assets must have come along
    again = hub.Module(tmp_path / "exported")
    np.testing.assert_allclose(again(inputs), expected, rtol=1e-5)
    assert set(again.get_signature_names()) >= set(module.get_signature_names())
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    given = {key: tf.constant(value) for key, value in inputs.items()} if isinstance(inputs, dict) else inputs
    np.testing.assert_allclose(loaded(given if isinstance(given, dict) else tf.constant(given)), expected, rtol=1e-5)
    assert len(loaded.variables) == len(module.variables)


def test_all_signatures_come_along(modules: Callable[[str], str], tmp_path: Path) -> None:
    module = hub.Module(modules("tf1/many"))
    module.export(tmp_path / "exported")
    again = hub.Module(tmp_path / "exported")
    for signature, inputs in (
        ("two_inputs", {"a": ROWS[:, :2], "b": ROWS[:, 1:]}),
        ("extra", {"x": ROWS[:, :2]}),
        ("no_default", {"x": ROWS[:, :2]}),
        ("no_inputs", {}),
    ):
        expected = module(inputs, signature=signature, as_dict=True)
        answer = again(inputs, signature=signature, as_dict=True)
        assert set(answer) == set(expected)
        for key in expected:
            np.testing.assert_allclose(answer[key], expected[key], rtol=1e-6)


def test_sparse_inputs_come_along_in_the_call_and_as_components_in_signatures(
    modules: Callable[[str], str], tmp_path: Path
) -> None:
    module = hub.Module(modules("tf1/sparse"))
    module.export(tmp_path / "exported")
    again = hub.Module(tmp_path / "exported")
    rows = tf.sparse.from_dense(ROWS)
    np.testing.assert_allclose(again(rows), module(rows), rtol=1e-6)
    given = {"default_indices": rows.indices, "default_values": rows.values, "default_dense_shape": rows.dense_shape}
    scaled = again(given, signature="scaled", as_dict=True)
    np.testing.assert_allclose(scaled["default_values"], module(rows, signature="scaled").values, rtol=1e-6)


@pytest.mark.parametrize(
    ("tags", "trainable"),
    [
        (None, False),
        ({"train"}, True),
        pytest.param(None, True, marks=pytest.mark.thorough),
        pytest.param({"train"}, False, marks=pytest.mark.thorough),
    ],
    ids=["inference-frozen", "train-trainable", "inference-trainable", "train-frozen"],
)
def test_both_variants_the_losses_and_the_updates_come_along(
    modules: Callable[[str], str], tmp_path: Path, tags: set[str] | None, trainable: bool
) -> None:
    module = hub.Module(modules("tf1/variants"), trainable=trainable, tags=tags)
    _change(module)
    module.export(tmp_path / "exported")
    again = hub.Module(tmp_path / "exported", trainable=True)
    use: Any = module._instance if tags is None else module._instance.variant(())  # type: ignore[attr-defined]
    expected = use.apply("default", {"default": tf.constant(ROWS)}, False)["default"]
    np.testing.assert_allclose(again(ROWS), expected, rtol=1e-5)
    named = {variable.name.partition("/")[2].removesuffix(":0"): variable for variable in again.variables}
    assert {name for name, variable in named.items() if variable.trainable} == {
        "dense/kernel", "dense/bias", "norm/gamma", "norm/beta",
    }  # fmt: skip
    (loss,) = again.regularization_losses
    np.testing.assert_allclose(loss(), 0.01 * tf.nn.l2_loss(named["dense/kernel"]), rtol=1e-6)
    mean = named["norm/moving_mean"].numpy()
    with tf.GradientTape() as tape:
        outputs = again(np.repeat(ROWS, 20, 0), training=True)
        value = tf.reduce_sum(tf.square(outputs)) + loss()
    assert 0.2 < np.mean(outputs.numpy() == 0) < 0.8  # dropout
    assert np.any(named["norm/moving_mean"].numpy() != mean)
    assert all(gradient is not None for gradient in tape.gradient(value, again.trainable_variables))


def test_gradients_through_loops_of_tensorflow_1_come_along(modules: Callable[[str], str], tmp_path: Path) -> None:
    module = hub.Module(modules("tf1/while_v1"), trainable=True)
    module.export(tmp_path / "exported")
    found = []
    for each in (module, hub.Module(tmp_path / "exported", trainable=True)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(each({"x": ROWS, "steps": 2})))
        found.append(tape.gradient(loss, each.trainable_variables)[0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_a_signature_outlives_the_object_that_it_was_loaded_with(modules: Callable[[str], str], tmp_path: Path) -> None:
    module = hub.Module(modules("tf1/text"))
    module.export(tmp_path / "exported")
    signature = tf.saved_model.load(str(tmp_path / "exported")).signatures["default"]
    gc.collect()
    (name,) = signature.structured_input_signature[1]
    texts = tf.constant(["the quick", "fox"])
    np.testing.assert_allclose(signature(**{name: texts})["default"], module(texts), rtol=1e-6)


def test_nothing_is_overwritten(modules: Callable[[str], str], tmp_path: Path) -> None:
    module = hub.Module(modules("tf1/affine"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(hub.PathExists):
        module.export(tmp_path / "taken")
    assert list((tmp_path / "taken").iterdir()) == []
