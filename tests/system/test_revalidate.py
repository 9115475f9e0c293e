"""When the origin is asked again about a cached module, and what its answers change."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

from hubclient.contract import handles
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive()
OTHER_ARCHIVE = archive({**MODULE, "assets/other.txt": b"other"})


def test_a_version_is_never_asked_for_again(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nrevalidate_after = "0s"\n') as daemon:
        handle = origin.serve("/m/7", Answer(ARCHIVE, etag='"a"'))
        assert [daemon.resolve(handle)[1]["outcome"] for _ in range(3)] == ["fetched", "hit", "hit"]
        assert len(origin.asked("/m/7")) == 1


def test_a_handle_without_version_is_revalidated(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nrevalidate_after = "0s"\n') as daemon:
        handle = origin.serve("/m", Answer(ARCHIVE, etag='"a"'))
        first = daemon.resolve(handle)[1]
        assert daemon.resolve(handle)[1]["outcome"] == "hit"
        assert origin.asked("/m")[1].headers["If-None-Match"] == '"a"'
        origin.serve("/m", Answer(OTHER_ARCHIVE, etag='"b"'))
        second = daemon.resolve(handle)[1]
        assert second["outcome"] == "fetched"
        assert second["digest"] != first["digest"]


def test_an_origin_that_is_away_makes_the_copy_stale_and_not_gone(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nrevalidate_after = "0s"\n') as daemon:
        handle = origin.serve("/m", Answer(ARCHIVE, etag='"a"'))
        first = daemon.resolve(handle)[1]
        origin.serve("/m", Answer(status=500))
        stale = daemon.resolve(handle)[1]
        assert (stale["outcome"], stale["path"]) == ("stale", first["path"])
        assert stale["warnings"]
        daemon.resolve(handle)
        assert len(origin.asked("/m")) == 2, "the failure is remembered: the next caller does not wait for it again"


def test_refresh_of_a_version_is_a_conditional_request(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE, etag='"a"'))
    daemon.resolve(handle)
    assert daemon.resolve(handle, refresh=True)[1]["outcome"] == "hit"
    assert origin.asked("/m/1")[1].headers["If-None-Match"] == '"a"'
    plain = origin.serve("/plain/1", Answer(ARCHIVE))
    daemon.resolve(plain)
    assert daemon.resolve(plain, refresh=True)[1]["outcome"] == "hit"
    assert len(origin.asked("/plain/1")) == 1, "nobody can force downloads"


def test_other_content_under_a_version_is_refused_while_the_old_is_whole(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE, etag='"a"'))
    first = daemon.resolve(handle)[1]
    origin.serve("/m/1", Answer(OTHER_ARCHIVE, etag='"b"'))
    assert daemon.resolve(handle, refresh=True)[1]["code"] == "digest-mismatch"
    again = daemon.resolve(handle)[1]
    assert (again["outcome"], again["digest"]) == ("hit", first["digest"])


def test_equal_content_in_other_bytes_is_no_mismatch(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE, etag='"a"'))
    first = daemon.resolve(handle)[1]
    origin.serve("/m/1", Answer(gzip.compress(gzip.decompress(ARCHIVE), 1, mtime=99), etag='"b"'))
    again = daemon.resolve(handle, refresh=True)[1]
    assert (again["outcome"], again["digest"]) == ("hit", first["digest"])


def test_a_question_to_the_origin_waits_for_no_download(tmp_path: Path, origin: Origin) -> None:
    config = '[network]\nconcurrent_fetches = 1\nrevalidate_after = "0s"\n'
    with Daemon(tmp_path, config=config) as daemon:
        cached = origin.serve("/m", Answer(ARCHIVE, etag='"a"'))
        daemon.resolve(cached)
        slow = Answer(OTHER_ARCHIVE, gate_after_bytes=10)
        daemon.request("POST", "/v1/prefetch", {"handles": [origin.serve("/slow/1", slow)]})
        origin.wait_until_asked("/slow/1")
        assert daemon.resolve(cached)[1]["outcome"] == "hit"
        assert len(origin.asked("/m")) == 2
        slow.gate.set()


def test_a_demanded_digest_that_a_fresh_copy_lacks_asks_the_origin(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m", Answer(ARCHIVE, etag='"a"'))
    daemon.resolve(handle)
    origin.serve("/m", Answer(OTHER_ARCHIVE, etag='"b"'))
    newer = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
    assert daemon.resolve(handle, digest=newer)[1]["outcome"] == "fetched"
    assert daemon.resolve(handle, digest="0" * 64)[1]["code"] == "digest-mismatch"


def test_a_spelling_that_comes_during_a_fetch_keeps_its_view(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m", Answer(ARCHIVE, etag='"a"'))
    daemon.resolve(handle)
    slow = Answer(OTHER_ARCHIVE, etag='"b"', gate_after_bytes=10)
    origin.serve("/m", slow)
    view = daemon.cache / "tfhub" / handles.spelling_name(f"{handle}#x")
    with daemon.events(handle, refresh=True) as events:
        next(events)
        origin.wait_until_asked("/m", 2)
        assert daemon.resolve(f"{handle}#x")[1]["outcome"] == "hit"
        wait_until(view.is_symlink)
        slow.gate.set()
        last = list(events)[-1]["result"]
    assert os.path.realpath(view) == last["path"]


def test_offline_answers_from_the_cache_alone(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    assert daemon.resolve(handle, offline=True)[1]["code"] == "offline"
    daemon.resolve(handle)
    assert daemon.resolve(handle, offline=True)[1]["outcome"] == "hit"
