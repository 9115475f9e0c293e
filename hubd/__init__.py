"""hubd: one daemon per machine that owns one shared cache of TensorFlow Hub modules."""

__version__ = "0.1.0"
