"""Failures that are remembered for a short while, so that asking again and again costs the origin nothing."""

from __future__ import annotations

import time
from collections import OrderedDict

from hubclient.contract.errors import HubError

_MAX_ENTRIES = 10_000


class NegativeCache:
    """Errors by key, each for `ttl_seconds`; the oldest go when there are too many."""

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds
        self._entries: OrderedDict[str, tuple[float, HubError]] = OrderedDict()

    def get(self, key: str) -> HubError | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, error = entry
        if time.monotonic() >= expires:
            del self._entries[key]
            return None
        return error

    def put(self, key: str, error: HubError) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (time.monotonic() + self._ttl_seconds, error)
        if len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)
