"""The session's ConfigProto (tensorflow/core/protobuf/config.proto), written without protobuf.

Law: what is not asked for is not written, so that TensorFlow's own defaults hold. One differs: an operation that was
placed on a device that this machine lacks runs on another, as in ``tf.saved_model.load``.
"""

from __future__ import annotations

from hubclient.capi.wire import encode

_UINT64 = (1 << 64) - 1

# the fields' numbers, by message
_DEVICE_COUNT, _INTRA_OP, _INTER_OP, _GPU_OPTIONS, _SOFT_PLACEMENT, _GRAPH_OPTIONS = 1, 2, 5, 6, 7, 10
_ALLOW_GROWTH = 4  # GPUOptions
_REWRITE_OPTIONS = 10  # GraphOptions
_DISABLE_META_OPTIMIZER = 19  # RewriterConfig
_KEY, _VALUE = 1, 2  # of a map's entry


def config(
    *,
    intra_op_threads: int = 0,
    inter_op_threads: int = 0,
    grappler: bool = True,
    gpu: bool = True,
    gpu_memory_growth: bool = True,
) -> bytes:
    """A ConfigProto. 0 threads are TensorFlow's default; -1 for `inter_op_threads` is the caller's thread."""
    parts = _number(_SOFT_PLACEMENT, 1)
    if not gpu:
        parts += encode(_DEVICE_COUNT, encode(_KEY, b"GPU") + _number(_VALUE, 0))
    if intra_op_threads:
        parts += _number(_INTRA_OP, intra_op_threads)
    if inter_op_threads:
        parts += _number(_INTER_OP, inter_op_threads)
    if gpu_memory_growth:
        parts += encode(_GPU_OPTIONS, _number(_ALLOW_GROWTH, 1))
    if not grappler:
        parts += encode(_GRAPH_OPTIONS, encode(_REWRITE_OPTIONS, _number(_DISABLE_META_OPTIMIZER, 1)))
    return parts


def _number(field: int, value: int) -> bytes:
    """A varint field; a negative number is written in two's complement."""
    return encode(field, value & _UINT64)
