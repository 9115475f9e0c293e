"""Where the checkpoint has each variable's value: read from the saver in the graph, or from the variables' own words.

Law: a variable is restored from the key that TensorFlow's own loader would take for it, or the module is called
unsupported: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hubclient.capi.graph_def import Graph
from hubclient.capi.meta_graph import MetaGraph
from hubclient.capi.node_def import VARIABLES, Node
from hubclient.capi.reaching import Reach, node_name
from hubclient.capi.wire import last_text, numbers
from hubclient.model_errors import ModuleBroken, ModuleUnsupported

# Identity operations between two others; savers put one there for each change of device.
_MAX_IDENTITIES = 16
_ASSIGNS = ("AssignVariableOp", "Assign")
# What a saver is made of, beside assignments, that changes nothing.
_HARMLESS = ("Identity", "NoOp", "RestoreV2", "Const", "Placeholder", "PlaceholderWithDefault", "StringJoin", "Pack")


class Source(NamedTuple):
    """A tensor in the checkpoint, or a part of one."""

    key: str
    slice_spec: str
    dtype: int | None  #: None: nothing but the variable says it


class Restore(NamedTuple):
    """One variable and where its value lies in the checkpoint."""

    key: str  #: RestoreV2's tensor name
    slice_spec: str  #: RestoreV2's shape_and_slice; "" for the whole tensor
    dtype: int  #: a DataType of types.proto, never a reference type
    node: str  #: the node in the graph: a VarHandleOp, or a VariableV2 or Variable of TensorFlow 1
    is_resource: bool  #: it is a VarHandleOp, to be set by AssignVariableOp; else by Assign


class Saved(NamedTuple):
    """What the checkpoint holds for a graph."""

    sources: dict[str, Source]  #: by node of a variable
    strange: Reach  #: what is restored in ways that are not known here

    def restores(self, graph: Graph, reached: Reach) -> list[Restore]:
        """How to restore what is reached, as far as the checkpoint holds it. Raises `ModuleUnsupported`."""
        named = self.strange.nodes.items()
        strange = {name for name, node in named if node.op not in _HARMLESS and node.op not in VARIABLES}
        unknown = sorted(strange & reached.nodes.keys() | self.strange.states & reached.states)
        if unknown:
            raise ModuleUnsupported(f"it is not known how {unknown[0]!r} is restored from the checkpoint")
        restores = []
        for name, source in self.sources.items():
            node = graph.node(name)
            if node.state() not in reached.states:
                continue
            dtype = node.type(b"dtype")
            if not dtype:
                raise ModuleBroken(f"the variable {name!r} has no dtype")
            if source.dtype not in (None, dtype):
                raise ModuleUnsupported(f"the variable {name!r} has another dtype in the checkpoint")
            restores.append(Restore(source.key, source.slice_spec, dtype, name, node.op == "VarHandleOp"))
        return restores


def saved(meta: MetaGraph, graph: Graph) -> Saved:
    """Read the saver, or without one take every variable of the collection `variables` under its own name."""
    if meta.restore_op:
        return _by_saver(graph, node_name(meta.restore_op))
    named = (variable for variable in meta.variables.values() if variable.is_restored)
    known = {variable.node: variable for variable in named if variable.node in graph.node_places}
    sources = {
        name: Source(variable.key, variable.slice_spec, None)
        for name, variable in known.items()
        if graph.node(name).op in VARIABLES
    }
    strange = Reach(graph)
    strange.add(known.keys() - sources.keys())
    return Saved(sources, strange)


def _by_saver(graph: Graph, restore_op: str) -> Saved:
    operation = graph.node(restore_op)
    functions = graph.calls(operation)
    if not functions:  # TensorFlow 1
        restoring = Reach(graph)
        restoring.add([restore_op])
        return _assignments(graph, restoring.nodes, None)
    if len(functions) != 1:
        raise ModuleUnsupported("the saver calls several functions")
    arguments: dict[str, str] = {}
    places = graph.function_arguments(functions[0])
    inputs = [reference for reference in operation.inputs if reference[:1] != "^"]
    if len(places) != len(inputs):
        raise ModuleBroken(f"the saver's function takes {len(places)} arguments and gets {len(inputs)}")
    for place, reference in zip(places, inputs, strict=True):
        if last_text(graph.data, place, 4) or last_text(graph.data, place, 6):  # number_attr, type_list_attr
            raise ModuleUnsupported("the saver's function takes lists")
        arguments[last_text(graph.data, place, 1)] = reference
    found = _assignments(graph, graph.function_nodes(functions[0]), arguments)
    for name, source in list(found.sources.items()):
        original = _original(graph, name)
        if original is not None:
            found.sources.setdefault(original, source)
    return found


def _original(graph: Graph, variable: str) -> str | None:
    """The variable that this one is a copy of.

    ``tf.saved_model.save`` of a Keras 3 model saves copies of the variables that the signatures read: new ones, whose
    initial values are theirs (KerasVariable._export_to_saved_model_graph, keras/src/backend/tensorflow/core.py).
    """
    if f"{variable}/Assign" not in graph.node_places:
        return None
    inputs = graph.node(f"{variable}/Assign").inputs
    if len(inputs) < 2 or node_name(inputs[0]) != variable:
        return None
    value = graph.node(node_name(inputs[1]))
    return _variable(graph, value.inputs[0]) if value.op == "ReadVariableOp" and value.inputs else None


def _assignments(graph: Graph, nodes: Mapping[str, Node], arguments: Mapping[str, str] | None) -> Saved:
    """`nodes` are a function's, called with `arguments`, or the graph's own, when those are None."""
    sources: dict[str, Source] = {}
    strange = Reach(graph)
    entries: dict[str, list[Source]] = {}

    def outside(references: Iterable[str]) -> list[str]:
        """References from within as references to nodes of the graph."""
        if arguments is None:
            return [reference for reference in references if reference[:1] != "^"]
        return [arguments[name] for name in map(node_name, references) if name in arguments]

    for node in nodes.values():
        if node.op in _HARMLESS or node.op in VARIABLES:
            continue
        inputs = node.inputs
        source = None
        if node.op in _ASSIGNS and len(inputs) >= 2:
            source = _source(nodes, inputs[1], entries, graph.data)
        targets = outside(inputs[:1] if source else inputs)
        variable = _variable(graph, targets[0]) if source and targets else None
        if source is not None and variable is not None and sources.setdefault(variable, source) == source:
            continue
        strange.add(targets)
    return Saved(sources, strange)


def _variable(graph: Graph, reference: str) -> str | None:
    """The variable behind a reference."""
    for _ in range(_MAX_IDENTITIES):
        node = graph.node(node_name(reference))
        if node.op in VARIABLES:
            return node.name
        if node.op != "Identity" or not node.inputs:
            return None
        reference = node.inputs[0]
    return None


def _source(nodes: Mapping[str, Node], reference: str, entries: dict[str, list[Source]], data: bytes) -> Source | None:
    """What RestoreV2 gives at `reference`; `entries` keeps what each RestoreV2 restores."""
    for _ in range(_MAX_IDENTITIES):
        name = node_name(reference)
        node = nodes.get(name)
        if node is None:
            return None
        if node.op == "RestoreV2":
            if name not in entries:
                entries[name] = _entries(nodes, node, data)
            index = reference.rpartition(":")[2] if ":" in reference else "0"
            if not index.isdecimal() or len(index) > 9 or int(index) >= len(entries[name]):
                raise ModuleBroken(f"the saver takes {reference!r} of {len(entries[name])} tensors")
            return entries[name][int(index)]
        if node.op != "Identity" or not node.inputs:
            return None
        reference = node.inputs[0]
    return None


def _entries(nodes: Mapping[str, Node], restore: Node, data: bytes) -> list[Source]:
    """The tensors that a RestoreV2(prefix, tensor_names, shape_and_slices) restores."""
    place = restore.list_place(b"dtypes")
    dtypes = numbers(data, place, 6) if place else []
    columns = []
    for reference in restore.inputs[1:3]:
        constant = nodes.get(node_name(reference))
        if constant is None or constant.op != "Const":
            raise ModuleUnsupported("the saver computes the names of what it restores")
        texts = constant.tensor_strings()
        columns.append(texts + texts[-1:] * (len(dtypes) - len(texts)))
    if [len(column) for column in columns] != [len(dtypes)] * 2:
        raise ModuleBroken(f"the saver's {restore.name!r} does not name its {len(dtypes)} tensors")
    return [Source(*row) for row in zip(*columns, dtypes, strict=True)]
