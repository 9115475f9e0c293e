"""Signatures as people read them.

Law: a signature looks the same wherever hubctl shows one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hubclient.cli.wording import printable
from hubclient.contract.saved_model import Signature, TensorSpec

# What TensorFlow adds for itself: to restore variables, for instance.
_INTERNAL_PREFIX = "__saved_model_"


def public(signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """Those that the module's publisher made, by name."""
    return {name: signatures[name] for name in sorted(signatures) if not name.startswith(_INTERNAL_PREFIX)}


def tensors(signature: Signature) -> Iterator[str]:
    """A line for each input and output: `input   x: float32 (?, 3)`."""
    for word, specs in (("input ", signature.inputs), ("output", signature.outputs)):
        for name, spec in sorted(specs.items()):
            yield f"{word}  {printable(name)}: {tensor(spec)}"


def tensor(spec: TensorSpec) -> str:
    """`float32 (?, 3)`, `sparse int64 of any shape`."""
    shape = "of any shape" if spec.shape is None else f"({', '.join('?' if n is None else str(n) for n in spec.shape)})"
    return f"{'' if spec.encoding == 'dense' else spec.encoding + ' '}{spec.dtype} {shape}"
