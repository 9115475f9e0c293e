"""Names and URLs that lead elsewhere than they seem to: what counts is the address that would be connected to."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from hubclient.contract.errors import AddressForbidden, HubError
from hubd.config import NetworkSettings
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, HttpSource
from tests.support.origin import Answer, Origin

# One address of loopback is allowed, and none of the others.
SETTINGS = NetworkSettings.model_validate({"allow_http": True, "allow_private_addresses": ["127.0.0.1/32"]})


async def fetch(url: str) -> bytes:
    async with Session(SETTINGS) as session, HttpSource(session).open(ArchiveRequest(url)) as delivery:
        assert delivery.body is not None
        return b"".join([piece async for piece in delivery.body])


def answer_with(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """What the resolver says of every name, call by call; the last answer stays."""
    left = list(answers)

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def test_a_name_that_changes_its_answer_is_checked_each_time(
    monkeypatch: pytest.MonkeyPatch, origin: Origin
) -> None:
    answer_with(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    origin.serve("/m/1", Answer(b"archive"))
    url = origin.url("/m/1", "rebinding.example")
    assert await fetch(url) == b"archive"
    with pytest.raises(AddressForbidden, match=r"^rebinding\.example is at 127\.0\.0\.2,"):
        await fetch(url)
    assert len(origin.asked("/m/1")) == 1


async def test_of_several_addresses_only_the_allowed_ones_are_contacted(
    monkeypatch: pytest.MonkeyPatch, origin: Origin
) -> None:
    origin.serve("/m/1", Answer(b"archive"))
    url = origin.url("/m/1", "several.example")
    answer_with(monkeypatch, ["127.0.0.2", "169.254.169.254", "127.0.0.1"])
    assert await fetch(url) == b"archive"
    answer_with(monkeypatch, ["127.0.0.2", "169.254.169.254"])
    with pytest.raises(AddressForbidden):
        await fetch(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "127.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "[::1]",
        "[::ffff:127.0.0.2]",
        "[64:ff9b::7f00:2]",
    ],
)
async def test_an_address_is_refused_in_whatever_form_a_redirect_writes_it(origin: Origin, host: str) -> None:
    origin.serve("/m/1", Answer(status=302, headers={"Location": origin.url("/secret", host)}))
    # Some forms are no URL to the HTTP library, and no address at all.
    with pytest.raises(HubError, match=r"private or reserved address|a redirect to what is no URL"):
        await fetch(origin.url("/m/1"))
    assert origin.asked("/secret") == []
