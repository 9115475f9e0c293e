"""What one user may have under way, counted from what that user started."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hubd.config import LimitSettings
from hubd.fetching.shares import OWN_LIMITS, Shares, ShareSpent, ShareTooSmall
from hubd.fetching.tallies import Tallies
from hubd.network.waiting_line import User

ALICE, BOB = 7, 8


@dataclass
class Fetch:
    starter: User
    started_as_prefetch: bool = False
    reserved_bytes: int = 0


def shares(*fetches: Fetch, fetch_limit: int = 2, prefetch_limit: int = 3, byte_limit: int | None = 100) -> Shares:
    limits = LimitSettings.model_construct(
        user_fetches=fetch_limit, user_prefetches=prefetch_limit, user_bytes=byte_limit
    )
    return Shares(lambda: limits, lambda: fetches)


def test_fetches_and_prefetches_of_a_user_are_limited_apart_and_others_are_not_concerned() -> None:
    full = shares(Fetch(ALICE), Fetch(ALICE), Fetch(ALICE, started_as_prefetch=True), Fetch(BOB))
    with pytest.raises(ShareSpent, match=r"2 fetches that you started .*limits\.user_fetches") as caught:
        full.require_start(ALICE, is_prefetch=False)
    assert (caught.value.code, caught.value.retry_after_seconds) == ("too-busy", 2)
    full.require_start(ALICE, is_prefetch=True)
    full.require_start(BOB, is_prefetch=False)
    with pytest.raises(ShareSpent, match=r"1 prefetches .*limits\.user_prefetches"):
        shares(Fetch(ALICE, started_as_prefetch=True), prefetch_limit=1).require_start(ALICE, is_prefetch=True)


def test_bytes_of_a_users_fetches_count_together() -> None:
    own, other = Fetch(ALICE, reserved_bytes=30), Fetch(ALICE, started_as_prefetch=True, reserved_bytes=40)
    both = shares(own, other, Fetch(BOB, reserved_bytes=90))
    assert both.require_bytes(own, 50) == 10, "its own 30 are of the 50"
    assert both.require_bytes(own, 60) == 0
    with pytest.raises(ShareSpent, match=r"your fetches have 40 B in flight, this one needs 61 B, .* 100 B"):
        both.require_bytes(own, 61)


def test_what_one_user_can_never_have_is_too_large_rather_than_too_early() -> None:
    with pytest.raises(ShareTooSmall, match=r"limits\.user_bytes") as caught:
        shares(own := Fetch(ALICE)).require_bytes(own, 101)
    assert (caught.value.code, caught.value.retryable) == ("archive-too-large", False)
    assert isinstance(caught.value, OWN_LIMITS)


def test_no_limit_holds_for_administrators_and_the_daemon_nor_where_none_is_set() -> None:
    many = [Fetch(None, reserved_bytes=1000) for _ in range(9)]
    shares(*many).require_start(None, is_prefetch=True)
    assert shares(*many).require_bytes(many[0], 10**9) is None
    assert shares(own := Fetch(ALICE), byte_limit=None).require_bytes(own, 10**9) is None


def test_what_users_were_answered_is_counted_and_the_longest_silent_are_forgotten() -> None:
    tallies = Tallies(max_users=2)
    tallies.answered(ALICE, "hit")
    tallies.answered(ALICE, "fetched")
    tallies.used(ALICE, 3)
    tallies.used(BOB, 0)
    assert {uid: (tally.hits, tally.answers) for uid, tally in tallies.all().items()} == {ALICE: (4, 5)}
    for uid in (BOB, ALICE, 9):
        tallies.answered(uid, "joined")
    assert set(tallies.all()) == {ALICE, 9}
