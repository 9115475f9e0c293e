"""Exports a small real SavedModel: y = x / 2 + 2, with a serving_default signature. Usage: export_model.py DIRECTORY"""

from __future__ import annotations

import sys

import tensorflow as tf


class HalfPlusTwo(tf.Module):  # type: ignore[misc]  # TensorFlow's classes have no types
    def __init__(self) -> None:
        self.half = tf.Variable(0.5)
        self.two = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.half * x + self.two}


if __name__ == "__main__":
    model = HalfPlusTwo()
    tf.saved_model.save(model, sys.argv[1], signatures={"serving_default": model.predict})
