"""Fine-tuning a Module in a graph of TensorFlow 1: the collections do what programs for graphs expect of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hubclient as hub

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
v1: Any = tf.compat.v1

Modules = Callable[[str], str]
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(32, 3)).astype("float32")
IMAGES = RANDOM.random(size=(8, 8, 8, 3)).astype("float32")


def train(loss: Any, steps: int, rate: float, variables: list[Any]) -> tuple[list[float], list[Any], list[Any]]:
    """All losses, and the variables' values before and after."""
    total = loss + tf.add_n([tf.constant(0.0), *v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)])
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        step = v1.train.GradientDescentOptimizer(rate).minimize(total)
    with v1.Session() as session:
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        before = session.run(variables)
        losses = [float(session.run([total, step])[0]) for _ in range(steps)]
        return losses, before, session.run(variables)


@pytest.mark.parametrize("module", ["tf1/variants", "tf1/ref_variables"])
def test_the_training_variant_learns(modules: Modules, module: str) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules(module), trainable=True, tags={"train"})
        y = m(X)
        names = sorted(m.variable_map)
        frozen = [name for name in names if m.variable_map[name] not in m.trainable_variables]
        assert len(m.regularization_losses) == 1
        assert m.update_ops == v1.get_collection(v1.GraphKeys.UPDATE_OPS) != []
        loss = tf.reduce_mean(tf.square(y - X[:, :1]))
        losses, before, after = train(loss, 150, 0.01, [m.variable_map[name] for name in names])
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
    # Only the bias before a batch normalization may stay: it has no gradient.
    assert {name for name, a, b in zip(names, before, after, strict=True) if not np.array_equal(a, b)} >= (
        set(names) - {"dense/bias"}
    )
    assert all("m" in name for name in frozen)  # the moving averages, which the updates changed


def test_moving_averages_move_as_the_updates_say(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/variants"), trainable=True, tags={"train"})
        m(X)
        named = m.variable_map
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            before, kernel, bias = session.run([named["norm/moving_mean"], named["dense/kernel"], named["dense/bias"]])
            session.run(m.update_ops)
            after = session.run(named["norm/moving_mean"])
    np.testing.assert_allclose(after, before + 0.1 * ((X @ kernel + bias).mean(0) - before), rtol=1e-4)


def test_update_ops_gather_over_calls(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/variants"), trainable=True, tags={"train"})
        assert m.update_ops == []
        m(X)
        assert len(m.update_ops) == 2
        m(X)
        assert len(m.update_ops) == 4
        m(X, training=False)
        assert m.update_ops == v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        assert len(m.update_ops) == 4
        assert len(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)) == 1


@pytest.mark.parametrize("module", ["tf1/variants", "tf2/image_feature_vector"])
def test_what_is_not_trainable_brings_nothing_to_train(modules: Modules, module: str) -> None:
    path = modules(module)
    with tf.Graph().as_default():
        m = hub.Module(path, tags={"train"} if module == "tf1/variants" else None)
        m(IMAGES if "image" in module else X)
        for key in ("TRAINABLE_VARIABLES", "REGULARIZATION_LOSSES", "UPDATE_OPS"):
            assert v1.get_collection(getattr(v1.GraphKeys, key)) == []
        assert m.trainable_variables == m.regularization_losses == m.update_ops == []


def test_regularization_losses_have_the_weights_values(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/variants"), trainable=True)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            kernel, (loss,) = session.run([m.variable_map["dense/kernel"], m.regularization_losses])
    assert loss == pytest.approx(0.01 * np.sum(kernel**2) / 2, rel=1e-5)


def test_dropout_drops_in_the_training_variant_only(modules: Modules) -> None:
    with tf.Graph().as_default():
        kept = hub.Module(modules("tf1/variants"))(X)
        dropped = hub.Module(modules("tf1/variants"), tags={"train"})(X)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            kept, dropped = session.run([kept, dropped])
    assert np.count_nonzero(kept) == kept.size
    assert 0.2 < np.count_nonzero(dropped) / dropped.size < 0.8


def test_a_tensorflow_2_image_module_learns(modules: Modules) -> None:
    path = modules("tf2/image_feature_vector")
    with tf.Graph().as_default():
        m = hub.Module(path, trainable=True)
        assert len(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)) == 2
        assert {v.op.name for v in v1.trainable_variables()} == {
            f"module/{name}" for name in ("conv/kernel", "dense/kernel", "norm/beta", "norm/gamma")
        }
        loss = tf.reduce_mean(tf.square(m(IMAGES, training=True)))
        losses, before, after = train(loss, 40, 0.02, m.variables)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_frozen_weights_of_a_tensorflow_2_module_stay(modules: Modules) -> None:
    path = modules("tf2/image_feature_vector")
    with tf.Graph().as_default():
        m = hub.Module(path)
        head = v1.get_variable("head", [5, 1])
        losses, before, after = train(
            tf.reduce_mean(tf.square(m(IMAGES) @ head - 1.0)), 20, 0.0005, [*m.variables, head]
        )
    assert losses[-1] < losses[0]
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True] * len(m.variables) + [False]


@pytest.mark.parametrize("module", ["tf1/variants", "tf2/image_feature_vector"])
def test_an_exponential_moving_average_begins_with_the_restored_value(modules: Modules, module: str) -> None:
    path = modules(module)
    with tf.Graph().as_default():
        m = hub.Module(path, trainable=True)
        average = v1.train.ExponentialMovingAverage(0.9)
        average.apply(m.trainable_variables)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for variable in m.trainable_variables:
                value, mean = session.run([variable, average.average(variable)])
                assert np.array_equal(value, mean)


@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_updates_of_a_call_within_a_loop_run_with_it(modules: Modules, control_flow: str) -> None:
    with tf.Graph().as_default():
        if control_flow == "v1":
            v1.disable_control_flow_v2()
        try:
            m = hub.Module(modules("tf1/variants"), trainable=True, tags={"train"})
            # Iterations in parallel would read the averages before the one before has changed them.
            total = v1.while_loop(
                lambda i, _: i < 2, lambda i, t: (i + 1, t + tf.reduce_sum(m(X))), (0, 0.0), parallel_iterations=1
            )[1]
        finally:
            v1.enable_control_flow_v2()
        assert v1.get_collection(v1.GraphKeys.UPDATE_OPS) == []
        mean = m.variable_map["norm/moving_mean"]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            before, kernel, bias = session.run([mean, m.variable_map["dense/kernel"], m.variable_map["dense/bias"]])
            session.run(total)
            after = session.run(mean)
    batch = (X @ kernel + bias).mean(0)
    np.testing.assert_allclose(after, batch + 0.81 * (before - batch), rtol=1e-4)
