"""Writing a module in the form of TensorFlow 1.

Law: the graphs are what was read or built, byte for byte, and the weights are a session's; nothing is added to the
session's graph, which may be finalized.

Source of the form: tensorflow_hub up to 0.15; ``tfhub_module.pb`` says that its number is 3.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from hubclient.atomic import absolute, new_directory
from hubclient.instances.instance import DEFAULT
from hubclient.instances.meta_graph import read_meta_graph, read_meta_graphs
from hubclient.instances.tf1_collections import SERVING_DEFAULT
from hubclient.instances.tf1_variables import variable_specs
from hubclient.model_errors import Closed, ExportInvalid, InputInvalid, ModuleBroken, RunFailed
from hubclient.opening import OpenModule

_FORMAT_3 = b"\x08\x03"


class Value(NamedTuple):
    """What goes into a checkpoint."""

    key: str
    slice: str  #: which part of the tensor, as SaveV2 wants to be told; "" for all
    array: Any


def values_in(session: Any, graph: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables' present values, by the same names.

    Raises `InputInvalid` for what is no session of this graph or has not initialised it, `Closed`, `RunFailed`.
    """
    import tensorflow as tf

    if not hasattr(session, "graph") or not callable(getattr(session, "run", None)):
        raise InputInvalid(f"export() needs a tf.compat.v1.Session, not a {type(session).__name__}")
    if session.graph is None:
        raise Closed("export() needs a session that is open")
    if session.graph is not graph:
        raise InputInvalid("export() needs a session of the graph that the module is in, and this one is of another")
    try:
        return dict(session.run(dict(variables)))
    except tf.errors.FailedPreconditionError as error:
        raise InputInvalid(
            "export() needs a session in which the module's variables have values: "
            "run tf.compat.v1.global_variables_initializer() first"
        ) from error
    except tf.errors.OpError as error:
        raise RunFailed(f"the session failed to give the module's variables: {error.message}") from error
    except (RuntimeError, ValueError, AttributeError) as error:  # of a monitored session that is closed: any of these
        raise Closed(f"export() needs a session that is open: {error}") from error


@contextmanager
def new_module(path: str) -> Iterator[str]:
    """A directory to fill with what `write_graphs`, `write_weights` and the assets are, which becomes the module.

    Raises `PathExists`, `DiskFull`, `AccessDenied`, `ExportInvalid`.
    """
    import tensorflow as tf

    with new_directory(absolute(path)) as staged:
        try:
            os.mkdir(os.path.join(staged, "assets"))
            yield staged
            with open(os.path.join(staged, "tfhub_module.pb"), "wb") as file:
                file.write(_FORMAT_3)
        except tf.errors.OpError as error:
            if os.strerror(errno.ENOSPC).lower() in error.message.lower():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from error
            raise ExportInvalid(f"TensorFlow cannot write the module: {error.message}") from error


def write_graphs(directory: str, meta_graphs: Iterable[Any]) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=meta_graphs)
    with open(os.path.join(directory, "saved_model.pb"), "wb") as file:
        file.write(saved_model.SerializeToString(deterministic=True))


def write_weights(directory: str, values: Iterable[Value]) -> None:
    """The checkpoint; none for a module without variables."""
    import tensorflow as tf

    values = list(values)
    if not values:
        return
    v1 = tf.compat.v1
    prefix = os.path.join(directory, "variables", "variables")
    os.mkdir(os.path.dirname(prefix))
    with tf.Graph().as_default(), tf.device("/device:CPU:0"):
        inputs = [v1.placeholder(value.array.dtype) for value in values]
        save = tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=[value.key for value in values],
            shape_and_slices=[value.slice for value in values],
            tensors=inputs,
        )
        with v1.Session(config=v1.ConfigProto(device_count={"GPU": 0})) as session:
            session.run(save, {tensor: value.array for tensor, value in zip(inputs, values, strict=True)})


def write_again(module: OpenModule, path: str, arrays: Mapping[str, Any]) -> None:
    """The module that was opened, with all its variants, and these values of the opened variant's variables.

    Variables that only other variants have keep the values of the module's checkpoint. Of a SavedModel that is no
    module in this form, the opened graph becomes the only variant.
    """
    meta_graphs = read_meta_graphs(module) if module.is_tf1 else [_as_module(read_meta_graph(module))]
    values: dict[tuple[str, str], Value] = {}
    others: dict[str, Value] = {}
    for meta_graph in meta_graphs:
        is_opened = len(meta_graphs) == 1 or tuple(sorted(meta_graph.meta_info_def.tags)) == (module.tags or ())
        for spec in variable_specs(meta_graph):
            if is_opened and spec.name in arrays:
                values[spec.key, spec.slice] = Value(spec.key, spec.slice, arrays[spec.name])
            elif spec.must_be_saved:
                others[spec.key] = Value(spec.key, "", None)
    written = {key for key, _ in values}
    weights = [*values.values(), *_kept(module.path, [other for key, other in others.items() if key not in written])]
    with new_module(path) as staged:
        write_graphs(staged, meta_graphs)
        write_weights(staged, weights)
        assets = os.path.join(module.path, "assets")
        if os.path.isdir(assets):
            shutil.copytree(assets, os.path.join(staged, "assets"), copy_function=shutil.copyfile, dirs_exist_ok=True)


def _kept(source: str, wanted: list[Value]) -> list[Value]:
    import tensorflow as tf

    if not wanted:
        return []
    prefix = os.path.join(source, "variables", "variables")
    try:
        reader = tf.train.load_checkpoint(prefix)
        return [value._replace(array=reader.get_tensor(value.key)) for value in wanted]
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ModuleBroken(f"the checkpoint {prefix} cannot be read: {error}") from error


def _as_module(meta_graph: Any) -> Any:
    """A SavedModel's graph as the variant without tags, with a signature "default"."""
    del meta_graph.meta_info_def.tags[:]
    signatures = meta_graph.signature_def
    if DEFAULT not in signatures and SERVING_DEFAULT in signatures:
        signatures[DEFAULT].CopyFrom(signatures[SERVING_DEFAULT])
        outputs = signatures[DEFAULT].outputs
        if DEFAULT not in outputs and len(outputs) == 1:
            (name,) = outputs
            outputs[DEFAULT].CopyFrom(outputs[name])
            del outputs[name]
    return meta_graph
