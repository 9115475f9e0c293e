"""When a module of a prefetch file is due. Pure.

Law: all is reckoned anew from the clock as it stands. Where that was set back, what seems to lie in the future is due
now; where the clocks change for summer, a window is what the clock on the wall shows.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from hubclient.contract.prefetch_file import Window

CLOCK_SECONDS = 60.0  # clocks are set by less now and then
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 30.0, 3600.0
_HOPELESS_RETRY_SECONDS = 6 * 3600.0
_MOST_DOUBLINGS = 16
_MOST_DAYS = 3  # a change of the clocks can swallow a window, never two of them in a row


def refresh_at(asked_at: float, refresh_seconds: float | None, now: float) -> float | None:
    """When what the origin said at `asked_at` is too old (all in unix seconds); None: never."""
    if refresh_seconds is None:
        return None
    return now if asked_at > now + CLOCK_SECONDS else asked_at + refresh_seconds


def retry_seconds(failures: int, *, retryable: bool) -> float:
    """How long to wait after so many failures in a row. What does not pass by itself is tried again too, seldom:
    somebody may publish the module, or free the disk."""
    if not retryable:
        return _HOPELESS_RETRY_SECONDS
    return min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))


def is_open(window: Window | None, at: float) -> bool:
    """Whether fetches may begin then."""
    if window is None:
        return True
    local = datetime.fromtimestamp(at)
    minutes = 60 * local.hour + local.minute
    if window.start_minutes < window.end_minutes:
        return window.start_minutes <= minutes < window.end_minutes
    return minutes >= window.start_minutes or minutes < window.end_minutes


def opens_at(window: Window | None, at: float) -> float:
    """The first moment from `at` on when fetches may begin."""
    if window is None or is_open(window, at):
        return at
    today = datetime.fromtimestamp(at).date()
    starts = [_start(window, today + timedelta(days)) for days in range(_MOST_DAYS)]
    return next((start for start in starts if start >= at and is_open(window, start)), starts[-1])


def _start(window: Window, day: date) -> float:
    return datetime.combine(day, time(*divmod(window.start_minutes, 60))).timestamp()
