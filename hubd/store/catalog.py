"""What the records say, in memory: who lists or evicts must not read ten thousand files for it.

Law: a record on disk is the truth. The catalog follows each write of the daemon, which is the only writer, is read
anew at start, and decides nothing that is not looked up again before something is removed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

_CLOCK_SECONDS = 60.0  # clocks are set by less now and then


class Entry(NamedTuple):
    """One record, as far as listings and eviction need it. Times are unix seconds."""

    key: str
    handle: str
    digest: str
    size_bytes: int  # of the unpacked module
    immutable: bool
    pinned: bool
    fetched_at: float
    last_used: float
    reader: int | None = None  # the uid that it is for; None: everyone
    granted_until: float = 0.0  # to that one

    def is_seen_by(self, uid: int) -> bool:
        """Whether this user may know of it."""
        return self.reader is None or (self.reader == uid and self.is_granted(time.time()))

    def is_granted(self, now: float) -> bool:
        """Whether the reader may have it at this time. A grant of a time to come is a clock's mistake."""
        return self.granted_until > now and self.fetched_at <= now + _CLOCK_SECONDS


class Catalog:
    """The entries by key and by digest. Thread-safe: iterate over what a method gives, which is a copy."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._keys: dict[str, set[str]] = {}
        self._private: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        with self._lock:
            self._drop(entry.key)
            self._entries[entry.key] = entry
            self._keys.setdefault(entry.digest, set()).add(entry.key)
            if entry.reader is not None:
                self._private.add(entry.key)

    def remove(self, key: str) -> None:
        with self._lock:
            self._drop(key)

    def touch(self, key: str, last_used: float) -> None:
        """The record was used at that time; never moves back."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.last_used < last_used:
                self._entries[key] = entry._replace(last_used=last_used)

    def no_later_than(self, now: float) -> None:
        """What was used in a time to come, by a clock that was wrong, was used now."""
        with self._lock:
            for key, entry in self._entries.items():
                if entry.last_used > now:
                    self._entries[key] = entry._replace(last_used=now)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries.values())

    def of_digest(self, digest: str) -> list[Entry]:
        """The entries that name a tree, by handle."""
        with self._lock:
            entries = [self._entries[key] for key in self._keys.get(digest, ())]
        return sorted(entries, key=lambda entry: entry.handle)

    def private(self) -> list[Entry]:
        """The entries that are for one user alone."""
        with self._lock:
            return [self._entries[key] for key in self._private]

    def by_digest(self) -> Iterator[tuple[str, list[Entry]]]:
        """Each tree that a record names, with all its entries."""
        with self._lock:
            groups = [(digest, [self._entries[key] for key in keys]) for digest, keys in self._keys.items()]
        yield from groups

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._private.discard(key)
        keys = self._keys[entry.digest]
        keys.discard(key)
        if not keys:
            del self._keys[entry.digest]
