"""Taking modules out of the cache: to make room, or because an administrator says so.

Law: a tree goes first, under the write side of its lease, then the views and the records that named it, and one change
of this kind is made at a time. What is chosen from memory is looked up on the disk before it goes. A pin is a record's
own, or one that a prefetch file asks for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from hubclient.contract.errors import InUse, NotFound
from hubd.store.budget import Candidate, choose_victims
from hubd.store.catalog import Entry
from hubd.store.partials import Partials
from hubd.store.pins import Pins
from hubd.store.records import Records
from hubd.store.trees import Trees


@dataclass(frozen=True)
class Victim:
    """A tree that was chosen to go, or a broken-off download (without handles), and what became of it."""

    name: str  # the tree's digest, or the download's name
    handles: tuple[str, ...]
    size_bytes: int  # of the unpacked module
    disk_bytes: int
    last_used: float  # unix seconds
    removed: bool
    in_use: bool = False
    entries: tuple[Entry, ...] = ()  # that named the tree


class Removed(NamedTuple):
    """What `remove` took away."""

    entry: Entry
    freed_bytes: int
    shared_with: tuple[str, ...]  # handles that still name the tree


class Kept(NamedTuple):
    """What cannot go, in bytes on disk, and the keys of what is leased."""

    pinned_bytes: int
    leased_bytes: int
    in_flight_bytes: int
    leased_keys: tuple[str, ...]


class Evictor:
    """Removes trees with all that names them. All methods block; thread-safe. `pins` are those of prefetch files."""

    def __init__(self, trees: Trees, records: Records, partials: Partials) -> None:
        self.pins = Pins()
        self._trees = trees
        self._records = records
        self._partials = partials
        # Held while a tree and its records go, so that whoever sees one without the other is not misled.
        self.changing = threading.Lock()

    def make_room(self, need_bytes: Callable[[], int], *, in_full: bool = False) -> list[Victim]:
        """Evict what was used least recently until no bytes are needed any more, and delete it from the disk.

        `need_bytes` tells how much is still missing; it is asked again after each step. Nothing happens to what is
        pinned, leased or in a flight; and with `in_full` nothing at all, if all that may go would not be enough.
        Raises `Internal`, `DiskFull`.
        """
        if need_bytes() <= 0:
            return []
        self._trees.empty_trash()  # what is dead goes before what is only old
        tried: set[str] = set()
        gone: list[Victim] = []
        while (need := need_bytes()) > 0:
            candidates = [one for one in (*self._broken_off(), *self.candidates()) if one.name not in tried]
            victims = (self._choose_enough if in_full else choose_victims)(candidates, need)
            if not victims:
                break
            tried.update(victim.name for victim in victims)
            gone += [done for victim in victims if (done := self._evict(victim)).removed]
            self._trees.empty_trash()
        return gone

    def could_make_room(self, need_bytes: Callable[[], int]) -> bool:
        """Whether `make_room` in full would do. Nothing goes but what is dead already."""
        if need_bytes() > 0:
            self._trees.empty_trash()
        need = need_bytes()
        return need <= 0 or bool(self._choose_enough([*self._broken_off(), *self.candidates()], need))

    def prune(self, *, older_than: float | None, to_size_bytes: int | None, dry_run: bool) -> Iterable[Victim]:
        """Evict every module last used before `older_than` (unix seconds), then the least recently used ones until
        the cache takes at most `to_size_bytes`; what became of each, one by one."""
        pending = sorted(self.candidates(), key=lambda one: one.last_used)
        used_bytes = self._trees.ledger.used_bytes
        for partial in self._broken_off() if to_size_bytes is not None else ():
            if used_bytes > (to_size_bytes or 0):
                used_bytes -= partial.size_bytes
                if not dry_run:
                    self._evict(partial)
        for candidate in pending:
            if candidate.pinned:
                continue
            is_old = older_than is not None and candidate.last_used < older_than
            if not is_old and (to_size_bytes is None or used_bytes <= to_size_bytes):
                continue
            victim = self._victim(candidate, removed=False) if dry_run else self._evict(candidate)
            if victim.removed or (dry_run and not victim.in_use):
                used_bytes -= candidate.size_bytes
            yield victim
        if not dry_run:
            self._trees.empty_trash()

    def remove(self, key: str, *, force: bool) -> Removed:
        """Remove what is recorded of a handle, and with the last handle its tree.

        Raises `NotFound`; unless `force` also `InUse`, for what prefetch files pin, and if a leased tree would go.
        """
        with self.changing:
            record = self._records.load(key)
            entry = self._records.catalog.get(key)
            if record is None or entry is None:
                raise NotFound("the cache has no module of this key")
            if not force and (files := self.pins.of(key)):
                names = ", ".join(files)
                raise InUse(f"{entry.handle} is wanted by the prefetch file {names}, which pins it: take it out there")
            others = tuple(one.handle for one in self._records.catalog.of_digest(record.digest) if one.key != key)
            if others:
                self._records.remove(key)
                return Removed(entry, 0, others)
            freed_bytes = self._trees.evict(record.digest, force=force)
            self._records.remove_without_tree(key, even_pinned=True)
        return Removed(entry, freed_bytes, ())

    def candidates(self) -> list[Candidate]:
        """The modules that could go, each tree as recent and as pinned as its records together."""
        bytes_of, tree = self._trees.ledger.bytes_of, self._trees.layout.tree
        found = []
        for digest, entries in self._records.catalog.by_digest():
            last_used, pinned = entries[0].last_used, self.is_pinned(entries[0])
            for entry in entries[1:]:
                last_used, pinned = max(last_used, entry.last_used), pinned or self.is_pinned(entry)
            found.append(Candidate(digest, bytes_of(tree(digest)), last_used, False, pinned))
        return found

    def is_pinned(self, entry: Entry) -> bool:
        """Whether it stays: its record says so, or a prefetch file."""
        return entry.pinned or entry.key in self.pins

    def kept(self) -> Kept:
        """What cannot go. Looks at the lease of each tree."""
        pinned_bytes = leased_bytes = 0
        leased: list[str] = []
        for candidate in self.candidates():
            if candidate.pinned:  # which stays so, and a lease goes by itself
                pinned_bytes += candidate.size_bytes
            elif self._trees.is_held(candidate.name):
                leased += [entry.key for entry in self._records.catalog.of_digest(candidate.name)]
                leased_bytes += candidate.size_bytes
        in_flight_bytes = self._trees.ledger.bytes_below(self._trees.layout.staging)
        in_flight_bytes -= sum(partial.size_bytes for partial in self._broken_off())
        return Kept(pinned_bytes, leased_bytes, in_flight_bytes, tuple(leased))

    def _choose_enough(self, candidates: list[Candidate], need_bytes: int) -> list[Candidate]:
        """Who goes, of those that nobody holds just now; nobody if that is not enough."""
        while True:
            victims = choose_victims(candidates, need_bytes)
            held = {one.name for one in victims if not one.is_partial and self._trees.is_held(one.name)}
            if not held:
                return victims if sum(victim.size_bytes for victim in victims) >= need_bytes else []
            candidates = [one for one in candidates if one.name not in held]

    def _broken_off(self) -> list[Candidate]:
        return [
            Candidate(partial.key, partial.size_bytes, partial.updated_at.timestamp(), is_partial=True)
            for partial in self._partials.all()
        ]

    def _evict(self, candidate: Candidate) -> Victim:
        if candidate.is_partial:
            removed = self._partials.drop(candidate.name) > 0
            return Victim(candidate.name, (), 0, candidate.size_bytes, candidate.last_used, removed)
        with self.changing:
            # The records on the disk decide: one may have been pinned, by hand too, since the catalog was read.
            entries = self._records.catalog.of_digest(candidate.name)
            records = [self._records.load(entry.key) for entry in entries]
            is_wanted = any(entry.key in self.pins for entry in entries)
            if is_wanted or any(record is not None and record.pinned for record in records):
                return self._victim(candidate, removed=False)
            try:
                self._trees.evict(candidate.name)
            except InUse:
                return self._victim(candidate, removed=False, in_use=True)
            victim = self._victim(candidate, removed=True)
            for entry in entries:
                self._records.remove_without_tree(entry.key)
        return victim

    def _victim(self, candidate: Candidate, *, removed: bool, in_use: bool = False) -> Victim:
        entries = self._records.catalog.of_digest(candidate.name)
        return Victim(
            name=candidate.name,
            handles=tuple(entry.handle for entry in entries),
            size_bytes=max((entry.size_bytes for entry in entries), default=0),
            disk_bytes=candidate.size_bytes,
            last_used=candidate.last_used,
            removed=removed,
            in_use=in_use or (not removed and self._trees.is_held(candidate.name)),
            entries=tuple(entries),
        )
