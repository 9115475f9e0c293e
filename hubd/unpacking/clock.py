"""The clock of one unpacking run.

Law: it counts only while started, and calls back at most once: when the counted time is used up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timers(Protocol):
    """The part of an event loop that a clock needs."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> asyncio.TimerHandle: ...


class Clock:
    """Start and stop it as often as needed; both do nothing when it is in that state already."""

    def __init__(self, timers: Timers, seconds: float, on_over: Callable[[], None]) -> None:
        self._timers = timers
        self._left_seconds = seconds
        self._on_over = on_over
        self._started_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False

    def start(self) -> None:
        if self._timer is None and not self.is_over:
            self._started_at = self._timers.time()
            self._timer = self._timers.call_later(self._left_seconds, self._over)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left_seconds -= self._timers.time() - self._started_at

    def _over(self) -> None:
        self._timer = None
        self.is_over = True
        self._on_over()
