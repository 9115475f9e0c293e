"""What arrived of an archive survives whatever ended its fetch, and the next one goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

FILES = {**MODULE, "variables/variables.data-00000-of-00001": random.Random(1).randbytes(3_000_000)}
ARCHIVE = archive(FILES)
OTHER_ARCHIVE = archive({**FILES, "assets/other.txt": b"other"})
HALF = len(ARCHIVE) // 2
ETAG = '"v1"'


def whole(**how: Any) -> Answer:
    return Answer(**{"body": ARCHIVE, "ranges": True, "etag": ETAG, **how})


def half(**how: Any) -> Answer:
    """Stops in the middle until it is let go on."""
    return whole(gate_after_bytes=HALF, **how)


def transfers(daemon: Daemon) -> list[Path]:
    return sorted((daemon.cache / "staging").glob("*/transfer.json"))


def staged(daemon: Daemon) -> set[str]:
    return {name for place in (daemon.cache / "staging").iterdir() for name in os.listdir(place)}


def counters(daemon: Daemon) -> dict[str, int]:
    found: dict[str, int] = daemon.request("GET", "/v1/status")[1]["counters"]
    return found


def fetch_half(daemon: Daemon, handle: str, then: Callable[[], object]) -> None:
    """Begins to fetch, does `then` when the half has arrived, and hangs up."""
    with daemon.events(handle) as events:
        for event in events:
            if event["event"] == "progress" and event["fetch"]["received_bytes"] == HALF:
                break
        then()


def assert_whole(answer: tuple[int, Any], body: bytes = ARCHIVE) -> None:
    status, told = answer
    assert (status, told.get("outcome")) == (200, "fetched"), told
    assert told["digest"] == hashlib.sha256(body).hexdigest()
    variables = Path(told["path"]) / "variables" / "variables.data-00000-of-00001"
    assert variables.read_bytes() == FILES["variables/variables.data-00000-of-00001"]


def leave_half(daemon: Daemon, origin: Origin, path: str = "/m/1", how: dict[str, Any] | None = None) -> str:
    """A partial of half the archive, of a fetch that nobody waited for any more."""
    handle = origin.serve(path, half(**(how or {})))
    fetch_half(daemon, handle, lambda: None)
    wait_until(lambda: daemon.request("GET", "/v1/fetches")[1]["fetches"] == [])
    return handle


def killed(daemon: Daemon) -> None:
    wait_until(lambda: len(transfers(daemon)) == 1)  # saved beside the transfer
    daemon.kill()


def stopped(daemon: Daemon) -> None:
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("end", "chunked"),
    [
        pytest.param(killed, False, id="announced-killed"),
        pytest.param(stopped, False, id="announced-stopped", marks=pytest.mark.thorough),
        pytest.param(killed, True, id="of-unknown-length-killed", marks=pytest.mark.thorough),
        pytest.param(stopped, True, id="of-unknown-length-stopped"),
    ],
)
def test_a_download_goes_on_after_the_daemon_was(
    end: Callable[[Daemon], None], chunked: bool, daemon: Daemon, origin: Origin
) -> None:
    handle = origin.serve("/m/1", half(chunked=chunked))
    fetch_half(daemon, handle, lambda: end(daemon))
    daemon.start()
    assert staged(daemon) == {"archive.part", "transfer.json"}
    origin.serve("/m/1", whole(chunked=chunked))
    assert_whole(daemon.resolve(handle))
    again = 1 if chunked else 0  # without a length, whether there is more is asked for with the last byte
    assert origin.asked("/m/1")[1].headers["Range"] == f"bytes={HALF - again}-"
    assert origin.asked("/m/1")[1].headers["If-Range"] == ETAG
    assert origin.sent_bytes("/m/1") == len(ARCHIVE) + again
    assert staged(daemon) == set()
    assert counters(daemon)["resumed"] == 1
    assert counters(daemon)["received_bytes"] == len(ARCHIVE) - HALF + again, "what came over the network"
    assert f"goes on from byte {HALF - again}" in daemon.log.read_text()


def test_a_download_goes_on_after_its_last_waiter_left(shared_daemon: Daemon, origin: Origin) -> None:
    handle = leave_half(shared_daemon, origin)
    rest = half()
    rest.gate_after_bytes = 1000
    origin.serve("/m/1", rest)
    with shared_daemon.events(handle) as events:
        received = next(e["fetch"]["received_bytes"] for e in events if e["fetch"]["received_bytes"])
        assert received >= HALF, "what was there already counts as received from the start"
        rest.gate.set()
        assert list(events)[-1]["event"] == "resolved"
    assert origin.sent_bytes("/m/1") == len(ARCHIVE)


def test_a_download_goes_on_after_the_origin_cut_it_again_and_again(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", whole(cut_after_bytes=len(ARCHIVE) // 3))
    for _ in range(2):
        assert shared_daemon.resolve(handle)[1]["code"] == "upstream-unavailable"
        assert len(transfers(shared_daemon)) == 1
    origin.serve("/m/1", whole())
    assert_whole(shared_daemon.resolve(handle))
    starts = [asked.headers.get("Range") for asked in origin.asked("/m/1")]
    assert starts == [None, f"bytes={len(ARCHIVE) // 3}-", f"bytes={len(ARCHIVE) // 3 * 2}-"]
    assert origin.sent_bytes("/m/1") == len(ARCHIVE)


def test_a_server_error_or_a_silent_one_costs_no_partial(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nstall_timeout = "1s"\n') as daemon:
        handle = origin.serve("/m/1", half())
        assert daemon.resolve(handle)[1]["code"] == "upstream-timeout"
        origin.serve("/m/1", Answer(status=500))
        assert daemon.resolve(handle)[1]["code"] == "upstream-unavailable"
        origin.serve("/m/1", whole())
        assert_whole(daemon.resolve(handle))
        assert origin.sent_bytes("/m/1") == len(ARCHIVE)


def test_a_full_disk_costs_no_partial(tmp_path: Path, origin: Origin) -> None:
    def mount(options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path / "cache")]
        return subprocess.run(command, capture_output=True).returncode == 0

    (tmp_path / "cache").mkdir()
    if not mount("size=4m,mode=755"):
        pytest.skip("needs to mount a small file system")
    try:
        with Daemon(tmp_path) as daemon:
            handle = origin.serve("/m/1", whole())
            assert daemon.resolve(handle)[1]["code"] in ("cache-full", "disk-full")
            wait_until(lambda: os.listdir(daemon.cache / "trash") == [])
            assert len(os.listdir(daemon.cache / "staging")) == 1
            assert mount("size=20m,mode=755,remount")
            assert_whole(daemon.resolve(handle))
            assert "Range" in origin.asked("/m/1")[1].headers
    finally:
        subprocess.run(["umount", str(tmp_path / "cache")], check=True, capture_output=True)


def test_redirects_are_resolved_anew(shared_daemon: Daemon, origin: Origin) -> None:
    origin.serve("/signed-1", whole(cut_after_bytes=HALF))
    handle = origin.serve("/m/1", Answer(status=302, headers={"Location": "/signed-1"}))
    assert shared_daemon.resolve(handle)[0] == 503
    origin.serve("/signed-1", Answer(status=403))
    origin.serve("/signed-2", whole())
    origin.serve("/m/1", Answer(status=302, headers={"Location": "/signed-2"}))
    assert_whole(shared_daemon.resolve(handle))
    assert origin.asked("/signed-2")[0].headers["Range"] == f"bytes={HALF}-"


def test_a_last_modified_of_long_ago_will_do(shared_daemon: Daemon, origin: Origin) -> None:
    modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    plain: dict[str, Any] = {"etag": None, "headers": {"Last-Modified": modified}}
    handle = leave_half(shared_daemon, origin, how=plain)
    origin.serve("/m/1", whole(**plain))
    assert_whole(shared_daemon.resolve(handle))
    assert origin.asked("/m/1")[1].headers["If-Range"] == modified
    assert origin.sent_bytes("/m/1") == len(ARCHIVE)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(whole(body=OTHER_ARCHIVE, etag='"v2"'), id="another-etag"),
        pytest.param(whole(body=OTHER_ARCHIVE, ranges=False, etag='"v2"'), id="no-ranges"),
        pytest.param(whole(body=OTHER_ARCHIVE, ranges=False), id="ignores-ranges"),
    ],
)
def test_another_archive_begins_from_its_first_byte(shared_daemon: Daemon, origin: Origin, changed: Answer) -> None:
    handle = leave_half(shared_daemon, origin)
    origin.serve("/m/1", changed)
    assert_whole(shared_daemon.resolve(handle), OTHER_ARCHIVE)
    assert len(origin.asked("/m/1")) == 2
    assert staged(shared_daemon) == set()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(whole(body=OTHER_ARCHIVE[: HALF // 2], heeds_if_range=False), id="416"),
        pytest.param(whole(content_range=f"bytes 0-{len(ARCHIVE) - 1}/{len(ARCHIVE)}"), id="wrong-start"),
        pytest.param(whole(content_range=f"bytes {HALF}-{len(ARCHIVE)}/{len(ARCHIVE) + 1}"), id="wrong-total"),
        pytest.param(whole(content_range="pages 1-2/3"), id="no-bytes"),
        pytest.param(whole(etag='"v2"', heeds_if_range=False), id="another-etag"),
        pytest.param(whole(etag=None, heeds_if_range=False), id="no-etag"),
    ],
)
def test_a_useless_answer_to_a_range_is_followed_by_a_request_without(
    shared_daemon: Daemon, origin: Origin, answer: Answer
) -> None:
    handle, resumed = leave_half(shared_daemon, origin), counters(shared_daemon)["resumed"]
    whole_one = whole(etag='"v2"')
    origin.serve("/m/1", lambda asked: answer if "Range" in asked.headers else whole_one)
    assert_whole(shared_daemon.resolve(handle))
    assert ["Range" in asked.headers for asked in origin.asked("/m/1")] == [False, True, False]
    assert staged(shared_daemon) == set()
    assert counters(shared_daemon)["resumed"] == resumed


def test_a_lying_rest_is_archive_corrupt_and_the_partial_is_gone(shared_daemon: Daemon, origin: Origin) -> None:
    handle = leave_half(shared_daemon, origin)
    origin.serve("/m/1", whole(body=bytes(len(ARCHIVE))))
    assert shared_daemon.resolve(handle)[1]["code"] == "archive-corrupt"
    assert staged(shared_daemon) == set()
    origin.serve("/m/1", whole())
    assert_whole(shared_daemon.resolve(handle))
    assert "Range" not in origin.asked("/m/1")[2].headers


def test_content_that_is_wrong_is_not_kept(shared_daemon: Daemon, origin: Origin) -> None:
    wrong = ARCHIVE[:HALF] + bytes(HALF)
    handle = origin.serve("/m/1", whole(body=wrong, gate_after_bytes=len(wrong) - 1000))
    assert shared_daemon.resolve(handle)[1]["code"] == "archive-corrupt"
    assert staged(shared_daemon) == set()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"etag": None}, id="no-validator"),
        pytest.param({"etag": 'W/"v1"'}, id="weak-etag"),
        pytest.param({"etag": None, "headers": {"Last-Modified": "Wed, 21 Oct 2065 07:28:00 GMT"}}, id="just-modified"),
        pytest.param({"headers": {"Accept-Ranges": "none"}}, id="no-ranges"),
    ],
)
def test_what_cannot_be_gone_on_from_is_not_kept(shared_daemon: Daemon, origin: Origin, how: dict[str, Any]) -> None:
    handle = origin.serve("/m/1", whole(cut_after_bytes=HALF, **how))
    assert shared_daemon.resolve(handle)[0] == 503
    assert staged(shared_daemon) == set()


def test_a_small_beginning_is_not_kept(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", whole(cut_after_bytes=200_000))
    assert shared_daemon.resolve(handle)[0] == 503
    assert staged(shared_daemon) == set()


def test_what_is_wrong_with_a_partial_costs_that_partial_alone(daemon: Daemon, origin: Origin) -> None:
    handle = leave_half(daemon, origin)
    (damaged,) = transfers(daemon)
    other = leave_half(daemon, origin, "/other/1")
    daemon.stop()
    os.truncate(damaged, 50)
    daemon.start()
    assert len(os.listdir(daemon.cache / "staging")) == 1
    for path, asked_for, told in (("/m/1", handle, None), ("/other/1", other, f"bytes={HALF}-")):
        origin.serve(path, whole())
        assert_whole(daemon.resolve(asked_for))
        assert origin.asked(path)[1].headers.get("Range") == told


def test_partials_that_nobody_came_back_for_go(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[cache]\nkeep_partial = "500ms"\n') as daemon:
        origin.serve("/m/1", whole(cut_after_bytes=HALF))
        other = origin.serve("/other/1", Answer(ARCHIVE[:100]))

        def is_gone() -> bool:
            daemon.resolve(other)  # after each fetch the daemon tidies
            return staged(daemon) == set()

        assert daemon.resolve(origin.url("/m/1"))[0] == 503
        wait_until(is_gone)


def test_after_a_power_cut_only_what_was_synced_counts(daemon: Daemon, origin: Origin) -> None:
    handle = leave_half(daemon, origin)
    synced = HALF - 300_000
    (path,) = transfers(daemon)
    daemon.stop()
    spool = path.with_name("archive.part")
    spool.write_bytes(spool.read_bytes()[:synced] + bytes(100_000))  # its size had reached the disk, its data had not
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "another", "ranges": [[0, synced]]}))
    daemon.start()
    origin.serve("/m/1", whole(cut_after_bytes=1000))
    assert daemon.resolve(handle)[0] == 503
    origin.serve("/m/1", whole())
    assert_whole(daemon.resolve(handle))
    starts = [asked.headers.get("Range") for asked in origin.asked("/m/1")]
    assert starts == [None, f"bytes={synced}-", f"bytes={synced + 1000}-"]


def test_a_partial_that_someone_took_away_is_a_fetch_from_the_start(shared_daemon: Daemon, origin: Origin) -> None:
    handle = leave_half(shared_daemon, origin)
    (path,) = transfers(shared_daemon)
    path.with_name("archive.part").unlink()
    origin.serve("/m/1", whole())
    assert_whole(shared_daemon.resolve(handle))
    assert "Range" not in origin.asked("/m/1")[1].headers
    assert staged(shared_daemon) == set()


def test_nothing_is_kept_where_the_settings_say_so(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[cache]\nkeep_partial = "0s"\n') as daemon:
        handle = origin.serve("/m/1", whole(cut_after_bytes=HALF))
        assert daemon.resolve(handle)[0] == 503
        assert staged(daemon) == set()


def test_a_revalidation_goes_on_with_a_newer_archive(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nrevalidate_after = "0s"\nnegative_ttl = "0s"\n') as daemon:
        handle = origin.serve("/m", Answer(archive(), etag='"v0"'))
        assert daemon.resolve(handle)[0] == 200
        leave_half(daemon, origin, "/m")
        origin.serve("/m", whole())
        assert_whole(daemon.resolve(handle))
        asked = origin.asked("/m")[2].headers
        assert (asked["If-None-Match"], asked["Range"], asked["If-Range"]) == ('"v0"', f"bytes={HALF}-", ETAG)


def test_a_download_that_was_all_there_asks_for_its_last_byte(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", whole(gate_after_bytes=len(ARCHIVE) - 1, announced_bytes=len(ARCHIVE)))
    with daemon.events(handle) as events:
        next(e for e in events if e["fetch"]["received_bytes"] == len(ARCHIVE) - 1)
        killed(daemon)
    spool = transfers(daemon)[0].with_name("archive.part")
    spool.write_bytes(ARCHIVE)
    daemon.start()
    origin.serve("/m/1", whole())
    assert_whole(daemon.resolve(handle))
    assert origin.asked("/m/1")[1].headers["Range"] == f"bytes={len(ARCHIVE) - 1}-"


def test_a_kill_at_any_time_leaves_what_can_be_gone_on_from_or_nothing(tmp_path: Path, origin: Origin) -> None:
    """Each daemon is killed the moment some more has gone out to it, whatever it is doing with that."""
    chance = random.Random(7)
    handle = origin.url("/m/1")
    daemon = Daemon(tmp_path)
    for _ in range(3):
        step = chance.randrange(100_000, 600_000)
        origin.serve("/m/1", whole(gate_after_bytes=step))
        before = origin.sent_bytes("/m/1")
        with daemon, daemon.events(handle):
            wait_until(lambda: origin.sent_bytes("/m/1") >= before + step)  # noqa: B023
            daemon.kill()
    with daemon:
        places = os.listdir(daemon.cache / "staging")
        assert len(places) <= 1
        assert staged(daemon) in (set(), {"archive.part", "transfer.json"})
        origin.serve("/m/1", whole())
        assert_whole(daemon.resolve(handle))
