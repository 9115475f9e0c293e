"""Whether a module can be trained further, told from its saved_model.pb without TensorFlow.

Law: yes and no are what the file says; where it says neither, the answer is None.

- TF2: the object graph's root has a list ``trainable_variables`` with something in it, and can be called
  (tensorflow.org/hub/reusable_saved_models; ``saved_object_graph.proto``: the first node is the root).
- TF1: a graph has the collection ``trainable_variables`` (``meta_graph.proto``).
"""

from __future__ import annotations

import os

from hubclient.contract.windowed import Message, Span, is_bytes

_LIST, _CALL = "trainable_variables", "__call__"
_GRAPH, _COLLECTION, _OBJECTS = 2, 4, 7  # fields of SavedModel, and twice of MetaGraphDef
_NODE, _CHILD = 1, 1


def is_fine_tunable(fd: int) -> bool | None:
    """Raises `SavedModelError`."""
    size_bytes = os.fstat(fd).st_size
    message = Message(fd, size_bytes)
    answers: set[bool | None] = set()
    for number, graph in message.fields((0, size_bytes)):
        if number == _GRAPH and is_bytes(graph):
            answers.add(_of_graph(message, graph))
    return True if True in answers else False if False in answers else None


def _of_graph(message: Message, graph: Span) -> bool | None:
    collections, answer = set(), None
    for number, place in message.fields(graph):
        if number == _COLLECTION and is_bytes(place):
            collections.add(next((message.text(key) for field, key in message.fields(place) if field == 1), ""))
        elif number == _OBJECTS and is_bytes(place):
            answer = _of_objects(message, place)
    return True if _LIST in collections else answer


def _of_objects(message: Message, objects: Span) -> bool:
    nodes = [place for number, place in message.fields(objects) if number == _NODE and is_bytes(place)]
    children = dict(_child(message, place) for place in _children(message, nodes[0])) if nodes else {}
    listed = children.get(_LIST, 0)
    return _CALL in children and 0 < listed < len(nodes) and bool(_children(message, nodes[listed]))


def _children(message: Message, node: Span) -> list[Span]:
    return [place for number, place in message.fields(node) if number == _CHILD and is_bytes(place)]


def _child(message: Message, reference: Span) -> tuple[str, int]:
    """The name and the node that an ``ObjectReference`` gives."""
    name, node = "", 0
    for number, place in message.fields(reference):
        if number == 1 and not is_bytes(place):
            node = place[1]
        elif number == 2 and is_bytes(place):
            name = message.text(place)
    return name, node
