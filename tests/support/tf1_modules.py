"""Small modules in the format of TensorFlow 1, byte for byte of the form that tensorflow_hub's exporter left them in.

Law: a variable's initializer gives zeros, and its weights are in the checkpoint alone: whoever forgets to restore is
found out. No state of TensorFlow's is left changed.

The form: one meta graph for each variant, all with one checkpoint and no saver of their own; tensors and ops that an
importer needs in collections; paths of assets as constants that ``saved_model_assets`` maps to files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf.any_pb2 import Any as AnyMessage
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tests.support.weights import weights

v1 = tf.compat.v1

#: tensorflow_hub/module_def.proto: the format is 3
MARK = b"\x08\x03"
WORDS = ("the", "quick", "brown", "fox")
IMAGE_SIZE = (12, 16)  #: height and width
_KEYS = v1.GraphKeys


class Variant(NamedTuple):
    """What the graph that has just been built offers."""

    signatures: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]  #: name -> (inputs, outputs)
    attachments: Mapping[str, bytes] = {}


Builds = Mapping[tuple[str, ...], Callable[[], Variant]]


def write(directory: str, variants: Builds) -> None:
    """Write the module; the first variant's variables are those of all."""
    os.makedirs(os.path.join(directory, "assets"))
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    for tags, build in variants.items():
        with tf.Graph().as_default(), v1.variable_scope("", use_resource=True):
            model.meta_graphs.append(_meta_graph(tags, build(), directory))
            if len(model.meta_graphs) == 1:
                _write_checkpoint(os.path.join(directory, "variables", "variables"))
    with open(os.path.join(directory, "saved_model.pb"), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
    with open(os.path.join(directory, "tfhub_module.pb"), "wb") as file:
        file.write(MARK)


def variable(name: str, shape: list[int], *, trainable: bool = True, **options: Any) -> Any:
    return v1.get_variable(name, shape, tf.float32, v1.zeros_initializer(), trainable=trainable, **options)


def _write_checkpoint(prefix: str) -> None:
    if not v1.global_variables():
        return
    by_name: dict[str, Any] = {}
    with v1.Session() as session:
        for each in v1.global_variables():
            part = each._save_slice_info  # only this tells a part of a partitioned variable from a whole one
            value = weights(part.full_name if part else each.op.name, part.full_shape if part else each.shape)
            if part:
                value = value[
                    tuple(slice(at, at + size) for at, size in zip(part.var_offset, part.var_shape, strict=True))
                ]
                by_name.setdefault(part.full_name, []).append(each)
            else:
                by_name[each.op.name] = each
            session.run(each.initializer, {each.initializer.inputs[1]: value})
        os.makedirs(os.path.dirname(prefix))
        v1.train.Saver(by_name, sharded=True).save(session, prefix, write_meta_graph=False, write_state=False)


def _meta_graph(tags: tuple[str, ...], variant: Variant, directory: str) -> Any:
    graph = v1.train.export_meta_graph(strip_default_attrs=True)
    graph.meta_info_def.tags.extend(tags)
    info = v1.saved_model.build_tensor_info
    for name, (inputs, outputs) in variant.signatures.items():
        graph.signature_def[name].CopyFrom(
            v1.saved_model.build_signature_def(
                {key: info(tensor) for key, tensor in inputs.items()},
                {key: info(tensor) for key, tensor in outputs.items()},
            )
        )
    if variant.attachments:
        graph.collection_def["hub_module_attachments"].bytes_list.value.extend(
            _field(1, key.encode()) + _field(2, message) for key, message in variant.attachments.items()
        )
    _move_assets(graph, directory)
    return graph


def _move_assets(graph: Any, directory: str) -> None:
    """Copy each asset into the module; its path's constant becomes a placeholder that ``saved_model_assets`` fills."""
    if _KEYS.ASSET_FILEPATHS not in graph.collection_def:
        return
    constants = {node.name: node for node in graph.graph_def.node}
    for tensor in graph.collection_def[_KEYS.ASSET_FILEPATHS].node_list.value:
        path = constants[tensor.removesuffix(":0")].attr["value"].tensor
        source = path.string_val[0].decode()
        shutil.copyfile(source, os.path.join(directory, "assets", os.path.basename(source)))
        path.string_val[0] = b"SAVEDMODEL-ASSET"
        asset = meta_graph_pb2.AssetFileDef(filename=os.path.basename(source))
        asset.tensor_info.name = tensor
        packed = AnyMessage()
        packed.Pack(asset)
        graph.collection_def["saved_model_assets"].any_list.value.append(packed)


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protocol buffer, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value


@contextmanager
def _vocabulary(directory: str) -> Iterator[str]:
    """The path of a file of words, beside the module while it is built."""
    path = os.path.join(directory + ".building", "words.txt")
    os.makedirs(os.path.dirname(path))
    try:
        with open(path, "w") as file:
            file.write("\n".join(WORDS) + "\n")
        yield path
    finally:
        shutil.rmtree(os.path.dirname(path))


@contextmanager
def _control_flow_v1() -> Iterator[None]:
    """Loops and conditions as TensorFlow 1 wrote them: Enter, Switch and Merge, not functions."""
    was_v2 = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        yield
    finally:
        if was_v2:
            v1.enable_control_flow_v2()


def affine(directory: str) -> None:
    """``x @ w + b``, from three numbers to two."""

    def build() -> Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        return Variant({"default": ({"default": x}, {"default": x @ variable("w", [3, 2]) + variable("b", [2])})})

    write(directory, {(): build})


def variants(directory: str) -> None:
    """A dense layer with batch normalization; the variant "train" has batch statistics, updates and dropout."""

    def build(is_training: bool) -> Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        with v1.variable_scope("dense"):
            kernel = variable("kernel", [3, 4])
            y = x @ kernel + variable("bias", [4])
            v1.add_to_collection(_KEYS.REGULARIZATION_LOSSES, tf.multiply(0.01, tf.nn.l2_loss(kernel), "l2"))
        with v1.variable_scope("norm"):
            gamma, beta = variable("gamma", [4]), variable("beta", [4])
            mean = variable("moving_mean", [4], trainable=False)
            variance = variable("moving_variance", [4], trainable=False)
            if is_training:
                of_batch = tf.nn.moments(y, [0])
                for moving, now in zip((mean, variance), of_batch, strict=True):
                    update = moving.assign_sub((moving - now) * 0.1, read_value=False)
                    v1.add_to_collection(_KEYS.UPDATE_OPS, update)
                y = tf.nn.batch_normalization(y, *of_batch, beta, gamma, 1e-3)
                y = tf.nn.dropout(y, rate=0.5, seed=7)
            else:
                y = tf.nn.batch_normalization(y, mean, variance, beta, gamma, 1e-3)
        return Variant({"default": ({"default": x}, {"default": y})})

    write(directory, {(): lambda: build(False), ("train",): lambda: build(True)})


def text(directory: str) -> None:
    """Sentences to embeddings: words are looked up in a file, each sentence's are added and divided by sqrt(n)."""

    def build(vocabulary: str) -> Variant:
        sentences = v1.placeholder(tf.string, [None], "sentences")
        initializer = tf.lookup.TextFileInitializer(
            vocabulary,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        table = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
        words = table.lookup(v1.string_split(sentences))
        embedding = variable("embedding", [len(WORDS) + 1, 3])
        y = v1.nn.safe_embedding_lookup_sparse(embedding, words, combiner="sqrtn")
        return Variant({"default": ({"default": sentences}, {"default": y})})

    with _vocabulary(directory) as vocabulary:
        write(directory, {(): lambda: build(vocabulary)})


def sparse(directory: str) -> None:
    """ "default": a sparse matrix times weights; "scaled": sparse in and out."""

    def build() -> Variant:
        x = v1.sparse_placeholder(tf.float32, [None, 3], "x")
        product = tf.sparse.sparse_dense_matmul(x, variable("w", [3, 2]))
        scaled = tf.SparseTensor(x.indices, x.values * variable("scale", []), x.dense_shape)
        return Variant(
            {"default": ({"default": x}, {"default": product}), "scaled": ({"default": x}, {"default": scaled})}
        )

    write(directory, {(): build})


def ref_variables(directory: str) -> None:
    """As `variants`, with variables from before there were resources, and their updates as tensors."""

    def build(is_training: bool) -> Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        w, b = variable("w", [3, 2], use_resource=False), variable("b", [2], use_resource=False)
        mean = variable("mean", [2], trainable=False, use_resource=False)
        y = x @ w + b
        v1.add_to_collection(_KEYS.REGULARIZATION_LOSSES, tf.nn.l2_loss(w))
        if is_training:
            v1.add_to_collection(_KEYS.UPDATE_OPS, v1.assign_sub(mean, (mean - tf.reduce_mean(y, 0)) * 0.1))
        return Variant({"default": ({"default": x}, {"default": y - mean})})

    write(directory, {(): lambda: build(False), ("train",): lambda: build(True)})


def partitioned(directory: str) -> None:
    """An embedding in three parts, which the checkpoint holds as one, and weights in two."""

    def build() -> Variant:
        ids = v1.placeholder(tf.int64, [None], "ids")
        embedding = variable("embedding", [7, 4], partitioner=v1.fixed_size_partitioner(3))
        w = variable("w", [4, 2], partitioner=v1.fixed_size_partitioner(2))
        y = v1.nn.embedding_lookup(embedding, ids, partition_strategy="div") @ tf.convert_to_tensor(w)
        return Variant({"default": ({"default": ids}, {"default": y})})

    write(directory, {(): build})


def while_v1(directory: str) -> None:
    """``x = tanh(x @ w)``, `steps` times, in a loop of TensorFlow 1; "fixed" loops three times."""

    def loop(x: Any, w: Any, steps: Any) -> Any:
        return v1.while_loop(lambda i, _: i < steps, lambda i, x: (i + 1, tf.tanh(x @ w)), (0, x))[1]

    def build() -> Variant:
        x, steps = v1.placeholder(tf.float32, [None, 3], "x"), v1.placeholder(tf.int32, [], "steps")
        w = variable("w", [3, 3])
        return Variant(
            {
                "default": ({"x": x, "steps": steps}, {"default": loop(x, w, steps)}),
                "fixed": ({"default": x}, {"default": loop(x, w, 3)}),
            }
        )

    with _control_flow_v1():
        write(directory, {(): build})


def cond_v1(directory: str) -> None:
    """``x * a`` where the sum of x is positive, else ``x - b``; each variable is read in its branch only."""

    def build() -> Variant:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        a, b = variable("a", [3]), variable("b", [3])
        y = v1.cond(tf.reduce_sum(x) > 0, lambda: x * a.read_value(), lambda: x - b.read_value())
        return Variant({"default": ({"default": x}, {"default": y})})

    with _control_flow_v1():
        write(directory, {(): build})


def control_flow_v2(directory: str) -> None:
    """A loop, a condition that reads a variable, and a call, each as a function in the graph's library."""

    def build() -> Variant:
        x, steps = v1.placeholder(tf.float32, [None, 3], "x"), v1.placeholder(tf.int32, [], "steps")
        w, a = variable("w", [3, 3]), variable("a", [3])
        y = tf.while_loop(lambda i, _: i < steps, lambda i, y: (i + 1, tf.tanh(y @ w)), (0, x))[1]
        y = tf.cond(tf.reduce_sum(y) > 0, lambda: y * a, lambda: y - a)
        doubled = tf.function(lambda y: y + y, input_signature=[tf.TensorSpec([None, 3], tf.float32)])(y)
        return Variant({"default": ({"x": x, "steps": steps}, {"default": doubled})})

    assert v1.control_flow_v2_enabled()
    write(directory, {(): build})


def many(directory: str) -> None:
    """Signatures with two inputs, with more outputs than "default", and with none of that name."""

    def build() -> Variant:
        x, a, b = (v1.placeholder(tf.float32, [None, 2], name) for name in "xab")
        hidden = tf.tanh(x @ variable("hidden", [2, 3]))
        y = hidden @ variable("out", [3, 1])
        scale = variable("scale", [])
        return Variant(
            {
                "default": ({"default": x}, {"default": y}),
                "two_inputs": ({"a": a, "b": b}, {"default": scale * a + b, "product": a * b}),
                "no_default": ({"x": x}, {"sum": tf.reduce_sum(x * scale, 1), "double": x + x}),
                "extra": ({"x": x}, {"default": y, "hidden": hidden, "layers/hidden:0": hidden}),
                "no_inputs": ({}, {"default": scale + 0.0}),
            }
        )

    write(directory, {(): build})


def image(directory: str, height: int | None = IMAGE_SIZE[0], width: int | None = IMAGE_SIZE[1]) -> None:
    """Images to feature vectors, "image_feature_vector" and "default", with the size that it was trained for."""

    def build() -> Variant:
        images = v1.placeholder(tf.float32, [None, height, width, 3], "images")
        features = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, variable("kernel", [3, 3, 3, 4]), 1, "SAME")), [1, 2])
        signature = {"images": images}, {"default": features}
        # ImageModuleInfo (image_module_info.proto): default_image_size = 1 {height = 1, width = 2}
        size = _field(1, bytes([1 << 3, IMAGE_SIZE[0], 2 << 3, IMAGE_SIZE[1]]))
        return Variant({"default": signature, "image_feature_vector": signature}, {"image_module_info": size})

    write(directory, {(): build})


def image_of_any_size(directory: str) -> None:
    """As `image`; the size is in the attached message only."""
    image(directory, None, None)


def no_variables(directory: str) -> None:
    """``2 x + 1``; there is no checkpoint."""

    def build() -> Variant:
        x = v1.placeholder(tf.float32, [None], "x")
        return Variant({"default": ({"default": x}, {"default": 2 * x + 1})})

    write(directory, {(): build})


def plain(directory: str) -> None:
    """No module but a SavedModel of TensorFlow 1's builder: it has the tag "serve", a saver, an asset and a main op."""
    with _vocabulary(directory) as vocabulary, tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None], "words")
        initializer = tf.lookup.TextFileInitializer(
            vocabulary,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        table = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
        embedding = variable("embedding", [len(WORDS) + 1, 3], use_resource=True)
        y = tf.gather(embedding, table.lookup(words))
        value = weights("embedding", [len(WORDS) + 1, 3])
        session.run(embedding.initializer, {embedding.initializer.inputs[1]: value})
        builder = v1.saved_model.Builder(directory)
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": v1.saved_model.predict_signature_def({"words": words}, {"embeddings": y})},
            assets_collection=v1.get_collection(_KEYS.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()


MODULES: dict[str, Callable[[str], None]] = {
    build.__name__: build
    for build in (
        affine,
        variants,
        text,
        sparse,
        ref_variables,
        partitioned,
        while_v1,
        cond_v1,
        control_flow_v2,
        many,
        image,
        image_of_any_size,
        no_variables,
        plain,
    )
}
