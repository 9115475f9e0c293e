"""What a set of operations can touch: nodes by their inputs, functions by their calls, and the state behind both.

Law: whatever is reached has all that it refers to reached too, so that what is kept is a whole graph.
"""

from __future__ import annotations

from collections.abc import Iterable

from hubclient.capi.graph_def import Graph
from hubclient.capi.node_def import Node


class Reach:
    """A growing part of a graph that is closed under inputs, calls and colocation."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.nodes: dict[str, Node] = {}
        self.functions: set[str] = set()
        #: variables and tables, by the name under which the session shares them
        self.states: set[str] = set()
        #: the size of the constants of numbers
        self.constant_bytes = 0

    def add(self, references: Iterable[str]) -> Iterable[str]:
        """Reach nodes, named as ``node``, ``node:output`` or ``^node``; the states that are new by that.

        Raises `ModuleBroken` for a node that does not exist.
        """
        graph = self._graph
        new_states: list[str] = []
        pending = [node_name(reference) for reference in references]
        functions: list[str] = []
        while pending:
            name = pending.pop()
            if name in self.nodes:
                continue
            node = self.nodes[name] = graph.node(name)
            pending += [node_name(reference) for reference in node.inputs]
            # A graph with a node that is to be beside one which is not there cannot be imported.
            pending += [beside[5:] for beside in node.strings(b"_class") if beside[:5] == "loc:@"]
            functions += graph.calls(node)
            self.constant_bytes += node.constant_bytes()
            state = node.state()
            if state is not None:
                new_states.append(state)
        while functions:
            name = functions.pop()
            if name in self.functions:
                continue
            self.functions.add(name)
            function = graph.function(name)
            functions += function.calls
            self.constant_bytes += function.constant_bytes
            new_states += function.states
            gradient = graph.gradients.get(name)
            if gradient is not None and gradient[0] in graph.function_places:
                functions.append(gradient[0])
        found = set(new_states) - self.states
        self.states |= found
        return found

    @property
    def size(self) -> int:
        """How many nodes and functions it has."""
        return len(self.nodes) + len(self.functions)


def node_name(reference: str) -> str:
    """The node that an input, ``node``, ``node:output`` or ``^node``, refers to."""
    return reference.lstrip("^").partition(":")[0]
