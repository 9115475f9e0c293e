"""What `hubctl run` understands on the command line and in files, and how it shows and writes arrays."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from hubclient.cli.values import bind, flat, parse, to_json, to_text, write
from hubclient.contract.saved_model import TensorSpec
from hubclient.model_errors import InputInvalid, ModuleUnsupported

np: Any = pytest.importorskip("numpy")

TEXT = TensorSpec("text:0", "string", (None,), "dense")
FILES = {"a": "a.npy", "one": "one.npz", "b": "b.json", "cat": "cat.jpg"}
NUMBERS = TensorSpec("x:0", "float32", (None,), "dense")


def huge_array() -> bytes:
    """A .npy file that says it holds 40 TB."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def bound(*arguments: str, **specs: TensorSpec) -> dict[str, Any]:
    return bind(parse(arguments), specs)


def test_a_value_is_json() -> None:
    assert bound("x=[[1, 2.5], [true, null]]", x=NUMBERS) == {"x": [[1, 2.5], [True, None]]}


def test_a_single_input_needs_no_name() -> None:
    assert bound("[1, 2]", x=NUMBERS) == {"x": [1, 2]}


def test_a_bare_value_among_several_inputs_is_refused_with_their_names() -> None:
    with pytest.raises(InputInvalid, match=r"\['text', 'x'\]"):
        bound("[1]", x=NUMBERS, text=TEXT)


def test_what_is_no_json_is_text() -> None:
    assert bound("text=hello, world", text=TEXT) == {"text": "hello, world"}
    assert bound("text=a=b", text=TEXT) == {"text": "a=b"}


@pytest.mark.parametrize("text", ["5", "1e3", "true", "null", "NaN"])
def test_text_that_looks_like_a_number_is_text_for_a_string_input(text: str) -> None:
    assert bound(f"text={text}", text=TEXT) == {"text": text}


def test_bytes_are_base64_as_in_tensorflow_serving() -> None:
    assert bound('text=["a", {"b64": "/w=="}]', text=TEXT) == {"text": ["a", b"\xff"]}


@pytest.mark.parametrize("argument", ["x=[1,", 'x={"a": 1', 'x="a', 'x={"b64": "*"}', 'x=[{"b64": 5}]'])
def test_broken_json_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|base64|[Oo]nly"):
        parse([argument])


@pytest.mark.parametrize("arguments", [["x=1", "x=2"], ["1", "2"], ["x=1", "1"]])
def test_an_input_given_twice_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="twice"):
        bound(*arguments, x=NUMBERS)


def test_an_input_given_in_the_file_too_is_refused(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text('{"x": [1]}')
    with pytest.raises(ValueError, match="'x' is given twice"):
        parse(["x=2"], f"@{tmp_path}/all.json")


def test_a_file_is_an_array_json_or_its_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "one.npz", anything=np.ones(2))
    (tmp_path / "b.json").write_text("[1, 2]")
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8")
    given = dict(parse([f"{name}=@{tmp_path / file}" for name, file in FILES.items()]))
    assert given["a"].value.tolist() == [0, 1, 2]
    assert given["one"].value.tolist() == [1, 1]
    assert given["b"].value == [1, 2]
    assert given["cat"].value == b"\xff\xd8"


def test_all_inputs_come_from_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "all.npz", x=np.ones(2), y=np.zeros(1))
    (tmp_path / "all.json").write_text('{"x": [1], "y": "two"}')
    monkeypatch.setattr("sys.stdin", io.StringIO('{"x": 3}'))
    assert {name: value.value.tolist() for name, value in parse((), f"@{tmp_path}/all.npz")} == {"x": [1, 1], "y": [0]}
    assert {name: value.value for name, value in parse((), f"@{tmp_path}/all.json")} == {"x": [1], "y": "two"}
    assert [value.value for _, value in parse((), "@-")] == [3]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("none.npy", None, "No such file"),
        ("bad.json", b"{", "no JSON"),
        ("bad.npy", b"nothing", "cannot be read"),
        ("pickle.npy", None, "cannot be read"),
        ("huge.npy", huge_array(), "cannot be read"),
        ("list.json", b"[1]", "inputs by name"),
        ("x.txt", b"text", "neither"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_name(
    file: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    elif file == "pickle.npy":
        np.save(tmp_path / file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=message) as error:
        parse((), f"@{tmp_path / file}")
    assert file in str(error.value)


def test_parts_of_sparse_and_ragged_outputs_have_names_of_their_own() -> None:
    from hubclient.capi.calling import SparseValue

    outputs = {"sparse": SparseValue("i", "v", "d"), "ragged": ("values", "splits"), "dense": "array"}
    assert flat(outputs) == {
        "sparse/indices": "i",
        "sparse/values": "v",
        "sparse/dense_shape": "d",
        "ragged/0": "values",
        "ragged/1": "splits",
        "dense": "array",
    }


def test_json_keeps_every_value() -> None:
    strings = np.array([b"a", b"\xff"], object)
    assert to_json(strings) == ["a", {"b64": "/w=="}]
    assert to_json(np.array(b"a", object)) == "a"
    assert to_json(np.array([1 + 2j])) == [[1.0, 2.0]]
    assert to_json(np.float16([0.5])) == [0.5]
    assert to_json(np.array(True)) is True


def test_for_people_each_output_says_its_dtype_and_shape() -> None:
    text = to_text({"y": np.float32([[1.5, 2]]), "label": np.array(["ü".encode(), b"\xff"], object)})
    assert text.splitlines() == ["label: string (2,)", "['ü' b'\\xff']", "y: float32 (1, 2)", "[[1.5 2. ]]"]


def test_long_outputs_are_cut_for_people() -> None:
    assert "..." in to_text({"y": np.zeros(100_000)})


def test_files_are_read_again_without_pickle(tmp_path: Path) -> None:
    outputs = {"y": np.float32([1, 2]), "text": np.array([b"a", b"bc"], object)}
    write(str(tmp_path / "out.npz"), outputs)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as loaded:
        assert loaded["y"].tolist() == [1, 2]
        assert loaded["text"].tolist() == [b"a", b"bc"]
    write(str(tmp_path / "out.json"), outputs)
    assert json.loads((tmp_path / "out.json").read_text()) == {"y": [1, 2], "text": ["a", "bc"]}
    write(str(tmp_path / "out.npy"), {"y": outputs["y"]})
    assert np.load(tmp_path / "out.npy").tolist() == [1, 2]


def test_nothing_is_written_when_a_file_cannot_hold_the_outputs(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match=r"\.npz"):
        write(str(tmp_path / "out.npy"), {"x": np.ones(1), "y": np.ones(1)})
    with pytest.raises(ModuleUnsupported, match=r"\.json"):
        write(str(tmp_path / "out.npz"), {"x": np.array([b"a\0"], object)})
    assert list(tmp_path.iterdir()) == []
