"""What a machine decides when it sees a claim, and for how long it leaves it alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hubd.config_stores import FleetSettings
from hubd.fleet.bucket import Small, Version
from hubd.fleet.claims import (
    Alone,
    Claim,
    Create,
    SeenClaim,
    TakeOver,
    Wait,
    Watch,
    decide,
    left_seconds,
    seen_claim,
    wait_seconds,
)

TERMS = FleetSettings(store="s3://bucket/fleet")
CLAIM = Claim(holder="a" * 16)
ONE, TWO = Version('"1"'), Version('"2"')


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def decided(
    seen: SeenClaim | None, watch: Watch, now: float, *, may_write: bool = True, is_urgent: bool = True
) -> object:
    watch = watch.seeing(seen, now)
    return decide(seen, watch, now, TERMS, may_write=may_write, is_urgent=is_urgent, uniform=middle)


def at_work(version: Version = ONE, **told: object) -> SeenClaim:
    return SeenClaim(CLAIM.model_copy(update=told), version, 0.0)


def failed(code: str) -> SeenClaim:
    return SeenClaim(CLAIM.model_copy(update={"phase": "failed", "code": code}), TWO, 0.0)


def test_where_nobody_fetches_one_claims_and_who_may_not_write_goes_alone() -> None:
    assert decided(None, Watch(0.0), 1.0) == Create()
    assert isinstance(decided(None, Watch(0.0), 1.0, may_write=False), Alone)


def test_a_claim_is_taken_over_when_it_has_not_changed_for_the_timeout() -> None:
    watch = Watch(0.0).seeing(at_work(), 100.0)
    assert isinstance(decided(at_work(), watch, 129.9), Wait)
    assert decided(at_work(), watch, 130.0) == TakeOver(ONE)
    assert isinstance(decided(at_work(TWO), watch, 130.0), Wait)  # it has changed
    assert isinstance(decided(at_work(), watch, 130.0, may_write=False), Alone)


SLOW = at_work(prefetch=True, received_bytes=10, total_bytes=100, elapsed_seconds=10.0)


def test_a_prefetch_that_is_held_back_is_taken_over_at_the_second_look() -> None:
    first = decided(SLOW, Watch(0.0), 1.0)
    assert isinstance(first, Wait)  # not all at one time
    assert first.seconds <= 1.0
    assert decided(SLOW, Watch(0.0).seeing(SLOW, 1.0), 1.5) == TakeOver(ONE)


@pytest.mark.parametrize("changes", [{"may_write": False}, {"is_urgent": False}])
def test_a_prefetch_that_is_held_back_is_waited_for_by_who_has_no_client_or_may_not_write(
    changes: dict[str, bool],
) -> None:
    alike = at_work(received_bytes=10, total_bytes=100, elapsed_seconds=10.0)
    watch = Watch(0.0).seeing(SLOW, 1.0)
    assert decided(SLOW, watch, 1.5, **changes) == decided(alike, watch, 1.5)


def test_a_prefetch_that_is_soon_done_is_waited_for() -> None:
    soon = at_work(prefetch=True, received_bytes=90, total_bytes=100, elapsed_seconds=90.0)
    watch = Watch(0.0).seeing(soon, 1.0)
    assert decided(soon, watch, 2.0) == TakeOver(ONE)
    assert isinstance(decided(soon, watch, 7.0), Wait)  # of ten seconds six are over
    assert isinstance(decided(soon._replace(age_seconds=6.0), watch, 2.0), Wait)


def test_what_a_claim_says_of_times_takes_nobodys_claim_away() -> None:
    old = at_work(elapsed_seconds=1e9)._replace(age_seconds=1e9)
    assert isinstance(decided(old, Watch(0.0), 1.0), Wait)


@pytest.mark.parametrize("code", ["upstream-not-found", "upstream-timeout", "archive-corrupt", "not-a-module"])
def test_what_the_origin_said_is_for_those_who_waited(code: str) -> None:
    waited = Watch(0.0).seeing(at_work(), 1.0)
    first = decided(failed(code), waited, 5.0)
    assert isinstance(first, Wait)  # not all at one time
    assert isinstance(decided(failed(code), waited.seeing(failed(code), 5.0), 8.0), Alone)
    assert decided(failed(code), Watch(0.0), 5.0) == TakeOver(TWO)  # who comes later


def test_a_holders_own_trouble_is_nobody_elses() -> None:
    assert decided(failed("disk-full"), Watch(0.0).seeing(at_work(), 1.0), 5.0) == TakeOver(TWO)


def test_nobody_waits_beyond_max_wait() -> None:
    watch = Watch(0.0)
    assert isinstance(decided(at_work(), watch, 600.0), Alone)
    last = decided(at_work(), watch, 595.0)
    assert isinstance(last, Wait)
    assert last.seconds <= 5.0


def test_the_time_that_is_left_follows_from_what_came_so_far() -> None:
    def told(**fields: object) -> Claim:
        return CLAIM.model_copy(update=fields)

    assert left_seconds(told(received_bytes=25, total_bytes=100, elapsed_seconds=10.0)) == 30.0
    assert left_seconds(told(received_bytes=100, total_bytes=100, elapsed_seconds=10.0)) == 0.0
    assert left_seconds(told(received_bytes=25, elapsed_seconds=10.0)) is None
    assert left_seconds(told(total_bytes=100)) is None
    assert left_seconds(None) is None


def waits(seen: SeenClaim, *, waited: float = 0.0, refusals: int = 0) -> float:
    watch = replace(Watch(0.0).seeing(seen, waited), refusals=refusals)
    return wait_seconds(seen, watch, waited, TERMS, middle)


def test_waits_follow_what_the_claim_says() -> None:
    told = at_work(received_bytes=25, total_bytes=100, elapsed_seconds=4.0)
    assert waits(told) == pytest.approx(12.0 + 0.15 * 4.0)
    assert waits(told._replace(age_seconds=8.0)) == pytest.approx(4.0 + 0.15 * 12.0)
    assert waits(told._replace(age_seconds=16.0)) == pytest.approx(4.0)  # it is late by so much


def test_waits_for_who_says_nothing_grow_with_its_time() -> None:
    assert waits(at_work()) == pytest.approx(0.5)
    assert waits(at_work(elapsed_seconds=10.0)) == pytest.approx(5.0)
    assert waits(at_work(elapsed_seconds=10.0)._replace(age_seconds=6.0)) == pytest.approx(8.0)


def test_waits_double_with_each_refusal_of_the_store_and_have_an_end() -> None:
    assert waits(at_work(), refusals=3) == pytest.approx(4.0)
    assert waits(at_work(elapsed_seconds=300.0), waited=300.0, refusals=9) < 120.0
    assert waits(at_work(elapsed_seconds=1e9), waited=1.0) < 40.0


def test_waits_are_random() -> None:
    slow = at_work(elapsed_seconds=10.0)
    watch = Watch(0.0).seeing(slow, 10.0)
    least = wait_seconds(slow, watch, 10.0, TERMS, lambda low, high: low)
    most = wait_seconds(slow, watch, 10.0, TERMS, lambda low, high: high)
    assert most == pytest.approx(3 * least)


def test_a_claim_that_was_seen_unchanged_is_looked_at_when_it_can_be_taken_over() -> None:
    slow = at_work(received_bytes=1, total_bytes=1000, elapsed_seconds=10.0)
    watch = Watch(0.0).seeing(slow, 10.0)
    assert 5.0 <= wait_seconds(slow, watch, 35.0, TERMS, middle) <= 7.0


@pytest.mark.parametrize(
    "garbage",
    [b"", b"[]", b'{"holder": "x"}', CLAIM.body().replace(b"0.0", b"NaN"), CLAIM.body().replace(b":1", b":9")],
)
def test_what_is_no_claim_is_waited_for_like_one(garbage: bytes) -> None:
    seen = seen_claim(Small(garbage, ONE, 5.0))
    assert seen.claim is None
    assert isinstance(decided(seen, Watch(0.0), 1.0), Wait)
    assert decided(seen, Watch(0.0).seeing(seen, 1.0), 31.0) == TakeOver(ONE)


def test_a_claim_is_read_as_it_was_written() -> None:
    claim = CLAIM.model_copy(update={"phase": "uploading", "received_bytes": 5, "total_bytes": 9, "beat": 3})
    assert seen_claim(Small(claim.body(), ONE, 0.0)).claim == claim


def test_older_and_newer_machines_understand_each_others_claims() -> None:
    told = json.loads(SLOW.claim.body()) if SLOW.claim is not None else {}
    assert told.pop("prefetch") is True
    for body in (told, told | {"later": "a field that nobody knows yet"}):
        read = seen_claim(Small(json.dumps(body).encode(), ONE, 0.0)).claim
        assert read is not None
        assert not read.prefetch
