"""The last errors are known within bounds, and by name only where everybody may know of the module."""

from __future__ import annotations

from typing import Any

import pytest

from hubd.events import Event
from hubd.publishing.lately import Lately, Tally

FAILED = {"handle": "https://a/m/1", "outcome": "archive-corrupt", "detail": "the archive ends early", "failed": True}


def test_what_failed_and_what_was_damaged_is_told_the_last_one_first() -> None:
    lately = Lately()
    lately.noticed(Event("fetch-ended", FAILED))
    lately.noticed(Event("damaged", {"handle": "https://a/n/1", "key": "k", "digest": "d"}))
    last, first = lately.failures()
    assert (last.handle, last.code) == ("https://a/n/1", "damaged")
    assert first[1:] == ("https://a/m/1", "archive-corrupt", "the archive ends early")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("fetch-ended", {**FAILED, "failed": False, "outcome": "fetched"}),
        ("fetch-started", {"handle": "https://a/m/1"}),
        ("evicted", {"handle": "https://a/m/1", "reason": "room"}),
        ("lost", {"events": 3}),
    ],
)
def test_what_went_well_is_no_error(name: str, fields: dict[str, Any]) -> None:
    lately = Lately()
    lately.noticed(Event(name, fields))
    assert lately.failures() == []


def test_twenty_are_kept() -> None:
    lately = Lately()
    for number in range(1000):
        lately.noticed(Event("fetch-ended", {**FAILED, "handle": f"https://a/m/{number}"}))
    assert [failure.handle for failure in lately.failures()] == [f"https://a/m/{n}" for n in range(999, 979, -1)]


def test_a_code_was_met_last_when_its_count_grew() -> None:
    now = 10.0
    lately = Lately(lambda: now)
    lately.observe({"disk-full": 1, "upstream-not-found": 2})
    now = 20.0
    lately.observe({"disk-full": 1, "upstream-not-found": 3})
    assert lately.tallies() == [Tally("upstream-not-found", 3, 20.0), Tally("disk-full", 1, 10.0)]
