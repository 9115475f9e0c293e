"""How fast a transfer is. Pure but for a clock.

Law: what our own limits hold back is not the origin's fault: it is not measured.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LATELY_SAMPLES = 20


class Held:
    """How much our own limits hold the connections of a transfer back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held = 0  # connections, just now
        self._seconds = 0.0  # of all of them together, until it was counted last
        self._counted_at = self._asked_at = clock()

    @property
    def is_now(self) -> bool:
        return self._held > 0

    @contextmanager
    def back(self) -> Iterator[None]:
        """For the block a connection is."""
        self._count(self._clock())
        self._held += 1
        try:
            yield
        finally:
            self._count(self._clock())
            self._held -= 1

    def is_most_of_the_time(self, now: float) -> bool:
        """Whether they were for more than half of the time since this was asked last."""
        self._count(now)
        seconds, self._seconds = self._seconds, 0.0
        since, self._asked_at = self._asked_at, now
        return seconds > (now - since) / 2

    def _count(self, now: float) -> None:
        self._seconds += self._held * (now - self._counted_at)
        self._counted_at = now


class Speed:
    """Samples of what was received, over a window; times are of a monotonic clock, in seconds."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, now: float, received_bytes: int, *, is_held: bool) -> None:
        """`is_held`: whether our own limits hold it back just now."""
        if is_held:
            self._samples.clear()
        self._samples.append((now, received_bytes))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window_seconds:
            self._samples.popleft()

    def lately(self) -> float:
        """Bytes per second, over the last samples."""
        if not self._samples:
            return 0.0
        since, before = self._samples[max(0, len(self._samples) - _LATELY_SAMPLES)]
        now, received_bytes = self._samples[-1]
        return (received_bytes - before) / max(now - since, 0.001)

    def is_below(self, least_rate: int) -> bool:
        """Whether it was slower than so many bytes per second, over a whole window."""
        if not self._samples:
            return False
        (since, before), (now, received_bytes) = self._samples[0], self._samples[-1]
        seconds = now - since
        return seconds >= self._window_seconds and received_bytes - before < least_rate * seconds
