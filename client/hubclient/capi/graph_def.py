"""A GraphDef read in place: its nodes and functions by name, each looked into when it is first asked for.

Law: what is never asked for costs its name and its place only, however large it is.

Sources: TensorFlow's graph.proto, function.proto.
"""

from __future__ import annotations

from typing import NamedTuple

from hubclient.capi.node_def import Node, attribute_entry, functions_of
from hubclient.capi.wire import Span, broken, fields, last_text, messages, text
from hubclient.model_errors import ModuleBroken

_MAX_NODES = 4_000_000


class Function(NamedTuple):
    """What matters of a FunctionDef to those who call it."""

    start: int
    end: int
    calls: tuple[str, ...]  #: functions that its nodes refer to
    states: tuple[str, ...]  #: variables and tables that its nodes name
    constant_bytes: int
    configured: tuple[Node, ...]  #: nodes with a `config_proto`


class Graph:
    """The nodes and the functions of a GraphDef."""

    def __init__(self, data: bytes, place: Span) -> None:
        self.data = data
        #: places of nodes, of functions, and of the fields of the GraphDef that are to be kept as they are
        self.node_places: dict[str, Span] = {}
        self.function_places: dict[str, Span] = {}
        self.versions: list[tuple[int, int, int]] = []
        #: function -> its gradient function, and the place of the GradientDef
        self.gradients: dict[str, tuple[str, Span]] = {}
        self._nodes: dict[str, Node] = {}
        self._functions: dict[str, Function] = {}
        for number, start, end in fields(data, *place):
            if number == 1 and start >= 0:
                self._add(self.node_places, _first_name(data, start, end), (start, end))
            elif number == 2 and start >= 0:
                self._read_library(start, end)
            elif number in (3, 4):  # version, versions
                self.versions.append((number, start, end))

    def node(self, name: str) -> Node:
        """Raises `ModuleBroken` if there is none of that name."""
        node = self._nodes.get(name)
        if node is None:
            if name not in self.node_places:
                raise ModuleBroken(f"the graph has no node {name!r}, though it is referred to")
            node = self._nodes[name] = Node(self.data, *self.node_places[name])
        return node

    def function(self, name: str) -> Function:
        """A function of `function_places`."""
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._read_function(*self.function_places[name])
        return function

    def calls(self, node: Node) -> list[str]:
        """The functions of the library that a node refers to."""
        names = [name for name in node.functions() if name in self.function_places]
        return [node.op, *names] if node.op in self.function_places else names

    def function_nodes(self, name: str) -> dict[str, Node]:
        nodes = (Node(self.data, *span) for span in messages(self.data, self.function_places[name], 3))
        return {node.name: node for node in nodes}

    def function_arguments(self, name: str) -> list[Span]:
        """The places of the OpDef.ArgDefs of a function."""
        signatures = messages(self.data, self.function_places[name], 1)
        return [argument for signature in signatures for argument in messages(self.data, signature, 2)]

    def _read_library(self, start: int, end: int) -> None:
        data = self.data
        for number, first, last in fields(data, start, end):
            if number == 1 and first >= 0:
                signature = next(messages(data, (first, last), 1), (last, last))
                self._add(self.function_places, _first_name(data, *signature), (first, last))
            elif number == 2 and first >= 0:
                names = last_text(data, (first, last), 1), last_text(data, (first, last), 2)
                self.gradients[names[0]] = names[1], (first, last)

    def _read_function(self, start: int, end: int) -> Function:
        data = self.data
        calls: dict[str, None] = {}
        states: dict[str, None] = {}
        configured = []
        constant_bytes = 0
        for number, first, last in fields(data, start, end):
            if number == 3 and first >= 0:
                node = Node(data, first, last)
                calls.update(dict.fromkeys(self.calls(node)))
                state = node.state()
                if state is not None:
                    states[state] = None
                elif node.op == "Const":
                    constant_bytes += node.constant_bytes()
                if node.attribute(b"config_proto"):
                    configured.append(node)
            elif number == 5 and first >= 0:  # attr
                _, value = attribute_entry(data, first, last)
                names = functions_of(data, *value)
                calls.update(dict.fromkeys(name for name in names if name in self.function_places))
        return Function(start, end, tuple(calls), tuple(states), constant_bytes, tuple(configured))

    def _add(self, places: dict[str, Span], name: str, place: Span) -> None:
        if name in places:
            raise broken(place[0], f"a second node or function of the name {name!r}")
        if len(places) >= _MAX_NODES:
            raise broken(place[0], f"more than {_MAX_NODES} nodes or functions")
        places[name] = place


def _first_name(data: bytes, start: int, end: int) -> str:
    """The name of a NodeDef or an OpDef: field 1, which a serializer writes first."""
    for number, first, last in fields(data, start, end):
        if number == 1 and first >= 0:
            return text(data, first, last)
    return ""
