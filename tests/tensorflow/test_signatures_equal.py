"""`hubclient.signatures` gives the numbers of ``tf.saved_model.load(...).signatures`` on every fixture."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient
from hubclient.contract.saved_model import TensorSpec
from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

from tests.support import tf1_modules, tf2_modules  # noqa: E402  (they import TensorFlow)

NAMES = [f"tf1/{name}" for name in tf1_modules.MODULES] + [f"tf2/{name}" for name in tf2_modules.MODULES]
WITHOUT_SIGNATURES = {"tf2/with_arguments", "tf2/ragged", "tf2/sparse"}
WORDS = [b"zero", b"one", b"the cat", b"red", b"", b"unheard of \xff"]


def example(spec: TensorSpec, generator: np.random.Generator) -> Any:
    """A value for an input: every unknown size is 2."""
    sizes = [2 if size is None else size for size in spec.shape or ()]
    if spec.encoding == "sparse":
        shape = [2, (sizes or [3])[-1]]
        values = example(TensorSpec("", spec.dtype, (2,), "dense"), generator)
        return np.array([[0, 1], [1, 0]]), values, np.array(shape)
    if spec.dtype == "string":
        return generator.choice(np.array(WORDS, dtype=object), sizes)
    if spec.dtype == "bool":
        return generator.random(sizes) < 0.5
    dtype = tf.as_dtype(spec.dtype).as_numpy_dtype
    if np.dtype(dtype).kind in "iu":
        return np.asarray(generator.integers(0, 3, sizes)).astype(dtype)
    return np.asarray(generator.normal(size=sizes)).astype(dtype)


def to_tensorflow(inputs: dict[str, Any]) -> dict[str, Any]:
    """TensorFlow's loader makes three inputs of a sparse one."""
    flat: dict[str, Any] = {}
    for key, value in inputs.items():
        if isinstance(value, tuple):
            parts = ("indices", "values", "dense_shape")
            flat |= {f"{key}_{part}": tf.constant(array) for part, array in zip(parts, value, strict=True)}
        else:
            flat[key] = tf.constant(value)
    return flat


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(ours, tuple):
        for part, other in zip(ours, (theirs.indices, theirs.values, theirs.dense_shape), strict=True):
            assert_same(part, other)
        return
    expected = theirs.numpy()
    if isinstance(expected, bytes):
        expected = np.array(expected, dtype=object)
    assert type(ours) is np.ndarray
    assert ours.dtype == expected.dtype
    assert ours.shape == expected.shape
    if ours.dtype == object or ours.dtype.kind in "biu":
        assert ours.tolist() == expected.tolist()
    else:
        kind = np.complex128 if ours.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(ours.astype(kind), expected.astype(kind), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_signature_equals_tensorflows(name: str, modules: Modules) -> None:
    path = modules(name)
    loaded = hubclient.load(path) if name != "tf1/plain" else tf.saved_model.load(path)
    generator = np.random.default_rng(7)
    with hubclient.signatures(path) as runners:
        assert set(runners) == set(loaded.signatures)
        assert bool(runners) == (name not in WITHOUT_SIGNATURES)
        for key, runner in runners.items():
            inputs = {field: example(spec, generator) for field, spec in runner.inputs.items()}
            outputs = runner(inputs)
            expected = loaded.signatures[key](**to_tensorflow(inputs))
            assert outputs.keys() == expected.keys()
            for field, output in outputs.items():
                assert_same(output, expected[field])


def test_a_keras_3_model_that_was_saved_and_not_exported_has_its_weights(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    for index, variable in enumerate(model.variables):
        variable.assign(np.linspace(index + 1, index + 2, variable.value.shape.num_elements()).reshape(variable.shape))
    with warnings.catch_warnings(action="ignore"):
        tf.saved_model.save(model, str(tmp_path / "model"))
    x = np.array([[1, 2, 3]], "f4")
    with hubclient.signatures(tmp_path / "model") as runners:
        (output,) = runners["serving_default"](x).values()
    np.testing.assert_allclose(output, model(x).numpy(), rtol=1e-5)
