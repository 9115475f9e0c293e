"""Functions through what only a v1 graph can differentiate, with gradients.

These are loops and conditions of TensorFlow 1 (Enter, Switch, Merge), and its functions with gradients of their own.

Law: the gradient is that of the values that the function has used, whatever has changed them since.

TensorFlow differentiates a function in another graph than its own, where loops of TensorFlow 1 cannot go on. So the
backward function imports the graph anew and differentiates it in place. It takes as tensors what the forward function
had: inputs, variables as they were before it ran, and what operations outside of loops and conditions drew at random.
(Drawn within a loop, it is drawn again. An update that the graph has run before it reads the variable is not seen.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubclient.instances.tf1_functions import GraphFunctions


def differentiable(
    functions: GraphFunctions,
    reached: Sequence[Any],
    feeds: Sequence[str],
    fetches: Sequence[str],
    also_run: Sequence[str],
) -> Any:
    """As ``functions.prune``, whose lock is held; `reached` are the operations that must run for it."""
    import tensorflow as tf

    variables = functions.variables_of(reached)
    resources = functions.resources_of(reached)
    drawn = [tensor for tensor in _drawn(reached) if tensor not in fetches]
    forward = functions.prune(feeds, [*fetches, *drawn], also_run)
    # The gradient reaches the variables through the values that are read below.
    forward.graph.variables = ()
    backward = _Backward(functions, variables, [*feeds, *drawn, *resources], fetches)

    def apply(*inputs: Any) -> tuple[list[Any], list[Any]]:
        values = [variable.read_value() for variable in variables.values()]
        kept: list[Any] = []

        @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow is untyped
        def run(*given: Any) -> tuple[list[Any], Callable[..., list[Any]]]:
            with tf.control_dependencies(values):
                results = list(forward(*given[: len(inputs)])[0])
            kept[:] = results[len(fetches) :]

            def gradient(*of_results: Any) -> list[Any]:
                return backward(inputs, [*kept, *resources.values()], values, of_results)

            return results[: len(fetches)], gradient

        return list(run(*inputs, *values)), []

    return tf.function(apply, autograph=False).get_concrete_function(*map(functions.spec, feeds))


class _Backward:
    """From what the forward function had, and the gradients of its results, to those of its inputs and variables."""

    def __init__(
        self, functions: GraphFunctions, variables: Mapping[str, Any], given: Sequence[str], fetches: Sequence[str]
    ) -> None:
        self._functions = functions
        self._variables = variables
        self._given = given
        self._fetches = fetches
        self._are_differentiable = [_is_differentiable(functions.spec(name)) for name in fetches]
        self._lock = threading.Lock()
        self._built: Any = None
        self._present: list[bool] = []  # which of what is given, and of the variables, the results depend on

    def __call__(
        self, inputs: Sequence[Any], others: Sequence[Any], values: Sequence[Any], of_results: Sequence[Any]
    ) -> list[Any]:
        with self._lock:
            if self._built is None:
                self._built = self._build()
        given = [
            each
            for each, is_differentiable in zip(of_results, self._are_differentiable, strict=True)
            if is_differentiable
        ]
        found = iter(self._built(*inputs, *others, *values, *given))
        gradients = [next(found) if present else None for present in self._present]
        return gradients[: len(inputs)] + gradients[len(inputs) + len(others) :]

    def _build(self) -> Any:
        """Differentiate in a v1 graph, the only place for such loops, and make a function of what that gives."""
        import tensorflow as tf

        with tf.init_scope():
            with tf.Graph().as_default() as graph:
                given = [_placeholder(self._functions.spec(name)) for name in self._given]
                values = [_placeholder(variable) for variable in self._variables.values()]
                handles = [_temporary(value) for value in values]
                input_map = dict(zip(self._given, given, strict=True)) | dict(
                    zip(self._variables, handles, strict=True)
                )
                self._functions.import_graph(input_map)
                # A result that is an input itself was replaced by it.
                results = [
                    input_map[name] if name in input_map else graph.as_graph_element(name) for name in self._fetches
                ]
                results = [result for result in results if _is_differentiable(result)]
                of_results = [_placeholder(result) for result in results]
                gradients = tf.compat.v1.gradients(results, [*given, *handles], of_results)
                graph_def = graph.as_graph_def()
            _call_gradients(graph_def, self._functions.gradients)
            self._present = [gradient is not None for gradient in gradients]
            present = [gradient for gradient in gradients if gradient is not None]
            inputs = [tensor.name for tensor in (*given, *values, *of_results)]
            outputs = tf.nest.map_structure(lambda tensor: tensor.name, [_parts(gradient) for gradient in present])

            def differentiate(*arguments: Any) -> list[Any]:
                found = tf.graph_util.import_graph_def(
                    graph_def,
                    input_map=dict(zip(inputs, arguments, strict=True)),
                    return_elements=tf.nest.flatten(outputs),
                    name="",
                )
                return [_whole(parts) for parts in tf.nest.pack_sequence_as(outputs, found)]

            specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in (*given, *values, *of_results)]
            return tf.compat.v1.wrap_function(differentiate, specs)


def _call_gradients(graph_def: Any, gradients: Mapping[str, str]) -> None:
    """Have the gradients of functions computed by those that were made for it, which eager functions do not look for.

    They take what SymbolicGradient takes, and give what it gives.
    """
    for node in (*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)):
        gradient = gradients.get(node.attr["f"].func.name) if node.op == "SymbolicGradient" else None
        if gradient is not None:
            node.op = gradient
            node.attr.clear()


def _placeholder(like: Any) -> Any:
    import tensorflow as tf

    return tf.compat.v1.placeholder(like.dtype, like.shape)


def _temporary(value: Any) -> Any:
    """The handle of a variable that lives in one step and has this value."""
    import tensorflow as tf

    # The name that makes a resource nobody's: ResourceHandle::ANONYMOUS_NAME of tensorflow/core.
    anonymous = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"
    handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=anonymous)
    with tf.control_dependencies([tf.raw_ops.AssignVariableOp(resource=handle, value=value)]):
        return tf.identity(handle)


def _parts(gradient: Any) -> list[Any]:
    """Tensors: of a gradient that names rows of a variable, these and their numbers."""
    import tensorflow as tf

    if isinstance(gradient, tf.IndexedSlices):
        return [gradient.values, gradient.indices, gradient.dense_shape]
    return [gradient]


def _whole(parts: Sequence[Any]) -> Any:
    import tensorflow as tf

    return parts[0] if len(parts) == 1 else tf.IndexedSlices(*parts)


def _drawn(reached: Iterable[Any]) -> list[str]:
    """The outputs of operations that answer differently each time, and stand outside of loops and conditions.

    Not of those that a gradient may pass.
    """
    import tensorflow as tf

    return [
        output.name
        for op in reached
        if op.op_def.is_stateful and op._get_control_flow_context() is None
        if not any(tensor.dtype in (tf.resource, tf.variant) for tensor in [*op.inputs, *op.outputs])
        if not any(map(_is_differentiable, op.inputs))
        for output in op.outputs
    ]


def _is_differentiable(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex)
