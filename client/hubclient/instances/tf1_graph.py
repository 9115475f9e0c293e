"""A module in the form of TensorFlow 1 inside a ``tf.compat.v1.Graph``.

Law: the state is added once, when the module is instantiated, and each call adds its computation alone.

The semantics are those of ``hub.Module`` (tensorflow_hub up to 0.15): names, collections, and what can be done in loops
and conditions. Beyond them go calls in functions. Of the updates, a call brings those for which its inputs suffice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from hubclient.atomic import absolute, refuse_existing
from hubclient.instances import tf1_collections, tf1_state
from hubclient.instances.graph_names import call_scope, unused_scope
from hubclient.instances.instance import SignatureInfo
from hubclient.instances.module_graph import ModuleGraph, node_of
from hubclient.instances.tf1_variables import by_full_name, variable_specs
from hubclient.model_errors import ModuleBroken, ModuleUnsupported
from hubclient.opening import OpenModule

# tf.compat.v1.GraphKeys
_REGULARIZATION_LOSSES, _UPDATE_OPS = "regularization_losses", "update_ops"
_TABLE_INITIALIZERS, _ASSET_FILEPATHS = "table_initializer", "asset_filepaths"
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


class Tf1Graph:
    """An `Instance` in the default graph.

    Losses that need an input of the module are left out: at instantiation there is none. The module is leased for as
    long as the graph lives, for its initializers read the checkpoint and the assets.

    Raises `ModuleBroken` and `ModuleUnsupported`.
    """

    call = None

    def __init__(self, module: OpenModule, meta_graph: Any, trainable: bool, name: str) -> None:
        import tensorflow as tf

        self._module = module
        self._meta_graph = meta_graph
        self._trainable = trainable
        self._signatures = tf1_collections.signatures(meta_graph)
        self._specs = variable_specs(meta_graph)
        prefix = os.path.join(module.path, "variables", "variables")
        self._saved = tf1_state.check_checkpoint(prefix, self._specs)
        self._graph = ModuleGraph(meta_graph, module.path)
        assets = tf1_collections.assets(meta_graph, module.path)
        for tensor, file in assets.items():
            tf1_state.make_constant(self._graph, node_of(tensor), file)
        variables = tf1_state.restorable(self._graph, meta_graph, self._specs, prefix, self._saved)
        state = self._graph.stateful(self._graph.reach(self._everything(variables)))
        self._updates = {
            name: self._updates_of(name, {f"{node}:0" for node in state}) if trainable else []
            for name in self._signatures
        }
        self._scope = unused_scope(name)
        self._name = self._scope.rpartition("/")[2]
        self._update_ops: list[Any] = []
        self._add_state(variables, state, list(assets))
        module.keep_while(tf.compat.v1.get_default_graph())

    @property
    def signatures(self) -> Mapping[str, SignatureInfo]:
        return {name: signature.info for name, signature in self._signatures.items()}

    def apply(self, signature: str, inputs: Mapping[str, Any], training: bool | None) -> dict[str, Any]:
        """Inside a function's, a loop's or a condition's body, which nobody else can reach, updates run with the call.

        With `training` False a call brings no updates.
        """
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        definition = self._signatures[signature]
        given = dict(self._state)
        for key, tensors in definition.input_tensors.items():
            given.update(zip(tensors, tf.nest.flatten(inputs[key], expand_composites=True), strict=True))
        updates = self._updates[signature] if training is not False else []
        outputs = [tensor for tensors in definition.output_tensors.values() for tensor in tensors]
        used = self._graph.used([*outputs, *updates], given)
        given = {name: self._enter(graph, given[name], bool(updates)) for name in given if name in used}
        find = self._graph.add(call_scope(self._name, signature), [*outputs, *updates], given)
        is_in_body = graph.building_function or graph._get_control_flow_context() is not None
        results = {
            key: _assemble(spec, [find(name) for name in definition.output_tensors[key]])
            for key, spec in definition.info.outputs.items()
        }
        if not updates:
            return results
        if is_in_body:
            with tf.control_dependencies([find(name) for name in updates]):
                return dict(tf.nest.map_structure(tf.identity, results, expand_composites=True))
        for name in updates:
            self._update_ops.append(find(name))
            tf.compat.v1.add_to_collection(_UPDATE_OPS, find(name))
        return results

    @property
    def variables(self) -> list[Any]:
        return [self._variables[spec.name] for spec in self._specs]

    @property
    def variable_map(self) -> dict[str, Any]:
        return by_full_name(self._specs, self._variables)

    @property
    def trainable_variables(self) -> list[Any]:
        return [self._variables[spec.name] for spec in self._specs if spec.trainable] if self._trainable else []

    @property
    def regularization_losses(self) -> list[Any]:
        return list(self._losses)

    @property
    def update_ops(self) -> list[Any]:
        return list(self._update_ops)

    def attached_message(self, key: str) -> bytes | None:
        return tf1_collections.attached_message(self._meta_graph, key)

    def export(self, path: str, session: Any) -> None:
        from hubclient.instances import tf1_writer

        refuse_existing(absolute(path))
        saved = {name: variable for name, variable in self._variables.items() if name in self._saved}
        tf1_writer.write_again(self._module, path, tf1_writer.values_in(session, self._home, saved))

    def _everything(self, variables: list[tf1_state.Variable]) -> Iterable[str]:
        """All that is ever needed of the module's graph."""
        for variable in variables:
            yield from variable.nodes
        for signature in self._signatures.values():
            for tensors in signature.output_tensors.values():
                yield from tensors
        if self._trainable:
            yield from tf1_collections.nodes(self._meta_graph, _REGULARIZATION_LOSSES)
            yield from tf1_collections.nodes(self._meta_graph, _UPDATE_OPS)
        yield from tf1_collections.initializers(self._meta_graph)

    def _updates_of(self, signature: str, state: set[str]) -> list[str]:
        """The updates that need nothing but what a call of this signature gives."""
        inputs = self._signatures[signature].input_tensors.values()
        given = state | {name for tensors in inputs for name in tensors}
        return [name for name in tf1_collections.nodes(self._meta_graph, _UPDATE_OPS) if self._suffices(name, given)]

    def _suffices(self, name: str, given: set[str]) -> bool:
        return not any(self._graph.nodes[node].op in _PLACEHOLDERS for node in self._graph.reach([name], given))

    def _add_state(self, variables: list[tf1_state.Variable], state: list[str], assets: list[str]) -> None:
        import tensorflow as tf

        losses = tf1_collections.nodes(self._meta_graph, _REGULARIZATION_LOSSES) if self._trainable else []
        losses = [name for name in losses if self._suffices(name, set())]
        initializers = tf1_collections.initializers(self._meta_graph)
        needed = [name for variable in variables for name in variable.nodes]
        find = self._graph.add(self._scope, [*needed, *state, *assets, *losses, *initializers], {})
        self._home = tf.compat.v1.get_default_graph()
        self._variables = {each.name: each.add(find, self._scope, self._trainable) for each in variables}
        self._state = {f"{node}:{number}": output for node in state for number, output in enumerate(find(node).outputs)}
        self._state |= {name: find(name) for name in assets}
        #: for variables that are references, which functions cannot capture
        self._values = {f"{self._scope}/{each.name}:0": find(each.definition.snapshot_name) for each in variables}
        self._losses = [find(name) for name in losses]
        for key, names in (
            (_REGULARIZATION_LOSSES, losses),
            (_TABLE_INITIALIZERS, initializers),
            (_ASSET_FILEPATHS, assets),
        ):
            for name in names:
                tf.compat.v1.add_to_collection(key, find(name))

    def _enter(self, graph: Any, tensor: Any, is_updated: bool) -> Any:
        """The tensor as the body that is being built may use it."""
        if graph.building_function and tensor.graph is not graph:
            if tensor.dtype._is_ref_dtype:
                if is_updated:
                    raise ModuleUnsupported(
                        "the module updates variables of a kind that functions cannot change: call it with "
                        "training=False, or outside of loops, conditions and functions"
                    )
                tensor = self._values[tensor.name]
            tensor = graph.capture(tensor)
        context = graph._get_control_flow_context()  # as all of TensorFlow's own operations do
        return tensor if context is None else context.AddValue(tensor)


def _assemble(spec: Any, tensors: list[Any]) -> Any:
    import tensorflow as tf

    if isinstance(spec, tf.TensorSpec):
        return tensors[0]
    try:
        return tf.nest.pack_sequence_as(spec, tensors, expand_composites=True)
    except (ValueError, TypeError) as error:
        raise ModuleBroken(f"an output of the module is no {type(spec).__name__}: {error}") from error
