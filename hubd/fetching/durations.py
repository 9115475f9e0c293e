"""How long fetches took, as histograms: for each phase, and in all.

Law: an observation is counted once, in the first bucket that it fits into. Knows nothing of how it is told.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate

from hubd.fetching.progress import PHASES

#: Upper bounds of the buckets, in seconds; a last one has no bound.
BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, math.inf)


class Histogram:
    """Of seconds."""

    def __init__(self) -> None:
        self._counts = [0] * len(BOUNDS_SECONDS)
        self.sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.sum_seconds += seconds

    def cumulative(self) -> list[tuple[float, int]]:
        """For each bound, how many were not above it."""
        return list(zip(BOUNDS_SECONDS, accumulate(self._counts), strict=True))


class Durations:
    """Of the fetches that ended since the daemon started."""

    def __init__(self) -> None:
        self.by_phase: dict[str, Histogram] = {phase: Histogram() for phase in PHASES}
        self.whole = Histogram()

    def observe(self, seconds_by_phase: Mapping[str, float]) -> None:
        """A fetch ended, and was at each of these for so long."""
        for phase, seconds in seconds_by_phase.items():
            self.by_phase[phase].observe(seconds)
        self.whole.observe(sum(seconds_by_phase.values()))
