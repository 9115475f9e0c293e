"""When prefetches are due: windows over midnight, changes of the clocks, failures and their pauses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from hubclient.contract.prefetch_file import Window
from hubd.prefetching.schedule import is_open, opens_at, refresh_at, retry_seconds

HOUR = 3600.0
NIGHT = Window(60, 5 * 60)
EVENING = Window(22 * 60, 6 * 60)


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a zone whose clocks change: on 2026-03-29 from 02:00 to 03:00, on 2026-10-25 from 03:00 back to 02:00."""
    with monkeypatch.context() as patch:
        # The rule itself: what zones the machine knows decides no test.
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("window", "moment", "opens"),
    [
        (None, "2026-01-10T12:00", "2026-01-10T12:00"),
        (NIGHT, "2026-01-10T00:59", "2026-01-10T01:00"),
        (NIGHT, "2026-01-10T01:00", "2026-01-10T01:00"),
        (NIGHT, "2026-01-10T04:59:59", "2026-01-10T04:59:59"),
        (NIGHT, "2026-01-10T05:00", "2026-01-11T01:00"),
        (NIGHT, "2026-12-31T23:00", "2027-01-01T01:00"),
        (EVENING, "2026-01-10T21:59", "2026-01-10T22:00"),
        (EVENING, "2026-01-10T23:30", "2026-01-10T23:30"),
        (EVENING, "2026-01-11T05:59", "2026-01-11T05:59"),
        (EVENING, "2026-01-11T06:00", "2026-01-11T22:00"),
        # The night without a time from 02:00 to 03:00: a window within it is for the next night,
        (Window(130, 160), "2026-03-29T01:00", "2026-03-30T02:10"),
        # and one that begins within it begins when the clocks have changed.
        (Window(130, 300), "2026-03-29T01:00", "2026-03-29T03:10"),
        # The night in which that hour comes twice: the first one counts.
        (Window(130, 300), "2026-10-25T01:00", "2026-10-25T02:10"),
    ],
)
def test_a_window_opens_by_the_clock_on_the_wall(window: Window | None, moment: str, opens: str) -> None:
    assert opens_at(window, at(moment)) == at(opens)
    assert is_open(window, at(opens))
    assert is_open(window, at(moment)) == (moment == opens)


def test_what_was_said_becomes_too_old_after_its_time() -> None:
    assert refresh_at(1000.0, 24 * HOUR, 2000.0) == 1000.0 + 24 * HOUR
    assert refresh_at(1000.0, None, 1e9) is None


def test_a_clock_that_was_set_back_puts_nothing_off() -> None:
    now = 1_000_000.0
    assert refresh_at(now + 30.0, HOUR, now) == now + 30.0 + HOUR  # a small difference is none
    assert refresh_at(now + 365 * 24 * HOUR, HOUR, now) == now


def test_pauses_grow_to_an_hour_and_what_does_not_pass_is_tried_seldom() -> None:
    pauses = [retry_seconds(failures, retryable=True) for failures in range(1, 12)]
    assert pauses[:3] == [30.0, 60.0, 120.0]
    assert pauses[-1] == retry_seconds(10**6, retryable=True) == HOUR
    assert retry_seconds(1, retryable=False) == 6 * HOUR
