"""A SavedModel of TensorFlow 2 inside a ``tf.compat.v1.Graph``.

Law: it looks like a module in the form of TensorFlow 1 there: its variables, tables, assets and losses are where a
program that was written for graphs looks for them.

Updates are no operations of their own here: they are inside of the object's functions, and run with a call that is
made with ``training=True`` whenever one of its outputs is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from hubclient.atomic import absolute, refuse_existing
from hubclient.instances import tf1_state
from hubclient.instances.graph_names import call_scope, unused_scope
from hubclient.instances.instance import DEFAULT
from hubclient.instances.reusable import Reusable
from hubclient.loading import load_object
from hubclient.model_errors import ModuleBroken
from hubclient.opening import OpenModule

# tf.compat.v1.GraphKeys
_ASSET_FILEPATHS, _REGULARIZATION_LOSSES = "asset_filepaths", "regularization_losses"
_TABLE_INITIALIZERS = "table_initializer"


class ReusableGraph(Reusable):
    """An `Instance` in the default graph, for which the module is leased as long as that lives.

    Raises `ModuleBroken` and `ModuleUnsupported`.
    """

    def __init__(self, module: OpenModule, trainable: bool, name: str) -> None:
        import tensorflow as tf

        tf1_state.check_checkpoint(os.path.join(module.path, "variables", "variables"), [])
        self._module = module
        self._home = tf.compat.v1.get_default_graph()
        self._scope = unused_scope(name)
        self._name = self._scope.rpartition("/")[2]
        before = len(_collected(_ASSET_FILEPATHS)), len(_collected(tf1_state.GLOBAL))
        with self._home.name_scope(self._scope + "/"):
            super().__init__(load_into_graph(module), trainable)
            self._losses = [loss() for loss in super().regularization_losses]
        self._check_assets(_collected(_ASSET_FILEPATHS)[before[0] :])
        #: also those that no interface lists, such as the state of a random generator
        self._all_variables = _collected(tf1_state.GLOBAL)[before[1] :]
        for variable in self._all_variables:
            if variable.initializer.type == "AssignVariableOp":
                # TensorFlow's loader sets the initializer alone, where moving averages ask for the value.
                variable._initial_value = variable.initializer.inputs[1]
                variable._initial_value.set_shape(variable.shape)
        for key, elements in ((tf1_state.TRAINABLE, self.trainable_variables), (_REGULARIZATION_LOSSES, self._losses)):
            for element in elements:
                tf.compat.v1.add_to_collection(key, element)
        module.keep_while(self._home)

    @cached_property
    def call(self) -> Callable[..., Any] | None:
        of_object = super().call
        if of_object is None:
            return None

        def call(*inputs: Any, **arguments: Any) -> Any:
            with self._call_scope(DEFAULT):
                return of_object(*inputs, **arguments)

        return call

    def apply(self, signature: str, inputs: Mapping[str, Any], training: bool | None) -> dict[str, Any]:
        with self._call_scope(signature):
            return super().apply(signature, inputs, training)

    @property
    def variable_map(self) -> dict[str, Any]:
        return {name.removeprefix(self._scope + "/"): each for name, each in super().variable_map.items()}

    @property
    def regularization_losses(self) -> list[Any]:
        return list(self._losses)

    def export(self, path: str, session: Any) -> None:
        from hubclient.instances import reusable_writer, tf1_writer

        refuse_existing(absolute(path))
        named = {each.name.removeprefix(self._scope + "/").removesuffix(":0"): each for each in self._all_variables}
        reusable_writer.write(self._module, path, tf1_writer.values_in(session, self._home, named))

    def _call_scope(self, signature: str) -> Any:
        import tensorflow as tf

        return tf.name_scope(call_scope(self._name, signature) + "/")

    def _check_assets(self, paths: list[Any]) -> None:
        import tensorflow as tf

        for path in paths:
            file = tf.get_static_value(path)
            if file is not None and not os.path.isfile(os.fsdecode(file.item())):
                raise ModuleBroken(f"the module {self._module.path} lacks its asset {os.fsdecode(file.item())}")


def load_into_graph(module: OpenModule) -> Any:
    """`load_object` for the default graph, whatever session the caller has, and with collections as they should be."""
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = v1.get_default_graph()
    # TensorFlow's loader asks the default session, whatever its graph, for the names of what it restores.
    with v1.Session(graph=graph, config=v1.ConfigProto(device_count={"GPU": 0})):
        loaded = load_object(module)
    # It also collects lists of operations, where the collection is one of operations.
    initializers = graph.get_collection_ref(_TABLE_INITIALIZERS)
    initializers[:] = tf.nest.flatten(initializers)
    return loaded


def _collected(key: str) -> list[Any]:
    import tensorflow as tf

    return list(tf.compat.v1.get_collection(key))
