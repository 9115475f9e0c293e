"""The loops and conditions of TensorFlow 1 in a meta graph: which names they need, and the same under other names.

Law: TensorFlow gets a context only with names that exist in the graph it is told to look in.

Source: tensorflow/core/protobuf/control_flow.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

KEYS = ("cond_context", "while_context")  #: ``tf.compat.v1.GraphKeys`` under which a meta graph has them

_SINGLE = ("pred_name", "pivot_name", "pivot_for_pred_name", "pivot_for_body_name", "maximum_iterations_name")
_REPEATED = ("loop_exit_names", "loop_enter_names")


def read(meta_graph: Any) -> Iterator[tuple[str, Any]]:
    """Collection key and definition of each outermost context."""
    from tensorflow.core.protobuf import control_flow_pb2

    kinds = (control_flow_pb2.CondContextDef, control_flow_pb2.WhileContextDef)
    for key, kind in zip(KEYS, kinds, strict=True):
        if key in meta_graph.collection_def:
            for value in meta_graph.collection_def[key].bytes_list.value:
                yield key, kind.FromString(value)


def inner_nodes(meta_graph: Any) -> set[str]:
    """The nodes that are computed inside of any loop or condition."""
    names = {name for _, context in read(meta_graph) for name in inner_names(context)}
    return {name.partition(":")[0] for name in names}


def inner_names(context: Any) -> set[str]:
    """What is computed inside the context, or in one within it."""
    values = context.values_def
    names = {str(name) for name in values.values} - set(values.external_values)
    for nested in context.nested_contexts:
        names |= inner_names(_nested(nested))
    return names


def all_names(context: Any) -> set[str]:
    """What must be in the graph for the context to be."""
    names = inner_names(context) | {str(name) for name in context.values_def.external_values.values()}
    names |= {getattr(context, field) for field in _SINGLE if getattr(context, field, "")}
    for field in _REPEATED:
        names |= set(getattr(context, field, ()))
    for nested in context.nested_contexts:
        names |= all_names(_nested(nested))
    return names


def renamed(context: Any, rename: Callable[[str], str | None], scope: str) -> Any:
    """A copy with all names put through `rename`, without those for which that gives None."""
    copy = type(context)()
    copy.CopyFrom(context)
    copy.context_name = f"{scope}/{context.context_name}"
    for field in _SINGLE:
        if getattr(copy, field, ""):
            setattr(copy, field, rename(getattr(copy, field)) or "")
    for field in _REPEATED:
        if hasattr(copy, field):
            getattr(copy, field)[:] = _all(rename, getattr(context, field))
    values = copy.values_def
    values.values[:] = _all(rename, context.values_def.values)
    values.external_values.clear()
    for outer, inner in context.values_def.external_values.items():
        outer_now, inner_now = rename(outer), rename(inner)
        if outer_now and inner_now:
            values.external_values[outer_now] = inner_now
    del copy.nested_contexts[:]
    for nested in context.nested_contexts:
        getattr(copy.nested_contexts.add(), nested.WhichOneof("ctxt")).CopyFrom(renamed(_nested(nested), rename, scope))
    return copy


def _nested(context: Any) -> Any:
    return getattr(context, context.WhichOneof("ctxt"))


def _all(rename: Callable[[str], str | None], names: Any) -> list[str]:
    return [name for name in map(rename, names) if name]
