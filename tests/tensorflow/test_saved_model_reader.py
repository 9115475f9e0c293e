"""The reader of saved_model.pb sees in models that TensorFlow exported what TensorFlow's own protobuf sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubclient.contract import saved_model
from hubclient.contract.saved_model import MetaGraph, Signature, TensorSpec

pytestmark = pytest.mark.tensorflow


def by_protobuf(path: Path) -> list[MetaGraph]:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def spec(info: Any) -> TensorSpec:
        encoding = {"coo_sparse": "sparse", "composite_tensor": "composite"}.get(info.WhichOneof("encoding"), "dense")
        shape = info.tensor_shape
        sizes = None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
        dtype = tf.dtypes.as_dtype(info.dtype).name if info.dtype else "invalid"
        sparse = info.coo_sparse
        components = {
            "dense": (),
            "sparse": (sparse.indices_tensor_name, sparse.values_tensor_name, sparse.dense_shape_tensor_name),
            "composite": tuple(component.name for component in info.composite_tensor.components),
        }
        return TensorSpec(info.name, dtype, sizes, encoding, components[encoding])

    message = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    return [
        MetaGraph(
            tuple(sorted(graph.meta_info_def.tags)),
            {
                name: Signature(
                    signature.method_name,
                    {key: spec(info) for key, info in signature.inputs.items()},
                    {key: spec(info) for key, info in signature.outputs.items()},
                )
                for name, signature in graph.signature_def.items()
            },
        )
        for graph in message.meta_graphs
    ]


def test_an_exported_model_reads_as_by_protobuf(tmp_path: Path) -> None:
    import tensorflow as tf

    weights = tf.Variable(tf.ones([4, 2]))

    def predict(x: Any, name: Any) -> dict[str, Any]:
        return {"scores": x @ weights, "name": name, "half": tf.cast(x, tf.bfloat16)}

    def look_up(ids: Any, sparse: Any) -> dict[str, Any]:
        return {"ids": ids + 1, "dense": tf.sparse.to_dense(sparse), "sparse": sparse}

    model = tf.Module()
    model.weights = weights
    model.predict = tf.function(
        predict, [tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([], tf.string, "name")]
    )
    model.look_up = tf.function(
        look_up, [tf.TensorSpec(None, tf.int64, "ids"), tf.SparseTensorSpec([2, 3], tf.float32)]
    )
    directory = str(tmp_path / "model")
    tf.saved_model.save(model, directory, {"serving_default": model.predict, "look_up": model.look_up})

    graphs = saved_model.read(directory + "/saved_model.pb")
    assert graphs == by_protobuf(tmp_path / "model" / "saved_model.pb")
    (graph,) = graphs
    assert graph.tags == ("serve",)
    assert graph.signatures["serving_default"].inputs["x"] == TensorSpec(
        "serving_default_x:0", "float32", (None, 4), "dense"
    )
    assert graph.signatures["look_up"].inputs["ids"].shape is None


def test_every_type_has_tensorflows_name(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    signature = message.meta_graphs.add().signature_def["s"]
    numbers = [number for number in types_pb2.DataType.values() if number]
    for number in numbers:
        signature.inputs[f"{number}"].dtype = number
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    (graph,) = saved_model.read(str(tmp_path / "saved_model.pb"))
    for number in numbers:
        assert graph.signatures["s"].inputs[f"{number}"].dtype == tf.dtypes.as_dtype(number).name


def test_tags_and_sparse_tensors_of_several_graphs_read_as_by_protobuf(tmp_path: Path) -> None:
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    for tags in (["train", "gpu"], ["serve"], []):
        graph = message.meta_graphs.add()
        graph.meta_info_def.tags.extend(tags)
        graph.graph_def.node.add(name="weights", op="Const").attr["value"].tensor.tensor_content = bytes(100_000)
        graph.collection_def["losses"].node_list.value.append("loss:0")
        for number in range(50):
            info = graph.signature_def[f"signature {number}"].inputs["x"]
            info.dtype = types_pb2.DT_FLOAT
            info.coo_sparse.values_tensor_name = f"values:{number}"
            info.tensor_shape.dim.add(size=-1)
            info.tensor_shape.dim.add(size=number, name="named")
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    graphs = saved_model.read(str(tmp_path / "saved_model.pb"))
    assert graphs == by_protobuf(tmp_path / "saved_model.pb")
    assert graphs[0].signatures["signature 7"].inputs["x"] == TensorSpec(
        "", "float32", (None, 7), "sparse", ("", "values:7", "")
    )
