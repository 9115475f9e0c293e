"""One signature, prepared: what is the same for each call is done once.

Law: a call needs nothing but its session and its own memory, so that any number of threads may make calls at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hubclient.capi import dtypes
from hubclient.capi.inputs import Port, Shape, as_array
from hubclient.capi.library import Output
from hubclient.capi.session import Graph, Session
from hubclient.capi.status import Status
from hubclient.contract.saved_model import Signature, TensorSpec
from hubclient.model_errors import InputInvalid, RunFailed


class SparseValue(NamedTuple):
    """A sparse tensor, as three arrays; ``tf.SparseTensor(*value)`` takes them."""

    indices: Any  #: int64, of shape (number of values, rank)
    values: Any  #: of shape (number of values,)
    dense_shape: Any  #: int64, of shape (rank,)


class _Argument(NamedTuple):
    key: str
    encoding: str
    ports: tuple[Port, ...]
    outputs: tuple[Output, ...]
    tensor_names: tuple[str, ...]


class Call:
    """What a signature feeds and fetches."""

    def __init__(self, graph: Graph, name: str, signature: Signature) -> None:
        self._name = name
        self._library = graph.library
        self._inputs = [_argument(graph, "input", key, spec) for key, spec in signature.inputs.items()]
        self._outputs = [_argument(graph, "output", key, spec) for key, spec in signature.outputs.items()]
        self._keys = frozenset(signature.inputs)
        # A tensor is fed once, and one that is fed cannot be fetched: such an output is a copy of what was given.
        places: dict[str, int] = {}
        feeds: list[Output] = []
        for argument in self._inputs:
            for tensor_name, output in zip(argument.tensor_names, argument.outputs, strict=True):
                if places.setdefault(tensor_name, len(feeds)) == len(feeds):
                    feeds.append(output)
        self._feed_places = [[places[name] for name in argument.tensor_names] for argument in self._inputs]
        fetched: list[Output] = []
        self._fetch_places: list[list[int]] = []  # below 0: counted from -1, a place among what is fed
        self._ports: list[Port] = []
        for argument in self._outputs:
            line = []
            for tensor_name, output, port in zip(argument.tensor_names, argument.outputs, argument.ports, strict=True):
                if tensor_name in places:
                    line.append(-1 - places[tensor_name])
                else:
                    line.append(len(fetched))
                    fetched.append(output)
                    self._ports.append(port)
            self._fetch_places.append(line)
        self._feed_outputs = (Output * len(feeds))(*feeds)
        self._fetch_outputs = (Output * len(fetched))(*fetched)
        self._feed_type = ctypes.c_void_p * len(feeds)
        self._fetch_type = ctypes.c_void_p * len(fetched)

    def __call__(self, session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
        """Raises `InputInvalid`, `RunFailed`, `Forked`."""
        if values.keys() != self._keys:
            raise self._wrong_keys(values)
        library = self._library
        library.check_fork()
        tensors = session.tensors
        given: list[Any] = [None] * len(self._feed_outputs)
        fed, fetched = self._feed_type(), self._fetch_type()
        status = library.TF_NewStatus()
        try:
            for argument, places in zip(self._inputs, self._feed_places, strict=True):
                parts = values[argument.key] if argument.encoding != "dense" else (values[argument.key],)
                if argument.encoding != "dense":
                    parts = _components(argument, parts)
                for place, port, part in zip(places, argument.ports, parts, strict=True):
                    array = as_array(part, port)
                    if given[place] is None:
                        given[place] = array
                        fed[place] = tensors.from_array(array, port)
            if fetched:
                library.TF_SessionRun(
                    session.pointer,
                    None,
                    self._feed_outputs,
                    fed,
                    len(fed),
                    self._fetch_outputs,
                    fetched,
                    len(fetched),
                    None,
                    0,
                    None,
                    status,
                )
                if library.TF_GetCode(status):
                    Status(library, status).check(RunFailed, f"signature {self._name!r} failed")
            arrays = []
            for index, port in enumerate(self._ports):
                tensor, fetched[index] = fetched[index], None
                if not tensor:
                    raise RunFailed(f"TensorFlow gave no {port.label}")
                arrays.append(tensors.to_array(tensor, port))
        finally:
            # Not before the outputs are arrays: one of them may lie in the memory of an input.
            for tensor in (*fed, *fetched):
                if tensor:
                    library.TF_DeleteTensor(tensor)
            library.TF_DeleteStatus(status)
        results = {}
        for argument, places in zip(self._outputs, self._fetch_places, strict=True):
            parts = [arrays[place] if place >= 0 else given[-1 - place].copy() for place in places]
            if argument.encoding == "dense":
                results[argument.key] = parts[0]
            else:
                results[argument.key] = SparseValue(*parts) if argument.encoding == "sparse" else tuple(parts)
        return results

    def _wrong_keys(self, values: Mapping[str, Any]) -> InputInvalid:
        expected = ", ".join(f"{one.key}: {_expected(one)}" for one in self._inputs) or "no inputs"
        faults = []
        if missing := sorted(self._keys - values.keys()):
            faults.append(f"missing {_listed(missing)}")
        if unexpected := sorted(values.keys() - self._keys):
            faults.append(f"unexpected {_listed(unexpected)}")
        return InputInvalid(f"signature {self._name!r} takes {expected}; {' and '.join(faults)}")


def _argument(graph: Graph, kind: str, key: str, spec: TensorSpec) -> _Argument:
    label = f"{kind} {key!r}"
    if spec.encoding == "dense":
        return _from_names(graph, key, spec, (spec.name,), (label,), (spec.shape,))
    names = spec.components
    if spec.encoding == "sparse":
        labels = tuple(f"the {part} of {label}" for part in SparseValue._fields)
        rank = None if spec.shape is None else len(spec.shape)
        return _from_names(graph, key, spec, names, labels, ((None, rank), (None,), (rank,)))
    labels = tuple(f"component {index} of {label}" for index in range(len(names)))
    return _from_names(graph, key, spec, names, labels, (None,) * len(names))


def _from_names(
    graph: Graph, key: str, spec: TensorSpec, names: Sequence[str], labels: Iterable[str], shapes: Iterable[Shape]
) -> _Argument:
    outputs = tuple(graph.output(name) for name in names)
    types = [graph.dtype(output) for output in outputs]
    ports = tuple(
        Port(label, dtype, dtypes.numpy_dtype(dtype), shape)
        for label, dtype, shape in zip(labels, types, shapes, strict=True)
    )
    canonical = tuple(name if ":" in name else f"{name}:0" for name in names)
    return _Argument(key, spec.encoding, ports, outputs, canonical)


def _components(argument: _Argument, value: Any) -> Sequence[Any]:
    if argument.encoding == "sparse" and hasattr(value, "dense_shape"):  # a tf.SparseTensor, or v1's SparseTensorValue
        return value.indices, value.values, value.dense_shape
    if not isinstance(value, tuple | list) or len(value) != len(argument.ports):
        raise InputInvalid(f"input {argument.key!r} must be {_expected(argument)}")
    return value


def _expected(argument: _Argument) -> str:
    if argument.encoding == "dense":
        return argument.ports[0].expected
    if argument.encoding == "sparse":
        return f"sparse {dtypes.name(argument.ports[1].dtype)}, as a tuple (indices, values, dense_shape)"
    return f"a tuple of {len(argument.ports)} arrays: " + ", ".join(port.expected for port in argument.ports)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
