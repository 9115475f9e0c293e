"""How fast bytes may come: those of all fetches together, and those of prefetches.

Law: what was used after any while is what the rate allows for it, and a fifth of a second's worth more at most. Bytes
are let through in line, in small pieces of one size: who wait share evenly, however much each has at hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_CREDIT_SECONDS = 0.1  # what is not used within it is lost; it makes up for late timers
_PIECE_SECONDS, _PREFETCH_PIECE_SECONDS = 0.01, 0.1
_SHORTEST_SLEEP_SECONDS = 0.002
_LEAST_BUFFER_BYTES, _MOST_BUFFER_BYTES = 64 * 1024, 1 << 20


class Allowance:
    """The arithmetic of one rate, in bytes per second. Pure but for what it remembers."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._due = float("-inf")  # when all that was used is earned

    def use(self, size_bytes: int, now: float) -> float:
        """Counts the bytes as used; how many seconds from `now` on it takes until they are earned."""
        self._due = max(self._due, now - _CREDIT_SECONDS) + size_bytes / self.rate
        return self._due - now


class Pace:
    """For the tasks of one event loop. Rates are in bytes per second; None: any."""

    def __init__(
        self,
        max_rate: int | None = None,
        prefetch_max_rate: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._way: _Gate | None = None
        self.change(max_rate, prefetch_max_rate)

    def change(self, max_rate: int | None, prefetch_max_rate: int | None) -> None:
        """Other rates, for what is taken from now on."""
        clock, sleep = self._clock, self._sleep
        self._all = _Gate(Allowance(max_rate), clock, sleep) if max_rate is not None else None
        self._prefetches = _Gate(Allowance(prefetch_max_rate), clock, sleep) if prefetch_max_rate is not None else None
        pieces = (max_rate, _PIECE_SECONDS), (prefetch_max_rate, _PREFETCH_PIECE_SECONDS)
        self._piece_bytes = min(
            (max(1, int(rate * seconds)) for rate, seconds in pieces if rate is not None), default=_MOST_BUFFER_BYTES
        )

    def give_way(self, rate: int | None) -> None:
        """All fetches together keep to this rate too, from now on. To be changed as often as one likes: who waits
        already keeps its turn.
        """
        if rate is None:
            self._way = None
        elif self._way is None:
            self._way = _Gate(Allowance(rate), self._clock, self._sleep)
        else:
            self._way.change(rate)

    @property
    def slows_prefetches(self) -> bool:
        """Whether they have a rate of their own."""
        return self._prefetches is not None

    @property
    def gives_way(self) -> bool:
        return self._way is not None

    async def take(self, size_bytes: int, *, prefetch: Callable[[], bool]) -> float:
        """Returns when so many bytes that came may be used; the seconds that it waited. `prefetch`: whether they are a
        prefetch's, at this moment. Cancelled, a part of them may count as used.
        """
        began = self._clock()
        while size_bytes > 0 and (gates := self._gates(prefetch())):
            # The rate of prefetches makes nobody else's pieces small where there is none for all.
            pieces = [gate.piece_bytes if gate is self._way else self._piece_bytes for gate in gates]
            piece_bytes = min(size_bytes, *pieces)
            for gate in gates:
                await gate.let_through(piece_bytes)
            size_bytes -= piece_bytes
        return self._clock() - began

    def _gates(self, prefetch: bool) -> list[_Gate]:
        """The one of prefetches first: nobody else waits while one of them waits there."""
        return [gate for gate in (self._prefetches if prefetch else None, self._all, self._way) if gate is not None]


class _Gate:
    def __init__(
        self, allowance: Allowance, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._allowance = allowance
        self._clock = clock
        self._sleep = sleep
        self._line = asyncio.Lock()  # first come, first served

    @property
    def piece_bytes(self) -> int:
        return max(1, int(self._allowance.rate * _PIECE_SECONDS))

    def change(self, rate: int) -> None:
        self._allowance.rate = rate

    async def let_through(self, size_bytes: int) -> None:
        async with self._line:
            seconds = self._allowance.use(size_bytes, self._clock())
            if seconds >= _SHORTEST_SLEEP_SECONDS:
                await self._sleep(seconds)


def read_buffer_bytes(*rates: int | None) -> int:
    """How much of a connection may be read ahead of its use: little where a rate is low, for the origin sends it."""
    lowest = min((rate for rate in rates if rate is not None), default=None)
    if lowest is None:
        return _MOST_BUFFER_BYTES
    return min(_MOST_BUFFER_BYTES, max(_LEAST_BUFFER_BYTES, int(lowest * _CREDIT_SECONDS)))
