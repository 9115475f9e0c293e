"""In a network with names and hosts of its own: whatever leads there, no address is contacted that may not be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.little_network import Plan, can_be_made, redirect_to

PUBLIC, PUBLIC_IPV6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
LAB, OTHER, METADATA = "10.1.2.3", "10.2.0.1", "169.254.169.254"
NAMES = {
    "public.example": [[PUBLIC]],
    "rebind.example": [[PUBLIC], [OTHER]],
    "metadata.example": [[PUBLIC], [METADATA]],
    "mixed.example": [[OTHER, PUBLIC]],
    "embedded.example": [["64:ff9b::a9fe:a9fe"]],
    "mapped.example": [["::ffff:10.2.0.1"]],
    "lab.example": [[LAB]],
    "models.lan": [[OTHER]],
    "other.lan": [[OTHER]],
    "moved.lan": [[METADATA]],
}
# Spellings of addresses that may not be contacted, as hosts of URLs.
FORBIDDEN = [
    "127.0.0.1",
    OTHER,
    METADATA,
    "0x7f.1",
    "[::1]",
    "[::]",
    "[::ffff:10.2.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a02:1::1]",
    "[::10.2.0.1]",
    "localhost",
]
# `getaddrinfo` would take these for addresses; the HTTP library takes them for no hosts.
NUMBERS = ["2130706433", "017700000001", "127.1", "0"]


class Network:
    """A daemon in it, and where connections came to."""

    def __init__(self, place: Path, settings: str) -> None:
        self._log = place / "connections"
        self._log.touch()
        packed = place / "module.tar.gz"
        packed.write_bytes(archive())
        addresses = [PUBLIC, PUBLIC_IPV6, LAB, OTHER, METADATA]
        plan = Plan(str(packed), str(self._log), addresses, NAMES)
        config = f'[network]\nallow_http = true\nconnect_timeout = "5s"\nnegative_ttl = "0s"\n{settings}\n'
        self.daemon = Daemon(place, config=config, wrapper=plan.wrapper(place))

    def contacted(self) -> set[str]:
        return set(self._log.read_text().split())

    def code(self, handle: str) -> str:
        """What a resolve comes to: an outcome, or the code of an error."""
        answer: dict[str, Any] = self.daemon.resolve(handle)[1]
        return str(answer.get("outcome") or answer["code"])


def running(place: Path, settings: str) -> Iterator[Network]:
    if not can_be_made():
        pytest.skip("no network and mount namespace can be made here")
    network = Network(place, settings)
    with network.daemon:
        yield network


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from running(tmp_path_factory.mktemp("closed"), "allow_private_addresses = false")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    allowed = 'allow_private_addresses = ["10.1.0.0/16", "models.lan", "moved.lan"]'
    yield from running(tmp_path_factory.mktemp("lab"), allowed)


def test_a_public_host_is_contacted(closed: Network) -> None:
    assert closed.code("http://public.example/m/1") == "fetched"
    assert closed.contacted() == {PUBLIC}


@pytest.mark.parametrize("name", ["rebind.example", "metadata.example"])
def test_a_name_that_moves_to_a_forbidden_address_is_not_followed_there(closed: Network, name: str) -> None:
    """Its first answer is public, and that host redirects to the same name, which has another address by then."""
    handle = redirect_to(f"http://{name}:81/m/1", name)
    status, problem = closed.daemon.resolve(handle)
    assert (status, problem["code"]) == (403, "address-forbidden"), problem
    assert problem["detail"].startswith(f"{name} is at {OTHER if name == 'rebind.example' else METADATA}")
    assert closed.contacted() <= {PUBLIC}


def test_of_several_addresses_only_those_that_may_be_are_contacted(closed: Network) -> None:
    assert closed.code("http://mixed.example/m/1") == "fetched"
    assert closed.contacted() <= {PUBLIC}


@pytest.mark.parametrize("name", ["embedded.example", "mapped.example", "moved.lan", "other.lan"])
def test_a_name_at_a_forbidden_address_is_refused(closed: Network, name: str) -> None:
    assert closed.code(f"http://{name}/m/1") == "address-forbidden"
    assert closed.contacted() <= {PUBLIC}


@pytest.mark.parametrize("host", FORBIDDEN)
def test_no_spelling_of_a_forbidden_address_is_contacted(closed: Network, host: str) -> None:
    assert closed.code(f"http://{host}/m/1") == "address-forbidden"
    assert closed.code(redirect_to(f"http://{host}/m/1", "public.example")) == "address-forbidden"
    assert closed.contacted() <= {PUBLIC}


@pytest.mark.parametrize("host", NUMBERS)
def test_a_number_is_no_host(closed: Network, host: str) -> None:
    assert closed.code(f"http://{host}/m/1") == "handle-invalid"
    assert closed.code(redirect_to(f"http://{host}/m/1", "public.example")) == "upstream-unavailable"
    assert closed.contacted() <= {PUBLIC}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "file://public.example/etc/passwd", "ftp://public.example/m/1"])
def test_only_http_is_spoken(closed: Network, url: str) -> None:
    assert closed.code(url) == "handle-invalid"
    assert closed.code(redirect_to(url, "public.example")) == "handle-forbidden"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        pytest.param(f"http://{LAB}/m/1", "fetched", id="address-in-the-network"),
        pytest.param("http://lab.example/m/1", "fetched", id="name-in-the-network"),
        pytest.param("http://models.lan/m/1", "fetched", id="named-host"),
        pytest.param(redirect_to("http://models.lan/m/1", "public.example"), "fetched", id="redirect-to-named-host"),
        pytest.param("http://other.lan/m/1", "address-forbidden", id="another-name-there"),
        pytest.param(f"http://{OTHER}/m/1", "address-forbidden", id="address-of-the-named-host"),
        pytest.param(redirect_to(f"http://{OTHER}/m/1", "models.lan"), "address-forbidden", id="redirect-from-it"),
        pytest.param("http://moved.lan/m/1", "address-forbidden", id="named-host-at-metadata"),
        pytest.param("http://127.0.0.1/m/1", "address-forbidden", id="loopback"),
    ],
)
def test_a_labs_own_hosts_can_be_allowed_without_its_network(lab: Network, url: str, code: str) -> None:
    assert lab.code(url) == code
    assert lab.contacted() <= {LAB, OTHER, PUBLIC}
