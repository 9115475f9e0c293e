"""A NodeDef read in place: its name, its operation and what its attributes say.

Law: an attribute is looked into when it is asked for; until then only its place is known.

Sources: TensorFlow's node_def.proto, attr_value.proto, tensor.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from hubclient.capi.wire import Span, broken, field, fields, last_number, last_text, map_entry, messages, text, texts

STRING = 7  # types.proto

#: Operations that stand for a variable or a table, which lives in the session beside the graph: those of the same
#: `shared_name` for the same one. An anonymous one has no such name.
VARIABLES = frozenset(("VarHandleOp", "VariableV2", "Variable"))
_TABLES = "HashTable", "MutableHashTable", "MutableHashTableOfTensors", "MutableDenseHashTable"
STATES = VARIABLES.union(*((table, f"{table}V2", f"Anonymous{table}") for table in _TABLES))

_MAX_ELEMENTS = 1 << 40
_MAX_NESTED_FUNCTIONS = 32
# The first byte of an AttrValue tells which member of the oneof it is: a serializer writes one alone.
_LIST, _FUNCTION, _LIST_OF_FUNCTIONS = 0x0A, 0x52, 0x4A


class Node:
    """A NodeDef."""

    __slots__ = ("_attributes", "_data", "_inputs", "end", "name", "op", "start")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self.start, self.end = start, end
        name = op = (end, end)
        self._inputs: list[Span] = []
        self._attributes: dict[bytes, Span] = {}
        at = start
        while at < end:  # what `fields` does, at half the cost where tag and length are a byte each
            tag = data[at]
            last = at + 2 + data[at + 1] if at + 1 < end and data[at + 1] < 0x80 else -1
            if tag & 0x87 == 2 and 0 <= last <= end:
                number, first, at = tag >> 3, at + 2, last
            else:
                number, first, last, at = field(data, at, end)
            if number == 5 and first >= 0:
                key, value = attribute_entry(data, first, last)
                self._attributes[key] = value
            elif number == 3 and first >= 0:
                self._inputs.append((first, last))
            elif number == 2 and first >= 0:
                op = (first, last)
            elif number == 1 and first >= 0:
                name = (first, last)
        self.name = text(data, *name)
        self.op = text(data, *op)

    @property
    def inputs(self) -> list[str]:
        return [text(self._data, *span) for span in self._inputs]

    def attribute(self, key: bytes) -> Span | None:
        """The place of an AttrValue."""
        return self._attributes.get(key)

    def functions(self) -> Iterator[str]:
        """Names of the functions that attributes refer to."""
        data = self._data
        for start, end in self._attributes.values():
            if start < end and data[start] in (_FUNCTION, _LIST):
                yield from functions_of(data, start, end)

    def type(self, key: bytes) -> int:
        """The DataType in an attribute; 0 if there is none."""
        span = self.attribute(key)
        return last_number(self._data, span, 6) if span else 0

    def string(self, key: bytes) -> bytes | None:
        """The string in an attribute; None if there is none."""
        span = self.attribute(key)
        if span is None:
            return None
        found = [self._data[start:end] for start, end in messages(self._data, span, 2)]
        return found[-1] if found else None

    def strings(self, key: bytes) -> list[str]:
        """The list of strings in an attribute."""
        return [value for span in self._members(key, 1) for value in texts(self._data, span, 2)]

    def tensor_strings(self) -> list[str]:
        """The elements of a constant of strings, as far as they are written: the last one stands for all others."""
        return [value for span in self._members(b"value", 8) for value in texts(self._data, span, 8)]

    def list_place(self, key: bytes) -> Span | None:
        """The place of the AttrValue.ListValue of an attribute."""
        return next(self._members(key, 1), None)

    def tensor_size(self) -> int:
        """How many elements the attribute `shape` says; 0 if it does not say."""
        size, known = 1, False
        for shape in self._members(b"shape", 7):
            known = True
            if last_number(self._data, shape, 3):  # unknown_rank
                return 0
            for dimension in messages(self._data, shape, 2):
                length = last_number(self._data, dimension, 1)
                size = min(size * length, _MAX_ELEMENTS) if length < _MAX_ELEMENTS else 0
        return size if known else 0

    def state(self) -> str | None:
        """What names the variable or table that this node stands for: nodes that agree on it share it."""
        if self.op not in STATES:
            return None
        shared = self.string(b"shared_name")
        return shared.decode(errors="surrogateescape") if shared else self.name

    def constant_bytes(self) -> int:
        """The size of a constant of numbers."""
        return self.end - self.start if self.op == "Const" and self.type(b"dtype") != STRING else 0

    def _members(self, key: bytes, number: int) -> Iterator[Span]:
        span = self.attribute(key)
        if span is not None:
            yield from messages(self._data, span, number)


def functions_of(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[str]:
    """Names of the functions in an AttrValue: itself one, a list of them, or in the attributes of one."""
    if depth > _MAX_NESTED_FUNCTIONS:
        raise broken(start, f"functions nested more than {_MAX_NESTED_FUNCTIONS} deep")
    if start >= end or data[start] not in (_FUNCTION, _LIST):
        return
    for number, first, last in fields(data, start, end):
        if number == 10 and first >= 0:
            lists = [(first, last)]
        elif number == 1 and first < last and data[first] == _LIST_OF_FUNCTIONS:
            lists = list(messages(data, (first, last), 9))
        else:
            continue
        for place in lists:  # NameAttrList
            yield last_text(data, place, 1)
            for attribute in messages(data, place, 2):
                yield from functions_of(data, *map_entry(data, *attribute)[1], depth + 1)


def attribute_entry(data: bytes, start: int, end: int) -> tuple[bytes, Span]:
    """`map_entry`, at a glance where key and value are written in this order and are short."""
    if end - start > 3 and data[start] == 0x0A:
        key_bytes = data[start + 1]
        value = start + 2 + key_bytes
        if key_bytes < 0x80 and value + 1 < end and data[value] == 0x12 and data[value + 1] == end - value - 2 < 0x80:
            return data[start + 2 : value], (value + 2, end)
    return map_entry(data, start, end)
