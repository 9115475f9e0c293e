"""What a meta graph of TensorFlow 1 says beside its graph: signatures, collections, assets, how it is initialised.

Law: names of tensors and operations are read and checked here; what TensorFlow makes of them is others' business.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from hubclient.instances.instance import DEFAULT, SignatureInfo
from hubclient.instances.meta_graph import type_spec
from hubclient.model_errors import ModuleBroken

SERVING_DEFAULT = "serving_default"

# Signatures whose single output is an operation: tensorflow/python/saved_model/constants.py.
_OF_THE_LOADER = ("__saved_model_init_op", "__saved_model_train_op")


class Signature(NamedTuple):
    """A signature, and the tensors that its inputs and outputs consist of."""

    info: SignatureInfo
    input_tensors: Mapping[str, list[str]]
    output_tensors: Mapping[str, list[str]]


def signatures(meta_graph: Any) -> dict[str, Signature]:
    """All signatures by name.

    Where there is no "default", that is "serving_default", whose single output is then "default" too.
    """
    found = {
        name: Signature(
            SignatureInfo(_specs(definition.inputs), _specs(definition.outputs)),
            _tensors(definition.inputs),
            _tensors(definition.outputs),
        )
        for name, definition in meta_graph.signature_def.items()
        if name not in _OF_THE_LOADER
    }
    if DEFAULT not in found and SERVING_DEFAULT in found:
        info, inputs, outputs = found[SERVING_DEFAULT]
        if DEFAULT not in outputs and len(outputs) == 1:
            (spec,), (tensors,) = info.outputs.values(), outputs.values()
            info, outputs = info._replace(outputs={DEFAULT: spec}), {DEFAULT: tensors}
        found[DEFAULT] = Signature(info, inputs, outputs)
    return found


def components(info: Any) -> list[str]:
    """The tensors that a ``TensorInfo`` consists of, in the order of ``tf.nest.flatten(expand_composites=True)``."""
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        sparse = info.coo_sparse
        return [sparse.indices_tensor_name, sparse.values_tensor_name, sparse.dense_shape_tensor_name]
    if encoding == "composite_tensor":
        return [name for part in info.composite_tensor.components for name in components(part)]
    return [info.name]


def nodes(meta_graph: Any, collection: str) -> list[str]:
    """The tensors and operations of a collection, each once."""
    if collection not in meta_graph.collection_def:
        return []
    return list(dict.fromkeys(meta_graph.collection_def[collection].node_list.value))


def initializers(meta_graph: Any) -> list[str]:
    """The operations to be run when the variables are there: the one that a SavedModel names, else those of its tables.

    Source: get_init_op of tensorflow/python/saved_model/loader_impl.py.
    """
    if _OF_THE_LOADER[0] in meta_graph.signature_def:
        return [info.name for info in meta_graph.signature_def[_OF_THE_LOADER[0]].outputs.values()]
    return (
        nodes(meta_graph, "saved_model_main_op")
        or nodes(meta_graph, "legacy_init_op")
        or nodes(meta_graph, "table_initializer")
    )


def assets(meta_graph: Any, path: str) -> dict[str, str]:
    """The files of the module by the tensors that take their paths; raises `ModuleBroken` for one that is not there."""
    from google.protobuf import message
    from tensorflow.core.protobuf import meta_graph_pb2

    definitions = list(meta_graph.asset_file_def)
    if "saved_model_assets" in meta_graph.collection_def:
        for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
            definition = meta_graph_pb2.AssetFileDef()
            try:
                definition.ParseFromString(packed.value)
            except message.DecodeError as error:
                raise ModuleBroken(f"the assets that {path} lists cannot be read: {error}") from error
            definitions.append(definition)
    files = {}
    for definition in definitions:
        if not definition.filename or ".." in definition.filename.split("/") or os.path.isabs(definition.filename):
            raise ModuleBroken(f"the module {path} names an asset outside of itself: {definition.filename!r}")
        file = os.path.join(path, "assets", definition.filename)
        if not os.path.isfile(file):
            raise ModuleBroken(f"the module {path} lacks its asset assets/{definition.filename}")
        files[definition.tensor_info.name] = file
    return files


def attached_message(meta_graph: Any, key: str) -> bytes | None:
    """What is attached under `key`: an entry is a message of key = 1 and value = 2, as ``google.protobuf.Any`` is too.

    Source: tensorflow_hub/module_attachment.proto (tensorflow_hub up to 0.12).
    """
    from google.protobuf import any_pb2, message

    if "hub_module_attachments" not in meta_graph.collection_def:
        return None
    for entry in meta_graph.collection_def["hub_module_attachments"].bytes_list.value:
        try:
            attachment = any_pb2.Any.FromString(entry)
        except message.DecodeError as error:
            raise ModuleBroken(f"the messages attached to the module cannot be read: {error}") from error
        if attachment.type_url == key:
            return bytes(attachment.value)
    return None


def _specs(infos: Any) -> dict[str, Any]:
    try:
        return {key: type_spec(info) for key, info in infos.items()}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModuleBroken(f"the signatures of the module cannot be read: {error}") from error


def _tensors(infos: Any) -> dict[str, list[str]]:
    return {key: components(info) for key, info in infos.items()}
