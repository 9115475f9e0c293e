"""TensorFlow's TF_Status, as exceptions.

Law: every call that takes a status is followed by a look at it, and no status outlives the block that made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hubclient.contract.errors import HubError

if TYPE_CHECKING:
    from hubclient.capi.library import Library

#: absl's status codes (absl/status/status.h), as TF_Code names them
_CODES = {
    1: "cancelled",
    2: "unknown",
    3: "invalid argument",
    4: "deadline exceeded",
    5: "not found",
    6: "already exists",
    7: "permission denied",
    8: "resource exhausted",
    9: "failed precondition",
    10: "aborted",
    11: "out of range",
    12: "unimplemented",
    13: "internal",
    14: "unavailable",
    15: "data loss",
    16: "unauthenticated",
}


class Status:
    """A TF_Status, for as many calls as are made one after the other."""

    __slots__ = ("_library", "pointer")

    def __init__(self, library: Library, pointer: int) -> None:
        self._library = library
        self.pointer = pointer

    def check(self, error: type[HubError], doing: str) -> None:
        """Raise `error`, with TensorFlow's words, if the last call failed."""
        code: int = self._library.TF_GetCode(self.pointer)
        if code:
            message = self._library.TF_Message(self.pointer).decode("utf-8", "replace")
            raise error(f"{doing}: {message or 'no reason given'} ({_CODES.get(code, f'code {code}')})")


@contextmanager
def new_status(library: Library) -> Iterator[Status]:
    """A status for the block."""
    pointer = library.TF_NewStatus()
    try:
        yield Status(library, pointer)
    finally:
        library.TF_DeleteStatus(pointer)
