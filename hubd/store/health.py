"""What was found damaged and what was repaired since the daemon started.

Law: one damage is told and counted once, however many meet it before it is repaired.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Health:
    """Thread-safe."""

    def __init__(self) -> None:
        self.damaged = 0
        self.repaired = 0
        #: is told of ``damaged`` and ``repaired`` trees, by their digests, in whatever thread that happens
        self.tell: Callable[[str, str], None] = lambda what, digest: None
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def found_damaged(self, digest: str, what: str) -> None:
        """The tree is not as it was published; `what` names the parts that are not."""
        with self._lock:
            if digest in self._known:
                return
            self._known.add(digest)
            self.damaged += 1
        _log.warning("the tree %s is damaged: %s is not as it was published", digest, what)
        self.tell("damaged", digest)

    def was_repaired(self, digest: str) -> None:
        """Its files are right again, under its name."""
        with self._lock:
            self._known.discard(digest)
            self.repaired += 1
        _log.warning("the tree %s was repaired", digest)
        self.tell("repaired", digest)

    def is_there(self, digest: str) -> None:
        """The tree was published where none was: a repair, if it was missed."""
        if digest in self._known:
            self.was_repaired(digest)

    def is_gone(self, digest: str) -> None:
        """The tree was removed, and nobody misses it: the next one of this name is another one."""
        with self._lock:
            self._known.discard(digest)
