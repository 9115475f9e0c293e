"""What start-up finds, after a kill or a power cut too, and what it does about it.

Law: records decide, also who may enter a tree. Whatever else is there without one goes, partial downloads apart, and
what this daemon has published since is never touched. What cannot be put right is told, and keeps nothing else from
it. At the end the catalog and the ledger know all that is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hubclient.contract import handles
from hubclient.contract.errors import HubError, InUse
from hubd.store.disk import Disk, storing
from hubd.store.layout import StoreLayout
from hubd.store.partials import Partials
from hubd.store.records import Record, Records
from hubd.store.trees import Trees

_log = logging.getLogger(__name__)

_TOLD_FAILURES = 20


@dataclass(frozen=True)
class RecoveryReport:
    """What `mend` found and put right."""

    modules: int
    size_bytes: int
    records_mended: int
    records_removed: int
    views_removed: int
    trees_removed: int
    trees_in_use: frozenset[str]  # digests of those without a record that somebody still holds
    failures: int = 0
    first_failure: str = ""

    def __str__(self) -> str:
        """For the log: what is there, and whatever was not as it should be."""
        mended = {
            "records mended": self.records_mended,
            "records removed": self.records_removed,
            "views removed": self.views_removed,
            "trees removed": self.trees_removed,
            "trees kept that somebody uses": len(self.trees_in_use),
            "failures": self.failures,
        }
        counts = [f"{count} {what}" for what, count in mended.items() if count]
        return ", ".join([f"modules: {self.modules}, {self.size_bytes} bytes", *(counts or ["nothing to mend"])])

    @property
    def warning(self) -> str | None:
        """What to tell of the failures, if there were any."""
        if not self.failures:
            return None
        return (
            f"recovery could not put everything right ({self.failures} failures, and the first was: "
            f"{self.first_failure}); the next start tries again"
        )


def clear(layout: StoreLayout, partials: Partials | None = None, disk: Disk | None = None) -> None:
    """Move what an earlier daemon was staging into the trash, but for the `partials` that a fetch can go on from.

    By renames alone, so quick: call it before serving. Raises `Internal`, `DiskFull`.
    """
    disk = disk or Disk()
    with storing("clearing what was staged"):
        for name in os.listdir(layout.staging):
            path = layout.staging_entry(name)
            if partials is None or not partials.adopt(path):
                disk.rename(path, layout.new_trash())


def mend(trees: Trees, records: Records, direct_until: Callable[[Record], float]) -> RecoveryReport:
    """Empty the trash, mend the views, remove what has no record, and count the rest.

    For a thread behind the serving daemon. A tree without a record that someone still holds stays, and is told; and
    while a record cannot be read, nobody knows which trees have none. Raises `Internal` if nothing can be listed.
    """
    failures = _Failures()
    with failures.told():
        trees.empty_trash()
    # Listed before the records are read: whatever comes later is the serving daemon's, and not looked at.
    digests = list(trees.digests())
    # Found damaged, and killed before its views went.
    withdrawn = set(filter(trees.layout.is_withdrawn, digests))
    views_removed = 0
    with failures.told():
        views_removed = records.withdraw(withdrawn) if withdrawn else 0
    views = list(records.tfhub_views())
    recorded: dict[str, int] = {}
    names: set[str] = set()
    modules = records_mended = records_removed = 0
    are_all_read = True
    for key in list(records.keys()):
        record = None
        with failures.told():
            try:
                record = records.load(key)
            except HubError:
                are_all_read = False
                raise
            if record is None or not os.path.lexists(trees.layout.tree(record.digest)):
                if records.remove_without_tree(key):
                    records_removed += 1
                    continue
                record = records.load(key)
        if record is None:
            continue
        modules += 1
        recorded[record.digest] = record.size_bytes
        if record.reader is None:
            names.update(map(handles.spelling_name, record.spellings))
        with failures.told():
            records_mended += records.mend_views(record, direct_until=direct_until(record))
    if are_all_read:
        for key in [key for key in records.linked_keys() if records.catalog.get(key) is None]:
            with failures.told():
                views_removed += records.remove_without_tree(key)
        for name, seen, digest in views:
            if name not in names or not os.path.lexists(trees.layout.tree(digest)):
                with failures.told():
                    views_removed += records.remove_tfhub_view(name, seen)
    trees_removed, trees_in_use = 0, set[str]()
    for digest in digests:
        with failures.told():
            if are_all_read and digest not in recorded:
                try:
                    trees_removed += trees.evict_unpublished(digest)
                except InUse:
                    trees_in_use.add(digest)
        with failures.told():
            if are_all_read:
                records.admit(digest)
        with failures.told():
            trees.measure(digest)
    with failures.told():
        trees.empty_trash()
    return RecoveryReport(
        modules=modules,
        size_bytes=sum(recorded.values()),
        records_mended=records_mended,
        records_removed=records_removed,
        views_removed=views_removed,
        trees_removed=trees_removed,
        trees_in_use=frozenset(trees_in_use),
        failures=failures.count,
        first_failure=failures.first,
    )


def mend_views(records: Records, digests: Collection[str], direct_until: Callable[[Record], float]) -> None:
    """Mend the views of these trees, which may be served again. After `mend`; raises `Internal`, `DiskFull`."""
    for entry in (entry for digest in digests for entry in records.catalog.of_digest(digest)):
        if (record := records.get(entry.key)) is not None:
            records.mend_views(record, direct_until=direct_until(record))


class _Failures:
    """What could not be put right."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    @contextmanager
    def told(self) -> Iterator[None]:
        """Goes on after an error inside."""
        try:
            yield
        except HubError as error:
            self.count += 1
            self.first = self.first or str(error)
            if self.count <= _TOLD_FAILURES:  # on a full disk each record may fail
                _log.warning("recovery goes on without what failed: %s", error)
