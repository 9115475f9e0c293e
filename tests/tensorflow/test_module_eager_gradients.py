"""Gradients through modules in the TF1 format, above all through loops and conditions of TensorFlow 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub

pytestmark = pytest.mark.tensorflow

tf: Any = pytest.importorskip("tensorflow")

ROWS = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], "float32")


def _looped(x: Any, w: Any, steps: int) -> Any:
    for _ in range(steps):
        x = tf.tanh(x @ w)
    return x


def _gradients(function: Callable[[Any], Any], x: Any, variables: list[Any]) -> list[Any]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(tf.square(function(x)))
    found: list[Any] = tape.gradient(y, [x, *variables])
    return found


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_loop_of_tensorflow_1_has_the_gradients_of_what_it_computes(
    modules: Callable[[str], str], steps: int
) -> None:
    module = hub.Module(modules("tf1/while_v1"), trainable=True)
    x, (w,) = tf.constant(ROWS), module.variables
    expected = _gradients(lambda x: _looped(x, w, steps), x, [w] if steps else [])

    def apply(x: Any) -> Any:
        return module({"x": x, "steps": steps})

    compiled = tf.function(lambda x: _gradients(apply, x, [w]))
    for found in (_gradients(apply, x, [w]), _gradients(apply, x, [w]), compiled(x), compiled(x)):
        for gradient, right in zip(found, expected, strict=False):
            np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-5)
        assert steps or not np.any(found[1])


def test_a_condition_has_the_gradients_of_the_branch_that_it_takes(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/cond_v1"), trainable=True)
    named = module.variable_map
    a, b = named["a"], named["b"]
    for x, branch in ((tf.constant(ROWS), lambda x: x * a), (-tf.constant(ROWS), lambda x: x - b)):
        expected = _gradients(branch, x, [a, b])
        for found in (_gradients(module, x, [a, b]), tf.function(lambda x: _gradients(module, x, [a, b]))(x)):
            for gradient, right in zip(found, expected, strict=True):
                np.testing.assert_allclose(gradient, tf.zeros_like(gradient) if right is None else right, rtol=1e-5)


def test_loops_and_conditions_in_functions_have_gradients(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/control_flow_v2"), trainable=True)
    named = module.variable_map
    w, a = named["w"], named["a"]

    def same(x: Any) -> Any:
        y = _looped(x, w, 2)
        return 2 * (y * a if tf.reduce_sum(y) > 0 else y - a)

    x = tf.constant(ROWS)
    found = _gradients(lambda x: module({"x": x, "steps": 2}), x, [w, a])
    for gradient, right in zip(found, _gradients(same, x, [w, a]), strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-5)


def test_training_through_a_loop_lets_the_loss_fall(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/while_v1"), trainable=True)
    (w,) = module.trainable_variables
    losses = []
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(module(ROWS, signature="fixed")))
        w.assign_sub(0.2 * tape.gradient(loss, w))
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


@pytest.fixture
def drawing(tmp_path: Path) -> str:
    """A module that draws a mask, loops over an embedding, counts and moves a scale, and tells the number of rows."""
    from tests.support import tf1_modules

    v1 = tf.compat.v1

    def build() -> tf1_modules.Variant:
        ids = v1.placeholder(tf.int64, [None], "ids")
        embedding = tf1_modules.variable("embedding", [5, 3])
        scale = tf1_modules.variable("scale", [], trainable=False)
        x = v1.nn.dropout(tf.gather(embedding, ids), rate=0.5) * tf.exp(scale)
        y = v1.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, y * tf.gather(embedding, ids)), (0, x))[1]
        with tf.control_dependencies([x]):
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, scale.assign_add(1.0, read_value=False))
        return tf1_modules.Variant({"default": ({"ids": ids}, {"default": y, "x": x, "rows": tf.size(ids)})})

    directory = str(tmp_path / "drawing")
    was_v2 = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        tf1_modules.write(directory, {(): build})
    finally:
        if was_v2:
            v1.enable_control_flow_v2()
    return directory


def test_the_gradient_is_that_of_the_values_that_were_used(drawing: str) -> None:
    """What was drawn at random is not drawn again, nor is a variable read that an update has changed since."""
    module = hub.Module(drawing, trainable=True)
    embedding, scale = module.variable_map["embedding"], module.variable_map["scale"]
    ids, before = np.array([0, 1, 1, 4]), float(scale)
    with tf.GradientTape() as tape:
        outputs = module(ids, as_dict=True)
        loss = tf.reduce_sum(outputs["default"])
    assert outputs["rows"] == 4
    assert float(scale) == pytest.approx(before + 1)
    found = tf.convert_to_tensor(tape.gradient(loss, embedding))
    rows = embedding.numpy()[ids]
    factor = outputs["x"] / rows  # mask and scale: y = factor * embedding ** 3
    expected = np.zeros([5, 3], "float32")
    np.add.at(expected, ids, 3 * factor.numpy() * rows**2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert 0 < np.mean(factor.numpy() == 0) < 1


@pytest.fixture
def old_updates(tmp_path: Path) -> str:
    """References through a condition and a loop of TensorFlow 1: an average moves in the one, weights multiply in the
    other."""
    from tests.support import tf1_modules

    v1 = tf.compat.v1

    def build() -> tf1_modules.Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        w = tf1_modules.variable("w", [3, 3], use_resource=False)
        mean = tf1_modules.variable("mean", [3], trainable=False, use_resource=False)
        count = v1.get_variable("count", [2], tf.float32, v1.ones_initializer(), trainable=False, use_resource=False,
                                collections=[v1.GraphKeys.LOCAL_VARIABLES])  # fmt: skip
        y = v1.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, tf.tanh(y @ w)), (0, x))[1]
        moved = v1.cond(tf.reduce_sum(x) > 0, lambda: v1.assign(mean, tf.reduce_mean(x, 0)), lambda: mean + 0.0)
        counted = v1.scatter_add(count, [1], [2.0])
        with tf.control_dependencies([counted]):
            told = tf.identity(count._ref())
        for update in (moved, counted):
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update.op)
        return tf1_modules.Variant({"default": ({"default": x}, {"default": y}), "told": ({}, {"default": told})})

    directory = str(tmp_path / "old_updates")
    was_v2 = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        tf1_modules.write(directory, {(): build})
    finally:
        if was_v2:
            v1.enable_control_flow_v2()
    return directory


def test_old_variables_change_in_conditions_and_are_read_when_it_is_said(old_updates: str) -> None:
    module = hub.Module(old_updates, trainable=True)
    named = module.variable_map
    np.testing.assert_array_equal(named["count"], [1, 1])  # local: not in the checkpoint, so its initializer's value
    before = named["mean"].numpy()
    module(-ROWS)
    np.testing.assert_array_equal(named["mean"], before)
    np.testing.assert_array_equal(named["count"], [1, 3])
    module(ROWS)
    np.testing.assert_allclose(named["mean"], ROWS.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(module(signature="told", training=False), [1, 7])
    x = tf.constant(ROWS)
    found = _gradients(lambda x: module(x, training=False), x, [named["w"]])
    for gradient, right in zip(found, _gradients(lambda x: _looped(x, named["w"], 2), x, [named["w"]]), strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-5)
