"""The daemon's own leases, so that whoever was told a path has time to take one.

Law: a tree is held from before its path is told until `seconds` after the last time that it was.
"""

from __future__ import annotations

import asyncio

from hubclient.contract.lease import Lease

GRACE_SECONDS = 10.0


class GraceLeases:
    """One lease for each tree that was lately answered. For the event loop alone."""

    def __init__(self, seconds: float = GRACE_SECONDS) -> None:
        self._seconds = seconds
        self._held: dict[tuple[int, int], tuple[Lease, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, lease: Lease) -> None:
        """Takes over the lease."""
        loop = asyncio.get_running_loop()
        held = self._held.pop(lease.inode, None)
        if held is not None and held[0] is not lease:
            held[0].release()
        # Popped and put back, so that the dict is in the order of expiry.
        self._held[lease.inode] = (lease, loop.time() + self._seconds)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire, loop)

    def release(self, inode: tuple[int, int]) -> None:
        """Let go of one tree before its time."""
        if (held := self._held.pop(inode, None)) is not None:
            held[0].release()

    def release_all(self) -> None:
        for lease, _ in self._held.values():
            lease.release()
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for inode, (lease, until) in list(self._held.items()):
            if until > loop.time():
                self._timer = loop.call_at(until, self._expire, loop)
                return
            lease.release()
            del self._held[inode]
