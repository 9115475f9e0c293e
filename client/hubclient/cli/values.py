"""Values of `hubctl run`: from arguments and files to what a signature takes, and from its arrays to text and files.

Law: what cannot be understood is refused before a module is downloaded or loaded.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hubclient.atomic import absolute, new_file
from hubclient.contract.saved_model import TensorSpec
from hubclient.model_errors import InputInvalid, ModuleUnsupported
from hubclient.opening import tensorflow_missing

_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.\-/]*)=(.*)", re.DOTALL)
FILE_KINDS = (".npz", ".npy", ".json")


class Value(NamedTuple):
    """One argument: what it says as JSON or holds as a file, and for a string input its plain text."""

    value: Any
    text: str | None


def parse(arguments: Iterable[str], file: str | None = None) -> list[tuple[str | None, Value]]:
    """``NAME=VALUE`` or a bare ``VALUE``, where a value is JSON, ``@FILE`` or plain text; ``ValueError`` if it is none.

    ``@x.npy`` is an array, ``@x.json`` JSON, ``@-`` JSON from stdin, and any other file its bytes (an image, say).
    `file` holds further inputs by name: ``@x.npz``, or a JSON object in ``@x.json`` or ``@-``.
    """
    parsed = [] if file is None else _parse_file(file)
    names = {name for name, _ in parsed}
    for argument in arguments:
        match = _ASSIGNMENT.fullmatch(argument)
        name, text = (match[1], match[2]) if match else (None, argument)
        if name in names:
            what = "a value without NAME=" if name is None else f"the input {name!r}"
            raise ValueError(f"{what} is given twice")
        names.add(name)
        parsed.append((name, _value(text)))
    return parsed


def _parse_file(argument: str) -> list[tuple[str | None, Value]]:
    content = _from_file(argument.removeprefix("@"), several=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"{argument} must hold inputs by name: a .npz file, or a JSON object")
    return [(str(name), Value(value, None)) for name, value in content.items()]


def bind(values: Iterable[tuple[str | None, Value]], specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    """The values under the names of the signature's inputs; `InputInvalid` for a bare value where there are several."""
    bound: dict[str, Any] = {}
    for name, (value, text) in values:
        if name is None:
            if len(specs) != 1:
                raise InputInvalid(f"the signature has the inputs {sorted(specs)}: say which with NAME=VALUE")
            (name,) = specs
        if name in bound:
            raise InputInvalid(f"the input {name!r} is given twice, once without its name")
        is_text = name in specs and specs[name].dtype == "string" and isinstance(value, int | float | None)
        bound[name] = text if is_text and text is not None else value
    return bound


def flat(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays alone: the parts of a sparse output become ``NAME/indices`` and so on, of a ragged one ``NAME/0``, ..."""
    arrays: dict[str, Any] = {}
    for name, output in outputs.items():
        if isinstance(output, tuple):
            parts = zip(getattr(output, "_fields", range(len(output))), output, strict=True)
            arrays |= {f"{name}/{part}": array for part, array in parts}
        else:
            arrays[name] = output
    return arrays


def to_json(array: Any) -> Any:
    """Lists and numbers; strings that are no UTF-8 become ``{"b64": ...}``, complex numbers ``[real, imaginary]``.

    NaN and the infinities stay what they are, and are written as Python and TensorFlow Serving do: NaN, Infinity.
    """
    if array.dtype.kind == "O":
        return _map(array.tolist(), _text)
    if array.dtype.kind == "c":
        return _map(array.tolist(), lambda number: [number.real, number.imag])
    if array.dtype.kind == "V":  # bfloat16, which numpy does not know
        return array.astype("float32").tolist()
    return array.tolist()


def to_text(outputs: Mapping[str, Any]) -> str:
    """For people: name, dtype and shape of each output, and its values, where long ones are cut."""
    import numpy as np

    blocks = []
    for name, array in sorted(outputs.items()):
        dtype = "string" if array.dtype.kind == "O" else array.dtype.name
        shown = array
        if array.dtype.kind == "O":
            shown = np.empty(array.shape, object)
            for index in np.ndindex(array.shape):
                text = _text(array[index])
                shown[index] = text if isinstance(text, str) else array[index]
        blocks.append(f"{name}: {dtype} {tuple(array.shape)}\n{np.array2string(shown, threshold=200)}\n")
    return "".join(blocks)


def write(path: str, outputs: Mapping[str, Any]) -> None:
    """Write all outputs to a file of the kind that its name says, which appears whole or not at all."""
    with new_file(absolute(path), replace=True) as file:
        _write(file, path, outputs)


def _write(file: Any, path: str, outputs: Mapping[str, Any]) -> None:
    import numpy as np

    if path.endswith(".json"):
        document = json.dumps({name: to_json(array) for name, array in outputs.items()}, ensure_ascii=False)
        file.write(document.encode() + b"\n")
        return
    plain = {name: _plain(name, array) for name, array in outputs.items()}
    if path.endswith(".npz"):
        np.savez(file, **plain)
    elif len(plain) == 1:
        np.save(file, *plain.values())
    else:
        raise InputInvalid(f"a .npy file holds one output, and there are {sorted(plain)}: write a .npz file")


def _plain(name: str, array: Any) -> Any:
    """The array with a dtype that numpy reads again without pickle."""
    if array.dtype.kind == "V":
        return array.astype("float32")
    if array.dtype.kind != "O":
        return array
    if any(text.endswith(b"\0") for text in array.ravel().tolist()):
        raise ModuleUnsupported(f"strings of {name!r} end in NUL bytes, which numpy's files lose: write a .json file")
    return array.astype("S")


def _value(text: str) -> Value:
    if text.startswith("@"):
        return Value(_from_file(text[1:], several=False), None)
    try:
        return Value(_decoded(json.loads(text)), text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        if text.lstrip()[:1] in ("[", "{", '"'):
            raise ValueError(f"{text!r} is no JSON: {error}") from None
        return Value(text, text)


def _from_file(path: str, *, several: bool) -> Any:
    try:
        if path == "-" or path.endswith(".json"):
            return _decoded(json.loads(sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")))
        if path.endswith((".npy", ".npz")):
            content = _arrays(path)
            if several or not isinstance(content, dict):
                return content
            if len(content) == 1:
                return next(iter(content.values()))
            raise ValueError(f"{path} holds the arrays {sorted(content)}: give it as --inputs @{path}")
        if several:
            raise ValueError(f"{path} is neither .npz nor .json")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{'stdin' if path == '-' else path} is no JSON: {error}") from None


def _arrays(path: str) -> Any:
    """One array of a .npy file, or all of a .npz file by name."""
    try:
        import numpy
    except ModuleNotFoundError:
        raise tensorflow_missing("hubctl run") from None
    try:
        loaded = numpy.load(path, allow_pickle=False)
        return dict(loaded) if path.endswith(".npz") else loaded
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _decoded(value: Any) -> Any:
    """JSON with each ``{"b64": ...}`` as the bytes that it stands for, as in TensorFlow Serving's REST API."""
    if isinstance(value, dict):
        if set(value) == {"b64"}:
            try:
                return base64.b64decode(value["b64"], validate=True)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{value} is no base64: {error}") from None
        return {key: _decoded(one) for key, one in value.items()}
    return [_decoded(one) for one in value] if isinstance(value, list) else value


def _map(values: Any, function: Any) -> Any:
    return [_map(value, function) for value in values] if isinstance(values, list) else function(values)


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(data).decode()}
