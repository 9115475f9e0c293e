"""What the daemon's API answers about itself, made up: a status with all that there can be, and fetches."""

from __future__ import annotations

from typing import Any


def status(**changes: Any) -> dict[str, Any]:
    """A status as the oldest daemon gives it, with changes."""
    return {
        "version": "0.1.0",
        "pid": 1234,
        "uid": 1000,
        "socket": "/run/hubd/hubd.sock",
        "started_at": "2026-03-01T11:57:00Z",
        "uptime_seconds": 125.0,
        "cache": {"dir": "/c", "layout": 1, "modules": 12, "size_bytes": 3_400_000_000, "free_bytes": 120_000_000_000},
        "fetches": 1,
        "waiters": 2,
        "connections": 3,
        "counters": {"hits": 1200, "fetched": 12, "joined": 3, "stale": 0, "failed": 1, "received_bytes": 5_000_000},
        "warnings": [],
    } | changes


def full_cache(**changes: Any) -> dict[str, Any]:
    """The cache's part of a status of today."""
    more = {
        "used_bytes": 3_500_000_000,
        "max_size_bytes": 5_000_000_000,
        "min_free_bytes": 1_000_000_000,
        "pinned_bytes": 2_000_000_000,
        "in_flight_bytes": 100_000_000,
        "partial_bytes": 0,
        "scanned": True,
        "watch": "inotify",
    }
    return {**status()["cache"], **more, **changes}


def user(uid: int, **changes: Any) -> dict[str, Any]:
    return {"uid": uid, "fetches": 0, "queued": 0, "in_flight_bytes": 0, "hits": 0, "answers": 0} | changes


def prefetch_file(name: str, **changes: Any) -> dict[str, Any]:
    counts = {"modules": 5, "done": 5, "failed": 0, "pinned": 0}
    return {"name": name, "state": "ok", "problem": None, "next_run_at": None, **counts} | changes


def fetch(name: str = "m", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "key": "0" * 64,
        "handle": f"https://h.example/{name}/1",
        "state": "transferring",
        "received_bytes": 5_000_000,
        "total_bytes": 10_000_000,
        "unpacked_bytes": 0,
        "rate_bytes_per_second": 1e6,
        "eta_seconds": 5.0,
        "trouble": None,
        "waiters": 2,
        "started_at": "2026-03-01T11:58:00Z",
    } | changes


def fleet(**changes: Any) -> dict[str, Any]:
    """How a store is that answers."""
    return {
        "store": "s3://bucket/prefix",
        "mode": "read-write",
        "state": "ok",
        "trouble": None,
        "retry_in_seconds": None,
        "uploads": [],
        "found": 12,
        "waited": 0,
        "claimed": 3,
        "alone": 0,
        "uploaded": 3,
        "downloaded_bytes": 3_000_000_000,
        "uploaded_bytes": 500_000_000,
    } | changes
