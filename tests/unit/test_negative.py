"""A failure that is remembered costs the origin nothing, for a while and not for ever."""

from __future__ import annotations

import weakref

import pytest

from hubclient.contract.errors import HubError, UpstreamNotFound, UpstreamTimeout
from hubd.fetching import negative
from hubd.fetching.negative import NegativeCache


def test_an_entry_lives_for_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    cache = NegativeCache()
    cache.put("k", UpstreamNotFound("no"), ttl_seconds=10)
    now = 109.9
    remembered = cache.get("k")
    assert type(remembered) is UpstreamNotFound
    assert remembered.detail == "no"
    assert cache.get("k") is not remembered
    assert cache.get("other") is None
    now = 110.0
    assert cache.get("k") is None


def test_it_does_not_grow_without_end() -> None:
    cache = NegativeCache()
    for number in range(negative._MAX_ENTRIES + 5):
        cache.put(str(number), UpstreamNotFound("no"), ttl_seconds=1000)
    assert cache.get("4") is None
    assert cache.get("5") is not None


def test_an_entry_can_have_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    cache = NegativeCache()
    cache.put("long", UpstreamTimeout("no"), ttl_seconds=60)
    cache.put("usual", UpstreamNotFound("no"), ttl_seconds=10)
    cache.put("short", UpstreamNotFound("no"), ttl_seconds=1)
    now = 101.0
    assert [cache.get(key) is not None for key in ("long", "usual", "short")] == [True, True, False]
    now = 159.0
    assert [cache.get(key) is not None for key in ("long", "usual")] == [True, False]


def test_what_is_over_goes_when_something_new_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    cache = NegativeCache()
    for number in range(100):
        cache.put(str(number), UpstreamNotFound("no"), ttl_seconds=10)
    now = 110.0
    cache.put("new", UpstreamNotFound("no"), ttl_seconds=10)
    assert list(cache._entries) == ["new"]


def test_nothing_of_the_failed_request_is_kept() -> None:
    class Body:
        """What a request came with."""

    bodies: list[weakref.ref[Body]] = []

    def fail() -> None:
        body = Body()
        bodies.append(weakref.ref(body))
        raise UpstreamNotFound("no")

    cache = NegativeCache()
    try:
        fail()
    except HubError as error:
        cache.put("k", error, ttl_seconds=1000)
    assert cache.get("k") is not None
    assert bodies[0]() is None
