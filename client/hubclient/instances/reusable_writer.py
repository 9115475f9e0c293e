"""A SavedModel of TensorFlow 2 written as a module in the form of TensorFlow 1.

Law: what a call of the object gives, the signature "default" gives: in the variant without tags as the object decides
by itself, and where it follows `training`, in the variant "train" with it set.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hubclient.instances import tf1_writer
from hubclient.instances.instance import DEFAULT
from hubclient.instances.module_graph import ModuleGraph, node_of
from hubclient.instances.reusable import Reusable
from hubclient.instances.reusable_graph import load_into_graph
from hubclient.instances.tf1_collections import components, nodes
from hubclient.instances.tf1_state import add_constant
from hubclient.instances.tf1_variables import variable_specs
from hubclient.model_errors import ExportInvalid
from hubclient.opening import OpenModule

_ASSET_FILEPATHS = "asset_filepaths"
_SAVED_ASSETS = "saved_model_assets"
_TABLE_INITIALIZERS, _REGULARIZATION_LOSSES = "table_initializer", "regularization_losses"
_VARIABLES = ("variables", "trainable_variables")
_ASSET_MARK = b"SAVEDMODEL-ASSET"


def write(module: OpenModule, path: str, arrays: Mapping[str, Any]) -> None:
    """`arrays` are the values of the object's variables, by the names that they get when it is loaded into a graph."""
    meta_graphs = list(_variants(module))
    assets: dict[str, str] = {}
    for meta_graph in meta_graphs:
        _detach(meta_graph, module.path, assets)
    specs = {spec.key: spec for meta_graph in meta_graphs for spec in variable_specs(meta_graph)}
    with tf1_writer.new_module(path) as staged:
        tf1_writer.write_graphs(staged, meta_graphs)
        tf1_writer.write_weights(staged, [tf1_writer.Value(key, "", arrays[spec.name]) for key, spec in specs.items()])
        for file, name in assets.items():
            shutil.copyfile(file, os.path.join(staged, "assets", name))


def _variants(module: OpenModule) -> Iterator[Any]:
    import tensorflow as tf

    for tags in ((), ("train",)):
        with tf.Graph().as_default() as graph:
            loaded = load_into_graph(module)
            reusable = Reusable(loaded, True)
            if tags and not reusable.has_training:
                return
            signatures = _signatures(loaded, reusable, True if tags else None)
            for loss in reusable.regularization_losses:
                tf.compat.v1.add_to_collection(_REGULARIZATION_LOSSES, loss())
            for variable in reusable.trainable_variables:
                tf.compat.v1.add_to_collection("trainable_variables", variable)
            meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph, strip_default_attrs=True)
        for name, signature in signatures.items():
            meta_graph.signature_def[name].CopyFrom(signature)
        meta_graph.meta_info_def.tags.extend(tags)
        yield meta_graph


def _signatures(loaded: Any, reusable: Reusable, training: bool | None) -> dict[str, Any]:
    """The object's own, and its ``__call__`` as "default", with what an own "default" of the same inputs gives beside.

    Raises `ExportInvalid` if there is nothing that could be a signature.
    """
    made = {}
    for name, (specs, _) in reusable.signatures.items():
        inputs = _placeholders(specs, name)
        made[name] = inputs, reusable.apply(name, inputs, training)
    wanted = _call_spec(loaded)
    if wanted is not None and reusable.call is not None:
        inputs, outputs = made.get(DEFAULT, ({}, {}))
        specs = wanted if isinstance(wanted, dict) else {next(iter(inputs)) if len(inputs) == 1 else DEFAULT: wanted}
        if inputs.keys() != specs.keys():
            inputs, outputs = _placeholders(specs, "call"), {}
        called = reusable.call(inputs if isinstance(wanted, dict) else next(iter(inputs.values())), training=training)
        made[DEFAULT] = inputs, outputs | (dict(called) if isinstance(called, Mapping) else {DEFAULT: called})
    if not made:
        raise ExportInvalid("the module has neither signatures nor a __call__ whose inputs are known")
    return {name: _definition(*tensors) for name, tensors in made.items()}


def _call_spec(loaded: Any) -> Any:
    """What ``__call__`` takes, one ``tf.TypeSpec`` or a dict of them; None if it takes something else."""
    import tensorflow as tf

    call = getattr(loaded, "__call__", None)  # noqa: B004  # the function that it is, not whether there is one
    for function in getattr(call, "concrete_functions", ()):
        positional, named = function.structured_input_signature
        if not positional or any(isinstance(each, tf.TypeSpec) for each in (*positional[1:], *named.values())):
            continue
        spec = positional[0]
        if isinstance(spec, dict) and spec and all(isinstance(each, tf.TypeSpec) for each in spec.values()):
            return dict(spec)
        if isinstance(spec, tf.TypeSpec):
            return spec
    return None


def _placeholders(specs: Mapping[str, Any], scope: str) -> dict[str, Any]:
    import tensorflow as tf

    v1 = tf.compat.v1

    def placeholder(spec: Any) -> Any:
        if isinstance(spec, tf.SparseTensorSpec):
            return v1.sparse_placeholder(spec.dtype, spec.shape)
        if isinstance(spec, tf.RaggedTensorSpec):
            return v1.ragged.placeholder(spec.dtype, spec.ragged_rank, spec.shape[spec.ragged_rank + 1 :])
        return v1.placeholder(spec.dtype, spec.shape)

    with tf.name_scope(f"{re.sub('[^A-Za-z0-9_.]', '_', scope)}_inputs"):
        return {name: placeholder(spec) for name, spec in specs.items()}


def _definition(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    saved_model = tf.compat.v1.saved_model
    infos = [
        {name: saved_model.build_tensor_info(tensor) for name, tensor in tensors.items()}
        for tensors in (inputs, outputs)
    ]
    return saved_model.build_signature_def(*infos)


def _detach(meta_graph: Any, path: str, assets: dict[str, str]) -> None:
    """Leave what the signatures, losses and variables need, and nothing that names a file of this machine.

    `assets` gets the files that have to be copied, each with its name in the module.
    """
    import tensorflow as tf
    from google.protobuf.any_pb2 import Any as AnyMessage
    from tensorflow.core.protobuf import meta_graph_pb2

    by_name = {node.name: node for node in meta_graph.graph_def.node}
    for tensor in dict.fromkeys(nodes(meta_graph, _ASSET_FILEPATHS)):
        value = by_name[node_of(tensor)].attr["value"].tensor
        source = os.fsdecode(tf.make_ndarray(value).item())
        asset = meta_graph_pb2.AssetFileDef(filename=assets.setdefault(source, _unused(source, assets)))
        asset.tensor_info.name = tensor
        value.CopyFrom(tf.make_tensor_proto(_ASSET_MARK))
        packed = AnyMessage()
        packed.Pack(asset)
        meta_graph.collection_def[_SAVED_ASSETS].any_list.value.append(packed)
    graph = ModuleGraph(meta_graph)
    used = _used(meta_graph, graph)
    _keep_contents(graph, used, path)
    for node in graph.nodes.values():  # what the loader restores from; whoever loads this has its own checkpoint
        if node.op == "Const" and any(path.encode() in text for text in node.attr["value"].tensor.string_val):
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(b""))
    _prune(meta_graph, graph, used)


def _used(meta_graph: Any, graph: ModuleGraph) -> list[str]:
    """What signatures, losses and assets name, and what fills the tables that these use."""
    infos = [
        info for each in meta_graph.signature_def.values() for info in (*each.inputs.values(), *each.outputs.values())
    ]
    used = [name for info in infos for name in components(info)]
    used += [name for key in (_REGULARIZATION_LOSSES, _ASSET_FILEPATHS) for name in nodes(meta_graph, key)]
    reached = graph.reach(used)
    # There may be tables that nothing else uses, such as those of words that a layer has counted.
    initializers = [name for name in nodes(meta_graph, _TABLE_INITIALIZERS) if _sources(graph, name) & reached]
    if initializers:
        meta_graph.collection_def[_TABLE_INITIALIZERS].node_list.value[:] = initializers
    else:
        meta_graph.collection_def.pop(_TABLE_INITIALIZERS, None)
    return [*used, *initializers]


def _sources(graph: ModuleGraph, target: str) -> set[str]:
    """What makes the tables that the target needs."""
    return {name for name in graph.reach([target]) if not graph.nodes[name].input and graph.nodes[name].op != "Const"}


def _keep_contents(graph: ModuleGraph, used: list[str], path: str) -> None:
    """Make constants of what is restored into tables: in this form of a module a checkpoint holds variables alone."""
    import tensorflow as tf

    reached = graph.reach(used)
    restores = {name for name in reached if graph.nodes[name].op == "RestoreV2"}
    if not restores:
        return
    reader = tf.train.load_checkpoint(os.path.join(path, "variables", "variables"))
    dtypes = reader.get_variable_to_dtype_map()
    for node in [graph.nodes[name] for name in sorted(reached)]:
        for number, tensor in enumerate(node.input):
            restore, _, output = tensor.partition(":")
            if restore in restores:
                keys = tf.make_ndarray(graph.nodes[node_of(graph.nodes[restore].input[1])].attr["value"].tensor)
                key = keys.flat[int(output or 0)].decode()
                node.input[number] = add_constant(graph, f"{restore}/{output}", reader.get_tensor(key), dtypes[key])


def _prune(meta_graph: Any, graph: ModuleGraph, used: Iterable[str]) -> None:
    from tensorflow.core.framework import graph_pb2, variable_pb2

    wanted = list(used)
    reached = graph.reach(wanted)
    for key in list(meta_graph.collection_def):
        if key in _VARIABLES:
            values = meta_graph.collection_def[key].bytes_list.value
            definitions = [variable_pb2.VariableDef.FromString(value) for value in values]
            definitions = [each for each in definitions if node_of(each.variable_name) in reached]
            values[:] = [each.SerializeToString(deterministic=True) for each in definitions]
            wanted += [name for each in definitions for name in (each.initializer_name, each.snapshot_name) if name]
        elif key not in (_TABLE_INITIALIZERS, _REGULARIZATION_LOSSES, _ASSET_FILEPATHS, _SAVED_ASSETS):
            del meta_graph.collection_def[key]
    reached = graph.reach(wanted)
    kept = graph_pb2.GraphDef(node=[node for name, node in graph.nodes.items() if name in reached])
    del meta_graph.graph_def.node[:]
    meta_graph.graph_def.node.extend(kept.node)


def _unused(source: str, assets: Mapping[str, str]) -> str:
    """A name for a copy of the file that no other file has."""
    name, number = os.path.basename(source), 0
    while name in assets.values():
        number += 1
        name = f"{number}_{os.path.basename(source)}"
    return name
