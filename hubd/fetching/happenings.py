"""What becomes of cached modules, as events.

Law: an event is of one handle, so that nobody is told of a private one who may not know of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hubd.events import Event, Events
from hubd.store.catalog import Catalog, Entry


def evicted(
    events: Events, entries: Iterable[Entry], disk_bytes: int, reason: Literal["room", "pruned", "removed"]
) -> None:
    """What these records named is gone; `disk_bytes`: what the tree took, once for all handles that shared it."""
    for entry in entries:
        fields = {"handle": entry.handle, "key": entry.key, "digest": entry.digest}
        events.publish(Event("evicted", {**fields, "disk_bytes": disk_bytes, "reason": reason}, entry.is_seen_by))


def of_tree(events: Events, catalog: Catalog, name: str, digest: str) -> None:
    """A tree was found ``damaged``, or ``repaired``."""
    for entry in catalog.of_digest(digest):
        fields = {"handle": entry.handle, "key": entry.key, "digest": digest}
        events.publish(Event(name, fields, entry.is_seen_by))
