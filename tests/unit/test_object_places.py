"""Where buckets are, what is shown to which, and what goes wrong there in our words."""

from __future__ import annotations

from pathlib import Path

import pytest
from yarl import URL

from hubclient.contract.errors import (
    AddressForbidden,
    ArchiveUnsafe,
    HandleForbidden,
    HubError,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from hubd.config import ConfigError, NetworkSettings
from hubd.config_stores import CredentialSettings, ObjectStoreSettings
from hubd.failures import Busy
from hubd.network.routes import Routes
from hubd.network.session import Session
from hubd.objects.endpoints import place
from hubd.objects.failures import NoBucket, Subject
from hubd.objects.standard_places import StandardPlaces
from hubd.objects.stores import Stores
from hubd.objects.urls import ObjectUrl


class Open:
    """A network that forbids nothing."""

    async def require_reachable(self, url: URL, *, is_named: bool) -> None:
        pass

    def proxy_url(self, host: str) -> str | None:
        return None

    def verifies(self, host: str) -> bool:
        return True


def entry(match: str, **stated: object) -> ObjectStoreSettings:
    return ObjectStoreSettings.model_validate({"match": match, **stated})


@pytest.mark.parametrize(
    ("url", "entries", "found", "is_named"),
    [
        ("s3://b/x", [], "https://s3.us-east-1.amazonaws.com/b/p/q", False),
        ("s3://b/x", [entry("s3://b", region="eu-west-1")], "https://s3.eu-west-1.amazonaws.com/b/p/q", False),
        ("s3://b/x", [entry("s3://", virtual_hosted=True)], "https://b.s3.us-east-1.amazonaws.com/p/q", False),
        ("s3://b/x", [entry("s3://", endpoint="http://minio:9000")], "http://minio:9000/b/p/q", True),
        (
            "s3://b/x",
            [entry("s3://", endpoint="http://minio:9000/s3/", virtual_hosted=True)],
            "http://b.minio:9000/s3/p/q",
            True,
        ),
        (
            "s3://b/x/y",
            [entry("s3://", endpoint="https://a"), entry("s3://b/x", endpoint="https://c")],
            "https://c/b/p/q",
            True,
        ),
        ("gs://b/x", [entry("s3://", endpoint="https://a")], "https://storage.googleapis.com/b/p/q", False),
        ("gs://b/x", [entry("gs://b", endpoint="https://a")], "https://a/b/p/q", True),
        ("az://c/x", [entry("az://", account="lab")], "https://lab.blob.core.windows.net/c/p/q", False),
        ("az://c/x", [entry("az://", account="lab", endpoint="http://h/lab")], "http://h/lab/c/p/q", True),
    ],
)
def test_a_bucket_is_where_the_longest_match_says_else_at_its_provider(
    url: str, entries: list[ObjectStoreSettings], found: str, is_named: bool
) -> None:
    where = place(ObjectUrl.parse(url), entries)
    assert (where.object_url("p/q"), where.is_named) == (found, is_named)


def test_what_is_in_a_path_is_literal_and_never_leads_elsewhere() -> None:
    where = place(ObjectUrl.parse("s3://b"), [])
    url = URL(where.object_url("a%2e%2e/é;v&=+@:~"), encoded=True)
    assert url.raw_path == "/b/a%252e%252e/%C3%A9%3Bv%26%3D%2B%40%3A~"
    assert url.host == "s3.us-east-1.amazonaws.com"


def test_a_container_is_of_an_account() -> None:
    with pytest.raises(HandleForbidden, match=r'\[\[object_store\]\] with match = "az://c" and account'):
        place(ObjectUrl.parse("az://c/x"), [entry("az://other", account="lab")])
    assert place(ObjectUrl.parse("az://c/x"), [], "own").account == "own"


def credential(directory: Path, store: str, kind: str = "azure-sas", text: str = "sig=a") -> CredentialSettings:
    file = directory / f"{store.replace('/', '_')}.key"
    file.write_text(text)
    file.chmod(0o600)
    return CredentialSettings.model_validate({"store": store, "type": kind, "file": str(file)})


async def test_each_path_is_shown_what_the_longest_match_holds(tmp_path: Path) -> None:
    credentials = [credential(tmp_path, "az://c", text="sig=all"), credential(tmp_path, "az://c/m", text="sig=m")]
    stores = Stores([entry("az://", account="lab")], credentials, Open(), NetworkSettings())
    shown = {
        path: (await stores.of(ObjectUrl("az", "c", path)).url(path)).query_string for path in ("m", "m/1", "m1", "x")
    }
    assert shown == {"m": "sig=m", "m/1": "sig=m", "m1": "sig=all", "x": "sig=all"}
    assert (await stores.of(ObjectUrl("az", "other", "m")).url("m")).query_string == ""
    assert stores.of(ObjectUrl("az", "c", "x")) is stores.of(ObjectUrl("az", "c", "y"))


def test_a_file_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    stated = credential(tmp_path, "az://c")
    Path(stated.file).chmod(0o644)
    with pytest.raises(ConfigError, match=rf"\[\[credential\]\] for az://c: {stated.file} .*chmod it to 0600"):
        Stores([], [stated], Open(), NetworkSettings())


async def test_a_secret_itself_never_goes_over_plain_http_but_to_loopback(tmp_path: Path) -> None:
    for endpoint, allowed in (("http://store.lan/lab", False), ("http://127.0.0.1:1/lab", True), ("https://s/l", True)):
        entries = [entry("az://", account="lab", endpoint=endpoint)]
        store = Stores(entries, [credential(tmp_path, "az://c")], Open(), NetworkSettings()).of(
            ObjectUrl("az", "c", "")
        )
        if allowed:
            assert (await store.url("m")).query_string == "sig=a"
        else:
            with pytest.raises(HandleForbidden, match="is not sent over http://"):
                await store.url("m")


@pytest.mark.parametrize(
    ("named", "account", "is_shown"), [("mine", "mine", True), ("mine", "theirs", False), ("", "any", True)]
)
async def test_what_a_user_has_for_an_account_is_not_shown_to_another(named: str, account: str, is_shown: bool) -> None:
    standard = StandardPlaces({"AZURE_STORAGE_ACCOUNT": named, "AZURE_STORAGE_SAS_TOKEN": "sig=a", "HOME": "/nowhere"})
    stores = Stores([entry("az://", account=account)], [], Open(), NetworkSettings(), standard)
    assert (await stores.of(ObjectUrl("az", "c", "m")).url("m")).query_string == ("sig=a" if is_shown else "")


async def test_a_key_that_cannot_be_used_is_not_repeated(tmp_path: Path) -> None:
    stated = '{"type": "service_account", "client_email": "a", "private_key": "kN7-secret", "private_key_id": "1"}'
    google = credential(tmp_path, "gs://b", "google-service-account", stated)
    store = Stores([], [google], Open(), NetworkSettings()).of(ObjectUrl("gs", "b", "m"))
    with pytest.raises(HandleForbidden, match="gs://b cannot be asked with what the settings say") as refusal:
        await store.url("m")
    assert "kN7" not in str(refusal.value)


SERVER = "Generic S3 error: Error performing PUT http://h/b/x in 1ms - Server returned non-2xx status code: {}: {}"


@pytest.mark.parametrize(
    ("error", "ours", "told"),
    [
        (FileNotFoundError(SERVER.format(404, "<Code>NoSuchBucket</Code>")), NoBucket, "there is no bucket s3://b"),
        (OSError(SERVER.format(404, "<Code>ContainerNotFound</Code>")), NoBucket, "there is no bucket"),
        (FileNotFoundError(SERVER.format(404, "kN7")), UpstreamNotFound, "has no such object"),
        (
            OSError(SERVER.format(403, "kN7")),
            UpstreamDenied,
            r"denies this to the credential for s3://b/x \(HTTP 403\)",
        ),
        (OSError(SERVER.format(307, "kN7")), UpstreamUnavailable, "is redirected, which is not followed"),
        (OSError(SERVER.format(400, "the region 'eu-1' is wrong; kN7")), UpstreamUnavailable, "in another region"),
        (OSError(SERVER.format(400, "the region is wrong; kN7")), UpstreamUnavailable, "in another region"),
        (OSError(SERVER.format(500, "kN7")), UpstreamUnavailable, "answered HTTP 500"),
        (OSError(SERVER.format(503, "<Code>SlowDown</Code>kN7")), Busy, "answered HTTP 503"),
        (OSError("error sending request\n kind: Timeout,\n kN7"), UpstreamTimeout, "did not answer in time"),
        (TimeoutError(), UpstreamTimeout, "did not answer in time"),
        (OSError("error sending request\n kind: Connect,\n kN7"), UpstreamUnavailable, "cannot be reached"),
        (type("InvalidPathError", (Exception,), {})("m/../kN7"), ArchiveUnsafe, "cannot be listed"),
    ],
)
def test_what_goes_wrong_is_named_and_nothing_of_it_repeated(error: Exception, ours: type[HubError], told: str) -> None:
    named = Subject("s3://b", "s3://b/x").named(error)
    assert type(named) is ours
    with pytest.raises(ours, match=told):
        raise named
    assert "kN7" not in str(named)


async def test_who_connects_by_himself_is_told_what_may_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {"store.lan": "10.0.0.1", "metadata.lan": "169.254.169.254", "public.example": "8.8.8.8"}

    def look_up(host: str, port: int, **_: object) -> list[object]:
        return [(2, 1, 6, "", (addresses[host], port))]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    async with Session(NetworkSettings(allowed_hosts=("public.example", "store.lan"))) as session:
        await session.require_reachable(URL("https://public.example/b"), is_named=False)
        await session.require_reachable(URL("http://store.lan/b"), is_named=True)
        for host, is_named, error in (
            ("store.lan", False, AddressForbidden),
            ("metadata.lan", True, AddressForbidden),
            ("metadata.lan", False, HandleForbidden),
        ):
            with pytest.raises(error):
                await session.require_reachable(URL(f"https://{host}/b"), is_named=is_named)


def test_a_proxy_is_told_with_its_credentials_and_this_machine_is_behind_none(tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text("user:p@ss:w/rd\n")
    (tmp_path / "proxy").chmod(0o600)
    routes = Routes(NetworkSettings(proxy="http://proxy.lan:3128", proxy_credentials_file=f"{tmp_path}/proxy"))
    proxy = routes.proxy("store.lan")
    assert proxy is not None
    assert proxy.full_url() == "http://user:p%40ss%3Aw%2Frd@proxy.lan:3128"
    assert "p@ss" not in repr(proxy)
    assert routes.proxy("127.0.0.1") is None
