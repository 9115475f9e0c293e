"""What runs once after the variables were restored: assets get their paths, tables their entries.

Law: of all that TensorFlow's own loader would run, what changes something that a wanted signature can see is run,
and the rest is not. In doubt it is run.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import NamedTuple

from hubclient.capi.graph_def import Graph
from hubclient.capi.meta_graph import MetaGraph
from hubclient.capi.reaching import Reach, node_name
from hubclient.model_errors import ModuleBroken

# So many nodes and functions are looked at to find out what to leave out; past it nothing more is left out.
_MAX_LOOKED_AT = 300_000
# Operations that change what their first input refers to, and nothing else.
_WRITERS = frozenset(
    (
        *("Assign", "AssignVariableOp", "InitializeTable", "InitializeTableV2", "InitializeTableFromTextFile"),
        *("InitializeTableFromTextFileV2", "InitializeTableFromDataset", "LookupTableImport", "LookupTableImportV2"),
    )
)


class Initialization(NamedTuple):
    """Operations that run together, once, after the variables were restored."""

    feeds: dict[str, str]  #: tensor name, such as "asset_path:0", to the absolute path of a file; string scalars
    targets: tuple[str, ...]  #: names of operations


class Assets(NamedTuple):
    feeds: dict[str, str]  #: tensor name -> absolute path
    constants: dict[str, str]  #: node, a constant -> the absolute path that it must have for a value


def initializers(meta: MetaGraph, graph: Graph, reached: Reach, restored: Container[str]) -> list[tuple[str, ...]]:
    """The operations to run, in groups that run one after the other; `reached` grows by what these need.

    First come the initial values of variables that the checkpoint has not (those in `restored` it has), then what the
    initial operation and the collection of table initializers consist of.
    """
    variables = {
        variable.initializer: None
        for variable in meta.variables.values()
        if variable.node not in restored and variable.initializer in graph.node_places
    }
    operations = _parts(graph, [meta.init_op, *meta.table_initializers])
    chosen = _choose(graph, reached, variables | operations)
    groups = (
        tuple(name for name in variables if name in chosen),
        tuple(name for name in operations if name in chosen and name not in variables),
    )
    return [group for group in groups if group]


def assets(meta: MetaGraph, reached: Reach, path: str) -> Assets:
    """The files that are needed, by what takes their paths. Raises `ModuleBroken` for one that is not there."""
    feeds, constants = {}, {}
    for tensor, name in meta.assets.items():
        node = reached.nodes.get(node_name(tensor))
        if node is None:
            continue
        file = os.path.join(path, "assets", name)
        if not name or "\0" in name or name[0] == "/" or ".." in name.split("/"):
            raise ModuleBroken(f"the module names an asset outside of its directory: {name!r}")
        if not os.path.exists(file):
            raise ModuleBroken(f"the module's asset {file} is missing")
        if node.op == "Const":
            constants[node.name] = file
        else:
            feeds[tensor] = file
    return Assets(feeds, constants)


def _parts(graph: Graph, operations: Iterable[str]) -> dict[str, None]:
    """What groups of operations consist of, in order: a NoOp does nothing but wait for others."""
    parts: dict[str, None] = {}
    seen: set[str] = set()
    pending = [node_name(name) for name in operations if name][::-1]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph.node(name)
        if node.op == "NoOp":
            pending += [node_name(reference) for reference in reversed(node.inputs)]
        else:
            parts[name] = None
    return parts


def _choose(graph: Graph, reached: Reach, operations: Iterable[str]) -> set[str]:
    """Those of the operations that may change a state which is reached, or which another chosen one reaches."""
    chosen: set[str] = set()
    writers: dict[str, list[str]] = {}
    written = _written(graph, operations)
    known = {state for states in written.values() if states for state in states}
    looked_at = 0
    for name in operations:
        states = written[name]
        if states is None and looked_at < _MAX_LOOKED_AT:
            reach = Reach(graph)
            reach.add([name])
            looked_at += reach.size
            # A function that reads the path of an asset and fills a table: the path has a writer of its own.
            states = reach.states - known or reach.states
        for state in states or ():
            writers.setdefault(state, []).append(name)
        if not states:
            chosen.add(name)
    pending = [*reached.states, *reached.add(chosen)]
    while pending:
        new = [name for name in writers.pop(pending.pop(), ()) if name not in chosen]
        chosen.update(new)
        pending += reached.add(new)
    return chosen


def _written(graph: Graph, operations: Iterable[str]) -> dict[str, set[str] | None]:
    """For each operation the states that it writes; None if it is not known to write only these."""
    written: dict[str, set[str] | None] = {}
    for name in operations:
        node = graph.node(name)
        written[name] = None
        if node.op in _WRITERS and node.inputs:
            target = graph.node(node_name(node.inputs[0]))
            state = target.state()
            if state is not None:
                written[name] = {state}
    return written
