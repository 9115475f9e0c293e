"""Damaged and unknown modules of TensorFlow 1 in the eager world: each mistake is told when the module is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hubclient as hub

pytestmark = pytest.mark.tensorflow

tf: Any = pytest.importorskip("tensorflow")


@pytest.fixture
def copy(modules: Callable[[str], str], tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        return Path(shutil.copytree(modules(f"tf1/{name}"), tmp_path / name))

    return make


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change the only meta graph of a module."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())


def _node(meta_graph: Any, name: str) -> Any:
    return next(node for node in meta_graph.graph_def.node if node.name == name)


def test_an_asset_that_is_not_there(copy: Callable[[str], Path]) -> None:
    path = copy("text")
    (path / "assets" / "words.txt").unlink()
    with pytest.raises(hub.ModuleBroken, match=r"lacks its asset assets/words\.txt"):
        hub.Module(path)


def test_an_asset_outside_of_the_module(copy: Callable[[str], Path]) -> None:
    path = copy("text")
    (path / "secret.txt").write_text("secret\n")

    def point_outside(meta_graph: Any) -> None:
        from tensorflow.core.protobuf import meta_graph_pb2

        (packed,) = meta_graph.collection_def["saved_model_assets"].any_list.value
        asset = meta_graph_pb2.AssetFileDef.FromString(packed.value)
        asset.filename = "../secret.txt"
        packed.value = asset.SerializeToString()

    _edit(path, point_outside)
    with pytest.raises(hub.ModuleBroken, match="an asset outside of itself"):
        hub.Module(path)


def test_a_checkpoint_that_is_not_there(copy: Callable[[str], Path]) -> None:
    path = copy("affine")
    shutil.rmtree(path / "variables")
    with pytest.raises(hub.ModuleBroken, match="lacks b, w"):
        hub.Module(path)


@pytest.mark.parametrize("file", ["variables.index", "variables.data-00000-of-00001"])
def test_a_checkpoint_that_is_cut(copy: Callable[[str], Path], file: str) -> None:
    path = copy("affine")
    (path / "variables" / file).write_bytes((path / "variables" / file).read_bytes()[:10])
    with pytest.raises(hub.ModuleBroken, match=r"checkpoint .* cannot be read"):
        hub.Module(path)


def test_a_checkpoint_of_other_shapes(copy: Callable[[str], Path]) -> None:
    path = copy("affine")
    _edit(path, lambda graph: setattr(_node(graph, "w").attr["shape"].shape.dim[0], "size", 4))
    with pytest.raises(hub.ModuleBroken, match=r"has w in the shape \(3, 2\), the graph in \(4, 2\)"):
        hub.Module(path)


def test_a_variable_that_neither_the_checkpoint_nor_an_initializer_knows(copy: Callable[[str], Path]) -> None:
    path = copy("affine")

    def add(meta_graph: Any) -> None:
        node = meta_graph.graph_def.node.add()
        node.CopyFrom(_node(meta_graph, "b"))
        node.name = "extra"

    _edit(path, add)
    with pytest.raises(hub.ModuleBroken, match="'extra' is neither in the checkpoint nor can it be initialised"):
        hub.Module(path)


def test_a_signature_of_tensors_that_are_not_there(copy: Callable[[str], Path]) -> None:
    path = copy("affine")
    _edit(path, lambda graph: setattr(graph.signature_def["default"].outputs["default"], "name", "gone:0"))
    with pytest.raises(hub.ModuleBroken, match="gone"):
        hub.Module(path)


def test_an_operation_that_this_tensorflow_does_not_have(copy: Callable[[str], Path]) -> None:
    path = copy("affine")
    _edit(path, lambda graph: setattr(_node(graph, "add"), "op", "TheirOwnAdd"))
    with pytest.raises(hub.ModuleUnsupported, match="TheirOwnAdd"):
        hub.Module(path)


def test_an_operation_on_an_old_variable_that_cannot_be_rewritten(copy: Callable[[str], Path]) -> None:
    path = copy("ref_variables")

    def change(meta_graph: Any) -> None:
        node = next(node for node in meta_graph.graph_def.node if node.op == "Assign")
        node.op = "ApplyTheirs"

    _edit(path, change)
    with pytest.raises(hub.ModuleUnsupported, match="changes a variable by ApplyTheirs"):
        hub.Module(path)


@pytest.mark.parametrize("change", [lambda node: node.input.append("gone"), lambda node: node.attr.clear()])
def test_a_graph_that_is_inconsistent(copy: Callable[[str], Path], change: Callable[[Any], None]) -> None:
    path = copy("affine")
    _edit(path, lambda graph: change(_node(graph, "add")))
    with pytest.raises(hub.ModuleBroken, match="cannot be used"):
        hub.Module(path)


def test_a_saver_that_names_no_operation(copy: Callable[[str], Path]) -> None:
    path = copy("plain")
    _edit(path, lambda graph: setattr(graph.saver_def, "restore_op_name", "gone"))
    with pytest.raises(hub.ModuleBroken, match="the saver of the module names the operation 'gone'"):
        hub.Module(path)


def test_a_table_that_the_saver_restores(copy: Callable[[str], Path]) -> None:
    path = copy("plain")

    def change(meta_graph: Any) -> None:
        restore = _node(meta_graph, meta_graph.saver_def.restore_op_name)
        table = meta_graph.graph_def.node.add(name="restore_table", op="LookupTableImportV2")
        restore.input.append("^" + table.name)

    _edit(path, change)
    with pytest.raises(hub.ModuleUnsupported, match="'restore_table' by LookupTableImportV2"):
        hub.Module(path)


def test_a_file_that_is_no_model(copy: Callable[[str], Path]) -> None:
    path = copy("affine")
    (path / "saved_model.pb").write_bytes(b"\xff" * 40)
    with pytest.raises((hub.ModuleBroken, hub.NotAModule), match="cannot be read"):
        hub.Module(path)
