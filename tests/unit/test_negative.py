"""A failure that is remembered costs the origin nothing, for a while and not for ever."""

from __future__ import annotations

import pytest

from hubclient.contract.errors import UpstreamNotFound
from hubd.fetching import negative
from hubd.fetching.negative import NegativeCache


def test_an_entry_lives_for_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    cache = NegativeCache(ttl_seconds=10)
    error = UpstreamNotFound("no")
    cache.put("k", error)
    now = 109.9
    assert cache.get("k") is error
    assert cache.get("other") is None
    now = 110.0
    assert cache.get("k") is None


def test_it_does_not_grow_without_end() -> None:
    cache = NegativeCache(ttl_seconds=1000)
    for number in range(negative._MAX_ENTRIES + 5):
        cache.put(str(number), UpstreamNotFound("no"))
    assert cache.get("4") is None
    assert cache.get("5") is not None
