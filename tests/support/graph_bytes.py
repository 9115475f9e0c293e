"""A saved_model.pb by hand, field by field, so that plans are tested without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.archives import field, tensor_info

FLOAT, STRING = 1, 7
ASSET_TYPE = "type.googleapis.com/tensorflow.AssetFileDef"


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    """A ``NodeDef``; attributes are ``AttrValue``s."""
    head = field(1, name) + field(2, op) + b"".join(field(3, each) for each in inputs)
    return head + b"".join(field(5, field(1, key) + field(2, value)) for key, value in attributes.items())


def string(value: str | bytes) -> bytes:
    return field(2, value)


def dtype(number: int = FLOAT) -> bytes:
    return field(6, number)


def shape(*sizes: int) -> bytes:
    return field(7, b"".join(field(2, field(1, size)) for size in sizes))


def function(name: str, attributes: Mapping[str, bytes] | None = None) -> bytes:
    """The ``AttrValue`` that names a function."""
    of_it = b"".join(field(2, field(1, key) + field(2, value)) for key, value in (attributes or {}).items())
    return field(10, field(1, name) + of_it)


def functions(*names: str) -> bytes:
    return field(1, b"".join(field(9, field(1, name)) for name in names))


def beside(*names: str) -> bytes:
    """The attribute `_class`."""
    return field(1, b"".join(field(2, f"loc:@{name}") for name in names))


def strings(*values: str) -> bytes:
    """The attribute `value` of a constant of strings."""
    return field(8, field(1, STRING) + b"".join(field(8, value) for value in values))


def variable(name: str, *, shared: str | None = None, sizes: Sequence[int] = (2,)) -> bytes:
    return node(name, "VarHandleOp", dtype=dtype(), shape=shape(*sizes), shared_name=string(shared or name))


def restore(name: str, keys: Sequence[str], slices: Sequence[str] = ("",), prefix: str = "prefix") -> list[bytes]:
    """RestoreV2 and its two constants."""
    types = field(1, field(6, bytes([FLOAT] * len(keys))))
    return [
        node(f"{name}/names", "Const", dtype=dtype(STRING), value=strings(*keys)),
        node(f"{name}/slices", "Const", dtype=dtype(STRING), value=strings(*slices)),
        node(name, "RestoreV2", prefix, f"{name}/names", f"{name}/slices", dtypes=types),
    ]


def define(name: str, nodes: Sequence[bytes], arguments: Sequence[str] = ()) -> bytes:
    """A ``FunctionDef``."""
    signature = field(1, name) + b"".join(field(2, field(1, argument)) for argument in arguments)
    return field(1, signature) + b"".join(field(3, each) for each in nodes)


def graph(nodes: Sequence[bytes], library: Sequence[bytes] = (), gradients: Mapping[str, str] | None = None) -> bytes:
    """A ``GraphDef``."""
    links = (field(2, field(1, name) + field(2, of)) for name, of in (gradients or {}).items())
    inside = b"".join(field(1, each) for each in library) + b"".join(links)
    return b"".join(field(1, each) for each in nodes) + field(4, field(1, 1234)) + field(2, inside)


def nodes_of(*names: str) -> bytes:
    """A collection of nodes."""
    return field(1, b"".join(field(1, name) for name in names))


def variables_of(*definitions: bytes) -> bytes:
    """A collection of ``VariableDef``s."""
    return field(2, b"".join(field(1, each) for each in definitions))


def variable_def(name: str, part: bytes = b"") -> bytes:
    return field(1, f"{name}:0") + field(2, f"{name}/Assign") + (field(4, part) if part else b"")


def assets_of(files: Mapping[str, str]) -> bytes:
    """The collection of TensorFlow 1's assets: tensor to file name."""
    return field(5, b"".join(field(1, field(1, ASSET_TYPE) + field(2, asset(*each))) for each in files.items()))


def asset(tensor: str, file: str) -> bytes:
    """An ``AssetFileDef``."""
    return field(1, field(1, tensor)) + field(2, file)


def saved_model(
    graph_def: bytes,
    signatures: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    *,
    restore_op: str = "",
    collections: Mapping[str, bytes] | None = None,
    assets: Mapping[str, str] | None = None,
) -> bytes:
    """One variant with the tag "serve"; signatures are the names of input and output tensors."""
    parts = [field(1, field(4, "serve")), field(2, graph_def)]
    if restore_op:
        parts.append(field(3, field(1, "prefix:0") + field(3, restore_op)))
    parts += [field(4, field(1, key) + field(2, value)) for key, value in (collections or {}).items()]
    for name, sides in signatures.items():
        tensors = b"".join(
            field(side, field(1, tensor) + field(2, tensor_info(tensor, FLOAT, -1)))
            for side, tensors in enumerate(sides, 1)
            for tensor in tensors
        )
        parts.append(field(5, field(1, name) + field(2, tensors)))
    parts += [field(6, asset(*each)) for each in (assets or {}).items()]
    return field(2, b"".join(parts))
