"""Several connections to one origin: whatever it does with single ones, one archive arrives, each byte about once."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.hubctl import COMMAND, environ_for
from tests.support.origin import Answer, Asked, Origin
from tests.support.remains import assert_nothing_remains, staged
from tests.support.waiting import wait_until

MB = 1_000_000
NOISE = random.Random(1).randbytes(16 * MB)
ARCHIVE = archive({**MODULE, "assets/noise": NOISE})
OTHER_NOISE = random.Random(2).randbytes(16 * MB)
OTHER_ARCHIVE = archive({**MODULE, "assets/noise": OTHER_NOISE})
SIZE = len(ARCHIVE)
# What is on its way over a connection that is ended comes again: on a busy machine, which reads late, that is more.
ABOUT_ONCE = 1.5 * SIZE
SLOW = Answer(ARCHIVE, ranges=True, etag='"v1"', bytes_per_second=4 * MB)  # for each connection
OTHER = replace(SLOW, body=OTHER_ARCHIVE, etag='"v2"')


@pytest.fixture(scope="module")
def patient_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), config="[network]\nretries = 2\n") as running:
        yield running


def assert_whole(answer: tuple[int, Any], body: bytes = ARCHIVE, noise: bytes = NOISE) -> None:
    status, told = answer
    assert (status, told.get("outcome")) == (200, "fetched"), told
    assert told["digest"] == hashlib.sha256(body).hexdigest()
    assert (Path(told["path"]) / "assets" / "noise").read_bytes() == noise


def received_bytes(daemon: Daemon) -> int:
    fetches = daemon.request("GET", "/v1/fetches")[1]["fetches"]
    return max((fetch["received_bytes"] for fetch in fetches), default=0)


def wait_for_several(daemon: Daemon, origin: Origin, share: float = 0.4) -> None:
    """Until several connections are used, and that much of the archive is there."""
    wait_until(lambda: origin.most_at_once("/m/1") > 2 and received_bytes(daemon) >= share * SIZE)


def test_an_origin_that_limits_each_connection_is_asked_over_several(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", SLOW)
    assert_whole(patient_daemon.resolve(handle))
    assert origin.most_at_once("/m/1") > 2
    assert origin.sent_bytes("/m/1") <= ABOUT_ONCE
    assert_nothing_remains(patient_daemon, handle, kept_connections=8)


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(Answer(status=503), id="503"),
        pytest.param(
            Answer(status=429, headers={"Retry-After": "3600"}), id="429-for-an-hour", marks=pytest.mark.thorough
        ),
        pytest.param(Answer(status=403), id="403", marks=pytest.mark.thorough),
        pytest.param(Answer(reset=True), id="reset", marks=pytest.mark.thorough),
    ],
)
def test_an_origin_that_lets_two_in_is_asked_over_two(patient_daemon: Daemon, origin: Origin, refusal: Answer) -> None:
    handle = origin.serve("/m/1", lambda asked: refusal if asked.at_once > 2 else SLOW)
    assert_whole(patient_daemon.resolve(handle))
    assert origin.sent_bytes("/m/1") <= ABOUT_ONCE
    assert_nothing_remains(patient_daemon, handle, kept_connections=8)


def test_an_origin_that_honours_no_ranges_after_all_is_asked_over_one(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", replace(SLOW, ranges=False, bytes_per_second=8 * MB))
    assert_whole(patient_daemon.resolve(handle))
    assert len(origin.asked("/m/1")) <= 2
    assert origin.sent_bytes("/m/1") <= ABOUT_ONCE


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_parts_of_another_version_are_not_mixed_in(
    patient_daemon: Daemon, origin: Origin, heeds_if_range: bool
) -> None:
    """One of a cluster's servers has a newer archive than the one that answered first."""
    other = replace(OTHER, heeds_if_range=heeds_if_range)
    handle = origin.serve("/m/1", lambda asked: other if asked.is_ranged else replace(SLOW, bytes_per_second=8 * MB))
    assert_whole(patient_daemon.resolve(handle))


def test_an_archive_that_is_replaced_arrives_anew(patient_daemon: Daemon, origin: Origin) -> None:
    def answer(asked: Asked) -> Answer:
        if len(origin.asked("/m/1")) >= 4:
            return OTHER
        return replace(SLOW, cut_after_bytes=3 * MB)

    handle = origin.serve("/m/1", answer)
    assert_whole(patient_daemon.resolve(handle), OTHER_ARCHIVE, OTHER_NOISE)
    assert_nothing_remains(patient_daemon, handle, kept_connections=8)


@pytest.mark.parametrize("expired", [403, 400, 410])
def test_a_signed_url_that_expires_is_asked_for_again(patient_daemon: Daemon, origin: Origin, expired: int) -> None:
    """Google's storage answers 400 to one that has expired, most others 403."""
    first = replace(SLOW, cut_after_bytes=SIZE // 2)
    origin.serve("/signed/1", lambda asked: Answer(status=expired) if asked.is_ranged else first)
    origin.serve("/signed/2", SLOW)
    old, new = (Answer(status=302, headers={"Location": f"/signed/{number}"}) for number in (1, 2))
    handle = origin.serve("/m/1", lambda asked: new if asked.is_ranged else old)
    assert_whole(patient_daemon.resolve(handle))
    assert origin.sent_bytes("/signed/1") + origin.sent_bytes("/signed/2") <= ABOUT_ONCE


def test_a_connection_that_stands_still_keeps_nobody_waiting(patient_daemon: Daemon, origin: Origin) -> None:
    """Its silence would be an error only after a minute."""
    stalling = replace(SLOW, gate_after_bytes=100_000)

    def answer(asked: Asked) -> Answer:
        return stalling if len(origin.asked("/m/1")) == 3 else SLOW

    handle = origin.serve("/m/1", answer)
    before = time.monotonic()
    try:
        assert_whole(patient_daemon.resolve(handle))
        assert time.monotonic() - before < 40
        assert origin.sent_bytes("/m/1") <= ABOUT_ONCE
    finally:
        stalling.gate.set()


def test_every_part_cut_again_and_again_costs_no_byte(patient_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", replace(SLOW, cut_after_bytes=700_000))
    assert_whole(patient_daemon.resolve(handle))
    assert origin.sent_bytes("/m/1") <= ABOUT_ONCE


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="kill"),
        pytest.param(signal.SIGTERM, id="stop", marks=pytest.mark.thorough),
    ],
)
def test_a_parallel_download_goes_on_after_the_daemon_was(
    tmp_path: Path, origin: Origin, number: signal.Signals
) -> None:
    handle = origin.serve("/m/1", replace(SLOW, bytes_per_second=2 * MB))
    with Daemon(tmp_path, config="[network]\nretries = 2\n") as daemon:
        with daemon.events(handle):
            wait_for_several(daemon, origin)
            daemon.signal(number)
            daemon.wait()
        sent_before = origin.sent_bytes("/m/1")
        daemon.start()
        origin.serve("/m/1", replace(SLOW, bytes_per_second=None))
        assert_whole(daemon.resolve(handle))
        assert daemon.request("GET", "/v1/status")[1]["counters"]["resumed"] == 1
        assert origin.sent_bytes("/m/1") - sent_before < SIZE
        assert_nothing_remains(daemon, handle, kept_connections=8)


def test_the_last_waiter_who_leaves_ends_all_connections_and_keeps_the_prefix(
    patient_daemon: Daemon, origin: Origin
) -> None:
    handle = origin.serve("/m/1", replace(SLOW, bytes_per_second=MB))
    with patient_daemon.events(handle):
        wait_for_several(patient_daemon, origin)
    origin.serve("/m/1", replace(SLOW, bytes_per_second=None))
    assert_nothing_remains(patient_daemon, handle, partial=True, kept_connections=0)
    sent_before = origin.sent_bytes("/m/1")
    assert_whole(patient_daemon.resolve(handle))
    # What came out of its order is not kept: up to a segment for each connection.
    assert origin.sent_bytes("/m/1") - sent_before < SIZE


def test_an_interrupt_of_hubctl_ends_all_connections(patient_daemon: Daemon, origin: Origin) -> None:
    # So slow that hubctl ends long before the archive is there, on however busy a machine.
    handle = origin.serve("/m/1", replace(SLOW, bytes_per_second=MB // 4))
    running = subprocess.Popen([*COMMAND, "get", handle], env=environ_for(patient_daemon), stderr=subprocess.PIPE)
    wait_for_several(patient_daemon, origin, 0.2)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    assert running.returncode == 130
    assert_nothing_remains(patient_daemon, handle, partial=True, kept_connections=0)
    origin.serve("/m/1", replace(SLOW, bytes_per_second=None))
    patient_daemon.resolve(handle)


def test_a_disk_that_fills_in_a_parallel_transfer_is_survived(tmp_path: Path, origin: Origin) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        handle = origin.serve("/m/1", replace(SLOW, bytes_per_second=2 * MB))
        with Daemon(place, config="[network]\nretries = 2\n") as daemon:
            answers: list[tuple[int, Any]] = []
            asking = threading.Thread(target=lambda: answers.append(daemon.resolve(handle)))
            asking.start()
            wait_for_several(daemon, origin, 0.3)
            filler = place / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(64 * 1024))
                except OSError:
                    pass
            asking.join()
            assert (answers[0][0], answers[0][1]["code"]) == (507, "disk-full")
            wait_until(lambda: os.listdir(daemon.cache / "trash") == [])
            filler.unlink()
            origin.serve("/m/1", replace(SLOW, bytes_per_second=None))
            assert_whole(daemon.resolve(handle))
            assert staged(daemon) == []
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
