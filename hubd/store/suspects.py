"""What an unclean stop may have left unlike what was published: trees that came since the last clean point.

Law: a suspect is withdrawn before the daemon serves, and only a deep check or a fetch brings it back. Killed at any
moment, the next start finds the same suspects: the clean point moves only when all were checked.
"""

from __future__ import annotations

import os

from hubd.store.disk import storing
from hubd.store.hold import CacheHold
from hubd.store.layout import StoreLayout
from hubd.store.records import Records
from hubd.store.trees import Trees

# The kernel stamps files by a clock of its own, which is coarser; and clocks are set.
_MARGIN_SECONDS = 60.0


def withdraw_suspects(hold: CacheHold, trees: Trees, records: Records) -> list[str]:
    """Withdraw the suspects, if there can be any, with their views; their digests. Raises `DiskFull`, `Internal`."""
    if hold.unchecked_since is None:
        return []
    since = hold.unchecked_since - _MARGIN_SECONDS
    with storing("looking for suspects"):
        if os.lstat(hold.layout.trees).st_mtime < since:
            return []  # as mostly: nothing came or went, and ten thousand manifests need not be looked at
    suspects = [digest for digest in trees.digests() if _published_at(hold.layout, digest) >= since]
    for digest in suspects:
        trees.suspect(digest)
    if suspects:
        records.withdraw(set(suspects))
    return suspects


def _published_at(layout: StoreLayout, digest: str) -> float:
    try:
        return os.lstat(layout.manifest(digest)).st_mtime
    except OSError:
        return float("inf")  # it is damaged; the check will say how
