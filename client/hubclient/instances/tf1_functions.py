"""A prepared graph of TensorFlow 1 as functions of the eager world, each from some of its tensors to others.

Law: all functions use the variables that were given, and what fails is told as `ModuleBroken` before anything runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from hubclient.instances.prepared_graph import PreparedGraph
from hubclient.instances.tf1_resources import make_resource
from hubclient.model_errors import ModuleBroken, ModuleUnsupported

_CONTROL_FLOW_V1 = {"Enter", "Exit", "Merge", "NextIteration", "Switch"}

#: From flat inputs to flat outputs.
Function = Callable[..., list[Any]]


class GraphFunctions:
    """Imports the graph once and cuts functions out of it; they may be made and called from any thread."""

    def __init__(self, prepared: PreparedGraph, variables: Mapping[str, Any], path: str) -> None:
        import tensorflow as tf

        self._prepared = prepared
        #: functions that are the gradients of others, by the names of those
        self.gradients = prepared.gradients
        self._variables = {handle: variables[name] for name, handle in prepared.handles.items()}
        self._path = path
        self._captures: dict[str, Any] = {}  # the placeholders of the handles, by the tensors that they stand for
        self._lock = threading.RLock()
        with told_as_broken(path):
            #: the objects that own tables and the like, by the tensors that are their handles
            self.resources = {
                handle: make_resource(handle.removesuffix(":0"), made_of)
                for handle, made_of in prepared.resources.items()
            }
            self._wrapped = tf.compat.v1.wrap_function(self._import_with_handles, [])
        self._graph = self._wrapped.graph

    def check(self, elements: Iterable[str]) -> None:
        """Raises `ModuleBroken` if the graph has not all of these tensors and operations."""
        with told_as_broken(self._path):
            for element in elements:
                self._graph.as_graph_element(element)

    def placeholders(self, element: str, feeds: Iterable[str] = ()) -> set[str]:
        """The placeholders whose values an element needs when `feeds` are given."""
        reached = self._reached([element], feeds)
        captured = {id(tensor.op) for tensor in self._captures.values()}
        return {op.name for op in reached if op.type.startswith("Placeholder") and id(op) not in captured}

    def function(self, feeds: Sequence[str], fetches: Sequence[str], also_run: Sequence[str] = ()) -> Function:
        """A function of the tensors `feeds` that gives the tensors `fetches`, and runs `also_run` in the same step."""
        import tensorflow as tf

        with self._lock, tf.init_scope(), told_as_broken(self._path):
            reached = self._reached([*fetches, *also_run], feeds)
            if fetches and any(op.type in _CONTROL_FLOW_V1 or op.type in self.gradients for op in reached):
                from hubclient.instances.graph_gradients import differentiable

                concrete = differentiable(self, reached, feeds, fetches, also_run)
            else:
                concrete = self.prune(feeds, fetches, also_run)
        return partial(self._call, concrete)

    def _call(self, concrete: Any, *inputs: Any) -> list[Any]:
        """A method, so that the function keeps the resources alive."""
        return list(concrete(*inputs)[0])

    def prune(self, feeds: Sequence[str], fetches: Sequence[str], also_run: Sequence[str] = ()) -> Any:
        """A ``ConcreteFunction`` from `feeds` to the values of `fetches`, and nothing, for whoever holds the lock."""
        elements = [[self._graph.as_graph_element(name) for name in names] for names in (feeds, fetches, also_run)]
        pruned = self._wrapped.prune(elements[0], (elements[1], [_operation(each) for each in elements[2]]))
        _tell_loops_their_handles(pruned.graph)
        return pruned

    def import_graph(self, input_map: Mapping[str, Any]) -> None:
        """Add the graph to the one that is being built, with its control-flow contexts and other tensors for some."""
        import tensorflow as tf

        meta_graph = type(self._prepared.meta_graph)()
        meta_graph.CopyFrom(self._prepared.meta_graph)
        tf.compat.v1.train.import_meta_graph(meta_graph, input_map=dict(input_map), import_scope="")

    def variables_of(self, reached: Iterable[Any]) -> dict[str, Any]:
        """The variables that these operations use, by the tensors that are their handles."""
        return {handle: self._variables[handle] for handle in self._used(reached) if handle in self._variables}

    def resources_of(self, reached: Iterable[Any]) -> dict[str, Any]:
        """The handles of the other resources that these operations use, by the tensors that they are."""
        return {
            handle: self.resources[handle].resource_handle for handle in self._used(reached) if handle in self.resources
        }

    def _used(self, reached: Iterable[Any]) -> list[str]:
        used = {id(op) for op in reached}
        return [handle for handle, capture in self._captures.items() if id(capture.op) in used]

    def spec(self, tensor: str) -> Any:
        import tensorflow as tf

        element = self._graph.as_graph_element(tensor)
        return tf.TensorSpec(element.shape, element.dtype)

    def initialize(self, operations: Sequence[str], assets: Mapping[str, str]) -> None:
        """Run the operations, with the paths of the assets."""
        import tensorflow as tf

        if operations:
            function = self.function(list(assets), [], operations)
            with told_as_broken(self._path):
                function(*(tf.constant(path) for path in assets.values()))

    def _import_with_handles(self) -> None:
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        for handle, variable in self._variables.items():
            self._captures[handle] = graph.capture(variable.handle)
            graph.watch_variable(variable)
        for handle, resource in self.resources.items():
            self._captures[handle] = graph.capture(resource.resource_handle)
        self.import_graph(self._captures)

    def _reached(self, elements: Iterable[str], feeds: Iterable[str]) -> list[Any]:
        """The operations that must run for these elements when `feeds` are given."""
        fed = {id(self._graph.as_graph_element(name)) for name in feeds}
        fed_names = set(feeds)
        reached: dict[str, Any] = {}
        stack = []
        for name in elements:
            if name not in fed_names:
                stack.append(_operation(self._graph.as_graph_element(name)))
        while stack:
            op = stack.pop()
            if op.name in reached:
                continue
            reached[op.name] = op
            stack += [tensor.op for tensor in op.inputs if id(tensor) not in fed]
            stack += op.control_inputs
        return list(reached.values())


def _operation(element: Any) -> Any:
    return getattr(element, "op", element)


def _tell_loops_their_handles(graph: Any) -> None:
    """Say of what variables the resources are that come out of a loop: an imported one has forgotten it, and without
    it has no gradient."""
    from tensorflow.python.ops import handle_data_util  # there is no public way to a handle's shape and dtype

    for op in graph.get_operations():
        if op.type in ("While", "StatelessWhile"):
            for given, result in zip(op.inputs, op.outputs, strict=True):
                handle_data_util.copy_handle_data(given, result)


@contextmanager
def told_as_broken(path: str) -> Iterator[None]:
    """What Python and TensorFlow say of a graph that they cannot use, as an error of hubclient's."""
    import tensorflow as tf

    try:
        yield
    except (ModuleBroken, ModuleUnsupported):
        raise
    except (tf.errors.OpError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        if "Op type not registered" in str(error):
            raise ModuleUnsupported(f"the module {path} uses an operation that is not there: {error}") from error
        raise ModuleBroken(f"the graph of the module {path} cannot be used: {error}") from error
