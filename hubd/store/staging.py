"""Where a fetch works until its module can be published: ``staging/<random>/``.

Law: nobody but the fetch enters it, it leaves by one rename, and its account in the ledger goes with it.
"""

from __future__ import annotations

import logging
import os

from hubd.store.disk import Disk, storing
from hubd.store.layout import StagingLayout, StoreLayout
from hubd.store.ledger import Ledger, disk_bytes
from hubd.store.trash import throw_away

_log = logging.getLogger(__name__)


class Staging:
    """The place of one fetch: its archive and its attempts to unpack it. Nobody else may enter it.

    A new one, or, at `path`, one that an earlier fetch left. Its account in the ledger is the fetch's to raise before
    it writes.
    """

    def __init__(self, layout: StoreLayout, disk: Disk, ledger: Ledger, path: str | None = None) -> None:
        self._layout = layout
        self._disk = disk
        self._ledger = ledger
        self._place = StagingLayout(path or layout.new_staging())
        if path is None:
            disk.mkdir(self.path, 0o700)
            ledger.reserve(self.path, 0)

    @property
    def path(self) -> str:
        return self._place.path

    @property
    def archive(self) -> str:
        """Where the archive is spooled to; nothing is there yet."""
        return self._place.archive

    def attempt_tree(self, number: int) -> str:
        """A new empty directory for one attempt to unpack; the child fills ``module/`` in it."""
        tree = self._place.tree(number)
        with storing("making room to unpack"):
            self._disk.mkdir(tree, 0o755)
        return tree

    def strip(self, *, to_go_on: bool = True) -> None:
        """Move all but the archive to the trash, and unless a fetch is `to_go_on` from it, what is known of the
        transfer too. Raises `OSError`."""
        kept = {self._place.archive, *((self._place.transfer,) if to_go_on else ())}
        for name in os.listdir(self.path):
            if (entry := self._place.entry(name)) not in kept:
                throw_away(entry, self._layout, self._ledger, self._disk)

    def count(self) -> None:
        """Set down what it takes on the disk: the fetch is over, and nothing more is written. Raises `OSError`."""
        self._ledger.set(self.path, disk_bytes(self.path))

    def discard(self) -> None:
        """Move all of it to the trash, which is emptied behind whoever waits: deleting a large archive takes a while.

        Never raises; what cannot be moved now goes at the next start.
        """
        try:
            throw_away(self.path, self._layout, self._ledger, self._disk)
        except OSError as error:
            _log.warning("cannot move %s to the trash: %s", self.path, error)
