"""Only tries that bring nothing count, and what cannot succeed is not tried again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hubclient.contract.errors import ArchiveTooLarge, HubError, UpstreamDenied, UpstreamTimeout, UpstreamUnavailable
from hubd.failures import Busy, Hopeless
from hubd.network.patience import PROGRESS_BYTES, Patience, TooSlow, retry_after_seconds

CUT = UpstreamUnavailable("cut")


def longest(low: float, high: float) -> float:
    assert low == 0.0, "full jitter"
    return high


def test_pauses_double_up_to_eight_seconds_until_the_tries_are_used_up() -> None:
    patience = Patience(7, longest)
    assert [patience.pause_seconds(CUT, 0) for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    with pytest.raises(UpstreamUnavailable, match="cut"):
        patience.pause_seconds(CUT, 0)


def test_one_that_waits_after_no_stall_goes_on_after_cuts_alone() -> None:
    patience = Patience(2, longest, waits_after_stalls=False)
    assert patience.pause_seconds(CUT, 0) == 0.5
    with pytest.raises(UpstreamTimeout):
        patience.pause_seconds(UpstreamTimeout("stopped sending"), 10 * PROGRESS_BYTES)


def test_a_try_that_brought_enough_begins_the_count_anew() -> None:
    patience = Patience(1, longest)
    for tried in range(1, 101):
        assert patience.pause_seconds(CUT, tried * PROGRESS_BYTES) == 0.5
    with pytest.raises(UpstreamUnavailable):
        patience.pause_seconds(CUT, 101 * PROGRESS_BYTES - 1)


def test_what_came_before_already_is_nothing_new() -> None:
    patience = Patience(2, longest)
    patience.begin(10 * PROGRESS_BYTES)
    patience.pause_seconds(CUT, 10 * PROGRESS_BYTES)
    patience.pause_seconds(CUT, 5 * PROGRESS_BYTES)
    with pytest.raises(UpstreamUnavailable):
        patience.pause_seconds(CUT, 9 * PROGRESS_BYTES)


def test_a_rate_below_the_least_counts_whatever_it_brought() -> None:
    patience = Patience(1, longest)
    patience.pause_seconds(TooSlow("slow"), 10 * PROGRESS_BYTES)
    with pytest.raises(UpstreamTimeout):
        patience.pause_seconds(TooSlow("slow"), 10 * PROGRESS_BYTES)


@pytest.mark.parametrize("error", [Hopeless("x"), UpstreamDenied("x"), ArchiveTooLarge("x")])
def test_what_cannot_succeed_is_not_tried_again(error: HubError) -> None:
    with pytest.raises(type(error)):
        Patience(100).pause_seconds(error, PROGRESS_BYTES)


def test_what_the_origin_asks_for_is_waited_unless_it_is_long() -> None:
    assert Patience(1, longest).pause_seconds(Busy("busy", 7.0), 0) == 7.0
    assert Patience(1, longest).pause_seconds(Busy("busy", 0.1), 0) == 0.5
    with pytest.raises(UpstreamUnavailable):
        Patience(1, longest).pause_seconds(Busy("busy", 3600.0), 0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        (" 120 ", 120.0),
        ("Thu, 26 Nov 2026 10:00:30 GMT", 30.0),
        ("Thu, 26 Nov 2026 09:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("9999999999", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 26, 10, tzinfo=UTC)
    assert retry_after_seconds({"Retry-After": value}, now) == seconds
