"""The warnings of what somebody, or the disk, did to the cache's directories. Reads; changes nothing.

Law: what is wrong with all of them is told instead of what follows from it.
"""

from __future__ import annotations

import os
import time

from hubd.api.users import entrance_warnings
from hubd.fetching.means import Means
from hubd.store import foreign

_FOREIGN_SECONDS = 60.0


class Directories:
    """Looks at them, in a thread."""

    def __init__(self, means: Means, socket: str) -> None:
        self._means = means
        self._layout = means.trees.layout
        self._socket = socket
        self._foreign: tuple[float, list[str]] | None = None

    def warnings(self) -> list[str]:
        """Raises `OSError` when the cache's root is gone."""
        disk = os.statvfs(self._layout.root)
        if disk.f_flag & os.ST_RDONLY:
            return [
                f"the file system of {self._layout.root} is read-only: what is cached is served, and nothing can be "
                "fetched, removed or pinned; the kernel also does that after an error of the disk: see dmesg"
            ]
        if disk.f_files and not disk.f_favail:
            return [
                "the file system has no inodes left, that is, too many files: nothing can be fetched before some are "
                "gone; `hubctl prune` removes modules"
            ]
        allowed = os.R_OK | os.W_OK | os.X_OK
        lost = [path for path in self._layout.directories if not (os.path.isdir(path) and os.access(path, allowed))]
        if lost:
            return [
                f"gone, or closed to uid {os.geteuid()}: {', '.join(lost)}; give hubd its access back, or restart it: "
                "what is gone is made anew, and modules are fetched again when they are asked for"
            ]
        return [*entrance_warnings(self._means, self._socket), *self._look_for_foreign()]

    def _look_for_foreign(self) -> list[str]:
        """The warning of entries in ``tfhub/`` that are not the store's, as of a minute ago at most."""
        now = time.monotonic()
        if self._foreign is None or now - self._foreign[0] >= _FOREIGN_SECONDS:
            warning = foreign.warning(self._layout)
            self._foreign = now, [warning] if warning is not None else []
        return self._foreign[1]
