"""What a running daemon clears away: the trash, and trees that no handle names any more.

Law: a tree goes only when no record names it and nobody holds it; until then it is tried again.
"""

from __future__ import annotations

from hubclient.contract.errors import InUse
from hubd.store.records import Records
from hubd.store.trees import Trees


def clean(trees: Trees, records: Records, orphans: set[str]) -> None:
    """Removes those of `orphans` that can go, takes them out of the set, and empties the trash. For a thread.

    The catalog must be complete. Raises `Internal`, `DiskFull`.
    """
    if orphans:
        for digest in set(orphans):
            try:
                # Who publishes this digest again just now holds it until its record is written, and longer.
                if not records.catalog.of_digest(digest):
                    trees.evict(digest)
            except InUse:
                continue
            orphans.discard(digest)
    trees.empty_trash()
