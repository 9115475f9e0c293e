"""Variables of the old kind, whose tensors are references, turned into resources: functions know no others.

Law: every node keeps its name and what it answers, so that signatures and collections still fit the graph.

A node that gave a reference, say ``w``, gives the value from now on, and ``w/_handle`` beside it the resource: reads
and assignments take that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubclient.instances.tf1_variables import REF_VARIABLES
from hubclient.model_errors import ModuleUnsupported

_HANDLE = "/_handle"

# Passing a reference on, through control flow.
_FLOW = {
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefIdentity": "Identity",
    "RefMerge": "Merge",
    "RefNextIteration": "NextIteration",
    "RefSwitch": "Switch",
}
# Changing what is referred to; optimizers' Apply... and SparseApply... become ResourceApply..., ResourceSparseApply....
_UPDATES = {
    "Assign": "AssignVariableOp",
    "AssignAdd": "AssignAddVariableOp",
    "AssignSub": "AssignSubVariableOp",
    **{f"Scatter{how}": f"ResourceScatter{how}" for how in ("Update", "Add", "Sub", "Mul", "Div", "Min", "Max")},
    **{f"ScatterNd{how}": f"ResourceScatterNd{how}" for how in ("Update", "Add", "Sub", "Min", "Max")},
}
_QUESTIONS = {"IsVariableInitialized": "VarIsInitializedOp", "CountUpTo": "ResourceCountUpTo"}


def dereference(graph_def: Any) -> dict[str, str]:
    """Rewrite the graph in place; answers the tensors that stand for the handles of the variables, by name.

    Raises `ModuleUnsupported` for an operation on a reference that resources do not have.
    """
    gives_reference = {
        node.name
        for node in graph_def.node
        if node.op in REF_VARIABLES or node.op in _FLOW or _update(node.op) is not None
    }
    if not any(node.op in REF_VARIABLES for node in graph_def.node):
        return {}
    dtypes = _dtypes(graph_def, gives_reference)
    handles: dict[str, str] = {}
    rewritten = type(graph_def)()
    for node in graph_def.node:
        source = _name(node.input[0]) if node.input else ""
        if node.op in REF_VARIABLES:
            handles[node.name] = node.name + _HANDLE + ":0"
            attributes = {key: node.attr[key] for key in ("dtype", "shape")}
            _add(rewritten, "VarHandleOp", node.name + _HANDLE, [], attributes)
            _add_read(rewritten, node.name, node.name + _HANDLE, (), dtypes[node.name])
        elif node.op in _FLOW:
            _add_flow(rewritten, node, gives_reference)
        elif (update := _update(node.op)) is not None:
            apply, controls = node.name + "/_apply", [each for each in node.input if each.startswith("^")]
            references = _references(node.op)
            inputs = [
                _handle(each) if each not in controls and position in references else each
                for position, each in enumerate(node.input)
            ]
            _add(rewritten, update, apply, inputs, _attributes(update, node))
            _add(rewritten, "Identity", node.name + _HANDLE, [inputs[0], "^" + apply], {"T": _resource()})
            _add_read(rewritten, node.name, inputs[0], ["^" + apply], dtypes[node.name])
        elif node.op in _QUESTIONS and source in gives_reference:
            question = _QUESTIONS[node.op]
            inputs = [_handle(node.input[0]), *node.input[1:]]
            attributes = _attributes(question, node)
            _add(rewritten, question, node.name, inputs, attributes)
        elif node.op == "Identity" and source in handles and not node.input[0].startswith("^"):
            # A read: it happens when its own control dependencies say, not when the variable's node is run.
            _add_read(rewritten, node.name, source + _HANDLE, node.input[1:], dtypes[source])
        else:
            rewritten.node.add().CopyFrom(node)
    del graph_def.node[:]
    graph_def.node.extend(rewritten.node)
    return handles


def _dtypes(graph_def: Any, gives_reference: set[str]) -> Mapping[str, Any]:
    return {
        node.name: node.attr["dtype" if node.op in REF_VARIABLES else "T"]
        for node in graph_def.node
        if node.name in gives_reference
    }


def _add_flow(graph_def: Any, node: Any, gives_reference: set[str]) -> None:
    """The node twice: once for values and once for handles."""
    op = _FLOW[node.op]
    value = graph_def.node.add()
    value.CopyFrom(node)
    value.op = op
    handle = graph_def.node.add()
    handle.CopyFrom(value)
    handle.name += _HANDLE
    handle.attr["T"].CopyFrom(_resource())
    handle.attr.pop("_output_shapes", None)  # those of the value
    for number, each in enumerate(node.input):
        if _name(each) in gives_reference and not each.startswith("^"):
            handle.input[number] = _handle(each)


def _add_read(graph_def: Any, name: str, handle: str, controls: Any, dtype: Any) -> None:
    _add(graph_def, "ReadVariableOp", name, [handle, *controls], {"dtype": dtype})


def _add(graph_def: Any, op: str, name: str, inputs: list[str], attributes: Mapping[str, Any]) -> None:
    node = graph_def.node.add(op=op, name=name, input=inputs)
    for key, value in attributes.items():
        node.attr[key].CopyFrom(value)


def _attributes(op: str, old: Any) -> dict[str, Any]:
    """Those of the old node that the new operation has too; it may call "T" "dtype"."""
    definition = _definition(op)
    names = {attribute.name for attribute in definition.attr}
    kept = {key: value for key, value in old.attr.items() if key in names}
    if "dtype" in names and "T" in old.attr:
        kept["dtype"] = old.attr["T"]
    return kept


def _update(op: str) -> str | None:
    if op in _UPDATES:
        return _UPDATES[op]
    return f"Resource{op}" if op.startswith(("Apply", "SparseApply")) else None


def _references(op: str) -> set[int]:
    return {position for position, argument in enumerate(_definition(op).input_arg) if argument.is_ref}


def _definition(op: str) -> Any:
    from tensorflow.python.framework import op_def_registry  # there is no public way to an operation's definition

    definition = op_def_registry.get(op)
    if definition is None:
        raise ModuleUnsupported(f"the module changes a variable by {op}, which this TensorFlow does not have")
    return definition


def _resource() -> Any:
    from tensorflow.core.framework import attr_value_pb2, types_pb2

    return attr_value_pb2.AttrValue(type=types_pb2.DT_RESOURCE)


def _name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _handle(tensor: str) -> str:
    name, colon, output = tensor.partition(":")
    return name + _HANDLE + colon + output
