"""From a module's directory to a session that is ready to run its signatures.

Law: a session that is returned is restored and initialised. Whatever the module lacks ends in `ModuleBroken`.

Two ways: by a `Plan`, which imports, restores and initialises only what the wanted signatures reach; and, where no plan
can be made, TensorFlow's own loader with the whole graph.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from hubclient.capi import dtypes
from hubclient.capi.config import config
from hubclient.capi.library import Library, Output, library
from hubclient.capi.session import Graph, Session, session_options
from hubclient.capi.status import Status, new_status
from hubclient.contract.errors import HubError
from hubclient.contract.saved_model import MetaGraph, Signature
from hubclient.model_errors import ModuleBroken, ModuleUnsupported, SignatureNotFound
from hubclient.opening import OpenModule

if TYPE_CHECKING:
    from hubclient.capi.plan import Plan, Restore

_OWN = "hubclient_restore"
# What the operations that compute in threads of their own have in their names: tf.data, and batching.
_WITH_THREADS = b"Dataset", b"BatchFunction"


class Settings(NamedTuple):
    """How a session computes; see `hubclient.signatures`."""

    intra_op_threads: int
    inter_op_threads: int
    gpu: bool
    gpu_memory_growth: bool

    def config(self, *, grappler: bool) -> bytes:
        return config(grappler=grappler, **self._asdict())

    @property
    def need_threads(self) -> bool:
        """Whether a session computes in other threads than its callers'."""
        return self.intra_op_threads != 1 or self.inter_op_threads >= 0


def load(
    module: OpenModule, graph: MetaGraph, names: Collection[str] | None, settings: Settings
) -> tuple[Session, Mapping[str, Signature]]:
    """A session of a variant, and its signatures: those of `names`, or all.

    Raises `TensorFlowMissing`, `TensorFlowUnusable`, `SignatureNotFound`, `ModuleBroken`, `ModuleUnsupported` and
    `Forked`.
    """
    planned: Plan | None = None
    with _meanwhile(library):  # opening takes 0.2 s and not the GIL: time enough to read the graph
        from hubclient.capi.plan import plan

        with suppress(ModuleUnsupported) if not module.is_tf1 else nullcontext():
            planned = plan(module.path, graph.tags, names)
    with _meanwhile(partial(import_module, "numpy")):  # not earlier: both would wait for the dynamic linker's lock
        if planned is not None:
            return load_planned(library(), planned, settings), planned.signatures
        found = _wanted(graph.signatures, names)
        return load_whole(library(), module.path, graph.tags, settings), found


def load_planned(library: Library, plan: Plan, settings: Settings) -> Session:
    """A session of what is in the plan."""
    graph = Graph(library)
    _import(graph, plan.graph_def)
    assignments = _add_restore(graph, plan.restores)
    library.before_session(needs_threads=settings.need_threads or _starts_threads(plan.graph_def))
    with (
        session_options(library, settings.config(grappler=plan.keep_grappler)) as options,
        new_status(library) as status,
    ):
        pointer = library.TF_NewSession(graph.pointer, options, status.pointer)
        status.check(ModuleBroken, "TensorFlow made no session")
    session = Session(graph, pointer)
    if plan.restores and plan.checkpoint is not None:
        _restore(session, plan.checkpoint, plan.restores, assignments)
    for initialization in plan.initializations:
        feeds = {name: session.tensors.from_text(path) for name, path in initialization.feeds.items()}
        session.execute(feeds, initialization.targets, ModuleBroken, "the module's tables cannot be filled")
    return session


def load_whole(library: Library, path: str, tags: Sequence[str], settings: Settings) -> Session:
    """A session of the whole graph, by TF_LoadSessionFromSavedModel."""
    from hubclient.capi.node_def import VARIABLES

    graph = Graph(library)
    names = (ctypes.c_char_p * len(tags))(*[tag.encode() for tag in tags])
    with open(os.path.join(path, "saved_model.pb"), "rb") as file:
        library.before_session(needs_threads=settings.need_threads or _starts_threads(file.read()))
    with session_options(library, settings.config(grappler=True)) as options, new_status(library) as status:
        pointer = library.TF_LoadSessionFromSavedModel(
            options, None, os.fsencode(path), names, len(tags), graph.pointer, None, status.pointer
        )
        status.check(ModuleBroken, f"TensorFlow cannot load {path}")
    session = Session(graph, pointer)
    # Without this file TensorFlow skips the restoring and reports success.
    index = os.path.join(path, "variables", "variables.index")
    if not os.path.exists(index) and not VARIABLES.isdisjoint(graph.operation_types()):
        raise ModuleBroken(f"the module has variables and no {index} with their values")
    return session


@contextmanager
def _meanwhile(prepare: Callable[[], object]) -> Iterator[None]:
    """Run a function in another thread during the block. Should it fail, whoever needs its work next gets the error."""
    from threading import Thread

    def run() -> None:
        with suppress(HubError, ImportError):
            prepare()

    thread = Thread(target=run, name="hubclient-prepare")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _starts_threads(graph: bytes) -> bool:
    return any(operation in graph for operation in _WITH_THREADS)


def _wanted(known: Mapping[str, Signature], names: Collection[str] | None) -> dict[str, Signature]:
    public = {name: one for name, one in known.items() if not name.startswith("__saved_model_")}
    if missing := sorted(set(public if names is None else names) - public.keys()):
        raise SignatureNotFound(
            f"there is no signature {missing[0]!r}; there is {', '.join(map(repr, public)) or 'none'}"
        )
    return {name: one for name, one in public.items() if names is None or name in names}


def _import(graph: Graph, graph_def: bytes) -> None:
    library = graph.library
    buffer = library.TF_NewBufferFromString(graph_def, len(graph_def))
    options = library.TF_NewImportGraphDefOptions()
    try:
        with new_status(library) as status:
            library.TF_GraphImportGraphDef(graph.pointer, buffer, options, status.pointer)
            status.check(ModuleBroken, "TensorFlow cannot import the module's graph")
    finally:
        library.TF_DeleteImportGraphDefOptions(options)
        library.TF_DeleteBuffer(buffer)


def _add_restore(graph: Graph, restores: Sequence[Restore]) -> list[str]:
    """Add one RestoreV2 and the assignments of what it reads; their names."""
    if not restores:
        return []
    prefix = _free_name(graph)
    with new_status(graph.library) as status:
        build = _Builder(graph, status)
        parameters = [build.placeholder(f"{prefix}/{name}") for name in ("prefix", "tensor_names", "slices")]
        values = build.operation("RestoreV2", f"{prefix}/restore", parameters, types=[one.dtype for one in restores])
        assignments = []
        for index, one in enumerate(restores):
            name, inputs = f"{prefix}/assign_{index}", [graph.output(f"{one.node}:0"), Output(values, index)]
            if one.is_resource:
                build.operation("AssignVariableOp", name, inputs, attributes={"dtype": one.dtype})
            else:
                build.operation("Assign", name, inputs, attributes={"T": one.dtype}, check_shape=False)
            assignments.append(name)
    return assignments


def _restore(session: Session, checkpoint: str, restores: Sequence[Restore], assignments: Sequence[str]) -> None:
    prefix = assignments[0].rpartition("/")[0]
    tensors = session.tensors
    feeds = {
        f"{prefix}/prefix": tensors.from_text(checkpoint),
        f"{prefix}/tensor_names": tensors.from_bytes([os.fsencode(one.key) for one in restores]),
        f"{prefix}/slices": tensors.from_bytes([one.slice_spec.encode() for one in restores]),
    }
    session.execute(feeds, assignments, ModuleBroken, f"the variables cannot be restored from {checkpoint}")


def _free_name(graph: Graph) -> str:
    """A prefix that no operation of the graph has: their names are the module's choice."""
    name, number = _OWN, 0
    while graph.library.TF_GraphOperationByName(graph.pointer, f"{name}/prefix".encode()):
        number += 1
        name = f"{_OWN}_{number}"
    return name


class _Builder:
    def __init__(self, graph: Graph, status: Status) -> None:
        self._graph, self._status = graph, status

    def placeholder(self, name: str) -> Output:
        return Output(self.operation("Placeholder", name, (), attributes={"dtype": dtypes.STRING}), 0)

    def operation(
        self,
        kind: str,
        name: str,
        inputs: Sequence[Output],
        *,
        attributes: dict[str, int] | None = None,
        types: Sequence[int] | None = None,
        check_shape: bool | None = None,
    ) -> int:
        """Add an operation: `attributes` are types, `types` is its "dtypes", `check_shape` its "validate_shape"."""
        library = self._graph.library
        description = library.TF_NewOperation(self._graph.pointer, kind.encode(), name.encode())
        for one in inputs:
            library.TF_AddInput(description, one)
        for attribute, dtype in (attributes or {}).items():
            library.TF_SetAttrType(description, attribute.encode(), dtype)
        if types is not None:
            library.TF_SetAttrTypeList(description, b"dtypes", (ctypes.c_int * len(types))(*types), len(types))
        if check_shape is not None:
            library.TF_SetAttrBool(description, b"validate_shape", check_shape)
        pointer: int = library.TF_FinishOperation(description, self._status.pointer)
        self._status.check(ModuleBroken, f"the module's graph takes no {kind} of its variables")
        return pointer
