"""Origins by way of a proxy: tunnels, forwarding, credentials, and what the guard can still see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract.errors import AddressForbidden, HandleForbidden, UpstreamUnavailable
from hubd.config import ConfigError, HostSettings, NetworkSettings, Settings
from hubd.failures import Hopeless
from hubd.network.routes import Routes
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, HttpSource
from tests.support.certificates import Authority
from tests.support.origin import Answer, Origin
from tests.support.proxy import Proxy

SECRET = "me:Sn0oze é"
HTTPS, HTTP = "https://models.example.org/m/1", "http://plain.example.org/m/1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def names(authority: Authority) -> Iterator[dict[str, int]]:
    """Two origins on loopback, and the names that the proxy knows them by."""
    with Origin(authority.server("models.example.org")) as origin, Origin() as plain:
        for running in (origin, plain):
            running.serve("/m/1", Answer(b"archive"))
        plain.serve("/moved/1", Answer(status=302, headers={"Location": HTTPS}))
        yield {"models.example.org:443": origin.port, "plain.example.org:80": plain.port}


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "credentials"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return str(file)


async def fetch(url: str, proxy: Proxy, authority: Authority, **network: Any) -> bytes:
    """As the service would: no private addresses."""
    settings = NetworkSettings(proxy=proxy.endpoint, ca_bundle=str(authority.bundle), allow_http=True, **network)
    async with Session(settings) as session, HttpSource(session).open(ArchiveRequest(url)) as delivery:
        assert delivery.body is not None
        return b"".join([piece async for piece in delivery.body])


async def test_https_goes_through_a_tunnel_and_http_is_forwarded(names: dict[str, int], authority: Authority) -> None:
    with Proxy(names) as proxy:
        assert await fetch(HTTPS, proxy, authority) == b"archive"
        assert await fetch(HTTP, proxy, authority) == b"archive"
        assert await fetch("http://plain.example.org/moved/1", proxy, authority) == b"archive"
    assert proxy.asked == [
        "CONNECT models.example.org:443 HTTP/1.1",
        f"GET {HTTP}?tf-hub-format=compressed HTTP/1.1",
        "GET http://plain.example.org/moved/1?tf-hub-format=compressed HTTP/1.1",
        "CONNECT models.example.org:443 HTTP/1.1",
    ]


async def test_a_proxy_may_speak_tls_and_is_verified_too(
    names: dict[str, int], authority: Authority, tmp_path: Path
) -> None:
    with Proxy(names, tls=authority.server("127.0.0.1")) as proxy:
        assert await fetch(HTTPS, proxy, authority) == b"archive"
        assert await fetch(HTTP, proxy, authority) == b"archive"
        stranger = Authority(tmp_path)
        for url in (HTTPS, HTTP):
            with pytest.raises(Hopeless, match=r"^127\.0\.0\.1: its certificate"):
                await fetch(url, proxy, stranger)


async def test_the_credentials_of_the_file_let_pass_and_reach_no_origin(authority: Authority, secret: str) -> None:
    with Origin(authority.server("models.example.org")) as origin, Origin() as plain:
        ports = {"models.example.org:443": origin.port, "plain.example.org:80": plain.port}
        with Proxy(ports, credentials=SECRET) as proxy:
            for running, url in ((origin, HTTPS), (plain, HTTP)):
                running.serve("/m/1", Answer(b"archive"))
                assert await fetch(url, proxy, authority, proxy_credentials_file=secret) == b"archive"
                headers = {name.lower() for name in running.asked("/m/1")[0].headers}
                assert not headers & {"proxy-authorization", "authorization"}


@pytest.mark.parametrize("url", [HTTPS, HTTP])
async def test_a_proxy_that_wants_other_credentials_is_a_clear_error(
    names: dict[str, int], authority: Authority, url: str
) -> None:
    told = r"the proxy wants credentials.*407.*proxy_credentials_file"
    with Proxy(names, credentials="you:other") as proxy, pytest.raises(Hopeless, match=told):
        await fetch(url, proxy, authority)


@pytest.mark.parametrize(
    ("status", "kind", "told"), [(403, Hopeless, "refuses to lead to"), (502, UpstreamUnavailable, "cannot reach")]
)
async def test_what_a_proxy_does_not_do_is_told_as_its_own_doing(
    names: dict[str, int], authority: Authority, status: int, kind: type[UpstreamUnavailable], told: str
) -> None:
    with (
        Proxy(names, status=status) as proxy,
        pytest.raises(kind, match=f"the proxy {told} models.example.org") as caught,
    ):
        await fetch(HTTPS, proxy, authority)
    assert isinstance(caught.value, Hopeless) == (kind is Hopeless)


async def test_a_proxy_that_is_away_is_named(names: dict[str, int], authority: Authority) -> None:
    with Proxy(names) as gone:
        pass
    with pytest.raises(UpstreamUnavailable, match=r"the proxy 127\.0\.0\.1 cannot be connected to"):
        await fetch(HTTPS, gone, authority)


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "[fd00::1]", "169.254.169.254", "0x0a000001", "167772161", "10.1", "012.0.0.1", "10.0.0.1."],
)
async def test_an_address_that_a_proxy_would_be_asked_for_is_checked_here(
    names: dict[str, int], authority: Authority, host: str
) -> None:
    with Proxy(names) as proxy, pytest.raises(AddressForbidden, match="private or reserved address"):
        await fetch(f"http://{host}/m/1", proxy, authority)
    assert proxy.asked == []


async def test_behind_a_proxy_the_list_of_hosts_decides_for_names(names: dict[str, int], authority: Authority) -> None:
    with Proxy(names) as proxy:
        assert await fetch(HTTP, proxy, authority, allowed_hosts=("plain.example.org",)) == b"archive"
        with pytest.raises(HandleForbidden, match="allowed_hosts"):
            await fetch(HTTPS, proxy, authority, allowed_hosts=("plain.example.org",))


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        ("models.lan", True),
        ("a.example.org", True),
        ("example.org", False),
        ("10.0.0.1", False),
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
    ],
)
def test_what_is_reached_without_the_proxy(host: str, direct: bool) -> None:
    routes = Routes(NetworkSettings(proxy="http://proxy.lan:3128", no_proxy=("models.lan", "*.example.org")))
    assert (routes.proxy(host) is None) == direct
    assert Routes(NetworkSettings()).proxy(host) is None


def test_variables_of_the_environment_name_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.lan:3128")
    assert Routes(NetworkSettings()).proxy("models.example.org") is None


@pytest.mark.parametrize(
    ("mode", "content"), [(0o644, SECRET), (0o620, SECRET), (0o600, "Sn0oze"), (0o600, "a:b\nSn0oze")]
)
def test_a_file_of_credentials_that_cannot_be_used_is_refused_without_repeating_it(
    tmp_path: Path, mode: int, content: str
) -> None:
    file = tmp_path / "credentials"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=r"^network\.proxy_credentials_file: ") as caught:
        Routes(NetworkSettings(proxy="http://proxy.lan", proxy_credentials_file=str(file)))
    assert "Sn0oze" not in str(caught.value)


def test_a_pipe_in_place_of_the_credentials_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="one line, user:password"):
        Routes(NetworkSettings(proxy="http://proxy.lan", proxy_credentials_file=str(tmp_path / "pipe")))


def test_the_credentials_are_in_no_repr(secret: str) -> None:
    proxy = Routes(NetworkSettings(proxy="http://proxy.lan", proxy_credentials_file=secret)).proxy("host")
    assert proxy is not None
    assert proxy.headers
    assert "Sn0oze" not in repr(proxy)


def test_settings_that_mean_nothing_or_would_weaken_the_proxy_are_refused() -> None:
    with pytest.raises(ValueError, match="mean nothing without proxy"):
        NetworkSettings(no_proxy=("models.lan",))
    with pytest.raises(ValueError, match="would not be verified either"):
        Settings(
            network=NetworkSettings(proxy="https://proxy.lan"), host=(HostSettings(name="models.lan", verify=False),)
        )
