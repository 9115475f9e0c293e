"""A certificate that is not trusted ends a fetch with the remedy, and only a named host may do without."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract.credentials import Credential
from hubclient.contract.errors import HandleForbidden
from hubd.config import ConfigError, HostSettings, NetworkSettings
from hubd.failures import Hopeless
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, HttpSource
from hubd.network.tls import Trust
from tests.support.certificates import Authority
from tests.support.origin import Answer, Origin


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def fetch(url: str, *hosts: HostSettings, **network: Any) -> bytes:
    settings = NetworkSettings(allow_private_addresses=True, **network)
    async with Session(settings, hosts) as session, HttpSource(session).open(ArchiveRequest(url)) as delivery:
        assert delivery.body is not None
        return b"".join([piece async for piece in delivery.body])


async def test_an_unknown_issuer_is_refused_and_the_remedy_named(authority: Authority) -> None:
    told = r"^127\.0\.0\.1: .*network\.ca_bundle can name"
    with Origin(authority.server("127.0.0.1")) as origin, pytest.raises(Hopeless, match=told):
        await fetch(origin.serve("/m/1", Answer(b"x")))
    assert origin.asked("/m/1") == []


async def test_an_issuer_of_the_bundle_is_trusted(authority: Authority) -> None:
    with Origin(authority.server("127.0.0.1", "localhost")) as origin:
        origin.serve("/m/1", Answer(b"archive"))
        for host in ("127.0.0.1", "localhost"):
            assert await fetch(origin.url("/m/1", host), ca_bundle=str(authority.bundle)) == b"archive"


async def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    with Origin(authority.server("models.example.org")) as origin:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(Hopeless, match=f"^{host}: its certificate is for another host$"):
                await fetch(origin.url("/m/1", host), ca_bundle=str(authority.bundle))


async def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    expired = authority.server("127.0.0.1", expired=True)
    with Origin(expired) as origin, pytest.raises(Hopeless, match="has expired"):
        await fetch(origin.url("/m/1"), ca_bundle=str(authority.bundle))


async def test_verification_is_off_for_the_named_host_alone(authority: Authority) -> None:
    unverified = HostSettings(name="LocalHost", verify=False)
    with Origin(authority.server("models.example.org")) as origin:
        origin.serve("/m/1", Answer(b"archive"))
        assert await fetch(origin.url("/m/1", "localhost"), unverified) == b"archive"
        with pytest.raises(Hopeless):
            await fetch(origin.url("/m/1"), unverified)
        origin.serve("/m/2", Answer(status=302, headers={"Location": origin.url("/m/1")}))
        with pytest.raises(Hopeless, match=r"^127\.0\.0\.1: "):
            await fetch(origin.url("/m/2", "localhost"), unverified)


async def test_an_unverified_host_is_shown_no_users_credential(authority: Authority) -> None:
    hosts = [HostSettings(name="localhost", verify=False)]
    settings = NetworkSettings(allow_private_addresses=True)
    with Origin(authority.server("models.example.org")) as origin:
        origin.serve("/m/1", Answer(b"archive"))
        request = ArchiveRequest(origin.url("/m/1", "localhost"), credential=Credential("bearer", "secret"))
        async with Session(settings, hosts) as session:
            with pytest.raises(HandleForbidden, match=r"network\.ca_bundle"):
                await HttpSource(session).open(request).__aenter__()
        assert origin.asked("/m/1") == []


def test_https_never_leads_to_a_server_that_speaks_none() -> None:
    context = Trust().context("host")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(("content", "told"), [(b"no certificate", "holds no certificates"), (None, "cannot be read")])
def test_a_bundle_that_is_none_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^network.ca_bundle: {file} {told}"):
        Trust(str(file))
