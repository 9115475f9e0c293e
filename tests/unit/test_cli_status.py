"""`hubctl status`: what it says of the API's answers."""

from __future__ import annotations

from typing import Any

import pytest

from hubclient.cli.status import lines, plain_row


def answer(**changes: Any) -> dict[str, Any]:
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


def test_the_first_line_answers_the_question() -> None:
    assert lines(answer())[0] == "hubd 0.1.0 is well"
    assert lines(answer(warnings=["a", "b"]))[:3] == [
        "hubd 0.1.0 runs, with 2 warnings",
        "warning     a",
        "warning     b",
    ]


@pytest.mark.parametrize(
    "part",
    [
        "pid 1234, uid 1000, up 2 min 5 s",
        "/run/hubd/hubd.sock",
        "12 modules, 3.4 GB on disk",
        "120.0 GB free on the file system",
        "1,200 hits, 12 fetched, 3 joined, 0 stale, 1 failed; 5.0 MB received",
        "1 fetch, 2 waiters, 3 connections",
    ],
)
def test_it_tells_of_process_cache_work_and_counters(part: str) -> None:
    assert part in "\n".join(lines(answer()))


def test_a_fetch_under_way_is_one_line() -> None:
    fetch = {
        "handle": "https://h.example/m/1",
        "state": "transferring",
        "received_bytes": 5_000_000,
        "total_bytes": 10_000_000,
        "rate_bytes_per_second": 1e6,
        "eta_seconds": 5.0,
        "waiters": 2,
    }
    assert plain_row(fetch) == "transferring  https://h.example/m/1, 50% of 10.0 MB, 1.0 MB/s, 5 s left, 2 waiters"


def test_it_tells_of_the_quota_and_what_holds_it() -> None:
    cache = answer()["cache"] | {
        "used_bytes": 3_500_000_000,
        "max_size_bytes": 5_000_000_000,
        "min_free_bytes": 1_000_000_000,
        "pinned_bytes": 2_000_000_000,
        "in_flight_bytes": 100_000_000,
        "partial_bytes": 0,
        "scanned": False,
    }
    counters = answer()["counters"] | {"uses": 5, "evicted": 3, "damaged": 1, "repaired": 1, "resumed": 2}
    text = "\n".join(lines(answer(cache=cache, counters=counters)))
    assert "12 modules, 3.5 GB of 5.0 GB on disk (2.0 GB pinned, 100.0 MB in flight), still counting" in text
    assert "120.0 GB free on the file system, 1.0 GB kept free" in text
    assert "5 direct uses, 2 resumed, 3 evicted, 1 damaged, 1 repaired" in text
