"""Turns of fetches: so many run at a time.

Law: a fetch that a client waits for goes before a prefetch, whichever came first. Where there is more than one turn,
the last free one is for clients alone: so none waits for the end of a long prefetch where only prefetches run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hubd.network.waiting_line import WaitingLine


class Slots:
    """So many turns."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count  # below zero where turns are still had that were taken away
        self._line = WaitingLine()

    def resize(self, count: int) -> None:
        """So many from now on. Who has a turn keeps it."""
        self._free += count - self._count
        self._count = count
        self._line.advance()

    def locked(self) -> bool:
        """Whether everybody would have to wait."""
        return self._free <= 0

    @asynccontextmanager
    async def turn(self, urgent: Callable[[], bool]) -> AsyncIterator[None]:
        """Waits for a turn, and has it for the block. `urgent`: whether a client waits for the fetch by now."""

        def admit() -> bool:
            for_clients = 1 if self._count > 1 else 0
            if self._free <= 0 or (self._free <= for_clients and not urgent()):
                return False
            self._free -= 1
            return True

        await self._line.wait(urgent, admit, self._give_back)
        try:
            yield
        finally:
            self._give_back()

    def promote(self) -> None:
        """Somebody who waits may be urgent by now."""
        if self._free > 0:
            self._line.advance()

    def _give_back(self) -> None:
        self._free += 1
        self._line.advance()
