"""Failures that are remembered for a short while, so that asking again and again costs the origin nothing."""

from __future__ import annotations

import time
from collections import OrderedDict

from hubclient.contract.errors import HubError

_MAX_ENTRIES = 10_000


class NegativeCache:
    """Errors by key, each for its time; the oldest go when there are too many.

    Only an error's class and detail are kept: the error itself holds on to frames, and those to whole requests.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, type[HubError], str]] = OrderedDict()

    def get(self, key: str) -> HubError | None:
        """A new error, equal to the one that was put; None when there is none, or its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, kind, detail = entry
        if time.monotonic() >= expires:
            del self._entries[key]
            return None
        return kind(detail)

    def put(self, key: str, error: HubError, *, ttl_seconds: float) -> None:
        """Remembers the error for so long."""
        now = time.monotonic()
        self._entries.pop(key, None)
        self._entries[key] = now + ttl_seconds, type(error), error.detail
        # An entry with a longer time keeps those behind it a little longer: their number is bounded all the same.
        while self._entries and (len(self._entries) > _MAX_ENTRIES or self._front_expires() <= now):
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forgets all."""
        self._entries.clear()

    def _front_expires(self) -> float:
        return next(iter(self._entries.values()))[0]
