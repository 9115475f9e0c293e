"""A graph of TensorFlow 1 made fit to be imported into functions of this process, any number of times.

Law: nothing in it is shared by name with another instance: no function, no table, no gradient; variables are resources.
"""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from hubclient.instances.control_contexts import inner_nodes
from hubclient.instances.inlining import inline_calls
from hubclient.instances.ref_variables import dereference
from hubclient.instances.tf1_resources import resources_of
from hubclient.instances.tf1_variables import RESOURCE_VARIABLE

#: Collections without which gradients through loops and conditions of TensorFlow 1 cannot be built.
CONTEXTS = ("cond_context", "while_context")


class PreparedGraph(NamedTuple):
    meta_graph: Any  #: ``MetaGraphDef`` with the graph and its control-flow contexts alone
    handles: dict[str, str]  #: the tensors that are variables' handles, by the names of the variables
    resources: dict[str, Any]  #: what makes each other resource, such as a table, by the tensor that is its handle
    gradients: dict[str, str]  #: functions that are the gradients of others, by the names of those


def prepare(meta_graph: Any) -> PreparedGraph:
    """A rewritten copy; raises `ModuleUnsupported` for operations on variables that only TensorFlow 1 could do."""
    prepared = type(meta_graph)()
    prepared.graph_def.CopyFrom(meta_graph.graph_def)
    prepared.meta_info_def.stripped_op_list.CopyFrom(meta_graph.meta_info_def.stripped_op_list)
    for collection in CONTEXTS:
        if collection in meta_graph.collection_def:
            prepared.collection_def[collection].CopyFrom(meta_graph.collection_def[collection])
    inline_calls(prepared.graph_def, inner_nodes(meta_graph))
    handles = {
        node.name: node.name + ":0" for node in meta_graph.graph_def.node if node.op == RESOURCE_VARIABLE
    } | dereference(prepared.graph_def)
    _make_unique(prepared.graph_def, f"_{uuid.uuid4().hex}")
    resources = {name + ":0": made_of for name, made_of in resources_of(prepared.graph_def).items()}
    gradients = {each.function_name: each.gradient_func for each in prepared.graph_def.library.gradient}
    return PreparedGraph(prepared, handles, resources, gradients)


def _make_unique(graph_def: Any, suffix: str) -> None:
    library = graph_def.library
    functions = {function.signature.name for function in library.function}
    for function in library.function:
        function.signature.name += suffix
        # Gradients of functions are made by putting them in place: in an eager function there is no other way.
        function.attr.pop("_noinline", None)
        for node in function.node_def:
            _rename(node, functions, suffix)
    for gradient in library.gradient:
        gradient.function_name += suffix
        if gradient.gradient_func in functions:
            gradient.gradient_func += suffix
    for node in graph_def.node:
        _rename(node, functions, suffix)
        # Where its publisher placed it, and beside which variable, means nothing on this machine.
        node.device = ""
        if "_class" in node.attr:
            del node.attr["_class"]


def _rename(node: Any, functions: set[str], suffix: str) -> None:
    if node.op in functions:
        node.op += suffix
    for value in node.attr.values():
        for called in (value.func, *value.list.func) if value.WhichOneof("value") in ("func", "list") else ():
            if called.name in functions:
                called.name += suffix
    if node.op != RESOURCE_VARIABLE and _is_shared_by_name(node):
        node.attr["shared_name"].s = (node.attr["shared_name"].s or node.name.encode()) + suffix.encode()
    if "_gradient_op_type" in node.attr and node.attr["_gradient_op_type"].s.startswith(b"CustomGradient-"):
        # A number of the publisher's process: in this one it would be another function's gradient.
        node.attr["_gradient_op_type"].s += suffix.encode()


def _is_shared_by_name(node: Any) -> bool:
    from tensorflow.python.framework import op_def_registry  # there is no public way to an operation's definition

    definition = op_def_registry.get(node.op)
    return definition is not None and any(attribute.name == "shared_name" for attribute in definition.attr)
