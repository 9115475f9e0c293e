"""The digests that an origin sends, and the one that a caller demands, are compared before anything is published."""

from __future__ import annotations

import base64
import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.hubctl import hubctl
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

MODULE = {"saved_model.pb": b"\x08\x01\x12\x00", "variables/variables.index": b"index" * 1000}
ARCHIVE = archive(MODULE)
OTHER_ARCHIVE = archive({**MODULE, "assets/vocab.txt": b"the of and"})


def b64(algorithm: str, body: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-goog-hash", "crc32c=AAAAAA=="),
        ("x-goog-hash", "md5=" + b64("md5", b"other")),
        ("Repr-Digest", f"sha-256=:{b64('sha256', b'other')}:"),
        ("Content-Digest", f"sha-512=:{b64('sha512', b'other')}:"),
        ("Content-MD5", b64("md5", b"other")),
    ],
)
def test_an_archive_that_is_not_what_its_origin_means_is_refused_and_leaves_nothing(
    shared_daemon: Daemon, origin: Origin, header: str, value: str
) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE, headers={header: value}, etag='"1"'))
    status, problem = shared_daemon.resolve(handle)
    assert (status, problem["code"], problem["retryable"]) == (502, "archive-corrupt", True)
    assert header in problem["detail"]
    wait_until(lambda: not os.listdir(shared_daemon.cache / "staging"))
    origin.serve("/m/1", Answer(ARCHIVE, headers={"x-goog-hash": f"md5={b64('md5', ARCHIVE)}"}))
    assert shared_daemon.resolve(handle)[1]["outcome"] == "fetched"


def test_a_resumed_transfer_is_checked_as_a_whole(tmp_path: Path, origin: Origin) -> None:
    body = archive({**MODULE, "variables/variables.data": random.Random(1).randbytes(3_000_000)})
    headers = {"Content-Digest": f"sha-256=:{b64('sha256', b'of the part, as far as anybody knows')}:"}
    whole = Answer(body, etag='"1"', ranges=True)
    with Daemon(tmp_path) as daemon:
        cut = Answer(body, etag='"1"', ranges=True, cut_after_bytes=2_000_000)
        handle = origin.serve("/m/1", cut)
        assert daemon.resolve(handle)[1]["code"] == "upstream-unavailable"
        for repr_digest, code in ((b64("sha256", b"other"), "archive-corrupt"), (b64("sha256", body), None)):
            asked = len(origin.asked("/m/1"))
            stated = {**headers, "Repr-Digest": f"sha-256=:{repr_digest}:"}
            origin.serve("/m/1", Answer(whole.body, etag=whole.etag, ranges=True, headers=stated))
            answer = daemon.resolve(handle)[1]
            ranged = ["Range" in request.headers for request in origin.asked("/m/1")[asked:]]
            if code is not None:
                assert (answer["code"], ranged) == (code, [True])
                # What was wrong is not gone on from; so that there is something to go on from again:
                origin.serve("/m/1", cut)
                assert daemon.resolve(handle)[1]["code"] == "upstream-unavailable"
            else:
                assert (answer["digest"], ranged) == (hashlib.sha256(body).hexdigest(), [True])


def test_with_a_demanded_digest_other_content_never_takes_a_versions_place(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    first = daemon.resolve(handle)[1]
    Path(first["path"], "saved_model.pb").unlink()
    origin.serve("/m/1", Answer(OTHER_ARCHIVE))
    status, problem = daemon.resolve(handle, digest=first["digest"])
    assert (status, problem["code"]) == (409, "digest-mismatch")
    assert daemon.request("GET", f"/v1/modules/{first['key']}")[1]["digest"] == first["digest"]
    origin.serve("/m/1", Answer(ARCHIVE))
    repaired = daemon.resolve(handle, digest=first["digest"])[1]
    assert (repaired["outcome"], repaired["path"]) == ("fetched", first["path"])
    # Nobody who demands: accepted, and said.
    Path(first["path"], "saved_model.pb").unlink()
    origin.serve("/m/1", Answer(OTHER_ARCHIVE))
    moved = daemon.resolve(handle)[1]
    assert moved["digest"] == hashlib.sha256(OTHER_ARCHIVE).hexdigest()
    assert "is not the one that was fetched" in moved["warnings"][0]


def test_who_demands_nothing_gets_other_content_and_who_waits_beside_with_a_demand_does_not(
    daemon: Daemon, origin: Origin
) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    first = daemon.resolve(handle)[1]
    Path(first["path"], "saved_model.pb").unlink()
    gated = Answer(OTHER_ARCHIVE, gate_after_bytes=100)
    origin.serve("/m/1", gated)
    with ThreadPoolExecutor(2) as pool:
        demanding = pool.submit(daemon.resolve, handle, digest=first["digest"])
        origin.wait_until_asked("/m/1", 2)
        other = pool.submit(daemon.resolve, handle)
        wait_until(lambda: [one["waiters"] for one in daemon.request("GET", "/v1/fetches")[1]["fetches"]] == [2])
        gated.gate.set()
        assert demanding.result()[1]["code"] == "digest-mismatch"
        assert other.result()[1]["digest"] == hashlib.sha256(OTHER_ARCHIVE).hexdigest()


def test_a_copy_with_the_demanded_digest_is_no_older_for_its_age(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nrevalidate_after = "0s"\n') as daemon:
        handle = origin.serve("/m/latest", Answer(ARCHIVE))
        first = daemon.resolve(handle)[1]
        origin.serve("/m/latest", Answer(OTHER_ARCHIVE))
        again = daemon.resolve(handle, digest=first["digest"])[1]
        assert (again["outcome"], again["path"]) == ("hit", first["path"])
        assert len(origin.asked("/m/latest")) == 1
        assert daemon.resolve(handle)[1]["digest"] != first["digest"]


def test_get_with_the_wrong_digest_fails_and_keeps_what_is_cached(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    cold = hubctl(shared_daemon, "get", handle, "--digest", "sha256:" + "0" * 64)
    assert (cold.returncode, cold.stdout) == (1, "")
    assert "[digest-mismatch]" in cold.stderr
    right = hubctl(shared_daemon, "get", handle, "--digest", "sha256:" + hashlib.sha256(ARCHIVE).hexdigest())
    assert Path(right.stdout.strip(), "saved_model.pb").is_file()
    assert len(origin.asked("/m/1")) == 1


def test_get_needs_no_daemon_for_a_cached_module_of_the_demanded_digest(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/latest", Answer(ARCHIVE))
    first = hubctl(daemon, "get", handle)
    daemon.kill()
    again = hubctl(daemon, "get", handle, "--digest", "sha256:" + hashlib.sha256(ARCHIVE).hexdigest(), HUBD_TIMEOUT="0")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "warning" not in again.stderr
    assert hubctl(daemon, "get", handle, "--digest", "0" * 64, HUBD_TIMEOUT="0").returncode == 3
