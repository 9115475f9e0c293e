"""`KerasLayer` in Keras 3 as something to train: weights, updates, losses, and what is frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.building import Modules

pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3 with numpy 2, for its own layers too.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras", minversion="3")

IMAGES = np.random.default_rng(1).random((16, 8, 8, 3), dtype="float32")
ROWS = np.random.default_rng(2).normal(size=(16, 3)).astype("float32")
TARGETS = np.linspace(-1, 1, 16, dtype="float32")[:, None]


def head() -> Any:
    return keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(seed=1))


def values(weights: Any) -> dict[str, Any]:
    return {weight.name: weight.numpy() for weight in weights}


def changed(before: dict[str, Any], weights: Any) -> set[str]:
    return {name for name, value in values(weights).items() if not np.array_equal(value, before[name])}


def fit(model: Any, x: Any, epochs: int = 1, *, repeated: int = 1, learning_rate: float = 0.01) -> list[float]:
    """The losses, epoch by epoch; one has as many steps as `x` is repeated."""
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    given, wanted = (tf.concat([each] * repeated, 0) for each in (x, TARGETS[: len(x)]))
    history = model.fit(given, wanted, epochs=epochs, batch_size=len(x), shuffle=False, verbose=0)
    return list(history.history["loss"])


@pytest.mark.parametrize("name", ["tf2/image_feature_vector", "tf1/variants"])
def test_fit_trains_the_module(modules: Modules, name: str) -> None:
    layer = hub.KerasLayer(modules(name), trainable=True)
    x = IMAGES if name.startswith("tf2") else ROWS
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, head()])
    assert len(layer.trainable_weights) == 4
    before = values(layer.weights)
    losses = fit(model, x, epochs=6, repeated=10)
    assert losses[-1] < 0.8 * losses[0]
    # A bias in front of a batch normalization has no effect in training, and may stay as it is.
    assert changed(before, layer.weights) | {"dense_bias"} >= before.keys()


def test_fit_trains_an_embedding_of_texts(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/text_embedding"), trainable=True)
    model = keras.Sequential([keras.Input((), dtype="string"), layer, head()])
    losses = fit(model, tf.constant(["the quick", "brown", "fox", "the fox"]), epochs=20, learning_rate=0.1)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("name", ["tf2/image_feature_vector", "tf1/variants"])
def test_a_frozen_layer_stays_as_it_is(modules: Modules, name: str) -> None:
    layer = hub.KerasLayer(modules(name))
    x = IMAGES if name.startswith("tf2") else ROWS
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, head()])
    assert layer.trainable_weights == []
    assert model.losses == []
    before = values(layer.weights)
    losses = fit(model, x, epochs=5)
    assert losses[-1] < losses[0]
    assert changed(before, layer.weights) == set()
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))


def test_trainable_may_be_changed_from_outside(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layer])
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, head()])
    layer.trainable = True
    assert len(layer.trainable_weights) == 4
    before = values(layer.weights)
    fit(model, IMAGES)
    assert changed(before, layer.weights) == before.keys()
    inner.trainable = False
    before = values(layer.weights)
    fit(model, IMAGES)
    assert changed(before, layer.weights) == set()
    assert model.losses == []


@pytest.mark.parametrize("name", ["tf2/image_feature_vector", "tf1/variants"])
def test_moving_averages_move_in_training_only(modules: Modules, name: str) -> None:
    layer = hub.KerasLayer(modules(name), trainable=True)
    x = IMAGES if name.startswith("tf2") else ROWS
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, head()])
    before = values(layer.weights)
    model.compile(loss="mse")
    model.predict(x, verbose=0)
    model.evaluate(x, TARGETS, verbose=0)
    assert changed(before, layer.weights) == set()
    model(x, training=True)
    assert changed(before, layer.weights) == {"norm_moving_mean", "norm_moving_variance"}


def test_making_a_model_updates_nothing(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    before = values(layer.weights)
    layer(keras.Input((8, 8, 3)), training=True)
    layer.compute_output_shape((None, 8, 8, 3))
    assert changed(before, layer.weights) == set()


def test_training_may_be_a_tensor(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    before = values(layer.weights)
    call = tf.function(lambda training: layer(IMAGES, training=training))
    np.testing.assert_allclose(call(tf.constant(False)), layer(IMAGES), rtol=1e-5, atol=1e-6)
    assert changed(before, layer.weights) == set()
    call(tf.constant(True))
    assert changed(before, layer.weights) == {"norm_moving_mean", "norm_moving_variance"}


@pytest.mark.parametrize("name", ["tf2/image_feature_vector", "tf1/variants"])
def test_dropout_is_for_training_only(modules: Modules, name: str) -> None:
    layer = hub.KerasLayer(modules(name), trainable=True)
    x = IMAGES if name.startswith("tf2") else ROWS
    np.testing.assert_array_equal(layer(x), layer(x))
    assert np.count_nonzero(layer(x)) == layer(x).numpy().size
    dropped = 1 - np.count_nonzero(layer(x, training=True)) / layer(x).numpy().size
    assert 0.2 < dropped < 0.8


def test_updates_run_once_for_each_call(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    mean = next(weight for weight in layer.weights if weight.name == "norm_moving_mean")
    before = mean.numpy()
    layer(IMAGES, training=True)
    first = mean.numpy()
    layer(IMAGES, training=True)
    np.testing.assert_allclose(mean.numpy() - first, 0.9 * (first - before), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["tf2/image_feature_vector", "tf1/variants"])
def test_regularization_counts_once_however_often_the_layer_is_called(modules: Modules, name: str) -> None:
    layer = hub.KerasLayer(modules(name), trainable=True)
    module = hub.Module(modules(name), trainable=True)
    expected = sum(loss().numpy() for loss in module.regularization_losses)
    x = IMAGES if name.startswith("tf2") else ROWS
    left, right = keras.Input(x.shape[1:]), keras.Input(x.shape[1:])
    model = keras.Model([left, right], head()(layer(left) + layer(right)))
    model([x, x], training=True)
    assert [loss.numpy() for loss in model.losses] == pytest.approx([expected])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    without = np.mean((model.predict([x, x], verbose=0) - TARGETS) ** 2)
    assert model.evaluate([x, x], TARGETS, verbose=0) == pytest.approx(without + expected, rel=1e-4)


def test_freezing_some_weights_keeps_the_regularization(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    (expected,) = layer.losses
    *some, last = layer.trainable_weights
    for weight in some:
        weight.trainable = False
        assert [loss.numpy() for loss in layer.losses] == [expected.numpy()]
    last.trainable = False
    assert layer.losses == []


def test_replicas_train_a_module_together(modules: Modules) -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
        model = keras.Sequential([keras.Input((8, 8, 3)), layer, head()])
        before = values(layer.weights)
        fit(model, IMAGES)
    assert changed(before, layer.weights) == before.keys()
    np.testing.assert_array_equal(layer(IMAGES), layer.resolved_object(IMAGES))


def test_regularization_trains(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, layer(images))
    model.compile(keras.optimizers.SGD(1.0), lambda truth, predicted: 0.0 * keras.ops.mean(predicted))
    before = values(layer.weights)
    model.fit(IMAGES, np.zeros((16, 5)), batch_size=16, epochs=1, verbose=0)
    np.testing.assert_allclose(values(layer.weights)["conv_kernel"], 0.99 * before["conv_kernel"], rtol=1e-4)
    np.testing.assert_allclose(values(layer.weights)["dense_kernel"], 0.98 * before["dense_kernel"], rtol=1e-4)


def test_a_mixed_policy_trains_in_the_modules_own_precision(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((8, 8, 3)), layer, head()])
    before = values(layer.weights)
    fit(model, IMAGES)
    assert changed(before, layer.weights) == before.keys()
    assert {weight.dtype for weight in layer.weights} == {"float32"}


def test_a_signature_is_trained_where_there_is_nothing_else(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/plain"), trainable=True, signature="serving_default", output_key="y")
    model = keras.Sequential([keras.Input((3,)), layer, head()])
    before = values(layer.weights)
    losses = fit(model, ROWS, epochs=10)
    assert losses[-1] < losses[0]
    assert changed(before, layer.weights) == {"w", "b"}


def test_a_signature_is_not_trained_beside_a_call_made_for_it(modules: Modules) -> None:
    arguments = {"signature": "default", "output_key": "feature_vector"}
    with pytest.raises(hub.InputInvalid, match="leave signature= out"):
        hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True, **arguments)
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), **arguments)
    layer.trainable = True
    with pytest.raises(hub.InputInvalid, match="leave signature= out"):
        layer(IMAGES)


def test_training_a_module_without_trainable_variables_warns(modules: Modules) -> None:
    with pytest.warns(hub.HubWarning, match="names no trainable variables"):
        hub.KerasLayer(modules("tf2/constants"), trainable=True)


def test_other_values_for_the_weights_are_refused(modules: Modules) -> None:
    layer = hub.KerasLayer(modules("tf2/image_feature_vector"), trainable=True)
    given = [
        [weight.numpy() * 2 for weight in weights] for weights in (layer.trainable_weights, layer.non_trainable_weights)
    ]
    with pytest.raises(hub.ModuleUnsupported, match="stateless_call"):
        layer.stateless_call(*given, tf.constant(IMAGES))
