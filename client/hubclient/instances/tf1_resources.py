"""What a graph of TensorFlow 1 holds beside variables, such as tables, as objects that own it.

Law: a resource lives as long as a function that uses it, which is given it and never finds it by name: TensorFlow gives
every function of a SavedModel names of its own when it loads it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hubclient.instances.tf1_variables import RESOURCE_VARIABLE


def resources_of(graph_def: Any) -> dict[str, Any]:
    """The nodes that hold such a resource, by name: each as a graph of it and the constants that it is made of."""
    nodes = {node.name: node for node in graph_def.node}
    found = {}
    for node in graph_def.node:
        if node.op != RESOURCE_VARIABLE and _holds_resource(node.op):
            made_of = _made_of(node, nodes)
            if made_of is not None:
                found[node.name] = type(graph_def)(node=made_of, versions=graph_def.versions)
    return found


def make_resource(name: str, graph_def: Any) -> Any:
    """A ``TrackableResource`` whose resource goes with the last function that was given it. To be called eagerly.

    In a SavedModel it has its name, by which each step finds it.
    """
    import tensorflow as tf

    def create(definition: Any) -> Any:
        return tf.graph_util.import_graph_def(definition, return_elements=[name + ":0"], name="")[0]

    class Resource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow is untyped
        def _create_resource(self) -> Any:
            if not tf.executing_eagerly():  # it is being saved
                return create(graph_def)
            nameless = _nameless(name, graph_def)
            handle = tf.compat.v1.wrap_function(lambda: create(graph_def if nameless is None else nameless), [])()
            if nameless is None:
                # Functions may outlive this object, and keep the handle alone.
                weakref.finalize(handle, _destroy, tf.identity(handle)).atexit = False
            return handle

    resource = Resource()
    assert resource.resource_handle is not None  # made here, and not in the graph that asks for it first
    return resource


def _destroy(handle: Any) -> None:
    import tensorflow as tf

    with tf.init_scope():
        tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)


def _nameless(name: str, graph_def: Any) -> Any:
    """The graph with a resource that lives as long as a handle of it; None for kinds whose handles are not counted."""
    from tensorflow.python.framework import op_def_registry  # there is no public way to an operation's definition

    nameless = type(graph_def)()
    nameless.CopyFrom(graph_def)
    (node,) = (node for node in nameless.node if node.name == name)
    node.op = f"Anonymous{node.op.removesuffix('V2')}"
    definition = op_def_registry.get(node.op)
    if definition is None or len(definition.input_arg) != len(node.input) or len(definition.output_arg) != 1:
        return None
    known = {attribute.name for attribute in definition.attr}
    for attribute in [each for each in node.attr if each not in known]:
        del node.attr[attribute]
    return nameless


def make_initializer(function: Callable[..., Any], assets: Sequence[str]) -> Any:
    """A ``TrackableResource`` that has a SavedModel call `function` when it is loaded.

    The arguments are the paths of the assets, wherever they are then.
    """
    import tensorflow as tf

    class Initializer(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow is untyped
        def __init__(self) -> None:
            super().__init__()
            self._paths = [tf.saved_model.Asset(path) for path in assets]
            for number, asset in enumerate(self._paths):
                self._track_trackable(asset, f"asset_{number}")

        def _create_resource(self) -> Any:
            return tf.constant(1.0)  # it holds nothing, and must hold something

        def _initialize(self) -> None:
            function(*(asset.asset_path for asset in self._paths))

    return Initializer()


def _made_of(node: Any, nodes: Mapping[str, Any]) -> list[Any] | None:
    """The node and what it needs; None if that is more than constants."""
    needed = [node]
    for tensor in node.input:
        source = nodes.get(tensor.removeprefix("^").partition(":")[0])
        if source is None or source.op != "Const":
            return None
        needed.append(source)
    return needed


def _holds_resource(op: str) -> bool:
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import op_def_registry  # there is no public way to an operation's definition

    definition = op_def_registry.get(op)
    return (
        definition is not None
        and definition.is_stateful
        and [output.type for output in definition.output_arg] == [types_pb2.DT_RESOURCE]
        and any(attribute.name == "shared_name" for attribute in definition.attr)
    )
