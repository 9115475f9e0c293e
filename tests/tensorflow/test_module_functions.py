"""Modules in the TF1 format whose graphs call functions: what the calls give, do, and have as gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub
from tests.support.weights import weights

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
from tensorflow.python.framework import function as functions  # noqa: E402  # TensorFlow 1's functions have no public name

from hubclient.instances.inlining import inline_calls  # noqa: E402  # which needs TensorFlow
from tests.support import tf1_modules  # noqa: E402

v1: Any = tf.compat.v1

Modules = Callable[[str], str]
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], "float32")
WORDS = ["the quick", "fox", "unheard of"]
IMAGES = np.linspace(0, 1, 2 * 8 * 8 * 3, dtype="float32").reshape(2, 8, 8, 3)


def in_a_session(*tensors: Any) -> list[Any]:
    with v1.Session() as session:
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        return list(session.run(tensors))


def eager_gradients(path: str, x: Any, **options: Any) -> list[Any]:
    m = hub.Module(path, trainable=True, **options)
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(m(tf.constant(x), training=False) ** 2)
    return [tf.convert_to_tensor(each).numpy() for each in tape.gradient(y, m.trainable_variables)]


def graph_gradients(path: str, x: Any, in_function: bool = False, **options: Any) -> list[Any]:
    with tf.Graph().as_default():
        m = hub.Module(path, trainable=True, **options)
        apply = tf.function(lambda x: m(x), autograph=False) if in_function else m
        y = tf.reduce_sum(apply(tf.constant(x)) ** 2)
        return in_a_session(*map(tf.convert_to_tensor, tf.gradients(y, m.trainable_variables)))


def write_activation(path: str, gradient_factor: float | None) -> None:
    """``f(x @ w)`` for a function of TensorFlow 1, ``h * sigmoid(h)``, perhaps with a gradient of its own."""

    @functions.Defun(tf.float32, tf.float32, func_name="swish_gradient")  # type: ignore[untyped-decorator]  # untyped too
    def gradient(h: Any, dy: Any) -> Any:
        s = tf.sigmoid(h)
        return dy * s * (1 + h * (1 - s)) * gradient_factor

    own = {} if gradient_factor is None else {"grad_func": gradient}

    @functions.Defun(tf.float32, func_name="swish", noinline=True, **own)  # type: ignore[untyped-decorator]
    def swish(h: Any) -> Any:
        return h * tf.sigmoid(h)

    def build() -> tf1_modules.Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        h = x @ tf1_modules.variable("w", [3, 2])
        y = swish(h)
        y.set_shape(h.shape)
        return tf1_modules.Variant({"default": ({"default": x}, {"default": y})})

    tf1_modules.write(path, {(): build})


@pytest.mark.parametrize("gradient_factor", [None, 3.0])
def test_functions_of_tensorflow_1_have_their_own_gradients(tmp_path: Path, gradient_factor: float | None) -> None:
    path, exported = str(tmp_path / "source"), str(tmp_path / "exported")
    write_activation(path, gradient_factor)
    h = X @ weights("w", [3, 2])
    s = 1 / (1 + np.exp(-h))
    np.testing.assert_allclose(hub.Module(path)(X), h * s, rtol=1e-5, atol=1e-6)
    hub.Module(path, trainable=True).export(exported)
    wanted = X.T @ (2 * h * s * s * (1 + h * (1 - s)) * (gradient_factor or 1.0))
    for found in (
        eager_gradients(path, X),
        eager_gradients(exported, X),
        graph_gradients(path, X),
        graph_gradients(path, X, in_function=True),
    ):
        np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "x"), [("text_embedding", WORDS), ("image_feature_vector", IMAGES), ("with_arguments", X[:, :2])]
)
def test_what_a_graph_exported_of_tensorflow_2_can_be_fine_tuned_again(
    modules: Modules, tmp_path: Path, module: str, x: Any
) -> None:
    source, exported, again = modules(f"tf2/{module}"), str(tmp_path / "exported"), str(tmp_path / "again")
    for path, to in ((source, exported), (exported, again)):
        with tf.Graph().as_default(), v1.Session() as session:
            m = hub.Module(path, trainable=True)
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            m.export(to, session)
    wanted = sorted(eager_gradients(source, x), key=_shape_and_sum)
    for path in (exported, again):
        for found in (eager_gradients(path, x), graph_gradients(path, x)):
            for gradient, right in zip(sorted(found, key=_shape_and_sum), wanted, strict=True):
                np.testing.assert_allclose(gradient, right, rtol=1e-3, atol=1e-4)


def _shape_and_sum(gradient: Any) -> Any:
    """An order that does not hang on that of the variables, which differs between the forms of a module."""
    return gradient.shape, float(gradient.sum())


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """Calls within calls: the outer counts, gives two outputs, and must follow what the caller did before."""

    def build() -> tf1_modules.Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        w = tf1_modules.variable("w", [3])
        count = tf1_modules.variable("count", [], trainable=False)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
        def inner(x: Any) -> Any:
            return tf.split(x * w, 3, axis=1)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
        def outer(x: Any) -> Any:
            was = count.read_value()
            count.assign_add(1.0, read_value=False)
            return inner(x)[1], was

        with tf.control_dependencies([count.assign(5.0, read_value=False)]):
            y, was = outer(x)
        return tf1_modules.Variant({"default": ({"default": x}, {"default": y, "was": was})})

    path = str(tmp_path / "counting")
    tf1_modules.write(path, {(): build})
    return path


def test_a_call_does_in_its_step_what_it_did(counting: str) -> None:
    wanted = (X * weights("w", [3]))[:, 1:2]
    m = hub.Module(counting)
    outputs = m(X, as_dict=True)
    np.testing.assert_allclose(outputs["default"], wanted, rtol=1e-6)
    assert float(outputs["was"]) == 5.0
    assert float(m.variable_map["count"]) == 6.0
    with tf.Graph().as_default(), v1.Session() as session:
        m = hub.Module(counting)
        y = m(X)  # the other output is not asked for
        session.run(v1.global_variables_initializer())
        np.testing.assert_allclose(session.run(y), wanted, rtol=1e-6)
        assert session.run(m.variable_map["count"]) == 6.0


def test_loops_of_tensorflow_1_within_calls_go_on(modules: Modules, tmp_path: Path) -> None:
    eager, graph = str(tmp_path / "eager"), str(tmp_path / "graph")
    inputs = {"x": X, "steps": np.int32(3)}
    module = hub.Module(modules("tf1/while_v1"), trainable=True)
    module.export(eager)
    with tf.Graph().as_default(), v1.Session() as session:
        m = hub.Module(eager)
        session.run(v1.global_variables_initializer())
        m.export(graph, session)
    np.testing.assert_allclose(hub.Module(graph)(inputs), module(inputs), rtol=1e-5)


def _graph_with_a_call() -> Any:
    with tf.Graph().as_default() as graph:
        tf.function(lambda x: x + 1.0, autograph=False)(v1.placeholder(tf.float32, [], "x"))
    graph_def = graph.as_graph_def()
    (call,) = (node for node in graph_def.node if "PartitionedCall" in node.op)
    return graph_def, call


def test_a_function_that_calls_itself_is_refused() -> None:
    graph_def, call = _graph_with_a_call()
    (function,) = graph_def.library.function
    nested = function.node_def.add()
    nested.CopyFrom(call)
    nested.name, nested.input[:] = "again", [function.signature.input_arg[0].name]
    with pytest.raises(hub.ModuleBroken, match="calls itself"):
        inline_calls(graph_def, ())


def test_names_within_a_call_do_not_meet_others() -> None:
    graph_def, call = _graph_with_a_call()
    inner = graph_def.library.function[0].node_def[0].name
    graph_def.node.add(name=f"{call.name}/{inner}", op="NoOp")
    inline_calls(graph_def, ())
    names = [node.name for node in graph_def.node]
    assert len(set(names)) == len(names)
    assert {f"{call.name}/{inner}", f"{call.name}_/{inner}", call.name} <= set(names)
