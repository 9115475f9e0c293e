"""Get and load TensorFlow Hub modules through hubd."""

__version__ = "0.1.0"
