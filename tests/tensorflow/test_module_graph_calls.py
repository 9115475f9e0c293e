"""Module in a graph of TensorFlow 1: what it adds, under which names, and that calls give what eager ones give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
from tests.support import tf1_modules  # noqa: E402  # which needs TensorFlow

v1: Any = tf.compat.v1

Modules = Callable[[str], str]
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], "float32")
SPARSE = v1.SparseTensorValue([[0, 0], [1, 2]], np.array([1.0, 2.0], "float32"), [2, 3])
A = np.array([[1.0, 2.0]], "float32")
IMAGES = np.linspace(0, 1, 2 * 12 * 16 * 3, dtype="float32").reshape(2, 12, 16, 3)
WORDS = np.array(["the quick", "fox", "unheard of"])

CASES: list[tuple[str, str, Any]] = [
    ("tf1/affine", "default", X),
    ("tf1/variants", "default", X),
    ("tf1/text", "default", WORDS),
    ("tf1/sparse", "default", SPARSE),
    ("tf1/sparse", "scaled", SPARSE),
    ("tf1/ref_variables", "default", X),
    ("tf1/partitioned", "default", np.array([0, 3, 6])),
    ("tf1/while_v1", "default", {"x": X, "steps": np.int32(4)}),
    ("tf1/while_v1", "fixed", X),
    ("tf1/cond_v1", "default", X),
    ("tf1/cond_v1", "default", -X),
    ("tf1/control_flow_v2", "default", {"x": X, "steps": np.int32(2)}),
    ("tf1/many", "default", A),
    ("tf1/many", "two_inputs", {"a": A, "b": A}),
    ("tf1/many", "no_default", A),
    ("tf1/many", "extra", A),
    ("tf1/many", "no_inputs", None),
    ("tf1/image", "image_feature_vector", IMAGES),
    ("tf1/no_variables", "default", np.array([1.0, 2.0], "float32")),
    ("tf1/plain", "default", np.array(["quick", "slow"])),
    ("tf2/text_embedding", "default", WORDS),
    ("tf2/image_feature_vector", "default", IMAGES),
    ("tf2/multi", "default", {"a": A, "b": A}),
    ("tf2/plain", "default", X),
    ("tf2/two_signatures", "colour", np.array(["green", "blue"])),
    ("tf2/keras3", "serving_default", None),
]


def initialize(session: Any) -> None:
    session.run([v1.global_variables_initializer(), v1.local_variables_initializer(), v1.tables_initializer()])


def flat(outputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [np.asarray(part) for part in _parts(value)] for name, value in outputs.items()}


def _parts(value: Any) -> list[Any]:
    return list(tf.nest.flatten(value, expand_composites=True))


@pytest.mark.parametrize(
    ("module", "signature", "inputs"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_call_gives_what_the_eager_world_gives(modules: Modules, module: str, signature: str, inputs: Any) -> None:
    eager = hub.Module(modules(module))
    if module == "tf2/keras3":
        ((name, info),) = eager.get_input_info_dict(signature).items()
        inputs = {name: np.linspace(-1, 1, 2 * info.shape[-1], dtype="float32").reshape(2, -1)}
    expected = flat(eager(inputs, signature=signature, as_dict=True))
    with tf.Graph().as_default():
        m = hub.Module(modules(module))
        calls = [m(inputs, signature=signature, as_dict=True) for _ in range(2)]
        with v1.Session() as session:
            initialize(session)
            for outputs in map(flat, session.run(calls)):
                assert outputs.keys() == expected.keys()
                for name, parts in expected.items():
                    for given, wanted in zip(outputs[name], parts, strict=True):
                        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-6)


def test_variables_are_in_the_module_s_scope_and_in_collections(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/variants"), name="m")
        assert sorted(v.name for v in v1.global_variables()) == sorted(v.name for v in m.variables)
        assert all(v.name.startswith("m/") for v in m.variables)
        assert m.variable_map["dense/kernel"].name == "m/dense/kernel:0"
        assert v1.trainable_variables() == m.trainable_variables == []
        trainable = hub.Module(modules("tf1/variants"), trainable=True, name="m")
        assert [v.op.name for v in v1.trainable_variables()] == [v.op.name for v in trainable.trainable_variables]
        assert sorted(v.op.name for v in trainable.trainable_variables) == [
            "m_1/dense/bias", "m_1/dense/kernel", "m_1/norm/beta", "m_1/norm/gamma",
        ]  # fmt: skip


def test_a_call_s_operations_are_in_a_scope_of_its_own(modules: Modules) -> None:
    with tf.Graph().as_default() as graph:
        m = hub.Module(modules("tf1/affine"), name="m")
        before = {op.name for op in graph.get_operations()}
        first = m(tf.constant(X, name="x"))
        with tf.name_scope("tower"):
            second = m(tf.constant(X, name="y"))
        m(tf.constant(X, name="z"))
        assert first.name.startswith("m_apply_default/")
        assert second.name.startswith("tower/m_apply_default/")
        added = {op.name for op in graph.get_operations()} - before
        assert {name.rpartition("/")[0].split("/")[-1] for name in added if "apply" in name} >= {
            "m_apply_default", "m_apply_default_1",
        }  # fmt: skip
        assert not any("restore" in name for name in added)
        assert len(v1.global_variables()) == 2


def test_the_variable_scope_counts_and_not_the_name_scope(modules: Modules) -> None:
    with tf.Graph().as_default():
        with tf.name_scope("names"):
            assert hub.Module(modules("tf1/affine")).variable_map["w"].name == "module/w:0"
        with v1.variable_scope("outer", reuse=v1.AUTO_REUSE):
            assert hub.Module(modules("tf1/affine")).variable_map["w"].name == "outer/module/w:0"
        with v1.variable_scope("outer", reuse=True):
            assert hub.Module(modules("tf1/affine")).variable_map["w"].name == "outer/module_1/w:0"
        tf.constant(1, name="taken")
        assert hub.Module(modules("tf1/affine"), name="taken").variable_map["w"].name == "taken_1/w:0"


def test_devices_are_the_caller_s(modules: Modules) -> None:
    with tf.Graph().as_default(), tf.device("/device:CPU:0"):
        m = hub.Module(modules("tf1/partitioned"))
        y = m(np.array([1]))
        assert {v.device for v in m.variables} == {y.device} == {"/device:CPU:0"}


def test_partitioned_variables_are_lists_of_parts(modules: Modules) -> None:
    with tf.Graph().as_default():
        parts = hub.Module(modules("tf1/partitioned")).variable_map["embedding"]
        assert [part.op.name for part in parts] == [f"module/embedding/part_{n}" for n in range(3)]


def test_assets_and_tables_are_in_collections(modules: Modules) -> None:
    with tf.Graph().as_default():
        hub.Module(modules("tf1/text"))
        assert len(v1.get_collection(v1.GraphKeys.TABLE_INITIALIZERS)) == 1
        (asset,) = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
        assert tf.get_static_value(asset).item().decode() == modules("tf1/text") + "/assets/words.txt"


@pytest.mark.parametrize("module", ["tf1/variants", "tf1/ref_variables", "tf1/partitioned", "tf2/image_feature_vector"])
def test_a_saver_keeps_the_variables_like_any_others(modules: Modules, module: str, tmp_path: Any) -> None:
    path, prefix = modules(module), str(tmp_path / "model")
    with tf.Graph().as_default():
        m = hub.Module(path, trainable=True)
        add = [v1.assign_add(v, tf.ones_like(v)) for v in m.trainable_variables]
        saver = v1.train.Saver()
        with v1.Session() as session:
            initialize(session)
            original = session.run(m.variables)
            session.run(add)
            changed = session.run(m.variables)
            saver.save(session, prefix)
        with v1.Session() as session:
            saver.restore(session, prefix)
            restored = session.run(m.variables)
    assert all(np.array_equal(a, b) for a, b in zip(restored, changed, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(restored, original, strict=True))


def test_a_finalized_graph_in_a_monitored_session_is_restored(modules: Modules, tmp_path: Any) -> None:
    expected = hub.Module(modules("tf1/text"))(WORDS)
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/text"))
        words = tf.constant(WORDS)
        y = m(words)
        v1.train.get_or_create_global_step()
        with v1.train.MonitoredTrainingSession(checkpoint_dir=str(tmp_path)) as session:
            np.testing.assert_allclose(session.run(y), expected, rtol=1e-5)
            with pytest.raises(hub.RunFailed, match="finalized"):
                m(words)


def edited(original: str, directory: Path, edit: Callable[[Any], None]) -> str:
    """A module with another graph and the same checkpoint."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(Path(original, "saved_model.pb").read_bytes())
    edit(model.meta_graphs[0])
    directory.mkdir()
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())
    (directory / "tfhub_module.pb").write_bytes(tf1_modules.MARK)
    (directory / "variables").symlink_to(original + "/variables")
    return str(directory)


def test_two_modules_with_functions_of_one_name_do_not_mix(modules: Modules, tmp_path: Path) -> None:
    def make_sigmoid(meta_graph: Any) -> None:
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                node.op = "Sigmoid" if node.op == "Tanh" else node.op

    inputs, original = {"x": X, "steps": np.int32(2)}, modules("tf1/control_flow_v2")
    other = edited(original, tmp_path / "other", make_sigmoid)
    with tf.Graph().as_default():
        first, second = hub.Module(original)(inputs), hub.Module(other)(inputs)
        with v1.Session() as session:
            initialize(session)
            one, two = session.run([first, second])
    assert not np.allclose(one, two)


def test_variables_in_no_collection_are_restored_too(modules: Modules, tmp_path: Path) -> None:
    path = edited(modules("tf1/affine"), tmp_path / "other", lambda meta_graph: meta_graph.ClearField("collection_def"))
    expected = hub.Module(modules("tf1/affine"))(X)
    with tf.Graph().as_default():
        m = hub.Module(path)
        y = m(X)
        assert len(m.variables) == len(v1.global_variables()) == 2
        with v1.Session() as session:
            initialize(session)
            np.testing.assert_allclose(session.run(y), expected, rtol=1e-5)


def test_what_is_beside_a_variable_stays_beside_it(tmp_path: Path) -> None:
    def build() -> tf1_modules.Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        w = tf1_modules.variable("w", [3])
        with v1.colocate_with(w.handle.op):
            y = tf.add(x, 1.0, name="beside")
        return tf1_modules.Variant({"default": ({"default": x}, {"default": y * w})})

    tf1_modules.write(str(tmp_path / "module"), {(): build})
    with tf.Graph().as_default() as graph:
        with tf.device("/job:store/task:7"):
            m = hub.Module(tmp_path / "module")
        y = m(X)
        beside = graph.get_operation_by_name("module_apply_default/beside")
        assert beside.colocation_groups() == [b"loc:@module/w"]
        assert beside.device == m.variables[0].device == "/job:store/task:7"
        assert y.device == ""


@pytest.mark.parametrize(("module", "x"), [("tf1/affine", X), ("tf1/text", WORDS), ("tf1/ref_variables", X)])
def test_calls_within_a_function(modules: Modules, module: str, x: Any) -> None:
    expected = hub.Module(modules(module))(x)
    with tf.Graph().as_default():
        m = hub.Module(modules(module))
        twice = tf.function(lambda x: m(x) + m(x), autograph=False)
        outputs = [twice(tf.constant(x)), twice(tf.constant(x))]
        with v1.Session() as session:
            initialize(session)
            for y in session.run(outputs):
                np.testing.assert_allclose(y, 2 * expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("module", ["tf1/affine", "tf1/ref_variables", "tf2/image_feature_vector"])
@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_calls_within_loops_and_conditions(modules: Modules, module: str, control_flow: str) -> None:
    path, x = modules(module), IMAGES if "image" in module else X
    with tf.Graph().as_default():
        if control_flow == "v1":
            v1.disable_control_flow_v2()
        try:
            m = hub.Module(path, trainable=True)
            outside = m(x)

            def body(i: Any, total: Any) -> Any:
                return i + 1, total + m(x)

            looped = v1.while_loop(lambda i, _: i < 3, body, (0, tf.zeros_like(outside)))[1]
            chosen = v1.cond(tf.constant(True), lambda: m(x), lambda: 0.0 * m(x))
            gradients = v1.gradients(tf.reduce_sum(looped), m.trainable_variables[:1])[0]
            expected = v1.gradients(3 * tf.reduce_sum(outside), m.trainable_variables[:1])[0]
        finally:
            v1.enable_control_flow_v2()
        with v1.Session() as session:
            initialize(session)
            outside, looped, chosen = session.run([outside, looped, chosen])
            gradients, expected = session.run([gradients, expected])
    np.testing.assert_allclose(looped, 3 * outside, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(chosen, outside, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("module", ["tf1/while_v1", "tf1/cond_v1", "tf1/control_flow_v2"])
def test_gradients_flow_through_the_module_s_own_control_flow(modules: Modules, module: str) -> None:
    step = 1e-2
    with tf.Graph().as_default():
        m = hub.Module(modules(module), trainable=True)
        x = v1.placeholder(tf.float32, [2, 3])
        inputs = {"x": x, "steps": 2} if len(m.get_input_info_dict()) == 2 else x
        m(inputs)
        loss = tf.reduce_sum(tf.square(m(inputs)))
        variable = m.trainable_variables[0]
        by_x, by_variable = v1.gradients(loss, [x, variable])
        bump = v1.assign_add(variable, tf.fill(variable.shape, step))
        with v1.Session() as session:
            initialize(session)
            got_x, got_variable, before = session.run([by_x, by_variable, loss], {x: X})
            after = session.run(loss, {x: X + step * np.eye(2, 3, dtype="float32")})
            assert (after - before) / step == pytest.approx(np.trace(got_x), rel=0.15, abs=0.1)
            session.run(bump)
            after = session.run(loss, {x: X})
            assert (after - before) / step == pytest.approx(got_variable.sum(), rel=0.15, abs=0.1)


def test_a_control_dependency_of_the_caller_holds(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/affine"))
        bump = v1.assign_add(m.variable_map["b"], [1.0, 1.0])
        plain = m(X)
        with tf.control_dependencies([bump]):
            later = m(X)
        with v1.Session() as session:
            initialize(session)
            before = session.run(plain)
            np.testing.assert_allclose(session.run(later), before + 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "inputs"),
    [("tf1/while_v1", {"x": X, "steps": 3}), ("tf1/cond_v1", X), ("tf1/text", WORDS), ("tf2/plain", X)],
)
def test_a_graph_with_a_module_can_be_written_and_read(modules: Modules, module: str, inputs: Any) -> None:
    path = modules(module)
    with tf.Graph().as_default():
        y = hub.Module(path)(inputs, as_dict=True)
        (name,) = (tensor.name for tensor in y.values())
        written = v1.train.export_meta_graph()
        with v1.Session() as session:
            initialize(session)
            (expected,) = session.run(list(y.values()))
    with tf.Graph().as_default():
        v1.train.import_meta_graph(written)
        with v1.Session() as session:
            initialize(session)
            np.testing.assert_allclose(session.run(name), expected, rtol=1e-5)
