"""Modules in the TF1 format in the eager world: what `Module` answers is what TensorFlow itself makes of them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from hubclient.instances.tf1_resources import make_resource
from tests.support.weights import weights

pytestmark = pytest.mark.tensorflow

tf: Any = pytest.importorskip("tensorflow")
from tests.support import tf1_modules  # noqa: E402  # which needs TensorFlow

v1: Any = tf.compat.v1

ROWS = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], "float32")
TEXTS = ["the quick", "fox", "unknown the"]


@pytest.mark.parametrize(
    ("name", "signature", "inputs"),
    [
        ("affine", "default", {"default": ROWS}),
        ("variants", "default", {"default": ROWS}),
        ("text", "default", {"default": np.array(TEXTS)}),
        ("ref_variables", "default", {"default": ROWS}),
        ("partitioned", "default", {"default": np.array([0, 3, 6])}),
        ("while_v1", "default", {"x": ROWS, "steps": np.int32(3)}),
        ("while_v1", "fixed", {"default": ROWS}),
        ("cond_v1", "default", {"default": ROWS}),
        ("cond_v1", "default", {"default": -ROWS}),
        ("control_flow_v2", "default", {"x": ROWS, "steps": np.int32(2)}),
        ("many", "two_inputs", {"a": ROWS[:, :2], "b": ROWS[:, 1:]}),
        ("many", "no_default", {"x": ROWS[:, :2]}),
        ("many", "extra", {"x": ROWS[:, :2]}),
        ("many", "no_inputs", {}),
        ("image", "default", {"images": np.ones([2, 12, 16, 3], "float32")}),
        ("no_variables", "default", {"default": np.array([1.0, 2.0], "float32")}),
        ("plain", "serving_default", {"words": np.array(["fox", "unknown"])}),
    ],
)
def test_every_signature_answers_what_tensorflow_answers(
    modules: Callable[[str], str], name: str, signature: str, inputs: dict[str, Any]
) -> None:
    path = modules(f"tf1/{name}")
    expected = tf.saved_model.load(path, tags=["serve"] if name == "plain" else []).signatures[signature](
        **{key: tf.constant(value) for key, value in inputs.items()}
    )
    module = hub.Module(path)
    answers = [
        module(inputs, signature=signature, as_dict=True),
        tf.function(lambda given: module(given, signature=signature, as_dict=True))(inputs),
    ]
    for answer in answers:
        assert set(answer) == set(expected)
        for key in expected:
            np.testing.assert_allclose(answer[key], expected[key], rtol=1e-6)


def test_sparse_inputs_and_outputs_stay_sparse(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/sparse"))
    rows = tf.sparse.from_dense(ROWS)
    np.testing.assert_allclose(module(rows), ROWS @ weights("w", [3, 2]), rtol=1e-5)
    scaled = module(rows, signature="scaled")
    assert isinstance(scaled, tf.SparseTensor)
    np.testing.assert_allclose(tf.sparse.to_dense(scaled), ROWS * weights("scale", []), rtol=1e-6)
    assert module.get_input_info_dict()["default"].is_sparse
    with pytest.raises(hub.InputInvalid, match="a sparse float32 of shape"):
        module(ROWS)


def test_the_infos_name_inputs_and_outputs_of_a_signature(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/many"))
    assert module.get_signature_names() == ["default", "extra", "no_default", "no_inputs", "two_inputs"]
    inputs, outputs = module.get_input_info_dict("two_inputs"), module.get_output_info_dict("two_inputs")
    assert {name: (info.dtype, info.get_shape().as_list()) for name, info in inputs.items()} == {
        "a": (tf.float32, [None, 2]),
        "b": (tf.float32, [None, 2]),
    }
    assert sorted(outputs) == ["default", "product"]


def test_the_signature_serving_default_is_what_a_bare_call_applies(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/plain"))
    assert module.tags == ("serve",)
    expected = module({"words": ["fox"]}, signature="serving_default", as_dict=True)["embeddings"]
    np.testing.assert_array_equal(module(["fox"]), expected)
    np.testing.assert_array_equal(expected, weights("embedding", [5, 3])[3:4])


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"signature": "no"}, hub.SignatureNotFound, r"no signature 'no'; it has \['default', 'extra'"),
        ({"inputs": ROWS[:, :2], "signature": "two_inputs"}, hub.InputInvalid, r"a dict with the keys \['a', 'b'\]"),
        (
            {"inputs": {"a": ROWS, "c": ROWS}, "signature": "two_inputs"},
            hub.InputInvalid,
            r"missing \['b'\], unexpected \['c'\]",
        ),
        ({"inputs": ROWS}, hub.InputInvalid, r"float32 of shape \(None, 2\), not float32 of shape \(2, 3\)"),
        ({"inputs": ROWS[:, :2], "signature": "no_default"}, hub.OutputNotFound, r"it has \['double', 'sum'\]"),
    ],
)
def test_a_wrong_call_names_what_there_is(
    modules: Callable[[str], str], arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    module = hub.Module(modules("tf1/many"))
    with pytest.raises(error, match=told):
        module(**arguments)


def test_unknown_tags_list_the_variants(modules: Callable[[str], str]) -> None:
    with pytest.raises(hub.VariantNotFound, match=r"the tags \['gpu'\]; it has \{\}, \{'train'\}"):
        hub.Module(modules("tf1/variants"), tags={"gpu"})


def test_the_parts_of_a_partitioned_variable_are_under_its_name(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/partitioned"))
    named = module.variable_map
    assert {name: [part.shape.as_list() for part in parts] for name, parts in named.items()} == {
        "embedding": [[3, 4], [2, 4], [2, 4]],
        "w": [[2, 2], [2, 2]],
    }
    np.testing.assert_array_equal(tf.concat(named["embedding"], 0), weights("embedding", [7, 4]))
    assert len(module.variables) == 5


def test_a_module_that_is_not_trainable_has_nothing_to_train(modules: Callable[[str], str]) -> None:
    module = hub.Module(modules("tf1/variants"), tags={"train"})
    before = [variable.numpy() for variable in module.variables]
    module(ROWS, training=True)
    assert module.trainable_variables == []
    assert module.regularization_losses == []
    assert not any(variable.trainable for variable in module.variables)
    for variable, value in zip(module.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_an_attached_message_is_found_by_its_key(modules: Callable[[str], str]) -> None:
    from google.protobuf import empty_pb2

    module = hub.Module(modules("tf1/image"))
    message = module.get_attached_message("image_module_info", empty_pb2.Empty)
    assert message.SerializeToString() == b"\x0a\x04\x08\x0c\x10\x10"
    assert module.get_attached_message("other", empty_pb2.Empty) is None


def test_two_modules_in_one_process_keep_tables_and_functions_apart(modules: Callable[[str], str]) -> None:
    first, second = hub.Module(modules("tf1/text")), hub.Module(modules("tf1/text"))
    expected = first(TEXTS)
    second.variables[0].assign(tf.zeros_like(second.variables[0]))
    np.testing.assert_array_equal(second(TEXTS), tf.zeros([3, 3]))
    del second
    gc.collect()
    np.testing.assert_array_equal(first(TEXTS), expected)


def test_the_tables_of_a_module_go_with_the_last_function_that_uses_them(modules: Callable[[str], str]) -> None:
    def made() -> tuple[Any, Any, Any]:
        module = hub.Module(modules("tf1/text"))
        (table,) = module._instance.functions.resources.values()  # type: ignore[attr-defined]  # no public way to see it
        function = tf.function(lambda texts: module(texts)).get_concrete_function(tf.TensorSpec([None], "string"))
        return function, module(TEXTS), weakref.ref(table.resource_handle)

    function, expected, handle = made()
    gc.collect()
    np.testing.assert_array_equal(function(tf.constant(TEXTS)), expected)
    del function
    gc.collect()
    assert handle() is None


def test_a_queue_of_a_module_goes_with_the_last_function_that_uses_it() -> None:
    """Of a queue, unlike of a table, TensorFlow does not count the handles."""

    def made() -> Any:
        with tf.Graph().as_default() as graph:
            tf.raw_ops.FIFOQueueV2(component_types=[tf.int64], shared_name="numbers", name="queue")
        queue = make_resource("queue", graph.as_graph_def())
        return tf.function(lambda: tf.raw_ops.QueueSizeV2(handle=queue.resource_handle)).get_concrete_function()

    size = made()
    gc.collect()
    named = tf.raw_ops.FIFOQueueV2(component_types=[tf.int64], shared_name="numbers")
    tf.raw_ops.QueueEnqueueV2(handle=named, components=[tf.constant(7, tf.int64)])
    assert size() == 1
    del size
    gc.collect()
    with pytest.raises(tf.errors.NotFoundError):
        tf.raw_ops.QueueSizeV2(handle=named)


def test_a_signature_may_have_two_names_for_one_tensor(tmp_path: Path) -> None:
    def build() -> tf1_modules.Variant:
        x = v1.placeholder(tf.float32, [None], "x")
        return tf1_modules.Variant({"default": ({"x": x, "again": x}, {"default": x * 2.0})})

    path = str(tmp_path / "module")
    tf1_modules.write(path, {(): build})
    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(hub.Module(path)({"x": x, "again": x}), [2, 4])


def test_several_replicas_are_refused(modules: Callable[[str], str]) -> None:
    with (
        tf.distribute.MirroredStrategy(["/cpu:0"]).scope(),
        pytest.raises(hub.ModuleUnsupported, match="outside of the scope"),
    ):
        hub.Module(modules("tf1/affine"))


def test_a_module_made_while_a_function_is_traced_belongs_to_the_eager_world(modules: Callable[[str], str]) -> None:
    made: list[hub.Module] = []

    def apply(rows: Any) -> Any:
        if not made:
            made.append(hub.Module(modules("tf1/text")))
        return made[0](rows)

    np.testing.assert_array_equal(tf.function(apply, autograph=False)(tf.constant(TEXTS)), made[0](TEXTS))
    assert tf.executing_eagerly()


def test_threads_may_apply_one_module(modules: Callable[[str], str]) -> None:
    expected = hub.Module(modules("tf1/while_v1"))(ROWS, signature="fixed")
    module = hub.Module(modules("tf1/while_v1"))
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: module(ROWS, signature="fixed"), range(16)):
            np.testing.assert_array_equal(answer, expected)


def test_a_path_object_is_a_handle(modules: Callable[[str], str]) -> None:
    module = hub.Module(Path(modules("tf1/affine")))
    np.testing.assert_allclose(module(ROWS), ROWS @ weights("w", [3, 2]) + weights("b", [2]), rtol=1e-5)
