"""Modules that come from mirrors: over HTTP, and from a directory of this machine, offline too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hubclient.contract import handles
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin

ARCHIVE = archive()
OTHER_ARCHIVE = archive({**MODULE, "assets/other.txt": b"other"})
# A host that is never asked in these tests, nor is a name server for it: plain HTTP, loopback and the list of hosts are
# as a service has them, so that only mirrors may be asked.
ELSEWHERE = "https://models.example.org/"
CLOSED = '[network]\nallow_http = false\nallow_private_addresses = false\nallowed_hosts = ["tfhub.dev"]\n'


@pytest.fixture
def mirror() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def mirrored(match: str, *urls: str) -> str:
    return f"[[mirror]]\nmatch = {match!r}\nurls = {list(urls)!r}\n"


def test_a_mirror_answers_for_the_handle_which_stays_as_it_is(tmp_path: Path, origin: Origin, mirror: Origin) -> None:
    with Daemon(tmp_path, config=mirrored(origin.url("/"), mirror.url("/tfhub"))) as daemon:
        mirror.serve("/tfhub/google/m/1", Answer(ARCHIVE))
        handle = origin.url("/google/m/1?a=b")
        status, answer = daemon.resolve(handle)
        assert (status, answer["outcome"], answer["tier"], answer["handle"]) == (200, "fetched", "mirror", handle)
        assert answer["key"] == handles.key(handle)
        hit = daemon.resolve(handle)[1]
        assert (hit["outcome"], hit["tier"]) == ("hit", "local")
        counters = daemon.request("GET", "/v1/status")[1]["counters"]
        assert (counters["answers_by_tier"], counters["received_by_tier"]) == (
            {"mirror": 1, "local": 1},
            {"mirror": len(ARCHIVE)},
        )
    assert [asked.target for asked in mirror.asked("/tfhub/google/m/1")] == [
        "/tfhub/google/m/1?a=b&tf-hub-format=compressed"
    ]
    assert origin.asked("/google/m/1") == []


def test_what_a_mirror_lacks_comes_from_the_next_place(tmp_path: Path, origin: Origin, mirror: Origin) -> None:
    with Daemon(tmp_path, config=mirrored(origin.url("/"), mirror.url("/a/"), mirror.url("/b/"))) as daemon:
        mirror.serve("/a/m/1", Answer(status=404))
        mirror.serve("/b/m/1", Answer(status=403))
        assert daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[0] == 200
        mirror.serve("/a/m/2", Answer(OTHER_ARCHIVE))
        assert daemon.resolve(origin.url("/m/2"))[0] == 200, "a mirror that lacks one module is asked for the next"
        assert origin.asked("/m/2") == []


def test_a_mirror_that_fails_is_asked_last_for_a_while(tmp_path: Path, origin: Origin, mirror: Origin) -> None:
    with Daemon(tmp_path, config=mirrored(origin.url("/"), mirror.url("/"))) as daemon:
        mirror.serve("/m/1", Answer(ARCHIVE, cut_after_bytes=len(ARCHIVE) // 2))
        daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))
        assert daemon.resolve(origin.url("/m/1"))[0] == 200
        assert daemon.resolve(origin.serve("/m/2", Answer(OTHER_ARCHIVE)))[0] == 200
        assert mirror.asked("/m/2") == []
        mirror.serve("/m/3", Answer(ARCHIVE))
        assert daemon.resolve(origin.url("/m/3"))[0] == 200, "it is still asked for what the others lack"


def test_a_mirror_keeps_its_turn_after_a_handle_that_it_refuses(tmp_path: Path, origin: Origin, mirror: Origin) -> None:
    with Daemon(tmp_path, config=mirrored(origin.url("/"), mirror.url("/"))) as daemon:
        mirror.serve("/%zz/1", Answer(status=400))
        assert daemon.resolve(origin.url("/%zz/1"))[0] == 404
        assert len(mirror.asked("/%zz/1")) == 1
        mirror.serve("/m/1", Answer(ARCHIVE))
        assert daemon.resolve(origin.url("/m/1"))[0] == 200
        assert origin.asked("/m/1") == []


def test_when_no_place_has_it_the_error_names_them_all(tmp_path: Path, origin: Origin, mirror: Origin) -> None:
    empty = tmp_path / "modules"
    empty.mkdir()
    with Daemon(tmp_path, config=mirrored(origin.url("/"), f"file://{empty}", mirror.url("/"))) as daemon:
        status, answer = daemon.resolve(origin.url("/m/1"))
        assert (status, answer["code"]) == (404, "upstream-not-found")
        assert answer["detail"].count("127.0.0.1 has no such module") == 2
        assert f"file://{empty}/ has no such module" in answer["detail"]
        mirror.serve("/m/2", Answer(status=503))
        status, answer = daemon.resolve(origin.url("/m/2"))
        assert (status, answer["code"], answer["retryable"]) == (503, "upstream-unavailable", True)


def test_a_mirror_may_be_where_nobody_else_may_go(tmp_path: Path, mirror: Origin) -> None:
    config = CLOSED + mirrored(ELSEWHERE, mirror.url("/mirror/"))
    with Daemon(tmp_path, config=config) as daemon:
        mirror.serve("/moved/m/1", Answer(ARCHIVE))
        mirror.serve("/mirror/m/1", Answer(status=302, headers={"Location": "/moved/m/1"}))
        status, answer = daemon.resolve(ELSEWHERE + "m/1")
        assert (status, answer["outcome"]) == (200, "fetched")
        status, answer = daemon.resolve(ELSEWHERE + "m/2")
        assert (status, answer["code"]) == (404, "upstream-not-found"), "the handle's own host stays forbidden"
        assert "allowed_hosts" in answer["detail"]


def test_a_transfer_that_is_cut_goes_on_at_the_mirror(tmp_path: Path, mirror: Origin) -> None:
    size = len(ARCHIVE)
    rest = Answer(ARCHIVE[100:], 206, {"Content-Range": f"bytes 100-{size - 1}/{size}"}, etag='"a"')
    answers = [Answer(ARCHIVE, etag='"a"', cut_after_bytes=100), rest]
    with Daemon(tmp_path, config=CLOSED + "retries = 1\n" + mirrored(ELSEWHERE, mirror.url("/"))) as daemon:
        mirror.serve("/m/1", lambda _: answers.pop(0))
        assert daemon.resolve(ELSEWHERE + "m/1")[1]["outcome"] == "fetched"
    assert [asked.headers.get("Range") for asked in mirror.asked("/m/1")] == [None, f"bytes=100-{size - 1}"]


def test_a_connection_to_a_mirror_opens_its_host_to_nobody_else(tmp_path: Path, origin: Origin, mirror: Origin) -> None:
    config = CLOSED.replace("allow_http = false", "allow_http = true").replace("tfhub.dev", "127.0.0.1")
    with Daemon(tmp_path, config=config + mirrored(ELSEWHERE, mirror.url("/mirror/"))) as daemon:
        mirror.serve("/mirror/m/1", Answer(ARCHIVE))
        assert daemon.resolve(ELSEWHERE + "m/1")[0] == 200  # and the connection stays open for the next request
        assert daemon.resolve(mirror.serve("/secret/1", Answer(ARCHIVE)))[1]["code"] == "address-forbidden"
        secret = origin.serve("/secret/2", Answer(ARCHIVE))
        mirror.serve("/mirror/m/2", Answer(status=302, headers={"Location": secret}))
        assert "is at 127.0.0.1, a private or reserved address" in daemon.resolve(ELSEWHERE + "m/2")[1]["detail"]
    assert mirror.asked("/secret/1") == origin.asked("/secret/2") == []


def test_link_local_addresses_are_refused_to_mirrors_too(tmp_path: Path) -> None:
    with Daemon(tmp_path, config=CLOSED + mirrored(ELSEWHERE, "http://169.254.169.254/latest/")) as daemon:
        answer = daemon.resolve(ELSEWHERE + "m/1")[1]
        assert answer["code"] == "address-forbidden"
        assert "169.254.169.254, a private or reserved" in answer["detail"]


def test_a_directory_serves_what_is_in_it_offline_too_and_a_change_is_noticed(tmp_path: Path, origin: Origin) -> None:
    modules = tmp_path / "modules"
    (modules / "google").mkdir(parents=True)
    (modules / "google" / "m.tar.gz").write_bytes(ARCHIVE)
    network = (
        '[network]\noffline = true\nrevalidate_after = "0s"\nmax_rate = "1B/s"\n'  # which is no network's business
    )
    config = network + mirrored(origin.url("/"), f"file://{modules}")
    with Daemon(tmp_path, config=config) as daemon:
        handle = origin.url("/google/m")
        first = daemon.resolve(handle)[1]
        assert first["outcome"] == "fetched"
        assert daemon.request("GET", f"/v1/modules/{first['key']}")[1]["origin"] == "localhost"
        assert daemon.resolve(handle)[1]["outcome"] == "hit"
        (modules / "google" / "m.tar.gz").write_bytes(OTHER_ARCHIVE)
        second = daemon.resolve(handle)[1]
        assert (second["outcome"], second["digest"] != first["digest"]) == ("fetched", True)
        (modules / "google" / "m.tar.gz").unlink()
        assert daemon.resolve(handle)[1]["outcome"] == "stale"
        other = origin.serve("/other/1", Answer(ARCHIVE))
        assert daemon.resolve(other)[1]["code"] == "offline"
        assert daemon.resolve(handle.replace("/m", "/n"), offline=True)[1]["code"] == "offline"
        assert daemon.request("GET", "/v1/status")[1]["offline"] is True
    assert origin.asked("/google/m") == origin.asked("/other/1") == []


def test_the_variable_takes_a_daemon_offline(tmp_path: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    with Daemon(tmp_path, environ={"HUBD_OFFLINE": "1"}) as daemon:
        status, answer = daemon.resolve(handle)
        assert (status, answer["code"]) == (503, "offline")
        assert "network.offline, or HUBD_OFFLINE where it was started" in answer["detail"]
    assert origin.asked("/m/1") == []
