"""What the last hour brought is known by the minute, in a fixed memory."""

from __future__ import annotations

from hubd.fetching.counters import Counters
from hubd.publishing.history import MINUTES, History, Totals, summed, totals_of


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000 * 60.0

    def __call__(self) -> float:
        return self.seconds


def test_a_minute_holds_what_the_totals_grew_by() -> None:
    clock = Clock()
    history = History(clock)
    history.observe(Totals(hits=2, received_bytes=100))
    clock.seconds += 30
    history.observe(Totals(hits=5, received_bytes=100))
    clock.seconds += 30
    history.observe(Totals(hits=5, misses=1, received_bytes=700))
    assert history.minutes()[-2:] == (Totals(hits=5, received_bytes=100), Totals(misses=1, received_bytes=600))
    assert summed(history.minutes()) == Totals(hits=5, misses=1, received_bytes=700)


def test_an_hour_is_remembered_and_no_more() -> None:
    clock = Clock()
    history = History(clock)
    for minute in range(1, 500):
        history.observe(Totals(hits=minute * minute))
        clock.seconds += 60
    minutes = history.minutes()
    assert len(minutes) == MINUTES
    assert minutes[-1] == Totals()  # the one under way
    assert [minute.hits for minute in minutes[:2]] == [441**2 - 440**2, 442**2 - 441**2]


def test_minutes_that_nobody_looked_at_are_empty_and_what_is_older_than_an_hour_is_gone() -> None:
    clock = Clock()
    history = History(clock)
    history.observe(Totals(hits=7))
    clock.seconds += 10 * 60
    assert [minute.hits for minute in history.minutes()[-11:]] == [7, *[0] * 10]
    clock.seconds += 10**9
    assert summed(history.minutes()) == Totals()
    assert len(history.minutes()) == MINUTES


def test_hits_that_clients_reported_are_hits_and_joined_fetches_are_misses() -> None:
    counters = Counters(hits=3, uses=4, fetched=2, joined=5, failed=6, stale=9, received_bytes=11)
    assert totals_of(counters) == Totals(hits=7, misses=7, failed=6, received_bytes=11)
