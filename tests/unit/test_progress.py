"""What a fetch was at, and for how long."""

from __future__ import annotations

import pytest

from hubclient.contract.errors import UpstreamTimeout
from hubd.fetching import progress
from hubd.fetching.progress import PHASES, Progress


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    standing = Clock()
    monkeypatch.setattr(progress, "time", standing)
    return standing


def test_the_seconds_of_the_phases_add_up_to_the_age_of_the_fetch(clock: Clock) -> None:
    fetch = Progress("https://h/m/1", "key")
    for state, seconds in (("connecting", 1.0), ("transferring", 2.0), ("connecting", 4.0), ("transferring", 8.0)):
        clock.now += seconds
        fetch.enter(state)  # type: ignore[arg-type]
    clock.now += 16.0
    assert fetch.seconds_by_phase == {"queued": 1.0, "connecting": 2.0 + 8.0, "transferring": 4.0 + 16.0}
    assert list(fetch.seconds_by_phase) == [phase for phase in PHASES if phase in fetch.seconds_by_phase]
    assert sum(fetch.seconds_by_phase.values()) == clock.now - 100.0


def test_a_phase_lasts_no_longer_than_its_fetch(clock: Clock) -> None:
    fetch = Progress("https://h/m/1", "key")
    clock.now += 3.0
    fetch.end()
    clock.now += 50.0
    assert fetch.seconds_by_phase == {"queued": 3.0}


def test_each_pause_is_followed_by_another_try() -> None:
    fetch = Progress("https://h/m/1", "key")
    assert fetch.tries == 1
    fetch.on_pause(UpstreamTimeout("slow"), 0.5)
    assert (fetch.tries, fetch.trouble) == (2, "slow")
