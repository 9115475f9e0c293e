"""When a store that failed is asked again.

Law: while it is away nobody waits for it but one who tries, now and then; and the pauses between tries grow.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_SECONDS = 30.0
LONGEST_SECONDS = 600.0
_TRY_SECONDS = 30.0


class Breaker:
    """`clock` gives monotonic seconds, `uniform` a random number between two."""

    def __init__(self, clock: Callable[[], float], uniform: Callable[[float, float], float]) -> None:
        self._clock = clock
        self._uniform = uniform
        self._until: float | None = None
        self._is_trying = False
        self._times = 0

    @property
    def is_closed(self) -> bool:
        """Whether nothing is known to be wrong."""
        return self._until is None

    @property
    def retry_in_seconds(self) -> float:
        return max(0.0, self._until - self._clock()) if self._until is not None else 0.0

    def admits(self) -> bool:
        """Whether the store may be asked now. Once a pause is over, one caller may: until `succeeded` or `failed` says
        how it went the next one has to wait, though not for ever, should the first never tell.
        """
        if self._until is None:
            return True
        if self._clock() < self._until:
            return False
        self._until, self._is_trying = self._clock() + _TRY_SECONDS, True
        return True

    def succeeded(self) -> None:
        self._until, self._is_trying, self._times = None, False, 0

    def failed(self) -> None:
        """For 30 s, each time in a row twice as long, up to ten minutes; with jitter, so that machines that lost the
        store together do not come back together.
        """
        if self._until is not None and not self._is_trying and self._clock() < self._until:
            return  # of several callers that fail together only the first counts
        most = min(LONGEST_SECONDS, FIRST_SECONDS * 2**self._times)
        self._until = self._clock() + self._uniform(most / 2, most)
        self._is_trying, self._times = False, min(self._times + 1, 16)
