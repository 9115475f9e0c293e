"""Small SavedModels of TensorFlow 2, most of them with the reusable interface.

The interface: ``__call__``, ``variables``, ``trainable_variables`` and ``regularization_losses`` of the root object.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from tests.support.weights import weights

WORDS = ("the", "quick", "brown", "fox")
IMAGE_SIZE = (8, 8)

#: what `dtypes` takes and gives, one input each
DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def _variable(name: str, shape: list[int], *, trainable: bool = True) -> Any:
    return tf.Variable(weights(name, shape), trainable=trainable, name=name)


def _spec(*shape: int | None, dtype: str = "float32", name: str | None = None) -> Any:
    return tf.TensorSpec(shape, dtype, name=name)


def _function(call: Callable[..., Any], **options: Any) -> Any:
    return tf.function(call, autograph=False, **options)


def _reusable(call: Any, variables: Iterable[Any], losses: Iterable[Callable[[], Any]] = (), **attributes: Any) -> Any:
    root = tf.train.Checkpoint(**attributes)
    root.__call__ = call
    root.variables = list(variables)
    root.trainable_variables = [variable for variable in root.variables if variable.trainable]
    root.regularization_losses = [_function(loss, input_signature=[]) for loss in losses]
    return root


def _save(root: Any, directory: str, **signatures: Any) -> None:
    tf.saved_model.save(root, directory, signatures or None)


@contextmanager
def _word_file(directory: str, name: str, words: Iterable[str]) -> Iterator[str]:
    """The path of a file of words, beside the module while it is built."""
    path = f"{directory}.building-{name}/{name}.txt"
    os.makedirs(os.path.dirname(path))
    try:
        with open(path, "w") as file:
            file.write("\n".join(words) + "\n")
        yield path
    finally:
        shutil.rmtree(os.path.dirname(path))


def _table(path: str, default: int) -> Any:
    index = tf.lookup.TextFileIndex
    initializer = tf.lookup.TextFileInitializer(path, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
    return tf.lookup.StaticHashTable(initializer, default)


def text_embedding(directory: str) -> None:
    """Sentences to the mean of their words' embeddings; words are looked up in a file."""
    with _word_file(directory, "words", WORDS) as path:
        table, embedding = _table(path, len(WORDS)), _variable("embedding", [len(WORDS) + 1, 3])

        def call(sentences: Any) -> Any:
            ids = table.lookup(tf.strings.split(sentences).to_tensor(""))
            known = tf.cast(ids < len(WORDS), tf.float32)[..., tf.newaxis]
            total = tf.reduce_sum(tf.gather(embedding, ids) * known, 1)
            return tf.math.divide_no_nan(total, tf.reduce_sum(known, 1))

        function = _function(call, input_signature=[_spec(None, dtype="string", name="sentences")])
        root = _reusable(function, [embedding], table=table)
        _save(root, directory, serving_default=function, default=function)


def image_feature_vector(directory: str) -> None:
    """A convolution, batch normalization and dropout, the last two by `training=`; images of any size."""
    kernel, dense = _variable("conv/kernel", [3, 3, 3, 4]), _variable("dense/kernel", [4, 5])
    gamma, beta = _variable("norm/gamma", [4]), _variable("norm/beta", [4])
    mean = _variable("norm/moving_mean", [4], trainable=False)
    variance = _variable("norm/moving_variance", [4], trainable=False)

    def call(images: Any, training: bool = False) -> Any:
        y = tf.nn.conv2d(images, kernel, 1, "SAME")
        if training:
            of_batch = tf.nn.moments(y, [0, 1, 2])
            mean.assign_sub((mean - of_batch[0]) * 0.1)
            variance.assign_sub((variance - of_batch[1]) * 0.1)
            y = tf.nn.batch_normalization(y, *of_batch, beta, gamma, 1e-3)
        else:
            y = tf.nn.batch_normalization(y, mean, variance, beta, gamma, 1e-3)
        y = tf.reduce_mean(tf.nn.relu(y), [1, 2]) @ dense
        return tf.nn.dropout(y, 0.5) if training else y

    function, images = _function(call), _spec(None, None, None, 3, name="images")
    for training in (False, True):
        function.get_concrete_function(images, training=training)
    losses = [lambda: 0.01 * tf.nn.l2_loss(kernel), lambda: 0.02 * tf.nn.l2_loss(dense)]
    root = _reusable(function, [kernel, gamma, beta, mean, variance, dense], losses)
    predict = _function(lambda images: {"feature_vector": call(images)}, input_signature=[images])
    _save(root, directory, serving_default=predict, default=predict)


def multi(directory: str) -> None:
    """Two inputs by name, two outputs by name."""
    w = _variable("w", [2, 2])

    def call(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": inputs["a"] @ w + inputs["b"], "product": inputs["a"] * inputs["b"]}

    specs = {"a": _spec(None, 2, name="a"), "b": _spec(None, 2, name="b")}
    function = _function(call, input_signature=[specs])
    signature = _function(lambda a, b: call({"a": a, "b": b}), input_signature=[specs["a"], specs["b"]])
    _save(_reusable(function, [w]), directory, serving_default=signature, default=signature)


def with_arguments(directory: str) -> None:
    """``x * w * factor``, and 1 more where `training`; the regularization loss is the square of w."""
    w = _variable("w", [2])
    function = _function(lambda x, factor=1.0, training=False: x * w * factor + (1.0 if training else 0.0))
    for training in (False, True):
        function.get_concrete_function(_spec(None, 2), 1.0, training)
        function.get_concrete_function(_spec(None, 2), _spec(name="factor"), training)
    _save(_reusable(function, [w], [lambda: tf.reduce_sum(w * w)]), directory)


def plain(directory: str) -> None:
    """Signatures alone: the root cannot be called and names no variables."""
    w, b = _variable("w", [3, 2]), _variable("b", [2])
    root = tf.train.Checkpoint(w=w, b=b)
    function = _function(lambda x: {"y": x @ w + b}, input_signature=[_spec(None, 3, name="x")])
    _save(
        root,
        directory,
        serving_default=function,
        square=_function(tf.square).get_concrete_function(_spec(None, name="x")),
    )


def ragged(directory: str) -> None:
    """Rows of ids to the sums of their embeddings; the method `scaled` is ragged in and out."""
    embedding, scale = _variable("embedding", [5, 3]), _variable("scale", [])
    function = _function(
        lambda ids: tf.reduce_sum(tf.gather(embedding, ids), 1),
        input_signature=[tf.RaggedTensorSpec([None, None], "int64")],
    )
    scaled = _function(lambda x: x * scale, input_signature=[tf.RaggedTensorSpec([None, None], "float32")])
    _save(_reusable(function, [embedding, scale], scaled=scaled), directory)


def sparse(directory: str) -> None:
    """A sparse matrix times weights; the method `scaled` is sparse in and out."""
    w, scale = _variable("w", [3, 2]), _variable("scale", [])
    spec = tf.SparseTensorSpec([None, 3], "float32")
    function = _function(lambda x: tf.sparse.sparse_dense_matmul(x, w), input_signature=[spec])
    scaled = _function(lambda x: x.with_values(x.values * scale), input_signature=[spec])
    _save(_reusable(function, [w, scale], scaled=scaled), directory)


def keras3(directory: str) -> None:
    """What ``export()`` of a Keras 3 model writes."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((4,), name="x"),
            keras.layers.Dense(5, "tanh", name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.layers.Dense(2, name="out"),
        ]
    )
    for variable in model.variables:
        if variable.dtype == "float32":
            variable.assign(weights(variable.path, variable.shape))
    model.export(directory, verbose=False)


def dtypes(directory: str) -> None:
    """Gives each of its inputs back, one of each dtype; "any_rank" does so for any rank, "numbers" adds one."""
    specs = {dtype: _spec(None, dtype=dtype, name=dtype) for dtype in DTYPES}
    identity = _function(lambda **inputs: {key: tf.identity(value) for key, value in inputs.items()})
    plus_one = _function(lambda **inputs: {key: value + tf.ones([], value.dtype) for key, value in inputs.items()})
    numbers = {dtype: spec for dtype, spec in specs.items() if dtype not in ("bool", "string")}
    _save(
        tf.train.Checkpoint(),
        directory,
        serving_default=identity.get_concrete_function(**specs),
        any_rank=identity.get_concrete_function(**{dtype: tf.TensorSpec(None, dtype, dtype) for dtype in DTYPES}),
        numbers=plus_one.get_concrete_function(**numbers),
    )


def constants(directory: str) -> None:
    """Weights of 1.2 MB as a constant in the graph, no variables."""
    kernel = tf.constant(weights("kernel", [600, 500]))
    function = _function(lambda x: tf.tanh(x @ kernel), input_signature=[_spec(None, 600, name="x")])
    _save(_reusable(function, []), directory, serving_default=function)


def control_flow(directory: str) -> None:
    """``tanh(x @ w)`` `steps` times, then ``x * a`` or ``x - a`` by the sign of the sum."""
    w, a = _variable("w", [3, 3]), _variable("a", [3])

    def call(x: Any, steps: Any) -> Any:
        y = tf.while_loop(lambda i, _: i < steps, lambda i, y: (i + 1, tf.tanh(y @ w)), (0, x))[1]
        return tf.cond(tf.reduce_sum(y) > 0, lambda: y * a, lambda: y - a)

    function = _function(call, input_signature=[_spec(None, 3, name="x"), _spec(dtype="int32", name="steps")])
    _save(_reusable(function, [w, a]), directory, serving_default=function)


def two_signatures(directory: str) -> None:
    """ "colour" and "animal" reach a table, a file and a variable of their own each; "scaled" one variable only."""
    with (
        _word_file(directory, "colours", ("red", "green")) as colours,
        _word_file(directory, "animals", ("dog", "fox", "cat")) as animals,
    ):
        root = tf.train.Checkpoint(
            colours=_table(colours, 2), animals=_table(animals, 3), colour=_variable("colour", [3, 2]),
            animal=_variable("animal", [4, 2]), scale=_variable("scale", []), unused=_variable("unused", [100, 10]),
        )  # fmt: skip

        def embed(name: str, table: Any, variable: Any) -> Any:
            def call(words: Any) -> Any:
                return {name: tf.gather(variable, table.lookup(words))}

            return _function(call, input_signature=[_spec(None, dtype="string", name="words")])

        _save(
            root,
            directory,
            colour=embed("colour", root.colours, root.colour),
            animal=embed("animal", root.animals, root.animal),
            scaled=_function(lambda x: {"y": x * root.scale}, input_signature=[_spec(None, name="x")]),
        )


def stateful(directory: str) -> None:
    """Adds to its input how often it was called; `reset` begins anew."""
    counter = tf.Variable(0.0, trainable=False, name="counter")
    function = _function(lambda x: x + counter.assign_add(1.0), input_signature=[_spec(None, name="x")])
    reset = _function(lambda: counter.assign(0.0), input_signature=[])
    _save(_reusable(function, [counter], reset=reset), directory, serving_default=function)


MODULES: dict[str, Callable[[str], None]] = {
    build.__name__: build
    for build in (
        text_embedding,
        image_feature_vector,
        multi,
        with_arguments,
        plain,
        ragged,
        sparse,
        keras3,
        dtypes,
        constants,
        control_flow,
        two_signatures,
        stateful,
    )
}
