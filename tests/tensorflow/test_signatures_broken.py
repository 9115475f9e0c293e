"""A module that is damaged, or that lies about itself, ends in an error of hubclient's and never in a crash."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient
from hubclient.capi import loading
from hubclient.capi.library import library
from hubclient.capi.loading import Settings, load_whole
from hubclient.capi.plan import Initialization, Plan, Restore
from hubclient.contract.saved_model import Signature, TensorSpec
from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
SETTINGS = Settings(0, -1, gpu=False, gpu_memory_growth=True)


@pytest.fixture
def copy(modules: Modules, tmp_path: Path) -> Any:
    """A copy of a module, to be damaged."""

    def make(name: str) -> Path:
        target = tmp_path / name.replace("/", "_")
        shutil.copytree(modules(name), target)
        return target

    return make


@pytest.mark.parametrize("name", ["tf1/affine", "tf2/image_feature_vector", "tf1/plain"])
def test_a_missing_index_of_the_checkpoint(copy: Any, name: str) -> None:
    path = copy(name)
    (path / "variables" / "variables.index").unlink()
    with pytest.raises(hubclient.ModuleBroken, match=r"variables\.index"):
        hubclient.signatures(path)


@pytest.mark.parametrize("name", ["tf1/affine", "tf2/image_feature_vector"])
def test_a_checkpoint_that_is_cut_off_or_overwritten(copy: Any, name: str) -> None:
    path = copy(name)
    (data,) = (path / "variables").glob("variables.data-*")
    content = data.read_bytes()
    for damaged in (content[:10], b"", bytes(reversed(content))):
        data.write_bytes(damaged)
        with pytest.raises(hubclient.ModuleBroken, match="restored"):
            hubclient.signatures(path)
    data.unlink()
    with pytest.raises(hubclient.ModuleBroken, match="restored"):
        hubclient.signatures(path)


def test_an_index_full_of_nonsense(copy: Any) -> None:
    path = copy("tf2/image_feature_vector")
    (path / "variables" / "variables.index").write_bytes(b"nonsense" * 100)
    with pytest.raises(hubclient.ModuleBroken):
        hubclient.signatures(path)


@pytest.mark.parametrize("name", ["tf1/text", "tf2/text_embedding"])
def test_a_missing_asset(copy: Any, name: str) -> None:
    path = copy(name)
    for file in (path / "assets").iterdir():
        file.unlink()
    with pytest.raises(hubclient.ModuleBroken, match="asset"):
        hubclient.signatures(path)


def test_a_damaged_graph_is_an_error_or_a_whole_module(copy: Any) -> None:
    path = copy("tf1/affine")
    file = path / "saved_model.pb"
    content = file.read_bytes()
    generator = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), 3):
            damaged[position] = generator.integers(0, 256)
        file.write_bytes(damaged)
        try:
            with hubclient.signatures(path) as found:
                for runner in found.values():
                    runner([[1, 2, 3]])
        except hubclient.HubError:
            continue


def graph_def(build: Any) -> bytes:
    with tf.Graph().as_default() as graph:
        build(tf.compat.v1)
    data: bytes = graph.as_graph_def().SerializeToString()
    return data


def planned(build: Any, **fields: Any) -> Plan:
    return Plan(
        **{
            "graph_def": graph_def(build),
            "restores": (),
            "checkpoint": None,
            "initializations": (),
            "signatures": {},
            "keep_grappler": False,
            **fields,
        }
    )


def affine(v1: Any) -> None:
    x = v1.placeholder(tf.float32, [None], name="x")
    tf.multiply(x, 2.0, name="y")
    v1.placeholder(tf.resource, [], name="handle")


def test_a_graph_that_tensorflow_cannot_import() -> None:
    for data in (b"\xff" * 20, graph_def(affine).replace(b"Placeholder", b"Placeh0lder")):
        with pytest.raises(hubclient.ModuleBroken, match="import"):
            loading.load_planned(library(), planned(affine, graph_def=data), SETTINGS)


@pytest.mark.parametrize("node", ["missing", "x", "y"])
def test_a_variable_that_is_none(modules: Modules, node: str) -> None:
    restore = Restore(key="w", slice_spec="", dtype=1, node=node, is_resource=True)
    plan = planned(affine, restores=(restore,), checkpoint=modules("tf1/affine") + "/variables/variables")
    with pytest.raises(hubclient.ModuleBroken):
        loading.load_planned(library(), plan, SETTINGS)


@pytest.mark.parametrize(
    "initialization",
    [
        Initialization({}, ("missing",)),
        Initialization({"missing:0": "/file"}, ("y",)),
        Initialization({"x:0": "/file"}, ("y",)),
        Initialization({}, ("y",)),
        Initialization({"x:9": "/file"}, ("y",)),
        Initialization({"x:-1": "/file"}, ("y",)),
        Initialization({"x:99999999999999999999": "/file"}, ("y",)),
    ],
)
def test_an_initialization_that_cannot_run(initialization: Initialization) -> None:
    with pytest.raises(hubclient.ModuleBroken):
        loading.load_planned(library(), planned(affine, initializations=(initialization,)), SETTINGS)


def spec(name: str, shape: Any = (None,)) -> TensorSpec:
    return TensorSpec(name, "float32", shape, "dense")


@pytest.mark.parametrize(
    "signature",
    [
        Signature("", {"x": spec("missing:0")}, {"y": spec("y:0")}),
        Signature("", {"x": spec("x:0")}, {"y": spec("y:1")}),
        Signature("", {"x": spec("x:7")}, {"y": spec("y:0")}),
        Signature("", {"x": spec("x:-1")}, {"y": spec("y:0")}),
        Signature("", {"x": spec("")}, {"y": spec("")}),
        Signature("", {"x": spec("x:0:0")}, {"y": spec("y:0")}),
        Signature("", {"x": spec("x\0:0")}, {"y": spec("y:0")}),
    ],
)
def test_a_signature_of_tensors_that_the_graph_lacks(signature: Signature) -> None:
    session = loading.load_planned(library(), planned(affine), SETTINGS)
    with pytest.raises(hubclient.ModuleBroken):
        hubclient.Signatures(session, {"default": signature}, (), "somewhere")


def test_a_signature_that_lies_about_shapes_gives_what_is_computed() -> None:
    session = loading.load_planned(library(), planned(affine), SETTINGS)
    signature = Signature("", {"x": spec("x:0", (2, 2))}, {"y": spec("y:0", ())})
    with hubclient.Signatures(session, {"default": signature}, (), "somewhere") as found:
        assert found["default"]([[1, 2], [3, 4]])["y"].tolist() == [[2, 4], [6, 8]]


def test_a_signature_of_something_that_numpy_cannot_hold_stops_that_signature_alone() -> None:
    session = loading.load_planned(library(), planned(affine), SETTINGS)
    good = Signature("", {"x": spec("x:0")}, {"y": spec("y:0")})
    bad = Signature("", {"handle": spec("handle:0")}, {"y": spec("y:0")})
    with hubclient.Signatures(session, {"good": good, "bad": bad}, (), "somewhere") as found:
        assert found["good"]([1, 2])["y"].tolist() == [2, 4]
        with pytest.raises(hubclient.ModuleUnsupported, match="resource"):
            found["bad"](handle=1)


def test_an_output_that_is_an_input_is_a_copy_of_it() -> None:
    session = loading.load_planned(library(), planned(affine), SETTINGS)
    signature = Signature("", {"x": spec("x:0")}, {"same": spec("x:0"), "y": spec("y:0")})
    with hubclient.Signatures(session, {"default": signature}, (), "somewhere") as found:
        given = np.array([1, 2], np.float32)
        outputs = found["default"](given)
        assert outputs["same"].tolist() == [1, 2]
        assert outputs["y"].tolist() == [2, 4]
        assert not np.shares_memory(outputs["same"], given)


def test_a_graph_that_took_the_loaders_names(modules: Modules) -> None:
    def build(v1: Any) -> None:
        for suffix in ("", "_1"):
            v1.placeholder(tf.float32, [], name=f"hubclient_restore{suffix}/prefix")
        w = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[3, 2], name="w")
        tf.identity(tf.raw_ops.ReadVariableOp(resource=w, dtype=tf.float32), name="y")

    restore = Restore(key="w", slice_spec="", dtype=1, node="w", is_resource=True)
    plan = planned(build, restores=(restore,), checkpoint=modules("tf1/affine") + "/variables/variables")
    session = loading.load_planned(library(), plan, SETTINGS)
    with hubclient.Signatures(session, {"default": Signature("", {}, {"y": spec("y:0")})}, (), "x") as found:
        expected = tf.train.load_checkpoint(plan.checkpoint).get_tensor("w")
        assert found["default"]()["y"].tolist() == expected.tolist()


def test_the_whole_graph_is_loaded_where_no_plan_can_be_made(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*arguments: Any) -> Plan:
        raise hubclient.ModuleUnsupported("this graph is not understood")

    path = modules("tf2/text_embedding")
    with hubclient.signatures(path) as found:
        expected = {name: runner.outputs for name, runner in found.items()}
        value = found["serving_default"](["one cat", ""])
    monkeypatch.setattr("hubclient.capi.plan.plan", plan)
    with hubclient.signatures(path) as found:
        assert {name: runner.outputs for name, runner in found.items()} == expected
        for key, array in found["serving_default"](["one cat", ""]).items():
            np.testing.assert_allclose(array, value[key], rtol=1e-6)
    with pytest.raises(hubclient.SignatureNotFound, match=r"'missing'.*'serving_default'"):
        hubclient.signatures(path, names=["missing"])
    with pytest.raises(hubclient.ModuleUnsupported, match="not understood"):  # TensorFlow would not restore it
        hubclient.signatures(modules("tf1/affine"))


def test_the_whole_graph_without_its_checkpoint(copy: Any) -> None:
    path = copy("tf2/image_feature_vector")
    shutil.rmtree(path / "variables")
    with pytest.raises(hubclient.ModuleBroken, match="variables"):
        load_whole(library(), str(path), ("serve",), SETTINGS)
    with pytest.raises(hubclient.ModuleBroken, match="cannot load"):
        load_whole(library(), str(path), ("gpu",), SETTINGS)


def test_a_model_in_text_form_is_told(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    with pytest.raises(hubclient.ModuleUnsupported, match="text form"):
        hubclient.signatures(tmp_path)
