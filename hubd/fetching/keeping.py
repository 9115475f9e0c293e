"""Keeps what arrives of an archive, so that a later fetch can go on from there, whatever ends this one.

Law: small archives cost nothing extra, and content that was found wrong is never kept.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import threading
import time

from hubclient.contract.errors import CacheFull, DiskFull, UpstreamTimeout, UpstreamUnavailable
from hubd.fetching.means import Means
from hubd.network.sources import Delivery
from hubd.store.staging import Staging

_log = logging.getLogger(__name__)

_FIRST_SAVE_BYTES = 1 << 20
_SAVE_EVERY_SECONDS = 10.0


def is_mendable(error: BaseException) -> bool:
    """Whether a later try may do better with what this one left: nothing is wrong with the bytes themselves."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, asyncio.CancelledError | UpstreamUnavailable | UpstreamTimeout | DiskFull | CacheFull)


class Keeping:
    """For one delivery, in one place. `on_frontier` is for the event loop, `leave` for a thread."""

    def __init__(
        self, means: Means, handle: str, delivery: Delivery, staging: Staging, reader: int | None = None
    ) -> None:
        self._means = means
        self._staging = staging
        self._transfer = None
        if (strong := delivery.strong) is not None and delivery.total_bytes != 0:
            begun = means.partials.begun(handle, strong.etag, strong.last_modified, delivery.total_bytes)
            self._transfer = begun.model_copy(update={"reader": reader, "of_fleet": delivery.tier == "fleet"})
        self._save_at_bytes = delivery.from_bytes + _FIRST_SAVE_BYTES if self._transfer is not None else math.inf
        self._save_at = 0.0
        self._is_saved = delivery.from_bytes > 0
        self._saving = threading.Lock()
        self._is_over = self._is_surrendered = False
        self._frontier_bytes = delivery.from_bytes

    def on_frontier(self, frontier_bytes: int) -> None:
        """Bytes ``[0, frontier_bytes)`` are in the spool: now and then that is saved, beside the transfer."""
        self._frontier_bytes = frontier_bytes
        if frontier_bytes < self._save_at_bytes:
            return
        now = time.monotonic()
        if now >= self._save_at:
            # The first time without a sync, which would slow down a transfer that takes a moment.
            is_first, self._is_saved = not self._is_saved, True
            self._save_at = now + _SAVE_EVERY_SECONDS
            self._means.threads.submit(self._save, 0 if is_first else frontier_bytes)

    def before_holes(self) -> bool:
        """In a thread, before bytes are written out of their order: whether they may be.

        From here on the size of the spool says nothing, and that must be known before it is true.
        """
        with self._saving:
            if self._transfer is None:
                return False
            sparse = self._transfer.model_copy(update={"sparse": True})
            try:
                self._means.partials.save(self._staging, sparse, self._frontier_bytes)
            except OSError as failure:
                _log.warning("one connection has to do, for it cannot be saved how far a transfer is: %s", failure)
                return False
            self._transfer, self._is_saved = sparse, True
            return True

    def leave(self, error: BaseException | None) -> None:
        """The fetch is over, by this error or with a module: keep what is there, or discard it. Never raises."""
        with self._saving:
            if self._is_surrendered:
                return
            self._is_over = True
            mendable = self._transfer if error is not None and is_mendable(error) else None
            if mendable is None or not self._means.partials.keep(self._staging, mendable, self._frontier_bytes):
                self._staging.discard()

    def surrender(self) -> None:
        """For the event loop: somebody else sees to the place from now on, and `leave` has nothing to do."""
        self._is_over = self._is_surrendered = True

    def hand_over(self) -> Staging:
        """The surrendered place, with the archive alone in it, and in its account what that takes. Raises `OSError`."""
        with self._saving:  # what was being saved is there by now
            self._staging.strip(to_go_on=False)
            self._staging.count()
        return self._staging

    def discard(self) -> None:
        """The surrendered place goes. Never raises."""
        with self._saving:  # who hands it over may have been left alone with that, and would open its account anew
            self._staging.discard()

    def _save(self, frontier_bytes: int) -> None:
        # The one before may take long on a busy disk: then this one is left out.
        if not self._saving.acquire(blocking=False):
            return
        try:
            if self._transfer is not None and not self._is_over:
                self._means.partials.save(self._staging, self._transfer, frontier_bytes)
        except OSError as failure:
            _log.warning("cannot save how far a transfer is: %s", failure)
        finally:
            self._saving.release()
