"""One SavedModel of several: graphs with tags of their own over one checkpoint, as modules of TensorFlow 1 had them.

Law: the checkpoint is the first variant's. Each variant reaches its state by the lists ``variables`` and `RESOURCES`
alone, which are the same in all of them, so that keys and object graph of that checkpoint fit every one.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from typing import Any

#: The attribute of a module that lists its tables and assets.
RESOURCES = "_resources"

# tensorflow/cc/saved_model/constants.h: kSavedModelInitOpSignatureKey, kSavedModelMainOpKey
_INITIALIZER_SIGNATURE = "__saved_model_init_op"
_INITIALIZER_COLLECTION = "saved_model_main_op"


def join(directory: str, tags: list[tuple[str, ...]]) -> None:
    """Put the graphs of ``variant-<n>`` into the SavedModel in the directory, and name each by its tags."""
    from tensorflow.core.protobuf import saved_model_pb2

    joined: Any = saved_model_pb2.SavedModel()
    for number, named in enumerate(tags):
        source = directory if number == 0 else os.path.join(directory, f"variant-{number}")
        with open(os.path.join(source, "saved_model.pb"), "rb") as file:
            saved: Any = saved_model_pb2.SavedModel.FromString(file.read())
        graph = saved.meta_graphs[0]
        graph.meta_info_def.ClearField("tags")
        graph.meta_info_def.tags.extend(named)
        joined.saved_model_schema_version = saved.saved_model_schema_version
        if len(tags) > 1:
            _leave_initializer_to_collection(graph)
        if number > 0:
            _take_assets(graph, source, directory)
            shutil.rmtree(source)
        joined.meta_graphs.add().CopyFrom(graph)
    with open(os.path.join(directory, "saved_model.pb"), "wb") as file:
        file.write(joined.SerializeToString(deterministic=True))
    # It is the fingerprint of the file that was replaced.
    fingerprint = os.path.join(directory, "fingerprint.pb")
    if os.path.exists(fingerprint):
        os.unlink(fingerprint)


def _leave_initializer_to_collection(graph: Any) -> None:
    """Let what fills the tables be named by its collection alone, as in TensorFlow 1, and not as a signature too.

    Of one graph among several `tf.saved_model.load` takes each signature apart, and fails at this one if it reads
    assets, whose paths are no inputs of it.
    """
    if graph.collection_def[_INITIALIZER_COLLECTION].node_list.value:
        graph.signature_def.pop(_INITIALIZER_SIGNATURE, None)


def _take_assets(graph: Any, source: str, directory: str) -> None:
    """Move a variant's assets to those of the first: equal files become one, others get a name that is free."""
    for asset in graph.asset_file_def:
        old = os.path.join(source, "assets", asset.filename)
        stem, suffix = os.path.splitext(asset.filename)
        number = 0
        while os.path.exists(new := os.path.join(directory, "assets", name := _numbered(stem, number, suffix))):
            if filecmp.cmp(old, new, shallow=False):
                break
            number += 1
        else:
            os.makedirs(os.path.dirname(new), exist_ok=True)
            shutil.copyfile(old, new)
        asset.filename = name


def _numbered(stem: str, number: int, suffix: str) -> str:
    return f"{stem}_{number}{suffix}" if number else f"{stem}{suffix}"
