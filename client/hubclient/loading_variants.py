"""The whole object of one variant of a TensorFlow 2 module that has several.

``tf.saved_model.load`` gives such a module's signatures only: for more than one graph it takes the way of TensorFlow 1.
So it is shown a SavedModel of the one graph, and the state is restored here (see `exports.variants` for the layout).

Law: the module's own directory is only read, and nothing that the loaded object needs lies anywhere else.
"""

from __future__ import annotations

import copy
import os
import tempfile
from typing import Any

from hubclient.exports.variants import RESOURCES
from hubclient.model_errors import ModuleUnsupported
from hubclient.opening import OpenModule


def load_variant(tensorflow: Any, module: OpenModule, options: Any) -> Any:
    """The chosen variant; None for a module that is no such one, which TensorFlow loads by itself.

    Raises `ModuleUnsupported` in graph mode, and whatever TensorFlow raises.
    """
    if module.is_tf1 or len(module.graphs) < 2:
        return None
    saved = _saved_model_of(module)
    if saved is None:
        return None
    with tensorflow.init_scope():
        if not tensorflow.executing_eagerly():
            raise ModuleUnsupported("a module with several variants of TensorFlow 2 is loaded in eager mode only")
        skip = copy.copy(options) if options is not None else tensorflow.saved_model.LoadOptions()
        is_restored = not skip.experimental_skip_checkpoint
        skip.experimental_skip_checkpoint = True
        with tempfile.TemporaryDirectory(prefix="hubclient-") as view:
            with open(os.path.join(view, "saved_model.pb"), "wb") as file:
                file.write(saved)
            loaded = tensorflow.saved_model.load(view, tags=module.tags, options=skip)
        if is_restored:
            _restore(tensorflow, loaded, module.path, skip)
    return loaded


def _saved_model_of(module: OpenModule) -> bytes | None:
    """A SavedModel of the chosen graph alone; None if there is no object in it whose state could be found."""
    from tensorflow.core.protobuf import saved_model_pb2

    with open(os.path.join(module.path, "saved_model.pb"), "rb") as file:
        saved: Any = saved_model_pb2.SavedModel.FromString(file.read())
    (graph,) = (graph for graph in saved.meta_graphs if tuple(sorted(graph.meta_info_def.tags)) == module.tags)
    nodes = graph.object_graph_def.nodes
    if not nodes or not {"variables", RESOURCES} <= {child.local_name for child in nodes[0].children}:
        return None
    for asset in graph.asset_file_def:
        # TensorFlow joins it to the view's directory, where an absolute path stays what it is.
        asset.filename = os.path.join(module.path, "assets", asset.filename)
    alone: Any = saved_model_pb2.SavedModel(saved_model_schema_version=saved.saved_model_schema_version)
    alone.meta_graphs.add().CopyFrom(graph)
    return bytes(alone.SerializeToString())


def _restore(tensorflow: Any, loaded: Any, path: str, options: Any) -> None:
    state = {"variables": loaded.variables, RESOURCES: getattr(loaded, RESOURCES)}
    reading = tensorflow.train.CheckpointOptions(experimental_io_device=options.experimental_io_device)
    status = tensorflow.train.Checkpoint(**state).read(os.path.join(path, "variables", "variables"), options=reading)
    if options.allow_partial_checkpoint:
        status.expect_partial()
    else:
        status.assert_existing_objects_matched()
