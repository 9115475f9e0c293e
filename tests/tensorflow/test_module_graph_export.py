"""Export of a Module from a graph: a module in the form of TensorFlow 1 that everything loads with equal outputs."""

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
from tests.support import tf1_modules  # noqa: E402  # which needs TensorFlow

v1: Any = tf.compat.v1

Modules = Callable[[str], str]
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], "float32")
A = np.array([[1.0, 2.0]], "float32")
IMAGES = np.linspace(0, 1, 2 * 8 * 8 * 3, dtype="float32").reshape(2, 8, 8, 3)
WORDS = np.array(["the quick", "fox", "unheard of"])

CASES: list[tuple[str, Any]] = [
    ("tf1/affine", X),
    ("tf1/variants", X),
    ("tf1/text", WORDS),
    ("tf1/ref_variables", X),
    ("tf1/partitioned", np.array([0, 3, 6])),
    ("tf1/while_v1", {"x": X, "steps": np.int32(4)}),
    ("tf1/control_flow_v2", {"x": X, "steps": np.int32(2)}),
    ("tf1/no_variables", np.array([1.0, 2.0], "float32")),
    ("tf1/plain", np.array(["quick", "slow"])),
    ("tf2/text_embedding", WORDS),
    ("tf2/image_feature_vector", IMAGES),
    ("tf2/multi", {"a": A, "b": A}),
    ("tf2/plain", X),
    ("tf2/ragged", v1.ragged.constant_value([[0, 3], [1]], dtype="int64")),
]


def initialize(session: Any) -> None:
    session.run([v1.global_variables_initializer(), v1.tables_initializer()])


def changed(path: str, to: str, inputs: Any, tags: set[str] | None = None) -> dict[str, Any]:
    """Add 0.25 to each trainable weight and export; what "default" gave before that."""
    with tf.Graph().as_default() as graph:
        m = hub.Module(path, trainable=True, tags=tags)
        outputs = m(inputs, as_dict=True)
        bump = [v1.assign_add(variable, tf.fill(variable.shape, 0.25)) for variable in m.trainable_variables]
        with v1.Session() as session:
            initialize(session)
            session.run(bump)
            values = session.run(outputs)
            graph.finalize()
            m.export(to, session)
    return dict(values)


def in_a_graph(path: str, inputs: Any, **options: Any) -> dict[str, Any]:
    with tf.Graph().as_default():
        outputs = hub.Module(path, **options)(inputs, as_dict=True)
        with v1.Session() as session:
            initialize(session)
            return dict(session.run(outputs))


def assert_close(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert wanted.keys() <= given.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(given[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("module", "inputs"), CASES, ids=[name for name, _ in CASES])
def test_the_export_gives_equal_outputs_everywhere(modules: Modules, tmp_path: Path, module: str, inputs: Any) -> None:
    path, to = modules(module), str(tmp_path / "new" / "exported")
    wanted = changed(path, to, inputs)
    assert Path(to, "tfhub_module.pb").read_bytes() == b"\x08\x03"
    assert_close(in_a_graph(to, inputs), wanted)
    assert_close({name: np.asarray(value) for name, value in hub.Module(to)(inputs, as_dict=True).items()}, wanted)
    if isinstance(inputs, v1.ragged.RaggedTensorValue):
        return
    signature = hub.load(to).signatures["default"]
    names = list(signature.structured_input_signature[1])
    tensors: dict[str, Any] = inputs if isinstance(inputs, dict) else {names[0]: inputs}
    assert_close(signature(**{name: tf.constant(value) for name, value in tensors.items()}), wanted)


def test_a_fine_tuned_training_variant_exports_all_variants(modules: Modules, tmp_path: Path) -> None:
    to = str(tmp_path / "exported")
    changed(modules("tf1/variants"), to, X, {"train"})
    before, after = in_a_graph(modules("tf1/variants"), X), in_a_graph(to, X)
    assert not np.allclose(before["default"], after["default"])
    assert len(hub.Module(to, trainable=True, tags={"train"}).regularization_losses) == 1


def test_a_tensorflow_2_module_becomes_variants_for_inference_and_training(modules: Modules, tmp_path: Path) -> None:
    to = str(tmp_path / "exported")
    changed(modules("tf2/image_feature_vector"), to, IMAGES)
    assert hub.Module(to).trainable_variables == []
    with tf.Graph().as_default():
        m = hub.Module(to, trainable=True, tags={"train"})
        assert len(m.regularization_losses) == 2
        assert sorted(m.variable_map) == sorted(
            f"{name}" for name in ("conv/kernel", "dense/kernel", "norm/beta", "norm/gamma", "norm/moving_mean",
                                   "norm/moving_variance")
        )  # fmt: skip
        y = m(IMAGES)
        with v1.Session() as session:
            initialize(session)
            before = session.run(m.variable_map["norm/moving_mean"])
            assert not np.allclose(session.run(y), session.run(y))  # dropout
            assert not np.allclose(before, session.run(m.variable_map["norm/moving_mean"]))


def test_variables_of_other_variants_keep_their_values(tmp_path: Path) -> None:
    def build(names: tuple[str, ...]) -> tf1_modules.Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        y = x
        for name in names:
            y = y * tf1_modules.variable(name, [3])
        return tf1_modules.Variant({"default": ({"default": x}, {"default": y})})

    source, to = str(tmp_path / "source"), str(tmp_path / "exported")
    tf1_modules.write(source, {(): lambda: build(("a", "b")), ("train",): lambda: build(("a",))})
    changed(source, to, X, {"train"})
    a, b = weights("a", [3]), weights("b", [3])
    np.testing.assert_allclose(in_a_graph(to, X)["default"], X * (a + 0.25) * b, rtol=1e-5)


def test_an_export_names_no_file_of_where_it_came_from(modules: Modules, tmp_path: Path) -> None:
    source, to = modules("tf2/text_embedding"), tmp_path / "exported"
    changed(source, str(to), WORDS)
    graph = (to / "saved_model.pb").read_bytes()
    assert source.encode() + b"/assets" not in graph
    assert source.encode() + b"/variables" not in graph
    assert [file.name for file in (to / "assets").iterdir()] == ["words.txt"]


def test_tables_with_contents_in_the_checkpoint_come_along(tmp_path: Path) -> None:
    class Scores(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
        def __init__(self) -> None:
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
            self.table.insert(["the", "fox"], tf.constant([1, 2], tf.int64))
            self.unused = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
            self.scale = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])  # type: ignore[untyped-decorator]
        def __call__(self, words: Any) -> Any:
            return tf.cast(self.table.lookup(words), tf.float32) * self.scale

    source, to, again = (str(tmp_path / name) for name in ("source", "exported", "again"))
    hub.export(Scores(), source)
    words = np.array(["fox", "the", "no"])
    for path, target, scale in ((source, to, 2.25), (to, again, 2.5)):
        wanted = {"default": np.array([2, 1, -1]) * scale}
        assert_close(changed(path, target, words), wanted)
        assert_close(in_a_graph(target, words), wanted)
        np.testing.assert_allclose(hub.Module(target)(words), wanted["default"])


def test_the_session_of_another_graph_is_left_out_of_it(tmp_path: Path) -> None:
    """TensorFlow's loader asks whatever session is the default one for the names of a table's contents."""
    source, to = str(tmp_path / "source"), str(tmp_path / "exported")
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    root = tf.train.Checkpoint(table=table)
    root.__call__ = tf.function(table.lookup, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    tf.saved_model.save(root, source)
    graph = tf.Graph()
    with v1.Session(graph=tf.Graph()), graph.as_default():
        m = hub.Module(source)
    with graph.as_default(), v1.Session() as session:
        initialize(session)
        m.export(to, session)
    np.testing.assert_array_equal(hub.Module(to)(["fox"]), [-1])


@pytest.mark.parametrize("module", ["tf1/affine", "tf2/image_feature_vector"])
def test_an_export_that_cannot_be_leaves_nothing(modules: Modules, tmp_path: Path, module: str) -> None:
    path, to = modules(module), str(tmp_path / "exported")
    with tf.Graph().as_default():
        m = hub.Module(path)
        with pytest.raises(hub.InputInvalid, match="session"):
            m.export(to)
        with pytest.raises(hub.InputInvalid, match="Session"):
            m.export(to, session="session")
        with v1.Session(graph=tf.Graph()) as other, pytest.raises(hub.InputInvalid, match="of another"):
            m.export(to, other)
        session = v1.Session()
        with pytest.raises(hub.InputInvalid, match="global_variables_initializer"):
            m.export(to, session)
        initialize(session)
        session.close()
        with pytest.raises(hub.Closed, match="closed"):
            m.export(to, session)
        assert list(tmp_path.iterdir()) == []
        with v1.Session() as session:
            initialize(session)
            m.export(to, session)
            with pytest.raises(hub.PathExists):
                m.export(to, session)
    assert [entry.name for entry in tmp_path.iterdir()] == ["exported"]
