"""The figures of the daemon at one moment, as whoever shows them is given them.

Law: they say how much there is of what, and never whose it is: no handle, no user, no host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hubd.fetching.counters import Counters
from hubd.fetching.durations import Durations


@dataclass(frozen=True)
class Cache:
    """What the cache holds and may hold, in bytes unless it says otherwise."""

    modules: int  # that everybody may read
    used_bytes: int
    capacity_bytes: int
    pinned_bytes: int
    in_flight_bytes: int
    partial_bytes: int
    leased_bytes: int
    leased_trees: int
    free_bytes: int
    min_free_bytes: int
    max_size_bytes: int | None


@dataclass(frozen=True)
class Fleet:
    """What a fleet's store was good for since the daemon started; see `hubd.fleet.counters`."""

    state: str  # ok, away, denied or missing
    found: int
    claimed: int
    alone: int
    waited: int
    taken_over: int
    uploaded: int
    uploaded_bytes: int
    failed_uploads: int
    uploads_under_way: int


@dataclass(frozen=True)
class Snapshot:
    """All that a scrape tells, as it is at one moment. Times are unix seconds."""

    counters: Counters
    durations: Durations
    damaged: int
    repaired: int
    fetches: Mapping[str, int]  # under way, by phase
    waiters: int
    connections: int
    max_connections: int
    refused_connections: int
    warnings: int
    config_loaded_at: float
    config_is_taken: bool
    cache: Cache | None  # None: it could not be looked at
    prefetch_files: Mapping[str, int] = field(default_factory=dict)  # by state
    fleet: Fleet | None = None  # None: there is none
