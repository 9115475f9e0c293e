"""What a saved_model.pb says beside its graph: signatures, saver, initial operations, variables and assets.

Law: reading ends with one whole variant, or with an error that says what is wrong with the file.

Sources: TensorFlow's saved_model.proto, meta_graph.proto, saver.proto, variable.proto.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from hubclient.capi.wire import Span, broken, fields, last_text, map_entry, messages, numbers, text, texts
from hubclient.contract import saved_model
from hubclient.contract.errors import NotAModule
from hubclient.contract.saved_model import SavedModelError, Signature
from hubclient.model_errors import ModuleBroken, ModuleUnsupported, VariantNotFound

INIT_OP, TRAIN_OP = "__saved_model_init_op", "__saved_model_train_op"

# Protocol Buffers' own limit for a message, and so TensorFlow's for this file.
_MAX_BYTES = 2**31 - 1
# The collections that hold VariableDefs (tf.compat.v1.GraphKeys); of the first ones, the checkpoint has the values.
_RESTORED = "variables"
_VARIABLES = (
    _RESTORED,
    "local_variables",
    "model_variables",
    "trainable_variables",
    "moving_average_variables",
    "metric_variables",
    "global_step",
)


class Variable(NamedTuple):
    """A VariableDef."""

    node: str
    initializer: str  #: the operation that gives it its first value
    key: str  #: in the checkpoint
    slice_spec: str  #: the part of that tensor, as RestoreV2 takes it; "" for all of it
    is_restored: bool  #: TensorFlow 1's Saver saves it unless told otherwise


class MetaGraph(NamedTuple):
    data: bytes
    graph: Span
    signatures: dict[str, Signature]  #: without the two that only name an operation
    restore_op: str  #: "" without a saver
    save_tensor: str  #: as `restore_op`
    init_op: str  #: "" if there is none
    table_initializers: list[str]
    variables: dict[str, Variable]  #: by node
    assets: dict[str, str]  #: tensor name -> the name of a file below assets/


def read(path: str, tags: tuple[str, ...]) -> MetaGraph:
    """The variant with exactly these tags of the module at `path`.

    Raises `NotAModule`, `ModuleBroken`, `ModuleUnsupported`, `VariantNotFound`.
    """
    data, variants = _read_file(os.path.join(path, "saved_model.pb"))
    wanted = tuple(sorted(set(tags)))
    places = list(messages(data, (0, len(data)), 2))
    if len(places) != len(variants):
        raise ModuleBroken(f"{path}/saved_model.pb changed while it was read")
    for variant, place in zip(variants, places, strict=True):
        if tuple(sorted(set(variant.tags))) == wanted:
            return _meta_graph(data, place, variant.signatures)
    named = ", ".join(str(list(variant.tags)) for variant in variants)
    raise VariantNotFound(f"the module has no variant with the tags {list(wanted)}; it has {named}")


def _read_file(file: str) -> tuple[bytes, list[saved_model.MetaGraph]]:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.exists(file + "txt"):
            raise ModuleUnsupported(f"{file}txt is in text form, which only TensorFlow itself reads") from None
        raise NotAModule(f"there is no {file}") from None
    except OSError as error:
        raise ModuleBroken(f"cannot read {file}: {error.strerror}") from error
    try:
        with open(fd, "rb", buffering=0) as opened:
            if os.fstat(fd).st_size > _MAX_BYTES:
                raise ModuleBroken(f"{file} is larger than the {_MAX_BYTES} bytes that TensorFlow reads")
            return opened.readall(), saved_model.read_fd(fd)
    except SavedModelError as error:
        raise ModuleBroken(f"{file} cannot be read: {error}") from error
    except OSError as error:
        raise ModuleBroken(f"cannot read {file}: {error.strerror}") from error


def _meta_graph(data: bytes, place: Span, signatures: dict[str, Signature]) -> MetaGraph:
    graphs: list[Span] = []
    restore_op = save_tensor = ""
    init_ops = [signatures[INIT_OP].outputs[INIT_OP].name] if _names_init_op(signatures) else []
    collections: dict[str, Span] = {}
    assets: list[Span] = []
    for number, start, end in fields(data, *place):
        if start < 0:
            continue
        if number == 2:
            graphs.append((start, end))
        elif number == 3:
            save_tensor, restore_op = (last_text(data, (start, end), field) for field in (2, 3))
        elif number == 4:
            key, value = map_entry(data, start, end)
            collections[text(key, 0, len(key))] = value
        elif number == 6:
            assets.append((start, end))
    if len(graphs) != 1:
        raise broken(place[0], f"a variant with {len(graphs)} graphs instead of one")
    for collection in ("saved_model_main_op", "legacy_init_op"):
        init_ops = init_ops or _nodes(data, collections.get(collection))
    if len(init_ops) > 1:
        raise broken(place[0], f"a variant with {len(init_ops)} initial operations instead of one")
    assets += _any_values(data, collections.get("saved_model_assets"))
    return MetaGraph(
        data,
        graphs[0],
        {name: signature for name, signature in signatures.items() if name not in (INIT_OP, TRAIN_OP)},
        restore_op,
        save_tensor,
        init_ops[0] if init_ops else "",
        _nodes(data, collections.get("table_initializer")),
        _variables(data, collections),
        {_tensor_name(data, asset): last_text(data, asset, 2) for asset in assets},
    )


def _names_init_op(signatures: dict[str, Signature]) -> bool:
    return INIT_OP in signatures and INIT_OP in signatures[INIT_OP].outputs


def _nodes(data: bytes, collection: Span | None) -> list[str]:
    """The names in a collection of nodes."""
    return [name for place in messages(data, collection or (0, 0), 1) for name in texts(data, place, 1)]


def _any_values(data: bytes, collection: Span | None) -> list[Span]:
    """The places of the messages that a collection of `Any` holds."""
    packed = (value for place in messages(data, collection or (0, 0), 5) for value in messages(data, place, 1))
    return [message for value in packed for message in messages(data, value, 2)]


def _tensor_name(data: bytes, asset: Span) -> str:
    """The tensor of an AssetFileDef."""
    names = [last_text(data, info, 1) for info in messages(data, asset, 1)]
    return names[-1] if names else ""


def _variables(data: bytes, collections: dict[str, Span]) -> dict[str, Variable]:
    variables: dict[str, Variable] = {}
    for collection in _VARIABLES:
        for values in messages(data, collections.get(collection, (0, 0)), 2):
            for place in messages(data, values, 1):
                variable = _variable(data, place, collection == _RESTORED)
                variables.setdefault(variable.node, variable)
    return variables


def _variable(data: bytes, place: Span, is_restored: bool) -> Variable:
    node = last_text(data, place, 1).partition(":")[0]
    key, slice_spec = node, ""
    for part in messages(data, place, 4):
        key = last_text(data, part, 1)
        shape, offsets, sizes = (numbers(data, part, number) for number in (2, 3, 4))
        if not len(shape) == len(offsets) == len(sizes):
            raise broken(part[0], f"a part of the variable {key!r} whose place has no clear dimensions")
        # tensorflow/core/util/saved_tensor_slice_util.h: "7 4 3,2:0,4" is rows 3 and 4 of a tensor of shape [7, 4]
        extents = ":".join(f"{offset},{size}" for offset, size in zip(offsets, sizes, strict=True))
        slice_spec = " ".join((*map(str, shape), extents))
    initializer = last_text(data, place, 2).partition(":")[0]
    return Variable(node, initializer, key, slice_spec, is_restored)
