"""The quick check: are the files of a tree those that were published, by size and mtime?

Law: a listing kept in memory is used only for the very ``files`` that it was read from.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict

from hubclient.contract import listing
from hubclient.contract.lease import Lease
from hubd.store.disk import read_file
from hubd.store.layout import TreeLayout

_MAX_LISTING_BYTES = 64 << 20

# Lease inode, then inode, mtime and size of ``files``: a repaired tree keeps the first and has new others.
_Identity = tuple[tuple[int, int], int, int, int]


class QuickCheck:
    """Compares trees with their listings and remembers those, the last used `max_entries` lines. Thread-safe."""

    def __init__(self, max_entries: int = 32768) -> None:
        self._max_entries = max_entries
        self._entries = 0
        self._listings: OrderedDict[_Identity, tuple[listing.Entry, ...]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def remembered_entries(self) -> int:
        """How many lines it remembers, counting one for each listing."""
        return self._entries

    def difference(self, tree: TreeLayout, lease: Lease) -> str | None:
        """What is gone or not as it was published; None when all is there.

        `lease` is the tree's, held. Raises `OSError` when it cannot be known.
        """
        try:
            entries = self._listing(tree.listing, lease)
        except ValueError:
            return os.path.basename(tree.listing)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            return os.path.basename(tree.listing)
        return listing.first_difference(tree.module, entries)

    def _listing(self, path: str, lease: Lease) -> tuple[listing.Entry, ...]:
        status = os.lstat(path)
        identity = (lease.inode, status.st_ino, status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._listings.get(identity)
            if known is not None:
                self._listings.move_to_end(identity)
                return known
        entries = tuple(listing.parse(read_file(path, _MAX_LISTING_BYTES)))
        with self._lock:
            if self._listings.setdefault(identity, entries) is entries:
                self._entries += 1 + len(entries)
            while self._entries > self._max_entries:
                _, forgotten = self._listings.popitem(last=False)
                self._entries -= 1 + len(forgotten)
        return entries
