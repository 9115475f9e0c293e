"""`hubctl show` tells of real modules what TensorFlow's own `saved_model_cli show --all` tells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hubclient.cli.app import app
from hubclient.contract import saved_model
from hubclient.contract.saved_model import SavedModelError
from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow

#: by tags and by name of the signature: inputs and outputs as {name: (dtype, shape, name of the tensor)}
Told = dict[tuple[str, ...], dict[str, dict[str, dict[str, tuple[str, str, str]]]]]

_TAGS = re.compile(r"MetaGraphDef with tag-set: '(.*)' contains the following SignatureDefs:")
_SIGNATURE = re.compile(r"signature_def\['(.*)'\]:")
_TENSOR = re.compile(r"    (inputs|outputs)\['(.*)'\] tensor_info:")
_FACT = re.compile(r"        (dtype|shape|name): (.*)")


def told_by_tensorflow(directory: str, capsys: pytest.CaptureFixture[str]) -> Told:
    from tensorflow.python.tools import saved_model_cli

    capsys.readouterr()
    saved_model_cli._show_all(directory)  # all that the command does; as a process it would take four seconds
    told: Told = {}
    signatures: dict[str, Any] = {}
    facts: list[str] = []
    place: tuple[dict[str, Any], str] = ({}, "")
    for line in capsys.readouterr().out.splitlines():
        if match := _TAGS.fullmatch(line):
            signatures = told.setdefault(tuple(filter(None, match[1].split(", "))), {})
        elif match := _SIGNATURE.fullmatch(line):
            signatures[match[1]] = {"inputs": {}, "outputs": {}}
            tensors = signatures[match[1]]
        elif match := _TENSOR.fullmatch(line):
            place = tensors[match[1]], match[2]
            facts = []
        elif match := _FACT.fullmatch(line):
            facts.append(match[2].strip())
            if match[1] == "name":
                place[0][place[1]] = tuple(facts)
        elif line.startswith("Concrete Functions"):
            break
    return told


def told_by_hubctl(directory: str) -> Told:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    def tensors(specs: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
        return {name: (dtype(spec["dtype"]), shape(spec["shape"]), spec["name"]) for name, spec in specs.items()}

    def dtype(name: str) -> str:
        number = 0 if name == "invalid" else tf.dtypes.as_dtype(name).as_datatype_enum
        return str(types_pb2.DataType.Name(number))

    def shape(sizes: list[int | None] | None) -> str:
        return "unknown_rank" if sizes is None else f"({', '.join('-1' if n is None else str(n) for n in sizes)})"

    result = CliRunner().invoke(app, ["show", "--json", directory])
    assert result.exit_code == 0, result.stderr
    return {
        tuple(graph["tags"]): {
            name: {"inputs": tensors(one["inputs"]), "outputs": tensors(one["outputs"])}
            for name, one in graph["signatures"].items()
        }
        for graph in json.loads(result.stdout)["meta_graphs"]
    }


@pytest.mark.parametrize(
    "name",
    [
        "tf2/text_embedding",
        "tf2/image_feature_vector",
        "tf2/multi",
        "tf2/dtypes",
        "tf2/ragged",
        "tf2/sparse",
        "tf2/two_signatures",
        "tf1/variants",
        "tf1/text",
        "tf1/sparse",
        "tf1/many",
        "tf1/image",
    ],
)
def test_tags_signatures_names_dtypes_and_shapes_are_those_of_saved_model_cli(
    modules: Modules, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = modules(name)
    by_tensorflow = told_by_tensorflow(directory, capsys)
    assert by_tensorflow
    assert any(by_tensorflow.values())
    assert told_by_hubctl(directory) == by_tensorflow


@pytest.mark.parametrize(
    ("name", "signature", "common"),
    [
        ("tf2/text_embedding", "serving_default", "text embedding"),
        ("tf1/text", "default", "text embedding"),
        ("tf1/image", "image_feature_vector", "image feature vector"),
        ("tf2/image_feature_vector", "serving_default", "image feature vector or classification"),
        ("tf2/two_signatures", "scaled", None),
    ],
)
def test_the_common_signature_of_real_modules_is_recognised(
    modules: Modules, name: str, signature: str, common: str | None
) -> None:
    result = CliRunner().invoke(app, ["show", "--json", modules(name)])
    assert json.loads(result.stdout)["meta_graphs"][0]["signatures"][signature]["common_signature"] == common


@pytest.fixture(scope="module")
def models(modules: Modules) -> list[bytes]:
    names = ("tf2/text_embedding", "tf2/dtypes", "tf1/variants", "tf1/sparse")
    return [Path(modules(name), "saved_model.pb").read_bytes() for name in names]


@settings(max_examples=300, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_real_model_that_was_damaged_gives_graphs_or_an_error_of_its_own_soon(
    models: list[bytes], tmp_path: Path, data: st.DataObject
) -> None:
    model = bytearray(data.draw(st.sampled_from(models)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(model)))
        replaced = data.draw(st.sampled_from([0, 1, 2, 8, len(model)]))
        model[at : at + replaced] = data.draw(
            st.binary(max_size=12) | st.integers(0, len(model)).map(lambda start: bytes(model[start : start + 2000]))
        )
    file = tmp_path / "saved_model.pb"
    file.write_bytes(model)
    try:
        json.dumps(saved_model.to_json(saved_model.read(str(file))))
    except SavedModelError:
        return
