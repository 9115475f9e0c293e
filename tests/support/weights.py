"""Weights of the modules that the tests make: the same in every process, and nothing like what an initializer gives."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy


def weights(name: str, shape: Sequence[int]) -> Any:
    """float32 values of the variable with this name; positive where the name ends in "variance"."""
    random = numpy.random.default_rng(zlib.crc32(name.encode()))
    values = random.normal(size=tuple(shape)).astype("float32")
    return numpy.abs(values) + numpy.float32(0.5) if name.endswith("variance") else values
