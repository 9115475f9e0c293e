"""The last hour in minutes: how many were answered from the cache, how many were not, and how many bytes came.

Law: its memory is fixed, however long the daemon runs and however much happens. It is told totals that only grow, and a
minute holds what they grew by from one look to the next.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from hubd.fetching.counters import Counters

MINUTES = 60
_MINUTE_SECONDS = 60.0


class Totals(NamedTuple):
    """Of one minute, or since the daemon started."""

    hits: int = 0  # those that clients found by themselves included
    misses: int = 0  # fetched, or joined where somebody else's fetch brought it
    failed: int = 0
    received_bytes: int = 0


def totals_of(counters: Counters) -> Totals:
    return Totals(
        hits=counters.hits + counters.uses,
        misses=counters.fetched + counters.joined,
        failed=counters.failed,
        received_bytes=counters.received_bytes,
    )


class History:
    """A minute for each of the last sixty, the one under way included."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: deque[Totals] = deque([Totals()] * MINUTES, MINUTES)
        self._minute = self._now()
        self._last = Totals()

    def observe(self, totals: Totals) -> None:
        """This is what they have grown to by now."""
        self._advance()
        grown = Totals(*(now - before for now, before in zip(totals, self._last, strict=True)))
        self._minutes[-1] = Totals(*(a + b for a, b in zip(self._minutes[-1], grown, strict=True)))
        self._last = totals

    def minutes(self) -> tuple[Totals, ...]:
        """The oldest first."""
        self._advance()
        return tuple(self._minutes)

    def _advance(self) -> None:
        now = self._now()
        self._minutes.extend([Totals()] * min(MINUTES, now - self._minute))
        self._minute = now

    def _now(self) -> int:
        return int(self._clock() // _MINUTE_SECONDS)


def summed(minutes: tuple[Totals, ...]) -> Totals:
    return Totals(*(sum(column) for column in zip(*minutes, strict=True)))
