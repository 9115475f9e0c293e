"""What a graph of TensorFlow 1 holds beside variables, such as tables, as objects that own it.

Law: a resource lives as long as its object, and a function is given it and never finds it by name: TensorFlow gives
every function of a SavedModel names of its own when it loads it.
"""

from __future__ import annotations

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
    """A ``TrackableResource`` whose resource is destroyed with it. To be called eagerly."""
    import tensorflow as tf

    def create() -> Any:
        return tf.graph_util.import_graph_def(graph_def, return_elements=[name + ":0"], name="")[0]

    class Resource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow is untyped
        def _create_resource(self) -> Any:
            return tf.compat.v1.wrap_function(create, [])()

        def _destroy_resource(self) -> None:
            tf.raw_ops.DestroyResourceOp(resource=self.resource_handle, ignore_lookup_error=True)

    resource = Resource()
    assert resource.resource_handle is not None  # made here, and not in the graph that asks for it first
    return resource


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
