"""When a store that failed, or has too much to do, is asked again.

Law: while it is away nobody waits for it but one who tries, now and then; and the pauses between tries grow.
"""

from __future__ import annotations

from collections.abc import Callable

from hubd.failures import Busy

FIRST_SECONDS = 30.0
LONGEST_SECONDS = 600.0
_TRY_SECONDS = 30.0
BUSY_TIMEOUTS = 4


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


class BusyPatience:
    """How long to leave a store alone that asks for it. It lives, and has too much to do: waiting is what helps, and
    sending all who ask it to the origin is not. One that says nothing else for too long is as good as away: for
    `claim_timeout` if it never said anything else, and for four of these if it did.
    """

    def __init__(
        self, claim_timeout: float, clock: Callable[[], float], uniform: Callable[[float, float], float]
    ) -> None:
        self._claim_timeout = claim_timeout
        self._clock = clock
        self._uniform = uniform
        self._answered_at = clock()
        self._timeouts = 1
        self.refusals = 0  #: so far

    def answered(self) -> None:
        """It said something else."""
        self._answered_at, self._timeouts = self._clock(), BUSY_TIMEOUTS

    def pause_seconds(self, error: Busy) -> float | None:
        """After one more refusal; None: that was the last one."""
        self.refusals += 1
        if self._clock() - self._answered_at > self._timeouts * self._claim_timeout:
            return None
        most = min(self._claim_timeout / 2, 2.0 ** min(self.refusals, 16))
        return min(error.retry_after_seconds, self._claim_timeout) + self._uniform(0.0, most)
