"""The listing of a tree (``files``): what the quick check compares with the disk.

Lines ``size mtime_ns path``, ``saved_model.pb`` and then the largest files first, so that looking at the
first few already covers what matters.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: a name in a path: NAME_MAX of Linux
MAX_SEGMENT_BYTES = 255
#: all paths of one tree together: who reads a listing has them in memory, where some take four bytes for each
MAX_CHARACTERS = 16 << 20


class Entry(NamedTuple):
    size_bytes: int
    mtime_ns: int
    path: str


def dump(entries: Iterable[Entry]) -> bytes:
    """The listing's bytes, in its order."""
    ordered = sorted(entries, key=lambda entry: (entry.path != "saved_model.pb", -entry.size_bytes, entry.path))
    return "".join(f"{entry.size_bytes} {entry.mtime_ns} {entry.path}\n" for entry in ordered).encode()


def parse(data: bytes) -> list[Entry]:
    """The entries of a listing; `ValueError` when it is damaged (names have no control characters)."""
    if not data.endswith(b"\n") or b"\0" in data:
        raise ValueError("the listing is cut, or no text")
    entries = []
    for line in data.decode().split("\n")[:-1]:
        size, mtime, path = line.split(" ", 2)
        entries.append(Entry(int(size), int(mtime), path))
    return entries


def first_difference(module: str, entries: Sequence[Entry]) -> str | None:
    """The first listed file whose size or mtime is not the listing's, or that is gone; None when all agree."""
    for size_bytes, mtime_ns, path in entries:
        try:
            status = os.lstat(f"{module}/{path}")
        except OSError:
            return path
        if status.st_size != size_bytes or status.st_mtime_ns != mtime_ns:
            return path
    return None
