"""What can be wrong with a Module in a graph is told before anything runs, and leaves the graph alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient as hub

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
v1: Any = tf.compat.v1

Modules = Callable[[str], str]
X = np.array([[1.0, 2.0, 3.0]], "float32")


@pytest.fixture
def copy(modules: Modules, tmp_path: Path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(modules(name), tmp_path / "module"))

    return copied


def assert_refused(path: Path, error: type[Exception], match: str, **options: Any) -> None:
    with tf.Graph().as_default() as graph:
        with pytest.raises(error, match=match):
            hub.Module(path, **options)
        assert graph.get_operations() == []


def change(path: Path, edit: Callable[[Any], None]) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for meta_graph in model.meta_graphs:
        edit(meta_graph)
    (path / "saved_model.pb").write_bytes(model.SerializeToString())


def test_unknown_tags_list_the_variants(modules: Modules) -> None:
    assert_refused(Path(modules("tf1/variants")), hub.VariantNotFound, r"\{\}, \{'train'\}", tags={"serve"})


def test_names_that_are_none_are_refused(modules: Modules) -> None:
    for name in ("", "a b", "a/b", "/a", "a:0"):
        assert_refused(Path(modules("tf1/affine")), hub.InputInvalid, "name of a Module", name=name)
        with pytest.raises(hub.InputInvalid, match="name of a Module"):
            hub.Module(modules("tf1/affine"), name=name)


def test_a_module_of_one_world_is_refused_in_the_other(modules: Modules) -> None:
    eager = hub.Module(modules("tf1/affine"))
    graph = tf.Graph()
    with graph.as_default():
        m = hub.Module(modules("tf1/affine"))
        with pytest.raises(hub.RunFailed, match="eager world"):
            eager(X)
    with pytest.raises(hub.RunFailed, match="make one where it is to be used"):
        m(X)
    with tf.Graph().as_default(), pytest.raises(hub.RunFailed, match="cannot be used"):
        m(X)


def test_wrong_signatures_inputs_and_outputs_name_what_there_is(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/many"))
        with pytest.raises(hub.SignatureNotFound, match="two_inputs"):
            m(X, signature="wrong")
        with pytest.raises(hub.InputInvalid, match=r"missing \['b'\], unexpected \['c'\]"):
            m({"a": [[1.0, 2.0]], "c": 1}, signature="two_inputs")
        with pytest.raises(hub.InputInvalid, match=r"\(None, 2\)"):
            m(X)
        with pytest.raises(hub.OutputNotFound, match="double"):
            m([[1.0, 2.0]], signature="no_default")


@pytest.mark.parametrize("name", ["tf1/affine", "tf2/image_feature_vector"])
def test_a_checkpoint_that_is_damaged_or_cut_off_is_refused(copy: Callable[[str], Path], name: str) -> None:
    path = copy(name)
    (data,) = (path / "variables").glob("variables.data-*")
    data.write_bytes(data.read_bytes()[:10])
    assert_refused(path, hub.ModuleBroken, "bytes of weights")
    (path / "variables" / "variables.index").write_bytes(b"damaged")
    assert_refused(path, hub.ModuleBroken, "cannot be read")


def test_a_checkpoint_without_a_variable_is_refused(copy: Callable[[str], Path]) -> None:
    path = copy("tf1/affine")
    shutil.rmtree(path / "variables")
    assert_refused(path, hub.ModuleBroken, "lacks b, w")


def test_a_checkpoint_of_other_shapes_is_refused(copy: Callable[[str], Path]) -> None:
    def widen(meta_graph: Any) -> None:
        for node in meta_graph.graph_def.node:
            if node.name == "b":
                node.attr["shape"].shape.dim[0].size = 7

    path = copy("tf1/affine")
    change(path, widen)
    assert_refused(path, hub.ModuleBroken, r"has b as float32 of shape \(2,\)")


@pytest.mark.parametrize("name", ["tf1/text", "tf1/plain"])
def test_a_missing_asset_is_refused(copy: Callable[[str], Path], name: str) -> None:
    path = copy(name)
    (path / "assets" / "words.txt").unlink()
    assert_refused(path, hub.ModuleBroken, "words.txt")


def test_a_missing_asset_of_tensorflow_2_is_refused(copy: Callable[[str], Path]) -> None:
    path = copy("tf2/text_embedding")
    (path / "assets" / "words.txt").unlink()
    with tf.Graph().as_default(), pytest.raises(hub.ModuleBroken, match=r"words\.txt"):
        hub.Module(path)


def test_a_graph_that_is_cut_off_is_refused(copy: Callable[[str], Path]) -> None:
    path = copy("tf1/affine")
    saved = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(saved[: len(saved) // 2])
    with tf.Graph().as_default(), pytest.raises(hub.HubError):
        hub.Module(path)


def test_a_graph_that_lacks_a_node_is_refused(copy: Callable[[str], Path]) -> None:
    def remove(meta_graph: Any) -> None:
        kept = [node for node in meta_graph.graph_def.node if node.op != "MatMul"]
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del meta_graph.graph_def.node[:]
        meta_graph.graph_def.node.extend(copies)

    path = copy("tf1/affine")
    change(path, remove)
    assert_refused(path, hub.ModuleBroken, "which is not in it")


def test_operations_that_nobody_registered_are_named(copy: Callable[[str], Path]) -> None:
    def rename(meta_graph: Any) -> None:
        for node in meta_graph.graph_def.node:
            node.op = "NobodysMatMul" if node.op == "MatMul" else node.op

    path = copy("tf1/affine")
    change(path, rename)
    assert_refused(path, hub.ModuleUnsupported, r"NobodysMatMul.*load_op_library")


def test_a_graph_of_wrong_types_is_refused(copy: Callable[[str], Path]) -> None:
    def retype(meta_graph: Any) -> None:
        for node in meta_graph.graph_def.node:
            if node.op == "MatMul":
                node.attr["T"].type = tf.int32.as_datatype_enum

    path = copy("tf1/affine")
    change(path, retype)
    with tf.Graph().as_default():
        m = hub.Module(path)
        with pytest.raises(hub.ModuleBroken, match="TensorFlow cannot use"):
            m(X)


def test_updates_of_reference_variables_in_functions_are_unsupported(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/ref_variables"), trainable=True, tags={"train"})
        with pytest.raises(hub.ModuleUnsupported, match="training=False"):
            v1.while_loop(lambda i, _: i < 2, lambda i, t: (i + 1, t + tf.reduce_sum(m(X))), (0, 0.0))
