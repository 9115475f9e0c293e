"""The reader of saved_model.pb: tags and signatures, and for anything else an error of its own."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubclient.contract import saved_model, windowed
from hubclient.contract.saved_model import MetaGraph, SavedModelError, Signature, TensorSpec
from tests.support import archives
from tests.support.archives import field, tensor_info, varint

EXAMPLE = [
    MetaGraph(
        ("serve",),
        {
            "serving_default": Signature(
                "tensorflow/serving/predict",
                {"x": TensorSpec("x:0", "float32", (None, 3), "dense")},
                {"y": TensorSpec("y:0", "string", (), "dense")},
            )
        },
    )
]


def read(data: bytes) -> list[MetaGraph]:
    fd = os.memfd_create("saved_model.pb")
    try:
        os.write(fd, data)
        return saved_model.read_fd(fd)
    finally:
        os.close(fd)


def with_input(info: bytes) -> bytes:
    """A saved_model.pb with one signature "s" whose input "x" is this ``TensorInfo``."""
    return field(2, field(5, field(1, "s") + field(2, field(1, field(1, "x") + field(2, info)))))


def input_of(info: bytes) -> TensorSpec:
    return read(with_input(info))[0].signatures["s"].inputs["x"]


def bytes_read() -> int:
    """How many bytes this process has read so far, by the kernel's count."""
    with open("/proc/self/io", encoding="ascii") as counters:
        return int(counters.readline().removeprefix("rchar: "))


def test_it_reads_tags_and_signatures(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(archives.saved_model())
    assert saved_model.read(str(tmp_path / "saved_model.pb")) == EXAMPLE


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        saved_model.read(str(tmp_path / "saved_model.pb"))


def test_its_json_survives_json() -> None:
    unknown_rank = with_input(field(2, 1) + field(3, field(3, 1)))
    sparse = with_input(field(2, 1) + field(4, field(1, "v:0")))
    as_json = saved_model.to_json(EXAMPLE + read(unknown_rank) + read(sparse))
    assert json.loads(json.dumps(as_json)) == as_json
    assert as_json[0] == {
        "tags": ["serve"],
        "signatures": {
            "serving_default": {
                "method_name": "tensorflow/serving/predict",
                "inputs": {"x": {"name": "x:0", "dtype": "float32", "shape": [None, 3], "encoding": "dense"}},
                "outputs": {"y": {"name": "y:0", "dtype": "string", "shape": [], "encoding": "dense"}},
            }
        },
    }
    assert as_json[1]["signatures"]["s"]["inputs"]["x"]["shape"] is None


def test_the_graph_is_skipped_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.pb"
    size_bytes = 100_000_000
    head = field(1, 1)
    rest = field(1, field(4, "serve"))
    graph_start = varint(2 << 3 | 2) + varint(size_bytes)
    length = len(graph_start) + size_bytes + len(rest)
    with path.open("wb") as file:
        file.write(head + varint(2 << 3 | 2) + varint(length) + graph_start)
        file.seek(size_bytes, os.SEEK_CUR)
        file.write(rest)
    before = bytes_read()
    assert saved_model.read(str(path)) == [MetaGraph(("serve",), {})]
    assert bytes_read() - before < 100_000


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (b"", TensorSpec("", "invalid", (), "dense")),
        (tensor_info("x:0", 3, 1, 0, 2**40), TensorSpec("x:0", "int32", (1, 0, 2**40), "dense")),
        (tensor_info("x:0", 9, -1), TensorSpec("x:0", "int64", (None,), "dense")),
        (field(2, 14) + field(3, field(3, 1)), TensorSpec("", "bfloat16", None, "dense")),
        (field(2, 1) + field(3, field(2, b"")), TensorSpec("", "float32", (0,), "dense")),
        (field(2, 101), TensorSpec("", "float32_ref", (), "dense")),
        (field(2, 99), TensorSpec("", "unknown_99", (), "dense")),
        (field(2, -5), TensorSpec("", f"unknown_{2**64 - 5}", (), "dense")),
        (field(2, 7) + field(4, field(1, "v:0")), TensorSpec("", "string", (), "sparse", ("", "v:0", ""))),
        (
            field(4, field(1, "v:0") + field(2, "i:0") + field(3, "s:0")),
            TensorSpec("", "invalid", (), "sparse", ("i:0", "v:0", "s:0")),
        ),
        (
            field(
                5, field(2, field(1, "a:0")) + field(2, field(5, field(2, field(1, "b:0")))) + field(2, field(4, b""))
            ),
            TensorSpec("", "invalid", (), "composite", ("a:0", "b:0", "", "", "")),
        ),
        (field(2, 21) + field(5, b""), TensorSpec("", "variant", (), "composite")),
    ],
)
def test_tensors_in_every_form(info: bytes, expected: TensorSpec) -> None:
    assert input_of(info) == expected


def test_fields_that_it_does_not_know_are_skipped() -> None:
    unknown = field(100, "text") + field(101, 7) + varint(102 << 3 | 1) + bytes(8) + varint(103 << 3 | 5) + bytes(4)
    data = archives.saved_model()
    assert read(unknown + data + unknown) == EXAMPLE


def test_several_graphs_and_sorted_tags() -> None:
    graphs = b"".join(field(2, field(1, b"".join(field(4, tag) for tag in tags))) for tags in (["b", "a"], []))
    assert [graph.tags for graph in read(graphs)] == [("a", "b"), ()]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(b"", "no graph", id="empty"),
        pytest.param(field(1, 1), "no graph", id="no graph"),
        pytest.param(b"<html></html>", "wire type 4", id="HTML"),
        pytest.param(archives.saved_model()[:-1], "cut off", id="cut"),
        pytest.param(b"\x80" * 11 + b"\x01", "too long", id="varint of 12 bytes"),
        pytest.param(b"\x08" + b"\xff" * 5, "cut off", id="varint without end"),
        pytest.param(b"\x13\x14", "wire type 3", id="group"),
        pytest.param(b"\x0f", "wire type 7", id="wire type 7"),
        pytest.param(b"\x09\0\0\0", "cut off", id="short double"),
        pytest.param(b"\x0d\0\0", "cut off", id="short float"),
        pytest.param(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "cut off", id="length of 2^64"),
        pytest.param(field(2, field(1, field(4, b"\xff"))), "UTF-8", id="tag that is not UTF-8"),
        pytest.param(field(2, 5), "no message", id="graph that is a number"),
        pytest.param(field(2, field(5, b"\x0a\x05ab")), "cut off", id="field beyond its message"),
        pytest.param(field(2, field(1, field(4, "t" * 2_000_000))), "longer than", id="tag of 2 MB"),
        pytest.param(field(2, field(1, field(4, "t" * 100) * 20_000)), "longer than", id="2 MB of tags"),
        pytest.param(field(1, 1) * 1_000_000, "200000 fields", id="a million fields"),
    ],
)
def test_what_is_none_is_an_error_of_its_own(data: bytes, complaint: str) -> None:
    with pytest.raises(SavedModelError, match=complaint):
        read(data)


def test_names_across_the_edge_of_a_window_are_whole() -> None:
    for length in range(4000, 4200):
        (graph,) = read(field(2, field(1, field(4, "t" * length) + field(4, "é" * 3000))))
        assert graph.tags == ("t" * length, "é" * 3000)


def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.pb"
    path.write_bytes(field(1, 1) + field(9, bytes(50_000)) + archives.saved_model())
    with path.open("rb") as file:
        fields = windowed.Message(file.fileno(), path.stat().st_size).fields((0, path.stat().st_size))
        assert next(fields)[0] == 1
        os.truncate(path, 10_000)
        with pytest.raises(SavedModelError, match="cut off"):
            list(fields)


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_give_graphs_or_an_error_of_its_own(data: bytes) -> None:
    for attempt in (data, field(2, data), with_input(data)):
        try:
            saved_model.to_json(read(attempt))
        except SavedModelError:
            continue


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_model_gives_graphs_or_an_error_of_its_own(seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(archives.saved_model(graph=bytes(20)))
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = bytes(chance.randrange(256) for _ in range(chance.randrange(3)))
    try:
        json.dumps(saved_model.to_json(read(bytes(data))))
    except SavedModelError:
        return
