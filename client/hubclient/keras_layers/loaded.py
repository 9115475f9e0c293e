"""From the handle of a `KerasLayer` to an instance of its module, or of the object that it is.

Law: a module is leased as long as what was made of it lives.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from hubclient.instances.instance import Instance
from hubclient.instances.meta_graph import read_meta_graph
from hubclient.instances.reusable import Reusable
from hubclient.keras_layers.settings import LayerSettings
from hubclient.loading import load_object
from hubclient.model_errors import InputInvalid, ModuleUnsupported
from hubclient.opening import open_module


class Loaded(NamedTuple):
    object: Any  #: what the handle resolved to
    instance: Instance
    trackables: list[Any]  #: what a layer must have as attributes to be saved with the module's tables
    is_tf1: bool  #: in the TF1 format, where "default" is what a call means


def load_handle(handle: Any, settings: LayerSettings) -> Loaded:
    """Trainable, whatever the layer is: layers are frozen and thawed at any time.

    Raises what `load` raises, `InputInvalid` for settings about loading where the handle is an object, and
    `ModuleUnsupported` for a module of TensorFlow 1 in the scope of a strategy that distributes variables.
    """
    import tensorflow as tf

    if not isinstance(handle, str | os.PathLike):
        if settings.tags is not None or settings.load_options is not None:
            raise InputInvalid("tags and load_options are for a module that is loaded: this handle is an object")
        return Loaded(handle, Reusable(handle, trainable=True), [handle], is_tf1=False)
    with open_module(handle, settings.tags) as opened, tf.init_scope():
        meta_graph = read_meta_graph(opened)
        if meta_graph.HasField("object_graph_def"):
            module = load_object(opened, settings.load_options)
            loaded = Loaded(module, Reusable(module, trainable=True), [module], opened.is_tf1)
        else:
            from hubclient.instances.tf1_eager import Tf1Eager
            from hubclient.keras_layers.tf1_variants import Tf1Variants

            strategy = tf.distribute.get_strategy()
            if tf.distribute.has_strategy() and not isinstance(strategy, tf.distribute.OneDeviceStrategy):
                raise ModuleUnsupported(
                    f"{handle} is of TensorFlow 1, and its graph knows no variables of a {type(strategy).__name__}: "
                    "only modules of TensorFlow 2 can be distributed"
                )
            variants = Tf1Variants(Tf1Eager(opened, meta_graph, True, ""))
            loaded = Loaded(variants, variants, variants.trackables(), opened.is_tf1)
        opened.keep_while(loaded.object)
    return loaded
