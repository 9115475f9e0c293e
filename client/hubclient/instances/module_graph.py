"""A meta graph of which parts are added to a v1 graph, as often as need be: the state once, then each call.

Law: a part is whole and no more than whole. What its targets need is added, with the loops and conditions it lies in;
what was given is used in place of the module's own; nothing else comes into the caller's graph.

Functions get names of their own, for two modules may each have a ``__inference_call_12``; shared names get the scope of
the part, for two modules in one session must not share a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from hubclient.instances import control_contexts
from hubclient.instances.inlining import inline_calls
from hubclient.instances.tf1_variables import RESOURCE_VARIABLE
from hubclient.model_errors import ModuleBroken, ModuleUnsupported, RunFailed


def node_of(name: str) -> str:
    """The node's name of a tensor's ("a:1"), an operation's ("a") or a control input's ("^a")."""
    return name.removeprefix("^").partition(":")[0]


def tensor_name(name: str) -> str:
    """The full name, "a:0", of a node's input, where "a" stands for its first output."""
    return name if ":" in name or name.startswith("^") else name + ":0"


class ModuleGraph:
    """Changes the meta graph that it gets, which is the instance's own copy."""

    def __init__(self, meta_graph: Any, identity: str = "") -> None:
        """`identity` tells apart two modules of the same functions, whose tables come from different files."""
        self._meta_graph = meta_graph
        inline_calls(meta_graph.graph_def, control_contexts.inner_nodes(meta_graph))
        _tidy(meta_graph.graph_def, identity)
        library = meta_graph.graph_def.library
        self._functions = {function.signature.name: function for function in library.function}
        #: functions that are the gradients of others, by the names of those
        self._gradients = {each.function_name: each.gradient_func for each in library.gradient}
        #: the nodes by name, in which a user of this class may put more
        self.nodes = {node.name: node for node in meta_graph.graph_def.node}
        self._contexts = list(control_contexts.read(meta_graph))
        #: for each node in a loop or condition, all names that the whole one needs
        self._whole: dict[str, frozenset[str]] = {}
        for _, context in self._contexts:
            needed = frozenset(control_contexts.all_names(context))
            self._whole.update((node_of(name), needed) for name in control_contexts.inner_names(context))

    def reach(self, targets: Iterable[str], given: Collection[str] = ()) -> set[str]:
        """The nodes that the targets need, without those whose tensors are given. Raises `ModuleBroken`."""
        return self._walk(targets, given)[0]

    def used(self, targets: Iterable[str], given: Collection[str]) -> set[str]:
        """The given tensors that the targets need. Raises `ModuleBroken`."""
        return self._walk(targets, given)[1]

    def _walk(self, targets: Iterable[str], given: Collection[str]) -> tuple[set[str], set[str]]:
        by_node = {node_of(name): name for name in given}
        reached: set[str] = set()
        used: set[str] = set()
        todo = list(targets)
        while todo:
            name = todo.pop()
            node = node_of(name)
            if node in reached:
                continue
            if name in given if ":" in name else node in by_node:
                used.add(name if ":" in name else by_node[node])
                continue
            if node not in self.nodes:
                raise ModuleBroken(f"the module's graph names {name!r}, which is not in it")
            reached.add(node)
            todo += map(tensor_name, self.nodes[node].input)
            todo += self._whole.get(node, ())
        return reached, used

    def stateful(self, names: Iterable[str]) -> list[str]:
        """Those of the nodes that hold state: stateful operations without inputs, such as variables and tables.

        Raises `ModuleUnsupported` for operations that this process does not have.
        """
        from tensorflow.python.framework import op_def_registry  # nothing public knows which operations have state

        found, missing = [], set()
        for name in sorted(names):
            op = self.nodes[name].op
            definition = op_def_registry.get(op)
            if definition is not None:
                if definition.is_stateful and not definition.input_arg:
                    found.append(name)
            elif op not in self._functions:
                missing.add(op)
        if missing:
            raise ModuleUnsupported(
                f"the module needs operations that are not there: {sorted(missing)}; "
                "if a library has them, load it first with tf.load_op_library"
            )
        return found

    def add(self, scope: str, targets: Iterable[str], given: Mapping[str, Any]) -> Callable[[str], Any]:
        """Add to the default graph, under the absolute name `scope`, what the targets need.

        `given` are tensors in place of the module's, by the names of those. The answer finds an element of the default
        graph by its name in the module. Raises `ModuleBroken`, and `RunFailed` for a graph that is finalized.
        """
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        names = self.reach(targets, given)
        part = self._part(names, scope)
        used = {tensor_name(each) for node in part.node for each in node.input}
        operations = self._meta_graph.meta_info_def.stripped_op_list

        def find(name: str) -> Any:
            return given[name] if name in given else graph.as_graph_element(f"{scope}/{name}")

        try:
            tf.graph_util.import_graph_def(
                part,
                input_map={name: tensor for name, tensor in given.items() if name in used},
                name=scope + "/",
                producer_op_list=operations if operations.op else None,
            )
            self._add_contexts(names, given, scope)
        except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
            raise ModuleBroken(f"TensorFlow cannot use the module's graph: {error}") from error
        except RuntimeError as error:  # the caller's graph is finalized
            raise RunFailed(f"nothing can be added to the graph: {error}") from error
        if not graph.building_function:
            self._colocate(names, given, find)
        return find

    def _part(self, names: set[str], scope: str) -> Any:
        from tensorflow.core.framework import graph_pb2

        graph_def = self._meta_graph.graph_def
        part = graph_pb2.GraphDef(versions=graph_def.versions)
        for name, original in self.nodes.items():
            if name not in names:
                continue
            node = part.node.add()
            node.CopyFrom(original)
            node.input[:] = [each for each in node.input if not each.startswith("^") or each[1:] in names]
            if node.op == RESOURCE_VARIABLE or ("shared_name" in node.attr and node.attr["shared_name"].s):
                node.attr["shared_name"].s = f"{scope}/".encode() + (node.attr["shared_name"].s or name.encode())
            if node.op in ("Enter", "RefEnter"):  # the frame is the loop: `control_contexts.renamed` gives it this name
                node.attr["frame_name"].s = f"{scope}/".encode() + node.attr["frame_name"].s
            if "_class" in node.attr:
                groups = node.attr["_class"].list.s
                groups[:] = [each for each in groups if _colocated(each) in names or not _colocated(each)]
        functions = _functions_used(part.node, self._functions, self._gradients)
        part.library.function.extend(self._functions[name] for name in functions)
        part.library.gradient.extend(each for each in graph_def.library.gradient if each.function_name in functions)
        return part

    def _add_contexts(self, names: set[str], given: Mapping[str, Any], scope: str) -> None:
        import tensorflow as tf
        from tensorflow.python.framework import ops  # the public import of contexts takes whole meta graphs only

        def rename(name: str) -> str | None:
            if name in given:
                return str(given[name].name)
            return f"{scope}/{name}" if node_of(name) in names else None

        for key, context in self._contexts:
            if any(node_of(name) in names for name in control_contexts.inner_names(context)):
                definition = control_contexts.renamed(context, rename, scope)
                tf.compat.v1.add_to_collection(key, ops.get_from_proto_function(key)(definition, import_scope=""))

    def _colocate(self, names: set[str], given: Mapping[str, Any], find: Callable[[str], Any]) -> None:
        """Put what the module wants beside something that was given beside that; devices follow."""
        from tensorflow.core.framework import attr_value_pb2

        replaced = {node_of(name): tensor.op for name, tensor in given.items()}
        for name in names:
            if "_class" not in self.nodes[name].attr:
                continue
            wanted = {_colocated(each) for each in self.nodes[name].attr["_class"].list.s}
            beside = [replaced[node] for node in sorted(wanted & replaced.keys())]
            if beside:
                beside += (find(node) for node in sorted(wanted & names))
                value = attr_value_pb2.AttrValue()
                value.list.s.extend(sorted({group for op in beside for group in op.colocation_groups()}))
                find(name)._set_attr("_class", value)  # no public function changes an operation that exists
                find(name)._set_device(beside[0].device)


def _colocated(group: bytes) -> str:
    """The node named by an entry of the attribute `_class`; "" for another kind of entry."""
    return group[5:].decode() if group.startswith(b"loc:@") else ""


def _tidy(graph_def: Any, identity: str) -> None:
    """Take out what is true in the publisher's process only: devices, names of functions and of their gradients."""
    digest = hashlib.sha256(graph_def.library.SerializeToString(deterministic=True))
    digest.update(identity.encode(errors="replace"))
    suffix = f"_{digest.hexdigest()[:12]}"
    names = {function.signature.name: function.signature.name + suffix for function in graph_def.library.function}
    for function in graph_def.library.function:
        function.signature.name = names[function.signature.name]
        for node in function.node_def:
            _tidy_node(node, names, suffix)
            if "shared_name" in node.attr and node.attr["shared_name"].s:
                node.attr["shared_name"].s += suffix.encode()
    for gradient in graph_def.library.gradient:
        gradient.function_name = names.get(gradient.function_name, gradient.function_name)
        gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
    for node in graph_def.node:
        _tidy_node(node, names, suffix)


def _tidy_node(node: Any, functions: Mapping[str, str], suffix: str) -> None:
    node.device = ""
    node.op = functions.get(node.op, node.op)
    for value in node.attr.values():
        for function in _functions_of(value):
            function.name = functions.get(function.name, function.name)
    if "_gradient_op_type" in node.attr:
        # A number of the publisher's process, which may be quite another function's gradient in this one. A call can be
        # differentiated without; for a custom gradient TensorFlow says that there is none.
        gradient = node.attr["_gradient_op_type"]
        if b"PartitionedCall-" in gradient.s:
            del node.attr["_gradient_op_type"]
        elif gradient.s.startswith(b"CustomGradient-"):
            gradient.s += suffix.encode()


def _functions_of(attribute: Any) -> Iterator[Any]:
    kind = attribute.WhichOneof("value")
    for function in [attribute.func] if kind == "func" else attribute.list.func if kind == "list" else ():
        yield function
        for inner in function.attr.values():
            yield from _functions_of(inner)


def _functions_used(nodes: Iterable[Any], library: Mapping[str, Any], gradients: Mapping[str, str]) -> list[str]:
    used: set[str] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        names = {node.op} | {function.name for value in node.attr.values() for function in _functions_of(value)}
        names |= {gradients[name] for name in names & gradients.keys()}
        for name in (names & library.keys()) - used:
            used.add(name)
            todo += library[name].node_def
    return sorted(used)
