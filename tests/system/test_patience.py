"""What may pass is tried again, a few times; what cannot succeed ends at once; and a cut costs no byte twice."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Asked, Origin, in_turn
from tests.support.remains import assert_nothing_remains, staged

RETRIES = 2
CONFIG = f"[network]\nretries = {RETRIES}\n"
FILES = {**MODULE, "assets/noise": random.Random(1).randbytes(1_500_000)}
ARCHIVE = archive(FILES)
OTHER_ARCHIVE = archive({**FILES, "assets/other.txt": b"other"})
SIZE = len(ARCHIVE)
WHOLE = Answer(ARCHIVE, ranges=True, etag='"v1"')
PLAIN = Answer(ARCHIVE)  # neither ranges nor a validator
CUT = replace(WHOLE, cut_after_bytes=SIZE // 3)


@pytest.fixture(scope="module")
def patient_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), config=CONFIG) as running:
        yield running


def assert_whole(answer: tuple[int, Any], body: bytes = ARCHIVE) -> None:
    status, told = answer
    assert (status, told.get("outcome")) == (200, "fetched"), told
    assert told["digest"] == hashlib.sha256(body).hexdigest()
    assert (Path(told["path"]) / "assets" / "noise").read_bytes() == FILES["assets/noise"]


def ranges_asked(origin: Origin, path: str = "/m/1") -> list[str | None]:
    return [asked.headers.get("Range") for asked in origin.asked(path)]


def test_a_transfer_that_was_cut_once_goes_on_where_it_was(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", in_turn(CUT, WHOLE))
    assert_whole(patient_daemon.resolve(handle))
    assert ranges_asked(origin) == [None, f"bytes={SIZE // 3}-{SIZE - 1}"]
    assert origin.asked("/m/1")[1].headers["If-Range"] == '"v1"'
    assert origin.sent_bytes("/m/1") == SIZE
    assert_nothing_remains(patient_daemon, handle)


def test_progress_begins_the_count_of_tries_anew(patient_daemon: Daemon, origin: Origin) -> None:
    """More cuts than retries, each after more than 256 KB."""
    handle = origin.serve("/m/1", replace(WHOLE, cut_after_bytes=300_000))
    assert_whole(patient_daemon.resolve(handle))
    assert len(origin.asked("/m/1")) == SIZE // 300_000 + 1 > RETRIES + 1
    assert origin.sent_bytes("/m/1") == SIZE


def test_cuts_that_bring_next_to_nothing_end_the_fetch(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", in_turn(CUT, replace(WHOLE, cut_after_bytes=1000)))
    status, problem = patient_daemon.resolve(handle)
    assert (status, problem["code"]) == (503, "upstream-unavailable")
    assert len(origin.asked("/m/1")) == 1 + RETRIES
    assert_nothing_remains(patient_daemon, handle, partial=True)
    origin.serve("/m/1", WHOLE)
    assert_whole(patient_daemon.resolve(handle))
    assert ranges_asked(origin)[-1] == f"bytes={SIZE // 3 + RETRIES * 1000}-"


def test_a_cut_without_ranges_begins_anew(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", in_turn(replace(PLAIN, cut_after_bytes=SIZE // 2), PLAIN))
    assert_whole(patient_daemon.resolve(handle))
    assert ranges_asked(origin) == [None, None]
    assert_nothing_remains(patient_daemon, handle)


def test_cuts_without_ranges_at_the_same_place_end_the_fetch(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", replace(PLAIN, cut_after_bytes=SIZE // 2))
    status, problem = patient_daemon.resolve(handle)
    assert (status, problem["code"]) == (503, "upstream-unavailable")
    assert len(origin.asked("/m/1")) == 1 + RETRIES
    assert_nothing_remains(patient_daemon, handle)


@pytest.mark.parametrize("announced_bytes", [SIZE + 1, SIZE * 2], ids=["by-one", "by-far"])
def test_less_than_was_announced_is_upstream_unavailable(
    patient_daemon: Daemon, origin: Origin, announced_bytes: int
) -> None:
    handle = origin.serve("/m/1", replace(PLAIN, announced_bytes=announced_bytes))
    status, problem = patient_daemon.resolve(handle)
    assert (status, problem["code"]) == (503, "upstream-unavailable")
    assert_nothing_remains(patient_daemon, handle)


def test_more_than_was_announced_is_not_read(patient_daemon: Daemon, origin: Origin) -> None:
    """HTTP ends the body where the length says: what is there of the archive is cut, and found to be."""
    handle = origin.serve("/m/1", replace(PLAIN, announced_bytes=SIZE - 100))
    assert patient_daemon.resolve(handle)[1]["code"] == "archive-corrupt"
    assert_nothing_remains(patient_daemon, handle)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(Answer(OTHER_ARCHIVE, ranges=True, etag='"v2"'), id="etag"),
        pytest.param(Answer(OTHER_ARCHIVE, ranges=True, etag='"v2"', heeds_if_range=False), id="if-range-ignored"),
        pytest.param(Answer(OTHER_ARCHIVE), id="no-more-ranges"),
    ],
)
def test_an_archive_that_changes_in_mid_transfer_begins_anew(
    patient_daemon: Daemon, origin: Origin, changed: Answer
) -> None:
    handle = origin.serve("/m/1", in_turn(CUT, changed))
    assert_whole(patient_daemon.resolve(handle), OTHER_ARCHIVE)
    assert_nothing_remains(patient_daemon, handle)


def test_an_archive_that_changes_with_every_answer_ends_the_fetch(tmp_path: Path, origin: Origin) -> None:
    versions = count()
    handle = origin.serve("/m/1", lambda _: replace(CUT, etag=f'"v{next(versions)}"'))
    with Daemon(tmp_path, config=CONFIG) as daemon:
        status, problem = daemon.resolve(handle)
        assert (status, problem["code"]) == (503, "upstream-unavailable")
        # For each try: a transfer, its rest, and the rest once more before all is begun anew.
        assert len(origin.asked("/m/1")) <= 3 * (RETRIES + 1)
        assert_nothing_remains(daemon, handle, partial=True)


def test_no_such_range_begins_anew(patient_daemon: Daemon, origin: Origin) -> None:
    gone = Answer(status=416, headers={"Content-Range": f"bytes */{SIZE}"})
    first = in_turn(CUT, WHOLE)
    handle = origin.serve("/m/1", lambda asked: gone if asked.is_ranged else first(asked))
    assert_whole(patient_daemon.resolve(handle))
    assert_nothing_remains(patient_daemon, handle)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_error_that_passes_costs_a_moment(patient_daemon: Daemon, origin: Origin, status: int) -> None:
    handle = origin.serve("/m/1", in_turn(Answer(status=status), Answer(status=status), WHOLE))
    assert_whole(patient_daemon.resolve(handle))
    assert len(origin.asked("/m/1")) == 3


def test_an_error_that_does_not_pass_ends_after_the_retries(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(b"down", 503))
    status, problem = patient_daemon.resolve(handle)
    assert (status, problem["code"]) == (503, "upstream-unavailable")
    assert len(origin.asked("/m/1")) == 1 + RETRIES
    assert_nothing_remains(patient_daemon, handle)


def test_errors_in_mid_transfer_cost_no_byte(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", in_turn(CUT, Answer(status=503), WHOLE))
    assert_whole(patient_daemon.resolve(handle))
    assert origin.sent_bytes("/m/1") == SIZE


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "upstream-unavailable"),
        (403, "upstream-denied"),
        (404, "upstream-not-found"),
        (501, "upstream-unavailable"),
    ],
)
def test_what_cannot_pass_is_asked_for_once(patient_daemon: Daemon, origin: Origin, status: int, code: str) -> None:
    handle = origin.serve("/m/1", Answer(status=status))
    assert patient_daemon.resolve(handle)[1]["code"] == code
    assert len(origin.asked("/m/1")) == 1


@pytest.mark.parametrize("when", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)], ids=["in", "at"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_origin_is_left_alone_for_as_long_as_it_asks(
    patient_daemon: Daemon, origin: Origin, status: int, when: Callable[[], str]
) -> None:
    asked_at: list[float] = []

    def answer(_: Asked) -> Answer:
        asked_at.append(time.monotonic())
        return Answer(status=status, headers={"Retry-After": when()}) if len(asked_at) == 1 else WHOLE

    assert_whole(patient_daemon.resolve(origin.serve("/m/1", answer)))
    # By a date, which has no fractions, it asks for one to two.
    assert 0.99 <= asked_at[1] - asked_at[0] < 10.0


def test_an_origin_that_asks_for_an_hour_is_not_waited_for(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(status=503, headers={"Retry-After": "3600"}))
    status, problem = patient_daemon.resolve(handle)
    assert (status, problem["code"]) == (503, "upstream-unavailable")
    assert "3600 s" in problem["detail"]
    assert len(origin.asked("/m/1")) == 1


def test_a_pause_ends_with_its_last_waiter_and_with_the_daemon(tmp_path: Path, origin: Origin) -> None:
    busy = Answer(status=503, headers={"Retry-After": "50"})
    with Daemon(tmp_path, config=CONFIG) as daemon:
        handle = origin.serve("/m/1", in_turn(CUT, busy))
        with daemon.events(handle):
            origin.wait_until_asked("/m/1", 2)
        assert_nothing_remains(daemon, handle, partial=True)
        with daemon.events(handle):
            origin.wait_until_asked("/m/1", 3)
            assert daemon.stop() == 0
        daemon.start()
        origin.serve("/m/1", WHOLE)
        assert_whole(daemon.resolve(handle))
        assert origin.sent_bytes("/m/1") == SIZE


def test_a_byte_a_second_ends_by_the_minimum_rate_and_is_gone_on_from(tmp_path: Path, origin: Origin) -> None:
    config = '[network]\nretries = 1\nstall_timeout = "600ms"\nmin_rate = "100KB/s"\n'
    handle = origin.serve("/m/1", in_turn(CUT, replace(WHOLE, bytes_per_second=2000)))
    with Daemon(tmp_path, config=config) as daemon:
        before = time.monotonic()
        status, problem = daemon.resolve(handle)
        assert time.monotonic() - before < 20.0, "at its rate the rest takes eight minutes"
        assert (status, problem["code"]) == (504, "upstream-timeout")
        assert "network.min_rate" in problem["detail"]
        assert_nothing_remains(daemon, handle, partial=True)
        origin.serve("/m/1", WHOLE)
        assert_whole(daemon.resolve(handle))
        assert int((ranges_asked(origin)[-1] or "").strip("bytes=-")) >= SIZE // 3


def test_a_slow_transfer_above_the_minimum_rate_has_all_the_time_it_needs(tmp_path: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", replace(WHOLE, bytes_per_second=SIZE // 2))
    with Daemon(tmp_path, config='[network]\nstall_timeout = "1s"\nmin_rate = "10KB/s"\n') as daemon:
        assert_whole(daemon.resolve(handle))
        assert len(origin.asked("/m/1")) == 1


def test_a_copy_that_is_there_is_served_without_patience(tmp_path: Path, origin: Origin) -> None:
    config = '[network]\nretries = 4\nrevalidate_after = "0s"\nnegative_ttl = "0s"\n'
    with Daemon(tmp_path, config=config) as daemon:
        handle = origin.serve("/m", WHOLE)
        assert daemon.resolve(handle)[0] == 200
        origin.serve("/m", Answer(status=503))
        assert daemon.resolve(handle)[1]["outcome"] == "stale"
        assert len(origin.asked("/m")) == 2
        assert staged(daemon) == []
