"""Plans of modules that TensorFlow made: a session that is given the plan alone answers as one of the whole module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hubclient.capi.plan import Plan, plan
from hubclient.contract import saved_model
from hubclient.contract.errors import HubError
from hubclient.contract.saved_model import TensorSpec
from hubclient.model_errors import ModuleBroken, ModuleUnsupported, SignatureNotFound

pytestmark = pytest.mark.tensorflow

tf: Any = pytest.importorskip("tensorflow")
np: Any = pytest.importorskip("numpy")
tf1_modules: Any = pytest.importorskip("tests.support.tf1_modules")
tf2_modules: Any = pytest.importorskip("tests.support.tf2_modules")
SavedModel: Any = pytest.importorskip("tensorflow.core.protobuf.saved_model_pb2").SavedModel
AssetFileDef: Any = pytest.importorskip("tensorflow.core.protobuf.meta_graph_pb2").AssetFileDef
v1: Any = tf.compat.v1

# for modules that ask for a device which is not there
CONFIG = v1.ConfigProto(allow_soft_placement=True)
NAMES = [f"tf1/{name}" for name in tf1_modules.MODULES] + [f"tf2/{name}" for name in tf2_modules.MODULES]

Modules = Callable[[str], str]


class Planned:
    """A session that was made from a plan alone."""

    def __init__(self, made: Plan) -> None:
        self._plan = made
        with tf.Graph().as_default() as graph:
            v1.import_graph_def(v1.GraphDef.FromString(made.graph_def), name="")
            assignments = [self._assignment(graph, restore) for restore in made.restores]
            self._session = v1.Session(graph=graph, config=CONFIG)
        if assignments:  # a session of an empty graph cannot even do nothing
            self._session.run(assignments)
        for initialization in made.initializations:
            self._session.run(initialization.targets, initialization.feeds)

    def close(self) -> None:
        self._session.close()

    def __call__(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Tuples stand for sparse tensors: indices, values and dense_shape."""
        specs = self._plan.signatures[signature]
        feeds: dict[str, Any] = {}
        for key, value in inputs.items():
            spec = specs.inputs[key]
            feeds |= dict(zip(spec.components, value, strict=True)) if spec.components else {spec.name: value}
        fetches = {key: spec.components or spec.name for key, spec in specs.outputs.items()}
        answers: dict[str, Any] = self._session.run(fetches, feeds)
        return answers

    def _assignment(self, graph: Any, restore: Any) -> Any:
        variable = graph.get_operation_by_name(restore.node).outputs[0]
        (value,) = tf.raw_ops.RestoreV2(
            prefix=self._plan.checkpoint,
            tensor_names=[restore.key],
            shape_and_slices=[restore.slice_spec],
            dtypes=[tf.dtypes.as_dtype(restore.dtype)],
        )
        if restore.is_resource:
            return tf.raw_ops.AssignVariableOp(resource=variable, value=value)
        return v1.raw_ops.Assign(ref=variable, value=value).op


@contextmanager
def planned(made: Plan) -> Iterator[Planned]:
    session = Planned(made)
    try:
        yield session
    finally:
        session.close()


def value_for(spec: TensorSpec) -> Any:
    """An input that is neither zero nor all equal; of words, some that the vocabularies know."""
    if spec.encoding == "sparse":
        (rows, columns) = (size or 3 for size in spec.shape or (None, None))
        values = np.arange(1, 3).astype(spec.dtype)
        return np.array([[0, 0], [rows - 1, columns - 1]], np.int64), values, np.array([rows, columns], np.int64)
    shape = [size or 3 for size in spec.shape] if spec.shape is not None else [3, 2]
    count = int(np.prod(shape))
    if spec.dtype == "string":
        words = ["the", "fox", "red", "unheard of", "quick", "cat"]
        return np.array([words[index % len(words)] for index in range(count)], object).reshape(shape)
    numbers = np.arange(1, count + 1) % 5
    return numbers.reshape(shape).astype(tf.dtypes.as_dtype(spec.dtype).as_numpy_dtype)


def variants(path: str) -> list[tuple[str, ...]]:
    return [graph.tags for graph in saved_model.read(os.path.join(path, "saved_model.pb"))]


def whole(path: str, tags: tuple[str, ...], session: Any) -> Mapping[str, Any]:
    """Load the whole module into the session as TensorFlow itself does; its SignatureDefs."""
    if not os.path.exists(os.path.join(path, "tfhub_module.pb")):
        return dict(v1.saved_model.load(session, list(tags), path).signature_def)
    model = SavedModel.FromString(Path(path, "saved_model.pb").read_bytes())
    (graph,) = (each for each in model.meta_graphs if tuple(each.meta_info_def.tags) == tags)
    v1.train.import_meta_graph(graph)
    if v1.global_variables():
        v1.train.Saver().restore(session, os.path.join(path, "variables", "variables"))
    assets = graph.collection_def["saved_model_assets"].any_list.value
    files = [AssetFileDef.FromString(asset.value) for asset in assets]
    session.run(
        v1.tables_initializer(), {file.tensor_info.name: os.path.join(path, "assets", file.filename) for file in files}
    )
    return dict(graph.signature_def)


def of_whole(path: str, tags: tuple[str, ...], calls: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    with tf.Graph().as_default() as graph, v1.Session(config=CONFIG) as session:
        signatures = whole(path, tags, session)

        def tensor(info: Any) -> Any:
            if info.WhichOneof("encoding") == "name":
                return graph.get_tensor_by_name(info.name)
            sparse = info.coo_sparse
            names = sparse.indices_tensor_name, sparse.values_tensor_name, sparse.dense_shape_tensor_name
            return tf.SparseTensor(*map(graph.get_tensor_by_name, names))

        answers = {}
        for name, inputs in calls.items():
            feeds = {tensor(signatures[name].inputs[key]): value for key, value in inputs.items()}
            fetches = {key: tensor(info) for key, info in signatures[name].outputs.items()}
            answers[name] = session.run(fetches, feeds)
        return answers


@pytest.mark.parametrize("name", NAMES)
def test_what_is_planned_answers_as_the_whole_module(name: str, modules: Modules) -> None:
    path = modules(name)
    for tags in variants(path):
        made = plan(path, tags)
        calls = {
            signature: {key: value_for(spec) for key, spec in specs.inputs.items()}
            for signature, specs in made.signatures.items()
        }
        expected = of_whole(path, tags, calls)
        with planned(made) as session:
            for signature, inputs in calls.items():
                assert_equal(session(signature, inputs), expected[signature])


@pytest.mark.parametrize("name", NAMES)
def test_each_signature_alone_answers_too(name: str, modules: Modules) -> None:
    path = modules(name)
    for tags in variants(path):
        for signature, specs in plan(path, tags).signatures.items():
            inputs = {key: value_for(spec) for key, spec in specs.inputs.items()}
            with planned(plan(path, tags, [signature])) as session:
                assert_equal(session(signature, inputs), of_whole(path, tags, {signature: inputs})[signature])


@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoint_has_what_is_restored(name: str, modules: Modules) -> None:
    path = modules(name)
    for tags in variants(path):
        made = plan(path, tags)
        if made.checkpoint is not None:
            types = tf.train.load_checkpoint(made.checkpoint).get_variable_to_dtype_map()
            assert {restore.key: restore.dtype for restore in made.restores}.items() <= {
                key: dtype.as_datatype_enum for key, dtype in types.items()
            }.items()


def test_only_what_the_wanted_signatures_reach_is_planned(modules: Modules) -> None:
    path = modules("tf2/two_signatures")
    animal = plan(path, ("serve",), ["animal"])
    assert [restore.key for restore in animal.restores] == ["animal/.ATTRIBUTES/VARIABLE_VALUE"]
    (initialization,) = animal.initializations
    assert list(initialization.feeds.values()) == [os.path.join(path, "assets", "animals.txt")]
    scaled = plan(path, ("serve",), ["scaled"])
    assert [restore.node for restore in scaled.restores] == ["scale"]
    assert scaled.initializations == ()
    assert len(scaled.graph_def) < len(animal.graph_def) < len(plan(path, ("serve",)).graph_def)
    assert plan(path, ("serve",), []).graph_def == plan(path, ("serve",), []).graph_def
    assert plan(path, ("serve",), []).restores == ()


def test_an_asset_or_a_checkpoint_that_is_missing_is_named_when_it_is_needed(modules: Modules, tmp_path: Path) -> None:
    path = shutil.copytree(modules("tf2/two_signatures"), tmp_path / "module")
    (path / "assets" / "animals.txt").unlink()
    with pytest.raises(ModuleBroken, match=r"assets/animals\.txt is missing"):
        plan(str(path), ("serve",))
    assert plan(str(path), ("serve",), ["colour"]).restores
    (path / "variables" / "variables.index").unlink()
    with pytest.raises(ModuleBroken, match=r"variables/variables\.index is missing"):
        plan(str(path), ("serve",), ["colour"])


def test_a_signature_that_is_not_there_is_answered_with_those_that_are(modules: Modules) -> None:
    for name in ("nonsense", "__saved_model_init_op"):
        with pytest.raises(SignatureNotFound, match=f"no signature '{name}'; it has .*'colour'"):
            plan(modules("tf2/two_signatures"), ("serve",), ["colour", name])


def test_grappler_is_left_on_for_weights_that_are_constants_and_off_for_variables(modules: Modules) -> None:
    for name, keep in (("tf2/constants", True), ("tf2/keras3", False)):
        made = plan(modules(name), ("serve",))
        assert made.keep_grappler is keep
        graph = v1.GraphDef.FromString(made.graph_def)
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        configs = [v1.ConfigProto.FromString(n.attr["config_proto"].s) for n in nodes if "config_proto" in n.attr]
        assert configs
        for config in configs:
            assert config.graph_options.rewrite_options.disable_meta_optimizer is not keep
            assert config.device_count["CPU"] == 1  # the rest is as it was


def test_a_savers_shards_and_partitions_are_restored(tmp_path: Path) -> None:
    def build() -> Any:
        x = v1.placeholder(tf.float32, [None, 6])
        with tf.device("/cpu:0"):
            a = v1.get_variable("a", [6, 3], partitioner=v1.fixed_size_partitioner(2), use_resource=False)
        with tf.device("/cpu:1"):
            b = v1.get_variable("b", [3, 2], use_resource=True)
        return x, tf.matmul(tf.matmul(x, tf.convert_to_tensor(a)), b)

    path = saved(tmp_path, build)
    made = plan(path, ("serve",))
    assert sorted((r.key, r.slice_spec, r.is_resource) for r in made.restores) == [
        ("a", "6 3 0,3:0,3", False),
        ("a", "6 3 3,3:0,3", False),
        ("b", "", True),
    ]
    assert_answers_as_the_whole(path)


def test_a_local_variable_gets_its_initial_value(tmp_path: Path) -> None:
    def build() -> Any:
        x = v1.placeholder(tf.float32, [None])
        scale = v1.get_variable("scale", [], use_resource=True)
        local = v1.get_local_variable("local", initializer=scale.initial_value * 0 + 3.0, use_resource=True)
        v1.get_local_variable("other", initializer=1.0, use_resource=True)
        return x, x * scale + local

    path = saved(tmp_path, build)
    made = plan(path, ("serve",))
    assert [initialization.targets for initialization in made.initializations] == [("local/Assign",)]
    x = np.array([1.0, 2.0], np.float32)
    with planned(made) as session:
        (y,) = session("serving_default", {"x": x}).values()
    np.testing.assert_allclose(y, x * tf.train.load_variable(made.checkpoint, "scale") + 3)


def test_a_signature_that_reads_an_asset_at_each_call_reads_the_modules_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("some words")

    def build() -> Any:
        asset = tf.constant(str(tmp_path / "words.txt"))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        x = v1.placeholder(tf.string, [])
        return x, tf.strings.join([x, tf.io.read_file(asset)])

    path = saved(tmp_path, build)
    (tmp_path / "words.txt").unlink()
    with planned(plan(path, ("serve",))) as session:
        assert session("serving_default", {"x": b"> "}) == {"y": b"> some words"}


def test_a_module_that_was_loaded_and_saved_again_is_planned(modules: Modules, tmp_path: Path) -> None:
    """Its tables are made inside functions."""
    loaded = tf.saved_model.load(modules("tf2/two_signatures"))
    path = str(tmp_path / "again")
    tf.saved_model.save(loaded, path, signatures=dict(loaded.signatures))
    words = {"words": np.array(["cat", "dog", "red"], object)}
    made = plan(path, ("serve",), ["animal"])
    with planned(made) as session:
        assert_equal(session("animal", words), of_whole(path, ("serve",), {"animal": words})["animal"])
    assert [restore.key for restore in made.restores] == ["animal/.ATTRIBUTES/VARIABLE_VALUE"]
    assert [list(each.feeds.values()) for each in made.initializations] == [[f"{path}/assets/animals.txt"]]


@pytest.mark.parametrize("is_anonymous", [False, True])
def test_a_table_that_the_checkpoint_holds_is_left_to_tensorflow_if_it_is_wanted(
    is_anonymous: bool, tmp_path: Path
) -> None:
    root = tf.Module()
    root.table = tf.lookup.experimental.MutableHashTable(
        tf.string, tf.float32, -1.0, experimental_is_anonymous=is_anonymous
    )
    root.table.insert(["a"], [2.0])
    root.scale = tf.Variable(3.0)
    spec = tf.TensorSpec([], tf.string, "x")
    signatures = {
        "table": tf.function(lambda x: {"y": root.table.lookup(x)}, input_signature=[spec]),
        "length": tf.function(lambda x: {"y": tf.strings.length(x)}, input_signature=[spec]),
    }
    tf.saved_model.save(root, str(tmp_path / "m"), signatures)
    with pytest.raises(ModuleUnsupported, match="restored"):
        plan(str(tmp_path / "m"), ("serve",))
    assert plan(str(tmp_path / "m"), ("serve",), ["length"]).restores == ()


def saved(tmp_path: Path, build: Callable[[], Any]) -> str:
    """A plain SavedModel of TensorFlow 1 with the signature serving_default from `x` to `y`."""
    path = str(tmp_path / "saved")
    with tf.Graph().as_default(), v1.Session(config=CONFIG) as session:
        x, y = build()
        session.run([v1.global_variables_initializer(), v1.local_variables_initializer()])
        builder = v1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": y})},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        )
        builder.save()
    return path


def assert_answers_as_the_whole(path: str) -> None:
    made = plan(path, ("serve",))
    calls = {name: {k: value_for(spec) for k, spec in specs.inputs.items()} for name, specs in made.signatures.items()}
    with planned(made) as session:
        for name, expected in of_whole(path, ("serve",), calls).items():
            assert_equal(session(name, calls[name]), expected)


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        pairs = zip(actual[key], value, strict=True) if isinstance(value, tuple) else [(actual[key], value)]
        for one, other in pairs:
            assert np.asarray(one).dtype == np.asarray(other).dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["tf1/text", "tf1/partitioned", "tf2/two_signatures"])
def test_a_damaged_file_is_planned_or_refused_with_an_error_of_ours(
    name: str, modules: Modules, tmp_path: Path
) -> None:
    path = shutil.copytree(modules(name), tmp_path / "module")
    tags = variants(str(path))[0]
    whole_file = (path / "saved_model.pb").read_bytes()
    random = np.random.default_rng(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole_file)
        damaged[random.integers(len(damaged))] = random.integers(256)
        (path / "saved_model.pb").write_bytes(damaged)
        try:
            plan(str(path), tags)
        except HubError:
            refused += 1
    assert refused > 10
