"""What a running daemon clears away: the trash, and trees that no handle names any more.

Law: a tree goes only when no record names it and nobody holds it; until then it is tried again.
"""

from __future__ import annotations

from hubclient.contract.errors import InUse
from hubd.store.records import Records
from hubd.store.trees import Trees


def clean(trees: Trees, records: Records, orphans: set[str]) -> None:
    """Removes those of `orphans` that can go, takes them out of the set, and empties the trash. For a thread.

    Raises `Internal`, `DiskFull`.
    """
    if orphans:
        tried = set(orphans)
        named = {record.digest for _, record in records.all()}
        for digest in tried:
            try:
                # Who publishes this digest again just now holds it until its record is written, and longer.
                if digest not in named:
                    trees.evict(digest)
            except InUse:
                continue
            orphans.discard(digest)
    trees.empty_trash()
