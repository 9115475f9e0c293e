"""`export` of all kinds of objects: what the module then offers, to every loader alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hubclient
from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

SPEC = tf.TensorSpec([None, 2], tf.float32)
X = tf.constant([[1.0, 2.0], [3.0, -4.0]])
LOADERS: list[Callable[[str], Any]] = [hubclient.load, tf.saved_model.load]


class Affine(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
    """x @ kernel + bias, with a loss, a method and a counter that is not trainable."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable([[2.0, 0.5], [-1.0, 3.0]], name="kernel")
        self.bias = tf.Variable([10.0, 20.0], name="bias")
        self.calls = tf.Variable(7, trainable=False, name="calls")
        self.regularization_losses = [lambda: 0.5 * tf.reduce_sum(self.kernel**2)]

    @tf.function(input_signature=[SPEC])  # type: ignore[untyped-decorator]
    def __call__(self, x: Any) -> Any:
        return x @ self.kernel + self.bias

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])  # type: ignore[untyped-decorator]
    def scale(self, factor: Any) -> Any:
        return factor * self.bias


def expected(x: Any = X) -> Any:
    return (x.numpy() @ [[2.0, 0.5], [-1.0, 3.0]] + [10.0, 20.0]).tolist()


def stored(path: str) -> dict[str, list[int]]:
    """The values in the checkpoint, by their keys."""
    shapes = tf.train.load_checkpoint(path + "/variables/variables").get_variable_to_shape_map()
    return {key: shape for key, shape in shapes.items() if key.endswith("VARIABLE_VALUE")}


@pytest.fixture(params=LOADERS, ids=["hubclient", "tensorflow"])
def load(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    loader: Callable[[str], Any] = request.param
    return loader


def test_a_module_keeps_call_variables_losses_and_its_functions(tmp_path: Path, load: Callable[[str], Any]) -> None:
    path = hubclient.export(Affine(), tmp_path / "m")
    assert path == str(tmp_path / "m")
    loaded = load(path)
    assert loaded(X).numpy().tolist() == expected()
    assert sorted(v.name for v in loaded.variables) == ["bias:0", "calls:0", "kernel:0"]
    assert sorted(v.name for v in loaded.trainable_variables) == ["bias:0", "kernel:0"]
    assert [float(loss()) for loss in loaded.regularization_losses] == [0.5 * (4 + 0.25 + 1 + 9)]
    assert loaded.scale(tf.constant(2.0)).numpy().tolist() == [20, 40]
    assert loaded.calls.numpy() == 7
    loaded.kernel.assign_add(tf.ones([2, 2]))
    assert [float(loss()) for loss in loaded.regularization_losses] == [0.5 * (9 + 2.25 + 0 + 16)]


def test_the_signatures_default_and_serving_default_are_there(tmp_path: Path, load: Callable[[str], Any]) -> None:
    signatures = load(hubclient.export(Affine(), tmp_path / "m")).signatures
    assert set(signatures) == {"default", "serving_default"}
    assert {name: value.numpy().tolist() for name, value in signatures["default"](x=X).items()} == {
        "default": expected()
    }
    assert {name: value.numpy().tolist() for name, value in signatures["serving_default"](x=X).items()} == {
        "output_0": expected()
    }


def test_each_variable_is_stored_once(tmp_path: Path) -> None:
    shapes = stored(hubclient.export(Affine(), tmp_path / "m"))
    assert sorted(map(tuple, shapes.values())) == [(), (2,), (2, 2)]


def test_the_object_is_left_as_it_was(tmp_path: Path) -> None:
    module = Affine()
    before = {name: id(value) for name, value in vars(module).items()}
    hubclient.export(module, tmp_path / "m", {"other": module.scale})
    assert {name: id(value) for name, value in vars(module).items()} == before
    assert module(X).numpy().tolist() == expected()


def test_a_function_brings_the_variables_that_it_uses(tmp_path: Path, load: Callable[[str], Any]) -> None:
    factor, unseen = tf.Variable(3.0), tf.Variable(5.0, trainable=False)
    function = tf.function(lambda x: factor * x + unseen, input_signature=[SPEC])
    loaded = load(hubclient.export(function, tmp_path / "m"))
    assert loaded(X).numpy().tolist() == (3 * X + 5).numpy().tolist()
    assert (len(loaded.variables), len(loaded.trainable_variables)) == (2, 1)


def test_a_concrete_function_becomes_a_callable_module(tmp_path: Path, load: Callable[[str], Any]) -> None:
    concrete = tf.function(lambda x, twice=False: 2 * x if twice else x).get_concrete_function(SPEC, twice=True)
    loaded = load(hubclient.export(concrete, tmp_path / "m"))
    assert loaded(X).numpy().tolist() == (2 * X).numpy().tolist()
    assert loaded.signatures["default"](x=X)["default"].numpy().tolist() == (2 * X).numpy().tolist()


def test_a_concrete_function_of_several_inputs_too(tmp_path: Path, load: Callable[[str], Any]) -> None:
    concrete = tf.function(lambda a, b: a - b).get_concrete_function(SPEC, SPEC)
    loaded = load(hubclient.export(concrete, tmp_path / "m"))
    assert loaded(X, 2 * X).numpy().tolist() == (-X).numpy().tolist()
    outputs = loaded.signatures["default"](a=X, b=2 * X)
    assert outputs["default"].numpy().tolist() == (-X).numpy().tolist()


def test_a_plain_callable_needs_a_spec_and_then_works(tmp_path: Path, load: Callable[[str], Any]) -> None:
    with pytest.raises(hubclient.ExportInvalid, match=r"inputs=tf\.TensorSpec"):
        hubclient.export(lambda x: 2 * x, tmp_path / "m")
    loaded = load(hubclient.export(lambda x: 2 * x, tmp_path / "m", inputs=SPEC))
    assert loaded(X).numpy().tolist() == (2 * X).numpy().tolist()
    assert loaded.signatures["default"](x=X)["default"].numpy().tolist() == (2 * X).numpy().tolist()


def test_training_is_traced_for_both_and_off_in_signatures(tmp_path: Path, load: Callable[[str], Any]) -> None:
    def call(x: Any, training: Any = False) -> Any:
        return -x if training else x

    loaded = load(hubclient.export(call, tmp_path / "m", inputs=SPEC))
    assert loaded(X).numpy().tolist() == loaded(X, training=False).numpy().tolist() == X.numpy().tolist()
    assert loaded(X, training=True).numpy().tolist() == (-X).numpy().tolist()
    assert loaded.signatures["default"](x=X)["default"].numpy().tolist() == X.numpy().tolist()


def test_a_training_switch_that_is_a_tensor_is_off_in_signatures(tmp_path: Path, load: Callable[[str], Any]) -> None:
    @tf.function(input_signature=[SPEC, tf.TensorSpec([], tf.bool)])  # type: ignore[untyped-decorator]
    def call(x: Any, training: Any) -> Any:
        return tf.cond(training, lambda: -x, lambda: x)

    loaded = load(hubclient.export(call, tmp_path / "m"))
    assert loaded(X, True).numpy().tolist() == (-X).numpy().tolist()
    assert loaded.signatures["default"](x=X)["default"].numpy().tolist() == X.numpy().tolist()


@pytest.mark.parametrize(
    ("call", "inputs", "arguments", "names"),
    [
        (lambda x: {"sum": x["b"] + x["a"]}, {"b": SPEC, "a": SPEC}, ({"a": X, "b": 2 * X},), {"a": X, "b": 2 * X}),
        (lambda a, b: {"sum": a + b}, [SPEC, SPEC], (X, 2 * X), {"a": X, "b": 2 * X}),
        (lambda a, b: {"sum": a + b}, {"b": SPEC, "a": SPEC}, (X, 2 * X), {"a": X, "b": 2 * X}),
        (lambda pair: {"sum": pair[0] + pair[1]}, [SPEC, SPEC], ([X, 2 * X],), {"pair_0": X, "pair_1": 2 * X}),
        (
            lambda pair: {"sum": pair[0] + pair[1]},
            [tf.TensorSpec([None, 2], tf.float32, "p"), tf.TensorSpec([None, 2], tf.float32, "q")],
            ([X, 2 * X],),
            {"p": X, "q": 2 * X},
        ),
    ],
    ids=["dict", "positions", "names", "list", "named list"],
)
def test_inputs_are_named_after_arguments_keys_and_specs(
    tmp_path: Path, load: Callable[[str], Any], call: Any, inputs: Any, arguments: Any, names: dict[str, Any]
) -> None:
    loaded = load(hubclient.export(call, tmp_path / "m", inputs=inputs))
    if call.__code__.co_argcount == 1 or isinstance(inputs, list):
        assert loaded(*arguments)["sum"].numpy().tolist() == (3 * X).numpy().tolist()
    else:
        assert loaded(**names)["sum"].numpy().tolist() == (3 * X).numpy().tolist()
    for signature, output in (("default", "default"), ("serving_default", "sum")):
        assert loaded.signatures[signature](**names)[output].numpy().tolist() == (3 * X).numpy().tolist()


@pytest.mark.parametrize(
    ("call", "inputs", "names"),
    [
        (lambda x, y=1.0: x + y, {"x": SPEC, "y": SPEC}, {"x": X, "y": 2 * X}),
        (lambda *xs: tf.add_n(list(xs)), [SPEC, SPEC], {"xs_0": X, "xs_1": 2 * X}),
        (lambda **xs: xs["a"] + xs["b"], {"a": SPEC, "b": SPEC}, {"a": X, "b": 2 * X}),
        (lambda: 3 * X, [], {}),
        (
            lambda d: d["_a"] + d["1"] + d["é.b"],
            dict.fromkeys(["_a", "1", "é.b"], SPEC),
            ["input_a", "input_1", "input_b"],
        ),
    ],
    ids=["optional", "any number", "any names", "none", "odd keys"],
)
def test_optional_many_and_oddly_named_inputs(tmp_path: Path, call: Any, inputs: Any, names: Any) -> None:
    loaded = hubclient.load(hubclient.export(call, tmp_path / "m", inputs=inputs))
    names = dict.fromkeys(names, X) if isinstance(names, list) else names
    assert loaded.signatures["default"](**names)["default"].numpy().tolist() == (3 * X).numpy().tolist()


def test_a_variable_of_a_strategy_is_stored_once(tmp_path: Path, load: Callable[[str], Any]) -> None:
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        module = Affine()
    path = hubclient.export(module, tmp_path / "m")
    assert len(stored(path)) == 3
    assert len(load(path).variables) == 3
    assert load(path)(X).numpy().tolist() == expected()


def test_sparse_and_ragged_inputs(tmp_path: Path, load: Callable[[str], Any]) -> None:
    sparse = tf.sparse.from_dense(X)
    dense = load(
        hubclient.export(tf.sparse.to_dense, tmp_path / "s", inputs=tf.SparseTensorSpec([None, 2], tf.float32))
    )
    assert dense(sparse).numpy().tolist() == X.numpy().tolist()
    ragged = tf.ragged.constant([[1.0], [2.0, 3.0]])
    sums = load(
        hubclient.export(lambda r: tf.reduce_sum(r, 1), tmp_path / "r", inputs=tf.RaggedTensorSpec([None, None]))
    )
    assert sums(ragged).numpy().tolist() == [1, 5]
    assert "default" in sums.signatures


def test_own_signatures_are_added_and_replace(tmp_path: Path, load: Callable[[str], Any]) -> None:
    module = Affine()
    negative = tf.function(lambda x: {"default": -module(x)}, input_signature=[SPEC]).get_concrete_function()
    loaded = load(hubclient.export(module, tmp_path / "m", {"scale": module.scale, "default": negative}))
    assert set(loaded.signatures) == {"default", "scale", "serving_default"}
    assert loaded.signatures["default"](x=X)["default"].numpy().tolist() == [[-v for v in row] for row in expected()]
    assert loaded.signatures["scale"](tf.constant(2.0))["output_0"].numpy().tolist() == [20, 40]


def test_an_object_without_call_is_its_signatures(tmp_path: Path, load: Callable[[str], Any]) -> None:
    module = tf.Module()
    module.factor = tf.Variable(4.0)
    double = tf.function(lambda x: module.factor * x, input_signature=[SPEC])
    loaded = load(hubclient.export(module, tmp_path / "m", {"serving_default": double}))
    assert not callable(loaded)
    assert loaded.signatures["default"](x=X)["default"].numpy().tolist() == (4 * X).numpy().tolist()
    assert loaded.factor.numpy() == 4


def test_tables_and_their_assets_come_along(tmp_path: Path, load: Callable[[str], Any]) -> None:
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("zero\none\ntwo\n")
    initializer = tf.lookup.TextFileInitializer(
        str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module = tf.Module()
    module.parts = [tf.lookup.StaticHashTable(initializer, -1)]
    module.__call__ = tf.function(
        lambda words: module.parts[0].lookup(words), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    path = hubclient.export(module, tmp_path / "m")
    vocabulary.unlink()
    assert load(path)(tf.constant(["two", "x"])).numpy().tolist() == [2, -1]
    assert (Path(path) / "assets" / "words.txt").read_text() == "zero\none\ntwo\n"


def test_a_loaded_module_is_exported_with_its_new_weights(tmp_path: Path, load: Callable[[str], Any]) -> None:
    module = Affine()
    first = hubclient.load(hubclient.export(module, tmp_path / "first", {"scale": module.scale}))
    first.bias.assign([0.0, 0.0])
    again = load(hubclient.export(first, tmp_path / "again"))
    assert again(X).numpy().tolist() == first(X).numpy().tolist() != expected()
    assert set(again.signatures) == {"default", "scale", "serving_default"}
    assert again.signatures["default"](x=X)["default"].numpy().tolist() == first(X).numpy().tolist()
    assert len(again.trainable_variables) == 2
    assert len(again.regularization_losses) == 1
    assert len(stored(str(tmp_path / "again"))) == 3


def test_a_custom_gradient_survives(tmp_path: Path, load: Callable[[str], Any]) -> None:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def halved(x: Any) -> Any:
        return x, lambda upstream: 0.5 * upstream

    loaded = load(hubclient.export(lambda x: halved(x), tmp_path / "m", inputs=SPEC))
    with tf.GradientTape() as tape:
        tape.watch(X)
        y = loaded(X)
    assert tape.gradient(y, X).numpy().tolist() == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("name", ["text", "many", "variants"])
def test_a_loaded_tf1_module_is_exported_with_its_signatures(
    tmp_path: Path, load: Callable[[str], Any], modules: Modules, name: str
) -> None:
    first = hubclient.load(modules(f"tf1/{name}"))
    again = load(hubclient.export(first, tmp_path / "m"))
    assert set(first.signatures) <= set(again.signatures)
    for signature, function in first.signatures.items():
        given = {key: example(spec) for key, spec in function.structured_input_signature[1].items()}
        outputs, wanted = again.signatures[signature](**given), function(**given)
        assert outputs.keys() == wanted.keys()
        for key, value in wanted.items():
            dense = tf.sparse.to_dense if isinstance(value, tf.SparseTensor) else tf.identity
            assert dense(outputs[key]).numpy().tolist() == dense(value).numpy().tolist()


def test_of_a_tf1_module_that_tensorflow_cannot_save_the_other_way_is_told(tmp_path: Path, modules: Modules) -> None:
    with pytest.raises(hubclient.ExportInvalid, match=r"hubclient\.Module\(handle\)\.export"):
        hubclient.export(hubclient.load(modules("tf1/partitioned")), tmp_path / "m")


def example(spec: Any) -> Any:
    if spec.dtype == tf.string:
        return tf.fill([size or 2 for size in spec.shape], "cat")
    return tf.ones([size or 2 for size in spec.shape], spec.dtype)
