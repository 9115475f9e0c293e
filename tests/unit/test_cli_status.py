"""`hubctl status`: what it says of the API's answers."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hubclient.cli.names import of_uid
from hubclient.cli.snapshot import Rates, Snapshot, cached_part, rates
from hubclient.cli.status import lines
from hubclient.cli.status_words import by_activity, fullness, percent, plain_row
from hubclient.cli.troubles import troubles
from tests.support.api_answers import fetch, fleet, full_cache, prefetch_file, status, user


def test_the_first_line_answers_the_question() -> None:
    assert lines(status())[0] == "hubd 0.1.0 is well"
    assert lines(status(warnings=["a", "b"]))[:3] == ["hubd 0.1.0 works, with 2 things to mend", "! a", "! b"]
    assert lines(status(offline=True))[0] == "hubd 0.1.0 is well; its settings keep it from the network"


@pytest.mark.parametrize(
    "part",
    [
        "process     pid 1234, of",
        "(uid 54321), up 2 min 5 s" if of_uid(54321) != "54321" else "uid 54321, up 2 min 5 s",
        "on /run/hubd/hubd.sock",
        "12 modules, 3.4 GB on disk",
        "120.0 GB free on the file system",
        "1,200 hits, 12 fetched, 3 joined, 0 stale, 1 failed; 5.0 MB received",
        "98.7% of all that was asked for was there already",
        "1 fetch, 2 waiters, 3 connections",
    ],
)
def test_it_tells_of_process_cache_work_and_counters(part: str) -> None:
    assert part in "\n".join(lines(status(uid=54321)))


def test_an_older_daemons_silence_is_no_trouble_and_has_no_line() -> None:
    told = lines(status())
    assert troubles(status()) == []
    assert not any(line.startswith(("users", "you", "prefetch", "settings", "access")) for line in told)


def test_what_is_wrong_comes_with_what_mends_it() -> None:
    answer = status(
        config={
            "file": "/etc/hubd/config.toml",
            "loaded_at": "2026-03-01T11:57:00Z",
            "problem": "line 3: no such setting",
            "restart_needed": ["api.socket", "cache.dir"],
        },
        prefetch=[
            prefetch_file("good.toml"),
            prefetch_file("broken.toml", state="broken", problem="no TOML"),
            prefetch_file("never-right.toml", state="broken", problem="no key", modules=0),
            prefetch_file("half.toml", done=4, failed=1, failure="h.example is away"),
        ],
        counters={**status()["counters"], "damaged": 3, "repaired": 1},
        cache=full_cache(watch="sweep"),
    )
    found = troubles(answer)
    assert [what.partition(": ")[2] for what, _ in found][-3:] == ["no TOML", "no key", "h.example is away"]
    assert [what.split(":")[0] for what, _ in found] == [
        "2 modules found damaged and not repaired yet",
        "what others remove from the cache is noticed within a minute only, for want of inotify watches",
        "the configuration has a mistake, and the one from before it holds",
        "changed, but only a restart makes it hold",
        "the prefetch file broken.toml has a mistake, and what it said before goes on",
        "the prefetch file never-right.toml has a mistake",
        "of the prefetch file half.toml, 1 of 5 modules did not come",
    ]
    remedies = "\n".join(str(remedy) for _, remedy in found)
    for command in (
        "`hubctl verify --all --repair`",
        "`hubd check-config /etc/hubd/config.toml`",
        "`systemctl restart hubd`",
        "`journalctl -u hubd`",
    ):
        assert command in remedies
    assert lines(answer)[0] == "hubd 0.1.0 works, with 7 things to mend"


def test_a_users_own_daemon_is_restarted_by_other_means() -> None:
    config = {"file": "/c.toml", "loaded_at": "2026-03-01T11:57:00Z", "problem": None, "restart_needed": ["api.socket"]}
    remedy = troubles(status(socket="/run/user/1000/hubd/x.sock", config=config))[0].remedy
    assert remedy is not None
    assert remedy.startswith("`kill 1234`")


def test_a_trouble_that_the_daemon_also_warns_of_is_told_once() -> None:
    config = {"loaded_at": "2026-03-01T11:57:00Z", "problem": "line 3: bad", "restart_needed": ["api.socket", "log.x"]}
    own = ["the configuration was not taken: line 3: bad", "takes a restart: api.socket, log.x", "the disk is full"]
    answer = status(config={"file": "/c.toml", **config}, warnings=own)
    assert [what for what, _ in troubles(answer)] == [
        "the disk is full",
        "the configuration has a mistake, and the one from before it holds: line 3: bad",
        "changed, but only a restart makes it hold: api.socket, log.x",
    ]


def test_the_fleets_store_has_a_line_and_what_came_from_it_another() -> None:
    counters = status()["counters"] | {"answers_by_tier": {"local": 1203, "fleet": 10, "origin": 2}}
    told = lines(status(fleet=fleet(), counters=counters))
    assert "fleet       s3://bucket/prefix, read-write, answers; 12 found, 3 uploaded" in told
    assert any("1,203 from the cache, 10 from the fleet's store, 0 from mirrors, 2 from origins" in one for one in told)
    without = lines(status(fleet=fleet(state="off", store=None)))
    assert not any("fleet" in line for line in without)


def test_a_store_that_is_away_is_something_to_mend() -> None:
    answer = status(fleet=fleet(state="away", trouble="no route", retry_in_seconds=61.0))
    assert lines(answer)[:3] == [
        "hubd 0.1.0 works, with 1 thing to mend",
        "! the fleet's store s3://bucket/prefix does not answer: no route (asked again in 1 min 1 s)",
        "  -> modules come from their origins meanwhile; if it lasts: is the store up, and [[object_store]] right?",
    ]


def test_a_fetch_under_way_is_one_line() -> None:
    handle = "https://h.example/m/1"
    assert plain_row(fetch()) == f"transferring  {handle}, 50% of 10.0 MB, 1.0 MB/s, 5 s left, 2 waiters"
    users = [0, os.getuid()]
    names = ", ".join(of_uid(uid) for uid in users)
    queued = fetch(state="queued", waiters=0, users=users, is_prefetch=True)
    assert plain_row(queued) == f"queued  {handle}, 0 waiters for {names}, prefetched"


def test_of_very_many_fetches_those_that_wait_are_counted() -> None:
    fetches = [*(fetch(f"q{number}", state="queued") for number in range(40)), fetch("busy")]
    told = lines(status(), fetches)
    assert any(line.startswith("transferring  https://h.example/busy/1") for line in told)
    assert told[-1] == "and 29 fetches more, which `hubctl top` shows"


def test_it_tells_of_the_quota_and_what_holds_it() -> None:
    counters = status()["counters"] | {"uses": 5, "evicted": 3, "damaged": 1, "repaired": 1, "resumed": 2}
    text = "\n".join(lines(status(cache=full_cache(scanned=False), counters=counters)))
    assert "12 modules, 3.5 GB of 5.0 GB on disk (2.0 GB pinned, 100.0 MB in flight), still counting" in text
    assert "120.0 GB free on the file system, 1.0 GB kept free" in text
    assert "5 direct uses, 2 resumed, 3 evicted, 1 damaged, 1 repaired" in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, 0.7),
        ({"used_bytes": 6_000_000_000}, 1.0),
        ({"max_size_bytes": None, "used_bytes": 119_000_000_000}, 0.5),  # of what the disk leaves
        ({"max_size_bytes": None, "free_bytes": 0}, 1.0),
    ],
    ids=str,
)
def test_the_gauge_is_the_part_of_what_may_be_used(changes: dict[str, Any], part: float) -> None:
    assert fullness(full_cache(**changes)) == part
    assert fullness(status()["cache"]) is None


def test_users_are_told_by_their_activity_and_one_who_may_see_only_himself_is_you() -> None:
    users = [user(54001, answers=9), user(54002, queued=1), user(54003, fetches=1), *map(user, range(54004, 54010))]
    assert [one["uid"] for one in by_activity(users)][:3] == [54003, 54002, 54001]
    told = lines(status(users=users, access={"level": "admin", "restricted": False}))
    assert any(line.startswith("users       54003: 1 fetch, 0 of 0 answers") for line in told)
    assert "            and 4 more, whom `hubctl top` shows" in told
    mine = user(54001, in_flight_bytes=5_000_000, hits=1, answers=2)
    told = lines(status(users=[mine], access={"level": "user", "restricted": True}))
    assert "access      you ask as a user; only whom [access] names may ask" in told
    assert "you         0 fetches, 5.0 MB under way, 1 of 2 answers from the cache" in told


def test_an_answer_cannot_steer_the_terminal() -> None:
    hostile = status(warnings=["\x1b[2J"], prefetch=[prefetch_file("\x1b[2J.toml", problem="\x1b[2J")])
    assert "\x1b" not in "".join(lines(hostile, [fetch("\x1b[2J", trouble="\x1b[2J", state="\x1b[2J")]))


@pytest.mark.parametrize(
    ("part", "said"), [(0.0, "0%"), (1.0, "100%"), (0.99999, "99.9%"), (0.00001, "0.1%"), (0.5, "50.0%")]
)
def test_only_all_is_all(part: float, said: str) -> None:
    assert percent(part) == said


# rates


def test_rates_are_what_changed_between_two_looks() -> None:
    later = status()["counters"] | {"hits": 1230, "fetched": 22, "received_bytes": 25_000_000, "newer": {"a": 1}}
    between = rates(Snapshot(status(), [], 10.0), Snapshot(status(counters=later), [], 20.0))
    assert between == Rates(10.0, 4.0, 2_000_000.0, 0.75)


def test_another_daemon_or_no_time_gives_no_rates() -> None:
    first = Snapshot(status(), [], 10.0)
    assert rates(first, Snapshot(status(started_at="2026-03-01T12:00:00Z"), [], 20.0)) is None
    assert rates(first, first) is None


def test_direct_uses_count_as_answers_from_the_cache() -> None:
    assert cached_part({"hits": 1, "uses": 2, "fetched": 1}) == 0.75
    assert cached_part({"hits": 0}) is None
