"""A smaller GraphDef: the reached nodes and functions, as they are in the file but for what is added to some nodes.

Law: every byte of a large constant is copied once.

A field that is added at the end of a NodeDef replaces an attribute of the same name: in a map, the last entry counts
(protobuf.dev/programming-guides/encoding). Two ConfigProtos one behind the other are one with the fields of both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from hubclient.capi.graph_def import Graph
from hubclient.capi.node_def import STRING, Node
from hubclient.capi.reaching import Reach
from hubclient.capi.wire import encode, encode_head
from hubclient.model_errors import ModuleUnsupported

# ConfigProto.graph_options.rewrite_options.disable_meta_optimizer
_WITHOUT_GRAPPLER = encode(10, encode(10, encode(19, 1)))

_Pieces = list[bytes | memoryview]


def strip(graph: Graph, reached: Reach, constants: Mapping[str, str], *, keep_grappler: bool) -> bytes:
    """The serialized GraphDef of what is reached; `constants` are nodes with the strings that they shall hold.

    Unless `keep_grappler`, the graph optimizer is switched off for every function that a node calls.
    """
    view = memoryview(graph.data)
    pieces: _Pieces = []
    for name in graph.node_places:
        node = reached.nodes.get(name)
        if node is not None:
            added = _constant(constants[name]) if name in constants else b""
            if not keep_grappler:
                added += _without_grappler(node)
            pieces += _node(1, view, node, added)
    library: _Pieces = []
    for name in graph.function_places:
        if name in reached.functions:
            library += _function(graph, view, name, keep_grappler)
    for name, (gradient, (start, end)) in graph.gradients.items():
        if name in reached.functions and gradient in reached.functions:
            library += (encode_head(2, end - start), view[start:end])
    if library:
        pieces += (encode_head(2, sum(map(len, library))), *library)
    for number, start, end in graph.versions:
        pieces.append(encode(number, end) if start < 0 else encode(number, graph.data[start:end]))
    return b"".join(pieces)


def _node(number: int, view: memoryview, node: Node, added: bytes) -> _Pieces:
    return [encode_head(number, node.end - node.start + len(added)), view[node.start : node.end], added]


def _function(graph: Graph, view: memoryview, name: str, keep_grappler: bool) -> _Pieces:
    function = graph.function(name)
    pieces: _Pieces = []
    at = function.start
    for node in () if keep_grappler else function.configured:
        head = encode_head(3, node.end - node.start)
        node_start = node.start - len(head)
        if view[node_start : node.start] != head:
            raise ModuleUnsupported(f"the function {name!r} is not written as a serializer writes it")
        pieces += (view[at:node_start], *_node(3, view, node, _without_grappler(node)))
        at = node.end
    pieces.append(view[at : function.end])
    return [encode_head(1, sum(map(len, pieces))), *pieces]


def _without_grappler(node: Node) -> bytes:
    config = node.string(b"config_proto")
    return b"" if config is None else _attribute(b"config_proto", encode(2, config + _WITHOUT_GRAPPLER))


def _constant(text: str) -> bytes:
    """The attribute `value` of a scalar string constant."""
    return _attribute(b"value", encode(8, encode(1, STRING) + encode(2, b"") + encode(8, os.fsencode(text))))


def _attribute(key: bytes, value: bytes) -> bytes:
    """One entry of NodeDef.attr; `value` is an AttrValue."""
    return encode(5, encode(1, key) + encode(2, value))
