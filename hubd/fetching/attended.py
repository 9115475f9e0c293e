"""Who waits for a fetch, and whose it counts as.

Law: a user knows of what it asked for, and of what is given to anyone; and what counts as a user's, that user started.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from hubd.fetching.progress import Progress
from hubd.fetching.room import Reservation
from hubd.fetching.shares import Shares
from hubd.network.waiting_line import User


class Attended:
    """A fetch, as far as those who wait for it matter. `is_urgent`: whether a client does, at this moment."""

    reader: int | None = None  # the uid that it is for; None: everyone

    def __init__(self, progress: Progress, is_urgent: Callable[[], bool]) -> None:
        self.progress = progress
        self.is_urgent = is_urgent
        self.client_waits = asyncio.Event()  #: the same, for whoever wants to be told
        self.askers: set[int | None] = set()
        self.is_prefetch = True  # until somebody waits for it
        self.starter: User = None
        self.starter_uid: int | None = None
        self.started_as_prefetch = False
        self._shares: Shares | None = None
        self._reservation: Reservation | None = None
        self._waiting: Counter[User] = Counter()
        self._prefetching: Counter[User] = Counter()
        self._demands: list[str | None] = []

    def demand(self, digest: str | None) -> None:
        """One more waits for it, who wants an archive of this digest; None: whatever there is."""
        self._demands.append(digest)

    @property
    def waited(self) -> int:
        """How many have waited for it, those that left included."""
        return len(self._demands)

    def start_for(self, user: User, uid: int | None, shares: Shares, *, is_prefetch: bool) -> None:
        """It counts as this user's, of this uid; to be said before it runs."""
        self.starter, self.starter_uid, self._shares, self.started_as_prefetch = user, uid, shares, is_prefetch

    @contextmanager
    def waited_for_by(self, user: User, *, is_prefetch: bool) -> Iterator[None]:
        """For the block this user waits for it."""
        waiting = self._prefetching if is_prefetch else self._waiting
        waiting[user] += 1
        if not is_prefetch:
            self.client_waits.set()
        try:
            yield
        finally:
            waiting[user] -= 1
            if not waiting[user]:
                del waiting[user]
            if not self._waiting:
                self.client_waits.clear()

    def users(self) -> Collection[User]:
        """Whose turn it is to take now: that of the clients that wait for it, else of who wants it ahead of need."""
        return self._waiting.keys() or self._prefetching.keys()

    @property
    def reserved_bytes(self) -> int:
        """What is set aside for it on the disk."""
        return self._reservation.reserved_bytes if self._reservation is not None else 0

    def is_seen_by(self, uid: int) -> bool:
        """Whether this user may know of it: who asked for it, and everyone once the origin gives it to anyone.

        Only what unpacks is given: to whom it denies a private module, a host may send a page to sign in.
        """
        is_given = self.progress.unpacked_bytes > 0 or self.progress.state == "publishing"
        return uid in self.askers or (self.reader is None and is_given)
