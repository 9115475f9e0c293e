"""What a stripped load must import, restore and initialise, decided without TensorFlow.

Law: the plan does what TensorFlow's own loader would do, as far as a wanted signature can see it, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from hubclient.capi import meta_graph
from hubclient.capi.graph_def import Graph
from hubclient.capi.initializing import Initialization, assets, initializers
from hubclient.capi.meta_graph import MetaGraph
from hubclient.capi.reaching import Reach
from hubclient.capi.restoring import Restore, saved
from hubclient.capi.stripping import strip
from hubclient.contract.saved_model import Signature
from hubclient.model_errors import ModuleBroken, SignatureNotFound

__all__ = ["Initialization", "Plan", "Restore", "plan"]

# Below this size the graph optimizer costs more time at the first call than it can save at later ones.
_MANY_CONSTANT_BYTES = 1 << 20
_BYTES_PER_ELEMENT = 4  # of a variable, about


class Plan(NamedTuple):
    graph_def: bytes  #: a serialized GraphDef
    restores: tuple[Restore, ...]
    checkpoint: str | None  #: the prefix of the checkpoint; None when nothing is to be restored
    initializations: tuple[Initialization, ...]  #: in the order in which they run
    signatures: dict[str, Signature]
    keep_grappler: bool  #: the weights are constants, which run slower without the graph optimizer


def plan(path: str, tags: tuple[str, ...], names: Collection[str] | None = None) -> Plan:
    """The plan for the signatures `names` (None: all) of the variant with these tags of the module at `path`.

    Raises `SignatureNotFound` that names those that exist; `ModuleBroken` for a damaged file, graph or saver, a missing
    checkpoint or asset; `ModuleUnsupported` for a module that is whole, but must be loaded in TensorFlow's own way.
    """
    path = os.path.abspath(path)
    meta = meta_graph.read(path, tags)
    signatures = _wanted(meta, names)
    graph = Graph(meta.data, meta.graph)
    reached = Reach(graph)
    reached.add(_tensors(signatures))
    constant_bytes = reached.constant_bytes
    checkpoint = saved(meta, graph)
    groups = initializers(meta, graph, reached, checkpoint.sources)
    restores = checkpoint.restores(graph, reached)
    reached.add(restore.node for restore in restores)  # another node of the same variable may be the reached one
    files = assets(meta, reached, path)
    prefix = os.path.join(path, "variables", "variables")
    if restores and not os.path.exists(prefix + ".index"):
        raise ModuleBroken(f"the module's checkpoint {prefix}.index is missing")
    keep_grappler = constant_bytes >= max(_MANY_CONSTANT_BYTES, _variable_bytes(graph, restores))
    return Plan(
        strip(graph, reached, files.constants, keep_grappler=keep_grappler),
        tuple(restores),
        prefix if restores else None,
        tuple(Initialization(files.feeds, group) for group in groups),
        signatures,
        keep_grappler,
    )


def _wanted(meta: MetaGraph, names: Collection[str] | None) -> dict[str, Signature]:
    if names is None:
        return meta.signatures
    for name in names:
        if name not in meta.signatures:
            named = ", ".join(map(repr, meta.signatures)) or "none"
            raise SignatureNotFound(f"the module has no signature {name!r}; it has {named}")
    return {name: signature for name, signature in meta.signatures.items() if name in names}


def _tensors(signatures: dict[str, Signature]) -> Iterator[str]:
    for name, signature in signatures.items():
        for key, spec in (*signature.inputs.items(), *signature.outputs.items()):
            tensors = spec.components or (spec.name,)
            if not all(tensors):
                raise ModuleBroken(f"the signature {name!r} names no tensor for {key!r}")
            yield from tensors


def _variable_bytes(graph: Graph, restores: list[Restore]) -> int:
    return sum(graph.node(restore.node).tensor_size() * _BYTES_PER_ELEMENT for restore in restores)
