"""What a fleet does to a bucket, at a real S3 store, a real Azure one, and one that speaks Google's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract.errors import (
    ArchiveUnsafe,
    HandleForbidden,
    UpstreamDenied,
    UpstreamUnavailable,
)
from hubd import config
from hubd.network import objects
from hubd.network.bucket import StoreBucket
from hubd.network.conditions import RangeRefused, Resume
from hubd.network.sources import ArchiveRequest
from hubd.network.upstream import Upstream
from hubd.objects.failures import NoBucket
from hubd.objects.urls import Version
from tests.support.certificates import Authority
from tests.support.google_store import GoogleStore
from tests.support.object_stores import AWS_KEYS, AZURE_KEY, AzureServer, S3Server, secret
from tests.support.origin import Answer, Origin
from tests.support.proxy import Proxy

REQUEST = ArchiveRequest("s3://not/read")


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleStore]:
    with GoogleStore() as running:
        yield running


@asynccontextmanager
async def bucket_of(directory: Path, settings: str, store: str) -> AsyncIterator[StoreBucket]:
    file = directory / "hubd.toml"
    file.write_text(f'{settings}\n[fleet]\nstore = "{store}"\n')
    async with Upstream(config.load(str(file), user=False)) as upstream, upstream.bucket() as bucket:
        assert bucket is not None
        yield bucket


@pytest.fixture(params=["s3", "gs", "az"])
async def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreBucket]:
    """An empty one of each kind, below a prefix."""
    name = f"b{os.urandom(6).hex()}"
    server = request.getfixturevalue({"s3": "s3", "gs": "google", "az": "azure"}[request.param])
    server.make(name)
    kind, text = {
        "s3": ("aws-keys", AWS_KEYS),
        "gs": ("google-service-account", getattr(server, "key_file", "")),
        "az": ("azure-key", AZURE_KEY),
    }[request.param]
    store = f"{request.param}://{name}/shared/models"
    async with bucket_of(tmp_path, server.settings() + secret(tmp_path, store, kind, text), store) as found:
        yield found


async def pieces(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number]) * (1 << 20)


async def test_what_is_there_is_not_created_again(bucket: StoreBucket) -> None:
    assert await bucket.read("claims/a.json", 1000) is None
    first = await bucket.create("claims/a.json", b"one")
    assert first is not None
    assert await bucket.create("claims/a.json", b"two") is None
    found = await bucket.read("claims/a.json", 1000)
    assert found is not None
    assert found.data == b"one"
    assert 0 <= found.age_seconds < 60


async def test_only_the_version_that_was_seen_is_replaced(bucket: StoreBucket) -> None:
    first = await bucket.create("claims/a.json", b"one")
    read = await bucket.read("claims/a.json", 1000)
    assert first is not None
    assert read is not None
    second = await bucket.replace("claims/a.json", b"two", read.version)
    assert second is not None
    assert await bucket.replace("claims/a.json", b"three", first) is None
    assert await bucket.replace("claims/a.json", b"three", second) is not None
    await bucket.remove("claims/a.json")
    await bucket.remove("claims/a.json")
    assert await bucket.replace("claims/a.json", b"four", second) is None
    assert await bucket.read("claims/a.json", 1000) is None


async def test_an_upload_in_parts_is_there_as_a_whole_and_read_in_ranges(bucket: StoreBucket) -> None:
    assert await bucket.size_bytes("archives/abc") is None
    await bucket.upload("archives/abc", pieces(20))
    assert await bucket.size_bytes("archives/abc") == 20 << 20
    async with bucket.open("archives/abc", REQUEST) as delivery:
        assert delivery.strong is not None
        assert delivery.part is not None
        assert delivery.total_bytes == 20 << 20
        assert delivery.body is not None
        assert (await anext(delivery.body))[0] == 0
        delivery.close()
        async with delivery.part((7 << 20) - 1, (7 << 20) + 1) as body:
            assert b"".join([chunk async for chunk in body]) == b"\6\7"
        assert delivery.url is not None
        assert not delivery.url.query_string


async def test_an_archive_is_asked_for_again_only_if_it_changed_and_goes_on_where_it_was(bucket: StoreBucket) -> None:
    await bucket.upload("m.tar.gz", pieces(2))
    async with bucket.open("m.tar.gz", REQUEST) as first:
        assert first.strong is not None
        strong, total_bytes = first.strong, first.total_bytes
        first.close()
    async with bucket.open("m.tar.gz", replace(REQUEST, known=strong)) as same:
        assert same.body is None
    resume = Resume(1 << 20, total_bytes, strong)
    async with bucket.open("m.tar.gz", replace(REQUEST, resume=resume)) as rest:
        assert (rest.from_bytes, rest.total_bytes) == (1 << 20, 2 << 20)
        assert rest.body is not None
        assert {byte async for chunk in rest.body for byte in chunk} == {1}
    await bucket.upload("m.tar.gz", pieces(3))
    with contextlib.suppress(RangeRefused):  # else the whole comes
        async with bucket.open("m.tar.gz", replace(REQUEST, resume=resume)) as other:
            assert (other.from_bytes, other.total_bytes) == (0, 3 << 20)
            other.close()


async def test_a_listing_has_what_is_below_the_prefix_by_the_paths_of_the_others(bucket: StoreBucket) -> None:
    paths = [f"handles/{number}.json" for number in range(5)]
    for path in (*paths, "archives/handles"):
        await bucket.create(path, b"1234")
    assert sorted([found.path async for found in bucket.listing("handles")]) == paths
    everything = [found async for found in bucket.listing("")]
    assert sorted(found.path for found in everything) == ["archives/handles", *paths]
    assert {found.size_bytes for found in everything} == {4}
    assert [found async for found in bucket.listing("claims")] == []


async def test_names_are_literal(bucket: StoreBucket) -> None:
    for name in ("é", "%2e%2e", "a;b=c&d", "a+b", "~{x}*'!", "(1)"):
        assert await bucket.create(f"m/{name}", name.encode()) is not None
        assert await bucket.size_bytes(f"m/{name}") == len(name.encode())
        found = await bucket.read(f"m/{name}", 1000)
        assert found is not None
        assert found.data == name.encode()
        assert [one.path async for one in bucket.listing("m")] == [f"m/{name}"]
        await bucket.remove(f"m/{name}")
        assert await bucket.read(f"m/{name}", 1000) is None


async def test_a_body_over_the_limit_is_refused(bucket: StoreBucket) -> None:
    await bucket.create("handles/a.json", b"x" * 1001)
    with pytest.raises(UpstreamUnavailable, match="larger than the 1000 bytes"):
        await bucket.read("handles/a.json", 1000)
    await bucket.create("handles/empty.json", b"")
    assert await bucket.size_bytes("handles/empty.json") == 0


async def test_a_bucket_that_is_missing_is_told_by_everything(
    s3: S3Server, azure: AzureServer, google: GoogleStore, tmp_path: Path
) -> None:
    keys = secret(tmp_path, "s3://missing", "aws-keys", AWS_KEYS)
    keys += secret(tmp_path, "az://missing", "azure-key", AZURE_KEY)
    keys += secret(tmp_path, "gs://missing", "google-service-account", google.key_file)
    for scheme, server in (("s3", s3), ("az", azure), ("gs", google)):
        async with bucket_of(tmp_path, server.settings() + keys, f"{scheme}://missing/x") as bucket:
            told = rf"there is no bucket {scheme}://missing: .* \[\[object_store\]\]"
            with pytest.raises(NoBucket, match=told):
                await bucket.read("a", 10)
            with pytest.raises(NoBucket, match=told):
                await bucket.create("a", b"1")
            with pytest.raises(NoBucket, match=told):
                await bucket.upload("a", pieces(1))
            with pytest.raises(NoBucket, match=told):
                await bucket.size_bytes("a")
            with pytest.raises(NoBucket, match=told):
                await anext(bucket.listing(""))


async def test_what_is_denied_says_what_was_shown(azure: AzureServer, google: GoogleStore, tmp_path: Path) -> None:
    name = f"b{os.urandom(6).hex()}"
    azure.make(name)
    google.make(name)
    wrong = secret(tmp_path, f"az://{name}", "azure-key", "bm8=")
    async with bucket_of(tmp_path, azure.settings() + wrong, f"az://{name}/x") as bucket:
        for attempt in (bucket.read("a", 10), bucket.create("a", b"1"), bucket.remove("a")):
            with pytest.raises(UpstreamDenied, match=f"denies this to the credential for az://{name}") as denied:
                await attempt
            assert "bm8" not in str(denied.value)
    async with bucket_of(tmp_path, google.settings(), f"gs://{name}/x") as bucket:
        for attempt in (bucket.read("a", 10), bucket.create("a", b"1"), bucket.remove("a")):
            with pytest.raises(UpstreamDenied, match=rf'whom it does not know.* store = "gs://{name}"'):
                await attempt


async def test_a_bucket_that_keeps_versions_is_as_any_other(s3: S3Server, tmp_path: Path) -> None:
    name, path = f"b{os.urandom(6).hex()}", "claims/a"
    s3.make(name, versioned=True)
    settings = s3.settings() + secret(tmp_path, f"s3://{name}", "aws-keys", AWS_KEYS)
    async with bucket_of(tmp_path, settings, f"s3://{name}") as bucket:
        assert (first := await bucket.create(path, b"1")) is not None
        assert (second := await bucket.replace(path, b"2", first)) is not None
        assert await bucket.replace(path, b"3", first) is None, "an earlier one is not the one that is there"
        await bucket.remove(path)
        assert await bucket.read(path, 10) is None
        assert [found async for found in bucket.listing("")] == []
        assert await bucket.replace(path, b"3", second) is None, "what was removed is gone"
        assert await bucket.create(path, b"4") is not None


async def test_names_that_climb_end_a_listing_with_an_error(s3: S3Server, tmp_path: Path) -> None:
    name = f"b{os.urandom(6).hex()}"
    s3.make(name)
    s3.put(name, "x/..%2f..%2fclimb".replace("%2f", "/"), b"1")
    async with bucket_of(
        tmp_path, s3.settings() + secret(tmp_path, f"s3://{name}", "aws-keys", AWS_KEYS), f"s3://{name}/x"
    ) as bucket:
        with pytest.raises(ArchiveUnsafe, match=r"whose name has an empty, '\.' or '\.\.' segment"):
            await anext(bucket.listing(""))


async def test_a_store_that_is_away_is_an_error_in_our_words(tmp_path: Path) -> None:
    stated = '[[object_store]]\nmatch = "s3://"\nendpoint = "http://127.0.0.1:9"\n'
    async with bucket_of(tmp_path, stated, "s3://b/x") as bucket:
        for attempt in (
            bucket.read("a", 10),
            bucket.create("a", b"1"),
            bucket.replace("a", b"1", Version('"a"', None)),
        ):
            with pytest.raises(UpstreamUnavailable, match=r"127\.0\.0\.1|s3://b"):
                await attempt


async def test_what_redirects_is_not_followed_by_what_is_written_or_removed(origin: Origin, tmp_path: Path) -> None:
    there = Answer(status=307, headers={"Location": origin.url("/there")})
    for path in ("/b/x/a", "/there"):
        origin.serve(path, there if path == "/b/x/a" else Answer(b"taken"))
    stated = f'[[object_store]]\nmatch = "s3://"\nendpoint = "{origin.url("").rstrip("/")}"\n'
    async with bucket_of(tmp_path, stated, "s3://b/x") as bucket:
        for attempt in (bucket.create("a", b"1"), bucket.remove("a"), bucket.read("a", 10), bucket.size_bytes("a")):
            with pytest.raises(UpstreamUnavailable, match="is redirected, which is not followed"):
                await attempt
    assert origin.asked("/there") == []


@pytest.mark.parametrize("how", [{"gate_after_bytes": 5}, {"cut_after_bytes": 5}])
async def test_an_error_that_never_ends_is_told_by_its_status(
    how: dict[str, Any], origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_TOLD_SECONDS", 0.2)
    origin.serve("/b/x/a", Answer(b"<Error><Code>AccessDenied</Code></Error>", 403, **how))
    stated = f'[[object_store]]\nmatch = "s3://"\nendpoint = "{origin.url("").rstrip("/")}"\n'
    async with asyncio.timeout(20), bucket_of(tmp_path, stated, "s3://b/x") as bucket:
        for attempt in (bucket.read("a", 10), bucket.remove("a"), bucket.size_bytes("a")):
            with pytest.raises(UpstreamDenied, match="HTTP 403"):
                await attempt


async def test_a_provider_is_asked_only_where_the_network_allows_it(tmp_path: Path) -> None:
    async with bucket_of(tmp_path, '[network]\nallowed_hosts = ["models.lan"]\n', "s3://b/x") as bucket:
        for attempt in (bucket.read("a", 10), bucket.create("a", b"1"), bucket.remove("a")):
            with pytest.raises(
                HandleForbidden, match=r"s3\.us-east-1\.amazonaws\.com is not in network\.allowed_hosts"
            ):
                await attempt


async def test_a_store_of_a_labs_own_authority_is_trusted_by_the_bundle_and_no_other(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    bundle = tmp_path / "both.pem"
    bundle.write_bytes(Authority(other).bundle.read_bytes() + authority.bundle.read_bytes())
    with Origin(authority.server("127.0.0.1")) as store:
        store.serve("/b/x/a", Answer(headers={"ETag": '"1"'}))
        stated = f'[[object_store]]\nmatch = "s3://"\nendpoint = "{store.url("").rstrip("/")}"\n'
        for trusting in (f'[network]\nca_bundle = "{bundle}"\n', '[[host]]\nname = "127.0.0.1"\nverify = false\n'):
            async with bucket_of(tmp_path, stated + trusting, "s3://b/x") as bucket:
                assert await bucket.create("a", b"1") == Version('"1"', None)
                assert await bucket.read("a", 10) is not None
        async with bucket_of(tmp_path, f'{stated}[network]\nca_bundle = "{other}/ca.pem"\n', "s3://b/x") as bucket:
            for attempt in (bucket.create("a", b"1"), bucket.read("a", 10)):
                with pytest.raises(UpstreamUnavailable):
                    await attempt


async def test_behind_a_proxy_everything_goes_through_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "proxy").write_text("user:p@ss:w/rd\n")
    (tmp_path / "proxy").chmod(0o600)
    with (
        Origin(authority.server("store.example.org")) as store,
        Proxy({"store.example.org:443": store.port}, credentials="user:p@ss:w/rd") as proxy,
    ):
        store.serve("/b/x/a", Answer(headers={"ETag": '"1"'}))
        network = f'[network]\nproxy = "{proxy.endpoint}"\nproxy_credentials_file = "{tmp_path}/proxy"\n'
        stated = f'[[object_store]]\nmatch = "s3://"\nendpoint = "https://store.example.org"\n{network}'
        async with bucket_of(tmp_path, f'{stated}ca_bundle = "{authority.bundle}"\n', "s3://b/x") as bucket:
            assert await bucket.create("a", b"1") == Version('"1"', None)
            assert await bucket.read("a", 10) is not None
        assert [line.split()[:2] for line in proxy.asked] == [["CONNECT", "store.example.org:443"]] * 2
        assert [asked.method for asked in store.asked("/b/x/a")] == ["PUT", "GET"]
