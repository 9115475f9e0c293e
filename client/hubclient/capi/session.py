"""A graph and the session that runs it.

Law: C's objects live exactly as long as the `Session`, and whoever runs it holds it: closing is letting go, and the
last run that is under way frees what it still needed. At the interpreter's end nothing is freed: the kernel does it.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hubclient.capi import dtypes
from hubclient.capi.library import Library, Output
from hubclient.capi.status import Status, new_status
from hubclient.capi.tensors import Tensors
from hubclient.contract.errors import HubError
from hubclient.model_errors import ModuleBroken

_MAX_OUTPUT_INDEX = (1 << 31) - 1


class Graph:
    """A TF_Graph."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.pointer: int = library.TF_NewGraph()
        if library.TF_SetRequireShapeInferenceFns is not None:  # custom operations seldom have such a function
            library.TF_SetRequireShapeInferenceFns(self.pointer, False)
        finalizer = weakref.finalize(self, library.TF_DeleteGraph, self.pointer)
        finalizer.atexit = False

    def operation(self, name: str) -> int:
        """The TF_Operation of this name. Raises `ModuleBroken`."""
        pointer: int | None = self.library.TF_GraphOperationByName(self.pointer, _encoded(name))
        if not pointer:
            raise ModuleBroken(f"the graph has no operation {name!r}")
        return pointer

    def output(self, tensor_name: str) -> Output:
        """The TF_Output that a tensor's name ("operation:index") means. Raises `ModuleBroken`."""
        name, _, index_text = tensor_name.partition(":")
        index = int(index_text) if index_text.isdecimal() else 0 if not index_text else -1
        operation = self.operation(name)
        if not 0 <= index < min(self.library.TF_OperationNumOutputs(operation), _MAX_OUTPUT_INDEX):
            raise ModuleBroken(f"the graph has no tensor {tensor_name!r}")
        return Output(operation, index)

    def dtype(self, output: Output) -> int:
        """Its DataType, or for a reference the one that is referred to."""
        return dtypes.base(self.library.TF_OperationOutputType(output))

    def operation_types(self) -> Iterator[str]:
        """The type of each operation."""
        position = ctypes.c_size_t(0)
        while operation := self.library.TF_GraphNextOperation(self.pointer, ctypes.byref(position)):
            yield self.library.TF_OperationOpType(operation).decode("utf-8", "replace")


class Session:
    """A TF_Session. Thread-safe; `Forked` where its threads did not follow."""

    def __init__(self, graph: Graph, pointer: int) -> None:
        self.library = graph.library
        self.graph = graph
        self.tensors = Tensors(graph.library)
        self.pointer = pointer
        # The arguments keep graph and deallocators: the session lets go of tensors while it is deleted.
        finalizer = weakref.finalize(self, _delete, graph, self.tensors, pointer)
        finalizer.atexit = False

    def run(self, feeds: Feeds, fetches: Feeds, targets: Any, status: Status) -> None:
        """One TF_SessionRun; `status` tells how it went. Fetched tensors are the caller's to delete."""
        self.library.TF_SessionRun(
            self.pointer,
            None,
            feeds.outputs,
            feeds.tensors,
            len(feeds.outputs),
            fetches.outputs,
            fetches.tensors,
            len(fetches.outputs),
            targets,
            len(targets),
            None,
            status.pointer,
        )

    def execute(self, feeds: Mapping[str, int], targets: Iterable[str], error: type[HubError], doing: str) -> None:
        """Run operations for what they do. The tensors that are fed, by name, are deleted."""
        try:
            fed = Feeds([self.graph.output(name) for name in feeds], list(feeds.values()))
            operations = [self.graph.operation(name) for name in targets]
            with new_status(self.library) as status:
                self.run(fed, Feeds([], []), (ctypes.c_void_p * len(operations))(*operations), status)
                status.check(error, doing)
        finally:
            for tensor in feeds.values():
                self.library.TF_DeleteTensor(tensor)


class Feeds:
    """Places in a graph, and a tensor for each: fed into a run, or fetched from one."""

    __slots__ = ("outputs", "tensors")

    def __init__(self, outputs: list[Output], tensors: list[int]) -> None:
        self.outputs = (Output * len(outputs))(*outputs)
        self.tensors = (ctypes.c_void_p * len(outputs))(*tensors)


@contextmanager
def session_options(library: Library, config: bytes) -> Iterator[int]:
    """A TF_SessionOptions for the block."""
    options: int = library.TF_NewSessionOptions()
    try:
        with new_status(library) as status:
            library.TF_SetConfig(options, config, len(config), status.pointer)
            status.check(ModuleBroken, "TensorFlow refused the session's configuration")
        yield options
    finally:
        library.TF_DeleteSessionOptions(options)


def _delete(graph: Graph, tensors: Tensors, pointer: int) -> None:
    library = graph.library
    if not library.is_usable():  # its threads are the parent's, and deleting would wait for them
        return
    with new_status(library) as status:
        library.TF_CloseSession(pointer, status.pointer)
        library.TF_DeleteSession(pointer, status.pointer)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape").replace(b"\0", b"?")
