"""When a transfer is tried again, and when it is given up.

Law: only tries that bring nothing count. `retries` of them in a row may fail; one that brought 256 KB of new bytes
begins the count anew. New is what takes an archive further than any try before has: bytes that had to come again, since
the archive changed, say, are none. So there is no limit on how long a transfer may take, and one on how long it may
stand still.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from hubclient.contract.errors import HubError, UpstreamTimeout, UpstreamUnavailable
from hubd.failures import Busy, Hopeless

PROGRESS_BYTES = 256 * 1024
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 8.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0


class TooSlow(UpstreamTimeout):
    """Below the minimum rate: a try that counts, whatever it brought."""


class Patience:
    """The count of one transfer's tries."""

    def __init__(
        self,
        retries: int,
        uniform: Callable[[float, float], float] = random.uniform,
        *,
        waits_after_stalls: bool = True,
    ) -> None:
        """`waits_after_stalls`: whether there is a next try after one that ended for want of any byte in time."""
        self._retries = retries
        self._uniform = uniform
        self._waits_after_stalls = waits_after_stalls
        self._failed_in_a_row = 0
        self._most_bytes = 0

    def begin(self, had_bytes: int) -> None:
        """So much of the archive is there before a try, and nothing new."""
        self._most_bytes = max(self._most_bytes, had_bytes)

    def pause_seconds(self, error: HubError, had_bytes: int) -> float:
        """How long to wait before the next try, after one that failed with so much of the archive there.

        Full jitter, so that those who were cut off together do not come back together. Raises the error when there is
        no next try.
        """
        new_bytes, self._most_bytes = had_bytes - self._most_bytes, max(self._most_bytes, had_bytes)
        if new_bytes >= PROGRESS_BYTES and not isinstance(error, TooSlow):
            self._failed_in_a_row = 0
        self._failed_in_a_row += 1
        asked_seconds = error.retry_after_seconds if isinstance(error, Busy) else 0.0
        is_over = self._failed_in_a_row > self._retries or asked_seconds > _LONGEST_RETRY_AFTER_SECONDS
        is_stall = isinstance(error, UpstreamTimeout) and not self._waits_after_stalls
        if is_over or is_stall or not may_pass(error):
            raise error
        most = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (self._failed_in_a_row - 1))
        return max(asked_seconds, self._uniform(0.0, most))


def may_pass(error: BaseException) -> bool:
    """Whether the same request can succeed a moment later."""
    return isinstance(error, UpstreamUnavailable | UpstreamTimeout) and not isinstance(error, Hopeless)


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What an answer's Retry-After asks for, as seconds from now; None for none, or for what is no time."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    try:
        then = parsedate_to_datetime(value)
        return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):  # no date, or one without a time zone
        return None
