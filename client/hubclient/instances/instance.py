"""What all instances of modules have in common, whatever format and world they are of.

Law: an instance is built once, applied any number of times, and every application uses the same variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

#: What a call without a signature applies.
DEFAULT = "default"


class SignatureInfo(NamedTuple):
    """Inputs and outputs by name, each a ``tf.TypeSpec`` (dense, sparse or ragged)."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


class TensorInfo(NamedTuple):
    """An input or output for callers who used tensorflow_hub: they ask for ``get_shape()`` and ``is_sparse``."""

    spec: Any  #: ``tf.TensorSpec``, ``tf.SparseTensorSpec`` or ``tf.RaggedTensorSpec``

    @property
    def dtype(self) -> Any:
        return self.spec.dtype

    @property
    def shape(self) -> Any:
        return self.spec.shape

    def get_shape(self) -> Any:
        return self.spec.shape

    @property
    def is_sparse(self) -> bool:
        return type(self.spec).__name__ == "SparseTensorSpec"


class Instance(Protocol):
    """A module with its variables, in this process's eager world or in one v1 graph."""

    @property
    def signatures(self) -> Mapping[str, SignatureInfo]:
        """All that can be applied with inputs by name."""

    @property
    def call(self) -> Callable[..., Any] | None:
        """``call(inputs, training=None)``: the object's own ``__call__``, which checks its inputs by itself.

        It is what a call without a signature applies; None where the module has none, and signatures are all.
        """

    def apply(self, signature: str, inputs: Mapping[str, Any], training: bool | None) -> dict[str, Any]:
        """All outputs of one signature by name, for inputs that match its `SignatureInfo`.

        `training` decides, in the eager world, whether the module's updates (moving averages) run with the call;
        None: they do when the instance is trainable. In a graph they are in ``update_ops`` and the caller runs them.
        """

    @property
    def variables(self) -> list[Any]:
        """All variables, in a stable order."""

    @property
    def variable_map(self) -> dict[str, Any]:
        """The same by the names that they have in the module; a partitioned one is a list of its parts."""

    @property
    def trainable_variables(self) -> list[Any]:
        """Those that the publisher made trainable; none unless the instance is trainable."""

    @property
    def regularization_losses(self) -> list[Any]:
        """Of a trainable instance: scalar tensors in a graph, functions without arguments in the eager world."""

    @property
    def update_ops(self) -> list[Any]:
        """Of a trainable instance in a graph: the operations that the calls made so far want to be run in each step."""

    def attached_message(self, key: str) -> bytes | None:
        """What the publisher attached under `key`, serialized; None if there is nothing."""

    def export(self, path: str, session: Any) -> None:
        """Write the module with its present weights to a directory that does not exist yet."""
