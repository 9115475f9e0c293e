"""Calls of functions in a graph, put in place: TensorFlow differentiates imported calls in few cases only.

Law: every node keeps its name and what it gives, and what a call did in its step, the step still does.

Source of how a function names its tensors: tensorflow/core/framework/function.proto.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from hubclient.model_errors import ModuleBroken

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
#: Of TensorFlow 1: what is within them takes no control inputs from without, and without their contexts no gradient.
_LOOPS = ("Enter", "Switch")
_MOST_NODES = 1_000_000


def inline_calls(graph_def: Any, kept: Collection[str]) -> None:
    """Replace the calls in the graph itself and those within them, but not the nodes that are `kept`.

    Raises `ModuleBroken` for a function that cannot be used or calls itself.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    kept_functions = {
        name for name, function in library.items() if any(node.op in _LOOPS for node in function.node_def)
    }
    if not any(node.op in _CALLS for node in graph_def.node):
        return
    scopes = {scope for node in graph_def.node for scope in _scopes(node.name)}
    done: list[Any] = []
    todo: list[tuple[Any, frozenset[str]]] = [(node, frozenset()) for node in graph_def.node]
    while todo:
        node, callers = todo.pop()
        called = node.attr["f"].func.name if node.op in _CALLS and node.name not in kept else ""
        if called not in library or called in kept_functions or len(done) + len(todo) > _MOST_NODES:
            done.append(node)
            continue
        if called in callers:
            raise ModuleBroken(f"the function {called!r} of the module calls itself")
        prefix = node.name + "/"
        while prefix in scopes:
            prefix = prefix[:-1] + "_/"
        try:
            made = list(_in_place_of(node, library[called], prefix, library))
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise ModuleBroken(f"the function {called!r} of the module cannot be used: {error!r}") from error
        scopes.update(scope for each in made for scope in _scopes(each.name))
        todo += ((each, callers | {called}) for each in made)
    done.reverse()
    whole = type(graph_def)(node=done)
    del graph_def.node[:]
    graph_def.node.extend(whole.node)


def _scopes(name: str) -> Iterator[str]:
    return (name[: end + 1] for end, letter in enumerate(name) if letter == "/")


def _in_place_of(call: Any, function: Any, prefix: str, library: dict[str, Any]) -> Iterator[Any]:
    """The function's nodes under new names, and one with the name and the outputs of the call."""
    signature = function.signature
    given = [each for each in call.input if not each.startswith("^")]
    before = [each for each in call.input if each.startswith("^")]
    arguments = {argument.name: each for argument, each in zip(signature.input_arg, given, strict=True)}
    definitions = {node.name: _definition(node.op, library) for node in function.node_def}
    first_outputs = {node.name: _first_outputs(node, definitions[node.name]) for node in function.node_def}

    def renamed(tensor: str) -> str:
        control, name = tensor.startswith("^"), tensor.removeprefix("^")
        node, _, rest = name.partition(":")
        if node in arguments:
            argument = str(arguments[node])
            return "^" + argument.partition(":")[0] if control else argument
        if control:
            return f"^{prefix}{node}"
        output, _, number = rest.partition(":")
        return f"{prefix}{node}:{first_outputs[node][output] + int(number or 0)}"

    for original in function.node_def:
        node = type(call)()
        node.CopyFrom(original)
        node.name, node.device = prefix + original.name, ""
        node.input[:] = map(renamed, original.input)
        if node.op != "Const" and (not node.input or definitions[original.name].is_stateful):
            node.input.extend(before)
        node.attr.pop("_class", None)
        if node.op not in _CALLS:
            node.attr.pop("_gradient_op_type", None)  # a number of the publisher's process
        yield node
    results = [renamed(function.ret[output.name]) for output in signature.output_arg]
    after = [f"^{prefix}{name}" for name in function.control_ret.values()]
    result = type(call)(name=call.name, op="IdentityN" if results else "NoOp", input=[*results, *before, *after])
    if results:
        result.attr["T"].list.type.extend(output.type for output in signature.output_arg)
    yield result


def _definition(op: str, library: dict[str, Any]) -> Any:
    from tensorflow.python.framework import op_def_registry  # there is no public way to an operation's definition

    definition = library[op].signature if op in library else op_def_registry.get(op)
    if definition is None:
        raise ValueError(f"there is no operation {op}")
    return definition


def _first_outputs(node: Any, definition: Any) -> dict[str, int]:
    """For each output by name, which may be a list of tensors, the number of its first tensor."""
    defaults = {attribute.name: attribute.default_value for attribute in definition.attr}
    found, number = {}, 0
    for output in definition.output_arg:
        found[output.name] = number
        if output.number_attr:
            number += (node.attr if output.number_attr in node.attr else defaults)[output.number_attr].i
        elif output.type_list_attr:
            types = (node.attr if output.type_list_attr in node.attr else defaults)[output.type_list_attr]
            number += len(types.list.type)
        else:
            number += 1
    return found
