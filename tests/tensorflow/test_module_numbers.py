"""`Module` gives the numbers that its weights mean, computed by numpy: no other library applies TF1 modules any more.

Law: each case runs in both worlds, eagerly and in a graph with a session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import hubclient
from tests.support.building import Modules
from tests.support.weights import weights

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]], "float32")
PAIRS = np.array([[1.0, 2.0], [3.0, -4.0]], "float32")
DENSE = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]], "float32")


class Case(NamedTuple):
    module: str
    inputs: Callable[[], Any]
    expected: Callable[[], Any]
    signature: str | None = None


def loop(x: Any, steps: int) -> Any:
    for _ in range(steps):
        x = np.tanh(x @ weights("w", [3, 3]))
    return x


def batch_norm_of_dense() -> Any:
    y = X @ weights("dense/kernel", [3, 4]) + weights("dense/bias", [4])
    mean, variance = weights("norm/moving_mean", [4]), weights("norm/moving_variance", [4])
    return (y - mean) / np.sqrt(variance + 1e-3) * weights("norm/gamma", [4]) + weights("norm/beta", [4])


def text_embeddings() -> Any:
    embedding = weights("embedding", [5, 3])
    return np.stack([(embedding[0] + embedding[3]) / np.sqrt(2), embedding[2], np.zeros(3)])


def control_flow_v2() -> Any:
    y = loop(X, 3)
    a = weights("a", [3])
    return 2 * (y * a if y.sum() > 0 else y - a)


CASES = {
    "affine": Case("affine", lambda: X, lambda: X @ weights("w", [3, 2]) + weights("b", [2])),
    "batch_norm": Case("variants", lambda: X, batch_norm_of_dense),
    "text": Case("text", lambda: ["the fox", "brown", ""], text_embeddings),
    "sparse": Case("sparse", lambda: tf.sparse.from_dense(DENSE), lambda: DENSE @ weights("w", [3, 2])),
    "ref_variables": Case(
        "ref_variables",
        lambda: X,
        lambda: X @ weights("w", [3, 2]) + weights("b", [2]) - weights("mean", [2]),
    ),
    "partitioned": Case(
        "partitioned",
        lambda: np.array([0, 3, 6], "int64"),
        lambda: weights("embedding", [7, 4])[[0, 3, 6]] @ weights("w", [4, 2]),
    ),
    "while_v1": Case("while_v1", lambda: {"x": X, "steps": np.int32(4)}, lambda: loop(X, 4)),
    "while_v1_fixed": Case("while_v1", lambda: X, lambda: loop(X, 3), "fixed"),
    "cond_v1_true": Case("cond_v1", lambda: X, lambda: X * weights("a", [3])),
    "cond_v1_false": Case("cond_v1", lambda: -X, lambda: -X - weights("b", [3])),
    "control_flow_v2": Case("control_flow_v2", lambda: {"x": X, "steps": np.int32(3)}, control_flow_v2),
    "two_inputs": Case(
        "many",
        lambda: {"a": PAIRS, "b": 2 * PAIRS},
        lambda: weights("scale", []) * PAIRS + 2 * PAIRS,
        "two_inputs",
    ),
    "extra_outputs": Case(
        "many", lambda: PAIRS, lambda: np.tanh(PAIRS @ weights("hidden", [2, 3])) @ weights("out", [3, 1]), "extra"
    ),
    "no_variables": Case("no_variables", lambda: np.array([1.0, -2.0], "float32"), lambda: np.array([3.0, -3.0])),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_eagerly(case: Case, modules: Modules) -> None:
    module = hubclient.Module(modules(f"tf1/{case.module}"))
    output = module(case.inputs(), signature=case.signature)
    np.testing.assert_allclose(output.numpy(), case.expected(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_in_a_graph(case: Case, modules: Modules) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        module = hubclient.Module(modules(f"tf1/{case.module}"))
        output = module(case.inputs(), signature=case.signature)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        np.testing.assert_allclose(session.run(output), case.expected(), rtol=1e-5, atol=1e-6)
