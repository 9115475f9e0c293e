"""`export` of Keras 3 models and layers, and of tf_keras models, to modules that others fine-tune."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hubclient

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
keras3: Any = pytest.importorskip("keras")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    tf_keras: Any = pytest.importorskip("tf_keras")

X = tf.constant([[1.0, 2.0, -3.0], [3.0, -4.0, 5.0], [0.5, 0.5, 0.5], [-1.0, 0.0, 1.0]])


@pytest.fixture(params=[keras3, tf_keras], ids=["keras3", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    return request.param


# `test_export` has TensorFlow's own loader throughout.
LOADERS = [hubclient.load, pytest.param(tf.saved_model.load, marks=pytest.mark.thorough)]


@pytest.fixture(params=LOADERS, ids=["hubclient", "tensorflow"])
def load(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    loader: Callable[[str], Any] = request.param
    return loader


def regularized(keras: Any) -> Any:
    """Dense with a loss, batch norm with statistics that are not trivial, dropout."""
    model = keras.Sequential(
        [
            keras.layers.Input((3,), name="features"),
            keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5), bias_initializer="ones"),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(0.5),
        ]
    )
    mean, variance = model.layers[-2].moving_mean, model.layers[-2].moving_variance
    mean.assign([1.0, -2.0])
    variance.assign([4.0, 0.25])
    return model


def test_a_model_gives_its_numbers_in_inference_and_in_training(
    tmp_path: Path, keras: Any, load: Callable[[str], Any]
) -> None:
    model = regularized(keras)
    wanted = model(X, training=False).numpy()
    loaded = load(hubclient.export(model, tmp_path / "m"))
    assert loaded(X).numpy() == pytest.approx(wanted)
    assert loaded(X, training=False).numpy() == pytest.approx(wanted)
    assert loaded.signatures["default"](features=X)["default"].numpy() == pytest.approx(wanted)
    assert loaded.signatures["serving_default"](features=X)["output_0"].numpy() == pytest.approx(wanted)
    statistics = [v for v in loaded.variables if "moving" in v.name]
    before = [v.numpy().tolist() for v in statistics]
    in_training = loaded(tf.repeat(X, 20, axis=0), training=True).numpy()
    assert (in_training == 0).any()  # dropout
    assert [v.numpy().tolist() for v in statistics] != before  # batch norm
    assert model(X, training=False).numpy() == pytest.approx(wanted)


def test_a_models_weights_are_stored_once_and_split_as_keras_splits_them(
    tmp_path: Path, keras: Any, load: Callable[[str], Any]
) -> None:
    model = regularized(keras)
    path = hubclient.export(model, tmp_path / "m")
    keys = tf.train.load_checkpoint(path + "/variables/variables").get_variable_to_shape_map()
    assert sorted(len(shape) for key, shape in keys.items() if "variables/" in key) == sorted(
        len(v.shape) for v in model.variables
    )
    loaded = load(path)
    assert len(loaded.variables) == len(model.variables)
    assert [v.numpy().tolist() for v in loaded.trainable_variables] == [
        v.numpy().tolist() for v in model.trainable_variables
    ]


def test_regularizers_are_losses_without_arguments_that_follow_the_weights(
    tmp_path: Path, keras: Any, load: Callable[[str], Any]
) -> None:
    model = regularized(keras)
    loaded = load(hubclient.export(model, tmp_path / "m"))
    (loss,) = loaded.regularization_losses
    assert float(loss()) == pytest.approx(float(sum(model.losses)))
    kernel = loaded.trainable_variables[0]
    with tf.GradientTape() as tape:
        value = loss()
    assert tape.gradient(value, kernel).numpy() == pytest.approx(kernel.numpy())
    kernel.assign(tf.zeros_like(kernel))
    assert float(loss()) == 0


def test_frozen_layers_stay_frozen(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    model = regularized(keras)
    model.layers[-2].trainable = False
    loaded = load(hubclient.export(model, tmp_path / "m"))
    assert [v.name.split("/")[-1].split(":")[0] for v in loaded.trainable_variables] == ["kernel", "bias"]


def test_several_inputs_and_outputs_by_name(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model({"a": a, "b": b}, {"sum": keras.layers.Add()([a, b]), "max": keras.layers.Maximum()([a, b])})
    loaded = load(hubclient.export(model, tmp_path / "m"))
    assert loaded({"a": X, "b": -X})["max"].numpy().tolist() == abs(X.numpy()).tolist()
    for name in ("default", "serving_default"):
        outputs = loaded.signatures[name](a=X, b=X)
        assert set(outputs) == {"sum", "max"}
        assert outputs["sum"].numpy().tolist() == (2 * X).numpy().tolist()


def test_a_list_of_inputs_is_named_after_them(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    loaded = load(hubclient.export(keras.Model([a, b], keras.layers.Subtract()([a, b])), tmp_path / "m"))
    assert loaded([3 * X, X]).numpy().tolist() == (2 * X).numpy().tolist()
    assert loaded.signatures["default"](a=3 * X, b=X)["default"].numpy().tolist() == (2 * X).numpy().tolist()


def test_an_input_without_a_name_has_the_same_one_in_each_process(tmp_path: Path) -> None:
    for number in range(2):
        model = keras3.Sequential([keras3.Input((3,)), keras3.layers.Dense(1)])
        loaded = hubclient.load(hubclient.export(model, tmp_path / str(number)))
        assert list(loaded.signatures["default"].structured_input_signature[1]) == ["inputs"]


def test_a_subclassed_model_must_have_been_called_or_told(tmp_path: Path, load: Callable[[str], Any]) -> None:
    class Doubling(keras3.Model):  # type: ignore[misc]  # Keras is untyped
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras3.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return 2 * self.dense(x)

    model = Doubling()
    with pytest.raises(
        hubclient.ExportInvalid, match=r"call it once, or say so by inputs=tf|call it once, or say so by"
    ):
        hubclient.export(model, tmp_path / "m")
    wanted = model(X).numpy()
    assert load(hubclient.export(model, tmp_path / "m"))(X).numpy() == pytest.approx(wanted)
    told = load(hubclient.export(model, tmp_path / "told", inputs=tf.TensorSpec([None, 3], tf.float64, "points")))
    assert told(tf.cast(X, tf.float64)).numpy() == pytest.approx(wanted)
    assert list(told.signatures["default"].structured_input_signature[1]) == ["points"]


def test_a_sequential_model_without_an_input_is_told_so(tmp_path: Path, keras: Any) -> None:
    with pytest.raises(hubclient.ExportInvalid, match=r"keras\.Input"):
        hubclient.export(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "m")


def test_the_batch_size_of_the_first_call_binds_nobody(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    model = keras.Sequential([keras.layers.Dense(2)])
    model(X[:1])
    assert load(hubclient.export(model, tmp_path / "m"))(X).numpy() == pytest.approx(model(X).numpy())


@pytest.mark.parametrize("wrap", [list, lambda pair: dict(zip("ab", pair, strict=True))], ids=["list", "dict"])
def test_a_subclassed_model_that_was_called_knows_its_structure(tmp_path: Path, keras: Any, wrap: Any) -> None:
    class Sum(keras.Model):  # type: ignore[misc]  # Keras is untyped
        def call(self, pair: Any) -> Any:
            return tf.add_n(tf.nest.flatten(pair))

    model = Sum()
    model(wrap([X, X]))
    loaded = hubclient.load(hubclient.export(model, tmp_path / "m"))
    assert loaded(wrap([X[:2], 2 * X[:2]])).numpy() == pytest.approx(3 * X[:2].numpy())


def test_a_model_of_several_arguments_keeps_them(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    class Difference(keras.Model):  # type: ignore[misc]  # Keras is untyped
        def call(self, a: Any, b: Any, training: Any = None) -> Any:
            return b - a if training else a - b

    spec = tf.TensorSpec([None, 3], tf.float32)
    with pytest.raises(hubclient.ExportInvalid, match="the arguments a, b"):
        hubclient.export(Difference(), tmp_path / "m", inputs=spec)
    loaded = load(hubclient.export(Difference(), tmp_path / "m", inputs=[spec, spec]))
    assert loaded(X, 3 * X).numpy() == pytest.approx(-2 * X.numpy())
    assert loaded(X, 3 * X, training=True).numpy() == pytest.approx(2 * X.numpy())
    assert loaded.signatures["default"](a=X, b=3 * X)["default"].numpy() == pytest.approx(-2 * X.numpy())


def test_a_layer_with_a_spec(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    layer = keras.layers.Dense(2)
    spec = tf.TensorSpec([None, 3], tf.float32)
    loaded = load(hubclient.export(layer, tmp_path / "m", inputs=spec))
    assert loaded(X).numpy() == pytest.approx(layer(X).numpy())
    assert len(loaded.trainable_variables) == 2


def test_a_text_model_with_a_vocabulary(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    look_up = keras.layers.StringLookup(vocabulary=["one", "two"])
    model = keras.Sequential([keras.layers.Input((), dtype="string", name="words"), look_up])
    loaded = load(hubclient.export(model, tmp_path / "m"))
    assert loaded(tf.constant(["two", "x"])).numpy().tolist() == [2, 0]


def test_a_text_model_that_was_adapted(tmp_path: Path, keras: Any, load: Callable[[str], Any]) -> None:
    words = keras.layers.TextVectorization(max_tokens=9, output_sequence_length=3)
    words.adapt(tf.constant(["the cat", "the the dog"]))
    model = keras.Sequential([keras.layers.Input((), dtype="string"), words, keras.layers.Embedding(9, 2)])
    text = tf.constant(["the cow", "cat the"])
    loaded = load(hubclient.export(model, tmp_path / "m"))
    assert loaded(text).numpy() == pytest.approx(model(text).numpy())
    assert [tuple(v.shape) for v in loaded.variables] == [(9, 2)]


def test_a_tf_module_around_a_keras_3_layer_stores_its_weights_once(tmp_path: Path, load: Callable[[str], Any]) -> None:
    module = tf.Module()
    module.dense = keras3.layers.Dense(2)
    module.scale = tf.Variable(3.0)
    module.dense.build((None, 3))
    module.__call__ = tf.function(
        lambda x: module.scale * module.dense(x), input_signature=[tf.TensorSpec([None, 3], tf.float32)]
    )
    path = hubclient.export(module, tmp_path / "m")
    keys = tf.train.load_checkpoint(path + "/variables/variables").get_variable_to_shape_map()
    assert sorted(tuple(shape) for key, shape in keys.items() if key.endswith("VARIABLE_VALUE")) == [(), (2,), (3, 2)]
    loaded = load(path)
    assert loaded(X).numpy() == pytest.approx((3 * module.dense(X)).numpy())
    assert len(loaded.trainable_variables) == 3


def test_a_tf_module_around_a_model_counts_each_regularizer_once(tmp_path: Path, keras: Any) -> None:
    module = tf.Module()
    module.model = regularized(keras)
    module.first = module.model.layers[0]
    module.__call__ = tf.function(lambda x: module.model(x), input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    loaded = hubclient.load(hubclient.export(module, tmp_path / "m"))
    assert [float(loss()) for loss in loaded.regularization_losses] == pytest.approx(
        [float(loss) for loss in module.model.losses]
    )


def test_training_and_inference_as_variants_of_one_model(tmp_path: Path) -> None:
    model = regularized(keras3)
    path = hubclient.export(
        model,
        tmp_path / "m",
        tags=(),
        variants={"train": lambda x: model(x, training=True)},
        inputs=tf.TensorSpec([None, 3], tf.float32),
    )
    assert hubclient.load(path)(X).numpy() == pytest.approx(model(X, training=False).numpy())
    assert (hubclient.load(path, tags="train")(X).numpy() == 0).any()
    keys = tf.train.load_checkpoint(path + "/variables/variables").get_variable_to_shape_map()
    assert sum(key.endswith("VARIABLE_VALUE") for key in keys) == len(model.variables)
