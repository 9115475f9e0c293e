"""The variables of a module as a v1 graph has them: in its collections, restored by their initializers.

Law: an initializer gives the checkpoint's value; a checkpoint that lacks or contradicts a variable is found out before
a graph is changed.

Source of what a graph says of a variable: tensorflow/core/framework/variable.proto.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from hubclient.instances.module_graph import ModuleGraph
from hubclient.instances.tf1_variables import RESOURCE_VARIABLE, VariableSpec
from hubclient.model_errors import ModuleBroken

GLOBAL, TRAINABLE = "variables", "trainable_variables"
#: ``tf.compat.v1.GraphKeys`` of the collections of variables that a module brings
COLLECTIONS = (GLOBAL, TRAINABLE, "local_variables", "model_variables", "moving_average_variables", "metric_variables")


class Variable(NamedTuple):
    name: str  #: of its node in the module
    shape: Any
    definition: Any  #: ``VariableDef``
    collections: Collection[str]

    @property
    def nodes(self) -> list[str]:
        """What its definition names."""
        definition = self.definition
        names = (
            definition.variable_name,
            definition.initializer_name,
            definition.initial_value_name,
            definition.snapshot_name,
        )
        return [name for name in names if name]

    def add(self, find: Callable[[str], Any], scope: str, trainable: bool) -> Any:
        """The variable as an object, in the collections of the default graph, of which `find` finds the elements."""
        import tensorflow as tf
        from tensorflow.python.framework import ops  # the public import of variables takes whole meta graphs only

        if self.definition.initial_value_name:
            find(self.definition.initial_value_name).set_shape(self.shape)
        definition = type(self.definition)()
        definition.CopyFrom(self.definition)
        definition.trainable = definition.trainable and trainable
        try:
            variable = ops.get_from_proto_function(GLOBAL)(definition, import_scope=scope)
        except (ValueError, KeyError, TypeError) as error:
            raise ModuleBroken(f"the variable {self.name!r} of the module cannot be made: {error}") from error
        for key in self.collections:
            if trainable or key != TRAINABLE:
                tf.compat.v1.add_to_collection(key, variable)
        return variable


def check_checkpoint(prefix: str, specs: list[VariableSpec]) -> set[str]:
    """The names of the variables that the checkpoint has.

    No weights are read: damage within a file shows when TensorFlow restores it. Raises `ModuleBroken` unless all that
    must be saved are there, in the right dtypes and shapes, and the files are long enough for what they list.
    """
    import tensorflow as tf

    shapes, dtypes = {}, {}
    if os.path.exists(prefix + ".index"):
        try:
            reader = tf.train.load_checkpoint(prefix)
            shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            raise ModuleBroken(f"the checkpoint {prefix} cannot be read: {error}") from error
    if missing := sorted(spec.key for spec in specs if spec.must_be_saved and spec.key not in shapes):
        raise ModuleBroken(f"the checkpoint {prefix} lacks {', '.join(missing)}")
    for spec in specs:
        if spec.key in shapes:
            extents = [
                at_and_size.split(",")[1] for at_and_size in spec.slice.rpartition(" ")[2].split(":") if spec.slice
            ]
            shape = tf.TensorShape(list(map(int, extents)) if spec.slice else shapes[spec.key])
            if dtypes[spec.key] != spec.dtype or not spec.shape.is_compatible_with(shape):
                raise ModuleBroken(
                    f"the checkpoint {prefix} has {spec.key} as {dtypes[spec.key].name} of shape {shape}, "
                    f"where the module's graph has {spec.dtype.name} of shape {spec.shape}"
                )
    least_bytes = sum(dtypes[key].size * tf.TensorShape(shapes[key]).num_elements() for key in shapes)
    actual_bytes = sum(map(os.path.getsize, glob.glob(glob.escape(prefix) + ".data-*")))
    if actual_bytes < least_bytes:
        raise ModuleBroken(f"the checkpoint {prefix} has {actual_bytes} bytes of weights, of at least {least_bytes}")
    return {spec.name for spec in specs if spec.key in shapes}


def restorable(
    graph: ModuleGraph, meta_graph: Any, specs: list[VariableSpec], prefix: str, saved: Collection[str]
) -> list[Variable]:
    """The variables, after the module's graph got for each of those saved an initializer that restores it."""
    definitions, collections = _read(meta_graph)
    source = add_constant(graph, "restore/prefix", prefix) if saved else ""
    return [
        _variable(graph, spec, definitions.get(spec.name), collections.get(spec.name, (GLOBAL,)), source, saved)
        for spec in specs
    ]


def _read(meta_graph: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import variable_pb2

    definitions: dict[str, Any] = {}
    collections: dict[str, list[str]] = {}
    for key in COLLECTIONS:
        for value in meta_graph.collection_def[key].bytes_list.value if key in meta_graph.collection_def else ():
            try:
                definition = variable_pb2.VariableDef.FromString(value)
            except DecodeError as error:
                raise ModuleBroken(f"the collection {key!r} of the module's graph cannot be read: {error}") from error
            name = definition.variable_name.removesuffix(":0")
            definitions.setdefault(name, definition)
            collections.setdefault(name, []).append(key)
    return definitions, collections


def _variable(
    graph: ModuleGraph,
    spec: VariableSpec,
    known: Any,
    collections: Collection[str],
    prefix: str,
    saved: Collection[str],
) -> Variable:
    from tensorflow.core.framework import variable_pb2

    is_resource = graph.nodes[spec.name].op == RESOURCE_VARIABLE
    kind = {"dtype" if is_resource else "T": spec.dtype.as_datatype_enum}
    definition = variable_pb2.VariableDef(variable_name=f"{spec.name}:0", initializer_name=spec.initializer)
    if known is not None:
        definition.CopyFrom(known)
    definition.is_resource = is_resource
    definition.trainable = TRAINABLE in collections
    if not definition.snapshot_name:
        read = _add(
            graph, f"{spec.name}/read_for_import", "ReadVariableOp" if is_resource else "Identity", [spec.name], kind
        )
        definition.snapshot_name = f"{read}:0"
    if spec.name in saved:
        inputs = [
            prefix,
            add_constant(graph, f"{spec.name}/restore/key", [spec.key]),
            add_constant(graph, f"{spec.name}/restore/slice", [spec.slice]),
        ]
        restore = _add(graph, f"{spec.name}/restore", "RestoreV2", inputs, {"dtypes": [spec.dtype.as_datatype_enum]})
        graph.nodes[restore].device = "/device:CPU:0"  # whatever device the caller asks for, it has no other kernel
        operation = "AssignVariableOp" if is_resource else "Assign"
        assign = _add(graph, f"{spec.name}/restore/assign", operation, [spec.name, restore], kind)
        definition.initializer_name, definition.initial_value_name = assign, f"{restore}:0"
    return Variable(spec.name, spec.shape, definition, tuple(collections))


def make_constant(graph: ModuleGraph, name: str, value: Any, dtype: Any = None) -> None:
    """Let the node give this value, whatever it did: strings unless `dtype` says otherwise.

    Raises `ModuleBroken` if there is no such node.
    """
    import tensorflow as tf

    if name not in graph.nodes:
        raise ModuleBroken(f"the module's graph names {name!r}, which is not in it")
    node = graph.nodes[name]
    node.op = "Const"
    node.attr.clear()
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.string if dtype is None else dtype))
    node.attr["dtype"].type = node.attr["value"].tensor.dtype


def add_constant(graph: ModuleGraph, name: str, value: Any, dtype: Any = None) -> str:
    """As `make_constant`, for a new node of about this name; its name."""
    node = _add(graph, name, "Const", (), {})
    make_constant(graph, node, value, dtype)
    return node


def _add(graph: ModuleGraph, name: str, op: str, inputs: Collection[str], types: Mapping[str, int | list[int]]) -> str:
    from tensorflow.core.framework import node_def_pb2

    while name in graph.nodes:
        name += "_"
    node = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
    for key, value in types.items():
        if isinstance(value, int):
            node.attr[key].type = value
        else:
            node.attr[key].list.type.extend(value)
    graph.nodes[name] = node
    return name
