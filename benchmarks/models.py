"""The models of the rows about predictions; a program of its own, because it imports TensorFlow.

    models.py NAME DIRECTORY

Law: weights and statistics are random, from a fixed seed: an untrained network answers the same for every input, and
then equal answers would prove nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

_SEED = 20
SEQUENCE = 128
_BERT_BASE = {"vocabulary": 30_522, "layers": 12, "width": 768, "heads": 12}


def tiny() -> Any:
    import keras

    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, keras.layers.Dense(3)(inputs))


def mobilenet_v2() -> Any:
    import keras
    import numpy as np

    model = keras.applications.MobileNetV2(weights=None)
    random = np.random.default_rng(_SEED)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            shape = gamma.shape
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, shape),
                    random.normal(0, 0.3, beta.shape),
                    random.normal(0, 0.3, mean.shape),
                    random.uniform(0.5, 2, variance.shape),
                ]
            )
    return model


def bert_base() -> Any:
    """An encoder with the sizes of BERT-base (Devlin et al. 2018): 110 million weights."""
    import keras
    from keras import layers

    width, heads = _BERT_BASE["width"], _BERT_BASE["heads"]
    ids = keras.Input((SEQUENCE,), dtype="int32", name="ids")
    x = layers.Embedding(_BERT_BASE["vocabulary"], width)(ids)
    x = layers.LayerNormalization()(x)
    for _ in range(_BERT_BASE["layers"]):
        attended = layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        grown = layers.Dense(4 * width, activation="gelu")(x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(width)(grown)]))
    first = layers.Lambda(lambda states: states[:, 0], output_shape=(width,))(x)
    return keras.Model(ids, layers.Dense(width, activation="tanh")(first))


MODELS: dict[str, Callable[[], Any]] = {"tiny": tiny, "mobilenet_v2": mobilenet_v2, "bert_base": bert_base}


def main(name: str, directory: str) -> None:
    import keras

    keras.utils.set_random_seed(_SEED)
    partial = directory + ".part"
    MODELS[name]().export(partial, verbose=False)
    os.rename(partial, directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
