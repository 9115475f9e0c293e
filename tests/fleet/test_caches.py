"""The examples of docs/operations with which machines get their modules through a cache: each does what it is for."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.support import nginx, squid
from tests.support.archives import MODULE, archive
from tests.support.certificates import Authority
from tests.support.daemon import Daemon
from tests.support.machines import fleet
from tests.support.object_stores import AWS_KEYS, S3Server, secret
from tests.support.origin import Answer, Asked, Origin
from tests.support.raw_origin import sending
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "docs/operations"
NAME = "models.example.org"
STORE_NAME = "s3.eu-west-1.amazonaws.com"
MB = 1_000_000
NOISE = random.Random(4).randbytes(24 * MB)
ARCHIVE = archive({**MODULE, "assets/noise": NOISE})
SLOW = Answer(ARCHIVE, ranges=True, etag='"v1"', bytes_per_second=12 * MB)  # for each connection

needs_nginx = pytest.mark.skipif(nginx.PROGRAM is None, reason="nginx is not installed")
needs_squid = pytest.mark.skipif(not squid.HAS_TLS, reason="squid with TLS (Debian's squid-openssl) is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def authority(place: Path) -> Authority:
    return Authority(place)


@pytest.fixture(scope="module")
def models(authority: Authority) -> Iterator[Origin]:
    """Where the modules come from, by TLS."""
    with Origin(authority.server(NAME)) as origin:
        yield origin


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def all_uploaded(machine: Daemon) -> None:
    """Until this machine uploads nothing any more."""
    wait_until(lambda: fleet(machine)["uploads"] == [])


@contextmanager
def two_machines(place: Path, config: str) -> Iterator[list[Daemon]]:
    place.mkdir()
    for name in "ab":
        (place / name).mkdir(mode=0o700)
    with Daemon(place / "a", config=config) as one, Daemon(place / "b", config=config) as other:
        yield [one, other]


def both_resolve(daemons: list[Daemon], handle: str) -> None:
    """Both at once: each has the whole module in the end."""
    answers: list[tuple[int, Any]] = []
    asking = [
        threading.Thread(target=lambda daemon=daemon: answers.append(daemon.resolve(handle))) for daemon in daemons
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    for status, told in answers:
        assert (status, told.get("outcome")) == (200, "fetched"), told
        assert told["digest"] == sha256(ARCHIVE)
        assert (Path(told["path"]) / "assets" / "noise").read_bytes() == NOISE
    assert len(answers) == len(daemons)


def all_sent_bytes(models: Origin, path: str) -> int:
    """When all of it has been counted: the last bytes are, when they have gone out."""
    wait_until(lambda: models.sent_bytes(path) >= len(ARCHIVE))
    return models.sent_bytes(path)


@pytest.fixture(scope="module")
def cached_by_nginx(place: Path, authority: Authority, models: Origin) -> Iterator[list[Daemon]]:
    """Two machines that have nginx as a mirror."""
    places = {"models": f"127.0.0.1:{models.port}", "trusted": str(authority.bundle), "fresh": "200 206 1s"}
    with nginx.cache(place / "nginx", EXAMPLES / "nginx-cache.conf", **places) as port:
        mirror = f'[[mirror]]\nmatch = "https://{NAME}/"\nurls = ["http://127.0.0.1:{port}/models/"]\n'
        with two_machines(place / "by-nginx", mirror) as machines:
            yield machines


@needs_nginx
def test_nginx_gets_each_byte_of_a_version_once_for_all_machines(cached_by_nginx: list[Daemon], models: Origin) -> None:
    models.serve("/acme/encoder/1", SLOW)
    both_resolve(cached_by_nginx, f"https://{NAME}/acme/encoder/1")
    ranges = [asked.headers["Range"] for asked in models.asked("/acme/encoder/1")]
    assert len(ranges) == len(set(ranges)), ranges
    assert all_sent_bytes(models, "/acme/encoder/1") == len(ARCHIVE)


@needs_nginx
def test_nginx_asks_whether_what_has_no_version_changed_and_sends_no_byte_of_it_again(
    cached_by_nginx: list[Daemon], models: Origin
) -> None:
    models.serve("/acme/unversioned", replace(SLOW, bytes_per_second=None))
    handle = f"https://{NAME}/acme/unversioned"
    both_resolve(cached_by_nginx, handle)
    sent_before, asked_before = all_sent_bytes(models, "/acme/unversioned"), len(models.asked("/acme/unversioned"))
    assert sent_before == len(ARCHIVE)

    def asks_again() -> bool:
        assert cached_by_nginx[0].resolve(handle, refresh=True)[1]["outcome"] == "hit"
        return len(models.asked("/acme/unversioned")) > asked_before

    wait_until(asks_again)  # by then nginx's second is over
    assert all("If-None-Match" in asked.headers for asked in models.asked("/acme/unversioned")[asked_before:])
    assert models.sent_bytes("/acme/unversioned") == sent_before
    changed = archive(MODULE)
    models.serve("/acme/unversioned", Answer(changed, ranges=True, etag='"v2"'))
    wait_until(lambda: cached_by_nginx[1].resolve(handle, refresh=True)[1]["digest"] == sha256(changed))


@needs_nginx
def test_nginx_leaves_it_to_the_stores_clock_how_old_a_record_is(place: Path, authority: Authority) -> None:
    then = "Mon, 01 Jan 2001 00:00:00 GMT"
    record = f"HTTP/1.1 200 OK\r\nDate: {then}\r\nLast-Modified: {then}\r\nContent-Length: 2\r\n\r\n{{}}"
    with sending(record.encode()) as url:
        places = {"store": urlsplit(url).netloc, "trusted": str(authority.bundle)}
        with (
            nginx.cache(place / "clock", EXAMPLES / "nginx-cache.conf", **places) as port,
            urlopen(f"http://127.0.0.1:{port}/b/fleet/handles/{'a' * 64}.json", timeout=20) as answer,
        ):
            assert answer.headers.get_all("Date") == [then]


@pytest.fixture(scope="module")
def cached_by_squid(place: Path, authority: Authority) -> Iterator[list[Daemon]]:
    """Two machines that have squid as their proxy."""
    with squid.squid(EXAMPLES / "squid-cache.conf", [NAME], authority.bundle) as cache:
        config = f'[network]\nproxy = "{cache.url}"\nca_bundle = "{cache.ca}"\n'
        with two_machines(place / "by-squid", config) as machines:
            yield machines


@needs_squid
def test_squid_gets_a_version_once_for_all_machines(cached_by_squid: list[Daemon], models: Origin) -> None:
    models.serve("/acme/decoder/1", SLOW)
    both_resolve(cached_by_squid, f"https://{NAME}:{models.port}/acme/decoder/1")
    # Who asks for a part that is on its way to the disk can make it fetch the whole again, and no more than that.
    assert len(models.asked("/acme/decoder/1")) <= 2
    assert not any(asked.is_ranged for asked in models.asked("/acme/decoder/1"))


@needs_squid
def test_squid_gets_an_archive_once_whatever_signs_each_request(cached_by_squid: list[Daemon], models: Origin) -> None:
    small = archive({**MODULE, "assets/small": b"small"})
    archive_path = f"/bucket/archives/{sha256(small)}"
    models.serve(archive_path, Answer(small, ranges=True, etag='"v1"'))
    signatures = iter(range(100))

    def signed(_: Asked) -> Answer:
        return Answer(status=302, headers={"Location": f"{archive_path}?X-Amz-Signature={next(signatures)}"})

    models.serve("/acme/signed", signed)
    for machine in cached_by_squid:
        told = machine.resolve(f"https://{NAME}:{models.port}/acme/signed")[1]
        assert (told.get("outcome"), told.get("digest")) == ("fetched", sha256(small)), told
    assert len(models.asked("/acme/signed")) == 2, "what has no version is asked for by each machine"
    assert len(models.asked(archive_path)) == 1


@needs_squid
def test_a_fleet_shares_through_squid_and_the_store_sends_an_archive_once(
    tmp_path: Path, authority: Authority, models: Origin, s3: S3Server
) -> None:
    """Uploads, records and claims pass through; of the archive, whose every URL is signed anew, there is one GET."""
    small = archive({**MODULE, "assets/small": b"for all"})
    handle = models.serve("/acme/shared/1", Answer(small)).replace("127.0.0.1", NAME)
    s3.make("behind-squid")
    with squid.squid(EXAMPLES / "squid-cache.conf", [NAME, STORE_NAME], authority.bundle) as cache:
        config = f'[fleet]\nstore = "s3://behind-squid/fleet"\n{s3.settings().replace("127.0.0.1", STORE_NAME)}'
        config += secret(tmp_path, "s3://behind-squid", "aws-keys", AWS_KEYS)
        config += f'[network]\nproxy = "{cache.url}"\nca_bundle = "{cache.ca}"\n'
        for name, tier in {"a": "origin", "b": "fleet", "c": "fleet"}.items():
            (tmp_path / name).mkdir(mode=0o700)
            with Daemon(tmp_path / name, config=config) as machine:
                told = machine.resolve(handle)[1]
                assert (told.get("tier"), told.get("digest")) == (tier, sha256(small)), told
                if tier == "origin":  # its record comes after the archive, and this machine is gone then
                    all_uploaded(machine)
                    assert fleet(machine)["uploaded"] == 1
    assert len(models.asked("/acme/shared/1")) == 1
    of_archives = s3.asked("/behind-squid/fleet/archives/")
    assert [asked.method for asked in of_archives if asked.status == 200].count("GET") == 1, of_archives
