"""Which hosts and addresses hubd may contact.

Law: what counts is the address that is really contacted. A name is checked before it is resolved, and every
address at the moment its socket is made, redirects and IP literals included: nothing changes in between.
"""

from __future__ import annotations

import socket
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from yarl import URL

from hubclient.contract.errors import AddressForbidden, HandleForbidden
from hubd.config import NetworkSettings

Address = IPv4Address | IPv6Address

_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_EMBEDDING = (
    IPv6Network("64:ff9b::/96"),  # RFC 6052, NAT64
    _LOCAL_NAT64,
    IPv6Network("::ffff:0:0:0/96"),  # RFC 2765, SIIT
)
_NOT_GLOBAL = (_LOCAL_NAT64, IPv6Network("fec0::/10"))  # RFC 3879: site-local, which `ipaddress` takes for global
_METADATA = frozenset(
    map(
        ip_address,
        (
            "168.63.129.16",  # Azure
            "100.100.100.200",  # Alibaba Cloud
            "192.0.0.192",  # Oracle Cloud
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
        ),
    )
)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one embeds (mapped, compatible, 6to4, Teredo, NAT64, SIIT), else the address
    itself, without a scope.
    """
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    compatible = int(address) >> 32 == 0 and int(address) > 0xFFFF
    if compatible or any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return IPv6Address(int(address))


class Guard:
    """Decides by the network settings; pure but for the sockets that it makes."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._host: ContextVar[str] = ContextVar("host", default="")
        self._refused: ContextVar[list[str] | None] = ContextVar("refused", default=None)

    def check_url(self, url: URL) -> None:
        """Raises `HandleForbidden` unless the settings allow the URL's scheme and host."""
        host = (url.raw_host or "").lower()  # `host` decodes xn--, which can fail, and names are in ASCII here
        if url.scheme != "https" and not (url.scheme == "http" and self._settings.allow_http):
            remedy = "; network.allow_http allows it" if url.scheme == "http" else ""
            raise HandleForbidden(f"{url.scheme}:// is not allowed here{remedy}")
        allowed = self._settings.allowed_hosts
        if allowed and not any(_matches(host, pattern) for pattern in allowed):
            raise HandleForbidden(f"the host {host} is not in network.allowed_hosts")

    def allows(self, address: Address, host: str) -> bool:
        """Whether the address may be contacted for this host."""
        real = unwrapped(address)
        if _is_never_contacted(address):
            return False
        if real.is_global and not real.is_reserved and not any(address in network for network in _NOT_GLOBAL):
            return True
        private = self._settings.allow_private_addresses
        if isinstance(private, bool):
            return private
        return any(
            (real in entry or address in entry)
            if isinstance(entry, IPv4Network | IPv6Network)
            else _matches(host, entry)
            for entry in private
        )

    def begin(self, host: str) -> None:
        """Say for which host this task makes its next connections."""
        self._host.set(host.lower())
        self._refused.set([])

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address of ``getaddrinfo``; `PermissionError` when it may not be contacted."""
        family, kind, protocol, _, target = info
        address = ip_address(str(target[0]).partition("%")[0])
        if not self.allows(address, self._host.get()):
            refused = self._refused.get()
            if refused is not None:
                refused.append(str(address))
            raise PermissionError(f"{address} may not be contacted")
        return socket.socket(family, kind, protocol)

    def check_refused(self) -> None:
        """After a failed connection: raises `AddressForbidden` if an address was refused."""
        if refused := self._refused.get():
            remedy = "; network.allow_private_addresses can allow private ones"
            if all(_is_never_contacted(ip_address(address)) for address in refused):
                remedy = ", which is never contacted"
            raise AddressForbidden(
                f"{self._host.get()} is at {', '.join(refused)}, a private or reserved address{remedy}"
            )


def _is_never_contacted(address: Address) -> bool:
    """Whether no setting allows it: link-local (cloud metadata), multicast and unspecified addresses."""
    real = unwrapped(address)
    return real.is_link_local or real.is_multicast or real.is_unspecified or address.is_multicast or real in _METADATA


def _matches(host: str, pattern: str) -> bool:
    pattern = _ascii(pattern.lower())
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _ascii(pattern: str) -> str:
    try:
        return pattern.encode("idna").decode("ascii")
    except UnicodeError:  # no host has such a name
        return pattern
