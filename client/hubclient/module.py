"""`Module`: instantiate a module once, apply it like a function any number of times, fine-tune it, export it.

Law: all applications of a Module share its variables, in the eager world and in a v1 graph alike.

It has the semantics of tensorflow_hub's ``hub.Module`` (tensorflow_hub up to 0.15, TensorFlow 1), for modules in the
TF1 format, reusable SavedModels and plain SavedModels with signatures, on current TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hubclient.instances import inputs as inputs_of
from hubclient.instances.graph_names import check_name
from hubclient.instances.instance import DEFAULT, Instance, SignatureInfo, TensorInfo
from hubclient.loading import load_object
from hubclient.model_errors import InputInvalid, OutputNotFound, RunFailed, SignatureNotFound
from hubclient.opening import OpenModule, Tags, import_tensorflow, open_module


class Module:
    """A module in this process: ``m = Module(handle)``, then ``m(x)``.

    In the eager world (and in a ``tf.function``) it owns its variables. Inside a ``tf.compat.v1.Graph`` it adds them to
    that graph, under `name`, and can be used in that graph only; they are restored by
    ``tf.compat.v1.global_variables_initializer()``, its tables by ``tf.compat.v1.tables_initializer()``.

    `handle` is a URL, or a path or ``file://`` URL of a directory, and `tags` names a variant, as for `load`.
    `trainable` lets an optimizer change the variables that the publisher made trainable, and brings the regularization
    losses and the updates (of moving averages) that go with it. The module is leased until the object is gone, and in a
    graph until that is: its initializers read the module's files.

    Raises what `load` raises, and `InputInvalid` for a `name` that is none.
    """

    def __init__(
        self,
        handle: str | os.PathLike[str],
        trainable: bool = False,
        name: str = "module",
        tags: Tags = None,
    ) -> None:
        import_tensorflow("Module")
        check_name(name)
        self._handle = os.fspath(handle)
        self._name = name
        self._trainable = bool(trainable)
        self._graph = _home_graph()
        with open_module(handle, tags) as opened:
            self._tags = opened.tags
            self._instance = _instantiate(opened, self._trainable, name, self._graph)
            opened.keep_while(self)

    def __call__(
        self,
        inputs: Any = None,
        *,
        signature: str | None = None,
        as_dict: bool = False,
        training: bool | None = None,
    ) -> Any:
        """Apply a signature; None: the module's own ``__call__`` where it has one, else its signature "default".

        A single input may be bare, several are a dict with exactly the signature's keys. The result is the output
        "default", or with `as_dict` all outputs by name. `training` is for batch norm and dropout, where the module's
        ``__call__`` follows it. A trainable module in the TF1 format updates its moving averages with each call in the
        eager world, unless it is False.

        Raises `SignatureNotFound`, `InputInvalid` and `OutputNotFound`, which name what there is.
        """
        self._check_world()
        if signature is None and self._instance.call is not None:
            outputs = self._instance.call(inputs, training=training)
            if isinstance(outputs, Mapping):
                outputs = dict(outputs)
            elif as_dict:
                outputs = {DEFAULT: outputs}
            else:
                return outputs
        else:
            signature = DEFAULT if signature is None else signature
            info = self._info(signature)
            given = inputs_of.by_name(inputs, info.inputs, signature)
            tensors = inputs_of.to_tensors(given, info.inputs, signature)
            outputs = self._instance.apply(signature, tensors, training)
        if as_dict:
            return outputs
        if DEFAULT not in outputs:
            raise OutputNotFound(
                f"the signature {signature or DEFAULT!r} has no output 'default'; it has {sorted(outputs)}: "
                "take them with as_dict=True"
            )
        return outputs[DEFAULT]

    def get_signature_names(self) -> list[str]:
        return sorted(self._instance.signatures)

    def get_input_info_dict(self, signature: str | None = None) -> dict[str, TensorInfo]:
        """Inputs of a signature by name."""
        return {name: TensorInfo(spec) for name, spec in self._info(signature or DEFAULT).inputs.items()}

    def get_output_info_dict(self, signature: str | None = None) -> dict[str, TensorInfo]:
        """Outputs of a signature by name."""
        return {name: TensorInfo(spec) for name, spec in self._info(signature or DEFAULT).outputs.items()}

    def get_attached_message(self, key: str, message_type: Any, required: bool = False) -> Any:
        """The protocol buffer that the publisher attached under `key`, parsed as `message_type`; None if there is none.

        With `required`, `OutputNotFound` is raised instead.
        """
        serialized = self._instance.attached_message(key)
        if serialized is not None:
            return message_type.FromString(serialized)
        if required:
            raise OutputNotFound(f"no message is attached to the module under {key!r}")
        return None

    @property
    def handle(self) -> str:
        return self._handle

    @property
    def tags(self) -> tuple[str, ...] | None:
        """The tags of the variant; None for a module in text form whose only variant was taken."""
        return self._tags

    @property
    def name(self) -> str:
        return self._name

    @property
    def trainable(self) -> bool:
        return self._trainable

    @property
    def graph(self) -> Any:
        """The ``tf.Graph`` that the module was added to; None in the eager world."""
        return self._graph

    @property
    def variables(self) -> list[Any]:
        return self._instance.variables

    @property
    def variable_map(self) -> dict[str, Any]:
        """The variables by their names in the module, a partitioned one as the list of its parts."""
        return self._instance.variable_map

    @property
    def trainable_variables(self) -> list[Any]:
        """What to give to an optimizer: nothing unless the module is trainable."""
        return self._instance.trainable_variables

    @property
    def regularization_losses(self) -> list[Any]:
        """Of a trainable module: functions without arguments, or in a graph scalar tensors (also in the collection
        REGULARIZATION_LOSSES)."""
        return self._instance.regularization_losses

    @property
    def update_ops(self) -> list[Any]:
        """Of a trainable module in a graph: what to run in each training step (also in the collection UPDATE_OPS).

        Empty in the eager world, where the updates run with each call.
        """
        return self._instance.update_ops

    def export(self, path: str | os.PathLike[str], session: Any = None) -> None:
        """Write the module with its present weights to a new directory.

        From the eager world it becomes a SavedModel with the reusable interface. From a graph it becomes a module in
        the TF1 format with the values of `session`, which is needed there. Attached messages stay in that format alone.

        Raises `PathExists`, and `InputInvalid` for a missing session.
        """
        if self._graph is not None and session is None:
            raise InputInvalid("export() of a module in a graph needs the session that holds its weights")
        self._instance.export(os.fspath(path), session)

    def __repr__(self) -> str:
        return f"hubclient.Module({self._handle!r}, trainable={self._trainable}, name={self._name!r})"

    def _info(self, signature: str) -> SignatureInfo:
        signatures = self._instance.signatures
        if signature not in signatures:
            raise SignatureNotFound(f"the module has no signature {signature!r}; it has {sorted(signatures)}")
        return signatures[signature]

    def _check_world(self) -> None:
        home = _home_graph()
        if home is not self._graph:
            made, used = ("in the eager world" if graph is None else f"in {graph}" for graph in (self._graph, home))
            raise RunFailed(f"this Module was made {made} and cannot be used {used}: make one where it is to be used")


def _home_graph() -> Any:
    """The v1 graph that is being built, also from within its functions; None in the eager world."""
    import tensorflow as tf

    if tf.compat.v1.executing_eagerly_outside_functions():
        return None
    graph = tf.compat.v1.get_default_graph()
    while getattr(graph, "outer_graph", None) is not None:
        graph = graph.outer_graph
    return graph


def _instantiate(module: OpenModule, trainable: bool, name: str, graph: Any) -> Instance:
    """The instance for the module's format and the caller's world; built outside of any function being traced."""
    import tensorflow as tf

    from hubclient.instances.meta_graph import read_meta_graph

    meta_graph = read_meta_graph(module)
    with tf.init_scope():
        if meta_graph.HasField("object_graph_def"):
            if graph is None:
                from hubclient.instances.reusable import Reusable

                return Reusable(load_object(module), trainable)
            from hubclient.instances.reusable_graph import ReusableGraph

            return ReusableGraph(module, trainable, name)
        if graph is None:
            from hubclient.instances.tf1_eager import Tf1Eager

            return Tf1Eager(module, meta_graph, trainable, name)
        from hubclient.instances.tf1_graph import Tf1Graph

        return Tf1Graph(module, meta_graph, trainable, name)
