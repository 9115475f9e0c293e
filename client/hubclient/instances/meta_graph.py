"""The meta graph of a module's variant, as TensorFlow's own protocol buffer.

Law: damaged bytes are told as `ModuleBroken`, whatever protobuf says of them.
"""

from __future__ import annotations

import os
from typing import Any

from hubclient.model_errors import ModuleBroken, VariantNotFound
from hubclient.opening import OpenModule


def read_meta_graph(module: OpenModule) -> Any:
    """The ``MetaGraphDef`` of the variant that was chosen, from ``saved_model.pb`` or ``saved_model.pbtxt``."""
    meta_graphs = read_meta_graphs(module)
    for meta_graph in meta_graphs:
        if module.tags is None and len(meta_graphs) == 1:
            return meta_graph
        if tuple(sorted(meta_graph.meta_info_def.tags)) == (module.tags or ()):
            return meta_graph
    named = [sorted(meta_graph.meta_info_def.tags) for meta_graph in meta_graphs]
    raise VariantNotFound(f"the module has no variant with the tags {list(module.tags or ())}; it has {named}")


def read_meta_graphs(module: OpenModule) -> list[Any]:
    """The ``MetaGraphDef`` of each variant."""
    from google.protobuf import message, text_format
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    is_text = module.graph is None
    file = os.path.join(module.path, "saved_model.pbtxt" if is_text else "saved_model.pb")
    try:
        with open(file, "rb") as stream:
            if is_text:
                text_format.Parse(stream.read(), saved_model)
            else:
                saved_model.ParseFromString(stream.read())
    except (message.DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise ModuleBroken(f"{file} cannot be read: {error}") from error
    return list(saved_model.meta_graphs)


def type_spec(info: Any) -> Any:
    """The ``tf.TypeSpec`` of a signature's ``TensorInfo``: dense, sparse, or a composite one."""
    import tensorflow as tf
    from tensorflow.core.protobuf import struct_pb2
    from tensorflow.python.saved_model import nested_structure_coder  # the public API reads no TypeSpecProto

    encoding = info.WhichOneof("encoding")
    if encoding == "composite_tensor":  # which has no dtype of its own
        return nested_structure_coder.decode_proto(
            struct_pb2.StructuredValue(type_spec_value=info.composite_tensor.type_spec)
        )
    dtype, shape = tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)
    return tf.SparseTensorSpec(shape, dtype) if encoding == "coo_sparse" else tf.TensorSpec(shape, dtype)
