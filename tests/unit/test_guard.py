"""No one gets in: which URLs and addresses the daemon may contact."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from yarl import URL

from hubclient.contract.errors import AddressForbidden, HandleForbidden
from hubd.addresses import literal
from hubd.config import NetworkSettings
from hubd.network.guard import Guard

ALWAYS_REFUSED = [
    "169.254.169.254",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "0.0.0.0",
    "::",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::169.254.169.254",
    "64:ff9b::e000:1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd20:ce::254%eth0",
    "192.0.0.192",
    "::ffff:192.0.0.192",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:fffe::a9fe:a9fe",
    "::ffff:0:169.254.169.254",
    "::ffff:169.254.169.254%eth0",
]
PRIVATE = ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "::1", "fd00::1", "::ffff:10.0.0.1", "100.64.0.1"]
PRIVATE += ["::ffff:0:10.0.0.1", "64:ff9b:1::10.0.0.1", "fec0::1", "fec0::1%eth0", "feff::1"]
# Who uses the local NAT64 prefix decides what it leads to: never global by itself.
PRIVATE += ["64:ff9b:1::8.8.8.8"]
PUBLIC = ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "::ffff:0:8.8.8.8"]


@pytest.mark.parametrize("address", ALWAYS_REFUSED)
def test_metadata_multicast_and_unspecified_addresses_are_refused_always(address: str) -> None:
    assert not Guard(NetworkSettings(allow_private_addresses=True)).allows(ip_address(address), "host")


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_to_be_allowed(address: str) -> None:
    assert not Guard(NetworkSettings()).allows(ip_address(address), "host")
    assert Guard(NetworkSettings(allow_private_addresses=True)).allows(ip_address(address), "host")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Guard(NetworkSettings()).allows(ip_address(address), "host")


@pytest.mark.parametrize(
    ("address", "hint"), [("169.254.169.254", "never contacted"), ("10.0.0.1", "can allow private")]
)
def test_a_refusal_names_the_setting_only_where_it_helps(address: str, hint: str) -> None:
    guard = Guard(NetworkSettings())
    guard.begin("models.example.org")
    with pytest.raises(PermissionError):
        guard.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443)))
    with pytest.raises(AddressForbidden, match=f"^models.example.org is at {address}, .*{hint}"):
        guard.check_refused()


def test_a_list_opens_its_networks_and_hosts_only() -> None:
    guard = Guard(NetworkSettings.model_validate({"allow_private_addresses": ["10.1.0.0/16", "models.lan"]}))
    assert guard.allows(ip_address("10.1.2.3"), "any")
    assert not guard.allows(ip_address("10.2.2.3"), "any")
    assert guard.allows(ip_address("10.2.2.3"), "models.lan")


def test_plain_http_and_other_schemes_need_to_be_allowed() -> None:
    with pytest.raises(HandleForbidden, match="allow_http"):
        Guard(NetworkSettings()).check_url(URL("http://h/m/1"))
    Guard(NetworkSettings(allow_http=True)).check_url(URL("http://h/m/1"))
    with pytest.raises(HandleForbidden):
        Guard(NetworkSettings(allow_http=True)).check_url(URL("file:///etc/passwd"))


def test_an_allow_list_of_hosts_holds() -> None:
    guard = Guard(NetworkSettings(allowed_hosts=("tfhub.dev", "*.example.org")))
    guard.check_url(URL("https://tfhub.dev/m/1"))
    guard.check_url(URL("https://a.example.org/m/1"))
    for other in ("https://example.org/", "https://tfhub.dev.evil.com/", "https://eviltfhub.dev/"):
        with pytest.raises(HandleForbidden, match="allowed_hosts"):
            guard.check_url(URL(other))


def test_hosts_are_compared_in_ascii() -> None:
    guard = Guard(NetworkSettings(allowed_hosts=("*.münchen.de",), allow_private_addresses=("münchen.de",)))
    guard.check_url(URL("https://a.xn--mnchen-3ya.de/m/1", encoded=True))
    assert guard.allows(ip_address("10.0.0.1"), "xn--mnchen-3ya.de")
    with pytest.raises(HandleForbidden, match="allowed_hosts"):
        guard.check_url(URL("https://xn--zzzzzz999999999/m/1", encoded=True))  # it has no Unicode form


def connect(guard: Guard, address: str) -> None:
    guard.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443))).close()


def test_what_the_configuration_names_may_be_private_until_the_next_host() -> None:
    guard = Guard(NetworkSettings())
    guard.begin("mirror.lan", is_named=True)
    connect(guard, "10.0.0.1")
    guard.begin("mirror.lan")
    with pytest.raises(PermissionError):
        connect(guard, "10.0.0.1")


@pytest.mark.parametrize("address", ALWAYS_REFUSED)
def test_naming_a_host_opens_no_address_that_is_never_contacted(address: str) -> None:
    assert not Guard(NetworkSettings()).allows(ip_address(address), "mirror.lan", is_named=True)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.1", "10.0.0.1"),
        ("0xa000001", "10.0.0.1"),
        ("012.0.0.1", "10.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("LOCALHOST", "127.0.0.1"),
        ("a.localhost.", "127.0.0.1"),
        ("fd00::1", "fd00::1"),
        ("models.example.org", None),
        ("10.0.0.1.example.org", None),
        ("cafe.fa", None),
        ("", None),
    ],
)
def test_an_address_is_seen_in_whatever_form_a_host_is_written(host: str, address: str | None) -> None:
    assert literal(host) == (ip_address(address) if address is not None else None)
