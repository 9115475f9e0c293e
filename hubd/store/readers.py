"""Who may read what: a module that was fetched with a user's own credential is that user's alone.

Law: a record is everyone's or one user's, so no record can name the content of one user to another. A tree is open to
the users of all records that name it, and to everyone as soon as one of these is everyone's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from hubd.store.catalog import Entry


def record_key(key: str, reader: int | None, salt: str = "") -> str:
    """The key of the record of a handle's `key` that is this user's; None: everyone's, which is the handle's own.

    Anybody may look whether a file of some name is there. So the name of a private record has a salt that nobody knows.
    """
    return key if reader is None else hashlib.sha256(f"{salt} {key} of uid {reader}".encode()).hexdigest()


def readers_of(entries: Iterable[Entry], now: float) -> frozenset[int] | None:
    """The users who may enter the tree that these records name, at this time in unix seconds; None: everyone."""
    readers = set()
    for entry in entries:
        if entry.reader is None:
            return None
        if entry.is_granted(now):
            readers.add(entry.reader)
    return frozenset(readers)


def to_be_named(readers: Iterable[int]) -> frozenset[int]:
    """Of these, whom an ACL has to name: root and the owner of the tree, who is the daemon, get in without."""
    return frozenset(readers) - {0, os.geteuid()}
