"""Handles of object stores and a real daemon, with a real S3 and a real Azure store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from hubd.store.layout import StoreLayout
from tests.support import uids
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.hubctl import hubctl
from tests.support.object_stores import (
    AWS_KEYS,
    AZURE_KEY,
    AzureServer,
    S3Server,
    azure_sas,
    secret,
)
from tests.support.origin import Answer, Asked, Origin, in_turn
from tests.support.service import Service
from tests.support.uids import ALICE, BOB, needs_root
from tests.support.waiting import wait_until

ARCHIVE = archive()
LARGE = archive({**MODULE, "assets/noise": Random(1).randbytes(24 << 20)})


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The name of a bucket of this test's own."""
    name = f"b{os.urandom(6).hex()}"
    s3.make(name)
    return name


@pytest.fixture
def store() -> Iterator[Origin]:
    """A store whose answers are scripted."""
    with Origin() as running:
        yield running


def settings(store: Origin) -> str:
    return f'[[object_store]]\nmatch = "s3://"\nendpoint = "{store.url("").rstrip("/")}"\n'


def test_an_archive_in_a_bucket_is_a_module(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    handle = f"s3://{bucket}/acme/encoder/2.tar.gz"
    s3.put(bucket, "acme/encoder/2.tar.gz", ARCHIVE)
    keys = secret(tmp_path, f"s3://{bucket}/acme", "aws-keys", AWS_KEYS)
    with Daemon(tmp_path, config=s3.settings() + keys) as daemon:
        status, found = daemon.resolve(f"S3://{handle[5:]}/")
        assert (status, found["outcome"], found["handle"]) == (200, "fetched", handle)
        assert {name: Path(found["path"], name).read_bytes() for name in MODULE} == MODULE
        assert daemon.resolve(handle)[1]["outcome"] == "hit"
        assert os.path.exists(StoreLayout(str(daemon.cache)).tfhub_view(f"S3://{handle[5:]}/"))
        assert hubctl(daemon, "get", "--refresh", handle).stdout.strip() == found["path"]
    assert [one.status for one in s3.asked(f"/{bucket}/") if one.method == "GET"] == [200, 304]
    log = daemon.log.read_text()
    assert "tell_nobody" not in log
    assert "X-Amz" not in log


def test_an_archive_in_a_container_is_a_module(azure: AzureServer, tmp_path: Path) -> None:
    names = [f"c{os.urandom(6).hex()}" for _ in range(3)]
    for name in names:
        azure.make(name, public=name == names[2])
        azure.put(name, "m/1.tgz", ARCHIVE)
    keys = secret(tmp_path, f"az://{names[0]}", "azure-key", AZURE_KEY)
    keys += secret(tmp_path, f"az://{names[1]}", "azure-sas", f"?{azure_sas()}\n")
    with Daemon(tmp_path, config=azure.settings() + keys) as daemon:
        for name in names:
            assert daemon.resolve(f"az://{name}/m/1.tgz")[0] == 200
    log = daemon.log.read_text()
    assert "sig=" not in log


def test_who_is_unknown_to_azure_asks_for_a_version_whose_etags_have_quotes(store: Origin, tmp_path: Path) -> None:
    """Without a word on it they are answered as in 2009:
    https://learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services
    """

    def of_a_version(data: bytes) -> Callable[[Asked], Answer]:
        return lambda asked: Answer(data, etag='"0x8D"' if "x-ms-version" in asked.headers else "0x8D", ranges=True)

    for name, data in MODULE.items():
        store.serve(f"/lab/c/m/{name}", of_a_version(data))
    blobs = "".join(
        f"<Blob><Name>m/{name}</Name><Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified>"
        f"<Etag>0x8D</Etag><Content-Length>{len(data)}</Content-Length><Content-Type>a/b</Content-Type></Properties></Blob>"
        for name, data in MODULE.items()
    )
    listing = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
    store.serve("/lab/c", Answer(listing.encode(), headers={"Content-Type": "application/xml"}))
    where = f'[[object_store]]\nmatch = "az://c"\naccount = "lab"\nendpoint = "{store.url("/lab")}"\n'
    with Daemon(tmp_path, config=f"{where}[network]\nretries = 0\n") as daemon:
        status, found = daemon.resolve("az://c/m")
    assert status == 200, found


def test_a_bucket_that_is_open_needs_no_credential_and_one_that_is_not_says_so(
    s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    s3.put(bucket, "open.tar.gz", ARCHIVE, public=True)
    s3.put(bucket, "closed.tar.gz", ARCHIVE)
    with Daemon(tmp_path, config=s3.settings()) as daemon:
        assert daemon.resolve(f"s3://{bucket}/open.tar.gz")[0] == 200
        denied = daemon.resolve(f"s3://{bucket}/closed.tar.gz")[1]
        assert denied["code"] == "upstream-denied"
        assert f'a [[credential]] with store = "s3://{bucket}" says what is shown to it' in denied["detail"]
        shown = hubctl(daemon, "get", f"s3://{bucket}/closed.tar.gz").stderr
        assert f'a [[credential]] with store = "s3://{bucket}"' in shown


def test_what_is_not_there_is_told_from_a_bucket_that_is_not(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    keys = secret(tmp_path, f"s3://{bucket}", "aws-keys", AWS_KEYS)
    with Daemon(tmp_path, config=s3.settings() + keys) as daemon:
        absent = daemon.resolve(f"s3://{bucket}/m.tar.gz")[1]
        missing = daemon.resolve("s3://no-such-bucket/m.tar.gz")[1]
        nowhere = daemon.resolve("az://container/m.tar.gz")[1]
    assert (absent["code"], missing["code"]) == ("upstream-not-found", "upstream-not-found")
    assert f"s3://{bucket} has no m.tar.gz" in absent["detail"]
    assert "there is no bucket s3://no-such-bucket" in missing["detail"]
    assert nowhere["code"] == "handle-forbidden"
    assert 'match = "az://container" and account = "..."' in nowhere["detail"]


def test_a_credential_that_is_exchanged_holds_at_once(azure: AzureServer, tmp_path: Path) -> None:
    name = f"c{os.urandom(6).hex()}"
    azure.make(name)
    azure.put(name, "m.tar.gz", ARCHIVE)
    keys = secret(tmp_path, f"az://{name}", "azure-key", "d3Jvbmc=")
    with Daemon(tmp_path, config=f'[network]\nnegative_ttl = "0s"\n{azure.settings()}{keys}') as daemon:
        denied = daemon.resolve(f"az://{name}/m.tar.gz")[1]
        assert (denied["code"], "the credential for az://" in denied["detail"]) == ("upstream-denied", True)
        secret(tmp_path, f"az://{name}", "azure-key", AZURE_KEY)
        assert daemon.resolve(f"az://{name}/m.tar.gz")[0] == 200


def test_a_new_configuration_holds_for_stores_too(azure: AzureServer, tmp_path: Path) -> None:
    name = f"c{os.urandom(6).hex()}"
    azure.make(name, public=True)
    azure.put(name, "m.tar.gz", ARCHIVE)
    with Daemon(tmp_path) as daemon:
        assert daemon.resolve(f"az://{name}/m.tar.gz")[1]["code"] == "handle-forbidden"
        daemon.config.write_text(daemon.config.read_text() + azure.settings())
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: daemon.resolve(f"az://{name}/m.tar.gz")[0] == 200)


def test_a_store_that_redirects_is_not_followed(store: Origin, origin: Origin, tmp_path: Path) -> None:
    store.serve("/b/m.tar.gz", Answer(status=307, headers={"Location": origin.url("/m.tar.gz")}))
    origin.serve("/m.tar.gz", Answer(ARCHIVE))
    store.serve("/b", Answer(b"<Error><Code>PermanentRedirect</Code></Error>", 301))  # for a listing, without Location
    with Daemon(tmp_path, config=settings(store)) as daemon:
        told = [daemon.resolve(f"s3://b/{path}")[1] for path in ("m.tar.gz", "m")]
    for refused in told:
        assert refused["code"] == "upstream-unavailable"
        assert "is redirected, which is not followed: is the region of its [[object_store]] right" in refused["detail"]
    assert origin.asked("/m.tar.gz") == []


def test_no_other_credential_goes_to_a_store(store: Origin, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("kN7-tell_nobody")
    (tmp_path / "token").chmod(0o600)
    machine = f'[[credential]]\nhost = "127.0.0.1:{store.port}"\ntype = "bearer"\nfile = "{tmp_path}/token"\n'
    store.serve("/b/m.tar.gz", Answer(ARCHIVE))
    with Daemon(tmp_path, config=settings(store) + machine) as daemon:
        refused = daemon.resolve("s3://b/m.tar.gz", credential={"type": "bearer", "value": "mine"})[1]
        assert refused["code"] == "request-invalid"
        assert daemon.resolve("s3://b/m.tar.gz")[0] == 200
    assert [asked.headers.get("Authorization") for asked in store.asked("/b/m.tar.gz")] == [None]


def test_every_request_is_signed_anew_so_that_none_has_expired(store: Origin, tmp_path: Path) -> None:
    whole = Answer(LARGE, etag='"1"', ranges=True)
    cut = Answer(LARGE, etag='"1"', ranges=True, cut_after_bytes=1 << 20)
    signed: list[str] = []

    def answer(asked: Asked) -> Answer:
        signed.append(asked.target.partition("X-Amz-Signature=")[2])
        return cut if len(signed) == 1 else whole

    store.serve("/b/m.tar.gz", answer)
    keys = secret(tmp_path, "s3://b", "aws-keys", AWS_KEYS)
    with Daemon(tmp_path, config=f"{settings(store)}{keys}[network]\nretries = 2\n") as daemon:
        assert daemon.resolve("s3://b/m.tar.gz")[0] == 200
    assert len(signed) > 1
    assert all(signed)


@pytest.mark.parametrize("status", [pytest.param(400, marks=pytest.mark.thorough), 403])
def test_a_clock_that_differs_is_told_from_a_key_that_is_wrong(status: int, store: Origin, tmp_path: Path) -> None:
    store.serve("/b/m.tar.gz", Answer(b"<Error><Code>RequestTimeTooSkewed</Code>kN7</Error>", status))
    with Daemon(tmp_path, config=settings(store) + secret(tmp_path, "s3://b", "aws-keys", AWS_KEYS)) as daemon:
        told = daemon.resolve("s3://b/m.tar.gz")[1]
    assert (told["code"], "is this machine's clock right" in told["detail"]) == ("upstream-denied", True)
    assert "kN7" not in told["detail"]


def test_a_region_that_is_wrong_is_told(store: Origin, tmp_path: Path) -> None:
    """As S3 answers to a signed URL; MinIO leaves the region out."""
    told = "Error parsing the X-Amz-Credential parameter; the region 'us-east-1' is wrong; expecting 'kN7'"
    body = f"<Error><Code>AuthorizationQueryParametersError</Code><Message>{told}</Message></Error>".encode()
    store.serve("/b/m.tar.gz", Answer(body, 400))
    with Daemon(tmp_path, config=settings(store) + secret(tmp_path, "s3://b", "aws-keys", AWS_KEYS)) as daemon:
        refused = daemon.resolve("s3://b/m.tar.gz")[1]
    assert refused["code"] == "upstream-unavailable"
    assert "in another region than requests are signed for" in refused["detail"]
    assert "kN7" not in refused["detail"]


def test_a_store_that_is_busy_is_asked_again(store: Origin, tmp_path: Path) -> None:
    busy = Answer(b"<Error><Code>SlowDown</Code></Error>", 503)
    store.serve("/b/m.tar.gz", in_turn(busy, Answer(ARCHIVE)))
    store.serve("/b/busy.tar.gz", busy)
    with Daemon(tmp_path, config=f"{settings(store)}[network]\nretries = 1\n") as daemon:
        assert daemon.resolve("s3://b/m.tar.gz")[0] == 200
        assert daemon.resolve("s3://b/busy.tar.gz")[1]["code"] == "upstream-unavailable"


def test_offline_asks_no_store(store: Origin, tmp_path: Path) -> None:
    with Daemon(tmp_path, config=f"{settings(store)}[network]\noffline = true\n") as daemon:
        assert daemon.resolve("s3://b/m.tar.gz")[1]["code"] == "offline"
    assert store.asked("/b/m.tar.gz") == []


def environment(home: str) -> dict[str, str]:
    """Of somebody who may read all buckets, and whose variables would lead everything astray."""
    return {
        "HOME": home,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "kN7-tell_nobody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_PROXY_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }


def test_a_users_own_daemon_finds_what_the_providers_programs_find(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    s3.put(bucket, "m.tar.gz", ARCHIVE)
    with Daemon(tmp_path, config=s3.settings(), environ=environment(str(tmp_path))) as daemon:
        assert daemon.resolve(f"s3://{bucket}/m.tar.gz")[0] == 200
    profile = AWS_KEYS.replace("[default]", "[lab]")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(profile + profile.replace("[lab]", "[other]"))
    (tmp_path / ".aws/credentials").chmod(0o600)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with Daemon(other, config=s3.settings(), environ={"HOME": str(tmp_path), "AWS_PROFILE": "lab"}) as daemon:
        assert daemon.resolve(f"s3://{bucket}/m.tar.gz")[0] == 200


@needs_root
def test_the_service_shows_its_settings_credentials_for_all_and_no_role_of_its_own(s3: S3Server, bucket: str) -> None:
    for path in ("private/m.tar.gz", "shared/m.tar.gz"):
        s3.put(bucket, path, ARCHIVE)
    with uids.directory_of(ALICE) as home:
        os.mkdir(f"{home}/.aws")
        usual = Path(f"{home}/.aws/credentials")
        usual.write_text(AWS_KEYS)
        usual.chmod(0o600)
        keys = secret(Path(home), f"s3://{bucket}/shared", "aws-keys", AWS_KEYS)
        for file in (usual, keys.split('"')[-2]):
            os.chown(file, ALICE, ALICE)
        with Service(Path(home), f"\n{s3.settings()}{keys}", environment(home)) as service:
            for uid in (ALICE, BOB):
                assert service.resolve(uid, f"s3://{bucket}/private/m.tar.gz")[1]["code"] == "upstream-denied"
                assert service.resolve(uid, f"s3://{bucket}/shared/m.tar.gz")[0] == 200
