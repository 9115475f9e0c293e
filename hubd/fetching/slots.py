"""Turns of fetches: so many run at a time.

Law: a fetch that a client waits for goes before a prefetch, whichever came first, and among equals users take turns.
Where there is more than one turn, the last free one is for clients alone, and for a user who has none: so nobody waits
for the end of a long prefetch where only prefetches run, nor of another user's fetches, however many and slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from hubd.network.waiting_line import User, WaitingLine, nobody


class Slots:
    """So many turns."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count  # below zero where turns are still had that were taken away
        self._line = WaitingLine()
        self._turns: Counter[User] = Counter()  # that each user has

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._line)

    def resize(self, count: int) -> None:
        """So many from now on. Who has a turn keeps it."""
        self._free += count - self._count
        self._count = count
        self.promote()

    def locked(self) -> bool:
        """Whether everybody would have to wait."""
        return self._free <= 0

    def has_turn_for(self, urgent: Callable[[], bool], users: Callable[[], Collection[User]] = nobody) -> bool:
        """Whether `turn` would not wait."""
        kept = 1 if self._count > 1 else 0
        if self._free > kept:
            return True
        return self._free > 0 and urgent() and self._may_have_last(users())

    @asynccontextmanager
    async def turn(
        self, urgent: Callable[[], bool], users: Callable[[], Collection[User]] = nobody
    ) -> AsyncIterator[Slot]:
        """Waits for a turn, and has it for the block. `urgent`: whether a client waits for the fetch by now, and
        `users`: who waits for it."""
        slot = Slot(self, urgent, users)
        await slot.resume()
        try:
            yield slot
        finally:
            slot.pause()

    def promote(self) -> None:
        """Somebody who waits may be urgent by now, or waited for by somebody else too."""
        self._line.advance(lambda: self._free > 0)

    def _may_have_last(self, users: Collection[User]) -> bool:
        return not users or any(user is None or not self._turns[user] for user in users)


class Slot:
    """A turn that is had, and can be given back for a while."""

    def __init__(self, slots: Slots, urgent: Callable[[], bool], users: Callable[[], Collection[User]]) -> None:
        self._slots = slots
        self._urgent = urgent
        self._users = users
        self._is_had = False
        self._counted: Collection[User] = ()  # those whose turn it is counted as

    async def resume(self) -> None:
        """Waits until it is had; at once if it is."""
        if not self._is_had:
            await self._slots._line.wait(self._urgent, self._admit, self.pause, self._users)

    def pause(self) -> None:
        """Others may have it, until it is resumed."""
        if not self._is_had:
            return
        slots, self._is_had = self._slots, False
        slots._free += 1
        slots._turns.subtract(self._counted)
        for user in self._counted:
            if not slots._turns[user]:
                del slots._turns[user]
        slots.promote()

    def _admit(self) -> bool:
        slots = self._slots
        if not slots.has_turn_for(self._urgent, self._users):
            return False
        slots._free -= 1
        self._is_had, self._counted = True, set(self._users())
        slots._turns.update(self._counted)
        return True
