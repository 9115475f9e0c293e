"""Times, shares and names as the dashboard says them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hubd.publishing import wording

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 minute"), (7199, "1 hour"), (2 * 86400, "2 days"), (-5, "0 s")],
)
def test_durations(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


def test_what_was_within_the_last_minute_or_is_to_come_was_just_now() -> None:
    assert wording.ago(NOW.timestamp() - 3 * 3600, NOW) == "3 hours ago"
    assert wording.ago(datetime(2026, 1, 2, 11, 59, tzinfo=UTC), NOW) == "1 minute ago"
    assert wording.ago(NOW.timestamp() - 59, NOW) == wording.ago(NOW.timestamp() + 99, NOW) == "just now"


def test_a_handle_is_shown_without_its_query() -> None:
    assert wording.name("https://a/m/1?token=secret") == "https://a/m/1?…"
    assert wording.name("https://a/m/1") == "https://a/m/1"


def test_a_share_of_nothing_is_no_number() -> None:
    assert wording.percent(0, 0) == "none"
    assert wording.percent(1, 3) == "33 %"
    assert wording.moment(0) == "1970-01-01T00:00:00Z"
