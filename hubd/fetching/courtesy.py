"""Fetches give way to answers: while clients ask fast and the event loop is late, what is fetched comes slower.

Law: what nobody disturbs runs at full speed: who asks now and then slows no fetch, and a loop that is in time slows
none for longer than two seconds. And however late it is, fetches go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hubd.network.pace import Pace

_MB = 1_000_000

#: Fewer hits in a window than this disturb no fetch.
_FAST_HITS = 10
_WINDOW_SECONDS = 0.2
_STAYS_WINDOWS = 5  # so long after the last fast window it goes on

_TICK_SECONDS = 0.01
_LATE_SECONDS, _EARLY_SECONDS = 0.001, 0.0005
_HOLD_SECONDS = 0.05  # what was taken back takes a while to be felt

_FIRST_RATE = 20 * _MB  # bytes per second, of all fetches together
_LEAST_RATE = 16 * _MB
_MOST_RATE = 4000 * _MB  # more than comes anyhow
_SLOWER, _FASTER = 0.7, 1.03


class Yielding:
    """How fast all fetches together may be, by how late the loop was. Pure but for what it remembers."""

    def __init__(self, rate: float = _FIRST_RATE) -> None:
        self.rate = rate  #: bytes per second
        self._held_until = float("-inf")

    def late(self, seconds: float, now: float) -> float:
        """The loop was so late for a timer: the rate from now on."""
        if seconds >= _LATE_SECONDS and now >= self._held_until:
            self.rate = max(_LEAST_RATE, self.rate * _SLOWER)
            self._held_until = now + _HOLD_SECONDS
        elif seconds <= _EARLY_SECONDS:
            self.rate = min(_MOST_RATE, self.rate * _FASTER)
        return self.rate


class Courtesy:
    """Watches one event loop while hits come fast, and changes the pace of its fetches. `is_fetching`: whether there is
    one; `settle` is told when it begins, for what runs already.
    """

    def __init__(self, pace: Pace, is_fetching: Callable[[], bool], settle: Callable[[], None] = lambda: None) -> None:
        self._pace = pace
        self._is_fetching = is_fetching
        self._settle = settle
        self._window_began = float("-inf")
        self._hits = 0
        self._yielding: Yielding | None = None
        self._quiet_windows = 0

    def hit(self) -> None:
        """A client was answered from the cache."""
        self._hits += 1
        if self._yielding is None and (self._hits == 1 or self._hits >= _FAST_HITS):
            now = asyncio.get_running_loop().time()
            if now - self._window_began > _WINDOW_SECONDS:
                self._window_began, self._hits = now, 1
            elif self._hits >= _FAST_HITS and self._is_fetching():
                self._begin(now)

    def _begin(self, now: float) -> None:
        self._yielding, self._quiet_windows = Yielding(), 0
        self._window_began, self._hits = now, 0
        self._pace.give_way(int(self._yielding.rate))
        self._settle()
        self._wake(now)

    def _wake(self, now: float) -> None:
        due = now + _TICK_SECONDS
        asyncio.get_running_loop().call_at(due, self._tick, due)

    def _tick(self, due: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._is_over(now):
            self._yielding = None
            self._pace.give_way(None)
            return
        assert self._yielding is not None
        self._pace.give_way(int(self._yielding.late(now - due, now)))
        self._wake(now)

    def _is_over(self, now: float) -> bool:
        if not self._is_fetching():
            return True
        if now - self._window_began >= _WINDOW_SECONDS:
            self._quiet_windows = 0 if self._hits >= _FAST_HITS else self._quiet_windows + 1
            self._window_began, self._hits = now, 0
        return self._quiet_windows >= _STAYS_WINDOWS
