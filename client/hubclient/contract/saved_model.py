"""Tags and signatures of a ``saved_model.pb``, read without TensorFlow and without loading the graph.

Law: whatever the bytes are, reading ends soon, in bounded memory, with an answer or a `SavedModelError`.

The format is that of TensorFlow's ``saved_model.proto``, ``meta_graph.proto`` and ``tensor_shape.proto``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from hubclient.contract.dtypes import dtype_name
from hubclient.contract.windowed import Message, SavedModelError, Span, is_bytes

__all__ = ["MetaGraph", "SavedModelError", "Signature", "TensorSpec", "from_json", "read", "read_fd", "to_json"]

_MAX_DEPTH = 16


class TensorSpec(NamedTuple):
    name: str  #: the tensor's name in the graph; "" unless the encoding is dense
    dtype: str  #: as ``tf.DType.name`` gives it: "float32", "string"
    shape: tuple[int | None, ...] | None  #: None for an unknown size; None as a whole for an unknown rank
    encoding: str  #: "dense", "sparse" or "composite"
    #: the names of the tensors that it consists of, unless dense: indices, values and dense_shape of a sparse one
    components: tuple[str, ...] = ()


class Signature(NamedTuple):
    method_name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class MetaGraph(NamedTuple):
    tags: tuple[str, ...]  #: sorted
    signatures: dict[str, Signature]


def read(path: str) -> list[MetaGraph]:
    """The meta graphs of the file, at least one. Raises `SavedModelError`, and `OSError` as opening does."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_fd(fd)
    finally:
        os.close(fd)


def read_fd(fd: int) -> list[MetaGraph]:
    """`read` for an open file."""
    size_bytes = os.fstat(fd).st_size
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # reading ahead would fetch the graph that is skipped
    message = Message(fd, size_bytes)
    graphs = [_meta_graph(message, span) for number, span in message.fields((0, size_bytes)) if number == 2]
    if not graphs:
        raise SavedModelError("it holds no graph")
    return graphs


def to_json(graphs: list[MetaGraph]) -> list[dict[str, Any]]:
    """The same in lists and dicts that ``json.dumps`` takes, but for the components."""

    def tensor(spec: TensorSpec) -> dict[str, Any]:
        shape = None if spec.shape is None else list(spec.shape)
        return {"name": spec.name, "dtype": spec.dtype, "shape": shape, "encoding": spec.encoding}

    def tensors(specs: dict[str, TensorSpec]) -> dict[str, Any]:
        return {key: tensor(spec) for key, spec in specs.items()}

    def signature(of: Signature) -> dict[str, Any]:
        return {"method_name": of.method_name, "inputs": tensors(of.inputs), "outputs": tensors(of.outputs)}

    return [
        {"tags": list(graph.tags), "signatures": {name: signature(of) for name, of in graph.signatures.items()}}
        for graph in graphs
    ]


def from_json(graphs: list[dict[str, Any]]) -> list[MetaGraph]:
    """The graphs of `to_json` again, but for the components. `KeyError` and the like when it is something else."""

    def tensors(specs: dict[str, Any]) -> dict[str, TensorSpec]:
        return {
            key: TensorSpec(
                spec["name"],
                spec["dtype"],
                None if spec["shape"] is None else tuple(spec["shape"]),
                spec["encoding"],
            )
            for key, spec in specs.items()
        }

    def signature(of: dict[str, Any]) -> Signature:
        return Signature(of["method_name"], tensors(of["inputs"]), tensors(of["outputs"]))

    return [
        MetaGraph(tuple(graph["tags"]), {name: signature(of) for name, of in graph["signatures"].items()})
        for graph in graphs
    ]


def _meta_graph(message: Message, span: Span) -> MetaGraph:
    if not is_bytes(span):
        raise SavedModelError("a graph is no message")
    tags: list[str] = []
    signatures: dict[str, Signature] = {}
    for number, place in message.fields(span):
        if number == 1 and is_bytes(place):  # meta_info_def
            tags += [message.text(tag) for field, tag in message.fields(place) if field == 4 and is_bytes(tag)]
        elif number == 5 and is_bytes(place):  # signature_def
            name, value = _map_entry(message, place)
            signatures[name] = _signature(message, value)
    return MetaGraph(tuple(sorted(tags)), signatures)


def _map_entry(message: Message, span: Span) -> tuple[str, Span]:
    """A map's entry is a message of a key (1) and a value (2); either may be missing, which means empty."""
    key, value = "", (0, 0)
    for number, place in message.fields(span):
        if number == 1 and is_bytes(place):
            key = message.text(place)
        elif number == 2 and is_bytes(place):
            value = place
    return key, value


def _signature(message: Message, span: Span) -> Signature:
    method_name = ""
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    for number, place in message.fields(span):
        if number in (1, 2) and is_bytes(place):
            key, value = _map_entry(message, place)
            (inputs if number == 1 else outputs)[key] = _tensor(message, value)
        elif number == 3 and is_bytes(place):
            method_name = message.text(place)
    return Signature(method_name, inputs, outputs)


def _tensor(message: Message, span: Span) -> TensorSpec:
    name, dtype, encoding = "", 0, "dense"
    components: tuple[str, ...] = ()
    dimensions: list[int | None] = []
    is_rank_known = True
    for number, place in message.fields(span):
        if number == 1 and is_bytes(place):
            name, encoding, components = message.text(place), "dense", ()
        elif number == 2 and not is_bytes(place):
            dtype = place[1]
        elif number == 3 and is_bytes(place):  # tensor_shape
            for field, dimension in message.fields(place):
                if field == 2 and is_bytes(dimension):
                    dimensions.append(_dimension(message, dimension))
                elif field == 3 and not is_bytes(dimension):
                    is_rank_known = not dimension[1]
        elif number in (4, 5) and is_bytes(place):
            name, encoding = "", "sparse" if number == 4 else "composite"
            components = _sparse(message, place) if number == 4 else tuple(_composite(message, place))
    return TensorSpec(name, dtype_name(dtype), tuple(dimensions) if is_rank_known else None, encoding, components)


def _sparse(message: Message, span: Span) -> tuple[str, str, str]:
    names = {number: message.text(place) for number, place in message.fields(span) if is_bytes(place)}
    return names.get(2, ""), names.get(1, ""), names.get(3, "")


def _composite(message: Message, span: Span, depth: int = 0) -> Iterator[str]:
    """The names of a composite tensor's components, and of the components of those that are composite themselves."""
    if depth == _MAX_DEPTH:
        raise SavedModelError(f"a composite tensor is nested more than {_MAX_DEPTH} deep")
    for component in (place for number, place in message.fields(span) if number == 2 and is_bytes(place)):
        for number, place in message.fields(component):
            if number == 1 and is_bytes(place):
                yield message.text(place)
            elif number == 4 and is_bytes(place):
                yield from _sparse(message, place)
            elif number == 5 and is_bytes(place):
                yield from _composite(message, place, depth + 1)


def _dimension(message: Message, span: Span) -> int | None:
    size = 0
    for number, place in message.fields(span):
        if number == 1 and not is_bytes(place):
            size = place[1]
    return size if size < 1 << 63 else None  # a negative size, in two's complement, stands for an unknown one
