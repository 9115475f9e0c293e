"""The variables of a meta graph of TensorFlow 1, and their values in the checkpoint.

Law: a variable that the checkpoint must hold and does not is an error, never a fresh initial value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hubclient.model_errors import ModuleBroken, ModuleUnsupported

RESOURCE_VARIABLE = "VarHandleOp"
REF_VARIABLES = ("VariableV2", "Variable")


class VariableSpec(NamedTuple):
    """A variable, or one part of a partitioned variable."""

    name: str  #: of its node
    dtype: Any  #: ``tf.DType``
    shape: Any  #: ``tf.TensorShape``
    full_name: str  #: of the variable that this is a part of, else the name
    offset: tuple[int, ...] | None  #: where the part begins; None for a whole variable
    key: str  #: in the checkpoint
    slice: str  #: what of it, as RestoreV2 wants to be told; "" for all
    trainable: bool
    must_be_saved: bool
    initializer: str  #: the operation that gives it its initial value


def variable_specs(meta_graph: Any) -> list[VariableSpec]:
    """All variables of the graph, in any collection or none, in the order of its nodes."""
    import tensorflow as tf

    definitions, collections = _definitions(meta_graph)
    restored = _restored(meta_graph)
    specs = []
    for node in meta_graph.graph_def.node:
        if node.op != RESOURCE_VARIABLE and node.op not in REF_VARIABLES:
            continue
        name, definition = node.name, definitions.get(node.name)
        part = definition.save_slice_info_def if definition is not None else None
        if part is not None and not part.full_name:
            part = None
        key, where = (part.full_name, _slice(part)) if part is not None else (name, "")
        if restored is not None:
            key, where = restored.get(name, (key, where))
        try:
            dtype, shape = tf.as_dtype(node.attr["dtype"].type), tf.TensorShape(node.attr["shape"].shape)
        except (TypeError, ValueError) as error:
            raise ModuleBroken(f"the variable {name!r} of the module cannot be read: {error}") from error
        member_of = collections.get(name, set())
        specs.append(
            VariableSpec(
                name, dtype, shape, part.full_name if part is not None else name,
                tuple(part.var_offset) if part is not None else None, key, where,
                trainable="trainable_variables" in member_of,
                must_be_saved=name in restored if restored is not None else "variables" in member_of,
                initializer=definition.initializer_name if definition is not None else f"{name}/Assign",
            )
        )  # fmt: skip
    return specs


def restore(specs: Iterable[VariableSpec], path: str) -> dict[str, Any]:
    """The tensors that the module's checkpoint has for these variables, by the names of their nodes.

    Raises `ModuleBroken` for a damaged checkpoint and for what it must hold and does not.
    """
    import tensorflow as tf

    prefix = os.path.join(path, "variables", "variables")
    specs = list(specs)
    saved: Mapping[str, Any] = {}
    if os.path.exists(prefix + ".index"):
        try:
            saved = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            raise ModuleBroken(f"the checkpoint {prefix} cannot be read: {error}") from error
    if missing := sorted(spec.key for spec in specs if spec.must_be_saved and spec.key not in saved):
        raise ModuleBroken(f"the checkpoint {prefix} lacks {', '.join(missing)}")
    present = [spec for spec in specs if spec.key in saved]
    if not present:
        return {}
    try:
        values = tf.raw_ops.RestoreV2(
            prefix=prefix,
            tensor_names=[spec.key for spec in present],
            shape_and_slices=[spec.slice for spec in present],
            dtypes=[spec.dtype for spec in present],
        )
    except (tf.errors.OpError, ValueError) as error:
        raise ModuleBroken(f"the checkpoint {prefix} cannot be read: {error}") from error
    for spec, value in zip(present, values, strict=True):
        if not spec.shape.is_compatible_with(value.shape):
            raise ModuleBroken(
                f"the checkpoint {prefix} has {spec.key} in the shape {value.shape}, the graph in {spec.shape}"
            )
    return {spec.name: value for spec, value in zip(present, values, strict=True)}


def by_full_name(specs: Iterable[VariableSpec], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables by their names in the module, a partitioned one as the list of its parts."""
    parts: dict[str, list[VariableSpec]] = {}
    for spec in specs:
        parts.setdefault(spec.full_name, []).append(spec)
    return {
        full_name: variables[group[0].name]
        if group[0].offset is None
        else [variables[spec.name] for spec in sorted(group, key=lambda spec: spec.offset or ())]
        for full_name, group in parts.items()
    }


def _definitions(meta_graph: Any) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """The ``VariableDef`` of each variable that is in a collection, and the names of its collections."""
    from google.protobuf import message
    from tensorflow.core.framework import variable_pb2

    definitions: dict[str, Any] = {}
    collections: dict[str, set[str]] = {}
    for collection, content in meta_graph.collection_def.items():
        for serialized in content.bytes_list.value:
            try:
                definition = variable_pb2.VariableDef.FromString(serialized)
            except message.DecodeError:
                continue  # a collection of something else
            name = definition.variable_name.removesuffix(":0")
            definitions.setdefault(name, definition)
            collections.setdefault(name, set()).add(collection)
    return definitions, collections


def _slice(part: Any) -> str:
    where = ":".join(f"{at},{size}" for at, size in zip(part.var_offset, part.var_shape, strict=True))
    return " ".join([*map(str, part.full_shape), where])


def _restored(meta_graph: Any) -> dict[str, tuple[str, str]] | None:
    """What the graph's own saver restores: (key, slice) by variable; None for a graph without one.

    Read off the graph that tf.compat.v1.train.Saver builds: RestoreV2 -> Assign, gathered by control dependencies.
    """
    if not meta_graph.saver_def.restore_op_name:
        return None
    graph = {node.name: node for node in meta_graph.graph_def.node}
    found, seen, stack = {}, set(), [meta_graph.saver_def.restore_op_name]
    while stack:
        name = stack.pop()
        node = graph.get(name)
        if node is None:
            raise ModuleBroken(f"the saver of the module names the operation {name!r}, which its graph lacks")
        if name in seen:
            continue
        seen.add(name)
        if node.op in ("Assign", "AssignVariableOp"):
            found[_node_of(node.input[0])] = _source(graph, node.input[1])
        elif node.op == "NoOp":
            stack += [each[1:] for each in node.input]
        else:
            raise ModuleUnsupported(f"the saver of the module restores {name!r} by {node.op}: only variables can be")
    return found


def _source(graph: Mapping[str, Any], tensor: str) -> tuple[str, str]:
    """The key and the slice of what flows into an assignment of the saver."""
    from tensorflow import make_ndarray

    for _ in range(len(graph)):
        node, (_, _, output) = graph[_node_of(tensor)], tensor.partition(":")
        if node.op == "RestoreV2":
            names, slices = (make_ndarray(graph[_node_of(each)].attr["value"].tensor) for each in node.input[1:3])
            number = int(output or 0)
            return names.flat[number].decode(), slices.flat[number].decode()
        if node.op not in ("Identity", "Reshape"):
            break
        tensor = node.input[0]
    raise ModuleUnsupported("the saver of the module does more than to assign what is in the checkpoint")


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
