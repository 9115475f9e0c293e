"""Fine-tuning in the eager world and in ``tf.function``, of modules in the TF1 format and of reusable SavedModels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hubclient as hub

pytestmark = pytest.mark.tensorflow

tf: Any = pytest.importorskip("tensorflow")

ROWS = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0], [0.0, -2.0, 1.0], [2.0, 1.0, -1.0]], "float32")
IMAGES = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype("float32")
STEPS = 25


def _train(module: hub.Module, inputs: Any, *, compiled: bool) -> list[float]:
    """Let the norm of the outputs fall; the loss of each step."""
    inputs = tf.constant(inputs)

    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(module(inputs, training=True)))
            loss += tf.add_n([regularization() for regularization in module.regularization_losses])
        for variable, gradient in zip(
            module.trainable_variables, tape.gradient(loss, module.trainable_variables), strict=True
        ):
            variable.assign_sub(0.1 * gradient)
        return loss

    run = tf.function(step) if compiled else step
    return [float(run()) for _ in range(STEPS)]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "function"])
@pytest.mark.parametrize(
    ("name", "tags", "inputs", "frozen_in_training"),
    [("tf1/variants", {"train"}, ROWS, "norm/moving"), ("tf2/image_feature_vector", None, IMAGES, "norm/moving")],
)
def test_training_lets_the_loss_fall_and_moves_weights_and_averages(
    modules: Callable[[str], str],
    name: str,
    tags: set[str] | None,
    inputs: Any,
    frozen_in_training: str,
    compiled: bool,
) -> None:
    module = hub.Module(modules(name), trainable=True, tags=tags)
    before = {key: variable.numpy() for key, variable in module.variable_map.items()}
    losses = _train(module, inputs, compiled=compiled)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    for key, variable in module.variable_map.items():
        assert np.any(variable.numpy() != before[key]), key
    trained = [key for key, variable in module.variable_map.items() if variable.trainable]
    assert trained
    assert not any(frozen_in_training in key for key in trained)


@pytest.mark.parametrize(
    ("name", "tags", "inputs"),
    [("tf1/variants", {"train"}, ROWS), ("tf2/image_feature_vector", None, IMAGES)],
)
def test_nothing_moves_when_training_is_false(
    modules: Callable[[str], str], name: str, tags: set[str] | None, inputs: Any
) -> None:
    module = hub.Module(modules(name), trainable=True, tags=tags)
    before = [variable.numpy() for variable in module.variables]
    module(inputs, training=False)
    for variable, value in zip(module.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("name", ["tf1/variants", "tf1/ref_variables"])
def test_the_averages_move_by_the_batch_that_the_call_was_given(modules: Callable[[str], str], name: str) -> None:
    mean = "norm/moving_mean" if name == "tf1/variants" else "mean"
    kernel, bias = ("dense/kernel", "dense/bias") if name == "tf1/variants" else ("w", "b")
    module = hub.Module(modules(name), trainable=True, tags={"train"})
    named = module.variable_map
    before = named[mean].numpy()
    of_batch = (ROWS @ named[kernel] + named[bias]).numpy().mean(0)
    module(ROWS)
    np.testing.assert_allclose(named[mean], before - (before - of_batch) * 0.1, rtol=1e-4)
    tf.function(lambda: module(ROWS))()
    assert np.all(np.abs(named[mean] - of_batch) < np.abs(before - of_batch) * 0.82)


def test_dropout_drops_in_the_variant_for_training_alone(modules: Callable[[str], str]) -> None:
    rows = np.random.default_rng(2).normal(size=(64, 3)).astype("float32")
    training = hub.Module(modules("tf1/variants"), tags={"train"})
    dropped = [np.mean(training(rows).numpy() == 0) for _ in range(3)]
    assert all(0.3 < share < 0.7 for share in dropped)
    assert np.any(training(rows).numpy() != training(rows).numpy())
    use = hub.Module(modules("tf1/variants"))
    assert not np.any(use(rows).numpy() == 0)
    np.testing.assert_array_equal(use(rows), use(rows))


def test_a_regularization_loss_has_a_gradient_and_follows_the_weights(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/variants"), trainable=True)
    kernel = module.variable_map["dense/kernel"]
    (loss,) = module.regularization_losses
    with tf.GradientTape() as tape:
        value = loss()
    np.testing.assert_allclose(value, 0.01 * tf.nn.l2_loss(kernel), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(value, kernel), 0.01 * kernel, rtol=1e-6)
    kernel.assign(tf.zeros_like(kernel))
    assert loss() == 0


def test_all_variants_share_their_variables(modules: Callable[[str], str]) -> None:
    instance: Any = hub.Module(modules("tf1/variants"), trainable=True, tags={"train"})._instance
    use = instance.variant(())
    assert use is instance.variant([])
    assert instance.variant({"train"}) is instance
    assert instance.variant_tags() == [(), ("train",)]
    before = use.apply("default", {"default": tf.constant(ROWS)}, False)["default"]
    instance.apply("default", {"default": tf.constant(ROWS)}, True)  # moves the averages
    after = use.apply("default", {"default": tf.constant(ROWS)}, False)["default"]
    assert np.any(before.numpy() != after.numpy())
    assert {variable.ref() for variable in use.variables} == {variable.ref() for variable in instance.variables}


def test_partitioned_variables_are_trained_part_by_part(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/partitioned"), trainable=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(module(np.array([0, 1, 6]))))
    gradients = tape.gradient(loss, module.trainable_variables)
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
    assert [gradient.shape for gradient in dense] == [variable.shape for variable in module.trainable_variables]
    first, second, third = (np.any(gradient.numpy() != 0, 1) for gradient in dense[:3])
    assert (first.tolist(), second.tolist(), third.tolist()) == ([True, True, False], [False, False], [False, True])
